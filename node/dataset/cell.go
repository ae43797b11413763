package dataset

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/table"
)

// missingDefault stands for a missing value in numbers and keys unless the
// dataset says otherwise.
var missingDefault = []string{"", "NA", "N/A", "NULL", "null"}

// cell parses one column's fields and appends them to a builder, if any.
type cell struct {
	name    string
	typ     table.Type
	key     bool
	at      int // which field of the file
	missing []string
	ints    *array.Int64Builder
	floats  *array.Float64Builder
	texts   *array.StringBuilder
}

func newCell(d Dataset, column, at int, b array.Builder) cell {
	c := d.Columns[column]
	cl := cell{name: c.Name, typ: c.Type, key: c.Key, at: at, missing: d.Missing}
	if d.Missing == nil {
		if cl.missing = missingDefault; c.Type == table.Text && !c.Key {
			cl.missing = missingDefault[:1]
		}
	}
	switch b := b.(type) {
	case *array.Int64Builder:
		cl.ints = b
	case *array.Float64Builder:
		cl.floats = b
	case *array.StringBuilder:
		cl.texts = b
	}
	return cl
}

// append parses the column's field of rec.
func (c *cell) append(r *reader, rec []string, line int) *Error {
	v := rec[c.at]
	if c.typ != table.Text {
		v = trimBlanks(v)
	}
	if c.isMissing(v) {
		switch {
		case c.ints != nil:
			c.ints.AppendNull()
		case c.floats != nil:
			c.floats.AppendNull()
		case c.texts != nil:
			c.texts.AppendNull()
		}
		return nil
	}
	switch c.typ {
	case table.Int:
		n, rule, hint := parseInt(v, c.key)
		if rule != "" {
			return c.fault(r, v, line, rule, hint)
		}
		if c.ints != nil {
			c.ints.Append(n)
		}
	case table.Float:
		x, rule, hint := parseFloat(v)
		if rule != "" {
			return c.fault(r, v, line, rule, hint)
		}
		if c.floats != nil {
			c.floats.Append(x)
		}
	default:
		if f := r.text(v, line, c.name); f != nil {
			return f
		}
		if c.texts != nil {
			c.texts.Append(v)
		}
	}
	return nil
}

// trimBlanks takes spaces and tabs off a number, as aligned columns have them.
func trimBlanks(v string) string {
	if v == "" || v[0] > ' ' && v[len(v)-1] > ' ' {
		return v
	}
	return strings.Trim(v, " \t")
}

func (c *cell) isMissing(v string) bool { return slices.Contains(c.missing, v) }

// fault prefers to say that the bytes are no text at all.
func (c *cell) fault(r *reader, v string, line int, rule Rule, hint string) *Error {
	if f := r.text(v, line, c.name); f != nil {
		return f
	}
	return r.fault(line, rule, c.name, hint)
}

const keyFormHint = "a sign or leading zeros would be lost: declare the column text"

func parseInt(v string, key bool) (int64, Rule, string) {
	n, err := strconv.ParseInt(v, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, TypeRange, "an int has 64 bits; declare the column text if it is an identifier"
	case err != nil:
		if _, rule, _ := parseFloat(v); rule == "" {
			return 0, TypeInt, "it has a decimal point or exponent: declare the column float, or write the whole number"
		}
		return 0, TypeInt, ""
	case key && (v[0] == '+' || v[0] == '0' && len(v) > 1 || v[0] == '-' && v[1] == '0'):
		return 0, KeyForm, keyFormHint
	}
	return n, "", ""
}

// parseFloat takes plain decimal numbers, with or without an exponent; not the
// names and hexadecimal forms that strconv knows besides.
func parseFloat(v string) (float64, Rule, string) {
	plain := v != ""
	for i := range len(v) {
		switch b := v[i]; {
		case '0' <= b && b <= '9', b == '.', b == '-', b == '+', b == 'e', b == 'E':
		default:
			plain = false
		}
	}
	x, err := strconv.ParseFloat(v, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, TypeRange, "beyond what a float64 holds"
	case err == nil && (math.IsNaN(x) || math.IsInf(x, 0)):
		return 0, TypeFinite, "list its text under missing if it stands for a missing value"
	case err != nil || !plain:
		return 0, TypeFloat, ""
	}
	return x, "", ""
}
