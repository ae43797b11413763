package history

import "slices"

// alignment is what the tables of a past release a and the new one b have in
// common: a table of the dimensions that both have, and its margins.
type alignment struct {
	common  []Dim
	cells   int     // of the table of all common dimensions
	of      []int32 // the cell of that table that each base cell of a lies in
	ofNew   []int32 // the same of b
	nested  bool    // one release has all dimensions of the other
	refined []int32 // the base cell of a that each of b lies in, where b has all dimensions of a; or nil
}

// align compares the dimensions of two releases; nil if they are not told.
func align(a, b *labelled) *alignment {
	if a.Dims == nil || b.Dims == nil {
		return nil
	}
	s := &alignment{cells: 1}
	for _, d := range a.Dims {
		if slices.Contains(b.Dims, d) {
			s.common = append(s.common, d)
			s.cells *= d.Size
		}
	}
	s.of, s.ofNew = project(a.Dims, a.Cells, s.common), project(b.Dims, b.Cells, s.common)
	s.nested = len(s.common) == min(len(a.Dims), len(b.Dims))
	if len(s.common) == len(a.Dims) {
		s.refined = s.ofNew // the common table is a's own
	}
	return s
}

// project maps each cell of a table to that of a table of fewer dimensions that
// it lies in.
func project(from []Dim, cells int, to []Dim) []int32 {
	stride := make([]int, len(from)) // of each dimension in to; 0 if it is not there
	s := 1
	for i := len(to) - 1; i >= 0; i-- {
		stride[slices.Index(from, to[i])] = s
		s *= to[i].Size
	}
	m := make([]int32, cells)
	for c := range m {
		at, rest := 0, c
		for i := len(from) - 1; i >= 0; i-- {
			at += rest % from[i].Size * stride[i]
			rest /= from[i].Size
		}
		m[c] = int32(at)
	}
	return m
}

// compareTables flags new cells that are about the same as cells of a past
// release and differ from them by few units, because the filter has changed or
// the data. That is seen at every margin of what the two have in common, from
// the finest to the total; cells that a finer one has flagged are then left out
// on both sides.
func (c *checker) compareTables(o *overlay, s *alignment) {
	bad := make([]bool, s.cells)
	for subset := 1<<len(s.common) - 1; subset >= 0; subset-- {
		var dims []Dim
		cells := 1
		for i, d := range s.common {
			if subset>>i&1 == 1 {
				dims = append(dims, d)
				cells *= d.Size
			}
		}
		flagged := c.compareTable(o, s, project(s.common, s.cells, dims), cells, bad)
		// What other parties have more is in every margin, and not in a cell alone.
		if subset == 1<<len(s.common)-1 && o.others == 0 {
			bad = flagged
		}
	}
}

// compareTable does so for one margin, given which of its cells each of the
// common table lies in, and returns which of its cells differ by few units.
func (c *checker) compareTable(o *overlay, s *alignment, margin []int32, cells int, bad []bool) []bool {
	a, b := o.a, o.b
	inA, inB := make([]int32, a.Cells), make([]int32, b.Cells) // the cell of the margin
	regionA, regionB := make([]int, cells), make([]int, cells) // base cells of each
	for k, t := range s.of {
		inA[k] = margin[t]
		regionA[inA[k]]++
	}
	for k, t := range s.ofNew {
		inB[k] = margin[t]
		regionB[inB[k]]++
	}
	// The past release shows a cell of the margin whole if it has it as a group;
	// otherwise it shows the sum of the base cells that were not withheld.
	whole := make([]bool, cells)
	for g, group := range a.Groups {
		if at, ok := same(group, inA); ok && a.shown(a.Cells+g) && len(group) == regionA[at] {
			whole[at] = true
		}
	}
	usedA, usedB := make([]bool, a.Cells), make([]bool, b.Cells)
	anyA, anyB := make([]bool, cells), make([]bool, cells)
	for k, at := range inA {
		usedA[k] = !bad[s.of[k]] && (whole[at] || a.shown(k))
		anyA[at] = anyA[at] || usedA[k]
	}
	for k, at := range inB {
		usedB[k] = !bad[s.ofNew[k]] && b.shown(k) && (s.refined == nil || whole[at] || a.shown(int(s.refined[k])))
		anyB[at] = anyB[at] || usedB[k]
	}
	listsA, listsB := lists(a, inA, usedA), lists(b, inB, usedB)
	sizeA, sizeB, both := make([]int64, cells), make([]int64, cells), make([]int64, cells)
	shared := make([]int64, b.Cells)
	for _, p := range o.pairs {
		var as, bs []int32
		if p.a != none {
			as = listsA[p.a]
		}
		if p.b != none {
			bs = listsB[p.b]
		}
		for _, at := range as {
			sizeA[at] += p.n
			if slices.Contains(bs, at) {
				both[at] += p.n
			}
		}
		for _, at := range bs {
			sizeB[at] += p.n
		}
		if len(as) > 0 && p.b != none {
			for _, cell := range b.cells[p.b] {
				if slices.Contains(as, inB[cell]) {
					shared[cell] += p.n
				}
			}
		}
	}
	differs := make([]bool, cells)
	parts := make(map[int32][]part)
	for at := range differs {
		differs[at] = anyA[at] && anyB[at] && differ(sizeA[at]-both[at]+o.others, sizeB[at]-both[at]+o.others, c.least)
	}
	for k, at := range inB {
		if differs[at] && usedB[k] {
			parts[at] = append(parts[at], part{int32(k), shared[k]})
		}
	}
	for _, ps := range parts {
		if !slices.ContainsFunc(ps, func(p part) bool { return c.flagged[p.cell] && p.shared >= c.least }) {
			c.flagOne(ps)
		}
	}
	for g, group := range b.Groups {
		if at, ok := same(group, inB); ok && differs[at] && len(group) == regionB[at] {
			c.flag(int32(b.Cells + g))
		}
	}
	return differs
}

// same reports whether all base cells of a group lie in one cell of a margin.
func same(group, in []int32) (at int32, ok bool) {
	if len(group) == 0 {
		return 0, false
	}
	at = in[group[0]]
	return at, !slices.ContainsFunc(group, func(c int32) bool { return in[c] != at })
}

// lists returns, for each label, the cells of a margin that its used base cells
// lie in.
func lists(l *labelled, in []int32, used []bool) [][]int32 {
	ls := make([][]int32, len(l.cells))
	for k, cells := range l.cells {
		for _, c := range cells {
			if used[c] {
				ls[k] = append(ls[k], in[c])
			}
		}
		if len(ls[k]) > 1 {
			ls[k] = union(ls[k])
		}
	}
	return ls
}
