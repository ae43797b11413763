package logit

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/fl/metrics"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// people makes a party's table: keys, then columns; NaN is missing.
func people(t testing.TB, keys []int64, names []string, columns ...[]float64) *table.Table {
	t.Helper()
	s := table.Schema{{Name: "id", Type: table.Int, Key: true}}
	for _, n := range names {
		s = append(s, table.Column{Name: n, Type: table.Float})
	}
	b := table.NewBuilder(s)
	b.Ints(0).AppendValues(keys, nil)
	for j, c := range columns {
		for _, v := range c {
			if math.IsNaN(v) {
				b.Floats(1 + j).AppendNull()
			} else {
				b.Floats(1 + j).Append(v)
			}
		}
	}
	tb, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

type world struct {
	spec   job.Spec
	inputs [2]table.Source
	net    sessiontest.Net
}

// newWorld makes a job of the two tables; edit changes the parameters.
func newWorld(t testing.TB, a, b *table.Table, edit func(p *Params)) world {
	t.Helper()
	p := DefaultParams()
	p.Label = "y"
	if edit != nil {
		edit(&p)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	items := func(s table.Schema) (names []string) {
		for _, c := range s {
			names = append(names, c.Name)
		}
		return names
	}
	return world{
		spec: job.Spec{Kind: Name, Params: raw, Parties: []job.Participant{
			{Party: "p0", Role: LabelHolder, Inputs: []job.Input{{Entry: "a", Version: 1, Items: items(a.Schema())}}},
			{Party: "p1", Role: FeatureHolder, Inputs: []job.Input{{Entry: "b", Version: 1, Items: items(b.Schema())}}},
		}},
		inputs: [2]table.Source{a, b},
	}
}

func (w world) run(t testing.TB) ([2]job.Result, []sessiontest.Outcome) {
	t.Helper()
	var res [2]job.Result
	part := func(i int) sessiontest.Party {
		return func(ctx context.Context, s *session.Session) (err error) {
			res[i], err = Definition().Run(ctx, jobEnv(w, i, s))
			return err
		}
	}
	return res, w.net.Run(t, part(0), part(1))
}

// ok runs and expects success.
func (w world) ok(t testing.TB) [2]job.Result {
	t.Helper()
	res, out := w.run(t)
	sessiontest.NoErrors(t, out)
	return res
}

// fails runs and returns the error that ended it.
func (w world) fails(t testing.TB) error {
	t.Helper()
	_, out := w.run(t)
	for i, o := range out {
		if o.Err == nil {
			t.Fatalf("p%d ended well", i)
		}
	}
	return sessiontest.Cause(out)
}

// couple makes two tables with n common people, each with some of its own, the
// feature holder's rows in another order.
func couple(t testing.TB, n int) (a, b *table.Table, e example) {
	e = synthetic(9, n, 2, 3, 2)
	ka, kb := make([]int64, n), make([]int64, n)
	for i := range ka {
		ka[i], kb[n-1-i] = int64(i), int64(i)
		e.train[i] = i%10 < 7
	}
	reversed := make([][]float64, len(e.b))
	for j, c := range e.b {
		reversed[j] = slices.Clone(c)
		slices.Reverse(reversed[j])
		reversed[j] = append(reversed[j], 1, 2)
	}
	extend := func(c []float64, v ...float64) []float64 { return append(slices.Clone(c), v...) }
	a = people(t, append(ka, 900001, 900002, 900003), []string{"y", "x0", "x1"},
		extend(e.y, 1, 0, math.NaN()), extend(e.a[0], 5, 5, 5), extend(e.a[1], 5, 5, 5))
	b = people(t, append(kb, 800001, 800002), []string{"z0", "z1", "z2"}, reversed...)
	return a, b, e
}

func keyMod(p *Params) { p.Split = Split{Rule: SplitKeyMod, Modulus: 10, TrainBelow: 7} }

// The whole job against the ideal: exact regression on pooled columns.
func TestJobAgainstIdeal(t *testing.T) {
	a, b, e := couple(t, 400)
	w := newWorld(t, a, b, func(p *Params) {
		keyMod(p)
		p.Evaluation, p.PeriodLog2, p.Terms = EvaluateScores, 6, 16
	})
	d := Definition()
	if err := d.Validate(w.spec); err != nil {
		t.Fatal(err)
	}
	if got := d.Permissions(w.spec); !slices.Equal(got, []string{PermissionScores}) {
		t.Errorf("permissions %v", got)
	}
	res := w.ok(t)
	for _, r := range res {
		for k, want := range map[string]int64{CountCommon: 400, CountTrain: 280, CountTest: 120} {
			if r.Counts[k] != want {
				t.Errorf("%s is %d, want %d", k, r.Counts[k], want)
			}
		}
		if r.Values["converged"] != true {
			t.Error("did not converge")
		}
		if _, err := json.Marshal(r.Values); err != nil {
			t.Error(err)
		}
	}
	if res[0].Counts[CountIterations] != res[1].Counts[CountIterations] || res[0].Rows != 403 || res[1].Rows != 402 {
		t.Error("iterations or rows are wrong")
	}
	p := DefaultParams()
	p.PeriodLog2, p.Terms = 6, 16
	ref, y, err := InTheClear(append(append([][]float64{}, e.a...), e.b...), e.y, e.train, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	exact := make(map[string]float64)
	k := 0
	for i, tr := range e.train {
		if !tr {
			exact[string(rune(i))] = sigmoid(ref[k])
			k++
		}
	}
	rows := 0
	for rec, err := range res[0].Tables["scores"].Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		keys, score := rec.Column(0).(*array.String), rec.Column(1).(*array.Float64)
		for i := range int(rec.NumRows()) {
			var id int
			if err := json.Unmarshal([]byte(keys.Value(i)), &id); err != nil {
				t.Fatal(err)
			}
			if want, found := exact[string(rune(id))]; !found || math.Abs(score.Value(i)-want) > 0.01 {
				t.Errorf("row %d: score %v, exact %v", id, score.Value(i), want)
			}
			rows++
		}
	}
	if rows != 120 {
		t.Errorf("%d scores", rows)
	}
	auc := res[0].Values["auc"].(Metric)
	want, _ := metrics.AUC(ref, y)
	pool, err := d.Clear(t.Context(), w.spec, map[session.PartyID][]table.Source{"p0": {a}, "p1": {b}})
	if err != nil {
		t.Fatal(err)
	}
	if pooled := pool["auc"].(map[string]any)["pooled"].(float64); math.Abs(pooled-want) > 1e-9 || pool[CountCommon] != int64(400) {
		t.Errorf("in the clear from the tables: AUC %v of %v rows, from the columns %v", pooled, pool[CountCommon], want)
	}
	if math.Abs(*auc.Joint-want) > 0.003 || *auc.Alone >= *auc.Joint {
		t.Errorf("AUC %v alone, %v joint, exact %v", *auc.Alone, *auc.Joint, want)
	}
}

// Everything in a result must stand in Reveals for its role.
func TestRevealsCoverResults(t *testing.T) {
	a, b, _ := couple(t, 80)
	for _, evaluation := range []string{EvaluateNone, EvaluateScores} {
		for _, baseline := range []bool{true, false} {
			w := newWorld(t, a, b, func(p *Params) {
				p.Evaluation, p.Baseline, p.MaxIterations, p.Tolerance, p.Terms = evaluation, baseline, 2, 0, 2
			})
			res := w.ok(t)
			for i, role := range []job.Role{LabelHolder, FeatureHolder} {
				var listed []string
				for _, d := range reveals(w.spec) {
					if d.To == "" || d.To == role {
						listed = append(listed, d.Field)
					}
					if d.What == "" || strings.HasSuffix(d.What, ".") {
						t.Errorf("disclosure %s: %q", d.Field, d.What)
					}
				}
				for _, f := range res[i].Fields() {
					if !slices.Contains(listed, f) {
						t.Errorf("evaluation %s, baseline %v: %s gets %q, which Reveals does not list", evaluation, baseline, role, f)
					}
				}
				// And nothing is listed that the result does not have, views aside.
				for _, f := range listed {
					if !strings.HasPrefix(f, "view.") && !slices.Contains(res[i].Fields(), f) {
						t.Errorf("evaluation %s, baseline %v: Reveals lists %q, which %s does not get", evaluation, baseline, f, role)
					}
				}
			}
		}
	}
}

func TestMissingAndConstantColumns(t *testing.T) {
	e := synthetic(4, 200, 2, 2, 2)
	for i := range e.y {
		e.a[1][i] = 7.1
		if i%4 == 0 {
			e.b[0][i] = math.NaN()
		}
	}
	empty := make([]float64, 200)
	for i := range empty {
		empty[i] = math.NaN()
	}
	keys := make([]int64, 200)
	for i := range keys {
		keys[i] = int64(i)
	}
	a := people(t, keys, []string{"y", "x", "constant"}, e.y, e.a[0], e.a[1])
	b := people(t, keys, []string{"z", "u", "empty"}, e.b[0], e.b[1], empty)
	w := newWorld(t, a, b, func(p *Params) { keyMod(p); p.PeriodLog2, p.Terms = 6, 16 })
	res := w.ok(t)
	p := DefaultParams()
	ref, _, err := InTheClear([][]float64{e.a[0], e.b[0], e.b[1]}, e.y, e.train, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	wa, wb := res[0].Values["weights"].([]Column), res[1].Values["weights"].([]Column)
	if wa[1].Weight != 0 || wb[2].Weight != 0 || wa[1].SD != 0 {
		t.Errorf("constant columns weigh %v and %v", wa[1], wb[2])
	}
	k := 0
	for i, tr := range e.train {
		if tr {
			continue
		}
		z := res[0].Values["intercept"].(float64) + wa[0].Standardised*wa[0].Apply(e.a[0][i]) +
			wb[0].Standardised*wb[0].Apply(e.b[0][i]) + wb[1].Standardised*wb[1].Apply(e.b[1][i])
		if math.Abs(sigmoid(z)-sigmoid(ref[k])) > 0.01 {
			t.Fatalf("row %d: %v, exact %v", i, sigmoid(z), sigmoid(ref[k]))
		}
		k++
	}
}

func TestRefusals(t *testing.T) {
	a, b, _ := couple(t, 120)
	quick := func(p *Params) { p.MaxIterations, p.Terms, p.Tolerance = 1, 1, 0 }
	far := func(tb testing.TB) *table.Table {
		keys, c := make([]int64, 120), make([]float64, 120)
		for i := range keys {
			keys[i], c[i] = int64(5000+i), float64(i)
		}
		return people(tb, keys, []string{"z0"}, c)
	}
	labels := func(set func(i int, y float64) float64) *table.Table {
		e := synthetic(9, 120, 2, 3, 2)
		keys := make([]int64, 120)
		for i := range keys {
			keys[i], e.y[i] = int64(i), set(i, e.y[i])
		}
		return people(t, keys, []string{"y", "x0"}, e.y, e.a[0])
	}
	text := func() *table.Table {
		tb := table.NewBuilder(table.Schema{{Name: "id", Type: table.Text, Key: true}, {Name: "z0", Type: table.Float}})
		for i := range 120 {
			tb.Texts(0).Append("p" + string(rune('a'+i%26)) + string(rune('a'+i/26)))
			tb.Floats(1).Append(float64(i))
		}
		x, err := tb.Table()
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	textLabel := func() *table.Table {
		tb := table.NewBuilder(table.Schema{{Name: "id", Type: table.Text, Key: true}, {Name: "y", Type: table.Float}})
		for i := range 120 {
			tb.Texts(0).Append("p" + string(rune('a'+i%26)) + string(rune('a'+i/26)))
			tb.Floats(1).Append(float64(i % 2))
		}
		x, err := tb.Table()
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, c := range []struct {
		name string
		w    world
		want error
	}{
		{"no intersection", newWorld(t, a, far(t), quick), ErrNoRows},
		{"below the minimum", func() world {
			w := newWorld(t, a, b, quick)
			w.spec.Limits = job.Limits{MinIntersection: 121, MinBeforeReveal: true}
			return w
		}(), job.ErrMinIntersection},
		{"all rows train", newWorld(t, a, b, func(p *Params) {
			quick(p)
			p.Evaluation, p.Split = EvaluateScores, Split{Rule: SplitKeyMod, Modulus: 1000, TrainBelow: 500}
		}), ErrNoHeld},
		{"one row trains", newWorld(t, labels(func(_ int, y float64) float64 { return y }), b, func(p *Params) {
			quick(p)
			p.Split = Split{Rule: SplitKeyMod, Modulus: 1000, TrainBelow: 1}
		}), ErrOneClass},
		{"one class", newWorld(t, labels(func(int, float64) float64 { return 1 }), b, quick), ErrOneClass},
		{"label missing", newWorld(t, labels(func(i int, y float64) float64 {
			if i == 3 {
				return math.NaN()
			}
			return y
		}), b, quick), ErrLabel},
		{"label of 2", newWorld(t, labels(func(i int, y float64) float64 { return y + 1 }), b, quick), ErrLabel},
		{"too few rows", func() world { a, b, _ := couple(t, 30); return newWorld(t, a, b, quick) }(), ErrTooFewRows},
		{"keys are words", newWorld(t, textLabel(), text(), func(p *Params) { quick(p); keyMod(p) }), ErrSplitKey},
		{"weight of zero", newWorld(t, func() *table.Table {
			e := synthetic(9, 120, 2, 3, 2)
			keys := make([]int64, 120)
			for i := range keys {
				keys[i] = int64(i)
			}
			return people(t, keys, []string{"y", "w"}, e.y, make([]float64, 120))
		}(), b, func(p *Params) { quick(p); p.Weight = "w" }), ErrRange},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.w.fails(t); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// Parties that mean different parameters stop at the first frame, named.
func TestBindNamesTheField(t *testing.T) {
	a, b, _ := couple(t, 120)
	w1 := newWorld(t, a, b, nil)
	w2 := newWorld(t, a, b, func(p *Params) { p.L2 = 2 })
	part := func(w world, i int) sessiontest.Party {
		return func(ctx context.Context, s *session.Session) error {
			_, err := run(ctx, jobEnv(w, i, s))
			return err
		}
	}
	err := sessiontest.Cause(sessiontest.Net{}.Run(t, part(w1, 0), part(w2, 1)))
	var m *session.MismatchError
	if !errors.As(err, &m) || m.Field != "params" {
		t.Errorf("%v", err)
	}
}

// Each party holds to its own minimum intersection, whichever is the higher,
// and one that suffices for both stands in nobody's way.
func TestMinimumOfEachParty(t *testing.T) {
	a, b, _ := couple(t, 120)
	all := newWorld(t, a, b, func(p *Params) { p.MaxIterations, p.Terms, p.Split = 1, 1, Split{Rule: SplitNone} })
	some := newWorld(t, a, b, func(p *Params) { p.MaxIterations, p.Terms = 1, 1 })
	for _, c := range []struct {
		w              world
		label, feature int64
		want           error
	}{
		{all, 0, 120, nil},
		{all, 120, 1, nil},
		{all, 121, 1, job.ErrMinIntersection},
		{all, 1, 121, job.ErrMinIntersection},
		// 120 rows are common; about 84 of them train.
		{some, 60, 60, nil},
		{some, 120, 60, job.ErrMinIntersection},
		{some, 60, 120, job.ErrMinIntersection},
	} {
		part := func(i int, least int64) sessiontest.Party {
			w := c.w
			w.spec.Limits = job.Limits{MinIntersection: least}
			return func(ctx context.Context, s *session.Session) error {
				_, err := run(ctx, jobEnv(w, i, s))
				return err
			}
		}
		if err := sessiontest.Cause(sessiontest.Net{}.Run(t, part(0, c.label), part(1, c.feature))); !errors.Is(err, c.want) {
			t.Errorf("minimum %d and %d: %v, want %v", c.label, c.feature, err, c.want)
		}
	}
}

func TestBench(t *testing.T) {
	if _, err := bench(0); err == nil {
		t.Error("no rows were accepted")
	}
	b, err := Definition().Bench(600)
	if err != nil {
		t.Fatal(err)
	}
	if err := Definition().Validate(b.Spec); err != nil {
		t.Fatal(err)
	}
	w := world{spec: b.Spec, inputs: [2]table.Source{b.Inputs["p0"][0], b.Inputs["p1"][0]}}
	res := w.ok(t)
	auc := res[0].Values["auc"].(Metric)
	if *auc.Joint < *auc.Alone+0.02 {
		t.Errorf("no signal: %v alone, %v joint", *auc.Alone, *auc.Joint)
	}
	if err := b.Baseline(t.Context()); err != nil {
		t.Error(err)
	}
}
