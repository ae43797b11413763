package aggregate

import (
	"github.com/yinqiao/yinqiao/internal/disclosure"
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

// countsShape is the shape of that vector: narrow where the units of all
// parties fit beside the rest.
func countsShape(plan *stats.Plan) share.Shape {
	if plan.Form().MaxRows*int64(plan.Parties()) < 1<<(share.NarrowBits-unitsShift) {
		return share.Shape{Narrow: plan.Cells()}
	}
	return share.Shape{Wide: plan.Cells()}
}

// counts is one party's vector.
func (h *home) counts() share.Vector {
	v := share.NewVector(countsShape(h.p.plan))
	for c, n := range h.part.Units {
		x := uint64(n) << unitsShift
		if n > 0 {
			x |= 1 << partyBits
		}
		if h.flags[c] {
			x |= 1
		}
		if len(v.Narrow) > 0 {
			v.Narrow[c] = uint32(x)
		} else {
			v.Wide[c] = x
		}
	}
	return v
}

// countAt reads a cell of the opened sum.
func countAt(sum share.Vector, cell int) disclosure.Count {
	var x uint64
	if len(sum.Narrow) > 0 {
		x = uint64(sum.Narrow[cell])
	} else {
		x = sum.Wide[cell]
	}
	const most = 1<<partyBits - 1
	return disclosure.Count{Units: int64(x >> unitsShift), Providers: int64(x >> partyBits & most), Flags: int64(x & most)}
}
