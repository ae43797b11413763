package logit

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// floatTwin is the algorithm without shares and without fixed point: the same
// descent in the same coordinates, with the given sigmoid. It returns both
// parties' weights and the length of every step.
func floatTwin(t testing.TB, a, b *mat.Dense, y, weights []float64, p Params, sigma func(float64) float64) (wa, wb, steps []float64) {
	t.Helper()
	n, da := a.Dims()
	_, db := b.Dims()
	fp, err := newFixedPoint(p.PeriodLog2, p.Step, n)
	if err != nil {
		t.Fatal(err)
	}
	ma, err := whiten(a, true, p.L2, fp)
	if err != nil {
		t.Fatal(err)
	}
	mb, err := whiten(b, false, p.L2, fp)
	if err != nil {
		t.Fatal(err)
	}
	x := mat.NewDense(n, da+db, nil)
	var ua, ub mat.Dense
	ua.Mul(a, ma.back.T())
	ub.Mul(b, mb.back.T())
	x.Augment(&ua, &ub)
	u, last := mat.NewVecDense(da+db, nil), mat.NewVecDense(da+db, nil)
	for range p.MaxIterations {
		var z, g mat.VecDense
		z.MulVec(x, u)
		for i := range n {
			w := 1.0
			if weights != nil {
				w = weights[i]
			}
			z.SetVec(i, w*(sigma(z.AtVec(i))-y[i]))
		}
		g.MulVec(x.T(), &z)
		ridge := func(m *matrix, from int) {
			scale := fp.kappa * math.Exp2(float64(fp.ridgeShift))
			for i := range m.cols {
				for k := range m.cols {
					g.SetVec(from+i, g.AtVec(from+i)+float64(m.ridge[i*m.cols+k])/scale*u.AtVec(from+k))
				}
			}
		}
		ridge(ma, 0)
		ridge(mb, da)
		next := mat.NewVecDense(da+db, nil)
		next.SubVec(u, last)
		next.ScaleVec(p.Momentum, next)
		next.AddVec(u, next)
		next.AddScaledVec(next, -p.Step/float64(n), &g)
		last.SubVec(next, u)
		steps = append(steps, mat.Norm(last, 2))
		last, u = u, next
	}
	raw := u.RawVector().Data
	return ma.unwhiten(raw[:da]), mb.unwhiten(raw[da:]), steps
}
