package disclosure

import (
	"cmp"
	"slices"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/internal/disclosure/span"
)

// protection is how wide the interval of a withheld cell must stay: at least
// the minimum of units, and a tenth of its own.
const protection = 10

// effort bounds the steps of one call of Suppress, each about two nanoseconds.
// What it does not suffice for is withheld by a rule that needs no search.
const effort = 1 << 25

// maxLines is how many equations that hang together are searched, since the
// search holds the square of it in memory.
const maxLines = 2048

// Suppress returns the cells to withhold. All parties that call it with the
// same arguments get the same.
//
// Primary cells are those that break a rule: with a flag, or with at least one
// unit and fewer units or providers than the rules ask for. A cell without a
// unit or a flag is no secret, and shown as empty.
//
// Others are withheld with them, so that for each primary cell there is another
// table that agrees with everything released, in which it has at least
// max(MinUnits, a tenth of its units) more rows, no cell has fewer than none,
// and no other primary cell has fewer than it has. It follows that no linear
// combination of released cells gives a withheld one, whatever the measure; and
// that the union of the withheld parts of a released total has, like a cell that
// is released, enough units and one part with enough providers. That is
// complete for measures that are counts; a recipient that knows bounds of
// other measures, or has a part in the cells itself, can know more.
//
// The tables that prove this are found by elimination, the cheapest of a few
// for each primary cell, and what turns out not to be needed is given back. So
// the mask is safe, and small, but not the smallest. Time is linear in the
// table, plus a search of at most effort steps; beyond it all totals over a
// primary cell are withheld, or, where that is not enough, all cells that hang
// together with it.
func Suppress(r rules.Set, cells []Count, eqs []Equation) (mask []bool, err error) {
	return suppress(r, cells, eqs, effort)
}

// suppress is Suppress with a number of steps.
func suppress(r rules.Set, cells []Count, eqs []Equation, effort int64) ([]bool, error) {
	if err := check(cells, eqs); err != nil {
		return nil, err
	}
	r = r.InForce()
	t := &search{cells: cells, eqs: eqs, primary: make([]bool, len(cells)), hidden: make([]bool, len(cells)), need: make([]int64, len(cells)), left: effort}
	var primary []int
	for i, c := range cells {
		if c.Flags > 0 || c.Units > 0 && (c.Units < r.MinUnits || c.Providers < r.MinProviders) {
			t.primary[i], t.hidden[i] = true, true
			t.need[i] = max(r.MinUnits, c.Units/protection)
			primary = append(primary, i)
		}
	}
	if len(primary) == 0 || len(eqs) == 0 {
		return t.hidden, nil
	}
	t.index()
	slices.SortStableFunc(primary, func(a, b int) int { return cmp.Compare(t.need[b], t.need[a]) })
	for _, i := range primary {
		t.protect(i)
	}
	t.relent(primary)
	return t.hidden, nil
}

// search is the state of one call of Suppress.
type search struct {
	cells   []Count
	eqs     []Equation
	primary []bool
	hidden  []bool
	need    []int64       // of primary cells
	in      [][]term      // the equations that each cell is in
	column  [][]span.Term // the same, for elimination within the cell's group
	group   []int         // cells that hang together have the same number
	lines   []int         // how many equations a group has, by its number
	basis   span.Basis
	left    int64   // steps
	near    []int32 // see measure
	reached []int
	keys    []keyed
}

// term is a cell's coefficient in an equation, written Σ parts - total = 0.
type term struct {
	eq   int32
	sign int32
}

// move is a change of cells that keeps all equations, times any whole number.
type move map[int]int64

