package tbgv

import (
	"crypto/rand"
	"io"
	"math/big"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/mpc/share"
)

// BenchmarkEncrypt reports the time of an encryption per value, and how many
// times longer the Paillier encryption below takes for counters of the same
// width, measured in the same run.
func BenchmarkEncrypt(b *testing.B) {
	for _, set := range []Set{Sum32, Sum32Wide, Sum64, Sum96} {
		b.Run(string(set), func(b *testing.B) {
			g := newGroup(b, testRand(b, 0), Params{Set: set, Parties: 3, Threshold: 3, Openings: 1})
			rnd := testRand(b, 1)
			words := rnd.Words(g.s.n, g.s.PlainBits())
			narrow, wide := make([]uint32, g.s.n), make([]uint64, g.s.n)
			for j, w := range words {
				narrow[j], wide[j] = uint32(w.Lo), w.Lo
			}
			k := paillierKey(b)
			begin, rounds := time.Now(), 0
			values := 0
			for ; time.Since(begin) < 100*time.Millisecond; rounds++ {
				_, n := k.encrypt(rnd, words, g.s.PlainBits())
				values += n
			}
			paillier := float64(time.Since(begin).Nanoseconds()) / float64(values)
			b.ResetTimer()
			for b.Loop() {
				var err error
				switch g.s.PlainBits() {
				case 32:
					_, err = g.s.EncryptNarrow(rnd, g.pk, narrow)
				case 64:
					_, err = g.s.EncryptWide(rnd, g.pk, wide)
				default:
					_, err = g.s.Encrypt(rnd, g.pk, words)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			each := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(g.s.n)
			b.ReportMetric(each, "ns/value")
			b.ReportMetric(paillier, "paillier-ns/value")
			b.ReportMetric(paillier/each, "times")
		})
	}
}

// BenchmarkPaillier encrypts a plaintext full of counters of 64 bits.
func BenchmarkPaillier(b *testing.B) {
	k := paillierKey(b)
	rnd := testRand(b, 0)
	words := rnd.Words(64, 64)
	var n int
	for b.Loop() {
		_, n = k.encrypt(rnd, words, 64)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/value")
	b.ReportMetric(float64(n), "values/plaintext")
}

// BenchmarkOperations measures every step of one party, of three.
func BenchmarkOperations(b *testing.B) {
	for _, p := range []Params{{Sum32, 3, 3, 1}, {Sum32, 3, 2, 1}, {Sum64, 3, 3, 1}, {Sum64, 3, 2, 1}, {Sum96, 3, 3, 1}} {
		name := string(p.Set)
		if p.Threshold < p.Parties {
			name += "/threshold"
		}
		rnd := testRand(b, 0)
		g := newGroup(b, rnd, p)
		s := g.s
		words := rnd.Words(s.n, s.PlainBits())
		active := all(p.Threshold)
		sum := g.sum(b, rnd, words, words, words)
		shares := g.open(b, rnd, sum, active)
		ct := must(s.Encrypt(rnd, g.pk, words))(b)
		frame, shareFrame, partFrame := ct.Marshal(), shares[0].Marshal(), g.parts[0].Marshal()
		cts := []*Ciphertext{must(s.ParseCiphertext(frame))(b), must(s.Encrypt(rnd, g.pk, words))(b), must(s.Encrypt(rnd, g.pk, words))(b)}
		op := func(what string, f func() error) {
			b.Run(name+"/"+what, func(b *testing.B) {
				for b.Loop() {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		op("generate", func() error { _, _, err := s.GenerateKey(rnd, g.crs); return err })
		op("combine", func() error { _, err := s.CombineKeys(g.crs, g.parts); return err })
		if s.threshold() {
			op("deal", func() error {
				sk := &Secret{s: s, secret: &secret{rows: s.newPoly()}}
				_, err := s.Deal(rnd, sk, 0)
				return err
			})
		}
		op("encrypt", func() error { _, err := s.Encrypt(rnd, g.pk, words); return err })
		op("marshal", func() error { ct.Marshal(); return nil })
		op("parse", func() error { _, err := s.ParseCiphertext(frame); return err })
		op("sum", func() error { _, err := s.Sum(cts); return err })
		op("share", func() error {
			clear(g.shares[0].seen)
			_, err := s.OpenShare(rnd, g.shares[0], 0, active, sum)
			return err
		})
		op("open", func() error { _, err := s.Open(sum, active, shares); return err })
		b.Logf("%s: bytes of a key part %d, a ciphertext %d, a share %d", name, len(partFrame), len(frame), len(shareFrame))
	}
}

// BenchmarkKeysToResult is everything three parties do for one vector, frames
// included, in one goroutine.
func BenchmarkKeysToResult(b *testing.B) {
	for _, threshold := range []int{3, 2} {
		for _, set := range []Set{Sum32, Sum64, Sum96} {
			b.Run(string(set)+"/"+string(rune('0'+threshold))+"-of-3", func(b *testing.B) {
				rnd := testRand(b, 0)
				words := rnd.Words(4096, 96)
				for b.Loop() {
					g := newGroup(b, rnd, Params{Set: set, Parties: 3, Threshold: threshold, Openings: 1})
					sum := g.sum(b, rnd, words, words, words)
					if _, err := g.s.Open(sum, all(threshold), g.open(b, rnd, sum, all(threshold))); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// paillier is the additively homomorphic scheme that this package is measured
// against, at its fastest with math/big: 2048 bits, g = 1 + n, a short exponent
// of 448 bits for the fixed base h = y^n (so that an encryption is one
// multiplication for every eight bits of it, from a table of 7 MB), and as many
// counters in a plaintext as fit, five bits of headroom each for 32 summands.
type paillier struct {
	n, n2, p, q *big.Int
	table       [448 / 8][256]*big.Int
}

var onePaillier *paillier

func paillierKey(t testing.TB) *paillier {
	if onePaillier != nil {
		return onePaillier
	}
	k := &paillier{p: must(rand.Prime(rand.Reader, 1024))(t), q: must(rand.Prime(rand.Reader, 1024))(t)}
	k.n = new(big.Int).Mul(k.p, k.q)
	k.n2 = new(big.Int).Mul(k.n, k.n)
	y := must(rand.Int(rand.Reader, k.n))(t)
	base := new(big.Int).Exp(y, k.n, k.n2)
	for i := range k.table {
		k.table[i][0] = big.NewInt(1)
		for d := 1; d < 256; d++ {
			x := new(big.Int).Mul(k.table[i][d-1], base)
			k.table[i][d] = x.Mod(x, k.n2)
		}
		last := new(big.Int).Mul(k.table[i][255], base)
		base = last.Mod(last, k.n2)
	}
	onePaillier = k
	return k
}

// encrypt encrypts as many of the counters as one plaintext holds.
func (k *paillier) encrypt(rnd io.Reader, words []share.Word, bits int) (*big.Int, int) {
	slot := uint(bits + 5)
	n := min(2047/int(slot), len(words))
	m := new(big.Int)
	for _, w := range words[:n] {
		m.Lsh(m, slot).Or(m, w.Mask(bits).Big())
	}
	c := m.Mul(m, k.n)
	c.Add(c, big.NewInt(1)) // (1+n)^m
	var r [448 / 8]byte
	_, _ = io.ReadFull(rnd, r[:])
	product := new(big.Int)
	for i, d := range r {
		product.Mul(c, k.table[i][d])
		c.Mod(product, k.n2)
	}
	return c, n
}

// decrypt gives the plaintext: L(c^λ mod n²)·λ⁻¹ mod n.
func (k *paillier) decrypt(c *big.Int) *big.Int {
	one := big.NewInt(1)
	lambda := new(big.Int).Mul(new(big.Int).Sub(k.p, one), new(big.Int).Sub(k.q, one))
	x := new(big.Int).Exp(c, lambda, k.n2)
	x.Sub(x, one).Div(x, k.n)
	return x.Mul(x, new(big.Int).ModInverse(lambda, k.n)).Mod(x, k.n)
}

// TestPaillierAddsUp keeps the comparison honest: what is measured is an
// encryption that adds and decrypts.
func TestPaillierAddsUp(t *testing.T) {
	k := paillierKey(t)
	rnd := testRand(t, 0)
	a, b := rnd.Words(40, 64), rnd.Words(40, 64)
	c, n := k.encrypt(rnd, a, 64)
	d, _ := k.encrypt(rnd, b, 64)
	if n < 25 {
		t.Fatalf("%d counters in a plaintext", n)
	}
	m := k.decrypt(new(big.Int).Mod(new(big.Int).Mul(c, d), k.n2))
	mask := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 69), big.NewInt(1))
	for i := n - 1; i >= 0; i-- {
		if want := new(big.Int).Add(a[i].Big(), b[i].Big()); new(big.Int).And(m, mask).Cmp(want) != 0 {
			t.Fatalf("counter %d", i)
		}
		m.Rsh(m, 69)
	}
}
