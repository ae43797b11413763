package stats

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/yinqiao/yinqiao/table"
)

// ErrForm is wrapped by all faults of a form.
var ErrForm = errors.New("stats: the form is not valid")

// Bounds of a form.
const (
	DefaultMaxRows = 1 << 24
	MaxMaxRows     = 1<<31 - 1

	MaxCells    = 1 << 20 // cells, margins included
	MaxCounters = 1 << 20 // cells times counters of a cell
	// MaxUnits bounds a declared range: |value|·10^scale. Up to here a decimal
	// that became a float64 is told from its neighbours.
	MaxUnits = 1e15

	maxDimensions = 6
	maxMeasures   = 64
	maxFilters    = 32
	maxDomain     = 1 << 16 // values of a list
	maxBins       = 1 << 12
	maxQuantiles  = 99
	maxScale      = 12
	maxText       = 256 // bytes of a name or value
	maxFaults     = 100 // that are told
)

// faults collects what is wrong with a form.
type faults struct {
	errs []error
	more int
}

func (f *faults) add(path, format string, args ...any) {
	if len(f.errs) == maxFaults {
		f.more++
		return
	}
	f.errs = append(f.errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

func (f *faults) err() error {
	if len(f.errs) == 0 {
		return nil
	}
	if f.more > 0 {
		f.errs = append(f.errs, fmt.Errorf("and %d more", f.more))
	}
	return fmt.Errorf("%w: %w", ErrForm, errors.Join(f.errs...))
}

// validation is one run of Validate.
type validation struct {
	faults
	form    *Form
	columns table.Schema
	titles  map[string]string // columns of the result, and where they come from
}

// Validate reports every fault of f at once, each with its key path. columns is
// what the tables have: nil where that is not known, and with blank types where
// the names alone are (see [Names]).
func (f *Form) Validate(columns table.Schema) error {
	v := &validation{form: f, columns: columns, titles: map[string]string{Status: "the status column"}}
	if f.Entity != "" {
		v.column("entity", f.Entity, false, table.Text, table.Int)
	}
	if len(f.Where) > maxFilters {
		v.add("where", "%d filters, the most is %d", len(f.Where), maxFilters)
	} else {
		for i := range f.Where {
			v.filter(fmt.Sprintf("where[%d]", i), &f.Where[i])
		}
	}
	if len(f.GroupBy) > maxDimensions {
		v.add("group_by", "%d dimensions, the most is %d", len(f.GroupBy), maxDimensions)
	} else {
		for i := range f.GroupBy {
			v.dimension(fmt.Sprintf("group_by[%d]", i), &f.GroupBy[i])
		}
	}
	switch {
	case len(f.Measures) == 0:
		v.add("measures", "none, want at least one")
	case len(f.Measures) > maxMeasures:
		v.add("measures", "%d, the most is %d", len(f.Measures), maxMeasures)
	default:
		for i := range f.Measures {
			v.measure(fmt.Sprintf("measures[%d]", i), &f.Measures[i])
		}
	}
	if f.Missing != "" && f.Missing != MissingRefuse && f.Missing != MissingSkip {
		v.add("missing", "want %s or %s", MissingRefuse, MissingSkip)
	}
	if f.MaxRows < 0 || f.MaxRows > MaxMaxRows {
		v.add("max_rows", "want 1 to %d, or 0 for %d", MaxMaxRows, DefaultMaxRows)
	}
	if f.UnitRows < 0 || f.UnitRows > f.maxRows() {
		v.add("unit_rows", "want 1 to max_rows, or 0 for none")
	}
	return v.err()
}

func (f *Form) maxRows() int64 {
	if f.MaxRows == 0 {
		return DefaultMaxRows
	}
	return f.MaxRows
}

// column checks the column that a part of the form reads. types is what it may
// be; the entity's column serves nothing else.
func (v *validation) column(path, name string, entityIsFault bool, types ...table.Type) {
	if !v.text(path, name) {
		return
	}
	if entityIsFault && name == v.form.Entity {
		v.add(path, "column %s names the protected unit, and can be nothing else", name)
		return
	}
	if v.columns == nil {
		return
	}
	i := v.columns.Index(name)
	if i < 0 {
		v.add(path, "there is no column %s", name)
		return
	}
	c := v.columns[i]
	if entityIsFault && v.form.Entity == "" && c.Key {
		v.add(path, "column %s is a key and names the protected unit, and can be nothing else", name)
	}
	if c.Type != "" && !slices.Contains(types, c.Type) {
		v.add(path, "column %s is %s, want %s", name, c.Type, either(types))
	}
}

func either(types []table.Type) string {
	s := string(types[0])
	for _, t := range types[1:] {
		s += " or " + string(t)
	}
	return s
}

// typeOf returns a column's type, blank where it is not known.
func (v *validation) typeOf(name string) table.Type {
	if i := v.columns.Index(name); i >= 0 {
		return v.columns[i].Type
	}
	return ""
}

// text checks a name or title.
func (v *validation) text(path, s string) bool {
	switch {
	case s == "":
		v.add(path, "blank")
	case len(s) > maxText:
		v.add(path, "%d bytes, the most is %d", len(s), maxText)
	case !utf8.ValidString(s):
		v.add(path, "not valid UTF-8")
	case slices.ContainsFunc([]rune(s), unicode.IsControl):
		v.add(path, "holds a control character")
	default:
		return true
	}
	return false
}

// title claims a name in the result.
func (v *validation) title(path, name string) {
	if was, ok := v.titles[name]; ok {
		v.add(path, "the result has a column %s twice: %s has it too", name, was)
		return
	}
	v.titles[name] = path
}

// values checks a list of categories of a column.
func (v *validation) values(path, column string, list []Value) {
	if len(list) > maxDomain {
		v.add(path, "%d values, the most is %d", len(list), maxDomain)
		return
	}
	isInt := v.typeOf(column) == table.Int
	seen := make(map[Value]bool, len(list))
	for i, x := range list {
		fault := ""
		switch {
		case len(x) > maxText:
			fault = fmt.Sprintf("%d bytes, the most is %d", len(x), maxText)
		case !utf8.ValidString(string(x)):
			fault = "not valid UTF-8"
		case seen[x]:
			fault = "occurs twice"
		case isInt && !x.isInt():
			fault = fmt.Sprintf("column %s is int, and this is no int as int columns write it", column)
		}
		if fault != "" {
			v.add(fmt.Sprintf("%s[%d]", path, i), "%s", fault)
		}
		seen[x] = true
	}
}

func (v *validation) filter(path string, w *Filter) {
	ways := 0
	types := []table.Type{table.Text, table.Int}
	if w.In != nil {
		ways++
		v.values(path+".in", w.Column, w.In)
		if len(w.In) == 0 {
			v.add(path+".in", "empty: no row would be counted")
		}
	}
	if w.NotIn != nil {
		ways++
		v.values(path+".not_in", w.Column, w.NotIn)
		if len(w.NotIn) == 0 {
			v.add(path+".not_in", "empty: it would say nothing")
		}
	}
	if w.Min != nil || w.Max != nil {
		ways++
		types = []table.Type{table.Int, table.Float}
		v.finite(path+".min", w.Min)
		v.finite(path+".max", w.Max)
		if w.Min != nil && w.Max != nil && *w.Min > *w.Max {
			v.add(path+".min", "above max")
		}
	}
	if ways != 1 {
		v.add(path, "want one of in, not_in, and min or max")
	}
	v.column(path+".column", w.Column, true, types...)
}

func (v *validation) finite(path string, x *float64) {
	if x != nil && (math.IsNaN(*x) || math.IsInf(*x, 0)) {
		v.add(path, "not finite")
	}
}

func (v *validation) dimension(path string, d *Dimension) {
	types := []table.Type{table.Text, table.Int}
	switch {
	case (len(d.Domain) > 0) == (len(d.Bins) > 0):
		v.add(path, "want one of domain and bins")
	case len(d.Domain) > 0:
		v.values(path+".domain", d.Column, d.Domain)
		if v.form.Margins {
			v.reserved(path+".domain", d.Domain, All)
		}
		if d.Other {
			v.reserved(path+".domain", d.Domain, Other)
		}
		if d.OpenEnded {
			v.add(path+".open_ended", "goes with bins; of a domain it is called other")
		}
	default:
		types = []table.Type{table.Int, table.Float}
		v.edges(path+".bins", d.Bins)
		if d.Other {
			v.add(path+".other", "goes with a domain; of bins it is called open_ended")
		}
	}
	v.column(path+".column", d.Column, true, types...)
	if d.Name != "" {
		v.text(path+".name", d.Name)
	}
	v.title(path, d.title())
	for i := range v.form.GroupBy {
		if e := &v.form.GroupBy[i]; e == d {
			break
		} else if e.Column == d.Column && e.Other == d.Other && e.OpenEnded == d.OpenEnded && slices.Equal(e.Domain, d.Domain) && slices.Equal(e.Bins, d.Bins) {
			v.add(path, "splits rows as group_by[%d] does", i)
		}
	}
}

func (v *validation) reserved(path string, list []Value, word string) {
	if i := slices.Index(list, Value(word)); i >= 0 {
		v.add(fmt.Sprintf("%s[%d]", path, i), "%s is what the result calls something else", word)
	}
}

func (v *validation) edges(path string, edges []float64) {
	if len(edges) < 2 || len(edges) > maxBins+1 {
		v.add(path, "%d edges, want 2 to %d", len(edges), maxBins+1)
		return
	}
	for i, e := range edges {
		at := fmt.Sprintf("%s[%d]", path, i)
		v.finite(at, &e)
		if i > 0 && !(e > edges[i-1]) {
			v.add(at, "not above the edge before")
		}
	}
}

func (v *validation) measure(path string, m *Measure) {
	want := func(field string, has, wanted bool) {
		switch {
		case has && !wanted:
			v.add(path+"."+field, "has no place in a %s", m.Of)
		case !has && wanted:
			v.add(path+"."+field, "is needed for a %s", m.Of)
		}
	}
	two := m.Of == Covariance || m.Of == Correlation
	var sums, binned bool
	switch m.Of {
	case Count:
	case Sum, Mean, Variance, StdDev, Covariance, Correlation:
		sums = true
	case Min, Max, Quantiles, Histogram:
		binned = true
	case "":
		v.add(path+".of", "blank")
		return
	default:
		v.add(path+".of", "unknown; want count, sum, mean, variance, stddev, covariance, correlation, min, max, quantiles or histogram")
		return
	}
	if m.Of == Count && m.Column != "" {
		v.column(path+".column", m.Column, true, table.Text, table.Int, table.Float)
	}
	if m.Of != Count {
		want("column", m.Column != "", !two)
		if m.Column != "" {
			v.column(path+".column", m.Column, true, table.Int, table.Float)
		}
	}
	want("columns", len(m.Columns) > 0, two)
	if two {
		if len(m.Columns) != 2 && len(m.Columns) > 0 || len(m.Columns) == 2 && m.Columns[0] == m.Columns[1] {
			v.add(path+".columns", "want two different columns")
		}
		for i, c := range m.Columns[:min(2, len(m.Columns))] {
			v.column(fmt.Sprintf("%s.columns[%d]", path, i), c, true, table.Int, table.Float)
		}
	}
	want("range", len(m.Range) > 0, sums)
	want("bins", len(m.Bins) > 0, binned)
	want("at", len(m.At) > 0, m.Of == Quantiles)
	if m.Scale < 0 || m.Scale > maxScale {
		v.add(path+".scale", "want 0 to %d", maxScale)
	} else if m.Scale > 0 {
		want("scale", true, sums)
	}
	if sums && len(m.Range) > 0 {
		v.ranges(path+".range", m, two)
	}
	if binned && len(m.Bins) > 0 {
		v.edges(path+".bins", m.Bins)
	}
	if m.Of == Quantiles {
		v.quantiles(path+".at", m.At)
	}
	if m.Name != "" {
		v.text(path+".name", m.Name)
	}
	if len(m.Bins) <= maxBins+1 && len(m.At) <= maxQuantiles && len(m.Columns) <= 2 {
		for _, o := range m.outputs(v.form.skips()) {
			v.title(path, o)
		}
	}
}

func (v *validation) ranges(path string, m *Measure, two bool) {
	if len(m.Range) != 2 && !(two && len(m.Range) == 4) {
		want := "two numbers"
		if two {
			want = "two numbers, or four: a range for each column"
		}
		v.add(path, "%d numbers, want %s", len(m.Range), want)
		return
	}
	for i, x := range m.Range {
		at := fmt.Sprintf("%s[%d]", path, i)
		if math.IsNaN(x) || math.IsInf(x, 0) {
			v.add(at, "not finite")
			continue
		}
		if i%2 == 1 && x < m.Range[i-1] {
			v.add(at, "below the lower end")
		}
		if m.Scale < 0 || m.Scale > maxScale {
			continue
		}
		switch _, fault := toUnits(x, m.Scale); fault {
		case notWhole:
			v.add(at, "more decimals than scale %d has", m.Scale)
		case tooLarge:
			v.add(at, "beyond %g at scale %d", float64(MaxUnits), m.Scale)
		}
	}
}

func (v *validation) quantiles(path string, at []float64) {
	if len(at) > maxQuantiles {
		v.add(path, "%d quantiles, the most is %d", len(at), maxQuantiles)
		return
	}
	for i, q := range at {
		p := fmt.Sprintf("%s[%d]", path, i)
		if !(q >= 0 && q <= 1) {
			v.add(p, "want 0 to 1")
		}
		if slices.Contains(at[:i], q) {
			v.add(p, "occurs twice")
		}
	}
}

// outputs returns the titles of the result's columns that m fills.
func (m *Measure) outputs(skips bool) []string {
	t := m.title()
	var names []string
	switch m.Of {
	case Min, Max:
		names = []string{t + "_from", t + "_to"}
	case Quantiles:
		for _, q := range m.At {
			p := t + "_p" + number(math.Round(q*1e8)/1e6)
			names = append(names, p, p+"_from", p+"_to")
		}
	case Histogram:
		for _, l := range binLabels(m.Bins, false) {
			names = append(names, t+" "+l)
		}
	default:
		names = []string{t}
	}
	if skips && m.Of != Count {
		names = append(names, t+"_count")
	}
	return names
}

// Why a number has no place among whole units.
type unitFault int

const (
	fits unitFault = iota
	notWhole
	tooLarge
)

var powers = [maxScale + 1]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12}

// toUnits returns x·10^scale. It must be whole within 1e-6, or within what
// rounding to float64 did to a number of its size.
func toUnits(x float64, scale int) (int64, unitFault) {
	y := x * powers[scale]
	if !(math.Abs(y) <= MaxUnits) {
		return 0, tooLarge
	}
	r := math.Round(y)
	if d := math.Abs(y - r); d > 1e-6 && d > math.Abs(y)*0x1p-51 {
		return 0, notWhole
	}
	return int64(r), fits
}
