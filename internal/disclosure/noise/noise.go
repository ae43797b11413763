// Package noise makes the sums of several contributors differentially private:
// each adds noise to its own counters before they are summed. The samplers are
// Google's (github.com/google/differential-privacy/go), which work on a grid
// and so do not leak through floating point; this package accounts for many
// counters of different size, and for counters wider than 64 bits.
//
// # Model
//
// Two inputs of a contributor are neighbours if they differ in one unit (person,
// enterprise) with all its rows. A unit changes at most [Params.L0] counters of
// the whole release, and counter j by at most lInf[j]. What is released, all
// counters of all cells together, is then (ε, δ)-differentially private for
// every unit of this contributor, whatever the other contributors, the gates and
// the recipients do: each contributor adds the full noise, so that all others
// together, who know their own, cannot take it off. With n contributors the
// noise of a sum has therefore a standard deviation √n times as large as one
// trusted party would need.
//
// A unit that k contributors know is protected with k times ε only. What is
// outside ε: which cells are withheld, if exact counts decide that; and the exact
// counts that the gates see.
//
// # Accounting
//
// Counter j in units of lInf[j] changes by at most 1. With δ = 0 noise is of
// Laplace's distribution with scale lInf[j]·L0/ε: L1 sensitivity L0 in those
// units, so ε for all counters together. With δ > 0 it is Gaussian with standard
// deviation lInf[j]·σ, σ that of the analytic Gaussian mechanism (Balle and Wang
// 2018) for L2 sensitivity √L0. Neither is split over counters any further, and
// nothing has to be composed within a release. Over releases ε and δ add up.
//
// # Exactness
//
// Noise is a whole number. Where its scale would be above 2^40, counters are
// first rounded to a multiple of a power of two at most 2^-38 of the scale, and
// noise is a multiple of it: neighbours still differ by no more steps than the
// sampler is told. That moves a counter by at most 2^-39 of the scale. Sampling
// takes time that depends on the sample.
package noise

import (
	"errors"
	"fmt"
	"math"
	"math/big"

	dp "github.com/google/differential-privacy/go/v3/noise"
)

// ErrParams is wrapped where no noise can be calibrated.
var ErrParams = errors.New("noise: cannot be calibrated")

// Params say how much noise a release needs. Zero values but for Delta are
// refused.
type Params struct {
	// L0 is the most counters that one unit can change, over all cells, margins
	// and measures of the release.
	L0 int64
	// Epsilon and Delta are of the whole release. Delta 0 asks for Laplace noise,
	// another for Gaussian.
	Epsilon, Delta float64
}

// Bounds of what is asked for.
const (
	maxL0        = 1 << 32
	maxEpsilon   = 1 << 10
	maxScaleBits = 40  // noise is drawn with at most this scale, and shifted
	maxSteps     = 50  // bits of what one unit changes, in steps of the grain
	maxBits      = 120 // of lInf; counters have at most 96
)

// Validate reports what is wrong with p.
func (p Params) Validate() error {
	switch {
	case p.L0 < 1 || p.L0 > maxL0:
		return fmt.Errorf("%w: one unit changes %d counters, want 1 to %d", ErrParams, p.L0, maxL0)
	case !(p.Epsilon > 0 && p.Epsilon <= maxEpsilon):
		return fmt.Errorf("%w: epsilon %g", ErrParams, p.Epsilon)
	case !(p.Delta >= 0 && p.Delta < 1):
		return fmt.Errorf("%w: delta %g", ErrParams, p.Delta)
	}
	if s := p.scale(); !(s <= 1<<maxScaleBits) {
		return fmt.Errorf("%w: epsilon %g for %d counters", ErrParams, p.Epsilon, p.L0)
	}
	return nil
}

// Mechanism names the distribution.
func (p Params) Mechanism() string {
	if p.Delta > 0 {
		return "gaussian"
	}
	return "laplace"
}

// scale is the scale of Laplace's distribution, or the standard deviation of
// the normal one, for a counter that one unit changes by 1.
func (p Params) scale() float64 {
	if p.Delta > 0 {
		return dp.SigmaForGaussian(p.L0, 1, p.Epsilon, p.Delta)
	}
	return float64(p.L0) / p.Epsilon
}

