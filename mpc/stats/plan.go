package stats

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// Why a form that is valid cannot be carried out.
var (
	// ErrWrap: within the declared ranges and rows a sum could leave the widest
	// counter.
	ErrWrap = errors.New("stats: a sum could wrap")
	// ErrSize: more cells or counters than a plan may have.
	ErrSize = errors.New("stats: too many cells")
)

// noiseRoom is what counters leave room for, where UnitRows is declared and
// noise may be added: this many times the product of [Counter.Touch] and
// [Plan.Changed] from each contributor. Laplace noise of ε = 0.004 fits, but for
// one counter in 2^64. Of a counter that has no such room in the widest part,
// [Counter.Room] tells what it has.
const noiseRoom = 1 << 14

// Plan is how the answer to a form is laid out: its cells, and the counters of
// each, as places of a [share.Vector]. It follows from the form and the number
// of parties alone, so that all parties have the same. It is safe for
// concurrent use.
type Plan struct {
	form    Form
	parties int

	dims    []dim
	cells   int
	columns []column // what is read of each row for the measures
	places  []place
	shape   share.Shape // of one cell
	derived []derivation

	sorted   []support // those that are bins first
	binned   int       // how many are
	supports int       // of each cell
}

// dim is a dimension of the cells. With margins it has one more place, the last,
// for the sum over its categories.
type dim struct {
	labels []string // of the categories
	places int      // len(labels), or one more
	stride int      // how far cells of neighbouring categories are apart
}

// column is a number that is read of each row, in a form that counters use.
type column struct {
	name   string
	kind   columnKind
	scale  int
	lo, hi int64     // the range, in units; of a summed column
	edges  []float64 // of a binned one
}

type columnKind int

const (
	presence columnKind = iota // whether there is a value
	summed                     // the value, in units of 10^-scale
	binned                     // the bin that it is in
)

// place is a counter that every cell has: the sum over the cell's rows of 1, of
// a column or of the product of two.
type place struct {
	name string
	op   operation
	a, b int      // columns
	bin  int      // of op inBin
	need []int    // rows that miss one of these columns are left out
	bits int      // 32, 64 or 96
	at   int      // its number among the counters of its width
	lo   *big.Int // least and greatest that one row adds
	hi   *big.Int
	unit *big.Int // the greater of their absolute values

	reach   *big.Int // bound on the absolute value of the sum
	measure int      // the first that asks for it
}

type operation int

const (
	ones operation = iota
	value
	product
	inBin
)

// derivation makes a measure of counters; its fields are numbers of places, -1
// for none.
type derivation struct {
	measure int
	n       int
	a, b    int // sums
	aa, bb  int // sums of squares
	ab      int // sum of products
	bins    []int
	extra   bool // n is a column of the result
}

// NewPlan lays out the answer to f for a number of contributors. A form that is
// not valid is refused, and so is one whose sums could wrap ([ErrWrap]) or whose
// cells are too many ([ErrSize]).
func NewPlan(f Form, parties int) (*Plan, error) {
	if err := f.Validate(nil); err != nil {
		return nil, err
	}
	if parties < 1 || parties > 1<<10 {
		return nil, fmt.Errorf("stats: %d contributors, want 1 to %d", parties, 1<<10)
	}
	p := &Plan{form: f, parties: parties, cells: 1}
	p.form.MaxRows = f.maxRows()
	if p.form.Missing == "" {
		p.form.Missing = MissingRefuse
	}
	for i := range f.GroupBy {
		labels := f.GroupBy[i].categories()
		d := dim{labels: labels, places: len(labels)}
		if f.Margins {
			d.places++
		}
		if d.places > MaxCells/p.cells {
			return nil, fmt.Errorf("%w: more than %d cells", ErrSize, MaxCells)
		}
		p.cells *= d.places
		p.dims = append(p.dims, d)
	}
	stride := 1
	for i := len(p.dims) - 1; i >= 0; i-- {
		p.dims[i].stride = stride
		stride *= p.dims[i].places
	}
	if err := p.lay(); err != nil {
		return nil, err
	}
	if len(p.places) > MaxCounters/p.cells {
		return nil, fmt.Errorf("%w: %d cells of %d counters, the most is %d counters in all", ErrSize, p.cells, len(p.places), MaxCounters)
	}
	return p, nil
}

