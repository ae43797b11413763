// Package ecdh is private set intersection from Diffie-Hellman: psi.ecdh.v1.
//
// [Send] and [Receive] are the two roles. Both learn which of their own rows
// the other side holds too, in one common order, or, below a minimum number of
// common rows, neither does:
//
//	m, err := ecdh.Send(ctx, s, keys.All(), keys.Len(), ecdh.Params{MinIntersection: 100})
//	// m.Rows[k] at both parties is the same subject
//
// Each side masks the hashes of its keys with a secret scalar and sends them
// in a secret random order. The sender masks what it got once more and returns
// it as short tags, permuted; so the receiver, which has masked the sender's
// points as well, can count what is common before anyone can tell which rows
// those are. The permutation follows if the count suffices.
//
// [CountSend] and [CountReceive] end with the count: no permutation follows,
// and nobody learns which rows are common. They are psi.cardinality.v1, with
// names, hashes and a page of their own.
//
// Security: semi-honest parties, decisional Diffie-Hellman in Curve25519,
// random oracle. The package's page is docs/protocols/psi-ecdh.md: messages,
// what each party learns, what a dishonest one can do.
//
// Time does not depend on the value of a key, but on its length, on the number
// of rows and on how many are common.
package ecdh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/bits"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/session"
)

// Name of the protocol; a change on the wire is a new name.
const Name = "psi.ecdh.v1"

// MaxRows is the most rows a side may hold.
const MaxRows = 1 << 28

// Limits and defaults of Params.
const (
	DefaultFalseMatchBits = 40
	minFalseMatchBits     = 30
	maxFalseMatchBits     = 64
	minTagBytes           = 5
	maxTagBytes           = 10
)

// Faults that end a session, besides job.ErrMinIntersection and
// [session.ErrMismatch].
var (
	ErrMessage    = errors.New("psi/ecdh: malformed message")
	ErrSize       = errors.New("psi/ecdh: number of rows not supported")
	ErrDuplicates = errors.New("psi/ecdh: keys occur more than once")
	ErrDisagree   = errors.New("psi/ecdh: the two sides disagree")
	ErrPoint      = curve25519.ErrPoint
)

// Params are the public parameters, the same at both parties except for
// MinIntersection. The zero value is the default.
type Params struct {
	// FalseMatchBits bounds the probability, 2^-bits, that any two different
	// keys are taken for one. 0 means 40; 30 to 64.
	FalseMatchBits int
	// TagBytes is the length of a tag. 0 means as few as FalseMatchBits and the
	// sizes of the sets need; 5 to 10.
	TagBytes int
	// Items says what the items are, such as the rule and the number of columns
	// that made them, so that a difference is named instead of matching nothing.
	Items string
	// MinIntersection is the smallest number of common rows that this party
	// agrees to reveal. 0 means none.
	MinIntersection int64
}

// Validate reports every fault of p.
func (p Params) Validate() error {
	var errs []error
	if p.FalseMatchBits != 0 && (p.FalseMatchBits < minFalseMatchBits || p.FalseMatchBits > maxFalseMatchBits) {
		errs = append(errs, fmt.Errorf("psi/ecdh: false_match_bits is %d, allowed are %d to %d", p.FalseMatchBits, minFalseMatchBits, maxFalseMatchBits))
	}
	if p.TagBytes != 0 && (p.TagBytes < minTagBytes || p.TagBytes > maxTagBytes) {
		errs = append(errs, fmt.Errorf("psi/ecdh: tag_bytes is %d, allowed are %d to %d", p.TagBytes, minTagBytes, maxTagBytes))
	}
	if p.MinIntersection < 0 {
		errs = append(errs, errors.New("psi/ecdh: the minimum intersection is negative"))
	}
	return errors.Join(errs...)
}

func (p Params) falseMatchBits() int {
	if p.FalseMatchBits == 0 {
		return DefaultFalseMatchBits
	}
	return p.FalseMatchBits
}

// tagBytes returns the length of a tag for sets of n and m rows.
func (p Params) tagBytes(n, m int) (int, error) {
	pairs := 0 // log2 of the number of pairs, rounded up
	if nm := uint64(n) * uint64(m); nm > 1 {
		pairs = bits.Len64(nm - 1)
	}
	need := max((p.falseMatchBits()+pairs+7)/8, minTagBytes)
	have := p.TagBytes
	if have == 0 {
		// Two keys of one side whose tags agree end the session. A side that is
		// much the larger has more such pairs than there are across, and gets
		// longer tags as far as there are any.
		within := 0
		if most := uint64(max(n, m)); most > 1 {
			within = bits.Len64(most*most/2 - 1)
		}
		have = min(max(need, (p.falseMatchBits()+within+7)/8), maxTagBytes)
	}
	if have < need {
		return 0, fmt.Errorf("%w: %d and %d rows need tags of %d bytes for false_match_bits %d, and tags have %d",
			ErrSize, n, m, need, p.falseMatchBits(), have)
	}
	return have, nil
}

