package rr22

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/okvs"
)

// Every decoder: no panic, typed errors, and what is accepted is encoded back
// to the same bytes.

func FuzzParseFrame(f *testing.F) {
	f.Add(appendFrame(nil, kindSeed, 300, []byte("body")), uint64(300))
	f.Add([]byte{}, uint64(0))
	f.Add([]byte{byte(kindDone), 0x80, 0x00}, uint64(0))
	f.Fuzz(func(t *testing.T, frame []byte, number uint64) {
		k, body, err := parseFrame(frame, number)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatalf("%v", err)
			}
			return
		}
		if again := appendFrame(nil, k, number, body); !bytes.Equal(again, frame) {
			t.Fatalf("%x was read as %x", frame, again)
		}
	})
}

func FuzzParseNumber(f *testing.F) {
	f.Add([]byte{5}, int64(10))
	f.Add([]byte{0x80, 0x01}, int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, body []byte, limit int64) {
		limit = max(limit, 0)
		n, err := parseNumber(body, limit)
		switch {
		case err != nil && !errors.Is(err, ErrMessage):
			t.Fatal(err)
		case err == nil && (n < 0 || n > limit || !bytes.Equal(appendNumber(nil, n), body)):
			t.Fatalf("%x was read as %d", body, n)
		}
		if n, err := parseRows(body); err == nil && (n < 0 || n > MaxRows) {
			t.Fatalf("%d rows", n)
		}
	})
}

func FuzzParseHashes(f *testing.F) {
	f.Add([]byte{4, 1, 0, 2, 0, 0xaa, 0xaa, 0x00, 0x01, 0x00, 0x02}, uint8(2), uint8(2), uint16(0), uint16(3))
	f.Add([]byte{1, 0}, uint8(0), uint8(9), uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, body []byte, bucket, rest uint8, first, limit uint16) {
		form := hashForm{int(bucket) % 17, 1 + int(rest)%10}
		from := int(first) % (1 << form.bucket)
		var got []entry
		next, total, err := form.parseBuckets(body, from, int(limit), func(e *entry) { got = append(got, *e) })
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		if next <= from || next > 1<<form.bucket || total > int(limit) || total != len(got) {
			t.Fatalf("buckets %d to %d, %d hashes of %d", from, next, total, len(got))
		}
		for i := range got {
			if b := form.bucketOf(got[i].hi); b < from || b >= next || i > 0 && !got[i-1].before(&got[i]) {
				t.Fatalf("hash %d in bucket %d", i, b)
			}
			e := form.entry(gf128.Element{Lo: got[i].hi, Hi: uint64(got[i].lo) << 32}, 0)
			if !e.same(&got[i]) {
				t.Fatalf("hash %d has bits past its length", i)
			}
		}
		// Encoded again, the same hashes take the same bytes.
		again := []byte{}
		at := 0
		for b := from; b < next; b++ {
			end := at
			for end < len(got) && form.bucketOf(got[end].hi) == b {
				end++
			}
			again = appendNumber(again, int64(end-at))
			at = end
		}
		again = append(appendNumber(nil, int64(next-from)), again...)
		for i := range got {
			again = form.appendRest(again, &got[i])
		}
		if !bytes.Equal(again, body) {
			t.Fatalf("%x was read as %x", body, again)
		}
	})
}

func FuzzParseFixed(f *testing.F) {
	f.Add(make([]byte, okvs.SeedSize), uint16(128))
	f.Add([]byte{0xff}, uint16(3))
	f.Fuzz(func(t *testing.T, body []byte, n uint16) {
		if seed, err := parseSeed(body); err == nil && !bytes.Equal(seed[:], body) {
			t.Fatal("another seed")
		}
		dst := make([]gf128.Element, int(n)%64)
		if err := parseVector(dst, body); err == nil && !bytes.Equal(gf128.AppendBytes(nil, dst), body) {
			t.Fatal("another vector")
		}
		if err := parseMatches(body, int(n)); err == nil {
			for i := int(n); i < 8*len(body); i++ {
				if body[i/8]>>(i%8)&1 == 1 {
					t.Fatalf("row %d of %d", i, n)
				}
			}
		}
	})
}
