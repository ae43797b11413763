package aggregate

import (
	"context"
	"sync"

	"github.com/yinqiao/yinqiao/internal/disclosure"
	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/mpc/stats"
)

// What is added of every cell before anything is withheld is one number: how
// many parties' rules withhold it, how many have a unit in it, and the units,
// from the lowest bit up.
const (
	partyBits  = 7 // up to 64 parties
	unitsShift = 2 * partyBits
)

// countsShape is the shape of that vector: a number for each cell and then for
// each support of each cell, narrow where the units of all parties fit beside the
// rest.
func countsShape(plan *stats.Plan) share.Shape {
	n := plan.Cells() * (1 + plan.Supports())
	if plan.Form().MaxRows*int64(plan.Parties()) < 1<<(share.NarrowBits-unitsShift) {
		return share.Shape{Narrow: n}
	}
	return share.Shape{Wide: n}
}

// largest is the largest vector that is added.
func largest(plan *stats.Plan) share.Shape {
	s, counts := plan.Shape(), countsShape(plan)
	return share.Shape{Narrow: max(s.Narrow, counts.Narrow), Wide: max(s.Wide, counts.Wide), Huge: s.Huge}
}

// counts is one party's vector.
func (h *home) counts() share.Vector {
	v := share.NewVector(countsShape(h.p.plan))
	put := func(at int, n int64, flag bool) {
		x := uint64(n) << unitsShift
		if n > 0 {
			x |= 1 << partyBits
		}
		if flag {
			x |= 1
		}
		if len(v.Narrow) > 0 {
			v.Narrow[at] = uint32(x)
		} else {
			v.Wide[at] = x
		}
	}
	for c, n := range h.part.Units {
		put(c, n, h.flags[c])
	}
	for i, n := range h.part.Supports {
		put(len(h.part.Units)+i, n, false)
	}
	return v
}

// countAt reads a number of the opened sum.
func countAt(sum share.Vector, at int) disclosure.Count {
	var x uint64
	if len(sum.Narrow) > 0 {
		x = uint64(sum.Narrow[at])
	} else {
		x = sum.Wide[at]
	}
	const most = 1<<partyBits - 1
	return disclosure.Count{Units: int64(x >> unitsShift), Providers: int64(x >> partyBits & most), Flags: int64(x & most)}
}

// unsupported is the cells to withhold because a counter of theirs stands on too
// little, a bin for instance. Each support is a table of its own with the same
// equations, and what proves its small cells to be protected holds whatever is
// withheld besides. So they are looked at side by side. at has the counts of all supports, in the order of the vector;
// progress hears how many supports are done.
func unsupported(ctx context.Context, plan *stats.Plan, r rules.Set, at func(i int) disclosure.Count, progress func(done, total int64)) ([]bool, error) {
	eqs := equations(plan)
	mask := make([]bool, plan.Cells())
	var mu sync.Mutex // of mask and done
	done := int64(0)
	err := parallel.Each(ctx, plan.Supports(), 1, func() func(s, _ int) error {
		table := make([]disclosure.Count, len(mask))
		return func(s, _ int) error {
			for c := range table {
				table[c] = at(s*len(table) + c)
				table[c].Flags = 0 // they are of the cell, whose number has them
			}
			more, err := disclosure.Suppress(r, table, eqs)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			merge(mask, more)
			done++
			progress(done, int64(plan.Supports()))
			return nil
		}
	})
	return mask, err
}

// merge withholds what more does, too.
func merge(mask, more []bool) {
	for c, withheld := range more {
		mask[c] = mask[c] || withheld
	}
}
