package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/table"
)

// Digest returns the SHA-256 of src's schema and content, row order included.
// It does not depend on how the rows are cut into batches. A party commits to
// it; on its own it hides nothing, for a small table can be guessed.
//
// Each column is hashed by itself, a cell as 00 if it is missing, else 01 and
// then 8 bytes, little endian, of an int or of a float's IEEE 754 bits, or a
// text's length (uvarint) and bytes. The digest is the hash of the domain
// string "yinqiao table v1\n", the numbers of columns and rows (uint64, little
// endian), and per column its name and type (each uvarint length and bytes),
// one byte 01 for a key or 00, and the column's hash.
func Digest(ctx context.Context, src table.Source) ([]byte, error) {
	d, err := Read(ctx, src)
	if err != nil {
		return nil, err
	}
	return d.Digest(), nil
}

// Digested is a source whose rows have been read once. It knows their digest,
// and has a fingerprint of its keys.
type Digested struct {
	table.Source
	rows uint64
	sums [][]byte // by column
}

// Read reads src once for its digest.
func Read(ctx context.Context, src table.Source) (*Digested, error) {
	schema := src.Schema()
	h := newHasher(len(schema))
	rows, err := h.read(ctx, src, schema)
	sums := h.sums()
	if err != nil {
		return nil, err
	}
	return &Digested{src, rows, sums}, nil
}

// Digest is that of the function of the same name.
func (d *Digested) Digest() []byte {
	return d.digest("yinqiao table v1\n", func(table.Column) bool { return true })
}

// KeyFingerprint is the same for two sources whose key columns have the same
// names, types and values in the same rows, whatever other columns there are.
// Like a digest it hides nothing, and stays home.
func (d *Digested) KeyFingerprint() string {
	return string(d.digest("yinqiao keys v1\n", func(c table.Column) bool { return c.Key }))
}

// Locate returns the place of a row where the source knows it.
func (d *Digested) Locate(ctx context.Context, row int64) (string, error) {
	if l, ok := d.Source.(table.Locator); ok {
		return l.Locate(ctx, row)
	}
	return "", nil
}

// Project returns the source with some of its columns.
func (d *Digested) Project(columns []int) table.Source {
	return table.Columns(d.Source, columns)
}

func (d *Digested) digest(domain string, counts func(table.Column) bool) []byte {
	schema := d.Schema()
	columns := 0
	for _, c := range schema {
		if counts(c) {
			columns++
		}
	}
	buf := []byte(domain)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(columns))
	buf = binary.LittleEndian.AppendUint64(buf, d.rows)
	for i, c := range schema {
		if !counts(c) {
			continue
		}
		buf = appendText(appendText(buf, c.Name), string(c.Type))
		if c.Key {
			buf = append(buf, 1)
		} else {
			buf = append(buf, 0)
		}
		buf = append(buf, d.sums[i]...)
	}
	sum := sha256.Sum256(buf)
	return sum[:]
}

// hasher hashes columns beside the goroutine that reads them. Each worker has
// its columns, so that their cells arrive in order.
type hasher struct {
	columns []hash.Hash
	workers []chan encoded
	free    chan []byte
	wg      sync.WaitGroup
}

// encoded is some cells of a column, to be hashed.
type encoded struct {
	column int
	cells  []byte
}

// buffersPerWorker lets a worker hash one buffer while the next is filled.
const buffersPerWorker = 3

func newHasher(columns int) *hasher {
	h := &hasher{workers: make([]chan encoded, min(columns, runtime.GOMAXPROCS(0)))}
	for range columns {
		h.columns = append(h.columns, sha256.New())
	}
	n := buffersPerWorker * len(h.workers)
	h.free = make(chan []byte, n)
	for range n {
		h.free <- nil
	}
	for i := range h.workers {
		h.workers[i] = make(chan encoded, n)
		h.wg.Go(func() {
			for e := range h.workers[i] {
				h.columns[e.column].Write(e.cells)
				h.free <- e.cells[:0]
			}
		})
	}
	return h
}

// read has src's cells hashed and returns the number of rows.
func (h *hasher) read(ctx context.Context, src table.Source, schema table.Schema) (rows uint64, err error) {
	for b, err := range src.Batches(ctx) {
		if err != nil {
			return 0, err
		}
		n := int(b.NumRows())
		rows += uint64(n)
		for i, c := range schema {
			a := b.Column(i)
			for from := 0; from < n; from += batchRows {
				cells, err := appendCells(<-h.free, a, from, min(from+batchRows, n))
				if err != nil {
					return 0, fmt.Errorf("column %s: %w", c.Name, err)
				}
				h.workers[i%len(h.workers)] <- encoded{i, cells}
			}
		}
	}
	return rows, nil
}

// sums ends the workers and returns each column's hash.
func (h *hasher) sums() [][]byte {
	for _, w := range h.workers {
		close(w)
	}
	h.wg.Wait()
	sums := make([][]byte, len(h.columns))
	for i, c := range h.columns {
		sums[i] = c.Sum(nil)
	}
	return sums
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// appendCells appends the encoding of rows from to to-1.
func appendCells(dst []byte, a arrow.Array, from, to int) ([]byte, error) {
	null := func(int) bool { return false }
	if a.NullN() > 0 {
		null = a.IsNull
	}
	switch a := a.(type) {
	case *array.Int64:
		dst = slices.Grow(dst, 9*(to-from))
		for i, v := range a.Int64Values()[from:to] {
			dst = appendWord(dst, uint64(v), null(from+i))
		}
	case *array.Float64:
		dst = slices.Grow(dst, 9*(to-from))
		for i, v := range a.Float64Values()[from:to] {
			dst = appendWord(dst, math.Float64bits(v), null(from+i))
		}
	case *array.String:
		offsets, text := a.ValueOffsets(), a.ValueBytes()
		at := offsets[from] - offsets[0] // text begins at the first value
		dst = slices.Grow(dst, int(offsets[to]-offsets[from])+3*(to-from))
		for i := from; i < to; i++ {
			n := offsets[i+1] - offsets[i]
			if null(i) {
				dst = append(dst, 0)
			} else {
				dst = binary.AppendUvarint(append(dst, 1), uint64(n))
				dst = append(dst, text[at:at+n]...)
			}
			at += n
		}
	default:
		return dst, fmt.Errorf("%w: %s", table.ErrType, a.DataType())
	}
	return dst, nil
}

// appendWord appends a cell of eight bytes.
func appendWord(dst []byte, v uint64, null bool) []byte {
	if null {
		return append(dst, 0)
	}
	return binary.LittleEndian.AppendUint64(append(dst, 1), v)
}
