package secagg

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	"github.com/yinqiao/yinqiao/mpc/share"
)

const (
	// unit is the multiple at which sections are cut: whole elements of every
	// width, and whole turns of the cipher, which takes eight blocks in one.
	unit = 384
	// chunkBytes is how much of a vector a message carries; with its header it
	// stays below session.ChunkSize.
	chunkBytes = 682 * unit
	// blockBytes is how much is masked in one go: vector, key stream and result
	// stay in the processor's nearest caches.
	blockBytes = 43 * unit
)

// zeros is what key streams are added to.
var zeros [blockBytes]byte

// piece is n bytes of a section, beginning at off.
type piece struct {
	section
	off, n int
}

// layout cuts a vector of a shape, and the canary, into messages of at most
// chunkBytes. All but the last piece of a section have a length that is a
// multiple of unit.
func layout(s share.Shape) [][]piece {
	messages := [][]piece{nil}
	room := chunkBytes
	for _, sec := range []section{narrow, wide, huge, canary} {
		size := sec.width() * sectionLen(s, sec)
		for off := 0; off < size; {
			n := size - off
			if n > room {
				if n = room / unit * unit; n == 0 {
					messages, room = append(messages, nil), chunkBytes
					continue
				}
			}
			last := len(messages) - 1
			messages[last] = append(messages[last], piece{sec, off, n})
			off, room = off+n, room-n
		}
	}
	return messages
}

func sectionLen(s share.Shape, sec section) int {
	return [...]int{narrow: s.Narrow, wide: s.Wide, huge: s.Huge, canary: canaryLen}[sec]
}

// messageBytes is the length of what the pieces of one message hold.
func messageBytes(pieces []piece) (n int) {
	for _, p := range pieces {
		n += p.n
	}
	return n
}

// encode writes the elements of v that p names to dst, p.n bytes.
func (p piece) encode(dst []byte, v share.Vector) {
	at := p.off / p.width()
	switch p.section {
	case narrow:
		for i, x := range v.Narrow[at : at+p.n/4] {
			binary.LittleEndian.PutUint32(dst[4*i:], x)
		}
	case wide:
		for i, x := range v.Wide[at : at+p.n/8] {
			binary.LittleEndian.PutUint64(dst[8*i:], x)
		}
	case huge:
		for i, x := range v.Huge[at : at+p.n/12] {
			binary.LittleEndian.PutUint64(dst[12*i:], x.Lo)
			binary.LittleEndian.PutUint32(dst[12*i+8:], uint32(x.Hi))
		}
	case canary:
		clear(dst[:p.n])
	}
}

// decode is the inverse of encode; elements of Huge come with their sign. It
// says whether the canary, if p is of that, is what it was.
func (p piece) decode(v share.Vector, src []byte) bool {
	at := p.off / p.width()
	switch p.section {
	case narrow:
		for i := range v.Narrow[at : at+p.n/4] {
			v.Narrow[at+i] = binary.LittleEndian.Uint32(src[4*i:])
		}
	case wide:
		for i := range v.Wide[at : at+p.n/8] {
			v.Wide[at+i] = binary.LittleEndian.Uint64(src[8*i:])
		}
	case huge:
		for i := range v.Huge[at : at+p.n/12] {
			v.Huge[at+i] = share.SignedHuge(share.Word{
				Lo: binary.LittleEndian.Uint64(src[12*i:]),
				Hi: uint64(binary.LittleEndian.Uint32(src[12*i+8:])),
			})
		}
	case canary:
		return [canaryLen * 8]byte(src) == [canaryLen * 8]byte{}
	}
	return true
}

// blocks calls f for the parts of p of at most blockBytes, with where each
// begins in p.
func (p piece) blocks(f func(b piece, at int)) {
	for at := 0; at < p.n; at += blockBytes {
		f(piece{p.section, p.off + at, min(blockBytes, p.n-at)}, at)
	}
}

// maskKey is the key of one mask of one step: AES-256 in counter mode, a section
// of the vector having counters of its own. Negative masks are subtracted.
type maskKey struct {
	cipher.Block
	negative bool
}

func newMaskKey(key []byte, negative bool) maskKey {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic("secagg: AES-256 refused a key of 32 bytes: " + err.Error()) // cannot happen
	}
	return maskKey{b, negative}
}

// masker adds masks to blocks of a vector. It is for one goroutine.
type masker struct {
	keys    []maskKey
	streams []cipher.Stream // where those of the last block ended, which is at next
	next    piece
	buf     [blockBytes]byte
}

func newMasker(keys []maskKey) *masker {
	return &masker{keys: keys, streams: make([]cipher.Stream, len(keys)), next: piece{off: -1}}
}

// add adds all masks to dst, which holds what b names; b begins at a multiple
// of unit.
func (m *masker) add(dst []byte, b piece) {
	resume := m.next.section == b.section && m.next.off == b.off
	for i, k := range m.keys {
		if !resume {
			var iv [aes.BlockSize]byte
			iv[0] = byte(b.section)
			binary.BigEndian.PutUint64(iv[8:], uint64(b.off/aes.BlockSize))
			m.streams[i] = cipher.NewCTR(k.Block, iv[:])
		}
		m.streams[i].XORKeyStream(m.buf[:b.n], zeros[:b.n])
		b.section.add(dst[:b.n], m.buf[:b.n], k.negative)
	}
	m.next = piece{b.section, b.off + b.n, 0}
}
