package table

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// generatedRows is the size of a generated batch.
const generatedRows = 8192

// Generate returns a source whose rows are made as they are read, so that it
// takes the memory of one batch whatever their number: for benchmarks and
// tests. row appends row i, one value to every column of b; it is called with 0
// to rows-1 in order, and at each read again, possibly by several readers at
// once.
func Generate(schema Schema, rows int64, row func(b *Builder, i int64)) Source {
	return &generated{schema: slices.Clone(schema), rows: rows, row: row}
}

type generated struct {
	schema Schema
	rows   int64
	row    func(*Builder, int64)
}

func (g *generated) Schema() Schema { return slices.Clone(g.schema) }

func (g *generated) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for from := int64(0); from < g.rows; from += generatedRows {
			if err := context.Cause(ctx); err != nil {
				yield(nil, err)
				return
			}
			b := NewBuilder(g.schema)
			for i := from; i < min(from+generatedRows, g.rows); i++ {
				g.row(b, i)
			}
			t, err := b.Table()
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(t.batches[0], nil) {
				return
			}
		}
	}
}

// Hold reads src into memory; a Table is returned as it is.
func Hold(ctx context.Context, src Source) (*Table, error) {
	if t, ok := src.(*Table); ok {
		return t, nil
	}
	t := &Table{schema: src.Schema()}
	for batch, err := range src.Batches(ctx) {
		if err != nil {
			return nil, err
		}
		b := NewBuilder(t.schema)
		for i, c := range t.schema {
			if err := appendColumn(b, i, batch.Column(i)); err != nil {
				return nil, fmt.Errorf("column %s: %w", c.Name, err)
			}
		}
		part, err := b.Table()
		if err != nil {
			return nil, err
		}
		t.batches = append(t.batches, part.batches...)
		t.rows += part.rows
	}
	return t, nil
}

// appendColumn copies a to column i of b.
func appendColumn(b *Builder, i int, a arrow.Array) error {
	want := b.schema[i].Type.arrow()
	if a.DataType().ID() != want.ID() {
		return fmt.Errorf("%w: %s, want %s", ErrType, a.DataType(), want)
	}
	switch a := a.(type) {
	case *array.Int64:
		to := b.Ints(i)
		to.Reserve(a.Len())
		for r := range a.Len() {
			if a.IsNull(r) {
				to.AppendNull()
			} else {
				to.Append(a.Value(r))
			}
		}
	case *array.Float64:
		to := b.Floats(i)
		to.Reserve(a.Len())
		for r := range a.Len() {
			if a.IsNull(r) {
				to.AppendNull()
			} else {
				to.Append(a.Value(r))
			}
		}
	case *array.String:
		to := b.Texts(i)
		to.Reserve(a.Len())
		for r := range a.Len() {
			if a.IsNull(r) {
				to.AppendNull()
			} else {
				to.Append(a.Value(r))
			}
		}
	}
	return nil
}
