package table

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/yinqiao/yinqiao/scratch"
)

// maxRows bounds the rows of a source and of an arrangement: a row and a
// position share one word.
const maxRows = 1<<32 - 1

// Order returns rows as the order of an arrangement.
func Order[R ~int | ~int32 | ~int64](rows []R) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		for _, r := range rows {
			if !yield(int64(r), nil) {
				return
			}
		}
	}
}

// Arrange returns the rows of src in another order: row k of the result is row
// order[k] of src, and a row of missing values where order[k] is -1. A row may
// come more than once, and need not come at all. Order is read once and must
// have n rows; an error in it is returned as it is. Src is read to its end, so
// that it can report that it changed, after a beginning of it may have been read
// to see how much it is; where no row of it is wanted, it is not read. A row that
// src does not have is ErrRow.
//
// The result has the columns of src; where a row of missing values occurs, none
// of them is a key. It holds nothing of src and can be read any number of
// times, concurrently too.
//
// A result of up to 2^20 rows and 64 MiB is kept in memory, and files may be
// nil if it is known to be no more. A larger one is written to files under names
// that begin with "arrange.": it is readable while they exist, and its files
// must be its own, see [scratch.Sub]. Arranging takes up to 128 MB of memory and
// reading up to 64 MB, for up to 10^9 rows and besides what src takes; the files
// take 8 bytes a row while it is arranged, and the cells from then on.
func Arrange(ctx context.Context, src Source, order iter.Seq2[int64, error], n int64, files scratch.Files) (Source, error) {
	return sizes.of(ctx, src, order, n, files)
}

// arrangement is the sizes that decide where rows are kept.
type arrangement struct {
	inMemory int64 // rows of the longest that is tried in memory
	bytes    int   // of cells that it may take there
	run      int   // pairs that are sorted at a time, in twice 8 bytes each
	bucket   int64 // bytes that a bucket should hold
	part     int64 // bytes of cells that are read at a time, but for a batch with more
}

var sizes = arrangement{inMemory: 1 << 20, bytes: 64 << 20, run: 1 << 21, bucket: 1 << 20, part: 32 << 20}

func (a arrangement) of(ctx context.Context, src Source, order iter.Seq2[int64, error], n int64, files scratch.Files) (Source, error) {
	if n < 0 || n > maxRows {
		return nil, fmt.Errorf("table: an arrangement of %d rows, at most %d are possible", n, int64(maxRows))
	}
	if len(src.Schema()) == 0 {
		return nil, errNoColumns
	}
	if n > a.inMemory {
		return a.onDisk(ctx, src, order, n, files)
	}
	pairs, err := collect(ctx, order, n)
	if err != nil {
		return nil, err
	}
	p := newPlaced(int(n), a.bytes)
	err = visit(ctx, src, []*run{{pairs: pairs}}, p)
	switch {
	case errors.Is(err, errLarge):
		return a.onDisk(ctx, src, unsorted(pairs, n), n, files)
	case err != nil:
		return nil, err
	}
	return newArranged(src.Schema(), n, len(pairs) < int(n), p.parts), nil
}

var (
	errNoColumns = errors.New("table: no columns")
	errLarge     = errors.New("table: more cells than are kept in memory")
)

// Take returns the rows of src at the given positions, in that order; a
// position may come more than once. Memory is that of the result, twice.
func Take(ctx context.Context, src Source, rows []int) (*Table, error) {
	schema := src.Schema()
	if len(schema) == 0 {
		return nil, errNoColumns
	}
	for _, r := range rows {
		if r < 0 {
			return nil, fmt.Errorf("%w: %d", ErrRow, r)
		}
	}
	pairs, err := collect(ctx, Order(rows), int64(len(rows)))
	if err != nil {
		return nil, err
	}
	p := newPlaced(len(rows), 0)
	if err := visit(ctx, src, []*run{{pairs: pairs}}, p); err != nil {
		return nil, err
	}
	t := &Table{schema: slices.Clone(schema), rows: int64(len(rows))}
	for b, err := range newArranged(schema, t.rows, false, p.parts).Batches(ctx) {
		if err != nil {
			return nil, err
		}
		t.batches = append(t.batches, b)
	}
	if len(rows) == 0 {
		return NewBuilder(schema).Table()
	}
	return t, nil
}

