package aeshash

import (
	"crypto/aes"
	mrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
)

func elements(r *mrand.Rand, n int) []gf128.Element {
	v := make([]gf128.Element, n)
	for i := range v {
		v[i] = gf128.Element{Lo: r.Uint64(), Hi: r.Uint64()}
	}
	return v
}

func randomKey(r *mrand.Rand) (k [KeySize]byte) {
	for i := range k {
		k[i] = byte(r.Uint32())
	}
	return k
}

// generic is the key that New makes where there is no AES-NI.
func generic(t testing.TB, key [KeySize]byte) *Key {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	return &Key{block: block}
}

// The key and the first block of FIPS 197, appendix C.1.
func TestFIPS197(t *testing.T) {
	var key, plain [16]byte
	for i := range key {
		key[i], plain[i] = byte(i), byte(i*17)
	}
	cipher := [16]byte{0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30, 0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a}
	x := []gf128.Element{gf128.FromBytes(plain)}
	want := gf128.FromBytes(cipher).Add(x[0])
	for name, k := range map[string]*Key{"this processor": New(key), "generic": generic(t, key)} {
		var y [1]gf128.Element
		k.Hash(y[:], x)
		if y[0] != want {
			t.Errorf("%s: %x, want %x", name, y[0].Bytes(), want.Bytes())
		}
	}
}

// Both implementations, at every length with the tails included, and in place.
func TestAgainstGeneric(t *testing.T) {
	r := mrand.New(mrand.NewPCG(1, 2))
	for n := range 37 {
		lk, rk := randomKey(r), randomKey(r)
		fast, slow := New(lk), generic(t, lk)
		src := elements(r, n)
		got, want := elements(r, n+1), make([]gf128.Element, n)
		guard := got[n]
		slow.Hash(want, src)
		fast.Hash(got[:n], src)
		if !slices.Equal(got[:n], want) || got[n] != guard {
			t.Fatalf("n = %d: hashes differ, or a write went past the end", n)
		}
		in := slices.Clone(src)
		fast.Hash(in, in)
		if !slices.Equal(in, want) {
			t.Fatalf("n = %d: hashing in place differs", n)
		}

		gotPair, wantPair := elements(r, 2*n+1), make([]gf128.Element, 2*n)
		guard = gotPair[2*n]
		start := [2]gf128.Element(elements(r, 2))
		gotSums, wantSums := start, start
		NewPair(slow, generic(t, rk)).Expand(wantPair, src, &wantSums)
		NewPair(fast, New(rk)).Expand(gotPair[:2*n], src, &gotSums)
		if !slices.Equal(gotPair[:2*n], wantPair) || gotSums != wantSums || gotPair[2*n] != guard {
			t.Fatalf("n = %d: expansions differ, or a write went past the end", n)
		}
		for i := range n {
			if wantPair[2*i] != want[i] {
				t.Fatalf("n = %d: the left half is not the hash under the left key", n)
			}
		}
	}
}

func TestHashTweaked(t *testing.T) {
	r := mrand.New(mrand.NewPCG(3, 4))
	key := randomKey(r)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	pi := func(x gf128.Element) gf128.Element {
		b := x.Bytes()
		block.Encrypt(b[:], b[:])
		return gf128.FromBytes(b)
	}
	const first = 1<<40 + 5
	for _, n := range []int{0, 1, 63, 64, 65, 200} {
		src := elements(r, n)
		got := slices.Clone(src)
		New(key).HashTweaked(got, got, first)
		for i, x := range src {
			p := pi(x)
			if want := pi(p.Add(gf128.Element{Lo: first + uint64(i)})).Add(p); got[i] != want {
				t.Fatalf("n = %d: element %d", n, i)
			}
		}
	}
}

func TestNamesMatter(t *testing.T) {
	x, a, b := []gf128.Element{{Lo: 1}}, make([]gf128.Element, 1), make([]gf128.Element, 1)
	Named("a").Hash(a, x)
	Named("b").Hash(b, x)
	if a[0] == b[0] {
		t.Error("two names, one key")
	}
}

func BenchmarkHash(b *testing.B) {
	k, v := Named("bench"), make([]gf128.Element, 4096)
	for b.Loop() {
		k.Hash(v, v)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4096, "ns/block")
}

func BenchmarkExpand(b *testing.B) {
	p, src, dst := NewPair(Named("l"), Named("r")), make([]gf128.Element, 4096), make([]gf128.Element, 8192)
	var sums [2]gf128.Element
	for b.Loop() {
		p.Expand(dst, src, &sums)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/8192, "ns/block")
}
