package share

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func gen() *rapid.Generator[Word] {
	edge := rapid.SampledFrom([]uint64{0, 1, 2, 1 << 63, 1<<63 - 1, math.MaxUint64, math.MaxUint64 - 1})
	u := rapid.OneOf(rapid.Uint64(), edge)
	return rapid.Custom(func(t *rapid.T) Word { return Word{u.Draw(t, "hi"), u.Draw(t, "lo")} })
}

func mod(b *big.Int, k int) *big.Int {
	return new(big.Int).Mod(b, new(big.Int).Lsh(big.NewInt(1), uint(k)))
}

// TestAgainstBig compares every operation with big.Int, edges included.
func TestAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := gen().Draw(t, "a"), gen().Draw(t, "b")
		x := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, -1, 0, 1})).Draw(t, "x")
		n := rapid.IntRange(0, 127).Draw(t, "n")
		k := rapid.IntRange(1, 128).Draw(t, "k")
		A, B, X := a.Big(), b.Big(), big.NewInt(x)
		signed := func(v *big.Int, bits int) *big.Int { // two's complement
			v = mod(v, bits)
			if v.Bit(bits-1) == 1 {
				v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(bits)))
			}
			return v
		}
		var z big.Int
		for name, c := range map[string]struct {
			got  Word
			want *big.Int
		}{
			"add":       {a.Add(b), z.Add(A, B)},
			"sub":       {a.Sub(b), new(big.Int).Sub(A, B)},
			"neg":       {a.Neg(), new(big.Int).Neg(A)},
			"mul":       {a.Mul(b), new(big.Int).Mul(A, B)},
			"mulint64":  {a.MulInt64(x), new(big.Int).Mul(A, X)},
			"fromint64": {FromInt64(x), X},
			"frombig":   {FromBig(new(big.Int).Sub(A, B)), new(big.Int).Sub(A, B)},
			"mask":      {a.Mask(k), mod(A, k)},
			"extend":    {a.Extend(k), signed(A, k)},
			"lsh":       {a.Lsh(n), new(big.Int).Lsh(A, uint(n))},
			"rsh":       {a.Rsh(n), new(big.Int).Rsh(A, uint(n))},
			"rshsigned": {a.RshSigned(n), new(big.Int).Rsh(signed(A, 128), uint(n))},
			"bit":       {FromUint64(a.Bit(n)), big.NewInt(int64(A.Bit(n)))},
		} {
			if c.got.Big().Cmp(mod(c.want, 128)) != 0 {
				t.Fatalf("%s(x %d, n %d, k %d) of %v and %v: got %v", name, x, n, k, A, B, c.got.Big())
			}
		}
		if a.Signed().Cmp(signed(A, 128)) != 0 {
			t.Fatalf("signed of %v is %v", A, a.Signed())
		}
	})
	if (Word{7, 7}).Mask(0) != (Word{}) || (Word{7, 7}).Mask(200) != (Word{7, 7}) {
		t.Error("masks beyond the ends")
	}
}

func TestShareDoesNotPrint(t *testing.T) {
	w := Word{1234567, 7654321}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		out := fmt.Sprintf(verb, struct{ W Word }{w})
		if bytes.Contains([]byte(out), []byte("234567")) || bytes.Contains([]byte(out), []byte("12d687")) {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}

// TestStream: one key, one stream, however it is read; keys differ, streams do.
func TestStream(t *testing.T) {
	key := [KeySize]byte{1}
	a, b := KeyedStream(&key), KeyedStream(&key)
	whole := make([]byte, 20000)
	a.Read(whole)
	var pieces []byte
	for n := 1; len(pieces) < len(whole); n = n*3 + 1 {
		p := make([]byte, min(n, len(whole)-len(pieces)))
		io.ReadFull(b, p)
		pieces = append(pieces, p...)
	}
	if !bytes.Equal(whole, pieces) {
		t.Error("reading in pieces changes the stream")
	}
	c, err := NewStream(bytes.NewReader(make([]byte, KeySize)))
	if err != nil {
		t.Fatal(err)
	}
	other := make([]byte, len(whole))
	c.Read(other)
	if bytes.Equal(whole[:16], other[:16]) {
		t.Error("keys do not matter")
	}
	if _, err := NewStream(bytes.NewReader(make([]byte, KeySize-1))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short key: %v", err)
	}
}

// TestWordsAreUniform: every bit of k is set half of the time (5.5 standard
// deviations), and none above.
func TestWordsAreUniform(t *testing.T) {
	const n = 1 << 14
	for _, k := range []int{1, 36, 64, 65, 104, 128} {
		s := KeyedStream(&[KeySize]byte{byte(k)})
		var count [128]int
		for _, w := range s.Words(n, k) {
			for i := range count {
				count[i] += int(w.Bit(i))
			}
		}
		for i, c := range count {
			if i >= k && c != 0 || i < k && math.Abs(float64(c)-n/2) > 5.5*64 {
				t.Errorf("k %d: bit %d is set %d times of %d", k, i, c, n)
			}
		}
	}
}

// TestBufferedAndBulkReadsDoNotOverlap mixes them and looks for repeats.
func TestBufferedAndBulkReadsDoNotOverlap(t *testing.T) {
	s := KeyedStream(&[KeySize]byte{9})
	seen := make(map[uint64]bool)
	note := func(v uint64) {
		if seen[v] {
			t.Fatal("the stream repeats")
		}
		seen[v] = true
	}
	p := make([]byte, 8*37)
	for range 200 {
		note(s.Uint64())
		s.Read(p[:3])
		s.Read(p)
		for i := 0; i < len(p); i += 8 {
			note(FromBig(new(big.Int).SetBytes(p[i : i+8])).Lo)
		}
	}
}
