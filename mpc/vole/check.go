package vole

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// The check of a chunk's trees, against a sender whose sums are not those of a
// tree (Weng, Yang, Katz and Wang, Wolverine, ePrint 2020/925, figure 7; Yang et
// al., Ferret, ePrint 2020/924). After the sums the receiver draws weights for all
// positions of the noise, sums c by them, and so does the sender with what its
// trees say: the two differ by Δ times the sum of the noise by the same weights.
// One more product of mpc/ot, of a random x, hides that sum: the receiver sends
// it plus x, and both have
//
//	Σ weight·c + m = Σ weight·leaf + Δ·(Σ weight·noise + x) + w,  w = m + Δ·x.
//
// The sender sends a hash of its side. It is right only if the sender knew what
// the receiver computed: a wrong sum passes where the receiver's position is one
// at which it does no harm. So a run that ends tells the sender, and one that goes
// on too, whether its guess of positions was right.

// hashSize is the length of the sender's answer.
const hashSize = sha256.Size

// checks counts the products beside those of the trees.
func (c *common) checks() int {
	if c.malicious {
		return 1
	}
	return 0
}

// challenge is what the receiver says when it has the sums: position x of tree t
// weighs tree^t·leaf^x, and masked is x + the weighted noise. A weighted sum of
// errors is a polynomial of degree below 5000 in two random points.
type challenge struct {
	leaf, tree, masked gf128.Element
}

func (c challenge) append(b []byte) []byte {
	return gf128.AppendBytes(b, []gf128.Element{c.leaf, c.tree, c.masked})
}

func parseChallenge(body []byte) (c challenge, err error) {
	r := wire.NewReader(body)
	for _, e := range []*gf128.Element{&c.leaf, &c.tree, &c.masked} {
		if b := r.Fixed(gf128.Size); r.Err() == nil {
			*e = gf128.FromBytes([gf128.Size]byte(b))
		}
	}
	if err := r.Done(); err != nil {
		return challenge{}, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return c, nil
}

// powers returns 1, x, x² …, n of them.
func powers(x gf128.Element, n int) []gf128.Element {
	ps := make([]gf128.Element, n)
	p := gf128.One
	for i := range ps {
		ps[i] = p
		p = p.Mul(x)
	}
	return ps
}

// weights are those of all positions of a chunk.
type weights struct {
	shape      shape
	leaf, tree []gf128.Element
}

func (c challenge) weights(s shape) weights {
	return weights{s, powers(c.leaf, s.widths[s.depth()]), powers(c.tree, s.trees)}
}

// sum returns the weighted leaves of tree i.
func (w weights) sum(i int, leaves []gf128.Element) gf128.Element {
	n := w.shape.size(i)
	return w.tree[i].Mul(gf128.InnerProduct(w.leaf[:n], leaves[:n]))
}

// answer is the hash of what both sides of a chunk's check have.
func (c *common) answer(chunk uint64, sum gf128.Element) [hashSize]byte {
	h := sha256.New()
	h.Write([]byte("yinqiao/" + Name + "/check\x00"))
	h.Write(c.binding[:])
	h.Write(binary.LittleEndian.AppendUint64(nil, chunk))
	b := sum.Bytes()
	h.Write(b[:])
	return [hashSize]byte(h.Sum(nil))
}

// prove answers the receiver's challenge for the trees of roots, which are grown
// once more: nothing is kept of the first time. w is the check's product.
func (s *Sender) prove(ctx context.Context, chunk uint64, shape shape, roots []gf128.Element, w gf128.Element) error {
	body, err := s.link.Recv(ctx)
	if err != nil {
		return err
	}
	ch, err := parseChallenge(body)
	if err != nil {
		return err
	}
	weigh, prg := ch.weights(shape), s.prg(chunk)
	var sums [workers]gf128.Element
	g, gctx := errgroup.WithContext(ctx)
	for i := range workers {
		g.Go(func() error {
			grower, leaves := newGrower(prg, shape), make([]gf128.Element, shape.room())
			var tree []gf128.Element
			for t := shape.trees * i / workers; t < shape.trees*(i+1)/workers; t++ {
				if gctx.Err() != nil {
					return context.Cause(gctx)
				}
				tree = grower.grow(roots[t], leaves, tree[:0])
				sums[i] = sums[i].Add(weigh.sum(t, leaves))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	a := s.answer(chunk, gf128.Sum(sums[:]).Add(s.Delta().Mul(ch.masked)).Add(w))
	return s.link.Send(ctx, a[:])
}

// challenge draws the weights of a chunk whose sums are there. The last value of
// the noise is x.
func (r *Receiver) challenge(ctx context.Context, shape shape, e *noise) (weights, error) {
	var drawn [2]gf128.Element
	if err := gf128.Random(r.sess.Rand(), drawn[:]); err != nil {
		return weights{}, fmt.Errorf("vole: %w", err)
	}
	ch := challenge{leaf: drawn[0], tree: drawn[1], masked: e.values[shape.trees]}
	w := ch.weights(shape)
	for i, at := range e.positions {
		ch.masked = ch.masked.Add(w.tree[i].Mul(w.leaf[at]).Mul(e.values[i]))
	}
	return w, r.link.Send(ctx, ch.append(nil))
}

// verify compares the sender's answer with the own sum.
func (r *Receiver) verify(ctx context.Context, chunk uint64, sum gf128.Element) error {
	want := r.answer(chunk, sum)
	body, err := r.link.Recv(ctx)
	if err != nil {
		return err
	}
	if len(body) != hashSize {
		return fmt.Errorf("%w: an answer of %d bytes", ErrMessage, len(body))
	}
	if subtle.ConstantTimeCompare(body, want[:]) != 1 {
		return fmt.Errorf("%w: trees of %s that are none", ErrCheat, r.link.peer)
	}
	return nil
}
