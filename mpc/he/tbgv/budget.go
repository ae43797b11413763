package tbgv

import (
	"math"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
)

const (
	noiseVariance = ringq.NoiseBound / 2.0 // of an error coefficient
	secretProxy   = 2.0 / 3.0              // sub-Gaussian variance proxy of a ternary coefficient
	// noiseTail: a sum exceeds noiseTail times the root of its variance proxy
	// with probability at most 2·exp(-noiseTail²/2) < 2^-71.
	noiseTail = 10
	// normTail: the squared norm of N coefficients of proxy σ² exceeds
	// σ²·(N + 2·√(N·x) + 2·x) with probability at most exp(-x) < 2^-80, for
	// x = normTail (Hsu, Kakade, Zhang 2012).
	normTail = 56
)

// Budget is how the bits of the modulus are spent.
type Budget struct {
	Flood  int     // width of the uniform noise on every coefficient of a share, in bits
	Noise  float64 // log2 of the largest noise of a sum that it must hide
	Hiding float64 // all openings under one key are within 2^-Hiding of ones that depend on sums alone
	Margin float64 // bits by which the largest honest value stays below wrapping
}

// noise bounds everything in c0 + c1·s of a sum of n ciphertexts that is no
// flooding and not the sum itself.
//
// With e = Σ e_i of the key, s = Σ s_i, v = Σ v_k and errors (f, g) = Σ (f_k, g_k)
// of the encryptions it is e·v + f + g·s, and the sum's wraps of t, at most
// n/2 + 1. For given e and g that is a sum of independent terms, of variance
// proxy 2n/3·(|e|² + |g|²) + 10.5·n; and |e|², |g|² are bounded as normTail
// says, each coefficient having the proxy 10.5·n.
func (st set) noise(parties int) float64 {
	n, coeffs := float64(parties), math.Ldexp(1, st.logN)
	norm := noiseVariance * n * (coeffs + 2*math.Sqrt(coeffs*normTail) + 2*normTail)
	return noiseTail*math.Sqrt(2*secretProxy*n*norm+noiseVariance*n) + n/2 + 1
}

// budget gives the flooding all room that the margin leaves.
func (st set) budget(p Params) Budget {
	n, noise := float64(p.Parties), st.noise(p.Parties)
	b := Budget{Noise: math.Log2(noise)}
	logQ, logKept := logProduct(st.q), logProduct(st.q[:st.keep])
	for f := maxFlood; f > 0; f-- {
		// Before primes are dropped: n shares' flooding and the noise, times t.
		value := n*math.Ldexp(1, f-1) + noise
		before := logQ - 1 - math.Log2(value) - float64(st.tbits)
		// After: the same, divided; and half a unit for every prime that was
		// dropped from each of the shares and from c0.
		value = value*math.Exp2(logKept-logQ) + (n+1)/2*float64(len(st.q)-st.keep)
		after := logKept - 1 - math.Log2(value) - float64(st.tbits)
		if b.Margin = math.Min(before, after); b.Margin >= MinMargin {
			b.Flood = f
			break
		}
	}
	// A coefficient uniform over 2^f values and shifted by at most the noise is
	// within noise/2^f of one that is not; there are Openings·N of them.
	b.Hiding = float64(b.Flood) - b.Noise - float64(st.logN) - math.Log2(float64(p.Openings))
	return b
}
