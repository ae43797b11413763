package oprf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
	"github.com/yinqiao/yinqiao/table"
)

// client is a client's state in one session. It is single-use.
type client struct {
	params  Params
	sess    *session.Session
	link    *transcript.Link
	place   place
	items   [][]byte
	order   []int32 // own item at each place of the sent order
	blinded []curve25519.Point
	unblind *curve25519.Scalar
	layout  layout
	held    *held
}

// beginClient agrees on the parameters and takes the items.
func beginClient(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, st Store, p Params) (*client, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if n < 0 || int64(n) > p.maxItems() {
		return nil, fmt.Errorf("%w: %d items, the limit is %d a session", ErrSize, n, p.maxItems())
	}
	peer, ch, err := s.Other()
	if err != nil {
		return nil, err
	}
	if err := s.Bind(ctx, Name, p.fields(s.Self(), peer)...); err != nil {
		return nil, err
	}
	st = st.withDefaults()
	c := &client{params: p, sess: s, link: protocol.Link(ch, peer, true), place: st.place("client", s.Self(), peer, p)}
	// Items are valid until the next one only.
	var arena []byte
	ends := make([]int, 1, n+1)
	for item := range items {
		if len(item) > table.MaxKeyBytes {
			return nil, fmt.Errorf("%w: an item of %d bytes, the limit is %d", ErrSize, len(item), table.MaxKeyBytes)
		}
		arena = append(arena, item...)
		if ends = append(ends, len(arena)); len(ends) > n+1 {
			break
		}
	}
	if len(ends) != n+1 {
		return nil, fmt.Errorf("%w: %d items were announced and the source has more or fewer", ErrSize, n)
	}
	c.items = make([][]byte, n)
	for i := range c.items {
		c.items[i] = arena[ends[i]:ends[i+1]]
	}
	return c, c.blind(ctx)
}

func (c *client) close() {
	if c.unblind != nil {
		c.unblind.Wipe()
	}
	if c.held != nil {
		c.held.close()
	}
}

// blind multiplies the items' points by a fresh scalar, and orders them by what
// comes out: an order that has nothing to do with that of the rows, and in which
// a duplicate shows.
func (c *client) blind(ctx context.Context) error {
	r, err := curve25519.NewScalar(c.sess.Rand())
	if err != nil {
		return err
	}
	defer r.Wipe()
	if c.unblind, err = r.Inverse(); err != nil {
		return err
	}
	points := make([]curve25519.Point, len(c.items))
	err = parallel.Each(ctx, len(points), block, func() func(lo, hi int) error {
		f := newPRF(epochID{}) // of which the hash to the curve is needed alone
		var us [block]curve25519.FieldElement
		return func(lo, hi int) error {
			for i := lo; i < hi; i++ {
				f.hasher.HashToField(&us[i-lo], c.items[i])
			}
			curve25519.MapToCurve(points[lo:hi], us[:hi-lo])
			r.Mul(points[lo:hi], points[lo:hi])
			return nil
		}
	})
	if err != nil {
		return err
	}
	c.order = make([]int32, len(points))
	for i := range c.order {
		c.order[i] = int32(i)
	}
	slices.SortFunc(c.order, func(i, j int32) int { return bytes.Compare(points[i][:], points[j][:]) })
	c.blinded = make([]curve25519.Point, len(points))
	duplicates := 0
	for k, i := range c.order {
		c.blinded[k] = points[i]
		if k > 0 && c.blinded[k-1] == points[i] {
			duplicates++
		}
	}
	if duplicates > 0 {
		return fmt.Errorf("%w: %d of %d items", ErrDuplicates, duplicates, len(points))
	}
	return nil
}

// recvEpoch learns which table is the server's, and finds what there is of it.
func (c *client) recvEpoch(ctx context.Context) error {
	body, err := c.link.Recv(ctx, kindEpoch)
	if err != nil {
		return err
	}
	a, err := parseAnnouncement(body)
	if err != nil {
		return err
	}
	if c.layout, err = newLayout(a.total, c.params.falseMatchBits()); err != nil {
		return err
	}
	c.held, err = c.place.find(a, c.layout)
	return err
}

// fetch receives what is missing of the table. A part that has come stays in
// the cache, whatever becomes of the session.
func (c *client) fetch(ctx context.Context) error {
	if !c.held.complete() {
		unlock, err := c.place.lock(ctx)
		if err != nil {
			return err
		}
		defer unlock()
		// Another session may have fetched it by now.
		c.held.close()
		if c.held, err = c.place.find(c.held.announcement, c.layout); err != nil {
			return err
		}
	}
	h := c.held
	if err := c.link.SendNumber(ctx, kindWant, int64(h.has())); err != nil {
		return err
	}
	if h.dir == nil {
		if err := c.recvDirectory(ctx); err != nil {
			return err
		}
	}
	for i := len(h.files); i < h.parts(); i++ {
		err := h.store(i, func(int) ([]byte, error) { return c.link.Recv(ctx, kindSegments) })
		if err != nil {
			return err
		}
		c.sess.Progress(downloadStage, int64(i+1), int64(h.parts()))
	}
	return h.pruneOthers()
}

func (c *client) recvDirectory(ctx context.Context) error {
	var dir []byte
	for total := c.layout.segments() * entrySize; len(dir) < total; {
		body, err := c.link.Recv(ctx, kindDirectory)
		if err != nil {
			return err
		}
		if err := protocol.CheckLength(body, min(chunkBytes, total-len(dir)), "directory"); err != nil {
			return err
		}
		dir = append(dir, body...)
	}
	return c.held.keepDirectory(dir)
}

