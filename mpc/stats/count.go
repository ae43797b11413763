package stats

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/internal/disclosure"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/table"
)

// Why a table cannot be counted. A [RowError] says where.
var (
	ErrRange    = errors.New("stats: a value is outside the declared range")
	ErrDomain   = errors.New("stats: a value is in no declared category or bin")
	ErrMissing  = errors.New("stats: a value is missing")
	ErrDecimals = errors.New("stats: a value has more decimals than the declared scale")
	ErrFinite   = errors.New("stats: a value is not finite")
	ErrUnit     = errors.New("stats: a row names no unit")
	ErrRows     = errors.New("stats: more rows than declared")
)

// RowError says which row of a table cannot be counted. It never holds a value.
type RowError struct {
	Column string
	Row    int64  // from 1
	Place  string // where that row stands, if the source is a table.Locator
	Err    error  // one of the above
}

func (e *RowError) Error() string {
	place := e.Place
	if place == "" {
		place = fmt.Sprintf("row %d", e.Row)
	}
	return fmt.Sprintf("%v: column %s, %s", e.Err, e.Column, place)
}

func (e *RowError) Unwrap() error { return e.Err }

// Part is one party's own counts, in the clear: what it has before anything is
// suppressed, encrypted or masked.
type Part struct {
	Rows  int64   // rows counted
	Units []int64 // distinct units of each cell, margins included
	// Supports is the distinct units of each support of each cell: of support s in
	// cell c at s·Cells()+c.
	Supports []int64
	Vector   share.Vector // the counters, of the plan's Shape
	// Members says which units are in which cells, margins left out: sorted by
	// unit, then cell, each pair once. 16 bytes each.
	Members []Member
	// Tops has an entry for every column that is summed and the rows that it is
	// summed over, if CountOptions.Largest asks for it.
	Tops []Top
}

// Member says that a unit has rows in a cell.
type Member struct {
	Unit uint64 // a keyed hash of the unit; see Plan.Count
	Cell int32
	// Value tells that these rows changed: its lowest byte is how many they are,
	// modulo 256, whatever is measured, and the rest digests what they have in
	// [Plan.Digested], with odds of 2^-24 to miss a change. It is not 0, and of
	// several cells both parts add up. While rows are counted it is the number of
	// the row.
	Value uint32
}

// Top is what rules of dominance look at: of each cell the largest
// contributions to the sum of a column. A unit's contribution is the sum of the
// absolute values of its rows, as a multiple of 10^-Scale; of those rows that
// have the other column, too, where two are measured and missing values skipped.
type Top struct {
	Column   string
	Scale    int
	Measures []int                // the form's measures that rest on it
	Cells    []disclosure.Largest // margins included
}

// CountOptions are each party's own choice; the zero value is the least work.
type CountOptions struct {
	// Largest is how many of the largest contributions Tops keep for each cell,
	// as [disclosure.Keep] has it; 0 means that there are none.
	Largest int
}

// blockRows is how many rows are counted at a time: a few columns of it fit the
// processor's second cache.
const blockRows = 8192

// Count counts the rows of src. Units are told apart by the first 64 bits of a
// SHA-256 under seed, which is the caller's secret: of n distinct units two
// have the same with odds of n²/2^65, 3·10^-8 for a million, and then count as
// one. The same seed gives the same units.
//
// Names are compared as the table has them, byte by byte. Memory is at most 48
// bytes a row counted, 4 more for what Members say of values, 4 for each binned
// column and 4 where missing values are skipped, 24 for each summed column where Largest is set, and the
// counters.
func (p *Plan) Count(ctx context.Context, src table.Source, seed [32]byte, opt CountOptions) (*Part, error) {
	c, err := newCounting(p, src, seed, opt)
	if err != nil {
		return nil, err
	}
	for batch, err := range c.selected.Batches(ctx) {
		if err != nil {
			return nil, err
		}
		if err := c.inputs(batch); err != nil {
			return nil, err
		}
		n := int(batch.NumRows())
		for lo := 0; lo < n; lo += blockRows {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			if err := c.block(ctx, lo, min(lo+blockRows, n)); err != nil {
				return nil, err
			}
		}
		c.before += int64(n)
	}
	return c.part(ctx)
}