func (p Params) fields(sender, receiver session.PartyID) []session.Field {
	tags := "auto"
	if p.TagBytes != 0 {
		tags = strconv.Itoa(p.TagBytes)
	}
	return []session.Field{
		{Name: "sender", Value: string(sender)},
		{Name: "receiver", Value: string(receiver)},
		{Name: "suite", Value: curve25519.Suite},
		{Name: "items", Value: p.Items},
		{Name: "false_match_bits", Value: strconv.Itoa(p.falseMatchBits())},
		{Name: "tag_bytes", Value: tags},
	}
}

// Match is the result of one party: Rows[k] is the index of the own row whose
// key is also that of row Rows[k] of the other party's Match.
type Match struct{ Rows []int32 }

// Send runs the sender's role on n items, which must be distinct; each is valid
// until the next is asked for. It holds about 50 bytes a row.
func Send(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params) (Match, error) {
	r, err := begin(ctx, s, true, items, n, p)
	if err != nil {
		return Match{}, err
	}
	defer r.scalar.Wipe()

	// Both streams of points at once. The receiver's become tags.
	tags, err := r.exchangePoints(ctx)
	if err != nil {
		return Match{}, err
	}

	// An item sent several times would come back as so many equal tags, and tell
	// by their number which row it was: the order hides distinct items only.
	if _, err := r.indexTags(&tags); err != nil {
		return Match{}, err
	}

	// The tags go back in a secret order.
	var seed [seedSize]byte
	if err := r.draw(seed[:]); err != nil {
		return Match{}, err
	}
	if err := r.sendTags(ctx, &tags, permutation(seed, r.peerRows)); err != nil {
		return Match{}, err
	}
	tags = tagList{}
	if err := r.sendCheck(ctx); err != nil {
		return Match{}, err
	}

	// The count, and the permutation if it suffices.
	count, err := r.recvCount(ctx)
	if err != nil {
		return Match{}, err
	}
	if count < r.params.MinIntersection {
		return Match{}, r.sendBelow(ctx)
	}
	if err := r.sendSeed(ctx, seed); err != nil {
		return Match{}, err
	}

	// The matches, over the order in which the own points were sent.
	rows, err := r.recvMatches(ctx, count)
	if err != nil {
		return Match{}, err
	}
	if err := r.recvDone(ctx, count); err != nil {
		return Match{}, err
	}
	if err := r.sendDone(ctx, count); err != nil {
		return Match{}, err
	}
	return Match{Rows: rows}, nil
}

// Receive runs the receiver's role on n items, which must be distinct; each is
// valid until the next is asked for. It holds about 50 bytes a row.
func Receive(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params) (Match, error) {
	r, err := begin(ctx, s, false, items, n, p)
	if err != nil {
		return Match{}, err
	}
	defer r.scalar.Wipe()

	// Both streams of points at once. The sender's become tags.
	tags, err := r.exchangePoints(ctx)
	if err != nil {
		return Match{}, err
	}
	index, err := r.indexTags(&tags)
	if err != nil {
		return Match{}, err
	}

	// The own rows come back as tags in the sender's secret order: matched[j]
	// is one more than the place at which row j of the sender was found.
	matched := make([]int32, r.peerRows)
	count, err := r.recvTags(ctx, func(place int, tag []byte) (bool, error) {
		j, ok := index.find(tag)
		switch {
		case !ok:
			return false, nil
		case matched[j] != 0:
			return false, fmt.Errorf("%w: the sender has returned one item twice", ErrDisagree)
		}
		matched[j] = int32(place) + 1
		return true, nil
	})
	if err != nil {
		return Match{}, err
	}
	if err := r.recvCheck(ctx); err != nil {
		return Match{}, err
	}
	index, tags = nil, tagList{}

	// The count. Up to here nobody can tell which rows are common.
	if count < r.params.MinIntersection {
		return Match{}, r.sendBelow(ctx)
	}
	if err := r.sendCount(ctx, count); err != nil {
		return Match{}, err
	}
	seed, err := r.recvSeed(ctx)
	if err != nil {
		return Match{}, err
	}

	// The matches, in the sender's sent order.
	perm := permutation(seed, r.rows)
	rows := make([]int32, 0, count)
	for _, m := range matched {
		if m != 0 {
			rows = append(rows, r.order[perm[m-1]])
		}
	}
	if err := r.sendMatches(ctx, matched); err != nil {
		return Match{}, err
	}
	if err := r.sendDone(ctx, count); err != nil {
		return Match{}, err
	}
	if err := r.recvDone(ctx, count); err != nil {
		return Match{}, err
	}
	return Match{Rows: rows}, nil
}

