package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"strconv"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/internal/store"
	"github.com/yinqiao/yinqiao/job"
)

// A privacy budget bounds the sum of epsilon, and the sum of delta, over all
// releases under one request, as this party counts them: by basic composition
// the releases together are as private as the sums say.
//
// Amounts are decimal: 0.1 is a tenth, and ten of them are 1. Sums are exact.

// budgetKey is where the spending under a request is kept. As with runs, a
// platform that grants one request twice does not double it.
func budgetKey(g *catalog.Grant) string { return fmt.Sprintf("budget/%x", g.RequestDigest()) }

// privacySpent is what a job took of its request's budget, and what was left then.
type privacySpent struct{ Epsilon, Delta, EpsilonLeft, DeltaLeft float64 }

// budget is what one job may take of its request's budget.
type budget struct {
	store   *store.Store
	key     string
	rules   rules.Set // the stricter of the grant's and this node's
	maxRuns int64
	note    func(privacySpent) // after each spend, with its amounts; may be nil
}

// budget returns the privacy budget that a's job is under.
func (n *Node) budget(a *active) *budget {
	return &budget{
		store: n.store, key: budgetKey(a.grant), rules: a.spec.Limits.Release, maxRuns: a.grant.Limits().MaxRuns,
		note: func(s privacySpent) {
			a.update(func() {
				if p := a.rec.Privacy; p != nil {
					s.Epsilon, s.Delta = s.Epsilon+p.Epsilon, s.Delta+p.Delta
				}
				a.rec.Privacy = &s
			})
			n.log.Info("privacy budget spent", slog.String("job", a.contract.GetJob()), slog.Float64("epsilon_left", s.EpsilonLeft))
		},
	}
}

// spent is the sums of all that was taken.
type spent struct{ Epsilon, Delta *big.Rat }

func (s *spent) add(epsilon, delta *big.Rat) {
	s.Epsilon, s.Delta = new(big.Rat).Add(s.Epsilon, epsilon), new(big.Rat).Add(s.Delta, delta)
}

// Spend takes epsilon and delta from the budget, durably, before the release
// that they are for. Jobs may spend at once; together they never exceed it.
func (b *budget) Spend(ctx context.Context, epsilon, delta float64) (float64, error) {
	if err := ctx.Err(); err != nil {
		return 0, context.Cause(ctx)
	}
	e, err := amount(epsilon)
	if err != nil || e.Sign() == 0 {
		return 0, fmt.Errorf("node: privacy budget: epsilon must be positive and finite")
	}
	d, err := amount(delta)
	if err != nil {
		return 0, fmt.Errorf("node: privacy budget: delta must be finite and not negative")
	}
	if r := b.rules; r.Epsilon > 0 && epsilon > r.Epsilon || r.Delta > 0 && delta > r.Delta {
		return 0, errors.New("node: privacy budget: a release asks for more than the rules in force give it")
	}
	allE, err := b.whole(b.rules.BudgetEpsilon, b.rules.Epsilon, epsilon)
	if err != nil {
		return 0, err
	}
	allD, err := b.whole(b.rules.BudgetDelta, b.rules.Delta, delta)
	if err != nil {
		return 0, err
	}
	var leftE, leftD *big.Rat
	err = b.store.Update(func(tx *store.Tx) error {
		s, err := readSpent(tx.Get(b.key))
		if err != nil {
			return err
		}
		s.add(e, d)
		if s.Epsilon.Cmp(allE) > 0 {
			return short("epsilon", allE, s.Epsilon.Sub(s.Epsilon, e), e)
		}
		if d.Sign() > 0 && s.Delta.Cmp(allD) > 0 {
			return short("delta", allD, s.Delta.Sub(s.Delta, d), d)
		}
		leftE, leftD = new(big.Rat).Sub(allE, s.Epsilon), new(big.Rat).Sub(allD, s.Delta)
		raw, err := json.Marshal(s)
		if err != nil {
			return err
		}
		return tx.Put(b.key, raw)
	})
	if err != nil {
		return 0, fmt.Errorf("node: privacy budget: %w", err)
	}
	left := privacySpent{Epsilon: epsilon, Delta: delta}
	left.EpsilonLeft, _ = leftE.Float64()
	left.DeltaLeft, _ = leftD.Float64()
	left.DeltaLeft = max(0, left.DeltaLeft) // a rule may have become stricter
	if b.note != nil {
		b.note(left)
	}
	return left.EpsilonLeft, nil
}

// whole is a budget as it is stated. Where it is not, each of the request's runs
// has one share of it: what a release may have by the rules, or what is asked
// where the rules say nothing. Attempts that failed after they had spent are
// paid for from it as well.
func (b *budget) whole(stated, share, asked float64) (*big.Rat, error) {
	if stated > 0 {
		return amount(stated)
	}
	if share == 0 {
		share = asked
	}
	r, err := amount(share)
	if err != nil {
		return nil, fmt.Errorf("node: privacy budget: %w", err)
	}
	return r.Mul(r, new(big.Rat).SetInt64(b.maxRuns)), nil
}

func short(what string, all, used, asked *big.Rat) error {
	return fmt.Errorf("%w: all releases may have a %s of %s, %s is spent and this one asks for %s", job.ErrBudget, what, decimal(all), decimal(used), decimal(asked))
}

func decimal(r *big.Rat) string {
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'g', 6, 64)
}

// amount is the shortest decimal that x stands for.
func amount(x float64) (*big.Rat, error) {
	if math.IsNaN(x) || math.IsInf(x, 0) || x < 0 {
		return nil, errors.New("want a finite number, 0 or more")
	}
	r, ok := new(big.Rat).SetString(strconv.FormatFloat(x, 'e', -1, 64))
	if !ok {
		return nil, errors.New("want a number")
	}
	return r, nil
}

// readSpent decodes what the store holds; nothing was spent where it has none.
func readSpent(raw []byte, err error) (spent, error) {
	if errors.Is(err, store.ErrNotFound) {
		return spent{new(big.Rat), new(big.Rat)}, nil
	}
	if err != nil {
		return spent{}, err
	}
	var s spent
	if err := json.Unmarshal(raw, &s); err != nil || s.Epsilon == nil || s.Delta == nil {
		return s, errors.New("what was spent does not decode")
	}
	return s, nil
}
