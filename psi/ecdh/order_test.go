package ecdh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
)

// The expansion of a seed is part of the protocol: another implementation has
// to arrive at the same numbers. These were computed from the page's text with
// Python's integers and OpenSSL's AES-256-CTR.
func TestPermutationVectors(t *testing.T) {
	counting := [seedSize]byte{}
	for i := range counting {
		counting[i] = byte(i)
	}
	for _, v := range []struct {
		seed [seedSize]byte
		want []int32
	}{
		{[seedSize]byte{}, []int32{0, 10, 5, 4, 11, 2, 7, 6, 1, 9, 3, 8}},
		{counting, []int32{16, 19, 2, 3, 4, 17, 8, 1, 9, 5, 13, 6, 7, 0, 15, 14, 11, 12, 18, 10}},
	} {
		if got := permutation(v.seed, len(v.want)); !slices.Equal(got, v.want) {
			t.Errorf("seed %x: %v, want %v", v.seed, got, v.want)
		}
	}
}

func TestPermutationIsOne(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 255, 256, 257, 5000} {
		p := permutation([seedSize]byte{byte(n)}, n)
		if slices.Sort(p); len(p) != n {
			t.Fatalf("%d of %d", len(p), n)
		}
		for i, v := range p {
			if int(v) != i {
				t.Fatalf("n %d: not a permutation", n)
			}
		}
	}
}

func TestPermutationIsUniform(t *testing.T) {
	counts := map[string]int{}
	const runs = 24 * 400
	var seed [seedSize]byte
	for i := range runs {
		seed[0], seed[1] = byte(i), byte(i>>8)
		counts[fmt.Sprint(permutation(seed, 4))]++
	}
	chi := 0.0
	for _, c := range counts {
		chi += float64(c-400) * float64(c-400) / 400
	}
	if len(counts) != 24 || chi > 56 { // 23 degrees of freedom: once in 10,000
		t.Errorf("%d of 24 permutations, chi-squared %.1f", len(counts), chi)
	}
}

func TestBelowStaysBelow(t *testing.T) {
	s := newStream([seedSize]byte{}, 0)
	for _, n := range []uint64{1, 2, 3, 1<<63 + 1, 1<<64 - 1} {
		for range 200 {
			if v := s.below(n); v >= n {
				t.Fatalf("%d is not below %d", v, n)
			}
		}
	}
}

func TestStreamsDifferByNonce(t *testing.T) {
	a, b := newStream([seedSize]byte{}, 0), newStream([seedSize]byte{}, 1)
	for range 1000 {
		if a.uint64() == b.uint64() {
			t.Fatal("two nonces share keystream")
		}
	}
}

func TestIndexAgainstMap(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 1000} {
		keys := make([][]byte, n)
		s := newStream([seedSize]byte{5}, 0)
		for i := range keys {
			keys[i] = make([]byte, 5)
			s.Read(keys[i])
			if i%7 == 3 {
				copy(keys[i], keys[i/2]) // an earlier one again
			}
		}
		x, m := newIndex(n, func(i int) []byte { return keys[i] }), map[string]int{}
		for i, k := range keys {
			_, had := m[string(k)]
			if !had {
				m[string(k)] = i
			}
			if x.add(i) == had {
				t.Fatalf("n %d: key %d, new %v", n, i, !had)
			}
		}
		for i, k := range keys {
			if j, ok := x.find(k); !ok || j != m[string(k)] {
				t.Fatalf("n %d: key %d found at %d, %v", n, i, j, ok)
			}
		}
		if _, ok := x.find([]byte("other")); ok {
			t.Errorf("n %d: found a key that is not there", n)
		}
	}
}

func TestParallelCoversEverythingOnce(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 1000} {
		var hits [1000]atomic.Int32
		if err := parallel(t.Context(), n, 64, func(lo, hi int) error {
			for i := lo; i < hi; i++ {
				hits[i].Add(1)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for i := range hits {
			if want := int32(0); hits[i].Load() != want && i >= n || hits[i].Load() != 1 && i < n {
				t.Fatalf("n %d: %d was visited %d times", n, i, hits[i].Load())
			}
		}
	}
	broken := errors.New("broken")
	if err := parallel(t.Context(), 1000, 1, func(lo, _ int) error {
		if lo == 500 {
			return broken
		}
		return nil
	}); err != broken {
		t.Errorf("an error was lost: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	if err := parallel(ctx, 1000, 1, func(int, int) error { return nil }); err != broken {
		t.Errorf("a context that ended: %v", err)
	}
}
