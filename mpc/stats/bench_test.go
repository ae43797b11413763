package stats

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/table"
)

// loans returns a table of n loans of as many enterprises / rows of it, over 20
// branches and 20 years, and a form of 400 cells with 8 measures for it.
func loans(tb testing.TB, n, rows int) (*table.Table, Form) {
	tb.Helper()
	b := table.NewBuilder(table.Schema{
		{Name: "firm", Type: table.Text},
		{Name: "branch", Type: table.Text},
		{Name: "year", Type: table.Int},
		{Name: "amount", Type: table.Float},
		{Name: "term", Type: table.Int},
		{Name: "default", Type: table.Int},
	})
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		b.Texts(0).Append(fmt.Sprintf("91440000%010d", r.IntN(max(1, n/rows))))
		b.Texts(1).Append(fmt.Sprintf("%d", 11+r.IntN(20)))
		b.Ints(2).Append(int64(1990 + r.IntN(20)))
		b.Floats(3).Append(float64(r.IntN(1e8)) / 100)
		b.Ints(4).Append(int64(r.IntN(360)))
		b.Ints(5).Append(int64(r.IntN(2)))
	}
	t, err := b.Table()
	if err != nil {
		tb.Fatal(err)
	}
	f := Form{Entity: "firm", GroupBy: []Dimension{{Column: "branch"}, {Column: "year"}}}
	for i := range 20 {
		f.GroupBy[0].Domain = append(f.GroupBy[0].Domain, Value(fmt.Sprint(11+i)))
		f.GroupBy[1].Domain = append(f.GroupBy[1].Domain, Value(fmt.Sprint(1990+i)))
	}
	f.Measures = []Measure{
		{Of: Count},
		{Of: Sum, Column: "amount", Range: []float64{0, 1e6}, Scale: 2},
		{Of: Mean, Column: "amount", Range: []float64{0, 1e6}, Scale: 2},
		{Of: StdDev, Column: "amount", Range: []float64{0, 1e6}, Scale: 2},
		{Of: Mean, Column: "default", Range: []float64{0, 1}},
		{Of: Mean, Column: "term", Range: []float64{0, 360}},
		{Of: Variance, Column: "term", Range: []float64{0, 360}},
		{Of: Correlation, Columns: []string{"amount", "term"}, Range: []float64{0, 1e6, 0, 360}, Scale: 2},
	}
	return t, f
}

// BenchmarkCount counts a million rows into 400 cells of 8 measures.
func BenchmarkCount(b *testing.B) {
	for _, c := range []struct {
		name    string
		rows    int
		margins bool
		largest int
	}{
		{"one row a unit", 1, false, 0},
		{"three rows a unit", 3, false, 0},
		{"margins", 3, true, 0},
		{"margins and largest", 3, true, 3},
	} {
		b.Run(c.name, func(b *testing.B) {
			const n = 1e6
			t, f := loans(b, n, c.rows)
			f.Margins = c.margins
			p, err := NewPlan(f, 3)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Count(context.Background(), t, [32]byte{}, CountOptions{Largest: c.largest}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
		})
	}
}

// BenchmarkDerive derives 4096 sums.
func BenchmarkDerive(b *testing.B) {
	f := Form{GroupBy: []Dimension{{Column: "g"}}, Measures: []Measure{{Of: Sum, Column: "x", Range: []float64{0, 1000}}}}
	for i := range 4096 {
		f.GroupBy[0].Domain = append(f.GroupBy[0].Domain, Value(fmt.Sprint(i)))
	}
	p, err := NewPlan(f, 3)
	if err != nil {
		b.Fatal(err)
	}
	v := share.NewVector(p.Shape())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Derive(v, make([]bool, p.Cells()), DeriveOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNewPlan lays 4096 cells out.
func BenchmarkNewPlan(b *testing.B) {
	f := Form{GroupBy: []Dimension{{Column: "g"}}, Measures: []Measure{{Of: Sum, Column: "x", Range: []float64{0, 1000}}}}
	for i := range 4096 {
		f.GroupBy[0].Domain = append(f.GroupBy[0].Domain, Value(fmt.Sprint(i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		p, err := NewPlan(f, 3)
		if err != nil {
			b.Fatal(err)
		}
		_ = p.String()
	}
}
