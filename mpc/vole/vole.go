// Package vole makes long vectors of correlated field elements from a short
// exchange: silent vector oblivious linear evaluation over GF(2^128).
//
// [Send] and [Receive] are the two roles. The sender gets one random element
// delta and a vector b, the receiver vectors a and c, pseudorandom but for
//
//	c[i] = a[i]·delta + b[i]
//
// at every position:
//
//	delta, b, err := vole.Send(ctx, s, n, vole.Params{})
//	a, c, err := vole.Receive(ctx, s, n, vole.Params{})
//
// Oblivious transfer (mpc/ot) correlates a few hundred elements, puncturable
// pseudorandom functions spread them over a vector of 2n positions that is zero
// nearly everywhere in a, and a public linear code compresses that to n elements
// which look random: the dual form of learning parity with noise (LPN).
//
// Security: semi-honest parties; those assumptions of mpc/ot; and LPN over
// GF(2^128) for the code and the regular noise that Params.Code names. The page
// docs/protocols/vole.md says what supports it. Params.Malicious adds the checks
// that hold against a peer that does not follow the protocol. Codes are versioned by name;
// Silver's, which is broken, is not among them.
//
// What a party does takes time that depends on n alone. Memory addresses depend
// on the receiver's noise positions in a few places of each tree.
//
// Memory: 16 bytes an element and vector of the result, and up to [ChunkElements]
// elements at a time about 90 more, of which 24 are tables shared by all runs of
// the process.
package vole

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/ot"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// Name of the protocol; a change on the wire is a new name.
const Name = "mpc.vole.v1"

// MaxElements is the most elements of one call.
const MaxElements = 1 << 29

// Faults that end a session, besides [session.ErrMismatch].
var (
	ErrMessage  = errors.New("vole: malformed message")
	ErrSize     = errors.New("vole: number of elements not supported")
	ErrCode     = errors.New("vole: unknown code")
	ErrDisagree = errors.New("vole: the two sides disagree")
	ErrPoint    = ot.ErrPoint
	ErrCheat    = ot.ErrCheat // a check of Params.Malicious failed
)

// Params are the public parameters, the same at both parties. The zero value
// is the default.
type Params struct {
	// Code names the code, its noise and the field. "" means DefaultCode.
	Code string
	// Malicious adds the checks that hold against a peer that does not follow the
	// protocol.
	Malicious bool
}

// Validate reports a fault of p.
func (p Params) Validate() error {
	_, err := p.code()
	return err
}

func (p Params) code() (*code, error) {
	if p.Code == "" {
		p.Code = DefaultCode
	}
	c, ok := codes[p.Code]
	if !ok {
		return nil, fmt.Errorf("%w %q, known is %q", ErrCode, p.Code, DefaultCode)
	}
	return c, nil
}

// Send runs the sender's role for n elements: c = a·delta + b.
func Send(ctx context.Context, s *session.Session, n int, p Params) (delta gf128.Element, b []gf128.Element, err error) {
	if err := checkCount(n); err != nil {
		return gf128.Element{}, nil, err
	}
	sender, err := NewSender(ctx, s, p)
	if err != nil {
		return gf128.Element{}, nil, err
	}
	if b, err = sender.Extend(ctx, n); err != nil {
		return gf128.Element{}, nil, err
	}
	return sender.Delta(), b, nil
}

// Receive runs the receiver's role for n elements: c = a·delta + b.
func Receive(ctx context.Context, s *session.Session, n int, p Params) (a, c []gf128.Element, err error) {
	if err := checkCount(n); err != nil {
		return nil, nil, err
	}
	receiver, err := NewReceiver(ctx, s, p)
	if err != nil {
		return nil, nil, err
	}
	return receiver.Extend(ctx, n)
}

func checkCount(n int) error {
	if n < 0 || n > MaxElements {
		return fmt.Errorf("%w: %d, the limit is %d", ErrSize, n, MaxElements)
	}
	return nil
}

// Sender is the party with delta, which stays the same for all its vectors. It
// is for one goroutine and one session, and of no use after an error.
type Sender struct {
	common
	product *ot.Sender // its Δ is delta
	choose  *ot.Sender // with a Δ of its own, for the trees
}

// Receiver is the other party, on the same terms.
type Receiver struct {
	common
	product *ot.Receiver
	choose  *ot.Receiver
}

// common is what both roles have.
type common struct {
	sess    *session.Session
	link    *link
	code    *code
	binding [32]byte
	chunks  uint64 // so far, of all calls

	malicious bool
}

// label names the code, and the checks if there are any, to the peer.
func (c *common) label() string {
	if c.malicious {
		return c.code.name + "+malicious"
	}
	return c.code.name
}

// begin binds the session, unless the protocol that runs this one has done so.
func begin(ctx context.Context, s *session.Session, p Params) (common, error) {
	c, err := p.code()
	if err != nil {
		return common{}, err
	}
	peer, ch, err := s.Other()
	if err != nil {
		return common{}, err
	}
	run := common{sess: s, link: newLink(ch, peer), code: c, malicious: p.Malicious}
	if s.Transcript() == [32]byte{} {
		if err := s.Bind(ctx, Name, session.Field{Name: "code", Value: run.label()}); err != nil {
			return common{}, err
		}
	}
	return run, nil
}

