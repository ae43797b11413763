package table

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/yinqiao/yinqiao/scratch"
)

const (
	// segment is the unit of both files, in bytes.
	segment = 64 << 10
	// buckets is the most there are; each holds a segment in memory while rows
	// are placed.
	buckets = 256

	orderName = "arrange.order"
	rowsName  = "arrange.rows"
)

// onDisk arranges with memory that does not depend on n. The pairs of the order
// are written in sorted runs; the source streams past the runs, and each row
// that they want is appended to the bucket of its positions; reading takes one
// bucket after the other into memory. A bucket is a list of segments of one
// file, so that neither the number of open files nor of flushes grows.
func (a arrangement) onDisk(ctx context.Context, src Source, order iter.Seq2[int64, error], n int64, files scratch.Files) (_ Source, err error) {
	if files == nil {
		return nil, errors.New("table: the arrangement does not fit memory and has no files")
	}
	defer func() { err = errors.Join(err, files.Remove(orderName)) }()
	lengths, err := a.writeRuns(ctx, order, n, files)
	if err != nil {
		return nil, err
	}
	f, err := files.Open(orderName)
	if err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	defer f.Close()
	w, err := files.Create(rowsName)
	if err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	defer w.Discard()

	s := &spill{arrangement: a, n: n, files: files, w: w}
	var runs []*run
	at, wanted := int64(0), int64(0)
	for _, l := range lengths {
		runs = append(runs, &run{more: readPairs(f, at, l)})
		at += 8 * int64(l)
		wanted += int64(l)
	}
	if err := visit(ctx, src, runs, s); err != nil {
		return nil, err
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	return newArranged(src.Schema(), n, wanted < n, s.parts), nil
}

// writeRuns writes the pairs of an order in sorted runs and returns their
// lengths.
func (a arrangement) writeRuns(ctx context.Context, order iter.Seq2[int64, error], n int64, files scratch.Files) ([]int, error) {
	w, err := files.Create(orderName)
	if err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	defer w.Discard()
	var lengths []int
	buf := make([]byte, 0, segment)
	pairs := make([]pair, 0, min(int64(a.run), n))
	room := make([]pair, cap(pairs))
	flush := func() error {
		sortPairs(pairs, room)
		lengths = append(lengths, len(pairs))
		for i, p := range pairs {
			if buf = binary.LittleEndian.AppendUint64(buf, p); len(buf) == segment || i == len(pairs)-1 {
				if _, err := w.Write(buf); err != nil {
					return fmt.Errorf("table: %w", err)
				}
				buf = buf[:0]
			}
		}
		pairs = pairs[:0]
		return nil
	}
	err = each(ctx, order, n, func(p pair) error {
		pairs = append(pairs, p)
		if len(pairs) == cap(pairs) {
			return flush()
		}
		return nil
	})
	if err == nil && len(pairs) > 0 {
		err = flush()
	}
	if err != nil {
		return nil, err
	}
	if err := w.Commit(); err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	return lengths, nil
}

// readPairs reads left pairs that begin at an offset.
func readPairs(f scratch.File, at int64, left int) func() ([]pair, error) {
	var buf []byte
	var pairs []pair
	return func() ([]pair, error) {
		n := min(left, segment/8)
		if n == 0 {
			buf, pairs = nil, nil
			return nil, nil
		}
		if buf == nil {
			buf, pairs = make([]byte, 8*n), make([]pair, n)
		}
		if err := readAt(f, buf[:8*n], at); err != nil {
			return nil, err
		}
		for i := range n {
			pairs[i] = binary.LittleEndian.Uint64(buf[8*i:])
		}
		at += int64(8 * n)
		left -= n
		return pairs[:n], nil
	}
}

// readAt fills p, or fails: what is read was written before.
func readAt(f scratch.File, p []byte, at int64) error {
	if n, err := f.ReadAt(p, at); n < len(p) {
		return fmt.Errorf("table: %w: %w", scratch.ErrDamaged, err)
	}
	return nil
}

// spill is rows on disk by bucket of positions. A bucket is records: the
// position in the bucket and the length of the cells as uvarints, and the cells.
type spill struct {
	arrangement
	n     int64 // positions
	files scratch.Files

	w       scratch.Writer
	written int64

	rows    int64 // positions of a bucket, a multiple of batchRows
	buckets []bucket
	cells   []int64 // bytes of the cells of each batchRows positions
	head    []byte
}

type bucket struct {
	open     []byte // the segment being filled
	segments []int64
	bytes    int64
}

// start chooses the buckets.
func (s *spill) start(width int) error {
	s.rows = batchRows
	for s.rows < s.n && (s.rows*buckets < s.n || s.rows*int64(width) < s.bucket) {
		s.rows *= 2
	}
	s.buckets = make([]bucket, (s.n+s.rows-1)/s.rows)
	s.cells = make([]int64, (s.n+batchRows-1)/batchRows)
	return nil
}

func (s *spill) place(position uint32, row []byte) error {
	b := &s.buckets[int64(position)/s.rows]
	s.cells[position/batchRows] += int64(len(row))
	s.head = binary.AppendUvarint(s.head[:0], uint64(int64(position)%s.rows))
	s.head = binary.AppendUvarint(s.head, uint64(len(row)))
	if b.open == nil {
		b.open = make([]byte, 0, segment)
	}
	if len(b.open)+len(s.head)+len(row) < segment {
		b.open = append(append(b.open, s.head...), row...)
		return nil
	}
	if err := s.add(b, s.head); err != nil {
		return err
	}
	return s.add(b, row)
}

// add appends to a bucket, across segments.
func (s *spill) add(b *bucket, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), segment-len(b.open))
		b.open, p = append(b.open, p[:n]...), p[n:]
		if len(b.open) == segment {
			if err := s.flush(b); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *spill) flush(b *bucket) error {
	if _, err := s.w.Write(b.open); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	b.segments = append(b.segments, s.written)
	b.bytes += int64(len(b.open))
	s.written += int64(len(b.open))
	b.open = b.open[:0]
	return nil
}

