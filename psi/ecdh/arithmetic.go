package ecdh

import (
	"context"
	"encoding/binary"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/mpc/parallel"
)

// bareArithmetic does what no implementation of the protocol can leave out, on
// all processors: for 2n rows, a hash to the curve and two multiplications. The
// items are numbers of 16 bytes, which cost nothing to come by.
func bareArithmetic(ctx context.Context, n int) error {
	k, err := curve25519.NewScalar(newStream([seedSize]byte{1}, 0))
	if err != nil {
		return err
	}
	h, err := curve25519.NewHasher("yinqiao " + Name + " with " + curve25519.Suite + " " + string(make([]byte, 32)))
	if err != nil {
		return err
	}
	return parallel.For(ctx, 2*n, ladderBlock, func(lo, hi int) error {
		var us [ladderBlock]curve25519.FieldElement
		var points [ladderBlock]curve25519.Point
		h := h.Clone()
		var item [16]byte
		for i := lo; i < hi; i++ {
			binary.LittleEndian.PutUint64(item[:], uint64(i))
			h.HashToField(&us[i-lo], item[:])
		}
		block := points[:hi-lo]
		curve25519.MapToCurve(block, us[:hi-lo])
		k.Mul(block, block)
		k.Mul(block, block)
		return nil
	})
}
