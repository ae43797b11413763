package multi

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// subjectKeys yields the keys of a party's n subjects, made at once, so that
// reading them costs next to nothing.
func subjectKeys(n int, party int64) func(yield func([]byte) bool) {
	arena := make([]byte, 0, 18*n)
	benchSubjects(int64(n), party, func(subject int64) { arena = benchKey(arena, subject) })
	return func(yield func([]byte) bool) {
		for k := range slices.Chunk(arena, 18) {
			if !yield(k) {
				return
			}
		}
	}
}

// BenchmarkProtocol runs three parties in this process, of whose rows a third is
// common to all and the rest to pairs; keys in memory.
func BenchmarkProtocol(b *testing.B) {
	for _, log := range []int{14, 16, 18, 20} {
		b.Run(fmt.Sprintf("3x2^%d", log), func(b *testing.B) {
			n := 1 << log
			var parties []sessiontest.Party
			for i := range benchParties {
				keys := subjectKeys(n, int64(i))
				role := Join
				if i == 0 {
					role = Lead
				}
				parties = append(parties, func(ctx context.Context, s *session.Session) error {
					m, err := role(ctx, s, keys, n, Params{Leader: "p0"})
					if err == nil && len(m.Rows) != n/3 {
						err = fmt.Errorf("%d rows", len(m.Rows))
					}
					return err
				})
			}
			var sent int64
			start := psitest.CPU(b)
			for b.Loop() {
				out := sessiontest.Net{Connect: sessiontest.Pipes(8), Timeout: time.Hour}.Run(b, parties...)
				sessiontest.NoErrors(b, out)
				sent = 0
				for _, o := range out {
					sent += o.Traffic.Sent
				}
			}
			b.ReportMetric((psitest.CPU(b)-start).Seconds()/float64(b.N), "cpu-s")
			b.ReportMetric(float64(sent)/float64(n), "B/row")
		})
	}
}
