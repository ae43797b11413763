package secagg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// world runs parties p0, p1, … over pipes of window 1. A party whose part ends
// with an error is lost to the others, as a node's connections end with its
// run.
type world struct {
	contributors int // p0, p1, …
	receivers    int // the parties after them
	threshold    int
	least        int // included
	sums         int
	shape        share.Shape // of all sums, at most
	once         func(i int) Once
	wrap         func(i int, peer session.PartyID, ch session.Channel) session.Channel
	rand         func(i int) io.Reader

	network *session.PipeNetwork
}

var worlds atomic.Int64

func (w *world) ids() []session.PartyID { return sessiontest.PartyIDs(w.contributors + w.receivers) }

// run gives every party an engine and waits for all.
func (w *world) run(t testing.TB, part func(ctx context.Context, i int, e *Engine) error) []error {
	t.Helper()
	ctx, stop := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("the run hung"))
	defer stop()
	w.network = session.NewPipeNetwork(1)
	id := fmt.Sprintf("secagg-%d", worlds.Add(1))
	errs := make([]error, len(w.ids()))
	var wg sync.WaitGroup
	for i := range w.ids() {
		wg.Go(func() {
			s, err := w.session(ctx, id, i)
			if err == nil {
				var e *Engine
				if e, err = New(ctx, s, w.params(i)); err == nil {
					err = part(ctx, i, e)
				}
				if err == nil {
					err = s.CloseSend()
				}
			}
			if errs[i] = err; err != nil {
				w.network.Drop(w.ids()[i])
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			t.Fatalf("p%d: %v", i, err)
		}
	}
	return errs
}

func (w *world) session(ctx context.Context, id string, i int) (*session.Session, error) {
	ids := w.ids()
	open := w.network.Opener(ids[i])
	cfg := session.Config{ID: id, Self: ids[i], Parties: ids, Open: open}
	if w.rand != nil {
		cfg.Rand = w.rand(i)
	}
	if w.wrap != nil {
		cfg.Open = func(ctx context.Context, peer session.PartyID, label string) (session.Channel, error) {
			ch, err := open(ctx, peer, label)
			if err != nil {
				return nil, err
			}
			return w.wrap(i, peer, ch), nil
		}
	}
	return session.New(ctx, cfg)
}

func (w *world) params(i int) Params {
	p := Params{
		Contributors: w.ids()[:w.contributors], Threshold: w.threshold, MinIncluded: w.least,
		Sums: max(w.sums, 1), MaxShape: w.shape, Once: &job.MemoryOnce{},
	}
	if w.once != nil {
		p.Once = w.once(i)
	}
	return p
}

// vectors returns one of random elements for each contributor.
func (w *world) vectors(rng *rand.Rand, shape share.Shape) []share.Vector {
	vs := make([]share.Vector, w.contributors+w.receivers)
	for i := range w.contributors {
		vs[i] = share.NewVector(shape)
		for k := range vs[i].Narrow {
			vs[i].Narrow[k] = rng.Uint32()
		}
		for k := range vs[i].Wide {
			vs[i].Wide[k] = rng.Uint64()
		}
		for k := range vs[i].Huge {
			vs[i].Huge[k] = share.SignedHuge(share.Word{Hi: rng.Uint64(), Lo: rng.Uint64()})
		}
	}
	return vs
}

// total is the ideal functionality: the sum over the included.
func (w *world) total(vs []share.Vector, included []session.PartyID, shape share.Shape) share.Vector {
	sum := share.NewVector(shape)
	for i, id := range w.ids()[:w.contributors] {
		if slices.Contains(included, id) {
			sum.Add(vs[i])
		}
	}
	for k := range sum.Huge {
		sum.Huge[k] = share.SignedHuge(sum.Huge[k])
	}
	return sum
}

func equal(a, b share.Vector) bool {
	return slices.Equal(a.Narrow, b.Narrow) && slices.Equal(a.Wide, b.Wide) && slices.Equal(a.Huge, b.Huge)
}

func noErrors(t testing.TB, errs []error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Errorf("p%d: %v", i, err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// outgoing puts what party i sends through change: every message of a sum, by
// its kind, with the header left as it is. What change returns is sent instead.
func outgoing(i int, change func(to session.PartyID, k kind, body []byte) [][]byte) func(int, session.PartyID, session.Channel) session.Channel {
	return func(self int, peer session.PartyID, ch session.Channel) session.Channel {
		if self != i {
			return ch
		}
		return sessiontest.Tamper(ch, func(n int, p []byte) [][]byte {
			if n == 0 { // the first frame is the session's
				return [][]byte{p}
			}
			var out [][]byte
			for _, body := range change(peer, kind(p[0]), p[headerSize:]) {
				out = append(out, append(p[:headerSize:headerSize], body...))
			}
			return out
		})
	}
}

// views records what all parties exchange.
type views struct {
	mu  sync.Mutex
	all map[sessiontest.Link]*sessiontest.View
}

func (v *views) record(w *world) {
	v.all = make(map[sessiontest.Link]*sessiontest.View)
	next := w.wrap
	w.wrap = func(i int, peer session.PartyID, ch session.Channel) session.Channel {
		if next != nil {
			ch = next(i, peer, ch)
		}
		view := new(sessiontest.View)
		v.mu.Lock()
		defer v.mu.Unlock()
		v.all[sessiontest.Link{Self: w.ids()[i], Peer: peer}] = view
		return sessiontest.Record(ch, view)
	}
}

// sent counts the messages of a kind that self sent to peer; blank means any.
func (v *views) sent(self, peer session.PartyID, k kind) (n int) {
	for l, view := range v.all {
		if (self == "" || l.Self == self) && (peer == "" || l.Peer == peer) {
			for _, p := range view.Sent()[1:] {
				if kind(p[0]) == k {
					n++
				}
			}
		}
	}
	return n
}
