package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// connect is this package as a transport of sessiontest.
func connect(t testing.TB, parties []session.PartyID) []session.Opener {
	openers, _ := connectLossy(t, parties)
	return openers
}

// connectLossy is connect whose nodes can be taken away.
func connectLossy(t testing.TB, parties []session.PartyID) ([]session.Opener, func(session.PartyID)) {
	names := make([]string, len(parties))
	for i, p := range parties {
		names[i] = string(p)
	}
	nodes := network(t, names, nil)
	id := freshID()
	openers := make([]session.Opener, len(parties))
	links := make([]*Link, len(parties))
	for i, name := range names {
		l, err := nodes[name].OpenSession(context.Background(), SessionConfig{ID: id, Self: parties[i], Parties: parties})
		if err != nil {
			t.Fatal(err)
		}
		links[i], openers[i] = l, l.Opener()
	}
	t.Cleanup(func() {
		var wg sync.WaitGroup
		for _, l := range links {
			wg.Go(func() { l.Close() })
		}
		wg.Wait()
	})
	return openers, func(p session.PartyID) { nodes[string(p)].Close() }
}

func TestConformance(t *testing.T) {
	sessiontest.Run(t, connect, sessiontest.Cases()...)
}

func TestLoss(t *testing.T) { sessiontest.RunLoss(t, connectLossy) }

// TestWaysToLoseAPeer: each says session.ErrGone, and a fault of the peer's does
// not.
func TestWaysToLoseAPeer(t *testing.T) {
	for _, err := range []error{
		ErrPeerGone, ErrIdle, ErrNoStream, ErrDropped,
		refusedStream(Refuse("replayed_session")), refusedStream(Refuse("aborted")), refusedStream(ErrUnknownParty),
	} {
		wantIs(t, err.Error(), err, session.ErrGone)
	}
	for _, err := range []error{ErrProtocol, ErrQuota, ErrClosed, refusedStream(Refuse("contract_mismatch"))} {
		if errors.Is(err, session.ErrGone) {
			t.Errorf("%v counts as the loss of a peer", err)
		}
	}
	if errors.Is(ErrIdle, ErrPeerGone) {
		t.Error("two ways are one")
	}
}

// TestLeave: a peer that is known to have left is gone at once, on the channels
// that are open, on those that the peer has not come to, and on those to come.
func TestLeave(t *testing.T) {
	nodes := network(t, []string{"a", "b", "c"}, nil)
	var lost []error
	id := freshID()
	links := make(map[string]*Link)
	for _, name := range []string{"a", "b", "c"} {
		cfg := SessionConfig{ID: id, Self: session.PartyID(name), Parties: ids([]string{"a", "b", "c"})}
		if name == "b" {
			cfg.Lost = func(p session.PartyID, err error) { lost = append(lost, fmt.Errorf("%s: %w", p, err)) }
		}
		l, err := nodes[name].OpenSession(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		links[name] = l
	}
	t.Cleanup(func() { closeAll(links) })
	ba, bc := channelOf(t, links["b"], "a", ""), channelOf(t, links["b"], "c", "")
	greet(t, t.Context(), channelOf(t, links["a"], "b", ""), ba)
	greet(t, t.Context(), channelOf(t, links["c"], "b", ""), bc)
	pending := channelOf(t, links["b"], "a", "pending")
	why := errors.New("it said so")
	links["b"].Leave("a", why)
	links["b"].Leave("a", errors.New("said twice"))
	for name, ch := range map[string]session.Channel{"open": ba, "pending": pending, "later": channelOf(t, links["b"], "a", "later")} {
		_, err := ch.Recv(t.Context())
		wantIs(t, name, err, session.ErrGone)
		wantIs(t, name, err, why)
	}
	if len(lost) != 1 || !errors.Is(lost[0], why) {
		t.Errorf("Lost was told %v", lost)
	}
	if err := bc.Send(t.Context(), []byte("on we go")); err != nil {
		t.Error(err)
	}
	wantRefused(t, rawStream(t, t.Context(), nodes["a"], "b", id, "again", ""), "aborted")
	links["a"].Abort(why)
	links["c"].Abort(why)
	links["b"].Close() // waits for nobody
}

// TestCloseDelivers: what was sent before Close arrives, however slowly the
// peer reads and whichever side dialled.
func TestCloseDelivers(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, nil)
	for _, sender := range []string{"a", "b"} {
		t.Run(sender, func(t *testing.T) {
			ctx := t.Context()
			la, lb, ca, cb := pair(t, ctx, nodes, "a", "b")
			tx, rx, sending, reading := ca, cb, la, lb
			if sender == "b" {
				tx, rx, sending, reading = cb, ca, lb, la
			}
			const messages, size = 40, 128 << 10
			errs := make(chan error, 1)
			go func() {
				for i := range messages {
					p := make([]byte, size)
					p[0] = byte(i)
					if err := tx.Send(ctx, p); err != nil {
						errs <- err
						return
					}
				}
				errs <- sending.Close()
			}()
			for i := range messages {
				p, err := rx.Recv(ctx)
				if err != nil || len(p) != size || p[0] != byte(i) {
					t.Fatalf("message %d: %d bytes, %v", i, len(p), err)
				}
			}
			if _, err := rx.Recv(ctx); err != io.EOF {
				t.Errorf("after the last message: %v", err)
			}
			if err := reading.Close(); err != nil {
				t.Errorf("reader's Close: %v", err)
			}
			if err := <-errs; err != nil {
				t.Errorf("sender: %v", err)
			}
		})
	}
}

