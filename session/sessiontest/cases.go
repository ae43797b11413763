package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/session"
)

// Case is one test of something that runs over a transport.
type Case struct {
	Name string
	Test func(t *testing.T, net Net)
}

// Run runs cases over a transport, each as a subtest with connections of its
// own.
func Run(t *testing.T, connect Connect, cases ...Case) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { c.Test(t, Net{Connect: connect}) })
	}
}

// Cases are the tests that every transport of a session has to pass.
func Cases() []Case {
	return []Case{
		{"messages keep their order, bounds and bytes", testMessages},
		{"a message above the limit is refused", testTooLarge},
		{"Send does not retain its argument", testNotRetained},
		{"messages sent before CloseSend arrive before EOF", testEOF},
		{"both directions stream at once", testFullDuplex},
		{"a full window blocks Send until ctx ends", testBackPressure},
		{"an idle Recv ends with ctx", testRecvEndsWithContext},
		{"forks have channels of their own", testForks},
		{"three parties, a channel for each pair", testThreeParties},
		{"Bind names the field in which the parties differ", testBindMismatch},
		{"Bind gives all parties one transcript", testBindTranscript},
	}
}

// Lossy is a Connect whose parties can be lost: lose ends one for good, as the
// death of its node does.
type Lossy func(t testing.TB, parties []session.PartyID) (openers []session.Opener, lose func(session.PartyID))

// RunLoss is the case that needs more of a transport than to connect: the loss of
// one party of three.
func RunLoss(t *testing.T, connect Lossy) {
	var lose func(session.PartyID)
	net := Net{Connect: func(t testing.TB, parties []session.PartyID) (openers []session.Opener) {
		openers, lose = connect(t, parties)
		return openers
	}}
	const lost = session.PartyID("p1")
	survivor := func(other session.PartyID) Party {
		return func(ctx context.Context, s *session.Session) error {
			ch := s.Peer(lost)
			if err := expect(ctx, ch, []byte("hello")); err != nil {
				return err
			}
			if err := ch.Send(ctx, []byte("hello")); err != nil { // now it may go: what it sent has come
				return err
			}
			if p, err := ch.Recv(ctx); !errors.Is(err, session.ErrGone) {
				return fmt.Errorf("Recv from the lost party: %d bytes, %w, want ErrGone", len(p), err)
			}
			if err := ch.Send(ctx, []byte("anybody there?")); !errors.Is(err, session.ErrGone) {
				return fmt.Errorf("Send to the lost party: %w, want ErrGone", err)
			}
			later, err := s.Fork(ctx, "later")
			if err != nil {
				return err
			}
			if _, err := later.Peer(lost).Recv(ctx); !errors.Is(err, session.ErrGone) {
				return fmt.Errorf("Recv on a channel opened later: %w, want ErrGone", err)
			}
			for _, s := range []*session.Session{s, later} {
				if err := s.Peer(other).Send(ctx, []byte(s.Self())); err != nil {
					return err
				}
				if err := expect(ctx, s.Peer(other), []byte(other)); err != nil {
					return err
				}
			}
			return later.CloseSend()
		}
	}
	NoErrors(t, net.Run(t, survivor("p2"), func(ctx context.Context, s *session.Session) error {
		for _, p := range []session.PartyID{"p0", "p2"} {
			if err := s.Peer(p).Send(ctx, []byte("hello")); err != nil {
				return err
			}
			if err := expect(ctx, s.Peer(p), []byte("hello")); err != nil {
				return err
			}
		}
		lose(lost)
		return nil
	}, survivor("p0")))
}

// peerOf returns the channel to the one peer of a two-party session.
func peerOf(s *session.Session) session.Channel {
	_, ch, err := s.Other()
	if err != nil {
		panic(err) // a case with another number of parties is a mistake in this file
	}
	return ch
}

// pattern is a message of n bytes that is different for each seed and at each
// position.
func pattern(seed, n int) []byte {
	p := make([]byte, n)
	x := uint32(seed)*2654435761 + 12345
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	return p
}

