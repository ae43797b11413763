// Package rules is what grants, nodes and jobs say about the release of
// statistics: how many units a cell must stand on, how far one unit may
// dominate it, how values are rounded, and how much noise they carry. It holds
// the words and which of two is stricter; package disclosure applies them.
package rules

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// DefaultMinUnits is the fewest units a released cell stands on where nobody
// asks for another number.
const DefaultMinUnits = 10

// DefaultMinProviders is the fewest parties that contribute to a released cell
// where nobody asks for another number. With two, either can subtract its part.
const DefaultMinProviders = 3

// Set is one party's, grant's or job's rules. The zero value of a field says
// nothing; see [Strictest] and [Set.InForce].
type Set struct {
	// MinUnits is the fewest units (persons, enterprises) of a released cell.
	// It counts what Unit names, or what a job names where that is blank.
	MinUnits int64 `yaml:"min_units" json:"min_units,omitempty"`
	// MinProviders is the fewest parties that contribute to a released cell.
	MinProviders int64 `yaml:"min_providers" json:"min_providers,omitempty"`
	// DominanceUnits and DominancePercent are the (n,k) rule: a cell's n largest
	// units make up at most k percent of it. Of two parties' rules both apply
	// where they differ in n, so the stricter of each is taken: the larger n and
	// the smaller k.
	DominanceUnits   int64   `yaml:"dominance_units" json:"dominance_units,omitempty"`
	DominancePercent float64 `yaml:"dominance_percent" json:"dominance_percent,omitempty"`
	// PPercent is the p-percent rule: the second largest unit cannot estimate
	// the largest to within p percent of its value.
	PPercent float64 `yaml:"p_percent" json:"p_percent,omitempty"`
	// RoundTo is the base that released counts and sums are rounded to.
	RoundTo int64 `yaml:"round_to" json:"round_to,omitempty"`
	// Epsilon and Delta ask for noise: every release is differentially private
	// with at most these. An Epsilon of 0 asks for none; beside another, a Delta of
	// 0 is one.
	Epsilon float64 `yaml:"epsilon" json:"epsilon,omitempty"`
	Delta   float64 `yaml:"delta" json:"delta,omitempty"`
	// BudgetEpsilon and BudgetDelta bound the sum over all releases of a grant.
	BudgetEpsilon float64 `yaml:"budget_epsilon" json:"budget_epsilon,omitempty"`
	BudgetDelta   float64 `yaml:"budget_delta" json:"budget_delta,omitempty"`
	// Unit is the column that names the unit to be protected. Blank leaves the
	// choice to the job, which could then choose one that is different in each
	// row. Of two different ones Strictest makes a list, which no column is
	// called: no job satisfies both.
	Unit string `yaml:"unit" json:"unit,omitempty"`
}

// Bounds of what can be asked for.
const (
	maxUnits   = 1 << 40
	maxRound   = 1 << 40
	maxEpsilon = 100
	maxUnit    = 1 << 10 // bytes of Unit
)

// Fault is one field of a Set that cannot be.
type Fault struct {
	Field string // as in YAML: "min_units"
	Want  string
}

// Error implements error.
func (f Fault) Error() string { return f.Field + ": want " + f.Want }

// Validate reports every fault, each with the field's name.
func (s Set) Validate() error {
	var errs []error
	for _, f := range s.Faults() {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

// Faults returns what Validate reports, for readers that have a path of their own.
func (s Set) Faults() []Fault {
	var faults []Fault
	bad := func(field, want string) { faults = append(faults, Fault{field, want}) }
	whole := func(field string, v, most int64) {
		if v < 0 || v > most {
			bad(field, fmt.Sprintf("0 to %d", most))
		}
	}
	real := func(field string, v, most float64) {
		if math.IsNaN(v) || v < 0 || v > most {
			bad(field, fmt.Sprintf("0 to %g", most))
		}
	}
	whole("min_units", s.MinUnits, maxUnits)
	whole("min_providers", s.MinProviders, 1<<10)
	whole("dominance_units", s.DominanceUnits, 16)
	whole("round_to", s.RoundTo, maxRound)
	real("dominance_percent", s.DominancePercent, 100)
	real("p_percent", s.PPercent, 1000)
	real("epsilon", s.Epsilon, maxEpsilon)
	real("delta", s.Delta, 0.01)
	real("budget_epsilon", s.BudgetEpsilon, 100*maxEpsilon)
	real("budget_delta", s.BudgetDelta, 0.01)
	if (s.DominanceUnits == 0) != (s.DominancePercent == 0) {
		bad("dominance_units", "dominance_percent beside it, or neither")
	}
	if s.Delta > 0 && s.Epsilon == 0 {
		bad("epsilon", "a value beside delta")
	}
	if len(s.Unit) > maxUnit {
		bad("unit", fmt.Sprintf("the name of a column, of at most %d bytes", maxUnit))
	}
	return faults
}

// Strictest returns the rules that satisfy all of sets.
func Strictest(sets ...Set) Set {
	var r Set
	for _, s := range sets {
		r.MinUnits = max(r.MinUnits, s.MinUnits)
		r.MinProviders = max(r.MinProviders, s.MinProviders)
		r.DominanceUnits = max(r.DominanceUnits, s.DominanceUnits)
		r.DominancePercent = smaller(r.DominancePercent, s.DominancePercent)
		r.PPercent = max(r.PPercent, s.PPercent)
		r.RoundTo = coarser(r.RoundTo, s.RoundTo)
		switch {
		case s.Epsilon == 0: // asks for no noise
		case r.Epsilon == 0:
			r.Epsilon, r.Delta = s.Epsilon, s.Delta
		default:
			// A delta of 0 beside an epsilon is the strictest there is.
			r.Epsilon, r.Delta = min(r.Epsilon, s.Epsilon), min(r.Delta, s.Delta)
		}
		r.BudgetEpsilon = smaller(r.BudgetEpsilon, s.BudgetEpsilon)
		r.BudgetDelta = smaller(r.BudgetDelta, s.BudgetDelta)
		r.Unit = both(r.Unit, s.Unit)
	}
	return r
}

// InForce returns s with the defaults where it says nothing.
func (s Set) InForce() Set {
	if s.MinUnits == 0 {
		s.MinUnits = DefaultMinUnits
	}
	if s.MinProviders == 0 {
		s.MinProviders = DefaultMinProviders
	}
	return s
}

// unitSeparator stands between different units that rules name.
const unitSeparator = ", "

// both is the list of the units in two lists, sorted, each once.
func both(a, b string) string {
	if a == "" || a == b {
		return b
	}
	if b == "" {
		return a
	}
	units := append(strings.Split(a, unitSeparator), strings.Split(b, unitSeparator)...)
	slices.Sort(units)
	return strings.Join(slices.Compact(units), unitSeparator)
}

// smaller is the lesser of two bounds of which 0 is none.
func smaller(a, b float64) float64 {
	switch {
	case a == 0:
		return b
	case b == 0:
		return a
	}
	return min(a, b)
}

// coarser is a base whose multiples are multiples of both, or the larger one
// where that would be out of all proportion.
func coarser(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	if l := a / x; l <= maxRound/b {
		return l * b
	}
	return max(a, b)
}