// Deviation is the standard deviation of what one contributor adds to a counter
// that one unit changes by at most lInf. That of a sum over n contributors is √n
// times as large.
func (p Params) Deviation(lInf *big.Int) float64 {
	f, _ := new(big.Float).SetInt(lInf).Float64()
	if p.Delta > 0 {
		return f * p.scale()
	}
	return f * p.scale() * math.Sqrt2
}

// Bound is a number that what one contributor adds to a counter exceeds, in
// absolute value, with a probability below 2^-64: room that a modular counter
// must have besides its range, once per contributor.
func (p Params) Bound(lInf *big.Int) *big.Int {
	// Laplace: exp(-46) < 2^-66. Normal: 2·Φ(-10) < 2^-75. Of the factor 1.25,
	// what rounding lInf up to a multiple of the grain costs takes less than a
	// millionth, unless the scale is so close to 2^40 that lInf becomes one step
	// of the grain, which can double it.
	tail := 46 * 1.25
	if p.Delta > 0 {
		tail = 10 * 1.25
	}
	s := p.scale()
	shift := p.shift(lInf, s)
	steps := new(big.Float).SetInt(grains(lInf, shift))
	b, _ := steps.Mul(steps, big.NewFloat(s*tail)).Int(nil)
	b.Add(b, big.NewInt(2))
	return b.Lsh(b, shift)
}

// shift returns the binary logarithm of the grain that noise is drawn in.
func (p Params) shift(lInf *big.Int, scale float64) uint {
	most := big.NewInt(int64(max(1, min(1<<maxSteps, (1<<maxScaleBits)/scale))))
	var shift uint
	if n := lInf.BitLen() - most.BitLen(); n > 0 {
		shift = uint(n)
	}
	for grains(lInf, shift).Cmp(most) > 0 {
		shift++
	}
	return shift
}

// grains returns ⌈lInf / 2^shift⌉: by how many steps of the grain neighbours
// differ once both are rounded down or up by the same rule.
func grains(lInf *big.Int, shift uint) *big.Int {
	g := new(big.Int).Lsh(big.NewInt(1), shift)
	g.Add(g, lInf).Sub(g, big.NewInt(1))
	return g.Rsh(g, shift)
}

// Add adds noise to values in place. A unit changes values[j] by at most
// lInf[j]; a value with lInf 0 depends on no unit and is left as it is. It
// fails without having changed anything.
//
// Randomness is crypto/rand's, through the library, and cannot be injected.
func Add(values, lInf []*big.Int, p Params) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if len(values) != len(lInf) {
		return fmt.Errorf("%w: %d values and %d sensitivities", ErrParams, len(values), len(lInf))
	}
	for j, l := range lInf {
		if l == nil || l.Sign() < 0 || l.BitLen() > maxBits || values[j] == nil {
			return fmt.Errorf("%w: sensitivity of value %d", ErrParams, j)
		}
	}
	d := newDrawer(p)
	noised := make([]*big.Int, len(values))
	for j, l := range lInf {
		if l.Sign() == 0 {
			noised[j] = values[j]
			continue
		}
		v, err := d.add(values[j], l)
		if err != nil {
			return err
		}
		noised[j] = v
	}
	for j := range values {
		values[j].Set(noised[j])
	}
	return nil
}

// drawer draws noise for one release.
type drawer struct {
	p     Params
	scale float64
	from  dp.Noise
}

func newDrawer(p Params) *drawer {
	d := &drawer{p: p, scale: p.scale(), from: dp.Laplace()}
	if p.Delta > 0 {
		d.from = dp.Gaussian()
	}
	return d
}

// add returns v, rounded to the grain, with noise.
func (d *drawer) add(v, lInf *big.Int) (*big.Int, error) {
	shift := d.p.shift(lInf, d.scale)
	steps := grains(lInf, shift)
	sample, err := d.from.AddNoiseInt64(0, d.p.L0, steps.Int64(), d.p.Epsilon, d.p.Delta)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	w := new(big.Int).Set(v)
	if shift > 0 { // to the nearest, halves up: what differs by k steps still does
		w.Add(w, new(big.Int).Lsh(big.NewInt(1), shift-1)).Rsh(w, shift)
	}
	return w.Add(w, big.NewInt(sample)).Lsh(w, shift), nil
}
