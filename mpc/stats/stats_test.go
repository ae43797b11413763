package stats_test

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"pgregory.net/rapid"

	"github.com/yinqiao/yinqiao/internal/disclosure"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/table"
)

var seed = [32]byte{1}

// columnsOf are the columns of the tests' tables: two that can name a unit, two
// categories, three numbers.
var columnsOf = table.Schema{
	{Name: "person", Type: table.Text},
	{Name: "firm", Type: table.Int},
	{Name: "branch", Type: table.Text},
	{Name: "year", Type: table.Int},
	{Name: "amount", Type: table.Float},
	{Name: "term", Type: table.Int},
	{Name: "rate", Type: table.Float},
}

// row is a row of such a table; a nil is a missing value.
type row [7]any

func build(t interface{ Fatal(...any) }, schema table.Schema, rows []row) *table.Table {
	b := table.NewBuilder(schema)
	for _, r := range rows {
		for i := range schema {
			switch v := r[i].(type) {
			case nil:
				switch schema[i].Type {
				case table.Int:
					b.Ints(i).AppendNull()
				case table.Float:
					b.Floats(i).AppendNull()
				default:
					b.Texts(i).AppendNull()
				}
			case string:
				b.Texts(i).Append(v)
			case int:
				b.Ints(i).Append(int64(v))
			case float64:
				b.Floats(i).Append(v)
			}
		}
	}
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// cellsOf reads a table of results: for each row its values by column, missing
// ones left out.
func cellsOf(src table.Source) []map[string]any {
	var out []map[string]any
	schema := src.Schema()
	for b := range src.Batches(context.Background()) {
		for r := range int(b.NumRows()) {
			m := make(map[string]any)
			for i, c := range schema {
				if b.Column(i).IsNull(r) {
					continue
				}
				switch a := b.Column(i).(type) {
				case *array.Int64:
					m[c.Name] = a.Value(r)
				case *array.Float64:
					m[c.Name] = a.Value(r)
				case *array.String:
					m[c.Name] = a.Value(r)
				}
			}
			out = append(out, m)
		}
	}
	return out
}

// near reports whether two values are equal: ints and texts exactly, floats to
// 1e-9 of themselves or of size.
func near(a, b any, size float64) bool {
	x, ok := a.(float64)
	y, ok2 := b.(float64)
	if !ok || !ok2 {
		return a == b
	}
	return math.Abs(x-y) <= 1e-9*max(math.Abs(x), math.Abs(y), size)
}

// joint counts all tables and returns the sum of their vectors.
func joint(t interface{ Fatal(...any) }, p *stats.Plan, tables ...table.Source) (share.Vector, []*stats.Part) {
	sum := share.NewVector(p.Shape())
	var parts []*stats.Part
	for _, src := range tables {
		part, err := p.Count(context.Background(), src, seed, stats.CountOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if part.Vector.Shape() != p.Shape() {
			t.Fatal("a part has another shape than its plan")
		}
		sum.Add(part.Vector)
		parts = append(parts, part)
	}
	return sum, parts
}

func drawRows(t *rapid.T, missing bool) []row {
	gap := func(v any) any {
		if missing && rapid.IntRange(0, 5).Draw(t, "gap") == 0 {
			return nil
		}
		return v
	}
	n := rapid.IntRange(0, 40).Draw(t, "rows")
	rows := make([]row, n)
	for i := range rows {
		rows[i] = row{
			rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "person"),
			rapid.IntRange(-3, 3).Draw(t, "firm"),
			gap(rapid.SampledFrom([]string{"11", "12", "北京", ""}).Draw(t, "branch")),
			gap(rapid.IntRange(2000, 2004).Draw(t, "year")),
			gap(float64(rapid.IntRange(-5000, 10000).Draw(t, "amount")) / 100),
			gap(rapid.IntRange(-10, 360).Draw(t, "term")),
			gap(float64(rapid.IntRange(0, 1000).Draw(t, "rate")) / 1000),
		}
	}
	return rows
}

var (
	amount  = []float64{-50, 100}
	term    = []float64{-10, 360}
	termsIn = []float64{-10, 0, 12, 60, 360}
	rates   = []float64{0, 0.1, 0.25, 0.5, 1}
)

func drawForm(t *rapid.T) stats.Form {
	f := stats.Form{
		Entity:  rapid.SampledFrom([]string{"", "person", "firm"}).Draw(t, "entity"),
		Missing: rapid.SampledFrom([]string{"", stats.MissingRefuse, stats.MissingSkip}).Draw(t, "policy"),
		Margins: rapid.Bool().Draw(t, "margins"),
	}
	lo, hi := 2000.0, 2003.0
	for _, w := range []stats.Filter{
		{Column: "branch", In: []stats.Value{"11", "12", "北京"}},
		{Column: "year", NotIn: []stats.Value{"2001"}},
		{Column: "year", Min: &lo, Max: &hi},
		{Column: "rate", Max: &rates[3]},
		{Column: "term", Min: &termsIn[1]},
	} {
		if rapid.IntRange(0, 4).Draw(t, "filter") == 0 {
			f.Where = append(f.Where, w)
		}
	}
	for _, d := range []stats.Dimension{
		{Column: "branch", Domain: []stats.Value{"12", "11"}, Other: true},
		{Column: "year", Domain: []stats.Value{"2000", "2001", "2002", "2003", "2004"}},
		{Column: "rate", Bins: rates},
		{Column: "term", Name: "length", Bins: []float64{0, 12, 36}, OpenEnded: true},
	} {
		if rapid.Bool().Draw(t, "dimension") {
			f.GroupBy = append(f.GroupBy, d)
		}
	}
	measures := []stats.Measure{
		{Of: stats.Count},
		{Of: stats.Count, Column: "branch"},
		{Of: stats.Sum, Column: "amount", Range: amount, Scale: 2},
		{Of: stats.Sum, Column: "term", Range: term},
		{Of: stats.Sum, Name: "milli_terms", Column: "term", Range: term, Scale: 3},
		{Of: stats.Mean, Column: "amount", Range: amount, Scale: 2},
		{Of: stats.Variance, Column: "amount", Range: amount, Scale: 2},
		{Of: stats.StdDev, Column: "term", Range: term},
		{Of: stats.Covariance, Columns: []string{"amount", "term"}, Range: []float64{-50, 100, -10, 360}, Scale: 2},
		{Of: stats.Correlation, Columns: []string{"amount", "rate"}, Range: amount, Scale: 3},
		{Of: stats.Min, Column: "term", Bins: termsIn},
		{Of: stats.Max, Column: "rate", Bins: rates},
		{Of: stats.Quantiles, Column: "rate", Bins: rates, At: []float64{0, 0.1, 0.5, 0.999, 1}},
		{Of: stats.Histogram, Column: "term", Bins: termsIn},
	}
	for len(f.Measures) == 0 {
		for _, m := range measures {
			if rapid.IntRange(0, 2).Draw(t, "measure") == 0 {
				f.Measures = append(f.Measures, m)
			}
		}
	}
	return f
}

// TestAgainstClear: what is derived of the summed parts is what the oracle has
// of all rows, for every kind of measure; so are rows, units and providers.
func TestAgainstClear(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawForm(t)
		schema := slices.Clone(columnsOf)
		if f.Entity == "" {
			keys := rapid.IntRange(0, 2).Draw(t, "keys")
			for i := range keys {
				schema[i].Key = true
			}
		}
		parties := rapid.IntRange(1, 4).Draw(t, "parties")
		p, err := stats.NewPlan(f, parties)
		if err != nil {
			t.Fatal(err)
		}
		var tables []table.Source
		for range parties {
			tables = append(tables, build(t, schema, drawRows(t, f.Missing == stats.MissingSkip)))
		}
		sum, parts := joint(t, p, tables...)
		got, err := p.Derive(sum, nil, stats.DeriveOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want, err := stats.Clear(context.Background(), p, tables...)
		if err != nil {
			t.Fatal(err)
		}
		a, b := cellsOf(got), cellsOf(want.Table)
		if len(a) != p.Cells() || len(b) != p.Cells() {
			t.Fatalf("%d and %d rows for %d cells", len(a), len(b), p.Cells())
		}
		for cell := range a {
			for _, c := range p.Schema() {
				size := 0.0
				switch c.Name {
				case "covariance_amount_term":
					size = 1e4 // the product of the two deviations
				case "correlation_amount_rate":
					size = 1
				case "sum_amount", "sum_term", "milli_terms":
					if a[cell][c.Name] != b[cell][c.Name] {
						t.Fatalf("%v %s: got %v, want %v", p.Labels(cell), c.Name, a[cell][c.Name], b[cell][c.Name])
					}
				}
				if !near(a[cell][c.Name], b[cell][c.Name], size) {
					t.Fatalf("%v %s: got %v, want %v", p.Labels(cell), c.Name, a[cell][c.Name], b[cell][c.Name])
				}
			}
			var units, providers int64
			for _, part := range parts {
				units += part.Units[cell]
				if part.Units[cell] > 0 {
					providers++
				}
			}
			if units != want.Units[cell] || providers != want.Providers[cell] {
				t.Fatalf("%v: %d units of %d, want %d of %d", p.Labels(cell), units, providers, want.Units[cell], want.Providers[cell])
			}
		}
		for _, part := range parts {
			checkMembers(t, p, part)
		}
	})
}

