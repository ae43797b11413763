package secagg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// doomed counts what a party sends or receives on all its channels, and loses
// the party as it is about to go past a number.
type doomed struct {
	session.Channel
	count *atomic.Int64
	at    int64
	recv  bool
	drop  func()
}

func (d *doomed) step() {
	if d.count.Add(1) > d.at {
		d.drop()
	}
}

func (d *doomed) Send(ctx context.Context, p []byte) error {
	if !d.recv {
		d.step()
	}
	return d.Channel.Send(ctx, p)
}

func (d *doomed) Recv(ctx context.Context) ([]byte, error) {
	p, err := d.Channel.Recv(ctx)
	if d.recv {
		d.step()
	}
	return p, err
}

// A party is lost after each message it sends, and after each that it
// receives, over two sums of which the first has a vector in several messages.
// Whatever the stage: either all that are left have the sum of the same
// contributors, or all fail with ErrLost, and nobody waits for the lost one.
func TestLostAtEveryStage(t *testing.T) {
	type outcome struct{ with, without, failed, second int }
	for _, c := range []struct {
		name                 string
		receivers, threshold int
		victim               int
		to                   []int
		may                  outcome // what has to occur at one stage or other
	}{
		{"a contributor of five, three suffice", 1, 3, 2, []int{5}, outcome{1, 1, 0, 1}},
		{"two aggregators, one of them lost", 0, 3, 4, []int{0, 4}, outcome{1, 1, 0, 1}},
		{"all are needed", 1, 5, 2, []int{5}, outcome{1, 0, 1, 1}},
		{"the coordinator", 0, 3, 0, []int{0, 4}, outcome{1, 0, 1, 1}},
		{"a second receiver", 2, 3, 6, []int{5, 6}, outcome{0, 1, 0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(3, uint64(c.victim)))
			shape := share.Shape{Narrow: chunkBytes/4 + 100, Wide: 10, Huge: 3}
			small := share.Shape{Narrow: 50}
			var seen outcome
			for _, recv := range []bool{false, true} {
				for at := int64(0); ; at++ {
					var count atomic.Int64
					w := &world{contributors: 5, receivers: c.receivers, threshold: c.threshold, shape: shape, sums: 2}
					ids := w.ids()
					w.wrap = func(i int, _ session.PartyID, ch session.Channel) session.Channel {
						if i != c.victim {
							return ch
						}
						return &doomed{ch, &count, at, recv, func() { w.network.Drop(ids[i]) }}
					}
					var to []session.PartyID
					for _, i := range c.to {
						to = append(to, ids[i])
					}
					vs, more := w.vectors(rng, shape), w.vectors(rng, small)
					sums, included := make([][]share.Vector, len(ids)), make([][]session.PartyID, len(ids))
					errs := w.run(t, func(ctx context.Context, i int, e *Engine) error {
						got, err := e.Sum(ctx, "counts", shape, vs[i], to)
						if err != nil {
							return err
						}
						sums[i], included[i] = append(sums[i], got), e.Included()
						got, err = e.Sum(ctx, "measures", small, more[i], to)
						if err == nil {
							sums[i] = append(sums[i], got)
						}
						return err
					})
					if count.Load() <= at { // it lived to the end
						noErrors(t, errs)
						break
					}
					fault := func(format string, a ...any) {
						t.Fatalf("lost after %d messages (received: %v): %s", at, recv, fmt.Sprintf(format, a...))
					}
					first := -1
					for i := range ids {
						if i == c.victim {
							continue
						}
						if errs[i] != nil && !errors.Is(errs[i], ErrLost) || errs[i] != nil && !errors.Is(errs[i], session.ErrGone) {
							fault("p%d: %v", i, errs[i])
						}
						if included[i] == nil {
							continue
						}
						if first < 0 {
							first = i
						}
						if !slices.Equal(included[i], included[first]) {
							fault("p%d counts %v, p%d %v", i, included[i], first, included[first])
						}
						if slices.Contains(to, ids[i]) && !equal(sums[i][0], w.total(vs, included[i], shape)) {
							fault("p%d has another sum", i)
						}
						if len(sums[i]) == 2 && slices.Contains(to, ids[i]) && !equal(sums[i][1], w.total(more, included[i], small)) {
							fault("p%d has another second sum", i)
						}
						if len(sums[i]) == 2 {
							seen.second++
						}
					}
					switch {
					case first < 0:
						seen.failed++
					case slices.Contains(included[first], ids[c.victim]):
						seen.with++
					default:
						seen.without++
					}
				}
			}
			t.Logf("first sum with it %d, without %d, failed %d; parties with a second sum %d", seen.with, seen.without, seen.failed, seen.second)
			if seen.with < c.may.with || seen.without < c.may.without || seen.failed < c.may.failed || seen.second < c.may.second {
				t.Errorf("%+v: not all outcomes occurred that should, %+v", seen, c.may)
			}
		})
	}
}

