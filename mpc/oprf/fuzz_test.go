package oprf

import (
	"bytes"
	"errors"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/okvs"
)

// No panic, typed errors, and what is accepted is encoded back to the same bytes.
func FuzzParse(f *testing.F) {
	f.Add(make([]byte, okvs.SeedSize), uint8(1))
	f.Add([]byte{0xff}, uint8(3))
	f.Fuzz(func(t *testing.T, body []byte, n uint8) {
		seed, err := parseSeed(body)
		if err == nil && !bytes.Equal(seed[:], body) || err != nil && !errors.Is(err, ErrMessage) {
			t.Fatalf("a seed: %v", err)
		}
		dst := make([]gf128.Element, n%64)
		err = parseVector(dst, body)
		if err == nil && !bytes.Equal(gf128.AppendBytes(nil, dst), body) || err != nil && !errors.Is(err, ErrMessage) {
			t.Fatalf("a vector: %v", err)
		}
		err = checkLength(body, "a coin", int(n))
		if (err == nil) != (len(body) == int(n)) || err != nil && !errors.Is(err, ErrMessage) {
			t.Fatalf("a coin: %v", err)
		}
	})
}
