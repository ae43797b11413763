package ecdh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// run is one party's state in one session. It is single-use.
type run struct {
	params   Params
	link     *transcript.Link
	sess     *session.Session
	scalar   *curve25519.Scalar
	hasher   *curve25519.Hasher
	own      elements
	order    []int32        // own row at each place of the sent order
	check    [seedSize]byte // of the bits that test the peer's points
	rows     int
	peerRows int
	tagBytes int
}

// begin begins a run of psi.ecdh.v1.
func begin(ctx context.Context, s *session.Session, sender bool, items source, p Params) (*run, error) {
	r, err := beginAs(ctx, s, Name, sender, items, p, p.fields)
	if err == nil && p.ReceiverOnly {
		err = r.agreeOnMinimum(ctx)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// beginAs agrees on the parameters of the protocol called name, exchanges the
// sizes and draws what is secret.
func beginAs(ctx context.Context, s *session.Session, name string, sender bool, items source, p Params, fields func(sender, receiver session.PartyID) []session.Field) (*run, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	n := items.rows()
	if n < 0 || n > MaxRows {
		return nil, fmt.Errorf("%w: %d rows, the limit is %d", ErrSize, n, MaxRows)
	}
	peer, ch, err := s.Other()
	if err != nil {
		return nil, err
	}
	from, to := s.Self(), peer
	if !sender {
		from, to = peer, s.Self()
	}
	if err := s.Bind(ctx, name, fields(from, to)...); err != nil {
		return nil, err
	}
	r := &run{params: p, link: messages.Link(ch, peer, sender), sess: s, rows: n}
	transcript := s.Transcript()
	if r.hasher, err = curve25519.NewHasher("yinqiao " + name + " with " + curve25519.Suite + " " + string(transcript[:])); err != nil {
		return nil, err
	}
	if r.own, err = items.elements(ctx, r.hasher); err != nil {
		return nil, err
	}
	theirs, err := r.link.Exchange(ctx, kindRows, int64(n), anyNumber)
	if err != nil {
		return nil, err
	}
	if r.peerRows, err = checkRows(theirs); err != nil {
		return nil, err
	}
	if r.tagBytes, err = p.tagBytes(r.rows, r.peerRows); err != nil {
		return nil, err
	}
	var seed [seedSize]byte
	if err := errors.Join(r.draw(seed[:]), r.draw(r.check[:])); err != nil {
		return nil, err
	}
	r.order = permutation(seed, n)
	if r.scalar, err = curve25519.NewScalar(s.Rand()); err != nil {
		return nil, err
	}
	return r, nil
}

// agreeOnMinimum raises the own minimum to the peer's. Where a set is smaller
// than that, it ends the run before anything is masked: a set of one row would
// otherwise learn of that row from what follows. A run that it ends has no
// scalar any more.
func (r *run) agreeOnMinimum(ctx context.Context) error {
	theirs, err := r.link.Exchange(ctx, kindMinimum, r.params.MinIntersection, anyNumber)
	r.params.MinIntersection = max(r.params.MinIntersection, theirs)
	if smaller := int64(min(r.rows, r.peerRows)); err == nil && smaller < r.params.MinIntersection {
		err = fmt.Errorf("psi/ecdh: %w (minimum %d, a set has %d rows)", job.ErrMinIntersection, r.params.MinIntersection, smaller)
	}
	if err != nil {
		r.scalar.Wipe()
	}
	return err
}

func (r *run) draw(b []byte) error {
	if _, err := io.ReadFull(r.sess.Rand(), b); err != nil {
		return fmt.Errorf("psi/ecdh: randomness: %w", err)
	}
	return nil
}

// source is where a party's items come from.
type source interface {
	rows() int
	// elements reads the items and refuses duplicates.
	elements(context.Context, *curve25519.Hasher) (elements, error)
}

// elements are the hashes of the own items.
type elements interface {
	// gather sets us[i] to the hash of item rows[i], for at most ladderBlock rows.
	gather(us []curve25519.FieldElement, rows []int32, h *curve25519.Hasher)
}

// digests are items in memory. They are hashed when their points are due, which
// spares 32 bytes a row.
type digests [][16]byte

func (d digests) rows() int { return len(d) }

func (d digests) elements(ctx context.Context, _ *curve25519.Hasher) (elements, error) {
	return d, refuseDuplicates(ctx, len(d), func(i int) []byte { return d[i][:] })
}

func (d digests) gather(us []curve25519.FieldElement, rows []int32, h *curve25519.Hasher) {
	// The rows lie anywhere in memory: fetched one after the other by themselves,
	// they are waited for together.
	var block [ladderBlock][16]byte
	for i, row := range rows {
		block[i] = d[row]
	}
	for i := range rows {
		h.HashToField(&us[i], block[i][:])
	}
}

// sequence is items that can be read once, in order, and how many they are said
// to be.
type sequence struct {
	items iter.Seq[[]byte]
	n     int
}

func (s sequence) rows() int { return s.n }

// elements hashes the items. Each is valid until the next one only: a batch is
// copied and then hashed by all workers.
func (s sequence) elements(ctx context.Context, h *curve25519.Hasher) (elements, error) {
	const batch = 4096
	hashes := make(hashed, s.n)
	var arena []byte
	ends := make([]int, 0, batch)
	done := 0
	flush := func() error {
		err := parallel.For(ctx, len(ends), 256, func(lo, hi int) error {
			h := h.Clone()
			for i := lo; i < hi; i++ {
				start := 0
				if i > 0 {
					start = ends[i-1]
				}
				h.HashToField(&hashes[done+i], arena[start:ends[i]])
			}
			return nil
		})
		done += len(ends)
		arena, ends = arena[:0], ends[:0]
		return err
	}
	seen := 0
	for item := range s.items {
		if seen++; seen > s.n {
			break
		}
		arena = append(arena, item...)
		if ends = append(ends, len(arena)); len(ends) == batch {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	if seen != s.n {
		return nil, fmt.Errorf("%w: %d rows were announced and the source has more or fewer", ErrSize, s.n)
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return hashes, refuseDuplicates(ctx, s.n, func(i int) []byte { return hashes[i][:] })
}

// hashed are the hashes by row.
type hashed []curve25519.FieldElement

func (f hashed) gather(us []curve25519.FieldElement, rows []int32, _ *curve25519.Hasher) {
	for i, row := range rows {
		us[i] = f[row]
	}
}

// chunkPoints is how many points go into one message, 260,096 bytes. They are
// checked together, at a hundredth of what it takes to mask them.
const chunkPoints = curve25519.CheckBlock

// ladderBlock is how many points a worker takes at a time.
const ladderBlock = 64

// exchangePoints sends the own points while it receives the peer's, and
// returns the tags of those, in the order in which they came.
func (r *run) exchangePoints(ctx context.Context) (*tagList, error) {
	var tags *tagList
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.sendPoints(gctx) })
	g.Go(func() (err error) {
		tags, err = r.recvPoints(gctx)
		return err
	})
	err := g.Wait()
	r.own = nil // what nothing needs any more
	return tags, err
}

// sendPoints sends H(own)^k in the secret order.
func (r *run) sendPoints(ctx context.Context) error {
	points := make([]curve25519.Point, min(chunkPoints, r.rows))
	var body []byte
	for at := 0; at < r.rows; at += chunkPoints {
		chunk := points[:min(chunkPoints, r.rows-at)]
		err := parallel.Each(ctx, len(chunk), ladderBlock, func() func(lo, hi int) error {
			h := r.hasher.Clone()
			var us [ladderBlock]curve25519.FieldElement
			return func(lo, hi int) error {
				r.own.gather(us[:], r.order[at+lo:at+hi], h)
				curve25519.MapToCurve(chunk[lo:hi], us[:hi-lo])
				r.scalar.Mul(chunk[lo:hi], chunk[lo:hi])
				return nil
			}
		})
		if err != nil {
			return err
		}
		body = body[:0]
		for i := range chunk {
			body = append(body, chunk[i][:]...)
		}
		if err := r.link.Send(ctx, kindPoints, body); err != nil {
			return err
		}
		r.sess.Progress("mask", int64(at+len(chunk)), int64(r.rows))
	}
	return nil
}

// recvPoints receives and checks the peer's points, masks them with the own
// scalar and keeps their tags.
func (r *run) recvPoints(ctx context.Context) (*tagList, error) {
	tags := &tagList{size: r.tagBytes}
	points := make([]curve25519.Point, min(chunkPoints, r.peerRows))
	for at := 0; at < r.peerRows; at += chunkPoints {
		chunk := points[:min(chunkPoints, r.peerRows-at)]
		body, err := r.link.Recv(ctx, kindPoints)
		if err != nil {
			return nil, err
		}
		if err := parsePoints(chunk, body); err != nil {
			return nil, err
		}
		if err := curve25519.Check(chunk, newStream(r.check, uint64(at))); err != nil {
			return nil, fmt.Errorf("psi/ecdh: points of %s: %w", r.link.Peer(), err)
		}
		err = parallel.For(ctx, len(chunk), ladderBlock, func(lo, hi int) error {
			r.scalar.Mul(chunk[lo:hi], chunk[lo:hi])
			return nil
		})
		if err != nil {
			return nil, err
		}
		tags.addPoints(chunk)
		r.sess.Progress("match", int64(at+len(chunk)), int64(r.peerRows))
	}
	return tags, nil
}
