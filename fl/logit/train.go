package logit

import (
	"context"
	"errors"
	"fmt"

	"gonum.org/v1/gonum/mat"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
)

// The roles of fl.logit.v1.
const (
	LabelHolder   job.Role = "label-holder"
	FeatureHolder job.Role = "feature-holder"
)

// ErrPeriod is returned when the scores of the trained model reach half the
// period even after it was widened, so that the sigmoid's argument has
// wrapped. Nothing of the model is released.
var ErrPeriod = errors.New("logit: the scores spread beyond the sigmoid's period: raise period_log2 and terms, or l2")

// roundsPerAttempt keeps the rounds of attempts apart.
const roundsPerAttempt = 1000

const minRowsPerColumn = 10

// ErrTooFewRows is returned for fewer than minRowsPerColumn training rows for
// each column of either party. At the optimum a party's weights times λ are its
// columns times all residuals: with few rows those equations could be solved
// for the residuals, and with them for labels.
var ErrTooFewRows = fmt.Errorf("logit: fewer than %d training rows a column", minRowsPerColumn)

// newParty prepares what both roles share and agrees with the peer on the
// rows. The last column is free of the penalty where free is set; the peer may
// bring at most peerMax columns.
func newParty(ctx context.Context, s *session.Session, p Params, rows *mat.Dense, free bool, held, peerMax int) (*party, error) {
	_, ch, err := s.Other()
	if err != nil {
		return nil, err
	}
	pt := &party{link: link{ch}, session: s, rand: &lockedReader{r: s.Rand()}, params: p, scaled: rows, free: free}
	pt.rows, pt.columns = rows.Dims()
	if err := pt.whiten(p.PeriodLog2); err != nil { // refuse before a word is said
		return nil, err
	}
	if err := pt.exchangeShapes(ctx, shape{columns: pt.columns, train: pt.rows, held: held}, peerMax); err != nil {
		return nil, err
	}
	if pt.rows < minRowsPerColumn*max(pt.columns, pt.peer) {
		return nil, fmt.Errorf("%w: %d rows, %d and %d columns with the intercept", ErrTooFewRows, pt.rows, pt.columns, pt.peer)
	}
	return pt, nil
}

// whiten makes the matrix for one period.
func (p *party) whiten(periodLog2 int) (err error) {
	if p.fp, err = newFixedPoint(periodLog2, p.params.Step, p.rows); err != nil {
		return err
	}
	p.x, err = whiten(p.scaled, p.free, p.params.L2, p.fp)
	return err
}

// prepare gets one attempt ready: columns, schemes and fresh keys.
func (p *party) prepare(ctx context.Context, a attempt) error {
	if err := p.whiten(a.periodLog2); err != nil {
		return err
	}
	if err := p.openSchemes(a.terms); err != nil {
		return err
	}
	if err := p.encodeScores(); err != nil {
		return err
	}
	if err := p.encodeGradients(); err != nil {
		return err
	}
	p.start()
	return p.exchangeKeys(ctx, a.round)
}

// attempt is one training run with one period; its rounds are numbered from
// round.
type attempt struct {
	number, round     int
	periodLog2, terms int
}

// attempts is how often training is tried: once more with a wider period.
const attempts = 2

// tries trains, and once more with a wider period where the scores did not
// fit. Both parties decide by the same opened bit.
func (p *party) tries(train func(a attempt) (m model, fits bool, err error)) (model, error) {
	a := attempt{periodLog2: p.params.PeriodLog2, terms: p.params.Terms}
	for a.number = 1; a.number <= attempts && a.periodLog2 <= maxPeriodLog2; a.number++ {
		a.round = a.number * roundsPerAttempt
		m, fits, err := train(a)
		if err != nil {
			return model{}, err
		}
		p.session.Log().Debug("regression trained", "rows", p.rows, "columns", p.columns, "peer_columns", p.peer,
			"iterations", m.iterations, "converged", m.converged, "attempt", a.number, "fits", fits)
		if fits {
			m.attempt = a
			return m, nil
		}
		a.periodLog2, a.terms = a.periodLog2+2, min(maxTerms, 3*a.terms)
	}
	return model{}, ErrPeriod
}

// trainLabel runs the label holder's side on aligned, scaled rows whose last
// column is the intercept's.
func trainLabel(ctx context.Context, s *session.Session, p Params, rows *mat.Dense, y, weights []float64, held, peerMax int, w watcher) (model, error) {
	pt, err := newParty(ctx, s, p, rows, true, held, peerMax)
	if err != nil {
		return model{}, err
	}
	l := &labelHolder{party: pt, y: y, weights: weights}
	if w != nil {
		l.trace = func(event string, round int) { w.label(l, event, round) }
	}
	return l.tries(func(a attempt) (model, bool, error) { return l.train(ctx, a) })
}

// trainFeature runs the feature holder's side.
func trainFeature(ctx context.Context, s *session.Session, p Params, rows *mat.Dense, held, peerMax int, w watcher) (model, error) {
	pt, err := newParty(ctx, s, p, rows, false, held, peerMax)
	if err != nil {
		return model{}, err
	}
	f := &featureHolder{party: pt}
	if w != nil {
		f.trace = func(event string, round int) { w.feature(f, event, round) }
	}
	return f.tries(func(a attempt) (model, bool, error) { return f.train(ctx, a) })
}

// watcher is what tests look at shares with; it is called after every step of
// a round.
type watcher interface {
	label(l *labelHolder, event string, round int)
	feature(f *featureHolder, event string, round int)
}
