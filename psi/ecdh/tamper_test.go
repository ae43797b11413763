package ecdh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// faults are the errors of this package that tampering may end in.
var faults = []error{ErrMessage, ErrPoint, ErrSize, ErrDisagree}

// intersectWithin is align with a deadline of its own for each party.
func intersectWithin(t testing.TB, net sessiontest.Net, idle time.Duration, xs, ys []string, ps, pr Params) (r result) {
	t.Helper()
	r.out = net.Run(t,
		psitest.Within(idle, func(ctx context.Context, s *session.Session) (err error) {
			r.sender, err = Send(ctx, s, psitest.Items(xs), len(xs), ps)
			return err
		}),
		psitest.Within(idle, func(ctx context.Context, s *session.Session) (err error) {
			r.receiver, err = Receive(ctx, s, psitest.Items(ys), len(ys), pr)
			return err
		}))
	return r
}

// Every message of either side, changed in every way: the run ends, somebody
// reports a typed error, and whoever reports none has the right result.
func TestTampering(t *testing.T) {
	xs, ys := psitest.Number(0, 20), psitest.Number(10, 30)
	messages := map[session.PartyID]int{"p0": 7, "p1": 6} // with the frame that binds
	for party, n := range messages {
		for a := range psitest.Attacks(n, psitest.FurtherIn) {
			r := intersectWithin(t, psitest.Tampering(party, "", a.Change), a.Idle(200*time.Millisecond), xs, ys, Params{}, Params{})
			if err := a.CheckNoticed(t, string(party), r.out, faults...); errors.Is(err, job.ErrMinIntersection) {
				t.Errorf("%v of %s passed for a small intersection", a, party)
			}
			a.CheckRows(t, string(party), r.out, 10, r.sender.Rows, r.receiver.Rows)
		}
	}
}

// A flipped bit in a masked point that stays on the curve cannot be told from
// another point; before anything is released, the digest tells.
func TestChangedPointsAreFoundBeforeTheSeed(t *testing.T) {
	xs := psitest.Number(0, 20)
	other := curvePoint(t, "another point")
	for _, party := range []session.PartyID{"p0", "p1"} {
		var views [2]sessiontest.View
		rec := record(&views)
		net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
			ch = rec.Wrap(l, ch)
			if l.Self != party {
				return ch
			}
			return sessiontest.Tamper(ch, func(i int, p []byte) [][]byte {
				if kind(p[0]) == kindPoints && i > 0 {
					copy(p[2+3*curve25519.Size:], other[:])
				}
				return [][]byte{p}
			})
		}}
		r := intersect(t, net, xs, xs, Params{})
		if err := sessiontest.Cause(r.out); !errors.Is(err, ErrDisagree) {
			t.Errorf("points of %s: %v", party, err)
		}
		if slices.Contains(kinds(views[0].Sent()), kindSeed) {
			t.Errorf("points of %s: the permutation was released", party)
		}
	}
}

func curvePoint(t testing.TB, name string) curve25519.Point {
	h, err := curve25519.NewHasher("test")
	if err != nil {
		t.Fatal(err)
	}
	var u [1]curve25519.FieldElement
	var p [1]curve25519.Point
	h.HashToField(&u[0], []byte(name))
	curve25519.MapToCurve(p[:], u[:])
	return p[0]
}

func TestHostilePoints(t *testing.T) {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	littleEndian := func(x *big.Int) []byte {
		b := x.FillBytes(make([]byte, 32))
		slices.Reverse(b)
		return b
	}
	onTwist := func() []byte { // g(x) is no square
		for x := int64(2); ; x++ {
			g := big.NewInt(x*x*x + 486662*x*x + x)
			if big.Jacobi(g, p) == -1 {
				return littleEndian(big.NewInt(x))
			}
		}
	}
	good := curvePoint(t, "good")
	good[31] |= 0x80
	for name, point := range map[string][]byte{
		"zero":       make([]byte, 32),
		"one":        littleEndian(big.NewInt(1)),
		"minus one":  littleEndian(new(big.Int).Sub(p, big.NewInt(1))),
		"p":          littleEndian(p),
		"p plus two": littleEndian(new(big.Int).Add(p, big.NewInt(2))),
		"top bit":    good[:],
		"all ones":   bytes.Repeat([]byte{0xff}, 32),
		"twist":      onTwist(),
	} {
		for _, party := range []session.PartyID{"p0", "p1"} {
			net := psitest.Tampering(party, "", func(i int, m []byte) [][]byte {
				if i > 0 && kind(m[0]) == kindPoints {
					copy(m[2+7*32:], point)
				}
				return [][]byte{m}
			})
			r := intersect(t, net, psitest.Number(0, 20), psitest.Number(10, 30), Params{})
			if err := sessiontest.Cause(r.out); !errors.Is(err, ErrPoint) {
				t.Errorf("%s of %s: %v", name, party, err)
			}
		}
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
		return s.Bind(ctx, Name, Params{}.fields(from, to)...)
	}, frames...)
}

