package noise

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The library's logger has a goroutine that lasts as long as the process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/golang/glog.(*fileSink).flushDaemon"))
}

// moments draws n times and returns mean, variance and mean absolute deviation,
// in units of unit.
func moments(t *testing.T, n int, lInf *big.Int, p Params, unit float64) (mean, variance, absolute float64) {
	t.Helper()
	values, sens := make([]*big.Int, n), make([]*big.Int, n)
	for i := range values {
		values[i], sens[i] = new(big.Int), lInf
	}
	if err := Add(values, sens, p); err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		f, _ := new(big.Float).SetInt(v).Float64()
		f /= unit
		mean += f
		variance += f * f
		absolute += math.Abs(f)
	}
	return mean / float64(n), variance / float64(n), absolute / float64(n)
}

// The noise has the moments of its distribution, and never less than what the
// sensitivity asks for. The bounds are eight standard errors: a correct sampler
// fails once in 10^14 runs.
func TestMoments(t *testing.T) {
	const n, errors = 40_000, 8
	root := math.Sqrt(n)
	for _, c := range []struct {
		name string
		lInf *big.Int
		p    Params
	}{
		{"laplace, counts", big.NewInt(1), Params{L0: 3, Epsilon: 0.25}},
		{"laplace, money", big.NewInt(123_456_789), Params{L0: 8, Epsilon: 1}},
		{"laplace, 96 bits", new(big.Int).Lsh(big.NewInt(987654321), 60), Params{L0: 5, Epsilon: 0.5}},
		{"gaussian, counts", big.NewInt(1), Params{L0: 24, Epsilon: 0.5, Delta: 1e-6}},
		{"gaussian, 90 bits", new(big.Int).Lsh(big.NewInt(3), 88), Params{L0: 24, Epsilon: 1, Delta: 1e-8}},
	} {
		l, _ := new(big.Float).SetInt(c.lInf).Float64()
		scale := l * c.p.scale()
		mean, variance, absolute := moments(t, n, c.lInf, c.p, scale)
		wantVar, wantAbs, kurtosis := 2.0, 1.0, 6.0 // of Laplace's distribution with scale 1
		if c.p.Delta > 0 {
			wantVar, wantAbs, kurtosis = 1, math.Sqrt(2/math.Pi), 3
		}
		if e := errors * math.Sqrt(wantVar) / root; math.Abs(mean) > e {
			t.Errorf("%s: mean %g, want 0 within %g", c.name, mean, e)
		}
		seVar := wantVar * math.Sqrt(kurtosis-1) / root
		// Rounding up of the sensitivity may add a little.
		if variance < wantVar-errors*seVar || variance > wantVar*1.001+errors*seVar {
			t.Errorf("%s: variance %g, want %g within %g", c.name, variance, wantVar, errors*seVar)
		}
		seAbs := math.Sqrt(wantVar-wantAbs*wantAbs) / root
		if math.Abs(absolute-wantAbs) > errors*seAbs+0.001 {
			t.Errorf("%s: mean absolute deviation %g, want %g within %g", c.name, absolute, wantAbs, errors*seAbs)
		}
		if d := c.p.Deviation(c.lInf); math.Abs(d/scale-math.Sqrt(wantVar)) > 1e-9 {
			t.Errorf("%s: stated deviation %g, want %g", c.name, d/scale, math.Sqrt(wantVar))
		}
	}
}

// The calibration is the textbook's: scale L0·lInf/ε, and for the normal
// distribution the δ that its standard deviation gives is no more than asked.
func TestScale(t *testing.T) {
	if got := (Params{L0: 12, Epsilon: 0.5}).scale(); got != 24 {
		t.Errorf("scale %g, want 24", got)
	}
	phi := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	for _, p := range []Params{{1, 1, 1e-5}, {40, 0.3, 1e-7}, {7, 3, 1e-3}} {
		s := p.scale() / math.Sqrt(float64(p.L0)) // in units of the L2 sensitivity
		delta := phi(1/(2*s)-p.Epsilon*s) - math.Exp(p.Epsilon)*phi(-1/(2*s)-p.Epsilon*s)
		if delta > p.Delta*1.0001 {
			t.Errorf("%+v: delta is %g", p, delta)
		}
	}
}

// Each of several contributors adds all of the noise: what is left when all but
// one take theirs off is what one needs.
func TestColludersLeaveFullNoise(t *testing.T) {
	p := Params{L0: 2, Epsilon: 0.1}
	const n = 20_000
	one := big.NewInt(1)
	variance := 0.0
	for range n {
		var rest *big.Int
		sum := new(big.Int)
		for k := range 3 {
			own := []*big.Int{big.NewInt(100)}
			if err := Add(own, []*big.Int{one}, p); err != nil {
				t.Fatal(err)
			}
			sum.Add(sum, own[0])
			if k > 0 { // colluders know theirs
				sum.Sub(sum, own[0])
			} else {
				rest = big.NewInt(100)
			}
		}
		f, _ := new(big.Float).SetInt(sum.Sub(sum, rest)).Float64()
		variance += f * f / n
	}
	want := 2 * 20.0 * 20 // 2·(L0/ε)²
	if math.Abs(variance-want) > 8*want*math.Sqrt(5.0/n) {
		t.Errorf("variance %g, want %g", variance, want)
	}
}