// TestBackPressureBoundsMemory: a peer that reads nothing makes Send block
// after about a window, and the node holds no more than that.
func TestBackPressureBoundsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := bubble(t, []string{"a", "b"}, func(c *Config) { c.Limits.Window = 128 << 10 })
		for _, name := range []string{"dialler", "callee"} {
			_, _, tx, other := pair(t, t.Context(), nodes, "a", "b")
			if name == "callee" {
				tx, other = other, tx
			}
			greet(t, t.Context(), tx, other)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			const size = 256 << 10
			ctx, cancel := context.WithCancelCause(t.Context())
			sent, done := 0, make(chan error, 1)
			go func() {
				for {
					if err := tx.Send(ctx, make([]byte, size)); err != nil {
						done <- err
						return
					}
					sent++
				}
			}()
			synctest.Wait() // until nothing moves any more
			runtime.GC()
			runtime.ReadMemStats(&after)
			enough := errors.New("enough")
			cancel(enough)
			err := <-done
			// Two messages decoded, one being assembled, the window, gRPC's
			// write quota, and room for what is rounded up.
			if sent < 2 || sent > 8 {
				t.Errorf("%s: %d messages of %d bytes were taken", name, sent, size)
			}
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
				t.Errorf("%s: the heap grew by %d bytes", name, grown)
			}
			wantIs(t, name, err, enough)
			// The stream is gone with the Send that was cut short.
			wantIs(t, name+", second Send", tx.Send(t.Context(), nil), enough)
		}
	})
}

// TestContextEndsStream: a Recv or Send that its context cut short cancels the
// stream, so that the peer learns of it.
func TestContextEndsStream(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, nil)
	stop := errors.New("enough")
	for _, dialler := range []bool{true, false} {
		t.Run(fmt.Sprint("dialler=", dialler), func(t *testing.T) {
			_, _, mine, theirs := pair(t, t.Context(), nodes, "a", "b")
			if !dialler {
				mine, theirs = theirs, mine
			}
			greet(t, t.Context(), mine, theirs)
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := mine.Recv(ctx)
				done <- err
			}()
			cancel(stop)
			wantIs(t, "Recv", <-done, stop)
			_, err := theirs.Recv(t.Context())
			wantIs(t, "the peer's Recv", err, ErrPeerGone)
			wantIs(t, "the peer's Send", theirs.Send(t.Context(), []byte("x")), ErrPeerGone)
		})
	}
}

