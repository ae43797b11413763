package okvs

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	mrand "math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/gf128"
)

func elements(seed uint64, n int) []gf128.Element {
	r := mrand.New(mrand.NewPCG(seed, 7))
	v := make([]gf128.Element, n)
	for i := range v {
		v[i] = gf128.Element{Lo: r.Uint64(), Hi: r.Uint64()}
	}
	return v
}

// from returns Values that give key number i the value v[i].
func from(v []gf128.Element) Values {
	return func(dst, _ []gf128.Element, rows []int32) {
		for i, r := range rows {
			dst[i] = v[r]
		}
	}
}

// decode returns the values of all keys of t under p, by their given places.
func decode(t *Table, p []gf128.Element) []gf128.Element {
	out := make([]gf128.Element, t.Len())
	for b := range t.Layout.Bins {
		_, rows := t.Bin(b)
		dst := make([]gf128.Element, len(rows))
		t.DecodeBin(b, dst, p[b*t.Layout.Stride():(b+1)*t.Layout.Stride()])
		for i, r := range rows {
			out[r] = dst[i]
		}
	}
	return out
}

func TestDecodeGivesWhatWasEncoded(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 100, 1000, 1023, 1025, 98_303, 98_304, 100_000, 1_000_000} {
		keys, values := elements(1, n), elements(2, n)
		p, table, err := Encode(t.Context(), crand.Reader, keys, from(values))
		if err != nil {
			t.Fatalf("n = %d: %v", n, err)
		}
		if !slices.Equal(decode(table, p), values) {
			t.Fatalf("n = %d: decoded values differ", n)
		}
		// Somebody else arranges the same keys in another order, and others.
		others := append(elements(3, 100), keys[:min(n, 1000)]...)
		theirs, err := Arrange(t.Context(), table.Layout, table.Seed, others)
		if err != nil {
			t.Fatal(err)
		}
		got := decode(theirs, p)
		if !slices.Equal(got[100:], values[:min(n, 1000)]) {
			t.Fatalf("n = %d: another table decodes other values", n)
		}
		for _, v := range got[:100] {
			if slices.Contains(values, v) || v.IsZero() {
				t.Fatalf("n = %d: a key that was not encoded has a value, or none", n)
			}
		}
	}
}

// Decoding is linear: what psi/rr22 rests on.
func TestDecodingIsLinear(t *testing.T) {
	keys := elements(4, 5000)
	p, table, err := Encode(t.Context(), crand.Reader, keys, from(elements(5, 5000)))
	if err != nil {
		t.Fatal(err)
	}
	q, s := elements(6, len(p)), elements(7, 1)[0]
	combined := slices.Clone(q)
	gf128.MulAdd(combined, p, s)
	want := decode(table, q)
	gf128.MulAdd(want, decode(table, p), s)
	if !slices.Equal(decode(table, combined), want) {
		t.Error("decode(q + s·p) is not decode(q) + s·decode(p)")
	}
}

func TestDuplicatesAreRefused(t *testing.T) {
	for _, n := range []int{2, 3000, 200_000} {
		keys := elements(8, n)
		keys[n-1], keys[n/2] = keys[0], keys[0]
		want := 2
		if n == 2 {
			want = 1
		}
		_, _, err := Encode(t.Context(), crand.Reader, keys, from(keys))
		if !errors.Is(err, ErrDuplicates) || err.Error() != fmt.Sprintf("%v: %d of %d", ErrDuplicates, want, n) {
			t.Errorf("n = %d: %v", n, err)
		}
	}
}

