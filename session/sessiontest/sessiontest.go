// Package sessiontest runs protocols over any transport in tests, and attacks
// them on the way.
//
//   - [Run] takes a transport and runs cases over it; [Cases] are those that
//     every transport of a session has to pass.
//   - [Net] runs one function per party over a transport and waits for all of
//     them, whatever each of them returns.
//   - [Tamper] and its ready-made attacks (flip, drop, swap, truncate, grow,
//     repeat) stand between a party and its peer; [Record] keeps a party's view.
//
// Nothing here sleeps: a test that hangs is ended by Net's deadline, and fails.
package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/session"
)

// Connect joins parties by a transport and returns each one's way to open
// channels, in order. What it starts, it ends in t.Cleanup.
type Connect func(t testing.TB, parties []session.PartyID) []session.Opener

// Pipes connects parties in memory by pipes that hold window messages.
func Pipes(window int) Connect {
	return func(_ testing.TB, parties []session.PartyID) []session.Opener {
		n := session.NewPipeNetwork(window)
		os := make([]session.Opener, len(parties))
		for i, p := range parties {
			os[i] = n.Opener(p)
		}
		return os
	}
}

// Party is one party's part in a run.
type Party func(ctx context.Context, s *session.Session) error

// Link is one end of a channel between two parties of a Net.
type Link struct {
	Self, Peer session.PartyID
	Label      string
}

// Net runs parties over a transport. The zero value runs them over pipes of
// window 1.
type Net struct {
	Connect Connect // nil means Pipes(1)
	// Wrap may put something between a party and its channel, such as Tamper
	// or Record; nil wraps nothing.
	Wrap func(l Link, ch session.Channel) session.Channel
	// Rand returns the randomness of party i; nil means crypto/rand.
	Rand func(i int) io.Reader
	// Timeout ends a run that hangs; 0 means a minute.
	Timeout time.Duration
}

// Outcome is how one party of a run ended.
type Outcome struct {
	Err     error
	Traffic session.Traffic
}

// ErrPeerFailed is the cause of the context of every party that still runs
// when another one has failed, as a node's stream ends with its peer's.
var ErrPeerFailed = errors.New("sessiontest: another party has failed")

var runs atomic.Int64 // session IDs are unique

// PartyIDs returns p0, p1, … as benchmarks and tests name their parties.
func PartyIDs(n int) []session.PartyID {
	ids := make([]session.PartyID, n)
	for i := range ids {
		ids[i] = session.PartyID("p" + strconv.Itoa(i))
	}
	return ids
}

// Run runs one function per party, p0, p1, …, over n's transport, each on a
// goroutine of its own, and waits for all of them. A party that returns ends
// its messages; one that fails also ends the context of the others. A run that
// exceeds n's Timeout fails the test.
func (n Net) Run(t testing.TB, parties ...Party) []Outcome {
	t.Helper()
	if n.Connect == nil {
		n.Connect = Pipes(1)
	}
	if n.Timeout == 0 {
		n.Timeout = time.Minute
	}
	ids := PartyIDs(len(parties))
	openers := n.Connect(t, ids)
	if len(openers) != len(ids) {
		t.Fatalf("sessiontest: %d openers for %d parties", len(openers), len(ids))
	}
	errTimeout := fmt.Errorf("sessiontest: the run exceeded %v", n.Timeout)
	ctx, stop := context.WithTimeoutCause(t.Context(), n.Timeout, errTimeout)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	id := "test-" + strconv.FormatInt(runs.Add(1), 10)

	outcomes := make([]Outcome, len(parties))
	var wg sync.WaitGroup
	for i, run := range parties {
		cfg := session.Config{ID: id, Self: ids[i], Parties: ids, Open: n.opener(ids[i], openers[i]), Meter: session.NewMeter()}
		if n.Rand != nil {
			cfg.Rand = n.Rand(i)
		}
		wg.Go(func() {
			err := runParty(ctx, cfg, run)
			if err != nil {
				cancel(ErrPeerFailed)
			}
			outcomes[i] = Outcome{Err: err, Traffic: cfg.Meter.Traffic()}
		})
	}
	wg.Wait()
	for i, o := range outcomes {
		if errors.Is(o.Err, errTimeout) {
			t.Fatalf("%s hung: %v", ids[i], o.Err)
		}
	}
	return outcomes
}

func runParty(ctx context.Context, cfg session.Config, run Party) error {
	s, err := session.New(ctx, cfg)
	if err != nil {
		return err
	}
	err = run(ctx, s)
	if closeErr := s.CloseSend(); err == nil {
		err = closeErr
	}
	return err
}

func (n Net) opener(self session.PartyID, open session.Opener) session.Opener {
	if n.Wrap == nil {
		return open
	}
	return func(ctx context.Context, peer session.PartyID, label string) (session.Channel, error) {
		ch, err := open(ctx, peer, label)
		if err != nil {
			return nil, err
		}
		return n.Wrap(Link{Self: self, Peer: peer, Label: label}, ch), nil
	}
}

// NoErrors fails the test unless every party ended well.
func NoErrors(t testing.TB, outcomes []Outcome) {
	t.Helper()
	for i, o := range outcomes {
		if o.Err != nil {
			t.Errorf("p%d: %v", i, o.Err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// Cause returns the error of the first party that failed for a reason of its
// own rather than because another had failed or gone; nil if there is none.
func Cause(outcomes []Outcome) error {
	var other error
	for _, o := range outcomes {
		switch {
		case o.Err == nil:
		case errors.Is(o.Err, ErrPeerFailed), errors.Is(o.Err, context.Canceled), errors.Is(o.Err, io.EOF), errors.Is(o.Err, io.ErrUnexpectedEOF):
			other = o.Err
		default:
			return o.Err
		}
	}
	return other
}
