package gf128

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/bits"
	mrand "math/rand/v2"
	"testing"
)

// oracle is the field by its definition, on big integers.
var modulus = func() *big.Int {
	m := big.NewInt(0x87)
	return m.SetBit(m, 128, 1)
}()

func oracleMul(a, b Element) Element {
	x, y, z := toBig(a), toBig(b), new(big.Int)
	for i := range 128 {
		if y.Bit(i) == 1 {
			z.Xor(z, new(big.Int).Lsh(x, uint(i)))
		}
	}
	for i := 254; i >= 128; i-- {
		if z.Bit(i) == 1 {
			z.Xor(z, new(big.Int).Lsh(modulus, uint(i-128)))
		}
	}
	mask := new(big.Int).SetUint64(^uint64(0))
	return Element{new(big.Int).And(z, mask).Uint64(), new(big.Int).Rsh(z, 64).Uint64()}
}

func toBig(a Element) *big.Int {
	b := new(big.Int).SetUint64(a.Hi)
	return b.Lsh(b, 64).Or(b, new(big.Int).SetUint64(a.Lo))
}

func source(seed uint64) *mrand.Rand { return mrand.New(mrand.NewPCG(seed, 128)) }

// draw returns an element that lies at an edge more often than by chance.
func draw(r *mrand.Rand) Element {
	word := func() uint64 {
		switch r.IntN(6) {
		case 0:
			return 0
		case 1:
			return ^uint64(0)
		case 2:
			return 1 << r.IntN(64)
		}
		return r.Uint64()
	}
	return Element{word(), word()}
}

func draws(r *mrand.Rand, n int) []Element {
	v := make([]Element, n)
	for i := range v {
		v[i] = draw(r)
	}
	return v
}

// gcm reads an element as GCM writes it: the bit of X^0 is the first of the
// first byte.
func gcm(t *testing.T, s string) Element {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != Size {
		t.Fatalf("%q: %v", s, err)
	}
	for i := range b {
		b[i] = bits.Reverse8(b[i])
	}
	return FromBytes([Size]byte(b))
}

// Test cases 2 and 3 of the GCM specification (McGrew and Viega, appendix B):
// each X_i is (X_(i-1) + C_i)·H.
func TestGCMVectors(t *testing.T) {
	for _, c := range []struct {
		h      string
		blocks []string // C_1, C_2, …, and the lengths at last
		want   []string // X_1, X_2, …, and GHASH
	}{
		{
			"66e94bd4ef8a2c3b884cfa59ca342b2e",
			[]string{"0388dace60b6a392f328c2b971b2fe78", "00000000000000000000000000000080"},
			[]string{"5e2ec746917062882c85b0685353deb7", "f38cbb1ad69223dcc3457ae5b6b0f885"},
		},
		{
			"b83b533708bf535d0aa6e52980d53b78",
			[]string{"42831ec2217774244b7221b784d0d49c", "e3aa212f2c02a4e035c17e2329aca12e", "21d514b25466931c7d8f6a5aac84aa05", "1ba30b396a0aac973d58e091473f5985", "00000000000000000000000000000200"},
			[]string{"59ed3f2bb1a0aaa07c9f56c6a504647b", "b714c9048389afd9f9bc5c1d4378e052", "47400c6577b1ee8d8f40b2721e86ff10", "4796cf49464704b5dd91f159bb1b7f95", "7f1b32b81b820d02614f8895ac1d4eac"},
		},
	} {
		h, x := gcm(t, c.h), Element{}
		for i, b := range c.blocks {
			x = x.Add(gcm(t, b)).Mul(h)
			if x != gcm(t, c.want[i]) {
				t.Errorf("H = %s: X_%d is %x", c.h, i+1, x.Bytes())
			}
		}
	}
}

func TestMulAgainstOracle(t *testing.T) {
	r := source(1)
	for range 3000 {
		a, b := draw(r), draw(r)
		want := oracleMul(a, b)
		if got := a.Mul(b); got != want {
			t.Fatalf("%x · %x = %x, want %x", a.Bytes(), b.Bytes(), got.Bytes(), want.Bytes())
		}
		if got := mulGeneric(a, b); got != want {
			t.Fatalf("generic: %x · %x = %x, want %x", a.Bytes(), b.Bytes(), got.Bytes(), want.Bytes())
		}
		if a.Square() != a.Mul(a) || a.MulX() != a.Mul(Element{Lo: 2}) {
			t.Fatalf("square or product by X of %x", a.Bytes())
		}
	}
}

func TestInverse(t *testing.T) {
	r := source(2)
	for range 200 {
		if a := draw(r); !a.IsZero() && a.Mul(a.Inverse()) != One {
			t.Fatalf("inverse of %x", a.Bytes())
		}
	}
	if !(Element{}).Inverse().IsZero() || One.Inverse() != One {
		t.Error("inverses of 0 and 1")
	}
}

