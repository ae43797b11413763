package multi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/oprf/oprftest"
	"github.com/yinqiao/yinqiao/mpc/ot"
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// faults are the errors of this package, and of those below it, that tampering
// may end in.
var faults = []error{ErrMessage, ErrSize, ErrDisagree, vole.ErrMessage, vole.ErrDisagree, vole.ErrCode, ot.ErrMessage, ot.ErrPoint}

// furtherIn is a bit in the second element of a message of elements.
const furtherIn = 16 + 8*20 + 3

// end is one direction of one channel.
type end struct {
	self, peer session.PartyID
	label      string
}

func (e end) is(l sessiontest.Link) bool {
	return l.Self == e.self && l.Peer == e.peer && l.Label == e.label
}

// sentBy returns how many messages go over an end.
func sentBy(t *testing.T, e end, sets [][]string, ole oprf.OLE) int {
	t.Helper()
	var view sessiontest.View
	net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		if e.is(l) {
			return sessiontest.Record(ch, &view)
		}
		return ch
	}}
	results, out := intersect(t, net, sets, Params{}, ole)
	checkIdeal(t, sets, Params{}, results, out)
	if n := len(view.Sent()); n >= 2 {
		return n
	}
	t.Fatalf("%+v: too few messages", e)
	return 0
}

// attack changes each message of an end in every way, or in those named: the run
// ends, somebody reports a typed error, and whoever reports none has the right
// result.
func attack(t *testing.T, e end, sets [][]string, ole oprf.OLE, names ...string) {
	common := len(oracle(sets))
	for a := range psitest.Attacks(sentBy(t, e, sets, ole), furtherIn) {
		if len(names) > 0 && !slices.Contains(names, a.Name) {
			continue
		}
		net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
			if e.is(l) {
				return sessiontest.Tamper(ch, a.Change)
			}
			return ch
		}}
		parties, results := roles(sets, Params{}, ole)
		for i, f := range parties {
			parties[i] = psitest.Within(a.Idle(50*time.Millisecond), f)
		}
		out := net.Run(t, parties...)
		what := fmt.Sprintf("%+v", e)
		if err := a.CheckNoticed(t, what, out, faults...); errors.Is(err, job.ErrMinIntersection) {
			t.Errorf("%v of %s passed for a small intersection", a, what)
		}
		var rows [][]int32
		for _, m := range results {
			rows = append(rows, m.Rows)
		}
		a.CheckRows(t, what, out, common, rows...)
	}
}

// Every message of every channel, changed in every way.
func TestTampering(t *testing.T) {
	sets := overlapping(3, 10, 3, 3)
	ids := sessiontest.PartyIDs(3)
	for _, self := range ids {
		for _, peer := range ids {
			if self == peer {
				continue
			}
			attack(t, end{self, peer, ""}, sets, oprftest.Dealer{})
		}
	}
	for _, e := range []end{{"p0", "p1", "vole"}, {"p1", "p0", "vole"}} {
		attack(t, e, sets, nil, "flip the body", "cut a byte")
	}
}

// hostile runs a party's role against peers that agree on keys and then send it
// the given body as the number of rows, and leave.
func hostile(t *testing.T, victim int, body []byte) error {
	t.Helper()
	sets := [][]string{psitest.Number(0, 4), psitest.Number(0, 4), psitest.Number(0, 4)}
	parties, _ := roles(sets, Params{}, oprftest.Dealer{})
	var got error
	for i, f := range parties {
		parties[i] = func(ctx context.Context, s *session.Session) error {
			if i == victim {
				got = f(ctx, s)
				return nil
			}
			r, err := begin(ctx, s, psitest.Items(nil), 0, Params{Leader: leading}, oprftest.Dealer{})
			if err != nil {
				return nil
			}
			defer r.close()
			q := sessiontest.PartyIDs(3)[victim]
			link := r.links[q]
			if s.Self() != leading && q != leading || link.Send(ctx, kindRows, body) != nil {
				return nil
			}
			// It says no more, and lets the victim say what it has to.
			s.Peer(q).CloseSend()
			for err == nil {
				_, err = s.Peer(q).Recv(ctx)
			}
			return nil
		}
	}
	sessiontest.Net{}.Run(t, parties...)
	return got
}

func TestHostileSizes(t *testing.T) {
	number := func(n uint64) []byte { return binary.AppendUvarint(nil, n) }
	for name, c := range map[string]struct {
		body []byte
		want error
	}{
		"too many rows":        {number(MaxRows + 1), ErrSize},
		"absurdly many rows":   {number(1<<63 - 1), ErrSize},
		"more than a number":   {number(1<<64 - 1), ErrMessage},
		"no number":            {nil, ErrMessage},
		"a longer form":        {[]byte{0x84, 0x00}, ErrMessage},
		"left over":            {append(number(4), 0), ErrMessage},
		"rows that never come": {number(MaxRows), io.ErrUnexpectedEOF},
	} {
		for victim := range 2 { // a member, and the leader
			var err error
			grown := psitest.Allocated(func() { err = hostile(t, victim, c.body) })
			if !errors.Is(err, c.want) {
				t.Errorf("%s: p%d ended with %v, want %v", name, victim, err, c.want)
			}
			if grown > 16*session.MaxMessage {
				t.Errorf("%s: p%d allocated %d bytes", name, victim, grown)
			}
		}
	}
}