// bind derives the run's binding from the session's transcript and a nonce.
func (c *common) bind(nonce []byte) ot.Config {
	transcript := c.sess.Transcript()
	h := sha256.New()
	h.Write([]byte("yinqiao/" + Name + "\x00" + c.label() + "\x00"))
	h.Write(transcript[:])
	h.Write(nonce)
	h.Sum(c.binding[:0])
	return ot.Config{Binding: c.binding, Instances: 2, Malicious: c.malicious, Rand: c.sess.Rand()}
}

// prg returns the permutations of the trees of a chunk.
func (c *common) prg(chunk uint64) *aeshash.Pair {
	key := func(side byte) *aeshash.Key {
		h := sha256.New()
		h.Write([]byte("yinqiao/" + Name + "/tree\x00"))
		h.Write(c.binding[:])
		h.Write(binary.LittleEndian.AppendUint64([]byte{side}, chunk))
		return aeshash.New([aeshash.KeySize]byte(h.Sum(nil)))
	}
	return aeshash.NewPair(key(0), key(1))
}

// NewSender agrees on the parameters and runs the base transfers. A session
// that the caller has not bound is bound here.
func NewSender(ctx context.Context, s *session.Session, p Params) (*Sender, error) {
	c, err := begin(ctx, s, p)
	if err != nil {
		return nil, err
	}
	body, err := c.link.Recv(ctx)
	if err != nil {
		return nil, err
	}
	nonce, err := c.parseHello(body)
	if err != nil {
		return nil, err
	}
	senders, err := ot.NewSender(ctx, c.link, c.bind(nonce))
	if err != nil {
		return nil, err
	}
	return &Sender{common: c, product: senders[0], choose: senders[1]}, nil
}

// Delta returns delta.
func (s *Sender) Delta() gf128.Element { return s.product.Delta() }

// Extend returns the next n elements of b. It holds 16 bytes for each, and the
// working memory of a chunk.
func (s *Sender) Extend(ctx context.Context, n int) ([]gf128.Element, error) {
	if err := checkCount(n); err != nil || n == 0 {
		return nil, err
	}
	shape := s.code.shape(n)
	enc, err := s.code.compressor(s.code, shape)
	if err != nil {
		return nil, err
	}
	defer enc.close()
	if err := s.recvCount(ctx, n); err != nil {
		return nil, err
	}
	b := make([]gf128.Element, shape.chunks*shape.k)
	for i := range shape.chunks {
		if err := s.chunk(ctx, enc, shape, b[i*shape.k:(i+1)*shape.k]); err != nil {
			return nil, err
		}
		s.sess.Progress("vole", int64(min(n, (i+1)*shape.k)), int64(n))
	}
	if err := s.link.sendSeal(ctx); err != nil {
		return nil, err
	}
	return b[:n:n], nil
}

// chunk fills b.
func (s *Sender) chunk(ctx context.Context, enc compressor, shape shape, b []gf128.Element) error {
	chunk := s.chunks
	prg := s.prg(chunk)
	s.chunks++
	roots := make([]gf128.Element, shape.trees)
	if err := gf128.Random(s.sess.Rand(), roots); err != nil {
		return fmt.Errorf("vole: %w", err)
	}

	// The receiver's corrections come while the trees grow.
	var w []gf128.Element
	var pads [][2]gf128.Element
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if w, err = s.product.Products(gctx, s.link, shape.trees+s.checks()); err != nil {
			return err
		}
		pads, err = s.choose.Random(gctx, s.link, shape.trees*shape.depth())
		return err
	})
	sums := make([]gf128.Element, 0, shape.trees*shape.treeElements())
	g.Go(func() error {
		grower := newGrower(prg, shape)
		return enc.run(gctx, func(i int, leaves []gf128.Element) {
			sums = grower.grow(roots[i], leaves, sums)
		})
	})
	if err := g.Wait(); err != nil {
		return err
	}

	// Of each tree: the sums of every level, and the sum of its leaves.
	for i := range shape.trees {
		tree := sums[i*shape.treeElements():][:shape.treeElements()]
		for l := range shape.depth() {
			pad := pads[i*shape.depth()+l]
			tree[2*l] = tree[2*l].Add(pad[0])
			tree[2*l+1] = tree[2*l+1].Add(pad[1])
		}
		tree[2*shape.depth()] = tree[2*shape.depth()].Add(w[i])
	}
	if err := s.sendTrees(ctx, sums); err != nil {
		return err
	}
	if !s.malicious {
		return enc.finish(ctx, b)
	}
	g, gctx = errgroup.WithContext(ctx)
	g.Go(func() error { return s.prove(gctx, chunk, shape, roots, w[shape.trees]) })
	g.Go(func() error { return enc.finish(gctx, b) })
	return g.Wait()
}