// checkMembers: sorted, each once, base cells alone, and as many as Units says.
func checkMembers(t *rapid.T, p *stats.Plan, part *stats.Part) {
	in := make([]int64, p.Cells())
	for i, m := range part.Members {
		if p.IsMargin(int(m.Cell)) {
			t.Fatal("a member of a margin")
		}
		if i > 0 {
			last := part.Members[i-1]
			if m.Unit < last.Unit || m.Unit == last.Unit && m.Cell <= last.Cell {
				t.Fatal("members are out of order")
			}
		}
		in[m.Cell]++
	}
	for cell, n := range in {
		if !p.IsMargin(cell) && part.Units[cell] != n {
			t.Fatalf("cell %d has %d members and %d units", cell, n, part.Units[cell])
		}
	}
}

// TestMarginsAreSums: every equation holds for every counter, each margin is the
// total of some equation, and units in a margin are not counted twice.
func TestMarginsAreSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawForm(t)
		f.Margins, f.Missing = true, stats.MissingRefuse
		p, err := stats.NewPlan(f, 1)
		if err != nil {
			t.Fatal(err)
		}
		v, parts := joint(t, p, build(t, columnsOf, drawRows(t, false)))
		totals := make(map[int]int)
		for _, eq := range p.Equations() {
			totals[eq.Total]++
			for _, c := range p.Sensitivities() {
				left, right := counter(p, v, c, eq.Total), new(big.Int)
				for _, part := range eq.Parts {
					right.Add(right, counter(p, v, c, part))
				}
				if left.Cmp(right) != 0 {
					t.Fatalf("%s of %v is %v, its parts give %v", c.Name, p.Labels(eq.Total), left, right)
				}
			}
			var most, all int64
			for _, part := range eq.Parts {
				most, all = max(most, parts[0].Units[part]), all+parts[0].Units[part]
			}
			if n := parts[0].Units[eq.Total]; n < most || n > all {
				t.Fatalf("%d units in the total of cells with at most %d, %d in all", n, most, all)
			}
		}
		for cell := range p.Cells() {
			alls := 0
			for _, l := range p.Labels(cell) {
				if l == stats.All {
					alls++
				}
			}
			if totals[cell] != alls || p.IsMargin(cell) != (alls > 0) {
				t.Fatalf("%v is the total of %d equations", p.Labels(cell), totals[cell])
			}
		}
	})
}

