package oprf

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/psi/tags"
)

// Every decoder: no panic, typed errors, and what is accepted is encoded back to
// the same bytes.

func FuzzParseAnnouncement(f *testing.F) {
	f.Add(announcement{id: epochID{1}, total: 300, root: rootHash{2}}.append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseAnnouncement(body)
		switch {
		case err != nil && !errors.Is(err, ErrMessage) && !errors.Is(err, ErrSize):
			t.Fatal(err)
		case err == nil && (a.total < 0 || a.total > MaxRows || !bytes.Equal(a.append(nil), body)):
			t.Fatalf("%x was read as %+v", body, a)
		}
	})
}

func FuzzParseDirectory(f *testing.F) {
	f.Add(directory{{3, 30, [32]byte{1}}}.append(nil), uint32(3))
	f.Add(directory{{3000, 30_000, [32]byte{1}}, {2000, 20_000, [32]byte{1}}}.append(nil), uint32(5000))
	f.Fuzz(func(t *testing.T, b []byte, rows uint32) {
		l, err := newLayout(int(rows)%(MaxRows+1), 40)
		if err != nil {
			t.Fatal(err)
		}
		d, err := l.parseDirectory(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		for first := 0; first < l.segments(); {
			end, size := l.chunk(d, first)
			if end <= first || size > chunkBytes {
				t.Fatalf("a message of segments %d to %d with %d bytes", first, end, size)
			}
			first = end
		}
		if !bytes.Equal(d.append(nil), b) {
			t.Fatal("another directory")
		}
	})
}

func FuzzParseSegment(f *testing.F) {
	f.Add([]byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3}, uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		l, err := newLayout(int(n), 40)
		if err != nil {
			t.Fatal(err)
		}
		d := directory{{int(n), len(b), sum(b)}}
		var got []tags.Tag
		err = l.parse(d, 0, b, func(t *tags.Tag) { got = append(got, *t) })
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		if len(got) != int(n) || !bytes.Equal(l.form.Append(nil, 0, l.form.Buckets(), got), b) {
			t.Fatalf("%x was read as %d tags", b, len(got))
		}
	})
}

func FuzzParsePlaces(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 9, 0, 0, 0}, uint16(10), uint8(2))
	f.Fuzz(func(t *testing.T, body []byte, rows uint16, limit uint8) {
		before := []uint32{}
		if rows > 0 && limit > 0 {
			before = append(before, 0)
		}
		got, err := parsePlaces(before, body, int(rows), int(limit))
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		if len(got) > int(limit) || !slices.IsSorted(got) || int(got[len(got)-1]) >= int(rows) ||
			len(slices.Compact(slices.Clone(got))) != len(got) || !bytes.Equal(appendPlaces(nil, got[len(before):]), body) {
			t.Fatalf("%x was read as %v", body, got)
		}
	})
}

func FuzzParsePoints(f *testing.F) {
	f.Add(make([]byte, 64), uint8(2))
	f.Fuzz(func(t *testing.T, body []byte, n uint8) {
		points := make([]curve25519.Point, n)
		if err := parsePoints(points, body); err == nil && !bytes.Equal(appendPoints(nil, points), body) {
			t.Fatal("other points")
		} else if err != nil && !errors.Is(err, ErrMessage) {
			t.Fatal(err)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	var key [curve25519.Size]byte
	key[31] = 0x40
	k, err := curve25519.ParseScalar(key[:])
	if err != nil {
		f.Fatal(err)
	}
	good := (&record{id: epochID{1}, key: k, begun: time.Unix(1_750_000_000, 0), total: 300, bits: 40, fingerprint: "keys"}).append(nil)
	f.Add(good, true)
	f.Add(good[:60], false)
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		if sign && len(b) >= 32 { // past the checksum
			s := sum(b[:len(b)-32])
			b = append(bytes.Clone(b[:len(b)-32]), s[:]...)
		}
		r, err := parseRecord(b)
		switch {
		case err != nil && !errors.Is(err, errRecord):
			t.Fatal(err)
		case err == nil && !bytes.Equal(r.append(nil), b):
			t.Fatalf("%x was read as %+v", b, r)
		}
	})
}
