package secagg

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// sum is a part that computes the steps given, with the party's vector of ones.
func sum(w *world, to []session.PartyID, steps ...string) func(context.Context, int, *Engine) error {
	return func(ctx context.Context, i int, e *Engine) error {
		for _, step := range steps {
			v := share.Vector{}
			if i < w.contributors {
				v = share.NewVector(w.shape)
			}
			if _, err := e.Sum(ctx, step, w.shape, v, to); err != nil {
				return err
			}
		}
		return nil
	}
}

// sets is the body of a survivors message.
func sets(survivors, dropped set) []byte { return appendSets(nil, survivors, dropped) }

// A coordinator that asks for what it may not have is refused by everyone it
// asks, with an error that names it, and nobody reveals a share. Both where it
// is a contributor (p0) and where it only receives (p5).
func TestLyingCoordinator(t *testing.T) {
	all := firstN(5)
	for name, c := range map[string]struct {
		kind kind
		ask  func(to string) []byte // nil: the truth
		want string
	}{
		"both shares of one":           {kindSurvivors, func(string) []byte { return sets(all, setOf(3)) }, "both shares of 1 contributors"},
		"both shares of all":           {kindSurvivors, func(string) []byte { return sets(all, all) }, "both shares of 5 contributors"},
		"no share of one":              {kindSurvivors, func(string) []byte { return sets(all.without(setOf(3)), 0) }, "not those of the roster"},
		"below the threshold":          {kindSurvivors, func(string) []byte { return sets(firstN(2)|setOf(3), setOf(2)|setOf(4)) }, "below the threshold 4"},
		"nobody":                       {kindSurvivors, func(string) []byte { return sets(0, all) }, "below the threshold 4"},
		"a party that there is not":    {kindSurvivors, func(string) []byte { return sets(all|setOf(9), 0) }, "a party that cannot be in it"},
		"too short":                    {kindSurvivors, func(string) []byte { return sets(all, 0)[:15] }, "want 16"},
		"a roster below the threshold": {kindRoster, func(string) []byte { return appendSets(nil, firstN(3)) }, ""},
		"different sets": {kindSurvivors, func(to string) []byte {
			if to == "p1" || to == "p2" {
				return sets(all.without(setOf(4)), setOf(4))
			}
			return nil
		}, "it told another"},
	} {
		for _, coordinator := range []int{0, 5} {
			w := &world{contributors: 5, receivers: 1, threshold: 4, shape: share.Shape{Narrow: 10}}
			ids := w.ids()
			w.wrap = outgoing(coordinator, func(to session.PartyID, k kind, body []byte) [][]byte {
				if b := c.ask(string(to)); k == c.kind && b != nil {
					body = b
				}
				return [][]byte{body}
			})
			var v views
			v.record(w)
			errs := w.run(t, sum(w, ids[coordinator:coordinator+1], "counts"))
			named := 0
			for i, err := range errs[:5] {
				if i == coordinator {
					continue
				}
				var p *PeerError
				if errors.As(err, &p) && p.Party == ids[coordinator] && p.Step == "counts" && errors.Is(err, ErrPeer) && strings.Contains(err.Error(), c.want) {
					named++
					if c.kind == kindSurvivors && c.want != "want 16" && !strings.Contains(c.want, "cannot") && !errors.Is(err, ErrSurvivors) {
						t.Errorf("%s: p%d: %v is no ErrSurvivors", name, i, err)
					}
				} else if !errors.Is(err, ErrLost) { // of those who only see the others go
					t.Errorf("%s: p%d: %v", name, i, err)
				}
			}
			if named == 0 {
				t.Errorf("%s, by p%d: nobody names it: %v", name, coordinator, errs)
			}
			if n := v.sent("", "", kindReveal); n != 0 && c.want != "it told another" {
				t.Errorf("%s, by p%d: %d messages with shares", name, coordinator, n)
			}
			// Those who find out first leave the others below the threshold.
			if n := v.sent("", "", kindReveal); n >= w.threshold {
				t.Errorf("%s, by p%d: %d messages with shares", name, coordinator, n)
			}
		}
	}
}

