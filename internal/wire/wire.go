// Package wire is the length-checked encoding of protocol messages. A Reader
// holds every count and length against what is left of the message before
// anything is allocated; the first fault sticks and Done reports it.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by every decoding error.
var ErrMalformed = errors.New("wire: malformed message")

// Reader decodes one message.
type Reader struct {
	rest []byte
	err  error
}

// NewReader reads from b, which it does not copy.
func NewReader(b []byte) *Reader { return &Reader{rest: b} }

func (r *Reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	r.rest = nil
}

// Uvarint reads a number of at most max.
func (r *Reader) Uvarint(max uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > max {
		r.fail("number missing, non-canonical or above its bound")
		return 0
	}
	if n > 1 && r.rest[n-1] == 0 { // a longer form of a smaller number
		r.fail("number missing, non-canonical or above its bound")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	b := r.Fixed(1)
	if b == nil {
		return 0
	}
	return b[0]
}

// Fixed reads exactly n bytes, as a slice of the message.
func (r *Reader) Fixed(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.rest) {
		r.fail("message too short")
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// Bytes reads a length of at most max and that many bytes.
func (r *Reader) Bytes(max int) []byte {
	n := r.Uvarint(uint64(max))
	return r.Fixed(int(n))
}

// Uint64 reads eight bytes, little-endian.
func (r *Reader) Uint64() uint64 {
	b := r.Fixed(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

// Len returns the number of bytes not yet read.
func (r *Reader) Len() int { return len(r.rest) }

// Err returns the first fault so far.
func (r *Reader) Err() error { return r.err }

// Done returns the first fault, or one for bytes left over.
func (r *Reader) Done() error {
	if r.err == nil && len(r.rest) > 0 {
		r.fail(fmt.Sprintf("%d bytes left over", len(r.rest)))
	}
	return r.err
}

// AppendBytes appends the length of p and p itself.
func AppendBytes(b, p []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}
