package secagg

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// Every message, cut to every length it does not have, is refused as malformed.
func TestTruncatedMessages(t *testing.T) {
	for name, d := range decoders(t) {
		if err := d.parse(d.good); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for n := range len(d.good) {
			if err := d.parse(d.good[:n:n]); !errors.Is(err, errFrame) {
				t.Errorf("%s of %d bytes for %d: %v", name, n, len(d.good), err)
			}
		}
		if err := d.parse(append(slices.Clone(d.good), 0)); !errors.Is(err, errFrame) && name != "header" {
			t.Errorf("%s with a byte more: %v", name, err)
		}
	}
}

type decoder struct {
	good  []byte
	parse func([]byte) error
}

func decoders(t testing.TB) map[string]decoder {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tag := sha256.Sum256([]byte("a step"))
	header := make([]byte, headerSize)
	putHeader(header, kindEcho, 7, &tag)
	d := &deal{key: [32]byte(key.PublicKey().Bytes())}
	for k := range d.shareDigest {
		d.shareDigest[k] = make([][digestSize]byte, 5)
	}
	public := d.appendPublic(nil)
	roster := setOf(1) | setOf(3) | setOf(4)
	return map[string]decoder{
		"header":      {header, func(b []byte) error { _, err := parseHeader(b, kindEcho, 7, &tag); return err }},
		"public deal": {public, func(b []byte) error { _, err := parseDeal(b, 5, false); return err }},
		"deal":        {append(public, make([]byte, 64)...), func(b []byte) error { _, err := parseDeal(b, 5, true); return err }},
		"set":         {appendSets(nil, roster), func(b []byte) error { var s set; return parseSets(b, firstN(5), &s) }},
		"sets":        {appendSets(nil, roster, setOf(0)), func(b []byte) error { var r, s set; return parseSets(b, firstN(5), &r, &s) }},
		"echo": {(&echo{roster, roster, make([][digestSize]byte, 3)}).append(nil), func(b []byte) error {
			_, err := parseEcho(b, firstN(5))
			return err
		}},
		"shares": {(&reveal{shares: make([][secretSize]byte, 3)}).append(nil), func(b []byte) error { _, err := parseReveal(b, 3); return err }},
	}
}

func FuzzHeader(f *testing.F) {
	tag := sha256.Sum256([]byte("a step"))
	good := make([]byte, headerSize+3)
	putHeader(good, kindEcho, 7, &tag)
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := parseHeader(b, kindEcho, 7, &tag)
		if err != nil {
			if !errors.Is(err, errFrame) {
				t.Fatalf("%v is no errFrame", err)
			}
			return
		}
		again := newFrame(body)
		putHeader(again, kindEcho, 7, &tag)
		if !bytes.Equal(again, b) {
			t.Fatal("a message has two encodings")
		}
	})
}

func FuzzDeal(f *testing.F) {
	d := decoders(f)
	f.Add(d["deal"].good, 5, true)
	f.Add(d["public deal"].good, 5, false)
	f.Add([]byte{}, 2, false)
	f.Fuzz(func(t *testing.T, b []byte, n int, withShares bool) {
		n = 2 + int(uint(n)%(MaxContributors-1))
		d, err := parseDeal(b, n, withShares)
		if err != nil {
			if !errors.Is(err, errFrame) {
				t.Fatalf("%v is no errFrame", err)
			}
			return
		}
		again := d.appendPublic(nil)
		if withShares {
			again = append(append(again, d.shares[0][:]...), d.shares[1][:]...)
		}
		if !bytes.Equal(again, b) {
			t.Fatal("a deal has two encodings")
		}
	})
}

