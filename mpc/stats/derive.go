package stats

import (
	"errors"
	"fmt"
	"math"
	"math/big"

	"github.com/yinqiao/yinqiao/internal/disclosure"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/table"
)

// ErrSums is wrapped where no tables within the form give the opened sums.
var ErrSums = errors.New("stats: the opened sums contradict the form")

// DeriveOptions are how values are released.
type DeriveOptions struct {
	// RoundTo is the base that counts and sums are rounded to, in the values' own
	// measure; 0 means none. What follows from them is made to tell no more: see
	// docs/statistics.md.
	RoundTo int64
	// Noisy says that the counters carry noise. Sums that no tables give are then
	// no error; counts and sums stay as they are, below zero too, since they are
	// right on average; means are brought into the declared range, and variances
	// to zero from below.
	Noisy bool
}

// Schema returns the columns of the result: the dimensions, the measures and
// "status".
func (p *Plan) Schema() table.Schema {
	var s table.Schema
	for i := range p.form.GroupBy {
		s = append(s, table.Column{Name: p.form.GroupBy[i].title(), Type: table.Text})
	}
	for i := range p.derived {
		d := &p.derived[i]
		m := &p.form.Measures[d.measure]
		names := m.outputs(p.form.skips())
		for k, name := range names {
			t := table.Float
			if m.Of == Count || m.Of == Histogram || d.extra && k == len(names)-1 ||
				m.Of == Sum && m.Scale == 0 && p.places[d.a].bits <= share.WideBits {
				t = table.Int
			}
			s = append(s, table.Column{Name: name, Type: t})
		}
	}
	return append(s, table.Column{Name: Status, Type: table.Text})
}

// Derive makes the result of the opened sums: a row for each cell, margins
// included, in the order of cells. suppressed has an entry for each cell, or is
// nil; a suppressed cell's values are missing.
func (p *Plan) Derive(sum share.Vector, suppressed []bool, opt DeriveOptions) (*table.Table, error) {
	if sum.Shape() != p.Shape() {
		return nil, fmt.Errorf("stats: a vector of shape %s, want %s", sum.Shape(), p.Shape())
	}
	if suppressed != nil && len(suppressed) != p.cells {
		return nil, fmt.Errorf("stats: a mask of %d cells, want %d", len(suppressed), p.cells)
	}
	if opt.RoundTo < 0 {
		return nil, fmt.Errorf("stats: rounding to %d", opt.RoundTo)
	}
	if !opt.Noisy {
		if err := p.check(sum, suppressed); err != nil {
			return nil, err
		}
	}
	schema := p.Schema()
	b := table.NewBuilder(schema)
	r := release{plan: p, sum: sum, opt: opt, sums: make([]*big.Int, len(p.places))}
	for cell := range p.cells {
		at := 0
		for _, l := range p.Labels(cell) {
			b.Texts(at).Append(l)
			at++
		}
		masked := suppressed != nil && suppressed[cell]
		r.values = r.values[:0]
		if !masked {
			r.cell(cell)
		}
		for k := 0; at < len(schema)-1; at, k = at+1, k+1 {
			isInt := schema[at].Type == table.Int
			switch {
			case masked && isInt:
				b.Ints(at).AppendNull()
			case masked:
				b.Floats(at).AppendNull()
			case isInt:
				b.Ints(at).Append(r.values[k].i)
			case math.IsNaN(r.values[k].f):
				b.Floats(at).AppendNull()
			default:
				b.Floats(at).Append(r.values[k].f)
			}
		}
		status := ""
		if masked {
			status = Suppressed
		}
		b.Texts(at).Append(status)
	}
	return b.Table()
}

// at returns a counter of a cell.
func (p *Plan) at(v share.Vector, place, cell int) *big.Int {
	c := &p.places[place]
	i := c.at*p.cells + cell
	switch c.bits {
	case share.NarrowBits:
		return big.NewInt(int64(int32(v.Narrow[i])))
	case share.WideBits:
		return big.NewInt(int64(v.Wide[i]))
	}
	return share.SignedHuge(v.Huge[i]).Signed()
}

// release derives the values of one cell after another.
type release struct {
	plan   *Plan
	sum    share.Vector
	opt    DeriveOptions
	sums   []*big.Int // of the current cell
	values []cellValue
}

// cellValue is i in an int column, f in a float column, where NaN means missing.
type cellValue struct {
	i int64
	f float64
}

func (r *release) cell(cell int) {
	for i := range r.sums {
		r.sums[i] = r.plan.at(r.sum, i, cell)
	}
	for i := range r.plan.derived {
		r.derive(&r.plan.derived[i])
	}
}

func (r *release) int(n int64)    { r.values = append(r.values, cellValue{i: n}) }
func (r *release) real(x float64) { r.values = append(r.values, cellValue{f: x}) }

var missing = math.NaN()

