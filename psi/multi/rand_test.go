package multi

import (
	"bytes"
	"context"
	"fmt"
	mrand "math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// saidWithSeeds runs one session, always the same, in which the randomness of
// each party comes from a reader that is not safe for concurrent use, and
// returns what each end of each channel sent.
func saidWithSeeds(t *testing.T, sets [][]string) map[sessiontest.Link]*sessiontest.View {
	t.Helper()
	ids := sessiontest.PartyIDs(len(sets))
	parties, results := roles(sets, Params{}, nil)
	network := session.NewPipeNetwork(1)
	said := make(map[sessiontest.Link]*sessiontest.View)
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(t.Context())
	for i, id := range ids {
		opener := network.Opener(id)
		cfg := session.Config{
			ID: "seeded", Self: id, Parties: ids, Rand: mrand.NewChaCha8([32]byte{byte(i)}),
			Open: func(ctx context.Context, peer session.PartyID, label string) (session.Channel, error) {
				ch, err := opener(ctx, peer, label)
				if err != nil {
					return nil, err
				}
				v := &sessiontest.View{}
				mu.Lock()
				defer mu.Unlock()
				said[sessiontest.Link{Self: id, Peer: peer, Label: label}] = v
				return sessiontest.Record(ch, v), nil
			},
		}
		g.Go(func() error {
			s, err := session.New(ctx, cfg)
			if err != nil {
				return err
			}
			return parties[i](ctx, s)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	checkIdeal(t, sets, Params{}, results, make([]sessiontest.Outcome, len(sets)))
	return said
}

// The leader works with several members at once; what it says to each follows
// from the randomness that it is given, whoever is served first.
func TestRandomnessIsReadInOneOrder(t *testing.T) {
	sets := overlapping(5, 300, 20, 5)
	first := saidWithSeeds(t, sets)
	if n := len(first); n != 5*4+2*4 {
		t.Fatalf("%d ends of channels", n)
	}
	for range 2 {
		again := saidWithSeeds(t, sets)
		for l, v := range first {
			ours, theirs := v.Sent(), again[l].Sent()
			what := fmt.Sprintf("%s to %s %q", l.Self, l.Peer, l.Label)
			if len(ours) == 0 || len(ours) != len(theirs) {
				t.Fatalf("%s: %d and %d messages", what, len(ours), len(theirs))
			}
			for i := range ours {
				if !bytes.Equal(ours[i], theirs[i]) {
					t.Fatalf("%s: message %d differs", what, i)
				}
			}
		}
	}
}
