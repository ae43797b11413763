package history

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

// An attacker who has everything that was released and knows, for the sake of
// the test, which units are in which cell. It looks for sums over few units by
// exact elimination. The parties but one have no unit: the worst case, in which
// the node's own units are all there is.

// row is a unit's attributes, and the number that is summed.
type row struct {
	unit  uint64
	attr  [3]int
	value int64
}

func people(rng *rand.Rand, n int, levels [3]int) []row {
	rows := make([]row, n)
	for i := range rows {
		rows[i] = row{unit: rng.Uint64(), value: 1 + rng.Int64N(1e6)}
		for d := range rows[i].attr {
			rows[i].attr[d] = rng.IntN(levels[d])
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		if a.unit < b.unit {
			return -1
		}
		return 1
	})
	return rows
}

// table makes a release: the rows that pass, by the cell that they fall in.
func tabulate(id string, rows []row, cells int, cell func(row) int, groups ...[]int32) Release {
	r := Release{ID: id, Cells: cells, Groups: groups}
	for _, x := range rows {
		if c := cell(x); c >= 0 {
			r.Members = append(r.Members, Member{Unit: x.unit, Cell: int32(c)})
		}
	}
	return r
}

func all(cells int) []int32 {
	g := make([]int32, cells)
	for i := range g {
		g[i] = int32(i)
	}
	return g
}

// leak is a sum over few units that the attacker computes, and from what.
type leak struct {
	units int
	sum   *big.Rat
	truth int64
}

// isolate returns the sums over at least one and fewer than least units that
// follow from the releases together and are no released cell.
func isolate(releases []Release, values map[uint64]int64, least int) []leak {
	// Units that no release tells apart are one column.
	signature := make(map[uint64]string)
	for i := range releases {
		r := &releases[i]
		for _, m := range r.Members {
			signature[m.Unit] += fmt.Sprintf("%d:%d ", i, m.Cell)
		}
	}
	columns := make(map[string]int)
	var size []int
	var truth []int64
	for u, s := range signature {
		k, ok := columns[s]
		if !ok {
			k = len(size)
			columns[s] = k
			size, truth = append(size, 0), append(truth, 0)
		}
		size[k]++
		truth[k] += values[u]
	}
	n := len(size)
	var rows [][]*big.Rat
	direct := make([]bool, n)
	for i := range releases {
		r := &releases[i]
		for q := range r.Queries() {
			if !r.shown(q) {
				continue
			}
			cells := []int32{int32(q)}
			if q >= r.Cells {
				cells = r.Groups[q-r.Cells]
			}
			row := make([]*big.Rat, n+1)
			for k := range row {
				row[k] = new(big.Rat)
			}
			some, last := 0, 0
			done := make(map[string]bool)
			for _, m := range r.Members {
				if s := signature[m.Unit]; slices.Contains(cells, m.Cell) {
					k := columns[s]
					if !done[s] {
						done[s] = true
						row[k].SetInt64(1)
						some, last = some+1, k
						row[n].Add(row[n], new(big.Rat).SetInt64(truth[k]))
					}
				}
			}
			if some == 1 {
				direct[last] = true
			}
			rows = append(rows, row)
		}
	}
	rank := 0
	for col := 0; col < n && rank < len(rows); col++ {
		at := rank
		for at < len(rows) && rows[at][col].Sign() == 0 {
			at++
		}
		if at == len(rows) {
			continue
		}
		rows[rank], rows[at] = rows[at], rows[rank]
		inv := new(big.Rat).Inv(rows[rank][col])
		for k := range rows[rank] {
			rows[rank][k].Mul(rows[rank][k], inv)
		}
		for r := range rows {
			if r != rank && rows[r][col].Sign() != 0 {
				f := new(big.Rat).Set(rows[r][col])
				for k := range rows[r] {
					if rows[rank][k].Sign() != 0 {
						rows[r][k].Sub(rows[r][k], new(big.Rat).Mul(f, rows[rank][k]))
					}
				}
			}
		}
		rank++
	}
	var leaks []leak
	for _, row := range rows[:rank] {
		at, terms := 0, 0
		for k := range n {
			if row[k].Sign() != 0 {
				at, terms = k, terms+1
			}
		}
		if terms == 1 && size[at] < least && !direct[at] {
			leaks = append(leaks, leak{size[at], row[n], truth[at]})
		}
	}
	return leaks
}