// layout is NewPlan's way of finding columns and counters that measures share.
type layout struct {
	*Plan
	columnAt map[string]int
	placeAt  map[string]int
	measure  int
}

// lay makes the columns, counters and derivations.
func (p *Plan) lay() error {
	l := &layout{Plan: p, columnAt: make(map[string]int), placeAt: make(map[string]int)}
	for i := range p.form.Measures {
		l.measure = i
		l.derived = append(l.derived, l.derivation(&p.form.Measures[i]))
	}
	if err := l.classes(); err != nil {
		return err
	}
	for i := range p.places {
		c := &p.places[i]
		if err := p.width(c); err != nil {
			return err
		}
		switch c.bits {
		case share.NarrowBits:
			c.at, p.shape.Narrow = p.shape.Narrow, p.shape.Narrow+1
		case share.WideBits:
			c.at, p.shape.Wide = p.shape.Wide, p.shape.Wide+1
		default:
			c.at, p.shape.Huge = p.shape.Huge, p.shape.Huge+1
		}
	}
	return nil
}

func (l *layout) derivation(m *Measure) derivation {
	d := derivation{measure: l.measure, n: -1, a: -1, b: -1, aa: -1, bb: -1, ab: -1}
	d.extra = l.form.skips() && m.Of != Count
	switch m.Of {
	case Count:
		var need []int
		if m.Column != "" {
			need = []int{l.column(column{name: m.Column, kind: presence})}
		}
		d.n = l.place(place{name: "rows", op: ones, need: need})
	case Sum, Mean, Variance, StdDev:
		a := l.column(column{name: m.Column, kind: summed, scale: m.Scale, lo: bound(m, 0), hi: bound(m, 1)})
		need := []int{a}
		d.a = l.place(place{name: "sum", op: value, a: a, need: need})
		if m.Of != Sum || d.extra {
			d.n = l.place(place{name: "rows", op: ones, need: need})
		}
		if m.Of == Variance || m.Of == StdDev {
			d.aa = l.place(place{name: "squares", op: product, a: a, b: a, need: need})
		}
	case Covariance, Correlation:
		second := len(m.Range) - 2 // of four numbers, the second column's range
		a := l.column(column{name: m.Columns[0], kind: summed, scale: m.Scale, lo: bound(m, 0), hi: bound(m, 1)})
		b := l.column(column{name: m.Columns[1], kind: summed, scale: m.Scale, lo: bound(m, second), hi: bound(m, second+1)})
		need := []int{a, b}
		d.n = l.place(place{name: "rows", op: ones, need: need})
		d.a = l.place(place{name: "sum", op: value, a: a, need: need})
		d.b = l.place(place{name: "sum", op: value, a: b, need: need})
		d.ab = l.place(place{name: "products", op: product, a: a, b: b, need: need})
		if m.Of == Correlation {
			d.aa = l.place(place{name: "squares", op: product, a: a, b: a, need: need})
			d.bb = l.place(place{name: "squares", op: product, a: b, b: b, need: need})
		}
	case Min, Max, Quantiles, Histogram:
		a := l.column(column{name: m.Column, kind: binned, edges: m.Bins})
		for i := range len(m.Bins) - 1 {
			d.bins = append(d.bins, l.place(place{name: "bin", op: inBin, a: a, bin: i, need: []int{a}}))
		}
	}
	return d
}

// bound returns number i of m's range in units; Validate saw that it has any.
func bound(m *Measure, i int) int64 {
	n, _ := toUnits(m.Range[i], m.Scale)
	return n
}

// column returns the number of a column, which measures may share.
func (l *layout) column(c column) int {
	key := fmt.Sprintf("%q %d %d %d %d %v", c.name, c.kind, c.scale, c.lo, c.hi, c.edges)
	if i, ok := l.columnAt[key]; ok {
		return i
	}
	l.columnAt[key] = len(l.columns)
	l.columns = append(l.columns, c)
	return len(l.columns) - 1
}