func TestHostileSizes(t *testing.T) {
	receive := func(ctx context.Context, s *session.Session) error {
		_, err := Receive(ctx, s, psitest.Items(psitest.Number(0, 4)), 4, Params{})
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
		"another kind":          {[]byte{byte(kindPoints), 4}, ErrMessage},
		"a kind of no message":  {[]byte{77, 4}, ErrMessage},
		"a message of nothing":  {[]byte{0}, ErrMessage},
		"rows that never come":  {psitest.Frame(kindRows, 1<<28), io.ErrUnexpectedEOF},
		"points that are short": {psitest.Frame(kindRows, 3), io.ErrUnexpectedEOF},
	} {
		var err error
		grown := psitest.Allocated(func() { err = scripted(t, receive, true, c.frame) })
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		// An announcement costs the peer a few bytes and must not cost us more
		// than a message's worth.
		if grown > 2*session.MaxMessage {
			t.Errorf("%s: %d bytes were allocated", name, grown)
		}
	}
}

// lie runs a receiver that follows the protocol up to the count and then says
// what it likes; everything is framed and sealed properly.
func lie(count func(int64) int64, matches func([]int32)) sessiontest.Party {
	return func(ctx context.Context, s *session.Session) error {
		ys := psitest.Number(10, 30)
		r, err := begin(ctx, s, false, sequence{psitest.Items(ys), len(ys)}, Params{})
		if err != nil {
			return err
		}
		theirs, err := r.exchangePoints(ctx)
		if err != nil {
			return err
		}
		own, err := r.recvTags(ctx)
		if err != nil {
			return err
		}
		if err := r.recvCheck(ctx); err != nil {
			return err
		}
		matched, n, err := r.match(ctx, theirs, own)
		if err != nil {
			return err
		}
		n = count(n)
		if err := r.sendCount(ctx, n); err != nil {
			return err
		}
		if _, err := r.recvSeed(ctx); err != nil {
			return err
		}
		matches(matched)
		if err := r.sendMatches(ctx, matched); err != nil {
			return err
		}
		if err := r.sendDone(ctx, n); err != nil {
			return err
		}
		return r.recvDone(ctx, n)
	}
}

func TestLyingReceiver(t *testing.T) {
	same := func(n int64) int64 { return n }
	honest := func([]int32) {}
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
		"adds a match":           {lie(same, func(m []int32) { m[slices.Index(m, 0)] = 1 }), 0, ErrDisagree},
		"loses a match":          {lie(same, func(m []int32) { clear(m[:slices.IndexFunc(m, func(v int32) bool { return v != 0 })+1]) }), 0, ErrDisagree},
	} {
		var got error
		var rows []int32
		sessiontest.Net{}.Run(t,
			psitest.KeepGoing(&got, func(ctx context.Context, s *session.Session) error {
				m, err := Send(ctx, s, psitest.Items(psitest.Number(0, 20)), 20, Params{MinIntersection: c.minimum})
				rows = m.Rows
				return err
			}),
			psitest.KeepGoing(new(error), c.peer))
		if !errors.Is(got, c.want) || (c.want != nil && rows != nil) {
			t.Errorf("a receiver that %s: %v, want %v", name, got, c.want)
		}
	}
}

// A sender that returns one tag twice, or one item's point twice, is found.
func TestLyingSender(t *testing.T) {
	twice := func(k kind, size func(body int) int) sessiontest.Change {
		return func(i int, p []byte) [][]byte {
			if i > 0 && kind(p[0]) == k {
				n := size(len(p) - 2)
				for at := 2 + n; at < len(p); at += n {
					copy(p[at:at+n], p[2:2+n])
				}
			}
			return [][]byte{p}
		}
	}
	for name, change := range map[string]sessiontest.Change{
		"points": twice(kindPoints, func(int) int { return curve25519.Size }),
		"tags":   twice(kindTags, func(body int) int { return body / 20 }),
	} {
		xs := psitest.Number(0, 20)
		if err := sessiontest.Cause(intersect(t, psitest.Tampering("p0", "", change), xs, xs, Params{}).out); !errors.Is(err, ErrDisagree) {
			t.Errorf("%s repeated: %v", name, err)
		}
	}
}

