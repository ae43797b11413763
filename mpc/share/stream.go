package share

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
)

// KeySize is the length of a stream's key.
const KeySize = 32

// Stream is a fast source of uniform bits: AES-256 in counter mode. It is not
// safe for concurrent use; a goroutine takes a stream of its own.
type Stream struct {
	ctr cipher.Stream
	buf [4096]byte
	at  int
}

// NewStream keys a stream with 32 bytes read from r. Everything a protocol
// draws from it is therefore determined by the injected randomness.
func NewStream(r io.Reader) (*Stream, error) {
	var key [KeySize]byte
	if _, err := io.ReadFull(r, key[:]); err != nil {
		return nil, fmt.Errorf("share: read a stream's key: %w", err)
	}
	s := KeyedStream(&key)
	clear(key[:])
	return s, nil
}

// KeyedStream returns the stream of key. A key is used for one stream only.
func KeyedStream(key *[KeySize]byte) *Stream {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("share: AES-256 refused a key of 32 bytes: " + err.Error()) // cannot happen
	}
	s := &Stream{ctr: cipher.NewCTR(block, make([]byte, aes.BlockSize))}
	s.at = len(s.buf)
	return s
}

// Read fills p. It never fails, and it makes a Stream an io.Reader.
func (s *Stream) Read(p []byte) (int, error) {
	n := copy(p, s.buf[s.at:])
	clear(s.buf[s.at : s.at+n])
	s.at += n
	if rest := p[n:]; len(rest) > 0 {
		clear(rest)
		s.ctr.XORKeyStream(rest, rest)
	}
	return len(p), nil
}

// Uint64 returns 64 uniform bits.
func (s *Stream) Uint64() uint64 {
	if len(s.buf)-s.at < 8 {
		s.refill()
	}
	v := binary.LittleEndian.Uint64(s.buf[s.at:])
	s.at += 8
	return v
}

// refill drops what is left of the buffer, at most seven bytes.
func (s *Stream) refill() {
	clear(s.buf[:])
	s.ctr.XORKeyStream(s.buf[:], s.buf[:])
	s.at = 0
}

// Word returns a uniform integer below 2^k.
func (s *Stream) Word(k int) Word {
	if k <= 64 {
		return Word{0, s.Uint64()}.Mask(k)
	}
	return Word{s.Uint64(), s.Uint64()}.Mask(k)
}

// Words returns n uniform integers below 2^k.
func (s *Stream) Words(n, k int) []Word {
	w := make([]Word, n)
	for i := range w {
		w[i] = s.Word(k)
	}
	return w
}