func valuesOf(rows []row) map[uint64]int64 {
	v := make(map[uint64]int64)
	for _, r := range rows {
		v[r.unit] = r.value
	}
	return v
}

// Differencing: without the check the attacker computes what a few units
// contribute; with it, nothing.
func TestDifferencingIsFlagged(t *testing.T) {
	const least = 10
	rng := rand.New(rand.NewPCG(3, 4))
	rows := people(rng, 400, [3]int{4, 5, 2})
	odd := rows[123]
	by := func(d int) func(row) int { return func(r row) int { return r.attr[d] } }
	both := func(r row) int { return r.attr[0]*5 + r.attr[1] }
	unless := func(skip func(row) bool, f func(row) int) func(row) int {
		return func(r row) int {
			if skip(r) {
				return -1
			}
			return f(r)
		}
	}
	isOdd := func(r row) bool { return r.unit == odd.unit }
	var less []row
	for _, r := range rows {
		if !isOdd(r) {
			less = append(less, r)
		}
	}
	seven := make(map[uint64]bool)
	for _, r := range rows[10:17] {
		seven[r.unit] = true
	}
	third := func(a, b int) func(row) int { // one cell: two of three thirds, and the odd one in between
		return func(r row) int {
			if k := int(r.unit % 3); isOdd(r) && a == 0 && b == 2 || !isOdd(r) && (k == a || k == b) {
				return 0
			}
			return -1
		}
	}
	age := func(edges ...int) func(row) int { // bins over 400 ranks
		return func(r row) int {
			rank := slices.IndexFunc(rows, func(x row) bool { return x.unit == r.unit })
			for b := range len(edges) - 1 {
				if rank >= edges[b] && rank < edges[b+1] {
					return b
				}
			}
			return -1
		}
	}
	for _, c := range []struct {
		name string
		past []Release
		now  Release
		pure bool // elimination alone does it, as the attacker here does
	}{
		{"with and without one unit", []Release{tabulate("a", rows, 4, by(0))}, tabulate("b", rows, 4, unless(isOdd, by(0))), true},
		{"without and then with one unit", []Release{tabulate("a", rows, 4, unless(isOdd, by(0)))}, tabulate("b", rows, 4, by(0)), true},
		{"a row gone between two identical requests", []Release{tabulate("a", rows, 20, both)}, tabulate("b", less, 20, both), true},
		{"a filter that leaves seven out", []Release{tabulate("a", rows, 1, func(row) int { return 0 })}, tabulate("b", rows, 1, unless(func(r row) bool { return seven[r.unit] }, func(row) int { return 0 })), true},
		{"overlapping bins", []Release{tabulate("a", rows, 4, age(0, 100, 200, 300, 400))}, tabulate("b", rows, 4, age(0, 103, 200, 300, 400)), false},
		{"a total against the margins of another", []Release{tabulate("a", rows, 4, by(0))}, tabulate("b", rows, 5, unless(isOdd, by(1)), all(5)), true},
		{"a cell against the union of new cells", []Release{tabulate("a", rows, 4, by(0))}, tabulate("b", rows, 20, unless(isOdd, both)), true},
		{"a new total against the union of cells before", []Release{tabulate("a", rows, 5, unless(isOdd, by(1)))}, tabulate("b", rows, 1, func(row) int { return 0 }), true},
		{"three queries", []Release{tabulate("a", rows, 1, third(0, 1)), tabulate("b", rows, 1, third(1, 2)), tabulate("c", rows, 3, func(r row) int {
			if isOdd(r) {
				return -1
			}
			return []int{0, -1, -1}[r.unit%3]
		})}, tabulate("d", rows, 1, third(0, 2)), true},
		{"a cell that was withheld, by a margin released later", []Release{func() Release {
			r := tabulate("a", rows, 20, func(r row) int {
				if seven[r.unit] {
					return 7
				} else if c := both(r); c != 7 {
					return c
				}
				return 8
			})
			r.Shown = make([]bool, 20)
			for i := range r.Shown {
				r.Shown[i] = i != 7
			}
			return r
		}()}, tabulate("b", rows, 1, func(row) int { return 0 }), true},
	} {
		if err := c.now.Validate(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		before := isolate(append(slices.Clone(c.past), c.now), valuesOf(rows), least)
		if c.pure && len(before) == 0 {
			t.Errorf("%s: the attacker finds nothing even without the check", c.name)
		}
		for _, l := range before {
			if l.sum.Cmp(new(big.Rat).SetInt64(l.truth)) != 0 {
				t.Errorf("%s: the attacker computed %v for a sum of %d", c.name, l.sum, l.truth)
			}
		}
		flags, err := Compare(c.past, c.now, least)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !slices.Contains(flags, true) {
			t.Errorf("%s: nothing is flagged", c.name)
		}
		if c.now.Cells > 1 && !slices.Contains(flags[:c.now.Cells], false) {
			t.Errorf("%s: all cells are flagged", c.name)
		}
		after := c.now
		after.Shown = make([]bool, len(flags))
		for q, f := range flags {
			after.Shown[q] = !f
		}
		if l := isolate(append(slices.Clone(c.past), after), valuesOf(rows), least); len(l) > 0 {
			t.Errorf("%s: the attacker still finds %d sums, one over %d units", c.name, len(l), l[0].units)
		}
	}
}

// Requests at random, each released but for what is flagged: at no time does
// elimination over all of them give a sum over few units.
func TestNoSequenceOfRequestsIsolates(t *testing.T) {
	flagged, total := 0, 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 9))
		least := []int{2, 4, 8}[seed%3]
		rows := people(rng, 30+rng.IntN(60), [3]int{3, 4, 2})
		var past []Release
		for k := range 5 {
			// A random partition of a random part: by attributes, or any.
			drop, by, wild := rng.IntN(3), rng.IntN(3), rng.IntN(3) == 0
			cells := 1 + rng.IntN(6)
			r := tabulate(fmt.Sprint(k), rows, cells, func(r row) int {
				if drop == 0 && rng.IntN(20) == 0 {
					return -1
				}
				if wild {
					return rng.IntN(cells)
				}
				return (r.attr[by] + r.attr[2]) % cells
			}, all(cells))
			flags, err := Compare(past, r, int64(least))
			if err != nil {
				t.Fatal(err)
			}
			r.Shown = make([]bool, len(flags))
			for q, f := range flags {
				total++
				if r.Shown[q] = !f; f {
					flagged++
				}
			}
			past = append(past, r)
			if l := isolate(past, valuesOf(rows), least); len(l) > 0 {
				t.Fatalf("seed %d, request %d: the attacker finds %d sums, one over %d units", seed, k, len(l), l[0].units)
			}
		}
	}
	t.Logf("%d of %d cells and totals flagged", flagged, total)
}

