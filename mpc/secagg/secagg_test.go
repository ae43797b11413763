package secagg

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// The sum of the contributors' vectors, to those it is for and nobody else.
func TestSumsAreThoseOfThePlaintext(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		contributors, receivers, threshold, least int
		to                                        []int
	}{
		{contributors: 2, least: 2, to: []int{0}},
		{contributors: 2, least: 2, receivers: 1, to: []int{2}},
		{contributors: 3, to: []int{0, 1, 2}},
		{contributors: 3, receivers: 1, threshold: 2, to: []int{3}},
		{contributors: 3, receivers: 3, to: []int{4, 1, 3}},
		{contributors: 4, threshold: 3, to: []int{2}},
		{contributors: 7, receivers: 1, threshold: 4, to: []int{7, 3}},
		{contributors: 10, receivers: 2, to: []int{11}},
	} {
		for _, shape := range []share.Shape{{}, {Narrow: 1}, {Wide: 1}, {Huge: 1}, {Narrow: 3, Wide: 5, Huge: 7}, {
			Narrow: rng.IntN(2000), Wide: rng.IntN(1000), Huge: rng.IntN(500),
		}} {
			w := &world{contributors: c.contributors, receivers: c.receivers, threshold: c.threshold, least: c.least, shape: shape, sums: 2}
			ids := w.ids()
			var to []session.PartyID
			for _, i := range c.to {
				to = append(to, ids[i])
			}
			first, second := w.vectors(rng, shape), w.vectors(rng, shape)
			noErrors(t, w.run(t, func(ctx context.Context, i int, e *Engine) error {
				for k, vs := range [][]share.Vector{first, second} {
					to := to
					if k == 1 { // other receivers in the second step
						to = ids[len(ids)-1:]
					}
					got, err := e.Sum(ctx, []string{"counts", "measures"}[k], shape, vs[i], to)
					if err != nil {
						return err
					}
					want := share.Vector{}
					if slices.Contains(to, ids[i]) {
						want = w.total(vs, ids, shape)
					}
					if !equal(got, want) {
						t.Errorf("%+v, shape %v, sum %d: p%d has another sum", c, shape, k, i)
					}
					if !slices.Equal(e.Included(), ids[:c.contributors]) {
						t.Errorf("%+v: p%d counts %v as included", c, i, e.Included())
					}
				}
				return nil
			}))
		}
	}
}

// All numbers of contributors, at every threshold bound.
func TestNumbersOfParties(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	shape := share.Shape{Narrow: 4, Wide: 1, Huge: 1}
	for _, n := range []int{2, 3, 4, 5, 8, 17, 33, 64} {
		for _, threshold := range []int{n/2 + 1, n} {
			if threshold < 2 || n == 33 && threshold == n {
				continue
			}
			w := &world{contributors: n, receivers: 1, threshold: threshold, least: 2, shape: shape}
			vs, to := w.vectors(rng, shape), w.ids()[n:]
			noErrors(t, w.run(t, func(ctx context.Context, i int, e *Engine) error {
				got, err := e.Sum(ctx, "counts", shape, vs[i], to)
				if err == nil && i == n && !equal(got, w.total(vs, e.Included(), shape)) {
					t.Errorf("%d contributors, threshold %d: another sum", n, threshold)
				}
				return err
			}))
		}
	}
}

// Ten parties with a million values each, once, within 4.2 bytes a value.
func TestAMillionValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	shape := share.Shape{Narrow: 1_000_000}
	w := &world{contributors: 10, receivers: 1, threshold: 6, shape: shape}
	vs, to := w.vectors(rng, shape), w.ids()[10:]
	noErrors(t, w.run(t, func(ctx context.Context, i int, e *Engine) error {
		got, err := e.Sum(ctx, "gradient", shape, vs[i], to)
		if err == nil && i == 10 && !equal(got, w.total(vs, e.Included(), shape)) {
			t.Error("another sum")
		}
		if sent := e.s.Meter().Traffic().Sent; i < 10 && sent > 4_200_000 {
			t.Errorf("p%d sent %d bytes", i, sent)
		}
		return err
	}))
}

