package table

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/yinqiao/yinqiao/scratch"
)

// The cells of a row, in the order of the columns: a bit a column that says
// whether the value is missing, then of those that are not an int as a varint,
// a float as its 8 bytes, and a text with its length as a uvarint before it.

// rowEncoder writes the cells of rows.
type rowEncoder struct {
	schema Schema
	cols   []cells
	rows   int
	marks  int // bytes of the bits
	buf    []byte
}

// cells is a column of the batch at hand. One of the three is set.
type cells struct {
	array  arrow.Array
	nulls  bool
	ints   []int64
	floats []float64
	texts  *array.String
}

func newRowEncoder(s Schema) *rowEncoder {
	return &rowEncoder{schema: s, cols: make([]cells, len(s)), marks: (len(s) + 7) / 8}
}

// batch turns to the rows of b.
func (e *rowEncoder) batch(b arrow.RecordBatch) error {
	if int(b.NumCols()) != len(e.schema) {
		return fmt.Errorf("table: a batch has %d columns, its schema %d", b.NumCols(), len(e.schema))
	}
	e.rows = int(b.NumRows())
	for i, col := range e.schema {
		a := b.Column(i)
		c := cells{array: a, nulls: a.NullN() > 0}
		t := Type("")
		switch a := a.(type) {
		case *array.Int64:
			t, c.ints = Int, a.Int64Values()
		case *array.Float64:
			t, c.floats = Float, a.Float64Values()
		case *array.String:
			t, c.texts = Text, a
		}
		if t != col.Type {
			return fmt.Errorf("%w: column %s holds %s", ErrType, col.Name, a.DataType())
		}
		e.cols[i] = c
	}
	return nil
}

// row returns the cells of row r, until the next call.
func (e *rowEncoder) row(r int) []byte {
	buf := e.buf[:0]
	for range e.marks {
		buf = append(buf, 0)
	}
	for i := range e.cols {
		c := &e.cols[i]
		if c.nulls && c.array.IsNull(r) {
			buf[i/8] |= 1 << (i % 8)
			continue
		}
		switch {
		case c.texts != nil:
			v := c.texts.Value(r)
			buf = binary.AppendUvarint(buf, uint64(len(v)))
			buf = append(buf, v...)
		case c.ints != nil:
			buf = binary.AppendVarint(buf, c.ints[r])
		default:
			buf = binary.LittleEndian.AppendUint64(buf, math.Float64bits(c.floats[r]))
		}
	}
	e.buf = buf
	return buf
}

// width returns the mean bytes of some of the batch's rows, rounded up.
func (e *rowEncoder) width() int {
	const samples = 1024
	step := max(1, e.rows/samples)
	sum, n := 0, 0
	for r := 0; r < e.rows; r += step {
		sum += len(e.row(r))
		n++
	}
	return (sum + n - 1) / max(n, 1)
}

const (
	batchRows  = 8192     // of a batch, at most
	batchBytes = 16 << 20 // of cells after which a batch ends
	ahead      = 64       // rows that are fetched together
)

// rowDecoder makes batches of rows.
type rowDecoder struct {
	schema Schema
	arrow  *arrow.Schema
	cols   []cellBuilder
	marks  int

	touched byte // keeps the reads that fetch
}

// cellBuilder is a column of a batch being made.
type cellBuilder struct {
	column Column
	valid  []byte // a bit a row
	nulls  int
	ints   []int64
	floats []float64
	ends   []int32 // of texts, after a 0
	text   []byte
}

func newRowDecoder(s Schema) *rowDecoder {
	d := &rowDecoder{schema: s, arrow: s.Arrow(), cols: make([]cellBuilder, len(s)), marks: (len(s) + 7) / 8}
	for i, c := range s {
		d.cols[i].column = c
	}
	return d
}

var errCells = fmt.Errorf("table: cells of a row: %w", scratch.ErrDamaged)

// batch returns rows of p from position from on.
func (d *rowDecoder) batch(p *placed, from int) (arrow.RecordBatch, error) {
	n := min(batchRows, len(p.at)-from)
	for i := range d.cols {
		d.cols[i].reset(n)
	}
	rows, used := 0, 0
	for rows < n && used < batchBytes {
		if rows%ahead == 0 {
			// Rows lie anywhere in memory. Their first bytes are asked for
			// together, so that the waits overlap.
			for i := from + rows; i < from+min(n, rows+ahead); i++ {
				if b := p.row(i); len(b) > 0 {
					d.touched ^= b[0]
				}
			}
		}
		l, err := d.row(rows, p.row(from+rows))
		if err != nil {
			return nil, err
		}
		used += l
		rows++
	}
	arrays := make([]arrow.Array, len(d.cols))
	for i := range d.cols {
		arrays[i] = d.cols[i].array(rows)
	}
	return array.NewRecordBatch(d.arrow, arrays, int64(rows)), nil
}

// row appends row r, whose cells b begins with, and returns their length; an
// empty b is a row of missing values.
func (d *rowDecoder) row(r int, b []byte) (int, error) {
	if len(b) == 0 {
		for i := range d.cols {
			d.cols[i].null(r)
		}
		return 0, nil
	}
	if len(b) < d.marks {
		return 0, errCells
	}
	marks, at := b[:d.marks], d.marks
	for i := range d.cols {
		c := &d.cols[i]
		if marks[i/8]>>(i%8)&1 == 1 {
			c.null(r)
			continue
		}
		c.valid[r/8] |= 1 << (r % 8)
		switch c.column.Type {
		case Text:
			l, k := binary.Uvarint(b[at:])
			if k <= 0 || l > uint64(len(b)-at-k) || l > uint64(math.MaxInt32-len(c.text)) {
				return 0, errCells
			}
			at += k
			c.text = append(c.text, b[at:at+int(l)]...)
			c.ends[r+1] = int32(len(c.text))
			at += int(l)
		case Int:
			v, k := binary.Varint(b[at:])
			if k <= 0 {
				return 0, errCells
			}
			c.ints[r] = v
			at += k
		default:
			if len(b)-at < 8 {
				return 0, errCells
			}
			c.floats[r] = math.Float64frombits(binary.LittleEndian.Uint64(b[at:]))
			at += 8
		}
	}
	return at, nil
}

// reset begins a batch of up to n rows. A batch's memory is its own: readers
// may keep it.
func (c *cellBuilder) reset(n int) {
	c.valid, c.nulls = make([]byte, (n+7)/8), 0
	switch c.column.Type {
	case Int:
		c.ints = make([]int64, n)
	case Float:
		c.floats = make([]float64, n)
	default:
		// The last batch says how much text to expect.
		c.ends, c.text = make([]int32, n+1), make([]byte, 0, len(c.text)+len(c.text)/8)
	}
}

func (c *cellBuilder) null(r int) {
	c.nulls++
	if c.ends != nil {
		c.ends[r+1] = int32(len(c.text))
	}
}

func (c *cellBuilder) array(n int) arrow.Array {
	buffers := []*memory.Buffer{memory.NewBufferBytes(c.valid)}
	switch c.column.Type {
	case Int:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(c.ints[:n])))
	case Float:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Float64Traits.CastToBytes(c.floats[:n])))
	default:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.ends[:n+1])), memory.NewBufferBytes(c.text))
	}
	data := array.NewData(c.column.Type.arrow(), n, buffers, nil, c.nulls, 0)
	defer data.Release()
	return array.MakeFromData(data)
}