// The same request again, or a coarser or finer one over the same units, gives
// nothing and is not held up.
func TestRepeatsAndDrillDownsAreHarmless(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	rows := people(rng, 500, [3]int{6, 7, 3})
	var past []Release
	for k, r := range []Release{
		tabulate("industry", rows, 6, func(r row) int { return r.attr[0] }, all(6)),
		tabulate("again", rows, 6, func(r row) int { return r.attr[0] }, all(6)),
		tabulate("year", rows, 7, func(r row) int { return r.attr[1] }, all(7)),
		tabulate("both", rows, 42, func(r row) int { return r.attr[0]*7 + r.attr[1] }, all(42)),
		tabulate("both again", rows, 42, func(r row) int { return r.attr[0]*7 + r.attr[1] }, all(42)),
		tabulate("total", rows, 1, func(row) int { return 0 }),
	} {
		industry, year := Dim{1, 6}, Dim{2, 7}
		r.Dims = [][]Dim{{industry}, {industry}, {year}, {industry, year}, {industry, year}, {}}[k]
		flags, err := Compare(past, r, 10)
		if err != nil {
			t.Fatal(err)
		}
		for q, f := range flags {
			if f {
				t.Errorf("request %d, %s: cell %d is flagged", k, r.ID, q)
			}
		}
		past = append(past, r)
	}
}

