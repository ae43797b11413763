package hesum

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/yinqiao/yinqiao/mpc/he/tbgv"
	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// keyset is the collective key for the elements of one width.
type keyset struct {
	width  width
	scheme *tbgv.Scheme
	pk     *tbgv.PublicKey // nil at a party that only receives, as is share
	share  *tbgv.KeyShare
}

// width is one part of a vector.
type width int

const (
	narrow width = iota
	wide
	huge
	widths
)

// sets has the parameter set of each width.
var sets = [widths]tbgv.Set{narrow: tbgv.Sum32, wide: tbgv.Sum64, huge: tbgv.Sum96}

// of returns the length of the part.
func (w width) of(s share.Shape) int { return [widths]int{s.Narrow, s.Wide, s.Huge}[w] }

// newKeysets returns the schemes that p needs: parameters for which the noise
// that hides everything else does not fit are refused here.
func newKeysets(p Params) ([]*keyset, error) {
	var ks []*keyset
	for w := range widths {
		n := w.of(p.MaxShape)
		if n == 0 {
			continue
		}
		params := tbgv.Params{Set: sets[w], Parties: len(p.Contributors), Threshold: p.Threshold, Openings: 1}
		scheme, err := tbgv.New(params)
		if err == nil {
			// A wider set, if it takes one, has more slots and opens no more.
			params.Openings = p.Sums * pieces(n, scheme.Slots())
			scheme, err = tbgv.New(params)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrParams, err)
		}
		ks = append(ks, &keyset{width: w, scheme: scheme})
	}
	return ks, nil
}

// pieces is how many ciphertexts of that many slots hold n elements.
func pieces(n, slots int) int { return (n + slots - 1) / slots }

// span is the elements from lo up to hi of one part of a vector, which go into
// one ciphertext.
type span struct {
	*keyset
	lo, hi int
}

// spans returns the ciphertexts of a vector, in the order in which they travel.
func (e *Engine) spans(shape share.Shape) []span {
	var all []span
	for _, k := range e.keys {
		n, slots := k.width.of(shape), k.scheme.Slots()
		for lo := 0; lo < n; lo += slots {
			all = append(all, span{k, lo, min(lo+slots, n)})
		}
	}
	return all
}

func (s span) encrypt(rand io.Reader, v share.Vector) (*tbgv.Ciphertext, error) {
	switch s.width {
	case narrow:
		return s.scheme.EncryptNarrow(rand, s.pk, v.Narrow[s.lo:s.hi])
	case wide:
		return s.scheme.EncryptWide(rand, s.pk, v.Wide[s.lo:s.hi])
	}
	return s.scheme.Encrypt(rand, s.pk, v.Huge[s.lo:s.hi])
}

// open writes the elements of an opened sum to their place in v.
func (s span) open(v share.Vector, sum *tbgv.Ciphertext, active []int, shares []*tbgv.Share) error {
	switch s.width {
	case narrow:
		values, err := s.scheme.OpenNarrow(sum, active, shares)
		copy(v.Narrow[s.lo:s.hi], values)
		return err
	case wide:
		values, err := s.scheme.OpenWide(sum, active, shares)
		copy(v.Wide[s.lo:s.hi], values)
		return err
	}
	values, err := s.scheme.Open(sum, active, shares)
	copy(v.Huge[s.lo:s.hi], values)
	return err
}

// streams draws a source of randomness for each of n pieces of work, so that
// they can be done at once.
func (e *Engine) streams(n int) ([]*share.Stream, error) {
	all := make([]*share.Stream, n)
	for i := range all {
		var err error
		if all[i], err = share.NewStream(e.sess.Rand()); err != nil {
			return nil, fmt.Errorf("hesum: randomness: %w", err)
		}
	}
	return all, nil
}

