package disclosure

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
)

// sample fills a table with counts, many of them small, and with providers.
func sample(rng *rand.Rand, t *table, most int64) []Count {
	units := make([]int64, t.n)
	by := make([][]int64, 3) // units of each provider
	for p := range by {
		by[p] = make([]int64, t.n)
		for c := range by[p] {
			if !t.base(c) {
				continue
			}
			switch rng.IntN(6) {
			case 0:
			case 1:
				by[p][c] = rng.Int64N(5)
			default:
				by[p][c] = rng.Int64N(most)
			}
		}
		t.fill(by[p])
		for c := range units {
			units[c] += by[p][c]
		}
	}
	cells := make([]Count, t.n)
	for c := range cells {
		cells[c].Units = units[c]
		for p := range by {
			if by[p][c] > 0 {
				cells[c].Providers++
			}
		}
		if rng.IntN(60) == 0 && t.base(c) {
			cells[c].Flags = 1
		}
	}
	return cells
}

func units(cells []Count) []int64 {
	v := make([]int64, len(cells))
	for i, c := range cells {
		v[i] = c.Units
	}
	return v
}

// primary says which cells break a rule by themselves.
func primary(r rules.Set, cells []Count) []bool {
	m, err := Suppress(r, cells, nil)
	if err != nil {
		panic(err)
	}
	return m
}

// Margins: what is withheld is not computed from what is released, neither
// exactly nor to within the interval that Suppress states.
func TestMarginsGiveNothingBack(t *testing.T) {
	for _, c := range []struct {
		name   string
		effort int64
	}{{"search", effort}, {"cut short", 3000}, {"no search", 0}} {
		t.Run(c.name, func(t *testing.T) { giveNothingBack(t, c.effort) })
	}
}

func giveNothingBack(t *testing.T, effort int64) {
	shapes := [][]int{{5}, {12}, {3, 4}, {6, 6}, {2, 9}, {2, 2}, {1, 5}, {3, 3, 3}, {2, 4, 3}}
	withheld, first, total := 0, 0, 0
	for seed := range uint64(81) {
		rng := rand.New(rand.NewPCG(seed, 7))
		tab := newTable(shapes[seed%uint64(len(shapes))]...)
		cells := sample(rng, tab, []int64{8, 30, 200}[seed/uint64(len(shapes))%3])
		r := rules.Set{MinUnits: 10, MinProviders: []int64{1, 3}[seed%2]}
		mask, err := suppress(r, cells, tab.eqs, effort)
		if err != nil {
			t.Fatal(err)
		}
		breaks := primary(r, cells)
		name := fmt.Sprintf("seed %d %v", seed, tab.dims)
		for c := range cells {
			total++
			if breaks[c] {
				first++
			}
			if mask[c] {
				withheld++
			} else if breaks[c] {
				t.Errorf("%s: cell %d breaks a rule and is released", name, c)
			}
		}
		values := units(cells)
		for c, v := range solveExactly(values, mask, tab.eqs) {
			t.Errorf("%s: withheld cell %d follows from released ones: %v", name, c, v)
		}
		for c := range cells {
			if !breaks[c] {
				continue
			}
			bound, unbounded, err := most(values, mask, tab.eqs, c)
			if err != nil {
				t.Errorf("%s: linear programming: %v", name, err)
				continue
			}
			want := values[c] + max(r.MinUnits, values[c]/protection)
			if !unbounded && bound < float64(want)-1e-6 {
				t.Errorf("%s: cell %d with %d units is known to have at most %g, want %d or more", name, c, values[c], bound, want)
			}
		}
	}
	t.Logf("%d of %d cells break a rule, %d are withheld", first, total, withheld)
}

// The same attack does recover cells from a mask of the primary cells alone: it
// is able to.
func TestMarginsGiveBackWithoutComplements(t *testing.T) {
	tab := newTable(3, 3)
	values := []int64{3, 20, 30, 0, 40, 50, 60, 0, 70, 80, 90, 0, 0, 0, 0, 0}
	tab.fill(values)
	mask := make([]bool, len(values))
	mask[0] = true
	if got := solveExactly(values, mask, tab.eqs)[0]; got == nil || got.Num().Int64() != 3 {
		t.Errorf("recovered %v, want 3", got)
	}
	mask[1], mask[4], mask[5] = true, true, true
	if got := solveExactly(values, mask, tab.eqs); len(got) != 0 {
		t.Errorf("recovered %v of a rectangle", got)
	}
	if bound, _, err := most(values, mask, tab.eqs, 0); err != nil || bound != 23 {
		t.Errorf("bounded to %g, %v; want 23", bound, err)
	}
}

