package ecdh

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math"
	"math/bits"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
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

// index finds keys that lie elsewhere by their bytes: open addressing, at most
// half full, 8 to 16 bytes a key. Keys must be (pseudo)random where a peer can
// choose them.
type index struct {
	slots []uint32 // one more than the key's number; 0 is free
	key   func(i int) []byte
}

func newIndex(n int, key func(i int) []byte) *index {
	return &index{slots: make([]uint32, 1<<bits.Len(uint(2*max(n, 1)-1))), key: key}
}

// slot returns where key is, or the free slot where it would be.
func (x *index) slot(key []byte) int {
	var h [8]byte
	copy(h[:], key)
	mask := len(x.slots) - 1
	// The bytes are random; the multiplication brings short keys up to 64 bits.
	i := int(binary.LittleEndian.Uint64(h[:]) * 0x9e3779b97f4a7c15 >> 32)
	for {
		i &= mask
		if s := x.slots[i]; s == 0 || string(x.key(int(s-1))) == string(key) {
			return i
		}
		i++
	}
}

// add puts key number i in, and reports false if an equal one is there.
func (x *index) add(i int) bool {
	s := x.slot(x.key(i))
	if x.slots[s] != 0 {
		return false
	}
	x.slots[s] = uint32(i) + 1
	return true
}

// find returns the number of the key.
func (x *index) find(key []byte) (int, bool) {
	s := x.slots[x.slot(key)]
	return int(s) - 1, s != 0
}

// parallel calls f on [0, n) in blocks, on as many goroutines as there are
// processors, and waits for all of them.
func parallel(ctx context.Context, n, block int, f func(lo, hi int) error) error {
	blocks := (n + block - 1) / block
	var next atomic.Int64
	work := func(ctx context.Context) error {
		for {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			b := int(next.Add(1)) - 1
			if b >= blocks {
				return nil
			}
			if err := f(b*block, min((b+1)*block, n)); err != nil {
				return err
			}
		}
	}
	workers := min(blocks, runtime.GOMAXPROCS(0))
	if workers <= 1 {
		return work(ctx)
	}
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error { return work(ctx) })
	}
	return g.Wait()
}
