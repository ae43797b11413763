package rr22

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"runtime"
	"slices"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/parallel"
)

// entry is the final hash of one key, its first bits only, with the own row of
// the key. It has 16 bytes. An element's first bits are the highest of Lo, and
// after all of Lo the highest of Hi.
type entry struct {
	hi  uint64 // the first 64 bits
	lo  uint32 // the next 32
	row int32
}

// before orders entries by hash.
func (e *entry) before(f *entry) bool { return e.hi < f.hi || e.hi == f.hi && e.lo < f.lo }

func (e *entry) same(f *entry) bool { return e.hi == f.hi && e.lo == f.lo }

// maxHashBits is as long as a hash can be.
const maxHashBits = 96

// hashForm is how the sender's hashes travel: sorted, so that their order says
// nothing, and cut into 2^bucket buckets by their first bits. A bucket is its
// number of hashes and, of each, the bits that follow, in whole bytes.
type hashForm struct {
	bucket int // bits
	rest   int // bytes
}

// bits returns the length of a hash.
func (f hashForm) bits() int { return f.bucket + 8*f.rest }

// newHashForm returns the form that takes the fewest bytes for n hashes of at
// least need bits.
func newHashForm(need, n int) (hashForm, error) {
	best, bestBytes := hashForm{}, 0
	for b := 0; b <= bits.Len(uint(n)) && b < need; b++ {
		f := hashForm{b, (need - b + 7) / 8}
		if bytes := f.rest*n + 1<<b; f.bits() <= maxHashBits && (best.rest == 0 || bytes < bestBytes) {
			best, bestBytes = f, bytes
		}
	}
	if best.rest == 0 {
		return best, fmt.Errorf("%w: hashes of %d bits are needed, the limit is %d", ErrSize, need, maxHashBits)
	}
	return best, nil
}

// entry cuts a hash to the form's length.
func (f hashForm) entry(h gf128.Element, row int32) entry {
	e := entry{hi: h.Lo, lo: uint32(h.Hi >> 32), row: row}
	if drop := maxHashBits - f.bits(); drop < 32 {
		e.lo &^= 1<<drop - 1
	} else {
		e.lo = 0
		e.hi &^= 1<<(drop-32) - 1
	}
	return e
}

// bucketOf returns the bucket of a hash.
func (f hashForm) bucketOf(hi uint64) int { return int(hi >> 1 >> (63 - f.bucket)) }

// appendRest appends the bits of e that follow the bucket's.
func (f hashForm) appendRest(b []byte, e *entry) []byte {
	lo := uint64(e.lo) << 32
	var w [16]byte
	binary.BigEndian.PutUint64(w[:], e.hi<<f.bucket|lo>>(64-f.bucket))
	binary.BigEndian.PutUint64(w[8:], lo<<f.bucket)
	return append(b, w[:f.rest]...)
}

// parseRest is the inverse of appendRest.
func (f hashForm) parseRest(bucket int, b []byte) entry {
	var w [16]byte
	copy(w[:], b[:f.rest])
	hi, lo := binary.BigEndian.Uint64(w[:]), binary.BigEndian.Uint64(w[8:])
	return entry{hi: uint64(bucket)<<1<<(63-f.bucket) | hi>>f.bucket, lo: uint32((hi<<(64-f.bucket) | lo>>f.bucket) >> 32)}
}

// hashChunk is how many bytes of hashes go into one message at least, but in
// the last; the bucket in which it is reached is the message's last.
const hashChunk = 240 << 10

// appendBuckets appends the body of a message with buckets from first on, and
// returns where the next message begins. entries are those not yet sent, and
// sorted.
func (f hashForm) appendBuckets(body []byte, first int, entries []entry) (_ []byte, next int, rest []entry) {
	// The counts come first, so the hashes of a message lie together.
	next = first
	at, size := 0, 0
	var counts []byte
	for next < 1<<f.bucket && size < hashChunk {
		n := at
		for n < len(entries) && f.bucketOf(entries[n].hi) == next {
			n++
		}
		before := len(counts)
		counts = binary.AppendUvarint(counts, uint64(n-at))
		size += len(counts) - before + (n-at)*f.rest
		at = n
		next++
	}
	body = binary.AppendUvarint(body, uint64(next-first))
	body = append(body, counts...)
	for i := range entries[:at] {
		body = f.appendRest(body, &entries[i])
	}
	return body, next, entries[at:]
}

