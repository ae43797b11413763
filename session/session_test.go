package session_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

func TestPipe(t *testing.T) {
	t.Run("window 1", func(t *testing.T) {
		sessiontest.Run(t, sessiontest.Pipes(1), sessiontest.Cases()...)
	})
	t.Run("window 16", func(t *testing.T) {
		sessiontest.Run(t, sessiontest.Pipes(16), sessiontest.Cases()...)
	})
}

func TestNewRefuses(t *testing.T) {
	open := session.NewPipeNetwork(1).Opener("a")
	failing := func(context.Context, session.PartyID, string) (session.Channel, error) {
		return nil, io.ErrClosedPipe
	}
	ab := []session.PartyID{"a", "b"}
	for _, c := range []struct {
		name string
		cfg  session.Config
	}{
		{"no ID", session.Config{Self: "a", Parties: ab, Open: open}},
		{"self is not a party", session.Config{ID: "s", Self: "c", Parties: ab, Open: open}},
		{"no opener", session.Config{ID: "s", Self: "a", Parties: ab}},
		{"blank party", session.Config{ID: "s", Self: "a", Parties: []session.PartyID{"a", ""}, Open: open}},
		{"party twice", session.Config{ID: "s", Self: "a", Parties: []session.PartyID{"a", "b", "a"}, Open: open}},
		{"opener fails", session.Config{ID: "s", Self: "a", Parties: ab, Open: failing}},
	} {
		if s, err := session.New(t.Context(), c.cfg); err == nil || s != nil {
			t.Errorf("%s: New returned %v, %v", c.name, s, err)
		}
	}
}

func TestOtherNeedsTwoParties(t *testing.T) {
	n := session.NewPipeNetwork(1)
	for _, parties := range [][]session.PartyID{{"a"}, {"a", "b", "c"}} {
		s, err := session.New(t.Context(), session.Config{ID: "s", Self: "a", Parties: parties, Open: n.Opener("a")})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Other(); err == nil {
			t.Errorf("a session of %d has an Other", len(parties))
		}
	}
}

