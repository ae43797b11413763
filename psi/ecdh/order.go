package ecdh

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math"
)

// newStream returns the keystream of AES-256 in counter mode under seed; the
// counter begins at nonce·2^64.
func newStream(seed [seedSize]byte, nonce uint64) *stream {
	block, err := aes.NewCipher(seed[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	var iv [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[:], nonce)
	s := &stream{ctr: cipher.NewCTR(block, iv[:])}
	s.at = len(s.buf)
	return s
}

type stream struct {
	ctr cipher.Stream
	buf [2048]byte
	at  int // bytes of buf that are used up
}

func (s *stream) fill() {
	clear(s.buf[:])
	s.ctr.XORKeyStream(s.buf[:], s.buf[:])
	s.at = 0
}

// Read implements io.Reader; it never fails.
func (s *stream) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		if s.at == len(s.buf) {
			s.fill()
		}
		k := copy(p[n:], s.buf[s.at:])
		s.at += k
		n += k
	}
	return len(p), nil
}

func (s *stream) uint64() uint64 {
	if len(s.buf)-s.at < 8 {
		s.fill() // the buffer is a multiple of 8 and Read is not mixed in
	}
	v := binary.LittleEndian.Uint64(s.buf[s.at:])
	s.at += 8
	return v
}

// below returns a number from 0 to n-1, each equally likely: what is at or
// above the largest multiple of n in 2^64 is passed over.
func (s *stream) below(n uint64) uint64 {
	for {
		v := s.uint64()
		// -n % n is 2^64 mod n; the comparison before it spares the division.
		if v <= math.MaxUint64-n || v <= math.MaxUint64-(-n%n) {
			return v % n
		}
	}
}

// permutation expands seed to a permutation of n elements (Fisher-Yates). It
// is part of the protocol: both sides have to arrive at the same.
func permutation(seed [seedSize]byte, n int) []int32 {
	p := make([]int32, n)
	for i := range p {
		p[i] = int32(i)
	}
	s := newStream(seed, 0)
	for i := n - 1; i > 0; i-- {
		j := s.below(uint64(i) + 1)
		p[i], p[j] = p[j], p[i]
	}
	return p
}
