package dataset

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/yinqiao/yinqiao/table"
)

// values are one column's cells of the batch that is being read. They are what
// Arrow's builders would hold; those take several times as long for each cell.
type values struct {
	typ    table.Type
	ints   []int64
	floats []float64
	text   []byte
	ends   []int32 // offsets into text, a 0 in front; a batch is far below 2 GiB
	nulls  int
	valid  []byte // a bit a cell, set where it has a value; nil while nulls is 0
}

// newValues returns room for a batch like the last, which may be nil.
func newValues(t table.Type, last *values) *values {
	v := &values{typ: t}
	switch t {
	case table.Int:
		v.ints = make([]int64, 0, batchRows)
	case table.Float:
		v.floats = make([]float64, 0, batchRows)
	default:
		room := 0
		if last != nil {
			room = len(last.text) + len(last.text)/16
		}
		v.text = make([]byte, 0, room)
		v.ends = append(make([]int32, 0, batchRows+1), 0)
	}
	return v
}

func (v *values) len() int {
	switch v.typ {
	case table.Int:
		return len(v.ints)
	case table.Float:
		return len(v.floats)
	}
	return len(v.ends) - 1
}

func (v *values) appendText(s string) {
	v.text = append(v.text, s...)
	v.ends = append(v.ends, int32(len(v.text)))
}

func (v *values) appendNull() {
	if v.valid == nil {
		v.valid = make([]byte, batchRows/8)
		for i := range v.valid {
			v.valid[i] = math.MaxUint8
		}
	}
	n := v.len()
	v.valid[n/8] &^= 1 << (n % 8)
	v.nulls++
	switch v.typ {
	case table.Int:
		v.ints = append(v.ints, 0)
	case table.Float:
		v.floats = append(v.floats, 0)
	default:
		v.ends = append(v.ends, int32(len(v.text)))
	}
}

// array returns the cells as Arrow holds them. v must not be appended to again.
func (v *values) array() arrow.Array {
	var valid *memory.Buffer
	if v.valid != nil {
		valid = memory.NewBufferBytes(v.valid)
	}
	data := func(t arrow.DataType, buffers ...*memory.Buffer) *array.Data {
		return array.NewData(t, v.len(), append([]*memory.Buffer{valid}, buffers...), nil, v.nulls, 0)
	}
	switch v.typ {
	case table.Int:
		return array.NewInt64Data(data(arrow.PrimitiveTypes.Int64, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(v.ints))))
	case table.Float:
		return array.NewFloat64Data(data(arrow.PrimitiveTypes.Float64, memory.NewBufferBytes(arrow.Float64Traits.CastToBytes(v.floats))))
	}
	return array.NewStringData(data(arrow.BinaryTypes.String, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(v.ends)), memory.NewBufferBytes(v.text)))
}