func (t *search) index() {
	t.in = make([][]term, len(t.cells))
	t.column = make([][]span.Term, len(t.cells))
	parent := make([]int, len(t.cells))
	for i := range parent {
		parent[i] = i
	}
	find := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	for _, e := range t.eqs {
		for _, p := range e.Parts {
			if a, b := find(p), find(e.Total); a != b {
				parent[max(a, b)] = min(a, b)
			}
		}
	}
	t.lines = make([]int, len(t.cells))
	for i := range parent {
		parent[i] = find(i)
	}
	t.group = parent
	for k, e := range t.eqs {
		lines := &t.lines[t.group[e.Total]]
		eq, row := int32(k), int32(*lines)
		t.in[e.Total] = append(t.in[e.Total], term{eq, -1})
		t.column[e.Total] = append(t.column[e.Total], span.Term{Row: row, Minus: true})
		for _, p := range e.Parts {
			t.in[p] = append(t.in[p], term{eq, 1})
			t.column[p] = append(t.column[p], span.Term{Row: row})
		}
		*lines++
	}
}

// protect withholds what a primary cell needs besides itself.
func (t *search) protect(i int) {
	if len(t.in[i]) == 0 {
		return
	}
	best, cost := t.totals(i), int64(-1)
	if best != nil {
		cost = t.cost(best)
	}
	if t.lines[t.group[i]] <= maxLines {
		found := false
		for k, find := range []func(int) move{t.withheld, t.corner, t.nearest, t.cheapest} {
			// The last takes the longest, and is for what the others do not find.
			if cost == 0 || t.left < 0 || k == 3 && found {
				break
			}
			if m := find(i); m != nil {
				found = true
				if c := t.cost(m); cost < 0 || c < cost {
					best, cost = m, c
				}
			}
		}
	}
	if best != nil {
		for j := range best {
			t.hidden[j] = true
		}
		return
	}
	for j := range t.cells {
		if t.group[j] == t.group[i] {
			t.hidden[j] = true
		}
	}
}

// cost is how many units a move withholds that were to be released.
func (t *search) cost(m move) int64 {
	var c int64
	for j := range m {
		if !t.hidden[j] {
			c += t.cells[j].Units + 1
		}
	}
	return c
}

// room is how far cell j can be moved down: a primary cell not at all, or two
// of them could stand for each other though together they are too few.
func (t *search) room(j int) int64 {
	if t.primary[j] {
		return 0
	}
	return t.cells[j].Units
}

// protects reports whether a move shows that cell i can be as much larger as it
// needs.
func (t *search) protects(m move, i int) bool {
	if m[i] <= 0 {
		return false
	}
	times := (t.need[i] + m[i] - 1) / m[i]
	for j, d := range m {
		if d < 0 && t.room(j)/-d < times {
			return false
		}
	}
	return true
}

// balanced reports whether a move keeps all equations.
func (t *search) balanced(m move) bool {
	sums := make(map[int32]int64)
	for j, d := range m {
		for _, e := range t.in[j] {
			sums[e.eq] += int64(e.sign) * d
		}
	}
	for _, s := range sums {
		if s != 0 {
			return false
		}
	}
	return true
}

// totals is the move of cell i together with all totals over it, if that is
// one: it needs no search, and nothing moves down.
func (t *search) totals(i int) move {
	m := move{i: 1}
	for queue := []int{i}; len(queue) > 0; queue = queue[1:] {
		for _, e := range t.in[queue[0]] {
			total := t.eqs[e.eq].Total
			if e.sign > 0 && m[total] == 0 {
				m[total] = 1
				queue = append(queue, total)
			}
		}
	}
	if !t.balanced(m) {
		return nil
	}
	return m
}

// class puts cells that can be moved down as far as cell i needs before those
// that cannot, and cells that are empty last.
func (t *search) class(i, j int) int64 {
	switch {
	case t.room(j) >= t.need[i]:
		return 0
	case t.cells[j].Units == 0:
		return 3
	case t.primary[j]:
		return 2
	}
	return 1
}

// price is what withholding a cell costs.
func (t *search) price(j int) int64 {
	if t.hidden[j] {
		return 0
	}
	return t.cells[j].Units + 1
}

// withheld looks for a move of cells that are withheld already.
func (t *search) withheld(i int) move {
	var js []int
	for j, h := range t.hidden {
		if h && j != i && t.group[j] == t.group[i] {
			js = append(js, j)
		}
	}
	return t.first(i, js, func(j int) [3]int64 { return [3]int64{t.class(i, j), -t.room(j)} })
}

