package logit

import (
	"context"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// pair sets two parties up on synthetic rows, as training does, and hands them
// to the functions of a test.
func pair(t *testing.T, n, da, db int, p Params, label func(context.Context, *labelHolder) error, feature func(context.Context, *featureHolder) error) {
	t.Helper()
	e := synthetic(uint64(n), n, da, db, 1)
	for i := range e.train {
		e.train[i] = true
	}
	a, _, _ := design(e.a, e.train, p.Clip, true)
	b, _, _ := design(e.b, e.train, p.Clip, false)
	at := attempt{number: 1, round: 1000, periodLog2: p.PeriodLog2, terms: p.Terms}
	sessiontest.NoErrors(t, sessiontest.Net{}.Run(t, func(ctx context.Context, s *session.Session) error {
		pt, err := newParty(ctx, s, p, a, true, 0, 100)
		if err != nil {
			return err
		}
		l := &labelHolder{party: pt, y: e.y, terms: p.Terms}
		if err := l.prepare(ctx, at); err != nil {
			return err
		}
		if err := l.makeSineKeys(ctx, at.round); err != nil {
			return err
		}
		return label(ctx, l)
	}, func(ctx context.Context, s *session.Session) (err error) {
		pt, err := newParty(ctx, s, p, b, false, 0, 100)
		if err != nil {
			return err
		}
		f := &featureHolder{party: pt}
		if err := f.prepare(ctx, at); err != nil {
			return err
		}
		if err := f.takeSineKeys(ctx, at.round); err != nil {
			return err
		}
		if f.series, err = sineSeries(f.fp.period, p.Terms); err != nil {
			return err
		}
		return feature(ctx, f)
	}))
}

func pow2(k int) *big.Int { return new(big.Int).Lsh(big.NewInt(1), uint(k)) }

// centredBig returns x modulo 2^k, in [-2^(k-1), 2^(k-1)).
func centredBig(x *big.Int, k int) *big.Int {
	r := new(big.Int).And(x, new(big.Int).Sub(pow2(k), big.NewInt(1)))
	if r.Bit(k-1) == 1 {
		r.Sub(r, pow2(k))
	}
	return r
}

// extremes are shares at the corners of a ring of 2^k and some uniform ones.
func extremes(r *rand.Rand, n, k int) []share.Word {
	corner := []*big.Int{big.NewInt(0), big.NewInt(1), big.NewInt(-1), pow2(k - 1), new(big.Int).Sub(pow2(k-1), big.NewInt(1)), new(big.Int).Neg(pow2(k - 2))}
	w := make([]share.Word, n)
	for i := range w {
		if i%3 == 2 {
			w[i] = share.Word{Hi: r.Uint64(), Lo: r.Uint64()}.Mask(k)
			continue
		}
		w[i] = share.FromBig(corner[i/3%len(corner)])
	}
	return w
}

// others returns the other shares of the given values.
func others(values []*big.Int, shares []share.Word) []share.Word {
	o := make([]share.Word, len(values))
	for i, v := range values {
		o[i] = share.FromBig(v).Sub(shares[i])
	}
	return o
}

func randomValues(r *rand.Rand, n int, limit int64) []*big.Int {
	v := make([]*big.Int, n)
	for i := range v {
		v[i] = big.NewInt(r.Int64N(2*limit+1) - limit)
	}
	return v
}

// state is a copy of a party's shares at one moment.
type state struct {
	x                   *matrix
	fp                  fixedPoint
	own, others         []share.Word
	ownLast, othersLast []share.Word
	z                   []uint64
	r                   []share.Word
}

func snapshot(p *party) state {
	c := func(w []share.Word) []share.Word { return append([]share.Word(nil), w...) }
	return state{p.x, p.fp, c(p.own), c(p.others), c(p.ownLast), c(p.othersLast), append([]uint64(nil), p.z...), c(p.r)}
}

// openSum adds shares as integers.
func openSum(a, b []share.Word) []*big.Int {
	v := make([]*big.Int, len(a))
	for i := range a {
		v[i] = a[i].Add(b[i]).Signed()
	}
	return v
}

// Rows that fill no block, and one more than a block.
var kernelRows = []int{61, blockRows + 5}

func TestScoresAreExact(t *testing.T) {
	for _, n := range kernelRows {
		p := params()
		p.MaxIterations = 1
		r := rand.New(rand.NewPCG(1, uint64(n)))
		ua, ub := randomValues(r, 4, 1<<24), randomValues(r, 3, 1<<24)
		// Shares of weights are integers far beyond the score ring.
		sa, sb := extremes(r, 4, 100), extremes(r, 3, 100)
		var la, fb state
		pair(t, n, 3, 3, p, func(ctx context.Context, l *labelHolder) error {
			l.own, l.others = sa, sb
			err := l.scores(ctx, 7)
			la = snapshot(l.party)
			return err
		}, func(ctx context.Context, f *featureHolder) error {
			f.own, f.others = others(ub, sb), others(ua, sa)
			err := f.scores(ctx, 7)
			fb = snapshot(f.party)
			return err
		})
		checkScores(t, la, fb, ua, ub)
	}
}

func checkScores(t *testing.T, l, f state, ua, ub []*big.Int) {
	t.Helper()
	for i := range l.z {
		want := new(big.Int)
		for j, v := range l.x.at(l.x.score, i) {
			want.Add(want, new(big.Int).Mul(big.NewInt(int64(v)), ua[j]))
		}
		for j, v := range f.x.at(f.x.score, i) {
			want.Add(want, new(big.Int).Mul(big.NewInt(int64(v)), ub[j]))
		}
		got := new(big.Int).SetUint64(l.z[i] + f.z[i])
		if centredBig(got, scoreMod).Cmp(centredBig(want, scoreMod)) != 0 {
			t.Fatalf("row %d of %d: score is wrong", i, len(l.z))
		}
	}
}

func TestResidualsAreExact(t *testing.T) {
	const n = 2*blockRows + 3 // one row in a second block of slots
	p := params()
	p.MaxIterations, p.Terms = 1, 2
	r := rand.New(rand.NewPCG(2, 2))
	za, zb := extremes(r, n, scoreMod), extremes(r, n, scoreMod)
	weights := make([]float64, n)
	for i := range weights {
		weights[i] = maxRelativeWeight * r.Float64()
	}
	weights[0] = maxRelativeWeight
	var la, fb state
	var lab *labelHolder
	var series []float64
	pair(t, n, 1, 1, p, func(ctx context.Context, l *labelHolder) error {
		l.weights = weights
		for i := range l.z {
			l.z[i] = za[i].Mask(scoreMod).Lo
		}
		err := l.residuals(ctx, 7)
		la, lab = snapshot(l.party), l
		return err
	}, func(ctx context.Context, f *featureHolder) error {
		for i := range f.z {
			f.z[i] = zb[i].Mask(scoreMod).Lo
		}
		err := f.residuals(ctx, 7)
		fb, series = snapshot(f.party), f.series
		return err
	})
	checkResiduals(t, lab, la, fb, series)
}

// checkResiduals recomputes the residuals of shared scores in plain integers,
// and holds them to the sigmoid.
func checkResiduals(t *testing.T, l *labelHolder, la, fb state, a []float64) {
	t.Helper()
	n := len(la.z)
	want := make([]int64, n)
	for j := range a {
		sa, ca := angles(la.z, j+1, func(i int) float64 { return l.weight(i) * (1 << trigBits) })
		sb, cb := angles(fb.z, j+1, func(int) float64 { return a[j] * (1 << coefBits) })
		for i := range want {
			want[i] += sa[i]*cb[i] + ca[i]*sb[i]
		}
	}
	var worst float64
	for i, v := range openSum(la.r, fb.r) {
		got := centredBig(v, gradMod)
		if !got.IsInt64() || got.Int64() != want[i]+l.offset(i) {
			t.Fatalf("row %d: residual is wrong", i)
		}
		z := math.Ldexp(float64((la.z[i]+fb.z[i])&(1<<scoreMod-1)), -scoreMod) * la.fp.period
		exact := l.weight(i) * (series(a, la.fp.period, z) - l.y[i])
		worst = max(worst, math.Abs(math.Ldexp(float64(got.Int64()), -residualBits)-exact)/max(1, l.weight(i)))
	}
	if worst > 0.002 {
		t.Errorf("a residual is off by %v", worst)
	}
}

func TestGradientsAreExact(t *testing.T) {
	for _, n := range kernelRows {
		p := params()
		p.MaxIterations = 1
		r := rand.New(rand.NewPCG(3, uint64(n)))
		ua, ub := randomValues(r, 4, 1<<24), randomValues(r, 3, 1<<24)
		res := randomValues(r, n, 1<<27)
		sa, sb, sr := extremes(r, 4, 100), extremes(r, 3, 100), extremes(r, n, gradMod)
		var la, fb state
		var sl, sf step
		pair(t, n, 3, 3, p, func(ctx context.Context, l *labelHolder) (err error) {
			l.own, l.others, l.r = sa, sb, sr
			sl, err = l.gradients(ctx, 7, true, true)
			la = snapshot(l.party)
			return err
		}, func(ctx context.Context, f *featureHolder) (err error) {
			f.own, f.others, f.r = others(ub, sb), others(ua, sa), others(res, sr)
			sf, err = f.gradients(ctx, 7, true, true)
			fb = snapshot(f.party)
			return err
		})
		checkGradient(t, la, res, ua, openSum(sl.own, sf.others))
		checkGradient(t, fb, res, ub, openSum(sf.own, sl.others))
	}
}

// checkGradient wants steps that are the exact gradient, shifted down, or one
// more.
func checkGradient(t *testing.T, s state, residuals, u, steps []*big.Int) {
	t.Helper()
	for j := range steps {
		g := new(big.Int)
		for i, r := range residuals {
			g.Add(g, new(big.Int).Mul(r, big.NewInt(int64(s.x.at(s.x.grad, i)[j]))))
		}
		for k := range u {
			g.Add(g, new(big.Int).Mul(u[k], big.NewInt(s.x.ridge[j*s.x.cols+k])))
		}
		g.Rsh(g, uint(s.fp.shift))
		if d := new(big.Int).Sub(steps[j], g); !d.IsInt64() || d.Int64() < 0 || d.Int64() > 1 {
			t.Errorf("column %d: step is off", j)
		}
	}
}

func TestTruncationIsOffByOneAtMost(t *testing.T) {
	st := share.KeyedStream(&[32]byte{5})
	r := rand.New(rand.NewPCG(5, 5))
	seen := map[int64]int{}
	for i := range 100_000 {
		shift := 8 + i%30
		limit := int64(1) << (20 + i%42)
		g := r.Int64N(2*limit) - limit
		switch i {
		case 0:
			g = 1<<gradLimit - 1
		case 1:
			g = -(1 << gradLimit)
		}
		rho := gradientMask(st)
		v := share.FromInt64(g).Add(rho)
		if v != v.Mask(gradMod) {
			t.Fatal("a masked gradient wraps")
		}
		got := truncateMasked(v, shift).Add(truncateMask(rho, shift))
		d := got.Sub(share.FromInt64(g >> shift)).Signed()
		if !d.IsInt64() || d.Int64() < -1 || d.Int64() > 1 {
			t.Fatalf("draw %d: off by %v", i, d)
		}
		seen[d.Int64()]++
	}
	if len(seen) < 2 {
		t.Errorf("errors seen: %v; rounding does not depend on the mask", seen)
	}
}

// The comparison against plain integers, at the corners.
func TestCompare(t *testing.T) {
	top := new(big.Int).Sub(pow2(compareBits), big.NewInt(1))
	n := func(x int64) *big.Int { return big.NewInt(x) }
	minus := func(a *big.Int, x int64) *big.Int { return new(big.Int).Sub(a, n(x)) }
	cases := [][2]*big.Int{
		{n(0), n(0)},
		{n(0), n(1)},
		{n(1), n(0)},
		{n(5), n(5)},
		{n(6), n(5)},
		{n(5), n(6)},
		{top, top},
		{minus(top, 1), top},
		{top, minus(top, 1)},
		{n(0), top},
		{top, n(0)},
		{minus(pow2(40), 1), pow2(40)},
		{pow2(40), minus(pow2(40), 1)},
		{pow2(86), pow2(85)},
		{pow2(85), pow2(86)},
		{pow2(90), top}, // beyond the width: below nothing
	}
	p := params()
	p.MaxIterations, p.Terms = 2, 1
	var got, gotFeature []bool
	pair(t, 61, 1, 1, p, func(ctx context.Context, l *labelHolder) error {
		for i, c := range cases {
			bit, err := l.below(ctx, i, share.FromBig(c[0]), compareBits)
			if err != nil {
				return err
			}
			got = append(got, bit)
		}
		return nil
	}, func(ctx context.Context, f *featureHolder) error {
		for i, c := range cases {
			bit, err := f.above(ctx, i, share.FromBig(c[1]), compareBits)
			if err != nil {
				return err
			}
			gotFeature = append(gotFeature, bit)
		}
		return nil
	})
	for i, c := range cases {
		if want := c[0].Cmp(c[1]) < 0; got[i] != want || gotFeature[i] != want {
			t.Errorf("case %d: %v and %v, want %v", i, got[i], gotFeature[i], want)
		}
	}
}

// What the label holder opens in a comparison: uniform numbers, with a zero in
// a uniform place or none.
func TestCompareShowsOneBit(t *testing.T) {
	const width, runs = 24, 60
	p := params()
	p.MaxIterations, p.Terms = 2, 1
	var places, zeros []int
	var mean float64
	pair(t, 61, 1, 1, p, func(ctx context.Context, l *labelHolder) error {
		for i := range runs {
			m := make([]share.Word, width)
			for k := range m {
				m[k] = share.FromUint64(uint64(k % 2))
			}
			req, err := l.sineKeys[0].Encrypt(l.rand, m)
			if err != nil {
				return err
			}
			if err := l.send(ctx, msgCompareRequest, i, 0, req.Marshal()); err != nil {
				return err
			}
			w, err := l.recvResponse(ctx, l.sines[0], l.sineKeys[0], msgCompareResponse, i, 0, comparePositions(width))
			if err != nil {
				return err
			}
			count := 0
			for m, v := range w {
				if v.Lo == 0 {
					count++
					places = append(places, m)
				}
				mean += float64(v.Lo) / float64(l.sines[0].Modulus()) / (runs * width)
			}
			zeros = append(zeros, count)
		}
		return nil
	}, func(ctx context.Context, f *featureHolder) error {
		for i := range runs {
			ct, err := f.recvRequest(ctx, f.sines[0], msgCompareRequest, i, 0)
			if err != nil {
				return err
			}
			b := uint64(1<<width - 1) // above in even runs, below in odd ones
			if i%2 == 1 {
				b = 5
			}
			res, err := f.compare(ct, share.FromUint64(b), width)
			if err != nil {
				return err
			}
			if err := f.send(ctx, msgCompareResponse, i, 0, res.Marshal()); err != nil {
				return err
			}
		}
		return nil
	})
	distinct := map[int]bool{}
	for _, m := range places {
		distinct[m] = true
	}
	for i, z := range zeros {
		if want := 1 - i%2; z != want {
			t.Errorf("run %d shows %d zeros, want %d", i, z, want)
		}
	}
	// 30 draws from 24 places: fewer than 10 distinct ones have probability
	// below 2^-20. The mean of 1440 uniform numbers has a deviation of 0.0076.
	if len(distinct) < 10 || math.Abs(mean-0.5) > 0.06 {
		t.Errorf("%d places of the zero, mean %.3f of the modulus", len(distinct), mean)
	}
}

// The bit on the step's length, on both sides of the tolerance, with shares at
// the corners.
func TestShortStep(t *testing.T) {
	p := params()
	p.MaxIterations, p.Tolerance, p.Terms = 4, 0.01, 1
	shift := scoreMod - xBits - p.PeriodLog2 - stepBits
	unit := int64(1) << shift
	exact := int64(p.Tolerance * (1 << stepBits)) // 1310.72 units
	r := rand.New(rand.NewPCG(6, 6))
	cases := []struct {
		a, b []int64 // steps of 2 and 2 weights, in units of 2^-stepBits
		want bool
	}{
		{[]int64{0, 0}, []int64{0, 0}, true},
		{[]int64{exact - 4, 0}, []int64{0, 0}, true},
		{[]int64{0, -(exact - 4)}, []int64{0, 0}, true},
		{[]int64{0, 0}, []int64{exact + 4, 0}, false},
		{[]int64{700, -700}, []int64{-700, 700}, false},
		{[]int64{600, -600}, []int64{-600, 600}, true},
		{[]int64{1 << 22, 0}, []int64{0, -(1 << 22)}, false},
	}
	values := func(v []int64) []*big.Int {
		o := make([]*big.Int, len(v))
		for i := range v {
			o[i] = big.NewInt(v[i] * unit)
		}
		return o
	}
	zero := func() []share.Word { return make([]share.Word, 2) }
	got := make([][2]bool, len(cases))
	sa, sb := make([][]share.Word, len(cases)), make([][]share.Word, len(cases))
	for i := range cases {
		sa[i], sb[i] = extremes(r, 2, 96), extremes(r, 2, 96)
	}
	pair(t, 61, 1, 2, p, func(ctx context.Context, l *labelHolder) (err error) {
		for i := range cases {
			l.own, l.others = sa[i], sb[i]
			if got[i][0], err = l.shortStep(ctx, i, step{zero(), zero()}); err != nil {
				return err
			}
		}
		return nil
	}, func(ctx context.Context, f *featureHolder) (err error) {
		for i, c := range cases {
			f.own, f.others = others(values(c.b), sb[i]), others(values(c.a), sa[i])
			if got[i][1], err = f.shortStep(ctx, i, step{zero(), zero()}); err != nil {
				return err
			}
		}
		return nil
	})
	for i, c := range cases {
		if got[i] != [2]bool{c.want, c.want} {
			t.Errorf("case %d: %v, want %v", i, got[i], c.want)
		}
	}
}

func TestPeriodFits(t *testing.T) {
	p := params()
	p.MaxIterations, p.Terms = 2, 1 // period 32: scores up to 16
	cases := []struct {
		a, b float64
		want bool
	}{{0, 0, true}, {8, 7.9, true}, {8, 8, false}, {15.99, 0, true}, {16, 0, false}, {0, 16, false}, {0, 15.99, true}, {1e9, 0, false}, {0, 1e9, false}}
	got := make([][2]bool, len(cases))
	pair(t, 61, 1, 1, p, func(ctx context.Context, l *labelHolder) (err error) {
		for i, c := range cases {
			if got[i][0], err = l.periodFits(ctx, i, c.a); err != nil {
				return err
			}
		}
		return nil
	}, func(ctx context.Context, f *featureHolder) (err error) {
		for i, c := range cases {
			if got[i][1], err = f.periodFits(ctx, i, c.b); err != nil {
				return err
			}
		}
		return nil
	})
	for i, c := range cases {
		if got[i] != [2]bool{c.want, c.want} {
			t.Errorf("%v and %v: %v, want %v", c.a, c.b, got[i], c.want)
		}
	}
}

func TestCRT(t *testing.T) {
	p, q := uint64(0x1ffffff8c001), uint64(0x1ffffff5c001)
	c := newCRT(p, q)
	r := rand.New(rand.NewPCG(8, 8))
	for i := range 1000 {
		v := share.Word{Hi: r.Uint64() & (1<<25 - 1), Lo: r.Uint64()}
		switch i {
		case 0:
			v = share.Word{}
		case 1:
			v = share.FromBig(new(big.Int).Sub(new(big.Int).Mul(new(big.Int).SetUint64(p), new(big.Int).SetUint64(q)), big.NewInt(1)))
		}
		if got := c.join(modPrime(v, p), modPrime(v, q)); got != v {
			t.Fatalf("draw %d: does not come back", i)
		}
		w := share.Word{Hi: r.Uint64(), Lo: r.Uint64()}
		want := new(big.Int).Mod(w.Signed(), new(big.Int).SetUint64(p)).Uint64()
		if modPrime(w, p) != want {
			t.Fatalf("draw %d: a signed word is reduced wrongly", i)
		}
	}
}
