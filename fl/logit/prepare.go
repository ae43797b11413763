package logit

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// Scaling turns a column's raw values into what the model multiplies: missing
// values become Fill, then the mean is taken off and the result divided by the
// standard deviation, then clipped. All four numbers come from the owner's
// training rows alone.
type Scaling struct {
	Fill float64 `json:"fill"` // median of the training rows
	Mean float64 `json:"mean"` // after filling
	SD   float64 `json:"sd"`   // population; 0 marks a constant column, scaled to 0
	Clip float64 `json:"clip"` // in standard deviations; 0 for none
}

// FitScaling learns a column's scaling from its training rows, NaN where a
// value is missing.
func FitScaling(train []float64, clip float64) Scaling {
	s := Scaling{Clip: clip}
	seen := make([]float64, 0, len(train))
	for _, v := range train {
		if !math.IsNaN(v) {
			seen = append(seen, v)
		}
	}
	if len(seen) == 0 {
		return s
	}
	slices.Sort(seen)
	if m := len(seen) / 2; len(seen)%2 == 1 {
		s.Fill = seen[m]
	} else {
		s.Fill = seen[m-1]/2 + seen[m]/2 // halves first: the sum may overflow
	}
	n := float64(len(train))
	for _, v := range train {
		s.Mean += s.filled(v) / n
	}
	var square float64
	for _, v := range train {
		d := s.filled(v) - s.Mean
		square += d * d / n
	}
	// A constant column's mean is off by rounding, and so is its deviation.
	if sd := math.Sqrt(square); sd > 1e-12*math.Abs(s.Mean) && !math.IsInf(sd, 0) && seen[0] != seen[len(seen)-1] {
		s.SD = sd
	}
	return s
}

func (s Scaling) filled(v float64) float64 {
	if math.IsNaN(v) {
		return s.Fill
	}
	return v
}

// Apply returns the scaled value of v.
func (s Scaling) Apply(v float64) float64 {
	if s.SD == 0 {
		return 0
	}
	z := (s.filled(v) - s.Mean) / s.SD
	if s.Clip > 0 {
		z = max(-s.Clip, min(s.Clip, z))
	}
	return z
}

// design scales columns (column-major, raw) into rows, by scalings learnt from
// the rows that train, and appends a column of ones where ones is set. It
// returns the training and the held-out rows, either nil where there are none.
func design(columns [][]float64, train []bool, clip float64, ones bool) (fit, held *mat.Dense, scalings []Scaling) {
	d := len(columns)
	if ones {
		d++
	}
	n := 0
	for _, t := range train {
		if t {
			n++
		}
	}
	if n > 0 {
		fit = mat.NewDense(n, d, nil)
	}
	if n < len(train) {
		held = mat.NewDense(len(train)-n, d, nil)
	}
	for j, column := range columns {
		seen := make([]float64, 0, n)
		for i, v := range column {
			if train[i] {
				seen = append(seen, v)
			}
		}
		s := FitScaling(seen, clip)
		scalings = append(scalings, s)
		var a, b int
		for i, v := range column {
			if train[i] {
				fit.Set(a, j, s.Apply(v))
				a++
			} else {
				held.Set(b, j, s.Apply(v))
				b++
			}
		}
	}
	if ones {
		for _, m := range []*mat.Dense{fit, held} {
			if m == nil {
				continue
			}
			for i := range m.RawMatrix().Rows {
				m.Set(i, d-1, 1)
			}
		}
	}
	return fit, held, scalings
}

// pick returns the values of the rows that train, and of the others.
func pick(v []float64, train []bool) (fit, held []float64) {
	for i, x := range v {
		if train[i] {
			fit = append(fit, x)
		} else {
			held = append(held, x)
		}
	}
	return fit, held
}

// ErrRange is returned when a party's own columns do not fit the fixed-point
// format; nothing has been sent by then.
var ErrRange = errors.New("logit: columns out of range")

// matrix is a party's training columns in whitened coordinates, quantised.
//
// With X the n scaled rows and G = X'X/n + 4λ/n·D = L·L' (D keeps the
// intercept free of λ), the rows become x·L'^-1 and the weights u = L'w. Then
// no direction of a party's own columns is steeper than another, and plain
// descent with momentum needs about 14 steps. It takes no word from the peer.
//
// Memory: 8 bytes a value.
type matrix struct {
	rows, cols int
	score      []int32       // row-major, units of 2^-xBits
	grad       []int32       // the same times κ, see fixedPoint
	ridge      []int64       // cols × cols: λκ·L^-1·D·L'^-1 in units of gradient over weight
	back       *mat.TriDense // L^-1
}

