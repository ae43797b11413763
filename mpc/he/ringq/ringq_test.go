package ringq

import (
	"bytes"
	"math/big"
	"math/rand/v2"
	"testing"
)

// primes of a small ring, of unequal lengths.
var moduli = []uint64{0x5a827999ec001, 0xfffffffffffc001, 0xffffffffc4001}

func open(t testing.TB) []Prime {
	t.Helper()
	p, err := Open(12, moduli)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mod(x *big.Int, q uint64) uint64 {
	return new(big.Int).Mod(x, new(big.Int).SetUint64(q)).Uint64()
}

// TestArithmetic compares with big.Int, extreme values first.
func TestArithmetic(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, p := range open(t) {
		for n := range 2000 {
			a, b := rng.Uint64N(p.Q), rng.Uint64N(p.Q)
			if n < 9 {
				a, b = []uint64{0, 1, p.Q - 1}[n%3], []uint64{0, 1, p.Q - 1}[n/3]
			}
			x, y := new(big.Int).SetUint64(a), new(big.Int).SetUint64(b)
			for what, c := range map[string][2]uint64{
				"add":    {p.Add(a, b), mod(new(big.Int).Add(x, y), p.Q)},
				"sub":    {p.Sub(a, b), mod(new(big.Int).Sub(x, y), p.Q)},
				"mul":    {p.Mul(a, p.Form(b)), mod(new(big.Int).Mul(x, y), p.Q)},
				"form":   {p.Form(a), mod(new(big.Int).Lsh(x, 64), p.Q)},
				"signed": {p.Signed(-int64(a % (1 << 40))), mod(big.NewInt(-int64(a%(1<<40))), p.Q)},
			} {
				if c[0] != c[1] {
					t.Fatalf("%s of %d and %d modulo %d: %d instead of %d", what, a, b, p.Q, c[0], c[1])
				}
			}
			if a != 0 && p.Mul(a, p.Form(Inverse(a, p.Q))) != 1 {
				t.Fatal("inverse")
			}
		}
		if Inverse(0, p.Q) != 0 || Inverse(p.Q, p.Q) != 0 {
			t.Error("the inverse of 0")
		}
	}
}

// TestDropLast divides by the last prime, rounding to the nearest.
func TestDropLast(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	primes := open(t)
	product, last := big.NewInt(1), new(big.Int).SetUint64(moduli[2])
	for _, q := range moduli {
		product.Mul(product, new(big.Int).SetUint64(q))
	}
	inv := []uint64{primes[0].Form(Inverse(moduli[2], moduli[0])), primes[1].Form(Inverse(moduli[2], moduli[1]))}
	const n = 500
	rows := NewPoly(3, n)
	values := make([]*big.Int, n)
	for j := range values {
		v := new(big.Int)
		for range 3 {
			v.Lsh(v, 60).Or(v, new(big.Int).SetUint64(rng.Uint64()>>4))
		}
		values[j] = v.Mod(v, product)
		if j < 4 { // around the half of the last prime
			values[j].SetUint64(moduli[2]/2 - 1 + uint64(j))
		}
		for i, q := range moduli {
			rows[i][j] = mod(values[j], q)
		}
	}
	DropLast(primes, rows, inv)
	half := new(big.Int).Rsh(last, 1)
	for j, v := range values {
		want := new(big.Int).Add(v, half)
		want.Div(want, last)
		for i, q := range moduli[:2] {
			if rows[i][j] != mod(want, q) {
				t.Fatalf("%v: residue %d is %d", v, i, rows[i][j])
			}
		}
	}
}

// TestPackedRows: any number of residues of any length come back, from bytes
// that end with them or not, and from no other bytes.
func TestPackedRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for bits := 1; bits <= 61; bits++ {
		p := Prime{Q: 1<<bits - 1}
		for _, n := range []int{1, 2, 3, 7, 8, 9, 63, 64, 65, 200} {
			row := make([]uint64, n)
			for j := range row {
				row[j] = rng.Uint64N(p.Q)
			}
			b := Pack([]byte{7}, row, bits)[1:]
			if len(b) != RowSize(n, bits) {
				t.Fatalf("%d residues of %d bits take %d bytes", n, bits, len(b))
			}
			got := make([]uint64, n)
			rest, fault := p.Unpack(got, append(bytes.Clone(b), 0xff, 0xff), bits)
			if fault != nil || len(rest) != 2 || !bytes.Equal(Pack(nil, got, bits), b) {
				t.Fatalf("%d residues of %d bits do not come back", n, bits)
			}
			for j := range row {
				if got[j] != row[j] {
					t.Fatalf("residue %d of %d bits", j, bits)
				}
			}
			if spare := 8*len(b) - n*bits; spare > 0 {
				b[len(b)-1] |= 0x80
				if _, fault := p.Unpack(got, b, bits); fault == nil {
					t.Fatalf("%d residues of %d bits: a spare bit is accepted", n, bits)
				}
			}
			row[n-1] = p.Q
			if _, fault := p.Unpack(got, Pack(nil, row, bits), bits); fault == nil {
				t.Fatalf("%d residues of %d bits: the modulus itself is accepted", n, bits)
			}
		}
	}
}

// FuzzHeader: a header that passes is the one expected.
func FuzzHeader(f *testing.F) {
	h := Header{Kind: 3, Set: 9, LogN: 12, Rows: 2, Bits: 51, Aux: 770}
	f.Add(h.Append(nil))
	f.Add(append(h.Append(nil), 1, 2, 3))
	f.Add([]byte{1, 3, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		rest, fault := h.Open(b, "thing", len(b))
		if (fault == nil) != bytes.HasPrefix(b, h.Append(nil)) || fault == nil && len(rest) != len(b)-HeaderSize {
			t.Fatalf("%x: %v", b, fault)
		}
		if _, fault := h.Open(b, "thing", len(b)+1); fault == nil {
			t.Fatal("a wrong length passes")
		}
	})
}

func TestOpenRefusesNonsense(t *testing.T) {
	for _, q := range [][]uint64{{15}, {0x5a827999ec001 + 2}, nil} {
		if _, err := Open(12, q); err == nil {
			t.Errorf("moduli %v are accepted", q)
		}
	}
}