// run is one party's state in one session. It is single-use.
type run struct {
	name     string // of the protocol
	params   Params
	link     *link
	sess     *session.Session
	scalar   *curve25519.Scalar
	items    []curve25519.FieldElement // hashes of the own keys, by row
	order    []int32                   // own row at each place of the sent order
	check    [seedSize]byte            // of the bits that test the peer's points
	rows     int
	peerRows int
	tagBytes int
}

// begin begins a run of psi.ecdh.v1.
func begin(ctx context.Context, s *session.Session, sender bool, items iter.Seq[[]byte], n int, p Params) (*run, error) {
	return beginAs(ctx, s, Name, sender, items, n, p)
}

// beginAs agrees on the parameters of the protocol called name, with more that
// are its own, hashes the items and exchanges the sizes.
func beginAs(ctx context.Context, s *session.Session, name string, sender bool, items iter.Seq[[]byte], n int, p Params, more ...session.Field) (*run, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
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
	if err := s.Bind(ctx, name, append(p.fields(from, to), more...)...); err != nil {
		return nil, err
	}
	r := &run{name: name, params: p, link: newLink(ch, peer, sender), sess: s, rows: n}
	if err := r.hashItems(ctx, items); err != nil {
		return nil, err
	}
	if err := r.exchangeRows(ctx); err != nil {
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

// hashItems hashes the items into the field, by row, and refuses duplicates.
func (r *run) hashItems(ctx context.Context, items iter.Seq[[]byte]) error {
	transcript := r.sess.Transcript()
	h, err := curve25519.NewHasher("yinqiao " + r.name + " with " + curve25519.Suite + " " + string(transcript[:]))
	if err != nil {
		return err
	}
	r.items = make([]curve25519.FieldElement, r.rows)
	// Items are valid until the next one only: a batch is copied and then
	// hashed by all workers.
	const batch = 4096
	var arena []byte
	ends := make([]int, 0, batch)
	done := 0
	flush := func() error {
		err := parallel(ctx, len(ends), 256, func(lo, hi int) error {
			h := h.Clone()
			for i := lo; i < hi; i++ {
				start := 0
				if i > 0 {
					start = ends[i-1]
				}
				h.HashToField(&r.items[done+i], arena[start:ends[i]])
			}
			return nil
		})
		done += len(ends)
		arena, ends = arena[:0], ends[:0]
		return err
	}
	seen := 0
	for item := range items {
		if seen++; seen > r.rows {
			break
		}
		arena = append(arena, item...)
		if ends = append(ends, len(arena)); len(ends) == batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if seen != r.rows {
		return fmt.Errorf("%w: %d rows were announced and the source has more or fewer", ErrSize, r.rows)
	}
	if err := flush(); err != nil {
		return err
	}
	index := newIndex(r.rows, func(i int) []byte { return r.items[i][:] })
	duplicates := 0
	for i := range r.items {
		if !index.add(i) {
			duplicates++
		}
	}
	if duplicates > 0 {
		return fmt.Errorf("%w: %d of %d rows", ErrDuplicates, duplicates, r.rows)
	}
	return nil
}

func (r *run) exchangeRows(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.link.send(gctx, kindRows, appendNumber(nil, int64(r.rows))) })
	g.Go(func() error {
		body, err := r.link.recv(gctx, kindRows)
		if err != nil {
			return err
		}
		n, err := parseRows(body)
		r.peerRows = n
		return err
	})
	return g.Wait()
}

// chunkPoints is how many points go into one message.
const chunkPoints = 8128

// ladderBlock is how many points a worker takes at a time, checkBlock how many
// share the cost of one test for the curve; both divide chunkPoints.
const ladderBlock, checkBlock = 64, 1016

// sendPoints sends H(own)^k in the secret order.
func (r *run) sendPoints(ctx context.Context) error {
	points := make([]curve25519.Point, min(chunkPoints, r.rows))
	var body []byte
	for at := 0; at < r.rows; at += chunkPoints {
		chunk := points[:min(chunkPoints, r.rows-at)]
		err := parallel(ctx, len(chunk), ladderBlock, func(lo, hi int) error {
			var us [ladderBlock]curve25519.FieldElement
			for i := lo; i < hi; i++ {
				us[i-lo] = r.items[r.order[at+i]]
			}
			curve25519.MapToCurve(chunk[lo:hi], us[:hi-lo])
			r.scalar.Mul(chunk[lo:hi], chunk[lo:hi])
			return nil
		})
		if err != nil {
			return err
		}
		body = body[:0]
		for i := range chunk {
			body = append(body, chunk[i][:]...)
		}
		if err := r.link.send(ctx, kindPoints, body); err != nil {
			return err
		}
		r.sess.Progress("mask", int64(at+len(chunk)), int64(r.rows))
	}
	return nil
}

// exchangePoints sends the own points while it receives the peer's, and
// returns the tags of those, in the order in which they came.
func (r *run) exchangePoints(ctx context.Context) (tagList, error) {
	var tags tagList
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.sendPoints(gctx) })
	g.Go(func() (err error) {
		tags, err = r.recvPoints(gctx)
		return err
	})
	err := g.Wait()
	r.items = nil // 32 bytes a row that nothing needs any more
	return tags, err
}