// counter reads a counter of a cell by the places that the plan tells.
func counter(p *stats.Plan, v share.Vector, c stats.Counter, cell int) *big.Int {
	switch c.Bits {
	case 32:
		return big.NewInt(int64(int32(v.Narrow[c.At+cell])))
	case 64:
		return big.NewInt(int64(v.Wide[c.At+cell]))
	}
	return share.SignedHuge(v.Huge[c.At+cell]).Signed()
}

// TestTops: the largest contributions and totals, margins included, are those of
// adding up by hand.
func TestTops(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := stats.Form{
			Entity: "person", Margins: rapid.Bool().Draw(t, "margins"), Missing: stats.MissingSkip,
			GroupBy: []stats.Dimension{
				{Column: "branch", Domain: []stats.Value{"11"}, Other: true},
				{Column: "year", Domain: []stats.Value{"2000", "2001", "2002", "2003", "2004"}},
			},
			Measures: []stats.Measure{
				{Of: stats.Sum, Column: "amount", Range: amount, Scale: 2},
				{Of: stats.Mean, Column: "term", Range: term},
				{Of: stats.Count},
				{Of: stats.Variance, Column: "amount", Range: []float64{-60, 100}, Scale: 2},
				{Of: stats.Covariance, Columns: []string{"amount", "term"}, Range: slices.Concat(amount, term), Scale: 2},
			},
		}
		p, err := stats.NewPlan(f, 1)
		if err != nil {
			t.Fatal(err)
		}
		rows := drawRows(t, true)
		keep := rapid.IntRange(1, 4).Draw(t, "keep")
		part, err := p.Count(context.Background(), build(t, columnsOf, rows), seed, stats.CountOptions{Largest: keep})
		if err != nil {
			t.Fatal(err)
		}
		if len(part.Tops) != 4 || part.Tops[0].Column != "amount" || !slices.Equal(part.Tops[0].Measures, []int{0, 3}) {
			t.Fatalf("tops are of %v", part.Tops)
		}
		cells := make(map[string]int)
		for cell := range p.Cells() {
			cells[fmt.Sprint(p.Labels(cell))] = cell
		}
		for k, top := range part.Tops {
			at := [4]int{4, 5, 4, 5}[k]
			beside := [4]int{4, 5, 5, 4}[k] // a row that misses this one does not count
			unit := [4]float64{100, 1, 100, 100}[k]
			given := make(map[int]map[any]float64)
			for _, r := range rows {
				if r[2] == nil || r[3] == nil {
					continue
				}
				branch := r[2]
				if branch != "11" {
					branch = stats.Other
				}
				for _, b := range []any{branch, stats.All} {
					for _, y := range []any{r[3], stats.All} {
						cell, ok := cells[fmt.Sprint([]string{fmt.Sprint(b), fmt.Sprint(y)})]
						if !ok {
							continue
						}
						if given[cell] == nil {
							given[cell] = make(map[any]float64)
						}
						x := 0.0
						switch v := r[at].(type) {
						case float64:
							x = v
						case int:
							x = float64(v)
						}
						if r[beside] == nil {
							x = 0
						}
						given[cell][r[0]] += math.Round(math.Abs(x) * unit)
					}
				}
			}
			for cell := range p.Cells() {
				var want disclosure.Largest
				for _, v := range given[cell] {
					want.Add(uint64(v), keep)
				}
				if g := top.Cells[cell]; fmt.Sprint(g) != fmt.Sprint(want) {
					t.Fatalf("%s in %v: got %v, want %v", top.Column, p.Labels(cell), g, want)
				}
			}
		}
	})
}

