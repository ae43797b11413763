package dataset

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/yinqiao/yinqiao/table"
)

// missingDefault stands for a missing value in numbers and keys unless the
// dataset says otherwise.
var missingDefault = []string{"", "NA", "N/A", "NULL", "null"}

// cell parses one column's fields and appends them to values, if any.
type cell struct {
	name    string
	typ     table.Type
	key     bool
	at      int // which field of the file
	missing []string
	longest int // of missing
	values  *values
}

func newCell(d Dataset, column, at int, v *values) cell {
	c := d.Columns[column]
	cl := cell{name: c.Name, typ: c.Type, key: c.Key, at: at, missing: d.Missing, values: v}
	if d.Missing == nil {
		if cl.missing = missingDefault; c.Type == table.Text && !c.Key {
			cl.missing = missingDefault[:1]
		}
	}
	for _, m := range cl.missing {
		cl.longest = max(cl.longest, len(m))
	}
	return cl
}

// append parses v, the column's field of the row that begins on line.
func (c *cell) append(r *reader, v string, line int) *Error {
	if c.typ != table.Text {
		v = trimBlanks(v)
	}
	if c.isMissing(v) {
		if c.values != nil {
			c.values.appendNull()
		}
		return nil
	}
	switch c.typ {
	case table.Int:
		n, ok := parseDigits(v)
		if !ok {
			var rule Rule
			var hint string
			if n, rule, hint = parseInt(v, c.key); rule != "" {
				return c.fault(r, v, line, rule, hint)
			}
		}
		if c.values != nil {
			c.values.ints = append(c.values.ints, n)
		}
	case table.Float:
		x, rule, hint := parseFloat(v)
		if rule != "" {
			return c.fault(r, v, line, rule, hint)
		}
		if c.values != nil {
			c.values.floats = append(c.values.floats, x)
		}
	default:
		if f := r.text(v, line, c.name); f != nil {
			return f
		}
		if c.values != nil {
			c.values.appendText(v)
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

func (c *cell) isMissing(v string) bool {
	return len(v) <= c.longest && slices.Contains(c.missing, v)
}

// fault prefers to say that the bytes are no text at all.
func (c *cell) fault(r *reader, v string, line int, rule Rule, hint string) *Error {
	if f := r.text(v, line, c.name); f != nil {
		return f
	}
	return r.fault(line, rule, c.name, hint)
}

// What to do about an int key that is none.
const (
	keyFormHint  = "a sign or leading zeros would be lost: declare the column text"
	keyFloatHint = "a program wrote the identifier as a number, and digits may be lost: export it again as text"
	keyTextHint  = "declare the column text if identifiers hold more than digits"
)

// parseDigits reads a number of up to 18 digits in the one form that every
// column of integers takes. It leaves all others to parseInt.
func parseDigits(v string) (n int64, ok bool) {
	if len(v) == 0 || len(v) > 18 || v[0] == '0' && len(v) > 1 {
		return 0, false
	}
	for i := range len(v) {
		d := v[i] - '0'
		if d > 9 {
			return 0, false
		}
		n = n*10 + int64(d)
	}
	return n, true
}

func parseInt(v string, key bool) (int64, Rule, string) {
	n, err := strconv.ParseInt(v, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, TypeRange, "an int has 64 bits; declare the column text if it is an identifier"
	case err != nil:
		_, rule, _ := parseFloat(v)
		switch {
		case key && rule == "":
			return 0, TypeInt, keyFloatHint
		case key:
			return 0, TypeInt, keyTextHint
		case rule == "":
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
	if n, ok := parseDigits(v); ok {
		return float64(n), "", "" // rounded as ParseFloat does, to nearest even
	}
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
