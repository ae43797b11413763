package curve25519

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	fp "github.com/cloudflare/circl/math/fp25519"
)

// checkRounds is how many random subset products Check takes: points off the
// curve pass with a probability of 2^-checkRounds.
const checkRounds = 40

// CheckBlock is how many points are best checked at once: some 0.5 ms of work,
// of which the share that does not grow with the points is small.
const CheckBlock = 8128

// checkGroup points share the table of their 2^checkGroup subset products.
const checkGroup = 4

// lowOrder are the X coordinates of order 1, 2, 4 and 8, of the curve and of
// its twist.
var lowOrder = [5]Point{
	{},
	{1},
	{
		0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
	},
	{
		0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
	},
	{
		0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
	},
}

// Check refuses points whose encoding is not canonical, whose order divides 8,
// or which lie on the curve's twist. The last is decided for all points at
// once: g(x) = x³ + Jx² + x is a square exactly for the points of the curve, so
// a product of g over a random subset is a square for certain if all of them
// are, and with probability one half if one is not; 40 subsets drawn from rand
// leave 2^-40. That costs 13 multiplications a point instead of the 265 of a
// test of its own, and less still for CheckBlock points. A mistake in 2^40 harms nobody: the twist's group is as hard
// as the curve's, and scalars clear its small subgroup.
func Check(points []Point, rand io.Reader) error {
	for i := range points {
		if err := checkEncoding(&points[i]); err != nil {
			return fmt.Errorf("%w: point %d of %d: %w", ErrPoint, i, len(points), err)
		}
	}
	if len(points) == 0 {
		return nil
	}
	squares, err := false, error(nil)
	if hasIFMA && len(points) >= CheckBlock/4 {
		squares, err = checkLanes(points, rand)
	} else {
		squares, err = checkGeneric(points, rand)
	}
	if err != nil {
		return fmt.Errorf("curve25519: draw bits: %w", err)
	}
	if !squares {
		return fmt.Errorf("%w: a point lies on the twist", ErrPoint)
	}
	return nil
}

// checkGeneric says whether g is a square at all points.
func checkGeneric(points []Point, rand io.Reader) (bool, error) {
	var products [checkRounds]fp.Elt
	for i := range products {
		products[i] = fp.Elt{1}
	}
	// One nibble of random bits a round and group.
	var bits [checkRounds * checkGroup / 8]byte
	for len(points) > 0 {
		if _, err := io.ReadFull(rand, bits[:]); err != nil {
			return false, err
		}
		n := min(checkGroup, len(points))
		var subset [1 << checkGroup]fp.Elt
		subset[0] = fp.Elt{1}
		for i := range points[:n] {
			g := curveG(&points[i])
			for m := range subset[:1<<i] {
				fp.Mul(&subset[1<<i|m], &subset[m], &g)
			}
		}
		mask := byte(1)<<n - 1
		for r := range products {
			m := bits[r/2] >> (4 * (r & 1)) & mask
			fp.Mul(&products[r], &products[r], &subset[m])
		}
		points = points[n:]
	}
	legendreAll(products[:])
	for i := range products {
		if products[i] != (fp.Elt{1}) {
			return false, nil
		}
	}
	return true, nil
}

// curveG returns x³ + Jx² + x.
func curveG(x *Point) fp.Elt {
	var g, t fp.Elt
	e := fp.Elt(*x)
	one := fp.Elt{1}
	fp.Add(&t, &e, &curveJ)
	fp.Mul(&t, &t, &e)
	fp.Add(&t, &t, &one)
	fp.Mul(&g, &t, &e)
	return g
}

type reason string

func (r reason) Error() string { return string(r) }

func checkEncoding(p *Point) error {
	// 2^255-19 and what is above it: ones but for the first byte and the last bit.
	w0, w3 := binary.LittleEndian.Uint64(p[0:]), binary.LittleEndian.Uint64(p[24:])
	if w3 >= math.MaxInt64 {
		w1, w2 := binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint64(p[16:])
		if w3 > math.MaxInt64 || w1&w2 == math.MaxUint64 && w0 >= math.MaxUint64-18 {
			return reason("is not encoded canonically")
		}
	}
	for i := range lowOrder {
		if *p == lowOrder[i] {
			return reason("has a low order")
		}
	}
	return nil
}
