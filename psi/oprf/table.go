package oprf

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/scratch"
)

// The table of an epoch is the sorted tags of all rows of the server, cut into
// segments. Its directory says of each segment how many tags and bytes it has
// and gives its SHA-256, and the root is the hash of the directory. So a client
// can check any segment by itself: when it comes, and whenever it is read from a
// disk again.
const (
	segmentLimit = 64 << 10             // bytes of a segment: twice what is usual, and hashes do not vary that much
	entrySize    = 8 + sha256.Size      // of a segment in the directory
	chunkBytes   = 240 << 10            // of a message with segments or directory, at most
	rowSize      = 4                    // of a row number
	rowsCheck    = 16                   // of the checksum behind a segment's row numbers
	rootLabel    = Name + " table v1\n" // separates the root from other hashes
)

// Variables for the tests, which have small tables.
var (
	segmentBytes = 32 << 10 // of an average segment at most
	partSegments = 1 << 10  // segments in each of a client's files, which have 32 MiB at most
)

type rootHash [sha256.Size]byte

// layout is how the tags of a number of rows are cut, the same at both parties.
type layout struct {
	rows        int
	form        tags.Form
	segmentBits int // there are 2^segmentBits segments, of as many buckets each
}

// newLayout allows for clients of up to MaxItems items: any of them is taken
// for another key with a probability of at most 2^-falseMatchBits in a session.
func newLayout(rows, falseMatchBits int) (layout, error) {
	l := layout{rows: rows}
	pairs := max(rows, 1) * MaxItems // at most 2^48
	var err error
	if l.form, err = tags.NewForm(falseMatchBits+bits.Len(uint(pairs-1)), rows); err != nil {
		return l, fmt.Errorf("%w: %w", ErrSize, err)
	}
	for size := l.form.Rest*rows + l.form.Buckets(); size>>l.segmentBits > segmentBytes && l.segmentBits < l.form.Bucket; {
		l.segmentBits++
	}
	return l, nil
}

func (l layout) segments() int { return 1 << l.segmentBits }

// buckets returns the buckets of segment i.
func (l layout) buckets(i int) (first, end int) {
	per := l.form.Buckets() >> l.segmentBits
	return i * per, (i + 1) * per
}

func (l layout) segmentOf(t *tags.Tag) int {
	return l.form.BucketOf(t) >> (l.form.Bucket - l.segmentBits)
}

// parts returns how many files a client keeps the table in.
func (l layout) parts() int { return (l.segments() + partSegments - 1) / partSegments }

// part returns the segments of part i.
func (l layout) part(i int) (first, end int) {
	return i * partSegments, min((i+1)*partSegments, l.segments())
}

// segment is an entry of a directory.
type segment struct {
	tags, size int // size in bytes
	sum        [sha256.Size]byte
}

type directory []segment

func (d directory) append(b []byte) []byte {
	for i := range d {
		b = binary.LittleEndian.AppendUint32(b, uint32(d[i].tags))
		b = binary.LittleEndian.AppendUint32(b, uint32(d[i].size))
		b = append(b, d[i].sum[:]...)
	}
	return b
}

// parseDirectory takes the directory of a table of l apart.
func (l layout) parseDirectory(b []byte) (directory, error) {
	if len(b) != l.segments()*entrySize {
		return nil, fmt.Errorf("%w: a directory of %d bytes for %d segments", ErrMessage, len(b), l.segments())
	}
	first, end := l.buckets(0)
	d := make(directory, l.segments())
	rows := 0
	for i := range d {
		e := b[i*entrySize:][:entrySize]
		d[i].tags = int(binary.LittleEndian.Uint32(e))
		d[i].size = int(binary.LittleEndian.Uint32(e[4:]))
		copy(d[i].sum[:], e[8:])
		if d[i].size > segmentLimit || d[i].size < end-first+d[i].tags*l.form.Rest {
			return nil, fmt.Errorf("%w: a segment of %d bytes for %d tags", ErrMessage, d[i].size, d[i].tags)
		}
		rows += d[i].tags // none is above segmentLimit by now
	}
	if rows != l.rows {
		return nil, fmt.Errorf("%w: a directory of %d tags for %d rows", ErrMessage, rows, l.rows)
	}
	return d, nil
}

