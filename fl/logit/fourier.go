package logit

import (
	"errors"
	"math"

	"gonum.org/v1/gonum/mat"
)

// sineSeries returns a_1 … a_terms such that 1/2 + Σ a_j sin(2πjz/period) is
// close to the sigmoid of z.
//
// A sigmoid cut off at half the period would ring: the series jumps from 1 to
// 0 there. So the fit is exact (weight 1) only on the inner 5/8 of the half
// period, where scores live, and beyond it follows a taper to 1/2 with a small
// weight: enough to keep the series within [0, 1] or nearly so everywhere, and
// with it every residual, whatever the score.
func sineSeries(period float64, terms int) ([]float64, error) {
	const (
		points      = 4000
		taperWeight = 0.03
	)
	half := period / 2
	inner := half * 5 / 8
	rows := 2 * (points + 1)
	design, want := mat.NewDense(rows, terms, nil), mat.NewVecDense(rows, nil)
	put := func(i int, z, weight, v float64) {
		for j := range terms {
			design.Set(i, j, weight*math.Sin(2*math.Pi*float64(j+1)*z/period))
		}
		want.SetVec(i, weight*v)
	}
	for i := range points + 1 {
		at := float64(i) / points
		put(i, inner*at, 1, sigmoid(inner*at)-0.5)
		put(points+1+i, inner+(half-inner)*at, taperWeight, 0.5*math.Cos(math.Pi/2*at))
	}
	normal := mat.NewSymDense(terms, nil)
	normal.SymOuterK(1, design.T())
	var right mat.VecDense
	right.MulVec(design.T(), want)
	for j := range terms {
		normal.SetSym(j, j, normal.At(j, j)+1e-9)
	}
	var chol mat.Cholesky
	if !chol.Factorize(normal) {
		return nil, errors.New("logit: sine series: normal equations are singular")
	}
	var a mat.VecDense
	if err := chol.SolveVecTo(&a, &right); err != nil {
		return nil, errors.New("logit: sine series: normal equations are ill-conditioned")
	}
	return a.RawVector().Data, nil
}

// series evaluates 1/2 + Σ a_j sin(2πjz/period).
func series(a []float64, period, z float64) float64 {
	v := 0.5
	for j, c := range a {
		v += c * math.Sin(2*math.Pi*float64(j+1)*z/period)
	}
	return v
}

func sigmoid(z float64) float64 { return 1 / (1 + math.Exp(-z)) }
