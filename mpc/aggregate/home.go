package aggregate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/yinqiao/yinqiao/internal/disclosure"
	"github.com/yinqiao/yinqiao/internal/disclosure/history"
	"github.com/yinqiao/yinqiao/internal/disclosure/noise"
	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// home is what a contributor has counted, and what it remembers of releases
// from the same entry.
type home struct {
	p     *party
	part  *stats.Part
	flags []bool // cells that this party's own rules withhold
	past  job.History
	entry string
	cells []int // plan cells in the order that the history has them
	// whose is the contributors that the recorded release counts.
	whose []session.PartyID
}

// count counts this party's rows, finds the cells that its own rules withhold,
// and records the release that is about to be made.
func (p *party) count(ctx context.Context) error {
	h := &home{p: p, past: p.env.Past(), entry: p.env.Self().Inputs[0].Entry, whose: p.inside}
	var seed [32]byte
	err := h.remember(ctx, func(files scratch.Files) (err error) {
		seed, err = history.Seed(files, p.env.Session.Rand())
		return err
	})
	if err != nil {
		return err
	}
	p.env.Session.Progress("count rows", 0, 0)
	var row *stats.RowError
	switch h.part, err = p.plan.Count(ctx, p.env.Inputs[0], seed, counting(p.rules)); {
	case errors.As(err, &row), errors.Is(err, stats.ErrRows):
		return fmt.Errorf("%w: %w", job.ErrInput, err)
	case err != nil:
		return err
	}
	h.flags = ownFlags(p.plan, p.rules, h.part)
	release := h.newRelease()
	err = h.remember(ctx, func(files scratch.Files) error {
		before, err := history.Check(files, release, p.rules.MinUnits)
		if err != nil {
			return err
		}
		for i, c := range h.cells {
			h.flags[c] = h.flags[c] || before[i]
		}
		// Until the mask is agreed on, everything counts as released.
		return history.Begin(files, release)
	})
	p.home = h
	return err
}

// remember calls f with what this node has kept of releases from the entry.
func (h *home) remember(ctx context.Context, f func(scratch.Files) error) error {
	files, done, err := h.past.Hold(ctx, h.entry)
	if err != nil {
		return err
	}
	defer done()
	return f(files)
}

// counting is what counting has to keep for the rules.
func counting(r rules.Set) stats.CountOptions {
	return stats.CountOptions{Largest: disclosure.Keep(r)}
}

// ownFlags returns the cells in which one party's own units break a rule of
// dominance. Columns of nothing but 0 and 1 are left out: their sums are counts,
// which the number of units protects.
func ownFlags(plan *stats.Plan, r rules.Set, part *stats.Part) []bool {
	var measures [][]disclosure.Largest
	for _, top := range part.Tops {
		if !indicator(plan.Form(), top) {
			measures = append(measures, top.Cells)
		}
	}
	flags := make([]bool, plan.Cells())
	copy(flags, disclosure.Flags(r, measures...))
	return flags
}

// indicator reports whether a column is declared to be 0 or 1.
func indicator(f stats.Form, top stats.Top) bool {
	return top.Scale == 0 && !slices.ContainsFunc(top.Measures, func(i int) bool {
		m := f.Measures[i]
		return len(m.Range) != 2 || m.Range[0] < 0 || m.Range[1] > 1
	})
}

// newRelease is the release as the history keeps it: base cells, and margins as
// lists of those.
func (h *home) newRelease() history.Release {
	plan := h.p.plan
	base, groups := baseCells(plan)
	at := make([]int32, plan.Cells())
	r := history.Release{ID: h.p.releaseID(), Cells: len(base), Members: make([]history.Member, len(h.part.Members))}
	for i, c := range base {
		at[c] = int32(i)
	}
	h.cells = slices.Clone(base)
	for _, g := range groups {
		cells := make([]int32, len(g.base))
		for i, c := range g.base {
			cells[i] = at[c]
		}
		r.Groups = append(r.Groups, cells)
		h.cells = append(h.cells, g.margin)
	}
	for i, m := range h.part.Members {
		r.Members[i] = history.Member{Unit: m.Unit, Cell: at[m.Cell], Value: m.Value}
	}
	form := plan.Form()
	r.Dims = []history.Dim{}
	for d, g := range form.GroupBy {
		g.Name = ""
		categories := make(map[string]bool)
		for _, c := range base {
			categories[plan.Labels(c)[d]] = true
		}
		r.Dims = append(r.Dims, history.Dim{Key: short(g), Size: len(categories)})
	}
	r.Digest, r.Filter = digest(plan.Digested()), digest([]any{form.Where, form.Missing, form.Entity})
	for key, parts := range plan.Views() {
		v := history.View{Key: short(key)}
		for _, part := range parts {
			v.Has = append(v.Has, short(part))
		}
		slices.Sort(v.Has)
		r.Views = append(r.Views, v)
	}
	slices.SortFunc(r.Views, func(a, b history.View) int { return cmp.Compare(a.Key, b.Key) })
	r.Parties = digest(slices.Sorted(slices.Values(h.whose)))
	r.Entity = digest(entity(form, h.p.env.Inputs[0].Schema()))
	return r
}

// entity is the columns that name a unit; none where every row is one.
func entity(f stats.Form, schema table.Schema) []string {
	if f.Entity != "" {
		return []string{f.Entity}
	}
	names := []string{}
	for _, k := range schema.Keys() {
		names = append(names, schema[k].Name)
	}
	return names
}

