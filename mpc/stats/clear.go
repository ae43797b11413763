package stats

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/table"
)

// Cleared is what [Clear] computes.
type Cleared struct {
	Table     *table.Table // as Plan.Derive makes it, with nothing suppressed
	Rows      []int64      // of each cell, those of all tables
	Units     []int64      // distinct units of each table, added up
	Providers []int64      // how many tables have a row in the cell
}

// Clear computes the result over all tables in one place: for tests and
// examples, to set beside what a run gives. It shares no arithmetic with
// [Plan.Count] and [Plan.Derive], and takes variances in float64 from the values
// themselves. It does not hold values to declared ranges, and keeps all tables
// in memory.
func Clear(ctx context.Context, p *Plan, sources ...table.Source) (*Cleared, error) {
	c := &clearing{plan: p, cells: make(map[string]int)}
	for cell := range p.Cells() {
		c.cells[strings.Join(p.Labels(cell), "\x00")] = cell
	}
	c.inCell = make([][]clearRow, p.Cells())
	out := &Cleared{
		Rows: make([]int64, p.Cells()), Units: make([]int64, p.Cells()), Providers: make([]int64, p.Cells()),
	}
	for _, src := range sources {
		c.units = make([]map[string]bool, p.Cells())
		if err := c.read(ctx, src); err != nil {
			return nil, err
		}
		for cell, units := range c.units {
			if len(units) > 0 {
				out.Providers[cell]++
				out.Units[cell] += int64(len(units))
			}
		}
	}
	for cell, rows := range c.inCell {
		out.Rows[cell] = int64(len(rows))
	}
	t, err := c.table()
	out.Table = t
	return out, err
}

// clearRow is a row by column name: an int64, a float64, a string, or nil where
// the value is missing.
type clearRow map[string]any

type clearing struct {
	plan   *Plan
	cells  map[string]int // by labels
	inCell [][]clearRow
	units  []map[string]bool // of each cell, those of the current table
}

func (c *clearing) read(ctx context.Context, src table.Source) error {
	schema := src.Schema()
	n := 0
	for b, err := range src.Batches(ctx) {
		if err != nil {
			return err
		}
		for r := range int(b.NumRows()) {
			n++
			row := make(clearRow, len(schema))
			for i, col := range schema {
				switch a := b.Column(i).(type) {
				case *array.Int64:
					if !a.IsNull(r) {
						row[col.Name] = a.Value(r)
					}
				case *array.Float64:
					if !a.IsNull(r) {
						row[col.Name] = a.Value(r)
					}
				case *array.String:
					if !a.IsNull(r) {
						row[col.Name] = strings.Clone(a.Value(r))
					}
				}
			}
			unit := strconv.Itoa(n)
			if e := c.plan.form.Entity; e != "" {
				unit = fmt.Sprintf("%v", row[e])
			} else if keys := schema.Keys(); len(keys) > 0 {
				unit = ""
				for _, k := range keys {
					unit += fmt.Sprintf("%q,", fmt.Sprint(row[schema[k].Name]))
				}
			}
			if err := c.enter(row, unit); err != nil {
				return fmt.Errorf("stats: row %d: %w", n, err)
			}
		}
	}
	return nil
}

// enter puts a row into its cell and the margins over it.
func (c *clearing) enter(row clearRow, unit string) error {
	for _, f := range c.plan.form.Where {
		v, ok := row[f.Column]
		if !ok {
			return c.absent()
		}
		var keep bool
		switch {
		case f.In != nil:
			keep = slices.Contains(f.In, Value(fmt.Sprint(v)))
		case f.NotIn != nil:
			keep = !slices.Contains(f.NotIn, Value(fmt.Sprint(v)))
		default:
			keep = (f.Min == nil || clearNumber(v) >= *f.Min) && (f.Max == nil || clearNumber(v) <= *f.Max)
		}
		if !keep {
			return nil
		}
	}
	tuples := [][]string{nil}
	for _, d := range c.plan.form.GroupBy {
		v, ok := row[d.Column]
		if !ok {
			return c.absent()
		}
		label, ok := clearLabel(&d, v)
		if !ok {
			return ErrDomain
		}
		var longer [][]string
		for _, t := range tuples {
			longer = append(longer, append(slices.Clone(t), label))
			if c.plan.form.Margins {
				longer = append(longer, append(slices.Clone(t), All))
			}
		}
		tuples = longer
	}
	for _, t := range tuples {
		cell, ok := c.cells[strings.Join(t, "\x00")]
		if !ok {
			return ErrDomain
		}
		c.inCell[cell] = append(c.inCell[cell], row)
		if c.units[cell] == nil {
			c.units[cell] = make(map[string]bool)
		}
		c.units[cell][unit] = true
	}
	return nil
}

// absent is what a missing value in Where or GroupBy comes to.
func (c *clearing) absent() error {
	if c.plan.form.skips() {
		return nil
	}
	return ErrMissing
}

func clearNumber(v any) float64 {
	if n, ok := v.(int64); ok {
		return float64(n)
	}
	return v.(float64)
}

func clearLabel(d *Dimension, v any) (string, bool) {
	if d.Bins == nil {
		s := fmt.Sprint(v)
		if slices.Contains(d.Domain, Value(s)) {
			return s, true
		}
		return Other, d.Other
	}
	labels := d.categories()
	x := clearNumber(v)
	last := d.Bins[len(d.Bins)-1]
	switch {
	case x < d.Bins[0]:
		return labels[0], d.OpenEnded
	case x > last, x == last && d.OpenEnded:
		return labels[len(labels)-1], d.OpenEnded
	case x == last:
		return labels[len(labels)-1], true
	}
	i := 0
	for x >= d.Bins[i+1] {
		i++
	}
	if d.OpenEnded {
		i++
	}
	return labels[i], true
}

