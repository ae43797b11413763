package okvs

import (
	"context"
	"errors"
	"io"
	"math/bits"
	"slices"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// errSeed says that a bin overflows or cannot be solved under this seed.
var errSeed = errors.New("okvs: seed does not work")

// coreRows is how many keys that peeling has left are solved by elimination.
// Almost always there are none, or a pair; a core that grows with the bin would
// take longer than another seed.
const coreRows = 2048

// encode fills p with a vector for the keys of t.
func (t *Table) encode(ctx context.Context, rnd io.Reader, p []gf128.Element, values Values) error {
	// Each bin draws its free places from a stream of its own, so that the
	// result does not depend on who works on which.
	streams := make([][share.KeySize]byte, t.Layout.Bins)
	for i := range streams {
		if _, err := io.ReadFull(rnd, streams[i][:]); err != nil {
			return err
		}
	}
	return parallel.Each(ctx, t.Layout.Bins, 1, func() func(int, int) error {
		s := newSolver(t.Layout, coreRows)
		return func(bin, _ int) error {
			stride := t.Layout.Stride()
			part := p[bin*stride : (bin+1)*stride]
			if err := gf128.Random(share.KeyedStream(&streams[bin]), part); err != nil {
				return err
			}
			return s.encodeBin(t, bin, part, values)
		}
	})
}

// solver is the working memory of one goroutine, 52 bytes a key of a bin and 12
// a column.
type solver struct {
	layout   Layout
	coreRows int
	places   [][3]uint32
	dense    []uint64
	values   []gf128.Element
	columns  []column
	stack    []uint32 // columns of degree one, now or earlier
	order    []step
	peeled   []bool
}

// column is the number of keys not yet peeled that have a place in it, in the
// upper half, and the XOR of their numbers, in the lower.
type column uint64

func (c column) degree() int { return int(c >> 32) }

// step is a key that was peeled with its own column and the other two.
type step struct{ key, own, a, b uint32 }

func newSolver(l Layout, coreRows int) *solver {
	return &solver{
		layout: l, coreRows: coreRows,
		places: make([][3]uint32, l.Capacity), dense: make([]uint64, l.Capacity), values: make([]gf128.Element, l.Capacity),
		columns: make([]column, l.Columns), stack: make([]uint32, 0, l.Columns), order: make([]step, 0, l.Capacity),
		peeled: make([]bool, l.Capacity),
	}
}

// encodeBin solves one bin. p holds random elements and gets those that the
// keys determine.
func (s *solver) encodeBin(t *Table, bin int, p []gf128.Element, values Values) error {
	keys, rows := t.Bin(bin)
	n := len(keys)
	if n > s.layout.Capacity {
		return errSeed
	}
	s.fill(t, keys, rows, values)
	s.peel(n)
	if len(s.order) < n {
		if err := s.solveCore(n, p); err != nil {
			return err
		}
	}
	gf128.AddCubic(s.values[:n], s.dense[:n], (*[denseColumns]gf128.Element)(p[s.layout.Columns:]))
	// Last peeled, first set: a key's own column is in no key peeled after it.
	for i := len(s.order) - 1; i >= 0; i-- {
		o := &s.order[i]
		v, a, b := &s.values[o.key], &p[o.a], &p[o.b]
		p[o.own] = gf128.Element{Lo: v.Lo ^ a.Lo ^ b.Lo, Hi: v.Hi ^ a.Hi ^ b.Hi}
	}
	return nil
}

// fill computes the rows of the keys and enters them in the columns.
func (s *solver) fill(t *Table, keys []gf128.Element, rows []int32, values Values) {
	clear(s.columns)
	var h [2 * block]gf128.Element
	var sums [2]gf128.Element
	for at := 0; at < len(keys); at += block {
		end := min(at+block, len(keys))
		t.hashes.Expand(h[:2*(end-at)], keys[at:end], &sums)
		values(s.values[at:end], keys[at:end], rows[at:end])
		for i := at; i < end; i++ {
			a, b, c := places(h[2*(i-at)], s.layout.Columns)
			s.places[i] = [3]uint32{a, b, c}
			s.dense[i] = h[2*(i-at)+1].Lo
			s.columns[a] = s.columns[a] + 1<<32 ^ column(i)
			s.columns[b] = s.columns[b] + 1<<32 ^ column(i)
			s.columns[c] = s.columns[c] + 1<<32 ^ column(i)
		}
	}
}

// peel takes keys that are alone in one of their columns, one after the other,
// and notes them in s.order.
func (s *solver) peel(n int) {
	stack, order := s.stack[:0], s.order[:0]
	clear(s.peeled[:n])
	for c := range s.columns {
		if s.columns[c].degree() == 1 {
			stack = append(stack, uint32(c))
		}
	}
	for len(stack) > 0 {
		c := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if s.columns[c].degree() != 1 {
			continue
		}
		key := uint32(s.columns[c])
		k := s.places[key]
		for _, other := range k {
			v := s.columns[other] - 1<<32 ^ column(key)
			s.columns[other] = v
			if v.degree() == 1 {
				stack = append(stack, other)
			}
		}
		switch c {
		case k[0]:
			order = append(order, step{key, c, k[1], k[2]})
		case k[1]:
			order = append(order, step{key, c, k[0], k[2]})
		default:
			order = append(order, step{key, c, k[0], k[1]})
		}
		s.peeled[key] = true
	}
	s.stack, s.order = stack, order
}

// equation is one key of the core: the sum of the sparse columns whose bits are
// set and of the dense ones with their coefficients is value.
type equation struct {
	sparse []uint64
	dense  [denseColumns]gf128.Element
	value  gf128.Element
}

func (q *equation) add(e *equation) {
	for w := range q.sparse {
		q.sparse[w] ^= e.sparse[w]
	}
	for k := range q.dense {
		q.dense[k] = q.dense[k].Add(e.dense[k])
	}
	q.value = q.value.Add(e.value)
}

// solveCore sets the columns of the keys that peeling has left, and the dense
// ones. The other columns keep the random elements that p holds.
func (s *solver) solveCore(n int, p []gf128.Element) error {
	left := n - len(s.order)
	if left > s.coreRows {
		return errSeed
	}
	// The columns that matter, renumbered.
	index := make(map[uint32]int)
	var names []uint32
	var core []uint32
	for i := range n {
		if s.peeled[i] {
			continue
		}
		core = append(core, uint32(i))
		for _, c := range s.places[i] {
			if _, known := index[c]; !known {
				index[c] = len(names)
				names = append(names, c)
			}
		}
	}
	eqs := make([]equation, left)
	words := (len(names) + 63) / 64
	for j, i := range core {
		e := &eqs[j]
		e.sparse = make([]uint64, words)
		for _, c := range s.places[i] {
			e.sparse[index[c]/64] |= 1 << (index[c] % 64)
		}
		h := gf128.Element{Lo: s.dense[i]}
		e.dense = [denseColumns]gf128.Element{h, h.Square(), h.Square().Mul(h)}
		e.value = s.values[i]
	}

	// The sparse part: every equation is made to own a column that no other one
	// has, or ends without any. Those come last.
	var pivots []int // pivots[j] is the column of eqs[j]
	rest := eqs
	for len(rest) > 0 {
		j := slices.IndexFunc(rest, func(e equation) bool { return firstBit(e.sparse) >= 0 })
		if j < 0 {
			break
		}
		rest[0], rest[j] = rest[j], rest[0]
		own := &rest[0]
		c := firstBit(own.sparse)
		for i := range eqs {
			if e := &eqs[i]; e != own && e.sparse[c/64]>>(c%64)&1 == 1 {
				e.add(own)
			}
		}
		pivots, rest = append(pivots, c), rest[1:]
	}

	// The dense part.
	d := (*[denseColumns]gf128.Element)(p[s.layout.Columns:])
	if err := solveDense(rest, d); err != nil {
		return err
	}

	// What is free is known now, so each pivot follows.
	for j, c := range pivots {
		e := &eqs[j]
		v := e.value
		for k := range d {
			v = v.Add(e.dense[k].Mul(d[k]))
		}
		for w, word := range e.sparse {
			for ; word != 0; word &= word - 1 {
				if b := 64*w + bits.TrailingZeros64(word); b != c {
					v = v.Add(p[names[b]])
				}
			}
		}
		p[names[c]] = v
	}
	return nil
}

// solveDense solves equations without a sparse part for d, whose elements stay
// as they are where nothing determines them.
func solveDense(eqs []equation, d *[denseColumns]gf128.Element) error {
	if len(eqs) > denseColumns {
		return errSeed
	}
	var owned [denseColumns]int
	for j := range eqs {
		e := &eqs[j]
		c := 0
		for c < denseColumns && e.dense[c].IsZero() {
			c++
		}
		if c == denseColumns {
			return errSeed
		}
		inv := e.dense[c].Inverse()
		for k := range e.dense {
			e.dense[k] = e.dense[k].Mul(inv)
		}
		e.value = e.value.Mul(inv)
		owned[j] = c
		for i := range eqs {
			if f := eqs[i].dense[c]; i != j && !f.IsZero() {
				for k := range e.dense {
					eqs[i].dense[k] = eqs[i].dense[k].Add(e.dense[k].Mul(f))
				}
				eqs[i].value = eqs[i].value.Add(e.value.Mul(f))
			}
		}
	}
	free := *d
	for j := range eqs {
		free[owned[j]] = gf128.Element{}
	}
	for j := range eqs {
		v := eqs[j].value
		for k := range free {
			v = v.Add(eqs[j].dense[k].Mul(free[k]))
		}
		d[owned[j]] = v
	}
	return nil
}

func firstBit(words []uint64) int {
	for w, word := range words {
		if word != 0 {
			return 64*w + bits.TrailingZeros64(word)
		}
	}
	return -1
}
