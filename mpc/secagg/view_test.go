package secagg

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// uniform fails unless the bytes of b are distributed evenly, by a chi-square
// test that a uniform b fails once in a billion times.
func uniform(t *testing.T, what string, b []byte) {
	t.Helper()
	if !looksUniform(b) {
		t.Errorf("%s: %d bytes that are not uniform", what, len(b))
	}
}

func looksUniform(b []byte) bool {
	var count [256]float64
	for _, x := range b {
		count[x]++
	}
	want, chi := float64(len(b))/256, 0.0
	for _, c := range count {
		chi += (c - want) * (c - want) / want
	}
	// Normal approximation of 255 degrees of freedom, six standard deviations.
	return math.Abs(chi-255) < 6*math.Sqrt(2*255)
}

// byHand runs the steps of a sum up to the opening, and hands the aggregator's
// to open, with what the contributors agreed on in pairs.
func byHand(t *testing.T, w *world, vs []share.Vector, to []session.PartyID, open func(aggregator *step, pairs [][][]byte)) {
	t.Helper()
	var mu sync.Mutex
	pairs := make([][][]byte, w.contributors)
	var aggregator *step
	noErrors(t, w.run(t, func(ctx context.Context, i int, e *Engine) error {
		s, err := e.newStep("view", w.shape, vs[i], to)
		if err != nil {
			return err
		}
		if err := s.deal(ctx); err != nil {
			return err
		}
		if i < w.contributors {
			pairs[i] = make([][]byte, w.contributors)
			for k, p := range s.pairs {
				pairs[i][k] = slices.Clone(p)
			}
		}
		for _, do := range []func(context.Context) error{
			s.agreeRoster, func(ctx context.Context) error { return s.exchangeInputs(ctx, vs[i]) }, s.agreeSurvivors, s.confirm, s.reveal,
		} {
			if err := do(ctx); err != nil {
				return err
			}
		}
		if s.coordinates() {
			mu.Lock()
			aggregator = s
			mu.Unlock()
		}
		return nil
	}))
	open(aggregator, pairs)
}

// What an aggregator holds is uniform: each masked vector as it came, and still
// after its self-mask is taken off, which it comes to know, and after those masks
// are taken off that any two contributors know who work with it. Only the sum
// over all others is no longer masked.
func TestAggregatorsView(t *testing.T) {
	const values = 100_000
	w := &world{contributors: 5, receivers: 1, shape: share.Shape{Narrow: values}}
	vs := make([]share.Vector, 6)
	for i := range 5 { // far from uniform
		vs[i] = share.NewVector(w.shape)
		for k := range vs[i].Narrow {
			vs[i].Narrow[k] = uint32(i + 1)
		}
	}
	colluding := setOf(3) | setOf(4)
	byHand(t, w, vs, w.ids()[5:], func(s *step, pairs [][][]byte) {
		keys, err := s.remaining()
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) != 5 {
			t.Fatalf("%d masks are left in the sum, want the five self-masks", len(keys))
		}
		salt := s.salt()
		honest := make([]byte, 4*values)
		for i := range 3 {
			strip := func(keys ...maskKey) []byte {
				var b []byte
				m := newMasker(keys)
				for k, pieces := range s.messages {
					start := 0
					for _, p := range pieces {
						p.blocks(func(block piece, at int) {
							dst := slices.Clone(s.inputs[i][k][start+at : start+at+block.n])
							m.add(dst, block)
							if block.section == narrow {
								b = append(b, dst...)
							}
						})
						start += p.n
					}
				}
				return b
			}
			uniform(t, "a masked vector", strip())
			uniform(t, "a vector without its self-mask", strip(keys[i]))
			known := []maskKey{keys[i]}
			for c := range colluding.all() {
				known = append(known, pairKey(salt, pairs[c][i], i, c, true))
			}
			left := strip(known...)
			uniform(t, "a vector without what colluders know", left)
			narrow.add(honest, left, false)
			// The one mask that is left between two honest parties is all there is.
			for j := range 3 {
				if j != i {
					known = append(known, pairKey(salt, pairs[j][i], i, j, true))
				}
			}
			if clear := strip(known...); looksUniform(clear) || binary.LittleEndian.Uint32(clear) != uint32(i+1) {
				t.Error("without all masks, a vector is not what was put in: this test looks at something else")
			}
		}
		if looksUniform(honest) || binary.LittleEndian.Uint32(honest) != 1+2+3 {
			t.Error("the vectors of those who do not collude do not add up to their sum")
		}
	})
}

// Fewer shares than the threshold are uniform whatever the secret is, and so
// are those who hold them none the wiser.
func TestFewSharesAreUniform(t *testing.T) {
	const threshold, runs = 3, 4000
	var seen []byte
	var secret [secretSize]byte // of zeros
	for range runs {
		shares, err := split(&secret, threshold, 5, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		// Two shares, and the polynomial's value elsewhere if the secret were
		// another: a linear function of both.
		a, b := loadField(&shares[1]), loadField(&shares[4])
		x, y, z := a.bytes(), b.bytes(), a.times(7).add(b.times(91)).bytes()
		seen = append(append(append(seen, x[:]...), y[:]...), z[:]...)
	}
	uniform(t, "threshold - 1 shares", seen)
}

// Masked vectors go to the aggregators alone, shares too; and a contributor
// hears of no other's vector.
func TestOnlyAggregatorsGetVectors(t *testing.T) {
	for _, to := range [][]int{{5}, {0}, {1, 6}} {
		w := &world{contributors: 5, receivers: 3, threshold: 3, shape: share.Shape{Narrow: 1000}}
		ids := w.ids()
		var receivers []session.PartyID
		for _, i := range to {
			receivers = append(receivers, ids[i])
		}
		var v views
		v.record(w)
		noErrors(t, w.run(t, sum(w, receivers, "counts")))
		for _, from := range ids {
			for _, peer := range ids {
				contributes := slices.Contains(ids[:5], from)
				for _, k := range []kind{kindInput, kindReveal} {
					want := 0
					if contributes && from != peer && slices.Contains(receivers, peer) {
						want = 1
					}
					if got := v.sent(from, peer, k); got != want {
						t.Errorf("to %v: %s sent %s %d messages of kind %s, want %d", to, from, peer, got, k, want)
					}
				}
			}
		}
	}
}

// The same vectors look different in every step and run.
func TestMasksAreFresh(t *testing.T) {
	seen := map[string]string{}
	for run := range 2 {
		w := &world{contributors: 3, receivers: 1, shape: share.Shape{Narrow: 16}, sums: 2}
		var v views
		v.record(w)
		noErrors(t, w.run(t, sum(w, w.ids()[3:], "counts", "measures")))
		for l, view := range v.all {
			for k, p := range view.Sent()[1:] {
				if kind(p[0]) != kindInput {
					continue
				}
				what := fmt.Sprintf("run %d, message %d of %s", run, k, l.Self)
				if other, dup := seen[string(p[headerSize:])]; dup {
					t.Errorf("%s is masked as %s", what, other)
				}
				seen[string(p[headerSize:])] = what
			}
		}
	}
	if len(seen) != 12 {
		t.Fatalf("%d masked vectors, want 12: this test looks at something else", len(seen))
	}
}
