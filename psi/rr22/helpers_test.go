package rr22

import (
	"context"
	"fmt"
	"iter"
	mrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// items yields each item in the same buffer, as a source is allowed to.
func items(xs []string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var buf []byte
		for _, x := range xs {
			buf = append(buf[:0], x...)
			if !yield(buf) {
				return
			}
			clear(buf)
		}
	}
}

// result is what one run gave.
type result struct {
	sender, receiver Match
	out              []sessiontest.Outcome
}

var both = Params{Broadcast: true}

func intersect(t testing.TB, net sessiontest.Net, xs, ys []string, p Params) result {
	t.Helper()
	return intersectEach(t, net, xs, ys, p, p)
}

func intersectEach(t testing.TB, net sessiontest.Net, xs, ys []string, ps, pr Params) (r result) {
	t.Helper()
	return intersectOver(t, net, nil, xs, ys, ps, pr)
}

// dealt is items with a vector OLE for tests; a nil one is the real one.
func dealt(xs []string, ole oprf.OLE) input {
	in := fromItems(items(xs), len(xs))
	in.ole = ole
	return in
}

func intersectOver(t testing.TB, net sessiontest.Net, ole oprf.OLE, xs, ys []string, ps, pr Params) (r result) {
	t.Helper()
	r.out = net.Run(t,
		func(ctx context.Context, s *session.Session) (err error) {
			r.sender, err = send(ctx, s, dealt(xs, ole), ps)
			return err
		},
		func(ctx context.Context, s *session.Session) (err error) {
			r.receiver, err = receive(ctx, s, dealt(ys, ole), pr)
			return err
		})
	return r
}

// checkIdeal compares a result with the ideal functionality on the plaintext.
func checkIdeal(t testing.TB, xs, ys []string, p Params, r result) {
	t.Helper()
	sessiontest.NoErrors(t, r.out)
	in := make(map[string]bool, len(xs))
	for _, x := range xs {
		in[x] = true
	}
	var want []string
	for _, y := range ys {
		if in[y] {
			want = append(want, y)
		}
	}
	if len(r.receiver.Rows) != len(want) {
		t.Fatalf("the receiver has %d rows, want %d", len(r.receiver.Rows), len(want))
	}
	var got []string
	for _, row := range r.receiver.Rows {
		got = append(got, ys[row])
	}
	if !p.Broadcast {
		if r.sender.Rows != nil {
			t.Fatalf("the sender has %d rows and should have none", len(r.sender.Rows))
		}
	} else {
		if len(r.sender.Rows) != len(want) {
			t.Fatalf("the sender has %d rows, want %d", len(r.sender.Rows), len(want))
		}
		for k, row := range r.sender.Rows {
			if xs[row] != got[k] {
				t.Fatalf("position %d is not the same subject on both sides", k)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatal("the intersection differs from the plaintext one")
	}
}

func number(from, to int) []string {
	xs := make([]string, 0, max(0, to-from))
	for i := from; i < to; i++ {
		xs = append(xs, fmt.Sprintf("id-%06d", i))
	}
	return xs
}

func shuffled(xs []string, seed uint64) []string {
	xs = slices.Clone(xs)
	mrand.New(mrand.NewPCG(seed, 1)).Shuffle(len(xs), func(i, j int) { xs[i], xs[j] = xs[j], xs[i] })
	return xs
}
