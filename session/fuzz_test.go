package session

import (
	"bytes"
	"testing"
)

func FuzzFirstFrame(f *testing.F) {
	f.Add(encodeFields(nil))
	f.Add(encodeFields([]Field{{"protocol", "p.v1"}, {"session", "s"}, {"label", ""}}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		fields, err := decodeFields(b)
		if err != nil {
			return
		}
		again, err := decodeFields(encodeFields(fields))
		if err != nil || compareFields("p", fields, again) != nil {
			t.Fatalf("a decoded frame does not survive encoding: %v", err)
		}
		if n := len(encodeFields(fields)); n > len(b) {
			t.Fatalf("%d bytes decoded to fields of %d", len(b), n)
		}
		if bytes.Equal(b, encodeFields(fields)) && len(fields) > len(b)/2 {
			t.Fatalf("%d fields in %d bytes", len(fields), len(b))
		}
	})
}
