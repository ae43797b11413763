package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"

	"github.com/yinqiao/yinqiao/session"
)

// frames is either side of a gRPC stream. Its calls ignore every context but
// the stream's own.
type frames interface {
	Send(*peerv1.Frame) error
	Recv() (*peerv1.Frame, error)
	Context() context.Context // ends with the stream
}

// channel is a session.Channel over one gRPC stream, which it may get later
// than it is opened. Once a Send or Recv was cut short by its ctx, the stream
// is cancelled and the channel is dead.
//
//	Send ─▶ stream          (blocks in gRPC while the peer's window is full)
//	write: heartbeats, Close frame ─▶ stream
//	stream ─▶ receive ─▶ in ─▶ Recv
//
// It is over (complete) when both sides have sent their Close frame.
type channel struct {
	link  *Link
	peer  session.PartyID
	label string

	ctx    context.Context // ends when the channel fails or is complete
	cancel context.CancelCauseFunc

	// Link.mu guards these.
	opened, attached bool
	timer            *time.Timer

	wanted chan struct{} // closed once this party has opened the channel
	ready  chan struct{} // closed once stream is set
	stream frames

	sendMu sync.Mutex // held around every Send of the stream
	in     chan []byte

	closeSend chan struct{} // closed by CloseSend
	closeOnce sync.Once

	mu        sync.Mutex
	sent, got bool          // the Close frames
	complete  chan struct{} // closed when both are set
	ended     chan struct{} // closed when the stream is gone
}

// queued is how many received messages wait for Recv, beside the one that
// receive holds.
const queued = 1

func newChannel(l *Link, peer session.PartyID, label string) *channel {
	c := &channel{
		link: l, peer: peer, label: label,
		wanted: make(chan struct{}), ready: make(chan struct{}), in: make(chan []byte, queued),
		closeSend: make(chan struct{}), complete: make(chan struct{}), ended: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancelCause(l.ctx)
	return c
}

// fail ends the channel for a reason that the peer or the network gave.
func (c *channel) fail(err error) {
	if c.finished() {
		c.cancel(errFinished) // nothing was lost
		return
	}
	first := c.ctx.Err() == nil
	c.cancel(err)
	if first && c.link.ctx.Err() == nil {
		c.link.report(c.peer, err)
	}
}

func (c *channel) finished() bool {
	select {
	case <-c.complete:
		return true
	default:
		return false
	}
}

// Send implements session.Channel.
func (c *channel) Send(ctx context.Context, p []byte) error {
	if len(p) > session.MaxMessage {
		return session.ErrTooLarge
	}
	select {
	case <-c.closeSend:
		return errors.New("peer: send after close")
	default:
	}
	select {
	case <-c.ready:
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	case <-ctx.Done():
		return c.interrupted(ctx)
	}
	if c.ctx.Err() != nil { // gRPC may take a little to notice
		return context.Cause(c.ctx)
	}
	if err := c.link.carry(len(p)); err != nil {
		c.fail(err)
		return context.Cause(c.ctx)
	}
	stop := context.AfterFunc(ctx, func() { c.cancel(context.Cause(ctx)) })
	c.sendMu.Lock()
	err := c.stream.Send(&peerv1.Frame{Kind: &peerv1.Frame_Data{Data: p}})
	c.sendMu.Unlock()
	interrupted := !stop()
	if err != nil {
		c.fail(c.gone(nil))
		return context.Cause(c.ctx)
	}
	if interrupted {
		return c.interrupted(ctx)
	}
	return nil
}

// interrupted ends the channel because ctx of a call ended.
func (c *channel) interrupted(ctx context.Context) error {
	cause := context.Cause(ctx)
	c.cancel(cause)
	return cause
}

// Recv implements session.Channel. Messages that came before the peer was
// lost are returned first.
func (c *channel) Recv(ctx context.Context) ([]byte, error) {
	select {
	case p, ok := <-c.in:
		return message(p, ok)
	default:
	}
	select {
	case p, ok := <-c.in:
		return message(p, ok)
	case <-c.ctx.Done():
		select {
		case p, ok := <-c.in:
			return message(p, ok)
		default:
		}
		return nil, context.Cause(c.ctx)
	case <-ctx.Done():
		return nil, c.interrupted(ctx)
	}
}

func message(p []byte, ok bool) ([]byte, error) {
	if !ok {
		return nil, io.EOF
	}
	return p, nil
}

// CloseSend implements session.Channel. It does not wait.
func (c *channel) CloseSend() error {
	c.closeOnce.Do(func() { close(c.closeSend) })
	return nil
}

// drain waits until the stream is gone, and returns why if it was not because
// both sides had finished.
func (c *channel) drain() error {
	c.link.mu.Lock()
	streaming := c.attached || (c.opened && c.timer == nil)
	c.link.mu.Unlock()
	if !streaming {
		c.cancel(ErrClosed) // the peer never came, and nobody waits for it
		return nil
	}
	<-c.ended
	if c.finished() {
		return nil
	}
	return context.Cause(c.ctx)
}

// overdue ends a channel to which no stream has come, unless the peer shows on
// another that it is alive.
func (c *channel) overdue() {
	if c.link.talking(c.peer) {
		c.link.mu.Lock()
		if !c.attached {
			c.timer.Reset(c.link.peers.limits.Open)
		}
		c.link.mu.Unlock()
		return
	}
	c.fail(ErrNoStream)
}

// dial opens the stream, trying again while the peer cannot be reached or is
// not ready for it, and holds it to its end.
func (c *channel) dial() {
	defer close(c.ended)
	var last atomic.Pointer[error]
	timer := time.AfterFunc(c.link.peers.limits.Open, func() {
		err := ErrNoStream
		if e := last.Load(); e != nil {
			err = fmt.Errorf("%w: %w", ErrNoStream, *e)
		}
		c.fail(err)
	})
	defer timer.Stop()
	wait := 20 * time.Millisecond
	for {
		s, again, err := c.try()
		if err == nil {
			if timer.Stop() {
				c.link.mu.Lock()
				c.attached = true
				c.link.mu.Unlock()
				c.hold(s, func() { c.endStream(s) })
			}
			return
		}
		if !again {
			c.fail(refusedStream(err))
			return
		}
		last.Store(&err)
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(wait):
			wait = min(2*wait, time.Second)
		}
	}
}

