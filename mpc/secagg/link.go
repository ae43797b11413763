package secagg

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync/atomic"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// link is the channel to one peer. One send may overlap one receive.
type link struct {
	id             session.PartyID
	ch             session.Channel
	sent, received uint32 // messages so far
	lost           atomic.Bool
}

// send sends a message of which the first headerSize bytes are left free.
func (l *link) send(ctx context.Context, k kind, tag *[sha256.Size]byte, frame []byte) error {
	putHeader(frame, k, l.sent, tag)
	l.sent++
	if err := l.ch.Send(ctx, frame); err != nil {
		return fmt.Errorf("secagg: send a %s to %s: %w", k, l.id, err)
	}
	return nil
}

// receive returns the body of the next message, which has to be one of kind k
// and of the step.
func (l *link) receive(ctx context.Context, k kind, s *step) ([]byte, error) {
	p, err := l.ch.Recv(ctx)
	if err != nil {
		return nil, fmt.Errorf("secagg: wait for a %s of %s: %w", k, l.id, err)
	}
	body, err := parseHeader(p, k, l.received, &s.tag)
	l.received++
	if err != nil {
		return nil, s.fault(l, err)
	}
	return body, nil
}

// newFrame returns a message with its header free and its body as given.
func newFrame(body []byte) []byte {
	return append(make([]byte, headerSize, headerSize+len(body)), body...)
}

// task is something to do with one peer.
type task struct {
	*link
	do func(context.Context) error
}

// together does tasks at the same time and waits for all. A peer that is lost
// meanwhile ends its own task alone.
func together(ctx context.Context, tasks []task) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		g.Go(func() error {
			err := t.do(ctx)
			if isLost(err) && ctx.Err() == nil {
				t.lost.Store(true)
				return nil
			}
			return err
		})
	}
	return g.Wait()
}
