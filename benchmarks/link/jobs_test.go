package link

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// TestJobs runs the benchmark case of every protocol over every network: the
// same counts come out at every party and over every network.
func TestJobs(t *testing.T) {
	const rows = 1500
	for _, d := range psi.Jobs() {
		if d.Bench == nil {
			continue
		}
		t.Run(d.Name, func(t *testing.T) {
			b, err := d.Bench(rows)
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]int64
			for _, k := range Kinds() {
				got := runJob(t, k, d, b)
				if len(got) == 0 {
					t.Fatalf("%s: no counts", k)
				}
				if want == nil {
					want = got
				}
				if !maps.Equal(got, want) {
					t.Errorf("%s: %v, over another network %v", k, got, want)
				}
			}
			t.Log(want)
		})
	}
}

func runJob(t *testing.T, k Kind, d job.Definition, b job.Bench) map[string]int64 {
	t.Helper()
	results := make([]job.Result, len(b.Spec.Parties))
	parties := make([]sessiontest.Party, len(results))
	for i, p := range b.Spec.Parties {
		if want := sessiontest.PartyIDs(len(results))[i]; p.Party != want {
			t.Fatalf("benchmark party %d is called %s, want %s", i, p.Party, want)
		}
		parties[i] = func(ctx context.Context, s *session.Session) (err error) {
			results[i], err = d.Run(ctx, job.Env{Spec: b.Spec, Session: s, Inputs: b.Inputs[p.Party], Once: new(job.MemoryOnce)})
			return err
		}
	}
	out := sessiontest.Net{Connect: connect(k)}.Run(t, parties...)
	sessiontest.NoErrors(t, out)
	for i, r := range results {
		if !maps.Equal(r.Counts, results[0].Counts) {
			t.Errorf("%s: p%d counts %v, p0 %v", k, i, r.Counts, results[0].Counts)
		}
		t.Log(fmt.Sprint(k), fmt.Sprintf("p%d %+v", i, out[i].Traffic))
	}
	return results[0].Counts
}