// A pair is a row of the source in the high half and a position in the result
// in the low half, so that pairs sort by row.
type pair = uint64

func newPair(row int64, position int) pair { return uint64(row)<<32 | uint64(position) }

// orderCheck says how many rows pass between two looks at the context.
const orderCheck = 1 << 16

// each calls add with the pairs of an order, in its order, without those of
// missing rows.
func each(ctx context.Context, order iter.Seq2[int64, error], n int64, add func(pair) error) error {
	k := int64(0)
	for r, err := range order {
		switch {
		case err != nil:
			return err
		case k == n:
			return fmt.Errorf("table: the order has more than %d rows", n)
		case r < -1 || r >= maxRows:
			return fmt.Errorf("%w: %d", ErrRow, r)
		case r >= 0:
			if err := add(newPair(r, int(k))); err != nil {
				return err
			}
		}
		if k++; k%orderCheck == 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
		}
	}
	if k < n {
		return fmt.Errorf("table: the order has %d rows, not %d", k, n)
	}
	return nil
}

// collect returns the pairs of an order, sorted.
func collect(ctx context.Context, order iter.Seq2[int64, error], n int64) ([]pair, error) {
	pairs := make([]pair, 0, n)
	err := each(ctx, order, n, func(p pair) error {
		pairs = append(pairs, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	sortPairs(pairs, nil)
	return pairs, nil
}

// unsorted returns the order that sorted pairs came from.
func unsorted(pairs []pair, n int64) iter.Seq2[int64, error] {
	rows := make([]int64, n)
	for i := range rows {
		rows[i] = -1
	}
	for _, p := range pairs {
		rows[uint32(p)] = int64(p >> 32)
	}
	return Order(rows)
}

// sortPairs sorts by row, and keeps the order of pairs of one row. It uses room
// if it is as long as pairs.
func sortPairs(pairs, room []pair) {
	const digit = 11
	var all pair
	sorted := true
	for i, p := range pairs {
		all |= p
		sorted = sorted && (i == 0 || pairs[i-1] <= p)
	}
	if sorted {
		return
	}
	if len(room) < len(pairs) {
		room = make([]pair, len(pairs))
	}
	from, to := pairs, room[:len(pairs)]
	for shift := 32; shift < bits.Len64(all); shift += digit {
		var next [1 << digit]int
		for _, p := range from {
			next[p>>shift&(1<<digit-1)]++
		}
		sum := 0
		for i, c := range next {
			next[i], sum = sum, sum+c
		}
		for _, p := range from {
			d := p >> shift & (1<<digit - 1)
			to[next[d]] = p
			next[d]++
		}
		from, to = to, from
	}
	if len(pairs) > 0 && &from[0] != &pairs[0] {
		copy(pairs, from)
	}
}

// run is a sorted list of pairs, of which some may not be in memory yet.
type run struct {
	pairs []pair
	more  func() ([]pair, error) // the next ones; none at the end
}

// placer takes the cells of rows, see rowEncoder, by their position.
type placer interface {
	// start tells the mean bytes of the source's first rows.
	start(width int) error
	place(position uint32, row []byte) error
}

// visit streams src past sorted runs and places every row that they want.
func visit(ctx context.Context, src Source, runs []*run, to placer) error {
	schema := src.Schema()
	enc := newRowEncoder(schema)
	for _, r := range runs {
		if err := r.fill(); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(runs, func(r *run) bool { return len(r.pairs) > 0 }) {
		return nil
	}
	base, checked := int64(0), 0
	for b, err := range src.Batches(ctx) {
		if err != nil {
			return err
		}
		if err := enc.batch(b); err != nil {
			return err
		}
		if base == 0 && b.NumRows() > 0 {
			if err := to.start(enc.width()); err != nil {
				return err
			}
		}
		end := min(base+b.NumRows(), maxRows)
		for _, r := range runs {
			last := int64(-1)
			var row []byte
			for len(r.pairs) > 0 {
				i := 0
				for ; i < len(r.pairs) && int64(r.pairs[i]>>32) < end; i++ {
					if at := int64(r.pairs[i]>>32) - base; at != last {
						row, last = enc.row(int(at)), at
					}
					if err := to.place(uint32(r.pairs[i]), row); err != nil {
						return err
					}
				}
				if r.pairs = r.pairs[i:]; len(r.pairs) > 0 {
					break
				}
				if err := r.fill(); err != nil {
					return err
				}
				if checked += i; checked >= orderCheck {
					if err := context.Cause(ctx); err != nil {
						return err
					}
					checked = 0
				}
			}
		}
		base += b.NumRows()
	}
	for _, r := range runs {
		if len(r.pairs) > 0 {
			return fmt.Errorf("%w: %d of %d", ErrRow, r.pairs[0]>>32, base)
		}
	}
	return nil
}

func (r *run) fill() error {
	if len(r.pairs) > 0 || r.more == nil {
		return nil
	}
	var err error
	r.pairs, err = r.more()
	return err
}

// placed is rows in memory by position. The rows of batchRows positions lie in
// chunks of their own, which fit a processor's cache when they become a batch.
type placed struct {
	at     []uint64 // of each position: chunk, offset in it, plus 1; 0 is a missing row
	chunks [][]byte
	open   []int // of each batchRows positions: the chunk being filled, plus 1
	limit  int   // bytes of all chunks; 0 is none
	used   int
}

func newPlaced(n, limit int) *placed {
	return &placed{at: make([]uint64, n), open: make([]int, (n+batchRows-1)/batchRows), limit: limit}
}

const placedChunk = 16 << 10

func (p *placed) start(width int) error {
	if p.limit > 0 && width*len(p.at) > p.limit {
		return errLarge
	}
	return nil
}

func (p *placed) place(position uint32, row []byte) error {
	i := p.open[position/batchRows] - 1
	if i < 0 || len(p.chunks[i])+len(row) > cap(p.chunks[i]) {
		size := max(placedChunk, len(row))
		if p.used += size; p.limit > 0 && p.used > p.limit {
			return errLarge
		}
		i = len(p.chunks)
		p.chunks = append(p.chunks, make([]byte, 0, size))
		p.open[position/batchRows] = i + 1
	}
	c := p.chunks[i]
	p.at[position] = uint64(i)<<32 + uint64(len(c)) + 1
	p.chunks[i] = append(c, row...)
	return nil
}

// row returns what begins with the row at a position, or nothing if it is
// missing.
func (p *placed) row(position int) []byte {
	at := p.at[position]
	if at == 0 {
		return nil
	}
	return p.chunks[(at-1)>>32][uint32(at-1):]
}

func (p *placed) parts(context.Context) iter.Seq2[*placed, error] {
	return func(yield func(*placed, error) bool) { yield(p, nil) }
}

// arranged is a Source of rows in parts, each of which fits memory.
type arranged struct {
	schema Schema
	rows   int64
	parts  func(context.Context) iter.Seq2[*placed, error]
}

func newArranged(schema Schema, rows int64, missing bool, parts func(context.Context) iter.Seq2[*placed, error]) *arranged {
	schema = slices.Clone(schema)
	for i := range schema {
		schema[i].Key = schema[i].Key && !missing
	}
	return &arranged{schema: schema, rows: rows, parts: parts}
}

func (a *arranged) Schema() Schema { return slices.Clone(a.schema) }

// Rows returns the number of rows.
func (a *arranged) Rows() int64 { return a.rows }

func (a *arranged) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		dec := newRowDecoder(a.schema)
		for p, err := range a.parts(ctx) {
			for at := 0; err == nil && at < len(p.at); {
				if err = context.Cause(ctx); err != nil {
					break
				}
				var b arrow.RecordBatch
				if b, err = dec.batch(p, at); err != nil {
					break
				}
				at += int(b.NumRows())
				if !yield(b, nil) {
					return
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}
