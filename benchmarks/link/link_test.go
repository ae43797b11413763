package link

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(kind Kind) sessiontest.Connect {
	return func(t testing.TB, parties []session.PartyID) []session.Opener {
		openers, stop, err := Connect(kind, parties)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := stop(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		var os []session.Opener
		for _, p := range parties {
			os = append(os, openers[p])
		}
		return os
	}
}

// TestConformance runs the transport cases over each network, with less over
// the slow one.
func TestConformance(t *testing.T) {
	for _, k := range Kinds() {
		t.Run(string(k), func(t *testing.T) {
			cases := sessiontest.Cases()
			if k == WAN {
				var few []sessiontest.Case
				for _, c := range cases {
					switch c.Name {
					case "messages sent before CloseSend arrive before EOF", "three parties, a channel for each pair",
						"Bind names the field in which the parties differ":
						few = append(few, c)
					}
				}
				if cases = few; len(cases) != 3 {
					t.Fatalf("%d cases found", len(cases))
				}
			}
			sessiontest.Run(t, connect(k), cases...)
		})
	}
}

// TestShape holds the links to what physics guarantees: nothing arrives before
// its delay, or faster than the bandwidth.
func TestShape(t *testing.T) {
	for _, k := range []Kind{LAN, WAN} {
		t.Run(string(k), func(t *testing.T) {
			shape := k.Shape()
			const rounds, bulk = 5, 1 << 20
			var ping, stream time.Duration
			sessiontest.NoErrors(t, sessiontest.Net{Connect: connect(k)}.Run(t,
				func(ctx context.Context, s *session.Session) error {
					_, ch, err := s.Other()
					if err != nil {
						return err
					}
					exchange := func(n int) error {
						if err := ch.Send(ctx, make([]byte, n)); err != nil {
							return err
						}
						_, err := ch.Recv(ctx)
						return err
					}
					if err := exchange(1); err != nil { // the stream is up
						return err
					}
					start := time.Now()
					for range rounds {
						if err := exchange(1); err != nil {
							return err
						}
					}
					ping = time.Since(start)
					start = time.Now()
					err = exchange(bulk)
					stream = time.Since(start)
					return err
				},
				func(ctx context.Context, s *session.Session) error {
					_, ch, err := s.Other()
					if err != nil {
						return err
					}
					for range rounds + 2 {
						if _, err := ch.Recv(ctx); err != nil {
							return err
						}
						if err := ch.Send(ctx, []byte{1}); err != nil {
							return err
						}
					}
					return nil
				}))
			if least := rounds * 2 * shape.OneWay; ping < least {
				t.Errorf("%d round trips took %v, at least %v are due", rounds, ping, least)
			}
			wire := time.Duration(int64(bulk) * 8 * int64(time.Second) / shape.BitsPerSecond)
			if least := wire + 2*shape.OneWay; stream < least {
				t.Errorf("%d bytes and the answer took %v, at least %v are due", bulk, stream, least)
			}
			t.Logf("%s: round trip %v, %d bytes in %v", k, ping/rounds, bulk, stream)
		})
	}
}

func TestParse(t *testing.T) {
	for _, k := range Kinds() {
		if got, err := Parse(string(k)); err != nil || got != k {
			t.Errorf("Parse(%q) = %q, %v", string(k), got, err)
		}
	}
	if _, err := Parse("5g"); err == nil {
		t.Error("an unknown network was accepted")
	}
	if _, _, err := Connect("5g", sessiontest.PartyIDs(2)); err == nil {
		t.Error("an unknown network was connected")
	}
}