// place returns the number of a counter, which measures may share.
func (l *layout) place(c place) int {
	if !l.form.skips() {
		c.need = nil // no row misses anything
	}
	key := fmt.Sprintf("%d %d %d %d %v", c.op, c.a, c.b, c.bin, c.need)
	if i, ok := l.placeAt[key]; ok {
		return i
	}
	c.measure = l.measure
	c.lo, c.hi = l.extent(&c)
	c.unit = new(big.Int).Neg(c.lo)
	if c.hi.CmpAbs(c.lo) > 0 {
		c.unit.Set(c.hi)
	}
	switch c.op {
	case ones:
		for _, i := range c.need {
			c.name += " with " + l.columns[i].name
		}
	case value:
		c.name += " of " + l.columns[c.a].name
	case product:
		c.name += " of " + l.columns[c.a].name
		if c.b != c.a {
			c.name += " and " + l.columns[c.b].name
		}
	case inBin:
		edges := l.columns[c.a].edges
		label := binLabels(edges[c.bin:c.bin+2], c.bin+2 < len(edges))[0]
		c.name = "rows with " + l.columns[c.a].name + " in " + label
	}
	l.placeAt[key] = len(l.places)
	l.places = append(l.places, c)
	return len(l.places) - 1
}

// width chooses the part of the vector that a counter goes to.
func (p *Plan) width(c *place) error {
	c.reach = new(big.Int).Mul(c.unit, big.NewInt(int64(p.parties)*p.form.MaxRows))
	all := new(big.Int).Set(c.reach)
	if p.form.UnitRows > 0 {
		room := new(big.Int).Mul(c.unit, big.NewInt(p.form.UnitRows))
		room.Mul(room, big.NewInt(p.Changed()))
		all.Add(all, room.Mul(room, big.NewInt(noiseRoom*int64(p.parties))))
	}
	widest := share.HugeBits
	if c.op == ones || c.op == inBin {
		widest = share.WideBits // counts are ints in the result
	}
	need := 1 + c.reach.BitLen() // with the sign
	switch n := max(need, min(1+all.BitLen(), widest)); {
	case n <= share.NarrowBits:
		c.bits = share.NarrowBits
	case n <= share.WideBits:
		c.bits = share.WideBits
	case n <= widest:
		c.bits = share.HugeBits
	default:
		return fmt.Errorf("%w: measures[%d] over %d contributors of %d rows needs %d bits, the most is %d: declare fewer max_rows, a smaller range or a smaller scale",
			ErrWrap, c.measure, p.parties, p.form.MaxRows, need, widest)
	}
	return nil
}

// extent returns the least and the greatest that one row adds to a counter.
func (l *layout) extent(c *place) (lo, hi *big.Int) {
	switch c.op {
	case value:
		return big.NewInt(l.columns[c.a].lo), big.NewInt(l.columns[c.a].hi)
	case product:
		a, b := &l.columns[c.a], &l.columns[c.b]
		lo, hi = new(big.Int), new(big.Int)
		if c.a == c.b { // a square is not negative
			for _, x := range []int64{a.lo, a.hi} {
				if y := big.NewInt(x); y.Mul(y, y).Cmp(hi) > 0 {
					hi = y
				}
			}
			return lo, hi
		}
		for i, x := range []int64{a.lo, a.hi} {
			for j, y := range []int64{b.lo, b.hi} {
				z := new(big.Int).Mul(big.NewInt(x), big.NewInt(y))
				if i+j == 0 || z.Cmp(lo) < 0 {
					lo = z
				}
				if i+j == 0 || z.Cmp(hi) > 0 {
					hi = z
				}
			}
		}
		return lo, hi
	}
	return new(big.Int), big.NewInt(1)
}

// Form returns the form, defaults filled in.
func (p *Plan) Form() Form { return p.form }

// Parties returns how many contributors the plan is for.
func (p *Plan) Parties() int { return p.parties }

// Cells returns how many cells there are, margins included.
func (p *Plan) Cells() int { return p.cells }

