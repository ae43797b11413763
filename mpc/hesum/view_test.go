package hesum

import (
	"bytes"
	"context"
	"errors"
	mrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// TestViews: every party gets exactly the messages of the diagram, and shares
// reach nobody but those who are to have the sum.
func TestViews(t *testing.T) {
	n, k := allOfThree, threeOfFour
	n.parties, n.to = 4, [][]int{{3}}
	k.to = [][]int{{1, 4}}
	narrowAndHuge := []kind{kindVector, kindVector, kindVector} // a huge one takes two frames
	for name, x := range map[string]struct {
		setup
		// What p1 and the last party, which only receives, get from p2 and from p0.
		peer, receiver, coordinatorToPeer, coordinatorToReceiver []kind
	}{
		"n of n": {
			n,
			slices.Concat([]kind{kindCommit, kindReveal, kindPledge, kindPart, kindEcho, kindPledge}, narrowAndHuge, []kind{kindEcho}),
			slices.Concat(narrowAndHuge, []kind{kindEcho, kindShare, kindShare}),
			slices.Concat([]kind{kindCommit, kindReveal, kindPledge, kindPart, kindEcho, kindPledge}, narrowAndHuge, []kind{kindEcho}),
			slices.Concat(narrowAndHuge, []kind{kindEcho, kindShare, kindShare}),
		},
		"t of n": {
			k,
			[]kind{
				kindCommit, kindReveal, kindReport, kindEcho, kindPledge, kindPart, kindPiece, kindReport, kindEcho,
				kindPledge, kindPledges, kindVector, kindReport, kindEcho, kindShare,
			},
			[]kind{kindVector, kindReport, kindEcho, kindShare},
			[]kind{
				kindCommit, kindReveal, kindReport, kindDecision, kindEcho, kindPledge, kindPart, kindPiece, kindReport, kindDecision, kindEcho,
				kindPledge, kindPledges, kindVector, kindReport, kindDecision, kindEcho, kindShare,
			},
			[]kind{kindVector, kindReport, kindDecision, kindEcho, kindShare},
		},
	} {
		c := x.setup
		inputs := c.random(30)
		var v views
		for i, out := range c.run(t, &cluster{wrap: v.wrap}, inputs) {
			c.check(t, i, out, inputs, without(c.contributors))
		}
		last := sessiontest.PartyIDs(c.parties)[c.parties-1]
		for _, y := range []struct {
			from, to session.PartyID
			want     []kind
		}{{"p2", "p1", x.peer}, {"p2", last, x.receiver}, {"p0", "p1", x.coordinatorToPeer}, {"p0", last, x.coordinatorToReceiver}} {
			if got := v.kinds(y.from, y.to); !slices.Equal(got, y.want) {
				t.Errorf("%s: %s sends %s %v, want %v", name, y.from, y.to, got, y.want)
			}
		}
		for _, to := range sessiontest.PartyIDs(c.parties) {
			for _, from := range sessiontest.PartyIDs(c.parties) {
				shares := len(v.sent(from, to, kindShare))
				if shares != 0 && !slices.Contains(named(c.to[0]), to) {
					t.Errorf("%s: %s gets %d shares and is no recipient", name, to, shares)
				}
			}
		}
		if got := v.kinds(last, "p0"); slices.Contains(got, kindVector) || slices.Contains(got, kindShare) {
			t.Errorf("%s: a party without input sends %v", name, got)
		}
	}
}

// kinds lists the kinds of the frames from one party to another.
func (v *views) kinds(from, to session.PartyID) []kind {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []kind
	for _, p := range v.all[sessiontest.Link{Self: from, Peer: to}] {
		all = append(all, kind(p[1]))
	}
	return all
}

// TestMessagesDoNotDependOnValues: kinds and lengths are the same whatever is
// summed, and no two runs send the same ciphertext.
func TestMessagesDoNotDependOnValues(t *testing.T) {
	c := setup{3, 3, 2, share.Shape{Narrow: 3, Wide: 1}, [][]int{{0}}, 0}
	var first, second views
	zero := make([]share.Vector, 3)
	for i := range zero {
		zero[i] = share.NewVector(c.shape)
	}
	c.run(t, &cluster{wrap: first.wrap}, zero)
	c.run(t, &cluster{wrap: second.wrap}, c.random(31))
	for l, a := range first.all {
		b := second.all[l]
		if len(a) != len(b) {
			t.Fatalf("%v: %d and %d frames", l, len(a), len(b))
		}
		for i := range a {
			if len(a[i]) != len(b[i]) || a[i][1] != b[i][1] {
				t.Errorf("%v, frame %d: kinds %d and %d of %d and %d bytes", l, i, a[i][1], b[i][1], len(a[i]), len(b[i]))
			}
			if kind(a[i][1]) != kindReport && kind(a[i][1]) != kindDecision && bytes.Equal(a[i][headerSize:], b[i][headerSize:]) {
				t.Errorf("%v, frame %d: two runs send the same %v", l, i, kind(a[i][1]))
			}
		}
	}
}

// TestRandomShapes compares sums of random shapes, parties and recipients with
// the plaintext, values anywhere in the rings.
func TestRandomShapes(t *testing.T) {
	for seed := range uint64(24) {
		r := mrand.New(mrand.NewPCG(seed, 33))
		pick := func(from ...int) int { return from[r.IntN(len(from))] }
		n := 2 + r.IntN(4)
		c := setup{
			parties: n + r.IntN(3), contributors: n, threshold: 2 + r.IntN(n-1),
			shape: share.Shape{Narrow: pick(1, 7, 4096, 4097, 9000), Wide: pick(0, 0, 0, 3, 8193), Huge: pick(0, 0, 0, 2)},
		}
		if r.IntN(4) == 0 {
			c.shape = share.Shape{Huge: 1}
		}
		for range 1 + r.IntN(2) {
			to := r.Perm(c.parties)[:1+r.IntN(c.parties)]
			c.to = append(c.to, to)
		}
		inputs := c.random(seed)
		for i, out := range c.run(t, new(cluster), inputs) {
			c.check(t, i, out, inputs, without(n))
		}
		if t.Failed() {
			t.Fatalf("seed %d: %+v", seed, c)
		}
	}
}

// TestBounds: sums at both ends of every ring, and just below where they wrap.
func TestBounds(t *testing.T) {
	c := setup{3, 3, 3, share.Shape{Narrow: 4, Wide: 4, Huge: 4}, [][]int{{0}}, 0}
	inputs := make([]share.Vector, 3)
	for i := range inputs {
		inputs[i] = share.NewVector(c.shape)
	}
	// By element: the largest sum, the smallest, minus one, and zero from both sides.
	set := func(i, at int, narrow int32, wide int64, huge share.Word) {
		inputs[i].Narrow[at], inputs[i].Wide[at], inputs[i].Huge[at] = uint32(narrow), uint64(wide), huge
	}
	top := share.Word{Hi: 1<<31 - 1, Lo: ^uint64(0)} // 2^95 - 1
	set(0, 0, 1<<31-1-5, 1<<63-1-5, top.Sub(share.FromInt64(5)))
	set(1, 0, 7, 7, share.FromInt64(7))
	set(2, 0, -2, -2, share.FromInt64(-2))
	set(0, 1, -1<<31+5, -1<<63+5, top.Neg().Add(share.FromInt64(4)))
	set(1, 1, -5, -5, share.FromInt64(-5))
	set(2, 2, -1, -1, share.FromInt64(-1))
	set(0, 3, -9, -9, share.FromInt64(-9))
	set(1, 3, 9, 9, share.FromInt64(9))
	outs := c.run(t, new(cluster), inputs)
	c.check(t, 0, outs[0], inputs, without(3))
	if outs[0].err != nil {
		return
	}
	v := outs[0].sums[0]
	for at, want := range []int64{1<<63 - 1, -1 << 63, -1, 0} {
		if int64(v.Wide[at]) != want || int32(v.Narrow[at]) != int32(max(min(want, 1<<31-1), -1<<31)) {
			t.Errorf("element %d is %d and %d", at, int64(v.Wide[at]), int32(v.Narrow[at]))
		}
	}
	for at, want := range []share.Word{top, top.Neg().Sub(share.FromInt64(1)), share.FromInt64(-1), {}} {
		if share.SignedHuge(v.Huge[at]) != want {
			t.Errorf("element %d of 96 bits is %v", at, share.SignedHuge(v.Huge[at]).Signed())
		}
	}
}

func TestManyParties(t *testing.T) {
	for name, c := range map[string]setup{
		"32 of 32":             {32, 32, 32, share.Shape{Narrow: 3}, [][]int{{31}}, 3},
		"9 of 16, 2 receivers": {18, 16, 9, share.Shape{Narrow: 3}, [][]int{{16, 17}}, 3},
	} {
		inputs := c.random(32)
		for i, out := range c.run(t, new(cluster), inputs) {
			c.check(t, i, out, inputs, without(c.contributors))
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// TestOrderOfTheContract: contributors need not stand in the session's order,
// nor first.
func TestOrderOfTheContract(t *testing.T) {
	c := setup{5, 0, 2, share.Shape{Narrow: 2}, [][]int{{0}}, 0}
	p := Params{Contributors: named([]int{4, 1, 3}), Threshold: 2, Sums: 1, MaxShape: c.shape, MinIncluded: 2}
	for i, err := range (&cluster{parties: 5}).run(t, func(i int) script {
		return func(ctx context.Context, s *session.Session) error {
			p := p
			p.Once = new(once)
			e, err := New(ctx, s, p)
			if err != nil {
				return err
			}
			v := share.Vector{}
			if slices.Contains(p.Contributors, s.Self()) {
				v = share.Vector{Narrow: []uint32{1, uint32(i)}}
			}
			sum, err := e.Sum(ctx, "x", c.shape, v, named([]int{0}))
			if err != nil {
				return err
			}
			if i == 0 && !slices.Equal(sum.Narrow, []uint32{3, 8}) || i != 0 && sum.Shape().Len() != 0 {
				return errors.New("wrong sum")
			}
			if got := e.Included(); i != 2 && !slices.Equal(got, p.Contributors) || i == 2 && got != nil {
				return errors.New("wrong contributors")
			}
			return nil
		}
	}) {
		if err != nil {
			t.Errorf("p%d: %v", i, err)
		}
	}
}

func TestArguments(t *testing.T) {
	good := setup{3, 2, 2, share.Shape{Narrow: 5}, [][]int{{0}}, 0}.params(new(once))
	parties := sessiontest.PartyIDs(3)
	if err := good.Validate(parties); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(p *Params){
		"one contributor":      func(p *Params) { p.Contributors = named([]int{0}) },
		"a stranger":           func(p *Params) { p.Contributors = named([]int{0, 7}) },
		"twice the same":       func(p *Params) { p.Contributors = named([]int{0, 0}) },
		"threshold 1":          func(p *Params) { p.Threshold = 1 },
		"threshold 3 of 2":     func(p *Params) { p.Threshold = 3 },
		"minimum 1":            func(p *Params) { p.MinIncluded = 1 },
		"minimum 3 of 2":       func(p *Params) { p.MinIncluded = 3 },
		"no sums":              func(p *Params) { p.Sums = 0 },
		"too many sums":        func(p *Params) { p.Sums = MaxSums + 1 },
		"no elements":          func(p *Params) { p.MaxShape = share.Shape{} },
		"a negative length":    func(p *Params) { p.MaxShape = share.Shape{Narrow: 3, Wide: -1} },
		"too many elements":    func(p *Params) { p.MaxShape = share.Shape{Narrow: MaxElements, Huge: 1} },
		"lengths that wrap":    func(p *Params) { p.MaxShape = share.Shape{Narrow: 1 << 62, Wide: 1 << 62, Huge: 1 << 62} },
		"nothing to record by": func(p *Params) { p.Once = nil },
	} {
		p := good
		change(&p)
		net := &cluster{parties: 3}
		errs := net.run(t, func(int) script {
			return func(ctx context.Context, s *session.Session) error {
				if s.Self() == "p2" && name == "nothing to record by" { // it needs none
					return ErrParams
				}
				_, err := New(ctx, s, p)
				return err
			}
		})
		for i, err := range errs {
			if !errors.Is(err, ErrParams) {
				t.Errorf("%s: p%d: %v", name, i, err)
			}
		}
	}
}

func TestSumArguments(t *testing.T) {
	c := setup{3, 2, 2, share.Shape{Narrow: 5}, [][]int{{0}, {0}}, 0}
	errs := (&cluster{parties: 3}).run(t, func(i int) script {
		return func(ctx context.Context, s *session.Session) error {
			e, err := New(ctx, s, c.params(new(once)))
			if err != nil {
				return err
			}
			v, to := share.NewVector(c.shape), named([]int{0})
			if i == 2 {
				v = share.Vector{}
			}
			for name, f := range map[string]func() (share.Vector, error){
				"no name":        func() (share.Vector, error) { return e.Sum(ctx, "", c.shape, v, to) },
				"the keys' name": func() (share.Vector, error) { return e.Sum(ctx, keysStep, c.shape, v, to) },
				"too large":      func() (share.Vector, error) { return e.Sum(ctx, "x", share.Shape{Narrow: 6}, v, to) },
				"another width":  func() (share.Vector, error) { return e.Sum(ctx, "x", share.Shape{Wide: 1}, v, to) },
				"nothing":        func() (share.Vector, error) { return e.Sum(ctx, "x", share.Shape{}, v, to) },
				"another shape": func() (share.Vector, error) {
					return e.Sum(ctx, "x", share.Shape{Narrow: 4}, share.NewVector(share.Shape{Narrow: 3}), to)
				},
				"to nobody":     func() (share.Vector, error) { return e.Sum(ctx, "x", c.shape, v, nil) },
				"to a stranger": func() (share.Vector, error) { return e.Sum(ctx, "x", c.shape, v, named([]int{5})) },
				"to one twice":  func() (share.Vector, error) { return e.Sum(ctx, "x", c.shape, v, named([]int{0, 0})) },
				"no vector, input": func() (share.Vector, error) {
					return e.Sum(ctx, "x", c.shape, share.NewVector(share.Shape{Narrow: 1}), to)
				},
			} {
				if _, err := f(); !errors.Is(err, ErrParams) {
					t.Errorf("%s: p%d: %v", name, i, err)
				}
			}
			if _, err := e.Sum(ctx, "x", c.shape, v, to); err != nil {
				return err
			}
			if _, err := e.Sum(ctx, "x", c.shape, v, to); !errors.Is(err, ErrUsed) {
				t.Errorf("a second sum of that name: %v", err)
			}
			if _, err := e.Sum(ctx, "y", share.Shape{Narrow: 1}, share.Vector{Narrow: v.Narrow[:min(1, len(v.Narrow))]}, to); err != nil {
				return err
			}
			if _, err := e.Sum(ctx, "z", c.shape, v, to); !errors.Is(err, ErrUsed) {
				t.Errorf("a third sum of two: %v", err)
			}
			return nil
		}
	})
	for i, err := range errs {
		if err != nil {
			t.Errorf("p%d: %v", i, err)
		}
	}
}

// TestOtherArguments: parties that do not mean the same sum find out.
func TestOtherArguments(t *testing.T) {
	c := setup{3, 3, 3, share.Shape{Narrow: 5}, [][]int{{0}}, 0}
	for name, f := range map[string]func(e *Engine, ctx context.Context, v share.Vector) (share.Vector, error){
		"name": func(e *Engine, ctx context.Context, v share.Vector) (share.Vector, error) {
			return e.Sum(ctx, "b", c.shape, v, named([]int{0}))
		},
		"recipients": func(e *Engine, ctx context.Context, v share.Vector) (share.Vector, error) {
			return e.Sum(ctx, "a", c.shape, v, named([]int{0, 1}))
		},
		"shape": func(e *Engine, ctx context.Context, v share.Vector) (share.Vector, error) {
			return e.Sum(ctx, "a", share.Shape{Narrow: 4}, share.Vector{Narrow: v.Narrow[:4]}, named([]int{0}))
		},
	} {
		errs := (&cluster{parties: 3}).run(t, func(i int) script {
			return func(ctx context.Context, s *session.Session) error {
				e, err := New(ctx, s, c.params(new(once)))
				if err != nil {
					return err
				}
				v := share.NewVector(c.shape)
				if i == 1 {
					_, err = f(e, ctx, v)
				} else {
					_, err = e.Sum(ctx, "a", c.shape, v, named([]int{0}))
				}
				if err == nil {
					return nil
				}
				if _, again := e.Sum(ctx, "c", c.shape, v, named([]int{0})); !errors.Is(again, ErrUsed) {
					t.Errorf("an engine that has failed: %v", again)
				}
				return err
			}
		})
		for i, err := range errs {
			var fault *PeerError
			if i == 1 && errors.Is(err, ErrLost) {
				continue // the others were done with it before it had their messages
			}
			if !errors.As(err, &fault) || i != 1 && fault.Party != "p1" {
				t.Errorf("another %s: p%d ends with %v", name, i, err)
			}
		}
	}
}

// TestContextEnds: a party whose context ends does not wait for anybody.
func TestContextEnds(t *testing.T) {
	c := setup{3, 3, 3, share.Shape{Narrow: 5}, [][]int{{0}}, 0}
	enough := errors.New("enough")
	errs := (&cluster{parties: 3}).run(t, func(i int) script {
		return func(ctx context.Context, s *session.Session) error {
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			e, err := New(ctx, s, c.params(new(once)))
			if err != nil {
				return err
			}
			if i == 2 { // it says nothing more until the others have given up
				return errors.New("leaves")
			}
			if i == 1 {
				cancel(enough)
			}
			_, err = e.Sum(ctx, "x", c.shape, share.NewVector(c.shape), named([]int{0}))
			return err
		}
	})
	if !errors.Is(errs[1], enough) || !errors.Is(errs[0], ErrLost) {
		t.Errorf("%v and %v", errs[0], errs[1])
	}
}