// TestOneUnitChangesNoMore: taking a unit away changes no counter by more than
// Touch, no more counters than Changed, and no more cells than Touched.
func TestOneUnitChangesNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawForm(t)
		f.Entity, f.Missing = "person", stats.MissingSkip
		rows := drawRows(t, true)
		has := make(map[any]int64)
		for _, r := range rows {
			has[r[0]]++
			f.UnitRows = max(f.UnitRows, has[r[0]])
		}
		f.UnitRows = max(1, f.UnitRows)
		p, err := stats.NewPlan(f, 2)
		if err != nil {
			t.Fatal(err)
		}
		gone := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "gone")
		rest := slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r[0] == gone })
		with, _ := joint(t, p, build(t, columnsOf, rows))
		without, _ := joint(t, p, build(t, columnsOf, rest))
		changed, cells := int64(0), make(map[int]bool)
		for _, c := range p.Sensitivities() {
			for cell := range p.Cells() {
				d := counter(p, with, c, cell)
				d.Sub(d, counter(p, without, c, cell))
				if d.CmpAbs(c.Touch) > 0 {
					t.Fatalf("%s changes by %v, Touch is %v", c.Name, d, c.Touch)
				}
				if d.Sign() != 0 {
					changed++
					cells[cell] = true
				}
			}
		}
		if changed > p.Changed() || len(cells) > p.Touched() {
			t.Fatalf("%d counters in %d cells changed, of at most %d in %d", changed, len(cells), p.Changed(), p.Touched())
		}
	})
}

