package disclosure

import (
	"math"
	"math/big"
	"math/bits"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
)

// Largest is what one provider knows of a cell for one measure that is a sum:
// the total of the absolute contributions of its units, and the largest of
// them. It has 16 bytes and 8 for each contribution kept.
type Largest struct {
	hi, lo uint64   // the total
	top    []uint64 // descending
}

// Keep returns how many contributions of a cell the rules look at; 0 if no rule
// of dominance is in force.
func Keep(r rules.Set) int {
	keep := int(r.DominanceUnits)
	if r.PPercent > 0 {
		keep = max(keep, 2)
	}
	return keep
}

// Add counts one unit, with the absolute value of all it contributes to the
// cell, and keeps the largest keep contributions.
func (l *Largest) Add(contribution uint64, keep int) {
	var carry uint64
	l.lo, carry = bits.Add64(l.lo, contribution, 0)
	l.hi += carry
	if len(l.top) < keep {
		l.top = append(l.top, 0)
	} else if keep == 0 || contribution <= l.top[keep-1] {
		return
	}
	i := len(l.top) - 1
	for ; i > 0 && l.top[i-1] < contribution; i-- {
		l.top[i] = l.top[i-1]
	}
	l.top[i] = contribution
}

// millionths is what percentages are counted in, so that comparisons are exact.
const millionths = 1_000_000

// Flags returns the cells in which this provider's own part breaks a rule of
// dominance, for any of the measures. Each measure has one Largest per cell; a
// cell without contributions is never flagged.
//
// That no provider flags a cell suffices for the joint cell. Let X be a cell's
// total and c(u) the joint contribution of unit u, a and b the largest two; the
// index i is the part of provider i, in which a(i) and b(i) are the largest two.
//
//	X - c(a) - c(b) = Σ X(i) - c(a,i) - c(b,i) ≥ Σ X(i) - a(i) - b(i) ≥ Σ p·a(i) ≥ p·c(a)
//
// and any n units have Σ c(u,i) ≤ the n largest of provider i ≤ k·X(i), summed
// over i at most k·X. Both hold also where a unit is known to several
// providers. The converse fails: a provider with one or two units in a cell
// flags it however large the other parts are.
func Flags(r rules.Set, measures ...[]Largest) []bool {
	n := 0
	for _, m := range measures {
		n = max(n, len(m))
	}
	flags := make([]bool, n)
	k := big.NewInt(int64(math.Floor(r.DominancePercent * millionths)))
	p := big.NewInt(int64(math.Ceil(r.PPercent * millionths)))
	for _, m := range measures {
		for i := range m {
			if !flags[i] {
				flags[i] = r.DominanceUnits > 0 && m[i].dominated(int(r.DominanceUnits), k) ||
					r.PPercent > 0 && m[i].estimated(p)
			}
		}
	}
	return flags
}

var hundred = big.NewInt(100 * millionths)

// total is the sum of all contributions.
func (l *Largest) total() *big.Int {
	t := new(big.Int).SetUint64(l.hi)
	return t.Lsh(t, 64).Or(t, new(big.Int).SetUint64(l.lo))
}

// first is the sum of the n largest contributions.
func (l *Largest) first(n int) *big.Int {
	s := new(big.Int)
	for _, v := range l.top[:min(n, len(l.top))] {
		s.Add(s, new(big.Int).SetUint64(v))
	}
	return s
}

// dominated reports whether the n largest make up more than k millionths of a
// percent of the total.
func (l *Largest) dominated(n int, k *big.Int) bool {
	part, whole := l.first(n), l.total()
	return part.Mul(part, hundred).Cmp(whole.Mul(whole, k)) > 0
}

// estimated reports whether the second largest unit can bound the largest to
// within p millionths of a percent, by subtracting itself from the total.
func (l *Largest) estimated(p *big.Int) bool {
	rest := l.total()
	rest.Sub(rest, l.first(2))
	most := l.first(1)
	return rest.Mul(rest, hundred).Cmp(most.Mul(most, p)) < 0
}
