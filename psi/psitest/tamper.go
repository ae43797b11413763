package psitest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// ErrIdle is the cause with which [Within] ends a party.
var ErrIdle = errors.New("psitest: idle for too long")

// Within runs a party with a deadline of its own: when a message is lost, all
// may wait for each other, and only a deadline ends that. A node has one for idle
// sessions.
func Within(idle time.Duration, f sessiontest.Party) sessiontest.Party {
	return func(ctx context.Context, s *session.Session) error {
		ctx, stop := context.WithTimeoutCause(ctx, idle, ErrIdle)
		defer stop()
		return f(ctx, s)
	}
}

// KeepGoing runs f and remembers its error, so that the other parties are not
// cancelled and end for their own reasons.
func KeepGoing(err *error, f sessiontest.Party) sessiontest.Party {
	return func(ctx context.Context, s *session.Session) error {
		*err = f(ctx, s)
		return nil
	}
}

// Typed says whether err is one that a caller can tell apart: one of those that
// every session may end with, or one of own.
func Typed(err error, own ...error) bool {
	for _, target := range slices.Concat(own, []error{ErrIdle, session.ErrMismatch, session.ErrTooLarge, io.ErrUnexpectedEOF, sessiontest.ErrPeerFailed}) {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// Tampering returns a net that puts change between a party and its peers, in the
// session with the label.
func Tampering(party session.PartyID, label string, change sessiontest.Change) sessiontest.Net {
	return sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Self == party && l.Label == label {
			return sessiontest.Tamper(ch, change)
		}
		return ch
	}}
}

// FlipLast flips the last bit of message at.
func FlipLast(at int) sessiontest.Change {
	return func(i int, p []byte) [][]byte {
		if i == at && len(p) > 0 {
			p[len(p)-1] ^= 0x80
		}
		return [][]byte{p}
	}
}

// Attack is one message changed in one way.
type Attack struct {
	Name   string
	Change sessiontest.Change
	at, of int
}

// FurtherIn is a bit in the second element of a message whose elements have 32
// bytes.
const FurtherIn = 16 + 8*40 + 3

// Attacks changes each of n messages in every way. One flips the bit furtherIn,
// beyond what all messages have.
func Attacks(n, furtherIn int) iter.Seq[Attack] {
	flip := func(bit int) func(int) sessiontest.Change {
		return func(at int) sessiontest.Change { return sessiontest.Flip(at, bit) }
	}
	ways := map[string]func(at int) sessiontest.Change{
		"flip the kind":     flip(1),
		"flip the number":   flip(9),
		"flip the body":     flip(19),
		"flip further in":   flip(furtherIn),
		"flip the last bit": FlipLast,
		"drop":              sessiontest.Drop,
		"swap":              sessiontest.Swap,
		"repeat":            sessiontest.Repeat,
		"cut a byte":        func(at int) sessiontest.Change { return sessiontest.Truncate(at, 1) },
		"cut everything":    func(at int) sessiontest.Change { return sessiontest.Truncate(at, 1<<20) },
		"add a byte":        func(at int) sessiontest.Change { return sessiontest.Grow(at, 1) },
		"add 4 MiB":         func(at int) sessiontest.Change { return sessiontest.Grow(at, session.MaxMessage) },
		"empty":             func(at int) sessiontest.Change { return sessiontest.Replace(at, nil) },
	}
	return func(yield func(Attack) bool) {
		for name, way := range ways {
			for at := range n {
				if !yield(Attack{Name: name, Change: way(at), at: at, of: n}) {
					return
				}
			}
		}
	}
}

func (a Attack) String() string { return fmt.Sprintf("%s of message %d", a.Name, a.at) }

// At is the message that is changed.
func (a Attack) At() int { return a.at }

// Idle is how long a party may take: short where a message is lost, and as long
// as it likes elsewhere.
func (a Attack) Idle(short time.Duration) time.Duration {
	if a.Name == "drop" || a.Name == "swap" {
		return short
	}
	return time.Hour
}

// CheckNoticed holds a run under the attack to an error that a caller can tell
// apart, which it returns. Nobody reads what is repeated after the last message,
// and the first, which binds the session, may end in any error.
func (a Attack) CheckNoticed(t testing.TB, what string, out []sessiontest.Outcome, own ...error) error {
	t.Helper()
	err := sessiontest.Cause(out)
	switch {
	case err == nil && a.Name == "repeat" && a.at == a.of-1:
	case err == nil:
		t.Errorf("%v of %s: nobody noticed", a, what)
	case a.at > 0 && !Typed(err, own...):
		t.Errorf("%v of %s: %v", a, what, err)
	}
	return err
}

// CheckRows holds each party that reports no error to the right number of rows,
// and each that does to none.
func (a Attack) CheckRows(t testing.TB, what string, out []sessiontest.Outcome, want int, rows ...[]int32) {
	t.Helper()
	for i := range rows {
		if out[i].Err == nil && len(rows[i]) != want {
			t.Errorf("%v of %s: p%d has %d rows and no error", a, what, i, len(rows[i]))
		}
		if out[i].Err != nil && rows[i] != nil {
			t.Errorf("%v of %s: p%d has rows and an error", a, what, i)
		}
	}
}

// Scripted runs a role as p0 against a peer that binds the session, sends the
// given frames, a kind and a body each, numbered in order, and then ends. It
// returns the role's error.
func Scripted(t testing.TB, role, bind sessiontest.Party, frames ...[]byte) error {
	t.Helper()
	var got error
	peer := func(ctx context.Context, s *session.Session) error {
		if err := bind(ctx, s); err != nil {
			return nil
		}
		_, ch, _ := s.Other()
		ctx, end := context.WithCancel(ctx)
		defer end()
		var drained sync.WaitGroup
		drained.Go(func() { // keeps the window open, until the role has ended
			defer end() // nobody reads what is still to be sent
			for {
				if _, err := ch.Recv(ctx); err != nil {
					return
				}
			}
		})
		defer drained.Wait()
		defer func() { _ = s.CloseSend() }() // before that: the role may wait for more
		for i, f := range frames {
			f = transcript.AppendFrame(nil, transcript.Kind(f[0]), uint64(i), f[1:])
			if ch.Send(ctx, f) != nil {
				return nil
			}
		}
		return nil
	}
	sessiontest.Net{}.Run(t, KeepGoing(&got, role), peer)
	return got
}

// Frame is a kind and a number, for [Scripted].
func Frame(k transcript.Kind, n uint64) []byte { return binary.AppendUvarint([]byte{byte(k)}, n) }

// Allocated returns how many bytes were allocated while f ran, by all.
func Allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
