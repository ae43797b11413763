package disclosure

import "math/big"

// Round returns the multiple of base that is nearest to v, of two the even one.
// A base of 0 or 1 changes nothing. Each value is rounded by itself, so parts
// may no longer add up to their total: who corrected for that would tell which
// way each was rounded. A result beyond int64 is cut to the nearest multiple
// within it.
func Round(v, base int64) int64 {
	if base <= 1 {
		return v
	}
	q, r := v/base, v%base
	if r < 0 { // make 0 ≤ r < base
		q, r = q-1, r+base
	}
	if r > base-r || r == base-r && q&1 != 0 {
		q++
	}
	if w := q * base; w/base == q {
		return w
	}
	if v < 0 {
		return (q + 1) * base
	}
	return (q - 1) * base
}

// RoundBig does the same for numbers of any size. The result is new. A nil base
// changes nothing, as one of 0 or less.
func RoundBig(v, base *big.Int) *big.Int {
	if base == nil || base.Sign() <= 0 {
		return new(big.Int).Set(v)
	}
	q, r := new(big.Int).DivMod(v, base, new(big.Int)) // 0 ≤ r < base
	twice := r.Lsh(r, 1).Cmp(base)
	if twice > 0 || twice == 0 && q.Bit(0) == 1 {
		q.Add(q, big.NewInt(1))
	}
	return q.Mul(q, base)
}
