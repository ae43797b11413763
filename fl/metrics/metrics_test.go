package metrics

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// The expected values were computed by hand from the definition; the first is
// the example in scikit-learn's documentation of roc_auc_score.
func TestKnownValues(t *testing.T) {
	for _, c := range []struct {
		name           string
		scores, labels []float64
		auc, ks        float64
	}{
		{"documentation", []float64{0.1, 0.4, 0.35, 0.8}, []float64{0, 0, 1, 1}, 0.75, 0.5},
		{"perfect", []float64{1, 2, 3, 4}, []float64{0, 0, 1, 1}, 1, 1},
		{"reversed", []float64{4, 3, 2, 1}, []float64{0, 0, 1, 1}, 0, 0},
		{"all equal", []float64{5, 5, 5, 5}, []float64{0, 1, 0, 1}, 0.5, 0},
		{"ties across classes", []float64{1, 1, 2, 2}, []float64{0, 1, 0, 1}, 0.5, 0},
		{"one tie", []float64{1, 2, 2, 3}, []float64{0, 0, 1, 1}, 0.875, 0.5},
		{"infinite", []float64{math.Inf(-1), 0, math.Inf(1)}, []float64{0, 1, 1}, 1, 1},
		{"unbalanced", []float64{.1, .2, .3, .4, .5, .6}, []float64{0, 1, 0, 0, 1, 0}, 0.5, 0.25},
	} {
		auc, err := AUC(c.scores, c.labels)
		ks, err2 := KS(c.scores, c.labels)
		if err != nil || err2 != nil {
			t.Fatalf("%s: %v %v", c.name, err, err2)
		}
		if math.Abs(auc-c.auc) > 1e-15 || math.Abs(ks-c.ks) > 1e-15 {
			t.Errorf("%s: AUC %v KS %v, want %v and %v", c.name, auc, ks, c.auc, c.ks)
		}
	}
}

// Many ties: counting all pairs and all thresholds must give the same.
func TestAgainstCounting(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n := 2 + r.IntN(40)
		s, y := make([]float64, n), make([]float64, n)
		for i := range s {
			s[i], y[i] = float64(r.IntN(8)), float64(r.IntN(2))
		}
		y[0], y[1] = 0, 1
		var pairs, won, ks float64
		for i := range s {
			var b, g, B, G float64
			for j := range s {
				if y[i] == 1 && y[j] == 0 {
					pairs++
					switch {
					case s[i] > s[j]:
						won++
					case s[i] == s[j]:
						won += .5
					}
				}
				B, G = B+y[j], G+1-y[j]
				if s[j] >= s[i] {
					b, g = b+y[j], g+1-y[j]
				}
			}
			ks = max(ks, b/B-g/G)
		}
		auc, _ := AUC(s, y)
		got, _ := KS(s, y)
		if math.Abs(auc-won/pairs) > 1e-12 || math.Abs(got-ks) > 1e-12 {
			t.Fatalf("AUC %v want %v, KS %v want %v", auc, won/pairs, got, ks)
		}
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		s, y []float64
		want error
	}{
		{[]float64{1}, []float64{1, 0}, ErrLength},
		{[]float64{1, 2}, []float64{1, 1}, ErrOneClass},
		{nil, nil, ErrOneClass},
		{[]float64{1, 2}, []float64{1, 2}, ErrLabel},
		{[]float64{1, math.NaN()}, []float64{1, 0}, ErrNaN},
	} {
		if _, err := AUC(c.s, c.y); !errors.Is(err, c.want) {
			t.Errorf("AUC: %v, want %v", err, c.want)
		}
		if _, err := KS(c.s, c.y); !errors.Is(err, c.want) {
			t.Errorf("KS: %v, want %v", err, c.want)
		}
	}
}
