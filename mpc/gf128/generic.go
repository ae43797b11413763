package gf128

import "math/bits"

// poly is X^128 modulo the field's polynomial.
const poly = 0x87

// clmul64 returns the carry-less product of x and y. It uses integer
// multiplication of words in which only every fourth bit is set, so that at
// most 16 ones meet in a sum and the carries end before the next bit that
// counts (Pornin, BearSSL, ghash_ctmul64.c).
func clmul64(x, y uint64) (hi, lo uint64) {
	// A product mirrored is the product of the mirror images.
	return bits.Reverse64(clmulLow(bits.Reverse64(x), bits.Reverse64(y))) >> 1, clmulLow(x, y)
}

// clmulLow returns the low 64 bits of the carry-less product.
func clmulLow(x, y uint64) uint64 {
	const m = 0x1111111111111111
	x0, x1, x2, x3 := x&m, x&(m<<1), x&(m<<2), x&(m<<3)
	y0, y1, y2, y3 := y&m, y&(m<<1), y&(m<<2), y&(m<<3)
	z0 := x0*y0 ^ x1*y3 ^ x2*y2 ^ x3*y1
	z1 := x0*y1 ^ x1*y0 ^ x2*y3 ^ x3*y2
	z2 := x0*y2 ^ x1*y1 ^ x2*y0 ^ x3*y3
	z3 := x0*y3 ^ x1*y2 ^ x2*y1 ^ x3*y0
	return z0&m | z1&(m<<1) | z2&(m<<2) | z3&(m<<3)
}

func mulGeneric(a, b Element) Element {
	h0, l0 := clmul64(a.Lo, b.Lo)
	h1, l1 := clmul64(a.Hi, b.Hi)
	h2, l2 := clmul64(a.Lo^a.Hi, b.Lo^b.Hi)
	h2, l2 = h2^h0^h1, l2^l0^l1 // Karatsuba
	return reduce(l0, h0^l2, l1^h2, h1)
}

// reduce returns the element congruent to the polynomial of 256 bits.
func reduce(w0, w1, w2, w3 uint64) Element {
	// X^128 = X^7 + X^2 + X + 1: what shifts out of w3 at the top comes to w2.
	w2 ^= w3>>63 ^ w3>>62 ^ w3>>57
	w1 ^= w3 ^ w3<<1 ^ w3<<2 ^ w3<<7
	w1 ^= w2>>63 ^ w2>>62 ^ w2>>57
	w0 ^= w2 ^ w2<<1 ^ w2<<2 ^ w2<<7
	return Element{w0, w1}
}

func mulAddGeneric(dst, a []Element, s Element) {
	for i := range dst {
		dst[i] = dst[i].Add(mulGeneric(a[i], s))
	}
}

func addCubicGeneric(dst []Element, h []uint64, d *[3]Element) {
	for i := range dst {
		x := Element{Lo: h[i]}
		y := mulGeneric(x, d[2]).Add(d[1])
		y = mulGeneric(x, y).Add(d[0])
		dst[i] = dst[i].Add(mulGeneric(x, y))
	}
}
