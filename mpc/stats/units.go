package stats

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/yinqiao/yinqiao/internal/disclosure"
)

// hasher names units: the first 8 bytes of SHA-256 over a key and the parts of
// the name, each with its kind and length before it.
type hasher struct {
	buf []byte
	key int
}

func newHasher(seed [32]byte) hasher {
	// Half the seed's length leaves room for names of 30 bytes in one block.
	k := sha256.Sum256(append([]byte("yinqiao/stats/unit/v1"), seed[:]...))
	return hasher{buf: append(make([]byte, 0, 128), k[:16]...), key: 16}
}

func (h *hasher) begin() { h.buf = h.buf[:h.key] }

func (h *hasher) int(n int64) {
	h.buf = append(h.buf, 'i')
	h.buf = binary.LittleEndian.AppendUint64(h.buf, uint64(n))
}

func (h *hasher) text(s string) {
	h.buf = append(h.buf, 't')
	h.buf = binary.LittleEndian.AppendUint32(h.buf, uint32(len(s)))
	h.buf = append(h.buf, s...)
}

func (h *hasher) sum() uint64 {
	d := sha256.Sum256(h.buf)
	return binary.LittleEndian.Uint64(d[:])
}

// byUnit orders members by unit, then cell, then row.
func byUnit(a, b Member) int {
	if a.Unit != b.Unit {
		return cmp.Compare(a.Unit, b.Unit)
	}
	if a.Cell != b.Cell {
		return cmp.Compare(a.Cell, b.Cell)
	}
	return cmp.Compare(a.Value, b.Value)
}

// sortMembers sorts by unit, then cell. Hashes spread evenly, so members fall
// into small buckets by their highest bytes; only units with many rows do not,
// and those are sorted by comparing. spare is as long as m.
func sortMembers(m, spare []Member, shift int) {
	const small = 24
	if len(m) <= small {
		for i := 1; i < len(m); i++ {
			x := m[i]
			j := i
			for ; j > 0 && byUnit(m[j-1], x) > 0; j-- {
				m[j] = m[j-1]
			}
			m[j] = x
		}
		return
	}
	// Below 2^24 members the third byte splits only rows of one unit.
	if shift < 64-24 {
		slices.SortFunc(m, byUnit)
		return
	}
	var ends [257]int
	for i := range m {
		ends[1+int(byte(m[i].Unit>>shift))]++
	}
	for i := range 256 {
		ends[i+1] += ends[i]
	}
	at := ends
	for _, x := range m {
		k := byte(x.Unit >> shift)
		spare[at[k]] = x
		at[k]++
	}
	copy(m, spare)
	for i := range 256 {
		sortMembers(m[ends[i]:ends[i+1]], spare[ends[i]:ends[i+1]], shift-8)
	}
}

// distinct fills the parts of a result that tell units apart.
func (c *counting) distinct(ctx context.Context, part *Part) error {
	m := c.members
	sortMembers(m, make([]Member, len(m)), 56)
	t := newTally(c)
	kept := 0
	for i := 0; i < len(m); {
		if i&(1<<16-1) == 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
		}
		first, unit := i, m[i].Unit
		t.begin()
		for i < len(m) && m[i].Unit == unit {
			cell := m[i].Cell
			t.enter(cell)
			var value uint32 // the same whatever the order of rows
			for ; i < len(m) && m[i].Unit == unit && m[i].Cell == cell; i++ {
				t.contribute(m[i].Value)
				t.supported(m[i].Value)
				value = addValues(value, c.values[m[i].Value]&^0xff|1)
			}
			t.leave()
			if value == 0 { // 256 rows
				value = 1 << 8
			}
			m[kept] = Member{Unit: unit, Cell: cell, Value: value}
			kept++
		}
		if c.form.UnitRows > 0 && int64(i-first) > c.form.UnitRows {
			return fmt.Errorf("%w of one unit: unit_rows is %d", ErrRows, c.form.UnitRows)
		}
		t.end()
	}
	part.Members = m[:kept:kept]
	part.Units = t.units
	part.Supports = t.supports
	part.Tops = t.tops
	return nil
}

