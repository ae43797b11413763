package hesum

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// link is this party's end of the channel to one other. One goroutine may send
// while another receives.
type link struct {
	ch      session.Channel
	peer    session.PartyID
	out, in uint32
	buf     []byte // of the frame being sent
}

// goneError marks the error of a channel whose peer is lost.
type goneError struct{ cause error }

func (e *goneError) Error() string { return e.cause.Error() }
func (e *goneError) Unwrap() error { return e.cause }

// accusation is what a fault frame says; nobody where it names no party.
type accusation struct{ party int }

func (*accusation) Error() string { return errAccused.Error() }

// crossedError says that the parties follow two coordinators.
type crossedError struct{ got, due kind }

func (e *crossedError) Error() string {
	return fmt.Sprintf("%v came where %v was due: a coordinator was lost while it announced", e.got, e.due)
}

func channelError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, session.ErrGone), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &goneError{err}
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", errTransport, err)
}

// send sends one message, in as many frames as it takes. It does not keep body.
func (l *link) send(ctx context.Context, at place, k kind, body []byte) error {
	for first := true; first || len(body) > 0; first = false {
		n := min(len(body), maxBody)
		if l.out == math.MaxUint32 {
			return fmt.Errorf("%w: too many frames", errTransport)
		}
		l.buf = appendHeader(l.buf[:0], header{kind: k, call: at.call, number: l.out, step: at.tag})
		l.buf = append(l.buf, body[:n]...)
		l.out++
		if err := l.ch.Send(ctx, l.buf); err != nil {
			return channelError(ctx, err)
		}
		body = body[n:]
	}
	return nil
}

// recv returns the next message, which has to be of kind k and size bytes.
func (l *link) recv(ctx context.Context, at place, k kind, size int) ([]byte, error) {
	var whole []byte
	for first := true; first || len(whole) < size; first = false {
		body, err := l.recvFrame(ctx, at, k)
		if err != nil {
			return nil, err
		}
		if want := min(size-len(whole), maxBody); len(body) != want {
			return nil, fmt.Errorf("%w: %d bytes of %v where %d were due", errLength, len(body), k, want)
		}
		if len(body) == size {
			return body, nil
		}
		if whole == nil {
			whole = make([]byte, 0, size)
		}
		whole = append(whole, body...)
	}
	return whole, nil
}

func (l *link) recvFrame(ctx context.Context, at place, k kind) ([]byte, error) {
	frame, err := l.ch.Recv(ctx)
	if err != nil {
		return nil, channelError(ctx, err)
	}
	h, body, err := parseFrame(frame)
	switch {
	case err != nil:
		return nil, err
	case h.number != l.in:
		return nil, fmt.Errorf("%w: number %d where %d was due", errNumber, h.number, l.in)
	}
	l.in++
	switch {
	case h.kind == kindFault && len(body) == 1: // of whatever step the sender has come to
		return nil, &accusation{int(body[0])}
	case h.call != at.call || h.step != at.tag:
		return nil, fmt.Errorf("%w: it is not at step %q with the same arguments", errStep, at.step)
	case h.kind == kindEcho && k == kindDecision, h.kind == kindDecision && k == kindEcho:
		return nil, &crossedError{h.kind, k}
	case h.kind != k:
		return nil, fmt.Errorf("%w: %v came where %v was due", errKind, h.kind, k)
	}
	return body, nil
}

// place is where in the run a message belongs.
type place struct {
	step string
	call uint16
	tag  stepTag
}

// half is one direction of what is said to or heard from one party; nil where
// nothing is.
type half func(ctx context.Context, l *link) error