func FuzzSets(f *testing.F) {
	d := decoders(f)
	f.Add(d["set"].good, uint64(31))
	f.Add(d["sets"].good, uint64(31))
	f.Fuzz(func(t *testing.T, b []byte, candidates uint64) {
		var r, s set
		if err := parseSets(b, set(candidates), &r, &s); err == nil && (!bytes.Equal(appendSets(nil, r, s), b) || !(r | s).within(set(candidates))) {
			t.Fatal("sets have two encodings, or go beyond the candidates")
		}
		if err := parseSets(b, set(candidates), &r); err == nil && !bytes.Equal(appendSets(nil, r), b) {
			t.Fatal("a set has two encodings")
		}
	})
}

func FuzzEcho(f *testing.F) {
	f.Add(decoders(f)["echo"].good, uint64(31))
	f.Fuzz(func(t *testing.T, b []byte, candidates uint64) {
		e, err := parseEcho(b, set(candidates))
		if err == nil && (!bytes.Equal(e.append(nil), b) || len(e.digests) != e.roster.size()) {
			t.Fatal("an echo has two encodings")
		}
	})
}

func FuzzReveal(f *testing.F) {
	f.Add(decoders(f)["shares"].good, 3)
	f.Fuzz(func(t *testing.T, b []byte, members int) {
		v, err := parseReveal(b, int(uint(members)%(MaxContributors+1)))
		if err == nil && !bytes.Equal(v.append(nil), b) {
			t.Fatal("shares have two encodings")
		}
	})
}

func TestKindsHaveNames(t *testing.T) {
	for k := kindDeal; k <= kindReveal; k++ {
		if k.String() == "" || k.String() == kind(0).String() {
			t.Errorf("kind %d has no name", k)
		}
	}
	if s := fmt.Sprint(kind(99)); s != kind(0).String() {
		t.Errorf("kind 99 is called %q", s)
	}
}

// The field is that of AES: against carry-less multiplication and reduction.
func TestFieldAgainstReference(t *testing.T) {
	slow := func(a, b int) (r int) {
		for i := range 8 {
			if b>>i&1 == 1 {
				r ^= a << i
			}
		}
		for i := 15; i >= 8; i-- {
			if r>>i&1 == 1 {
				r ^= 0x11b << (i - 8)
			}
		}
		return r
	}
	for a := range 256 {
		for b := range 256 {
			if got := int(gfMul(byte(a), byte(b))); got != slow(a, b) {
				t.Fatalf("%d times %d is %d, want %d", a, b, got, slow(a, b))
			}
		}
		if a != 0 && gfMul(byte(a), gfInverse(byte(a))) != 1 {
			t.Fatalf("1/%d is wrong", a)
		}
	}
	// All bytes of a vector at once.
	var b [secretSize]byte
	_, _ = rand.Read(b[:])
	for c := range 256 {
		got := loadField(&b).times(byte(c)).bytes()
		for i := range b {
			if int(got[i]) != slow(int(b[i]), c) {
				t.Fatalf("byte %d times %d", i, c)
			}
		}
	}
}

// Any threshold shares give the secret back; one fewer does not.
func TestSplitAndCombine(t *testing.T) {
	for _, c := range []struct{ t, n int }{{2, 2}, {2, 3}, {3, 5}, {5, 5}, {7, 10}, {33, 64}, {64, 64}} {
		var secret [secretSize]byte
		_, _ = rand.Read(secret[:])
		shares, err := split(&secret, c.t, c.n, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for start := range c.n {
			var holders []int
			var held [][secretSize]byte
			for k := range c.t {
				h := (start + k*(1+c.n-c.t)) % c.n
				for slices.Contains(holders, h) {
					h = (h + 1) % c.n
				}
				holders, held = append(holders, h), append(held, shares[h])
			}
			if combine(held, weights(holders)) != secret {
				t.Fatalf("%d of %d: shares of %v do not give the secret", c.t, c.n, holders)
			}
			if combine(held[1:], weights(holders[1:])) == secret {
				t.Fatalf("%d of %d: %d shares give the secret", c.t, c.n, c.t-1)
			}
		}
	}
}