func expect(ctx context.Context, ch session.Channel, want []byte) error {
	got, err := ch.Recv(ctx)
	if err != nil {
		return fmt.Errorf("recv of %d bytes: %w", len(want), err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("received %d bytes that differ from the %d sent", len(got), len(want))
	}
	return nil
}

func testMessages(t *testing.T, net Net) {
	sizes := []int{0, 1, 2, 31, 32, 1 << 10, 0, session.ChunkSize - 1, session.ChunkSize, 1 << 20, session.MaxMessage, 3}
	NoErrors(t, net.Run(t,
		func(ctx context.Context, s *session.Session) error {
			for i, n := range sizes {
				if err := peerOf(s).Send(ctx, pattern(i, n)); err != nil {
					return err
				}
			}
			return nil
		},
		func(ctx context.Context, s *session.Session) error {
			for i, n := range sizes {
				if err := expect(ctx, peerOf(s), pattern(i, n)); err != nil {
					return fmt.Errorf("message %d: %w", i, err)
				}
			}
			return nil
		}))
}

func testTooLarge(t *testing.T, net Net) {
	NoErrors(t, net.Run(t,
		func(ctx context.Context, s *session.Session) error {
			err := peerOf(s).Send(ctx, make([]byte, session.MaxMessage+1))
			if !errors.Is(err, session.ErrTooLarge) {
				return fmt.Errorf("sending one byte too many: %w, want ErrTooLarge", err)
			}
			return peerOf(s).Send(ctx, []byte("still usable"))
		},
		func(ctx context.Context, s *session.Session) error {
			return expect(ctx, peerOf(s), []byte("still usable"))
		}))
}

func testNotRetained(t *testing.T, net Net) {
	NoErrors(t, net.Run(t,
		func(ctx context.Context, s *session.Session) error {
			buf := make([]byte, 4096)
			for i := range 64 {
				copy(buf, pattern(i, len(buf)))
				if err := peerOf(s).Send(ctx, buf); err != nil {
					return err
				}
				clear(buf)
			}
			return nil
		},
		func(ctx context.Context, s *session.Session) error {
			for i := range 64 {
				if err := expect(ctx, peerOf(s), pattern(i, 4096)); err != nil {
					return fmt.Errorf("message %d: %w", i, err)
				}
			}
			return nil
		}))
}

func testEOF(t *testing.T, net Net) {
	NoErrors(t, net.Run(t,
		func(ctx context.Context, s *session.Session) error {
			if err := peerOf(s).Send(ctx, []byte("last words")); err != nil {
				return err
			}
			if err := s.CloseSend(); err != nil {
				return err
			}
			// The other direction still works.
			return expect(ctx, peerOf(s), []byte("reply"))
		},
		func(ctx context.Context, s *session.Session) error {
			if err := expect(ctx, peerOf(s), []byte("last words")); err != nil {
				return err
			}
			if _, err := peerOf(s).Recv(ctx); err != io.EOF {
				return fmt.Errorf("after CloseSend: %w, want io.EOF itself", err)
			}
			return peerOf(s).Send(ctx, []byte("reply"))
		}))
}

func testFullDuplex(t *testing.T, net Net) {
	const messages, size = 64, 32 << 10
	party := func(mine, theirs int) Party {
		return func(ctx context.Context, s *session.Session) error {
			ch := peerOf(s)
			var wg sync.WaitGroup
			var sendErr error
			wg.Go(func() {
				for i := range messages {
					if sendErr = ch.Send(ctx, pattern(mine+i, size)); sendErr != nil {
						return
					}
				}
			})
			var recvErr error
			for i := range messages {
				if recvErr = expect(ctx, ch, pattern(theirs+i, size)); recvErr != nil {
					break
				}
			}
			wg.Wait()
			return errors.Join(sendErr, recvErr)
		}
	}
	out := net.Run(t, party(0, 1000), party(1000, 0))
	NoErrors(t, out)
	for i, o := range out {
		if o.Traffic.Sent != messages*size || o.Traffic.Received != messages*size ||
			o.Traffic.MessagesSent != messages || o.Traffic.MessagesReceived != messages {
			t.Errorf("p%d counted %+v", i, o.Traffic)
		}
	}
}

func testBackPressure(t *testing.T, net Net) {
	// The peer reads nothing. A bounded window stops the sender long before
	// limit MiB are on their way, and the deadline then ends the Send it is in.
	const limit, patience = 128, 300 * time.Millisecond
	over := make(chan struct{})
	NoErrors(t, net.Run(t,
		func(ctx context.Context, s *session.Session) error {
			defer close(over)
			ctx, stop := context.WithTimeout(ctx, patience)
			defer stop()
			p := make([]byte, 1<<20)
			for range limit {
				if err := peerOf(s).Send(ctx, p); err != nil {
					if ctx.Err() == nil {
						return fmt.Errorf("Send failed before its context ended: %w", err)
					}
					return nil
				}
			}
			return fmt.Errorf("%d MiB were taken while the peer read nothing", limit)
		},
		func(ctx context.Context, _ *session.Session) error {
			select {
			case <-over:
			case <-ctx.Done():
			}
			return nil
		}))
}

func testRecvEndsWithContext(t *testing.T, net Net) {
	stop := errors.New("enough")
	over := make(chan struct{})
	NoErrors(t, net.Run(t,
		func(ctx context.Context, s *session.Session) error {
			defer close(over)
			ctx, cancel := context.WithCancelCause(ctx)
			done := make(chan error, 1)
			go func() {
				_, err := peerOf(s).Recv(ctx)
				done <- err
			}()
			cancel(stop)
			if err := <-done; err == nil || err == io.EOF {
				return fmt.Errorf("recv ended with %w", err)
			}
			return nil
		},
		func(ctx context.Context, _ *session.Session) error {
			select {
			case <-over:
			case <-ctx.Done():
			}
			return nil
		}))
}

func testForks(t *testing.T, net Net) {
	labels := []string{"align", "train"}
	party := func(first bool) Party {
		return func(ctx context.Context, s *session.Session) error {
			var wg sync.WaitGroup
			errs := make([]error, len(labels)+1)
			exchange := func(i int, f *session.Session) {
				mine, theirs := pattern(2*i, 100), pattern(2*i+1, 100)
				if !first {
					mine, theirs = theirs, mine
				}
				if err := peerOf(f).Send(ctx, mine); err != nil {
					errs[i] = err
					return
				}
				errs[i] = expect(ctx, peerOf(f), theirs)
			}
			for i, l := range labels {
				f, err := s.Fork(ctx, l)
				if err != nil {
					return err
				}
				wg.Go(func() {
					exchange(i, f)
					errs[i] = errors.Join(errs[i], f.CloseSend())
				})
			}
			wg.Go(func() { exchange(len(labels), s) })
			wg.Wait()
			return errors.Join(errs...)
		}
	}
	NoErrors(t, net.Run(t, party(true), party(false)))
}

func testThreeParties(t *testing.T, net Net) {
	party := func(ctx context.Context, s *session.Session) error {
		for _, p := range s.Parties() {
			if p != s.Self() {
				if err := s.Peer(p).Send(ctx, []byte(s.Self()+" to "+p)); err != nil {
					return err
				}
			}
		}
		for _, p := range s.Parties() {
			if p != s.Self() {
				if err := expect(ctx, s.Peer(p), []byte(p+" to "+s.Self())); err != nil {
					return fmt.Errorf("from %s: %w", p, err)
				}
			}
		}
		return nil
	}
	NoErrors(t, net.Run(t, party, party, party))
}

func testBindMismatch(t *testing.T, net Net) {
	for _, c := range []struct {
		field       string
		ours, other []session.Field
	}{
		{"depth", []session.Field{{Name: "depth", Value: "3"}}, []session.Field{{Name: "depth", Value: "4"}}},
		{"extra", []session.Field{{Name: "depth", Value: "3"}}, []session.Field{{Name: "depth", Value: "3"}, {Name: "extra", Value: "1"}}},
	} {
		bind := func(fields []session.Field) Party {
			return func(ctx context.Context, s *session.Session) error {
				err := s.Bind(ctx, "test.bind.v1", fields...)
				var m *session.MismatchError
				if !errors.As(err, &m) || !errors.Is(err, session.ErrMismatch) {
					return fmt.Errorf("bind: %w, want a mismatch", err)
				}
				if m.Field != c.field {
					return fmt.Errorf("bind named field %q, want %q", m.Field, c.field)
				}
				return nil
			}
		}
		NoErrors(t, net.Run(t, bind(c.ours), bind(c.other)))
	}
}

func testBindTranscript(t *testing.T, net Net) {
	var got [3][32]byte
	party := func(i int) Party {
		return func(ctx context.Context, s *session.Session) error {
			if err := s.Bind(ctx, "test.bind.v1", session.Field{Name: "depth", Value: "3"}); err != nil {
				return err
			}
			got[i] = s.Transcript()
			if err := s.Bind(ctx, "test.bind.v1"); err == nil {
				return errors.New("a second Bind succeeded")
			}
			return nil
		}
	}
	NoErrors(t, net.Run(t, party(0), party(1), party(2)))
	if got[0] != got[1] || got[0] != got[2] || got[0] == ([32]byte{}) {
		t.Errorf("transcripts differ or are zero: %x", got)
	}
}