// Shape returns the shape of the vector that holds the counters of all cells.
// Counter k of a width stands at k·Cells()+cell.
func (p *Plan) Shape() share.Shape {
	return share.Shape{Narrow: p.shape.Narrow * p.cells, Wide: p.shape.Wide * p.cells, Huge: p.shape.Huge * p.cells}
}

// category returns the number of cell's category in dimension d; the number of
// categories stands for all of them.
func (p *Plan) category(cell, d int) int {
	return cell / p.dims[d].stride % p.dims[d].places
}

// IsMargin reports whether a cell is a sum over others.
func (p *Plan) IsMargin(cell int) bool {
	for d := range p.dims {
		if p.category(cell, d) == len(p.dims[d].labels) {
			return true
		}
	}
	return false
}

// Labels returns a cell's categories, one for each dimension, "all" where it
// sums over one.
func (p *Plan) Labels(cell int) []string {
	labels := make([]string, len(p.dims))
	for d := range p.dims {
		labels[d] = All
		if c := p.category(cell, d); c < len(p.dims[d].labels) {
			labels[d] = p.dims[d].labels[c]
		}
	}
	return labels
}

// Equation says that the counters of a cell are the sums of those of others.
// Units are no counters: one that is in two parts is in the total once.
type Equation struct {
	Total int
	Parts []int
}

// Equations returns every way in which a margin is the sum of cells that differ
// in one dimension. There are none without margins.
func (p *Plan) Equations() []Equation {
	var eqs []Equation
	if !p.form.Margins {
		return nil
	}
	for cell := range p.cells {
		for d := range p.dims {
			if p.category(cell, d) == len(p.dims[d].labels) {
				eqs = append(eqs, Equation{cell, p.parts(cell, d)})
			}
		}
	}
	return eqs
}

// parts returns the cells that margin cell sums over in dimension d.
func (p *Plan) parts(cell, d int) []int {
	n := len(p.dims[d].labels)
	parts := make([]int, n)
	for i := range parts {
		parts[i] = cell - (n-i)*p.dims[d].stride
	}
	return parts
}

// Counter is one of the counters that every cell has.
type Counter struct {
	Name string // what it sums, for people
	Bits int    // the part of the vector that it is in: 32, 64 or 96
	At   int    // its first place there; cell c's is At+c
	// Scale is how many decimals it has: it counts multiples of 10^-Scale.
	Scale int
	// Unit is the most that one row changes it by, in multiples of 10^-Scale.
	Unit *big.Int
	// Touch is the most that one unit changes it by in one cell (L∞): Unit times
	// the form's UnitRows. It is nil where the form declares none.
	Touch *big.Int
	// Room is the most that each contributor may add to it or take away besides
	// its data, so that the sum still cannot wrap.
	Room *big.Int
}

// Sensitivities returns the counters in a fixed order, with how much one unit of
// one party can change each. How many one unit can change is [Plan.Changed].
func (p *Plan) Sensitivities() []Counter {
	cs := make([]Counter, len(p.places))
	for i := range p.places {
		c := &p.places[i]
		cs[i] = Counter{Name: c.name, Bits: c.bits, At: c.at * p.cells, Unit: new(big.Int).Set(c.unit)}
		switch c.op {
		case value:
			cs[i].Scale = p.columns[c.a].scale
		case product:
			cs[i].Scale = p.columns[c.a].scale + p.columns[c.b].scale
		}
		if p.form.UnitRows > 0 {
			cs[i].Touch = new(big.Int).Mul(c.unit, big.NewInt(p.form.UnitRows))
		}
		room := new(big.Int).Lsh(big.NewInt(1), uint(c.bits-1))
		room.Sub(room, big.NewInt(1)).Sub(room, c.reach)
		cs[i].Room = room.Div(room, big.NewInt(int64(p.parties)))
	}
	return cs
}

// Touched returns in how many cells, margins included, one unit of one party can
// be, given the form's UnitRows; 0 where it declares none.
func (p *Plan) Touched() int {
	base := 1
	for _, d := range p.dims {
		base *= len(d.labels)
	}
	return int(min(min(p.form.UnitRows, int64(base))*p.above(), int64(p.cells)))
}

// above is in how many cells a row is.
func (p *Plan) above() int64 {
	if p.form.Margins {
		return 1 << len(p.dims)
	}
	return 1
}

