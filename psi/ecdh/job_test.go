package ecdh

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

func spec(change func(*job.Spec)) job.Spec {
	return psitest.Spec(Name, change, align.Sender, align.Receiver)
}

// runJobs runs the registered job at both parties.
func runJobs(t testing.TB, net sessiontest.Net, s job.Spec, sources ...table.Source) ([]job.Result, []sessiontest.Outcome) {
	t.Helper()
	return psitest.Job{Definition: Definition(), Spec: s, Net: net}.Run(t, sources...)
}

func TestJobAlignsCompositeKeys(t *testing.T) {
	x := psitest.People(t, [3]string{"1", "a", "bc"}, [3]string{"2", "ab", "c"}, [3]string{"3", "11010119900101123X", "q"})
	y := psitest.People(t, [3]string{"7", " １1010119900101123x ", "Q"}, [3]string{"8", "AB", "c"}, [3]string{"9", "abc", "d"})
	results, out := runJobs(t, sessiontest.Net{}, spec(nil), x, y)
	sessiontest.NoErrors(t, out)
	for i, r := range results {
		if r.Counts[job.CountCommon] != 2 || r.Counts[align.CountJoined] != 2 || r.Rows != 3 {
			t.Errorf("p%d: %+v", i, r)
		}
		if names := psitest.Columns(r.Tables["intersection"]); !slices.Equal(names, []string{"id", "branch", "income"}) {
			t.Errorf("p%d: columns %v", i, names)
		}
	}
	got := [2][]string{psitest.Cells(t, results[0].Tables["intersection"]), psitest.Cells(t, results[1].Tables["intersection"])}
	want := map[string]string{"ab|c|2": "AB|c|8", "11010119900101123X|q|3": " １1010119900101123x |Q|7"}
	if len(got[0]) != len(want) || len(got[1]) != len(want) {
		t.Fatalf("%v", got)
	}
	for k := range got[0] {
		if want[got[0][k]] != got[1][k] {
			t.Errorf("row %d: %q is aligned with %q", k, got[0][k], got[1][k])
		}
	}
}

// The receiver alone: the sender has no table and no count, and both have the
// same (empty) counts, as a receipt wants them.
func TestJobForTheReceiverAlone(t *testing.T) {
	x, y := psitest.People(t, [3]string{"1", "a", "b"}, [3]string{"2", "c", "d"}), psitest.People(t, [3]string{"3", "C", "D"})
	results, out := runJobs(t, sessiontest.Net{}, spec(psitest.Params(`{"output":"receiver"}`)), x, y)
	sessiontest.NoErrors(t, out)
	if len(results[0].Tables) != 0 || len(results[0].Counts) != 0 || results[0].Rows != 2 {
		t.Errorf("sender: %+v", results[0])
	}
	if got := psitest.Cells(t, results[1].Tables["intersection"]); !slices.Equal(got, []string{"C|D|3"}) || len(results[1].Counts) != 0 {
		t.Errorf("receiver: %v, %+v", got, results[1])
	}
}

func TestJobEnforcesTheGrantsMinimum(t *testing.T) {
	x := psitest.People(t, [3]string{"1", "a", "b"}, [3]string{"1", "c", "d"})
	for _, output := range []string{"both", "receiver"} {
		for min, want := range map[int64]error{2: nil, 3: job.ErrMinIntersection} {
			s := spec(func(s *job.Spec) {
				s.Limits = job.Limits{MinIntersection: min, MinBeforeReveal: true}
				s.Params = json.RawMessage(`{"output":"` + output + `"}`)
			})
			results, out := runJobs(t, sessiontest.Net{}, s, x, x)
			if err := sessiontest.Cause(out); !errors.Is(err, want) {
				t.Errorf("%s, minimum %d: %v", output, min, err)
			}
			if want != nil && (results[0].Tables != nil || results[1].Tables != nil) {
				t.Errorf("%s, minimum %d: a table was returned", output, min)
			}
		}
	}
	if Definition().MinIntersection != job.BeforeReveal {
		t.Error("a receiver that counts first holds to a minimum before")
	}
}

