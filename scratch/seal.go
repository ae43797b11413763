package scratch

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// A sealed file is a header and chunks.
//
//	header  8 bytes that name the format, 32 random bytes
//	chunk   AES-256-GCM of up to 64 KiB, and its tag of 16 bytes
//
// Every chunk is full but the last, which is empty only in an empty file. The
// key of a file is HKDF-SHA-256 of the directory's key, with the random bytes as
// salt and the file's name in the context; the nonce of a chunk is its number
// and whether it is the last, as in STREAM (Hoang, Reyhanitabar, Rogaway,
// Vizár, CRYPTO 2015). A file that is cut, lengthened, reordered, renamed or
// changed in a bit fails to open where it is read. Its length can be seen.
const (
	sealMagic  = "yqseal1\n"
	saltSize   = 32
	headerSize = len(sealMagic) + saltSize

	chunkSize = 64 << 10
	tagSize   = 16
	sealedMax = chunkSize + tagSize

	// maxChunks keeps every size within an int64.
	maxChunks = 1 << 46
)

const sealContext = "yinqiao scratch file v1 "

// KeySize is the length of a directory's key in bytes.
const KeySize = 32

// fileKey returns the cipher of one file.
func fileKey(key *[KeySize]byte, salt []byte, name string) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, key[:], salt, sealContext+name, 32)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func nonce(chunk int64, last bool) *[12]byte {
	var n [12]byte
	binary.BigEndian.PutUint64(n[3:], uint64(chunk))
	if last {
		n[11] = 1
	}
	return &n
}

// sealer writes a sealed file.
type sealer struct {
	w     io.Writer
	aead  cipher.AEAD
	buf   []byte // the chunk being filled, with room for its tag
	chunk int64
}

// newSealer begins a sealed file. The salt is random, and no other file's.
func newSealer(w io.Writer, key *[KeySize]byte, salt *[saltSize]byte, name string) (*sealer, error) {
	aead, err := fileKey(key, salt[:], name)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(append([]byte(sealMagic), salt[:]...)); err != nil {
		return nil, err
	}
	return &sealer{w: w, aead: aead, buf: make([]byte, 0, sealedMax)}, nil
}

// Write seals p. A full chunk is written when the next byte comes, since the
// last one is sealed as such.
func (s *sealer) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(s.buf) == chunkSize {
			if err := s.flush(false); err != nil {
				return n, err
			}
		}
		k := copy(s.buf[len(s.buf):chunkSize], p[n:])
		s.buf = s.buf[:len(s.buf)+k]
		n += k
	}
	return n, nil
}

func (s *sealer) flush(last bool) error {
	if s.chunk == maxChunks {
		return fmt.Errorf("%w: the file is too long", ErrFull)
	}
	sealed := s.aead.Seal(s.buf[:0], nonce(s.chunk, last)[:], s.buf, nil)
	s.chunk++
	s.buf = s.buf[:0]
	_, err := s.w.Write(sealed)
	return err
}

// sealed is a sealed file being read.
type sealed struct {
	r    io.ReaderAt
	aead cipher.AEAD
	name string
	layout

	mu     sync.Mutex
	chunk  int64 // the number of the one in buf, or -1
	buf    []byte
	opened []byte // what buf holds, opened
}

// layout is what the length of a sealed file says of it.
type layout struct {
	chunks int64
	last   int // bytes of the last chunk, opened
}

func (l layout) size() int64 { return (l.chunks-1)*chunkSize + int64(l.last) }

// parseHeader checks what a sealed file of a length begins with, and returns
// its salt.
func parseHeader(header []byte, length int64) (salt []byte, l layout, ok bool) {
	if len(header) != headerSize || !bytes.HasPrefix(header, []byte(sealMagic)) {
		return nil, layout{}, false
	}
	body := length - int64(headerSize)
	if body < tagSize || body > maxChunks*sealedMax {
		return nil, layout{}, false
	}
	l.chunks = (body + sealedMax - 1) / sealedMax
	l.last = int(body-(l.chunks-1)*sealedMax) - tagSize
	if l.last < 0 || l.last == 0 && l.chunks > 1 {
		return nil, layout{}, false
	}
	return header[len(sealMagic):], l, true
}

// openSealed begins to read a sealed file of length bytes. It opens the last
// chunk, so that a file without its end is found at once.
func openSealed(r io.ReaderAt, length int64, key *[KeySize]byte, name string) (*sealed, error) {
	header := make([]byte, headerSize)
	if length < int64(headerSize) {
		return nil, fmt.Errorf("%w: %s: no header", ErrDamaged, name)
	}
	if n, err := r.ReadAt(header, 0); n < headerSize {
		return nil, fmt.Errorf("scratch: %s: %w", name, err)
	}
	salt, l, ok := parseHeader(header, length)
	if !ok {
		return nil, fmt.Errorf("%w: %s: header or length", ErrDamaged, name)
	}
	aead, err := fileKey(key, salt, name)
	if err != nil {
		return nil, err
	}
	s := &sealed{r: r, aead: aead, name: name, layout: l, chunk: -1}
	if err := s.load(l.chunks - 1); err != nil {
		return nil, err
	}
	return s, nil
}

// load opens a chunk.
func (s *sealed) load(chunk int64) error {
	if chunk == s.chunk {
		return nil
	}
	last := chunk == s.chunks-1
	n := sealedMax
	if last {
		n = s.last + tagSize
	}
	if cap(s.buf) < n {
		s.buf = make([]byte, n)
	}
	s.buf, s.chunk = s.buf[:n], -1
	if k, err := s.r.ReadAt(s.buf, int64(headerSize)+chunk*sealedMax); k < n {
		if err == io.EOF {
			return fmt.Errorf("%w: %s is shorter than it was", ErrDamaged, s.name)
		}
		return fmt.Errorf("scratch: %s: %w", s.name, err)
	}
	var err error
	if s.opened, err = s.aead.Open(s.buf[:0], nonce(chunk, last)[:], s.buf, nil); err != nil {
		return fmt.Errorf("%w: %s, chunk %d", ErrDamaged, s.name, chunk)
	}
	s.chunk = chunk
	return nil
}

// ReadAt opens the chunks that p touches. It keeps the last one, so that short
// reads in sequence open each chunk once.
func (s *sealed) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("scratch: %s: negative offset", s.name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(p) {
		if off >= s.size() {
			return n, io.EOF
		}
		if err := s.load(off / chunkSize); err != nil {
			return n, err
		}
		k := copy(p[n:], s.opened[off%chunkSize:])
		n += k
		off += int64(k)
	}
	return n, nil
}
