package ecdh

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/bits"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/session"
)

func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, kindRows, 0, []byte{1}), uint64(0))
	f.Add(appendFrame(nil, kindDone, 1<<40, nil), uint64(1<<40))
	f.Add([]byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, number uint64) {
		k, body, err := parseFrame(b, number)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		if again := appendFrame(nil, k, number, body); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes and encodes to %x", b, again)
		}
	})
}

func FuzzNumber(f *testing.F) {
	f.Add([]byte{0}, int64(0))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, int64(math.MaxInt64))
	f.Add([]byte{0x80, 0x00}, int64(1))
	f.Fuzz(func(t *testing.T, b []byte, limit int64) {
		limit &= math.MaxInt64
		n, err := parseNumber(b, limit)
		if err == nil && (n < 0 || n > limit || !bytes.Equal(appendNumber(nil, n), b)) {
			t.Fatalf("%x is %d, limit %d", b, n, limit)
		}
		if rows, err := parseRows(b); err == nil && (rows < 0 || rows > MaxRows) {
			t.Fatalf("%d rows", rows)
		}
	})
}

func FuzzPoints(f *testing.F) {
	p := curvePoint(f, "seed")
	f.Add(p[:])
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		points := make([]curve25519.Point, len(b)/curve25519.Size)
		err := parsePoints(points, b)
		if (err == nil) != (len(b)%curve25519.Size == 0) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		for i := range points {
			if err == nil && !bytes.Equal(points[i][:], b[32*i:32*i+32]) {
				t.Fatal("a point changed")
			}
		}
		if err == nil {
			// Says yes or no; its own fuzz target holds it to an oracle.
			if err := curve25519.Check(points, newStream([seedSize]byte{}, 0)); err != nil && !errors.Is(err, ErrPoint) {
				t.Fatal(err)
			}
		}
	})
}

func FuzzTagsAndSeed(f *testing.F) {
	f.Add(make([]byte, 32), 4, 8)
	f.Fuzz(func(t *testing.T, b []byte, n, size int) {
		n, size = n&0xffff, minTagBytes+size&3
		if err := parseTags(b, n, size); (err == nil) != (len(b) == n*size) {
			t.Fatalf("%d bytes for %d tags of %d: %v", len(b), n, size, err)
		}
		if seed, err := parseSeed(b); (err == nil) != bytes.Equal(seed[:], b) && len(b) == seedSize {
			t.Fatalf("seed of %d bytes: %v", len(b), err)
		}
	})
}

func FuzzMatches(f *testing.F) {
	f.Add([]byte{0xff, 0x01}, 9)
	f.Add([]byte{0xff, 0x02}, 9)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		n &= 0xfff
		if parseMatches(b, n) != nil {
			return
		}
		ones := 0
		for j := range n {
			ones += int(b[j/8] >> (j % 8) & 1)
		}
		total := 0
		for _, x := range b {
			total += bits.OnesCount8(x)
		}
		if len(b) != (n+7)/8 || ones != total {
			t.Fatalf("%x passes for a bitmap of %d rows", b, n)
		}
	})
}

// FuzzRoles lets a peer say anything to either role: it ends with an error.
func FuzzRoles(f *testing.F) {
	p := curvePoint(f, "seed")
	f.Add(true, rowsFrame(1), append([]byte{byte(kindPoints)}, p[:]...), []byte{byte(kindTags), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	f.Add(false, rowsFrame(1), append([]byte{byte(kindPoints)}, p[:]...), make([]byte, 18))
	f.Add(true, rowsFrame(0), []byte{byte(kindTags)}, []byte{byte(kindCheck)})
	f.Fuzz(func(t *testing.T, receive bool, a, b, c []byte) {
		for _, m := range [][]byte{a, b, c} {
			if len(m) == 0 || len(m) > 1<<16 {
				return
			}
		}
		err := scripted(t, func(ctx context.Context, s *session.Session) error {
			role := Send
			if receive {
				role = Receive
			}
			_, err := role(ctx, s, items([]string{"x", "y"}), 2, Params{})
			return err
		}, receive, a, b, c)
		if !typed(err) && !errors.Is(err, job.ErrMinIntersection) {
			t.Fatalf("ended with %v", err)
		}
	})
}