// TestSameSeedSameUnits: hashes follow from the seed and the unit, not from the
// place of the row.
func TestSameSeedSameUnits(t *testing.T) {
	f := stats.Form{Entity: "person", Measures: []stats.Measure{{Of: stats.Count}}}
	p, err := stats.NewPlan(f, 3)
	if err != nil {
		t.Fatal(err)
	}
	rows := []row{{"a"}, {"b"}, {"c"}, {"a"}}
	members := func(rows []row, seed [32]byte) []stats.Member {
		part, err := p.Count(context.Background(), build(t, columnsOf, rows), seed, stats.CountOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return part.Members
	}
	one := members(rows, seed)
	if len(one) != 3 {
		t.Fatalf("%d units, want 3", len(one))
	}
	slices.Reverse(rows)
	if two := members(rows, seed); !slices.Equal(one, two) {
		t.Error("the order of rows changes the units")
	}
	for _, m := range members(rows, [32]byte{2}) {
		if slices.ContainsFunc(one, func(o stats.Member) bool { return o.Unit == m.Unit }) {
			t.Error("another seed has the same unit")
		}
	}
}

// TestUnitsOfTwoKeys: parts of a key cannot be moved from one column to another.
func TestUnitsOfTwoKeys(t *testing.T) {
	schema := table.Schema{{Name: "a", Type: table.Text, Key: true}, {Name: "b", Type: table.Text, Key: true}}
	b := table.NewBuilder(schema)
	for _, k := range [][2]string{{"x", "yz"}, {"xy", "z"}, {"xt", "y"}, {"x", "ty"}, {"x", "yz"}} {
		b.Texts(0).Append(k[0])
		b.Texts(1).Append(k[1])
	}
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	p, err := stats.NewPlan(stats.Form{Measures: []stats.Measure{{Of: stats.Count}}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, parts := joint(t, p, tab)
	if parts[0].Units[0] != 4 || parts[0].Rows != 5 {
		t.Errorf("%d units of %d rows, want 4 of 5", parts[0].Units[0], parts[0].Rows)
	}
}

// TestManyRowsInManyBatches: units are told apart across blocks and batches, and
// however many rows they have.
func TestManyRowsInManyBatches(t *testing.T) {
	const n, units = 100_000, 20
	src := table.Generate(columnsOf, n, func(b *table.Builder, i int64) {
		person := i % 7 // most rows are those of seven persons
		if i%4 == 0 {
			person = i % 80 / 4
		}
		b.Texts(0).Append(fmt.Sprint(person))
		b.Ints(1).Append(i)
		b.Texts(2).Append("11")
		b.Ints(3).Append(2000 + i%5)
		b.Floats(4).Append(0.25)
		b.Ints(5).Append(i % 300)
		b.Floats(6).Append(0)
	})
	for entity, want := range map[string]int64{"person": units, "firm": n} {
		p, err := stats.NewPlan(stats.Form{
			Entity: entity, Margins: true,
			GroupBy:  []stats.Dimension{{Column: "year", Domain: []stats.Value{"2000", "2001", "2002", "2003", "2004"}}},
			Measures: []stats.Measure{{Of: stats.Sum, Column: "amount", Range: amount, Scale: 2}},
		}, 3)
		if err != nil {
			t.Fatal(err)
		}
		sum, parts := joint(t, p, src)
		if parts[0].Units[5] != want || parts[0].Rows != n {
			t.Errorf("%s: %d units of %d rows, want %d", entity, parts[0].Units[5], parts[0].Rows, want)
		}
		res, err := p.Derive(sum, nil, stats.DeriveOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := cellsOf(res)[5]["sum_amount"]; got != n/4.0 {
			t.Errorf("the sum is %v, want %v", got, n/4.0)
		}
	}
}