// The receiver sees a count that the minimum may forbid to be used.
func TestRevealsNamesTheCount(t *testing.T) {
	for _, x := range Definition().Reveals(spec(nil)) {
		if x.Field == "view.count" && x.To == align.Receiver {
			return
		}
	}
	t.Error("view.count is not revealed to the receiver")
}

// What the job around it rests on, the contract names too, and the protocol's own
// page explains.
func TestAssumptionsAreExplained(t *testing.T) {
	psitest.CheckAssumptions(t, Definition(), "psi-ecdh.md", "psi-align.md")
}

// Several partitions, padded, each a session of its own.
func TestJobInPartitions(t *testing.T) {
	const n, common = 6000, 1234
	s := spec(psitest.Params(`{"partition_rows":4096,"join":"full"}`))
	results, out := runJobs(t, sessiontest.Net{}, s, align.Subjects(n, 0), align.Subjects(n, n-common))
	sessiontest.NoErrors(t, out)
	for i, r := range results {
		if r.Counts[job.CountCommon] != common || r.Counts[align.CountJoined] != 2*n-common || r.Rows != n {
			t.Errorf("p%d: %+v", i, r)
		}
	}
}

func runBench(t testing.TB, n int64) (b job.Bench, bytes int64) {
	t.Helper()
	d := Definition()
	b, err := d.Bench(n)
	if err != nil {
		t.Fatal(err)
	}
	results, out := runJobs(t, sessiontest.Net{Connect: sessiontest.Pipes(8), Timeout: time.Hour}, b.Spec,
		b.Inputs["p0"][0], b.Inputs["p1"][0])
	sessiontest.NoErrors(t, out)
	if got, want := results[0].Counts[job.CountCommon], n-n/2; got != want {
		t.Fatalf("%d common rows, want %d", got, want)
	}
	return b, out[0].Traffic.Sent + out[0].Traffic.Received
}

func TestBench(t *testing.T) {
	for _, n := range []int64{1, 2, 301} {
		b, _ := runBench(t, n)
		if err := b.Baseline(t.Context()); err != nil || b.BaselineName == "" {
			t.Errorf("n %d: baseline %q: %v", n, b.BaselineName, err)
		}
	}
	if _, err := job.NewRegistry(Definition()); err != nil {
		t.Error(err)
	}
}

// BenchmarkJob runs psi.ecdh.v1 with both parties in this process, and the
// bare arithmetic after it: "x-bare" is the first's processor time over the
// second's.
func BenchmarkJob(b *testing.B) {
	for _, log := range []int{12, 16} {
		b.Run(fmt.Sprintf("2^%d", log), func(b *testing.B) {
			n := int64(1) << log
			var protocol, bare time.Duration
			var bytes int64
			for b.Loop() {
				start := psitest.CPU(b)
				var bench job.Bench
				bench, bytes = runBench(b, n)
				between := psitest.CPU(b)
				if err := bench.Baseline(b.Context()); err != nil {
					b.Fatal(err)
				}
				protocol, bare = protocol+between-start, bare+psitest.CPU(b)-between
			}
			rows := float64(n) * float64(b.N)
			b.ReportMetric(float64(protocol.Nanoseconds())/1e3/rows, "cpu-µs/pair")
			b.ReportMetric(float64(bare.Nanoseconds())/1e3/rows, "bare-µs/pair")
			b.ReportMetric(float64(protocol)/float64(bare), "x-bare")
			b.ReportMetric(float64(bytes)/float64(n), "B/row")
		})
	}
}

func BenchmarkPermutation(b *testing.B) {
	for b.Loop() {
		permutation([seedSize]byte{}, 1<<20)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(1<<20), "ns/row")
}

var _ io.Reader = (*stream)(nil)
