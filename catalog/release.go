package catalog

import (
	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
)

// ReleaseOf returns the rules that a request's limits state for released
// statistics; none where m is nil.
func ReleaseOf(m *catalogv1.ReleaseRules) rules.Set {
	return rules.Set{
		MinUnits: m.GetMinUnits(), MinProviders: m.GetMinProviders(),
		DominanceUnits: m.GetDominanceUnits(), DominancePercent: m.GetDominancePercent(), PPercent: m.GetPPercent(),
		RoundTo: m.GetRoundTo(),
		Epsilon: m.GetEpsilon(), Delta: m.GetDelta(), BudgetEpsilon: m.GetBudgetEpsilon(), BudgetDelta: m.GetBudgetDelta(), Unit: m.GetUnit(),
	}
}

// ReleaseMessage is the other way round: s as a request carries it, nil where it
// states nothing.
func ReleaseMessage(s rules.Set) *catalogv1.ReleaseRules {
	if s == (rules.Set{}) {
		return nil
	}
	return &catalogv1.ReleaseRules{
		MinUnits: s.MinUnits, MinProviders: s.MinProviders,
		DominanceUnits: s.DominanceUnits, DominancePercent: s.DominancePercent, PPercent: s.PPercent,
		RoundTo: s.RoundTo,
		Epsilon: s.Epsilon, Delta: s.Delta, BudgetEpsilon: s.BudgetEpsilon, BudgetDelta: s.BudgetDelta, Unit: s.Unit,
	}
}
