package ecdh

import (
	"fmt"
	"slices"
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