func TestNewRefuses(t *testing.T) {
	good := func() (*world, Params) {
		w := &world{contributors: 5, receivers: 1, threshold: 3, shape: share.Shape{Narrow: 1}}
		return w, w.params(0)
	}
	for name, change := range map[string]func(*Params){
		"one contributor":              func(p *Params) { p.Contributors = p.Contributors[:1] },
		"a contributor twice":          func(p *Params) { p.Contributors[1] = p.Contributors[0] },
		"a contributor of nowhere":     func(p *Params) { p.Contributors[1] = "p9" },
		"half of them":                 func(p *Params) { p.Contributors, p.Threshold = p.Contributors[:4], 2 },
		"fewer than half":              func(p *Params) { p.Threshold = 2 },
		"more than all":                func(p *Params) { p.Threshold = 6 },
		"a negative threshold":         func(p *Params) { p.Threshold = -1 },
		"one suffices":                 func(p *Params) { p.MinIncluded = 1 },
		"more than all to be included": func(p *Params) { p.MinIncluded = 6 },
		"no sums":                      func(p *Params) { p.Sums = 0 },
		"negative shape":               func(p *Params) { p.MaxShape.Wide = -1 },
		"huge shape":                   func(p *Params) { p.MaxShape.Narrow = 1 << 29 },
		"shape that overflows":         func(p *Params) { p.MaxShape.Huge = 1 << 62 },
		"no record":                    func(p *Params) { p.Once = nil },
	} {
		w, p := good()
		change(&p)
		w.network = session.NewPipeNetwork(1)
		s, err := w.session(t.Context(), "refused", 0)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := New(t.Context(), s, p); e != nil || !errors.Is(err, ErrParams) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w, p := good()
	p.Threshold, p.MinIncluded = 0, 0
	if err := p.complete("p0", w.ids()); err != nil || p.Threshold != 5 || p.MinIncluded != 3 {
		t.Errorf("zero values become %d and %d, %v", p.Threshold, p.MinIncluded, err)
	}
}

func TestParametersAreCompared(t *testing.T) {
	for field, change := range map[string]func(*Params){
		"contributors": func(p *Params) { slices.Reverse(p.Contributors) },
		"threshold":    func(p *Params) { p.Threshold = 2 },
		"min_included": func(p *Params) { p.MinIncluded = 2 },
		"sums":         func(p *Params) { p.Sums = 2 },
		"max_shape":    func(p *Params) { p.MaxShape.Wide = 1 },
	} {
		w := &world{contributors: 3, shape: share.Shape{Narrow: 1}}
		w.network = session.NewPipeNetwork(4)
		errs := make([]error, 3)
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				s, err := w.session(t.Context(), "compared", i)
				if err == nil {
					p := w.params(i)
					if i == 1 {
						p.Contributors = slices.Clone(p.Contributors)
						change(&p)
					}
					_, err = New(t.Context(), s, p)
				}
				errs[i] = err
			})
		}
		wg.Wait()
		for i, err := range errs {
			var m *session.MismatchError
			if !errors.As(err, &m) || m.Field != field {
				t.Errorf("%s: p%d: %v", field, i, err)
			}
		}
	}
}

func TestSumRefuses(t *testing.T) {
	shape := share.Shape{Narrow: 2}
	two := share.NewVector(shape)
	for name, c := range map[string]struct {
		want error
		call func(context.Context, *Engine, []session.PartyID) error
	}{
		"no name": {ErrParams, func(ctx context.Context, e *Engine, ids []session.PartyID) error {
			_, err := e.Sum(ctx, "", shape, two, ids[:1])
			return err
		}},
		"a vector of another shape": {ErrParams, func(ctx context.Context, e *Engine, ids []session.PartyID) error {
			_, err := e.Sum(ctx, "a", shape, share.Vector{}, ids[:1])
			return err
		}},
		"a shape that is too large": {ErrParams, func(ctx context.Context, e *Engine, ids []session.PartyID) error {
			_, err := e.Sum(ctx, "a", share.Shape{Narrow: 3}, share.NewVector(share.Shape{Narrow: 3}), ids[:1])
			return err
		}},
		"nobody to open to": {ErrParams, func(ctx context.Context, e *Engine, _ []session.PartyID) error {
			_, err := e.Sum(ctx, "a", shape, two, nil)
			return err
		}},
		"a receiver twice": {ErrParams, func(ctx context.Context, e *Engine, ids []session.PartyID) error {
			_, err := e.Sum(ctx, "a", shape, two, []session.PartyID{ids[1], ids[1]})
			return err
		}},
		"a receiver of nowhere": {ErrParams, func(ctx context.Context, e *Engine, _ []session.PartyID) error {
			_, err := e.Sum(ctx, "a", shape, two, []session.PartyID{"p9"})
			return err
		}},
	} {
		w := &world{contributors: 3, shape: shape, sums: 2}
		for i, err := range w.run(t, func(ctx context.Context, _ int, e *Engine) error {
			err := c.call(ctx, e, w.ids())
			if _, again := e.Sum(ctx, "b", shape, two, w.ids()[:1]); !errors.Is(again, ErrUsed) {
				t.Errorf("%s: the engine goes on with %v", name, again)
			}
			return err
		}) {
			if !errors.Is(err, c.want) {
				t.Errorf("%s: p%d: %v", name, i, err)
			}
		}
	}
	w := &world{contributors: 3, shape: shape, sums: 2}
	for i, err := range w.run(t, func(ctx context.Context, i int, e *Engine) error {
		return sum(w, w.ids()[:1], "a", "a")(ctx, i, e)
	}) {
		if !errors.Is(err, ErrUsed) {
			t.Errorf("a step twice: p%d: %v", i, err)
		}
	}
	w = &world{contributors: 3, shape: shape}
	for i, err := range w.run(t, sum(w, w.ids()[:1], "a", "b")) {
		if !errors.Is(err, ErrParams) {
			t.Errorf("a sum too many: p%d: %v", i, err)
		}
	}
}
