package stats

import (
	"math"
	"sort"

	"github.com/yinqiao/yinqiao/table"
)

// matcher is a filter made ready for a column of a known type.
type matcher struct {
	col      int
	list     bool // In or NotIn
	not      bool
	texts    map[string]struct{}
	ints     map[int64]struct{}
	min, max float64
}

func newMatcher(f *Filter, col int, t table.Type) matcher {
	m := matcher{col: col, min: math.Inf(-1), max: math.Inf(1)}
	if f.Min != nil {
		m.min = *f.Min
	}
	if f.Max != nil {
		m.max = *f.Max
	}
	values := f.In
	if f.NotIn != nil {
		values, m.not = f.NotIn, true
	}
	m.list = values != nil
	if m.list && t == table.Int {
		m.ints = make(map[int64]struct{}, len(values))
		for _, v := range values {
			if n, ok := v.int(); ok {
				m.ints[n] = struct{}{}
			}
		}
	} else if m.list {
		m.texts = make(map[string]struct{}, len(values))
		for _, v := range values {
			m.texts[string(v)] = struct{}{}
		}
	}
	return m
}

// within compares an int with the bounds. Beyond 2^53 ints are rounded first.
func (m *matcher) within(n int64) bool {
	x := float64(n)
	return m.min <= x && x <= m.max
}

// denseSpan is how far the ints of a domain may be apart to be looked up in an
// array: 256 KiB at most.
const denseSpan = 1 << 16

// lookup finds the category of a value: -1 where there is none.
type lookup struct {
	col    int
	edges  []float64
	open   bool
	texts  map[string]int32
	ints   map[int64]int32
	dense  []int32 // by value less first, where the domain is not wide
	first  int64
	others int32 // the category of what is outside, or -1
}

func newLookup(d *Dimension, col int, t table.Type) lookup {
	l := lookup{col: col, edges: d.Bins, open: d.OpenEnded, others: -1}
	if len(d.Bins) > 0 {
		return l
	}
	if d.Other {
		l.others = int32(len(d.Domain))
	}
	if t != table.Int {
		l.texts = make(map[string]int32, len(d.Domain))
		for i, v := range d.Domain {
			l.texts[string(v)] = int32(i)
		}
		return l
	}
	l.ints = make(map[int64]int32, len(d.Domain))
	lo, hi := int64(math.MaxInt64), int64(math.MinInt64)
	for i, v := range d.Domain {
		if n, ok := v.int(); ok {
			l.ints[n] = int32(i)
			lo, hi = min(lo, n), max(hi, n)
		}
	}
	if len(l.ints) > 0 && uint64(hi)-uint64(lo) < denseSpan {
		l.first = lo
		l.dense = make([]int32, hi-lo+1)
		for i := range l.dense {
			l.dense[i] = l.others
		}
		for n, i := range l.ints {
			l.dense[n-lo] = i
		}
	}
	return l
}

func (l *lookup) text(s string) int32 {
	if i, ok := l.texts[s]; ok {
		return i
	}
	return l.others
}

func (l *lookup) int(n int64) int32 {
	if l.dense != nil {
		if at := uint64(n) - uint64(l.first); at < uint64(len(l.dense)) {
			return l.dense[at]
		}
		return l.others
	}
	if i, ok := l.ints[n]; ok {
		return i
	}
	return l.others
}

func (l *lookup) bin(x float64) int32 { return int32(findBin(l.edges, x, l.open)) }

// findBin returns the bin that x is in, -1 for none. Of open ones the first is
// below all edges and the last from the last edge on.
func findBin(edges []float64, x float64, open bool) int {
	last := len(edges) - 1
	// above is the number of edges that x has reached.
	above := sort.Search(len(edges), func(i int) bool { return edges[i] > x })
	switch {
	case open:
		return above
	case above == 0:
		return -1
	case above <= last:
		return above - 1
	case x == edges[last]:
		return last - 1
	}
	return -1
}
