package table

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/session/errgroup"
)

// A batch of keys ends at either limit, so that it stays in a core's cache and
// its offsets fit 32 bits. A single key part can go beyond the second.
const (
	keyBatchRows  = 8192
	keyBatchBytes = 1 << 20
)

// KeyBatch is the normalised keys of consecutive rows. It is valid during the
// call that it is handed to, and must not be changed.
type KeyBatch struct {
	first int64
	data  []byte
	ends  []uint32
}

// First returns the row number of the first key, counted from 0.
func (b KeyBatch) First() int64 { return b.first }

// Len returns the number of keys.
func (b KeyBatch) Len() int { return len(b.ends) }

// At returns key i of the batch, which is that of row First()+i. It has no
// bytes if the row has no usable key; then [EachKey] is going to fail.
func (b KeyBatch) At(i int) []byte {
	return b.data[b.start(i):b.ends[i]:b.ends[i]]
}

// All returns the keys with their positions in the batch.
func (b KeyBatch) All() iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		from := uint32(0)
		for i, end := range b.ends {
			if !yield(i, b.data[from:end:end]) {
				return
			}
			from = end
		}
	}
}

func (b KeyBatch) start(i int) uint32 {
	if i == 0 {
		return 0
	}
	return b.ends[i-1]
}

// EachKey reads src's key columns and normalises them by rule, as [Keys] does
// and to the same bytes, but hands them on in batches instead of holding them.
// It returns the number of rows.
//
// work is called on all cores at once, in no order, for what can be done to each
// batch by itself; a nil work leaves use the zero T. use is then called with the
// batch and work's result, one batch at a time in row order. An error of either
// ends the reading and is returned.
//
// Duplicate keys are not looked for. Rows with blank, invalid or unfit keys are
// counted, keep their place in a batch as a key of no bytes, and are refused
// with a [*KeyError] after the whole table has been read: what use was given is
// then void. Memory is a few batches per core, whatever the table's size.
func EachKey[T any](ctx context.Context, src Source, rule KeyRule, work func(KeyBatch) (T, error), use func(KeyBatch, T) error) (int64, error) {
	kr, err := newKeyReader(src, rule)
	if err != nil {
		return 0, err
	}
	ke, err := eachKey(ctx, kr, work, use)
	if err != nil {
		return 0, err
	}
	return ke.Rows, ke.located(ctx, src)
}

// keyReader reads the key columns of one source.
type keyReader struct {
	sel   Source
	rule  KeyRule
	names []string
}

func newKeyReader(src Source, rule KeyRule) (*keyReader, error) {
	rule, err := ParseKeyRule(string(rule))
	if err != nil {
		return nil, err
	}
	kr := &keyReader{rule: rule}
	schema := src.Schema()
	for _, i := range schema.Keys() {
		if schema[i].Type == Float {
			return nil, fmt.Errorf("%w: key column %s is float; a key is int or text", ErrType, schema[i].Name)
		}
		kr.names = append(kr.names, schema[i].Name)
	}
	if len(kr.names) == 0 {
		return nil, ErrNoKey
	}
	kr.sel, err = Select(src, kr.names)
	return kr, err
}

// keyTask is one batch on its way: read, then normalised and worked on by a
// worker, then used. A task is used again for later batches.
type keyTask[T any] struct {
	raw    []keyColumn // of the source's batch, copied out of it
	rows   int
	keys   KeyBatch
	faults [4]KeyFault // blank, bad, unfit; rows counted from 1 in the batch
	result T
	err    error
	done   chan struct{} // holds one token once a worker is through
}

// The places in keyTask.faults; keyFine means none.
const (
	keyFine = iota
	keyBlank
	keyBad
	keyUnfit
)

// eachKey runs the pipeline: one goroutine reads, one per core normalises and
// works, and the caller's uses. The returned faults are not located yet.
func eachKey[T any](ctx context.Context, kr *keyReader, work func(KeyBatch) (T, error), use func(KeyBatch, T) error) (*KeyError, error) {
	workers := runtime.GOMAXPROCS(0)
	tasks := workers + 2 // one with the reader, one with the user
	var (
		free    = make(chan *keyTask[T], tasks)
		pending = make(chan *keyTask[T], tasks) // for the workers
		ordered = make(chan *keyTask[T], tasks) // the same, for the user
		readErr error                           // set before ordered is closed
	)
	for range tasks {
		free <- &keyTask[T]{raw: make([]keyColumn, len(kr.names)), done: make(chan struct{}, 1)}
	}
	ctx, stop := context.WithCancel(ctx)
	g, reading := errgroup.WithContext(ctx)
	defer func() { _ = g.Wait() }() // no errors, which come in order below
	defer stop()
	g.Go(func() error {
		defer close(ordered)
		defer close(pending)
		readErr = kr.read(reading, func(b arrow.RecordBatch, first int64, from, to int) error {
			var t *keyTask[T]
			select {
			case t = <-free:
			case <-reading.Done():
				return reading.Err()
			}
			for i := range t.raw {
				if err := t.raw[i].load(kr.names[i], b.Column(i), from, to); err != nil {
					return err
				}
			}
			t.rows, t.keys.first = to-from, first
			// There is room: both hold as many as there are tasks.
			pending <- t
			ordered <- t
			return nil
		})
		return nil
	})
	for range workers {
		g.Go(func() error {
			for t := range pending {
				t.normalise(kr.rule)
				if work != nil && reading.Err() == nil {
					t.result, t.err = work(t.keys)
				}
				t.done <- struct{}{}
			}
			return nil
		})
	}

	ke := &KeyError{Columns: kr.names, Rule: kr.rule}
	for t := range ordered {
		select {
		case <-t.done:
		case <-reading.Done():
			return nil, reading.Err()
		}
		if t.err != nil {
			return nil, t.err
		}
		if err := reading.Err(); err != nil {
			return nil, err
		}
		for kind, into := range map[int]*KeyFault{keyBlank: &ke.Blanks, keyBad: &ke.Bad, keyUnfit: &ke.Unfit} {
			into.join(t.faults[kind], ke.Rows)
		}
		ke.Rows += int64(t.rows)
		if err := use(t.keys, t.result); err != nil {
			return nil, err
		}
		free <- t
	}
	return ke, readErr
}