func (m *matrix) at(values []int32, i int) []int32 { return values[i*m.cols : (i+1)*m.cols] }

// whiten makes the matrix of rows; the last column is free of the penalty
// where free is set.
func whiten(rows *mat.Dense, free bool, l2 float64, fp fixedPoint) (*matrix, error) {
	n, d := rows.Dims()
	gram := mat.NewSymDense(d, nil)
	gram.SymOuterK(1/float64(n), rows.T())
	penalised := d
	if free {
		penalised--
	}
	for j := range d {
		// The second term keeps exact copies and constants solvable when λ is 0.
		v := gram.At(j, j) + 1e-9
		if j < penalised {
			v += 4 * l2 / float64(n)
		}
		gram.SetSym(j, j, v)
	}
	var chol mat.Cholesky
	if !chol.Factorize(gram) {
		return nil, fmt.Errorf("%w: the columns are too nearly dependent; raise l2", ErrRange)
	}
	var lower mat.TriDense
	chol.LTo(&lower)
	m := &matrix{rows: n, cols: d, back: mat.NewTriDense(d, mat.Lower, nil)}
	if err := m.back.InverseTri(&lower); err != nil {
		return nil, fmt.Errorf("%w: the columns are too nearly dependent; raise l2", ErrRange)
	}

	m.score, m.grad = make([]int32, n*d), make([]int32, n*d)
	var white mat.Dense
	white.Mul(rows, m.back.T())
	for i := range n {
		for j, v := range white.RawRowView(i) {
			if !(math.Abs(v) <= maxWhite) { // false for NaN too
				return nil, fmt.Errorf("%w: a whitened value exceeds %d; set or lower clip", ErrRange, int(maxWhite))
			}
			m.score[i*d+j] = int32(math.Round(v * (1 << xBits)))
			m.grad[i*d+j] = int32(math.Round(v * fp.kappa * (1 << xBits)))
		}
	}

	m.ridge = make([]int64, d*d)
	var ridge mat.Dense
	penalty := mat.NewDiagDense(d, nil)
	for j := range penalised {
		penalty.SetDiag(j, l2*fp.kappa*math.Exp2(float64(fp.ridgeShift)))
	}
	ridge.Product(m.back, penalty, m.back.T())
	for i := range d {
		for j := range d {
			v := ridge.At(i, j)
			if !(math.Abs(v) < 1<<40) {
				return nil, fmt.Errorf("%w: penalty out of range", ErrRange)
			}
			m.ridge[i*d+j] = int64(math.Round(v))
		}
	}
	return m, nil
}

// unwhiten turns weights of whitened columns into weights of scaled ones.
func (m *matrix) unwhiten(u []float64) []float64 {
	var w mat.VecDense
	w.MulVec(m.back.T(), mat.NewVecDense(len(u), u))
	return w.RawVector().Data
}

// normaliseWeights divides row weights by their mean.
func normaliseWeights(w []float64) error {
	var sum float64
	for _, v := range w {
		if !(v > 0) || math.IsInf(v, 0) {
			return fmt.Errorf("%w: a row weight is missing, zero or negative", ErrRange)
		}
		sum += v
	}
	mean := sum / float64(len(w))
	for i := range w {
		w[i] /= mean
		if !(w[i] <= maxRelativeWeight) {
			return fmt.Errorf("%w: a row weighs more than %d times the mean", ErrRange, maxRelativeWeight)
		}
	}
	return nil
}

// rowWeights combines the weight column with the class weights; nil means that
// all rows weigh 1.
func rowWeights(column, y []float64, classWeight string) ([]float64, error) {
	if column == nil && classWeight == ClassWeightNone {
		return nil, nil
	}
	w := make([]float64, len(y))
	for i := range w {
		w[i] = 1
		if column != nil {
			w[i] = column[i]
		}
	}
	if classWeight == ClassWeightBalanced {
		var total [2]float64
		for i, v := range y {
			total[int(v)] += w[i]
		}
		for i, v := range y {
			w[i] /= total[int(v)]
		}
	}
	if err := normaliseWeights(w); err != nil {
		return nil, err
	}
	return w, nil
}
