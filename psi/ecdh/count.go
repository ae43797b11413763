package ecdh

import (
	"context"
	"errors"
	"fmt"

	"github.com/yinqiao/yinqiao/session"
)

// CountName is the protocol of [CountSendDigests] and [CountReceiveDigests].
// Points of one name are good for nothing under the other: the name is in the
// hash.
const CountName = "psi.cardinality.v1"

// CountParams are the public parameters of a count. The zero value is the
// default, with the count for the receiver alone.
type CountParams struct {
	// Params as for an alignment. The higher minimum of the two holds for both.
	// ReceiverOnly has no meaning here and has to be false.
	Params
	// Tell lets the sender know the count too.
	Tell bool
}

func (p CountParams) fields(sender, receiver session.PartyID) []session.Field {
	to := "receiver"
	if p.Tell {
		to = "both"
	}
	return append(p.Params.fields(sender, receiver), session.Field{Name: "count_to", Value: to})
}

// Count is what one party learns.
type Count struct {
	// Common is the number of common rows, where Known.
	Common int64
	// Known is false for a sender that is not told.
	Known bool
}

// CountSendDigests runs the sender's role on items of 16 bytes each, which must
// be distinct and should look random, as digests do. It holds about 30 bytes a
// row beside them.
func CountSendDigests(ctx context.Context, s *session.Session, items [][16]byte, p CountParams) (Count, error) {
	return countSend(ctx, s, digests(items), p)
}

func countSend(ctx context.Context, s *session.Session, items source, p CountParams) (Count, error) {
	r, err := beginCount(ctx, s, true, items, p)
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
	if err := r.refuseRepeated(ctx, tags); err != nil {
		return Count{}, err
	}

	// The tags go back in a secret order, which nobody is ever told.
	var seed [seedSize]byte
	if err := r.draw(seed[:]); err != nil {
		return Count{}, err
	}
	perm := permutation(seed, r.peerRows)
	clear(seed[:])
	if err := r.sendTags(ctx, tags, perm); err != nil {
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
		return Count{}, fmt.Errorf("%w: %s tells a count that is below the minimum", ErrDisagree, r.link.Peer())
	}
	if err := r.recvDone(ctx, count); err != nil {
		return Count{}, err
	}
	if err := r.sendDone(ctx, count); err != nil {
		return Count{}, err
	}
	return Count{Common: count, Known: true}, nil
}

// CountReceiveDigests runs the receiver's role on items of 16 bytes each, which
// must be distinct and should look random, as digests do. It holds about 60 bytes
// a row beside them.
func CountReceiveDigests(ctx context.Context, s *session.Session, items [][16]byte, p CountParams) (Count, error) {
	return countReceive(ctx, s, digests(items), p)
}

func countReceive(ctx context.Context, s *session.Session, items source, p CountParams) (Count, error) {
	r, err := beginCount(ctx, s, false, items, p)
	if err != nil {
		return Count{}, err
	}
	defer r.scalar.Wipe()

	// Both streams of points at once. The sender's become tags.
	theirs, err := r.exchangePoints(ctx)
	if err != nil {
		return Count{}, err
	}

	// The own rows come back as tags in the sender's secret order: how many are
	// among the sender's is all that can be told.
	own, err := r.recvTags(ctx)
	if err != nil {
		return Count{}, err
	}
	if err := r.recvCheck(ctx); err != nil {
		return Count{}, err
	}
	_, count, err := r.match(ctx, theirs, own)
	if err != nil {
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

// beginCount begins a run of a count.
func beginCount(ctx context.Context, s *session.Session, sender bool, items source, p CountParams) (*run, error) {
	if p.ReceiverOnly {
		return nil, errors.New("psi/ecdh: ReceiverOnly is of alignments; Tell says who is told a count")
	}
	r, err := beginAs(ctx, s, CountName, sender, items, p.Params, p.fields)
	if err == nil {
		err = r.agreeOnMinimum(ctx)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// recvUntold waits for the receiver to have counted.
func (r *run) recvUntold(ctx context.Context) error {
	body, err := r.recvOrBelow(ctx, kindDone)
	if err != nil {
		return err
	}
	_, err = messages.ParseNumber(body, untold)
	return err
}