// encrypt returns this party's ciphertexts of v and their frames.
func (e *Engine) encrypt(ctx context.Context, work []span, v share.Vector) ([]*tbgv.Ciphertext, [][]byte, error) {
	rands, err := e.streams(len(work))
	if err != nil {
		return nil, nil, err
	}
	cts, frames := make([]*tbgv.Ciphertext, len(work)), make([][]byte, len(work))
	err = parallel.For(ctx, len(work), 1, func(i, _ int) error {
		ct, err := work[i].encrypt(rands[i], v)
		if err != nil {
			return err
		}
		cts[i], frames[i] = ct, ct.Marshal()
		return nil
	})
	return cts, frames, err
}

// total adds up the ciphertexts of those included, which this party has from
// each of them itself.
func (e *Engine) total(ctx context.Context, work []span, cts [][]*tbgv.Ciphertext, included set) ([]*tbgv.Ciphertext, error) {
	parties := e.indices(included)
	totals := make([]*tbgv.Ciphertext, len(work))
	err := parallel.For(ctx, len(work), 1, func(i, _ int) (err error) {
		terms := make([]*tbgv.Ciphertext, len(parties))
		for k, p := range parties {
			terms[k] = cts[p][i]
		}
		totals[i], err = work[i].scheme.Sum(terms)
		return e.blame(err, parties)
	})
	return totals, err
}

// emit makes this party's shares of the totals, each after the ledger has
// recorded it.
func (e *Engine) emit(ctx context.Context, work []span, totals []*tbgv.Ciphertext, active set) ([]*tbgv.Share, error) {
	rands, err := e.streams(len(work))
	if err != nil {
		return nil, err
	}
	points := e.points(active)
	shares := make([]*tbgv.Share, len(work))
	for i, s := range work {
		err := e.ledger.Emit(ctx, totals[i].Marshal(), func(context.Context) (err error) {
			shares[i], err = s.scheme.OpenShare(rands[i], s.share, e.pointOf(e.self), points, totals[i])
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("hesum: step %q: %w", e.at.step, err)
		}
	}
	return shares, nil
}

// decrypt opens the totals with the shares of the active parties.
func (e *Engine) decrypt(ctx context.Context, work []span, shape share.Shape, totals []*tbgv.Ciphertext, shares [][]*tbgv.Share, active set) (share.Vector, error) {
	parties, points := e.indices(active), e.points(active)
	v := share.NewVector(shape)
	err := parallel.For(ctx, len(work), 1, func(i, _ int) error {
		mine := make([]*tbgv.Share, len(parties))
		for k, p := range parties {
			mine[k] = shares[p][i]
		}
		return e.blame(work[i].open(v, totals[i], points, mine), nil)
	})
	if err != nil {
		return share.Vector{}, err
	}
	return v, nil
}

// blame makes an error of tbgv about one party's contribution a *PeerError.
// parties has the parties of the indices; nil stands for the contributors.
func (e *Engine) blame(err error, parties []int) error {
	var of *tbgv.PartyError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &of):
		if parties == nil {
			parties = e.order
		}
		return &PeerError{Party: e.parties[parties[of.Party]], Step: e.at.step, Err: of.Err}
	case errors.Is(err, tbgv.ErrMargin): // one of several; nobody can tell which
		return fmt.Errorf("%w in step %q: %w", ErrPeer, e.at.step, err)
	}
	return fmt.Errorf("hesum: step %q: %w", e.at.step, err)
}

// pointOf returns a contributor's index for tbgv: its place in the contract.
func (e *Engine) pointOf(party int) int { return slices.Index(e.order, party) }

// points returns the places of contributors, in increasing order.
func (e *Engine) points(s set) []int {
	var points []int
	for k, c := range e.order {
		if s.has(c) {
			points = append(points, k)
		}
	}
	return points
}

// indices returns contributors in the contract's order, by their index in the
// session.
func (e *Engine) indices(s set) []int {
	var all []int
	for _, c := range e.order {
		if s.has(c) {
			all = append(all, c)
		}
	}
	return all
}
