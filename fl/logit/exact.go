package logit

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// Exact is a logistic regression fitted in the clear.
type Exact struct {
	Weights    []float64
	Intercept  float64
	Iterations int
}

// Errors of fitting.
var (
	ErrOneClass = errors.New("logit: the training rows need labels of both classes")
	ErrLabel    = errors.New("logit: labels must be 0 or 1, none missing")
	ErrNoFit    = errors.New("logit: no finite optimum; raise l2")
)

// FitExact minimises Σ w_i·loss_i + l2/2·|weights|² over columns (column-major,
// finite, used as they are) by Newton's method, the intercept free. A nil
// weights weighs all rows 1. It is the yardstick of the private protocol and
// the label holder's model of its own columns.
func FitExact(columns [][]float64, y []float64, l2 float64, weights []float64) (Exact, error) {
	all := make([]bool, len(y))
	x := mat.NewDense(max(len(y), 1), len(columns)+1, nil)
	for i := range all {
		for j := range columns {
			if len(columns[j]) != len(y) {
				return Exact{}, errors.New("logit: columns and labels differ in length")
			}
			x.Set(i, j, columns[j][i])
		}
		x.Set(i, len(columns), 1)
	}
	return fitRows(x, y, l2, weights)
}

// fitRows is FitExact on rows whose last column is the intercept's.
func fitRows(x *mat.Dense, y []float64, l2 float64, weights []float64) (Exact, error) {
	if err := checkLabels(y); err != nil {
		return Exact{}, err
	}
	n, d := x.Dims()
	if weights != nil && len(weights) != n {
		return Exact{}, errors.New("logit: weights and labels differ in length")
	}
	weight := func(i int) float64 {
		if weights == nil {
			return 1
		}
		return weights[i]
	}
	objective := func(w *mat.VecDense) float64 {
		var z mat.VecDense
		z.MulVec(x, w)
		var f float64
		for i, label := range y {
			m := z.AtVec(i) * (1 - 2*label) // loss = log(1 + e^m)
			f += weight(i) * (max(m, 0) + math.Log1p(math.Exp(-math.Abs(m))))
		}
		for j := range d - 1 {
			f += l2 / 2 * w.AtVec(j) * w.AtVec(j)
		}
		return f
	}

	w := mat.NewVecDense(d, nil)
	best := objective(w)
	scaled, hessian := mat.NewDense(n, d, nil), mat.NewSymDense(d, nil)
	for it := 1; it <= 100; it++ {
		var z, gradient, step mat.VecDense
		z.MulVec(x, w)
		residual := mat.NewVecDense(n, nil)
		for i := range n {
			p := sigmoid(z.AtVec(i))
			residual.SetVec(i, weight(i)*(p-y[i]))
			root := math.Sqrt(weight(i) * p * (1 - p))
			for j, v := range x.RawRowView(i) {
				scaled.Set(i, j, root*v)
			}
		}
		gradient.MulVec(x.T(), residual)
		hessian.SymOuterK(1, scaled.T())
		for j := range d {
			ridge := 1e-10
			if j < d-1 {
				gradient.SetVec(j, gradient.AtVec(j)+l2*w.AtVec(j))
				ridge += l2
			}
			hessian.SetSym(j, j, hessian.At(j, j)+ridge)
		}
		var chol mat.Cholesky
		if !chol.Factorize(hessian) {
			return Exact{}, ErrNoFit
		}
		if err := chol.SolveVecTo(&step, &gradient); err != nil && math.IsInf(float64(chol.Cond()), 1) {
			return Exact{}, fmt.Errorf("%w: %w", ErrNoFit, err)
		}
		// Newton's step overshoots on nearly separable rows: halve it until the
		// objective falls.
		decrement, done := mat.Dot(&gradient, &step), false
		for t := 1.0; ; t /= 2 {
			var next mat.VecDense
			next.AddScaledVec(w, -t, &step)
			if f := objective(&next); f <= best+1e-12*math.Abs(best) || t < 1e-6 {
				done = decrement <= 1e-12*(1+math.Abs(f))
				w.CopyVec(&next)
				best = f
				break
			}
		}
		if done {
			e := Exact{Intercept: w.AtVec(d - 1), Iterations: it}
			e.Weights = append(e.Weights, w.RawVector().Data[:d-1]...)
			for _, v := range append(e.Weights, e.Intercept) {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					return Exact{}, ErrNoFit
				}
			}
			return e, nil
		}
	}
	return Exact{}, ErrNoFit
}

// Scores returns the log-odds of every row of columns.
func (e Exact) Scores(columns [][]float64) []float64 {
	var n int
	if len(columns) > 0 {
		n = len(columns[0])
	}
	z := make([]float64, n)
	for i := range z {
		z[i] = e.Intercept
		for j, w := range e.Weights {
			z[i] += w * columns[j][i]
		}
	}
	return z
}

// InTheClear is the whole job on pooled raw columns (column-major, NaN for
// missing): scale by the rows that train, fit exactly, and score the others.
// It returns the held-out rows' log-odds and labels. A demonstration compares
// the private result with it.
func InTheClear(columns [][]float64, y []float64, train []bool, p Params, weight []float64) (scores, labels []float64, err error) {
	fit, held, _ := design(columns, train, p.Clip, true)
	if fit == nil {
		return nil, nil, ErrOneClass
	}
	yFit, yHeld := pick(y, train)
	if err := checkLabels(yFit); err != nil {
		return nil, nil, err
	}
	wFit, _ := pick(weight, train)
	w, err := rowWeights(wFit, yFit, p.ClassWeight)
	if err != nil {
		return nil, nil, err
	}
	e, err := fitRows(fit, yFit, p.L2, w)
	if err != nil || held == nil {
		return nil, nil, err
	}
	return dot(held, append(e.Weights, e.Intercept)), yHeld, nil
}

// dot returns the product of every row with w.
func dot(rows *mat.Dense, w []float64) []float64 {
	var z mat.VecDense
	z.MulVec(rows, mat.NewVecDense(len(w), w))
	return z.RawVector().Data
}

// checkLabels wants 0 and 1, both present.
func checkLabels(y []float64) error {
	var seen [2]bool
	for _, v := range y {
		if v != 0 && v != 1 {
			return ErrLabel
		}
		seen[int(v)] = true
	}
	if !seen[0] || !seen[1] {
		return ErrOneClass
	}
	return nil
}
