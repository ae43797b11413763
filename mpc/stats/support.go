package stats

import (
	"fmt"
	"slices"
	"strings"
)

// A counter can stand on fewer units than its cell has: those in a bin, and,
// where missing values are skipped, those that have a value. Supports are these
// parts of every cell. A cell with a support of few units tells as much of them
// as a small cell would.

// support sorts the rows of a cell into classes, each of which is a support; a
// row may be in none.
type support struct {
	first int // the number of its first class among all supports
	bins  int // a binned column, whose bins are the classes; -1 for none
	have  []int
	lack  []int // rows that have all of have and miss one of lack; nil for all that have
}

// Supports returns how many supports every cell has.
func (p *Plan) Supports() int { return p.supports }

// classes finds the supports that the counters have. Bins of the same column
// are cut at the edges of all measures, so that two measures are no way to take
// the difference of two bins.
func (l *layout) classes() error {
	add := func(s support, classes int) {
		s.first = l.supports
		l.sorted = append(l.sorted, s)
		l.supports += classes
	}
	edges := make(map[string][]float64)
	var binnedColumns []string
	for _, c := range l.columns {
		if c.kind != binned {
			continue
		}
		if edges[c.name] == nil {
			binnedColumns = append(binnedColumns, c.name)
		}
		edges[c.name] = append(edges[c.name], c.edges...)
	}
	for _, name := range binnedColumns {
		all := slices.Clone(edges[name])
		slices.Sort(all)
		all = slices.Compact(all)
		add(support{bins: l.column(column{name: name, kind: binned, edges: all})}, len(all)-1)
	}
	l.binned = len(l.sorted)
	type needed struct {
		need  []int
		names []string
	}
	seen := make(map[string]bool)
	sums := make(map[string][]needed) // the same numbers summed over different rows
	var order []string
	for i := range l.places {
		c := &l.places[i]
		if c.op == inBin || len(c.need) == 0 {
			continue
		}
		n := needed{c.need, l.needed(c)}
		if k := fmt.Sprintf("%q", n.names); !seen[k] {
			seen[k] = true
			add(support{bins: -1, have: c.need}, 1)
		}
		if c.op == ones {
			continue
		}
		k := l.summand(c)
		if sums[k] == nil {
			order = append(order, k)
		}
		if !slices.ContainsFunc(sums[k], func(m needed) bool { return slices.Equal(m.names, n.names) }) {
			sums[k] = append(sums[k], n)
		}
	}
	for _, k := range order {
		for i, x := range sums[k] {
			for j, y := range sums[k] {
				beside := slices.ContainsFunc(y.names, func(s string) bool { return !slices.Contains(x.names, s) })
				key := strings.Join([]string{fmt.Sprintf("%q", x.names), fmt.Sprintf("%q", y.names)}, "-")
				if i != j && beside && !seen[key] {
					seen[key] = true
					add(support{bins: -1, have: x.need, lack: y.need}, 1)
				}
			}
		}
	}
	if l.supports >= MaxCounters/l.cells {
		return fmt.Errorf("%w: %d cells with %d bins or columns that may miss values each, the most is %d in all", ErrSize, l.cells, l.supports, MaxCounters)
	}
	return nil
}

// Views says of which parts of a cell the counters are, by the number that they
// sum: the edges of a column's bins, or the sets of columns that rows must have.
// The rows themselves are no such number.
func (p *Plan) Views() map[string][]string {
	views := make(map[string][]string)
	put := func(key, part string) {
		if !slices.Contains(views[key], part) {
			views[key] = append(views[key], part)
		}
	}
	for _, s := range p.sorted[:p.binned] {
		c := &p.columns[s.bins]
		key := fmt.Sprintf("bins %q", c.name)
		for _, e := range c.edges { // of which none occurs twice
			views[key] = append(views[key], number(e))
		}
	}
	for i := range p.places {
		if c := &p.places[i]; c.op != inBin && c.op != ones && len(c.need) > 0 {
			put("sums "+p.summand(c), fmt.Sprintf("%q", p.needed(c)))
		}
	}
	return views
}

// summand names the numbers that a counter sums, whatever their scale.
func (p *Plan) summand(c *place) string {
	names := []string{p.columns[c.a].name}
	if c.op == product {
		names = append(names, p.columns[c.b].name)
	}
	slices.Sort(names)
	return fmt.Sprintf("%q", names)
}

// needed names the columns of which rows must have a value to count, sorted.
func (p *Plan) needed(c *place) []string {
	var names []string
	for _, at := range c.need {
		names = append(names, p.columns[at].name)
	}
	slices.Sort(names)
	return names
}

// support notes the supports that each row of the block is in: the bin of each
// binned column, and the number of the pattern of values that it misses.
func (c *counting) support() {
	if len(c.sorted) == 0 {
		return
	}
	c.inSupport = room(c.inSupport, c.supportWidth()*len(c.rows))
	missing := make([]byte, len(c.columns))
	for r := range c.rows {
		clear(missing)
		for at, has := range c.has {
			if len(has) > 0 && !has[r] {
				missing[at] = 1
			}
		}
		for i := range c.sorted[:c.binned] {
			s := &c.sorted[i]
			in := int32(-1)
			if missing[s.bins] == 0 {
				in = int32(s.first) + int32(c.nums[s.bins][r])
			}
			c.inSupport = append(c.inSupport, in)
		}
		if c.binned < len(c.sorted) {
			c.inSupport = append(c.inSupport, c.pattern(missing))
		}
	}
}

// supportWidth is how many numbers a row has in inSupport.
func (p *Plan) supportWidth() int {
	if p.binned < len(p.sorted) {
		return p.binned + 1
	}
	return p.binned
}

// pattern returns the number of the supports that a row which misses these
// columns is in, but for bins.
func (c *counting) pattern(missing []byte) int32 {
	if n, ok := c.patternAt[string(missing)]; ok {
		return n
	}
	all := func(columns []int) bool {
		return !slices.ContainsFunc(columns, func(at int) bool { return missing[at] == 1 })
	}
	var in []int32
	for i := range c.sorted[c.binned:] {
		if s := &c.sorted[c.binned+i]; all(s.have) && (s.lack == nil || !all(s.lack)) {
			in = append(in, int32(s.first))
		}
	}
	n := int32(len(c.patterns))
	c.patternAt[string(missing)] = n
	c.patterns = append(c.patterns, in)
	return n
}

// supported counts the unit in the supports that a row of the cell entered is
// in, once in each.
func (t *tally) supported(row uint32) {
	in := t.inSupport[int(row)*t.width : int(row+1)*t.width]
	for _, s := range in[:t.binned] {
		if s >= 0 {
			t.support(s)
		}
	}
	for _, pattern := range in[t.binned:] {
		for _, s := range t.patterns[pattern] {
			t.support(s)
		}
	}
}

func (t *tally) support(s int32) {
	from := int(s) * len(t.units)
	for _, r := range t.reached {
		if at := from + int(r); t.seen[at] != t.unit {
			t.seen[at] = t.unit
			t.supports[at]++
		}
	}
}
