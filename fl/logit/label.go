package logit

import (
	"context"

	"github.com/yinqiao/yinqiao/mpc/he"
)

// model is what training leaves with one party.
type model struct {
	weights    []float64 // of its own scaled columns
	iterations int
	converged  bool
	attempt    attempt
}

// labelHolder is the role that has the label. It holds the keys of the
// sigmoid and of the comparisons.
type labelHolder struct {
	*party
	y        []float64 // of the training rows
	weights  []float64 // of the rows, of mean 1; nil means all 1
	terms    int
	sineKeys [2]*he.SecretKey
	crt      crt
}

func (l *labelHolder) weight(i int) float64 {
	if l.weights == nil {
		return 1
	}
	return l.weights[i]
}

// train is the label holder's side of the diagram in the package comment.
func (l *labelHolder) train(ctx context.Context, a attempt) (m model, fits bool, err error) {
	l.terms = a.terms
	if err := l.prepare(ctx, a); err != nil {
		return model{}, false, err
	}
	defer l.scoreKey.Wipe()
	defer l.gradKey.Wipe()
	if err := l.makeSineKeys(ctx, a.round); err != nil {
		return model{}, false, err
	}
	defer l.sineKeys[0].Wipe()
	defer l.sineKeys[1].Wipe()

	round := a.round
	for m.iterations < l.params.MaxIterations && !m.converged {
		if m.iterations == 0 {
			// All weights are 0, so all scores are, and the residuals are the
			// label holder's alone.
			for i := range l.r {
				l.r[i] = gradWord(l.offset(i))
			}
		} else {
			if err := l.scores(ctx, round); err != nil {
				return model{}, false, err
			}
			if err := l.residuals(ctx, round); err != nil {
				return model{}, false, err
			}
		}
		l.watch("residuals", round)
		s, err := l.gradients(ctx, round, true, m.iterations > 0)
		if err != nil {
			return model{}, false, err
		}
		before := l.advance(s)
		l.watch("step", round)
		m.iterations++
		if l.params.Tolerance > 0 {
			if m.converged, err = l.shortStep(ctx, round, before); err != nil {
				return model{}, false, err
			}
		}
		l.session.Progress("train", int64(m.iterations), int64(l.params.MaxIterations))
		round++
	}
	u, err := l.openWeights(ctx, round)
	if err != nil {
		return model{}, false, err
	}
	m.weights = l.x.unwhiten(u)
	fits, err = l.periodFits(ctx, round, l.largestScore(u))
	return m, fits, err
}

// makeSineKeys makes the keys of the sigmoid and sends the public halves.
func (l *labelHolder) makeSineKeys(ctx context.Context, round int) error {
	for k, s := range l.sines {
		sk, pk, err := s.GenerateKeys(l.rand)
		if err != nil {
			return err
		}
		l.sineKeys[k] = sk
		if err := l.send(ctx, msgKey, round, 2+k, pk.Marshal()); err != nil {
			return err
		}
	}
	l.crt = newCRT(l.sines[0].Modulus(), l.sines[1].Modulus())
	return nil
}
