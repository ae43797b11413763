package logit

import (
	"context"
	"fmt"

	"github.com/yinqiao/yinqiao/fl/metrics"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// inTheClear is the job on both parties' tables in one place: it joins them by
// key, fits exactly, and measures on the held-out rows. Its values are named
// "pooled", beside "alone" and "joint" of a run.
func inTheClear(ctx context.Context, spec job.Spec, sources map[session.PartyID][]table.Source) (map[string]any, error) {
	pl, err := readSpec(spec)
	if err != nil {
		return nil, err
	}
	side := func(role job.Role, names []string) (*table.KeySet, [][]float64, error) {
		id := spec.ByRole(role)[0]
		if len(sources[id]) != 1 {
			return nil, nil, fmt.Errorf("%w: want one input of %s, got %d", ErrColumns, id, len(sources[id]))
		}
		src := sources[id][0]
		keys, err := table.Keys(ctx, src, table.RuleID)
		if err != nil {
			return nil, nil, err
		}
		schema := src.Schema()
		var read []string
		for _, n := range names {
			if i := schema.Index(n); i < 0 || !schema[i].Key {
				read = append(read, n)
			}
		}
		columns, err := table.ReadFloats(ctx, src, read)
		return keys, columns, err
	}
	extra := []string{pl.params.Label}
	if pl.params.Weight != "" {
		extra = append(extra, pl.params.Weight)
	}
	labelKeys, a, err := side(LabelHolder, append(extra, pl.labelColumns...))
	if err != nil {
		return nil, err
	}
	featureKeys, b, err := side(FeatureHolder, pl.featureColumns)
	if err != nil {
		return nil, err
	}
	at := make(map[string]int, featureKeys.Len())
	for i := range featureKeys.Len() {
		at[string(featureKeys.At(i))] = i
	}
	joined := make([][]float64, len(a)+len(b))
	var train []bool
	for i := range labelKeys.Len() {
		key := labelKeys.At(i)
		j, ok := at[string(key)]
		if !ok {
			continue
		}
		t, err := pl.params.Split.trains(key)
		if err != nil {
			return nil, err
		}
		train = append(train, t)
		for c := range a {
			joined[c] = append(joined[c], a[c][i])
		}
		for c := range b {
			joined[len(a)+c] = append(joined[len(a)+c], b[c][j])
		}
	}
	values := map[string]any{CountCommon: int64(len(train))}
	var weight []float64
	if pl.params.Weight != "" {
		weight = joined[1]
	}
	scores, labels, err := InTheClear(joined[len(extra):], joined[0], train, pl.params, weight)
	if err != nil || len(scores) == 0 {
		return values, err
	}
	auc, err := metrics.AUC(scores, labels)
	if err != nil {
		return nil, err
	}
	ks, err := metrics.KS(scores, labels)
	if err != nil {
		return nil, err
	}
	values["auc"] = map[string]any{"pooled": auc}
	values["ks"] = map[string]any{"pooled": ks}
	return values, nil
}