// addValues adds the two parts of values, see [Member.Value].
func addValues(a, b uint32) uint32 { return a&^0xff + b&^0xff | (a+b)&0xff }

// tally counts the units of all cells, one unit after another, and keeps the
// largest contributions.
type tally struct {
	up    [][]int32 // of each dimension and cell: how far its margin is
	units []int64
	stamp []int32 // the last unit that was counted in a cell
	unit  int32

	reached []int32 // the cell entered and its margins
	touched []int32 // cells that the unit is in

	amounts []uint64 // of each row, one for each of tops
	keep    int
	tops    []Top
	here    []uint64 // of each of tops: the unit's contribution to the cell entered
	given   []uint64 // of each cell, one for each of tops: the unit's contribution

	inSupport []int32 // of each row; see counting
	width     int
	binned    int
	patterns  [][]int32
	supports  []int64 // units of each support and cell
	seen      []int32 // the last unit that was counted there
}

func newTally(c *counting) *tally {
	t := &tally{
		units: make([]int64, c.cells), stamp: make([]int32, c.cells),
		amounts: c.amounts, keep: c.largest,
		here: make([]uint64, len(c.tops)), given: make([]uint64, len(c.tops)*c.cells),
		inSupport: c.inSupport, width: c.supportWidth(), binned: c.binned, patterns: c.patterns,
	}
	if n := c.supports * c.cells; n > 0 {
		t.supports, t.seen = make([]int64, n), make([]int32, n)
	}
	if c.form.Margins {
		for d := range c.dims {
			up := make([]int32, c.cells)
			for cell := range up {
				up[cell] = int32((len(c.dims[d].labels) - c.category(cell, d)) * c.dims[d].stride)
			}
			t.up = append(t.up, up)
		}
	}
	for _, f := range c.tops {
		col := &c.columns[f.column]
		t.tops = append(t.tops, Top{Column: col.name, Scale: col.scale, Measures: f.measures, Cells: make([]disclosure.Largest, c.cells)})
	}
	return t
}

// begin takes the next unit.
func (t *tally) begin() {
	t.unit++
	t.touched = t.touched[:0]
}

// enter counts the unit in a base cell and in the margins over it, once in each.
func (t *tally) enter(cell int32) {
	t.reached = append(t.reached[:0], cell)
	for _, up := range t.up {
		for _, r := range t.reached {
			t.reached = append(t.reached, r+up[cell])
		}
	}
	for _, r := range t.reached {
		if t.stamp[r] != t.unit {
			t.stamp[r] = t.unit
			t.units[r]++
			if k := len(t.here); k > 0 {
				t.touched = append(t.touched, r)
				clear(t.given[int(r)*k : int(r+1)*k])
			}
		}
	}
	clear(t.here)
}

// contribute adds a row of the cell entered.
func (t *tally) contribute(row uint32) {
	for i, v := range t.amounts[int(row)*len(t.here) : int(row+1)*len(t.here)] {
		t.here[i] = addCapped(t.here[i], v)
	}
}

// leave ends the cell entered.
func (t *tally) leave() {
	for _, r := range t.reached {
		given := t.given[int(r)*len(t.here):]
		for i, v := range t.here {
			given[i] = addCapped(given[i], v)
		}
	}
}

// end offers the unit's contributions to the cells' largest.
func (t *tally) end() {
	for _, cell := range t.touched {
		for k := range t.tops {
			t.tops[k].Cells[cell].Add(t.given[int(cell)*len(t.tops)+k], t.keep)
		}
	}
}

// addCapped stays at the end of its range: a unit's contribution reaches it with
// more than 18,000 rows of the largest value there can be.
func addCapped(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return sum
}
