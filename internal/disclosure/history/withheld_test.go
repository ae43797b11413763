package history

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

// rowsOf is what an attacker knows of releases, and what it would like to: for
// each query that is shown, and each that is withheld, the units in it, of which
// those that nothing tells apart are one.
func rowsOf(releases []Release, units int) (shown, withheld [][]int64) {
	for i := range releases {
		r := &releases[i]
		for q := range r.Queries() {
			cells := []int32{int32(q)}
			if q >= r.Cells {
				cells = r.Groups[q-r.Cells]
			}
			x := make([]int64, units)
			for _, m := range r.Members {
				if slices.Contains(cells, m.Cell) {
					x[m.Unit-1] = 1
				}
			}
			if r.shown(q) {
				shown = append(shown, x)
			} else if slices.Contains(x, 1) {
				withheld = append(withheld, x)
			}
		}
	}
	return shown, withheld
}

// echelon is rows that are combinations of others, each with a first entry that
// is 0 in all after it.
type echelon [][]*big.Rat

// reduce takes from a row what those before it span; nil if nothing is left.
func (e echelon) reduce(x []int64) []*big.Rat {
	v := make([]*big.Rat, len(x))
	for k := range x {
		v[k] = new(big.Rat).SetInt64(x[k])
	}
	for _, row := range e {
		at := slices.IndexFunc(row, func(y *big.Rat) bool { return y.Sign() != 0 })
		if v[at].Sign() == 0 {
			continue
		}
		f := new(big.Rat).Quo(v[at], row[at])
		for k, y := range row {
			if y.Sign() != 0 {
				v[k].Sub(v[k], new(big.Rat).Mul(f, y))
			}
		}
	}
	if !slices.ContainsFunc(v, func(y *big.Rat) bool { return y.Sign() != 0 }) {
		return nil
	}
	return v
}

func spanOf(rows [][]int64) echelon {
	var e echelon
	for _, x := range rows {
		if v := e.reduce(x); v != nil {
			e = append(e, v)
		}
	}
	return e
}

// What a request withholds has its reason, which the node need not know: no
// later request gives it back, unless it shows it as a cell of its own.
func TestNoSequenceGivesBackWhatIsWithheld(t *testing.T) {
	kept, flagged, found := 0, 0, 0
	for seed := range uint64(80) {
		rng := rand.New(rand.NewPCG(seed, 31))
		units := 20 + rng.IntN(40)
		attr := make([][3]int, units)
		for i := range attr {
			attr[i] = [3]int{rng.IntN(3), rng.IntN(4), rng.IntN(2)}
		}
		var past []Release
		for k := range 6 {
			cells, by, drop := 1+rng.IntN(6), rng.IntN(3), rng.IntN(3) == 0
			r := Release{ID: fmt.Sprint(k), Cells: cells}
			if k > 0 { // what the first gives back by itself is the gates' matter
				r.Groups = [][]int32{all(cells)}
			}
			for i, a := range attr {
				if !drop || rng.IntN(5) > 0 {
					r.Members = append(r.Members, Member{Unit: uint64(i + 1), Cell: int32((a[by] + a[2]) % cells)})
				}
			}
			flags, err := Compare(past, r, 2)
			if err != nil {
				t.Fatal(err)
			}
			r.Shown = make([]bool, len(flags))
			for q, f := range flags {
				r.Shown[q] = !f && rng.IntN(4) > 0
			}
			open, _ := rowsOf(past, units)
			before := spanOf(open)
			gives := func() int {
				shown, withheld := rowsOf(append(slices.Clone(past), r), units)
				all, n := spanOf(shown), 0
				for _, x := range withheld {
					if all.reduce(x) == nil && before.reduce(x) != nil && !slices.ContainsFunc(shown, func(y []int64) bool { return slices.Equal(x, y) }) {
						n++
					}
				}
				return n
			}
			if k > 0 && gives() > 0 {
				found++
			}
			for k > 0 {
				more, err := Compare(past, r, 2)
				if err != nil {
					t.Fatal(err)
				}
				some := false
				for q, f := range more {
					if f && r.Shown[q] {
						r.Shown[q], some = false, true
						flagged++
					}
				}
				if !some {
					break
				}
			}
			if n := gives(); k > 0 && n > 0 {
				t.Fatalf("seed %d, request %d: %d withheld cells follow", seed, k, n)
			}
			for _, s := range r.Shown {
				if s {
					kept++
				}
			}
			past = append(past, r)
		}
	}
	t.Logf("%d requests would give something back; %d cells are shown, %d flagged for what is withheld", found, kept, flagged)
	if found == 0 || kept == 0 {
		t.Error("nothing to find, or nothing is shown")
	}
}

// A cell with units enough, withheld because they are those of one party or
// mostly one unit, does not follow from a total asked for before or after.
func TestWithheldCellOfManyUnits(t *testing.T) {
	cells := Release{ID: "a", Cells: 3, Dims: []Dim{{1, 3}}}
	total := Release{ID: "b", Cells: 1, Dims: []Dim{}}
	for u := range uint64(150) {
		cells.Members = append(cells.Members, Member{Unit: u + 1, Cell: int32(u % 3)})
		total.Members = append(total.Members, Member{Unit: u + 1})
	}
	cells.Shown = []bool{false, true, true}
	flags, err := Compare([]Release{cells}, total, 10)
	if err != nil || !flags[0] {
		t.Errorf("the total is shown, and less two cells is the third: %v, %v", flags, err)
	}
	flags, err = Compare([]Release{total}, cells, 10)
	if err != nil || !slices.Contains(flags[1:], true) {
		t.Errorf("both cells are shown, and with the total before they give the third: %v, %v", flags, err)
	}
	cells.Shown = []bool{false, true, false}
	if flags, err = Compare([]Release{cells}, total, 10); err != nil || flags[0] {
		t.Errorf("a total is flagged that gives nothing back: %v, %v", flags, err)
	}
}

// A few units that are in both cells of a table with a total do not make a
// repetition of it tell more.
func TestUnitsInSeveralCellsRepeat(t *testing.T) {
	r := Release{ID: "a", Cells: 2, Groups: [][]int32{{0, 1}}, Dims: []Dim{{1, 2}}}
	for u := range uint64(100) {
		if u < 3 {
			r.Members = append(r.Members, Member{Unit: u + 1, Cell: 0}, Member{Unit: u + 1, Cell: 1})
		} else {
			r.Members = append(r.Members, Member{Unit: u + 1, Cell: int32(u % 2)})
		}
	}
	if flags, err := Compare([]Release{r}, r, 10); err != nil || slices.Contains(flags, true) {
		t.Errorf("%v, %v", flags, err)
	}
}
