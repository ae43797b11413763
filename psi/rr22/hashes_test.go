package rr22

import (
	"bytes"
	"context"
	"errors"
	"math/bits"
	mrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
)

func compare(a, b entry) int {
	switch {
	case a.before(&b):
		return -1
	case b.before(&a):
		return 1
	}
	return 0
}

// randomEntries draws n hashes; with few bits many are equal.
func randomEntries(seed uint64, n int, keep uint64) []entry {
	r := mrand.New(mrand.NewPCG(seed, 3))
	a := make([]entry, n)
	for i := range a {
		a[i] = entry{hi: r.Uint64() & keep, lo: r.Uint32() & uint32(keep), row: int32(i)}
	}
	return a
}

func TestSortEntries(t *testing.T) {
	for _, n := range []int{0, 1, 2, 100, 4095, 4096, 10_000, 300_000} {
		for _, keep := range []uint64{^uint64(0), 0xff, 0xff << 56, 0, 1 << 51, 0xfff << 52} {
			a := randomEntries(uint64(n), n, keep)
			want := slices.Clone(a)
			slices.SortStableFunc(want, compare)
			if err := sortEntries(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if !slices.IsSortedFunc(a, compare) {
				t.Fatalf("n = %d, bits %x: not sorted", n, keep)
			}
			slices.SortFunc(a, func(x, y entry) int { return int(x.row) - int(y.row) })
			slices.SortFunc(want, func(x, y entry) int { return int(x.row) - int(y.row) })
			if !slices.Equal(a, want) {
				t.Fatalf("n = %d, bits %x: entries were lost or changed", n, keep)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sortEntries(ctx, randomEntries(1, 100, ^uint64(0))); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// The form is as long as asked, no longer than needed, and takes about as many
// bytes as the page says.
func TestHashForm(t *testing.T) {
	for _, c := range []struct {
		n, m  int
		bytes float64 // a row, at most
	}{
		{0, 0, 1e9},
		{1, 1, 7},
		{1 << 16, 1 << 16, 8.1},
		{1 << 18, 1 << 18, 8.1},
		{1 << 20, 1 << 20, 8.1},
		{10_000_000, 10_000_000, 8.9},
		{1 << 24, 1 << 24, 9.1},
		{MaxRows, MaxRows, 9.6},
		{1 << 20, 1, 8.1},
		{1, 1 << 20, 9},
	} {
		f, err := Params{}.hashForm(c.n, c.m)
		if err != nil {
			t.Fatal(err)
		}
		need := 40 + bits.Len64(max(1, uint64(c.n)*uint64(c.m))-1)
		if f.bits() < need || f.bits() > maxHashBits {
			t.Errorf("%d × %d: %d bits where %d are needed", c.n, c.m, f.bits(), need)
		}
		if own := 39 + 2*bits.Len(uint(c.n)>>1); c.n > 0 && f.bits() < own {
			t.Errorf("%d × %d: %d bits, own pairs need %d", c.n, c.m, f.bits(), own)
		}
		if c.n > 0 {
			if got := float64(f.rest) + float64(int(1)<<f.bucket)/float64(c.n); got > c.bytes {
				t.Errorf("%d × %d: %.2f bytes a row, want at most %.2f", c.n, c.m, got, c.bytes)
			}
		}
	}
	if _, err := (Params{FalseMatchBits: 64}).hashForm(MaxRows, MaxRows); !errors.Is(err, ErrSize) {
		t.Errorf("hashes that are too long: %v", err)
	}
}

// encodeHashes cuts sorted entries into messages.
func encodeHashes(f hashForm, a []entry) (messages [][]byte) {
	for next := 0; next < 1<<f.bucket; {
		var body []byte
		body, next, a = f.appendBuckets(nil, next, a)
		messages = append(messages, body)
	}
	return messages
}

func decodeHashes(f hashForm, messages [][]byte, n int) (a []entry, err error) {
	next := 0
	for _, m := range messages {
		if next, _, err = f.parseBuckets(m, next, n-len(a), func(e *entry) { a = append(a, *e) }); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func TestHashesSurviveTheirEncoding(t *testing.T) {
	for _, f := range []hashForm{{0, 5}, {0, 12}, {1, 5}, {4, 8}, {7, 11}, {12, 8}, {16, 10}, {8, 11}} {
		for _, n := range []int{0, 1, 2, 50, 5000, 100_000} {
			a := randomEntries(uint64(n+f.bucket), n, ^uint64(0))
			for i := range a {
				a[i] = f.entry(gf128.Element{Lo: a[i].hi, Hi: uint64(a[i].lo) << 32}, int32(i))
			}
			slices.SortFunc(a, compare)
			a = slices.CompactFunc(a, func(x, y entry) bool { return x.same(&y) })
			messages := encodeHashes(f, a)
			for _, m := range messages {
				if f.bucket >= 4 && len(m) > 256<<10 {
					t.Errorf("%v: a message of %d bytes", f, len(m))
				}
			}
			got, err := decodeHashes(f, messages, len(a))
			if err != nil {
				t.Fatalf("%v, %d hashes: %v", f, n, err)
			}
			if !slices.EqualFunc(got, a, func(x, y entry) bool { return x.same(&y) }) {
				t.Fatalf("%v, %d hashes: other hashes were decoded", f, n)
			}
		}
	}
}

func TestHashesThatAreRefused(t *testing.T) {
	f := hashForm{2, 2} // four buckets, two bytes each
	good := []byte{4, 1, 0, 2, 0, 0xaa, 0xaa, 0x00, 0x01, 0x00, 0x02}
	if a, err := decodeHashes(f, [][]byte{good}, 3); err != nil || len(a) != 3 {
		t.Fatalf("%v, %v", a, err)
	}
	for name, body := range map[string][]byte{
		"empty":                nil,
		"no bucket":            {0},
		"too many buckets":     {5, 0, 0, 0, 0, 0},
		"fewer counts":         {4, 0, 0},
		"a hash too few":       good[:len(good)-2],
		"half a hash":          good[:len(good)-1],
		"a byte too many":      append(slices.Clone(good), 0),
		"more than rows":       {4, 4, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3},
		"more than rows later": {4, 2, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 3},
		"a huge count":         {4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"twice the same":       {4, 0, 0, 2, 0, 0x00, 0x02, 0x00, 0x02},
		"descending":           {4, 0, 0, 2, 0, 0x00, 0x02, 0x00, 0x01},
	} {
		if _, err := decodeHashes(f, [][]byte{body}, 3); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMatcher(t *testing.T) {
	own := []entry{{1, 0, 10}, {2, 0, 11}, {2, 5, 12}, {9, 0, 13}}
	m := &matcher{own: own}
	for _, e := range []entry{{0, 9, 0}, {1, 0, 0}, {2, 4, 0}, {2, 5, 0}, {3, 0, 0}, {8, 0, 0}, {9, 0, 0}, {9, 1, 0}, {10, 0, 0}} {
		m.next(&e)
	}
	if !slices.Equal(m.rows, []int32{10, 12, 13}) || !bytes.Equal(m.bits, []byte{1<<1 | 1<<3 | 1<<6, 0}) || m.seen != 9 {
		t.Errorf("rows %v, bits %b, %d seen", m.rows, m.bits, m.seen)
	}
}

func BenchmarkSortEntries(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		a := randomEntries(1, 1<<20, ^uint64(0))
		b.StartTimer()
		if err := sortEntries(b.Context(), a); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(1<<20), "ns/row")
}
