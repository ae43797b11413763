package hesum

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// dropper loses a party at the moment that it has sent a number of frames of one
// kind in one call, and would send the next.
type dropper struct {
	net   *cluster
	self  session.PartyID
	kind  kind
	call  uint16
	after int64
	count atomic.Int64
}

func (d *dropper) wrap(l sessiontest.Link, ch session.Channel) session.Channel {
	if l.Self != d.self {
		return ch
	}
	return &sending{Channel: ch, change: func(_ context.Context, h header, p []byte) ([][]byte, error) {
		if h.kind == d.kind && h.call == d.call && d.count.Add(1) > d.after {
			d.net.net.Drop(d.self)
			return nil, session.ErrGone
		}
		return [][]byte{p}, nil
	}}
}

// TestDrops loses a party at each stage. Whatever happens, whoever has a sum has
// the exact one of those included, everybody has the same idea of who they are,
// and an error is ErrLost.
func TestDrops(t *testing.T) {
	type want int
	const (
		ends     want = iota // with ErrLost at all others that are not done
		without3             // goes on without the party's data
		with3                // goes on with them
		either               // some of the first two
	)
	nn := setup{4, 3, 3, share.Shape{Narrow: 3}, [][]int{{0, 3}, {0, 3}}, 0}
	tn := setup{5, 4, 3, share.Shape{Narrow: 3}, [][]int{{0, 4}, {0, 4}}, 3}
	for _, x := range []struct {
		setup
		who   int
		kind  kind
		call  uint16
		after int64 // frames of the kind that are sent before
		want
	}{
		{nn, 2, kindCommit, 0, 0, ends},
		{nn, 2, kindReveal, 0, 1, ends},
		{nn, 2, kindPart, 0, 0, ends},
		{nn, 2, kindEcho, 0, 0, ends},
		{nn, 2, kindVector, 1, 0, ends},
		{nn, 0, kindVector, 1, 1, ends},
		{nn, 2, kindEcho, 1, 1, ends},
		{nn, 2, kindShare, 1, 0, ends},
		{nn, 1, kindVector, 2, 0, ends},

		// p3 is not needed to open.
		{tn, 3, kindCommit, 0, 0, without3},
		{tn, 3, kindCommit, 0, 1, without3},
		{tn, 3, kindReveal, 0, 0, without3},
		{tn, 3, kindReveal, 0, 1, without3},
		{tn, 3, kindReport, 0, 0, without3},
		{tn, 3, kindPledge, 0, 0, without3},
		{tn, 3, kindPart, 0, 0, without3},
		{tn, 3, kindPart, 0, 1, without3},
		{tn, 3, kindPiece, 0, 2, without3},
		{tn, 3, kindReport, 0, 3, without3}, // of the second agreement: three peers at the first
		{tn, 3, kindEcho, 0, 0, without3},
		{tn, 3, kindEcho, 0, 3, without3},
		{tn, 3, kindPledge, 1, 1, without3},
		{tn, 3, kindPledges, 1, 0, without3},
		{tn, 3, kindPledges, 1, 1, without3},
		{tn, 3, kindVector, 1, 0, without3},
		{tn, 3, kindVector, 1, 1, without3},
		{tn, 3, kindVector, 1, 3, without3},
		{tn, 3, kindReport, 1, 0, with3},
		{tn, 3, kindEcho, 1, 0, with3},
		// p1 is, unless it is lost before the decision.
		{tn, 1, kindVector, 1, 2, without3},
		{tn, 1, kindReport, 1, 0, with3},
		{tn, 1, kindEcho, 1, 0, ends},
		{tn, 1, kindShare, 1, 0, ends},
		// p0 decides, unless it is lost before.
		{tn, 0, kindReveal, 0, 0, without3},
		{tn, 0, kindDecision, 0, 0, either},
		{tn, 0, kindDecision, 0, 1, either},
		{tn, 0, kindDecision, 1, 0, either},
		{tn, 0, kindDecision, 1, 2, either},
		// The set is fixed by the second sum.
		{tn, 3, kindVector, 2, 0, ends},
	} {
		name := fmt.Sprintf("%d of %d, p%d at %v %d after %d", x.threshold, x.contributors, x.who, x.kind, x.call, x.after)
		t.Run(name, func(t *testing.T) {
			c := x.setup
			if x.call < 2 { // what comes later is another case
				c.to = c.to[:1]
			}
			if x.who == 0 { // somebody else is to have the sum
				c.to = slices.Clone(c.to)
				for k := range c.to {
					c.to[k] = []int{1, c.parties - 1}
				}
			}
			inputs := c.random(20)
			net := new(cluster)
			d := &dropper{net: net, self: sessiontest.PartyIDs(c.parties)[x.who], kind: x.kind, call: x.call, after: x.after}
			net.wrap = d.wrap
			outs := c.run(t, net, inputs)
			if d.count.Load() <= x.after {
				t.Fatal("the party was not dropped")
			}
			checkRest(t, name, c, outs, inputs, "")
			opened, lost := 0, 0
			for i, out := range outs {
				switch {
				case i == x.who:
				case out.err == nil:
					for k, to := range c.to {
						if slices.Contains(to, i) && out.sums[k].Shape() == c.shape {
							opened++
						}
					}
				case errors.Is(out.err, ErrLost) && errors.Is(out.err, session.ErrGone):
					lost++
				default:
					t.Errorf("p%d ends with %v", i, out.err)
				}
				if out.err == nil && i != x.who {
					switch x.want {
					case without3:
						c.check(t, i, out, inputs, without(c.contributors, x.who))
					case with3:
						c.check(t, i, out, inputs, without(c.contributors))
					}
				}
			}
			switch {
			case x.want == ends && lost == 0, (x.want == without3 || x.want == with3) && lost != 0:
				t.Errorf("%d parties lost it", lost)
			case x.want == ends && x.call < 2 && opened != 0:
				t.Errorf("%d parties have a sum", opened)
			case x.want == either && opened != 0 && lost != 0:
				t.Errorf("%d parties have a sum and %d lost it", opened, lost)
			}
		})
	}
}

