package logit

import (
	"context"
	"encoding/csv"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"gonum.org/v1/gonum/mat"

	"github.com/yinqiao/yinqiao/fl/metrics"
	"github.com/yinqiao/yinqiao/session"
)

// sessions returns both ends of a session over a pipe.
func sessions(t testing.TB, window int, wrap func(session.Channel) session.Channel) (label, feature *session.Session) {
	t.Helper()
	network := session.NewPipeNetwork(window)
	parties := []session.PartyID{"bank", "gov"}
	open := func(self session.PartyID) *session.Session {
		opener := network.Opener(self)
		s, err := session.New(t.Context(), session.Config{
			ID: "test", Self: self, Parties: parties,
			Open: func(ctx context.Context, peer session.PartyID, name string) (session.Channel, error) {
				ch, err := opener(ctx, peer, name)
				if err == nil && wrap != nil && self == "bank" {
					ch = wrap(ch)
				}
				return ch, err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	return open("bank"), open("gov")
}

// both runs the two sides; when one fails, the other is cancelled.
func both(ctx context.Context, label, feature func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return label(ctx) })
	g.Go(func() error { return feature(ctx) })
	return g.Wait()
}

type example struct {
	a, b  [][]float64 // raw columns
	y     []float64
	train []bool
}

func synthetic(seed uint64, n, da, db int, signal float64) example {
	r := rand.New(rand.NewPCG(seed, 1))
	e := example{a: make([][]float64, da), b: make([][]float64, db)}
	w := make([]float64, da+db)
	for j := range w {
		w[j] = signal * r.NormFloat64() / math.Sqrt(float64(da+db))
	}
	for i := range n {
		common, z := r.NormFloat64(), -1.0
		for j := range w {
			x := 0.9*r.NormFloat64() + 0.4*common
			z += w[j] * x
			if j < da {
				e.a[j] = append(e.a[j], 3+2*x)
			} else {
				e.b[j-da] = append(e.b[j-da], 100*x-7)
			}
		}
		y := 0.0
		if r.Float64() < sigmoid(z) {
			y = 1
		}
		e.y, e.train = append(e.y, y), append(e.train, i%10 < 7)
	}
	return e
}

type outcome struct {
	label, feature model
	a, b           *mat.Dense // held-out rows, scaled
	fitA, fitB     *mat.Dense
	y              []float64
}

// scores of the held-out rows under the two models.
func (o outcome) scores() []float64 {
	z := dot(o.a, o.label.weights)
	for i, v := range dot(o.b, o.feature.weights) {
		z[i] += v
	}
	return z
}

func trainPair(t testing.TB, e example, p Params, rowWeight []float64, w watcher) (outcome, *session.Meter, error) {
	t.Helper()
	sa, sb := sessions(t, 4, nil)
	var o outcome
	o.fitA, o.a, _ = design(e.a, e.train, p.Clip, true)
	o.fitB, o.b, _ = design(e.b, e.train, p.Clip, false)
	var y []float64
	y, o.y = pick(e.y, e.train)
	wf, _ := pick(rowWeight, e.train)
	weights, err := rowWeights(wf, y, p.ClassWeight)
	if err != nil {
		t.Fatal(err)
	}
	err = both(t.Context(), func(ctx context.Context) (err error) {
		o.label, err = trainLabel(ctx, sa, p, o.fitA, y, weights, len(o.y), maxColumns+1, w)
		return err
	}, func(ctx context.Context) (err error) {
		o.feature, err = trainFeature(ctx, sb, p, o.fitB, len(o.y), maxColumns+1, w)
		return err
	})
	return o, sa.Meter(), err
}

func params() Params {
	p := DefaultParams()
	p.Label = "y"
	return p
}

// dataDir finds the shared data beside the checkout.
func dataDir(t testing.TB) string {
	if d := os.Getenv("YINQIAO_DATA"); d != "" {
		return d
	}
	dir, _ := os.Getwd()
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Skip("no go.mod above the test")
		}
	}
	d := filepath.Join(dir, "..", "shared", "data")
	if _, err := os.Stat(d); err != nil {
		t.Skip("the data folder is absent: ", d)
	}
	return d
}

func readCSV(t testing.TB, path string) [][]float64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Skip("data is absent: ", err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	columns := make([][]float64, len(records[0]))
	for _, r := range records[1:] {
		for j, s := range r {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil {
				t.Fatal(err)
			}
			columns[j] = append(columns[j], v)
		}
	}
	return columns
}

// vertical joins two files on their first column.
func vertical(t testing.TB, guest, host string) example {
	t.Helper()
	g, h := readCSV(t, guest), readCSV(t, host)
	at := make(map[float64]int, len(h[0]))
	for i, id := range h[0] {
		at[id] = i
	}
	e := example{a: g[2:], b: make([][]float64, len(h)-1), y: g[1]}
	for _, id := range g[0] {
		i, ok := at[id]
		if !ok {
			t.Fatal("files differ in their keys")
		}
		for j := range e.b {
			e.b[j] = append(e.b[j], h[j+1][i])
		}
		e.train = append(e.train, int(id)%10 < 7)
	}
	return e
}

