package vole

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"slices"
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

func run(t testing.TB, net sessiontest.Net, n int) result {
	t.Helper()
	return runWith(t, net, n, Params{})
}

func runWith(t testing.TB, net sessiontest.Net, n int, p Params) (r result) {
	t.Helper()
	r.out = net.Run(t,
		func(ctx context.Context, s *session.Session) (err error) {
			r.delta, r.b, err = Send(ctx, s, n, p)
			return err
		},
		func(ctx context.Context, s *session.Session) (err error) {
			r.a, r.c, err = Receive(ctx, s, n, p)
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
	for _, n := range []int{0, 1, 2, 63, 1000, 4096, 4097, 1 << 16, 1<<20 + 1, ChunkElements + 12345} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := run(t, sessiontest.Net{}, n)
			sessiontest.NoErrors(t, r.out)
			r.check(t, n)
		})
	}
}

// Any linear code with any weight will do for the identity.
func TestAnotherCode(t *testing.T) {
	codes["test.plain"] = &code{name: "test.plain", weight: 130, compressor: newPlainCompressor}
	defer delete(codes, "test.plain")
	r := runWith(t, sessiontest.Net{}, 5000, Params{Code: "test.plain"})
	sessiontest.NoErrors(t, r.out)
	r.check(t, 5000)
}

func TestOutputsAreUniform(t *testing.T) {
	const n = 1 << 16
	r := run(t, sessiontest.Net{}, n)
	sessiontest.NoErrors(t, r.out)
	for name, v := range map[string][]gf128.Element{"a": r.a, "b": r.b, "c": r.c} {
		counts := make([]int, 256)
		for _, x := range gf128.AppendBytes(nil, v) {
			counts[x]++
		}
		// 255 degrees of freedom: six deviations above the mean.
		if x := chiSquare(counts); x > 390 {
			t.Errorf("bytes of %s: chi-square %.1f", name, x)
		}
		seen := make(map[gf128.Element]bool)
		for _, x := range v {
			seen[x] = true
		}
		if len(seen) != n {
			t.Errorf("%s has %d elements of %d that differ", name, len(seen), n)
		}
	}
}

// One setup, several vectors: delta stays, nothing else does.
func TestExtendAgain(t *testing.T) {
	sizes := []int{10, 0, 5000, 10}
	results := make([]result, len(sizes))
	out := sessiontest.Net{}.Run(t,
		func(ctx context.Context, s *session.Session) error {
			v, err := NewSender(ctx, s, Params{})
			if err != nil {
				return err
			}
			for i, n := range sizes {
				results[i].delta = v.Delta()
				if results[i].b, err = v.Extend(ctx, n); err != nil {
					return err
				}
			}
			return nil
		},
		func(ctx context.Context, s *session.Session) error {
			v, err := NewReceiver(ctx, s, Params{})
			if err != nil {
				return err
			}
			for i, n := range sizes {
				if results[i].a, results[i].c, err = v.Extend(ctx, n); err != nil {
					return err
				}
			}
			return nil
		})
	sessiontest.NoErrors(t, out)
	seen := make(map[gf128.Element]bool)
	for i, r := range results {
		r.check(t, sizes[i])
		for _, x := range append(append([]gf128.Element{}, r.a...), r.b...) {
			if seen[x] {
				t.Fatal("an element came twice")
			}
			seen[x] = true
		}
	}
}

// Two runs with the receiver's randomness the same: the sender's alone makes
// delta and b another, and what the receiver sends shows nothing of its noise.
func TestNoTwoRunsAreAlike(t *testing.T) {
	fixed := func(i int) io.Reader {
		if i == 1 {
			return mrand.NewChaCha8([32]byte{2})
		}
		return rand.Reader
	}
	first, second := run(t, sessiontest.Net{Rand: fixed}, 100), run(t, sessiontest.Net{Rand: fixed}, 100)
	first.check(t, 100)
	second.check(t, 100)
	if !slices.Equal(first.a, second.a) {
		t.Error("a follows from something else than the receiver's randomness")
	}
	if first.delta == second.delta || slices.Equal(first.b, second.b) || slices.Equal(first.c, second.c) {
		t.Error("two senders have the same secrets")
	}
}

// A context that ends ends both roles, wherever they are.
func TestContextEnds(t *testing.T) {
	stopped := errors.New("stopped")
	for after := range 9 {
		for _, party := range []session.PartyID{"p0", "p1"} {
			ctx, cancel := context.WithCancelCause(t.Context())
			net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
				if l.Self != party {
					return ch
				}
				return sessiontest.Tamper(ch, func(i int, p []byte) [][]byte {
					if i == after {
						cancel(stopped)
						return nil
					}
					return [][]byte{p}
				})
			}}
			out := net.Run(t,
				func(_ context.Context, s *session.Session) error { _, _, err := Send(ctx, s, 10, Params{}); return err },
				func(_ context.Context, s *session.Session) error {
					_, _, err := Receive(ctx, s, 10, Params{})
					return err
				})
			// Whoever is not stopped sees the other one's messages end.
			if ctx.Err() != nil && (out[1].Err == nil || !errors.Is(errors.Join(out[0].Err, out[1].Err), stopped)) {
				t.Errorf("stopped at message %d of %s: sender %v, receiver %v", after, party, out[0].Err, out[1].Err)
			}
			cancel(nil)
		}
	}
}
