// Package span does linear algebra on the equations of tables: which columns of
// a sparse matrix with coefficients 1 and -1 depend on which. It computes modulo
// a prime of 31 bits, so what it says holds over the integers unless the prime
// divides a determinant; a caller to whom that matters holds a combination
// against the equations.
package span

import "slices"

// Prime is the modulus; products of two residues fit a word.
const Prime = 1<<31 - 1

// Term is a coefficient of a column: 1, or -1 where Minus is set.
type Term struct {
	Row   int32
	Minus bool
}

// Basis is a set of linearly independent columns, kept so that others can be
// expressed in them: transform times the column Pivot[r] is the unit vector of
// row r. It holds 8 bytes for each pair of rows that an elimination touches. The
// zero value is to be Reset.
type Basis struct {
	transform [][]uint64 // by columns; nil for that of the identity
	Pivot     []int      // the column of each row; -1 for none
	Target    []uint64   // transform times the column that was given to Reset
	touched   []int      // columns that are not nil
	scratch   []uint64
	Rank      int
}

// Reset empties the basis, for columns of a number of rows, and sets the column
// that Spanned asks about. It returns the steps it took.
func (b *Basis) Reset(rows int, target []Term) int64 {
	b.transform = slices.Grow(b.transform[:0], rows)[:rows]
	clear(b.transform)
	b.Pivot = slices.Grow(b.Pivot[:0], rows)[:rows]
	for r := range b.Pivot {
		b.Pivot[r] = -1
	}
	b.scratch = slices.Grow(b.scratch[:0], rows)[:rows]
	b.touched = b.touched[:0]
	b.Rank = 0
	b.Target = make([]uint64, rows)
	return b.Solve(target, b.Target) + int64(rows)
}

// Spanned reports whether the target is a combination of the basis.
func (b *Basis) Spanned() bool {
	for r, v := range b.Target {
		if v != 0 && b.Pivot[r] < 0 {
			return false
		}
	}
	return true
}

// Solve puts transform times a column in y, which must be all zero, and returns
// the steps it took.
func (b *Basis) Solve(column []Term, y []uint64) int64 {
	steps := int64(len(column))
	for _, e := range column {
		col := b.transform[e.Row]
		switch {
		case col == nil && e.Minus:
			y[e.Row] = sub(y[e.Row], 1)
		case col == nil:
			y[e.Row] = sub(y[e.Row], Prime-1)
		case e.Minus:
			for r, v := range col[:len(y)] {
				y[r] = sub(y[r], v)
			}
		default:
			for r, v := range col[:len(y)] {
				if v != 0 {
					y[r] = sub(y[r], Prime-v)
				}
			}
		}
		steps += int64(len(col))
	}
	return steps
}

// Add adds a column unless the basis spans it, and returns the steps.
func (b *Basis) Add(name int, column []Term) int64 {
	y := b.scratch
	clear(y)
	steps := b.Solve(column, y) + int64(len(y))
	row := -1
	for r, v := range y {
		if v != 0 && b.Pivot[r] < 0 {
			row = r
			break
		}
	}
	if row < 0 {
		return steps
	}
	inverse := Invert(y[row])
	var others []int
	for r, v := range y {
		if v != 0 && r != row {
			others = append(others, r)
		}
	}
	// step does to a column what makes y the unit vector of row.
	step := func(col []uint64) {
		v := col[row]
		if v == 0 {
			return
		}
		v = v * inverse % Prime
		for _, r := range others {
			col[r] = sub(col[r], y[r]*v%Prime)
		}
		col[row] = v
		steps += int64(len(others))
	}
	if b.transform[row] == nil {
		b.transform[row] = make([]uint64, len(b.Pivot))
		b.transform[row][row] = 1
		b.touched = append(b.touched, row)
	}
	for _, c := range b.touched {
		step(b.transform[c])
	}
	steps += int64(len(b.touched))
	step(b.Target)
	b.Pivot[row] = name
	b.Rank++
	return steps
}

// Ratio returns f with a = f·y in all rows without a pivot, where y is not zero
// in all of them.
func (b *Basis) Ratio(a, y []uint64) (f uint64, ok bool) {
	for r := range y {
		if b.Pivot[r] >= 0 {
			continue
		}
		switch {
		case (a[r] == 0) != (y[r] == 0):
			return 0, false
		case y[r] == 0:
		case !ok:
			f, ok = a[r]*Invert(y[r])%Prime, true
		case a[r] != f*y[r]%Prime:
			return 0, false
		}
	}
	return f, ok
}

// sub returns a - b.
func sub(a, b uint64) uint64 {
	if a >= b {
		return a - b
	}
	return a + Prime - b
}

// Invert returns 1/v.
func Invert(v uint64) uint64 {
	w := uint64(1)
	for e := Prime - 2; e > 0; e >>= 1 {
		if e&1 == 1 {
			w = w * v % Prime
		}
		v = v * v % Prime
	}
	return w
}

// Combination returns the rows of the matrix, with coefficients, that add up to
// the unit vector of row r's pivot over the columns of the basis.
func (b *Basis) Combination(r int) map[int]uint64 {
	c := make(map[int]uint64)
	for q, col := range b.transform {
		if col == nil {
			if q == r {
				c[q] = 1
			}
		} else if col[r] != 0 {
			c[q] = col[r]
		}
	}
	return c
}