// Small cells: two of them in one line do not stand for each other, since their
// sum would be known.
func TestUnionOfWithheldCellsIsNotSmall(t *testing.T) {
	eqs := []Equation{{Total: 4, Parts: []int{0, 1, 2, 3}}}
	for _, c := range []struct {
		name  string
		cells []Count
		want  []bool
	}{
		{"one small", []Count{{3, 3, 0}, {40, 3, 0}, {30, 3, 0}, {50, 3, 0}, {123, 3, 0}}, []bool{true, false, true, false, false}},
		{"two small", []Count{{3, 3, 0}, {4, 3, 0}, {30, 3, 0}, {50, 3, 0}, {87, 3, 0}}, []bool{true, true, true, false, false}},
		{"two of one provider", []Count{{300, 1, 0}, {400, 1, 0}, {90, 3, 0}, {50, 3, 0}, {840, 3, 0}}, []bool{true, true, false, true, false}},
		{"the only one that is not empty", []Count{{3, 3, 0}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {3, 3, 0}}, []bool{true, false, false, false, true}},
		{"a flag", []Count{{80, 3, 1}, {40, 3, 0}, {30, 3, 0}, {50, 3, 0}, {200, 3, 0}}, []bool{true, false, true, false, false}},
		{"an empty cell with a flag", []Count{{0, 0, 2}, {40, 3, 0}, {30, 3, 0}, {50, 3, 0}, {120, 3, 0}}, []bool{true, false, true, false, false}},
		{"none", []Count{{10, 3, 0}, {40, 3, 0}, {30, 3, 0}, {0, 0, 0}, {80, 3, 0}}, make([]bool, 5)},
	} {
		mask, err := Suppress(rules.Set{}, c.cells, eqs)
		if err != nil || !slices.Equal(mask, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, mask, err, c.want)
		}
	}
}

// One small cell in a table of two dimensions takes three others with it: the
// cheapest rectangle.
func TestOneSmallCellTakesThree(t *testing.T) {
	tab := newTable(6, 8)
	values := make([]int64, tab.n)
	rng := rand.New(rand.NewPCG(1, 1))
	for c := range values {
		values[c] = 100 + rng.Int64N(900)
	}
	at := func(i, j int) int { return i*9 + j }
	values[at(2, 3)] = 4
	tab.fill(values)
	cells := make([]Count, tab.n)
	for c := range cells {
		cells[c] = Count{Units: values[c], Providers: 3}
	}
	mask, err := Suppress(rules.Set{}, cells, tab.eqs)
	if err != nil {
		t.Fatal(err)
	}
	best := int64(1 << 40)
	for i := range 6 {
		for j := range 8 {
			if i != 2 && j != 3 {
				best = min(best, values[at(i, 3)]+values[at(2, j)]+values[at(i, j)])
			}
		}
	}
	n, cost := 0, int64(-4)
	for c, h := range mask {
		if h {
			n++
			cost += values[c]
		}
	}
	if n != 4 || cost != best {
		t.Errorf("%d cells are withheld with %d units beside the small one, want 4 with %d", n, cost, best)
	}
}

func TestSuppressRefusesWhatIsNoTable(t *testing.T) {
	two := []Count{{5, 3, 0}, {9, 3, 0}}
	for name, c := range map[string]struct {
		cells []Count
		eqs   []Equation
	}{
		"negative units":      {[]Count{{-1, 3, 0}}, nil},
		"negative providers":  {[]Count{{1, -3, 0}}, nil},
		"negative flags":      {[]Count{{1, 3, -1}}, nil},
		"units out of range":  {[]Count{{maxUnits + 1, 3, 0}}, nil},
		"no such total":       {two, []Equation{{2, []int{0}}}},
		"no such part":        {two, []Equation{{1, []int{-1}}}},
		"no part":             {two, []Equation{{1, nil}}},
		"part twice":          {two, []Equation{{1, []int{0, 0}}}},
		"total among parts":   {two, []Equation{{1, []int{1}}}},
		"part above total":    {two, []Equation{{0, []int{1}}}},
		"more than MaxCells ": {make([]Count, MaxCells+1), nil},
	} {
		if _, err := Suppress(rules.Set{}, c.cells, c.eqs); !errors.Is(err, ErrTable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// All gates reach the same mask: nothing depends on the order of a map, or on
// what was computed before.
func TestSuppressIsDeterministic(t *testing.T) {
	for seed := range uint64(6) {
		tab := newTable([][]int{{9, 9}, {4, 4, 4}, {30}}[seed%3]...)
		cells := sample(rand.New(rand.NewPCG(seed, 3)), tab, 60)
		want, err := Suppress(rules.Set{}, cells, tab.eqs)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if got, err := Suppress(rules.Set{}, cells, tab.eqs); err != nil || !slices.Equal(got, want) {
				t.Fatalf("seed %d: another mask, %v", seed, err)
			}
		}
	}
}

// Tables that are too large to search are masked all the same, by hiding totals.
func TestLargeTablesAreMasked(t *testing.T) {
	tab := newTable(maxLines-10, 20)
	cells := make([]Count, tab.n)
	values := make([]int64, tab.n)
	for c := range values {
		values[c] = 50
	}
	values[7] = 3
	tab.fill(values)
	for c := range cells {
		cells[c] = Count{Units: values[c], Providers: 3}
	}
	mask, err := Suppress(rules.Set{}, cells, tab.eqs)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, h := range mask {
		if h {
			n++
		}
	}
	if n != 4 || !mask[7] || !mask[tab.n-1] {
		t.Errorf("%d cells are withheld, want the small one and its three totals", n)
	}
}