// Where the coordinator has one contributor mask for another roster, and this
// one is gone before it can say so, no aggregator takes what is left for a sum.
func TestDifferentRosters(t *testing.T) {
	w := &world{contributors: 5, receivers: 2, threshold: 4, shape: share.Shape{Narrow: 10}}
	w.wrap = outgoing(5, func(to session.PartyID, k kind, body []byte) [][]byte {
		if to == "p1" && k == kindRoster {
			body = appendSets(nil, firstN(5).without(setOf(4)))
		}
		return [][]byte{body}
	})
	errs := w.run(t, sum(w, w.ids()[5:], "counts"))
	var p *PeerError
	if !errors.As(errs[1], &p) || p.Party != "p5" {
		t.Errorf("p1: %v", errs[1])
	}
	for i, err := range errs[5:] {
		if !errors.Is(err, ErrMasks) {
			t.Errorf("p%d: %v", 5+i, err)
		}
	}
}

// A coordinator, itself a contributor, that tells each half of the others that
// the other half is lost gets shares from one half at most. From both it would
// have both masks of everybody.
func TestDisjointSets(t *testing.T) {
	w := &world{contributors: 5, threshold: 3, shape: share.Shape{Narrow: 10}}
	ids := w.ids()
	halves := []set{setOf(0) | setOf(1), setOf(2) | setOf(3)}
	var v views
	v.record(w)
	w.run(t, func(ctx context.Context, i int, e *Engine) error {
		if i != 4 {
			return sum(w, ids[4:], "counts")(ctx, i, e)
		}
		st, err := e.newStep("counts", w.shape, share.NewVector(w.shape), ids[4:])
		if err != nil {
			return err
		}
		for _, do := range []func(context.Context) error{
			st.deal, st.agreeRoster,
			func(ctx context.Context) error { return st.exchangeInputs(ctx, share.NewVector(w.shape)) },
		} {
			if err := do(ctx); err != nil {
				return err
			}
		}
		var tasks []task
		for _, half := range halves {
			told := &echo{roster: st.roster, survivors: half | setOf(4)}
			for k := range st.roster.all() {
				told.digests = append(told.digests, st.deals[k].digest)
			}
			for _, l := range st.contributors(half) {
				tasks = append(tasks, task{l, func(ctx context.Context) error {
					if err := l.send(ctx, kindSurvivors, &st.tag, newFrame(sets(told.survivors, st.roster.without(told.survivors)))); err != nil {
						return nil
					}
					_ = l.send(ctx, kindEcho, &st.tag, newFrame(told.append(nil)))
					for _, k := range []kind{kindEcho, kindReveal} {
						if _, err := l.receive(ctx, k, st); err != nil {
							return nil // it has found out
						}
					}
					return nil
				}})
			}
		}
		return together(ctx, tasks)
	})
	var revealed [2]int
	for k, half := range halves {
		for i := range half.all() {
			revealed[k] += v.sent(ids[i], ids[4], kindReveal)
		}
	}
	if revealed[0] > 0 && revealed[1] > 0 {
		t.Errorf("%d and %d contributors of the two halves revealed shares", revealed[0], revealed[1])
	}
}

// The fewest that may be included count beside the threshold.
func TestTooFewIncluded(t *testing.T) {
	w := &world{contributors: 5, receivers: 1, threshold: 3, least: 4, shape: share.Shape{Narrow: 10}}
	w.wrap = outgoing(5, func(_ session.PartyID, k kind, body []byte) [][]byte {
		if k == kindSurvivors {
			body = sets(firstN(3), setOf(3)|setOf(4))
		}
		return [][]byte{body}
	})
	for i, err := range w.run(t, sum(w, w.ids()[5:], "counts"))[:5] {
		var p *PeerError
		if !errors.As(err, &p) || p.Party != "p5" || !errors.Is(err, ErrSurvivors) || !strings.Contains(err.Error(), "at least 4") {
			t.Errorf("p%d: %v", i, err)
		}
	}
}

