package app

import (
	"fmt"
	"strings"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
)

// releaseTerms says in words what rules ask of released statistics; "" where
// they ask for nothing.
func releaseTerms(s rules.Set) string {
	var terms []string
	term := func(stated bool, format string, a ...any) {
		if stated {
			terms = append(terms, fmt.Sprintf(format, a...))
		}
	}
	term(s.MinUnits > 0, "cells of at least %d units", s.MinUnits)
	term(s.MinProviders > 0, "of at least %d parties", s.MinProviders)
	term(s.Unit != "", "a unit being one %s", s.Unit)
	term(s.DominanceUnits > 0, "the %d largest units at most %g%% of a cell", s.DominanceUnits, s.DominancePercent)
	term(s.PPercent > 0, "no unit estimated to within %g%%", s.PPercent)
	term(s.RoundTo > 0, "rounded to multiples of %d", s.RoundTo)
	term(s.Epsilon > 0, "noise of epsilon %g", s.Epsilon)
	term(s.Delta > 0, "delta %g", s.Delta)
	term(s.BudgetEpsilon > 0, "epsilon of all releases at most %g", s.BudgetEpsilon)
	term(s.BudgetDelta > 0, "delta of all releases at most %g", s.BudgetDelta)
	return strings.Join(terms, ", ")
}
