package logit

import (
	"math"
	"testing"
)

// The series must follow the sigmoid where scores live and stay bounded where
// they should not be; Cost and accuracy of the protocol page rest on it.
func TestSineSeries(t *testing.T) {
	for _, c := range []struct {
		log2, terms int
		err, bound  float64
	}{
		{5, 8, 0.004, 0.52}, {6, 16, 0.004, 0.53}, {7, 24, 0.02, 0.53}, {7, 32, 0.02, 0.53}, {4, 8, 0.01, 0.53},
	} {
		period := math.Exp2(float64(c.log2))
		a, err := sineSeries(period, c.terms)
		if err != nil {
			t.Fatal(err)
		}
		var worst, high float64
		for i := range 20001 {
			z := (float64(i)/20000 - 0.5) * period
			f := series(a, period, z)
			high = max(high, math.Abs(f-0.5))
			if math.Abs(z) <= period/2*5/8 {
				worst = max(worst, math.Abs(f-sigmoid(z)))
			}
		}
		t.Logf("period 2^%d, %d terms: error %.2g, |F-1/2| at most %.3f", c.log2, c.terms, worst, high)
		if worst > c.err || high > c.bound {
			t.Errorf("period 2^%d, %d terms: error %g > %g or bound %g > %g", c.log2, c.terms, worst, c.err, high, c.bound)
		}
	}
}
