package sessiontest

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/yinqiao/yinqiao/session"
)

// Change decides what becomes of message i (from 0) of one direction: the
// messages it returns are delivered in its place, in order. It may keep p.
type Change func(i int, p []byte) [][]byte

// Tamper returns ch with every message that its owner sends put through
// change. What change holds back when the owner ends its messages is lost.
func Tamper(ch session.Channel, change Change) session.Channel {
	return &tampered{Channel: ch, change: change}
}

type tampered struct {
	session.Channel
	change Change
	sent   int // Send never overlaps itself
}

func (c *tampered) Send(ctx context.Context, p []byte) error {
	i := c.sent
	c.sent++
	for _, q := range c.change(i, bytes.Clone(p)) {
		if err := c.Channel.Send(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// Flip inverts one bit of message at; a bit past its end is counted from its
// start again. An empty message becomes one zero byte.
func Flip(at, bit int) Change {
	return func(i int, p []byte) [][]byte {
		if i == at {
			if len(p) == 0 {
				return [][]byte{{0}}
			}
			bit := bit % (8 * len(p))
			p[bit/8] ^= 1 << (bit % 8)
		}
		return [][]byte{p}
	}
}

// Drop loses message at.
func Drop(at int) Change {
	return func(i int, p []byte) [][]byte {
		if i == at {
			return nil
		}
		return [][]byte{p}
	}
}

// Swap delivers message at after the one that follows it.
func Swap(at int) Change {
	var held []byte
	return func(i int, p []byte) [][]byte {
		switch i {
		case at:
			held = p
			return nil
		case at + 1:
			return [][]byte{p, held}
		}
		return [][]byte{p}
	}
}

// Repeat delivers message at twice.
func Repeat(at int) Change {
	return func(i int, p []byte) [][]byte {
		if i == at {
			return [][]byte{p, p}
		}
		return [][]byte{p}
	}
}

// Truncate cuts n bytes off the end of message at, or all it has.
func Truncate(at, n int) Change {
	return func(i int, p []byte) [][]byte {
		if i == at {
			p = p[:max(0, len(p)-n)]
		}
		return [][]byte{p}
	}
}

// Grow appends n zero bytes to message at, up to the size limit of a channel.
func Grow(at, n int) Change {
	return func(i int, p []byte) [][]byte {
		if i == at {
			p = append(p, make([]byte, max(0, min(n, session.MaxMessage-len(p))))...)
		}
		return [][]byte{p}
	}
}

// Replace delivers q instead of message at.
func Replace(at int, q []byte) Change {
	return func(i int, p []byte) [][]byte {
		if i == at {
			return [][]byte{bytes.Clone(q)}
		}
		return [][]byte{p}
	}
}

// View is everything that one party exchanged over the channels it was
// recorded on, in order per direction. It is safe for concurrent use.
type View struct {
	mu             sync.Mutex
	sent, received [][]byte
}

// Sent returns the messages that the party sent.
func (v *View) Sent() [][]byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.sent)
}

// Received returns the messages that the party received.
func (v *View) Received() [][]byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.received)
}

// Record returns ch with every message of both directions copied into v.
func Record(ch session.Channel, v *View) session.Channel { return &recorded{Channel: ch, view: v} }

type recorded struct {
	session.Channel
	view *View
}

func (c *recorded) Send(ctx context.Context, p []byte) error {
	q := bytes.Clone(p)
	if err := c.Channel.Send(ctx, p); err != nil {
		return err
	}
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	c.view.sent = append(c.view.sent, q)
	return nil
}

func (c *recorded) Recv(ctx context.Context) ([]byte, error) {
	p, err := c.Channel.Recv(ctx)
	if err != nil {
		return nil, err
	}
	q := bytes.Clone(p)
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	c.view.received = append(c.view.received, q)
	return p, nil
}
