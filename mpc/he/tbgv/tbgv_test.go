package tbgv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// testRand is reproducible randomness for one test.
func testRand(t testing.TB, salt byte) *share.Stream {
	var key [share.KeySize]byte
	copy(key[:], t.Name())
	key[share.KeySize-1] = salt
	return share.KeyedStream(&key)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// group is all contributors of one key.
type group struct {
	s       *Scheme
	crs     [32]byte
	secrets []*Secret
	parts   []*KeyPart
	pk      *PublicKey
	shares  []*KeyShare
}

// newGroup makes keys, everything that travels passing through its frame.
func newGroup(t testing.TB, rand io.Reader, p Params) *group {
	t.Helper()
	g := &group{s: must(New(p))(t), crs: [32]byte{1, 2, 3}}
	n := p.Parties
	for range n {
		sk, part, err := g.s.GenerateKey(rand, g.crs)
		if err != nil {
			t.Fatal(err)
		}
		g.secrets = append(g.secrets, sk)
		g.parts = append(g.parts, must(g.s.ParseKeyPart(part.Marshal()))(t))
	}
	g.pk = must(g.s.CombineKeys(g.crs, g.parts))(t)
	if p.Threshold == n {
		for _, sk := range g.secrets {
			g.shares = append(g.shares, must(sk.Share())(t))
		}
		return g
	}
	got := make([][]*Piece, n)
	for from, sk := range g.secrets {
		for to, piece := range must(g.s.Deal(rand, sk, from))(t) {
			got[to] = append(got[to], must(g.s.ParsePiece(piece.Marshal(), from, to))(t))
		}
	}
	for i, sk := range g.secrets {
		g.shares = append(g.shares, must(g.s.Collect(sk, i, got[i]))(t))
	}
	return g
}

// sum encrypts one vector per contributor and adds them.
func (g *group) sum(t testing.TB, rand io.Reader, vectors ...[]share.Word) *Ciphertext {
	t.Helper()
	var cts []*Ciphertext
	for _, v := range vectors {
		ct := must(g.s.Encrypt(rand, g.pk, v))(t)
		cts = append(cts, must(g.s.ParseCiphertext(ct.Marshal()))(t))
	}
	return must(g.s.Sum(cts))(t)
}

// open makes shares of the active contributors.
func (g *group) open(t testing.TB, rand io.Reader, sum *Ciphertext, active []int) []*Share {
	t.Helper()
	var shares []*Share
	for _, i := range active {
		sh := must(g.s.OpenShare(rand, g.shares[i], i, active, sum))(t)
		shares = append(shares, must(g.s.ParseShare(sh.Marshal(), i))(t))
	}
	return shares
}

func all(n int) []int {
	a := make([]int, n)
	for i := range a {
		a[i] = i
	}
	return a
}

// want adds vectors with big.Int and reduces modulo t.
func want(s *Scheme, vectors ...[]share.Word) []*big.Int {
	t := new(big.Int).Lsh(big.NewInt(1), uint(s.PlainBits()))
	out := make([]*big.Int, s.Slots())
	for j := range out {
		out[j] = new(big.Int)
		for _, v := range vectors {
			if j < len(v) {
				out[j].Add(out[j], v[j].Big())
			}
		}
		out[j].Mod(out[j], t)
	}
	return out
}

func check(t testing.TB, s *Scheme, got []share.Word, vectors ...[]share.Word) {
	t.Helper()
	for j, w := range want(s, vectors...) {
		if got[j].Big().Cmp(w) != 0 {
			t.Fatalf("%s: value %d is %v instead of %v", s.Set(), j, got[j].Big(), w)
		}
	}
}

// TestSumsAreExact: at the boundaries of t, for negative sums, random ones and
// ones that wrap, at the fewest and the most contributors of every set.
func TestSumsAreExact(t *testing.T) {
	for _, c := range []struct {
		set     Set
		parties int
	}{{Sum32, 2}, {Sum32, 3}, {Sum32Wide, 5}, {Sum64, 3}, {Sum96, 3}, {Sum32, 32}, {Sum64, 32}, {Sum96, 32}} {
		rnd := testRand(t, byte(c.parties))
		g := newGroup(t, rnd, Params{Set: c.set, Parties: c.parties, Threshold: c.parties, Openings: 1})
		k := g.s.PlainBits()
		half := share.FromUint64(1).Lsh(k - 1) // t/2
		one := share.FromUint64(1)
		vectors := make([][]share.Word, c.parties)
		for i := range vectors {
			v := make([]share.Word, g.s.Slots())
			for j := range v {
				v[j] = rnd.Word(128) // beyond t: taken modulo t
			}
			first := func(x, y share.Word) share.Word {
				if i == 0 {
					return x
				}
				return y
			}
			v[0] = first(half.Sub(one), share.Word{})               // t/2 - 1
			v[1] = first(half, share.Word{})                        // t/2, which reads as -t/2
			v[2] = first(half.Sub(one), first(one, share.Word{}))   // the same with a carry
			v[3] = share.FromInt64(-1 - int64(i))                   // negative
			v[4] = first(share.FromInt64(5), share.FromInt64(-900)) // mixed
			v[5] = half                                             // all extreme
			v[6] = half.Sub(one)
			v[7] = share.FromInt64(-1)
			v[8] = share.Word{}
			vectors[i] = v
		}
		vectors[1] = vectors[1][:g.s.Slots()-7] // a short vector
		sum := g.sum(t, rnd, vectors...)
		got := must(g.s.Open(sum, all(c.parties), g.open(t, rnd, sum, all(c.parties))))(t)
		check(t, g.s, got, vectors...)
	}
}

// TestTypedVariants agree with Encrypt and Open, and are for their set alone.
func TestTypedVariants(t *testing.T) {
	rnd := testRand(t, 0)
	g := newGroup(t, rnd, Params{Set: Sum32, Parties: 2, Threshold: 2, Openings: 1})
	a, b := make([]uint32, g.s.Slots()), []uint32{1 << 31, 1<<32 - 1, 7}
	for j := range a {
		a[j] = uint32(rnd.Uint64())
	}
	sum := must(g.s.Sum([]*Ciphertext{must(g.s.EncryptNarrow(rnd, g.pk, a))(t), must(g.s.EncryptNarrow(rnd, g.pk, b))(t)}))(t)
	shares := g.open(t, rnd, sum, all(2))
	got := must(g.s.OpenNarrow(sum, all(2), shares))(t)
	for j, w := range must(g.s.Open(sum, all(2), shares))(t) {
		x := a[j]
		if j < len(b) {
			x += b[j]
		}
		if got[j] != x || w != share.FromUint64(uint64(x)) {
			t.Fatalf("value %d is %d instead of %d", j, got[j], x)
		}
	}
	if _, err := g.s.EncryptWide(rnd, g.pk, nil); !errors.Is(err, ErrParam) {
		t.Error(err)
	}
	if _, err := g.s.OpenWide(sum, all(2), shares); !errors.Is(err, ErrParam) {
		t.Error(err)
	}

	w := newGroup(t, rnd, Params{Set: Sum64, Parties: 2, Threshold: 2, Openings: 1})
	c, d := make([]uint64, w.s.Slots()), []uint64{1 << 63, 1<<64 - 1, 7}
	for j := range c {
		c[j] = rnd.Uint64()
	}
	sum = must(w.s.Sum([]*Ciphertext{must(w.s.EncryptWide(rnd, w.pk, c))(t), must(w.s.EncryptWide(rnd, w.pk, d))(t)}))(t)
	wide := must(w.s.OpenWide(sum, all(2), w.open(t, rnd, sum, all(2))))(t)
	for j, v := range wide {
		x := c[j]
		if j < len(d) {
			x += d[j]
		}
		if v != x {
			t.Fatalf("value %d is %d instead of %d", j, v, x)
		}
	}
	if _, err := w.s.EncryptNarrow(rnd, w.pk, nil); !errors.Is(err, ErrParam) {
		t.Error(err)
	}
	if _, err := w.s.OpenNarrow(sum, all(2), nil); !errors.Is(err, ErrParam) {
		t.Error(err)
	}
}

// TestEveryActiveSetOpens: for all thresholds and all sets of active
// contributors of small groups, and no smaller ones.
func TestEveryActiveSetOpens(t *testing.T) {
	for n := 2; n <= 5; n++ {
		for threshold := 2; threshold <= n; threshold++ {
			rnd := testRand(t, byte(16*n+threshold))
			g := newGroup(t, rnd, Params{Set: Sum32, Parties: n, Threshold: threshold, Openings: 1 << n})
			for mask := 1; mask < 1<<n; mask++ {
				var active []int
				for i := range n {
					if mask>>i&1 == 1 {
						active = append(active, i)
					}
				}
				v := []share.Word{share.FromInt64(int64(mask)), share.FromInt64(-9)}
				sum := g.sum(t, rnd, v, v)
				if bits.OnesCount(uint(mask)) < threshold {
					if _, err := g.s.OpenShare(rnd, g.shares[active[0]], active[0], active, sum); !errors.Is(err, ErrInput) {
						t.Errorf("%d of %d, threshold %d: %v", len(active), n, threshold, err)
					}
					continue
				}
				check(t, g.s, must(g.s.Open(sum, active, g.open(t, rnd, sum, active)))(t), v, v)
			}
		}
	}
}

// TestSomeContributorsDataOnly: those who open need not be those who gave data.
func TestSomeContributorsDataOnly(t *testing.T) {
	rnd := testRand(t, 0)
	g := newGroup(t, rnd, Params{Set: Sum64, Parties: 4, Threshold: 3, Openings: 1})
	v := []share.Word{share.FromInt64(4), share.FromInt64(-5)}
	sum := g.sum(t, rnd, v, v) // of two
	check(t, g.s, must(g.s.Open(sum, []int{0, 2, 3}, g.open(t, rnd, sum, []int{0, 2, 3})))(t), v, v)
}

func refuse(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func TestParameters(t *testing.T) {
	for what, p := range map[string]Params{
		"no set":       {"", 3, 3, 1},
		"unknown":      {"sum32.v2", 3, 3, 1},
		"he's set":     {"forward36.v1", 3, 3, 1},
		"no parties":   {Sum32, 0, 0, 1},
		"one":          {Sum32, 1, 1, 1},
		"33":           {Sum32, 33, 33, 1},
		"threshold 1":  {Sum32, 3, 1, 1},
		"threshold 4":  {Sum32, 3, 4, 1},
		"no openings":  {Sum32, 3, 3, 0},
		"negative":     {Sum32, 3, 3, -1},
		"many":         {Sum96, 32, 32, 1 << 9},
		"many, narrow": {Sum32, 32, 32, 1 << 14},
	} {
		_, err := New(p)
		want := ErrInput
		switch what {
		case "no set", "unknown", "he's set":
			want = ErrParam
		case "many", "many, narrow":
			want = ErrFlood
		}
		refuse(t, what, err, want)
	}
	for _, c := range []struct {
		p    Params
		want Set
	}{
		{Params{Sum32, 3, 3, 1}, Sum32},
		{Params{Sum32, 3, 2, 2}, Sum32},
		{Params{Sum32, 3, 3, 3}, Sum32Wide},
		{Params{Sum32, 4, 4, 1}, Sum32},
		{Params{Sum32, 5, 5, 1}, Sum32Wide},
		{Params{Sum32, 32, 32, 1 << 12}, Sum32Wide},
		{Params{Sum32Wide, 3, 3, 1}, Sum32Wide},
		{Params{Sum64, 32, 20, 1 << 14}, Sum64},
		{Params{Sum96, 32, 20, 1 << 7}, Sum96},
	} {
		s, err := New(c.p)
		if err != nil {
			t.Errorf("%v: %v", c.p, err)
			continue
		}
		if s.Set() != c.want || s.Params().Set != c.want {
			t.Errorf("%v: took %s instead of %s", c.p, s.Set(), c.want)
		}
		b := s.Budget()
		if b.Hiding < HidingBits || b.Margin < MinMargin || b.Flood > 128 {
			t.Errorf("%v: %+v", c.p, b)
		}
	}
}

// TestAllowList holds every set to what its name and the security bound say.
func TestAllowList(t *testing.T) {
	codes := map[byte]bool{}
	for id, st := range sets {
		if id != st.name || codes[st.code] {
			t.Errorf("%s: name or code", id)
		}
		codes[st.code] = true
		if logQ := logProduct(st.q); logQ > MaxLogQ(st.logN) {
			t.Errorf("%s: log Q %.2f", id, logQ)
		}
		if len(st.q) > maxRows || st.keep < 1 || st.keep > 2 || st.keep >= len(st.q) {
			t.Errorf("%s: %d primes, %d kept", id, len(st.q), st.keep)
		}
		for i, q := range st.q {
			b := new(big.Int).SetUint64(q)
			if !b.ProbablyPrime(40) || q%(2<<st.logN) != 1 || bits.Len64(q) != st.qbits || slices.Contains(st.q[:i], q) {
				t.Errorf("%s: prime %d", id, i)
			}
		}
		if st.wider != "" && sets[st.wider].tbits != st.tbits {
			t.Errorf("%s: the wider set has another t", id)
		}
	}
	if MaxLogQ(11) != 0 {
		t.Error("a bound for a ring that has no set")
	}
}

// TestBudgetHolds: the largest flooding that any share can hold does not spoil
// a sum, and what New calls the noise bounds what is measured by far enough.
func TestBudgetHolds(t *testing.T) {
	for _, p := range []Params{{Sum32, 3, 3, 2}, {Sum32, 4, 4, 1}, {Sum32, 32, 32, 4}, {Sum64, 32, 32, 4}, {Sum96, 32, 32, 4}} {
		rnd := testRand(t, byte(p.Parties))
		g := newGroup(t, rnd, p)
		half := share.FromUint64(1).Lsh(g.s.PlainBits() - 1)
		vectors := make([][]share.Word, p.Parties)
		for i := range vectors {
			vectors[i] = slices.Repeat([]share.Word{half}, g.s.Slots())
		}
		sum := g.sum(t, rnd, vectors...)

		// The noise: c0 + c1·s - t⁻¹·Σm, without flooding.
		l := &g.s.limbs[0]
		row := slices.Clone(sum.c1[0])
		for j := range row {
			var s uint64
			for _, ks := range g.shares {
				s = l.Add(s, ks.sM[0][j])
			}
			row[j] = l.Mul(row[j], s)
		}
		l.INTT(row)
		var largest uint64
		for j := range row {
			x := l.Add(row[j], sum.c0[0][j])
			for range p.Parties {
				x = l.Sub(x, l.put(0, half, 1))
			}
			largest = max(largest, min(x, l.Q-x))
		}
		bound := new(big.Float).SetFloat64(g.s.set.noise(p.Parties))
		if b, _ := bound.Uint64(); largest >= b || largest < b/8 {
			t.Errorf("%v: noise up to %d, the bound is %d", p, largest, b)
		}

		// Extreme flooding: every party's coefficients at an end of the range.
		active := all(p.Parties)
		shares := g.open(t, rnd, sum, active)
		for _, top := range []bool{false, true} {
			for i := range shares {
				d := g.s.newPoly()
				for r := range d {
					l := &g.s.limbs[r]
					for j, v := range sum.c1[r] {
						d[r][j] = l.Mul(v, g.shares[i].sM[r][j])
					}
					l.INTT(d[r])
					for j, v := range d[r] {
						d[r][j] = l.Sub(v, l.floodHalf)
						if top {
							d[r][j] = l.Sub(l.Add(v, l.floodHalf), 1)
						}
					}
				}
				shares[i].d = g.s.drop(d)
			}
			check(t, g.s, must(g.s.Open(sum, active, shares))(t), vectors...)
		}
	}
}

// TestDamagedShares: a share under another key, or of another sum that claims
// to be of this one, is a margin error; what can be told before is told.
func TestDamagedShares(t *testing.T) {
	rnd := testRand(t, 0)
	p := Params{Set: Sum32, Parties: 3, Threshold: 3, Openings: 2}
	g, h := newGroup(t, rnd, p), newGroup(t, rnd, p)
	v := []share.Word{share.FromInt64(1)}
	sum := g.sum(t, rnd, v, v, v)
	active := all(3)
	shares := g.open(t, rnd, sum, active)
	foreign := must(h.s.OpenShare(rnd, h.shares[1], 1, active, sum))(t)
	_, err := g.s.Open(sum, active, []*Share{shares[0], foreign, shares[2]})
	refuse(t, "another key's share", err, ErrMargin)

	other := g.sum(t, rnd, v, v, v)
	wrong := g.open(t, rnd, other, active)
	_, err = g.s.Open(sum, active, []*Share{shares[0], shares[1], wrong[2]})
	refuse(t, "another sum's share", err, ErrForeign)
	var pe *PartyError
	if !errors.As(err, &pe) || pe.Party != 2 {
		t.Errorf("another sum's share does not name its contributor: %v", err)
	}
	wrong[2].bind = shares[2].bind // a lie
	_, err = g.s.Open(sum, active, []*Share{shares[0], shares[1], wrong[2]})
	refuse(t, "a share that lies about its sum", err, ErrMargin)
	_, err = g.s.Open(sum, active, []*Share{shares[0], shares[0], shares[2]})
	refuse(t, "one share twice", err, ErrInput)
	_, err = g.s.Open(sum, active, []*Share{shares[1], shares[0], shares[2]})
	refuse(t, "shares out of order", err, ErrInput)
	_, err = g.s.Open(sum, active, shares[:2])
	refuse(t, "a share missing", err, ErrInput)
	_, err = g.s.Open(sum, active, []*Share{shares[0], nil, shares[2]})
	refuse(t, "no share", err, ErrParam)
	check(t, g.s, must(g.s.Open(sum, active, shares))(t), v, v, v)
}

// TestMisuse: everything that a caller or peer could get wrong before
// arithmetic starts.
func TestMisuse(t *testing.T) {
	rnd := testRand(t, 0)
	p := Params{Set: Sum32, Parties: 3, Threshold: 2, Openings: 2}
	g := newGroup(t, rnd, p)
	wide := newGroup(t, rnd, Params{Set: Sum64, Parties: 3, Threshold: 2, Openings: 2})
	v := []share.Word{share.FromInt64(1)}
	ct := func() *Ciphertext { return must(g.s.Encrypt(rnd, g.pk, v))(t) }
	sum := g.sum(t, rnd, v, v)
	second := g.sum(t, rnd, v, v, v)

	for what, active := range map[string][]int{
		"none": nil, "too few": {0}, "repeated": {0, 0}, "repeated, enough": {0, 1, 1}, "unsorted": {1, 0},
		"negative": {-1, 0}, "beyond": {0, 3}, "all and beyond": {0, 1, 2, 3},
	} {
		_, err := g.s.OpenShare(rnd, g.shares[0], 0, active, sum)
		refuse(t, "share, active "+what, err, ErrInput)
		_, err = g.s.Open(sum, active, make([]*Share, len(active)))
		refuse(t, "open, active "+what, err, ErrInput)
	}
	_, err := g.s.OpenShare(rnd, g.shares[0], 0, []int{1, 2}, sum)
	refuse(t, "self is not active", err, ErrInput)
	_, err = g.s.OpenShare(rnd, g.shares[0], 1, []int{0, 1}, sum)
	refuse(t, "another's key share", err, ErrInput)
	_, err = g.s.OpenShare(rnd, g.shares[0], 0, []int{0, 1}, ct())
	refuse(t, "a single ciphertext", err, ErrInput)
	_, err = g.s.OpenShare(rnd, wide.shares[0], 0, []int{0, 1}, sum)
	refuse(t, "another set's key share", err, ErrParam)
	_, err = g.s.OpenShare(rnd, g.shares[0], 0, []int{0, 1}, wide.sum(t, rnd, v, v))
	refuse(t, "another set's sum", err, ErrParam)
	_, err = g.s.OpenShare(rnd, nil, 0, []int{0, 1}, sum)
	refuse(t, "no key share", err, ErrParam)
	_, err = g.s.OpenShare(rnd, g.shares[0], 0, []int{0, 1}, nil)
	refuse(t, "no sum", err, ErrParam)
	_, err = g.s.OpenShare(bytes.NewReader(nil), g.shares[0], 0, []int{0, 1}, sum)
	refuse(t, "no randomness", err, io.EOF)

	// One share per sum, however it is asked for, and no more than Openings.
	must(g.s.OpenShare(rnd, g.shares[0], 0, []int{0, 1}, sum))(t)
	_, err = g.s.OpenShare(rnd, g.shares[0], 0, []int{0, 1}, sum)
	refuse(t, "a second share", err, ErrUsed)
	_, err = g.s.OpenShare(rnd, g.shares[0], 0, []int{0, 2}, sum)
	refuse(t, "a second share for others", err, ErrUsed)
	must(g.s.OpenShare(rnd, g.shares[0], 0, []int{0, 1}, second))(t)
	_, err = g.s.OpenShare(rnd, g.shares[0], 0, []int{0, 1}, g.sum(t, rnd, v, v))
	refuse(t, "one opening too many", err, ErrFlood)
	g.shares[1].Wipe()
	_, err = g.s.OpenShare(rnd, g.shares[1], 1, []int{0, 1}, sum)
	refuse(t, "wiped", err, ErrUsed)

	_, err = g.s.Sum([]*Ciphertext{ct()})
	refuse(t, "a sum of one", err, ErrInput)
	_, err = g.s.Sum([]*Ciphertext{ct(), ct(), ct(), ct()})
	refuse(t, "a sum of more than all", err, ErrInput)
	_, err = g.s.Sum([]*Ciphertext{ct(), sum})
	refuse(t, "a sum of sums", err, ErrInput)
	_, err = g.s.Sum([]*Ciphertext{ct(), nil})
	refuse(t, "a sum with nothing", err, ErrParam)
	_, err = g.s.Sum([]*Ciphertext{ct(), must(wide.s.Encrypt(rnd, wide.pk, v))(t)})
	refuse(t, "a sum with another set", err, ErrParam)
	one := ct()
	_, err = g.s.Sum([]*Ciphertext{one, ct(), must(g.s.ParseCiphertext(one.Marshal()))(t)})
	refuse(t, "a copied ciphertext", err, ErrRepeated)
	var pe *PartyError
	if !errors.As(err, &pe) || pe.Party != 2 {
		t.Errorf("a copied ciphertext: %v", err)
	}

	_, err = g.s.Encrypt(rnd, nil, v)
	refuse(t, "no key", err, ErrParam)
	_, err = g.s.Encrypt(rnd, wide.pk, v)
	refuse(t, "another set's key", err, ErrParam)
	_, err = g.s.Encrypt(rnd, g.pk, make([]share.Word, g.s.Slots()+1))
	refuse(t, "too many values", err, ErrInput)
	_, err = g.s.Encrypt(bytes.NewReader(make([]byte, 31)), g.pk, v)
	refuse(t, "short randomness", err, io.ErrUnexpectedEOF)

	_, err = g.s.CombineKeys(g.crs, g.parts[:2])
	refuse(t, "a key part missing", err, ErrInput)
	_, err = g.s.CombineKeys(g.crs, []*KeyPart{g.parts[0], nil, g.parts[2]})
	refuse(t, "no key part", err, ErrParam)
	_, err = g.s.CombineKeys(g.crs, []*KeyPart{g.parts[0], wide.parts[1], g.parts[2]})
	refuse(t, "another set's key part", err, ErrParam)
	_, err = g.s.CombineKeys(g.crs, []*KeyPart{g.parts[0], g.parts[1], g.parts[0]})
	refuse(t, "a copied key part", err, ErrRepeated)
	_, _, err = g.s.GenerateKey(bytes.NewReader(nil), g.crs)
	refuse(t, "no randomness for a key", err, io.EOF)

	sk, _, err := g.s.GenerateKey(rnd, g.crs)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sk.Share()
	refuse(t, "the whole secret as a share of a threshold", err, ErrInput)
	_, err = g.s.Collect(sk, 0, nil)
	refuse(t, "collecting before dealing", err, ErrInput)
	_, err = g.s.Deal(rnd, sk, 3)
	refuse(t, "dealing from nowhere", err, ErrInput)
	_, err = g.s.Deal(rnd, nil, 0)
	refuse(t, "dealing nothing", err, ErrParam)
	_, err = g.s.Deal(bytes.NewReader(nil), sk, 0)
	refuse(t, "dealing without randomness", err, io.EOF)
	pieces := must(g.s.Deal(rnd, sk, 0))(t)
	_, err = g.s.Deal(rnd, sk, 0)
	refuse(t, "dealing twice", err, ErrUsed)
	_, err = g.s.Collect(sk, 0, pieces)
	refuse(t, "own pieces for all", err, ErrInput)
	_, err = g.s.Collect(sk, 0, pieces[:1])
	refuse(t, "too few pieces", err, ErrInput)
	_, err = g.s.Collect(sk, 0, []*Piece{pieces[0], nil, nil})
	refuse(t, "no piece", err, ErrParam)

	n := newGroup(t, rnd, Params{Set: Sum32, Parties: 3, Threshold: 3, Openings: 1})
	_, err = n.s.Deal(rnd, n.secrets[0], 0)
	refuse(t, "dealing where all open", err, ErrInput)
	_, err = n.secrets[0].Share()
	refuse(t, "a second key share", err, ErrUsed)
}

// TestPointZeroIsRefused: a Shamir share at point 0 is the secret.
func TestPointZeroIsRefused(t *testing.T) {
	s := must(New(Params{Set: Sum32, Parties: 3, Threshold: 2, Openings: 1}))(t)
	one := s.newPoly()
	for _, point := range []int{0, -1, 4, 1 << 40} {
		refuse(t, fmt.Sprint("point ", point), s.evaluate(s.newPoly(), one, []ringq.Poly{one}, point), ErrInput)
	}
	seen := map[uint64]bool{}
	for i := range 3 {
		for _, l := range s.limbs {
			x := uint64(i+1) % l.Q
			if x == 0 {
				t.Error("a point is 0 modulo a prime")
			}
			seen[x] = true
		}
	}
	if len(seen) != 3 {
		t.Error("points are not distinct")
	}
	_, err := s.ParsePiece(nil, 0, -1)
	refuse(t, "a piece for point 0", err, ErrInput)
}

// TestNothingPrints: secrets stay out of every verb, JSON and logs.
func TestNothingPrints(t *testing.T) {
	rnd := testRand(t, 0)
	s := must(New(Params{Set: Sum32, Parties: 3, Threshold: 2, Openings: 1}))(t)
	sk, _, err := s.GenerateKey(rnd, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	pieces := must(s.Deal(rnd, sk, 0))(t)
	g := newGroup(t, rnd, s.Params())
	for _, v := range []any{sk, *sk, pieces[1], *pieces[1], g.shares[0], *g.shares[0], struct{ X *Piece }{pieces[1]}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			if out := fmt.Sprintf(verb, v); len(out) > 120 {
				t.Errorf("%s of %T prints %d bytes", verb, v, len(out))
			}
		}
		if out, err := json.Marshal(v); err != nil || len(out) > 120 {
			t.Errorf("JSON of %T: %d bytes, %v", v, len(out), err)
		}
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		if log.Len() > 240 {
			t.Errorf("a log of %T has %d bytes", v, log.Len())
		}
	}
}

// TestOneSchemeManyGoroutines runs a whole opening for every goroutine on one
// scheme and one set of keys.
func TestOneSchemeManyGoroutines(t *testing.T) {
	g := newGroup(t, testRand(t, 0), Params{Set: Sum32, Parties: 3, Threshold: 2, Openings: 4})
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			rnd := testRand(t, byte(k+1))
			v := []share.Word{share.FromInt64(int64(k)), share.FromInt64(-1)}
			var cts []*Ciphertext
			for range 3 {
				ct, err := g.s.Encrypt(rnd, g.pk, v)
				if err != nil {
					t.Error(err)
					return
				}
				cts = append(cts, ct)
			}
			sum, err := g.s.Sum(cts)
			if err != nil {
				t.Error(err)
				return
			}
			var shares []*Share
			for _, i := range []int{0, 2} {
				sh, err := g.s.OpenShare(rnd, g.shares[i], i, []int{0, 2}, sum)
				if err != nil {
					t.Error(err)
					return
				}
				shares = append(shares, sh)
			}
			got, err := g.s.Open(sum, []int{0, 2}, shares)
			if err != nil || got[0].Big().Int64() != int64(3*k) {
				t.Errorf("opening %d: %v", k, err)
			}
		})
	}
	wg.Wait()
}

func testMath(t testing.TB) *rand.Rand {
	st := testRand(t, 0xff)
	return rand.New(rand.NewPCG(st.Uint64(), st.Uint64()))
}