func TestPipeNetworkRefusesALabelTwice(t *testing.T) {
	n := session.NewPipeNetwork(1)
	cfg := session.Config{ID: "s", Self: "a", Parties: []session.PartyID{"a", "b"}, Open: n.Opener("a")}
	s, err := session.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fork(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fork(t.Context(), "x"); err == nil {
		t.Error("a label was opened twice")
	}
	if _, err := s.Fork(t.Context(), ""); err == nil {
		t.Error("a fork without a label was opened")
	}
}

// The transcript is what keys and tags are bound to: it has to change with
// every part of what the parties agreed on.
func TestTranscriptBindsEverything(t *testing.T) {
	type setting struct {
		id, protocol, label string
		parties             []session.PartyID
		params              []session.Field
	}
	base := setting{"s1", "p.v1", "", []session.PartyID{"a", "b"}, []session.Field{{Name: "k", Value: "1"}}}
	settings := map[string]setting{"base": base}
	vary := func(name string, change func(*setting)) {
		s := base
		change(&s)
		settings[name] = s
	}
	vary("session", func(s *setting) { s.id = "s2" })
	vary("protocol", func(s *setting) { s.protocol = "p.v2" })
	vary("label", func(s *setting) { s.label = "fork" })
	vary("order of parties", func(s *setting) { s.parties = []session.PartyID{"b", "a"} })
	vary("value", func(s *setting) { s.params = []session.Field{{Name: "k", Value: "2"}} })
	vary("name", func(s *setting) { s.params = []session.Field{{Name: "l", Value: "1"}} })
	vary("boundary", func(s *setting) { s.params = []session.Field{{Name: "k1", Value: ""}} })
	seen := map[[32]byte]string{}
	for name, c := range settings {
		n := session.NewPipeNetwork(1)
		got := make(chan [32]byte, 2)
		for _, self := range c.parties {
			go func() {
				s, err := session.New(t.Context(), session.Config{ID: c.id, Self: self, Parties: c.parties, Open: n.Opener(self)})
				if err == nil && c.label != "" {
					s, err = s.Fork(t.Context(), c.label)
				}
				if err == nil {
					err = s.Bind(t.Context(), c.protocol, c.params...)
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
					got <- [32]byte{}
					return
				}
				got <- s.Transcript()
			}()
		}
		a, b := <-got, <-got
		if a != b {
			t.Errorf("%s: the two transcripts differ", name)
		}
		if other, dup := seen[a]; dup {
			t.Errorf("%s and %s have the same transcript", name, other)
		}
		seen[a] = name
	}
}

func TestBindRefusesBadFirstFrames(t *testing.T) {
	for name, frame := range map[string][]byte{
		"empty":              {},
		"count without data": {200, 1},
		"length past end":    {1, 9, 'x'},
		"left over":          {0, 0},
		"huge":               []byte(strings.Repeat("x", 70<<10)),
		"overlong length":    {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
	} {
		ours, theirs := session.Pipe(2)
		s, err := session.New(t.Context(), session.Config{
			ID: "s", Self: "a", Parties: []session.PartyID{"a", "b"},
			Open: func(context.Context, session.PartyID, string) (session.Channel, error) { return ours, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := theirs.Send(t.Context(), frame); err != nil {
			t.Fatal(err)
		}
		if err := s.Bind(t.Context(), "p.v1"); err == nil {
			t.Errorf("%s: Bind accepted it", name)
		}
	}
}

func TestBindRefusesOversizedParameters(t *testing.T) {
	n := session.NewPipeNetwork(1)
	s, err := session.New(t.Context(), session.Config{ID: "s", Self: "a", Parties: []session.PartyID{"a", "b"}, Open: n.Opener("a")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(t.Context(), "p.v1", session.Field{Name: "k", Value: strings.Repeat("x", 64<<10)}); err == nil {
		t.Error("a first frame above the limit was sent")
	}
}

// A party that finds a mismatch must still let the peer find it.
func TestBindMismatchReachesBothSides(t *testing.T) {
	for range 200 {
		bind := func(v string) sessiontest.Party {
			return func(ctx context.Context, s *session.Session) error {
				return s.Bind(ctx, "p.v1", session.Field{Name: "k", Value: v})
			}
		}
		// Errors are compared after both have returned: neither cancels.
		var errs [2]error
		keep := func(i int, f sessiontest.Party) sessiontest.Party {
			return func(ctx context.Context, s *session.Session) error {
				errs[i] = f(ctx, s)
				return nil
			}
		}
		sessiontest.Net{}.Run(t, keep(0, bind("1")), keep(1, bind("2")))
		for i, err := range errs {
			if !errors.Is(err, session.ErrMismatch) {
				t.Fatalf("p%d: %v, want ErrMismatch", i, err)
			}
		}
	}
}

func TestMeterCountsRounds(t *testing.T) {
	ping := func(ctx context.Context, s *session.Session) error {
		_, ch, _ := s.Other()
		for range 3 {
			for range 2 {
				if err := ch.Send(ctx, make([]byte, 10)); err != nil {
					return err
				}
			}
			if _, err := ch.Recv(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	pong := func(ctx context.Context, s *session.Session) error {
		_, ch, _ := s.Other()
		for range 3 {
			for range 2 {
				if _, err := ch.Recv(ctx); err != nil {
					return err
				}
			}
			if err := ch.Send(ctx, make([]byte, 5)); err != nil {
				return err
			}
		}
		return nil
	}
	out := sessiontest.Net{}.Run(t, ping, pong)
	sessiontest.NoErrors(t, out)
	want := session.Traffic{Sent: 60, Received: 15, MessagesSent: 6, MessagesReceived: 3, Rounds: 3}
	if out[0].Traffic != want {
		t.Errorf("p0: %+v, want %+v", out[0].Traffic, want)
	}
	want = session.Traffic{Sent: 15, Received: 60, MessagesSent: 3, MessagesReceived: 6, Rounds: 3}
	if out[1].Traffic != want {
		t.Errorf("p1: %+v, want %+v", out[1].Traffic, want)
	}
}

// What a peer wrote stands in an error in one line, and not at any length.
func TestMismatchIsShort(t *testing.T) {
	long := strings.Repeat("\n\x1b[2J", 5000)
	for name, theirs := range map[string]session.Field{
		"a value": {Name: "k", Value: long},
		"a name":  {Name: long, Value: "1"},
	} {
		var err error
		keep := func(_ context.Context, s *session.Session) error {
			err = s.Bind(t.Context(), "p.v1", session.Field{Name: "k", Value: "1"})
			return nil
		}
		other := func(_ context.Context, s *session.Session) error {
			fields := []session.Field{{Name: "k", Value: "1"}, theirs}
			if theirs.Name == "k" {
				fields = fields[1:]
			}
			_ = s.Bind(t.Context(), "p.v1", fields...)
			return nil
		}
		sessiontest.Net{}.Run(t, keep, other)
		if !errors.Is(err, session.ErrMismatch) || len(err.Error()) > 2000 || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}
