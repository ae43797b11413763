// Package curve25519 is the group of X-only Curve25519: hashing to the curve,
// multiplying many points by one secret scalar, and checking many points that
// a peer sent. Everything works on batches, so that inversions and tests are
// shared.
//
//	h, _ := NewHasher("my protocol v1")   // RFC 9380, hash_to_field
//	h.HashToField(&us[i], item)
//	MapToCurve(points, us)                // Elligator 2, X only
//	k, _ := NewScalar(rand.Reader)
//	k.Mul(points, points)                 // RFC 7748 ladder
//
// Hashing is the suite curve25519_XMD:SHA-512_ELL2_NU_ of RFC 9380
// (https://www.rfc-editor.org/rfc/rfc9380), with one step moved: MapToCurve
// leaves out clear_cofactor, and every Scalar is a multiple of the cofactor 8,
// as RFC 7748 (https://www.rfc-editor.org/rfc/rfc7748) has it. So Mul by the
// scalar 8k' of a mapped point is the RFC's point multiplied by k'.
//
// Constant time: hashing an item of a given length, mapping and multiplying
// take time that depends on no value. Check takes time that depends on the
// points, which the peer knows.
package curve25519

import (
	"errors"
	"fmt"
	"io"

	"github.com/cloudflare/circl/dh/x25519"
	fp "github.com/cloudflare/circl/math/fp25519"

	"github.com/yinqiao/yinqiao/internal/secret"
)

// Size of a point, a field element and a scalar, in bytes.
const Size = 32

// Suite is the RFC 9380 suite that HashToField and MapToCurve follow.
const Suite = "curve25519_XMD:SHA-512_ELL2_NU_"

// Point is the X coordinate of a point, little-endian and below 2^255-19.
type Point [Size]byte

// FieldElement is an element of GF(2^255-19), little-endian and reduced.
type FieldElement [Size]byte

// batch is how many elements share one inversion: far enough for its cost
// (about 270 multiplications) to vanish beside the three that each element
// pays, small enough to stay in the first-level cache.
const batch = 64

// Scalar is a secret multiplier: a multiple of 8 between 2^254 and 2^255. It
// is for one session; Wipe ends it.
type Scalar struct{ k secret.Bytes }

// NewScalar draws a scalar from rand.
func NewScalar(rand io.Reader) (*Scalar, error) {
	var k [Size]byte
	if _, err := io.ReadFull(rand, k[:]); err != nil {
		return nil, fmt.Errorf("curve25519: draw a scalar: %w", err)
	}
	return newScalar(&k), nil
}

func newScalar(k *[Size]byte) *Scalar {
	k[0] &= 248
	k[31] = k[31]&127 | 64
	s := &Scalar{secret.New(k[:])}
	clear(k[:])
	return s
}

// Wipe overwrites the scalar, which multiplies no more.
func (s *Scalar) Wipe() {
	s.k.Wipe()
	s.k = secret.Bytes{}
}

// Mul sets dst[i] to the product of the scalar and src[i]; dst may be src. It
// panics if their lengths differ or after Wipe. The points must come from
// MapToCurve, from Mul, or have passed Check.
func (s *Scalar) Mul(dst, src []Point) {
	key := s.k.Reveal()
	if len(dst) != len(src) || len(key) != Size {
		panic("curve25519: Mul with slices of different lengths or a wiped scalar")
	}
	k := [Size]byte(key)
	n := mulLanes(dst, src, &k)
	mulGeneric(dst[n:], src[n:], &k)
	clear(k[:])
}

// Vectorized says whether this processor multiplies eight points at a time,
// which takes about a quarter of the time.
func Vectorized() bool { return hasIFMA }

func mulGeneric(dst, src []Point, k *[Size]byte) {
	for i := range src {
		x := src[i] // Shared reads its arguments after it began to write
		x25519.Shared((*x25519.Key)(&dst[i]), (*x25519.Key)(k), (*x25519.Key)(&x))
	}
}

// invertAll replaces every element of zs, none of which is zero, by its
// inverse: one inversion and three multiplications an element (Montgomery's
// trick). The slices hold at most batch elements.
func invertAll(zs []fp.Elt) {
	if len(zs) == 0 {
		return
	}
	var prefix [batch]fp.Elt // prefix[i] = zs[0] ⋯ zs[i]
	prefix[0] = zs[0]
	for i := 1; i < len(zs); i++ {
		fp.Mul(&prefix[i], &prefix[i-1], &zs[i])
	}
	var inv, t fp.Elt // inv = 1 / prefix[i]
	fp.Inv(&inv, &prefix[len(zs)-1])
	for i := len(zs) - 1; i > 0; i-- {
		fp.Mul(&t, &inv, &prefix[i-1])
		fp.Mul(&inv, &inv, &zs[i])
		zs[i] = t
	}
	zs[0] = inv
}

// ErrPoint is wrapped by Check for something that is no point of the group.
var ErrPoint = errors.New("curve25519: not a point of the group")
