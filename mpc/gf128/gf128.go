// Package gf128 is arithmetic in the field of 2^128 elements: one element at a
// time and over slices.
//
// An [Element] is a polynomial over GF(2) modulo X^128 + X^7 + X^2 + X + 1: bit
// i of Lo is the coefficient of X^i, bit i of Hi that of X^(64+i). It is the
// field of GCM (NIST SP 800-38D) with the bits of each byte the other way
// round; in bytes, an element is 16 of them, little-endian.
//
// Processors with carry-less multiplication are used through assembly; the rest,
// and builds with the tag purego, do the same in Go. Nothing here branches on a
// value or indexes memory by one, but that [Element.IsZero] answers.
//
// An Element does not print: elements are keys and shares.
package gf128

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Size of an element in bytes.
const Size = 16

// Element is an element of the field. The zero value is 0.
type Element struct{ Lo, Hi uint64 }

// One is the neutral element of multiplication.
var One = Element{Lo: 1}

// FromBytes reads an element; every 16 bytes are one.
func FromBytes(b [Size]byte) Element {
	return Element{binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])}
}

// Bytes returns the encoding of a.
func (a Element) Bytes() (b [Size]byte) {
	binary.LittleEndian.PutUint64(b[:], a.Lo)
	binary.LittleEndian.PutUint64(b[8:], a.Hi)
	return b
}

// Add returns a + b, which is also a - b.
func (a Element) Add(b Element) Element { return Element{a.Lo ^ b.Lo, a.Hi ^ b.Hi} }

// IsZero says whether a is 0.
func (a Element) IsZero() bool { return a.Lo|a.Hi == 0 }

// Bit returns bit i of a, 0 or 1, for i in [0, 128).
func (a Element) Bit(i int) uint64 {
	words := [2]uint64{a.Lo, a.Hi}
	return words[i>>6&1] >> (i & 63) & 1
}

// Mul returns a·b.
func (a Element) Mul(b Element) Element { return mul(a, b) }

// Square returns a².
func (a Element) Square() Element { return mul(a, a) }

// MulX returns a·X.
func (a Element) MulX() Element {
	return Element{a.Lo<<1 ^ -(a.Hi>>63)&poly, a.Hi<<1 | a.Lo>>63}
}

// Inverse returns 1/a, and 0 for 0.
func (a Element) Inverse() Element {
	// a^(2^128 - 2) = (a^(2^127 - 1))²; with t(k) = a^(2^k - 1),
	// t(j+k) = t(j)^(2^k) · t(k).
	join := func(tj, tk Element, k int) Element {
		for range k {
			tj = tj.Square()
		}
		return tj.Mul(tk)
	}
	t := a // t(1), then t(3), t(7), …, t(127)
	for k := 1; k < 127; k = 2*k + 1 {
		t = join(join(t, t, k), a, 1)
	}
	return t.Square()
}

const redacted = "[element]"

// String keeps elements out of logs and errors.
func (Element) String() string { return redacted }

// GoString does the same for %#v.
func (Element) GoString() string { return redacted }

// Add sets dst[i] to dst[i] + a[i]. The slices have the same length, and are the
// same or apart, as everywhere below.
func Add(dst, a []Element) {
	a = a[:len(dst)]
	for i := range dst {
		dst[i].Lo ^= a[i].Lo
		dst[i].Hi ^= a[i].Hi
	}
}

// Sum returns Σ a[i].
func Sum(a []Element) (s Element) {
	for i := range a {
		s.Lo ^= a[i].Lo
		s.Hi ^= a[i].Hi
	}
	return s
}

// MulAdd sets dst[i] to dst[i] + s·a[i].
func MulAdd(dst, a []Element, s Element) {
	if len(dst) > 0 {
		mulAdd(dst, a[:len(dst)], s)
	}
}

// InnerProduct returns Σ a[i]·b[i].
func InnerProduct(a, b []Element) (s Element) {
	b = b[:len(a)]
	for i := range a {
		s = s.Add(a[i].Mul(b[i]))
	}
	return s
}

// SumX returns Σ a[i]·X^i.
func SumX(a []Element) (s Element) {
	for i := len(a) - 1; i >= 0; i-- {
		s = s.MulX().Add(a[i])
	}
	return s
}

// AddCubic sets dst[i] to dst[i] + h·d[0] + h²·d[1] + h³·d[2], where h is h[i]
// read as an element below X^64.
func AddCubic(dst []Element, h []uint64, d *[3]Element) {
	if len(dst) > 0 {
		addCubic(dst, h[:len(dst)], d)
	}
}

// Random fills dst from r, uniformly.
func Random(r io.Reader, dst []Element) error {
	var buf [256 * Size]byte
	defer clear(buf[:])
	for len(dst) > 0 {
		n := min(len(dst), len(buf)/Size)
		if _, err := io.ReadFull(r, buf[:n*Size]); err != nil {
			return fmt.Errorf("gf128: randomness: %w", err)
		}
		Load(dst[:n], buf[:n*Size])
		dst = dst[n:]
	}
	return nil
}

// AppendBytes appends the encodings of v to b.
func AppendBytes(b []byte, v []Element) []byte {
	for i := range v {
		b = binary.LittleEndian.AppendUint64(b, v[i].Lo)
		b = binary.LittleEndian.AppendUint64(b, v[i].Hi)
	}
	return b
}

// Load fills dst from the first 16·len(dst) bytes of b, which has to have them.
func Load(dst []Element, b []byte) {
	b = b[:len(dst)*Size]
	for i := range dst {
		dst[i] = Element{binary.LittleEndian.Uint64(b[i*Size:]), binary.LittleEndian.Uint64(b[i*Size+8:])}
	}
}
