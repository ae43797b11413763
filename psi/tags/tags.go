// Package tags codes the final hashes of a set intersection: tags, which are
// sorted, so that their order says nothing of the rows they are of, and share
// their first bits, which saves bytes.
//
//	form, err := tags.NewForm(40+pairs, n)   // bits that are needed, number of tags
//	err = tags.Sort(ctx, a)
//	b = form.Append(b, 0, form.Buckets(), a) // all buckets; a message has as many as fit
//	total, err := form.Parse(b, 0, form.Buckets(), n, use)
//
// Sorted tags are cut into 2^t buckets by their first t bits. A bucket is its
// number of tags, as a varint, and of each tag the bits after the t, in whole
// bytes; the counts of all buckets that are coded together come first. In a
// bucket tags ascend strictly: two equal ones would be one item twice.
//
// A tag takes 16 bytes of memory, and 16 more while it is sorted.
package tags

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/yinqiao/yinqiao/internal/wire"
)

// MaxBits is as long as a tag can be.
const MaxBits = 96

// Faults.
var (
	// ErrForm: no tag is long enough for what is asked.
	ErrForm = errors.New("psi/tags: tags too short")
	// ErrMalformed: bytes that are not tags of the form.
	ErrMalformed = errors.New("psi/tags: malformed tags")
)

// Tag is the first bits of an item's hash, with the row that the item is of.
type Tag struct {
	Hi  uint64 // the first 64 bits, the first of all the highest
	Lo  uint32 // the next 32
	Row int32  // not part of what is coded
}

// FromHash returns the first MaxBits bits of a hash of at least 12 bytes.
func FromHash(h []byte, row int32) Tag {
	return Tag{binary.BigEndian.Uint64(h), binary.BigEndian.Uint32(h[8:12]), row}
}

// Before orders tags by their bits.
func (t *Tag) Before(u *Tag) bool { return t.Hi < u.Hi || t.Hi == u.Hi && t.Lo < u.Lo }

// Same reports whether t and u have the same bits.
func (t *Tag) Same(u *Tag) bool { return t.Hi == u.Hi && t.Lo == u.Lo }

// Form is how the tags of one set are coded.
type Form struct {
	Bucket int // bits that say which bucket; there are 2^Bucket
	Rest   int // bytes of each tag in its bucket
}

// Bits returns the length of a tag.
func (f Form) Bits() int { return f.Bucket + 8*f.Rest }

// Buckets returns the number of buckets.
func (f Form) Buckets() int { return 1 << f.Bucket }

// NewForm returns the form that takes the fewest bytes for n tags of at least
// need bits, of equals the one with the fewest buckets.
func NewForm(need, n int) (Form, error) {
	best, bestBytes := Form{}, 0
	for b := 0; b <= bits.Len(uint(n)) && b < need; b++ {
		f := Form{b, (need - b + 7) / 8}
		if size := f.Rest*n + 1<<b; f.Bits() <= MaxBits && (best.Rest == 0 || size < bestBytes) {
			best, bestBytes = f, size
		}
	}
	if best.Rest == 0 {
		return best, fmt.Errorf("%w: %d bits are needed, the limit is %d", ErrForm, need, MaxBits)
	}
	return best, nil
}

// Cut returns t with no bits past the form's length.
func (f Form) Cut(t Tag) Tag {
	if drop := MaxBits - f.Bits(); drop < 32 {
		t.Lo &^= 1<<drop - 1
	} else {
		t.Lo = 0
		t.Hi &^= 1<<(drop-32) - 1
	}
	return t
}

// BucketOf returns the bucket of a tag.
func (f Form) BucketOf(t *Tag) int { return int(t.Hi >> 1 >> (63 - f.Bucket)) }

// Append appends buckets first to, but without, end: tags are all that are in
// them, cut and ascending.
func (f Form) Append(b []byte, first, end int, tags []Tag) []byte {
	at := 0
	for bucket := first; bucket < end; bucket++ {
		n := at
		for n < len(tags) && f.BucketOf(&tags[n]) == bucket {
			n++
		}
		b = binary.AppendUvarint(b, uint64(n-at))
		at = n
	}
	for i := range tags {
		b = f.appendRest(b, &tags[i])
	}
	return b
}

