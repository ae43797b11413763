package curve25519

import (
	"encoding/binary"
	"errors"
	"math/bits"

	"github.com/yinqiao/yinqiao/internal/secret"
)

// ErrScalar is wrapped by ParseScalar, and by Inverse in the one case in 2^124
// in which the inverse is no Scalar.
var ErrScalar = errors.New("curve25519: not a scalar")

// ParseScalar takes a scalar that Bytes gave.
func ParseScalar(b []byte) (*Scalar, error) {
	if len(b) != Size || b[0]&7 != 0 || b[Size-1]&0xc0 != 0x40 {
		return nil, ErrScalar
	}
	return &Scalar{secret.New(b)}, nil
}

// Bytes returns a copy of the scalar, little-endian, for whoever has to keep it.
func (s *Scalar) Bytes() secret.Bytes { return secret.New(s.k.Reveal()) }

// limbs is a number below 2^256, the least significant word first.
type limbs [4]uint64

// order is l = 2^252 + 27742317777372353535851937790883648493, the order of the
// group that multiples of 8 lead to.
var order = limbs{0x5812631a5cf5d3ed, 0x14def9dea2f79cd6, 0, 0x1000000000000000}

// orderInv is -1/l modulo 2^64, montSquare is 2^512 modulo l.
var orderInv, montSquare = func() (inv uint64, r2 limbs) {
	inv = 1
	for range 6 { // Newton: the number of right bits doubles
		inv *= 2 - order[0]*inv
	}
	r2 = limbs{1}
	for range 512 {
		r2 = reduceOnce(add(r2, r2))
	}
	return -inv, r2
}()

// Inverse returns the scalar t with which Mul undoes a Mul by s: t·s is 1 or -1
// modulo the group's order, and a point and its negative have one X coordinate.
// It holds for points of the group of prime order, such as every product of Mul.
//
// Half of the residues have no representative that is a multiple of 8 between
// 2^254 and 2^255, as a Scalar is; for those the negative has, for all but about
// 2^128 of the 2^252.
func (s *Scalar) Inverse() (*Scalar, error) {
	key := s.k.Reveal()
	if len(key) != Size {
		panic("curve25519: Inverse of a wiped scalar")
	}
	var k limbs
	for i := range k {
		k[i] = binary.LittleEndian.Uint64(key[8*i:])
	}
	t := invertModOrder(k)
	// t + j·l is a multiple of 8: l is 5 modulo 8, and -1/5 is 3.
	t = add(t, mulSmall(order, t[0]*3&7))
	n := sub(mulSmall(order, 8), t)
	pick(&t, &n, 1^fits(&t))
	if fits(&t) == 0 {
		return nil, ErrScalar
	}
	var b [Size]byte
	for i := range t {
		binary.LittleEndian.PutUint64(b[8*i:], t[i])
	}
	inv := &Scalar{secret.New(b[:])}
	clear(b[:])
	return inv, nil
}

// fits is 1 if x is between 2^254 and 2^255, and else 0.
func fits(x *limbs) uint64 { return x[3] >> 62 & (1 ^ x[3]>>63) }

// pick sets x to y if bit is 1.
func pick(x, y *limbs, bit uint64) {
	for i := range x {
		x[i] ^= -bit & (x[i] ^ y[i])
	}
}

// invertModOrder returns x^(l-2) modulo l, in time that does not depend on x.
func invertModOrder(x limbs) limbs {
	e := sub(order, limbs{2})
	x = montMul(x, montSquare)
	z := montMul(limbs{1}, montSquare)
	for i := 252; i >= 0; i-- {
		z = montMul(z, z)
		if e[i/64]>>(i%64)&1 == 1 { // of the exponent, which is public
			z = montMul(z, x)
		}
	}
	return montMul(z, limbs{1})
}

// montMul returns x·y/2^256 modulo l, reduced if y is (Montgomery's product).
func montMul(x, y limbs) limbs {
	var t [6]uint64
	for i := range x {
		mulAdd(&t, &y, x[i])
		mulAdd(&t, &order, t[0]*orderInv)
		copy(t[:], t[1:])
		t[5] = 0
	}
	return reduceOnce(limbs(t[:4]))
}

// mulAdd adds y·f to t.
func mulAdd(t *[6]uint64, y *limbs, f uint64) {
	var carry, c uint64
	for j := range y {
		hi, lo := bits.Mul64(y[j], f)
		lo, c = bits.Add64(lo, carry, 0)
		hi += c
		t[j], c = bits.Add64(t[j], lo, 0)
		carry = hi + c
	}
	t[4], c = bits.Add64(t[4], carry, 0)
	t[5] += c
}

// reduceOnce subtracts l if x is not below it.
func reduceOnce(x limbs) limbs {
	y := x
	var borrow uint64
	for i := range y {
		y[i], borrow = bits.Sub64(y[i], order[i], borrow)
	}
	pick(&x, &y, 1^borrow)
	return x
}

func add(x, y limbs) limbs {
	var carry uint64
	for i := range x {
		x[i], carry = bits.Add64(x[i], y[i], carry)
	}
	return x
}

func sub(x, y limbs) limbs {
	var borrow uint64
	for i := range x {
		x[i], borrow = bits.Sub64(x[i], y[i], borrow)
	}
	return x
}

// mulSmall returns x·f, which has to be below 2^256.
func mulSmall(x limbs, f uint64) limbs {
	var t [6]uint64
	mulAdd(&t, &x, f)
	return limbs(t[:4])
}
