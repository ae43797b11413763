package ecdh

import (
	"context"
	"fmt"

	"github.com/yinqiao/yinqiao/job"
)

// The short messages that follow the tags, in the order of the diagram.

func (r *run) sendCheck(ctx context.Context) error { return r.link.Send(ctx, kindCheck, nil) }

func (r *run) recvCheck(ctx context.Context) error { return r.link.RecvEmpty(ctx, kindCheck) }

// sendBelow tells the peer that the count is below the own minimum, and
// returns the error with which both sides end.
func (r *run) sendBelow(ctx context.Context) error {
	if err := r.link.Send(ctx, kindBelow, nil); err != nil {
		return err
	}
	return fmt.Errorf("psi/ecdh: %w (minimum %d)", job.ErrMinIntersection, r.params.MinIntersection)
}

// recvOrBelow returns the body of the next message of kind k, or
// job.ErrMinIntersection if the peer has found the count too small.
func (r *run) recvOrBelow(ctx context.Context, k kind) ([]byte, error) {
	got, body, err := r.link.RecvOneOf(ctx, k, kindBelow)
	if err != nil || got == k {
		return body, err
	}
	if err := messages.CheckLength(body, 0, messages.Name(kindBelow)); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("psi/ecdh: %w (found by %s)", job.ErrMinIntersection, r.link.Peer())
}

func (r *run) sendCount(ctx context.Context, count int64) error {
	return r.link.SendNumber(ctx, kindCount, count)
}

func (r *run) recvCount(ctx context.Context) (int64, error) {
	body, err := r.recvOrBelow(ctx, kindCount)
	if err != nil {
		return 0, err
	}
	return messages.ParseNumber(body, r.mostCommon())
}

// mostCommon is the most rows that both can have.
func (r *run) mostCommon() int64 { return int64(min(r.rows, r.peerRows)) }

// sendEnough tells a sender that is not told the count that it is not below the
// minimum.
func (r *run) sendEnough(ctx context.Context) error { return r.link.Send(ctx, kindEnough, nil) }

func (r *run) recvEnough(ctx context.Context) error {
	body, err := r.recvOrBelow(ctx, kindEnough)
	if err != nil {
		return err
	}
	return messages.CheckLength(body, 0, messages.Name(kindEnough))
}

func (r *run) sendSeed(ctx context.Context, seed [seedSize]byte) error {
	return r.link.Send(ctx, kindSeed, seed[:])
}

func (r *run) recvSeed(ctx context.Context) ([seedSize]byte, error) {
	body, err := r.recvOrBelow(ctx, kindSeed)
	if err != nil {
		return [seedSize]byte{}, err
	}
	return parseSeed(body)
}

// chunkMatches is how many rows one message of the bitmap covers.
const chunkMatches = 8 * 262128

// sendMatches sends which rows of the sender are common: those j with
// matched[j] not zero.
func (r *run) sendMatches(ctx context.Context, matched []int32) error {
	for at := 0; at < len(matched); at += chunkMatches {
		chunk := matched[at:min(at+chunkMatches, len(matched))]
		body := make([]byte, (len(chunk)+7)/8)
		for j, m := range chunk {
			if m != 0 {
				body[j/8] |= 1 << (j % 8)
			}
		}
		if err := r.link.Send(ctx, kindMatches, body); err != nil {
			return err
		}
	}
	return nil
}

// recvMatches returns the own rows that are common, in the sent order; there
// have to be count of them.
func (r *run) recvMatches(ctx context.Context, count int64) ([]int32, error) {
	rows := make([]int32, 0, count)
	for at := 0; at < r.rows; at += chunkMatches {
		n := min(chunkMatches, r.rows-at)
		body, err := r.link.Recv(ctx, kindMatches)
		if err != nil {
			return nil, err
		}
		if err := messages.CheckBitmap(body, n); err != nil {
			return nil, err
		}
		for j := range n {
			if body[j/8]>>(j%8)&1 == 0 {
				continue
			}
			if int64(len(rows)) == count {
				return nil, fmt.Errorf("%w: more matches than were counted", ErrDisagree)
			}
			rows = append(rows, r.order[at+j])
		}
	}
	if int64(len(rows)) != count {
		return nil, fmt.Errorf("%w: fewer matches than were counted", ErrDisagree)
	}
	return rows, nil
}

// untold stands in done for a count that the sender is not told.
const untold = 0

func (r *run) sendDone(ctx context.Context, count int64) error {
	return r.link.SendNumber(ctx, kindDone, count)
}

func (r *run) recvDone(ctx context.Context, count int64) error {
	theirs, err := r.link.RecvNumber(ctx, kindDone, r.mostCommon())
	if err == nil && theirs != count {
		err = fmt.Errorf("%w: %d common rows here, %d at %s", ErrDisagree, count, theirs, r.link.Peer())
	}
	return err
}