func (r *release) derive(d *derivation) {
	m := &r.plan.form.Measures[d.measure]
	var n int64 // rows, as they are
	if d.n >= 0 {
		n = r.sums[d.n].Int64()
	}
	switch m.Of {
	case Count:
		r.int(disclosure.Round(n, r.opt.RoundTo))
	case Sum:
		if r.plan.places[d.a].bits <= share.WideBits && m.Scale == 0 {
			r.int(disclosure.Round(r.sums[d.a].Int64(), r.opt.RoundTo))
		} else {
			r.real(quotient(disclosure.RoundBig(r.sums[d.a], r.base(m.Scale)), power(m.Scale)))
		}
	case Mean:
		x := r.mean(n, r.sums[d.a], m.Scale)
		if r.opt.Noisy {
			x = min(max(m.Range[0], x), m.Range[1])
		}
		r.real(x)
	case Variance, StdDev:
		// Only noise takes it below zero.
		x := max(0, spread(n, r.sums[d.aa], r.sums[d.a], r.sums[d.a], m.Scale))
		if m.Of == StdDev {
			x = math.Sqrt(x)
		}
		r.real(r.digits(x))
	case Covariance:
		r.real(r.digits(spread(n, r.sums[d.ab], r.sums[d.a], r.sums[d.b], m.Scale)))
	case Correlation:
		x := correlation(n, r.sums[d.aa], r.sums[d.bb], r.sums[d.ab], r.sums[d.a], r.sums[d.b])
		if r.opt.RoundTo > 1 {
			x = math.Round(x*1000) / 1000
		}
		r.real(x)
	case Min, Max, Quantiles, Histogram:
		n = r.bins(m, d)
	}
	if d.extra {
		r.int(disclosure.Round(n, r.opt.RoundTo))
	}
}

// base is RoundTo in units of a scale; nil for none.
func (r *release) base(scale int) *big.Int {
	if r.opt.RoundTo == 0 {
		return nil
	}
	return new(big.Int).Mul(big.NewInt(r.opt.RoundTo), power(scale))
}

// mean is sum/n. With rounding it is the quotient of a multiple of the base and
// the rounded n: as fine as a rounded sum of as many rows would have it, and n
// cannot be read off its digits.
func (r *release) mean(n int64, sum *big.Int, scale int) float64 {
	if n <= 0 {
		return missing
	}
	if r.opt.RoundTo <= 1 {
		return quotient(sum, new(big.Int).Mul(big.NewInt(n), power(scale)))
	}
	rounded := disclosure.Round(n, r.opt.RoundTo)
	if rounded == 0 {
		return missing
	}
	base := r.base(scale)
	// k is the whole number next to mean·rounded/base, in units of the scale.
	num := new(big.Int).Mul(sum, big.NewInt(rounded))
	k := nearest(num, new(big.Int).Mul(base, big.NewInt(n)))
	return quotient(k.Mul(k, big.NewInt(r.opt.RoundTo)), big.NewInt(rounded))
}

// digits rounds to three significant digits where counts are rounded.
func (r *release) digits(x float64) float64 {
	if r.opt.RoundTo <= 1 || x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return x
	}
	step := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(x))))
	return math.Round(x*step) / step
}

// bins derives what rests on the counts of bins, and returns their sum.
func (r *release) bins(m *Measure, d *derivation) int64 {
	var n int64 // unrounded
	counts := make([]int64, len(d.bins))
	for i, k := range d.bins {
		c := r.sums[k].Int64()
		n += c
		counts[i] = disclosure.Round(c, r.opt.RoundTo)
	}
	switch m.Of {
	case Histogram:
		for _, c := range counts {
			r.int(c)
		}
	case Min:
		r.edges(m.Bins, firstBin(counts))
	case Max:
		r.edges(m.Bins, lastBin(counts))
	default:
		for _, q := range m.At {
			i, x := quantile(m.Bins, counts, q)
			r.real(x)
			r.edges(m.Bins, i)
		}
	}
	return n
}

func (r *release) edges(edges []float64, bin int) {
	if bin < 0 {
		r.real(missing)
		r.real(missing)
		return
	}
	r.real(edges[bin])
	r.real(edges[bin+1])
}

func firstBin(counts []int64) int {
	for i, c := range counts {
		if c > 0 {
			return i
		}
	}
	return -1
}

func lastBin(counts []int64) int {
	for i := len(counts) - 1; i >= 0; i-- {
		if counts[i] > 0 {
			return i
		}
	}
	return -1
}

// quantile returns the bin in which the share q of all rows is reached, and the
// place in it, as if the rows of a bin were spread evenly over it; -1 and NaN
// where there are no rows. Negative counts, which noise makes, are taken for 0.
func quantile(edges []float64, counts []int64, q float64) (int, float64) {
	var n float64
	for _, c := range counts {
		n += float64(max(c, 0))
	}
	if n == 0 {
		return -1, missing
	}
	target, below := q*n, 0.0
	if whole := math.Round(target); math.Abs(target-whole) < 1e-9 {
		target = whole // 0.1 of 30 rows is 3
	}
	for i, c := range counts {
		if c <= 0 {
			continue
		}
		if below+float64(c) >= target || i == lastBin(counts) {
			part := min(max(0, (target-below)/float64(c)), 1)
			return i, edges[i] + part*(edges[i+1]-edges[i])
		}
		below += float64(c)
	}
	return -1, missing
}