// A second set, of the same step or the next, opens nothing.
func TestSecondSet(t *testing.T) {
	other := sets(firstN(4), setOf(4))
	for _, coordinator := range []int{0, 5} {
		w := &world{contributors: 5, receivers: 1, threshold: 3, shape: share.Shape{Narrow: 10}, sums: 2}
		ids := w.ids()
		to := ids[coordinator : coordinator+1]
		w.wrap = outgoing(coordinator, func(_ session.PartyID, k kind, body []byte) [][]byte {
			if k == kindSurvivors {
				return [][]byte{body, other} // with the number of the first
			}
			return [][]byte{body}
		})
		var v views
		v.record(w)
		named := 0
		for _, err := range w.run(t, sum(w, to, "counts", "measures")) {
			var p *PeerError
			if errors.As(err, &p) && p.Party == ids[coordinator] {
				named++
			}
		}
		if named == 0 {
			t.Errorf("nobody names p%d", coordinator)
		}
		for _, id := range ids[:5] {
			if n := v.sent(id, ids[coordinator], kindReveal); n > 1 {
				t.Errorf("%s revealed shares %d times", id, n)
			}
		}
	}
	// The next step, over other contributors than the first.
	w := &world{contributors: 5, receivers: 1, threshold: 3, shape: share.Shape{Narrow: 10}, sums: 2}
	var mu sync.Mutex
	asked := map[session.PartyID]int{}
	w.wrap = outgoing(5, func(to session.PartyID, k kind, body []byte) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		if k == kindSurvivors {
			if asked[to]++; asked[to] == 2 {
				body = other
			}
		}
		return [][]byte{body}
	})
	for i, err := range w.run(t, sum(w, w.ids()[5:], "counts", "measures"))[:4] {
		var p *PeerError
		if !errors.As(err, &p) || p.Party != "p5" || p.Step != "measures" || !errors.Is(err, ErrSurvivors) {
			t.Errorf("p%d: %v", i, err)
		}
	}
}