// recvPoints receives and checks the peer's points, masks them with the own
// scalar and keeps their tags.
func (r *run) recvPoints(ctx context.Context) (tagList, error) {
	tags := tagList{size: r.tagBytes}
	points := make([]curve25519.Point, min(chunkPoints, r.peerRows))
	for at := 0; at < r.peerRows; at += chunkPoints {
		chunk := points[:min(chunkPoints, r.peerRows-at)]
		body, err := r.link.recv(ctx, kindPoints)
		if err != nil {
			return tags, err
		}
		if err := parsePoints(chunk, body); err != nil {
			return tags, err
		}
		err = parallel(ctx, len(chunk), checkBlock, func(lo, hi int) error {
			return curve25519.Check(chunk[lo:hi], newStream(r.check, uint64(at+lo)))
		})
		if err != nil {
			return tags, fmt.Errorf("psi/ecdh: points of %s: %w", r.link.peer, err)
		}
		err = parallel(ctx, len(chunk), ladderBlock, func(lo, hi int) error {
			r.scalar.Mul(chunk[lo:hi], chunk[lo:hi])
			return nil
		})
		if err != nil {
			return tags, err
		}
		tags.add(chunk)
		r.sess.Progress("match", int64(at+len(chunk)), int64(r.peerRows))
	}
	return tags, nil
}

// indexTags indexes the tags of the peer's points, which must be distinct.
func (r *run) indexTags(tags *tagList) (*index, error) {
	x := newIndex(r.peerRows, tags.at)
	for j := range r.peerRows {
		if !x.add(j) {
			return nil, fmt.Errorf("%w: %s has sent one item twice", ErrDisagree, r.link.peer)
		}
	}
	return x, nil
}

// tagList holds the tags of points, chunk by chunk: it grows with what a peer
// has sent, not with what it has announced.
type tagList struct {
	size   int // bytes a tag
	chunks [][]byte
}

// add appends the tags of a chunk; only the last may be below chunkPoints.
func (t *tagList) add(points []curve25519.Point) {
	c := make([]byte, 0, len(points)*t.size)
	for i := range points {
		c = append(c, points[i][:t.size]...)
	}
	t.chunks = append(t.chunks, c)
}

func (t *tagList) at(i int) []byte {
	return t.chunks[i/chunkPoints][i%chunkPoints*t.size:][:t.size]
}

// chunkTags is how many tags go into one message.
const chunkTags = 3 * chunkPoints

func (r *run) sendTags(ctx context.Context, tags *tagList, perm []int32) error {
	body := make([]byte, 0, min(chunkTags, len(perm))*r.tagBytes)
	for chunk := range slices.Chunk(perm, chunkTags) {
		body = body[:0]
		for _, i := range chunk {
			body = append(body, tags.at(int(i))...)
		}
		if err := r.link.send(ctx, kindTags, body); err != nil {
			return err
		}
	}
	return nil
}

// recvTags hands every returned tag with its place to use and counts those
// that use has found.
func (r *run) recvTags(ctx context.Context, use func(place int, tag []byte) (bool, error)) (int64, error) {
	var count int64
	for at := 0; at < r.rows; at += chunkTags {
		n := min(chunkTags, r.rows-at)
		body, err := r.link.recv(ctx, kindTags)
		if err != nil {
			return 0, err
		}
		if err := parseTags(body, n, r.tagBytes); err != nil {
			return 0, err
		}
		for i := range n {
			found, err := use(at+i, body[i*r.tagBytes:][:r.tagBytes])
			if err != nil {
				return 0, err
			}
			if found {
				count++
			}
		}
	}
	return count, nil
}

func (r *run) draw(b []byte) error {
	if _, err := io.ReadFull(r.sess.Rand(), b); err != nil {
		return fmt.Errorf("psi/ecdh: randomness: %w", err)
	}
	return nil
}
