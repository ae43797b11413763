package hesum

import (
	"context"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// once is a durable record that outlives engines.
type once struct {
	mu   sync.Mutex
	seen map[string]bool
	keys []string
}

var errOnce = errors.New("done before")

func (o *once) Once(_ context.Context, key string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[key] {
		return errOnce
	}
	if o.seen == nil {
		o.seen = make(map[string]bool)
	}
	o.seen[key] = true
	o.keys = append(o.keys, key)
	return nil
}

// script runs one party; the engine is nil where New is part of the script.
type script func(ctx context.Context, s *session.Session) error

var runs atomic.Int64

// cluster runs parties over pipes of window 1. A party that ends with an error
// is lost to all others at once, as one whose process ends; a party that ends
// well ends its messages.
type cluster struct {
	parties int
	id      string // of the session; blank is a new one
	// wrap may put something between a party and its channel.
	wrap func(l sessiontest.Link, ch session.Channel) session.Channel
	rand func(i int) io.Reader
	net  *session.PipeNetwork
}

func (c *cluster) run(t testing.TB, part func(i int) script) []error {
	t.Helper()
	ids := sessiontest.PartyIDs(c.parties)
	if c.id == "" {
		c.id = "hesum-" + strconv.FormatInt(runs.Add(1), 10)
	}
	c.net = session.NewPipeNetwork(1)
	hung := errors.New("the run hung")
	ctx, stop := context.WithTimeoutCause(t.Context(), 60*time.Second, hung)
	defer stop()
	errs := make([]error, c.parties)
	sessions := make([]*session.Session, c.parties)
	for i, id := range ids {
		open := c.net.Opener(id)
		if c.wrap != nil {
			inner := open
			open = func(ctx context.Context, peer session.PartyID, label string) (session.Channel, error) {
				ch, err := inner(ctx, peer, label)
				if err != nil {
					return nil, err
				}
				return c.wrap(sessiontest.Link{Self: id, Peer: peer, Label: label}, ch), nil
			}
		}
		cfg := session.Config{ID: c.id, Self: id, Parties: ids, Open: open}
		if c.rand != nil {
			cfg.Rand = c.rand(i)
		}
		s, err := session.New(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		sessions[i] = s
	}
	var wg sync.WaitGroup
	for i, s := range sessions {
		wg.Go(func() {
			errs[i] = part(i)(ctx, s)
			if errs[i] != nil {
				c.net.Drop(ids[i])
				return
			}
			errs[i] = s.CloseSend()
		})
	}
	wg.Wait()
	for i, err := range errs {
		if errors.Is(err, hung) {
			t.Fatalf("p%d hung", i)
		}
	}
	return errs
}

// setup is what the parties of a test do: parties of which the first are
// contributors.
type setup struct {
	parties, contributors, threshold int
	shape                            share.Shape
	to                               [][]int // of each sum
	minIncluded                      int     // 0 is 2
}

func (c setup) params(o *once) Params {
	return Params{
		Contributors: sessiontest.PartyIDs(c.parties)[:c.contributors], Threshold: c.threshold, Sums: len(c.to), MaxShape: c.shape,
		Once: o, MinIncluded: max(c.minIncluded, 2),
	}
}

// outcome is what one party has at the end: a sum for each step, until an error.
type outcome struct {
	sums     []share.Vector
	included []session.PartyID
	err      error
}

// honest returns a party's honest script, and fills in its outcome. before, if
// not nil, is called before each sum.
func (c setup) honest(i int, o *once, inputs []share.Vector, out *outcome, before func(step int)) script {
	return func(ctx context.Context, s *session.Session) (err error) {
		defer func() { out.err = err }()
		e, err := New(ctx, s, c.params(o))
		if err != nil {
			return err
		}
		for k, to := range c.to {
			if before != nil {
				before(k)
			}
			v := share.Vector{}
			if i < c.contributors {
				v = times(inputs[i], k+1)
			}
			sum, err := e.Sum(ctx, stepName(k), c.shape, v, named(to))
			if err != nil {
				return err
			}
			out.sums = append(out.sums, sum)
			out.included = e.Included()
		}
		return nil
	}
}

func stepName(k int) string { return fmt.Sprintf("step %d", k) }

func named(to []int) []session.PartyID {
	var ids []session.PartyID
	for _, i := range to {
		ids = append(ids, session.PartyID("p"+strconv.Itoa(i)))
	}
	return ids
}

// times returns v added up k times: what a party puts into its k-th sum.
func times(v share.Vector, k int) share.Vector {
	sum := share.NewVector(v.Shape())
	for range k {
		sum.Add(v)
	}
	return sum
}

// oracle is the ideal functionality: the sum of those included.
func (c setup) oracle(inputs []share.Vector, included []session.PartyID, step int) share.Vector {
	sum := share.NewVector(c.shape)
	for i, id := range sessiontest.PartyIDs(c.contributors) {
		if slices.Contains(included, id) {
			sum.Add(times(inputs[i], step+1))
		}
	}
	return sum
}

func equal(v, w share.Vector) bool {
	same := slices.Equal(v.Narrow, w.Narrow) && slices.Equal(v.Wide, w.Wide) && len(v.Huge) == len(w.Huge)
	for i := range v.Huge {
		same = same && share.SignedHuge(v.Huge[i]) == share.SignedHuge(w.Huge[i])
	}
	return same
}

// random returns a vector for each contributor, values all over the ring.
func (c setup) random(seed uint64) []share.Vector {
	r := mrand.New(mrand.NewPCG(seed, 2))
	all := make([]share.Vector, c.contributors)
	for i := range all {
		all[i] = share.NewVector(c.shape)
		for j := range all[i].Narrow {
			all[i].Narrow[j] = r.Uint32()
		}
		for j := range all[i].Wide {
			all[i].Wide[j] = r.Uint64()
		}
		for j := range all[i].Huge {
			all[i].Huge[j] = share.Word{Hi: uint64(r.Uint32()), Lo: r.Uint64()}
		}
	}
	return all
}

// run runs all parties honestly, over a cluster that may tamper.
func (c setup) run(t testing.TB, net *cluster, inputs []share.Vector) []outcome {
	t.Helper()
	net.parties = c.parties
	outs := make([]outcome, c.parties)
	net.run(t, func(i int) script { return c.honest(i, new(once), inputs, &outs[i], nil) })
	return outs
}

// check holds one party's outcome against the oracle: no error, the sums that it
// was to have and no others, of those included.
func (c setup) check(t testing.TB, i int, out outcome, inputs []share.Vector, included []session.PartyID) {
	t.Helper()
	if out.err != nil {
		t.Errorf("p%d: %v", i, out.err)
		return
	}
	for k, to := range c.to {
		want := share.Vector{}
		if slices.Contains(to, i) {
			want = c.oracle(inputs, included, k)
		}
		if !equal(out.sums[k], want) {
			t.Errorf("p%d has another sum of step %d than the plaintext gives, or one it should not have", i, k)
		}
		if took := i < c.contributors || slices.Contains(to, i); took && !slices.Equal(out.included, included) {
			t.Errorf("p%d has %v included, want %v", i, out.included, included)
		}
	}
}

// first returns p0 … but those left out.
func without(n int, absent ...int) []session.PartyID {
	ids := sessiontest.PartyIDs(n)
	return slices.DeleteFunc(ids, func(p session.PartyID) bool { return slices.Contains(named(absent), p) })
}
