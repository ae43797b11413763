package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/internal/store"
	"github.com/yinqiao/yinqiao/job"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// budgets is a store with what was spent.
type budgets struct{ *store.Store }

func openBudgets(t *testing.T, dir string) budgets {
	t.Helper()
	s, err := store.Open(store.Config{Dir: dir, Key: secret.New(make([]byte, 32))})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return budgets{s}
}

func (s budgets) of(grant string, r rules.Set, runs int64) *budget {
	return &budget{store: s.Store, key: "budget/" + grant, rules: r, maxRuns: runs}
}

// TestBudgetIsExact: amounts are decimal, so that the last spend fits to the
// end, and nothing beyond.
func TestBudgetIsExact(t *testing.T) {
	n := openBudgets(t, t.TempDir())
	b := n.of("a", rules.Set{BudgetEpsilon: 0.3, BudgetDelta: 3e-6}, 10)
	for i, want := range []float64{0.2, 0.1, 0} { // in floating point 0.1+0.1+0.1 > 0.3
		left, err := b.Spend(t.Context(), 0.1, 1e-6)
		if err != nil || left != want {
			t.Fatalf("spend %d: %v left, %v", i, left, err)
		}
	}
	_, err := b.Spend(t.Context(), 1e-9, 0)
	if !errors.Is(err, job.ErrBudget) || !strings.Contains(err.Error(), "epsilon of 0.3, 0.3 is spent and this one asks for 1e-09") {
		t.Errorf("beyond the end: %v", err)
	}
	// What is refused takes nothing, of either.
	c := n.of("b", rules.Set{BudgetEpsilon: 1, BudgetDelta: 1e-6}, 10)
	if _, err := c.Spend(t.Context(), 0.4, 2e-6); !errors.Is(err, job.ErrBudget) || !strings.Contains(err.Error(), "a delta of") {
		t.Errorf("too much delta: %v", err)
	}
	if left, err := c.Spend(t.Context(), 1, 1e-6); err != nil || left != 0 {
		t.Errorf("after a refusal: %v, %v", left, err)
	}
}

// TestBudgetThatIsNotStated is one share for each run.
func TestBudgetThatIsNotStated(t *testing.T) {
	n := openBudgets(t, t.TempDir())
	for name, c := range map[string]struct {
		rules          rules.Set
		epsilon, delta float64
		spends         int
	}{
		"an epsilon alone":            {rules.Set{Epsilon: 0.2, Delta: 1e-6}, 0.2, 1e-6, 3},
		"half an epsilon at a time":   {rules.Set{Epsilon: 0.2, Delta: 1e-6}, 0.1, 5e-7, 6},
		"nothing at this party":       {rules.Set{}, 0.2, 1e-6, 3},
		"a budget, more than shares":  {rules.Set{Epsilon: 0.2, BudgetEpsilon: 0.8}, 0.2, 0, 4},
		"a budget, less than a share": {rules.Set{Epsilon: 0.2, BudgetEpsilon: 0.1}, 0.2, 0, 0},
		"a budget of epsilon alone":   {rules.Set{BudgetEpsilon: 5}, 0.2, 1e-6, 3}, // delta has its three shares
	} {
		b := n.of(name, c.rules, 3)
		for i := range c.spends {
			if _, err := b.Spend(t.Context(), c.epsilon, c.delta); err != nil {
				t.Errorf("%s: spend %d: %v", name, i+1, err)
			}
		}
		if left, err := b.Spend(t.Context(), c.epsilon, c.delta); !errors.Is(err, job.ErrBudget) {
			t.Errorf("%s: spend %d: %v left, %v", name, c.spends+1, left, err)
		}
	}
}

