package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
)

// A generated source gives the same rows at every read, and Hold keeps them,
// missing values included.
func TestGenerate(t *testing.T) {
	const rows = 2*generatedRows + 7
	schema := Schema{{Name: "id", Type: Text, Key: true}, {Name: "n", Type: Int}, {Name: "x", Type: Float}}
	calls := 0
	src := Generate(schema, rows, func(b *Builder, i int64) {
		calls++
		b.Texts(0).Append(fmt.Sprint("k", i))
		if i%3 == 0 {
			b.Ints(1).AppendNull()
		} else {
			b.Ints(1).Append(i)
		}
		b.Floats(2).Append(float64(i) / 2)
	})
	var first, held bytes.Buffer
	if err := WriteCSV(t.Context(), &first, src); err != nil {
		t.Fatal(err)
	}
	whole, err := Hold(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Rows() != rows || calls != 2*rows {
		t.Errorf("%d rows held after %d calls, want %d after %d", whole.Rows(), calls, rows, 2*rows)
	}
	if err := WriteCSV(t.Context(), &held, whole); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), held.Bytes()) || bytes.Count(held.Bytes(), []byte("\n")) != rows+1 {
		t.Error("what is held differs from what is read")
	}
	if again, err := Hold(t.Context(), whole); err != nil || again != whole {
		t.Errorf("a table was copied: %v", err)
	}
}

// A row that leaves a column out, a type that is not the schema's and a
// context that ended are errors.
func TestGenerateFaults(t *testing.T) {
	schema := Schema{{Name: "id", Type: Text, Key: true}, {Name: "n", Type: Int}}
	if _, err := Hold(t.Context(), Generate(schema, 3, func(b *Builder, i int64) { b.Texts(0).Append("k") })); err == nil {
		t.Error("a column without values was held")
	}
	good := Generate(schema, 3, func(b *Builder, i int64) {
		b.Texts(0).Append("k")
		b.Ints(1).Append(i)
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Hold(ctx, good); !errors.Is(err, context.Canceled) {
		t.Errorf("a read under an ended context: %v", err)
	}
	if _, err := Hold(t.Context(), lying{good}); !errors.Is(err, ErrType) {
		t.Errorf("text in a column of numbers: %v", err)
	}
}

// lying says that its first column is one of numbers.
type lying struct{ Source }

func (l lying) Schema() Schema {
	s := l.Source.Schema()
	s[0].Type = Int
	return s
}