// spread is (ab - a·b/n)/(n-1) in the values' measure.
func spread(n int64, ab, a, b *big.Int, scale int) float64 {
	if n < 2 {
		return missing
	}
	ten := power(scale)
	den := new(big.Int).Mul(big.NewInt(n), big.NewInt(n-1))
	den.Mul(den, ten).Mul(den, ten)
	return quotient(moment(n, ab, a, b), den)
}

// moment is n·ab - a·b.
func moment(n int64, ab, a, b *big.Int) *big.Int {
	x := new(big.Int).Mul(big.NewInt(n), ab)
	return x.Sub(x, new(big.Int).Mul(a, b))
}

func correlation(n int64, aa, bb, ab, a, b *big.Int) float64 {
	if n < 2 {
		return missing
	}
	va, vb := moment(n, aa, a, a), moment(n, bb, b, b)
	if va.Sign() <= 0 || vb.Sign() <= 0 {
		return missing
	}
	const precision = 256
	den := new(big.Float).SetPrec(precision).SetInt(va.Mul(va, vb))
	den.Sqrt(den)
	x := new(big.Float).SetPrec(precision).SetInt(moment(n, ab, a, b))
	r, _ := x.Quo(x, den).Float64()
	return min(max(-1, r), 1)
}

func power(scale int) *big.Int {
	return big.NewInt(int64(powers[scale]))
}

// quotient is a/b as the nearest float64.
func quotient(a, b *big.Int) float64 {
	x, _ := new(big.Rat).SetFrac(a, b).Float64()
	return x
}

// nearest is a/b, b positive, as the nearest whole number; halves go up.
func nearest(a, b *big.Int) *big.Int {
	two := new(big.Int).Lsh(a, 1)
	two.Add(two, b)
	return two.Div(two, new(big.Int).Lsh(b, 1)) // Div rounds down for b > 0
}

// check compares the opened sums with what tables within the form can give.
// Suppressed cells are zero and not looked at.
func (p *Plan) check(sum share.Vector, suppressed []bool) error {
	masked := func(cell int) bool { return suppressed != nil && suppressed[cell] }
	most := big.NewInt(int64(p.parties) * p.form.MaxRows)
	var lo, hi big.Int
	for i := range p.places {
		c := &p.places[i]
		lo.Mul(c.lo, most)
		hi.Mul(c.hi, most)
		if lo.Sign() > 0 {
			lo.SetInt64(0) // there may be no row
		}
		if hi.Sign() < 0 {
			hi.SetInt64(0)
		}
		for cell := range p.cells {
			if x := p.at(sum, i, cell); !masked(cell) && (x.Cmp(&lo) < 0 || x.Cmp(&hi) > 0) {
				return fmt.Errorf("%w: %s is out of reach in cell %d", ErrSums, c.name, cell)
			}
		}
	}
	for cell := range p.cells {
		if masked(cell) {
			continue
		}
		for i := range p.derived {
			if err := p.consistent(sum, &p.derived[i], cell); err != nil {
				return err
			}
		}
	}
	for _, eq := range p.Equations() {
		if masked(eq.Total) {
			continue
		}
		if err := p.balanced(sum, eq, masked); err != nil {
			return err
		}
	}
	return nil
}

// consistent checks the counters of one measure against each other.
func (p *Plan) consistent(sum share.Vector, d *derivation, cell int) error {
	if d.n < 0 || d.a < 0 {
		return nil
	}
	n := p.at(sum, d.n, cell)
	for _, k := range []int{d.a, d.b, d.aa, d.bb, d.ab} {
		if k < 0 {
			continue
		}
		c := &p.places[k]
		x := p.at(sum, k, cell)
		if x.Cmp(new(big.Int).Mul(c.lo, n)) < 0 || x.Cmp(new(big.Int).Mul(c.hi, n)) > 0 {
			return fmt.Errorf("%w: %s does not fit its rows in cell %d", ErrSums, c.name, cell)
		}
	}
	for _, k := range [][2]int{{d.a, d.aa}, {d.b, d.bb}} {
		if k[1] < 0 {
			continue
		}
		a := p.at(sum, k[0], cell)
		if moment(n.Int64(), p.at(sum, k[1], cell), a, a).Sign() < 0 {
			return fmt.Errorf("%w: %s are less than the sum allows in cell %d", ErrSums, p.places[k[1]].name, cell)
		}
	}
	return nil
}

// balanced checks one equation, where no part is suppressed.
func (p *Plan) balanced(sum share.Vector, eq Equation, masked func(int) bool) error {
	for _, part := range eq.Parts {
		if masked(part) {
			return nil
		}
	}
	for i := range p.places {
		total := p.at(sum, i, eq.Total)
		for _, part := range eq.Parts {
			total.Sub(total, p.at(sum, i, part))
		}
		if total.Sign() != 0 {
			return fmt.Errorf("%w: %s of cell %d is not the sum of its parts", ErrSums, p.places[i].name, eq.Total)
		}
	}
	return nil
}
