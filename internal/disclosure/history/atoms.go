package history

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/yinqiao/yinqiao/internal/disclosure/span"
)

// Bounds of the elimination. Beyond them, every new query with an atom of few
// units is flagged that the bounded part has not settled.
const (
	maxAtoms = 1 << 20
	maxCore  = 1 << 12 // rows
	effort   = 1 << 29 // steps of about a nanosecond, of all rounds
	rounds   = 16
)

// atoms sorts the units of all releases into those that no release tells apart.
// 28 bytes for each unit while a release is added.
type atoms struct {
	units []uint64
	at    []int32 // of each unit
	// levels has a release each, the new one first: of each atom that there was
	// after it, the atom it was before (none for units not seen before) and the
	// label in the release.
	levels []level
	full   bool // there are more than maxAtoms
}

type level struct {
	release       *labelled // without units and members
	before, label []int32
}

func newAtoms(now *labelled) *atoms {
	a := &atoms{units: now.units, at: slices.Clone(now.label)}
	lv := level{release: now.bare()}
	for k := range now.cells {
		lv.before, lv.label = append(lv.before, none), append(lv.label, int32(k))
	}
	a.levels = append(a.levels, lv)
	return a
}

// bare is a release without what grows with its units.
func (l *labelled) bare() *labelled {
	b := *l
	b.units, b.label, b.value = nil, nil, nil
	r := *l.Release
	r.Members = nil
	b.Release = &r
	return &b
}

// split tells units apart by one more release.
func (a *atoms) split(r *labelled) {
	lv := level{release: r.bare()}
	units := make([]uint64, 0, max(len(a.units), len(r.units)))
	at := make([]int32, 0, cap(units))
	seen := newPairs(10)
	merge(a.units, r.units, func(i, k int) {
		before, label, unit := none, none, uint64(0)
		if i >= 0 {
			before, unit = a.at[i], a.units[i]
		}
		if k >= 0 {
			label, unit = r.label[k], r.units[k]
		}
		n, fresh := seen.number(before, label)
		if fresh {
			lv.before, lv.label = append(lv.before, before), append(lv.label, label)
		}
		units, at = append(units, unit), append(at, n)
	})
	a.full = a.full || len(lv.before) > maxAtoms
	a.units, a.at = units, at
	a.levels = append(a.levels, lv)
}

// pairs numbers pairs in the order in which they are first seen: a hash table
// with open addresses, since a map is too slow for one look-up per unit and
// release.
type pairs struct {
	keys    []uint64
	numbers []int32 // from 1; 0 is an empty place
	n       int32
	shift   int
}

// newPairs makes a table of 2^k places.
func newPairs(k int) *pairs {
	return &pairs{keys: make([]uint64, 1<<k), numbers: make([]int32, 1<<k), shift: 64 - k}
}

func (p *pairs) number(a, b int32) (n int32, fresh bool) {
	key := uint64(uint32(a))<<32 | uint64(uint32(b))
	mask := uint64(len(p.keys) - 1)
	i := key * 0x9e3779b97f4a7c15 >> p.shift
	for p.numbers[i] != 0 {
		if p.keys[i] == key {
			return p.numbers[i] - 1, false
		}
		i = (i + 1) & mask
	}
	p.n++
	p.keys[i], p.numbers[i] = key, p.n
	if int(p.n)*2 > len(p.keys) {
		p.grow()
	}
	return p.n - 1, true
}

func (p *pairs) grow() {
	old := *p
	*p = *newPairs(65 - old.shift)
	p.n = old.n
	mask := uint64(len(p.keys) - 1)
	for k, n := range old.numbers {
		if n == 0 {
			continue
		}
		i := old.keys[k] * 0x9e3779b97f4a7c15 >> p.shift
		for p.numbers[i] != 0 {
			i = (i + 1) & mask
		}
		p.keys[i], p.numbers[i] = old.keys[k], n
	}
}

// system is the linear system that an attacker has: a row for each query that
// was or is to be released, the sum over the atoms in it. A query that is
// withheld has a row as well, in which stands besides its atoms an unknown of no
// units, less their sum: the query follows if that does.
type system struct {
	rows  [][]int32 // atoms, ascending
	fresh []int32   // of each row: the query of the new release, or none
	veil  []bool    // of each row: its query is withheld
	cols  [][]int32 // rows of each atom
	size  []int64   // units of each atom
	idle  []int32   // groups of the new release without a row
	left  int64     // steps
}

