package oprf

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// statedTable is a benchmark's table with a fingerprint.
type statedTable struct {
	table.Source
	text string
}

func (s statedTable) KeyFingerprint() string { return s.text }

// BenchmarkJob runs the job over sealed files on disk: once to prepare the
// table and fetch it (cold), and then b.N times as a user does from then on
// (warm), with a source that knows its fingerprint and with one whose keys have
// to be read. OPRF_ROWS is the server's number of rows.
func BenchmarkJob(b *testing.B) {
	n := int64(1 << 17)
	if s := os.Getenv("OPRF_ROWS"); s != "" {
		var err error
		if n, err = strconv.ParseInt(s, 10, 64); err != nil {
			b.Fatal(err)
		}
	}
	m := min(n, 10_000)
	bench, err := bench(n, m)
	if err != nil {
		b.Fatal(err)
	}
	var caches [2]scratch.Files
	for i := range caches {
		if caches[i], err = scratch.OpenDir(b.TempDir(), make([]byte, scratch.KeySize), 0); err != nil {
			b.Fatal(err)
		}
		id := session.PartyID(fmt.Sprintf("p%d", i))
		held, err := table.Hold(b.Context(), bench.Inputs[id][0])
		if err != nil {
			b.Fatal(err)
		}
		bench.Inputs[id][0] = held
	}
	read := bench.Inputs["p0"][0]
	run := func(b *testing.B) {
		party := func(i int) sessiontest.Party {
			return func(ctx context.Context, s *session.Session) error {
				disk, err := scratch.OpenDir(b.TempDir(), make([]byte, scratch.KeySize), 0)
				if err != nil {
					return err
				}
				env := job.Env{Spec: bench.Spec, Session: s, Inputs: bench.Inputs[s.Self()], Cache: caches[i], Scratch: disk}
				res, err := Definition().Run(ctx, env)
				if err == nil && res.Counts[job.CountCommon] != bench.Common {
					err = fmt.Errorf("%d rows are common, not %d", res.Counts[job.CountCommon], bench.Common)
				}
				return err
			}
		}
		sessiontest.NoErrors(b, sessiontest.Net{Connect: sessiontest.Pipes(8), Timeout: time.Hour}.Run(b, party(0), party(1)))
	}
	once := func(name string) {
		b.Run(name, func(b *testing.B) {
			cpu := psitest.CPU(b).Seconds()
			for b.Loop() {
				run(b)
			}
			b.ReportMetric((psitest.CPU(b).Seconds()-cpu)/float64(b.N), "cpu-s/op")
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/op")
			b.ReportMetric(0, "ns/op")
		})
	}
	begin, cpu := time.Now(), psitest.CPU(b).Seconds()
	run(b)
	b.Logf("cold: %d rows against %d in %.2f s, CPU %.2f s (both parties), %.2f µs a row of the server", n, m, time.Since(begin).Seconds(), psitest.CPU(b).Seconds()-cpu, 1e6*(psitest.CPU(b).Seconds()-cpu)/float64(n))
	once("warm, keys read")
	bench.Inputs["p0"][0] = statedTable{read, "the same"}
	run(b)
	once("warm, fingerprint known")
}