// cheapest looks for a move in which the dearest cell is as cheap as can be.
func (t *search) cheapest(i int) move {
	var js []int
	for j := range t.cells {
		if j != i && t.group[j] == t.group[i] {
			js = append(js, j)
		}
	}
	return t.first(i, js, func(j int) [3]int64 { return [3]int64{t.class(i, j), t.price(j), 0} })
}

// nearest looks for a move of cells that are close to cell i.
func (t *search) nearest(i int) move {
	js := t.measure(i)
	return t.first(i, slices.Clone(js[1:]), func(j int) [3]int64 { return [3]int64{t.class(i, j), int64(t.near[j]), t.price(j)} })
}

// measure returns the cells that hang together with cell i, itself first, and
// puts in near how many equations lie between.
func (t *search) measure(i int) []int {
	if len(t.reached) > 0 && t.reached[0] == i {
		return t.reached
	}
	t.near = slices.Grow(t.near[:0], len(t.cells))[:len(t.cells)]
	for j := range t.near {
		t.near[j] = -1
	}
	done := make([]bool, len(t.eqs))
	t.near[i] = 0
	t.reached = append(t.reached[:0], i)
	for n := 0; n < len(t.reached); n++ {
		j := t.reached[n]
		reach := func(k int) {
			if t.near[k] < 0 {
				t.near[k] = t.near[j] + 1
				t.reached = append(t.reached, k)
			}
		}
		for _, e := range t.in[j] {
			if done[e.eq] {
				continue
			}
			done[e.eq] = true
			reach(t.eqs[e.eq].Total)
			for _, k := range t.eqs[e.eq].Parts {
				reach(k)
			}
			t.left -= int64(len(t.eqs[e.eq].Parts)) * 4
		}
	}
	t.left -= int64(len(t.cells))
	return t.reached
}

// first takes cells in the order of their keys until they can balance cell i,
// and returns the move.
func (t *search) first(i int, js []int, key func(int) [3]int64) move {
	t.sort(js, key)
	b := &t.basis
	t.left -= b.Reset(t.lines[t.group[i]], t.column[i])
	for _, j := range js {
		if b.Spanned() {
			break
		}
		if t.left -= b.Add(j, t.column[j]); t.left < 0 {
			return nil
		}
	}
	if !b.Spanned() {
		return nil
	}
	return t.accept(i, b.Target, -1, 0)
}

// keyed is a cell with what it is sorted by.
type keyed struct {
	key [3]int64
	j   int
}

func (t *search) sort(js []int, key func(int) [3]int64) {
	ks := t.keys[:0]
	for _, j := range js {
		ks = append(ks, keyed{key(j), j})
	}
	slices.SortFunc(ks, func(a, b keyed) int {
		for n := range a.key {
			if a.key[n] != b.key[n] {
				return cmp.Compare(a.key[n], b.key[n])
			}
		}
		return cmp.Compare(a.j, b.j)
	})
	for n := range ks {
		js[n] = ks[n].j
	}
	t.keys = ks
	t.left -= int64(len(js)) * 16
}

// corner looks for the cheapest move of cells in the lines of cell i and one
// more: in a table of two dimensions, a rectangle.
func (t *search) corner(i int) move {
	var lines, rest []int
	for _, j := range t.measure(i) {
		if t.class(i, j) != 0 {
			continue
		}
		if d := t.near[j]; d == 1 {
			lines = append(lines, j)
		} else if d == 2 {
			rest = append(rest, j)
		}
	}
	price := func(j int) [3]int64 { return [3]int64{t.price(j)} }
	t.sort(lines, price)
	t.sort(rest, price)
	b := &t.basis
	t.left -= b.Reset(t.lines[t.group[i]], t.column[i])
	for _, j := range lines {
		if t.left -= b.Add(j, t.column[j]); t.left < 0 {
			return nil
		}
	}
	if b.Spanned() {
		return nil // nearest has it
	}
	var best move
	cost := int64(-1)
	y, with := make([]uint64, len(b.Pivot)), make([]uint64, len(b.Pivot))
	for _, j := range rest {
		if cost >= 0 && t.price(j) >= cost {
			break
		}
		clear(y)
		if t.left -= b.Solve(t.column[j], y); t.left < 0 {
			break
		}
		factor, ok := b.Ratio(b.Target, y)
		if !ok {
			continue
		}
		for k := range y {
			with[k] = (b.Target[k] + span.Prime - y[k]*factor%span.Prime) % span.Prime
		}
		if m := t.accept(i, with, j, factor); m != nil {
			if c := t.cost(m); cost < 0 || c < cost {
				best, cost = m, c
			}
		}
	}
	return best
}

