package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/yinqiao/yinqiao/fl"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc"
	"github.com/yinqiao/yinqiao/psi"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// TestPanicsReachTheCaller: wherever in a protocol something panics, on
// goroutines of its own as well, it arrives where the job was called, so that a
// node can contain it, and the other parties end. A panic that does not arrive
// would end this test's process.
func TestPanicsReachTheCaller(t *testing.T) {
	for _, def := range slices.Concat(psi.Jobs(), mpc.Jobs(), fl.Jobs()) {
		t.Run(def.Name, func(t *testing.T) {
			c := Case{N: 600, Net: "none", NoBaseline: true}
			if def.BenchStatistics != nil {
				c = Case{N: 300, Cells: 4, Measures: 2, Parties: 3, Net: "none", NoBaseline: true}
			}
			b, err := c.bench(def)
			if err != nil {
				t.Fatal(err)
			}
			all := explode(t, def, c, b, "", false, -1)
			for _, id := range partyIDs(b.Spec) {
				for _, receiving := range []bool{false, true} {
					total := all[place{id, receiving}].Load()
					if total == 0 {
						t.Errorf("%s, receiving %v: no message", id, receiving)
					}
					for _, at := range slices.Compact([]int64{0, total / 2, total - 1}) {
						explode(t, def, c, b, id, receiving, at)
					}
				}
			}
		})
	}
}

// place is one direction of one party's messages.
type place struct {
	party     session.PartyID
	receiving bool
}

var errPlanted = errors.New("planted")

// explode runs a case in which the party's message number at, over all its
// channels, panics, and returns how many messages there were. With at -1 all
// goes well.
func explode(t *testing.T, def job.Definition, c Case, b job.Bench, id session.PartyID, receiving bool, at int64) map[place]*atomic.Int64 {
	t.Helper()
	ids := partyIDs(b.Spec)
	counts := make(map[place]*atomic.Int64)
	for _, p := range ids {
		counts[place{p, false}], counts[place{p, true}] = new(atomic.Int64), new(atomic.Int64)
	}
	where := fmt.Sprintf("%s, receiving %v, message %d", id, receiving, at)
	network := session.NewPipeNetwork(4)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, p := range ids {
		party, err := prepare(ctx, def, c, b, p)
		if err != nil {
			t.Fatal(err)
		}
		defer party.close()
		open := network.Opener(p)
		wg.Go(func() {
			var err error
			defer func() {
				got := errgroup.Recovered(recover())
				switch {
				case p != id:
				case got == nil:
					t.Errorf("%s: no panic, %v", where, err)
				case got.Value != errPlanted:
					t.Errorf("%s: %v", where, got)
				}
				if got != nil || err != nil {
					cancel(fmt.Errorf("%s has failed", p)) // as a node's link ends
				}
				if at < 0 && err != nil {
					t.Errorf("%s: %v", p, err)
				}
			}()
			_, err = party.run(ctx, func(ctx context.Context, peer session.PartyID, label string) (session.Channel, error) {
				ch, err := open(ctx, peer, label)
				mine := &mined{Channel: ch, sends: counts[place{p, false}], recvs: counts[place{p, true}], onSend: -1, onRecv: -1}
				switch {
				case p == id && receiving:
					mine.onRecv = at
				case p == id:
					mine.onSend = at
				}
				return mine, err
			})
		})
	}
	wg.Wait()
	return counts
}

// mined panics at one of its party's messages.
type mined struct {
	session.Channel
	sends, recvs   *atomic.Int64 // of the party
	onSend, onRecv int64
}

func (c *mined) Send(ctx context.Context, p []byte) error {
	if c.sends.Add(1)-1 == c.onSend {
		panic(errPlanted)
	}
	return c.Channel.Send(ctx, p)
}

func (c *mined) Recv(ctx context.Context) ([]byte, error) {
	p, err := c.Channel.Recv(ctx)
	if err == nil && c.recvs.Add(1)-1 == c.onRecv {
		panic(errPlanted)
	}
	return p, err
}
