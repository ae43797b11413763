package oprf

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"hash"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/psi/tags"
)

// contextText separates the hashes of this protocol from those of all others,
// as the contextString of RFC 9497, section 3.1, does.
const contextText = "yinqiao " + Name + " with " + curve25519.Suite

// block is how many points a worker takes at a time, checkBlock how many share
// the cost of one test for the curve.
const block, checkBlock = 64, 1016

// prf is the function of one epoch, without its key: items to points, and items
// with evaluated points to tags. It is for one goroutine; clone makes another.
type prf struct {
	epoch  epochID
	hasher *curve25519.Hasher
	h      hash.Hash
	buf    []byte
	sum    [sha512.Size]byte
}

func newPRF(id epochID) *prf {
	h, err := curve25519.NewHasher("HashToGroup-" + contextText)
	if err != nil {
		panic(err) // the tag is a constant of fewer than 256 bytes
	}
	return &prf{epoch: id, hasher: h, h: sha512.New()}
}

func (f *prf) clone() *prf { return &prf{epoch: f.epoch, hasher: f.hasher.Clone(), h: sha512.New()} }

// finalise is the output of RFC 9497, section 3.3.1, cut to a tag:
//
//	Hash(I2OSP(len(input), 2) || input || I2OSP(len(element), 2) || element || label || epoch)
//
// with the label that the section gives.
//
// Deviation: the epoch's ID is appended, so that tags of two epochs have nothing
// in common whatever their keys are.
func (f *prf) finalise(item []byte, p *curve25519.Point, row int32) tags.Tag {
	b := binary.BigEndian.AppendUint16(f.buf[:0], uint16(len(item)))
	b = append(b, item...)
	b = append(b, 0, curve25519.Size)
	b = append(b, p[:]...)
	b = append(b, "Finalize"...)
	f.buf = append(b, f.epoch[:]...)
	f.h.Reset()
	f.h.Write(f.buf)
	return tags.FromHash(f.h.Sum(f.sum[:0]), row)
}

// evaluate sets dst[i] to the tag of item i under k, for row first+i.
func (f *prf) evaluate(dst []tags.Tag, k *curve25519.Scalar, first int, item func(i int) []byte) {
	var us [block]curve25519.FieldElement
	var points [block]curve25519.Point
	for lo := 0; lo < len(dst); lo += block {
		n := min(block, len(dst)-lo)
		for i := range n {
			f.hasher.HashToField(&us[i], item(lo+i))
		}
		curve25519.MapToCurve(points[:n], us[:n])
		k.Mul(points[:n], points[:n])
		for i := range n {
			dst[lo+i] = f.finalise(item(lo+i), &points[i], int32(first+lo+i))
		}
	}
}

// multiply multiplies points by k, in place, on all processors.
func multiply(ctx context.Context, k *curve25519.Scalar, points []curve25519.Point) error {
	return parallel.For(ctx, len(points), block, func(lo, hi int) error {
		k.Mul(points[lo:hi], points[lo:hi])
		return nil
	})
}