func TestBudgetRefuses(t *testing.T) {
	n := openBudgets(t, t.TempDir())
	b := n.of("a", rules.Set{Epsilon: 1, Delta: 1e-6, BudgetEpsilon: 10}, 3)
	for _, c := range [][2]float64{
		{0, 0},
		{-1, 0},
		{math.NaN(), 0},
		{math.Inf(1), 0},
		{1, -1e-9},
		{1, math.NaN()},
		{1, math.Inf(1)},
		{1.1, 0},
		{1, 2e-6}, // more than a release may have
	} {
		if left, err := b.Spend(t.Context(), c[0], c[1]); err == nil {
			t.Errorf("Spend(%v, %v) leaves %v", c[0], c[1], left)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Spend(ctx, 1, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("under an ended context: %v", err)
	}
	must(t, n.Put(b.key, []byte("{}")))
	if _, err := b.Spend(t.Context(), 1, 0); err == nil || errors.Is(err, job.ErrBudget) {
		t.Errorf("a damaged account: %v", err)
	}
	if left, err := n.of("b", b.rules, 3).Spend(t.Context(), 1, 1e-6); err != nil || left != 9 {
		t.Errorf("another grant: %v, %v", left, err)
	}
}

// TestBudgetConcurrent: jobs that spend at once never spend more than there is,
// nor less.
func TestBudgetConcurrent(t *testing.T) {
	dir := t.TempDir()
	n := openBudgets(t, dir)
	const spenders, each = 8, 5
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := map[float64]bool{}
	refused := 0
	for range spenders {
		wg.Go(func() {
			b := n.of("a", rules.Set{BudgetEpsilon: 2.5, BudgetDelta: 1e-3}, 1)
			for range each {
				left, err := b.Spend(t.Context(), 0.1, 1e-6)
				mu.Lock()
				switch {
				case errors.Is(err, job.ErrBudget):
					refused++
				case err != nil:
					t.Error(err)
				case seen[left]:
					t.Errorf("%v was left twice", left)
				default:
					seen[left] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 25 || refused != spenders*each-25 || !seen[0] {
		t.Errorf("%d spends, %d refusals, want 25 and %d", len(seen), refused, spenders*each-25)
	}
	must(t, n.Close())
	again := openBudgets(t, dir)
	if _, err := again.of("a", rules.Set{BudgetEpsilon: 2.5}, 1).Spend(t.Context(), 0.1, 0); !errors.Is(err, job.ErrBudget) {
		t.Errorf("after a restart: %v", err)
	}
	if left, err := again.of("a", rules.Set{BudgetEpsilon: 3}, 1).Spend(t.Context(), 0.25, 0); err != nil || left != 0.25 {
		t.Errorf("after a restart, with more to spend: %v, %v", left, err)
	}
}

// Whatever is asked for in whatever order, what was allowed is never more than
// the budget, and what was refused would have been.
func TestBudgetProperty(t *testing.T) {
	n := openBudgets(t, t.TempDir())
	trial := 0
	rapid.Check(t, func(rt *rapid.T) {
		trial++
		whole := rapid.IntRange(1, 500).Draw(rt, "whole")
		b := n.of(fmt.Sprint("p", trial), rules.Set{BudgetEpsilon: float64(whole) / 100}, 1)
		used := 0
		for _, ask := range rapid.SliceOfN(rapid.IntRange(1, 200), 1, 6).Draw(rt, "asks") {
			_, err := b.Spend(context.Background(), float64(ask)/100, 0)
			if fits := used+ask <= whole; fits != (err == nil) {
				rt.Fatalf("%d of %d used, %d asked: %v", used, whole, ask, err)
			}
			if err == nil {
				used += ask
			}
		}
	})
}

// TestBudgetEnds: a job beyond the budget fails at the party whose budget it is,
// with its class, and opens nothing.
func TestBudgetEnds(t *testing.T) {
	w := newWorld(t)
	grant := w.releases(func(l *catalogv1.Limits) { l.Release = &catalogv1.ReleaseRules{BudgetEpsilon: 1.2} })
	for _, want := range []float64{0.7, 0.2} {
		id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
		must(t, err)
		for _, p := range []string{"bank", "gov"} {
			if r := w.released(p, id); r.Left != want {
				t.Errorf("%s: %v left, want %v", p, r.Left, want)
			}
			if v := w.ended(p, id).GetPrivacy(); v.GetEpsilon() != 0.5 || v.GetEpsilonLeft() != want {
				t.Errorf("%s: the job's view says %v", p, v)
			}
		}
		w.stops["gov"]()
		w.start("gov")
	}
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	classes := ""
	for _, p := range []string{"bank", "gov"} {
		v := w.ended(p, id)
		if v.GetState() != "failed" {
			t.Errorf("%s: %s", p, v.GetState())
		}
		classes += v.GetClass() + " "
	}
	if !strings.Contains(classes, "privacy_budget") {
		t.Errorf("classes %s", classes)
	}
}

// TestBudgetAfterKill: what was spent when a node was killed stays spent, and
// what was noted in the history stays noted.
func TestBudgetAfterKill(t *testing.T) {
	w := newWorld(t)
	grant := w.releases(func(l *catalogv1.Limits) { l.Release = &catalogv1.ReleaseRules{BudgetEpsilon: 1.2} })
	gov := w.child("gov", envStall+"=mid")
	_, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	gov.waits("mid") // it has spent, and noted
	gov.kill()
	w.start("gov")
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	for _, p := range []string{"bank", "gov"} {
		if r := w.released(p, id); r.Left != 0.2 || r.Past != 1 {
			t.Errorf("%s: %+v", p, r)
		}
	}
}
