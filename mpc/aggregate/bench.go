package aggregate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/yinqiao/yinqiao/internal/disclosure"
	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Shape of a benchmark where it leaves the choice.
const (
	benchParties  = 3
	benchRowsCell = 4 // rows of a party in each cell, so that three have enough units
	benchMost     = 1_000
)

// bench makes the inputs of a benchmark: b.Counters cells with a sum each, or
// b.Rows rows over b.Cells cells of two dimensions with b.Measures measures.
func (w way) bench(b job.BenchSize) (job.Bench, error) {
	if b.Parties == 0 {
		b.Parties = benchParties
	}
	if b.Parties < 2 || b.Parties > w.most {
		return job.Bench{}, fmt.Errorf("mpc/aggregate: a benchmark of %d contributors, allowed are 2 to %d", b.Parties, w.most)
	}
	form := stats.Form{}
	var dims []int64
	switch {
	case b.Cells == 0 && b.Counters < 1, b.Cells < 0:
		return job.Bench{}, errors.New("mpc/aggregate: a benchmark needs counters, or rows and cells")
	case b.Cells == 0:
		dims = []int64{b.Counters}
		b.Rows, b.Measures = b.Counters*benchRowsCell, 1
		form.Measures = []stats.Measure{{Of: stats.Sum, Column: "v0", Range: []float64{0, benchMost}}}
	default:
		if b.Measures == 0 {
			b.Measures = 1
		}
		wide := int64(math.Sqrt(float64(b.Cells)))
		for b.Cells%wide != 0 {
			wide--
		}
		dims = []int64{wide, b.Cells / wide}
		kinds := []string{stats.Sum, stats.Mean, stats.Variance}
		for i := range b.Measures {
			form.Measures = append(form.Measures, stats.Measure{
				Of: kinds[i%int64(len(kinds))], Column: "v" + strconv.FormatInt(i, 10), Range: []float64{0, benchMost},
			})
		}
	}
	if b.Measures > 64 || b.Rows < 1 {
		return job.Bench{}, fmt.Errorf("mpc/aggregate: a benchmark of %d rows and %d measures, allowed are 1 row or more and 64 measures", b.Rows, b.Measures)
	}
	form.MaxRows = b.Rows
	schema := table.Schema{}
	for d, n := range dims {
		name := "g" + strconv.Itoa(d)
		schema = append(schema, table.Column{Name: name, Type: table.Int})
		g := stats.Dimension{Column: name}
		for i := range n {
			g.Domain = append(g.Domain, stats.Value(strconv.FormatInt(i, 10)))
		}
		form.GroupBy = append(form.GroupBy, g)
	}
	var items []string
	for i := range b.Measures {
		schema = append(schema, table.Column{Name: "v" + strconv.FormatInt(i, 10), Type: table.Int})
	}
	for _, c := range schema {
		items = append(items, c.Name)
	}
	raw, err := json.Marshal(form)
	if err != nil {
		return job.Bench{}, fmt.Errorf("mpc/aggregate: %w", err)
	}
	spec := job.Spec{Kind: w.name, Params: raw}
	if b.Parties == 2 {
		spec.Limits.Release.MinProviders = 2
	}
	inputs := make(map[session.PartyID][]table.Source)
	for i := range b.Parties {
		id, role := session.PartyID("p"+strconv.Itoa(i)), Contributor
		if i == 0 {
			role = Gate
			spec.Recipients = []session.PartyID{id}
		}
		spec.Parties = append(spec.Parties, job.Participant{Party: id, Role: role, Inputs: []job.Input{{Entry: "bench", Version: 1, Items: items}}})
		inputs[id] = []table.Source{benchTable(schema, dims, b.Rows, uint64(i))}
	}
	return job.Bench{
		Spec:   spec,
		Inputs: inputs,
		Baseline: func(ctx context.Context) error {
			_, err := w.clear(ctx, spec, inputs)
			return err
		},
		BaselineName: "one party with all tables: the same statistics and rules, computed in the clear",
	}, nil
}

// benchTable makes one party's rows: every cell has as good as as many.
func benchTable(schema table.Schema, dims []int64, rows int64, party uint64) table.Source {
	return table.Generate(schema, rows, func(tb *table.Builder, i int64) {
		cell := i
		for d, n := range dims {
			tb.Ints(d).Append(cell % n)
			cell /= n
		}
		for c := len(dims); c < len(schema); c++ {
			x := (uint64(i)*uint64(len(schema))+uint64(c))*0x9e3779b97f4a7c15 + party
			x ^= x >> 29
			x *= 0xbf58476d1ce4e5b9
			tb.Ints(c).Append(int64((x >> 32) % (benchMost + 1)))
		}
	})
}

// clear computes the table over all rows in one place, under the same rules.
func (w way) clear(ctx context.Context, spec job.Spec, sources map[session.PartyID][]table.Source) (map[string]any, error) {
	r, err := decode(spec, w)
	if err != nil {
		return nil, err
	}
	inForce := rules.Strictest(spec.Limits.Release.InForce(), r.Rules)
	var parts []*stats.Part
	for _, id := range r.contributors {
		part, err := r.plan.Count(ctx, sources[id][0], [32]byte{}, counting(inForce))
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	counts := make([]disclosure.Count, r.plan.Cells())
	supports := make([]disclosure.Count, r.plan.Supports()*r.plan.Cells())
	sum := share.NewVector(r.plan.Shape())
	for _, part := range parts {
		flags := ownFlags(r.plan, inForce, part)
		for c, n := range part.Units {
			counts[c].Units += n
			if n > 0 {
				counts[c].Providers++
			}
			if flags[c] {
				counts[c].Flags++
			}
		}
		for i, n := range part.Supports {
			supports[i].Units += n
			if n > 0 {
				supports[i].Providers++
			}
		}
		sum.Add(part.Vector)
	}
	mask, err := disclosure.Suppress(inForce, counts, equations(r.plan))
	if err != nil {
		return nil, err
	}
	narrow, err := unsupported(ctx, r.plan, inForce, func(i int) disclosure.Count { return supports[i] }, func(int64, int64) {})
	if err != nil {
		return nil, err
	}
	merge(mask, narrow)
	r.plan.Zero(sum, mask)
	t, err := r.plan.Derive(sum, mask, stats.DeriveOptions{RoundTo: inForce.RoundTo})
	if err != nil {
		return nil, err
	}
	return map[string]any{fieldStatistics: t, job.CountCells: int64(r.plan.Cells())}, nil
}

// estimate prices a run. Counting rows costs as much either way and is left out.
func (w way) estimate(spec job.Spec, _ []int64) (job.Cost, error) {
	r, err := decode(spec, w)
	if err != nil {
		return job.Cost{}, err
	}
	n := len(r.contributors)
	counts := w.cost(n, countsShape(r.plan), len(r.gates))
	measures := w.cost(n, r.plan.Shape(), len(spec.Recipients))
	setup := w.setup(n)
	return job.Cost{
		CPUSeconds: setup.CPUSeconds + counts.CPUSeconds + measures.CPUSeconds,
		Bytes:      setup.Bytes + counts.Bytes + measures.Bytes,
		Rounds:     setup.Rounds + counts.Rounds + measures.Rounds,
	}, nil
}
