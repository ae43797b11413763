package logit

import (
	"context"

	"github.com/yinqiao/yinqiao/mpc/he"
)

// featureHolder is the role that has more columns and no label.
type featureHolder struct {
	*party
	series    []float64 // of the sigmoid
	peerSines [2]*he.PublicKey
}

// train is the feature holder's side of the diagram in the package comment.
func (f *featureHolder) train(ctx context.Context, a attempt) (m model, fits bool, err error) {
	if err := f.prepare(ctx, a); err != nil {
		return model{}, false, err
	}
	defer f.scoreKey.Wipe()
	defer f.gradKey.Wipe()
	if err := f.takeSineKeys(ctx, a.round); err != nil {
		return model{}, false, err
	}
	if f.series, err = sineSeries(f.fp.period, a.terms); err != nil {
		return model{}, false, err
	}

	round := a.round
	for m.iterations < f.params.MaxIterations && !m.converged {
		if m.iterations > 0 {
			if err := f.scores(ctx, round); err != nil {
				return model{}, false, err
			}
			if err := f.residuals(ctx, round); err != nil {
				return model{}, false, err
			}
		}
		f.watch("residuals", round)
		s, err := f.gradients(ctx, round, m.iterations > 0, true)
		if err != nil {
			return model{}, false, err
		}
		before := f.advance(s)
		f.watch("step", round)
		m.iterations++
		if f.params.Tolerance > 0 {
			if m.converged, err = f.shortStep(ctx, round, before); err != nil {
				return model{}, false, err
			}
		}
		f.session.Progress("train", int64(m.iterations), int64(f.params.MaxIterations))
		round++
	}
	u, err := f.openWeights(ctx, round)
	if err != nil {
		return model{}, false, err
	}
	m.weights = f.x.unwhiten(u)
	fits, err = f.periodFits(ctx, round, f.largestScore(u))
	return m, fits, err
}

// takeSineKeys receives the public halves of the label holder's keys.
func (f *featureHolder) takeSineKeys(ctx context.Context, round int) (err error) {
	for k, s := range f.sines {
		if f.peerSines[k], err = recvKey(ctx, f.link, s, round, 2+k); err != nil {
			return err
		}
	}
	return nil
}
