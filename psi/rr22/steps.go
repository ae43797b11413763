package rr22

import (
	"context"
	"fmt"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/okvs"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// The messages of the protocol beside those of the vector OLE, in the order of
// the diagram.

// stream returns a source of randomness of its own for one step.
func (r *run) stream() (*share.Stream, error) {
	s, err := share.NewStream(r.sess.Rand())
	if err != nil {
		return nil, fmt.Errorf("psi/rr22: randomness: %w", err)
	}
	return s, nil
}

// recvSeed returns the own keys, arranged under the receiver's seed.
func (r *run) recvSeed(ctx context.Context) (*okvs.Table, error) {
	body, err := r.link.recv(ctx, kindSeed)
	if err != nil {
		return nil, err
	}
	seed, err := parseSeed(body)
	if err != nil {
		return nil, err
	}
	t, err := okvs.Arrange(ctx, r.layout, seed, r.keys)
	if err != nil {
		return nil, err
	}
	r.keys = nil
	n, err := t.Duplicates(ctx)
	if err == nil && n > 0 {
		err = fmt.Errorf("%w: %d of %d rows", ErrDuplicates, n, r.rows)
	}
	return t, err
}

// chunkElements is how many elements of the vector go into one message.
const chunkElements = 16_128

func (r *run) sendVector(ctx context.Context, v []gf128.Element) error {
	var body []byte
	for len(v) > 0 {
		n := min(chunkElements, len(v))
		body = gf128.AppendBytes(body[:0], v[:n])
		if err := r.link.send(ctx, kindVector, body); err != nil {
			return err
		}
		v = v[n:]
	}
	return nil
}

// recvVector adds delta times the vector's next elements to b.
func (r *run) recvVector(ctx context.Context, b []gf128.Element, delta gf128.Element) error {
	buf := make([]gf128.Element, min(chunkElements, len(b)))
	for len(b) > 0 {
		n := min(chunkElements, len(b))
		body, err := r.link.recv(ctx, kindVector)
		if err != nil {
			return err
		}
		if err := parseVector(buf[:n], body); err != nil {
			return err
		}
		gf128.MulAdd(b[:n], buf[:n], delta)
		b = b[n:]
	}
	return nil
}

func (r *run) sendHashes(ctx context.Context, entries []entry) error {
	var body []byte
	for next := 0; next < 1<<r.form.bucket; {
		body, next, entries = r.form.appendBuckets(body[:0], next, entries)
		if err := r.link.send(ctx, kindHashes, body); err != nil {
			return err
		}
	}
	return nil
}

// recvHashes hands all hashes of the sender to m.
func (r *run) recvHashes(ctx context.Context, m *matcher) error {
	for next := 0; next < 1<<r.form.bucket; {
		body, err := r.link.recv(ctx, kindHashes)
		if err != nil {
			return err
		}
		if next, _, err = r.form.parseBuckets(body, next, r.peerRows-m.seen, m.next); err != nil {
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
	if err := r.link.send(ctx, kindBelow, nil); err != nil {
		return err
	}
	return fmt.Errorf("psi/rr22: %w (minimum %d)", job.ErrMinIntersection, r.params.MinIntersection)
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
		return nil, fmt.Errorf("psi/rr22: %w (found by %s)", job.ErrMinIntersection, r.link.peer)
	}
	return body, nil
}

// recvFinished receives the word that the receiver has its result.
func (r *run) recvFinished(ctx context.Context) error {
	body, err := r.recvOrBelow(ctx, kindDone)
	if err == nil && len(body) != 0 {
		err = errLength
	}
	return err
}

// chunkMatches is how many bytes of the bitmap go into one message.
const chunkMatches = 262_128

func (r *run) sendMatches(ctx context.Context, bits []byte) error {
	for len(bits) > 0 {
		n := min(chunkMatches, len(bits))
		if err := r.link.send(ctx, kindMatches, bits[:n]); err != nil {
			return err
		}
		bits = bits[n:]
	}
	return nil
}

// recvMatches returns the own rows that are common, in the order of the hashes.
func (r *run) recvMatches(ctx context.Context, entries []entry) ([]int32, error) {
	limit := min(r.rows, r.peerRows)
	rows := []int32{}
	for at := 0; at < len(entries); at += 8 * chunkMatches {
		n := min(8*chunkMatches, len(entries)-at)
		body, err := r.recvOrBelow(ctx, kindMatches)
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
			if len(rows) == limit {
				return nil, fmt.Errorf("%w: more matches than rows", ErrDisagree)
			}
			rows = append(rows, entries[at+j].row)
		}
	}
	return rows, r.recvCount(ctx, int64(len(rows)))
}

func (r *run) sendCount(ctx context.Context, count int64) error {
	return r.link.send(ctx, kindDone, appendNumber(nil, count))
}

func (r *run) recvCount(ctx context.Context, count int64) error {
	body, err := r.recvOrBelow(ctx, kindDone)
	if err != nil {
		return err
	}
	theirs, err := parseNumber(body, int64(min(r.rows, r.peerRows)))
	if err == nil && theirs != count {
		err = fmt.Errorf("%w: %d common rows here, %d at %s", ErrDisagree, count, theirs, r.link.peer)
	}
	return err
}
