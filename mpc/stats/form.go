package stats

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/yinqiao/yinqiao/table"
)

// Form asks for statistics over the rows of several parties' tables, all of
// which have the columns it names. It is plain data: docs/statistics.md
// explains it with examples.
type Form struct {
	// Entity is the text or int column that names the unit (person, enterprise)
	// to be protected. Blank means the table's key columns together, or every
	// row by itself where the table has no key. It cannot be filtered, grouped
	// or measured.
	Entity string `json:"entity,omitempty"`
	// Where is what a row must satisfy, all of it, to be counted.
	Where []Filter `json:"where,omitempty"`
	// GroupBy splits the rows into cells, one for each combination of
	// categories. Without it there is one cell.
	GroupBy  []Dimension `json:"group_by,omitempty"`
	Measures []Measure   `json:"measures"`
	// Missing is what becomes of missing values: [MissingRefuse], the default,
	// or [MissingSkip].
	Missing string `json:"missing,omitempty"`
	// Margins asks for totals over every subset of the dimensions, as cells of
	// their own.
	Margins bool `json:"margins,omitempty"`
	// MaxRows is the most rows one contributor counts, after Where; 0 means
	// DefaultMaxRows. Widths of counters follow from it.
	MaxRows int64 `json:"max_rows,omitempty"`
	// UnitRows is the most rows of one unit that a contributor counts; 0 means
	// that nobody declares any. Noise needs it.
	UnitRows int64 `json:"unit_rows,omitempty"`
}

// What becomes of missing values.
const (
	// MissingRefuse: a missing value in any column that the form reads, in a row
	// that the filters before it let through, is an error.
	MissingRefuse = "refuse"
	// MissingSkip: a row with a missing value in a column of Where or GroupBy is
	// not counted; a measure leaves out the rows that miss its own columns, and
	// the number of the others is opened beside it.
	MissingSkip = "skip"
)

// Filter is a condition on one column of each party's own table: the value is
// one of In, or none of NotIn, or Min ≤ value ≤ Max, of which one may be left
// out.
type Filter struct {
	Column string   `json:"column"`
	In     []Value  `json:"in,omitempty"`
	NotIn  []Value  `json:"not_in,omitempty"`
	Min    *float64 `json:"min,omitempty"`
	Max    *float64 `json:"max,omitempty"`
}

// Dimension splits rows by one column: a text or int column by the values of a
// public Domain, or a number column by Bins.
type Dimension struct {
	Column string `json:"column"`
	// Name is what the result calls it; blank means Column.
	Name string `json:"name,omitempty"`
	// Domain is all categories there can be. A value outside is an error, or
	// goes to the category "other" where Other is set.
	Domain []Value `json:"domain,omitempty"`
	Other  bool    `json:"other,omitempty"`
	// Bins is ascending edges e0, e1, …, ek: the categories are [e0,e1), [e1,e2)
	// and so on, and [e(k-1),ek] with both ends. A value outside is an error.
	// OpenEnded adds the categories "<e0" and ">=ek"; the last bin is then
	// without its upper end.
	Bins      []float64 `json:"bins,omitempty"`
	OpenEnded bool      `json:"open_ended,omitempty"`
}

// Measure is what is computed of the rows of each cell.
type Measure struct {
	// Name is what the result calls it; blank means Of and the columns, as in
	// "mean_amount".
	Name string `json:"name,omitempty"`
	Of   string `json:"of"` // one of the kinds below
	// Column is the number column that is measured; of count it may be left out
	// or be any column, whose present values are then counted. Covariance and
	// correlation have two Columns instead.
	Column  string   `json:"column,omitempty"`
	Columns []string `json:"columns,omitempty"`
	// Range is the least and the greatest value, both allowed; for two columns
	// it may be four numbers, a range for each. A value outside is an error at
	// the party that has it. Needed wherever sums are made.
	Range []float64 `json:"range,omitempty"`
	// Scale is how many decimals values have: they are summed as whole multiples
	// of 10^-Scale, and a value that is none is an error.
	Scale int `json:"scale,omitempty"`
	// Bins is ascending edges as in Dimension, for min, max, quantiles and
	// histogram. A value outside is an error.
	Bins []float64 `json:"bins,omitempty"`
	// At is the quantiles, from 0 to 1, such as 0.5 for the median.
	At []float64 `json:"at,omitempty"`
}

