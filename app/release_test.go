package app

import (
	"testing"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
)

// A person who approves reads every rule that is stated, and none that is not.
func TestReleaseTerms(t *testing.T) {
	for want, s := range map[string]rules.Set{
		"": {},
		"cells of at least 20 units, of at least 4 parties, the 2 largest units at most 85.5% of a cell, no unit estimated to within 10%, " +
			"rounded to multiples of 5, noise of epsilon 0.5, delta 1e-06, epsilon of all releases at most 2, delta of all releases at most 1e-05": {
			MinUnits: 20, MinProviders: 4, DominanceUnits: 2, DominancePercent: 85.5, PPercent: 10, RoundTo: 5,
			Epsilon: 0.5, Delta: 1e-6, BudgetEpsilon: 2, BudgetDelta: 1e-5,
		},
		"of at least 2 parties, epsilon of all releases at most 2": {MinProviders: 2, BudgetEpsilon: 2},
	} {
		if got := releaseTerms(s); got != want {
			t.Errorf("%+v reads %q, want %q", s, got, want)
		}
	}
}
