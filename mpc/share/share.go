// Package share is arithmetic on additive shares: integers modulo 2^k, k up to
// 128, held in two machine words.
//
// A value x is shared as x = a + b mod 2^k. All operations work modulo 2^128,
// of which every 2^k is a quotient, so a caller masks once at the end instead
// of after every step. Nothing here branches on a value or indexes memory by
// one; conversions to and from big.Int are for tests and for public values.
//
// A [Word] does not print: half a secret is still not for a log.
package share

import (
	"math/big"
	"math/bits"
)

// Word is an integer modulo 2^128. The zero value is 0.
type Word struct{ Hi, Lo uint64 }

// FromInt64 returns x modulo 2^128.
func FromInt64(x int64) Word { return Word{uint64(x >> 63), uint64(x)} }

// FromUint64 returns x.
func FromUint64(x uint64) Word { return Word{0, x} }

// FromBig returns b modulo 2^128; negative numbers are reduced too.
func FromBig(b *big.Int) Word {
	var m big.Int
	m.And(b, mask128)
	var lo big.Int
	lo.And(&m, mask64)
	return Word{m.Rsh(&m, 64).Uint64(), lo.Uint64()}
}

var (
	mask64  = new(big.Int).SetUint64(^uint64(0))
	mask128 = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1))
)

// Big returns a as an integer in [0, 2^128).
func (a Word) Big() *big.Int {
	b := new(big.Int).SetUint64(a.Hi)
	return b.Lsh(b, 64).Or(b, new(big.Int).SetUint64(a.Lo))
}

// Signed returns a, read as a two's complement number of 128 bits.
func (a Word) Signed() *big.Int {
	b := a.Big()
	if a.Hi>>63 == 1 {
		b.Sub(b, new(big.Int).Add(mask128, big.NewInt(1)))
	}
	return b
}

// Add returns a + b.
func (a Word) Add(b Word) Word {
	lo, c := bits.Add64(a.Lo, b.Lo, 0)
	hi, _ := bits.Add64(a.Hi, b.Hi, c)
	return Word{hi, lo}
}

// Sub returns a - b.
func (a Word) Sub(b Word) Word {
	lo, c := bits.Sub64(a.Lo, b.Lo, 0)
	hi, _ := bits.Sub64(a.Hi, b.Hi, c)
	return Word{hi, lo}
}

// Neg returns -a.
func (a Word) Neg() Word { return Word{}.Sub(a) }

// Mul returns a·b.
func (a Word) Mul(b Word) Word {
	hi, lo := bits.Mul64(a.Lo, b.Lo)
	return Word{hi + a.Hi*b.Lo + a.Lo*b.Hi, lo}
}

// MulInt64 returns a·x for a signed x.
func (a Word) MulInt64(x int64) Word {
	// x = u - 2^64·s with s the sign bit, so a·x = a·u - (a·s)·2^64.
	u, s := uint64(x), uint64(x>>63) // s is all ones when x is negative
	hi, lo := bits.Mul64(a.Lo, u)
	return Word{hi + a.Hi*u - a.Lo&s, lo}
}

// Mask returns a modulo 2^k, for k in [0, 128]; a larger k changes nothing.
func (a Word) Mask(k int) Word {
	switch {
	case k >= 128:
		return a
	case k > 64:
		return Word{a.Hi & (1<<uint(k-64) - 1), a.Lo}
	case k == 64:
		return Word{0, a.Lo}
	case k <= 0:
		return Word{}
	}
	return Word{0, a.Lo & (1<<uint(k) - 1)}
}

// Extend reads the low k bits of a, 0 < k ≤ 128, as a two's complement number
// and returns it as one of 128 bits.
func (a Word) Extend(k int) Word { return a.Lsh(128 - k).RshSigned(128 - k) }

// Lsh returns a·2^n modulo 2^128.
func (a Word) Lsh(n int) Word {
	if n >= 64 {
		return Word{a.Lo << uint(n-64), 0}
	}
	return Word{a.Hi<<uint(n) | a.Lo>>uint(64-n), a.Lo << uint(n)}
}

// Rsh returns ⌊a/2^n⌋ for a in [0, 2^128).
func (a Word) Rsh(n int) Word {
	if n >= 64 {
		return Word{0, a.Hi >> uint(n-64)}
	}
	return Word{a.Hi >> uint(n), a.Lo>>uint(n) | a.Hi<<uint(64-n)}
}

// RshSigned returns ⌊a/2^n⌋, a read as a two's complement number.
func (a Word) RshSigned(n int) Word {
	hi := int64(a.Hi)
	if n >= 64 {
		return Word{uint64(hi >> 63), uint64(hi >> uint(n-64))}
	}
	return Word{uint64(hi >> uint(n)), a.Lo>>uint(n) | a.Hi<<uint(64-n)}
}

// Bit returns bit i of a, 0 ≤ i < 128.
func (a Word) Bit(i int) uint64 { return a.Rsh(i).Lo & 1 }

const redacted = "[share]"

// String keeps shares out of logs and errors.
func (Word) String() string { return redacted }

// GoString does the same for %#v.
func (Word) GoString() string { return redacted }