// TestSessionCause: the cause with which a session's context ends is what its
// channels report.
func TestSessionCause(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, nil)
	revoked := errors.New("the grant was revoked")
	for _, self := range []string{"a", "b"} {
		id := freshID()
		ctx, cancel := context.WithCancelCause(t.Context())
		links := make(map[string]*Link)
		lost := make(chan error, 1)
		for _, name := range []string{"a", "b"} {
			cfg := SessionConfig{ID: id, Self: session.PartyID(name), Parties: ids([]string{"a", "b"})}
			parent := t.Context()
			if name == self {
				parent = ctx
			} else {
				cfg.Lost = func(peer session.PartyID, err error) {
					if string(peer) != self {
						err = fmt.Errorf("lost %s", peer)
					}
					lost <- err
				}
			}
			l, err := nodes[name].OpenSession(parent, cfg)
			if err != nil {
				t.Fatal(err)
			}
			links[name] = l
		}
		ca, cb := channelOf(t, links["a"], "b", ""), channelOf(t, links["b"], "a", "")
		greet(t, t.Context(), ca, cb)
		mine, theirs := ca, cb
		if self == "b" {
			mine, theirs = cb, ca
		}
		done := make(chan error, 1)
		go func() {
			_, err := mine.Recv(t.Context())
			done <- err
		}()
		cancel(revoked)
		wantIs(t, "own Recv", <-done, revoked)
		wantIs(t, "own Send", mine.Send(t.Context(), nil), revoked)
		wantIs(t, "own Close", links[self].Close(), revoked)
		_, err := theirs.Recv(t.Context())
		wantIs(t, "peer's Recv", err, ErrPeerGone)
		wantIs(t, "peer's Lost", <-lost, ErrPeerGone)
		closeAll(links)
	}
}

// TestHeartbeatsKeepSilentSession: parties that compute for an hour and then
// go on are not lost.
func TestHeartbeatsKeepSilentSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := bubble(t, []string{"a", "b"}, nil)
		_, _, ca, cb := pair(t, t.Context(), nodes, "a", "b")
		greet(t, t.Context(), ca, cb)
		done := make(chan error, 1)
		go func() {
			_, err := ca.Recv(t.Context())
			done <- err
		}()
		select {
		case err := <-done:
			t.Fatalf("Recv ended while the peer was computing: %v", err)
		case <-time.After(time.Hour):
		}
		if err := cb.Send(t.Context(), []byte("the result")); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// TestIdle: a peer that is connected and sends nothing at all is given up when
// the limit has passed, and not before.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := bubble(t, []string{"a", "b"}, func(c *Config) {
			c.Limits.Idle = 20 * time.Second
			if c.Party == "b" { // says nothing by itself for an hour
				c.Limits.Idle, c.Limits.Heartbeat = 3*time.Hour, time.Hour
			}
		})
		_, _, ca, cb := pair(t, t.Context(), nodes, "a", "b")
		greet(t, t.Context(), ca, cb)
		start := time.Now()
		_, err := ca.Recv(t.Context())
		wantIs(t, "Recv", err, ErrIdle)
		if d := time.Since(start); d != 20*time.Second {
			t.Errorf("given up after %v", d)
		}
		_, err = cb.Recv(t.Context())
		wantIs(t, "the silent one's Recv", err, ErrPeerGone)
	})
}

// TestSlowReaderIsNotIdle: the idle clock stands still while messages wait for
// the protocol, and the blocked sender is kept alive by the reader's
// heartbeats.
func TestSlowReaderIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := bubble(t, []string{"a", "b"}, func(c *Config) { c.Limits.Window = 64 << 10 })
		for _, callee := range []bool{false, true} {
			_, _, tx, rx := pair(t, t.Context(), nodes, "a", "b")
			if callee {
				tx, rx = rx, tx
			}
			const messages = 32
			errs := make(chan error, 1)
			go func() {
				for range messages {
					if err := tx.Send(t.Context(), make([]byte, 128<<10)); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
			for i := range messages {
				if i == 2 {
					select {
					case err := <-errs:
						t.Fatalf("the sender ended early: %v", err)
					case <-time.After(time.Hour):
					}
				}
				if _, err := rx.Recv(t.Context()); err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
			}
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestNoStream: a peer that never opens its end is given up, unless another
// stream shows that it is alive and merely late.
func TestNoStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := bubble(t, []string{"a", "b"}, func(c *Config) { c.Limits.Open = 30 * time.Second })
		links := open(t, t.Context(), nodes, "a", "b")
		start := time.Now()
		_, err := channelOf(t, links["b"], "a", "").Recv(t.Context())
		wantIs(t, "Recv", err, ErrNoStream)
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("given up after %v", d)
		}
		_, _, ca, cb := pair(t, t.Context(), nodes, "a", "b")
		greet(t, t.Context(), ca, cb)
		links = open(t, t.Context(), nodes, "a", "b")
		ca, cb = channelOf(t, links["a"], "b", ""), channelOf(t, links["b"], "a", "")
		greet(t, t.Context(), ca, cb)
		late := channelOf(t, links["b"], "a", "late")
		time.AfterFunc(time.Hour, func() { channelOf(t, links["a"], "b", "late").Send(t.Context(), []byte("at last")) })
		if p, err := late.Recv(t.Context()); err != nil || string(p) != "at last" {
			t.Errorf("%q, %v", p, err)
		}
	})
}