// The layout is a function of n alone, grows with it, and divides the
// probability of failure as the package says.
func TestLayout(t *testing.T) {
	last := 0
	for _, n := range []int{0, 1, 1000, 1 << 12, 1 << 16, 98_303, 98_304, 1 << 18, 1 << 20, 10_000_000, 1 << 24, MaxRows} {
		l, err := NewLayout(n)
		if err != nil {
			t.Fatal(err)
		}
		if l.Size() < last && l.Bins == 1 {
			t.Errorf("%d rows take less than fewer", n)
		}
		last = l.Size()
		if ratio := float64(l.Size()) / float64(n); n >= 1<<18 && (ratio > 1.30 || ratio < 1.23) {
			t.Errorf("%d rows take %.3f elements each", n, ratio)
		}
		if l.Bins > 1 {
			// The exact tail of the binomial distribution, against the bound.
			if tail := logBinomialTail(n, 1/float64(l.Bins), l.Capacity); tail+math.Log2(float64(l.Bins)) > -41 {
				t.Errorf("%d rows: a bin overflows with probability 2^%.1f", n, tail+math.Log2(float64(l.Bins)))
			}
		}
		if d := logDeficient(l.Capacity, l.Columns) + math.Log2(float64(l.Bins)); d > -44 {
			t.Errorf("%d rows: four pairs share their places with probability 2^%.1f", n, d)
		}
	}
	for _, n := range []int{-1, MaxRows + 1} {
		if _, err := NewLayout(n); !errors.Is(err, ErrSize) {
			t.Errorf("%d rows: %v", n, err)
		}
	}
}

// logBinomialTail returns log2 of Pr[Bin(n, p) > c].
func logBinomialTail(n int, p float64, c int) float64 {
	lg := func(x float64) float64 { v, _ := math.Lgamma(x + 1); return v }
	sum := 0.0
	first := 0.0
	for k := c + 1; k <= n; k++ {
		l := lg(float64(n)) - lg(float64(k)) - lg(float64(n-k)) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p)
		if k == c+1 {
			first = l
		}
		term := math.Exp(l - first)
		sum += term
		if term < 1e-12*sum {
			break
		}
	}
	return (first + math.Log(sum)) / math.Ln2
}

// logDeficient returns log2 of the probability that more pairs of keys share
// all places than there are dense columns: their number is Poisson.
func logDeficient(n, columns int) float64 {
	mean := 3 * float64(n) * float64(n) / math.Pow(float64(columns), 3)
	k := float64(denseColumns + 1)
	f, _ := math.Lgamma(k + 1)
	return (k*math.Log(mean) - f) / math.Ln2
}

// With λ small enough to see failures: a solver that gives up on every core but
// small ones fails about as often as the line predicts, which it should bound,
// and elimination of larger cores repairs most.
func TestFailureRate(t *testing.T) {
	trials := 4000
	if testing.Short() {
		trials = 800
	}
	for _, c := range []struct{ n, lambda int }{{2048, 5}, {4096, 6}} {
		l := layout(c.n, 1<<30, 0, c.lambda-1)
		failed, repaired := 0, 0
		small, large := newSolver(l, c.n/20), newSolver(l, coreRows)
		p := make([]gf128.Element, l.Size())
		keys := elements(uint64(c.n), c.n)
		for i := range trials {
			table, err := Arrange(t.Context(), l, Seed{byte(i), byte(i >> 8), byte(c.lambda)}, keys)
			if err != nil {
				t.Fatal(err)
			}
			if small.encodeBin(table, 0, p, from(keys)) == nil {
				continue
			}
			failed++
			if large.encodeBin(table, 0, p, from(keys)) == nil {
				repaired++
				if !slices.Equal(decode(table, p), keys) {
					t.Fatal("a solved core gives wrong values")
				}
			}
		}
		bound := float64(trials) * math.Exp2(-float64(c.lambda))
		t.Logf("n = %d, λ = %d: %d of %d fail (2^%.1f), the bound is %.0f; elimination repairs %d",
			c.n, c.lambda, failed, trials, math.Log2(float64(failed)/float64(trials)), bound, repaired)
		if float64(failed) > bound+4*math.Sqrt(bound) {
			t.Errorf("n = %d: %d of %d failed, the bound is %.1f", c.n, failed, trials, bound)
		}
		if !testing.Short() && float64(failed) < bound/30 {
			t.Errorf("n = %d: %d failures where the line says about %.1f: the experiment does not reach the line", c.n, failed, bound)
		}
		if repaired < failed-failed/2 {
			t.Errorf("n = %d: elimination repaired %d of %d", c.n, repaired, failed)
		}
	}
}