// rootOf binds a directory to its epoch and layout.
func (l layout) rootOf(id epochID, dir []byte) rootHash {
	b := append([]byte(rootLabel), id[:]...)
	for _, n := range []int{l.rows, l.form.Bucket, l.form.Rest, l.segmentBits} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return sha256.Sum256(append(b, dir...))
}

// errSegment is a segment that is not the directory's.
var errSegment = errors.New("psi/oprf: a segment that its directory does not name")

// parse checks the bytes of segment i and hands its tags to use, in order.
func (l layout) parse(d directory, i int, b []byte, use func(t *tags.Tag)) error {
	if len(b) != d[i].size || sha256.Sum256(b) != d[i].sum {
		return errSegment
	}
	first, end := l.buckets(i)
	n, err := l.form.Parse(b, first, end, d[i].tags, use)
	if err == nil && n != d[i].tags {
		err = fmt.Errorf("%w: %d tags, %d were due", ErrMessage, n, d[i].tags)
	}
	if errors.Is(err, tags.ErrMalformed) {
		err = fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return err
}

// tableWriter cuts ascending tags into segments and writes them, and their rows
// to a file beside it: of each segment the row numbers in the order of the tags,
// and a checksum.
type tableWriter struct {
	layout
	table, rows scratch.Writer
	dir         directory
	pending     []tags.Tag // of the segment len(dir), cut
	last        tags.Tag   // not cut
	begun       bool
	buf         []byte

	duplicates int64 // rows with the tag of an earlier row
	first      int64 // the first of them, from 1
}

// errCollision is two different keys with one tag: less than 2^-30 likely at any
// size, and gone with the next key.
var errCollision = errors.New("psi/oprf: two keys have the same tag by chance; run it again")

// add takes the next tags, equal ones by row.
func (w *tableWriter) add(sorted []tags.Tag) error {
	for i := range sorted {
		t := &sorted[i]
		if w.begun && w.last.Same(t) {
			if row := int64(t.Row) + 1; w.duplicates == 0 || row < w.first {
				w.first = row
			}
			w.duplicates++
			continue
		}
		w.last, w.begun = *t, true
		c := w.form.Cut(*t)
		for w.segmentOf(&c) > len(w.dir) {
			if err := w.flush(); err != nil {
				return err
			}
		}
		if n := len(w.pending); n > 0 && w.pending[n-1].Same(&c) {
			return errCollision
		}
		w.pending = append(w.pending, c)
	}
	return nil
}

// flush writes the pending segment.
func (w *tableWriter) flush() error {
	first, end := w.buckets(len(w.dir))
	w.buf = w.form.Append(w.buf[:0], first, end, w.pending)
	if len(w.buf) > segmentLimit {
		return fmt.Errorf("%w: a segment of %d bytes", ErrSize, len(w.buf))
	}
	w.dir = append(w.dir, segment{len(w.pending), len(w.buf), sha256.Sum256(w.buf)})
	if _, err := w.table.Write(w.buf); err != nil {
		return err
	}
	w.buf = w.buf[:0]
	for i := range w.pending {
		w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(w.pending[i].Row))
	}
	w.pending = w.pending[:0]
	_, err := w.rows.Write(appendRowsCheck(w.buf, len(w.dir)-1))
	return err
}

// finish writes the segments that are left.
func (w *tableWriter) finish() error {
	for len(w.dir) < w.segments() {
		if err := w.flush(); err != nil {
			return err
		}
	}
	return nil
}

// appendRowsCheck appends the checksum of the row numbers of segment i.
func appendRowsCheck(b []byte, i int) []byte {
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64(b, uint64(i)))
	return append(b, sum[:rowsCheck]...)
}
