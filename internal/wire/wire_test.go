package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	b := binary.AppendUvarint(nil, 300)
	b = append(b, 7)
	b = AppendBytes(b, []byte("hello"))
	b = AppendBytes(b, nil)
	b = binary.LittleEndian.AppendUint64(b, 1<<63+5)
	b = append(b, 1, 2, 3)
	r := NewReader(b)
	if v := r.Uvarint(300); v != 300 {
		t.Errorf("Uvarint %d", v)
	}
	if v := r.Byte(); v != 7 {
		t.Errorf("Byte %d", v)
	}
	if v := r.Bytes(5); string(v) != "hello" {
		t.Errorf("Bytes %q", v)
	}
	if v := r.Bytes(0); len(v) != 0 {
		t.Errorf("Bytes %q", v)
	}
	if v := r.Uint64(); v != 1<<63+5 {
		t.Errorf("Uint64 %d", v)
	}
	if r.Len() != 3 {
		t.Errorf("Len %d", r.Len())
	}
	if v := r.Fixed(3); !bytes.Equal(v, []byte{1, 2, 3}) {
		t.Errorf("Fixed %v", v)
	}
	if err := r.Done(); err != nil {
		t.Error(err)
	}
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		read func(*Reader)
	}{
		"number missing":        {nil, func(r *Reader) { r.Uvarint(9) }},
		"number cut off":        {[]byte{0x80}, func(r *Reader) { r.Uvarint(9) }},
		"number above bound":    {[]byte{10}, func(r *Reader) { r.Uvarint(9) }},
		"number non-canonical":  {[]byte{0x85, 0x00}, func(r *Reader) { r.Uvarint(9) }},
		"zero non-canonical":    {[]byte{0x80, 0x00}, func(r *Reader) { r.Uvarint(9) }},
		"number over 64 bits":   {bytes.Repeat([]byte{0xff}, 11), func(r *Reader) { r.Uvarint(math.MaxUint64) }},
		"byte missing":          {nil, func(r *Reader) { r.Byte() }},
		"fixed too short":       {[]byte{1, 2}, func(r *Reader) { r.Fixed(3) }},
		"fixed negative":        {[]byte{1, 2}, func(r *Reader) { r.Fixed(-1) }},
		"bytes above bound":     {[]byte{3, 1, 2, 3}, func(r *Reader) { r.Bytes(2) }},
		"bytes past end":        {[]byte{3, 1, 2}, func(r *Reader) { r.Bytes(3) }},
		"uint64 too short":      {make([]byte, 7), func(r *Reader) { r.Uint64() }},
		"left over":             {[]byte{1, 2}, func(r *Reader) { r.Byte() }},
		"first fault is sticky": {[]byte{9, 1}, func(r *Reader) { r.Uvarint(1); r.Byte() }},
	} {
		r := NewReader(c.b)
		c.read(r)
		if err := r.Done(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if name != "left over" && (r.Len() != 0 || r.Err() == nil) {
			t.Errorf("%s: %d bytes left to read after the fault, err %v", name, r.Len(), r.Err())
		}
	}
}

// A slice handed out must not reach into what follows it in the message.
func TestFixedCannotGrowIntoTheRest(t *testing.T) {
	b := []byte{1, 2, 3, 4}
	r := NewReader(b)
	p := append(r.Fixed(2), 9)
	if b[2] != 3 || p[2] != 9 {
		t.Errorf("an append to a field overwrote the message: %v", b)
	}
}

// FuzzReader reads a message by a script of calls and holds the reader to its
// promises: no panic, nothing beyond the message, bounds kept, faults sticky.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4}, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Add([]byte{3, 3}, []byte{0x80, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, script, msg []byte) {
		r := NewReader(msg)
		failed := false
		for _, op := range script {
			before := r.Len()
			bound := int(op >> 3)
			switch op & 7 {
			case 0:
				if v := r.Uvarint(uint64(bound)); v > uint64(bound) {
					t.Fatalf("Uvarint %d above %d", v, bound)
				}
			case 1:
				r.Byte()
			case 2:
				if p := r.Fixed(bound); r.Err() == nil && len(p) != bound {
					t.Fatalf("Fixed %d bytes, want %d", len(p), bound)
				}
			case 3:
				if p := r.Bytes(bound); len(p) > bound {
					t.Fatalf("Bytes %d above %d", len(p), bound)
				}
			case 4:
				r.Uint64()
			case 5:
				r.Uvarint(math.MaxUint64)
			case 6:
				r.Bytes(math.MaxInt)
			}
			if r.Len() > before {
				t.Fatal("reading made the rest longer")
			}
			if failed && r.Err() == nil {
				t.Fatal("a fault was forgotten")
			}
			failed = r.Err() != nil
		}
		if err := r.Done(); failed && !errors.Is(err, ErrMalformed) {
			t.Fatalf("Done after a fault: %v", err)
		}
	})
}
