package curve25519

import (
	"crypto/sha512"
	"encoding"
	"errors"
	"hash"

	fp "github.com/cloudflare/circl/math/fp25519"
)

// Hasher is hash_to_field of RFC 9380, section 5.2, with expand_message_xmd
// over SHA-512 (section 5.3.1) and one element of 48 bytes (count = 1, L = 48).
// It is for one goroutine; Clone makes another.
type Hasher struct {
	dstPrime []byte // DST || I2OSP(len(DST), 1)
	zPad     []byte // SHA-512 after Z_pad, one block of zeros
	h        hash.Hash
	b0, b1   [sha512.Size]byte
}

// NewHasher separates its hashes from all others by dst, of 1 to 255 bytes.
func NewHasher(dst string) (*Hasher, error) {
	if len(dst) < 1 || len(dst) > 255 {
		return nil, errors.New("curve25519: a domain separation tag has 1 to 255 bytes")
	}
	h := sha512.New()
	h.Write(make([]byte, sha512.BlockSize))
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil, err
	}
	return &Hasher{dstPrime: append([]byte(dst), byte(len(dst))), zPad: state, h: h}, nil
}

// Clone returns a Hasher that gives the same hashes, for another goroutine.
func (h *Hasher) Clone() *Hasher { return &Hasher{dstPrime: h.dstPrime, zPad: h.zPad, h: sha512.New()} }

// HashToField sets u to the field element of msg.
func (h *Hasher) HashToField(u *FieldElement, msg []byte) {
	// b_0 = H(Z_pad || msg || l_i_b_str || 0 || DST_prime)
	if err := h.h.(encoding.BinaryUnmarshaler).UnmarshalBinary(h.zPad); err != nil {
		panic(err) // the state is our own
	}
	h.h.Write(msg)
	h.h.Write([]byte{0, 48, 0}) // 48 bytes wanted
	h.h.Write(h.dstPrime)
	h.h.Sum(h.b0[:0])
	// b_1 = H(b_0 || 1 || DST_prime); its first 48 bytes are the output.
	h.h.Reset()
	h.h.Write(h.b0[:])
	h.h.Write([]byte{1})
	h.h.Write(h.dstPrime)
	h.h.Sum(h.b1[:0])

	// OS2IP is big-endian: hi has the first 16 bytes, lo the other 32, and
	// 2^256 = 38.
	var hi, lo fp.Elt
	for i := range 16 {
		hi[i] = h.b1[15-i]
	}
	for i := range 32 {
		lo[i] = h.b1[47-i]
	}
	c := fp.Elt{38}
	fp.Mul(&hi, &hi, &c)
	fp.Add(&lo, &lo, &hi)
	fp.Modp(&lo)
	*u = FieldElement(lo)
}

// minusJ is -486662, the curve's coefficient J negated; j2 is J squared.
var (
	minusJ = func() (z fp.Elt) {
		fp.Neg(&z, &curveJ)
		fp.Modp(&z)
		return z
	}()
	curveJ = fp.Elt{0x06, 0x6d, 0x07}
	j2     = func() (z fp.Elt) {
		fp.Sqr(&z, &curveJ)
		fp.Modp(&z)
		return z
	}()
)

// MapToCurve sets dst[i] to the X coordinate of map_to_curve_elligator2 of
// us[i] (RFC 9380, section 6.7.1, with Z = 2), before clear_cofactor. It panics
// if the lengths differ.
func MapToCurve(dst []Point, us []FieldElement) {
	if len(dst) != len(us) {
		panic("curve25519: MapToCurve with slices of different lengths")
	}
	for len(us) > 0 {
		n := min(batch, len(us))
		mapBatch(dst[:n], us[:n])
		dst, us = dst[n:], us[n:]
	}
}

// mapBatch computes, with t = 2u² and xd = 1 + t (never zero, since -1/2 is no
// square):
//
//	x1 = -J / xd,   gx1 = x1³ + J·x1² + x1 = -J·(xd² - J²t) / xd³
//	x  = x1 where gx1 is a square, and x1·t = -x1 - J where it is not
//
// gx1·xd⁴ is a square exactly if gx1 is, and needs no division; gx1 is never
// zero.
func mapBatch(dst []Point, us []FieldElement) {
	var t, xd, g [batch]fp.Elt
	n := len(us)
	one := fp.Elt{1}
	for i := range us {
		u := fp.Elt(us[i])
		fp.Sqr(&u, &u)
		fp.Add(&t[i], &u, &u)
		fp.Add(&xd[i], &t[i], &one)
		var a, b fp.Elt
		fp.Sqr(&a, &xd[i])
		fp.Mul(&b, &j2, &t[i])
		fp.Sub(&a, &a, &b)
		fp.Mul(&a, &a, &xd[i])
		fp.Mul(&g[i], &a, &minusJ)
	}
	legendreAll(g[:n])
	invertAll(xd[:n])
	for i := range us {
		// The symbol is 1 or -1 = p-1, which is even.
		square := uint(g[i][0] & 1)
		x := t[i]
		fp.Cmov(&x, &one, square)
		fp.Mul(&x, &x, &minusJ)
		fp.Mul(&x, &x, &xd[i])
		fp.Modp(&x)
		dst[i] = Point(x)
	}
}

// legendreAll replaces every element by its Legendre symbol 0, 1 or p-1,
// reduced.
func legendreAll(zs []fp.Elt) {
	for i := legendreLanes(zs); i < len(zs); i++ {
		legendre(&zs[i])
	}
}

// legendre sets z to z^((p-1)/2) = z^(2^254 - 10).
func legendre(z *fp.Elt) {
	var z6, a, b, c fp.Elt
	square := func(x *fp.Elt, n int) {
		for range n {
			fp.Sqr(x, x)
		}
	}
	fp.Sqr(&a, z)       // 2
	fp.Sqr(&b, &a)      // 4
	fp.Mul(&z6, &a, &b) // 6
	fp.Sqr(&b, &b)      // 8
	fp.Mul(&b, &b, z)   // 9
	fp.Mul(&a, &a, &b)  // 11
	fp.Sqr(&a, &a)      // 22
	fp.Mul(&a, &a, &b)  // 31 = 2^5 - 1
	b = a
	square(&b, 5)
	fp.Mul(&a, &a, &b) // 2^10 - 1
	b = a
	square(&b, 10)
	fp.Mul(&b, &b, &a) // 2^20 - 1
	c = b
	square(&c, 20)
	fp.Mul(&b, &b, &c) // 2^40 - 1
	square(&b, 10)
	fp.Mul(&a, &a, &b) // 2^50 - 1
	b = a
	square(&b, 50)
	fp.Mul(&b, &b, &a) // 2^100 - 1
	c = b
	square(&c, 100)
	fp.Mul(&b, &b, &c) // 2^200 - 1
	square(&b, 50)
	fp.Mul(&a, &a, &b) // 2^250 - 1
	square(&a, 4)
	fp.Mul(z, &a, &z6) // 2^254 - 16 + 6
	fp.Modp(z)
}
