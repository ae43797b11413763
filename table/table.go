// Package table holds typed columns with missing values: what datasets stream
// in and jobs give out. Columns are Arrow arrays; keys are normalised by a
// stated rule before any protocol compares them.
//
// The rules, which a contract names by these words:
//
//	id.v1            identifiers of any kind: width, case and ends folded (the default)
//	none.v1          bytes as they are
//	trim.v1          white space at the ends goes
//	nfkc.v1          width folded, white space at the ends goes
//	cn-id18.v1       resident identity number, GB 11643, with its check character
//	uscc.v1          unified social credit code, GB 32100, with its check character
//	phone-cn.v1      mainland mobile number, with or without +86 and separators
//	company-name.v1  company name: width, case, brackets and punctuation folded, white space gone
//
// Each constant, such as [RuleCNID18], states its rule in full. A key that is
// missing, occurs twice or is not of its rule's form is never dropped: [Keys]
// refuses the table, with the number of such rows and the place of the first.
package table

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Type is a column's type.
type Type string

// The types a column can have. Every one admits missing values, except in a
// key.
const (
	Int   Type = "int"   // int64
	Float Type = "float" // float64, finite
	Text  Type = "text"  // UTF-8
)

// Column is a name with a type. Key columns identify the row's subject.
type Column struct {
	Name string
	Type Type
	Key  bool
}

// Schema is the ordered columns of a table.
type Schema []Column

// Index returns the position of the column called name, or -1.
func (s Schema) Index(name string) int {
	return slices.IndexFunc(s, func(c Column) bool { return c.Name == name })
}

// Keys returns the positions of the key columns.
func (s Schema) Keys() []int {
	var ks []int
	for i, c := range s {
		if c.Key {
			ks = append(ks, i)
		}
	}
	return ks
}

// Arrow returns the Arrow schema.
func (s Schema) Arrow() *arrow.Schema {
	fs := make([]arrow.Field, len(s))
	for i, c := range s {
		fs[i] = arrow.Field{Name: c.Name, Type: c.Type.arrow(), Nullable: !c.Key}
	}
	return arrow.NewSchema(fs, nil)
}

func (t Type) arrow() arrow.DataType {
	switch t {
	case Int:
		return arrow.PrimitiveTypes.Int64
	case Float:
		return arrow.PrimitiveTypes.Float64
	}
	return arrow.BinaryTypes.String
}

// Source is a dataset opened for one job: only its Schema's columns can be
// read. Batches may be called more than once; each call streams all rows in
// the same order.
type Source interface {
	Schema() Schema
	// Batches streams record batches with the columns of Schema. A batch is
	// valid until the next is asked for.
	Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error]
}

// Table is an immutable table in memory.
type Table struct {
	schema  Schema
	batches []arrow.RecordBatch
	rows    int64
}

var _ Source = (*Table)(nil)

// Schema returns the table's columns.
func (t *Table) Schema() Schema { return t.schema }

// Rows returns the number of rows.
func (t *Table) Rows() int64 { return t.rows }

// Batches streams the table's rows.
func (t *Table) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for _, b := range t.batches {
			if err := context.Cause(ctx); err != nil {
				yield(nil, err)
				return
			}
			if !yield(b, nil) {
				return
			}
		}
	}
}

// Builder makes a Table row by row or column by column.
type Builder struct {
	schema Schema
	rb     *array.RecordBuilder
}

// NewBuilder returns an empty builder.
func NewBuilder(s Schema) *Builder {
	return &Builder{schema: slices.Clone(s), rb: array.NewRecordBuilder(memory.DefaultAllocator, s.Arrow())}
}

// Ints returns the builder of int column i. All columns must have the same
// length by the time Table is called.
func (b *Builder) Ints(i int) *array.Int64Builder { return b.rb.Field(i).(*array.Int64Builder) }

// Floats returns the builder of float column i.
func (b *Builder) Floats(i int) *array.Float64Builder { return b.rb.Field(i).(*array.Float64Builder) }

// Texts returns the builder of text column i.
func (b *Builder) Texts(i int) *array.StringBuilder { return b.rb.Field(i).(*array.StringBuilder) }

// Table returns the rows appended so far as a table.
func (b *Builder) Table() (*Table, error) {
	n := -1
	for i := range b.schema {
		l := b.rb.Field(i).Len()
		if n >= 0 && l != n {
			return nil, fmt.Errorf("table: column %s has %d rows, the first has %d", b.schema[i].Name, l, n)
		}
		n = l
	}
	if n < 0 {
		return nil, errors.New("table: no columns")
	}
	rec := b.rb.NewRecordBatch()
	return &Table{schema: b.schema, batches: []arrow.RecordBatch{rec}, rows: int64(n)}, nil
}
