package curve25519

import (
	"errors"
	"math/big"
	mrand "math/rand/v2"
	"slices"
	"testing"
)

func bigOf(little []byte) *big.Int {
	b := slices.Clone(little)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

func bigOrder() *big.Int {
	l, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
	return l.Add(l, new(big.Int).Lsh(big.NewInt(1), 252))
}

// The inverse is one up to its sign, has a scalar's form, and undoes Mul.
func TestInverse(t *testing.T) {
	l := bigOrder()
	minusOne := new(big.Int).Sub(l, big.NewInt(1))
	rng := mrand.NewChaCha8([32]byte{5})
	h, err := NewHasher("test of the inverse")
	if err != nil {
		t.Fatal(err)
	}
	var us [3]FieldElement
	for i := range us {
		h.HashToField(&us[i], []byte{byte(i)})
	}
	points := make([]Point, len(us))
	MapToCurve(points, us[:])
	cofactor, err := NewScalar(rng)
	if err != nil {
		t.Fatal(err)
	}
	cofactor.Mul(points, points) // into the group of prime order
	negated := 0
	for range 200 {
		s, err := NewScalar(rng)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := s.Inverse()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseScalar(inv.Bytes().Reveal()); err != nil {
			t.Fatalf("the inverse has not the form of a scalar")
		}
		p := new(big.Int).Mul(bigOf(s.Bytes().Reveal()), bigOf(inv.Bytes().Reveal()))
		switch p.Mod(p, l); {
		case p.Cmp(minusOne) == 0:
			negated++
		case p.Cmp(big.NewInt(1)) != 0:
			t.Fatalf("the product is %v", p)
		}
		got := make([]Point, len(points))
		s.Mul(got, points)
		if slices.Equal(got, points) {
			t.Fatal("Mul changed nothing")
		}
		inv.Mul(got, got)
		if !slices.Equal(got, points) {
			t.Fatal("the inverse does not undo Mul")
		}
	}
	if negated < 50 || negated > 150 {
		t.Errorf("%d of 200 inverses were negated", negated)
	}
}

// Arithmetic modulo the order, at its edges and at random, against math/big.
func TestModOrder(t *testing.T) {
	l := bigOrder()
	toBig := func(x limbs) *big.Int {
		z := new(big.Int)
		for i := 3; i >= 0; i-- {
			z.Or(z.Lsh(z, 64), new(big.Int).SetUint64(x[i]))
		}
		return z
	}
	if toBig(order).Cmp(l) != 0 {
		t.Fatal("the order is another")
	}
	rng := mrand.New(mrand.NewPCG(1, 2))
	xs := []limbs{{}, {1}, {2}, order, sub(order, limbs{1}), mulSmall(order, 8), {^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}}
	for range 50 {
		xs = append(xs, limbs{rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64()})
	}
	r := new(big.Int).ModInverse(new(big.Int).Lsh(big.NewInt(1), 256), l)
	for _, x := range xs {
		for _, y := range xs {
			if y = reduceBig(toBig(y), l); toBig(y).Cmp(l) >= 0 {
				t.Fatal("the test does not reduce")
			}
			want := new(big.Int).Mul(toBig(x), toBig(y))
			want.Mod(want.Mul(want, r), l)
			if got := toBig(montMul(x, y)); got.Cmp(want) != 0 {
				t.Fatalf("%x times %x is %x", x, y, got)
			}
		}
		want := new(big.Int).ModInverse(new(big.Int).Mod(toBig(x), l), l)
		if want == nil {
			want = new(big.Int)
		}
		if got := toBig(invertModOrder(x)); got.Cmp(want) != 0 {
			t.Fatalf("1/%x is %x", x, got)
		}
	}
}

func reduceBig(x, l *big.Int) (z limbs) {
	x = new(big.Int).Mod(x, l)
	for i := range z {
		z[i] = new(big.Int).Rsh(x, uint(64*i)).Uint64()
	}
	return z
}

func TestParseScalar(t *testing.T) {
	s, err := NewScalar(mrand.NewChaCha8([32]byte{6}))
	if err != nil {
		t.Fatal(err)
	}
	good := s.Bytes().Reveal()
	same, err := ParseScalar(good)
	if err != nil || !same.Bytes().Equal(good) {
		t.Fatalf("a scalar does not survive: %v", err)
	}
	change := func(i int, f func(byte) byte) []byte {
		b := slices.Clone(good)
		b[i] = f(b[i])
		return b
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "short": good[:31], "long": append(slices.Clone(good), 0),
		"no multiple of 8": change(0, func(c byte) byte { return c | 1 }),
		"below 2^254":      change(31, func(c byte) byte { return c &^ 0x40 }),
		"above 2^255":      change(31, func(c byte) byte { return c | 0x80 }),
	} {
		if _, err := ParseScalar(b); !errors.Is(err, ErrScalar) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
