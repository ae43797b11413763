package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// sample has one row of every oddity: missing values, an empty text, quotes.
func sample(t testing.TB) *Table {
	t.Helper()
	b := NewBuilder(Schema{{"id", Text, true}, {"n", Int, false}, {"x", Float, false}, {"s", Text, false}})
	b.Texts(0).AppendValues([]string{"a", "b", "c"}, nil)
	b.Ints(1).AppendValues([]int64{math.MaxInt64, 0, -3}, []bool{true, false, true})
	b.Floats(2).AppendValues([]float64{0.1, 1e300, 0}, []bool{true, true, false})
	b.Texts(3).AppendValues([]string{"say \"hi\",\nyou", "", "张"}, []bool{true, false, true})
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// chopped streams a table in batches of one row, spoiling each batch before
// the next as a reader that reuses its buffers does.
type chopped struct{ *Table }

func (c chopped) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range c.Table.Batches(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range b.NumRows() {
				nb := NewBuilder(c.schema)
				for j := range c.schema {
					copyCell(nb, j, b.Column(j), int(i))
				}
				tab, err := nb.Table()
				if err != nil {
					yield(nil, err)
					return
				}
				one := tab.batches[0]
				if !yield(one, nil) {
					return
				}
				for _, col := range one.Columns() {
					for _, buf := range col.Data().Buffers() {
						if buf != nil {
							clear(buf.Bytes())
						}
					}
				}
			}
		}
	}
}

func copyCell(b *Builder, j int, a arrow.Array, i int) {
	if a.IsNull(i) {
		b.rb.Field(j).AppendNull()
		return
	}
	switch a := a.(type) {
	case *array.Int64:
		b.Ints(j).Append(a.Value(i))
	case *array.Float64:
		b.Floats(j).Append(a.Value(i))
	case *array.String:
		b.Texts(j).Append(a.Value(i))
	}
}

func dump(t testing.TB, tab *Table) string {
	t.Helper()
	var buf bytes.Buffer
	if err := WriteCSV(t.Context(), &buf, tab); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestWriteCSV(t *testing.T) {
	want := "id,n,x,s\na,9223372036854775807,0.1,\"say \"\"hi\"\",\nyou\"\nb,,1e+300,\nc,-3,,张\n"
	if got := dump(t, sample(t)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	b := NewBuilder(Schema{{"s", Text, false}})
	b.Texts(0).AppendNull()
	b.Texts(0).Append("x")
	tab, _ := b.Table()
	if got := dump(t, tab); got != "s\n\"\"\nx\n" {
		t.Errorf("a lone missing value: %q", got)
	}
	if err := WriteCSV(t.Context(), failing{}, tab); err == nil {
		t.Error("a failing writer passed")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestTake(t *testing.T) {
	for _, src := range []Source{sample(t), chopped{sample(t)}} {
		got, err := Take(context.Background(), src, []int{2, 0, 2, 1})
		if err != nil {
			t.Fatal(err)
		}
		want := "id,n,x,s\nc,-3,,张\na,9223372036854775807,0.1,\"say \"\"hi\"\",\nyou\"\nc,-3,,张\nb,,1e+300,\n"
		if s := dump(t, got); s != want {
			t.Errorf("%T: got %q, want %q", src, s, want)
		}
		if got, err := Take(context.Background(), src, nil); err != nil || got.Rows() != 0 {
			t.Errorf("no rows: %v", err)
		}
		for _, rows := range [][]int{{3}, {-1}, {0, 7}} {
			if _, err := Take(context.Background(), src, rows); !errors.Is(err, ErrRow) {
				t.Errorf("rows %v: %v", rows, err)
			}
		}
	}
}

func TestReadFloats(t *testing.T) {
	for _, src := range []Source{sample(t), chopped{sample(t)}} {
		got, err := ReadFloats(context.Background(), src, []string{"x", "n"})
		if err != nil {
			t.Fatal(err)
		}
		if s := fmt.Sprint(got); s != "[[0.1 1e+300 NaN] [9.223372036854776e+18 NaN -3]]" {
			t.Errorf("%T: %s", src, s)
		}
	}
	if _, err := ReadFloats(context.Background(), sample(t), []string{"s"}); !errors.Is(err, ErrType) {
		t.Errorf("text: %v", err)
	}
	if _, err := ReadFloats(context.Background(), sample(t), []string{"y"}); !errors.Is(err, ErrColumn) {
		t.Errorf("unknown: %v", err)
	}
	if got, err := ReadFloats(context.Background(), sample(t), nil); got != nil || err != nil {
		t.Errorf("none: %v, %v", got, err)
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		b := NewBuilder(Schema{{"x", Float, false}})
		b.Floats(0).Append(v)
		tab, _ := b.Table()
		if _, err := ReadFloats(context.Background(), tab, []string{"x"}); !errors.Is(err, ErrNotFinite) {
			t.Errorf("%v: %v", v, err)
		}
	}
}

func TestSelect(t *testing.T) {
	sel, err := Select(sample(t), []string{"s", "id"})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(sel.Schema()); got != "[{s text false} {id text true}]" {
		t.Errorf("schema %s", got)
	}
	for b, err := range sel.Batches(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		if b.NumCols() != 2 || b.Schema().NumFields() != 2 {
			t.Errorf("a batch shows %d columns", b.NumCols())
		}
	}
	if _, err := Take(context.Background(), sel, []int{0}); err != nil {
		t.Error(err)
	}
	// What was left out cannot be selected back.
	if _, err := Select(sel, []string{"x"}); !errors.Is(err, ErrColumn) {
		t.Errorf("left out: %v", err)
	}
	for _, names := range [][]string{{"nope"}, {"id", "id"}, {}} {
		if _, err := Select(sample(t), names); !errors.Is(err, ErrColumn) {
			t.Errorf("%v: %v", names, err)
		}
	}
}

func TestBuilderUneven(t *testing.T) {
	b := NewBuilder(Schema{{"a", Int, false}, {"b", Int, false}})
	b.Ints(0).Append(1)
	if _, err := b.Table(); err == nil || !strings.Contains(err.Error(), "column b") {
		t.Errorf("uneven columns: %v", err)
	}
}
