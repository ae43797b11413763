package logit

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/yinqiao/yinqiao/fl/metrics"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// recorder keeps both parties' shares after every step of every round.
type recorder struct {
	mu     sync.Mutex
	labels *labelHolder
	series []float64
	l, f   map[string]map[int]state
}

func newRecorder() *recorder {
	return &recorder{l: map[string]map[int]state{}, f: map[string]map[int]state{}}
}

func (r *recorder) keep(m map[string]map[int]state, event string, round int, p *party) {
	if m[event] == nil {
		m[event] = map[int]state{}
	}
	m[event][round] = snapshot(p)
}

func (r *recorder) label(l *labelHolder, event string, round int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.labels = l
	r.keep(r.l, event, round, l.party)
}

func (r *recorder) feature(f *featureHolder, event string, round int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.series = f.series
	r.keep(r.f, event, round, f.party)
}

// rounds returns the rounds with an event, in order.
func (r *recorder) rounds(event string) []int {
	var k []int
	for round := range r.l[event] {
		k = append(k, round)
	}
	slices.Sort(k)
	return k
}

// A whole run against the twin in plain integers: scores and residuals exact,
// steps exact or one unit more. The twin takes over the shares of each round,
// since the rounding of sines depends on them.
func TestProtocolEqualsTwin(t *testing.T) {
	e := synthetic(11, 700, 3, 4, 1)
	p := params()
	p.MaxIterations, p.Tolerance = 5, 0
	weights := make([]float64, len(e.y))
	r := rand.New(rand.NewPCG(12, 12))
	for i := range weights {
		weights[i] = 0.5 + r.Float64()
	}
	rec := newRecorder()
	o, _, err := trainPair(t, e, p, weights, rec)
	if err != nil {
		t.Fatal(err)
	}
	rounds := rec.rounds("step")
	if len(rounds) != 5 {
		t.Fatalf("%d rounds", len(rounds))
	}
	for k, round := range rounds {
		l, f := rec.l["step"][round], rec.f["step"][round]
		before := []state{{own: make([]share.Word, 4), others: make([]share.Word, 4), ownLast: make([]share.Word, 4), othersLast: make([]share.Word, 4)}}
		before = append(before, before[0])
		if k > 0 {
			before = []state{rec.l["step"][rounds[k-1]], rec.f["step"][rounds[k-1]]}
			ua, ub := openSum(before[0].own, before[1].others), openSum(before[1].own, before[0].others)
			checkScores(t, rec.l["scores"][round], rec.f["scores"][round], ua, ub)
			checkResiduals(t, rec.labels, rec.l["residuals"][round], rec.f["residuals"][round], rec.series)
		}
		residuals := openSum(l.r, f.r)
		for i := range residuals {
			residuals[i] = centredBig(residuals[i], gradMod)
		}
		check := func(x state, now, was, last []*big.Int) {
			for j := range now {
				moved := new(big.Int).Sub(was[j], last[j])
				moved.Mul(moved, big.NewInt(3)).Rsh(moved, 3)
				step := new(big.Int).Add(was[j], moved)
				now[j] = step.Sub(step, now[j]) // the gradient's step, or one more for the momentum's rounding
			}
			g := make([]*big.Int, len(now))
			for j := range g {
				g[j] = new(big.Int)
				for i, r := range residuals {
					g[j].Add(g[j], new(big.Int).Mul(r, big.NewInt(int64(x.x.at(x.x.grad, i)[j]))))
				}
				for c := range was {
					g[j].Add(g[j], new(big.Int).Mul(was[c], big.NewInt(x.x.ridge[j*x.x.cols+c])))
				}
				g[j].Rsh(g[j], uint(x.fp.shift))
				if d := g[j].Sub(now[j], g[j]); !d.IsInt64() || d.Int64() < 0 || d.Int64() > 2 {
					t.Errorf("round %d, column %d: the step is off by %v units", k, j, d)
				}
			}
		}
		check(l, openSum(l.own, f.others), openSum(before[0].own, before[1].others), openSum(before[0].ownLast, before[1].othersLast))
		check(f, openSum(f.own, l.others), openSum(before[1].own, before[0].others), openSum(before[1].ownLast, before[0].othersLast))
	}

	// And the whole against the float twin with the same series.
	y, _ := pick(e.y, e.train)
	wf, _ := pick(weights, e.train)
	w, err := rowWeights(wf, y, ClassWeightNone)
	if err != nil {
		t.Fatal(err)
	}
	wa, wb, _ := floatTwin(t, o.fitA, o.fitB, y, w, p, func(z float64) float64 { return series(rec.series, 32, z) })
	for j, v := range append(wa, wb...) {
		if got := append(slices.Clone(o.label.weights), o.feature.weights...)[j]; math.Abs(got-v) > 1e-3 {
			t.Errorf("weight %d is %v, the twin has %v", j, got, v)
		}
	}
}

