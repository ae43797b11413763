package history

import "slices"

// cellPair is how many units have label a in one release and label b in
// another; either can be none.
type cellPair struct {
	a, b int32
	n    int64
}

// overlay is a past release laid over the new one.
type overlay struct {
	a, b  *labelled // past, new
	pairs []cellPair
	byA   [][]int32 // the pairs of each label of a
	byB   [][]int32
	// others is 1 where a query of one release stands for units besides its own that
	// no query of the other does: other parties' units are counted, or other parts
	// of cells are shown.
	others int64
}

// denseCells bounds the table of counts that is not a map.
const denseCells = 1 << 22

// lay counts the units that a past release and the new one have in common. A
// unit whose value is known to have changed counts as one that left and one
// that came.
func lay(a, b *labelled) *overlay {
	o := &overlay{a: a, b: b}
	if different(a.Parties, b.Parties) || clash(a.Views, b.Views) {
		o.others = 1
	}
	valued, compared := a.value != nil && b.value != nil, uint32(valueRows)
	if a.Digest == b.Digest {
		compared = 1<<32 - 1
	}
	width := len(b.cells) + 1
	var dense []int64
	var sparse map[uint64]int64
	if (len(a.cells)+1)*width <= denseCells {
		dense = make([]int64, (len(a.cells)+1)*width)
	} else {
		sparse = make(map[uint64]int64)
	}
	put := func(la, lb int32) {
		at := (int(la)+1)*width + int(lb) + 1
		if dense != nil {
			dense[at]++
		} else {
			sparse[uint64(at)]++
		}
	}
	merge(a.units, b.units, func(i, k int) {
		switch {
		case k < 0:
			put(a.label[i], none)
		case i < 0:
			put(none, b.label[k])
		case valued && (a.value[i]^b.value[k])&compared != 0 && a.value[i] != 0 && b.value[k] != 0:
			put(a.label[i], none)
			put(none, b.label[k])
		default:
			put(a.label[i], b.label[k])
		}
	})
	pair := func(at int, n int64) {
		o.pairs = append(o.pairs, cellPair{int32(at/width) - 1, int32(at%width) - 1, n})
	}
	for at, n := range dense {
		if n > 0 {
			pair(at, n)
		}
	}
	keys := make([]uint64, 0, len(sparse))
	for at := range sparse {
		keys = append(keys, at)
	}
	slices.Sort(keys)
	for _, at := range keys {
		pair(int(at), sparse[at])
	}
	o.byA, o.byB = make([][]int32, len(a.cells)), make([][]int32, len(b.cells))
	for k, p := range o.pairs {
		if p.a != none {
			o.byA[p.a] = append(o.byA[p.a], int32(k))
		}
		if p.b != none {
			o.byB[p.b] = append(o.byB[p.b], int32(k))
		}
	}
	return o
}

// merge walks two ascending lists together: f gets the places of a unit in both,
// -1 where it is not in one.
func merge(x, y []uint64, f func(i, k int)) {
	i, k := 0, 0
	for i < len(x) || k < len(y) {
		switch {
		case k == len(y) || i < len(x) && x[i] < y[k]:
			f(i, -1)
			i++
		case i == len(x) || y[k] < x[i]:
			f(-1, k)
			k++
		default:
			f(i, k)
			i++
			k++
		}
	}
}

// flip exchanges the two releases.
func (o *overlay) flip() *overlay {
	f := &overlay{a: o.b, b: o.a, others: o.others, byA: o.byB, byB: o.byA, pairs: make([]cellPair, len(o.pairs))}
	for k, p := range o.pairs {
		f.pairs[k] = cellPair{p.b, p.a, p.n}
	}
	return f
}

// differ reports whether two sets of units give some of them away: each has
// fewer than least units that the other has not, and at least one has any.
func differ(onlyA, onlyB, least int64) bool {
	return onlyA < least && onlyB < least && onlyA+onlyB > 0
}

// compare flags new queries that differ by few units from one of a past release,
// or from a union of its base cells, or whose base cells do so together. That
// can happen by chance where this node has few units, and is flagged all the
// same: what the other parties have there is not known.
func (c *checker) compare(o *overlay) {
	common := make(map[uint64]int64) // units that a query of a and one of b share
	for _, p := range o.pairs {
		if p.a == none || p.b == none {
			continue
		}
		for _, qa := range o.a.queries[p.a] {
			for _, qb := range o.b.queries[p.b] {
				common[uint64(qa)<<32|uint64(qb)] += p.n
			}
		}
	}
	for k, n := range common {
		qa, qb := int32(k>>32), int32(k)
		if int(qb) == o.b.Queries() {
			continue // the total of what is new: unions sees to it, cell by cell
		}
		a, b := o.a.count[qa], o.b.count[qb]
		if differ(a-n+o.others, b-n+o.others, c.least) && 2*n >= max(a, b) {
			c.flag(qb)
		}
	}
	c.unions(o, func(_ int32, parts []part) { c.flagOne(parts) })
	c.unions(o.flip(), func(qb int32, _ []part) { c.flag(qb) })
}

// part is a base cell of a union, with how many of its units lie in the query
// that the union is compared with.
type part struct {
	cell   int32
	shared int64
}

// unions finds, for each query of a, the base cells of b that lie in it for the
// most part, and calls found where the query and their union differ by few
// units. Which base cells those are is the best guess at what an attacker would
// add up; what else it could is left to the elimination over all releases.
func (c *checker) unions(o *overlay, found func(q int32, parts []part)) {
	inside := make([]int64, o.b.Cells)
	inUnion := make([]bool, len(o.b.cells))
	for q, labels := range o.a.labels {
		if o.a == c.now && (q == o.a.Queries() || c.flagged[q]) {
			continue
		}
		var touched []int32
		for _, k := range labels {
			for _, at := range o.byA[k] {
				p := o.pairs[at]
				if p.b == none {
					continue
				}
				for _, cell := range o.b.cells[p.b] {
					if o.b.shown(int(cell)) && (o.b != c.now || !c.flagged[cell]) {
						if inside[cell] == 0 {
							touched = append(touched, cell)
						}
						inside[cell] += p.n
					}
				}
			}
		}
		var parts []part
		for _, cell := range touched {
			if 2*inside[cell] > o.b.count[cell] {
				parts = append(parts, part{cell, inside[cell]})
			}
			inside[cell] = 0
		}
		if len(parts) < 2 {
			continue // one cell alone was compared before
		}
		var members []int32
		size := int64(0)
		for _, p := range parts {
			for _, k := range o.b.labels[p.cell] {
				if !inUnion[k] {
					inUnion[k] = true
					members = append(members, k)
					size += o.b.size[k]
				}
			}
		}
		both := int64(0)
		for _, k := range labels {
			for _, at := range o.byA[k] {
				if p := o.pairs[at]; p.b != none && inUnion[p.b] {
					both += p.n
				}
			}
		}
		if differ(o.a.count[q]-both+o.others, size-both+o.others, c.least) && 2*both >= max(o.a.count[q], size) {
			found(int32(q), parts)
		}
		for _, k := range members {
			inUnion[k] = false
		}
	}
}
