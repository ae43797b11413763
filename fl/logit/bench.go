package logit

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Columns of a benchmark's parties, those of default_credit.
const benchLabelColumns, benchFeatureColumns = 13, 10

// bench makes two tables about the same n people with a signal in both.
func bench(n int64) (job.Bench, error) {
	if n < 1 || n > maxRows {
		return job.Bench{}, fmt.Errorf("logit: a benchmark takes 1 to %d rows", maxRows)
	}
	// The same rows every time; nothing here is secret.
	r := rand.New(rand.NewPCG(uint64(n), 0x6c6f676974))
	schema := func(prefix string, d int, label bool) (table.Schema, []string) {
		s, items := table.Schema{{Name: "id", Type: table.Int, Key: true}}, []string(nil)
		if label {
			s, items = append(s, table.Column{Name: "y", Type: table.Int}), append(items, "y")
		}
		for j := range d {
			name := fmt.Sprintf("%s%d", prefix, j)
			s, items = append(s, table.Column{Name: name, Type: table.Float}), append(items, name)
		}
		return s, items
	}
	sa, itemsA := schema("a", benchLabelColumns, true)
	sb, itemsB := schema("b", benchFeatureColumns, false)
	a, b := table.NewBuilder(sa), table.NewBuilder(sb)
	d := benchLabelColumns + benchFeatureColumns
	columns, y, train := make([][]float64, d), []float64(nil), []bool(nil)
	w := make([]float64, d)
	for j := range w {
		w[j] = 1.5 * r.NormFloat64() / math.Sqrt(float64(d))
	}
	for i := range n {
		z, common := -1.2, r.NormFloat64()
		for j := range w {
			x := 0.9*r.NormFloat64() + 0.4*common
			z += w[j] * x
			columns[j] = append(columns[j], x)
			if j < benchLabelColumns {
				a.Floats(2 + j).Append(x)
			} else {
				b.Floats(1 + j - benchLabelColumns).Append(x)
			}
		}
		label := int64(0)
		if r.Float64() < sigmoid(z) {
			label = 1
		}
		a.Ints(0).Append(i)
		b.Ints(0).Append(i)
		a.Ints(1).Append(label)
		y, train = append(y, float64(label)), append(train, i%10 < 7)
	}
	ta, err := a.Table()
	if err != nil {
		return job.Bench{}, err
	}
	tb, err := b.Table()
	if err != nil {
		return job.Bench{}, err
	}
	p := DefaultParams()
	p.Label, p.Evaluation = "y", EvaluateScores
	p.Split = Split{Rule: SplitKeyMod, Modulus: 10, TrainBelow: 7}
	raw, err := json.Marshal(p)
	if err != nil {
		return job.Bench{}, err
	}
	return job.Bench{
		Spec: job.Spec{
			Kind: Name, Params: raw,
			Parties: []job.Participant{
				{Party: "p0", Role: LabelHolder, Inputs: []job.Input{{Entry: "bench/label", Version: 1, Items: itemsA}}},
				{Party: "p1", Role: FeatureHolder, Inputs: []job.Input{{Entry: "bench/feature", Version: 1, Items: itemsB}}},
			},
			Recipients: []session.PartyID{"p0", "p1"},
		},
		Inputs: map[session.PartyID][]table.Source{"p0": {ta}, "p1": {tb}},
		Baseline: func(context.Context) error {
			_, _, err := InTheClear(columns, y, train, p, nil)
			return err
		},
		BaselineName: "exact logistic regression on pooled columns",
	}, nil
}