func defaultCredit(t testing.TB) example {
	d := filepath.Join(dataDir(t), "default_credit")
	return vertical(t, filepath.Join(d, "default_credit_hetero_guest.csv"), filepath.Join(d, "default_credit_hetero_host.csv"))
}

func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// compareExact measures a private model against the exact one on pooled columns.
func compareExact(t *testing.T, e example, p Params, o outcome) (auc, exact, worst float64) {
	t.Helper()
	ref, y, err := InTheClear(append(append([][]float64{}, e.a...), e.b...), e.y, e.train, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	z := o.scores()
	for i := range z {
		worst = max(worst, math.Abs(sigmoid(z[i])-sigmoid(ref[i])))
	}
	auc, err1 := metrics.AUC(z, y)
	exact, err2 := metrics.AUC(ref, y)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return auc, exact, worst
}

// The reference table: the numbers that the protocol page promises.
func TestDefaultCredit(t *testing.T) {
	if testing.Short() {
		t.Skip("21,000 rows")
	}
	e := defaultCredit(t)
	p := params()
	start := cpu()
	o, meter, err := trainPair(t, e, p, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	used := cpu() - start
	auc, exact, worst := compareExact(t, e, p, o)
	traffic := meter.Traffic()
	t.Logf("AUC %.5f exact %.5f, max|Δp| %.4f, %d iterations (converged %v), CPU %v, %.1f MB, %d rounds",
		auc, exact, worst, o.label.iterations, o.label.converged, used, float64(traffic.Sent+traffic.Received)/1e6, traffic.Rounds)
	if math.Abs(auc-exact) > 0.001 || worst > 0.01 || math.Abs(exact-0.7251) > 0.0001 {
		t.Errorf("AUC %.5f against %.5f, max|Δp| %.4f", auc, exact, worst)
	}
	if traffic.Sent+traffic.Received > 400e6 {
		t.Errorf("%d bytes exchanged", traffic.Sent+traffic.Received)
	}
}

// Small tables, row weights, class weights, odd numbers of columns.
func TestSmallTables(t *testing.T) {
	weights := make([]float64, 300)
	for i := range weights {
		weights[i] = 1 + float64(i%3)
	}
	for _, c := range []struct {
		name      string
		n, da, db int
		edit      func(*Params)
		weights   []float64
	}{
		{"plain", 300, 3, 2, func(*Params) {}, nil},
		{"no column at the label holder", 200, 0, 1, func(*Params) {}, nil},
		{"row weights", 300, 2, 3, func(*Params) {}, weights},
		{"class weights", 300, 1, 4, func(p *Params) { p.ClassWeight = ClassWeightBalanced }, nil},
		{"strong penalty, no clip, no momentum", 120, 1, 1, func(p *Params) { p.L2, p.Clip, p.Momentum, p.Step = 30, 0, 0, 3.5 }, nil},
		{"no penalty", 300, 1, 2, func(p *Params) { p.L2 = 0 }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := synthetic(31, c.n, c.da, c.db, 1.5)
			p := params()
			p.Tolerance, p.MaxIterations = 0.03, 20
			c.edit(&p)
			o, _, err := trainPair(t, e, p, c.weights, nil)
			if err != nil {
				t.Fatal(err)
			}
			ref, _, err := InTheClear(append(slices.Clone(e.a), e.b...), e.y, e.train, p, c.weights)
			if err != nil {
				t.Fatal(err)
			}
			var worst float64
			for i, z := range o.scores() {
				worst = max(worst, math.Abs(sigmoid(z)-sigmoid(ref[i])))
			}
			t.Logf("max|Δp| %.4f, %d iterations", worst, o.label.iterations)
			if worst > 0.03 || !o.label.converged || o.label.iterations != o.feature.iterations {
				t.Errorf("max|Δp| %.4f after %d and %d iterations, converged %v", worst, o.label.iterations, o.feature.iterations, o.label.converged)
			}
		})
	}
}

// Separable rows push scores beyond the period: the run notices and starts
// over with a wider one, or refuses.
func TestPeriodWidens(t *testing.T) {
	e := synthetic(41, 200, 1, 1, 0)
	for i := range e.y {
		e.y[i] = 0
		if (e.a[0][i]-3)/2+(e.b[0][i]+7)/100 > 0 {
			e.y[i] = 1
		}
	}
	p := params()
	p.PeriodLog2, p.Terms, p.MaxIterations, p.Tolerance = 4, 4, 12, 0.05
	o, _, err := trainPair(t, e, p, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := o.label.attempt; a != o.feature.attempt || a.number != 2 || a.periodLog2 != 6 || a.terms != 12 {
		t.Errorf("attempt %+v at the label holder, %+v at the feature holder", o.label.attempt, o.feature.attempt)
	}
	if auc, _, _ := compareExact(t, e, p, o); auc < 0.97 {
		t.Errorf("AUC %v of separable rows", auc)
	}
	p.L2, p.PeriodLog2, p.MaxIterations, p.Terms = 1e-4, 3, 8, 1
	if _, _, err := trainPair(t, e, p, nil, nil); !errors.Is(err, ErrPeriod) {
		t.Errorf("scores far beyond any period: %v", err)
	}
}
