package stats_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/table"
)

// TestSuppressedCellsSayOnlyThat: their counters are zeroed, their values are
// missing, their status says so, and all others are as before.
func TestSuppressedCellsSayOnlyThat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawForm(t)
		f.Missing = stats.MissingSkip
		f.Measures = append(f.Measures, stats.Measure{Of: stats.Variance, Name: "huge", Column: "amount", Range: []float64{-1e8, 1e8}, Scale: 2})
		p, err := stats.NewPlan(f, 2)
		if err != nil {
			t.Fatal(err)
		}
		sum, _ := joint(t, p, build(t, columnsOf, drawRows(t, true)), build(t, columnsOf, drawRows(t, true)))
		before, err := p.Derive(sum, nil, stats.DeriveOptions{})
		if err != nil {
			t.Fatal(err)
		}
		mask := make([]bool, p.Cells())
		for i := range mask {
			mask[i] = rapid.IntRange(0, 3).Draw(t, "mask") == 0
		}
		p.Zero(sum, mask)
		after, err := p.Derive(sum, mask, stats.DeriveOptions{})
		if err != nil {
			t.Fatal(err)
		}
		a, b := cellsOf(before), cellsOf(after)
		for cell := range a {
			if !mask[cell] {
				if fmt.Sprint(a[cell]) != fmt.Sprint(b[cell]) || a[cell][stats.Status] != "" {
					t.Fatalf("%v has become %v", a[cell], b[cell])
				}
				continue
			}
			if len(b[cell]) != len(f.GroupBy)+1 || b[cell][stats.Status] != stats.Suppressed {
				t.Fatalf("a suppressed cell shows %v", b[cell])
			}
			for _, c := range p.Sensitivities() {
				if counter(p, sum, c, cell).Sign() != 0 {
					t.Fatalf("%s of a suppressed cell is not zero", c.Name)
				}
			}
		}
	})
}

