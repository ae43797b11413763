//go:build amd64 && !purego

package curve25519

import (
	"math/big"
	mrand "math/rand/v2"
	"testing"

	fp "github.com/cloudflare/circl/math/fp25519"
)

func needIFMA(t *testing.T) {
	if !hasIFMA {
		t.Skip("this processor has no AVX-512 IFMA")
	}
}

// bound is the invariant of every fe8 that vector code writes.
const bound = 1<<51 + 1<<15

// extreme returns elements whose limbs lie at the ends of what they may be,
// below limit, or at random.
func extreme(r *mrand.Rand, limit uint64) (x fe8) {
	corners := []uint64{0, 1, limit - 1, limit - 1, mask51, mask51 - 18, 1 << 50}
	for k := range x {
		for e := range x[k] {
			if c := r.IntN(len(corners) + 3); c < len(corners) {
				x[k][e] = min(corners[c], limit-1)
			} else {
				x[k][e] = r.Uint64N(limit)
			}
		}
	}
	return x
}

func (z *fe8) big(e int) *big.Int {
	v := new(big.Int)
	for k := 4; k >= 0; k-- {
		v.Lsh(v, 51).Add(v, new(big.Int).SetUint64(z[k][e]))
	}
	return mod(v)
}

func (z *fe8) holds(t *testing.T, what string) {
	t.Helper()
	for k := range z {
		for e := range z[k] {
			if z[k][e] >= bound {
				t.Fatalf("%s: limb %d of element %d is %#x", what, k, e, z[k][e])
			}
		}
	}
}

func TestLanesArithmetic(t *testing.T) {
	needIFMA(t)
	r := mrand.New(mrand.NewPCG(1, 2))
	for range 500 {
		// Products accept all that VPMADD52 reads: 52 bits.
		x, y := extreme(r, 1<<52), extreme(r, 1<<52)
		var product, square, again fe8
		mul8(&product, &x, &y)
		squares8(&square, &x, 1)
		mul8(&again, &x, &x)
		product.holds(t, "product")
		square.holds(t, "square")
		for e := range lanes {
			want := mod(new(big.Int).Mul(x.big(e), y.big(e)))
			if product.big(e).Cmp(want) != 0 {
				t.Fatalf("%x · %x = %x, want %x", x.big(e), y.big(e), product.big(e), want)
			}
			if square.big(e).Cmp(again.big(e)) != 0 {
				t.Fatalf("square of %x: %x, product %x", x.big(e), square.big(e), again.big(e))
			}
			var got fp.Elt
			product.get(&got, e)
			if got != fp.Elt(fromBig(want)) {
				t.Fatalf("get: %x, want %x", got, want)
			}
			var set fe8
			set.set(e, &got)
			if set.big(e).Cmp(want) != 0 {
				t.Fatalf("set: %x, want %x", set.big(e), want)
			}
		}
		// In place, each way.
		z := x
		mul8(&z, &z, &y)
		if z != product {
			t.Fatal("mul8 over its first argument differs")
		}
		z = y
		mul8(&z, &x, &z)
		if z != product {
			t.Fatal("mul8 over its second argument differs")
		}
		z = x
		squares8(&z, &z, 1)
		if z != square {
			t.Fatal("squares8 in place differs")
		}
	}
}

// A step of the ladder keeps the invariant whatever limbs it meets, and does
// what the oracle's formulas say.
func TestLadderStep(t *testing.T) {
	needIFMA(t)
	r := mrand.New(mrand.NewPCG(3, 4))
	for i := range 300 {
		var w [7]fe8
		for j := range w[:5] {
			w[j] = extreme(r, bound)
		}
		before, b := w, uint64(i%2)
		ladderStep8(&w, b)
		for j := range w {
			w[j].holds(t, "step")
		}
		for e := range lanes {
			x1, x2, z2 := before[0].big(e), before[1].big(e), before[2].big(e)
			x3, z3 := before[3].big(e), before[4].big(e)
			add := func(a, b *big.Int) *big.Int { return mod(new(big.Int).Add(a, b)) }
			sub := func(a, b *big.Int) *big.Int { return mod(new(big.Int).Sub(a, b)) }
			mul := func(a, b *big.Int) *big.Int { return mod(new(big.Int).Mul(a, b)) }
			da, cb := mul(sub(x3, z3), add(x2, z2)), mul(add(x3, z3), sub(x2, z2))
			s, d := add(da, cb), sub(da, cb)
			x5, z5 := mul(s, s), mul(x1, mul(d, d))
			if b == 1 {
				x2, z2 = x3, z3
			}
			aa, bb := mul(add(x2, z2), add(x2, z2)), mul(sub(x2, z2), sub(x2, z2))
			c := sub(aa, bb)
			x4, z4 := mul(aa, bb), mul(c, add(bb, mul(big.NewInt(121666), c)))
			for j, want := range []*big.Int{1: x4, 2: z4, 3: x5, 4: z5} {
				if want != nil && w[j].big(e).Cmp(want) != 0 {
					t.Fatalf("b %d, element %d, value %d: %x, want %x", b, e, j, w[j].big(e), want)
				}
			}
		}
	}
}

// The same tests on circl's code, which this processor would not reach.
func TestWithoutLanes(t *testing.T) {
	needIFMA(t)
	hasIFMA = false
	defer func() { hasIFMA = true }()
	t.Run("Mul", TestMulAgainstOracle)
	t.Run("MapToCurve", TestMapToCurveAgainstOracle)
	t.Run("Check", TestCheckRefuses)
}
