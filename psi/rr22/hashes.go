package rr22

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/psi/tags"
)

// The sender's hashes travel as package tags codes them.

// tagOf returns the first bits of a hash, as many as the form has: the highest
// of Lo, and after all of Lo the highest of Hi.
func tagOf(f tags.Form, h gf128.Element, row int32) tags.Tag {
	return f.Cut(tags.Tag{Hi: h.Lo, Lo: uint32(h.Hi >> 32), Row: row})
}

// hashChunk is how many bytes of hashes go into one message at least, but in
// the last; the bucket in which it is reached is the message's last.
const hashChunk = 240 << 10

// appendHashes appends the body of a message: how many buckets it has, and
// those, from first on. It returns where the next message begins. hashes are
// those not yet sent, sorted.
func appendHashes(body []byte, f tags.Form, first int, hashes []tags.Tag) (_ []byte, next int, rest []tags.Tag) {
	next = first
	at, size := 0, 0
	for next < f.Buckets() && size < hashChunk {
		n := at
		for n < len(hashes) && f.BucketOf(&hashes[n]) == next {
			n++
		}
		size += (bits.Len(uint(n-at)|1)+6)/7 + (n-at)*f.Rest // the count is a varint
		at = n
		next++
	}
	body = binary.AppendUvarint(body, uint64(next-first))
	return f.Append(body, first, next, hashes[:at]), next, hashes[at:]
}

// parseHashes hands the hashes of a message, which has to begin with bucket
// first and may hold at most limit of them, to use, in order and ascending. It
// returns the next message's first bucket and how many hashes there were.
func parseHashes(body []byte, f tags.Form, first, limit int, use func(h *tags.Tag)) (next, total int, err error) {
	r := wire.NewReader(body)
	buckets := int(r.Uvarint(uint64(f.Buckets() - first)))
	if err := r.Err(); err != nil {
		return 0, 0, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if buckets == 0 {
		return 0, 0, fmt.Errorf("%w: hashes of no bucket", ErrMessage)
	}
	next = first + buckets
	if total, err = f.Parse(body[len(body)-r.Len():], first, next, limit, use); err != nil {
		return 0, 0, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return next, total, nil
}

// matcher finds the sender's hashes, which come in ascending order, among the
// own ones, which are sorted.
type matcher struct {
	own  []tags.Tag
	at   int
	seen int // of the sender's
	rows []int32
	bits []byte // which of the sender's are common
}

// next takes the sender's next hash.
func (m *matcher) next(h *tags.Tag) {
	for m.at < len(m.own) && m.own[m.at].Before(h) {
		m.at++
	}
	if m.seen%8 == 0 {
		m.bits = append(m.bits, 0)
	}
	if m.at < len(m.own) && m.own[m.at].Same(h) {
		m.rows = append(m.rows, m.own[m.at].Row)
		m.bits[m.seen/8] |= 1 << (m.seen % 8)
		m.at++
	}
	m.seen++
}