// Keys with the same places need the dense columns: up to three pairs are
// solved, a fourth is not.
func TestDenseColumnsSolvePairs(t *testing.T) {
	l := layout(64, 1<<30, 64, 40)
	for pairs := range 5 {
		table, err := Arrange(t.Context(), l, Seed{byte(pairs)}, elements(9, 64))
		if err != nil {
			t.Fatal(err)
		}
		values := elements(10, 64)
		s := newSolver(l, coreRows)
		s.fill(table, table.keys, table.rows, from(values))
		// Key 2i+1 gets the places of key 2i.
		clear(s.columns)
		for i := range s.places {
			if i < 2*pairs {
				s.places[i] = s.places[i&^1]
			}
			for _, c := range s.places[i] {
				s.columns[c] = s.columns[c] + 1<<32 ^ column(i)
			}
		}
		p := elements(11, l.Stride())
		s.peel(64)
		if got := 64 - len(s.order); got != 2*pairs {
			t.Fatalf("%d pairs: a core of %d", pairs, got)
		}
		err = s.solveCore(64, p)
		if (err != nil) != (pairs > denseColumns) {
			t.Fatalf("%d pairs: %v", pairs, err)
		}
		if err != nil {
			continue
		}
		for i := range 2 * pairs {
			h, k := gf128.Element{Lo: s.dense[i]}, s.places[i]
			got := p[k[0]].Add(p[k[1]]).Add(p[k[2]])
			for j, d := 0, h; j < denseColumns; j, d = j+1, d.Mul(h) {
				got = got.Add(d.Mul(p[l.Columns+j]))
			}
			if got != s.values[i] {
				t.Errorf("%d pairs: key %d has another value", pairs, i)
			}
		}
	}
}

// A seed that does not work is replaced; when none does, the caller hears it.
func TestAnotherSeedIsTried(t *testing.T) {
	keys := elements(12, 3000)
	tight := layout(3000, 1<<30, 0, 1)
	tight.Columns = 3000 * 114 / 100 // peeling gets stuck, elimination has about even odds of a core it takes
	l := tight
	l.Capacity = 2999
	if _, _, err := encode(t.Context(), crand.Reader, l, keys, from(keys)); !errors.Is(err, ErrEncode) {
		t.Errorf("a bin without room: %v", err)
	}
	// Three bins, the capacity little above the mean: some seeds overflow one.
	l = layout(3000, 1000, 0, 40)
	l.Capacity = 1030
	tried := 0
	for i := range 40 {
		first := &counting{r: mrand.NewChaCha8([32]byte{byte(i)})}
		p, table, err := encode(t.Context(), first, l, keys, from(keys))
		if errors.Is(err, ErrEncode) {
			continue
		}
		if err != nil || !slices.Equal(decode(table, p), keys) {
			t.Fatalf("seed %d: %v", i, err)
		}
		if first.seeds > 1 {
			tried++
		}
	}
	if tried == 0 {
		t.Error("no run needed a second seed: the test shows nothing")
	}
}

// counting counts the seeds that are drawn.
type counting struct {
	r     io.Reader
	seeds int
}

func (c *counting) Read(p []byte) (int, error) {
	if len(p) == SeedSize {
		c.seeds++
	}
	return c.r.Read(p)
}

// A vector of random values is uniform, in every place: chi-squared over the
// values of a byte, for used and unused columns together and for the dense ones.
func TestVectorLooksRandom(t *testing.T) {
	n := 60_000
	p, table, err := Encode(t.Context(), crand.Reader, elements(13, n), from(elements(14, n)))
	if err != nil {
		t.Fatal(err)
	}
	for at := range gf128.Size {
		var count [256]int
		for _, e := range p {
			count[e.Bytes()[at]]++
		}
		if x := chiSquared(count[:], len(p)); x > 255+6*math.Sqrt(2*255) {
			t.Errorf("byte %d: chi-squared %.0f with 255 degrees of freedom", at, x)
		}
	}
	for _, d := range p[table.Layout.Columns:] {
		if d.IsZero() {
			t.Error("a dense column that nothing determines is not random")
		}
	}
	// The same keys and values have another vector the next time.
	q, _, err := Encode(t.Context(), crand.Reader, elements(13, n), from(elements(14, n)))
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for i := range p {
		if p[i] == q[i] {
			same++
		}
	}
	if same > 0 {
		t.Errorf("%d elements of two vectors of the same keys are equal", same)
	}
}

