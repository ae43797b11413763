package vole

import (
	"context"
	"fmt"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// result is what the two parties have.
type result struct {
	delta   gf128.Element
	a, b, c []gf128.Element
	out     []sessiontest.Outcome
}

func run(t testing.TB, net sessiontest.Net, n int) (r result) {
	t.Helper()
	r.out = net.Run(t,
		func(ctx context.Context, s *session.Session) (err error) {
			r.delta, r.b, err = Send(ctx, s, n, Params{})
			return err
		},
		func(ctx context.Context, s *session.Session) (err error) {
			r.a, r.c, err = Receive(ctx, s, n, Params{})
			return err
		})
	return r
}

// check holds r to c = a·delta + b at n positions.
func (r result) check(t testing.TB, n int) {
	t.Helper()
	if len(r.a) != n || len(r.b) != n || len(r.c) != n {
		t.Fatalf("lengths %d, %d and %d, want %d", len(r.a), len(r.b), len(r.c), n)
	}
	want := append([]gf128.Element(nil), r.b...)
	gf128.MulAdd(want, r.a, r.delta)
	for i := range want {
		if want[i] != r.c[i] {
			t.Fatalf("n = %d: c ≠ a·delta + b at position %d", n, i)
		}
	}
}

func TestIdentity(t *testing.T) {
	for _, n := range []int{0, 1, 2, 63, 1000, 4096, 4097, 1 << 16, ChunkElements + 12345} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := run(t, sessiontest.Net{}, n)
			sessiontest.NoErrors(t, r.out)
			r.check(t, n)
		})
	}
}