// isolate flags new queries until neither an atom of few units nor a query that
// is withheld follows from a linear combination in which one of them takes part.
// Why it is withheld this node does not know: it can have units enough, all of
// them with one party, or mostly those of one unit.
func (c *checker) isolate() {
	if len(c.atoms.levels) < 2 {
		return
	}
	left := int64(effort)
	for n := range rounds {
		s := c.atoms.system(c, n < rounds-1)
		if s == nil {
			// So many atoms that most have few units.
			for q := range c.flagged {
				if c.now.shown(q) && c.now.count[q] > 0 {
					c.flag(int32(q))
				}
			}
			return
		}
		s.left = left
		again := s.solve(c)
		if left = s.left; !again {
			return
		}
	}
}

// solve flags until nothing follows, and reports whether it flagged a base cell
// of a group that has no row because all its cells were shown.
func (s *system) solve(c *checker) (again bool) {
	before := slices.Clone(c.flagged)
	more := true
	for n := 0; more && n < rounds; n++ {
		more = s.round(c, false)
	}
	if more {
		s.round(c, true)
	}
	return slices.ContainsFunc(s.idle, func(q int32) bool {
		return slices.ContainsFunc(c.now.cellsOf(q), func(cell int32) bool { return c.flagged[cell] && !before[cell] })
	})
}

// system builds the rows; nil if there are too many atoms. idle says whether
// groups of the new release may be left out, see rest.
func (a *atoms) system(c *checker, idle bool) *system {
	if a.full {
		return nil
	}
	n := len(a.levels[len(a.levels)-1].label)
	size := make([]int64, n)
	for _, k := range a.at {
		size[k]++
	}
	// Rows of a release are numbered from its base on.
	base := make([]int32, len(a.levels)+1)
	s := &system{}
	for i, lv := range a.levels {
		q := lv.release.Queries()
		base[i+1] = base[i] + int32(q)
		for k := range q {
			fresh, shown := none, lv.release.shown(k)
			if i == 0 && shown {
				fresh = int32(k)
			}
			s.fresh, s.veil = append(s.fresh, fresh), append(s.veil, !shown)
		}
	}
	// Atoms in the same rows are one.
	s.rows = make([][]int32, len(s.fresh))
	same := make(map[string]int32)
	var col []int32
	var key []byte
	entries := 0
	for k := range n {
		col = col[:0]
		at := int32(k)
		for i := len(a.levels) - 1; i >= 0 && at != none; i-- {
			lv := a.levels[i]
			if label := lv.label[at]; label != none {
				for _, q := range lv.release.queries[label] {
					if int(q) < lv.release.Queries() && (i == 0 || !lv.release.spare(q)) {
						col = append(col, base[i]+q)
					}
				}
				for _, q := range lv.release.hidden[label] {
					col = append(col, base[i]+q)
				}
			}
			at = lv.before[at]
		}
		if len(col) == 0 {
			continue
		}
		key = key[:0]
		for _, r := range col {
			key = binary.LittleEndian.AppendUint32(key, uint32(r))
		}
		m, ok := same[string(key)]
		if !ok {
			m = int32(len(s.cols))
			same[string(key)] = m
			if entries += len(col); entries > maxEntries {
				return nil
			}
			s.cols = append(s.cols, slices.Clone(col))
			s.size = append(s.size, 0)
			for _, r := range col {
				s.rows[r] = append(s.rows[r], m)
			}
		}
		s.size[m] += size[k]
	}
	s.unite()
	if idle {
		s.rest(c)
	}
	s.hide()
	return s
}

// rest drops the groups of the new release all of whose base cells are shown. A
// unit that is in two of these counts once in a group, and its numbers in both:
// the row would say more than the sum does.
func (s *system) rest(c *checker) {
	drop := make([]bool, len(s.rows))
	for r, q := range s.fresh {
		if q != none && c.now.spare(q) && !slices.ContainsFunc(c.now.cellsOf(q), func(cell int32) bool { return c.flagged[cell] }) {
			drop[r] = true
			s.idle = append(s.idle, q)
		}
	}
	s.remove(drop)
}