// counting is one call of Count.
type counting struct {
	*Plan
	src      table.Source
	selected table.Source // the columns that are read
	schema   table.Schema
	unitCols []int // of selected; none: the row's number is the unit
	hash     hasher

	filters []matcher
	lookups []lookup
	source  []int // of each of the plan's columns, its place in selected

	in     []input // the columns of the current batch
	before int64   // rows of the batches before

	rows []int32 // of the current block: the rows that count
	cell []int32 // their base cells
	nums [][]int64
	has  [][]bool // nil where no value is missing
	mask []bool

	sums    [][]int64      // of each place of at most 64 bits, by cell
	words   [][]share.Word // of each wider one
	members []Member
	values  []uint32 // of each row counted, a digest of its numbers
	key     uint64   // of those digests
	order   []int    // the columns that they are of, see Plan.Digested
	largest int
	tops    []topColumn
	amounts []uint64 // of each row counted, the absolute value of each of tops
	// inSupport is, of each row counted, its supports of each binned column, or -1,
	// and the place in patterns of all others.
	inSupport []int32
	patterns  [][]int32
	patternAt map[string]int32 // by which columns are missing
}

// topColumn is a summed column whose absolute values are kept.
type topColumn struct {
	column   int
	need     []int // rows that miss one of these columns do not count
	measures []int
}

// input is a column of a batch.
type input struct {
	array  arrow.Array
	nulls  bool
	ints   []int64
	floats []float64
	texts  *array.String
}

func newCounting(p *Plan, src table.Source, seed [32]byte, opt CountOptions) (*counting, error) {
	schema := src.Schema()
	if err := p.form.Validate(schema); err != nil {
		return nil, err
	}
	names := p.form.Columns()
	var unit []string
	if p.form.Entity != "" {
		unit = []string{p.form.Entity}
	} else {
		for _, k := range schema.Keys() {
			unit = append(unit, schema[k].Name)
		}
		names = append(names, unit...)
	}
	if len(names) == 0 { // rows alone are counted
		names = []string{schema[0].Name}
	}
	selected, err := table.Select(src, names)
	if err != nil {
		return nil, fmt.Errorf("stats: %w", err)
	}
	c := &counting{Plan: p, src: src, selected: selected, schema: selected.Schema(), hash: newHasher(seed), patternAt: make(map[string]int32)}
	c.key = binary.LittleEndian.Uint64(c.hash.buf)
	c.order, _ = p.digested()
	for _, u := range unit {
		c.unitCols = append(c.unitCols, c.schema.Index(u))
	}
	for i := range p.form.Where {
		f := &p.form.Where[i]
		at := c.schema.Index(f.Column)
		c.filters = append(c.filters, newMatcher(f, at, c.schema[at].Type))
	}
	for i := range p.form.GroupBy {
		d := &p.form.GroupBy[i]
		at := c.schema.Index(d.Column)
		c.lookups = append(c.lookups, newLookup(d, at, c.schema[at].Type))
	}
	for i := range p.columns {
		c.source = append(c.source, c.schema.Index(p.columns[i].name))
	}
	c.nums = make([][]int64, len(p.columns))
	c.has = make([][]bool, len(p.columns))
	for i := range c.nums {
		c.nums[i] = make([]int64, 0, blockRows)
	}
	c.sums = make([][]int64, len(p.places))
	c.words = make([][]share.Word, len(p.places))
	for i := range p.places {
		if p.places[i].bits <= share.WideBits {
			c.sums[i] = make([]int64, p.cells)
		} else {
			c.words[i] = make([]share.Word, p.cells)
		}
	}
	if c.largest = opt.Largest; c.largest > 0 {
		c.tops = p.topColumns()
	}
	return c, nil
}

// topColumns lists the columns that are summed, each name, scale and rows that it
// is summed over once.
func (p *Plan) topColumns() []topColumn {
	var tops []topColumn
	at := make(map[string]int)
	for _, d := range p.derived {
		for _, k := range []int{d.a, d.b} {
			if k < 0 {
				continue
			}
			pl := &p.places[k]
			key := fmt.Sprintf("%q %d %q", p.columns[pl.a].name, p.columns[pl.a].scale, p.needed(pl))
			i, ok := at[key]
			if !ok {
				i = len(tops)
				at[key] = i
				tops = append(tops, topColumn{column: pl.a, need: pl.need})
			}
			if !slices.Contains(tops[i].measures, d.measure) {
				tops[i].measures = append(tops[i].measures, d.measure)
			}
		}
	}
	return tops
}