// What a contributor deals and reveals is held to what it announced.
func TestForgedDealsAndShares(t *testing.T) {
	stranger, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) func(session.PartyID, []byte) []byte {
		return func(_ session.PartyID, b []byte) []byte {
			b[(at+len(b))%len(b)] ^= 1
			return b
		}
	}
	key := func(key []byte) func(session.PartyID, []byte) []byte {
		return func(_ session.PartyID, b []byte) []byte {
			copy(b, key)
			return b
		}
	}
	bytesOf := func(first, rest, last byte) []byte {
		b := bytes.Repeat([]byte{rest}, 32)
		b[0], b[31] = first, last
		return b
	}
	for name, c := range map[string]struct {
		kind  kind
		forge func(to session.PartyID, body []byte) []byte
		who   []int // those who find out
		want  string
	}{
		"low order: 0":          {kindDeal, key(make([]byte, 32)), []int{0, 1, 3, 4}, "low order"},
		"low order: 1":          {kindDeal, key(bytesOf(1, 0, 0)), []int{0, 1, 3, 4}, "low order"},
		"low order: -1":         {kindDeal, key(bytesOf(0xec, 0xff, 0x7f)), []int{0, 1, 3, 4}, "low order"},
		"not canonical: p":      {kindDeal, key(bytesOf(0xed, 0xff, 0x7f)), []int{0, 1, 3, 4, 5}, "canonically"},
		"not canonical: p+1":    {kindDeal, key(bytesOf(0xee, 0xff, 0x7f)), []int{0, 1, 3, 4, 5}, "canonically"},
		"not canonical: bit":    {kindDeal, key(bytesOf(9, 0, 0x80)), []int{0, 1, 3, 4, 5}, "canonically"},
		"a share of a key":      {kindDeal, flip(-1), []int{0, 1, 3, 4}, "not the one it announced"},
		"a share of a seed":     {kindDeal, flip(-40), []int{0, 1, 3, 4}, "not the one it announced"},
		"another key to one":    {kindDeal, forOne("p3", key(stranger.PublicKey().Bytes())), []int{0, 1, 3, 4}, "other keys"},
		"another digest to one": {kindDeal, forOne("p3", flip(40)), []int{0, 1, 3, 4}, "other keys"},
		"a share, revealed":     {kindReveal, flip(-1), []int{5}, "is not the one dealt"},
		"an index, revealed": {kindReveal, func(_ session.PartyID, b []byte) []byte {
			s := b[digestSize:]
			return slices.Concat(b[:digestSize], s[secretSize:2*secretSize], s[:secretSize], s[2*secretSize:])
		}, []int{5}, "is not the one dealt"},
		"shares of another set":  {kindReveal, flip(0), []int{5}, "another set"},
		"too many shares":        {kindReveal, func(_ session.PartyID, b []byte) []byte { return append(b, make([]byte, 32)...) }, []int{5}, "want"},
		"an input cut short":     {kindInput, func(_ session.PartyID, b []byte) []byte { return b[:len(b)-4] }, []int{5}, "masked vector"},
		"an input too long":      {kindInput, func(_ session.PartyID, b []byte) []byte { return append(b, 0, 0, 0, 0) }, []int{5}, "masked vector"},
		"an echo of other keys":  {kindEcho, flip(-1), []int{0, 1, 3, 4}, ""},
		"an echo of another set": {kindEcho, flip(8), []int{0, 1, 3, 4}, ""},
		"a set in ready":         {kindReady, func(_ session.PartyID, b []byte) []byte { b[7] = 1; return b }, []int{5}, "cannot be in it"},
		"other included":         {kindReady, func(_ session.PartyID, b []byte) []byte { b[8] = 1; return b }, []int{5}, "included"},
	} {
		w := &world{contributors: 5, receivers: 1, threshold: 5, shape: share.Shape{Narrow: 10}}
		w.wrap = outgoing(2, func(to session.PartyID, k kind, body []byte) [][]byte {
			if k == c.kind {
				body = c.forge(to, body)
			}
			return [][]byte{body}
		})
		errs := w.run(t, sum(w, w.ids()[5:], "counts"))
		named := 0
		for i, err := range errs {
			var p *PeerError
			switch {
			case i == 2 || errors.Is(err, ErrLost) || err == nil && c.kind == kindReveal:
			case errors.As(err, &p) && p.Step == "counts" && strings.Contains(err.Error(), c.want) && slices.Contains(c.who, i):
				if p.Party == "p2" || name == "an echo of other keys" && p.Party == "p4" || name == "an echo of another set" && p.Party == "p5" {
					named++
				} else {
					t.Errorf("%s: p%d names %s: %v", name, i, p.Party, err)
				}
			default:
				t.Errorf("%s: p%d: %v", name, i, err)
			}
		}
		if named == 0 {
			t.Errorf("%s: nobody names p2: %v", name, errs)
		}
	}
}

func forOne(id session.PartyID, forge func(session.PartyID, []byte) []byte) func(session.PartyID, []byte) []byte {
	return func(to session.PartyID, b []byte) []byte {
		if to == id {
			return forge(to, b)
		}
		return b
	}
}

// A dealer whose announced shares are not of what it announced is found when
// they are put together: the seed of a survivor, or the key of one dropped.
func TestInconsistentDealer(t *testing.T) {
	for kind, want := range map[shareKind]string{ofSeed: "another seed", ofKey: "another key"} {
		w := &world{contributors: 4, receivers: 1, threshold: 3, shape: share.Shape{Narrow: 10}}
		ids := w.ids()
		errs := w.run(t, func(ctx context.Context, i int, e *Engine) error {
			if i != 1 {
				return sum(w, ids[4:], "counts")(ctx, i, e)
			}
			st, err := e.newStep("counts", w.shape, share.NewVector(w.shape), ids[4:])
			if err != nil {
				return err
			}
			d, shares, _, err := st.draw()
			if err != nil {
				return err
			}
			// Each holder sees what was announced; all together it is another secret.
			shares[kind][0][5] ^= 1
			d.shareDigest[kind][0] = st.shareDigest(kind, 1, 0, &shares[kind][0])
			d.shares[kind] = shares[kind][1]
			d.seal(&st.tag, 1)
			if err := dealBy(ctx, st, d, shares); err != nil {
				return err
			}
			if err := st.agreeRoster(ctx); err != nil {
				return err
			}
			if kind == ofKey {
				return errors.New("gone before its input")
			}
			if err := st.exchangeInputs(ctx, share.NewVector(w.shape)); err != nil {
				return err
			}
			if err := st.agreeSurvivors(ctx); err != nil {
				return err
			}
			if err := st.confirm(ctx); err != nil {
				return err
			}
			return st.reveal(ctx)
		})
		var p *PeerError
		if !errors.As(errs[4], &p) || p.Party != "p1" || !strings.Contains(p.Error(), want) {
			t.Errorf("%s: %v", want, errs[4])
		}
	}
}