func (c *clearing) table() (*table.Table, error) {
	schema := c.plan.Schema()
	b := table.NewBuilder(schema)
	for cell := range c.plan.Cells() {
		var values []any // int64, float64 or nil
		for i := range c.plan.form.Measures {
			values = append(values, c.measure(&c.plan.form.Measures[i], c.inCell[cell])...)
		}
		at := 0
		for _, l := range c.plan.Labels(cell) {
			b.Texts(at).Append(l)
			at++
		}
		for _, v := range values {
			switch x := v.(type) {
			case nil:
				b.Floats(at).AppendNull()
			case int64:
				b.Ints(at).Append(x)
			case *big.Int:
				if schema[at].Type == table.Int {
					b.Ints(at).Append(x.Int64())
				} else {
					f, _ := new(big.Float).SetInt(x).Float64()
					b.Floats(at).Append(f)
				}
			case float64:
				b.Floats(at).Append(x)
			}
			at++
		}
		b.Texts(at).Append("")
	}
	return b.Table()
}

// measure returns the values that m has in a cell.
func (c *clearing) measure(m *Measure, rows []clearRow) []any {
	columns := m.columns()
	vs := make([][]float64, len(columns)) // of the rows that have all columns
	sum := new(big.Rat)
	n := int64(0)
	for _, row := range rows {
		if slices.ContainsFunc(columns, func(col string) bool { return row[col] == nil }) {
			continue
		}
		n++
		if m.Of == Count {
			continue
		}
		for i, col := range columns {
			vs[i] = append(vs[i], clearNumber(row[col]))
		}
		if m.Of == Sum {
			decimal, _ := new(big.Rat).SetString(clearDecimal(row[m.Column], m.Scale))
			sum.Add(sum, decimal)
		}
	}
	var out []any
	switch m.Of {
	case Count:
		return []any{n}
	case Sum:
		if m.Scale == 0 {
			out = []any{new(big.Int).Set(sum.Num())}
		} else {
			f, _ := sum.Float64()
			out = []any{f}
		}
	case Mean:
		out = []any{orNil(clearMean(vs[0]), n >= 1)}
	case Variance:
		out = []any{orNil(clearSpread(vs[0], vs[0]), n >= 2)}
	case StdDev:
		out = []any{orNil(math.Sqrt(clearSpread(vs[0], vs[0])), n >= 2)}
	case Covariance:
		out = []any{orNil(clearSpread(vs[0], vs[1]), n >= 2)}
	case Correlation:
		vary := n >= 2 && slices.Min(vs[0]) < slices.Max(vs[0]) && slices.Min(vs[1]) < slices.Max(vs[1])
		r := clearSpread(vs[0], vs[1]) / math.Sqrt(clearSpread(vs[0], vs[0])) / math.Sqrt(clearSpread(vs[1], vs[1]))
		out = []any{orNil(r, vary)}
	case Min:
		out = clearEdges(m.Bins, vs[0], func(s []float64) float64 { return s[0] })
	case Max:
		out = clearEdges(m.Bins, vs[0], func(s []float64) float64 { return s[len(s)-1] })
	case Quantiles:
		for _, q := range m.At {
			target := q * float64(n)
			rank := max(1, int(math.Ceil(target-1e-9)))
			edges := clearEdges(m.Bins, vs[0], func(s []float64) float64 { return s[rank-1] })
			if edges[0] == nil {
				out = append(out, nil, nil, nil)
				continue
			}
			from, to := edges[0].(float64), edges[1].(float64)
			var below, inside float64
			for _, x := range vs[0] {
				switch {
				case x < from:
					below++
				case x < to || to == m.Bins[len(m.Bins)-1]:
					inside++
				}
			}
			out = append(out, from+max(0, target-below)/inside*(to-from), from, to)
		}
	case Histogram:
		for i := range len(m.Bins) - 1 {
			k := int64(0)
			for _, x := range vs[0] {
				if m.Bins[i] <= x && (x < m.Bins[i+1] || i == len(m.Bins)-2 && x == m.Bins[i+1]) {
					k++
				}
			}
			out = append(out, k)
		}
	}
	if c.plan.form.skips() {
		out = append(out, n)
	}
	return out
}

func orNil(x float64, ok bool) any {
	if !ok {
		return nil
	}
	return x
}

// clearDecimal writes a number with scale decimals.
func clearDecimal(v any, scale int) string {
	if n, ok := v.(int64); ok {
		return strconv.FormatInt(n, 10)
	}
	return strconv.FormatFloat(v.(float64), 'f', scale, 64)
}

func clearMean(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	mean := sum / float64(len(xs))
	rest := 0.0 // what rounding took from the sum
	for _, x := range xs {
		rest += x - mean
	}
	return mean + rest/float64(len(xs))
}

func clearSpread(xs, ys []float64) float64 {
	mx, my := clearMean(xs), clearMean(ys)
	sum := 0.0
	for i := range xs {
		sum += (xs[i] - mx) * (ys[i] - my)
	}
	return sum / float64(len(xs)-1)
}

// clearEdges returns the ends of the bin that pick's choice of the sorted values
// is in.
func clearEdges(edges, values []float64, pick func([]float64) float64) []any {
	if len(values) == 0 {
		return []any{nil, nil}
	}
	x := pick(slices.Sorted(slices.Values(values)))
	for i := len(edges) - 2; i >= 0; i-- {
		if x >= edges[i] {
			return []any{edges[i], edges[i+1]}
		}
	}
	return []any{nil, nil}
}
