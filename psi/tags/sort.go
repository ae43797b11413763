package tags

import (
	"cmp"
	"context"
	"math/bits"
	"runtime"
	"slices"

	"github.com/yinqiao/yinqiao/mpc/parallel"
)

// Parts of about 2^partBits tags fit a core's cache with what sorts them.
const partBits = 12

// Sort sorts a by tag, equal ones by row, on all processors: by the first bits
// into parts, and each part by the next ones. It is made for hashes, and still
// right for anything else.
func Sort(ctx context.Context, a []Tag) error { return sortBits(ctx, a, 0) }

// SortPart is Sort for tags whose first skip bits are all the same.
func SortPart(ctx context.Context, a []Tag, skip int) error { return sortBits(ctx, a, skip) }

func sortBits(ctx context.Context, a []Tag, skip int) error {
	top := max(0, min(bits.Len(uint(len(a)))-partBits, 14))
	digit := func(t *Tag) int { return int(t.Hi << skip >> 1 >> (63 - top)) }
	workers := min(runtime.GOMAXPROCS(0), 1+len(a)>>partBits)
	share := func(i int) []Tag { return a[len(a)*i/workers : len(a)*(i+1)/workers] }
	next := make([][]int, workers) // of each worker, by digit: how many, then where to
	err := parallel.For(ctx, workers, 1, func(i, _ int) error {
		next[i] = make([]int, 1<<top)
		for j := range share(i) {
			next[i][digit(&share(i)[j])]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	ends := make([]int, 1<<top+1)
	at := 0
	for d := range 1 << top {
		for i := range next {
			at, next[i][d] = at+next[i][d], at
		}
		ends[d+1] = at
	}
	b := make([]Tag, len(a))
	err = parallel.For(ctx, workers, 1, func(i, _ int) error {
		for _, t := range share(i) {
			d := digit(&t)
			b[next[i][d]] = t
			next[i][d]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	return parallel.For(ctx, 1<<top, 1, func(d, _ int) error {
		sortPart(a[ends[d]:ends[d+1]], b[ends[d]:ends[d+1]], skip+top)
		return nil
	})
}

// sortPart sets a to b sorted; the first skip bits of all of b are the same.
func sortPart(a, b []Tag, skip int) {
	const digits = 12
	digit := func(t *Tag) int { return int(t.Hi << skip >> (64 - digits)) }
	var next [1<<digits + 1]int32
	for i := range b {
		next[digit(&b[i])+1]++
	}
	most := int32(0)
	for d := range 1 << digits {
		most = max(most, next[d+1])
		next[d+1] += next[d]
	}
	for i := range b {
		d := digit(&b[i])
		a[next[d]] = b[i]
		next[d]++
	}
	if most > 64 { // not what hashes look like, or very many of them
		slices.SortFunc(a, compare)
		return
	}
	for i := 1; i < len(a); i++ {
		t := a[i]
		j := i
		for ; j > 0 && less(&t, &a[j-1]); j-- {
			a[j] = a[j-1]
		}
		a[j] = t
	}
}

func less(t, u *Tag) bool {
	return t.Hi < u.Hi || t.Hi == u.Hi && (t.Lo < u.Lo || t.Lo == u.Lo && t.Row < u.Row)
}

func compare(t, u Tag) int {
	switch {
	case t.Before(&u):
		return -1
	case u.Before(&t):
		return 1
	}
	return cmp.Compare(t.Row, u.Row)
}