// dealBy deals what it is given in place of what step.deal draws.
func dealBy(ctx context.Context, s *step, d *deal, shares [2][][secretSize]byte) error {
	s.deals[s.e.self] = d
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	var tasks []task
	for _, l := range s.both(s.candidates) {
		frame := newFrame(d.appendPublic(nil))
		if i := s.place(l); i >= 0 {
			frame = append(append(frame, shares[ofSeed][i][:]...), shares[ofKey][i][:]...)
		}
		tasks = append(tasks, task{l, func(ctx context.Context) error { return l.send(ctx, kindDeal, &s.tag, frame) }})
		if s.place(l) >= 0 {
			tasks = append(tasks, task{l, func(ctx context.Context) error {
				body, err := l.receive(ctx, kindDeal, s)
				if err != nil {
					return err
				}
				return s.take(l, body, private)
			}})
		}
	}
	return together(ctx, tasks)
}

// Messages that are repeated, swapped or of another step are refused wherever
// they occur.
func TestMessagesInOrder(t *testing.T) {
	type attack struct {
		name   string
		change func(n, at int, p []byte, held *[]byte) [][]byte
	}
	attacks := []attack{
		{"repeat", func(n, at int, p []byte, _ *[]byte) [][]byte {
			if n == at {
				return [][]byte{p, p}
			}
			return [][]byte{p}
		}},
		{"swap", func(n, at int, p []byte, held *[]byte) [][]byte {
			switch n {
			case at:
				*held = p
				return nil
			case at + 1:
				return [][]byte{p, *held}
			}
			return [][]byte{p}
		}},
		{"another step", func(n, at int, p []byte, _ *[]byte) [][]byte {
			if n == at {
				p[7] ^= 1
			}
			return [][]byte{p}
		}},
		{"unknown kind", func(n, at int, p []byte, _ *[]byte) [][]byte {
			if n == at {
				p[0] = 200
			}
			return [][]byte{p}
		}},
		{"empty", func(n, at int, p []byte, _ *[]byte) [][]byte {
			if n == at {
				return [][]byte{{}}
			}
			return [][]byte{p}
		}},
	}
	// Where the sender goes on without an answer; elsewhere a swap is a silence.
	swaps := map[int][]int{0: {3}, 1: {1, 3, 5}}
	for _, a := range attacks {
		// p1 is a contributor, p0 the coordinator; messages to the other, from
		// the first after the session's.
		for _, from := range []int{0, 1} {
			for at := 1; at <= 8; at++ {
				if a.name == "swap" && !slices.Contains(swaps[from], at) {
					continue
				}
				w := &world{contributors: 3, receivers: 0, shape: share.Shape{Narrow: chunkBytes/4 + 1}, sums: 1}
				ids := w.ids()
				n, held := 0, []byte(nil)
				w.wrap = func(i int, peer session.PartyID, ch session.Channel) session.Channel {
					if i != from || peer != ids[1-from] {
						return ch
					}
					return &tampering{ch, func(p []byte) [][]byte {
						n++
						return a.change(n-1, at, bytes.Clone(p), &held)
					}}
				}
				errs := w.run(t, sum(w, ids[:1], "counts"))
				if n <= at { // there is no such message
					noErrors(t, errs)
					continue
				}
				last := n == at+1 && a.name == "repeat" // nothing follows that would show it
				err := errs[1-from]
				var p *PeerError
				switch {
				case errors.As(err, &p) && p.Party == ids[from] && p.Step == "counts":
				case last && err == nil:
				default:
					t.Errorf("%s of message %d of p%d: %v", a.name, at, from, err)
				}
			}
		}
	}
}