// cutEnd is one end of a link that fails for both its ends at once.
type cutEnd struct {
	session.Channel
	used func()
	cut  context.Context
}

func (c *cutEnd) within(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.cut, func() { cancel(session.ErrGone) })
	defer stop()
	if c.cut.Err() != nil {
		return session.ErrGone
	}
	return do(ctx)
}

func (c *cutEnd) Send(ctx context.Context, p []byte) error {
	c.used()
	return c.within(ctx, func(ctx context.Context) error { return c.Channel.Send(ctx, p) })
}

func (c *cutEnd) Recv(ctx context.Context) (p []byte, err error) {
	err = c.within(ctx, func(ctx context.Context) error {
		p, err = c.Channel.Recv(ctx)
		return err
	})
	return p, err
}

// A link between two parties fails, at any point, and both live on: whoever
// comes to a sum comes to that of the same contributors, nobody is blamed, and
// with one of two contributors left out the others go on.
func TestLinkLostAtEveryStage(t *testing.T) {
	for _, ends := range [][2]int{{1, 2}, {1, 6}, {1, 5}, {0, 1}, {0, 6}} { // 5 and 6 receive, 5 coordinates
		t.Run(fmt.Sprint(ends), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(9, uint64(ends[1])))
			shape := share.Shape{Narrow: 100}
			finished := 0
			for at := int64(0); ; at++ {
				w := &world{contributors: 5, receivers: 2, threshold: 3, shape: shape}
				ids := w.ids()
				cut, stop := context.WithCancel(t.Context())
				var count atomic.Int64
				w.wrap = func(i int, peer session.PartyID, ch session.Channel) session.Channel {
					if i == ends[0] && peer == ids[ends[1]] || i == ends[1] && peer == ids[ends[0]] {
						return &cutEnd{ch, func() {
							if count.Add(1) > at {
								stop()
							}
						}, cut}
					}
					return ch
				}
				vs := w.vectors(rng, shape)
				sums, included := make([]share.Vector, len(ids)), make([][]session.PartyID, len(ids))
				errs := w.run(t, func(ctx context.Context, i int, e *Engine) (err error) {
					sums[i], err = e.Sum(ctx, "counts", shape, vs[i], ids[5:])
					included[i] = e.Included()
					return err
				})
				stop()
				if count.Load() <= at {
					noErrors(t, errs)
					break
				}
				var first []session.PartyID
				for i, err := range errs {
					if err != nil && !errors.Is(err, ErrLost) {
						t.Fatalf("cut after %d messages: p%d: %v", at, i, err)
					}
					if err != nil {
						continue
					}
					if finished++; first == nil {
						first = included[i]
					}
					if !slices.Equal(included[i], first) || i >= 5 && !equal(sums[i], w.total(vs, first, shape)) {
						t.Fatalf("cut after %d messages: p%d has another sum, or of others", at, i)
					}
				}
			}
			if finished == 0 {
				t.Error("no party came to a sum")
			}
		})
	}
}

