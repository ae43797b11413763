package rr22

import (
	"bytes"
	"errors"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/psi/transcript"
)

// No panic, typed errors, and what is accepted is encoded back to the same bytes.
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
			again = transcript.AppendNumber(again, int64(end-at))
			at = end
		}
		again = append(transcript.AppendNumber(nil, int64(next-from)), again...)
		for i := range got {
			again = form.appendRest(again, &got[i])
		}
		if !bytes.Equal(again, body) {
			t.Fatalf("%x was read as %x", body, again)
		}
	})
}