type tampering struct {
	session.Channel
	change func([]byte) [][]byte
}

func (c *tampering) Send(ctx context.Context, p []byte) error {
	for _, q := range c.change(p) {
		if err := c.Channel.Send(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// Shares of a step are revealed once, whatever becomes of the engine: after a
// crash a new one with the same record refuses, and sends none.
func TestRevealedOnceAcrossEngines(t *testing.T) {
	records := make([]job.MemoryOnce, 4)
	w := &world{contributors: 3, receivers: 1, shape: share.Shape{Narrow: 4}, sums: 2, once: func(i int) Once { return &records[i] }}
	ids := w.ids()
	noErrors(t, w.run(t, sum(w, ids[3:], "counts")))
	var v views
	v.record(w)
	for i, err := range w.run(t, sum(w, ids[3:], "counts"))[:3] {
		if !errors.Is(err, ErrUsed) || !errors.Is(err, job.ErrDone) {
			t.Errorf("p%d: %v", i, err)
		}
	}
	if n := v.sent("", "", kindReveal); n != 0 {
		t.Errorf("%d messages with shares", n)
	}
	w.wrap = nil
	noErrors(t, w.run(t, sum(w, ids[3:], "measures")))
}

// A record that cannot be made keeps the shares at home.
func TestNothingIsRevealedWithoutARecord(t *testing.T) {
	broken := errors.New("the disk is full")
	w := &world{contributors: 3, receivers: 1, shape: share.Shape{Narrow: 4}, once: func(int) Once { return failing{broken} }}
	var v views
	v.record(w)
	for i, err := range w.run(t, sum(w, w.ids()[3:], "counts"))[:3] {
		if !errors.Is(err, broken) {
			t.Errorf("p%d: %v", i, err)
		}
	}
	if n := v.sent("", "", kindReveal); n != 0 {
		t.Errorf("%d messages with shares", n)
	}
}

type failing struct{ err error }

func (f failing) Once(context.Context, string) error { return f.err }

// Parties that mean different steps, shapes or receivers find out before
// anything is masked.
func TestPartiesMeanTheSameSum(t *testing.T) {
	for name, differ := range map[string]func(ctx context.Context, e *Engine, to []session.PartyID) error{
		"step": func(ctx context.Context, e *Engine, to []session.PartyID) error {
			_, err := e.Sum(ctx, "other", share.Shape{Narrow: 4}, share.NewVector(share.Shape{Narrow: 4}), to)
			return err
		},
		"shape": func(ctx context.Context, e *Engine, to []session.PartyID) error {
			_, err := e.Sum(ctx, "counts", share.Shape{Narrow: 3}, share.NewVector(share.Shape{Narrow: 3}), to)
			return err
		},
		"receivers": func(ctx context.Context, e *Engine, to []session.PartyID) error {
			_, err := e.Sum(ctx, "counts", share.Shape{Narrow: 4}, share.NewVector(share.Shape{Narrow: 4}), append(to, "p0"))
			return err
		},
	} {
		w := &world{contributors: 3, receivers: 1, shape: share.Shape{Narrow: 4}}
		ids := w.ids()
		var v views
		v.record(w)
		errs := w.run(t, func(ctx context.Context, i int, e *Engine) error {
			if i == 1 {
				return differ(ctx, e, slices.Clone(ids[3:]))
			}
			return sum(w, ids[3:], "counts")(ctx, i, e)
		})
		if i := slices.IndexFunc(errs, func(err error) bool {
			var p *PeerError
			return errors.As(err, &p) && strings.Contains(fmt.Sprint(err), "another step, shape or list")
		}); i < 0 {
			t.Errorf("%s: %v", name, errs)
		}
		if n := v.sent("", "", kindInput); n != 0 {
			t.Errorf("%s: %d masked messages were sent", name, n)
		}
	}
}