func chiSquared(count []int, n int) (x float64) {
	want := float64(n) / float64(len(count))
	for _, c := range count {
		x += (float64(c) - want) * (float64(c) - want) / want
	}
	return x
}

// The three places of a key are distinct and cover all columns evenly.
func TestPlaces(t *testing.T) {
	const columns, trials = 50, 200_000
	var count [columns]int
	hash := aeshash.Named("test/places")
	h := make([]gf128.Element, trials)
	hash.Hash(h, elements(15, trials))
	for _, x := range h {
		a, b, c := places(x, columns)
		if a == b || b == c || a == c || max(a, b, c) >= columns {
			t.Fatalf("places %d, %d, %d", a, b, c)
		}
		count[a]++
		count[b]++
		count[c]++
	}
	if x := chiSquared(count[:], 3*trials); x > 49+6*math.Sqrt(2*49) {
		t.Errorf("chi-squared %.0f with 49 degrees of freedom: %v", x, count)
	}
	for _, x := range []gf128.Element{{}, {Lo: math.MaxUint64, Hi: math.MaxUint64}} {
		if a, b, c := places(x, 3); a+b+c != 3 || a*b*c != 0 || a == b {
			t.Errorf("places at the ends: %d, %d, %d", a, b, c)
		}
	}
}

func TestEncodingStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	cancel(stop)
	if _, _, err := Encode(ctx, crand.Reader, elements(16, 1000), from(elements(16, 1000))); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	_, _, err := Encode(t.Context(), io.LimitReader(crand.Reader, 20), elements(16, 1000), from(elements(16, 1000)))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("no randomness: %v", err)
	}
}

// What Encode and Arrange say they hold.
func TestMemory(t *testing.T) {
	const n = 1 << 18
	keys := elements(17, n)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p, table, err := Encode(t.Context(), crand.Reader, keys, from(keys))
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	got := float64(after.TotalAlloc-before.TotalAlloc) / n
	workers := float64(runtime.GOMAXPROCS(0))
	if limit := 20.6 + 20 + 2 + 8e6*workers/n + 8; got > limit {
		t.Errorf("%.1f bytes a row were allocated, expected at most %.1f", got, limit)
	}
	t.Logf("%.1f bytes a row allocated by Encode", got)
	runtime.KeepAlive(p)
	runtime.KeepAlive(table)
}

// FuzzEncode takes sets of any size, with keys that collide in parts.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("seed"), uint16(5))
	f.Add([]byte{}, uint16(2000))
	f.Fuzz(func(t *testing.T, raw []byte, n uint16) {
		keys := make([]gf128.Element, int(n)%3000)
		for i := range keys {
			keys[i].Lo = uint64(i)
			if len(raw) > 0 {
				keys[i].Hi = uint64(raw[i%len(raw)])
			}
		}
		p, table, err := Encode(t.Context(), crand.Reader, keys, from(keys))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(decode(table, p), keys) {
			t.Fatal("decoded values differ")
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{1 << 16, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			keys := elements(18, n)
			for b.Loop() {
				if _, _, err := Encode(b.Context(), crand.Reader, keys, func(dst, keys []gf128.Element, _ []int32) { copy(dst, keys) }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/row")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	const n = 1 << 20
	l, err := NewLayout(n)
	if err != nil {
		b.Fatal(err)
	}
	keys, p, out := elements(19, n), make([]gf128.Element, l.Size()), make([]gf128.Element, n)
	b.Run("arrange", func(b *testing.B) {
		for b.Loop() {
			if _, err := Arrange(b.Context(), l, Seed{}, keys); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
	})
	t, err := Arrange(b.Context(), l, Seed{}, keys)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("duplicates", func(b *testing.B) {
		for b.Loop() {
			if _, err := t.Duplicates(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			for bin := range l.Bins {
				t.DecodeBin(bin, out[t.Start(bin):t.Start(bin+1)], p[bin*l.Stride():(bin+1)*l.Stride()])
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
	})
}
