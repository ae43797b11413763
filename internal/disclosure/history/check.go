package history

import (
	"cmp"
	"fmt"
	"slices"
)

// checker holds a new release against past ones, one after the other.
type checker struct {
	now     *labelled
	least   int64
	flagged []bool // base cells and groups of the new release
	atoms   *atoms
}

func newChecker(now *Release, least int64) (*checker, error) {
	if err := validate(now, least); err != nil {
		return nil, err
	}
	l := label(now)
	return &checker{now: l, least: least, flagged: make([]bool, now.Queries()), atoms: newAtoms(l)}, nil
}

func validate(now *Release, least int64) error {
	if least < 1 {
		return fmt.Errorf("%w: a minimum of %d units", ErrRelease, least)
	}
	return now.Validate()
}

// past holds the new release against one more.
func (c *checker) past(r *Release) {
	if different(r.Entity, c.now.Entity) {
		if r.Shown == nil || slices.Contains(r.Shown, true) {
			for q := range c.flagged {
				c.flag(int32(q))
			}
		}
		return
	}
	l := label(r)
	if c.now.Shown != nil {
		// Cells and unions are compared as if all of them were shown: under a mask
		// a table differs by what is withheld from the same table of before.
		c.atoms.split(l)
		return
	}
	o := lay(l, c.now)
	if s := align(l, c.now); s != nil {
		c.compareTables(o, s)
		if s.nested && r.Filter == c.now.Filter {
			// All cells of one release are unions of cells of the other. What else
			// they differ by is cells.
			c.atoms.split(l)
			return
		}
	}
	c.compare(o)
	c.atoms.split(l)
}

// different reports whether two hashes are both told and not the same.
func different(a, b [32]byte) bool { return a != b && a != [32]byte{} && b != [32]byte{} }

func (c *checker) flags() []bool {
	c.isolate()
	return c.flagged
}

func (c *checker) flag(q int32) { c.flagged[q] = true }

// flagOne flags one of several base cells, without which the others are no
// longer near to what they were compared with: the smallest that shares enough
// units with it, or all if none does.
func (c *checker) flagOne(parts []part) {
	best := slices.MinFunc(parts, func(a, b part) int {
		return cmp.Or(
			cmp.Compare(min(b.shared, c.least), min(a.shared, c.least)),
			cmp.Compare(a.shared, b.shared),
			cmp.Compare(a.cell, b.cell),
		)
	})
	if best.shared >= c.least {
		c.flag(best.cell)
		return
	}
	for _, p := range parts {
		c.flag(p.cell)
	}
}
