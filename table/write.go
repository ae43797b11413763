package table

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// csvBuffer is how many bytes of CSV are written at a time.
const csvBuffer = 64 << 10

// WriteCSV writes src as CSV (RFC 4180 with LF line ends): a header, then a line
// a row. A missing value is an empty field, and so is an empty text. Floats
// are written so that reading them back gives the same value.
func WriteCSV(ctx context.Context, w io.Writer, src Source) error {
	schema := src.Schema()
	buf := make([]byte, 0, csvBuffer+csvBuffer/4)
	flush := func() error {
		n, err := w.Write(buf)
		if err == nil && n < len(buf) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return fmt.Errorf("table: %w", err)
		}
		buf = buf[:0]
		return nil
	}

	for i, c := range schema {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendField(buf, c.Name)
	}
	buf = endLine(buf, 0)
	cols := make([]csvColumn, len(schema))
	for b, err := range src.Batches(ctx) {
		if err != nil {
			return err
		}
		for i := range cols {
			if cols[i], err = newCSVColumn(b.Column(i)); err != nil {
				return fmt.Errorf("%w: column %s holds %s", ErrType, schema[i].Name, b.Column(i).DataType())
			}
		}
		for r := range int(b.NumRows()) {
			begin := len(buf)
			for i := range cols {
				if i > 0 {
					buf = append(buf, ',')
				}
				buf = cols[i].append(buf, r)
			}
			if buf = endLine(buf, begin); len(buf) >= csvBuffer {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

// endLine ends the line of buf that begins at a place. One that is empty would
// be skipped by readers: its only field is quoted.
func endLine(buf []byte, begin int) []byte {
	if len(buf) == begin {
		buf = append(buf, '"', '"')
	}
	return append(buf, '\n')
}

// csvColumn is a column of a batch that becomes fields.
type csvColumn struct {
	array  arrow.Array
	nulls  bool
	ints   *array.Int64
	floats *array.Float64
	texts  *array.String
	plain  bool // no text has a byte that needs quotes wherever it stands
}

func newCSVColumn(a arrow.Array) (csvColumn, error) {
	c := csvColumn{array: a, nulls: a.NullN() > 0}
	switch a := a.(type) {
	case *array.Int64:
		c.ints = a
	case *array.Float64:
		c.floats = a
	case *array.String:
		c.texts, c.plain = a, true
		// One pass over all texts costs less than one over each.
		all := a.ValueBytes()
		for i := 0; i < len(quoted) && c.plain; i++ {
			c.plain = bytes.IndexByte(all, quoted[i]) < 0
		}
	default:
		return c, ErrType
	}
	return c, nil
}

// append appends the field of row r.
func (c *csvColumn) append(buf []byte, r int) []byte {
	if c.nulls && c.array.IsNull(r) {
		return buf
	}
	switch {
	case c.ints != nil:
		return strconv.AppendInt(buf, c.ints.Value(r), 10)
	case c.floats != nil:
		return appendFloat(buf, c.floats.Value(r))
	}
	s := c.texts.Value(r)
	if c.plain && !oddStart(s) {
		return append(buf, s...)
	}
	return appendField(buf, s)
}

// appendFloat appends the shortest decimal that reads as f.
func appendFloat(buf []byte, f float64) []byte {
	// Most numbers in tables have few digits. One of at most 15 that reads as f
	// is the shortest without its last zeros, since no two of them read as the
	// same float64.
	const scale, digits = 1000, 3
	k := int64(f * scale)
	if f != float64(k)/scale || k <= -1e6*scale || k >= 1e6*scale || k == 0 {
		return strconv.AppendFloat(buf, f, 'g', -1, 64)
	}
	if k < 0 {
		buf, k = append(buf, '-'), -k
	}
	buf = strconv.AppendInt(buf, k/scale, 10)
	if k %= scale; k == 0 {
		return buf
	}
	buf = append(buf, '.', byte('0'+k/100), byte('0'+k/10%10), byte('0'+k%10))
	end := len(buf)
	for buf[end-1] == '0' {
		end--
	}
	return buf[:end]
}

// quoted is the bytes that put a field in quotes.
const quoted = ",\"\r\n"

// oddStart reports whether a text must be in quotes for its beginning: white
// space, which some readers trim, or "\.", which ends the input of PostgreSQL.
func oddStart(s string) bool {
	if s == "" {
		return false
	}
	switch s[0] {
	case '\\':
		return s == `\.`
	case '\t', '\n', '\v', '\f', '\r', ' ':
		return true
	case 0xc2, 0xe1, 0xe2, 0xe3: // what any other white space begins with in UTF-8
		first, _ := utf8.DecodeRuneInString(s)
		return unicode.IsSpace(first)
	}
	return false
}

// appendField appends a text as RFC 4180 has it.
func appendField(buf []byte, s string) []byte {
	quotes := oddStart(s)
	for i := 0; i < len(quoted) && !quotes; i++ {
		quotes = strings.IndexByte(s, quoted[i]) >= 0
	}
	if !quotes {
		return append(buf, s...)
	}
	buf = append(buf, '"')
	for {
		i := strings.IndexByte(s, '"')
		if i < 0 {
			break
		}
		buf = append(append(buf, s[:i+1]...), '"')
		s = s[i+1:]
	}
	return append(append(buf, s...), '"')
}