// Changed returns how many counters one unit of one party can change, over all
// cells and margins (L0), given the form's UnitRows; 0 where it declares none.
func (p *Plan) Changed() int64 {
	touched := int64(p.Touched())
	var n int64
	bins := make(map[int]int64) // of each binned column
	for i := range p.places {
		if c := &p.places[i]; c.op != inBin {
			n += touched
		} else {
			bins[c.a]++
		}
	}
	for _, k := range bins { // a row is in one bin
		n += min(touched*k, p.form.UnitRows*p.above())
	}
	return n
}

// Perturb hands the counters of all cells that are not suppressed to f, which
// may change them, with the most that one unit changes each by (nil where the
// form does not say), and takes what f made of them. Numbers are signed, and a
// change is taken modulo the counter's width.
func (p *Plan) Perturb(v share.Vector, suppressed []bool, f func(values, touch []*big.Int) error) error {
	if v.Shape() != p.Shape() || len(suppressed) != p.cells {
		return fmt.Errorf("stats: a vector of shape %s and a mask of %d cells, want %s and %d", v.Shape(), len(suppressed), p.Shape(), p.cells)
	}
	var values, touch []*big.Int
	counters := p.Sensitivities()
	each := func(do func(place, cell int)) {
		for i := range counters {
			for cell, s := range suppressed {
				if !s {
					do(i, cell)
				}
			}
		}
	}
	each(func(i, cell int) {
		values, touch = append(values, p.at(v, i, cell)), append(touch, counters[i].Touch)
	})
	if err := f(values, touch); err != nil {
		return err
	}
	next := 0
	each(func(i, cell int) {
		w := share.FromBig(values[next])
		next++
		switch at := counters[i].At + cell; counters[i].Bits {
		case share.NarrowBits:
			v.Narrow[at] = uint32(w.Lo)
		case share.WideBits:
			v.Wide[at] = w.Lo
		default:
			v.Huge[at] = w.Mask(share.HugeBits)
		}
	})
	return nil
}

// Opened says in words which sums of each cell recipients see, before any
// rounding.
func (p *Plan) Opened() string {
	const most = 20
	var names []string
	bins := make(map[int]bool)
	for i := range p.places {
		c := &p.places[i]
		switch {
		case c.op != inBin:
			names = append(names, c.name)
		case !bins[c.a]:
			bins[c.a] = true
			names = append(names, fmt.Sprintf("rows in each of %d bins of %s", len(p.columns[c.a].edges)-1, p.columns[c.a].name))
		}
	}
	if n := len(names) - most; n > 0 {
		names = append(names[:most], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(names, "; ")
}

// Figure says how to draw the result.
func (p *Plan) Figure(title string) job.Figure {
	f := job.Figure{Title: title, Status: Status}
	for i, c := range p.Schema() {
		switch {
		case i < len(p.dims):
			f.Categories = append(f.Categories, c.Name)
		case c.Name != Status:
			f.Values = append(f.Values, c.Name)
		}
	}
	if p.form.Margins {
		f.Total = All
	}
	return f
}

// String identifies the layout: parties that have the same String have the same
// form, cells and counters.
func (p *Plan) String() string {
	b, err := json.Marshal(p.form)
	if err != nil {
		panic("stats: a form that was checked cannot be written: " + err.Error()) // cannot happen
	}
	return fmt.Sprintf("stats.v1 parties=%d cells=%d counters=%s form=%x", p.parties, p.cells, p.Shape(), sha256.Sum256(b))
}

// Zero sets all counters of the suppressed cells to zero. suppressed has an
// entry for each cell.
func (p *Plan) Zero(v share.Vector, suppressed []bool) {
	for cell, s := range suppressed {
		if !s {
			continue
		}
		for i := cell; i < len(v.Narrow); i += p.cells {
			v.Narrow[i] = 0
		}
		for i := cell; i < len(v.Wide); i += p.cells {
			v.Wide[i] = 0
		}
		for i := cell; i < len(v.Huge); i += p.cells {
			v.Huge[i] = share.Word{}
		}
	}
}