// appendRest appends the bits of t that follow the bucket's.
func (f Form) appendRest(b []byte, t *Tag) []byte {
	lo := uint64(t.Lo) << 32
	var w [16]byte
	binary.BigEndian.PutUint64(w[:], t.Hi<<f.Bucket|lo>>(64-f.Bucket))
	binary.BigEndian.PutUint64(w[8:], lo<<f.Bucket)
	return append(b, w[:f.Rest]...)
}

// rest is the inverse of appendRest: a tag without a row.
func (f Form) rest(bucket int, b []byte) Tag {
	var w [16]byte
	copy(w[:], b[:f.Rest])
	hi, lo := binary.BigEndian.Uint64(w[:]), binary.BigEndian.Uint64(w[8:])
	return Tag{Hi: uint64(bucket)<<1<<(63-f.Bucket) | hi>>f.Bucket, Lo: uint32((hi<<(64-f.Bucket) | lo>>f.Bucket) >> 32)}
}

// Parse is the inverse of Append: it hands the tags of buckets first to, but
// without, end, which b holds to its last byte, to use, in order. It returns
// how many there were, which is at most limit.
func (f Form) Parse(b []byte, first, end, limit int, use func(t *Tag)) (int, error) {
	if end-first > len(b) { // a count has a byte at least
		return 0, fmt.Errorf("%w: %d buckets in %d bytes", ErrMalformed, end-first, len(b))
	}
	r := wire.NewReader(b)
	counts := *r // read twice: once for the sum, once with the tags
	total := 0
	for range end - first {
		total += int(r.Uvarint(uint64(limit - total)))
	}
	rests := r.Fixed(r.Len())
	switch {
	case r.Done() != nil:
		return 0, fmt.Errorf("%w: %w", ErrMalformed, r.Err())
	case len(rests) != total*f.Rest:
		return 0, fmt.Errorf("%w: %d bytes of %d tags", ErrMalformed, len(rests), total)
	}
	var last Tag
	for bucket := first; bucket < end; bucket++ {
		for i := range int(counts.Uvarint(uint64(limit))) {
			t := f.rest(bucket, rests)
			rests = rests[f.Rest:]
			if i > 0 && !last.Before(&t) {
				return 0, fmt.Errorf("%w: they do not ascend", ErrMalformed)
			}
			last = t
			use(&t)
		}
	}
	return total, nil
}

// Find looks tags up among those that b holds, which Parse has accepted before:
// want are cut, ascend, and lie in buckets first to, but without, end. It calls
// found with the index of each that is there and its place in b. It reads the
// counts, and of the tags those in the buckets of want.
func (f Form) Find(b []byte, first, end int, want []Tag, found func(i, place int)) error {
	type span struct{ upto, from, n int } // of want, and in b
	spans := make([]span, 0, 16)
	at, total, next := 0, 0, 0
	for bucket := first; bucket < end; bucket++ {
		n, size := binary.Uvarint(b[at:])
		if size <= 0 || n > uint64(len(b)) {
			return fmt.Errorf("%w: a count that is missing", ErrMalformed)
		}
		at += size
		upto := next
		for upto < len(want) && f.BucketOf(&want[upto]) == bucket {
			upto++
		}
		if upto > next {
			spans = append(spans, span{upto, total, int(n)})
			next = upto
		}
		total += int(n)
	}
	rests := b[at:]
	if len(rests) != total*f.Rest {
		return fmt.Errorf("%w: %d bytes of %d tags", ErrMalformed, len(rests), total)
	}
	i := 0
	for _, s := range spans {
		bucket := f.BucketOf(&want[i])
		for place := s.from; place < s.from+s.n && i < s.upto; place++ {
			t := f.rest(bucket, rests[place*f.Rest:])
			for i < s.upto && want[i].Before(&t) {
				i++
			}
			if i < s.upto && want[i].Same(&t) {
				found(i, place)
				i++
			}
		}
		i = s.upto
	}
	return nil
}
