package rr22

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/oprf/oprftest"
	"github.com/yinqiao/yinqiao/mpc/ot"
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// faults are the errors of this package, and of those below it, that tampering
// may end in.
var faults = []error{ErrMessage, ErrSize, ErrDisagree, vole.ErrMessage, vole.ErrDisagree, vole.ErrCode, ot.ErrMessage, ot.ErrPoint}

// intersectWithin is intersectOver with a deadline of its own for each party.
func intersectWithin(t testing.TB, net sessiontest.Net, ole oprf.OLE, idle time.Duration, xs, ys []string) (r result) {
	t.Helper()
	r.out = net.Run(t,
		psitest.Within(idle, func(ctx context.Context, s *session.Session) (err error) {
			r.sender, err = send(ctx, s, dealt(xs, ole), both)
			return err
		}),
		psitest.Within(idle, func(ctx context.Context, s *session.Session) (err error) {
			r.receiver, err = receive(ctx, s, dealt(ys, ole), both)
			return err
		}))
	return r
}

// Every message of either side, changed in every way: the run ends, somebody
// reports a typed error, and whoever reports none has the right result.
func TestTampering(t *testing.T) {
	xs, ys := psitest.Number(0, 20), psitest.Number(10, 30)
	for _, where := range []struct {
		label string
		ole   oprf.OLE
	}{{"", oprftest.Dealer{}}, {"vole", nil}} {
		for party, n := range countMessages(t, where.label, where.ole, xs, ys) {
			for a := range psitest.Attacks(n, psitest.FurtherIn) {
				net := psitest.Tampering(party, where.label, a.Change)
				r := intersectWithin(t, net, where.ole, a.Idle(150*time.Millisecond), xs, ys)
				what := fmt.Sprintf("%s %s", party, where.label)
				if err := a.CheckNoticed(t, what, r.out, faults...); errors.Is(err, job.ErrMinIntersection) {
					t.Errorf("%v of %s passed for a small intersection", a, what)
				}
				a.CheckRows(t, what, r.out, 10, r.sender.Rows, r.receiver.Rows)
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

// A changed element of the vector cannot be told from another one; the digest
// tells before a hash of the sender goes out.
func TestChangedVectorIsFoundBeforeTheHashes(t *testing.T) {
	xs := psitest.Number(0, 20)
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
	return psitest.Scripted(t, role, func(ctx context.Context, s *session.Session) error {
		from, to := s.Self(), session.PartyID("p0")
		if !first {
			from, to = "p0", s.Self()
		}
		if err := s.Bind(ctx, Name, both.fields(from, to, dealt(nil, nil))...); err != nil {
			return err
		}
		sub, err := s.Fork(ctx, "vole") // where it has nothing to say
		if err != nil {
			return err
		}
		return sub.CloseSend()
	}, frames...)
}

func TestHostileSizes(t *testing.T) {
	receiving := func(ctx context.Context, s *session.Session) error {
		_, err := Receive(ctx, s, psitest.Items(psitest.Number(0, 4)), 4, both)
		return err
	}
	sending := func(ctx context.Context, s *session.Session) error {
		_, err := Send(ctx, s, psitest.Items(psitest.Number(0, 4)), 4, both)
		return err
	}
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"too many rows":         {psitest.Frame(kindRows, MaxRows+1), ErrSize},
		"absurdly many rows":    {psitest.Frame(kindRows, 1<<63-1), ErrSize},
		"more than a number":    {psitest.Frame(kindRows, 1<<64-1), ErrMessage},
		"no number":             {[]byte{byte(kindRows)}, ErrMessage},
		"a longer form":         {[]byte{byte(kindRows), 0x84, 0x00}, ErrMessage},
		"left over":             {append(psitest.Frame(kindRows, 4), 0), ErrMessage},
		"another kind":          {[]byte{byte(kindVector), 4}, ErrMessage},
		"a kind of no message":  {[]byte{77, 4}, ErrMessage},
		"a message of nothing":  {[]byte{0}, ErrMessage},
		"rows that never come":  {psitest.Frame(kindRows, 1<<28), io.ErrUnexpectedEOF},
		"a few that never come": {psitest.Frame(kindRows, 3), io.ErrUnexpectedEOF},
	} {
		for i, role := range []sessiontest.Party{receiving, sending} {
			var err error
			grown := psitest.Allocated(func() { err = scripted(t, role, i == 0, c.frame) })
			if !errors.Is(err, c.want) && !(c.want == io.ErrUnexpectedEOF && errors.Is(err, io.EOF)) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
			// An announcement costs the peer a few bytes and must not cost us
			// more than a small set's work.
			if grown > 4*session.MaxMessage {
				t.Errorf("%s: %d bytes were allocated", name, grown)
			}
		}
	}
}

// lie runs a receiver that follows the protocol up to the matches and then says
// what it likes; everything is framed and sealed properly.
func lie(count func(int64) int64, matches func([]byte)) sessiontest.Party {
	return func(ctx context.Context, s *session.Session) error {
		ys := psitest.Number(10, 30)
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
			psitest.KeepGoing(&got, func(ctx context.Context, s *session.Session) error {
				m, err := send(ctx, s, dealt(psitest.Number(0, 20), oprftest.Dealer{}), Params{MinIntersection: c.minimum, Broadcast: true})
				rows = m.Rows
				return err
			}),
			psitest.KeepGoing(new(error), c.peer))
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
			psitest.KeepGoing(new(error), func(ctx context.Context, s *session.Session) error {
				xs := psitest.Number(0, 20)
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
			psitest.KeepGoing(&got, func(ctx context.Context, s *session.Session) (err error) {
				m, err = receive(ctx, s, dealt(psitest.Number(10, 30), oprftest.Dealer{}), both)
				return err
			}))
		if !errors.Is(got, c.want) || m.Rows != nil {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
