package stats_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/stats"
)

// The units of each support are those that a person would count: of bins cut at
// the edges of all measures, of the rows that have what a counter needs, and of
// those that one sum has and another of the same column has not.
func TestSupports(t *testing.T) {
	form := stats.Form{
		Entity: "firm", Missing: stats.MissingSkip, Margins: true, MaxRows: 1000,
		GroupBy: []stats.Dimension{{Column: "branch", Domain: []stats.Value{"a", "b"}}},
		Measures: []stats.Measure{
			{Of: stats.Histogram, Column: "term", Bins: []float64{0, 10, 20}},
			{Of: stats.Max, Column: "term", Bins: []float64{0, 5, 20}},
			{Of: stats.Mean, Column: "amount", Range: []float64{0, 9}},
			{Of: stats.Covariance, Columns: []string{"amount", "rate"}, Range: []float64{0, 9}},
		},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var rows []row
	for i := range 300 {
		r := row{"x", rng.IntN(120), string(rune('a' + rng.IntN(2))), 2000, nil, nil, nil}
		if i%3 > 0 {
			r[4] = float64(rng.IntN(10))
		}
		if rng.IntN(3) > 0 {
			r[5] = rng.IntN(21)
		}
		if rng.IntN(3) > 0 {
			r[6] = float64(rng.IntN(10))
		}
		rows = append(rows, r)
	}
	plan, err := stats.NewPlan(form, 3)
	if err != nil {
		t.Fatal(err)
	}
	part, err := plan.Count(context.Background(), build(t, columnsOf, rows), seed, stats.CountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	in := func(r row, lo, hi int) bool { n, ok := r[5].(int); return ok && lo <= n && n < hi }
	classes := []func(row) bool{
		func(r row) bool { return in(r, 0, 5) },
		func(r row) bool { return in(r, 5, 10) },
		func(r row) bool { return in(r, 10, 21) },
		func(r row) bool { return r[4] != nil },
		func(r row) bool { return r[4] != nil && r[6] != nil },
		func(r row) bool { return r[6] != nil && r[4] == nil },
		func(r row) bool { return r[4] != nil && r[6] == nil },
	}
	var want []int64
	for _, class := range classes {
		for _, branch := range []string{"a", "b", ""} {
			units := make(map[any]bool)
			for _, r := range rows {
				if class(r) && (branch == "" || r[2] == branch) {
					units[r[1]] = true
				}
			}
			want = append(want, int64(len(units)))
		}
	}
	// Nobody sums the rate where the amount is missing.
	want = slices.Delete(want, 15, 18)
	if plan.Supports() != 6 || !slices.Equal(part.Supports, want) {
		t.Errorf("%d supports with units %v, want 6 with %v", plan.Supports(), part.Supports, want)
	}
}

// A form without bins whose rows miss nothing has no supports: its counts are
// those of its cells alone.
func TestNoSupportsWithoutBins(t *testing.T) {
	form := stats.Form{Measures: []stats.Measure{{Of: stats.Count}, {Of: stats.Mean, Column: "amount", Range: []float64{0, 9}}}}
	plan, err := stats.NewPlan(form, 3)
	if err != nil {
		t.Fatal(err)
	}
	if n := plan.Supports(); n != 0 {
		t.Errorf("%d supports", n)
	}
}

// Supports are opened like cells, and as many are refused.
func TestSupportsAreBounded(t *testing.T) {
	form := stats.Form{Missing: stats.MissingSkip, GroupBy: []stats.Dimension{{Column: "year"}}}
	for i := range 1 << 14 {
		form.GroupBy[0].Domain = append(form.GroupBy[0].Domain, stats.Value(strconv.Itoa(i)))
	}
	for i := range 12 {
		form.Measures = append(form.Measures, stats.Measure{Of: stats.Covariance, Columns: []string{"amount", "c" + strconv.Itoa(i)}, Range: []float64{0, 1}})
	}
	if _, err := stats.NewPlan(form, 3); !errors.Is(err, stats.ErrSize) {
		t.Errorf("got %v, want ErrSize", err)
	}
}

// Two dimensions that say the same are one: releases are told apart by what
// their dimensions are.
func TestSameDimensionTwice(t *testing.T) {
	bins := func(name string, edges ...float64) stats.Dimension {
		return stats.Dimension{Column: "term", Name: name, Bins: edges}
	}
	form := stats.Form{Measures: []stats.Measure{{Of: stats.Count}}, GroupBy: []stats.Dimension{bins("a", 0, 5, 20), bins("b", 0, 10, 20)}}
	if err := form.Validate(nil); err != nil {
		t.Errorf("other bins of the same column: %v", err)
	}
	form.GroupBy[1].Bins = form.GroupBy[0].Bins
	if err := form.Validate(nil); err == nil || !strings.Contains(err.Error(), "group_by[1]: splits rows as group_by[0] does") {
		t.Errorf("the same bins twice: %v", err)
	}
}
