package session

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// MaxMessage is the largest message a Channel carries, in bytes. Protocols
// stream in chunks of at most ChunkSize and never come near it.
const MaxMessage = 4 << 20

// ChunkSize is the size protocols aim for when they cut a stream into
// messages, in bytes.
const ChunkSize = 256 << 10

// ErrTooLarge is returned for a message above MaxMessage, in either direction.
var ErrTooLarge = errors.New("session: message exceeds the size limit")

// ErrGone is wrapped by what a Channel returns once its peer is lost: the peer,
// or the network to it, has failed. What the peer sent before may be lost too.
// A protocol that can do without a party goes on; any other ends.
var ErrGone = errors.New("session: the peer is gone")

// Channel is ordered, reliable and message-preserving. One Send may overlap
// one Recv; neither overlaps itself.
type Channel interface {
	// Send blocks while the peer's window is full. It does not retain p.
	Send(ctx context.Context, p []byte) error
	// Recv returns the next message, or io.EOF after the peer's CloseSend.
	// The caller owns the returned slice.
	Recv(ctx context.Context) ([]byte, error)
	// CloseSend ends this side's messages; the peer's Recv drains and then
	// returns io.EOF.
	CloseSend() error
}

// Pipe returns the two ends of an in-memory channel that holds at most window
// messages in each direction; a window of 1 is what deadlock tests use.
func Pipe(window int) (Channel, Channel) {
	a, b := pipe(window, nil)
	return a, b
}

// pipe returns the ends of a channel that breaks when gone is closed.
func pipe(window int, gone <-chan struct{}) (a, b *pipeEnd) {
	ab, ba := newHalf(max(window, 1)), newHalf(max(window, 1))
	return &pipeEnd{out: ab, in: ba, gone: gone}, &pipeEnd{out: ba, in: ab, gone: gone}
}

type half struct {
	messages chan []byte
	closed   chan struct{} // closed by the sending end
	once     sync.Once
}

func newHalf(window int) *half {
	return &half{messages: make(chan []byte, window), closed: make(chan struct{})}
}

type pipeEnd struct {
	out, in *half
	gone    <-chan struct{}
	lost    atomic.Bool // Recv has said so: what slips in after that is lost, too
}

func (e *pipeEnd) Send(ctx context.Context, p []byte) error {
	if len(p) > MaxMessage {
		return ErrTooLarge
	}
	select {
	case <-e.out.closed:
		return errors.New("session: send after close")
	case <-e.gone:
		return ErrGone
	default:
	}
	c := append([]byte(nil), p...)
	select {
	case e.out.messages <- c:
		return nil
	case <-e.gone:
		return ErrGone
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *pipeEnd) Recv(ctx context.Context) ([]byte, error) {
	if e.lost.Load() {
		return nil, ErrGone
	}
	select {
	case p := <-e.in.messages:
		return p, nil
	default:
	}
	select {
	case p := <-e.in.messages:
		return p, nil
	case <-e.in.closed:
		select { // messages sent before the close come first
		case p := <-e.in.messages:
			return p, nil
		default:
			return nil, io.EOF
		}
	case <-e.gone:
		e.lost.Store(true)
		return nil, ErrGone
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (e *pipeEnd) CloseSend() error {
	e.out.once.Do(func() { close(e.out.closed) })
	return nil
}
