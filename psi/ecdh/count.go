package ecdh

import (
	"context"
	"fmt"
	"iter"
	"math"

	"golang.org/x/sync/errgroup"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
)

// CountName is the protocol of [CountSend] and [CountReceive]. Points of one
// name are good for nothing under the other: the name is in the hash.
const CountName = "psi.cardinality.v1"

// CountParams are the public parameters of a count. The zero value is the
// default, with the count for the receiver alone.
type CountParams struct {
	// Params as for an alignment. The minimum of either party holds for both.
	Params
	// Tell lets the sender know the count too.
	Tell bool
}

func (p CountParams) field() session.Field {
	to := "receiver"
	if p.Tell {
		to = "both"
	}
	return session.Field{Name: "count_to", Value: to}
}

// Count is what one party learns.
type Count struct {
	// Common is the number of common rows, where Known.
	Common int64
	// Known is false for a sender that is not told.
	Known bool
}

// CountSend runs the sender's role on n items, which must be distinct; each is
// valid until the next is asked for. It holds about 50 bytes a row.
func CountSend(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p CountParams) (Count, error) {
	r, err := beginCount(ctx, s, true, items, n, p)
	if err != nil {
		return Count{}, err
	}
	defer r.scalar.Wipe()

	// Both streams of points at once. The receiver's become tags, distinct ones:
	// see Send.
	tags, err := r.exchangePoints(ctx)
	if err != nil {
		return Count{}, err
	}
	if _, err := r.indexTags(&tags); err != nil {
		return Count{}, err
	}

	// The tags go back in a secret order, which nobody is ever told.
	var seed [seedSize]byte
	if err := r.draw(seed[:]); err != nil {
		return Count{}, err
	}
	perm := permutation(seed, r.peerRows)
	clear(seed[:])
	if err := r.sendTags(ctx, &tags, perm); err != nil {
		return Count{}, err
	}
	if err := r.sendCheck(ctx); err != nil {
		return Count{}, err
	}

	if !p.Tell {
		return Count{}, r.recvUntold(ctx)
	}
	count, err := r.recvCount(ctx)
	if err != nil {
		return Count{}, err
	}
	if count < r.params.MinIntersection {
		return Count{}, fmt.Errorf("%w: %s tells a count that is below the minimum", ErrDisagree, r.link.peer)
	}
	if err := r.recvDone(ctx, count); err != nil {
		return Count{}, err
	}
	if err := r.sendDone(ctx, count); err != nil {
		return Count{}, err
	}
	return Count{Common: count, Known: true}, nil
}

// CountReceive runs the receiver's role on n items, which must be distinct;
// each is valid until the next is asked for. It holds about 50 bytes a row.
func CountReceive(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p CountParams) (Count, error) {
	r, err := beginCount(ctx, s, false, items, n, p)
	if err != nil {
		return Count{}, err
	}
	defer r.scalar.Wipe()

	// Both streams of points at once. The sender's become tags.
	tags, err := r.exchangePoints(ctx)
	if err != nil {
		return Count{}, err
	}
	index, err := r.indexTags(&tags)
	if err != nil {
		return Count{}, err
	}

	// The own rows come back as tags in the sender's secret order: how many are
	// among the sender's is all that can be told.
	found := make([]bool, r.peerRows)
	count, err := r.recvTags(ctx, func(_ int, tag []byte) (bool, error) {
		j, ok := index.find(tag)
		switch {
		case !ok:
			return false, nil
		case found[j]:
			return false, fmt.Errorf("%w: the sender has returned one item twice", ErrDisagree)
		}
		found[j] = true
		return true, nil
	})
	if err != nil {
		return Count{}, err
	}
	if err := r.recvCheck(ctx); err != nil {
		return Count{}, err
	}

	if count < r.params.MinIntersection {
		return Count{}, r.sendBelow(ctx)
	}
	if !p.Tell {
		if err := r.sendDone(ctx, untold); err != nil {
			return Count{}, err
		}
		return Count{Common: count, Known: true}, nil
	}
	// The digest of done is over the count.
	if err := r.sendCount(ctx, count); err != nil {
		return Count{}, err
	}
	if err := r.sendDone(ctx, count); err != nil {
		return Count{}, err
	}
	if err := r.recvDone(ctx, count); err != nil {
		return Count{}, err
	}
	return Count{Common: count, Known: true}, nil
}

// beginCount is begin for a count: the higher minimum of the two parties holds
// from here on, and where a set is smaller than that, both end before anything
// is masked. A set of one row would otherwise learn of that row from the count.
func beginCount(ctx context.Context, s *session.Session, sender bool, items iter.Seq[[]byte], n int, p CountParams) (*run, error) {
	r, err := beginAs(ctx, s, CountName, sender, items, n, p.Params, p.field())
	if err != nil {
		return nil, err
	}
	if err := r.exchangeMinimum(ctx); err != nil {
		r.scalar.Wipe()
		return nil, err
	}
	if smaller := int64(min(r.rows, r.peerRows)); smaller < r.params.MinIntersection {
		r.scalar.Wipe()
		return nil, fmt.Errorf("psi/ecdh: %w (minimum %d, a set has %d rows)", job.ErrMinIntersection, r.params.MinIntersection, smaller)
	}
	return r, nil
}

// exchangeMinimum raises the own minimum to the peer's.
func (r *run) exchangeMinimum(ctx context.Context) error {
	own := r.params.MinIntersection
	var theirs int64
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.link.send(gctx, kindMinimum, appendNumber(nil, own)) })
	g.Go(func() error {
		body, err := r.link.recv(gctx, kindMinimum)
		if err != nil {
			return err
		}
		theirs, err = parseNumber(body, math.MaxInt64)
		return err
	})
	err := g.Wait()
	r.params.MinIntersection = max(own, theirs)
	return err
}

// untold stands in done for a count that the sender is not told.
const untold = 0

// recvUntold waits for the receiver to have counted.
func (r *run) recvUntold(ctx context.Context) error {
	body, err := r.recvOrBelow(ctx, kindDone)
	if err != nil {
		return err
	}
	_, err = parseNumber(body, untold)
	return err
}
