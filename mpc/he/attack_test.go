package he

import (
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// unswitched returns s with responses that keep every prime: all that a key
// holder could ever see, before rounding blurs it.
func unswitched(s *Scheme) *Scheme {
	c := *s
	c.set.resp = len(c.set.q)
	return &c
}

// exchange has a key holder encrypt m and an evaluator answer with x.
// rerandomise false leaves the encryption of zero out.
func exchange(t *testing.T, s *Scheme, m []share.Word, x *Plain, pos []int, rerandomise bool) (*SecretKey, *Ciphertext, *Response) {
	t.Helper()
	sk, pk, err := s.GenerateKeys(testRand(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	c := must[*Ciphertext](t)(s.Expand(must[*Request](t)(sk.Encrypt(testRand(t, 2), m))))
	acc := s.NewAccumulator()
	if err := acc.MulAdd(c, x); err != nil {
		t.Fatal(err)
	}
	if !rerandomise {
		pk = nil
	}
	st, err := share.NewStream(testRand(t, 3))
	if err != nil {
		t.Fatal(err)
	}
	return sk, c, unswitched(s).respond(st, acc, pk, pos, make([]share.Word, len(pos)))
}

// TestDividingC1RevealsNothing is the attack of a key holder on the second
// half of a response: without the encryption of zero it is c1·x, and c1 is
// known. The first half of the test shows that the attack works.
func TestDividingC1RevealsNothing(t *testing.T) {
	for _, id := range []ParamID{Forward36, Backward104, SlotA45} {
		s := open(t, id, Flood{Opened: 1})
		rng := testMath(t)
		x := make([]int64, Degree)
		for i := range x {
			x[i] = int64(rng.IntN(4000)) - 2000
		}
		m := make([]share.Word, Degree)
		for i := range m {
			m[i] = share.Word{Hi: rng.Uint64(), Lo: rng.Uint64()}.Mask(s.PlainBits() - 1)
		}
		encode := s.EncodePlain
		if s.slot != nil {
			encode = s.EncodePlainSlots
		}
		p := must[*Plain](t)(encode(x))
		l := &s.limbs[0]
		truth := slices.Clone(p.x[0])
		l.INTT(truth)
		for _, rerandomised := range []bool{false, true} {
			_, c, r := exchange(t, s, m, p, []int{0}, rerandomised)
			got := slices.Clone(r.c1[0])
			l.NTT(got)
			for j := range got {
				got[j] = l.Mul(got[j], l.Form(ringq.Inverse(c.c1[0][j], l.Q)))
			}
			l.INTT(got)
			hits := 0
			for j := range got {
				if got[j] == truth[j] {
					hits++
				}
			}
			switch {
			case !rerandomised && hits != Degree:
				t.Errorf("%s: the positive control recovers %d of %d: the test proves nothing", id, hits, Degree)
			case rerandomised && hits != 0:
				t.Errorf("%s: the key holder recovers %d of %d entries", id, hits, Degree)
			}
		}
	}
}

// noiseOf returns the noise of an unswitched response's opened coefficients as
// the key holder sees it: ⌊(t·(c0 + c1·s) centred) / t⌋.
func noiseOf(t *testing.T, sk *SecretKey, r *Response, pos []int) []float64 {
	t.Helper()
	s := sk.s
	rows := make([][]uint64, len(s.limbs))
	for i := range rows {
		l := &s.limbs[i]
		row := slices.Clone(r.c1[i])
		l.NTT(row)
		for j := range row {
			row[j] = l.Mul(row[j], sk.sM[i][j])
		}
		l.INTT(row)
		for n, j := range pos {
			row[j] = l.Mul(l.Add(row[j], r.c0[i][n]), l.tM)
		}
		rows[i] = row
	}
	mod, q := s.modulusBig(), big.NewInt(1)
	for _, p := range s.set.q {
		q.Mul(q, new(big.Int).SetUint64(p))
	}
	half := new(big.Int).Rsh(q, 1)
	out := make([]float64, len(pos))
	for n, j := range pos {
		v := new(big.Int)
		for i, p := range s.set.q {
			pb := new(big.Int).SetUint64(p)
			rest := new(big.Int).Quo(q, pb)
			term := new(big.Int).ModInverse(rest, pb)
			term.Mul(term, rest).Mul(term, new(big.Int).SetUint64(rows[i][j]))
			v.Add(v, term)
		}
		if v.Mod(v, q).Cmp(half) > 0 {
			v.Sub(v, q)
		}
		out[n], _ = new(big.Float).SetInt(v.Div(v, mod)).Float64()
	}
	return out
}

// hiddenPart computes what flooding must hide at pos, up to rounding: the
// request's errors and the wraps of its messages, times x. The key holder
// knows errors and messages; what it would learn is x.
func hiddenPart(sk *SecretKey, c *Ciphertext, m []share.Word, x []int64, pos []int) []float64 {
	s := sk.s
	l := &s.limbs[0]
	e := slices.Clone(c.c0[0])
	for j := range e {
		e[j] = l.Add(e[j], l.Mul(c.c1[0][j], sk.sM[0][j]))
	}
	l.INTT(e)
	put := ringq.NewPoly(len(s.limbs), Degree)
	s.putAll(put, m)
	f := make([]float64, Degree) // error + centred message / t
	t := math.Exp2(s.set.logT())
	for j := range f {
		v := l.Sub(e[j], put[0][j])
		f[j] = float64(int64(v) - int64(l.Q&-b2u(v > l.Q/2)))
		if j < len(m) {
			w, _ := new(big.Float).SetInt(m[j].Big()).Float64()
			f[j] += w/t - float64(s.centre(m[j]))
		}
	}
	out := make([]float64, len(pos))
	for n, k := range pos {
		for i, v := range x {
			if j := k - i; j >= 0 {
				out[n] += f[j] * float64(v)
			} else {
				out[n] -= f[j+Degree] * float64(v)
			}
		}
	}
	return out
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func moments(v []float64) (mean, sd float64) {
	for _, x := range v {
		mean += x
	}
	mean /= float64(len(v))
	for _, x := range v {
		sd += (x - mean) * (x - mean)
	}
	return mean, math.Sqrt(sd / float64(len(v)))
}

// correlation of a and b times √n: standard normal where they are independent.
func correlation(a, b []float64) float64 {
	ma, sa := moments(a)
	mb, sb := moments(b)
	var c float64
	for i := range a {
		c += (a[i] - ma) * (b[i] - mb)
	}
	return c / (sa * sb * math.Sqrt(float64(len(a))))
}

// kolmogorov is the two-sample statistic D·√(n/2) of equally long samples;
// above 1.95 with probability .001 where both come from one distribution.
func kolmogorov(a, b []float64) float64 {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	var d float64
	for i, j := 0, 0; i < len(a) && j < len(b); {
		if a[i] <= b[j] {
			i++
		} else {
			j++
		}
		d = max(d, math.Abs(float64(i-j))/float64(len(a)))
	}
	return d * math.Sqrt(float64(len(a))/2)
}

// TestNoiseDoesNotMoveWithTheData: with 2 bits of flooding the noise of a
// response tells the evaluator's data, in its size and in its correlation with
// what the key holder can predict; with the flooding in use it does not. The
// seed is fixed; thresholds are at a probability of 10^-3 (size) and 6·10^-5
// (correlation) for a sound scheme, and the control misses them by far.
func TestNoiseDoesNotMoveWithTheData(t *testing.T) {
	const opened = 1 << 10
	pos := make([]int, opened)
	for i := range pos {
		pos[i] = i * (Degree / opened)
	}
	for _, id := range []ParamID{Forward36, Backward104} {
		for _, flood := range []int{2, 0} {
			s := open(t, id, Flood{Bits: flood, Opened: 1})
			rng := testMath(t)
			m := make([]share.Word, Degree)
			for i := range m {
				m[i] = share.Word{Hi: rng.Uint64(), Lo: rng.Uint64()}.Mask(s.PlainBits())
			}
			none, x := make([]int64, Degree), make([]int64, Degree)
			for i := range x {
				x[i] = int64(rng.IntN(4001)) - 2000
			}
			var noise [2][]float64
			var corr float64
			for k, data := range [][]int64{none, x} {
				sk, c, r := exchange(t, s, m, must[*Plain](t)(s.EncodePlain(data)), pos, true)
				noise[k] = noiseOf(t, sk, r, pos)
				if k == 1 {
					corr = math.Abs(correlation(noise[k], hiddenPart(sk, c, m, x, pos)))
				}
			}
			// Equal randomness was used twice: break it up by comparing one
			// half of the positions with the other.
			ks := kolmogorov(noise[0][:opened/2], noise[1][opened/2:])
			_, sd := moments(noise[1])
			t.Logf("%s, flooding %d bits: noise 2^%.1f, size statistic %.2f, correlation %.2f", id, s.flood.Bits, math.Log2(sd), ks, corr)
			if flood == 2 && (ks < 5 || corr < 25) {
				t.Errorf("%s: the control does not see the data (size %.2f, correlation %.2f): the test proves nothing", id, ks, corr)
			}
			if flood == 0 && (ks > 1.95 || corr > 4) {
				t.Errorf("%s: noise moves with the data: size %.2f, correlation %.2f", id, ks, corr)
			}
		}
	}
}

// TestLoadBoundsTheHiddenNoise holds the formula of the budget against noise
// that is really there, without flooding to speak of.
func TestLoadBoundsTheHiddenNoise(t *testing.T) {
	pos := make([]int, 256)
	for i := range pos {
		pos[i] = 31 * i
	}
	for _, big := range []bool{false, true} {
		s := open(t, Backward104, Flood{Bits: 1, Opened: 1})
		rng := testMath(t)
		m, x := make([]share.Word, Degree), make([]int64, Degree)
		for i := range m {
			if big { // every wrap in one direction
				m[i] = share.FromInt64(-1).Mask(103)
				x[i] = 1 << 20
				if i > 0 {
					x[i] = -x[i] // so that position 0 sums with equal signs
				}
			} else {
				m[i] = share.Word{Hi: rng.Uint64(), Lo: rng.Uint64()}.Mask(104)
				x[i] = int64(rng.IntN(1<<20)) - 1<<19
			}
		}
		p := must[*Plain](t)(s.EncodePlain(x))
		sk, _, r := exchange(t, s, m, p, pos, true)
		bound, worst := p.load.hidden(), 0.0
		for _, n := range noiseOf(t, sk, r, pos) {
			worst = max(worst, math.Abs(n))
		}
		t.Logf("largest noise 2^%.2f, bound 2^%.2f", math.Log2(worst), math.Log2(bound))
		if worst > bound {
			t.Errorf("noise of 2^%.2f is above the bound of 2^%.2f", math.Log2(worst), math.Log2(bound))
		}
		if worst < bound/64 {
			t.Errorf("noise of 2^%.2f is far below the bound of 2^%.2f: is the test measuring it?", math.Log2(worst), math.Log2(bound))
		}
	}
}

func TestErrorAndSecretDistributions(t *testing.T) {
	st := share.KeyedStream(&[share.KeySize]byte{42})
	const rounds = 16
	var e [2*noiseBound + 1]float64
	var v [3]float64
	for range rounds {
		for _, x := range ringq.Noise(st, Degree) {
			e[int(x)+noiseBound]++
		}
		for _, x := range ringq.Ternary(st, Degree) {
			v[x+1]++
		}
	}
	const n = rounds * Degree
	chi := func(got []float64, p func(int) float64) (sum float64, cells int) {
		for i, c := range got {
			if want := n * p(i); want >= 10 {
				sum += (c - want) * (c - want) / want
				cells++
			}
		}
		return
	}
	// A standard normal of the statistic above 4 has probability 3·10^-5.
	for name, c := range map[string]struct {
		got []float64
		p   func(int) float64
	}{
		"errors": {e[:], func(i int) float64 {
			f, _ := new(big.Float).SetInt(new(big.Int).Binomial(2*noiseBound, int64(i))).Float64()
			return math.Ldexp(f, -2*noiseBound)
		}},
		"secrets": {v[:], func(int) float64 { return 1.0 / 3 }},
	} {
		sum, cells := chi(c.got, c.p)
		if z := (sum - float64(cells)) / math.Sqrt(2*float64(cells)); math.Abs(z) > 4 {
			t.Errorf("%s: chi-squared %.1f over %d cells", name, sum, cells)
		}
	}
}

// TestExpandIsUniformAndBound: residues fill the range, and another seed, use
// or set gives other ones.
func TestExpandIsUniformAndBound(t *testing.T) {
	s := open(t, SlotA45, Flood{Opened: 1})
	var seed [seedSize]byte
	p := ringq.NewPoly(len(s.limbs), Degree)
	s.expand(p, seed, useRequest)
	for i, row := range p {
		q := float64(s.limbs[i].Q)
		var sum float64
		for _, v := range row {
			if v >= s.limbs[i].Q {
				t.Fatal("a residue is not reduced")
			}
			sum += float64(v)/q - .5
		}
		if z := sum / math.Sqrt(Degree/12.0); math.Abs(z) > 4 {
			t.Errorf("row %d: mean is off by %.1f standard deviations", i, z)
		}
	}
	differs := func(s *Scheme, seed [seedSize]byte, use byte) bool {
		o := ringq.NewPoly(len(s.limbs), Degree)
		s.expand(o, seed, use)
		return o[0][0] != p[0][0] && o[0][7] != p[0][7]
	}
	if differs(s, seed, useRequest) || !differs(s, seed, usePublicKey) || !differs(s, [seedSize]byte{1}, useRequest) ||
		!differs(open(t, SlotB45, Flood{Opened: 1}), seed, useRequest) {
		t.Error("the expansion is not bound to seed, use and set")
	}
}
