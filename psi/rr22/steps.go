package rr22

import (
	"context"
	"fmt"
	"math"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/psi/transcript"
)

// The messages of the protocol beside those of the vector OLE, in the order of
// the diagram.

// conn carries the messages of the oblivious pseudorandom function.
type conn struct{ link *transcript.Link }

func (c conn) Send(ctx context.Context, body []byte) error { return c.link.Send(ctx, kindVector, body) }

func (c conn) Recv(ctx context.Context) ([]byte, error) { return c.link.Recv(ctx, kindVector) }

func (r *run) exchangeRows(ctx context.Context) error {
	n, err := r.link.Exchange(ctx, kindRows, int64(r.rows), math.MaxInt64)
	if err == nil && n > MaxRows {
		err = fmt.Errorf("%w: the peer has %d rows, the limit is %d", ErrSize, n, MaxRows)
	}
	r.peerRows = int(n)
	return err
}

func (r *run) sendHashes(ctx context.Context, hashes []tags.Tag) error {
	var body []byte
	for next := 0; next < r.form.Buckets(); {
		body, next, hashes = appendHashes(body[:0], r.form, next, hashes)
		if err := r.link.Send(ctx, kindHashes, body); err != nil {
			return err
		}
	}
	return nil
}

// recvHashes hands all hashes of the sender to m.
func (r *run) recvHashes(ctx context.Context, m *matcher) error {
	for next := 0; next < r.form.Buckets(); {
		body, err := r.link.Recv(ctx, kindHashes)
		if err != nil {
			return err
		}
		if next, _, err = parseHashes(body, r.form, next, r.peerRows-m.seen, m.next); err != nil {
			return err
		}
		r.sess.Progress("compare", int64(m.seen), int64(r.peerRows))
	}
	if m.seen != r.peerRows {
		return fmt.Errorf("%w: %d hashes of %d rows", ErrDisagree, m.seen, r.peerRows)
	}
	return nil
}

// sendBelow tells the peer that the count is below the own minimum, and
// returns the error with which both sides end.
func (r *run) sendBelow(ctx context.Context) error {
	if err := r.link.Send(ctx, kindBelow, nil); err != nil {
		return err
	}
	return fmt.Errorf("psi/rr22: %w (minimum %d)", job.ErrMinIntersection, r.params.MinIntersection)
}

// recvOrBelow returns the body of the next message of kind k, or
// job.ErrMinIntersection if the peer has found the count too small.
func (r *run) recvOrBelow(ctx context.Context, k transcript.Kind) ([]byte, error) {
	got, body, err := r.link.RecvOneOf(ctx, k, kindBelow)
	switch {
	case err != nil:
		return nil, err
	case got == kindBelow:
		if err := protocol.CheckLength(body, 0, "below"); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("psi/rr22: %w (found by %s)", job.ErrMinIntersection, r.link.Peer())
	}
	return body, nil
}

// recvFinished receives the word that the receiver has its result.
func (r *run) recvFinished(ctx context.Context) error {
	body, err := r.recvOrBelow(ctx, kindDone)
	if err != nil {
		return err
	}
	return protocol.CheckLength(body, 0, "done")
}

// chunkMatches is how many bytes of the bitmap go into one message.
const chunkMatches = 262_128

func (r *run) sendMatches(ctx context.Context, bits []byte) error {
	for len(bits) > 0 {
		n := min(chunkMatches, len(bits))
		if err := r.link.Send(ctx, kindMatches, bits[:n]); err != nil {
			return err
		}
		bits = bits[n:]
	}
	return nil
}

// recvMatches returns the own rows that are common, in the order of the hashes.
func (r *run) recvMatches(ctx context.Context, hashes []tags.Tag) ([]int32, error) {
	limit := min(r.rows, r.peerRows)
	rows := []int32{}
	for at := 0; at < len(hashes); at += 8 * chunkMatches {
		n := min(8*chunkMatches, len(hashes)-at)
		body, err := r.recvOrBelow(ctx, kindMatches)
		if err != nil {
			return nil, err
		}
		if err := protocol.CheckBitmap(body, n); err != nil {
			return nil, err
		}
		for j := range n {
			if body[j/8]>>(j%8)&1 == 0 {
				continue
			}
			if len(rows) == limit {
				return nil, fmt.Errorf("%w: more matches than rows", ErrDisagree)
			}
			rows = append(rows, hashes[at+j].Row)
		}
	}
	return rows, r.recvCount(ctx, int64(len(rows)))
}

func (r *run) recvCount(ctx context.Context, count int64) error {
	body, err := r.recvOrBelow(ctx, kindDone)
	if err != nil {
		return err
	}
	theirs, err := protocol.ParseNumber(body, int64(min(r.rows, r.peerRows)))
	if err == nil && theirs != count {
		err = fmt.Errorf("%w: %d common rows here, %d at %s", ErrDisagree, count, theirs, r.link.Peer())
	}
	return err
}
