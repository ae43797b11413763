package rr22

import (
	"bytes"
	"errors"
	"math/bits"
	mrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/psi/tags"
)

func compare(a, b tags.Tag) int {
	switch {
	case a.Before(&b):
		return -1
	case b.Before(&a):
		return 1
	}
	return 0
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
		if f.Bits() < need || f.Bits() > tags.MaxBits {
			t.Errorf("%d × %d: %d bits where %d are needed", c.n, c.m, f.Bits(), need)
		}
		if own := 39 + 2*bits.Len(uint(c.n)>>1); c.n > 0 && f.Bits() < own {
			t.Errorf("%d × %d: %d bits, own pairs need %d", c.n, c.m, f.Bits(), own)
		}
		if c.n > 0 {
			if got := float64(f.Rest) + float64(int(1)<<f.Bucket)/float64(c.n); got > c.bytes {
				t.Errorf("%d × %d: %.2f bytes a row, want at most %.2f", c.n, c.m, got, c.bytes)
			}
		}
	}
	if _, err := (Params{FalseMatchBits: 64}).hashForm(MaxRows, MaxRows); !errors.Is(err, ErrSize) {
		t.Errorf("hashes that are too long: %v", err)
	}
}

// encodeHashes cuts sorted hashes into messages.
func encodeHashes(f tags.Form, a []tags.Tag) (messages [][]byte) {
	for next := 0; next < f.Buckets(); {
		var body []byte
		body, next, a = appendHashes(nil, f, next, a)
		messages = append(messages, body)
	}
	return messages
}

func decodeHashes(f tags.Form, messages [][]byte, n int) (a []tags.Tag, err error) {
	next := 0
	for _, m := range messages {
		if next, _, err = parseHashes(m, f, next, n-len(a), func(h *tags.Tag) { a = append(a, *h) }); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func TestHashesSurviveTheirEncoding(t *testing.T) {
	for _, f := range []tags.Form{{Bucket: 0, Rest: 5}, {Bucket: 0, Rest: 12}, {Bucket: 1, Rest: 5}, {Bucket: 4, Rest: 8}, {Bucket: 7, Rest: 11}, {Bucket: 12, Rest: 8}, {Bucket: 16, Rest: 10}, {Bucket: 8, Rest: 11}} {
		for _, n := range []int{0, 1, 2, 50, 5000, 100_000} {
			r := mrand.New(mrand.NewPCG(uint64(n+f.Bucket), 3))
			a := make([]tags.Tag, n)
			for i := range a {
				a[i] = tagOf(f, gf128.Element{Lo: r.Uint64(), Hi: r.Uint64()}, int32(i))
			}
			slices.SortFunc(a, compare)
			a = slices.CompactFunc(a, func(x, y tags.Tag) bool { return x.Same(&y) })
			messages := encodeHashes(f, a)
			if n == 100_000 && f.Bucket >= 4 && len(messages) < 2 {
				t.Errorf("%v: %d messages", f, len(messages))
			}
			for i, m := range messages {
				if f.Bucket >= 4 && len(m) > 256<<10 || i < len(messages)-1 && len(m) < hashChunk {
					t.Errorf("%v: a message of %d bytes", f, len(m))
				}
			}
			got, err := decodeHashes(f, messages, len(a))
			if err != nil {
				t.Fatalf("%v, %d hashes: %v", f, n, err)
			}
			if !slices.EqualFunc(got, a, func(x, y tags.Tag) bool { return x.Same(&y) }) {
				t.Fatalf("%v, %d hashes: other hashes were decoded", f, n)
			}
		}
	}
}

func TestHashesThatAreRefused(t *testing.T) {
	f := tags.Form{Bucket: 2, Rest: 2} // four buckets, two bytes each
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
	own := []tags.Tag{{Hi: 1, Row: 10}, {Hi: 2, Row: 11}, {Hi: 2, Lo: 5, Row: 12}, {Hi: 9, Row: 13}}
	m := &matcher{own: own}
	for _, h := range []tags.Tag{{Lo: 9}, {Hi: 1}, {Hi: 2, Lo: 4}, {Hi: 2, Lo: 5}, {Hi: 3}, {Hi: 8}, {Hi: 9}, {Hi: 9, Lo: 1}, {Hi: 10}} {
		m.next(&h)
	}
	if !slices.Equal(m.rows, []int32{10, 12, 13}) || !bytes.Equal(m.bits, []byte{1<<1 | 1<<3 | 1<<6, 0}) || m.seen != 9 {
		t.Errorf("rows %v, bits %b, %d seen", m.rows, m.bits, m.seen)
	}
}