// accept makes a move of what elimination found: cell i, less the cells of the
// basis with coefficients y, less cell other. It holds it against the equations
// in whole numbers, so that nothing depends on the modulus.
func (t *search) accept(i int, y []uint64, other int, coefficient uint64) move {
	m := t.move(i, y, other, coefficient)
	if m == nil || !t.balanced(m) || !t.protects(m, i) {
		return nil
	}
	return m
}

// maxMultiple and maxFactor bound the coefficients of moves. Those of tables of
// two dimensions are 1 and -1.
const (
	maxMultiple = 12
	maxFactor   = 1 << 10
)

func (t *search) move(i int, y []uint64, other int, coefficient uint64) move {
	b := &t.basis
multiples:
	for k := uint64(1); k <= maxMultiple; k++ {
		m := move{i: int64(k)}
		put := func(j int, c uint64) bool {
			v := int64(c * k % span.Prime)
			if v > span.Prime/2 {
				v -= span.Prime
			}
			if v != 0 {
				m[j] = -v
			}
			return v <= maxFactor && v >= -maxFactor
		}
		for row, c := range y {
			if c != 0 && !put(b.Pivot[row], c) {
				continue multiples
			}
		}
		if other >= 0 && !put(other, coefficient) {
			continue
		}
		return m
	}
	return nil
}

// relent releases again what was withheld beyond need: cells that cost most
// first, as long as all primary cells stay protected and no withheld cell
// becomes known.
func (t *search) relent(primary []int) {
	var extra []int
	for j, h := range t.hidden {
		if h && !t.primary[j] && t.lines[t.group[j]] <= maxLines && len(t.in[j]) > 0 {
			extra = append(extra, j)
		}
	}
	t.sort(extra, func(j int) [3]int64 { return [3]int64{-t.cells[j].Units} })
	for _, j := range extra {
		if t.left < 0 {
			return
		}
		t.hidden[j] = false
		if !t.safe(t.group[j]) {
			t.hidden[j] = true
		}
	}
}

// safe reports whether what is withheld of a group of cells is enough, as far
// as a single elimination can tell.
func (t *search) safe(group int) bool {
	var js []int
	open := 0 // cells that no move has covered yet
	for j, h := range t.hidden {
		if h && t.group[j] == group {
			js = append(js, j)
			open++
		}
	}
	// The largest cells come first, so that each move has the most room, and
	// primary ones last.
	t.sort(js, func(j int) [3]int64 { return [3]int64{t.class(j, j), -t.room(j), -t.cells[j].Units} })
	b := &t.basis
	t.left -= b.Reset(t.lines[group], nil)
	covered := make(map[int]bool, open)
	cover := func(j int) {
		if !covered[j] {
			covered[j] = true
			open--
		}
	}
	var free []int
	for _, j := range js {
		before := b.Rank
		if t.left -= b.Add(j, t.column[j]); t.left < 0 {
			return false
		}
		if b.Rank == before {
			free = append(free, j)
		}
	}
	y := make([]uint64, len(b.Pivot))
	for _, j := range free {
		clear(y)
		if t.left -= b.Solve(t.column[j], y); t.left < 0 {
			return false
		}
		m := t.move(j, y, -1, 0)
		if m == nil || !t.balanced(m) {
			return false
		}
		for _, sign := range []int64{1, -1} {
			for k := range m {
				m[k] *= sign
			}
			for k := range m {
				if !t.primary[k] || t.protects(m, k) {
					cover(k)
				}
			}
		}
	}
	return open == 0
}
