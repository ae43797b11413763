package logit

import (
	"context"
	"math"
	"math/big"

	"github.com/yinqiao/yinqiao/mpc/he"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// Two questions are answered by one opened bit each: was the last step short,
// and do the scores fit into the period. Both end in a comparison of a private
// number of the label holder with one of the feature holder.
//
// The comparison is that of Damgård, Geisler and Krøigaard ("Efficient and
// Secure Comparison for On-Line Auctions", ACISP 2007). With bits a_i and b_i,
//
//	c_i = 1 + a_i - b_i + 3·Σ_{j>i} (a_j xor b_j)
//
// is 0 for exactly one i if a < b, and for none otherwise. Each c_i is linear
// in the label holder's encrypted bits; the feature holder multiplies it by a
// fresh random non-zero number modulo the prime t and puts them in random
// order. What the label holder opens is then uniform but for the presence of
// one zero: the answer, and nothing else.

const (
	// stepBits is the resolution of a step's length: weights are rounded to
	// 2^-stepBits first. minTolerance is 13 such units.
	stepBits     = 17
	minTolerance = 1e-4

	// The square of a step's length is below 2^46 units with the default step,
	// and below 2^50 with any that Validate lets through: a gradient's rows
	// have Σ x² ≤ n in each party's columns and residuals a root mean square of
	// at most 1.1·4, so each party's part of a step is at most step·4.4, times
	// 1/(1-momentum). That leaves a statistical distance of 2^-40 (2^-36) at
	// worst; real steps, 1.6 at most on default_credit, leave 2^-50.
	stepMask    = 86
	compareBits = 87 // compareBits² ≤ he.Degree

	// Partial scores are compared in units of 2^-periodBits.
	periodBits = 20
)

// shortStepLabel and shortStepFeature ask whether the step that was just taken
// is shorter than the tolerance.
//
// With d = a + b the step's shares, Σd² = Σa² + 2Σab + Σb². The label holder
// encrypts a modulo two primes; the feature holder multiplies by 2b, adds Σb²
// and a mask ρ; so the label holder learns Σd² + ρ, compares it with tolerance²
// + ρ, and says which.
func (l *labelHolder) shortStep(ctx context.Context, round int, before step) (bool, error) {
	d := stepVector(l.own, before.own, l.others, before.others, l.fp.weightBits)
	var residues [2]uint64
	for k, s := range l.sines {
		m := make([]share.Word, len(d))
		var local uint64
		for j, v := range d {
			x := modPrime(v, s.Modulus())
			m[j] = share.FromUint64(x)
			local = (local + mulMod(x, x, s.Modulus())) % s.Modulus()
		}
		st, err := l.stream()
		if err != nil {
			return false, err
		}
		req, err := l.sineKeys[k].Encrypt(st, m)
		if err != nil {
			return false, err
		}
		if err := l.send(ctx, msgStepRequest, round, k, req.Marshal()); err != nil {
			return false, err
		}
		residues[k] = local
	}
	for k, s := range l.sines {
		w, err := l.recvResponse(ctx, s, l.sineKeys[k], msgStepResponse, round, k, []int{len(d) - 1})
		if err != nil {
			return false, err
		}
		residues[k] = (residues[k] + w[0].Lo) % s.Modulus()
	}
	return l.below(ctx, round, l.crt.join(residues[0], residues[1]), compareBits)
}

func (f *featureHolder) shortStep(ctx context.Context, round int, before step) (bool, error) {
	// In the label holder's order: its columns first.
	d := stepVector(f.others, before.others, f.own, before.own, f.fp.weightBits)
	st, err := f.stream()
	if err != nil {
		return false, err
	}
	rho := st.Word(stepMask)
	var answers [2][]byte
	for k, s := range f.sines {
		ct, err := f.recvRequest(ctx, s, msgStepRequest, round, k)
		if err != nil {
			return false, err
		}
		t := s.Modulus()
		c := make([]int64, len(d))
		sum := modPrime(rho, t)
		for j, v := range d {
			x := modPrime(v, t)
			c[len(d)-1-j] = centred(2*x%t, t)
			sum = (sum + mulMod(x, x, t)) % t
		}
		x, err := s.EncodePlain(c)
		if err != nil {
			return false, err
		}
		acc := s.NewAccumulator()
		if err := acc.MulAdd(ct, x); err != nil {
			return false, err
		}
		res, err := s.Respond(st, acc, f.peerSines[k], []int{len(d) - 1}, []share.Word{share.FromUint64(sum)})
		if err != nil {
			return false, err
		}
		answers[k] = res.Marshal()
	}
	for k, b := range answers {
		if err := f.send(ctx, msgStepResponse, round, k, b); err != nil {
			return false, err
		}
	}
	return f.above(ctx, round, rho.Add(toleranceUnits(f.params.Tolerance)), compareBits)
}

// toleranceUnits is the square of the tolerance in units of steps.
func toleranceUnits(tolerance float64) share.Word {
	units := math.Ldexp(tolerance, stepBits)
	b, _ := big.NewFloat(units * units).Int(nil)
	return share.FromBig(b)
}

// stepVector is one party's share of the step of all weights: the label
// holder's columns, then the feature holder's.
func stepVector(label, labelBefore, feature, featureBefore []share.Word, weightBits int) []share.Word {
	var d []share.Word
	put := func(now, before []share.Word) {
		for j := range now {
			d = append(d, now[j].Sub(before[j]).RshSigned(max(weightBits-stepBits, 0)))
		}
	}
	put(label, labelBefore)
	put(feature, featureBefore)
	return d
}

func centred(x, t uint64) int64 {
	if x > t/2 {
		return int64(x) - int64(t)
	}
	return int64(x)
}

// below tells whether a is less than the number that the feature holder gives
// to above; both learn the answer.
func (l *labelHolder) below(ctx context.Context, round int, a share.Word, width int) (bool, error) {
	bit, err := l.compare(ctx, round, a, width)
	if err != nil {
		return false, err
	}
	b := []byte{0}
	if bit {
		b[0] = 1
	}
	return bit, l.send(ctx, msgBit, round, 0, b)
}

func (l *labelHolder) compare(ctx context.Context, round int, a share.Word, width int) (bool, error) {
	if a != a.Mask(width) { // larger than any honest value: not below anything
		a = share.FromInt64(-1).Mask(width)
	}
	m := make([]share.Word, width)
	for i := range m {
		m[i] = share.FromUint64(a.Bit(i))
	}
	st, err := l.stream()
	if err != nil {
		return false, err
	}
	req, err := l.sineKeys[0].Encrypt(st, m)
	if err != nil {
		return false, err
	}
	if err := l.send(ctx, msgCompareRequest, round, 0, req.Marshal()); err != nil {
		return false, err
	}
	w, err := l.recvResponse(ctx, l.sines[0], l.sineKeys[0], msgCompareResponse, round, 0, comparePositions(width))
	if err != nil {
		return false, err
	}
	zero := false
	for _, v := range w {
		zero = zero || v.Lo == 0
	}
	return zero, nil
}

func (f *featureHolder) above(ctx context.Context, round int, b share.Word, width int) (bool, error) {
	ct, err := f.recvRequest(ctx, f.sines[0], msgCompareRequest, round, 0)
	if err != nil {
		return false, err
	}
	res, err := f.compare(ct, b, width)
	if err != nil {
		return false, err
	}
	if err := f.send(ctx, msgCompareResponse, round, 0, res.Marshal()); err != nil {
		return false, err
	}
	p, err := f.recv(ctx, msgBit, round, 0)
	if err != nil {
		return false, err
	}
	bit, err := decodeBit(p)
	if err != nil {
		return false, badPayload(msgBit, round, 0, err)
	}
	return bit, nil
}

// comparePositions: the m-th linear form takes coefficients [width·m,
// width·(m+1)), its value appears on the last of them.
func comparePositions(width int) []int {
	pos := make([]int, width)
	for m := range pos {
		pos[m] = width*m + width - 1
	}
	return pos
}

func (f *featureHolder) compare(ct *he.Ciphertext, b share.Word, width int) (*he.Response, error) {
	st, err := f.stream()
	if err != nil {
		return nil, err
	}
	s, t := f.sines[0], f.sines[0].Modulus()
	place := permutation(st, width)
	forms, mask := make([]int64, width*width), make([]share.Word, width)
	var higher uint64 // Σ_{j>i} b_j
	for i := width - 1; i >= 0; i-- {
		r, m := nonZero(st, t), place[i]
		// Coefficient width·m + width-1-j multiplies a_j.
		at := func(j int) *int64 { return &forms[width*m+width-1-j] }
		*at(i) = centred(r, t)
		for j := i + 1; j < width; j++ {
			// a xor b = b + (1-2b)·a
			*at(j) = centred(mulMod(r, (3+b.Bit(j)*(t-6))%t, t), t)
		}
		constant := (1 + t - b.Bit(i) + 3*higher) % t
		mask[m] = share.FromUint64(mulMod(r, constant, t))
		higher += b.Bit(i)
	}
	x, err := s.EncodePlain(forms)
	if err != nil {
		return nil, err
	}
	acc := s.NewAccumulator()
	if err := acc.MulAdd(ct, x); err != nil {
		return nil, err
	}
	return s.Respond(st, acc, f.peerSines[0], comparePositions(width), mask)
}

// nonZero draws uniformly from 1 to t-1.
func nonZero(st *share.Stream, t uint64) uint64 {
	for {
		if v := st.Word(45).Lo; v > 0 && v < t {
			return v
		}
	}
}

// permutation draws a uniform order of n.
func permutation(st *share.Stream, n int) []int {
	p := make([]int, n)
	for i := range p {
		// 64 bits against at most 87 choices: the bias is below 2^-57.
		j := int(st.Uint64() % uint64(i+1))
		p[i] = p[j]
		p[j] = i
	}
	return p
}

// periodFits tells whether the largest partial scores of the two parties
// together stay within half the period, so that no joint score has wrapped.
func (l *labelHolder) periodFits(ctx context.Context, round int, largest float64) (bool, error) {
	return l.below(ctx, round, share.FromUint64(scoreUnits(largest)), compareWidthPeriod)
}

func (f *featureHolder) periodFits(ctx context.Context, round int, largest float64) (bool, error) {
	half, mine := scoreUnits(f.fp.period/2), scoreUnits(largest)
	return f.above(ctx, round, share.FromUint64(half-min(half, mine)), compareWidthPeriod)
}

// compareWidthPeriod holds half the widest period, 2^8, in units.
const compareWidthPeriod = periodBits + maxPeriodLog2

// scoreUnits rounds a score up to units, and stops at the comparison's end.
func scoreUnits(z float64) uint64 {
	return uint64(min(math.Ceil(math.Ldexp(z, periodBits)), 1<<compareWidthPeriod-1))
}