// refusedStream is what it means for a channel that the peer takes no stream of
// it, now or later: it has left the session or never came, or the roster has
// left one of the two out.
func refusedStream(err error) error {
	var r *RefusedError
	switch {
	case errors.As(err, &r) && !errors.Is(err, ErrContract) && !errors.Is(err, ErrLabel):
		return fmt.Errorf("%w: %w", ErrPeerGone, err)
	case errors.Is(err, ErrUnknownParty):
		return fmt.Errorf("%w: %w", ErrDropped, err)
	}
	return err
}

// endStream ends the dialled side of a stream that has served its purpose; a
// failed one ends with its context.
func (c *channel) endStream(s peerv1.Peer_StreamClient) {
	if !c.finished() {
		return
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	s.CloseSend()
}

func (c *channel) try() (s peerv1.Peer_StreamClient, again bool, err error) {
	p := c.link.peers
	cl, err := p.client(string(c.peer))
	if err != nil {
		return nil, false, err
	}
	ctx := metadata.AppendToOutgoingContext(c.ctx,
		mdSession, c.link.cfg.ID, mdLabel, c.label, mdContract, string(c.link.cfg.Digest))
	s, err = cl.rpc().Stream(ctx)
	if err == nil {
		var md metadata.MD
		if md, err = s.Header(); err == nil {
			if _, ok := one(md, mdAccepted); ok {
				cl.creds.worked.Store(true)
				return s, false, nil
			}
			if _, err = s.Recv(); err == nil || err == io.EOF {
				return nil, false, ErrProtocol // c's failure cancels the stream
			}
		}
	}
	return nil, retryable(err), p.callError(c.ctx, cl, err)
}

// serve is dial's counterpart: it accepts a stream and holds it to its end.
// The stream's own context ends when serve has returned, which frees whatever
// still hangs in it.
func (c *channel) serve(s peerv1.Peer_StreamServer) error {
	over := make(chan struct{})
	c.link.wg.Add(1) // the caller's own place keeps this from racing with Wait
	go func() {
		defer c.link.wg.Done()
		defer close(c.ended)
		if err := s.SendHeader(metadata.Pairs(mdAccepted, "1")); err != nil {
			c.fail(c.gone(err))
			return
		}
		c.hold(s, func() { close(over) })
	}()
	select {
	case <-over:
	case <-c.ctx.Done():
	}
	if c.finished() {
		return nil
	}
	return context.Cause(c.ctx)
}

// hold runs the stream until it is gone. finish is called when nothing more
// will be sent. Nothing is taken off a stream that this party has not asked
// for: a peer that opens labels of its own fills their windows and no more.
func (c *channel) hold(s frames, finish func()) {
	c.stream = s
	close(c.ready)
	started := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() { c.write(s, finish) })
	select {
	case <-c.wanted:
	case <-c.link.closing:
	case <-c.ctx.Done():
	case <-s.Context().Done():
	}
	c.receive(s, started)
	c.cancel(errFinished) // no effect where it has failed
	wg.Wait()
}

