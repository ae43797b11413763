package oprf

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/psi/tags"
)

// vector is one evaluation, computed with affine point arithmetic by another
// program, which first reproduced the vectors of RFC 9380, appendix J.4.2. All
// bytes are as they lie in memory.
type vector struct {
	Item, Key, Blind, Epoch, Mapped, Blinded, Evaluated, Unblinded, Tag hexBytes
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// The server's evaluation and the client's way round, step by step.
func TestVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(b, &vectors); err != nil || len(vectors) < 5 {
		t.Fatalf("%d vectors: %v", len(vectors), err)
	}
	for i, v := range vectors {
		key, err := curve25519.ParseScalar(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		blind, err := curve25519.ParseScalar(v.Blind)
		if err != nil {
			t.Fatal(err)
		}
		unblind, err := blind.Inverse()
		if err != nil {
			t.Fatal(err)
		}
		f := newPRF(epochID(v.Epoch))
		want := tags.FromHash(v.Tag, 0)
		var got [1]tags.Tag
		if f.evaluate(got[:], key, 0, func(int) []byte { return v.Item }); got[0] != want {
			t.Errorf("vector %d: the tag is %x", i, got[0])
		}
		var us [1]curve25519.FieldElement
		var p [1]curve25519.Point
		f.hasher.HashToField(&us[0], v.Item)
		curve25519.MapToCurve(p[:], us[:])
		check := func(step string, want hexBytes) {
			if p[0] != curve25519.Point(want) {
				t.Errorf("vector %d, %s: %x", i, step, p[0])
			}
		}
		check("mapped", v.Mapped)
		blind.Mul(p[:], p[:])
		check("blinded", v.Blinded)
		key.Mul(p[:], p[:])
		check("evaluated", v.Evaluated)
		unblind.Mul(p[:], p[:])
		check("unblinded", v.Unblinded)
		if got := f.clone().finalise(v.Item, &p[0], 7); got.Row != 7 || !got.Same(&want) {
			t.Errorf("vector %d: the client's tag is %x", i, got)
		}
	}
}

// What an item, a key and an epoch change, each alone.
func TestTagsDependOnEverything(t *testing.T) {
	scalar := func(fill byte) *curve25519.Scalar {
		var b [curve25519.Size]byte
		b[1], b[31] = fill, 0x40
		k, err := curve25519.ParseScalar(b[:])
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	seen := map[tags.Tag]string{}
	for _, item := range []string{"", "a", "b", "aa"} {
		for k := range byte(3) {
			for e := range byte(3) {
				var got [1]tags.Tag
				newPRF(epochID{e}).evaluate(got[:], scalar(k), 0, func(int) []byte { return []byte(item) })
				if twin, ok := seen[got[0]]; ok {
					t.Errorf("%q under key %d in epoch %d is the same as %s", item, k, e, twin)
				}
				seen[got[0]] = item
			}
		}
	}
}
