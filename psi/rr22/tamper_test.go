package rr22

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/oprf/oprftest"
	"github.com/yinqiao/yinqiao/mpc/ot"
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// tampering returns a net that puts change between party and its peer, in the
// session with the label.
func tampering(party session.PartyID, label string, change sessiontest.Change) sessiontest.Net {
	return sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Self == party && l.Label == label {
			return sessiontest.Tamper(ch, change)
		}
		return ch
	}}
}

// typed says whether err is one that a caller can tell apart.
func typed(err error) bool {
	for _, target := range []error{
		ErrMessage, ErrSize, ErrDisagree, vole.ErrMessage, vole.ErrDisagree, vole.ErrCode, ot.ErrMessage, ot.ErrPoint,
		errIdle, session.ErrMismatch, session.ErrTooLarge, io.ErrUnexpectedEOF,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

var errIdle = errors.New("idle for too long")

// intersectWithin is intersectOver with a deadline of its own for each party.
func intersectWithin(t testing.TB, net sessiontest.Net, ole oprf.OLE, idle time.Duration, xs, ys []string) (r result) {
	t.Helper()
	within := func(f sessiontest.Party) sessiontest.Party {
		return func(ctx context.Context, s *session.Session) error {
			ctx, stop := context.WithTimeoutCause(ctx, idle, errIdle)
			defer stop()
			return f(ctx, s)
		}
	}
	r.out = net.Run(t,
		within(func(ctx context.Context, s *session.Session) (err error) {
			r.sender, err = send(ctx, s, dealt(xs, ole), both)
			return err
		}),
		within(func(ctx context.Context, s *session.Session) (err error) {
			r.receiver, err = receive(ctx, s, dealt(ys, ole), both)
			return err
		}))
	return r
}

// Every message of either side, changed in every way: the run ends, somebody
// reports a typed error, and whoever reports none has the right result.
func TestTampering(t *testing.T) {
	xs, ys := number(0, 20), number(10, 30)
	attacks := map[string]func(at int) sessiontest.Change{
		"flip the kind":     func(at int) sessiontest.Change { return sessiontest.Flip(at, 1) },
		"flip the number":   func(at int) sessiontest.Change { return sessiontest.Flip(at, 9) },
		"flip the body":     func(at int) sessiontest.Change { return sessiontest.Flip(at, 19) },
		"flip further in":   func(at int) sessiontest.Change { return sessiontest.Flip(at, 16+8*40+3) },
		"flip the last bit": func(at int) sessiontest.Change { return flipLast(at) },
		"drop":              sessiontest.Drop,
		"swap":              sessiontest.Swap,
		"repeat":            sessiontest.Repeat,
		"cut a byte":        func(at int) sessiontest.Change { return sessiontest.Truncate(at, 1) },
		"cut everything":    func(at int) sessiontest.Change { return sessiontest.Truncate(at, 1<<20) },
		"add a byte":        func(at int) sessiontest.Change { return sessiontest.Grow(at, 1) },
		"add 4 MiB":         func(at int) sessiontest.Change { return sessiontest.Grow(at, session.MaxMessage) },
		"empty":             func(at int) sessiontest.Change { return sessiontest.Replace(at, nil) },
	}
	for _, where := range []struct {
		label string
		ole   oprf.OLE
	}{{"", oprftest.Dealer{}}, {"vole", nil}} {
		for party, n := range countMessages(t, where.label, where.ole, xs, ys) {
			for name, attack := range attacks {
				for at := range n {
					// When a message is lost both sides may wait for the other,
					// and only a deadline ends that: a node has one for idle
					// sessions.
					idle := time.Hour
					if name == "drop" || name == "swap" {
						idle = 150 * time.Millisecond
					}
					r := intersectWithin(t, tampering(party, where.label, attack(at)), where.ole, idle, xs, ys)
					what := fmt.Sprintf("%s of message %d of %s %s", name, at, party, where.label)
					err := sessiontest.Cause(r.out)
					switch {
					case err == nil && name == "repeat" && at == n-1:
						// Nobody reads past the last message.
					case err == nil:
						t.Errorf("%s: nobody noticed", what)
					case at > 0 && !typed(err) && !errors.Is(err, sessiontest.ErrPeerFailed):
						t.Errorf("%s: %v", what, err)
					}
					if errors.Is(err, job.ErrMinIntersection) {
						t.Errorf("%s passed for a small intersection", what)
					}
					for i, rows := range [][]int32{r.sender.Rows, r.receiver.Rows} {
						if r.out[i].Err == nil && len(rows) != 10 {
							t.Errorf("%s: p%d has %d rows and no error", what, i, len(rows))
						}
						if r.out[i].Err != nil && rows != nil {
							t.Errorf("%s: p%d has rows and an error", what, i)
						}
					}
				}
			}
		}
	}
}

// countMessages returns how many messages each party sends in the session with
// the label.
func countMessages(t *testing.T, label string, ole oprf.OLE, xs, ys []string) map[session.PartyID]int {
	t.Helper()
	var views [2]sessiontest.View
	net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Label != label {
			return ch
		}
		return sessiontest.Record(ch, &views[l.Self[1]-'0'])
	}}
	sessiontest.NoErrors(t, intersectOver(t, net, ole, xs, ys, both, both).out)
	n := map[session.PartyID]int{"p0": len(views[0].Sent()), "p1": len(views[1].Sent())}
	if n["p0"] < 2 || n["p1"] < 2 {
		t.Fatalf("%v messages of %q", n, label)
	}
	return n
}