// A receiver that sends one item several times would learn from the number of
// equal tags which of its rows is common, whatever their order: the sender
// finds it before it returns any.
func TestRepeatedPointsReturnNoTags(t *testing.T) {
	xs := psitest.Number(0, 20)
	for name, repeat := range map[string]func(body []byte){
		"one item for all": func(b []byte) {
			for at := curve25519.Size; at < len(b); at += curve25519.Size {
				copy(b[at:], b[:curve25519.Size])
			}
		},
		"the first also as the last": func(b []byte) { copy(b[len(b)-curve25519.Size:], b[:curve25519.Size]) },
	} {
		var views [2]sessiontest.View
		rec := record(&views)
		net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
			ch = rec.Wrap(l, ch)
			if l.Self != "p1" {
				return ch
			}
			return sessiontest.Tamper(ch, func(i int, p []byte) [][]byte {
				if i > 0 && kind(p[0]) == kindPoints {
					repeat(p[2:])
				}
				return [][]byte{p}
			})
		}}
		r := intersect(t, net, xs, xs, Params{})
		if err := r.out[0].Err; !errors.Is(err, ErrDisagree) {
			t.Errorf("%s: the sender ended with %v", name, err)
		}
		if slices.Contains(kinds(views[0].Sent()), kindTags) {
			t.Errorf("%s: tags were returned", name)
		}
	}
}

// A receiver that returns the sender's own points gets tags that match nothing
// it can compute: no point of one direction is good for the other.
func TestReflectedPoints(t *testing.T) {
	xs := psitest.Number(0, 20)
	var tags map[string]bool
	var own [][]byte // what the receiver can compute of the points: themselves, and masked
	reflect := func(ctx context.Context, s *session.Session) error {
		r, err := begin(ctx, s, false, sequence{psitest.Items(xs), len(xs)}, Params{})
		if err != nil {
			return err
		}
		body, err := r.link.Recv(ctx, kindPoints)
		if err != nil {
			return err
		}
		if err := r.link.Send(ctx, kindPoints, body); err != nil {
			return err
		}
		points := make([]curve25519.Point, len(xs))
		if err := parsePoints(points, body); err != nil {
			return err
		}
		for range 2 {
			for _, p := range points {
				own = append(own, slices.Clone(p[:r.tagBytes]))
			}
			r.scalar.Mul(points, points)
		}
		tags = map[string]bool{}
		back, err := r.recvTags(ctx)
		if err != nil {
			return err
		}
		for i := range back.n {
			tags[string(back.at(i))] = true
		}
		if err := r.recvCheck(ctx); err != nil {
			return err
		}
		return r.sendBelow(ctx)
	}
	var got error
	sessiontest.Net{}.Run(t,
		psitest.KeepGoing(&got, func(ctx context.Context, s *session.Session) error {
			_, err := Send(ctx, s, psitest.Items(xs), len(xs), Params{})
			return err
		}),
		psitest.KeepGoing(new(error), reflect))
	if !errors.Is(got, job.ErrMinIntersection) || len(tags) != len(xs) {
		t.Fatalf("the sender ended with %v, after %d tags", got, len(tags))
	}
	for _, p := range own {
		if tags[string(p)] {
			t.Error("a reflected point comes back as one that the receiver knows")
		}
	}
}

// A peer that sends on after the end changes nothing and is not read.
func TestMessagesAfterTheEnd(t *testing.T) {
	for _, party := range []session.PartyID{"p0", "p1"} {
		net := psitest.Tampering(party, "", func(_ int, p []byte) [][]byte {
			if len(p) > 0 && kind(p[0]) == kindDone {
				return [][]byte{p, make([]byte, session.MaxMessage)} // a third would wait for a reader
			}
			return [][]byte{p}
		})
		net.Connect = sessiontest.Pipes(4)
		r := intersect(t, net, psitest.Number(0, 20), psitest.Number(10, 30), Params{})
		sessiontest.NoErrors(t, r.out)
		if len(r.sender.Rows) != 10 || len(r.receiver.Rows) != 10 {
			t.Errorf("%s: %d and %d rows", party, len(r.sender.Rows), len(r.receiver.Rows))
		}
	}
}