// two returns a plan with margins over two cells, and its sums over three rows.
func two(t *testing.T) (*stats.Plan, share.Vector) {
	t.Helper()
	p, err := stats.NewPlan(stats.Form{
		MaxRows: 10, Margins: true,
		GroupBy: []stats.Dimension{{Column: "branch", Domain: []stats.Value{"11", "12"}}},
		Measures: []stats.Measure{
			{Of: stats.Variance, Column: "term", Range: []float64{10, 360}},
			{Of: stats.Sum, Column: "amount", Range: []float64{-1e9, 1e9}, Scale: 2},
		},
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
	sum, _ := joint(t, p, build(t, columnsOf, []row{
		{"a", 1, "11", 2000, 1.5, 10, 0.0}, {"b", 1, "12", 2000, -2.5, 20, 0.0}, {"c", 1, "12", 2000, 3.5, 31, 0.0},
	}))
	return p, sum
}

// TestSumsThatNoTablesGive: one counter changed by one, or beyond its reach, is
// an error wherever counters say the same thing twice, and never a value.
func TestSumsThatNoTablesGive(t *testing.T) {
	p, _ := two(t)
	for _, c := range p.Sensitivities() {
		for cell := range p.Cells() {
			for _, change := range []int64{1, -1} {
				p, sum := two(t)
				mask := make([]bool, p.Cells())
				for i := range mask {
					mask[i] = i != cell
				}
				bump := func(values, _ []*big.Int) error {
					for i, s := range p.Sensitivities() {
						if s.Name == c.Name {
							values[i].Add(values[i], big.NewInt(change))
						}
					}
					return nil
				}
				if err := p.Perturb(sum, mask, bump); err != nil {
					t.Fatal(err)
				}
				if _, err := p.Derive(sum, nil, stats.DeriveOptions{}); !errors.Is(err, stats.ErrSums) {
					t.Errorf("%s of %v changed by %d: %v", c.Name, p.Labels(cell), change, err)
				}
				if _, err := p.Derive(sum, nil, stats.DeriveOptions{Noisy: true}); err != nil {
					t.Errorf("with noise: %v", err)
				}
				// The margin tells nothing of a part that is withheld.
				withheld := []bool{true, true, false}
				if cell < 2 {
					if _, err := p.Derive(sum, withheld, stats.DeriveOptions{}); err != nil {
						t.Errorf("with the cells withheld: %v", err)
					}
				}
			}
		}
	}
	single, sum := two(t)
	for name, v := range map[string]uint32{"fewer than no rows": ^uint32(0), "more rows than declared": 11, "fewer rows than the sum needs": 0} {
		broken := share.NewVector(single.Shape())
		broken.Add(sum)
		for _, c := range single.Sensitivities() {
			if c.Name == "rows" {
				broken.Narrow[c.At] = v
			}
		}
		if _, err := single.Derive(broken, []bool{false, true, true}, stats.DeriveOptions{}); !errors.Is(err, stats.ErrSums) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDeriveRefusesWhatDoesNotFit(t *testing.T) {
	p, sum := two(t)
	if _, err := p.Derive(share.Vector{}, nil, stats.DeriveOptions{}); err == nil {
		t.Error("an empty vector")
	}
	if _, err := p.Derive(sum, make([]bool, 2), stats.DeriveOptions{}); err == nil {
		t.Error("a short mask")
	}
	if _, err := p.Derive(sum, nil, stats.DeriveOptions{RoundTo: -1}); err == nil {
		t.Error("a negative base")
	}
	if err := p.Perturb(sum, nil, nil); err == nil {
		t.Error("no mask")
	}
	failed := errors.New("failed")
	before := fmt.Sprint(sum)
	if err := p.Perturb(sum, make([]bool, 3), func([]*big.Int, []*big.Int) error { return failed }); !errors.Is(err, failed) || fmt.Sprint(sum) != before {
		t.Error("a failed change has changed something")
	}
}

// TestPerturb: what is added to the parts is in the sum, in all widths.
func TestPerturb(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawForm(t)
		f.UnitRows, f.Missing = 50, stats.MissingSkip
		if rapid.Bool().Draw(t, "wide") {
			f.Measures = append(f.Measures, stats.Measure{Of: stats.Variance, Name: "v", Column: "amount", Range: []float64{-1e8, 1e8}, Scale: 2})
		}
		p, err := stats.NewPlan(f, 2)
		if err != nil {
			t.Fatal(err)
		}
		sum, _ := joint(t, p, build(t, columnsOf, drawRows(t, true)))
		was, _ := joint(t, p)
		was.Add(sum)
		mask := make([]bool, p.Cells())
		mask[0] = true
		delta := rapid.Int64Range(-1000, 1000).Draw(t, "delta")
		err = p.Perturb(sum, mask, func(values, touch []*big.Int) error {
			if len(values) != len(touch) || len(values) != (p.Cells()-1)*len(p.Sensitivities()) {
				t.Fatal("another number of counters")
			}
			for i := range values {
				values[i].Add(values[i], new(big.Int).Mul(touch[i], big.NewInt(delta)))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Sensitivities() {
			for cell := range p.Cells() {
				want := counter(p, was, c, cell)
				if cell > 0 {
					want.Add(want, new(big.Int).Mul(c.Touch, big.NewInt(delta)))
				}
				if got := counter(p, sum, c, cell); got.Cmp(want) != 0 {
					t.Fatalf("%s: got %v, want %v", c.Name, got, want)
				}
			}
		}
		if _, err := p.Derive(sum, mask, stats.DeriveOptions{Noisy: true, RoundTo: 5}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestNoisyValues: means stay in the range, variances above zero, and counts are
// shown as they are.
func TestNoisyValues(t *testing.T) {
	p, err := stats.NewPlan(stats.Form{
		MaxRows: 10, UnitRows: 1, Measures: []stats.Measure{
			{Of: stats.Count},
			{Of: stats.Mean, Column: "x", Range: []float64{0, 10}},
			{Of: stats.StdDev, Column: "x", Range: []float64{0, 10}},
			{Of: stats.Quantiles, Column: "x", Bins: []float64{0, 5, 10}, At: []float64{0.5}},
		},
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
	derive := func(rows, sum, squares, low, high int64) map[string]any {
		v := share.NewVector(p.Shape())
		err := p.Perturb(v, []bool{false}, func(values, _ []*big.Int) error {
			for i, c := range p.Sensitivities() {
				values[i].SetInt64(map[string]int64{
					"rows": rows, "sum of x": sum, "squares of x": squares, "rows with x in [0,5)": low, "rows with x in [5,10]": high,
				}[c.Name])
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		res, err := p.Derive(v, nil, stats.DeriveOptions{Noisy: true})
		if err != nil {
			t.Fatal(err)
		}
		return cellsOf(res)[0]
	}
	for _, c := range []struct {
		rows, sum, squares, low, high int64
		want                          map[string]any
	}{
		{4, 50, 0, 2, 2, map[string]any{"count": int64(4), "mean_x": 10.0, "stddev_x": 0.0, "quantiles_x_p50": 5.0}},
		{4, -3, 10, -1, 2, map[string]any{"count": int64(4), "mean_x": 0.0, "quantiles_x_p50": 7.5}},
		{-4, -3, 10, -1, 0, map[string]any{"count": int64(-4), "mean_x": nil, "stddev_x": nil, "quantiles_x_p50": nil}},
	} {
		got := derive(c.rows, c.sum, c.squares, c.low, c.high)
		for k, v := range c.want {
			if got[k] != v {
				t.Errorf("%v: %s is %v, want %v", c, k, got[k], v)
			}
		}
	}
}

// TestRoundingTellsNoMore: counts and sums are multiples of the base, at most
// half of it off; a mean is a multiple of base over the rounded count, and as
// near as that allows; quantiles follow from the rounded histogram.
func TestRoundingTellsNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.SampledFrom([]int64{2, 5, 10}).Draw(t, "base")
		n := rapid.IntRange(0, 60).Draw(t, "n")
		rows := make([]row, n)
		sum, terms := 0.0, make([]int, n)
		for i := range rows {
			terms[i] = rapid.IntRange(-10, 360).Draw(t, "term")
			x := float64(rapid.IntRange(0, 10000).Draw(t, "amount")) / 100
			sum += x
			rows[i] = row{"a", 1, "11", 2000, x, terms[i], 0.0}
		}
		p, err := stats.NewPlan(stats.Form{Measures: []stats.Measure{
			{Of: stats.Count},
			{Of: stats.Sum, Column: "amount", Range: amount, Scale: 2},
			{Of: stats.Sum, Column: "term", Range: term},
			{Of: stats.Mean, Column: "amount", Range: amount, Scale: 2},
			{Of: stats.Histogram, Column: "term", Bins: termsIn},
			{Of: stats.Quantiles, Column: "term", Bins: termsIn, At: []float64{0.5}},
			{Of: stats.StdDev, Column: "term", Range: term},
		}}, 1)
		if err != nil {
			t.Fatal(err)
		}
		v, _ := joint(t, p, build(t, columnsOf, rows))
		tab, err := p.Derive(v, nil, stats.DeriveOptions{RoundTo: base})
		if err != nil {
			t.Fatal(err)
		}
		got := cellsOf(tab)[0]
		whole := func(name string, want float64) float64 {
			var x float64
			switch v := got[name].(type) {
			case int64:
				x = float64(v)
			case float64:
				x = v
			default:
				t.Fatalf("%s is %v", name, v)
			}
			if math.Mod(x, float64(base)) != 0 || math.Abs(x-want) > float64(base)/2+1e-6 {
				t.Fatalf("%s is %v, want a multiple of %d next to %v", name, x, base, want)
			}
			return x
		}
		shown := whole("count", float64(n))
		whole("sum_amount", sum)
		total := 0.0
		for _, x := range terms {
			total += float64(x)
		}
		whole("sum_term", total)
		if shown == 0 {
			if got["mean_amount"] != nil {
				t.Fatal("a mean of what is rounded to no rows")
			}
		} else {
			mean := got["mean_amount"].(float64)
			step := float64(base) / shown
			if k := mean / step; math.Abs(k-math.Round(k)) > 1e-6 || math.Abs(mean-sum/float64(n)) > step/2+1e-9 {
				t.Fatalf("the mean is %v, want a multiple of %v next to %v", mean, step, sum/float64(n))
			}
		}
		var counts [4]float64
		most := 0.0
		for i := range counts {
			name := []string{"[-10,0)", "[0,12)", "[12,60)", "[60,360]"}[i]
			in := 0
			for _, x := range terms {
				if float64(x) >= termsIn[i] && (float64(x) < termsIn[i+1] || i == 3) {
					in++
				}
			}
			counts[i] = whole("histogram_term "+name, float64(in))
			most += counts[i]
		}
		if q, ok := got["quantiles_term_p50_from"].(float64); ok {
			i := slices.Index(termsIn, q)
			below := 0.0
			for _, c := range counts[:i] {
				below += c
			}
			if below > most/2 || below+counts[i] < most/2 || counts[i] == 0 {
				t.Fatalf("the median of %v is not in bin %d", counts, i)
			}
		} else if most != 0 {
			t.Fatalf("no median of %v", counts)
		}
	})
}

// TestFigureFitsTheTable: what it names is there.
func TestFigureFitsTheTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := stats.NewPlan(drawForm(t), 2)
		if err != nil {
			t.Fatal(err)
		}
		fig, schema := p.Figure("x"), p.Schema()
		if len(fig.Categories)+len(fig.Values)+1 != len(schema) {
			t.Fatalf("%v for %v", fig, schema)
		}
		for _, v := range fig.Values {
			if c := schema[schema.Index(v)]; c.Type == table.Text {
				t.Fatalf("%s is text", v)
			}
		}
		if schema.Index(fig.Status) < 0 || (fig.Total != "") != p.Form().Margins || p.Opened() == "" {
			t.Fatalf("%v", fig)
		}
	})
}

// TestExactBeyondFloats: an int sum beyond 2^53 is exact, and so is the mean of
// values that are far from zero and close together.
func TestExactBeyondFloats(t *testing.T) {
	const far = 999_999_999_999_000
	src := table.Generate(table.Schema{{Name: "x", Type: table.Int}}, 1001, func(b *table.Builder, i int64) {
		b.Ints(0).Append(far + i%3)
	})
	p, err := stats.NewPlan(stats.Form{MaxRows: 2000, Measures: []stats.Measure{
		{Of: stats.Sum, Column: "x", Range: []float64{0, 1e15}},
	}}, 3)
	if err != nil {
		t.Fatal(err)
	}
	v, _ := joint(t, p, src, src, src)
	res, err := p.Derive(v, nil, stats.DeriveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// 1001 rows: 334 of 0, 334 of 1, 333 of 2.
	if got, want := cellsOf(res)[0]["sum_x"], int64(3*(1001*far+334+2*333)); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	const near = 90_000_000_000_000 // whose square is within 96 bits, once
	few := table.Generate(table.Schema{{Name: "x", Type: table.Int}}, 3, func(b *table.Builder, i int64) { b.Ints(0).Append(near + i) })
	if p, err = stats.NewPlan(stats.Form{MaxRows: 3, Measures: []stats.Measure{{Of: stats.Variance, Column: "x", Range: []float64{0, near + 2}}}}, 1); err != nil {
		t.Fatal(err)
	}
	v, _ = joint(t, p, few)
	if res, err = p.Derive(v, nil, stats.DeriveOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := cellsOf(res)[0]["variance_x"]; got != 1.0 {
		t.Errorf("the variance of three neighbours is %v, want 1", got)
	}
	want, err := stats.Clear(context.Background(), p, few)
	if err != nil || cellsOf(want.Table)[0]["variance_x"] != 1.0 {
		t.Errorf("the oracle's is %v, %v", cellsOf(want.Table), err)
	}
}