func (s *spill) finish() error {
	if s.buckets == nil {
		_ = s.start(0) // no row of the source was wanted
	}
	for i := range s.buckets {
		b := &s.buckets[i]
		if len(b.open) > 0 {
			if err := s.flush(b); err != nil {
				return err
			}
		}
		b.open = nil
	}
	s.head = nil
	if err := s.w.Commit(); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	return nil
}

// parts returns the positions in order, in parts that fit memory: a bucket, or
// less where a bucket's rows are longer than the first ones were.
func (s *spill) parts(ctx context.Context) iter.Seq2[*placed, error] {
	return func(yield func(*placed, error) bool) {
		f, err := s.files.Open(rowsName)
		if err != nil {
			yield(nil, fmt.Errorf("table: %w", err))
			return
		}
		defer f.Close()
		var room []byte
		for i := range s.buckets {
			from, end := int64(i)*s.rows, min(int64(i+1)*s.rows, s.n)
			for from < end {
				to, size := from, int64(0)
				for to < end && (to == from || size+s.cells[to/batchRows] <= s.part) {
					size += s.cells[to/batchRows]
					to = min(to+batchRows, end)
				}
				if int64(cap(room)) < size {
					room = make([]byte, 0, size)
				}
				p := &placed{at: make([]uint64, to-from), chunks: [][]byte{room[:0]}}
				first := from - int64(i)*s.rows
				if err := s.buckets[i].load(ctx, f, uint64(first), uint64(size), p); err != nil {
					yield(nil, err)
					return
				}
				room = p.chunks[0]
				if !yield(p, nil) {
					return
				}
				from = to
			}
		}
	}
}

// load places those rows of a bucket whose positions are p's, which begin at
// first. Their cells have size bytes.
func (b *bucket) load(ctx context.Context, f scratch.File, first, size uint64, p *placed) error {
	var buf []byte
	begin, left := 0, b.bytes // of buf what is not read yet, of the bucket what is not in buf
	for _, at := range b.segments {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n := int(min(segment, left))
		buf = append(buf[:0], buf[begin:]...)
		begin = len(buf)
		buf = append(buf, make([]byte, n)...)
		if err := readAt(f, buf[begin:], at); err != nil {
			return err
		}
		left -= int64(n)
		begin = 0
		for begin < len(buf) {
			position, row, l := record(buf[begin:])
			if l < 0 {
				return errCells
			}
			if l == 0 {
				break
			}
			begin += l
			if position < first || position-first >= uint64(len(p.at)) {
				continue
			}
			c := p.chunks[0]
			if uint64(len(c)+len(row)) > size {
				return errCells
			}
			p.at[position-first] = uint64(len(c)) + 1
			p.chunks[0] = append(c, row...)
		}
	}
	if begin < len(buf) || left != 0 || uint64(len(p.chunks[0])) != size {
		return errCells
	}
	return nil
}

// record parses the record that b begins with. Its length is 0 if b ends
// within it, and negative if it is none.
func record(b []byte) (position uint64, row []byte, length int) {
	position, k := binary.Uvarint(b)
	if k <= 0 {
		return 0, nil, k
	}
	l, m := binary.Uvarint(b[k:])
	if m <= 0 {
		return 0, nil, m
	}
	if l > uint64(len(b)-k-m) {
		return 0, nil, 0
	}
	return position, b[k+m : k+m+int(l)], k + m + int(l)
}