// Neighbours go through the same rounding: counters that differ by at most lInf
// differ by at most as many steps of the grain as the sampler is told.
func TestRoundingKeepsNeighbours(t *testing.T) {
	p := Params{L0: 3, Epsilon: 0.01}
	for _, bits := range []uint{10, 40, 64, 90} {
		lInf := new(big.Int).Lsh(big.NewInt(5), bits)
		lInf.Add(lInf, big.NewInt(3))
		shift := p.shift(lInf, p.scale())
		steps := grains(lInf, shift)
		if float64(steps.Int64())*p.scale() > 1<<(maxScaleBits+1) {
			t.Errorf("%d bits: scale of %v steps", bits, steps)
		}
		round := func(v *big.Int) *big.Int {
			if shift == 0 {
				return v
			}
			w := new(big.Int).Add(v, new(big.Int).Lsh(big.NewInt(1), shift-1))
			return w.Rsh(w, shift)
		}
		for _, at := range []int64{-7, -1, 0, 1, 12345} {
			low := new(big.Int).Mul(big.NewInt(at), big.NewInt(1<<61-1))
			high := new(big.Int).Add(low, lInf)
			if d := new(big.Int).Sub(round(high), round(low)); d.Cmp(steps) > 0 {
				t.Errorf("%d bits: neighbours differ by %v steps, the sampler knows of %v", bits, d, steps)
			}
		}
		// The grain is far below the noise.
		grain := math.Ldexp(1, int(shift))
		if l, _ := new(big.Float).SetInt(lInf).Float64(); shift > 0 && grain > l*p.scale()*math.Ldexp(1, -38) {
			t.Errorf("%d bits: the grain is %g of the scale", bits, grain/(l*p.scale()))
		}
	}
}

// Repeating a request averages noise away, which is why there is a budget: the
// attacker's error falls with the root of the repetitions, and what they spend
// grows with their number.
func TestAveragingNeedsBudget(t *testing.T) {
	p := Params{L0: 1, Epsilon: 0.1}
	const truth, repeats = 1000, 10_000
	sum := 0.0
	for range repeats {
		v := []*big.Int{big.NewInt(truth)}
		if err := Add(v, []*big.Int{big.NewInt(1)}, p); err != nil {
			t.Fatal(err)
		}
		sum += float64(v[0].Int64())
	}
	err := math.Abs(sum/repeats - truth)
	if single := p.Deviation(big.NewInt(1)); err > 8*single/math.Sqrt(repeats) {
		t.Errorf("after %d repetitions the error is still %g", repeats, err)
	}
	if spent := repeats * p.Epsilon; spent < 1000 {
		t.Errorf("they spent only %g", spent)
	}
}

func TestBound(t *testing.T) {
	for _, p := range []Params{{L0: 3, Epsilon: 0.5}, {L0: 3, Epsilon: 0.5, Delta: 1e-6}} {
		for _, lInf := range []*big.Int{big.NewInt(1), big.NewInt(1e9), new(big.Int).Lsh(big.NewInt(1), 80)} {
			b := p.Bound(lInf)
			values, sens := make([]*big.Int, 2000), make([]*big.Int, 2000)
			for i := range values {
				values[i], sens[i] = new(big.Int), lInf
			}
			if err := Add(values, sens, p); err != nil {
				t.Fatal(err)
			}
			for _, v := range values {
				if v.CmpAbs(b) > 0 {
					t.Fatalf("noise beyond its bound for %d bits", lInf.BitLen())
				}
			}
			if f, _ := new(big.Float).SetInt(b).Float64(); f > 130*p.Deviation(lInf)+2 {
				t.Errorf("bound of %g deviations", f/p.Deviation(lInf))
			}
		}
	}
}

func TestAddRefuses(t *testing.T) {
	one := big.NewInt(1)
	ok := Params{L0: 1, Epsilon: 1}
	for name, c := range map[string]struct {
		values, lInf []*big.Int
		p            Params
	}{
		"no epsilon":           {[]*big.Int{one}, []*big.Int{one}, Params{L0: 1}},
		"epsilon not a number": {[]*big.Int{one}, []*big.Int{one}, Params{L0: 1, Epsilon: math.NaN()}},
		"epsilon infinite":     {[]*big.Int{one}, []*big.Int{one}, Params{L0: 1, Epsilon: math.Inf(1)}},
		"epsilon tiny":         {[]*big.Int{one}, []*big.Int{one}, Params{L0: 1, Epsilon: 1e-13}},
		"delta 1":              {[]*big.Int{one}, []*big.Int{one}, Params{L0: 1, Epsilon: 1, Delta: 1}},
		"delta not a number":   {[]*big.Int{one}, []*big.Int{one}, Params{L0: 1, Epsilon: 1, Delta: math.NaN()}},
		"no counters":          {[]*big.Int{one}, []*big.Int{one}, Params{Epsilon: 1}},
		"other lengths":        {[]*big.Int{one}, nil, ok},
		"negative":             {[]*big.Int{one}, []*big.Int{big.NewInt(-1)}, ok},
		"nil":                  {[]*big.Int{one}, []*big.Int{nil}, ok},
		"too wide":             {[]*big.Int{one}, []*big.Int{new(big.Int).Lsh(one, maxBits)}, ok},
	} {
		if err := Add(c.values, c.lInf, c.p); !errors.Is(err, ErrParams) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if one.Int64() != 1 {
		t.Error("a refused value has changed")
	}
	v := []*big.Int{big.NewInt(42)}
	if err := Add(v, []*big.Int{new(big.Int)}, ok); err != nil || v[0].Int64() != 42 {
		t.Errorf("a value that depends on nobody became %v, %v", v[0], err)
	}
}
