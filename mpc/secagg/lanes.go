package secagg

import (
	"encoding/binary"
	"math/bits"
)

// section is one part of a vector: elements of one width.
type section byte

const (
	narrow section = iota // 4 bytes an element, modulo 2^32
	wide                  // 8 bytes, modulo 2^64
	huge                  // 12 bytes, modulo 2^96
	canary                // as wide: zeros, which masks that do not cancel show in
)

// canaryLen is how many elements the canary has: 128 bits.
const canaryLen = 2

// width of an element on the wire and in a key stream, in bytes.
func (s section) width() int { return [...]int{narrow: 4, wide: 8, huge: 12, canary: 8}[s] }

// add adds src, elements of the section's width in little-endian order, to dst
// or subtracts it. Both have the same length, a multiple of the width. No step
// depends on a value.
func (s section) add(dst, src []byte, negative bool) {
	done := addVector(s, dst, src, negative)
	dst, src = dst[done:], src[done:len(dst)]
	switch s {
	case narrow:
		add32(dst, src, negative)
	case wide, canary:
		add64(dst, src, negative)
	case huge:
		add96(dst, src, negative)
	}
}

// add32 takes two elements at once: their upper bits apart, so that no carry
// passes from one to the other.
func add32(dst, src []byte, negative bool) {
	const upper = 1<<63 | 1<<31
	i := 0
	for ; i+8 <= len(dst); i += 8 {
		a, b := binary.LittleEndian.Uint64(dst[i:]), binary.LittleEndian.Uint64(src[i:])
		if negative {
			a = ((a | upper) - (b &^ upper)) ^ (a^^b)&upper
		} else {
			a = ((a &^ upper) + (b &^ upper)) ^ (a^b)&upper
		}
		binary.LittleEndian.PutUint64(dst[i:], a)
	}
	if i < len(dst) {
		a, b := binary.LittleEndian.Uint32(dst[i:]), binary.LittleEndian.Uint32(src[i:])
		if negative {
			b = -b
		}
		binary.LittleEndian.PutUint32(dst[i:], a+b)
	}
}

func add64(dst, src []byte, negative bool) {
	for i := 0; i+8 <= len(dst); i += 8 {
		b := binary.LittleEndian.Uint64(src[i:])
		if negative {
			b = -b
		}
		binary.LittleEndian.PutUint64(dst[i:], binary.LittleEndian.Uint64(dst[i:])+b)
	}
}

func add96(dst, src []byte, negative bool) {
	for i := 0; i+12 <= len(dst); i += 12 {
		d, s := dst[i:i+12], src[i:i+12]
		lo, hi := binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint32(d[8:])
		bl, bh := binary.LittleEndian.Uint64(s), binary.LittleEndian.Uint32(s[8:])
		var c uint64
		if negative {
			lo, c = bits.Sub64(lo, bl, 0)
			hi -= bh + uint32(c)
		} else {
			lo, c = bits.Add64(lo, bl, 0)
			hi += bh + uint32(c)
		}
		binary.LittleEndian.PutUint64(d, lo)
		binary.LittleEndian.PutUint32(d[8:], hi)
	}
}
