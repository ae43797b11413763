package secagg

import (
	"encoding/binary"
	"fmt"
	"io"
)

// secretSize is the length of what is shared, a self-mask's seed or a key, and
// of each share of it.
const secretSize = 32

// fieldVec is 32 elements of GF(2^8), a byte each, in four words. The field is
// that of AES. Everything done to them takes the same time whatever they hold;
// points, coefficients and indices are public.
type fieldVec [4]uint64

func loadField(b *[secretSize]byte) (v fieldVec) {
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return v
}

func (v fieldVec) bytes() (b [secretSize]byte) {
	for i := range v {
		binary.LittleEndian.PutUint64(b[8*i:], v[i])
	}
	return b
}

func (v fieldVec) add(w fieldVec) fieldVec {
	for i := range v {
		v[i] ^= w[i]
	}
	return v
}

// times returns v·c for a public c.
func (v fieldVec) times(c byte) (r fieldVec) {
	for ; c != 0; c >>= 1 {
		if c&1 == 1 {
			r = r.add(v)
		}
		for i := range v {
			v[i] = v[i]<<1&0xfefefefefefefefe ^ v[i]>>7&0x0101010101010101*0x1b
		}
	}
	return r
}

// gfMul multiplies public elements.
func gfMul(a, b byte) byte {
	return byte(fieldVec{uint64(a)}.times(b)[0])
}

// gfInverse returns 1/a for a public a other than 0.
func gfInverse(a byte) byte {
	r := byte(1)
	for range 254 { // a^254
		r = gfMul(r, a)
	}
	return r
}

// point is where the polynomial of a secret is evaluated for contributor i:
// never 0, where the secret is.
func point(i int) byte { return byte(i + 1) }

// split returns n shares of secret of which any t give it back and fewer say
// nothing of it. Share i belongs to contributor i.
func split(secret *[secretSize]byte, t, n int, rand io.Reader) ([][secretSize]byte, error) {
	coefficients := make([]fieldVec, t) // of X^0, X^1, …
	coefficients[0] = loadField(secret)
	var b [secretSize]byte
	for i := 1; i < t; i++ {
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return nil, fmt.Errorf("secagg: draw a polynomial: %w", err)
		}
		coefficients[i] = loadField(&b)
	}
	shares := make([][secretSize]byte, n)
	for i := range shares {
		var v fieldVec
		for k := t - 1; k >= 0; k-- {
			v = v.times(point(i)).add(coefficients[k])
		}
		shares[i] = v.bytes()
	}
	clear(coefficients)
	clear(b[:])
	return shares, nil
}

// weights returns what the shares of these contributors are multiplied with so
// that they add up to the secret.
func weights(holders []int) []byte {
	w := make([]byte, len(holders))
	for i, a := range holders {
		above, below := byte(1), byte(1) // the product of X_b / (X_b - X_a)
		for j, b := range holders {
			if i != j {
				above, below = gfMul(above, point(b)), gfMul(below, point(a)^point(b))
			}
		}
		w[i] = gfMul(above, gfInverse(below))
	}
	return w
}

// combine returns the secret from shares and the weights of their holders.
func combine(shares [][secretSize]byte, w []byte) [secretSize]byte {
	var v fieldVec
	for i := range shares {
		v = v.add(loadField(&shares[i]).times(w[i]))
	}
	return v.bytes()
}
