package align

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// tail is the probability that a binomial variable of n and q exceeds b, summed
// exactly, in logarithms of base 2.
func tail(n, b int64, q float64) float64 {
	lg := func(x int64) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	term := func(k int64) float64 {
		return lg(n) - lg(k) - lg(n-k) + float64(k)*math.Log(q) + float64(n-k)*math.Log1p(-q)
	}
	if b >= n {
		return math.Inf(-1)
	}
	first := term(b + 1)
	sum := 0.0
	for k := b + 1; k <= n; k++ {
		t := math.Exp(term(k) - first)
		if sum += t; t < 1e-12*sum {
			break
		}
	}
	return (first + math.Log(sum)) / math.Ln2
}

// The bound keeps what it states, by the exact tail of the binomial and over all
// partitions, and is not much above what is needed.
func TestBoundHoldsByTheExactTail(t *testing.T) {
	for _, c := range []struct {
		n     int64
		parts int
	}{
		{1, 2},
		{2, 2},
		{10, 27},
		{100, 3},
		{300, 12},
		{4096, 2},
		{1 << 16, 64},
		{1 << 20, 5},
		{1 << 22, 1024},
		{10_000_000, 3},
		{100_000_000, 24},
		{100_000_000, 1024},
		{MaxRows, 65},
		{MaxRows, 1024},
	} {
		b := bound(c.n, c.parts)
		q, all := 1/float64(c.parts), math.Log2(float64(c.parts))
		if got := tail(c.n, b, q) + all; got > -overflowBits {
			t.Errorf("%d in %d: bound %d is exceeded with probability 2^%.1f", c.n, c.parts, b, got)
		}
		mean := float64(c.n) * q
		slack := 8.5*math.Sqrt(mean) + 32 // standard deviations, and the tail of few
		if b > c.n || float64(b) > mean+slack {
			t.Errorf("%d in %d: bound %d, the mean is %.0f", c.n, c.parts, b, mean)
		}
		if b < c.n && tail(c.n, b-b/100-4, q)+all < -overflowBits-5 && b > 10_000 {
			t.Errorf("%d in %d: bound %d is too large", c.n, c.parts, b)
		}
	}
	// As the page gives them.
	for nparts, want := range map[[2]int64]int64{{10_000_000, 3}: 3_344_655, {100_000_000, 24}: 4_182_386, {5000, 2}: 2766, {100, 24}: 27} {
		if got := bound(nparts[0], int(nparts[1])); got < want-1 || got > want+1 { // logarithms round
			t.Errorf("%v: %d, want %d", nparts, got, want)
		}
	}
	if bound(0, 5) != 0 || bound(7, 1) != 7 {
		t.Errorf("%d of none, %d in one", bound(0, 5), bound(7, 1))
	}
}

// Random digests fall as the bound assumes: partitions are equal ranges.
func TestPartitionsAreEqualRanges(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	const n, parts = 1 << 16, 13
	var sizes [parts]int64
	for range n {
		sizes[partOf(r.Uint64(), parts)]++
	}
	chi := 0.0
	for _, s := range sizes {
		d := float64(s) - n/parts
		chi += d * d / (n / parts)
		if s > bound(n, parts) {
			t.Errorf("a partition of %d, the bound is %d", s, bound(n, parts))
		}
	}
	if chi > 45 { // 12 degrees of freedom: 10^-5
		t.Errorf("chi-square %.1f", chi)
	}
	if partOf(0, parts) != 0 || partOf(math.MaxUint64, parts) != parts-1 {
		t.Error("the ends are in other partitions")
	}
}

func TestNumberOfPartitions(t *testing.T) {
	e := newEngine(Protocol{})
	for _, c := range []struct {
		most, rows int64
		want       int
	}{
		{0, 4096, 1},
		{4096, 4096, 1},
		{4097, 4096, 2},
		{1 << 22, 1 << 22, 1},
		{10_000_000, 1 << 22, 3},
		{100_000_000, 1 << 22, 24},
		{MaxRows, 1 << 22, 65},
		{MaxRows, 1 << 18, 0},
		{MaxRows + 1, 1 << 28, 0},
	} {
		got, err := e.partitions(plan{partitionRows: c.rows}, c.most)
		if got != c.want || (err != nil) != (c.want == 0) || err != nil && !errors.Is(err, ErrSize) {
			t.Errorf("%d rows in partitions of %d: %d, %v", c.most, c.rows, got, err)
		}
		if got > 1 && bound(c.most, got) > c.rows {
			t.Errorf("%d rows: partitions of %d, at most %d were asked for", c.most, bound(c.most, got), c.rows)
		}
	}
	for parts, bits := range map[int]int{1: 0, 2: 1, 3: 2, 4: 2, 5: 3, 1024: 10} {
		if addedBits(parts) != bits {
			t.Errorf("%d partitions add %d bits", parts, addedBits(parts))
		}
	}
}
