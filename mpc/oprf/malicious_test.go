package oprf_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/oprf/oprftest"
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// runMalicious is run with Config.Malicious.
func runMalicious(t testing.TB, net sessiontest.Net, ole oprf.OLE, xs, ys []gf128.Element) (*outputs, *outputs, []sessiontest.Outcome) {
	t.Helper()
	x, y := newOutputs(len(xs)), newOutputs(len(ys))
	party := func(f func(ctx context.Context, s *session.Session, cfg oprf.Config) error) sessiontest.Party {
		return func(ctx context.Context, s *session.Session) error {
			sub, err := s.Fork(ctx, "vole")
			if err != nil {
				return err
			}
			defer sub.CloseSend()
			return f(ctx, s, oprf.Config{Session: sub, Conn: wire(s), Rows: len(ys), OLE: ole, Malicious: true})
		}
	}
	out := net.Run(t,
		party(func(ctx context.Context, _ *session.Session, cfg oprf.Config) error {
			return oprf.Send(ctx, cfg, xs, x.take)
		}),
		party(func(ctx context.Context, s *session.Session, cfg oprf.Config) error {
			e, err := oprf.Encode(ctx, s.Rand(), ys)
			if err != nil {
				return err
			}
			defer e.Close()
			return e.Receive(ctx, cfg, y.take)
		}))
	return x, y, out
}

func TestMaliciousFunctionality(t *testing.T) {
	for _, c := range []struct {
		xs, ys []gf128.Element
		ole    oprf.OLE
	}{
		{keys(0, 300), keys(100, 300), nil},
		{nil, keys(0, 5), nil},
		{keys(0, 5), nil, nil},
		{keys(0, 300), keys(100, 300), oprftest.Dealer{}},
		{keys(50_000, 100_000), keys(0, 150_000), oprftest.Dealer{Limit: 1}}, // several pieces, each with a coin
	} {
		x, y, out := runMalicious(t, sessiontest.Net{}, c.ole, c.xs, c.ys)
		sessiontest.NoErrors(t, out)
		if !x.complete() || !y.complete() {
			t.Fatal("keys without a value, or with two")
		}
		of, values := map[gf128.Element]gf128.Element{}, map[gf128.Element]bool{}
		for i, k := range c.ys {
			of[k] = y.byRow[i]
			values[y.byRow[i]] = true
		}
		if len(values) != len(c.ys) {
			t.Fatal("two keys have one value")
		}
		for i, k := range c.xs {
			if v, both := of[k]; both != (v == x.byRow[i]) || !both && values[x.byRow[i]] {
				t.Fatal("the parties have two values of one key, or one of two")
			}
		}
	}
}

// The coin goes into F: with all else the same, a dealer's deal, no two runs have
// a value in common.
func TestCoinChangesTheFunction(t *testing.T) {
	ks := keys(0, 50)
	_, one, out := runMalicious(t, sessiontest.Net{}, oprftest.Dealer{}, ks, ks)
	sessiontest.NoErrors(t, out)
	_, two, out := runMalicious(t, sessiontest.Net{}, oprftest.Dealer{}, ks, ks)
	sessiontest.NoErrors(t, out)
	for _, v := range one.byRow {
		if slices.Contains(two.byRow, v) {
			t.Fatal("two runs have one value")
		}
	}
	chiSquared(t, "values", gf128.AppendBytes(nil, func() []gf128.Element {
		y, _, out := runMalicious(t, sessiontest.Net{}, oprftest.Dealer{}, keys(0, 30_000), ks)
		sessiontest.NoErrors(t, out)
		return y.byRow
	}()))
}

// A sender that opens another coin than it committed to is found before the
// receiver has a value; messages of other lengths are refused.
func TestMaliciousCoins(t *testing.T) {
	ys := keys(0, 20)
	tampered := func(party session.PartyID, change sessiontest.Change) (*outputs, []sessiontest.Outcome) {
		net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
			if l.Self == party && l.Label == "" {
				return sessiontest.Tamper(ch, change)
			}
			return ch
		}}
		_, y, out := runMalicious(t, net, oprftest.Dealer{}, ys, ys)
		return y, out
	}
	for name, c := range map[string]struct {
		party  session.PartyID
		change sessiontest.Change
		want   error
	}{
		"another commitment":       {"p0", sessiontest.Flip(0, 5), oprf.ErrCheat},
		"another coin":             {"p0", sessiontest.Flip(1, 5), oprf.ErrCheat},
		"another blind":            {"p0", sessiontest.Flip(1, 8*31), oprf.ErrCheat},
		"a short commitment":       {"p0", sessiontest.Truncate(0, 1), oprf.ErrMessage},
		"no opening":               {"p0", sessiontest.Replace(1, nil), oprf.ErrMessage},
		"a long opening":           {"p0", sessiontest.Grow(1, 1), oprf.ErrMessage},
		"a short coin":             {"p1", sessiontest.Truncate(2, 1), oprf.ErrMessage},
		"a coin where none is due": {"p1", sessiontest.Replace(0, make([]byte, 3)), oprf.ErrMessage},
	} {
		y, out := tampered(c.party, c.change)
		if err := sessiontest.Cause(out); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if slices.Contains(y.places, true) {
			t.Errorf("%s: the receiver has values", name)
		}
	}
}

// A vector OLE whose sender cheats ends the run, with the error of mpc/vole.
func TestMaliciousOLE(t *testing.T) {
	net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Self == "p0" && l.Label == "vole" {
			return sessiontest.Tamper(ch, sessiontest.Flip(3, 8*9)) // the answer to the check
		}
		return ch
	}}
	_, y, out := runMalicious(t, net, nil, keys(0, 5), keys(0, 5))
	if err := sessiontest.Cause(out); !errors.Is(err, vole.ErrCheat) {
		t.Errorf("%v", err)
	}
	if slices.Contains(y.places, true) {
		t.Error("the receiver has values")
	}
}
