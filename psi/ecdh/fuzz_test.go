package ecdh

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
)

func FuzzRows(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := messages.ParseNumber(b, anyNumber)
		if err != nil {
			return
		}
		if rows, err := checkRows(n); (err == nil) != (n <= MaxRows) || int64(rows) > n || rows < 0 {
			t.Fatalf("%d rows, %v", rows, err)
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

func FuzzSeed(f *testing.F) {
	f.Add(make([]byte, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		if seed, err := parseSeed(b); (err == nil) != (len(b) == seedSize) || err == nil && !bytes.Equal(seed[:], b) {
			t.Fatalf("seed of %d bytes: %v", len(b), err)
		}
	})
}

// FuzzRoles lets a peer say anything to either role: it ends with an error.
func FuzzRoles(f *testing.F) {
	p := curvePoint(f, "seed")
	f.Add(true, psitest.Frame(kindRows, 1), append([]byte{byte(kindPoints)}, p[:]...), []byte{byte(kindTags), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	f.Add(false, psitest.Frame(kindRows, 1), append([]byte{byte(kindPoints)}, p[:]...), make([]byte, 18))
	f.Add(true, psitest.Frame(kindRows, 0), []byte{byte(kindTags)}, []byte{byte(kindCheck)})
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
			_, err := role(ctx, s, psitest.Items([]string{"x", "y"}), 2, Params{})
			return err
		}, receive, a, b, c)
		if !psitest.Typed(err, faults...) && !errors.Is(err, job.ErrMinIntersection) {
			t.Fatalf("ended with %v", err)
		}
	})
}