// exchange talks to all living parties of peers at once, and waits until it is
// done with each: told says it what to send to a party, heard what to receive.
// Parties found to be lost are noted, and what has come from them before stays;
// the error is another's fault, or the end of ctx.
func (e *Engine) exchange(ctx context.Context, peers set, told, heard func(i int) half) error {
	type result struct{ sent, got error }
	results := make([]result, len(e.links))
	// Its pieces keep their errors to themselves: what one peer does wrong ends
	// nothing with the others.
	all, each := errgroup.WithContext(ctx)
	for i, l := range e.links {
		if l == nil || !peers.has(i) || e.lost.has(i) {
			continue
		}
		var send, recv half
		if told != nil {
			send = told(i)
		}
		if heard != nil {
			recv = heard(i)
		}
		// A party that has nothing more to say, or nothing sensible, is not told more.
		all.Go(func() error {
			both, pair := errgroup.WithContext(each)
			if recv != nil {
				both.Go(func() error {
					results[i].got = recv(pair, l)
					return results[i].got
				})
			}
			// After it, and so mostly under way before it ends: a party whose message
			// is wrong finds so itself by this one's.
			if send != nil {
				both.Go(func() error {
					results[i].sent = send(pair, l)
					return nil
				})
			}
			_ = both.Wait()
			return nil
		})
	}
	_ = all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	faults := make([]error, len(results))
	for i, r := range results {
		err := r.got
		if err == nil {
			err = r.sent
		}
		faults[i] = e.judge(i, err)
	}
	return worst(faults)
}

// worst picks the error to end with: a fault that was seen here before one that
// another party tells of, and any fault before a loss.
func worst(errs []error) error {
	var told, rest error
	for _, err := range errs {
		var fault *PeerError
		switch {
		case err == nil:
		case !errors.As(err, &fault):
			rest = cmp.Or(rest, err)
		case fault.Witness == "" && !errors.Is(fault, errAccused):
			return err
		default:
			told = cmp.Or(told, err)
		}
	}
	return cmp.Or(told, rest)
}

// judge notes that party i is lost, if err says so, and otherwise returns what
// ends the run: who is at fault, or that the run cannot go on.
func (e *Engine) judge(i int, err error) error {
	var gone *goneError
	var said *accusation
	var crossed *crossedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &gone):
		e.lose(1 << i)
		return nil
	case errors.As(err, &crossed):
		return fmt.Errorf("%w: %w", ErrLost, crossed)
	case errors.As(err, &said):
		if said.party >= len(e.parties) || said.party == i {
			return &PeerError{Party: e.parties[i], Step: e.at.step, Err: errAccused}
		}
		return &PeerError{Party: e.parties[said.party], Step: e.at.step, Witness: e.parties[i], Err: errAccused}
	}
	return &PeerError{Party: e.parties[i], Step: e.at.step, Err: err}
}

// lose notes parties that are not talked to any more. One that lives is thereby
// told: it would wait otherwise, and others for it.
func (e *Engine) lose(s set) {
	for i, l := range e.links {
		if l != nil && s.has(i) && !e.lost.has(i) {
			_ = l.ch.CloseSend() // a channel that cannot be closed has failed
		}
	}
	e.lost |= s
}

// farewell bounds how long a party that has found a fault waits for others to
// take its word of it.
const farewell = 2 * time.Second

// patience is how long it waits before it reads, and throws away, what another
// sends. To break off a Recv ends a channel, so it is not begun needlessly.
const patience = 100 * time.Millisecond

// leave ends this party's messages. If err is a party's fault all others are
// told first, so that they do not take this party for a lost one.
func (e *Engine) leave(ctx context.Context, err error) {
	var fault *PeerError
	if errors.As(err, &fault) && ctx.Err() == nil {
		ctx, stop := context.WithTimeout(ctx, farewell)
		defer stop()
		accused := byte(e.indexOf(fault.Party))
		var all errgroup.Group
		for i, l := range e.links {
			if l == nil || e.lost.has(i) || l.peer == fault.Party {
				continue
			}
			taking, told := context.WithCancel(ctx)
			all.Go(func() error {
				defer told()
				return l.send(ctx, e.at, kindFault, []byte{accused})
			})
			all.Go(func() error {
				select {
				case <-taking.Done():
					return nil
				case <-time.After(patience):
				}
				// The other waits, it seems, for what it sends to be taken
				// before it reads.
				for {
					if _, err := l.ch.Recv(taking); err != nil {
						return err
					}
				}
			})
		}
		_ = all.Wait() // others may be lost as well
	}
	_ = e.sess.CloseSend() // a channel that cannot be closed has failed
}
