package logit

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/fl/metrics"
)

// At the optimum the penalised gradient vanishes.
func TestFitExactIsStationary(t *testing.T) {
	e := synthetic(21, 500, 3, 2, 1.5)
	columns := append(slices.Clone(e.a), e.b...)
	for j := range columns {
		s := FitScaling(columns[j], 0)
		for i, v := range columns[j] {
			columns[j][i] = s.Apply(v)
		}
	}
	weights := make([]float64, 500)
	for i := range weights {
		weights[i] = 0.25 + float64(i%5)
	}
	for _, w := range [][]float64{nil, weights} {
		fit, err := FitExact(columns, e.y, 3, w)
		if err != nil {
			t.Fatal(err)
		}
		z := fit.Scores(columns)
		var intercept float64
		gradient := make([]float64, len(columns))
		for i := range z {
			r := sigmoid(z[i]) - e.y[i]
			if w != nil {
				r *= w[i]
			}
			intercept += r
			for j := range gradient {
				gradient[j] += r * columns[j][i]
			}
		}
		for j := range gradient {
			gradient[j] += 3 * fit.Weights[j]
		}
		for _, g := range append(gradient, intercept) {
			if math.Abs(g) > 1e-5 {
				t.Errorf("gradient %v at the optimum", g)
			}
		}
	}
}

func TestFitExactFaults(t *testing.T) {
	x := [][]float64{{1, 2, 3, 4}}
	for _, c := range []struct {
		y    []float64
		want error
	}{
		{[]float64{0, 0, 0, 0}, ErrOneClass}, {nil, ErrOneClass}, {[]float64{0, 1, 2, 0}, ErrLabel}, {[]float64{0, 1, math.NaN(), 0}, ErrLabel},
	} {
		col := x
		if c.y == nil {
			col = [][]float64{{}}
		}
		if _, err := FitExact(col, c.y, 1, nil); !errors.Is(err, c.want) {
			t.Errorf("%v, want %v", err, c.want)
		}
	}
	if _, err := FitExact(x, []float64{0, 1}, 1, nil); err == nil {
		t.Error("columns of another length were accepted")
	}
	if _, err := FitExact(x, []float64{0, 0, 1, 1}, 1, []float64{1}); err == nil {
		t.Error("weights of another length were accepted")
	}
	// Separable rows converge with a penalty, however small.
	for _, l2 := range []float64{1, 1e-6} {
		if _, err := FitExact(x, []float64{0, 0, 1, 1}, l2, nil); err != nil {
			t.Errorf("l2 %v: %v", l2, err)
		}
	}
	// Only the intercept: its log-odds.
	e, err := FitExact(nil, []float64{0, 1, 1, 1}, 1, nil)
	if err != nil || math.Abs(e.Intercept-math.Log(3)) > 1e-6 {
		t.Errorf("%v %v", e, err)
	}
}

// The published baselines: standardised, not clipped, C = 1.
func TestBaselines(t *testing.T) {
	d := dataDir(t)
	p := params()
	p.Clip = 0
	for _, c := range []struct {
		name, guest, host string
		alone, pooled, ks float64
	}{
		{"default_credit", "default_credit/default_credit_hetero_guest.csv", "default_credit/default_credit_hetero_host.csv", 0.6620, 0.7238, 0.3678},
		{"breast", "breast/breast_hetero_guest.csv", "breast/breast_hetero_host.csv", 0.9779, 0.9865, 0.9580},
	} {
		e := vertical(t, filepath.Join(d, c.guest), filepath.Join(d, c.host))
		for _, m := range []struct {
			columns [][]float64
			auc, ks float64
		}{{e.a, c.alone, 0}, {append(slices.Clone(e.a), e.b...), c.pooled, c.ks}} {
			z, y, err := InTheClear(m.columns, e.y, e.train, p, nil)
			if err != nil {
				t.Fatal(err)
			}
			auc, err := metrics.AUC(z, y)
			if err != nil || math.Abs(auc-m.auc) > 0.00006 {
				t.Errorf("%s, %d columns: AUC %.5f, published %.4f", c.name, len(m.columns), auc, m.auc)
			}
			if ks, err := metrics.KS(z, y); m.ks > 0 && (err != nil || math.Abs(ks-m.ks) > 0.0002) {
				t.Errorf("%s: KS %.5f, published %.4f", c.name, ks, m.ks)
			}
		}
	}
}

func TestScaling(t *testing.T) {
	nan := math.NaN()
	s := FitScaling([]float64{1, nan, 3, 5, 100}, 1)
	if s.Fill != 4 || math.Abs(s.Mean-22.6) > 1e-12 {
		t.Errorf("%+v", s)
	}
	if s.Apply(1e9) != 1 || s.Apply(-1e9) != -1 || s.Apply(nan) != s.Apply(4) {
		t.Error("clipping or filling")
	}
	for name, train := range map[string][]float64{
		"constant": {2.1, 2.1, 2.1}, "none": {}, "missing": {nan, nan}, "one value and gaps": {0.3, nan, 0.3},
	} {
		if s := FitScaling(train, 8); s.SD != 0 || s.Apply(77) != 0 || s.Apply(nan) != 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if s := FitScaling([]float64{1e308, 1.5e308}, 8); math.IsInf(s.Fill, 0) {
		t.Error("the median overflows")
	}
}

func TestRowWeights(t *testing.T) {
	w, err := rowWeights(nil, []float64{0, 0, 0, 1}, ClassWeightBalanced)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{2. / 3, 2. / 3, 2. / 3, 2} { // n/(2·n_c), as scikit-learn has it
		if math.Abs(w[i]-want) > 1e-12 {
			t.Errorf("weight %d is %v, want %v", i, w[i], want)
		}
	}
	for _, bad := range [][]float64{{1, 1, 0}, {1, -1, 1}, {1, math.NaN(), 1}, {1, math.Inf(1), 1}} {
		if _, err := rowWeights(bad, []float64{0, 1, 1}, ClassWeightNone); !errors.Is(err, ErrRange) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	heavy := make([]float64, 100)
	for i := range heavy {
		heavy[i] = 1
	}
	heavy[0] = 1000
	if _, err := rowWeights(heavy, make([]float64, 100), ClassWeightNone); !errors.Is(err, ErrRange) {
		t.Errorf("a row of %v times the mean: %v", heavy[0], err)
	}
}

func TestWhitenRefuses(t *testing.T) {
	// One outlier among 60,000 rows is 245 deviations away: beyond 2^7.
	column := make([]float64, 60_000)
	column[7] = 1
	train := make([]bool, len(column))
	for i := range train {
		train[i] = true
	}
	fp, err := newFixedPoint(5, 5.25, len(column))
	if err != nil {
		t.Fatal(err)
	}
	rows, _, _ := design([][]float64{column}, train, 0, false)
	if _, err := whiten(rows, false, 1, fp); !errors.Is(err, ErrRange) {
		t.Errorf("unclipped: %v", err)
	}
	rows, _, _ = design([][]float64{column}, train, 8, false)
	if _, err := whiten(rows, false, 1, fp); !errors.Is(err, ErrRange) {
		t.Errorf("clipping keeps one value at 8, whose whitened value is still far out: %v", err)
	}
}