// A leader that follows the protocol up to the result and then says what it
// likes, framed and sealed properly.
func TestLyingLeader(t *testing.T) {
	sets := overlapping(3, 10, 3, 3)
	for name, c := range map[string]struct {
		change func(rows []int32) []int32
		want   error // of the members
	}{
		"tells the truth":       {func(rows []int32) []int32 { return rows }, nil},
		"adds a row":            {func(rows []int32) []int32 { return append(rows, rows[0]) }, ErrDisagree},
		"puts them in disorder": {func(rows []int32) []int32 { rows[0], rows[1] = rows[1], rows[0]; return rows }, ErrMessage},
		"names rows of others":  {func([]int32) []int32 { return []int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} }, ErrDisagree},
	} {
		parties, _ := roles(sets, Params{}, oprftest.Dealer{})
		errs := make([]error, 3)
		for i, f := range parties {
			parties[i] = func(ctx context.Context, s *session.Session) error {
				errs[i] = f(ctx, s)
				return nil
			}
		}
		parties[1] = func(ctx context.Context, s *session.Session) error {
			r, err := begin(ctx, s, psitest.Items(sets[1]), len(sets[1]), Params{Leader: leading}, oprftest.Dealer{})
			if err != nil {
				return err
			}
			defer r.close()
			sums, err := r.gather(ctx)
			if err != nil {
				return err
			}
			var rows []int32
			for i := range sums {
				if sums[i].IsZero() {
					rows = append(rows, int32(i))
				}
			}
			r.sortByKey(rows)
			rows = c.change(rows)
			return r.toAll(ctx, func(ctx context.Context, m session.PartyID) error {
				if err := r.sendCommon(ctx, m, rows); err != nil {
					return nil
				}
				if _, err := r.links[m].Recv(ctx, kindAgreed); err != nil {
					return nil
				}
				r.links[m].Send(ctx, kindDone, nil)
				return nil
			})
		}
		sessiontest.Net{}.Run(t, parties...)
		for _, i := range []int{0, 2} {
			if !errors.Is(errs[i], c.want) {
				t.Errorf("a leader that %s: p%d ended with %v, want %v", name, i, errs[i], c.want)
			}
		}
	}
}

// A member that says it has another number of common rows, or other rows, is
// found by the leader, who then has no result.
func TestLyingMember(t *testing.T) {
	sets := overlapping(3, 10, 3, 3)
	for name, change := range map[string]func(agreed []byte){
		"counts one more":  func(b []byte) { b[0]++ },
		"has other rows":   func(b []byte) { b[9] ^= 1 },
		"counts absurdly":  func(b []byte) { b[7] = 0xff },
		"has the last bit": func(b []byte) { b[agreedSize-1] ^= 0x80 },
	} {
		parties, results := roles(sets, Params{}, oprftest.Dealer{})
		parties[0] = func(ctx context.Context, s *session.Session) error {
			r, err := begin(ctx, s, psitest.Items(sets[0]), len(sets[0]), Params{Leader: leading}, oprftest.Dealer{})
			if err != nil {
				return err
			}
			defer r.close()
			link := r.links[leading]
			if err := runStore(ctx, r, link); err != nil {
				return err
			}
			rows, err := r.recvCommon(ctx, link, len(sets[1]))
			if err != nil {
				return err
			}
			body := r.agreed(rows)
			change(body)
			if err := link.Send(ctx, kindAgreed, body); err != nil {
				return err
			}
			return r.recvDone(ctx, link)
		}
		out := sessiontest.Net{}.Run(t, parties...)
		if !errors.Is(out[1].Err, ErrDisagree) || results[1].Rows != nil || results[2].Rows != nil {
			t.Errorf("a member that %s: the leader ended with %v", name, out[1].Err)
		}
	}
}

// Every decoder: no panic, typed errors, and what is accepted is encoded back
// to the same bytes.
func FuzzParse(f *testing.F) {
	f.Add(make([]byte, 16), uint8(1))
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x10}, uint8(0))
	f.Fuzz(func(t *testing.T, body []byte, n uint8) {
		seed, err := parseSeed(body)
		if err == nil && string(seed[:]) != string(body) || err != nil && !errors.Is(err, ErrMessage) {
			t.Fatalf("a seed: %v", err)
		}
		dst := make([]gf128.Element, n%64)
		err = parseElements(dst, body, "elements")
		if err == nil && string(gf128.AppendBytes(nil, dst)) != string(body) || err != nil && !errors.Is(err, ErrMessage) {
			t.Fatalf("elements: %v", err)
		}
		v, err := protocol.ParseNumber(body, 1<<63-1)
		if err != nil {
			return
		}
		if string(transcript.AppendNumber(nil, v)) != string(body) {
			t.Fatalf("%x was read as %d", body, v)
		}
		if rows, err := parseRows(v); err == nil && (rows < 0 || rows > MaxRows) || err != nil && !errors.Is(err, ErrSize) {
			t.Fatalf("%d rows: %v", rows, err)
		}
	})
}
