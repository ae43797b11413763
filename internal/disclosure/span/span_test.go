package span

import (
	"math/rand/v2"
	"testing"
)

// Every column that the basis spans is the combination that Solve says, and
// Combination gives the unit vectors of the pivots.
func TestBasisExpressesColumns(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		rows, n := 1+rng.IntN(12), 30
		cols := make([][]Term, n)
		for k := range cols {
			for r := range rows {
				if rng.IntN(3) == 0 {
					cols[k] = append(cols[k], Term{int32(r), rng.IntN(2) == 0})
				}
			}
		}
		dense := func(k int) []uint64 {
			v := make([]uint64, rows)
			for _, e := range cols[k] {
				v[e.Row] = 1
				if e.Minus {
					v[e.Row] = Prime - 1
				}
			}
			return v
		}
		var b Basis
		b.Reset(rows, cols[0])
		for k := 1; k < n; k++ {
			b.Add(k, cols[k])
		}
		for k := range n {
			y := make([]uint64, rows)
			b.Solve(cols[k], y)
			sum := make([]uint64, rows)
			spanned := true
			for r, c := range y {
				if c == 0 {
					continue
				}
				if b.Pivot[r] < 0 {
					spanned = false
					break
				}
				for i, v := range dense(b.Pivot[r]) {
					sum[i] = (sum[i] + c*v) % Prime
				}
			}
			if k == 0 && spanned != b.Spanned() {
				t.Fatalf("seed %d: Spanned says %v", seed, b.Spanned())
			}
			if k > 0 && !spanned {
				t.Fatalf("seed %d: column %d was added and is not spanned", seed, k)
			}
			for i, v := range dense(k) {
				if spanned && sum[i] != v {
					t.Fatalf("seed %d: column %d is not what Solve says", seed, k)
				}
			}
		}
		rank := 0
		for r, p := range b.Pivot {
			if p < 0 {
				continue
			}
			rank++
			for r2, p2 := range b.Pivot {
				if p2 < 0 {
					continue
				}
				dot, col := uint64(0), dense(p2)
				for q, c := range b.Combination(r) {
					dot = (dot + c*col[q]) % Prime
				}
				if want := uint64(0); dot != want && r != r2 || r == r2 && dot != 1 {
					t.Fatalf("seed %d: combination %d gives %d at pivot %d", seed, r, dot, r2)
				}
			}
		}
		if rank != b.Rank {
			t.Fatalf("seed %d: rank %d, %d pivots", seed, b.Rank, rank)
		}
	}
}

func TestRatio(t *testing.T) {
	var b Basis
	b.Reset(3, nil)
	b.Add(0, []Term{{Row: 1}})
	for _, c := range []struct {
		a, y []uint64
		f    uint64
		ok   bool
	}{
		{[]uint64{6, 9, 2}, []uint64{3, 5, 1}, 2, true},
		{[]uint64{6, 9, 3}, []uint64{3, 5, 1}, 0, false},
		{[]uint64{6, 9, 0}, []uint64{3, 5, 1}, 0, false},
		{[]uint64{0, 9, 0}, []uint64{0, 5, 0}, 0, false},
	} {
		if f, ok := b.Ratio(c.a, c.y); ok != c.ok || ok && f != c.f {
			t.Errorf("%v / %v = %d, %v", c.a, c.y, f, ok)
		}
	}
}
