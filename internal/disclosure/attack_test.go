package disclosure

import (
	"math/big"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize/convex/lp"
)

// A recipient who attacks: it has the mask, the released values and the
// equations, and knows that counts are not negative.

// table is the cells of a table with margins over every subset of its
// dimensions; the last place of each dimension is the sum over it.
type table struct {
	dims []int // categories
	n    int
	eqs  []Equation
}

func newTable(dims ...int) *table {
	t := &table{dims: dims, n: 1}
	strides := make([]int, len(dims))
	for d := len(dims) - 1; d >= 0; d-- {
		strides[d] = t.n
		t.n *= dims[d] + 1
	}
	for c := range t.n {
		for d, s := range strides {
			if c/s%(dims[d]+1) == dims[d] {
				e := Equation{Total: c}
				for k := dims[d]; k > 0; k-- {
					e.Parts = append(e.Parts, c-k*s)
				}
				t.eqs = append(t.eqs, e)
			}
		}
	}
	return t
}

// base reports whether a cell is no margin.
func (t *table) base(c int) bool {
	for d := len(t.dims) - 1; d >= 0; d-- {
		if c%(t.dims[d]+1) == t.dims[d] {
			return false
		}
		c /= t.dims[d] + 1
	}
	return true
}

// fill adds up the margins of values, of which the base cells are set. The
// equations of the last dimension come first at each total, so that repeating
// them as often as there are dimensions is enough.
func (t *table) fill(values []int64) {
	for range t.dims {
		for _, e := range t.eqs {
			values[e.Total] = 0
			for _, p := range e.Parts {
				values[e.Total] += values[p]
			}
		}
	}
}

// solveExactly returns the withheld cells whose values a recipient computes by
// elimination over the rationals, and the values.
func solveExactly(values []int64, mask []bool, eqs []Equation) map[int]*big.Rat {
	var hidden []int
	at := make(map[int]int)
	for c, h := range mask {
		if h {
			at[c] = len(hidden)
			hidden = append(hidden, c)
		}
	}
	var rows [][]*big.Rat // coefficients of hidden cells, and the right-hand side
	for _, e := range eqs {
		row := make([]*big.Rat, len(hidden)+1)
		for k := range row {
			row[k] = new(big.Rat)
		}
		put := func(c int, sign int64) {
			if mask[c] {
				row[at[c]].SetInt64(sign)
			} else {
				row[len(hidden)].Sub(row[len(hidden)], new(big.Rat).SetInt64(sign*values[c]))
			}
		}
		put(e.Total, -1)
		for _, p := range e.Parts {
			put(p, 1)
		}
		rows = append(rows, row)
	}
	rank := 0
	for col := 0; col < len(hidden) && rank < len(rows); col++ {
		at := rank
		for at < len(rows) && rows[at][col].Sign() == 0 {
			at++
		}
		if at == len(rows) {
			continue
		}
		rows[rank], rows[at] = rows[at], rows[rank]
		inv := new(big.Rat).Inv(rows[rank][col])
		for k := range rows[rank] {
			rows[rank][k].Mul(rows[rank][k], inv)
		}
		for r := range rows {
			if r == rank || rows[r][col].Sign() == 0 {
				continue
			}
			f := new(big.Rat).Set(rows[r][col])
			for k := range rows[r] {
				if rows[rank][k].Sign() != 0 {
					rows[r][k].Sub(rows[r][k], new(big.Rat).Mul(f, rows[rank][k]))
				}
			}
		}
		rank++
	}
	found := make(map[int]*big.Rat)
	for _, row := range rows[:rank] {
		known := -1
		for k := range hidden {
			if row[k].Sign() != 0 {
				if known >= 0 {
					known = -1
					break
				}
				known = k
			}
		}
		if known >= 0 {
			found[hidden[known]] = row[len(hidden)]
		}
	}
	return found
}

// most is the largest value that a withheld cell can have, as a recipient
// computes it by linear programming; unbounded is reported as ok.
func most(values []int64, mask []bool, eqs []Equation, cell int) (bound float64, unbounded bool, err error) {
	var hidden []int
	at := make(map[int]int)
	for c, h := range mask {
		if h {
			at[c] = len(hidden)
			hidden = append(hidden, c)
		}
	}
	var a [][]float64
	var b []float64
	for _, e := range eqs {
		row := make([]float64, len(hidden))
		rhs, some := 0.0, false
		put := func(c int, sign float64) {
			if mask[c] {
				row[at[c]] = sign
				some = true
			} else {
				rhs -= sign * float64(values[c])
			}
		}
		put(e.Total, -1)
		for _, p := range e.Parts {
			put(p, 1)
		}
		if some {
			a, b = append(a, row), append(b, rhs)
		}
	}
	a, b = independent(a, b)
	if len(a) == 0 {
		return 0, true, nil
	}
	cost := make([]float64, len(hidden))
	cost[at[cell]] = -1
	flat := mat.NewDense(len(a), len(hidden), nil)
	for r := range a {
		flat.SetRow(r, a[r])
	}
	f, _, err := lp.Simplex(cost, flat, b, 1e-9, nil)
	if err == lp.ErrUnbounded {
		return 0, true, nil
	}
	return -f, false, err
}

// independent drops equations that follow from others; the library wants none.
func independent(a [][]float64, b []float64) ([][]float64, []float64) {
	var outA [][]float64
	var outB []float64
	var reduced [][]float64
	for r := range a {
		row := append([]float64(nil), a[r]...)
		for _, q := range reduced {
			lead := 0
			for q[lead] == 0 {
				lead++
			}
			if f := row[lead] / q[lead]; f != 0 {
				for k := range row {
					row[k] -= f * q[k]
					if row[k] < 1e-9 && row[k] > -1e-9 {
						row[k] = 0
					}
				}
			}
		}
		for _, v := range row {
			if v != 0 {
				reduced = append(reduced, row)
				outA, outB = append(outA, a[r]), append(outB, b[r])
				break
			}
		}
	}
	return outA, outB
}
