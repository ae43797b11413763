package he

import (
	"fmt"
	"math"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
)

const (
	// noiseBound is the largest absolute value of an error coefficient.
	noiseBound = ringq.NoiseBound
	// noiseVariance of an error coefficient: half of noiseBound, the variance
	// of a sum of 42 independent ±1/2.
	noiseVariance = noiseBound / 2.0
	// noiseTail: a sum Σ e_i·x_i of errors exceeds noiseTail standard
	// deviations with probability at most 2·exp(-noiseTail²/2) < 2^-102,
	// whatever the x_i (the errors are sums of independent signs, so
	// Hoeffding's inequality applies with no heuristics).
	noiseTail = 12
)

// Load is how much plain data an answer multiplies by: it decides how much
// noise flooding must hide. Loads of the terms of one accumulator add up.
type Load struct {
	L1   float64 // Σ|x|
	L2Sq float64 // Σx²
}

// Add returns the load of both.
func (l Load) Add(m Load) Load { return Load{l.L1 + m.L1, l.L2Sq + m.L2Sq} }

// hidden bounds the part of one opened coefficient's noise that depends on
// anything but the flooding.
//
// Errors of the requests contribute Σ e_i·x_i. Messages are taken in
// (-t/2, t/2], so their products wrap t at most Σ|x|/2 times, plus one for the
// mask; each wrap adds 1 to the noise. The encryption of zero adds
// e·v + e0 + e1·s, at most noiseBound·(2N+1).
func (l Load) hidden() float64 {
	tail := noiseTail * math.Sqrt(noiseVariance*l.L2Sq)
	return math.Min(tail, noiseBound*l.L1) + l.L1/2 + 1 + noiseBound*(2*Degree+1)
}

// FloodBits returns how many bits of flooding hide load in a run that opens
// that many coefficients: each opened coefficient is then within
// 2^-HidingBits/opened of one that is independent of the evaluator's data.
func (l Load) FloodBits(opened int64) float64 {
	return math.Log2(l.hidden()) + HidingBits + math.Log2(float64(max(opened, 1)))
}

// SlotLoad is the largest load of the given number of slot-encoded plaintexts.
func (s *Scheme) SlotLoad(terms int) Load {
	h := math.Ldexp(1, s.PlainBits()-1) // |x| ≤ t/2
	n := float64(terms) * Degree
	return Load{L1: n * h, L2Sq: n * h * h}
}

// Check reports whether an accumulator of that load could be answered: the
// same test that Respond applies, for use at set-up.
func (s *Scheme) Check(l Load) error {
	if need := l.FloodBits(s.flood.Opened); !(need <= float64(s.flood.Bits)) {
		return &BudgetError{What: "flooding", Need: need, Have: float64(s.flood.Bits), Set: s.id}
	}
	return nil
}

// BudgetError says which budget of a parameter set is short and by how much.
// It wraps ErrFlood.
type BudgetError struct {
	What       string  // "flooding" or "margin"
	Need, Have float64 // bits
	Set        ParamID
}

// Error implements error.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("%v: %s of %s is short: %.1f bits needed, %.1f there; take a wider parameter set or open fewer coefficients",
		ErrFlood, e.What, e.Set, e.Need, e.Have)
}

// Unwrap makes a BudgetError an ErrFlood.
func (*BudgetError) Unwrap() error { return ErrFlood }