// A unit whose number has changed, and nothing else, is seen where its value was
// told.
func TestChangedValueIsFlagged(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	rows := people(rng, 100, [3]int{3, 2, 2})
	old := tabulate("a", rows, 3, func(r row) int { return r.attr[0] })
	for i := range old.Members {
		old.Members[i].Value = uint32(i+1)<<8 | 1
	}
	now := old
	now.Members = slices.Clone(old.Members)
	now.Members[50].Value = 999<<8 | 1
	flags, err := Compare([]Release{old}, now, 10)
	if err != nil {
		t.Fatal(err)
	}
	for q, f := range flags {
		if f != (q == int(now.Members[50].Cell)) {
			t.Errorf("cell %d flagged: %v", q, f)
		}
	}
	now.Digest[0] = 1 // other sums
	if flags, err = Compare([]Release{old}, now, 10); err != nil || slices.Contains(flags, true) {
		t.Errorf("values of other sums were compared: %v, %v", flags, err)
	}
	now.Members[50].Value = old.Members[50].Value + 1 // a row more
	if flags, err = Compare([]Release{old}, now, 10); err != nil || !flags[now.Members[50].Cell] {
		t.Errorf("a row more of a unit is not seen beside other sums: %v, %v", flags, err)
	}
	// In a drill-down, the unit's rows are in two cells, and as many as before.
	old.Members[50].Value = 999<<8 | 2
	now.Cells, now.Members = 4, slices.Clone(old.Members)
	now.Members[50].Value = 900<<8 | 1
	now.Members = slices.Insert(now.Members, 51, Member{Unit: now.Members[50].Unit, Cell: 3, Value: 99<<8 | 1})
	total := []Dim{}
	for _, digest := range []byte{0, 1} {
		now.Digest[0] = digest
		whole := old
		whole.Cells, whole.Dims, whole.Members = 1, total, slices.Clone(old.Members)
		for i := range whole.Members {
			whole.Members[i].Cell = 0
		}
		if flags, err = Compare([]Release{whole}, now, 10); err != nil || slices.Contains(flags[:3], true) {
			t.Errorf("the same rows in two cells are taken for others: %v, %v", flags, err)
		}
	}
}

// The only unit of this node in a cell is filtered away: nothing overlaps, and
// the cells are recognised by what they are about.
func TestSameCellIsComparedWithoutOverlap(t *testing.T) {
	many := func(from Member, n int) []Member { // in one cell
		ms := make([]Member, n)
		for i := range ms {
			ms[i] = Member{Unit: from.Unit + uint64(i), Cell: from.Cell}
		}
		return ms
	}
	old := Release{ID: "a", Cells: 2, Dims: []Dim{{1, 2}}, Members: append([]Member{{Unit: 1, Cell: 0}}, many(Member{Unit: 2, Cell: 1}, 40)...)}
	now := Release{ID: "b", Cells: 2, Dims: []Dim{{1, 2}}, Members: old.Members[1:], Filter: [32]byte{1}}
	flags, err := Compare([]Release{old}, now, 10)
	if err != nil || !flags[0] {
		t.Errorf("%v, %v", flags, err)
	}
	// And where the old release has it split further, so that the unit was the
	// only one of its cell.
	old = Release{ID: "a", Cells: 4, Dims: []Dim{{1, 2}, {2, 2}}}
	old.Members = append([]Member{{Unit: 1, Cell: 0}}, append(many(Member{Unit: 2, Cell: 1}, 30), many(Member{Unit: 32, Cell: 2}, 40)...)...)
	now.Members = append(many(Member{Unit: 2, Cell: 0}, 30), many(Member{Unit: 32, Cell: 1}, 40)...)
	flags, err = Compare([]Release{old}, now, 10)
	if err != nil || !flags[0] {
		t.Errorf("split further: %v, %v", flags, err)
	}
}