// write sends heartbeats, and the Close frame when it is time.
func (c *channel) write(s frames, finish func()) {
	defer finish()
	beat := time.NewTicker(c.link.peers.limits.Heartbeat)
	defer beat.Stop()
	closing := c.closeSend
	for {
		var err error
		select {
		case <-c.complete:
			return
		case <-c.ctx.Done():
			return
		case <-closing:
			closing = nil
			c.sendMu.Lock()
			err = s.Send(&peerv1.Frame{Kind: &peerv1.Frame_Close{Close: true}})
			if err == nil {
				c.halfClosed(&c.sent)
			}
			c.sendMu.Unlock()
		case <-beat.C:
			if !c.sendMu.TryLock() {
				continue // a message is on its way, which says as much
			}
			err = s.Send(&peerv1.Frame{Kind: &peerv1.Frame_Heartbeat{Heartbeat: true}})
			c.sendMu.Unlock()
		}
		if err != nil {
			c.fail(c.gone(nil))
		}
	}
}

func (c *channel) halfClosed(which *bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*which = true
	if c.sent && c.got {
		close(c.complete)
	}
}

// receive takes frames until the stream, which is up since started, ends. The
// idle clock runs only while it waits for one: a protocol that does not ask for
// messages is not the peer's silence.
func (c *channel) receive(s frames, started time.Time) {
	limits := c.link.peers.limits
	idle := time.AfterFunc(limits.Idle, func() { c.fail(ErrIdle) })
	defer idle.Stop()
	beats, closed := 0, false
	for {
		idle.Reset(limits.Idle)
		f, err := s.Recv()
		idle.Stop()
		if err != nil {
			// A peer that is done ends the stream as soon as it has the Close frame,
			// which may be before write has noted that it is out.
			c.sendMu.Lock()
			err = c.gone(err)
			c.sendMu.Unlock()
			c.fail(err)
			return
		}
		switch k := f.GetKind().(type) {
		case *peerv1.Frame_Data:
			err = c.deliver(k.Data, closed)
		case *peerv1.Frame_Heartbeat:
			if beats++; beats > allowedBeats(time.Since(started), limits.Heartbeat) {
				err = fmt.Errorf("%w: too many heartbeats", ErrProtocol)
			}
		case *peerv1.Frame_Close:
			if closed {
				err = fmt.Errorf("%w: closed twice", ErrProtocol)
				break
			}
			closed = true
			close(c.in)
			c.halfClosed(&c.got)
		default:
			err = fmt.Errorf("%w: empty frame", ErrProtocol)
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

func (c *channel) deliver(p []byte, closed bool) error {
	switch {
	case closed:
		return fmt.Errorf("%w: message after close", ErrProtocol)
	case len(p) > session.MaxMessage:
		return fmt.Errorf("%w: %w", ErrProtocol, session.ErrTooLarge)
	}
	if err := c.link.carry(len(p)); err != nil {
		return err
	}
	if p == nil {
		p = []byte{}
	}
	select {
	case c.in <- p:
	case <-c.link.closing: // nobody will ask for it
	case <-c.ctx.Done():
	}
	return nil
}

// allowedBeats is generous: a peer may beat eight times as often as this node,
// and ten times per second, and the beats of a long pause arrive together.
func allowedBeats(d, heartbeat time.Duration) int {
	return 64 + int(d/min(heartbeat/8+1, 100*time.Millisecond))
}

// gone is what the end of the stream means. err is what gRPC said, if it said
// anything.
func (c *channel) gone(err error) error {
	if err == nil || err == io.EOF {
		return fmt.Errorf("%w: %s", ErrPeerGone, c.peer)
	}
	err = fromStatus(err)
	var r *RefusedError
	switch {
	case errors.As(err, &r):
		return fmt.Errorf("%w: %s (%s)", ErrPeerGone, c.peer, r.Class)
	case errors.Is(err, ErrProtocol):
		return err
	}
	return fmt.Errorf("%w: %s", ErrPeerGone, c.peer)
}
