package stats_test

import (
	"context"
	"errors"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/table"
)

func TestCountEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("stop")
	p, err := stats.NewPlan(stats.Form{Entity: "person", Measures: []stats.Measure{{Of: stats.Count}}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	src := table.Generate(columnsOf[:1], 1<<40, func(b *table.Builder, i int64) {
		if b.Texts(0).Append("a"); i == 20000 {
			cancel(stop)
		}
	})
	if _, err := p.Count(ctx, src, seed, stats.CountOptions{}); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

// FuzzForm: whatever a request holds, it is refused or laid out within bounds,
// and what is laid out can count and derive.
func FuzzForm(f *testing.F) {
	for _, s := range []string{
		`{"measures": [{"of": "count"}]}`,
		`{"entity": "person", "where": [{"column": "branch", "in": ["11", 12]}], "group_by": [{"column": "year", "domain": [2000], "other": true}], "measures": [{"of": "mean", "column": "amount", "range": [0, 100], "scale": 2}], "margins": true, "missing": "skip"}`,
		`{"group_by": [{"column": "rate", "bins": [0, 0.5, 1], "open_ended": true}], "measures": [{"of": "quantiles", "column": "term", "bins": [0, 1e308], "at": [0, 1]}, {"of": "correlation", "columns": ["amount", "term"], "range": [-1e15, 1e15]}], "max_rows": 1, "unit_rows": 1}`,
		`{"measures": [{"of": "histogram", "column": "rate", "bins": [-1e308, 1e308]}], "max_rows": 2147483647, "unit_rows": 2147483647}`,
	} {
		f.Add([]byte(s))
	}
	one := row{"a", 1, "11", 2000, 0.5, 12, 0.5}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var form stats.Form
		if job.DecodeParams(raw, &form) != nil {
			return
		}
		if err := form.Validate(columnsOf); err != nil && len(err.Error()) > 64<<10 {
			t.Fatalf("%d bytes of faults", len(err.Error()))
		}
		p, err := stats.NewPlan(form, 3)
		if err != nil {
			return
		}
		if n := p.Shape().Len(); p.Cells() < 1 || p.Cells() > stats.MaxCells || n > stats.MaxCounters {
			t.Fatalf("%d cells, %d counters", p.Cells(), n)
		}
		_, _, _ = p.String(), p.Opened(), p.Figure("")
		if p.Shape().Len() > 1<<12 {
			return
		}
		part, err := p.Count(context.Background(), build(t, columnsOf, []row{one}), seed, stats.CountOptions{Largest: 2})
		if err != nil {
			part = &stats.Part{Vector: share.NewVector(p.Shape())}
		}
		if _, err := p.Derive(part.Vector, nil, stats.DeriveOptions{}); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	})
}