// Slices agree with single elements at every length, the assembly's tails
// included, and write nothing past their end.
func TestSlices(t *testing.T) {
	r := source(3)
	for n := range 19 {
		dst, a, b := draws(r, n+1), draws(r, n), draws(r, n)
		s, h, d := draw(r), make([]uint64, n), [3]Element(draws(r, 3))
		for i := range h {
			h[i] = draw(r).Lo
		}
		run := func(f func(dst []Element), want func(i int) Element) {
			t.Helper()
			got := append([]Element(nil), dst...)
			f(got[:n])
			for i := range n {
				if got[i] != dst[i].Add(want(i)) {
					t.Fatalf("n = %d: element %d", n, i)
				}
			}
			if got[n] != dst[n] {
				t.Fatalf("n = %d: wrote past the end", n)
			}
		}
		run(func(x []Element) { Add(x, a) }, func(i int) Element { return a[i] })
		mulAddWant := func(i int) Element { return oracleMul(a[i], s) }
		run(func(x []Element) { MulAdd(x, a, s) }, mulAddWant)
		run(func(x []Element) { mulAddGeneric(x, a, s) }, mulAddWant)
		cubic := func(i int) Element {
			x := Element{Lo: h[i]}
			x2 := oracleMul(x, x)
			return oracleMul(x, d[0]).Add(oracleMul(x2, d[1])).Add(oracleMul(oracleMul(x2, x), d[2]))
		}
		run(func(x []Element) { AddCubic(x, h, &d) }, cubic)
		run(func(x []Element) { addCubicGeneric(x, h, &d) }, cubic)

		var sum, inner, sumX Element
		power := One
		for i := range n {
			sum = sum.Add(a[i])
			inner = inner.Add(oracleMul(a[i], b[i]))
			sumX = sumX.Add(oracleMul(a[i], power))
			power = power.MulX()
		}
		if Sum(a) != sum || InnerProduct(a, b) != inner || SumX(a) != sumX {
			t.Fatalf("n = %d: sums", n)
		}
		in := append([]Element(nil), a...)
		MulAdd(in, in, s)
		for i := range in {
			if in[i] != oracleMul(a[i], s.Add(One)) {
				t.Fatalf("n = %d: MulAdd of a slice to itself", n)
			}
		}
		back := make([]Element, n)
		Load(back, AppendBytes([]byte{9}, a)[1:])
		for i := range back {
			if back[i] != a[i] || FromBytes(a[i].Bytes()) != a[i] {
				t.Fatalf("n = %d: encoding of element %d", n, i)
			}
		}
	}
}

func TestBits(t *testing.T) {
	a := draw(source(4))
	for i := range 128 {
		if a.Bit(i) != uint64(toBig(a).Bit(i)) {
			t.Fatalf("bit %d", i)
		}
	}
}

func TestRandom(t *testing.T) {
	raw := make([]byte, 1000*Size)
	r := source(5)
	for i := range raw {
		raw[i] = byte(r.Uint32())
	}
	v := make([]Element, 1000)
	if err := Random(bytes.NewReader(raw), v); err != nil || !bytes.Equal(AppendBytes(nil, v), raw) {
		t.Errorf("not the bytes of the source: %v", err)
	}
	if err := Random(bytes.NewReader(raw[1:]), v); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short source: %v", err)
	}
}

func TestElementDoesNotPrint(t *testing.T) {
	a := Element{1234567, 7654321}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		out := fmt.Sprintf(verb, struct{ A Element }{a})
		if bytes.Contains([]byte(out), []byte("234567")) || bytes.Contains([]byte(out), []byte("12d687")) {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}

func FuzzMul(f *testing.F) {
	f.Add(uint64(1), uint64(0), uint64(0), ^uint64(0))
	f.Fuzz(func(t *testing.T, a, b, c, d uint64) {
		x, y := Element{a, b}, Element{c, d}
		if x.Mul(y) != mulGeneric(x, y) || x.Mul(y) != oracleMul(x, y) {
			t.Fatal("the products differ")
		}
	})
}

func BenchmarkMul(b *testing.B) {
	x := draw(source(6))
	y := x
	for b.Loop() {
		y = y.Mul(x)
	}
}

func BenchmarkMulGeneric(b *testing.B) {
	x := draw(source(6))
	y := x
	for b.Loop() {
		y = mulGeneric(y, x)
	}
}

func benchSlice(b *testing.B, f func(dst, a []Element, h []uint64)) {
	dst, a, h := make([]Element, 4096), draws(source(7), 4096), make([]uint64, 4096)
	for b.Loop() {
		f(dst, a, h)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4096, "ns/element")
}

func BenchmarkMulAdd(b *testing.B) {
	benchSlice(b, func(dst, a []Element, _ []uint64) { MulAdd(dst, a, a[0]) })
}

func BenchmarkAddCubic(b *testing.B) {
	benchSlice(b, func(dst, a []Element, h []uint64) { AddCubic(dst, h, (*[3]Element)(a)) })
}

func BenchmarkSumX(b *testing.B) {
	benchSlice(b, func(_, a []Element, _ []uint64) { SumX(a) })
}