// inputs takes the columns of a batch.
func (c *counting) inputs(b arrow.RecordBatch) error {
	c.in = c.in[:0]
	for i, col := range c.schema {
		in := input{array: b.Column(i), nulls: b.Column(i).NullN() > 0}
		ok := false
		switch a := in.array.(type) {
		case *array.Int64:
			in.ints, ok = a.Int64Values(), col.Type == table.Int
		case *array.Float64:
			in.floats, ok = a.Float64Values(), col.Type == table.Float
		case *array.String:
			in.texts, ok = a, col.Type == table.Text
		}
		if !ok {
			return fmt.Errorf("stats: %w: column %s holds %s", table.ErrType, col.Name, in.array.DataType())
		}
		c.in = append(c.in, in)
	}
	return nil
}

// fail tells where a row of the current batch stands.
func (c *counting) fail(ctx context.Context, row int32, col int, err error) error {
	e := &RowError{Column: c.schema[col].Name, Row: c.before + int64(row) + 1, Err: err}
	if l, ok := c.src.(table.Locator); ok {
		// A place that cannot be had leaves the row number to tell it.
		e.Place, _ = l.Locate(ctx, e.Row)
	}
	return e
}

// block counts rows lo to hi of the current batch.
func (c *counting) block(ctx context.Context, lo, hi int) error {
	c.rows = c.rows[:0]
	for r := lo; r < hi; r++ {
		c.rows = append(c.rows, int32(r))
	}
	for i := range c.filters {
		if err := c.keep(ctx, &c.filters[i]); err != nil {
			return err
		}
	}
	c.cell = append(c.cell[:0], make([]int32, len(c.rows))...)
	for i := range c.lookups {
		if err := c.classify(ctx, &c.lookups[i], int32(c.dims[i].stride)); err != nil {
			return err
		}
	}
	c.compact()
	if len(c.rows) == 0 {
		return nil
	}
	if int64(len(c.members)+len(c.rows)) > c.form.MaxRows {
		return fmt.Errorf("%w: max_rows is %d", ErrRows, c.form.MaxRows)
	}
	for i := range c.columns {
		if err := c.read(ctx, i); err != nil {
			return err
		}
	}
	if err := c.name(ctx); err != nil {
		return err
	}
	for i := range c.places {
		c.add(i)
	}
	c.digest()
	c.support()
	if k := len(c.tops); k > 0 {
		c.amounts = room(c.amounts, k*len(c.rows))
		for r := range c.rows {
			for i := range c.tops {
				v := c.nums[c.tops[i].column][r]
				for _, at := range c.tops[i].need {
					if has := c.has[at]; len(has) > 0 && !has[r] {
						v = 0
					}
				}
				c.amounts = append(c.amounts, uint64(max(v, -v)))
			}
		}
	}
	return nil
}

// Digested says which numbers of a row [Member.Value] digests, in a fixed order:
// forms of which it says the same have digests that can be compared, however
// they name and range their measures.
func (p *Plan) Digested() []string {
	_, names := p.digested()
	return names
}