// The coordinator takes out as few contributors as it can, and never itself.
func TestChooseRoster(t *testing.T) {
	ids := (&world{contributors: 5, receivers: 2}).ids()
	all := firstN(5)
	for name, c := range map[string]struct {
		coordinator session.PartyID
		heard       map[session.PartyID]set
		want        []set // any of them
	}{
		"all have all":          {"p0", map[session.PartyID]set{"p0": all, "p1": all, "p2": all, "p3": all, "p4": all}, []set{all}},
		"one is not heard of":   {"p0", map[session.PartyID]set{"p0": all, "p1": all, "p2": all, "p4": all}, []set{all.without(setOf(3))}},
		"one is heard by half":  {"p0", map[session.PartyID]set{"p0": all, "p1": all.without(setOf(3)), "p2": all.without(setOf(3)), "p3": all, "p4": all}, []set{all.without(setOf(3))}},
		"two miss each other":   {"p0", map[session.PartyID]set{"p0": all, "p1": all.without(setOf(2)), "p2": all.without(setOf(1)), "p3": all, "p4": all}, []set{all.without(setOf(1)), all.without(setOf(2))}},
		"one misses the first":  {"p0", map[session.PartyID]set{"p0": all, "p1": all.without(setOf(0)), "p2": all, "p3": all, "p4": all}, []set{all.without(setOf(1))}},
		"one misses everybody":  {"p5", map[session.PartyID]set{"p5": all, "p0": setOf(0), "p1": all, "p2": all, "p3": all, "p4": all}, []set{all.without(setOf(0))}},
		"a receiver misses one": {"p5", map[session.PartyID]set{"p5": all, "p6": all.without(setOf(4)), "p0": all, "p1": all, "p2": all, "p3": all, "p4": all}, []set{all.without(setOf(4))}},
		"nobody":                {"p5", map[session.PartyID]set{"p5": all}, []set{0}},
	} {
		e := &Engine{p: Params{Contributors: ids[:5]}, index: map[session.PartyID]int{"p0": 0, "p1": 1, "p2": 2, "p3": 3, "p4": 4}}
		s := &step{e: e, candidates: all, coordinator: c.coordinator}
		if got := s.chooseRoster(c.heard); !slices.Contains(c.want, got) {
			t.Errorf("%s: %b, want one of %b", name, got, c.want)
		}
	}
}

// A peer that says nothing holds nobody beyond the end of the context.
func TestSilentPeer(t *testing.T) {
	ended := errors.New("ended by the caller")
	for _, silent := range []int{0, 1, 3} { // p3 coordinates
		w := &world{contributors: 3, receivers: 1, threshold: 2, least: 2, shape: share.Shape{Narrow: chunkBytes}}
		ctx, stop := context.WithCancelCause(t.Context())
		var waiting sync.WaitGroup // until every other party waits for its peers
		waiting.Add(3)
		w.wrap = func(i int, peer session.PartyID, ch session.Channel) session.Channel {
			if peer != w.ids()[silent] {
				return ch
			}
			return &announcing{ch, sync.OnceFunc(waiting.Done), 0, 0}
		}
		go func() {
			waiting.Wait()
			stop(ended)
		}()
		errs := w.run(t, func(run context.Context, i int, e *Engine) error {
			within, end := context.WithCancelCause(run)
			defer context.AfterFunc(ctx, func() { end(context.Cause(ctx)) })()
			if i == silent {
				<-within.Done()
				return nil
			}
			return sum(w, w.ids()[3:], "counts")(within, i, e)
		})
		if !slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, ended) }) {
			t.Errorf("p%d silent: nobody ended with the context: %v", silent, errs)
		}
		for i, err := range errs {
			// Others may see those go first who were told first.
			if i != silent && !errors.Is(err, ended) && !errors.Is(err, ErrLost) {
				t.Errorf("p%d silent: p%d: %v", silent, i, err)
			}
		}
	}
}

// announcing says when its owner is about to send or receive something after
// the session's own message.
type announcing struct {
	session.Channel
	waits          func()
	received, sent int
}

func (c *announcing) Recv(ctx context.Context) ([]byte, error) {
	if c.received++; c.received > 1 {
		c.waits()
	}
	return c.Channel.Recv(ctx)
}

func (c *announcing) Send(ctx context.Context, p []byte) error {
	if c.sent++; c.sent > 1 {
		c.waits()
	}
	return c.Channel.Send(ctx, p)
}