// join adds the faults of a later batch, which begins behind row base.
func (f *KeyFault) join(g KeyFault, base int64) {
	if f.Count == 0 && g.Count > 0 {
		f.First = base + g.First
	}
	f.Count += g.Count
}

// read hands on src's batches, cut to the size of a batch of keys.
func (kr *keyReader) read(ctx context.Context, use func(b arrow.RecordBatch, first int64, from, to int) error) error {
	var base int64
	for b, err := range kr.sel.Batches(ctx) {
		if err != nil {
			return err
		}
		rows := int(b.NumRows())
		for from := 0; from < rows; {
			to := min(from+keyBatchRows, rows)
			for i := range kr.names {
				to = fitText(b.Column(i), from, to)
			}
			if err := use(b, base+int64(from), from, to); err != nil {
				return err
			}
			from = to
		}
		base += int64(rows)
	}
	return nil
}

// fitText returns how far, up to to, rows from from on fit a batch; one always
// does.
func fitText(a arrow.Array, from, to int) int {
	texts, ok := a.(*array.String)
	if !ok {
		return to
	}
	offsets := texts.ValueOffsets()
	for to > from+1 && offsets[to]-offsets[from] > keyBatchBytes {
		to = from + (to-from)/2
	}
	return to
}

// keyColumn is one key column of some rows, copied from its source: a source's
// batch is valid only until the next is asked for.
type keyColumn struct {
	ints  []int64
	texts string // the values, one behind the other; text columns have ends
	ends  []int32
	null  []bool // nil if no value is missing
}

func (c *keyColumn) load(name string, a arrow.Array, from, to int) error {
	c.ints, c.texts, c.ends, c.null = c.ints[:0], "", c.ends[:0], c.null[:0]
	switch a := a.(type) {
	case *array.Int64:
		c.ints = append(c.ints, a.Int64Values()[from:to]...)
	case *array.String:
		offsets := a.ValueOffsets()
		base := offsets[from]
		for _, end := range offsets[from+1 : to+1] {
			c.ends = append(c.ends, end-base)
		}
		c.texts = string(a.ValueBytes()[base-offsets[0] : offsets[to]-offsets[0]])
	default:
		return fmt.Errorf("%w: key column %s holds %s", ErrType, name, a.DataType())
	}
	if a.NullN() > 0 {
		for i := from; i < to; i++ {
			c.null = append(c.null, a.IsNull(i))
		}
	}
	return nil
}

// append appends the normalised part of row r; nothing where it is missing.
func (c *keyColumn) append(dst []byte, r int, rule KeyRule) ([]byte, error) {
	switch {
	case len(c.null) > 0 && c.null[r]:
		return dst, nil
	case len(c.ends) > 0:
		from := int32(0)
		if r > 0 {
			from = c.ends[r-1]
		}
		return rule.Append(dst, c.texts[from:c.ends[r]])
	case rule == RuleID: // which leaves digits as they are
		return strconv.AppendInt(dst, c.ints[r], 10), nil
	}
	return rule.Append(dst, strconv.FormatInt(c.ints[r], 10))
}

// normalise makes the keys of what was read, and counts those that cannot be.
func (t *keyTask[T]) normalise(rule KeyRule) {
	data, ends := t.keys.data[:0], t.keys.ends[:0]
	clear(t.faults[:])
	for r := range t.rows {
		start := len(data)
		var fault int
		if len(t.raw) == 1 {
			data, fault = t.raw[0].part(data, r, rule)
		} else {
			data, fault = t.join(data, r, rule)
		}
		if len(data)-start > MaxKeyBytes {
			fault = keyBad
		}
		if fault != keyFine {
			// The row keeps its place, empty, so that row numbers stay true.
			t.faults[fault].add(int64(r) + 1)
			data = data[:start]
		}
		ends = append(ends, uint32(len(data)))
	}
	t.keys.data, t.keys.ends = data, ends
}

// part appends one part of a key and says what is wrong with it.
func (c *keyColumn) part(dst []byte, r int, rule KeyRule) ([]byte, int) {
	start := len(dst)
	dst, err := c.append(dst, r, rule)
	n := len(dst) - start
	switch {
	case err == nil && 0 < n && n <= MaxKeyBytes:
		return dst, keyFine
	case errors.Is(err, ErrUnfitKeys):
		return dst, keyUnfit
	case err == nil && n == 0:
		return dst, keyBlank
	}
	return dst, keyBad
}

// join appends a key of several parts, each behind its length. Of several
// faults the one counts that was asked for first: the bytes, then a blank, then
// the form.
func (t *keyTask[T]) join(dst []byte, r int, rule KeyRule) ([]byte, int) {
	var buf [64]byte
	var seen [4]bool
	for i := range t.raw {
		part, fault := t.raw[i].part(buf[:0], r, rule)
		seen[fault] = true
		dst = binary.AppendUvarint(dst, uint64(len(part)))
		dst = append(dst, part...)
	}
	for _, fault := range []int{keyBad, keyBlank, keyUnfit} {
		if seen[fault] {
			return dst, fault
		}
	}
	return dst, keyFine
}
