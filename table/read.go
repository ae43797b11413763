package table

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Faults of a read.
var (
	ErrColumn    = errors.New("table: no such column")
	ErrType      = errors.New("table: wrong column type")
	ErrNotFinite = errors.New("table: value is not finite")
	ErrRow       = errors.New("table: no such row")
)

// Projector is a Source that can leave columns unread. Select uses it.
type Projector interface {
	// Project returns the source with only the columns at the given positions
	// of its schema, in that order.
	Project(columns []int) Source
}

// Select returns src with only the named columns, in that order. Nothing else
// of src can be read through it.
func Select(src Source, names []string) (Source, error) {
	schema := src.Schema()
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: none named", ErrColumn)
	}
	idx := make([]int, len(names))
	for i, name := range names {
		if idx[i] = schema.Index(name); idx[i] < 0 {
			return nil, fmt.Errorf("%w: %s", ErrColumn, name)
		}
		if slices.Contains(idx[:i], idx[i]) {
			return nil, fmt.Errorf("%w: %s is named twice", ErrColumn, name)
		}
	}
	return Columns(src, idx), nil
}

// Columns is Select by positions in src's schema, each at most once.
func Columns(src Source, positions []int) Source {
	if p, ok := src.(Projector); ok {
		return p.Project(positions)
	}
	return newSelection(src, positions)
}

type selection struct {
	src    Source
	idx    []int
	schema Schema
	arrow  *arrow.Schema
}

func newSelection(src Source, idx []int) *selection {
	s := &selection{src: src, idx: slices.Clone(idx)}
	for _, i := range idx {
		s.schema = append(s.schema, src.Schema()[i])
	}
	s.arrow = s.schema.Arrow()
	return s
}

func (s *selection) Schema() Schema { return slices.Clone(s.schema) }

func (s *selection) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range s.src.Batches(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			cols := make([]arrow.Array, len(s.idx))
			for i, c := range s.idx {
				cols[i] = b.Column(c)
			}
			nb := array.NewRecordBatch(s.arrow, cols, b.NumRows())
			more := yield(nb, nil)
			nb.Release()
			if !more {
				return
			}
		}
	}
}

// rowCounter is a source that knows its length before it is read.
type rowCounter interface{ Rows() int64 }

// ReadFloats reads the named columns whole, column by column: result[c][r] is
// row r of cols[c], NaN where the value is missing. Int columns are converted;
// beyond 2^53 they round to the nearest float64. A value that is present and
// not finite is refused.
func ReadFloats(ctx context.Context, src Source, cols []string) ([][]float64, error) {
	if len(cols) == 0 {
		return nil, nil
	}
	sel, err := Select(src, cols)
	if err != nil {
		return nil, err
	}
	for _, c := range sel.Schema() {
		if c.Type != Int && c.Type != Float {
			return nil, fmt.Errorf("%w: column %s is %s, want a number", ErrType, c.Name, c.Type)
		}
	}
	out := make([][]float64, len(cols))
	if rc, ok := src.(rowCounter); ok {
		for i := range out {
			out[i] = make([]float64, 0, rc.Rows())
		}
	}
	for b, err := range sel.Batches(ctx) {
		if err != nil {
			return nil, err
		}
		for i, name := range cols {
			switch a := b.Column(i).(type) {
			case *array.Float64:
				for r, v := range a.Float64Values() {
					if a.IsNull(r) {
						v = math.NaN()
					} else if math.IsNaN(v) || math.IsInf(v, 0) {
						return nil, fmt.Errorf("%w: column %s, row %d", ErrNotFinite, name, len(out[i])+1)
					}
					out[i] = append(out[i], v)
				}
			case *array.Int64:
				for r, v := range a.Int64Values() {
					if a.IsNull(r) {
						out[i] = append(out[i], math.NaN())
					} else {
						out[i] = append(out[i], float64(v))
					}
				}
			default:
				return nil, fmt.Errorf("%w: column %s holds %s", ErrType, name, a.DataType())
			}
		}
	}
	return out, nil
}
