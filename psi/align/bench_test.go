package align

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// BenchmarkEngine is what a run costs beside the protocol: both parties read
// their tables from memory, and a protocol that does nothing says that half of
// the rows are common. "cpu-ns/row" is of one party.
func BenchmarkEngine(b *testing.B) {
	for _, c := range []struct {
		log       int
		partition int64
		join      string
	}{{20, 0, joinInner}, {20, 0, joinFull}, {20, 1 << 18, joinInner}, {23, 0, joinInner}} {
		b.Run(fmt.Sprintf("2^%d/%d/%s", c.log, c.partition, c.join), func(b *testing.B) {
			n := int64(1) << c.log
			half := func(ctx context.Context, s *session.Session, items []Digest, _ Params) ([]int32, error) {
				rows := make([]int32, len(items)/4)
				for i := range rows {
					rows[i] = int32(i)
				}
				return rows, s.Bind(ctx, "psi.null.v1")
			}
			d := Definition(Protocol{Name: "psi.null.v1", Send: half, Receive: half, MinIntersection: job.AfterReveal})
			bench, err := d.Bench(n)
			if err != nil {
				b.Fatal(err)
			}
			bench.Spec.Params = []byte(fmt.Sprintf(`{"partition_rows":%d,"join":%q}`, c.partition, c.join))
			var held [2]*table.Table
			for i, id := range []session.PartyID{"p0", "p1"} {
				if held[i], err = table.Hold(b.Context(), bench.Inputs[id][0]); err != nil {
					b.Fatal(err)
				}
			}
			var used time.Duration
			for b.Loop() {
				start := psitest.CPU(b)
				party := func(i int) sessiontest.Party {
					return func(ctx context.Context, s *session.Session) error {
						_, err := d.Run(ctx, job.Env{Spec: bench.Spec, Session: s, Inputs: []table.Source{held[i]}, Scratch: scratch.Memory()})
						return err
					}
				}
				sessiontest.NoErrors(b, sessiontest.Net{Timeout: time.Hour}.Run(b, party(0), party(1)))
				used += psitest.CPU(b) - start
			}
			b.ReportMetric(float64(used.Nanoseconds())/float64(b.N)/float64(n)/2, "cpu-ns/row")
		})
	}
}
