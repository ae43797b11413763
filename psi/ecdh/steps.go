package ecdh

import (
	"context"
	"fmt"

	"github.com/yinqiao/yinqiao/job"
)

// The short messages that follow the tags, in the order of the diagram.

func (r *run) sendCheck(ctx context.Context) error { return r.link.send(ctx, kindCheck, nil) }

func (r *run) recvCheck(ctx context.Context) error {
	body, err := r.link.recv(ctx, kindCheck)
	if err == nil && len(body) != 0 {
		err = errLength
	}
	return err
}

// sendBelow tells the peer that the count is below the own minimum, and
// returns the error with which both sides end.
func (r *run) sendBelow(ctx context.Context) error {
	if err := r.link.send(ctx, kindBelow, nil); err != nil {
		return err
	}
	return fmt.Errorf("psi/ecdh: %w (minimum %d)", job.ErrMinIntersection, r.params.MinIntersection)
}

// recvOrBelow returns the body of the next message of kind k, or
// job.ErrMinIntersection if the peer has found the count too small.
func (r *run) recvOrBelow(ctx context.Context, k kind) ([]byte, error) {
	got, body, err := r.link.recvOneOf(ctx, k, kindBelow)
	switch {
	case err != nil:
		return nil, err
	case got == kindBelow && len(body) != 0:
		return nil, errLength
	case got == kindBelow:
		return nil, fmt.Errorf("psi/ecdh: %w (found by %s)", job.ErrMinIntersection, r.link.peer)
	}
	return body, nil
}

func (r *run) sendCount(ctx context.Context, count int64) error {
	return r.link.send(ctx, kindCount, appendNumber(nil, count))
}

func (r *run) recvCount(ctx context.Context) (int64, error) {
	body, err := r.recvOrBelow(ctx, kindCount)
	if err != nil {
		return 0, err
	}
	return parseNumber(body, int64(min(r.rows, r.peerRows)))
}

func (r *run) sendSeed(ctx context.Context, seed [seedSize]byte) error {
	return r.link.send(ctx, kindSeed, seed[:])
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
		if err := r.link.send(ctx, kindMatches, body); err != nil {
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
		body, err := r.link.recv(ctx, kindMatches)
		if err != nil {
			return nil, err
		}
		if err := parseMatches(body, n); err != nil {
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

func (r *run) sendDone(ctx context.Context, count int64) error {
	return r.link.send(ctx, kindDone, appendNumber(nil, count))
}

func (r *run) recvDone(ctx context.Context, count int64) error {
	body, err := r.link.recv(ctx, kindDone)
	if err != nil {
		return err
	}
	theirs, err := parseNumber(body, int64(min(r.rows, r.peerRows)))
	if err == nil && theirs != count {
		err = fmt.Errorf("%w: %d common rows here, %d at %s", ErrDisagree, count, theirs, r.link.peer)
	}
	return err
}
