package logit

import (
	"fmt"
	"math"
)

// Fixed point. Every quantity is an integer in units of a power of two:
//
//	whitened columns   2^-xBits             |x| ≤ maxWhite
//	weights u          2^-weightBits        weightBits = scoreMod - xBits - PeriodLog2
//	scores z           2^-(scoreMod-PeriodLog2), so that modulo 2^scoreMod is modulo the period
//	sines, cosines     2^-trigBits          at the label holder
//	coefficient·sine   2^-coefBits          at the feature holder
//	residuals          2^-residualBits
//	gradients          κ = η/n·2^s is folded into the columns, so that a step in
//	                   units of u is the gradient shifted down by fixedPoint.shift
const (
	xBits        = 10
	trigBits     = 12
	coefBits     = 14
	residualBits = trigBits + coefBits

	scoreMod = 36  // scores: shares modulo 2^36, hidden perfectly
	gradMod  = 104 // residuals, weights and gradients: shares modulo 2^104

	maxWhite = 1 << 7

	// Masks of values that must not wrap are drawn below a power of two, plus
	// an offset that keeps the sum positive. What a mask leaves visible of a
	// value v is a statistical distance of |v|/2^mask. Σ|v| over a run is, for
	// residuals, at most rows·iterations·2^25 (weights have mean 1), so 2^-45
	// for 21,000 rows; a gradient is below 2^gradLimit at the largest inputs
	// allowed, and all of a run together below 2^52 for 21,000 rows: 2^-51.
	residualMask, residualOffset = 89, 40
	gradMask, gradOffset         = 103, 64
	gradLimit                    = 62
)

// fixedPoint holds what depends on the period, the step and the row count; all
// three are public.
type fixedPoint struct {
	period     float64
	weightBits int
	kappa      float64 // in (1/2, 1]
	shift      int     // gradient to weight units
	ridgeShift int     // weight to gradient units, before the shift
}

func newFixedPoint(periodLog2 int, step float64, rows int) (fixedPoint, error) {
	if rows < 1 || rows > maxRows {
		return fixedPoint{}, fmt.Errorf("%w: want 1 to %d training rows", ErrRange, maxRows)
	}
	s := int(math.Floor(math.Log2(float64(rows) / step)))
	fp := fixedPoint{
		period:     math.Exp2(float64(periodLog2)),
		weightBits: scoreMod - xBits - periodLog2,
		kappa:      math.Ldexp(step/float64(rows), s),
	}
	fp.ridgeShift = xBits + residualBits - fp.weightBits
	fp.shift = fp.ridgeShift + s
	// A whitened column has Σ x² ≤ n, so |Σ x·r| ≤ n·max|r|; the penalty adds
	// at most n/4·|u|, and |u| stays below 2^6 or the scores have long wrapped.
	if bound := math.Log2(float64(rows)*(1.1*maxRelativeWeight+16)) + xBits + residualBits; bound > gradLimit+1 {
		return fixedPoint{}, fmt.Errorf("%w: %d rows exceed the mask budget", ErrRange, rows)
	}
	return fp, nil
}
