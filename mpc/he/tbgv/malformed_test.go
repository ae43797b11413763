package tbgv

import (
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
)

// plain returns the coefficients of a polynomial of which every row is
// transformed and in Montgomery form, centred.
func (s *Scheme) plain(sM ringq.Poly) []int64 {
	l := &s.limbs[0]
	row := slices.Clone(sM[0])
	for j, v := range row {
		row[j] = l.Mul(v, 1)
	}
	l.INTT(row)
	out := make([]int64, s.n)
	for j, v := range row {
		if out[j] = int64(v); v > l.Q/2 {
			out[j] -= int64(l.Q)
		}
	}
	return out
}

// decryptWith returns the values of any ciphertext of two primes under a whole
// secret.
func (s *Scheme) decryptWith(secret []int8, c *Ciphertext) []uint32 {
	rows, q := s.newPoly(), new(big.Int).SetUint64(s.set.q[0])
	for i := range s.limbs {
		l := &s.limbs[i]
		row := rows[i]
		l.Lift(row, secret)
		l.NTT(row)
		for j, v := range row {
			row[j] = l.Mul(c.c1[i][j], l.Form(v))
		}
		l.INTT(row)
		for j, v := range row {
			row[j] = l.Mul(l.Add(v, c.c0[i][j]), l.tM)
		}
	}
	l := &s.limbs[1]
	inv := l.Form(ringq.Inverse(s.set.q[0], l.Q))
	all := new(big.Int).Mul(q, new(big.Int).SetUint64(l.Q))
	half := new(big.Int).Rsh(all, 1)
	out := make([]uint32, s.n)
	for j := range out {
		k := l.Mul(l.Sub(rows[1][j], l.Cred(rows[0][j])), inv)
		x := new(big.Int).SetUint64(k)
		x.Mul(x, q).Add(x, new(big.Int).SetUint64(rows[0][j]))
		if x.Cmp(half) > 0 {
			x.Sub(x, all)
		}
		out[j] = uint32(new(big.Int).And(x, big.NewInt(math.MaxUint32)).Uint64())
	}
	return out
}

// TestMalformedCiphertextGivesTheKeyAway: a contributor need not see the others'
// ciphertexts. It sends (0, K), no encryption of anything, so that K·s stands in
// the sum, above the flooding: with two sums it and a recipient have the whole
// key, all contributors being needed to open, and read another's vector.
func TestMalformedCiphertextGivesTheKeyAway(t *testing.T) {
	rnd, values := testRand(t, 0), testMath(t)
	g := newGroup(t, rnd, Params{Sum32, 3, 3, 2})
	s, l := g.s, &g.s.limbs[0]
	q := new(big.Int).Mul(new(big.Int).SetUint64(s.set.q[0]), new(big.Int).SetUint64(s.set.q[1]))
	tInv := new(big.Int).ModInverse(new(big.Int).Lsh(big.NewInt(1), uint(s.set.tbits)), q)
	own := s.plain(g.shares[2].sM)

	var victim *Ciphertext // one of contributor 0
	var data []uint32
	// opened is a sum with t·K = q/den, in units of q, less the attacker's part.
	opened := func(den int64) []float64 {
		data = make([]uint32, s.n)
		for j := range data {
			data[j] = values.Uint32()
		}
		victim = must(s.EncryptNarrow(rnd, g.pk, data))(t)
		evil := &Ciphertext{s: s, c0: s.newPoly(), c1: s.newPoly()}
		k := new(big.Int).Div(q, big.NewInt(den))
		k.Mul(k, tInv).Mod(k, q)
		for i, row := range evil.c1 {
			at := new(big.Int).Mod(k, new(big.Int).SetUint64(s.set.q[i])).Uint64()
			for j := range row { // a constant has this value everywhere
				row[j] = at
			}
		}
		sum := must(s.Sum([]*Ciphertext{victim, must(s.EncryptNarrow(rnd, g.pk, data))(t), must(s.ParseCiphertext(evil.Marshal()))(t)}))(t)
		x, mine := s.newPoly(), s.newPoly() // the attacker floods nothing
		for i := range s.limbs {
			copy(x[i], sum.c0[i])
			for j, v := range sum.c1[i] {
				mine[i][j] = s.limbs[i].Mul(v, g.shares[2].sM[i][j])
			}
			s.limbs[i].INTT(mine[i])
		}
		x, mine = s.drop(x), s.drop(mine)
		shares := g.open(t, rnd, sum, all(3))
		out := make([]float64, s.n)
		for j := range out {
			v := l.Add(l.Add(x[0][j], mine[0][j]), l.Add(shares[0].d[0][j], shares[1].d[0][j]))
			out[j] = float64(l.Mul(v, l.tM))/float64(l.Q) - float64(own[j])/float64(den)
		}
		return out
	}
	// The others' secrets add up to -2 … 2: modulo 4, and then the multiple of 4.
	first, second := opened(4), opened(16)
	secret := make([]int8, s.n)
	for j := range secret {
		low := int64(math.Round(4*first[j])) & 3
		high := int64(math.Round(4*second[j]-float64(low)/4)) & 3 // of 0 and -1
		secret[j] = int8(low - 4*(high&1) + own[j])
	}
	if !slices.Equal(s.decryptWith(secret, victim), data) {
		t.Error("the vector is not told: the page says it is")
	}
}