// digest identifies a part of a form.
func digest(part any) [sha256.Size]byte {
	b, err := json.Marshal(part)
	if err != nil {
		panic("mpc/aggregate: a form that was decoded does not encode: " + err.Error()) // cannot happen
	}
	return sha256.Sum256(b)
}

// short is the first 64 bits of a digest.
func short(part any) uint64 {
	d := digest(part)
	return binary.LittleEndian.Uint64(d[:])
}

// releaseID names the release in this party's history: all attempts at a run
// are one.
func (p *party) releaseID() string {
	return cmp.Or(p.env.Reference, p.env.Session.ID())
}

// group is a margin and the base cells that it sums over.
type group struct {
	margin int
	base   []int
}

// baseCells returns the cells that are no margins, and of each margin the base
// cells that it sums over.
func baseCells(plan *stats.Plan) (base []int, margins []group) {
	parts := make(map[int][]int)
	for _, e := range plan.Equations() {
		if parts[e.Total] == nil {
			parts[e.Total] = e.Parts
		}
	}
	known := make(map[int][]int)
	var expand func(c int) []int
	expand = func(c int) []int {
		if !plan.IsMargin(c) {
			return []int{c}
		}
		if known[c] == nil {
			for _, part := range parts[c] {
				known[c] = append(known[c], expand(part)...)
			}
			slices.Sort(known[c])
		}
		return known[c]
	}
	for c := range plan.Cells() {
		if plan.IsMargin(c) {
			margins = append(margins, group{c, expand(c)})
		} else {
			base = append(base, c)
		}
	}
	return base, margins
}

func equations(plan *stats.Plan) []disclosure.Equation {
	var eqs []disclosure.Equation
	for _, e := range plan.Equations() {
		eqs = append(eqs, disclosure.Equation(e))
	}
	return eqs
}

// judge holds the gates' mask to what this party's own rules withhold, and
// returns the cells that have to be withheld besides: with those that the mask
// shows and an earlier release, of which gates know nothing, one that it
// withholds would follow.
func (h *home) judge(ctx context.Context, mask []bool) (more []bool, err error) {
	for c, own := range h.flags {
		if own && !mask[c] {
			return nil, fmt.Errorf("%w: a gate's mask releases a cell that a rule of this party's withholds", ErrPeer)
		}
	}
	more = make([]bool, len(mask))
	add := func(found []bool, err error) error {
		for i, f := range found {
			if c := h.cells[i]; f && !mask[c] {
				more[c], h.flags[c] = true, true
			}
		}
		return err
	}
	err = h.remember(ctx, func(files scratch.Files) error {
		id, least := h.p.releaseID(), h.p.rules.MinUnits
		if !slices.Equal(h.whose, h.p.counted) { // a contributor was lost after its rows were to be counted
			h.whose = h.p.counted
			if err := errors.Join(history.Abandon(files, id), history.Begin(files, h.newRelease())); err != nil {
				return err
			}
			if err := add(history.Verify(files, id, nil, least)); err != nil {
				return err
			}
		}
		return add(history.Verify(files, id, h.shown(mask), least))
	})
	return more, err
}

// shown is which cells a mask shows, in the history's order.
func (h *home) shown(mask []bool) []bool {
	shown := make([]bool, len(h.cells))
	for i, c := range h.cells {
		shown[i] = !mask[c]
	}
	return shown
}

// accept narrows the recorded release to what the mask shows.
func (h *home) accept(ctx context.Context, mask []bool) error {
	return h.remember(ctx, func(files scratch.Files) error { return history.Amend(files, h.p.releaseID(), h.shown(mask)) })
}

// abandon takes the release out of the history: nothing of it was opened.
func (h *home) abandon(ctx context.Context) error {
	return h.remember(context.WithoutCancel(ctx), func(files scratch.Files) error { return history.Abandon(files, h.p.releaseID()) })
}

// spending is what a release has taken of the privacy budget.
type spending struct{ left float64 }

// prepare empties the withheld cells and adds noise where the rules ask for it.
func (h *home) prepare(ctx context.Context) (*spending, error) {
	p := h.p
	p.plan.Zero(h.part.Vector, p.mask)
	if p.rules.Epsilon == 0 {
		return nil, nil
	}
	spent := &spending{}
	if b := p.env.Budget; b != nil {
		var err error
		if spent.left, err = b.Spend(ctx, p.rules.Epsilon, p.rules.Delta); err != nil {
			return nil, err
		}
	}
	return spent, p.plan.Perturb(h.part.Vector, p.mask, func(values, touch []*big.Int) error {
		return noise.Add(values, touch, p.noise())
	})
}

// noise is how much noise a contributor adds.
func (p *party) noise() noise.Params {
	return noise.Params{L0: p.plan.Changed(), Epsilon: p.rules.Epsilon, Delta: p.rules.Delta}
}

// checkNoise refuses noise that cannot be drawn, or could make a counter wrap,
// before any key is made.
func (p *party) checkNoise() error {
	if p.rules.Epsilon == 0 {
		return nil
	}
	if p.plan.Changed() == 0 {
		return errors.New("mpc/aggregate: the rules ask for noise (epsilon), so the form has to say how many rows one unit can have: unit_rows")
	}
	q := p.noise()
	if err := q.Validate(); err != nil {
		return err
	}
	for _, c := range p.plan.Sensitivities() {
		if q.Bound(c.Touch).Cmp(c.Room) > 0 {
			return fmt.Errorf("mpc/aggregate: noise of epsilon %g could make the counter %s wrap: a larger epsilon, fewer max_rows or a smaller range would do", q.Epsilon, c.Name)
		}
	}
	return nil
}