// evaluate sends the blinded items while it receives them evaluated, and
// returns their tags, cut and sorted.
func (c *client) evaluate(ctx context.Context) ([]tags.Tag, error) {
	own := make([]tags.Tag, len(c.items))
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		var body []byte
		for chunk := range slices.Chunk(c.blinded, chunkPoints) {
			body = appendPoints(body[:0], chunk)
			if err := c.link.Send(gctx, kindBlinded, body); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		points := make([]curve25519.Point, min(chunkPoints, len(own)))
		for at := 0; at < len(own); at += chunkPoints {
			chunk := points[:min(chunkPoints, len(own)-at)]
			if err := recvPoints(gctx, c.link, kindEvaluated, chunk, c.sess.Rand()); err != nil {
				return err
			}
			if err := c.finalise(gctx, own[at:at+len(chunk)], chunk, c.order[at:]); err != nil {
				return err
			}
			c.sess.Progress(evaluateStage, int64(at+len(chunk)), int64(len(own)))
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	c.blinded, c.order = nil, nil
	if err := tags.Sort(ctx, own); err != nil {
		return nil, err
	}
	for i := 1; i < len(own); i++ {
		if own[i-1].Same(&own[i]) {
			return nil, errCollision
		}
	}
	return own, nil
}

// finalise unblinds the points of the items in order and sets dst to the tags.
func (c *client) finalise(ctx context.Context, dst []tags.Tag, points []curve25519.Point, order []int32) error {
	return parallel.Each(ctx, len(points), block, func() func(lo, hi int) error {
		f := newPRF(c.held.id)
		return func(lo, hi int) error {
			c.unblind.Mul(points[lo:hi], points[lo:hi])
			for i := lo; i < hi; i++ {
				row := order[i]
				dst[i] = c.layout.form.Cut(f.finalise(c.items[row], &points[i], row))
			}
			return nil
		}
	})
}

// lookup finds the own tags in the table. A table that turns out to be damaged
// is fetched again, once.
func (c *client) lookup(ctx context.Context, own []tags.Tag) ([]match, error) {
	progress := func(done int) { c.sess.Progress(lookupStage, int64(done), int64(len(own))) }
	found, err := c.held.matches(ctx, own, progress)
	if !errors.Is(err, errDamaged) {
		return found, err
	}
	if err := c.held.discard(); err != nil {
		return nil, err
	}
	if err := c.fetch(ctx); err != nil {
		return nil, err
	}
	if found, err = c.held.matches(ctx, own, progress); errors.Is(err, errDamaged) {
		err = errors.Join(fmt.Errorf("%w: the server's table, as soon as it was fetched again", ErrCache), c.held.discard())
	}
	return found, err
}

func (c *client) sendMatches(ctx context.Context, found []match) error {
	var body []byte
	places := make([]uint32, 0, min(chunkMatches, len(found)))
	for chunk := range slices.Chunk(found, chunkMatches) {
		places = places[:0]
		for i := range chunk {
			places = append(places, chunk[i].place)
		}
		body = appendPlaces(body[:0], places)
		if err := c.link.Send(ctx, kindMatches, body); err != nil {
			return err
		}
	}
	return nil
}

// recvCount receives the server's count, which has to be the own.
func (c *client) recvCount(ctx context.Context, count int64) error {
	k, body, err := c.link.RecvOneOf(ctx, kindDone, kindBelow)
	if err != nil {
		return err
	}
	if k == kindBelow {
		return foundBelow(c.link, body)
	}
	theirs, err := protocol.ParseNumber(body, MaxItems)
	if err == nil && theirs != count {
		err = fmt.Errorf("%w: %d common rows here, %d at %s", ErrDisagree, count, theirs, c.link.Peer())
	}
	return err
}

func (c *client) sendBelow(ctx context.Context) error { return sendBelow(ctx, c.link, c.params) }

// sendBelow tells the peer that the count is below the own minimum, and returns
// the error with which both sides end.
func sendBelow(ctx context.Context, l *transcript.Link, p Params) error {
	if err := l.Send(ctx, kindBelow, nil); err != nil {
		return err
	}
	return fmt.Errorf("psi/oprf: %w (minimum %d)", job.ErrMinIntersection, p.MinIntersection)
}

// foundBelow is the error for the peer's word that its count is below its
// minimum.
func foundBelow(l *transcript.Link, body []byte) error {
	if err := protocol.CheckLength(body, 0, "below"); err != nil {
		return err
	}
	return fmt.Errorf("psi/oprf: %w (found by %s)", job.ErrMinIntersection, l.Peer())
}

// recvPoints fills points with the body of the next message, and checks them.
func recvPoints(ctx context.Context, l *transcript.Link, k transcript.Kind, points []curve25519.Point, rand io.Reader) error {
	body, err := l.Recv(ctx, k)
	if err != nil {
		return err
	}
	if err := parsePoints(points, body); err != nil {
		return err
	}
	seeds := make([][share.KeySize]byte, (len(points)+checkBlock-1)/checkBlock)
	for i := range seeds {
		if _, err := io.ReadFull(rand, seeds[i][:]); err != nil {
			return fmt.Errorf("psi/oprf: randomness: %w", err)
		}
	}
	err = parallel.For(ctx, len(points), checkBlock, func(lo, hi int) error {
		return curve25519.Check(points[lo:hi], share.KeyedStream(&seeds[lo/checkBlock]))
	})
	if err != nil {
		return fmt.Errorf("psi/oprf: points of %s: %w", l.Peer(), err)
	}
	return nil
}