func flipLast(at int) sessiontest.Change {
	return func(i int, p []byte) [][]byte {
		if i == at && len(p) > 0 {
			p[len(p)-1] ^= 0x80
		}
		return [][]byte{p}
	}
}

// A changed element of the vector cannot be told from another one; the digest
// tells before a hash of the sender goes out.
func TestChangedVectorIsFoundBeforeTheHashes(t *testing.T) {
	xs := number(0, 20)
	var views [2]sessiontest.View
	rec := record(&views)
	net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		ch = rec.Wrap(l, ch)
		if l.Self != "p1" || l.Label != "" {
			return ch
		}
		return sessiontest.Tamper(ch, func(i int, p []byte) [][]byte {
			if i > 0 && transcript.Kind(p[0]) == kindVector && len(p) > 100 {
				p[100] ^= 4
			}
			return [][]byte{p}
		})
	}}
	if err := sessiontest.Cause(intersect(t, net, xs, xs, both).out); !errors.Is(err, ErrDisagree) {
		t.Errorf("%v", err)
	}
	if slices.Contains(kinds(views[0].Sent()), kindHashes) {
		t.Error("hashes were sent")
	}
}

// scripted runs a role against a peer that sends the given frames, numbers in
// order, and then ends.
func scripted(t testing.TB, role sessiontest.Party, first bool, frames ...[]byte) error {
	t.Helper()
	var got error
	peer := func(ctx context.Context, s *session.Session) error {
		from, to := s.Self(), session.PartyID("p0")
		if !first {
			from, to = "p0", s.Self()
		}
		if err := s.Bind(ctx, Name, both.fields(from, to, dealt(nil, nil))...); err != nil {
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
		defer s.CloseSend() // before that: the role may wait for more
		for i, f := range frames {
			f = transcript.AppendFrame(nil, transcript.Kind(f[0]), uint64(i), f[1:])
			if ch.Send(ctx, f) != nil {
				return nil
			}
		}
		if sub, err := s.Fork(ctx, "vole"); err == nil {
			sub.CloseSend()
		}
		return nil
	}
	sessiontest.Net{}.Run(t, keepGoing(&got, role), peer)
	return got
}

func rowsFrame(n uint64) []byte { return binary.AppendUvarint([]byte{byte(kindRows)}, n) }

func TestHostileSizes(t *testing.T) {
	receiving := func(ctx context.Context, s *session.Session) error {
		_, err := Receive(ctx, s, items(number(0, 4)), 4, both)
		return err
	}
	sending := func(ctx context.Context, s *session.Session) error {
		_, err := Send(ctx, s, items(number(0, 4)), 4, both)
		return err
	}
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"too many rows":         {rowsFrame(MaxRows + 1), ErrSize},
		"absurdly many rows":    {rowsFrame(1<<63 - 1), ErrSize},
		"more than a number":    {rowsFrame(1<<64 - 1), ErrMessage},
		"no number":             {[]byte{byte(kindRows)}, ErrMessage},
		"a longer form":         {[]byte{byte(kindRows), 0x84, 0x00}, ErrMessage},
		"left over":             {append(rowsFrame(4), 0), ErrMessage},
		"another kind":          {[]byte{byte(kindVector), 4}, ErrMessage},
		"a kind of no message":  {[]byte{77, 4}, ErrMessage},
		"a message of nothing":  {[]byte{0}, ErrMessage},
		"rows that never come":  {rowsFrame(1 << 28), io.ErrUnexpectedEOF},
		"a few that never come": {rowsFrame(3), io.ErrUnexpectedEOF},
	} {
		for i, role := range []sessiontest.Party{receiving, sending} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := scripted(t, role, i == 0, c.frame)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, c.want) && !(c.want == io.ErrUnexpectedEOF && errors.Is(err, io.EOF)) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
			// An announcement costs the peer a few bytes and must not cost us
			// more than a small set's work.
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 4*session.MaxMessage {
				t.Errorf("%s: %d bytes were allocated", name, grown)
			}
		}
	}
}