// NewReceiver is the other side of NewSender.
func NewReceiver(ctx context.Context, s *session.Session, p Params) (*Receiver, error) {
	c, err := begin(ctx, s, p)
	if err != nil {
		return nil, err
	}
	var nonce [nonceSize]byte
	if _, err := io.ReadFull(s.Rand(), nonce[:]); err != nil {
		return nil, fmt.Errorf("vole: draw a nonce: %w", err)
	}
	if err := c.sendHello(ctx, nonce[:]); err != nil {
		return nil, err
	}
	receivers, err := ot.NewReceiver(ctx, c.link, c.bind(nonce[:]))
	if err != nil {
		return nil, err
	}
	return &Receiver{common: c, product: receivers[0], choose: receivers[1]}, nil
}

// Extend returns the next n elements of a and c. It holds 32 bytes for each,
// and the working memory of a chunk.
func (r *Receiver) Extend(ctx context.Context, n int) (a, c []gf128.Element, err error) {
	if err := checkCount(n); err != nil || n == 0 {
		return nil, nil, err
	}
	shape := r.code.shape(n)
	a = make([]gf128.Element, shape.chunks*shape.k)
	c = make([]gf128.Element, shape.chunks*shape.k)

	// One goroutine draws the noise and corrects by it, at most a chunk ahead of
	// the other, which does the work: so receiving never waits for sending.
	// With checks it begins a chunk when the other has sent the last one's
	// challenge, so that messages have one order.
	drawn, corrected, challenged := make(chan *noise, 1), make(chan *noise, 1), make(chan struct{}, 1)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := r.sendCount(gctx, n); err != nil {
			return err
		}
		for i := range shape.chunks {
			if i > 0 && r.malicious {
				if _, err := take(gctx, challenged); err != nil {
					return err
				}
			}
			e, err := drawNoise(r.sess.Rand(), shape, r.checks())
			if err != nil {
				return err
			}
			if err := put(gctx, drawn, e); err != nil {
				return err
			}
			if e.m, err = r.product.Products(gctx, r.link, e.values); err != nil {
				return err
			}
			if e.pads, err = r.choose.Random(gctx, r.link, e.choices, shape.trees*shape.depth()); err != nil {
				return err
			}
			if err := put(gctx, corrected, e); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		enc, err := r.code.compressor(r.code, shape)
		if err != nil {
			return err
		}
		defer enc.close()
		for i := range shape.chunks {
			lo, hi := i*shape.k, (i+1)*shape.k
			if err := r.chunk(gctx, enc, shape, drawn, corrected, challenged, a[lo:hi], c[lo:hi]); err != nil {
				return err
			}
			r.sess.Progress("vole", int64(min(n, hi)), int64(n))
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	if err := r.link.recvSeal(ctx); err != nil {
		return nil, nil, err
	}
	return a[:n:n], c[:n:n], nil
}

// chunk fills a and c.
func (r *Receiver) chunk(ctx context.Context, enc compressor, shape shape, drawn, corrected chan *noise, challenged chan struct{}, a, c []gf128.Element) error {
	chunk := r.chunks
	prg := r.prg(chunk)
	r.chunks++

	// a needs the noise alone,
	e, err := take(ctx, drawn)
	if err != nil {
		return err
	}
	err = enc.run(ctx, func(i int, leaves []gf128.Element) {
		clear(leaves)
		leaves[e.positions[i]] = e.values[i]
	})
	if err != nil {
		return err
	}
	if err := enc.finish(ctx, a); err != nil {
		return err
	}

	// c the sender's trees.
	if _, err := take(ctx, corrected); err != nil {
		return err
	}
	trees, err := r.recvTrees(ctx, shape)
	if err != nil {
		return err
	}
	var weigh weights
	var sum gf128.Element
	if r.malicious {
		if weigh, err = r.challenge(ctx, shape, e); err != nil {
			return err
		}
		if err := put(ctx, challenged, struct{}{}); err != nil {
			return err
		}
		sum = e.m[shape.trees]
	}
	grower := newGrower(prg, shape)
	err = enc.run(ctx, func(i int, leaves []gf128.Element) {
		tree := trees[i*shape.treeElements():][:shape.treeElements()]
		pads := e.pads[i*shape.depth():][:shape.depth()]
		grower.punctured(e.positions[i], tree, pads, e.m[i], leaves)
		if r.malicious {
			sum = sum.Add(weigh.sum(i, leaves))
		}
	})
	if err != nil {
		return err
	}
	if r.malicious {
		if err := r.verify(ctx, chunk, sum); err != nil {
			return err
		}
	}
	return enc.finish(ctx, c)
}

func put[T any](ctx context.Context, ch chan<- T, v T) error {
	select {
	case ch <- v:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func take[T any](ctx context.Context, ch <-chan T) (v T, err error) {
	select {
	case v = <-ch:
		return v, nil
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
}

func mismatch(peer session.PartyID, field string, ours, theirs int) error {
	return &session.MismatchError{Peer: peer, Field: field, Ours: strconv.Itoa(ours), Peers: strconv.Itoa(theirs)}
}
