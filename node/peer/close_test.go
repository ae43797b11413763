package peer

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	"github.com/yinqiao/yinqiao/session"
)

// quickPeer ends the stream as soon as it has the Close frame, before the Send
// of it has returned.
type quickPeer struct {
	ctx    context.Context
	closed bool
	has    chan struct{} // once it has the Close frame
	ended  chan struct{} // once the end was read
}

func (q *quickPeer) Context() context.Context { return q.ctx }

func (q *quickPeer) Recv() (*peerv1.Frame, error) {
	if !q.closed {
		q.closed = true
		return &peerv1.Frame{Kind: &peerv1.Frame_Close{Close: true}}, nil
	}
	<-q.has
	defer close(q.ended)
	return nil, io.EOF
}

func (q *quickPeer) Send(*peerv1.Frame) error {
	close(q.has)
	<-q.ended
	return nil
}

// A peer that ends the stream at once when both sides have closed is not lost.
func TestEndAfterCloseIsNoLoss(t *testing.T) {
	for range 20 {
		lost := make(chan error, 1)
		l := &Link{
			peers:   &Peers{limits: Limits{Heartbeat: time.Minute, Idle: time.Minute}, log: slog.New(slog.DiscardHandler)},
			cfg:     SessionConfig{Lost: func(_ session.PartyID, err error) { lost <- err }},
			ctx:     t.Context(),
			closing: make(chan struct{}),
			lost:    make(map[session.PartyID]error),
		}
		c := newChannel(l, "b", "")
		c.opened = true
		close(c.wanted)
		if err := c.CloseSend(); err != nil {
			t.Fatal(err)
		}
		c.hold(&quickPeer{ctx: t.Context(), has: make(chan struct{}), ended: make(chan struct{})}, func() {})
		select {
		case err := <-lost:
			t.Fatalf("the peer counts as lost: %v", err)
		default:
		}
		if !c.finished() {
			t.Error("the channel is not complete")
		}
	}
}