// lie runs a receiver that follows the protocol up to the matches and then says
// what it likes; everything is framed and sealed properly.
func lie(count func(int64) int64, matches func([]byte)) sessiontest.Party {
	return func(ctx context.Context, s *session.Session) error {
		ys := number(10, 30)
		r, err := begin(ctx, s, false, dealt(ys, oprftest.Dealer{}), both)
		if err != nil {
			return err
		}
		defer r.close()
		e, err := oprf.Encode(ctx, s.Rand(), r.takeKeys())
		if err != nil {
			return err
		}
		defer e.Close()
		hashes := make([]tags.Tag, len(ys))
		if err := e.Receive(ctx, r.config, r.enter(hashes)); err != nil {
			return err
		}
		if err := r.link.Send(ctx, kindCheck, nil); err != nil {
			return err
		}
		slices.SortFunc(hashes, compare)
		m := &matcher{own: hashes}
		if err := r.recvHashes(ctx, m); err != nil {
			return err
		}
		if err := r.link.RecvEmpty(ctx, kindCheck); err != nil {
			return err
		}
		n := count(int64(len(m.rows)))
		matches(m.bits)
		if err := r.sendMatches(ctx, m.bits); err != nil {
			return err
		}
		if err := r.link.SendNumber(ctx, kindDone, n); err != nil {
			return err
		}
		return r.recvCount(ctx, n)
	}
}

// addMatch sets the first bit that is not.
func addMatch(b []byte) {
	for i := range 20 {
		if b[i/8]>>(i%8)&1 == 0 {
			b[i/8] |= 1 << (i % 8)
			return
		}
	}
}

func TestLyingReceiver(t *testing.T) {
	same := func(n int64) int64 { return n }
	honest := func([]byte) {}
	for name, c := range map[string]struct {
		peer    sessiontest.Party
		minimum int64
		want    error // of the sender
	}{
		"tells the truth":        {lie(same, honest), 10, nil},
		"counts too few":         {lie(func(n int64) int64 { return n - 1 }, honest), 0, ErrDisagree},
		"counts too many":        {lie(func(n int64) int64 { return n + 1 }, honest), 0, ErrDisagree},
		"counts beyond the sets": {lie(func(int64) int64 { return 21 }, honest), 0, ErrMessage},
		"is below our minimum":   {lie(same, honest), 11, job.ErrMinIntersection},
		"adds a match":           {lie(same, addMatch), 0, ErrDisagree},
		"loses a match":          {lie(same, func(b []byte) { b[0] &= b[0] - 1; b[1] &= b[1] - 1 }), 0, ErrDisagree},
		"matches past the end":   {lie(same, func(b []byte) { b[2] |= 1 << 7 }), 0, ErrMessage},
	} {
		var got error
		var rows []int32
		sessiontest.Net{}.Run(t,
			keepGoing(&got, func(ctx context.Context, s *session.Session) error {
				m, err := send(ctx, s, dealt(number(0, 20), oprftest.Dealer{}), Params{MinIntersection: c.minimum, Broadcast: true})
				rows = m.Rows
				return err
			}),
			keepGoing(new(error), c.peer))
		if !errors.Is(got, c.want) || (c.want != nil && rows != nil) {
			t.Errorf("a receiver that %s: %v, want %v", name, got, c.want)
		}
	}
}

// A sender that announces other numbers of hashes than rows, with all else in
// order, is found; so are hashes that do not ascend.
func TestLyingSender(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*[]tags.Tag)
		want   error
	}{
		"one too few":  {func(a *[]tags.Tag) { *a = (*a)[1:] }, ErrDisagree},
		"one too many": {func(a *[]tags.Tag) { *a = append([]tags.Tag{{}}, *a...) }, ErrMessage},
		"one twice":    {func(a *[]tags.Tag) { (*a)[1] = (*a)[0] }, ErrMessage},
		"none":         {func(a *[]tags.Tag) { *a = nil }, ErrDisagree},
	} {
		var got error
		var m Match
		sessiontest.Net{}.Run(t,
			keepGoing(new(error), func(ctx context.Context, s *session.Session) error {
				xs := number(0, 20)
				r, err := begin(ctx, s, true, dealt(xs, oprftest.Dealer{}), both)
				if err != nil {
					return err
				}
				defer r.close()
				hashes := make([]tags.Tag, len(xs))
				if err := oprf.Send(ctx, r.config, r.takeKeys(), r.enter(hashes)); err != nil {
					return err
				}
				if err := r.link.RecvEmpty(ctx, kindCheck); err != nil {
					return err
				}
				slices.SortFunc(hashes, compare)
				c.change(&hashes)
				if err := r.sendHashes(ctx, hashes); err != nil {
					return err
				}
				return r.link.Send(ctx, kindCheck, nil)
			}),
			keepGoing(&got, func(ctx context.Context, s *session.Session) (err error) {
				m, err = receive(ctx, s, dealt(number(10, 30), oprftest.Dealer{}), both)
				return err
			}))
		if !errors.Is(got, c.want) || m.Rows != nil {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
