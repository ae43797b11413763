package rr22

import (
	"bytes"
	"errors"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/psi/transcript"
)

// No panic, typed errors, and what is accepted is encoded back to the same bytes.
func FuzzParseHashes(f *testing.F) {
	f.Add([]byte{4, 1, 0, 2, 0, 0xaa, 0xaa, 0x00, 0x01, 0x00, 0x02}, uint8(2), uint8(2), uint16(0), uint16(3))
	f.Add([]byte{1, 0}, uint8(0), uint8(9), uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, body []byte, bucket, rest uint8, first, limit uint16) {
		form := tags.Form{Bucket: int(bucket) % 17, Rest: 1 + int(rest)%10}
		from := int(first) % form.Buckets()
		var got []tags.Tag
		next, total, err := parseHashes(body, form, from, int(limit), func(h *tags.Tag) { got = append(got, *h) })
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		if next <= from || next > form.Buckets() || total > int(limit) || total != len(got) {
			t.Fatalf("buckets %d to %d, %d hashes of %d", from, next, total, len(got))
		}
		for i := range got {
			if b := form.BucketOf(&got[i]); b < from || b >= next || i > 0 && !got[i-1].Before(&got[i]) {
				t.Fatalf("hash %d in bucket %d", i, b)
			}
			if h := tagOf(form, gf128.Element{Lo: got[i].Hi, Hi: uint64(got[i].Lo) << 32}, 0); !h.Same(&got[i]) {
				t.Fatalf("hash %d has bits past its length", i)
			}
		}
		// Encoded again, the same hashes take the same bytes.
		again := form.Append(transcript.AppendNumber(nil, int64(next-from)), from, next, got)
		if !bytes.Equal(again, body) {
			t.Fatalf("%x was read as %x", body, again)
		}
	})
}