// hide gives the rows of withheld queries their unknowns, and drops those that
// cannot follow because nothing that is shown has all of their atoms.
func (s *system) hide() {
	drop := make([]bool, len(s.rows))
	for _, col := range s.cols {
		if !slices.ContainsFunc(col, func(r int32) bool { return !s.veil[r] }) {
			for _, r := range col {
				drop[r] = true
			}
		}
	}
	s.remove(drop)
	for r, row := range s.rows {
		if s.veil[r] && len(row) > 0 {
			s.rows[r] = append(row, int32(len(s.cols)))
			s.cols, s.size = append(s.cols, []int32{int32(r)}), append(s.size, 0)
		}
	}
}

// spare reports whether a query is a group whose base cells are all shown, and
// so says nothing beside them. Of a new release it may: cells can yet be flagged.
func (l *labelled) spare(q int32) bool {
	return !l.base(q) && !slices.ContainsFunc(l.cellsOf(q), func(c int32) bool { return !l.shown(int(c)) })
}

// cellsOf returns the base cells of a group.
func (l *labelled) cellsOf(q int32) []int32 { return l.Groups[int(q)-l.Cells] }

// unite drops rows that are equal to one before, of past releases first: what
// has been released may be released again. Those of withheld queries come last:
// whether one that is to be released now may be is decided over all parties.
func (s *system) unite() {
	order := make([]int32, len(s.rows))
	for r := range order {
		order[r] = int32(r)
	}
	rank := func(r int32) int { return b2i(s.fresh[r] != none) + 2*b2i(s.veil[r]) }
	slices.SortStableFunc(order, func(a, b int32) int { return rank(a) - rank(b) })
	seen := make(map[[2]uint64]bool)
	drop := make([]bool, len(s.rows))
	for _, r := range order {
		// Two sums of mixed numbers: rows that differ agree in both by an accident
		// of 2^-128 only, and nobody chooses the numbers of atoms.
		var h [2]uint64
		for _, k := range s.rows[r] {
			hi, lo := bits.Mul64(uint64(k)*0x9e3779b97f4a7c15+0xd1b54a32d192ed03, 0x2545f4914f6cdd1d+uint64(k)<<32)
			h[0] += hi ^ lo*0xff51afd7ed558ccd
			h[1] += lo ^ hi*0xc4ceb9fe1a85ec53
		}
		if len(s.rows[r]) == 0 || seen[h] {
			drop[r] = true
		}
		seen[h] = true
	}
	s.remove(drop)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// remove takes rows out.
func (s *system) remove(drop []bool) {
	for r, d := range drop {
		if d {
			s.rows[r] = nil
		}
	}
	for k, col := range s.cols {
		s.cols[k] = slices.DeleteFunc(col, func(r int32) bool { return drop[r] })
	}
}

// round looks for atoms of few units that follow, flags a new query for each and
// takes it out; all that take part if last is set. It reports whether it flagged
// any.
func (s *system) round(c *checker, last bool) bool {
	drop := make([]bool, len(s.rows))
	any := false
	flag := func(r int32) {
		if !drop[r] {
			drop[r], any = true, true
			c.flag(s.fresh[r])
		}
	}
	for r, q := range s.fresh { // flagged by comparison
		if q != none && c.flagged[q] && len(s.rows[r]) > 0 {
			drop[r] = true
		}
	}
	s.remove(drop)
	// breakUp flags, of the new rows that give an atom away the one with the fewest
	// units, unless one is flagged already.
	breakUp := func(rows []int32) {
		best := none
		for _, r := range rows {
			q := s.fresh[r]
			switch {
			case q == none:
			case last:
				flag(r)
			case drop[r]:
				return
			case best == none || c.now.count[q] < c.now.count[s.fresh[best]]:
				best = r
			}
		}
		if best != none && !last {
			flag(best)
		}
	}
	known, from := s.peel(c, breakUp)
	s.core(c, known, from, breakUp, flag)
	s.remove(drop)
	return any
}

// peel finds what follows row by row: an atom that is all of a query is known,
// and so is the last atom of a query when the others are. It returns which are
// known, and from which row.
func (s *system) peel(c *checker, give func(rows []int32)) (known []bool, from []int32) {
	known, from = make([]bool, len(s.cols)), make([]int32, len(s.cols))
	unknown := make([]int32, len(s.rows))
	var queue []int32
	for r, row := range s.rows {
		if unknown[r] = int32(len(row)); unknown[r] == 1 {
			queue = append(queue, int32(r))
		}
	}
	direct := len(queue)
	for n := 0; n < len(queue); n++ {
		r := queue[n]
		if unknown[r] != 1 {
			continue
		}
		at := none
		for _, k := range s.rows[r] {
			if !known[k] {
				at = k
				break
			}
		}
		known[at], from[at] = true, r
		// A query of a single atom was released, or is to be, as a cell of its own:
		// whether it has enough units is decided over all parties.
		if n >= direct && s.size[at] < c.least {
			give(s.origins(at, from))
		}
		for _, q := range s.cols[at] {
			if unknown[q]--; unknown[q] == 1 {
				queue = append(queue, q)
			}
		}
	}
	return known, from
}

// maxOrigins bounds how far back a derivation is followed: rows further back are
// older than those that completed it.
const maxOrigins = 1 << 10

// origins returns the rows that an atom was derived from.
func (s *system) origins(k int32, from []int32) []int32 {
	rows := []int32{}
	seen := map[int32]bool{k: true}
	for queue := []int32{k}; len(queue) > 0 && len(rows) < maxOrigins; queue = queue[1:] {
		r := from[queue[0]]
		rows = append(rows, r)
		for _, j := range s.rows[r] {
			if !seen[j] {
				seen[j] = true
				queue = append(queue, j)
			}
		}
	}
	return rows
}

// core finds what follows from several rows together, of the atoms that peel
// has not found.
func (s *system) core(c *checker, known []bool, from []int32, give func(rows []int32), flag func(r int32)) {
	number := make([]int32, len(s.rows)) // of rows that are left, from 1
	var rows []int32
	var cols []int32
	for k := range s.cols {
		if known[k] || len(s.cols[k]) == 0 {
			continue
		}
		cols = append(cols, int32(k))
		for _, r := range s.cols[k] {
			if number[r] == 0 {
				rows = append(rows, r)
				number[r] = int32(len(rows))
			}
		}
	}
	few := slices.ContainsFunc(cols, func(k int32) bool { return s.size[k] < c.least })
	if !few {
		return
	}
	giveUp := func() {
		unsettled := func(k int32) {
			for _, r := range s.cols[k] {
				if s.fresh[r] != none {
					flag(r)
				}
			}
		}
		for _, k := range cols {
			switch {
			case s.size[k] == 0: // of a withheld query
				for _, j := range s.rows[s.cols[k][0]] {
					unsettled(j)
				}
			case s.size[k] < c.least:
				unsettled(k)
			}
		}
	}
	if len(rows) > maxCore {
		giveUp()
		return
	}
	// Large atoms come first: what is not in the basis shows which atoms of the
	// basis can vary, and large ones need not be shown.
	slices.SortStableFunc(cols, func(x, y int32) int { return b2i(s.size[x] < c.least) - b2i(s.size[y] < c.least) })
	column := func(k int32) []span.Term {
		col := make([]span.Term, len(s.cols[k]))
		for i, r := range s.cols[k] {
			col[i].Row = number[r] - 1
		}
		return col
	}
	var b span.Basis
	s.left -= b.Reset(len(rows), nil)
	var free []int32
	for _, k := range cols {
		rank := b.Rank
		if s.left -= b.Add(int(k), column(k)); s.left < 0 {
			giveUp()
			return
		}
		if b.Rank == rank {
			free = append(free, k)
		}
	}
	varies := make([]bool, len(rows))
	fixed := 0
	for r, k := range b.Pivot {
		if k >= 0 && s.size[k] < c.least {
			fixed++
		} else {
			varies[r] = true
		}
	}
	y := make([]uint64, len(rows))
	for _, k := range free {
		if fixed == 0 {
			return
		}
		clear(y)
		if s.left -= b.Solve(column(k), y); s.left < 0 {
			giveUp()
			return
		}
		for r, v := range y {
			if v != 0 && !varies[r] {
				varies[r] = true
				fixed--
			}
		}
	}
	for r, v := range varies {
		if v {
			continue
		}
		var combined []int32
		for q := range b.Combination(r) {
			combined = append(combined, rows[q])
			for _, k := range s.rows[rows[q]] {
				if known[k] { // it was subtracted
					combined = append(combined, s.origins(k, from)...)
				}
			}
		}
		slices.Sort(combined)
		give(slices.Compact(combined))
	}
}
