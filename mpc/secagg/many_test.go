package secagg

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// Several are lost at several stages of one sum. It opens while as many as the
// threshold are left to reveal, and not with one fewer.
func TestManyLost(t *testing.T) {
	quit := errors.New("lost")
	rng := rand.New(rand.NewPCG(11, 12))
	shape := share.Shape{Narrow: 60, Wide: 6, Huge: 5}
	for _, c := range []struct {
		n, threshold               int
		before, masking, revealing int // lost before the sum, before their vector, before their shares
		opens                      bool
	}{
		{9, 5, 4, 0, 0, true},
		{9, 5, 0, 4, 0, true},
		{9, 5, 0, 0, 4, true},
		{9, 5, 1, 2, 1, true},
		{9, 5, 5, 0, 0, false},
		{9, 5, 0, 5, 0, false},
		{9, 5, 0, 0, 5, false},
		{9, 5, 2, 2, 1, false},
		{40, 21, 6, 7, 6, true},
		{40, 21, 6, 7, 7, false},
		{3, 3, 0, 0, 0, true},
		{3, 3, 0, 0, 1, false},
	} {
		w := &world{contributors: c.n, receivers: 2, threshold: c.threshold, shape: shape}
		ids, vs := w.ids(), w.vectors(rng, shape)
		sums, included := make([]share.Vector, len(ids)), make([][]session.PartyID, len(ids))
		errs := w.run(t, func(ctx context.Context, i int, e *Engine) (err error) {
			last := c.n - 1 - i // the last contributors are those lost
			switch {
			case i >= c.n || last >= c.before+c.masking+c.revealing:
				sums[i], err = e.Sum(ctx, "counts", shape, vs[i], ids[c.n:])
				included[i] = e.Included()
				return err
			case last < c.before:
				return quit
			}
			s, err := e.newStep("counts", shape, vs[i], ids[c.n:])
			if err != nil {
				return err
			}
			stages := []func(context.Context) error{s.deal, s.agreeRoster}
			if last >= c.before+c.masking {
				stages = append(stages, func(ctx context.Context) error { return s.exchangeInputs(ctx, vs[i]) }, s.agreeSurvivors)
			}
			for _, stage := range stages {
				if err := stage(ctx); err != nil {
					return err
				}
			}
			return quit
		})
		want := ids[:c.n-c.before-c.masking]
		for i, err := range errs {
			lost := i < c.n && c.n-1-i < c.before+c.masking+c.revealing
			switch {
			case lost:
			case c.opens && (err != nil || !slices.Equal(included[i], want)):
				t.Errorf("%+v: p%d counts %d contributors, want %d: %v", c, i, len(included[i]), len(want), err)
			case c.opens && i >= c.n && !equal(sums[i], w.total(vs, want, shape)):
				t.Errorf("%+v: p%d has another sum", c, i)
			case !c.opens && !errors.Is(err, ErrLost):
				t.Errorf("%+v: p%d: %v", c, i, err)
			}
		}
	}
}
