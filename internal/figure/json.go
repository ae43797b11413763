package figure

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/table"
)

// jsonBuffer is how many bytes of JSON are written at a time.
const jsonBuffer = 64 << 10

// WriteJSON writes src as one JSON object: its title, its columns with their
// types, and its rows, each an object on a line of its own with the columns'
// names as keys, in their order. A missing value is null. Floats are written so
// that reading them back gives the same value; integers are exact, also beyond
// 2^53, where some readers round.
//
// It fails where a suppressed row still has one of fig's values: no format of
// the table should be released then. It holds one batch of src and 64 KiB.
func WriteJSON(ctx context.Context, w io.Writer, src table.Source, fig job.Figure) error {
	schema := src.Schema()
	if err := Check(schema, fig); err != nil {
		return err
	}
	buf := appendText([]byte(`{"title":`), fig.Title)
	buf = append(buf, `,"columns":[`...)
	keys := make([][]byte, len(schema)) // of a row's members, with what stands around them
	for i, c := range schema {
		key := appendText(nil, c.Name)
		if i > 0 {
			buf = append(buf, ',')
			keys[i] = append(keys[i], ',')
		}
		keys[i] = append(append(keys[i], key...), ':')
		buf = append(append(buf, `{"name":`...), key...)
		buf = append(append(append(buf, `,"type":"`...), c.Type...), `"}`...)
	}
	buf = append(buf, `],"rows":[`...)
	flush := func() error {
		if _, err := w.Write(buf); err != nil {
			return fmt.Errorf("figure: %w", err)
		}
		buf = buf[:0]
		return nil
	}
	first := true
	for b, err := range src.Batches(ctx) {
		if err != nil {
			return err
		}
		if err := fits(b, schema); err != nil {
			return err
		}
		for r := range int(b.NumRows()) {
			if !first {
				buf = append(buf, ',')
			}
			first = false
			if err := withheld(b, r, schema, fig); err != nil {
				return err
			}
			buf = append(buf, '\n', '{')
			for i := range schema {
				buf = append(buf, keys[i]...)
				if buf, err = appendValue(buf, b.Column(i), r); err != nil {
					return fmt.Errorf("%w: column %s", err, schema[i].Name)
				}
			}
			if buf = append(buf, '}'); len(buf) >= jsonBuffer {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	buf = append(buf, "\n]}\n"...)
	return flush()
}

// withheld checks that a row which is suppressed has none of fig's values.
func withheld(b arrow.RecordBatch, r int, schema table.Schema, fig job.Figure) error {
	if !isSuppressed(b, r, schema.Index(fig.Status)) {
		return nil
	}
	for _, v := range fig.Values {
		if !b.Column(schema.Index(v)).IsNull(r) {
			return fmt.Errorf("%w: column %s", ErrWithheld, v)
		}
	}
	return nil
}

// isSuppressed reads the status column, which is absent where it is negative.
func isSuppressed(b arrow.RecordBatch, r, status int) bool {
	if status < 0 || b.Column(status).IsNull(r) {
		return false
	}
	return b.Column(status).(*array.String).Value(r) == Suppressed
}

// fits holds a batch to the schema it is said to have.
func fits(b arrow.RecordBatch, schema table.Schema) error {
	want := schema.Arrow()
	if int(b.NumCols()) != len(schema) {
		return fmt.Errorf("%w: a batch of %d columns, want %d", ErrColumn, b.NumCols(), len(schema))
	}
	for i, c := range schema {
		if got := b.Column(i).DataType(); got.ID() != want.Field(i).Type.ID() {
			return fmt.Errorf("%w: column %s holds %s", table.ErrType, c.Name, got)
		}
	}
	return nil
}

// appendValue appends the JSON of row r of a column.
func appendValue(buf []byte, a arrow.Array, r int) ([]byte, error) {
	if a.IsNull(r) {
		return append(buf, "null"...), nil
	}
	switch a := a.(type) {
	case *array.Int64:
		return strconv.AppendInt(buf, a.Value(r), 10), nil
	case *array.Float64:
		v := a.Value(r)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return buf, table.ErrNotFinite
		}
		return strconv.AppendFloat(buf, v, 'g', -1, 64), nil
	case *array.String:
		return appendText(buf, a.Value(r)), nil
	}
	return buf, table.ErrType
}

// appendText appends a JSON string. What is not UTF-8 becomes U+FFFD.
func appendText(buf []byte, s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // people read these files, and no page includes them
	_ = enc.Encode(s)        // a string has JSON, and a bytes.Buffer takes everything
	return append(buf, bytes.TrimSuffix(b.Bytes(), []byte{'\n'})...)
}
