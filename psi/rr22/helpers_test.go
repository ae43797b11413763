package rr22

import (
	"context"
	"fmt"
	"iter"
	mrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/share"
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

func align(t testing.TB, net sessiontest.Net, xs, ys []string, p Params) result {
	t.Helper()
	return alignEach(t, net, xs, ys, p, p)
}

func alignEach(t testing.TB, net sessiontest.Net, xs, ys []string, ps, pr Params) (r result) {
	t.Helper()
	return alignOver(t, net, silent{}, xs, ys, ps, pr)
}

func alignOver(t testing.TB, net sessiontest.Net, c correlator, xs, ys []string, ps, pr Params) (r result) {
	t.Helper()
	r.out = net.Run(t,
		func(ctx context.Context, s *session.Session) (err error) {
			r.sender, err = send(ctx, s, items(xs), len(xs), ps, c)
			return err
		},
		func(ctx context.Context, s *session.Session) (err error) {
			r.receiver, err = receive(ctx, s, items(ys), len(ys), pr, c)
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

// dealer is a correlator without security: both sides expand the session's ID.
// Its cost is next to nothing, so that tests of the rest of the protocol can
// run often, and its outputs can be made again to look behind the masks.
type dealer struct{ limit int }

type dealt struct {
	stream *share.Stream
	delta  gf128.Element
}

func (dealer) name() string { return "dealer" }

func (d dealer) piece() int { return max(d.limit, 1) }

func deal(s *session.Session) *dealt {
	var key [share.KeySize]byte
	copy(key[:], s.ID())
	d := &dealt{stream: share.KeyedStream(&key)}
	d.delta = gf128.Element{Lo: d.stream.Uint64(), Hi: d.stream.Uint64()}
	return d
}

func (dealer) sender(_ context.Context, s *session.Session) (voleSender, error) {
	return dealtSender{deal(s)}, nil
}

func (dealer) receiver(_ context.Context, s *session.Session) (voleReceiver, error) {
	return dealtReceiver{deal(s)}, nil
}

func (d *dealt) extend(n int) (a, b, c []gf128.Element) {
	a, b = make([]gf128.Element, n), make([]gf128.Element, n)
	gf128.Random(d.stream, a)
	gf128.Random(d.stream, b)
	c = slices.Clone(b)
	gf128.MulAdd(c, a, d.delta)
	return a, b, c
}

type dealtSender struct{ *dealt }

func (d dealtSender) Delta() gf128.Element { return d.delta }

func (d dealtSender) Extend(_ context.Context, n int) ([]gf128.Element, error) {
	_, b, _ := d.extend(n)
	return b, nil
}

type dealtReceiver struct{ *dealt }

func (d dealtReceiver) Extend(_ context.Context, n int) (a, c []gf128.Element, err error) {
	a, _, c = d.extend(n)
	return a, c, nil
}
