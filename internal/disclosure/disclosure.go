// Package disclosure decides what of a table of statistics may leave: which
// cells are withheld because they stand on too few units, on too few providers
// or mostly on one unit, which others must go with them so that nothing is
// given back by the margins, and how values are rounded. The rules themselves
// are in package rules; docs/disclosure.md says what each protects against and
// what none does.
//
// Everything here is a pure function of its arguments in integers, so that
// several gates that see the same counts reach the same mask on any machine.
// Nothing is constant-time: the counts are known to whoever calls.
package disclosure

import (
	"errors"
	"fmt"
)

// ErrTable is wrapped where counts or equations cannot be those of a table.
var ErrTable = errors.New("disclosure: not the counts of a table")

// MaxCells is the largest number of cells of a table, margins included.
const MaxCells = 1 << 20

// Count is what the gates know of a cell, added up over all providers. Margins
// are cells, too.
type Count struct {
	Units     int64 // how many units (persons, enterprises) it stands on
	Providers int64 // how many providers have a unit in it
	Flags     int64 // how many providers' own rules fail in it, see Flags and package history
}

// Equation says that cell Total is the sum of cells Parts. A recipient knows
// all equations.
type Equation struct {
	Total int
	Parts []int
}

// check refuses what no table has. Units need not add up, since one unit can
// be in several cells, but no part has more of them than its total.
func check(cells []Count, eqs []Equation) error {
	if len(cells) > MaxCells {
		return fmt.Errorf("%w: %d cells, at most %d", ErrTable, len(cells), MaxCells)
	}
	for i, c := range cells {
		if c.Units < 0 || c.Units > maxUnits || c.Providers < 0 || c.Flags < 0 {
			return fmt.Errorf("%w: cell %d has a count out of range", ErrTable, i)
		}
	}
	seen := make([]int, len(cells)) // the last equation that named the cell, from 1
	entries := 0
	for k, e := range eqs {
		if e.Total < 0 || e.Total >= len(cells) || len(e.Parts) == 0 {
			return fmt.Errorf("%w: equation %d", ErrTable, k)
		}
		seen[e.Total] = k + 1
		for _, p := range e.Parts {
			if p < 0 || p >= len(cells) || seen[p] == k+1 {
				return fmt.Errorf("%w: equation %d", ErrTable, k)
			}
			seen[p] = k + 1
			if cells[p].Units > cells[e.Total].Units {
				return fmt.Errorf("%w: a part of equation %d has more units than its total", ErrTable, k)
			}
		}
		if entries += 1 + len(e.Parts); entries > maxEntries {
			return fmt.Errorf("%w: the equations name more than %d cells", ErrTable, maxEntries)
		}
	}
	return nil
}

// Bounds of what Suppress takes.
const (
	maxUnits   = 1 << 48
	maxEntries = 1 << 24
)
