package ecdh

import (
	"context"
	"os"
	"strconv"
	"testing"

	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// BenchmarkAgainstArithmetic aligns sets of YINQIAO_BENCH_ROWS rows, 2^16 by
// default, and gives the CPU time of both parties over that of the arithmetic
// that cannot be left out.
func BenchmarkAgainstArithmetic(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("YINQIAO_BENCH_ROWS"))
	if err != nil {
		n = 1 << 16
	}
	xs, ys := digestsOf(psitest.Number(0, n)), digestsOf(psitest.Number(n/2, n/2+n))
	var protocol, bare float64
	for b.Loop() {
		start := psitest.CPU(b).Seconds()
		out := sessiontest.Net{}.Run(b,
			func(ctx context.Context, s *session.Session) error {
				_, err := SendDigests(ctx, s, xs, Params{})
				return err
			},
			func(ctx context.Context, s *session.Session) error {
				_, err := ReceiveDigests(ctx, s, ys, Params{})
				return err
			})
		sessiontest.NoErrors(b, out)
		middle := psitest.CPU(b).Seconds()
		if err := bareArithmetic(b.Context(), n); err != nil {
			b.Fatal(err)
		}
		protocol, bare = protocol+middle-start, bare+psitest.CPU(b).Seconds()-middle
	}
	b.ReportMetric(protocol/float64(b.N)/float64(n)*1e6, "µs/row")
	b.ReportMetric(protocol/bare, "CPU/arithmetic")
}