// Kinds of measure.
const (
	Count       = "count"       // rows
	Sum         = "sum"         //
	Mean        = "mean"        // missing where there is no row
	Variance    = "variance"    // with n-1; missing below two rows
	StdDev      = "stddev"      // its root
	Covariance  = "covariance"  // of two columns, with n-1
	Correlation = "correlation" // of two columns; missing where one does not vary
	Min         = "min"         // the bin that it is in
	Max         = "max"         //
	Quantiles   = "quantiles"   // the bins that they are in, and interpolated
	Histogram   = "histogram"   // rows of each bin
)

// Value is a category as forms write it, a JSON string or whole number. It
// equals a text that has the same bytes, and an int whose shortest decimal it
// is: 11 and "11" are the same Value, "011" is another and no int's.
type Value string

// UnmarshalJSON reads a string or a whole number. It is written as a string.
func (v *Value) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(v))
	}
	n, err := wholeNumber(string(b))
	if err != nil {
		return err
	}
	*v = Value(strconv.FormatInt(n, 10))
	return nil
}

var errValue = errors.New("stats: a category is a text or a whole number")

// wholeNumber reads a JSON number that is whole, such as 11, 11.0 and 1e3.
func wholeNumber(s string) (int64, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, errValue
	}
	return int64(f), nil
}

// int returns the int that v equals.
func (v Value) int() (int64, bool) {
	n, err := strconv.ParseInt(string(v), 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == string(v)
}

func (v Value) isInt() bool {
	_, ok := v.int()
	return ok
}

// Names returns columns of which the names alone are known, for
// [Form.Validate].
func Names(columns []string) table.Schema {
	s := make(table.Schema, len(columns))
	for i, c := range columns {
		s[i].Name = c
	}
	return s
}

// Columns returns the names of the columns that the form reads, each once, in
// the order it names them. The key columns, which a blank Entity stands for,
// are not among them.
func (f *Form) Columns() []string {
	var names []string
	seen := make(map[string]bool)
	add := func(c string) {
		if c != "" && !seen[c] {
			seen[c] = true
			names = append(names, c)
		}
	}
	add(f.Entity)
	for _, w := range f.Where {
		add(w.Column)
	}
	for _, d := range f.GroupBy {
		add(d.Column)
	}
	for _, m := range f.Measures {
		for _, c := range m.columns() {
			add(c)
		}
	}
	return names
}

// columns returns the columns that m reads.
func (m *Measure) columns() []string {
	if m.Column != "" {
		return []string{m.Column}
	}
	return m.Columns
}

// title is the measure's name in the result.
func (m *Measure) title() string {
	if m.Name != "" {
		return m.Name
	}
	t := m.Of
	for _, c := range m.columns() {
		t += "_" + c
	}
	return t
}

// title is the dimension's name in the result.
func (d *Dimension) title() string {
	if d.Name != "" {
		return d.Name
	}
	return d.Column
}

// skips reports whether missing values are left out.
func (f *Form) skips() bool { return f.Missing == MissingSkip }

// categories returns the labels of d's categories, in order.
func (d *Dimension) categories() []string {
	var labels []string
	if len(d.Bins) > 0 {
		if d.OpenEnded {
			labels = append(labels, "<"+number(d.Bins[0]))
		}
		labels = append(labels, binLabels(d.Bins, d.OpenEnded)...)
		if d.OpenEnded {
			labels = append(labels, ">="+number(d.Bins[len(d.Bins)-1]))
		}
		return labels
	}
	for _, v := range d.Domain {
		labels = append(labels, string(v))
	}
	if d.Other {
		labels = append(labels, Other)
	}
	return labels
}

// binLabels returns "[0,10)" and so on; the last has both ends unless open.
func binLabels(edges []float64, open bool) []string {
	var labels []string
	for i := range len(edges) - 1 {
		end := ")"
		if i == len(edges)-2 && !open {
			end = "]"
		}
		labels = append(labels, fmt.Sprintf("[%s,%s%s", number(edges[i]), number(edges[i+1]), end))
	}
	return labels
}

// number writes a declared number as people do.
func number(x float64) string {
	format := byte('f')
	if a := math.Abs(x); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'g'
	}
	return strconv.FormatFloat(x, format, -1, 64)
}

// Words that stand in category columns besides those of a domain, and what the
// status column is called and says.
const (
	All        = "all"        // of a dimension that a margin sums over
	Other      = "other"      // of a value outside the domain
	Status     = "status"     // the last column of a result
	Suppressed = "suppressed" // the status of a cell that is not released
)