// digested returns the columns that Digested names, each once.
func (p *Plan) digested() (columns []int, names []string) {
	at := make(map[string]int)
	for i := range p.columns {
		c := &p.columns[i]
		name := fmt.Sprintf("%q %d %d %v", c.name, c.kind, c.scale, c.edges)
		if _, ok := at[name]; !ok {
			at[name] = i
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		columns = append(columns, at[name])
	}
	return columns, names
}

// digest appends a digest of each row's numbers.
func (c *counting) digest() {
	c.values = room(c.values, len(c.rows))
	for r := range c.rows {
		h := c.key
		for _, i := range c.order {
			h ^= uint64(c.nums[i][r])
			if has := c.has[i]; len(has) > 0 && !has[r] {
				h = ^h
			}
			h *= 0x9fb21c651e98df25 // odd; the shifts bring high bits down
			h ^= h >> 29
			h *= 0x9fb21c651e98df25
			h ^= h >> 32
		}
		c.values = append(c.values, uint32(h>>32))
	}
}

// room returns s with space for n more, twice what it had if it had not: tables
// that do not know their length are long.
func room[T any](s []T, n int) []T {
	if cap(s)-len(s) >= n {
		return s
	}
	return append(make([]T, 0, max(2*cap(s), len(s)+n)), s...)
}

// name appends the rows to members, with the hashes of their units.
func (c *counting) name(ctx context.Context) error {
	for _, at := range c.unitCols {
		in := &c.in[at]
		for _, r := range c.rows {
			if in.nulls && in.array.IsNull(int(r)) || in.texts != nil && in.texts.Value(int(r)) == "" {
				return c.fail(ctx, r, at, ErrUnit)
			}
		}
	}
	c.members = room(c.members, len(c.rows))
	for i, r := range c.rows {
		c.hash.begin()
		if len(c.unitCols) == 0 {
			c.hash.int(c.before + int64(r))
		}
		for _, at := range c.unitCols {
			if in := &c.in[at]; in.texts != nil {
				c.hash.text(in.texts.Value(int(r)))
			} else {
				c.hash.int(in.ints[r])
			}
		}
		c.members = append(c.members, Member{Unit: c.hash.sum(), Cell: c.cell[i], Value: uint32(len(c.members))})
	}
	return nil
}

// present returns which rows have all columns of need, nil where all do.
func (c *counting) present(need []int) []bool {
	var first []bool
	for _, col := range need {
		switch has := c.has[col]; {
		case len(has) == 0:
		case first == nil:
			first = has
		default:
			c.mask = append(c.mask[:0], first...)
			for i, ok := range has {
				c.mask[i] = c.mask[i] && ok
			}
			first = c.mask
		}
	}
	return first
}

// add adds the block's rows to place i, and to all bins with the first of them.
func (c *counting) add(i int) {
	pl := &c.places[i]
	has := c.present(pl.need)
	switch {
	case pl.op == inBin:
		if pl.bin > 0 {
			return
		}
		nums := c.nums[pl.a]
		for k, cell := range c.cell {
			if has == nil || has[k] {
				c.sums[i+int(nums[k])][cell]++
			}
		}
	case pl.op == ones:
		sums := c.sums[i]
		for k, cell := range c.cell {
			if has == nil || has[k] {
				sums[cell]++
			}
		}
	case pl.op == value && pl.bits <= share.WideBits:
		sums, a := c.sums[i], c.nums[pl.a]
		for k, cell := range c.cell {
			if has == nil || has[k] {
				sums[cell] += a[k]
			}
		}
	case pl.op == value:
		words, a := c.words[i], c.nums[pl.a]
		for k, cell := range c.cell {
			if has == nil || has[k] {
				words[cell] = words[cell].Add(share.FromInt64(a[k]))
			}
		}
	case pl.bits <= share.WideBits:
		sums, a, b := c.sums[i], c.nums[pl.a], c.nums[pl.b]
		for k, cell := range c.cell {
			if has == nil || has[k] {
				sums[cell] += a[k] * b[k]
			}
		}
	default:
		words, a, b := c.words[i], c.nums[pl.a], c.nums[pl.b]
		for k, cell := range c.cell {
			if has == nil || has[k] {
				words[cell] = words[cell].Add(multiply(a[k], b[k]))
			}
		}
	}
}

// multiply returns x·y in 128 bits.
func multiply(x, y int64) share.Word {
	hi, lo := bits.Mul64(uint64(x), uint64(y))
	hi -= uint64(x>>63)&uint64(y) + uint64(y>>63)&uint64(x)
	return share.Word{Hi: hi, Lo: lo}
}

// part makes the result of what has been counted.
func (c *counting) part(ctx context.Context) (*Part, error) {
	part := &Part{Rows: int64(len(c.members)), Vector: share.NewVector(c.Shape())}
	for d := range c.dims {
		if c.form.Margins {
			c.total(d)
		}
	}
	for i := range c.places {
		pl := &c.places[i]
		switch from := pl.at * c.cells; pl.bits {
		case share.NarrowBits:
			for cell, v := range c.sums[i] {
				part.Vector.Narrow[from+cell] = uint32(v)
			}
		case share.WideBits:
			for cell, v := range c.sums[i] {
				part.Vector.Wide[from+cell] = uint64(v)
			}
		default:
			for cell, v := range c.words[i] {
				part.Vector.Huge[from+cell] = v.Mask(share.HugeBits)
			}
		}
	}
	c.sums, c.words = nil, nil
	return part, c.distinct(ctx, part)
}

// total sets the cells that sum over dimension d, those that sum over earlier
// ones among them.
func (c *counting) total(d int) {
	for cell := range c.Cells() {
		n := len(c.dims[d].labels)
		if c.category(cell, d) != n {
			continue
		}
		stride := c.dims[d].stride
		for i := range c.places {
			if c.sums[i] != nil {
				var sum int64
				for from := cell - n*stride; from < cell; from += stride {
					sum += c.sums[i][from]
				}
				c.sums[i][cell] = sum
				continue
			}
			var sum share.Word
			for from := cell - n*stride; from < cell; from += stride {
				sum = sum.Add(c.words[i][from])
			}
			c.words[i][cell] = sum
		}
	}
}
