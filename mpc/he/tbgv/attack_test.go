package tbgv

import (
	"errors"
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/tuneinsight/lattigo/v5/ring"
	"github.com/tuneinsight/lattigo/v5/utils/sampling"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// TestTooFewShares: one share less than needed, put together as if it were
// enough, gives nothing.
func TestTooFewShares(t *testing.T) {
	for _, p := range []Params{{Sum32, 4, 3, 1}, {Sum32, 3, 3, 1}, {Sum64, 3, 3, 1}} {
		rnd := testRand(t, byte(p.Parties))
		g := newGroup(t, rnd, p)
		v := []share.Word{share.FromInt64(77)}
		sum := g.sum(t, rnd, v, v)
		s := *g.s // the attackers' own, with a threshold that they reach
		s.params.Threshold--
		h := &group{s: &s, shares: slices.Clone(g.shares)}
		active := all(p.Threshold - 1)
		if p.Threshold == p.Parties { // additive: nothing to interpolate
			var shares []*Share
			for _, i := range active {
				d := g.s.partial(rnd, g.shares[i].keyShare, i, all(p.Parties), sum)
				shares = append(shares, &Share{s: g.s, party: i, bind: bindTo(sum.Digest(), active), d: g.s.drop(d)})
			}
			_, err := s.Open(sum, active, shares)
			refuse(t, "shares of all but one", err, ErrMargin)
			continue
		}
		_, err := s.Open(sum, active, h.open(t, rnd, sum, active))
		refuse(t, "one share too few", err, ErrMargin)
		// The same shares work where there are enough.
		w := newGroup(t, rnd, p)
		sum = w.sum(t, rnd, v, v)
		check(t, w.s, must(w.s.Open(sum, []int{0, 1, 3}, w.open(t, rnd, sum, []int{0, 1, 3})))(t), v, v)
	}
}

// TestDealtPiecesAreUniform: a piece, of which two are needed, is spread evenly
// over every prime, and none is the secret.
func TestDealtPiecesAreUniform(t *testing.T) {
	rnd := testRand(t, 0)
	s := must(New(Params{Set: Sum32, Parties: 3, Threshold: 2, Openings: 1}))(t)
	sk, _, err := s.GenerateKey(rnd, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	secret := slices.Clone(sk.rows[0])
	for n, p := range must(s.Deal(rnd, sk, 0))(t) {
		for i, row := range p.rows {
			if slices.Equal(row, secret) {
				t.Fatalf("piece %d is the secret", n)
			}
			var count [64]float64
			for _, v := range row {
				count[int(float64(v)/float64(s.limbs[i].Q)*64)]++
			}
			if x := chiSquare(count[:], float64(s.n)/64); x > 63+6*math.Sqrt(2*63) {
				t.Errorf("piece %d, prime %d: χ² %.0f of 63", n, i, x)
			}
		}
	}
}

// TestOutsidersCannotTakeSharesApart: contributors that are not active have
// pieces, too. t-1 of them can compute what an active contributor's share of a
// threshold opening is, but for the noise of the sum; and in that share the
// noise comes multiplied by a known fraction, modulo Q a large number, so that
// flooding does not hide it: each share tells the noise modulo a denominator,
// and the shares together tell all of it. Noise that is known gives the key
// away, c1·s = t⁻¹·m + e - c0 being linear in s. The zero-shares prevent it.
// Without them the attack works.
func TestOutsidersCannotTakeSharesApart(t *testing.T) {
	const n, threshold, coeffs = 20, 10, 4
	rnd := testRand(t, 0)
	g := newGroup(t, rnd, Params{Set: Sum32Wide, Parties: n, Threshold: threshold, Openings: 1})
	s, active, corrupt := g.s, all(10), []int{11, 12, 13, 14, 15, 16, 17, 18, 19}
	v := make([]share.Word, s.Slots())
	for j := range v {
		v[j] = share.FromInt64(int64(j)*91 + 7)
	}
	sum := g.sum(t, rnd, v, v, v)
	var bare [][]uint64
	for _, i := range active {
		bare = append(bare, s.drop(s.partial(rnd, g.shares[i].keyShare, i, active, sum))[0])
	}
	var masked [][]uint64
	shares := g.open(t, rnd, sum, active)
	for _, sh := range shares {
		masked = append(masked, sh.d[0])
	}
	check(t, s, must(s.Open(sum, active, shares))(t), v, v, v)

	invert := func(l *limb, a uint64) uint64 {
		return new(big.Int).ModInverse(new(big.Int).SetUint64(a), new(big.Int).SetUint64(l.Q)).Uint64()
	}
	times := func(l *limb, a, b uint64) uint64 { return l.Mul(a, l.Form(b)) }
	product := func(i int) ringq.Poly { // c1·S_i
		p := s.newPoly()
		for r := range s.limbs {
			l := &s.limbs[r]
			for j, x := range sum.c1[r] {
				p[r][j] = l.Mul(x, g.shares[i].sM[r][j])
			}
			l.INTT(p[r])
		}
		return p
	}
	plain := func(l *limb, j int) uint64 { return l.put(0, share.FromUint64(3*v[j].Lo), 0) }
	bound := int64(s.set.noise(3))
	flood := uint64(math.Exp2(float64(s.budget.Flood-1)-math.Log2(float64(s.limbs[1].Q)))) + 2
	own := map[int]ringq.Poly{}
	for _, k := range corrupt {
		own[k] = product(k)
	}
	// candidates returns the noise of coefficient j that all shares agree with.
	candidates := func(shares [][]uint64, j int) (left []int64) {
		for e := -bound; e <= bound; e++ {
			left = append(left, e)
		}
		for i, d := range shares {
			with := append([]int{i}, corrupt...) // enough to interpolate s
			var base, step [2]uint64
			for r := range s.limbs {
				l := &s.limbs[r]
				x := l.Sub(plain(l, j), sum.c0[r][j]) // c1·s, but for the noise
				for _, k := range corrupt {
					x = l.Sub(x, times(l, own[k][r][j], s.lagrange(l, k, with)))
				}
				fraction := times(l, s.lagrange(l, i, active), invert(l, s.lagrange(l, i, with)))
				base[r], step[r] = times(l, x, fraction), l.Form(fraction)
			}
			l0, l1 := &s.limbs[0], &s.limbs[1]
			left = slices.DeleteFunc(left, func(e int64) bool {
				y0 := l0.Add(base[0], l0.Mul(l0.Signed(e), step[0]))
				y1 := l1.Add(base[1], l1.Mul(l1.Signed(e), step[1]))
				y := l0.Mul(l0.Sub(y0, l0.Cred(y1)), l0.dropInvM[1]) // without a prime, to within 1
				diff := l0.Sub(d[j], y)
				return min(diff, l0.Q-diff) > flood
			})
		}
		return left
	}
	// The truth: e = c0 + c1·s - t⁻¹·m.
	l := &s.limbs[0]
	truth := make([]uint64, s.n)
	for _, i := range active {
		lambda := l.Form(s.lagrange(l, i, active))
		for j, x := range product(i)[0] {
			truth[j] = l.Add(truth[j], l.Mul(x, lambda))
		}
	}
	var found, masks, left int
	for j := range coeffs {
		e := l.Sub(l.Add(truth[j], sum.c0[0][j]), plain(l, j))
		exact := int64(e)
		if e > l.Q/2 {
			exact = -int64(l.Q - e)
		}
		c := candidates(bare, j)
		if slices.Contains(c, exact) {
			found++
		}
		left += len(c)
		masks += len(candidates(masked, j))
	}
	t.Logf("bare shares leave %d candidates of %d for %d noise coefficients", left, 2*bound+1, coeffs)
	if found != coeffs || left != coeffs {
		t.Errorf("the attack on bare shares finds %d of %d noise coefficients: the test tests nothing", found, coeffs)
	}
	if masks != 0 {
		t.Errorf("shares with zero-shares leave %d candidates that agree with all of them", masks)
	}
}

func chiSquare(count []float64, expected float64) (x float64) {
	for _, c := range count {
		x += (c - expected) * (c - expected) / expected
	}
	return x
}

// gaussianSteps are the widths of the ziggurat's layers in units of 2^-31, as
// Lattigo has them: single precision, from the recurrence of Marsaglia and
// Tsang. A value of layer i is j·step_i·σ for a j of 31 bits that ends in the
// seven bits of i, rounded: a set of 2^31 points, however large σ is.
func gaussianSteps() (w [128]float64) {
	const m, v = 1 << 31, 9.91256303526217e-3
	x := 3.442619855899
	f := math.Exp(-x * x / 2)
	w[0], w[127] = float64(float32(v/f/m)), float64(float32(x/m))
	for i := 126; i >= 1; i-- {
		x = math.Sqrt(-2 * math.Log(v/x+f))
		f = math.Exp(-x * x / 2)
		w[i] = float64(float32(x / m))
	}
	return w
}

// supportFaults tests integers for being uniform over [-2^(b-1), 2^(b-1)), with
// nothing about them that a colluder could use to rule a guess out.
func supportFaults(x []int64, b int, sigma float64) (faults []string) {
	n := float64(len(x))
	var low, high [256]float64
	ones := make([]float64, b)
	for _, v := range x {
		u := uint64(v + 1<<(b-1))
		if u>>b != 0 {
			return []string{"range"}
		}
		low[u&255]++
		high[u>>(b-8)]++
		for i := range ones {
			ones[i] += float64(u >> i & 1)
		}
	}
	limit := 255 + 6*math.Sqrt(2*255)
	if chiSquare(low[:], n/256) > limit {
		faults = append(faults, "low bits")
	}
	if chiSquare(high[:], n/256) > limit {
		faults = append(faults, "high bits")
	}
	for _, o := range ones {
		if math.Abs(o-n/2) > 6*math.Sqrt(n)/2 {
			faults = append(faults, "a bit")
			break
		}
	}
	steps := gaussianSteps()
	var members float64
	for _, v := range x {
		abs := math.Abs(float64(v))
		for i, w := range steps {
			j := math.Round((abs/(w*sigma)-float64(i))/128)*128 + float64(i)
			if j >= 0 && j < 1<<31 && math.Floor(j*w*sigma+0.5) == abs {
				members++
				break
			}
		}
	}
	if members > n/50 { // about 0.1 % of all integers of this size
		faults = append(faults, "sparse set")
	}
	seen := map[int64]bool{}
	for _, v := range x {
		seen[v] = true
	}
	if n-float64(len(seen)) > 2 {
		faults = append(faults, "repetitions")
	}
	return faults
}

// TestFloodingHasFullSupport: the flooding passes, at a width where the other
// sampler can be compared and at the width in use, and Lattigo's Gaussian of
// σ = 2^40 does not.
func TestFloodingHasFullSupport(t *testing.T) {
	const sigma = 1 << 40
	s := must(New(Params{Set: Sum32, Parties: 3, Threshold: 3, Openings: 1}))(t)
	narrow := *s
	narrow.budget.Flood = 43 // ±4σ
	narrow.limbs = slices.Clone(s.limbs)
	for i := range narrow.limbs {
		narrow.limbs[i].floodHalf = 1 << 42
	}
	rnd := testRand(t, 0)
	var ours []int64
	for range 8 {
		d := narrow.newPoly()
		narrow.flood(rnd, d)
		for j, v := range d[0] {
			x := int64(v)
			if v > s.limbs[0].Q/2 {
				x = -int64(s.limbs[0].Q - v)
			}
			if s.limbs[1].Signed(x) != d[1][j] {
				t.Fatal("the primes disagree about the noise")
			}
			ours = append(ours, x)
		}
	}
	if f := supportFaults(ours, 43, sigma); f != nil {
		t.Errorf("flooding: %v", f)
	}

	// At full width: the integer from both primes, its low and its high bits.
	q0, q1 := new(big.Int).SetUint64(s.limbs[0].Q), new(big.Int).SetUint64(s.limbs[1].Q)
	q := new(big.Int).Mul(q0, q1)
	inv := new(big.Int).ModInverse(q0, q1)
	var low, high []int64
	b := uint(s.budget.Flood)
	half := new(big.Int).Lsh(big.NewInt(1), b-1)
	for range 8 {
		d := s.newPoly()
		s.flood(rnd, d)
		for j := range d[0] {
			x0 := new(big.Int).SetUint64(d[0][j])
			x := new(big.Int).SetUint64(d[1][j])
			x.Mul(x.Sub(x, x0), inv).Mod(x, q1).Mul(x, q0).Add(x, x0).Add(x, half).Mod(x, q)
			if x.BitLen() > int(b) {
				t.Fatalf("noise of %d bits is out of its range", x.BitLen())
			}
			low = append(low, new(big.Int).And(x, big.NewInt(1<<43-1)).Int64()-1<<42)
			high = append(high, new(big.Int).Rsh(x, b-43).Int64()-1<<42)
		}
	}
	for name, x := range map[string][]int64{"low": low, "high": high} {
		if f := supportFaults(x, 43, sigma); f != nil {
			t.Errorf("flooding of %d bits, %s ones: %v", b, name, f)
		}
	}

	// Lattigo's.
	prng, err := sampling.NewKeyedPRNG([]byte("support"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := ring.NewRing(s.n, s.set.q[:1])
	if err != nil {
		t.Fatal(err)
	}
	g := ring.NewGaussianSampler(prng, r, ring.DiscreteGaussian{Sigma: sigma, Bound: 4 * sigma}, false)
	var theirs []int64
	for range 8 {
		for _, v := range g.ReadNew().Coeffs[0] {
			x := int64(v)
			if v > s.limbs[0].Q/2 {
				x = -int64(s.limbs[0].Q - v)
			}
			theirs = append(theirs, max(x, -4*sigma))
		}
	}
	f := supportFaults(theirs, 43, sigma)
	t.Logf("Lattigo's Gaussian fails on: %v", f)
	if !slices.Contains(f, "sparse set") {
		t.Errorf("Lattigo's Gaussian at σ = 2^40 is not found on its sparse set: %v", f)
	}
	// It is no test of shape alone: a rounded Gaussian of full precision is not
	// on the set.
	m := testMath(t)
	fine := make([]int64, 1<<15)
	for i := range fine {
		fine[i] = int64(math.Round((m.NormFloat64() + m.Float64()*0x1p-20) * sigma))
	}
	if slices.Contains(supportFaults(fine, 46, sigma), "sparse set") {
		t.Error("the test finds any Gaussian sparse")
	}
}

// TestPartyErrorUnwraps: errors about a contributor keep their class.
func TestPartyErrorUnwraps(t *testing.T) {
	err := error(&PartyError{2, ErrFrame})
	if !errors.Is(err, ErrFrame) || err.Error() == ErrFrame.Error() {
		t.Error(err)
	}
}

// TestChosenSumGivesTheKeyAway: a contributor that sees the others' ciphertexts
// before it sends its own makes the sum whatever it likes. Under a sum of which
// c1 is one large number, an honest share is the secret itself, written above
// the flooding. That is why ciphertexts have to be committed to, or contributors
// trusted not to do this: nothing here can tell such a ciphertext from another.
func TestChosenSumGivesTheKeyAway(t *testing.T) {
	rnd := testRand(t, 0)
	g := newGroup(t, rnd, Params{Sum32, 3, 3, 1})
	s := g.s
	cts := make([]*Ciphertext, 3)
	for i := range cts {
		cts[i] = must(s.Encrypt(rnd, g.pk, nil))(t)
	}
	large := new(big.Int).Lsh(big.NewInt(1), 98)
	q := new(big.Int).SetUint64(s.set.q[0])
	for i := range s.limbs {
		l := &s.limbs[i]
		k := new(big.Int).Mod(large, new(big.Int).SetUint64(l.Q)).Uint64()
		for j := range s.n { // a constant has this value everywhere
			cts[2].c1[i][j] = l.Sub(l.Sub(k, cts[0].c1[i][j]), cts[1].c1[i][j])
		}
	}
	cts[2] = must(s.ParseCiphertext(cts[2].Marshal()))(t)
	sum := must(s.Sum(cts))(t)
	sh := must(s.OpenShare(rnd, g.shares[0], 0, all(3), sum))(t)
	l := &s.limbs[0]
	secret := slices.Clone(g.shares[0].sM[0])
	for j, v := range secret {
		secret[j] = l.Mul(v, 1) // no more Montgomery form
	}
	l.INTT(secret)
	for j, v := range sh.d[0] {
		// In units of q, 2^98 is 2^-3: the nearest of -1, 0 and 1 times that.
		x := new(big.Int).SetUint64(v)
		x.Mul(x, big.NewInt(16)).Div(x, q)
		guess := l.Signed([]int64{0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, 0}[x.Int64()])
		if guess != secret[j] {
			t.Fatalf("coefficient %d is not told: the page says it is", j)
		}
	}
}
