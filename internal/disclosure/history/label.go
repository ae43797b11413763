package history

import "encoding/binary"

// none is the label of a unit that a release does not have.
const none = int32(-1)

// labelled is a release with its units sorted into labels: units with the same
// label are counted in the same base cells. Nearly all are counted in one.
type labelled struct {
	*Release
	units   []uint64
	label   []int32  // of each unit
	value   []uint32 // of each unit, over all its cells; nil where none is told
	cells   [][]int32
	size    []int64   // units of each label
	queries [][]int32 // of each label, those that are shown
	hidden  [][]int32 // of each label, those that are withheld
	labels  [][]int32 // of each query
	count   []int64   // units of each query
}

// label sorts the units of a release. One more query is added to its base cells
// and groups: all base cells that are shown, whose sum anybody can make.
func label(r *Release) *labelled {
	l := &labelled{Release: r}
	distinct := 0
	for i, m := range r.Members {
		if i == 0 || m.Unit != r.Members[i-1].Unit {
			distinct++
		}
	}
	l.units, l.label = make([]uint64, 0, distinct), make([]int32, 0, distinct)
	single := make([]int32, r.Cells)
	for i := range single {
		single[i] = none
	}
	several := make(map[string]int32)
	add := func(cells ...int32) int32 {
		l.cells = append(l.cells, cells)
		l.size = append(l.size, 0)
		return int32(len(l.cells) - 1)
	}
	var name []byte
	for i := 0; i < len(r.Members); {
		end := i + 1
		for end < len(r.Members) && r.Members[end].Unit == r.Members[i].Unit {
			end++
		}
		var at int32
		if end == i+1 {
			c := r.Members[i].Cell
			if single[c] == none {
				single[c] = add(c)
			}
			at = single[c]
		} else {
			name = name[:0]
			for _, m := range r.Members[i:end] {
				name = binary.LittleEndian.AppendUint32(name, uint32(m.Cell))
			}
			var ok bool
			if at, ok = several[string(name)]; !ok {
				cells := make([]int32, 0, end-i)
				for _, m := range r.Members[i:end] {
					cells = append(cells, m.Cell)
				}
				at = add(cells...)
				several[string(name)] = at
			}
		}
		l.units, l.label = append(l.units, r.Members[i].Unit), append(l.label, at)
		l.size[at]++
		if v := sum(r.Members[i:end]); v != 0 || l.value != nil {
			if l.value == nil {
				l.value = make([]uint32, len(l.units)-1, distinct)
			}
			l.value = append(l.value, v)
		}
		i = end
	}
	l.index()
	return l
}

// valueRows is the part of a value that counts rows.
const valueRows = 1<<8 - 1

// sum adds up the values of one unit's cells; 0 if one is not told.
func sum(ms []Member) uint32 {
	var hash, rows uint32
	for _, m := range ms {
		if m.Value == 0 {
			return 0
		}
		hash, rows = hash+m.Value&^valueRows, rows+m.Value&valueRows
	}
	if hash |= rows & valueRows; hash == 0 {
		return valueRows + 1
	}
	return hash
}

// index relates labels and queries.
func (l *labelled) index() {
	over := make([][]int32, l.Cells) // the groups over each base cell
	for g, cells := range l.Groups {
		for _, c := range cells {
			over[c] = append(over[c], int32(l.Cells+g))
		}
	}
	n := l.Queries() + 1
	l.queries, l.hidden = make([][]int32, len(l.cells)), make([][]int32, len(l.cells))
	l.labels, l.count = make([][]int32, n), make([]int64, n)
	for k, cells := range l.cells {
		var qs, hidden []int32
		put := func(q int32) {
			if l.shown(int(q)) {
				qs = append(qs, q)
			} else {
				hidden = append(hidden, q)
			}
		}
		for _, c := range cells {
			put(c)
			if l.shown(int(c)) {
				qs = append(qs, int32(n-1))
			}
			for _, g := range over[c] {
				put(g)
			}
		}
		if len(cells) > 1 {
			qs, hidden = union(qs), union(hidden)
		}
		l.queries[k], l.hidden[k] = qs, hidden
		for _, q := range qs {
			l.labels[q] = append(l.labels[q], int32(k))
			l.count[q] += l.size[k]
		}
	}
}

// base reports whether a query is a base cell.
func (l *labelled) base(q int32) bool { return int(q) < l.Cells }