// parseBuckets hands the hashes of a message, which has to begin with bucket
// first and may hold at most limit of them, to use, in order and ascending. It
// returns the next message's first bucket and how many hashes there were.
func (f hashForm) parseBuckets(body []byte, first, limit int, use func(e *entry)) (next, total int, err error) {
	r := wire.NewReader(body)
	buckets := int(r.Uvarint(uint64(1<<f.bucket - first)))
	if r.Err() == nil && (buckets == 0 || buckets > r.Len()) { // a count has a byte at least
		return 0, 0, fmt.Errorf("%w: %d buckets in %d bytes of hashes", ErrMessage, buckets, len(body))
	}
	counts := *r // read twice: once for the sum, once with the hashes
	for range buckets {
		total += int(r.Uvarint(uint64(limit - total)))
	}
	hashes := r.Fixed(r.Len())
	if err := r.Done(); err != nil {
		return 0, 0, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if len(hashes) != total*f.rest {
		return 0, 0, fmt.Errorf("%w: %d bytes for %d hashes of %d", ErrMessage, len(hashes), total, f.rest)
	}
	for b := range buckets {
		var last entry
		for i := range int(counts.Uvarint(uint64(limit))) {
			e := f.parseRest(first+b, hashes)
			hashes = hashes[f.rest:]
			if i > 0 && !last.before(&e) {
				return 0, 0, fmt.Errorf("%w: hashes that do not ascend", ErrMessage)
			}
			last = e
			use(&e)
		}
	}
	return first + buckets, total, nil
}

// sortEntries sorts a by hash, with as many processors as there are: into parts
// of about 2^12 by the first bits, and each part, which fits a cache, by the
// next ones. It takes 16 bytes an entry for the time.
func sortEntries(ctx context.Context, a []entry) error {
	const partBits = 12
	top := max(0, min(bits.Len(uint(len(a)))-partBits, 14))
	digit := func(e *entry) int { return int(e.hi >> 1 >> (63 - top)) }
	workers := min(runtime.GOMAXPROCS(0), 1+len(a)/(1<<partBits))
	share := func(i int) []entry { return a[len(a)*i/workers : len(a)*(i+1)/workers] }
	next := make([][]int, workers)
	err := parallel.For(ctx, workers, 1, func(i, _ int) error {
		next[i] = make([]int, 1<<top)
		for j := range share(i) {
			next[i][digit(&share(i)[j])]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	ends := make([]int, 1<<top+1)
	at := 0
	for d := range 1 << top {
		for i := range next {
			at, next[i][d] = at+next[i][d], at
		}
		ends[d+1] = at
	}
	b := make([]entry, len(a))
	err = parallel.For(ctx, workers, 1, func(i, _ int) error {
		to := next[i]
		for _, e := range share(i) {
			d := digit(&e)
			b[to[d]] = e
			to[d]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	return parallel.For(ctx, 1<<top, 1, func(d, _ int) error {
		sortPart(a[ends[d]:ends[d+1]], b[ends[d]:ends[d+1]], top)
		return nil
	})
}

// sortPart sets a to b sorted; the first skip bits of all of b are the same.
func sortPart(a, b []entry, skip int) {
	const digits = 12
	digit := func(e *entry) int { return int(e.hi << skip >> (64 - digits)) }
	var next [1<<digits + 1]int32
	for i := range b {
		next[digit(&b[i])+1]++
	}
	most := int32(0)
	for d := range 1 << digits {
		most = max(most, next[d+1])
		next[d+1] += next[d]
	}
	for i := range b {
		d := digit(&b[i])
		a[next[d]] = b[i]
		next[d]++
	}
	if most > 64 { // not what hashes look like, or very many of them
		slices.SortFunc(a, func(x, y entry) int {
			switch {
			case x.before(&y):
				return -1
			case y.before(&x):
				return 1
			}
			return 0
		})
		return
	}
	for i := 1; i < len(a); i++ {
		e := a[i]
		j := i
		for ; j > 0 && e.before(&a[j-1]); j-- {
			a[j] = a[j-1]
		}
		a[j] = e
	}
}

// matcher finds the sender's hashes, which come in ascending order, among the
// own ones, which are sorted.
type matcher struct {
	own  []entry
	at   int
	seen int // of the sender's
	rows []int32
	bits []byte // which of the sender's are common
}

// next takes the sender's next hash.
func (m *matcher) next(e *entry) {
	for m.at < len(m.own) && m.own[m.at].before(e) {
		m.at++
	}
	if m.seen%8 == 0 {
		m.bits = append(m.bits, 0)
	}
	if m.at < len(m.own) && m.own[m.at].same(e) {
		m.rows = append(m.rows, m.own[m.at].row)
		m.bits[m.seen/8] |= 1 << (m.seen % 8)
		m.at++
	}
	m.seen++
}