// TestPeerKilled: a node that goes down takes its channels with it, promptly,
// also for a Send that is stuck in a full window.
func TestPeerKilled(t *testing.T) {
	for _, killed := range []string{"a", "b"} {
		t.Run(killed, func(t *testing.T) {
			nodes := network(t, []string{"a", "b"}, func(c *Config) { c.Limits.Window = 64 << 10 })
			links := open(t, t.Context(), nodes, "a", "b")
			other := map[string]string{"a": "b", "b": "a"}[killed]
			var waiting, stuck, far session.Channel
			waiting, far = channelOf(t, links[other], killed, ""), channelOf(t, links[killed], other, "")
			stuck = channelOf(t, links[other], killed, "bulk")
			bulk := channelOf(t, links[killed], other, "bulk")
			greet(t, t.Context(), waiting, far)
			greet(t, t.Context(), stuck, bulk)
			recv, send := make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := waiting.Recv(t.Context())
				recv <- err
			}()
			go func() {
				var err error
				for err == nil {
					err = stuck.Send(t.Context(), make([]byte, 256<<10))
				}
				send <- err
			}()
			nodes[killed].stop()
			wantIs(t, "Recv", <-recv, ErrPeerGone)
			wantIs(t, "Send", <-send, ErrPeerGone)
			_, err := far.Recv(t.Context())
			wantIs(t, "the killed one's Recv", err, ErrClosed)
		})
	}
}

// TestForksInAnyOrder: the parties may open labels in different orders, and
// one may open a label and only later cause the other to.
func TestForksInAnyOrder(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, nil)
	links := open(t, t.Context(), nodes, "a", "b")
	waitX := channelOf(t, links["b"], "a", "x") // the callee first: it only waits
	mainB := channelOf(t, links["b"], "a", "")
	errs := make(chan error, 1)
	go func() {
		mainA := channelOf(t, links["a"], "b", "")
		if _, err := mainA.Recv(t.Context()); err != nil {
			errs <- err
			return
		}
		errs <- channelOf(t, links["a"], "b", "x").Send(t.Context(), []byte("now"))
	}()
	if err := mainB.Send(t.Context(), []byte("go")); err != nil {
		t.Fatal(err)
	}
	if p, err := waitX.Recv(t.Context()); err != nil || string(p) != "now" {
		t.Fatalf("%q, %v", p, err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	// A stream that came before its Open keeps its messages.
	early := channelOf(t, links["a"], "b", "y")
	if err := early.Send(t.Context(), []byte("early")); err != nil {
		t.Fatal(err)
	}
	if p, err := channelOf(t, links["b"], "a", "y").Recv(t.Context()); err != nil || string(p) != "early" {
		t.Fatalf("%q, %v", p, err)
	}
}

// TestManyLabels opens and finishes more channels than streams are allowed at
// once: places are given back.
func TestManyLabels(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, func(c *Config) { c.Limits.Streams, c.Limits.Calls = 4, 4 })
	links := open(t, t.Context(), nodes, "a", "b")
	for i := range 64 {
		label := fmt.Sprint("tree/", i)
		ca, cb := channelOf(t, links["a"], "b", label), channelOf(t, links["b"], "a", label)
		greet(t, t.Context(), ca, cb)
		ca.CloseSend()
		cb.CloseSend()
		for _, c := range []session.Channel{ca, cb} {
			if _, err := c.Recv(t.Context()); err != io.EOF {
				t.Fatalf("label %d: %v", i, err)
			}
			if err := c.Send(t.Context(), nil); err == nil {
				t.Fatal("sent after close")
			}
		}
	}
}
