package secagg

import (
	"bytes"
	"crypto/rand"
	"math/big"
	"slices"
	"testing"
)

// Every width, at all lengths around the assembly's turns, against big.Int.
func TestLanesAgainstBigInt(t *testing.T) {
	for _, sec := range []section{narrow, wide, huge} {
		w := sec.width()
		modulus := new(big.Int).Lsh(big.NewInt(1), uint(8*w))
		value := func(b []byte) *big.Int {
			b = bytes.Clone(b)
			slices.Reverse(b)
			return new(big.Int).SetBytes(b)
		}
		for elements := range 140 {
			a, b := make([]byte, w*elements), make([]byte, w*elements)
			_, _ = rand.Read(a)
			_, _ = rand.Read(b)
			if elements > 2 { // carries through all of an element, and borrows
				copy(a, bytes.Repeat([]byte{0xff}, 2*w))
				copy(b, bytes.Repeat([]byte{0}, 2*w))
				b[0], a[2*w-1] = 1, 0
			}
			for _, negative := range []bool{false, true} {
				got := bytes.Clone(a)
				sec.add(got, b, negative)
				for i := 0; i < len(a); i += w {
					x, y := value(a[i:i+w]), value(b[i:i+w])
					if negative {
						y.Neg(y)
					}
					if want := x.Add(x, y).Mod(x, modulus); value(got[i:i+w]).Cmp(want) != 0 {
						t.Fatalf("width %d, element %d of %d, negative %v", w, i/w, elements, negative)
					}
				}
			}
		}
	}
}

// What the assembly does, Go alone does too.
func TestGenericLanes(t *testing.T) {
	for _, n := range []int{0, 4, 8, 12, 128, 132, 384, 1000 * 4} {
		for _, negative := range []bool{false, true} {
			a, b := make([]byte, n), make([]byte, n)
			_, _ = rand.Read(a)
			_, _ = rand.Read(b)
			x, y := bytes.Clone(a), bytes.Clone(a)
			narrow.add(x, b, negative)
			add32(y, b, negative)
			if !bytes.Equal(x, y) {
				t.Errorf("narrow, %d bytes, negative %v: the two differ", n, negative)
			}
			n8 := n &^ 7
			x, y = bytes.Clone(a[:n8]), bytes.Clone(a[:n8])
			wide.add(x, b[:n8], negative)
			add64(y, b[:n8], negative)
			if !bytes.Equal(x, y) {
				t.Errorf("wide, %d bytes, negative %v: the two differ", n8, negative)
			}
		}
	}
}
