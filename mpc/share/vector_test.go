package share

import (
	"math/big"
	"testing"
)

func TestVectorAddsAndSubtracts(t *testing.T) {
	v, w := NewVector(Shape{2, 1, 1}), NewVector(Shape{2, 1, 1})
	v.Narrow[0], w.Narrow[0] = 1<<32-1, 2 // wraps
	v.Wide[0], w.Wide[0] = 5, 7
	v.Huge[0], w.Huge[0] = FromInt64(-1), FromInt64(-3)
	v.Add(w)
	if v.Narrow[0] != 1 || v.Wide[0] != 12 || SignedHuge(v.Huge[0]) != FromInt64(-4) {
		t.Errorf("the sum is %v, %v, %v", v.Narrow[0], v.Wide[0], v.Huge[0].Signed())
	}
	v.Sub(w)
	if v.Narrow[0] != 1<<32-1 || v.Wide[0] != 5 || SignedHuge(v.Huge[0]) != FromInt64(-1) {
		t.Error("Sub does not undo Add")
	}
	if s := v.Shape(); s.String() != "2/1/1" || s.Len() != 4 {
		t.Errorf("shape %s of %d", s, s.Len())
	}
}

func TestSignedHugeAtTheBounds(t *testing.T) {
	most := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 95), big.NewInt(1))
	least := new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), 95))
	for _, want := range []*big.Int{most, least, big.NewInt(0), big.NewInt(-1)} {
		w := FromBig(want)
		w.Hi &= 1<<32 - 1 // as it travels
		if got := SignedHuge(w).Signed(); got.Cmp(want) != 0 {
			t.Errorf("%v came back as %v", want, got)
		}
	}
}