// TestLostReceiver: a receiver that is lost keeps nobody else from the sum.
func TestLostReceiver(t *testing.T) {
	for name, c := range map[string]setup{
		"n of n": {5, 3, 3, share.Shape{Narrow: 3}, [][]int{{3, 4}}, 0},
		"t of n": {5, 3, 2, share.Shape{Narrow: 3}, [][]int{{3, 4}}, 0},
	} {
		inputs := c.random(21)
		net := new(cluster)
		d := &dropper{net: net, self: "p4", kind: kindEcho, call: 1}
		net.wrap = d.wrap
		outs := c.run(t, net, inputs)
		for i, out := range outs[:4] {
			c.check(t, i, out, inputs, without(3))
		}
		if outs[4].err == nil {
			t.Errorf("%s: the receiver was not lost", name)
		}
	}
}

// TestTooFewLeft: with two of four lost, three cannot open.
func TestTooFewLeft(t *testing.T) {
	c := setup{4, 4, 3, share.Shape{Narrow: 3}, [][]int{{0}}, 0}
	net := new(cluster)
	d2 := &dropper{net: net, self: "p2", kind: kindVector, call: 1}
	d3 := &dropper{net: net, self: "p3", kind: kindReveal}
	net.wrap = func(l sessiontest.Link, ch session.Channel) session.Channel { return d2.wrap(l, d3.wrap(l, ch)) }
	outs := c.run(t, net, c.random(22))
	for i, out := range outs[:2] {
		if !errors.Is(out.err, ErrLost) {
			t.Errorf("p%d ends with %v", i, out.err)
		}
	}
}

// cut is a link that breaks when one of its ends would send a frame of a kind:
// both ends live, and find each other gone.
type cut struct {
	session.Channel
	gone <-chan struct{}
	end  func()
	kind kind
	call uint16
}

func (c *cut) Send(ctx context.Context, p []byte) error {
	if h, _, err := parseFrame(p); err == nil && h.kind == c.kind && h.call == c.call {
		c.end()
	}
	select {
	case <-c.gone:
		return session.ErrGone
	default:
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() { // ends with the call
		select {
		case <-c.gone:
			stop(session.ErrGone)
		case <-ctx.Done():
		}
	}()
	return c.Channel.Send(ctx, p)
}

func (c *cut) Recv(ctx context.Context) ([]byte, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() { // ends with the call
		select {
		case <-c.gone:
			stop(session.ErrGone)
		case <-ctx.Done():
		}
	}()
	return c.Channel.Recv(ctx)
}

// TestBrokenLink: two parties that live lose each other, and no more. Nobody
// hangs, and whoever has a sum has an exact one.
func TestBrokenLink(t *testing.T) {
	for name, c := range map[string]setup{
		"n of n": {3, 3, 3, share.Shape{Narrow: 3}, [][]int{{0, 1, 2}}, 0},
		"t of n": {5, 4, 2, share.Shape{Narrow: 3}, [][]int{{0, 4}}, 0},
	} {
		for k := kindCommit; k <= kindShare; k++ {
			for _, ends := range [][]session.PartyID{{"p0", "p1"}, {"p1", "p2"}} {
				gone := make(chan struct{})
				end := sync.OnceFunc(func() { close(gone) })
				call := uint16(0)
				if k >= kindPledges {
					call = 1
				}
				inputs := c.random(23)
				outs := c.run(t, &cluster{wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
					if !slices.Contains(ends, l.Self) || !slices.Contains(ends, l.Peer) {
						return ch
					}
					return &cut{Channel: ch, gone: gone, end: end, kind: k, call: call}
				}}, inputs)
				checkRest(t, fmt.Sprintf("%s: %v between %v", name, k, ends), c, outs, inputs, "")
			}
		}
	}
}
