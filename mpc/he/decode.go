package he

import (
	"math/big"
	"math/bits"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// triple is an integer modulo 2^192, least significant word first.
type triple [3]uint64

func tripleOf(b *big.Int) triple {
	lo := share.FromBig(b)
	return triple{lo.Lo, lo.Hi, new(big.Int).Rsh(b, 128).Uint64()}
}

// decoder holds what turns residues modulo the response's primes into values
// modulo t: mixed-radix digits, then the integer, centred, times the dropped
// primes (which the switch of modulus divided by).
type decoder struct {
	inv      [maxLimbs][maxLimbs]uint64 // [i][h]: q_h⁻¹ mod q_i, Montgomery form
	q0       uint64
	q01      share.Word // q0·q1, where three primes are kept
	q, half  triple     // product of the kept primes; (q-1)/2
	halfBits int
	drop     share.Word // product of the dropped primes, mod t or 2^128
	dropM    uint64     // for a prime t, Montgomery forms
	dropWM   uint64
	qDrop    uint64 // q·drop mod a prime t
}

func (s *Scheme) newDecoder() decoder {
	var d decoder
	kept, dropped := s.set.q[:s.set.resp], s.set.q[s.set.resp:]
	product := func(qs []uint64) *big.Int {
		p := big.NewInt(1)
		for _, q := range qs {
			p.Mul(p, new(big.Int).SetUint64(q))
		}
		return p
	}
	for i := range kept {
		for h := range i {
			d.inv[i][h] = s.limbs[i].Form(ringq.Inverse(kept[h], kept[i]))
		}
	}
	d.q0 = kept[0]
	d.q01 = share.FromBig(product(kept[:2]))
	q := product(kept)
	d.q = tripleOf(q)
	half := new(big.Int).Rsh(q, 1)
	d.half, d.halfBits = tripleOf(half), half.BitLen()
	drop := product(dropped)
	d.drop = share.FromBig(drop)
	if s.slot != nil {
		t := s.modulusBig()
		d.dropM = s.slot.Form(new(big.Int).Mod(drop, t).Uint64())
		d.dropWM = s.slot.Form(d.dropM)
		d.qDrop = new(big.Int).Mod(q.Mul(q, drop), t).Uint64()
	}
	return d
}

// open decodes the positions of x, whose rows are t·(c0 + c1·s), and returns
// the bit length of the largest value. No step depends on a value.
func (d *decoder) open(s *Scheme, x ringq.Poly, pos []int) ([]share.Word, int) {
	out := make([]share.Word, len(pos))
	var largest triple
	for n, j := range pos {
		// Garner: v = v0 + v1·q0 + v2·q0·q1. Primes have equal lengths, so a
		// digit of one is below twice another.
		l1 := &s.limbs[1]
		v0 := x[0][j]
		v1 := l1.Mul(l1.Sub(x[1][j], l1.Cred(v0)), d.inv[1][0])
		var v triple
		var c uint64
		v[1], v[0] = bits.Mul64(v1, d.q0)
		v[0], c = bits.Add64(v[0], v0, 0)
		v[1] += c
		if s.set.resp == 3 { // public
			l2 := &s.limbs[2]
			v2 := l2.Mul(l2.Sub(x[2][j], l2.Cred(v0)), d.inv[2][0])
			v2 = l2.Mul(l2.Sub(v2, l2.Cred(v1)), d.inv[2][1])
			hi, lo := bits.Mul64(v2, d.q01.Lo)
			top, mid := bits.Mul64(v2, d.q01.Hi)
			mid, c = bits.Add64(mid, hi, 0)
			top += c
			v[0], c = bits.Add64(v[0], lo, 0)
			v[1], c = bits.Add64(v[1], mid, c)
			v[2] = top + c
		}
		// Above the half stands for v - q.
		_, b := bits.Sub64(d.half[0], v[0], 0)
		_, b = bits.Sub64(d.half[1], v[1], b)
		_, b = bits.Sub64(d.half[2], v[2], b)
		neg := -b
		if s.slot != nil { // public
			t := s.slot
			r := t.Word(share.Word{Hi: v[1], Lo: v[0]}, d.dropM, d.dropWM)
			out[n].Lo = t.Sub(r, d.qDrop&neg)
		}
		v[0], b = bits.Sub64(v[0], d.q[0]&neg, 0)
		v[1], b = bits.Sub64(v[1], d.q[1]&neg, b)
		v[2], _ = bits.Sub64(v[2], d.q[2]&neg, b)
		if s.slot == nil { // public
			out[n] = share.Word{Hi: v[1], Lo: v[0]}.Mul(d.drop).Mask(s.set.tbits)
		}
		for i := range largest {
			largest[i] |= v[i] ^ neg // |v|, or |v| - 1
		}
	}
	for i := 2; i >= 0; i-- {
		if largest[i] != 0 {
			return out, 64*i + bits.Len64(largest[i])
		}
	}
	return out, 0
}