func correlation(a, b []float64) float64 {
	n := float64(len(a))
	var ma, mb, x, y, z float64
	for i := range a {
		ma, mb = ma+a[i]/n, mb+b[i]/n
	}
	for i := range a {
		x += (a[i] - ma) * (b[i] - mb)
		y += (a[i] - ma) * (a[i] - ma)
		z += (b[i] - mb) * (b[i] - mb)
	}
	if y == 0 || z == 0 {
		return 0
	}
	return x / math.Sqrt(y*z)
}

// windows cuts a row of shares into numbers of 16 bits at the given places.
func windows(w []share.Word, at []int) [][]float64 {
	out := make([][]float64, len(at))
	for k, s := range at {
		out[k] = make([]float64, len(w))
		for i, v := range w {
			out[k][i] = float64(v.Rsh(s).Lo & 0xffff)
		}
	}
	return out
}

func words(z []uint64) []share.Word {
	w := make([]share.Word, len(z))
	for i, v := range z {
		w[i] = share.FromUint64(v & (1<<scoreMod - 1))
	}
	return w
}

// view is everything a party holds about single rows: its shares of scores and
// residuals in every round. What else it receives is ciphertext under the
// peer's key, or a sum over all rows.
func view(m map[string]map[int]state, rounds []int) [][]float64 {
	var v [][]float64
	for _, round := range rounds {
		s := m["residuals"][round]
		v = append(v, windows(words(s.z), []int{0, 10, 20})...)
		v = append(v, windows(s.r, []int{0, 10, 20, 26, 40, 56, 72})...)
	}
	return v
}

// Recorded shares against the labels, and against a secret column of the
// feature holder, on the reference table. With m tests of n rows each, all
// |corr|·√n are below bound unless something leaks, but with probability 1e-6.
func TestSharesTellNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("trains on 21,000 rows")
	}
	e := defaultCredit(t)
	p := params()
	p.MaxIterations, p.Tolerance, p.Terms = 5, 0, 4
	rec := newRecorder()
	o, _, err := trainPair(t, e, p, nil, rec)
	if err != nil {
		t.Fatal(err)
	}
	rounds := rec.rounds("residuals")[1:] // in the first, residuals are 1/2 - label at the label holder by design
	y, _ := pick(e.y, e.train)
	pay, _ := pick(e.b[5], e.train) // PAY_0
	late := make([]float64, len(pay))
	for i, v := range pay {
		if v >= 2 {
			late[i] = 1
		}
	}
	root := math.Sqrt(float64(len(y)))
	for _, c := range []struct {
		name   string
		view   [][]float64
		secret []float64
	}{
		{"feature holder against labels", view(rec.f, rounds), y},
		{"label holder against PAY_0", view(rec.l, rounds), late},
	} {
		// Two-sided normal tail: 2·m·Φ(-x) = 1e-6.
		bound := math.Sqrt2 * math.Erfinv(1-1e-6/float64(len(c.view)))
		var worst float64
		for _, v := range c.view {
			worst = max(worst, math.Abs(correlation(v, c.secret))*root)
		}
		t.Logf("%s: largest |corr|·√n of %d tests %.2f, bound %.2f", c.name, len(c.view), worst, bound)
		if worst > bound {
			t.Errorf("%s: %.2f > %.2f", c.name, worst, bound)
		}
	}
	// Positive control: the residuals, opened.
	last := rounds[len(rounds)-1]
	open := make([]float64, len(y))
	for i, v := range openSum(rec.l["residuals"][last].r, rec.f["residuals"][last].r) {
		f, _ := new(big.Float).SetInt(centredBig(v, gradMod)).Float64()
		open[i] = f
	}
	control := math.Abs(correlation(open, y)) * root
	if control < 40 {
		t.Errorf("the attack does not find opened residuals: %.1f", control)
	}
	t.Logf("opened residuals: %.1f", control)

	// Label recovery: a model trained on half of the rows, on own columns, own
	// final partial score (which Reveals lists) and the whole view, against one
	// without the view; the same with opened residuals as control.
	own := dot(o.fitB, o.feature.weights)
	base := make([][]float64, 0, len(e.b)+1)
	for _, c := range e.b {
		v, _ := pick(c, e.train)
		base = append(base, v)
	}
	base = append(base, own)
	recoverLabels := func(columns [][]float64) float64 {
		half := make([]bool, len(y))
		for i := range half {
			half[i] = i%2 == 0
		}
		scores, labels, err := InTheClear(columns, y, half, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		auc, err := metrics.AUC(scores, labels)
		if err != nil {
			t.Fatal(err)
		}
		return auc
	}
	without := recoverLabels(base)
	with := recoverLabels(append(slices.Clone(base), view(rec.f, rounds)...))
	opened := recoverLabels(append(slices.Clone(base), open))
	t.Logf("label recovery, AUC: own columns %.4f, with the view %.4f, with opened residuals %.4f", without, with, opened)
	// The standard error of either AUC is about 0.006; useless columns cost a little.
	if with > without+0.012 {
		t.Errorf("the view helps: %.4f against %.4f", with, without)
	}
	if opened < 0.99 {
		t.Errorf("the attack does not use opened residuals: %.4f", opened)
	}
}
