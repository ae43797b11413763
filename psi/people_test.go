package psi_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/table"
)

// people is tables of any size that are known by arithmetic: which subject each
// row of each party is of. So a result can be held to them row by row, in memory
// of one bit a row.
type people struct {
	rows   []int64 // of each party
	common int64   // subjects of all parties
	pairs  int64   // subjects of each two parties and no third, of three
}

const (
	idColumn   = "id"
	valueName  = "v"
	noteName   = "note"
	classRange = 1 << 25 // subjects of one class, which are more than rows of a party
)

var peopleSchema = table.Schema{
	{Name: valueName, Type: table.Int}, {Name: noteName, Type: table.Text}, {Name: idColumn, Type: table.Text, Key: true},
}

// strides are primes beyond any number of rows: each party has its rows in
// another order.
var strides = [...]int64{2147483647, 2147483629, 2147483587}

// subject returns whom a row of a party is of. What p0 has does not depend on
// the others.
func (p people) subject(party int, row int64) int64 {
	n := p.rows[party]
	j := (row*strides[party] + int64(party)*(n/3)) % n
	switch {
	case party == 0 || j < p.common:
		return j
	case j < p.common+p.pairs: // with p0
		return j + int64(party-1)*p.pairs
	case j < p.common+2*p.pairs: // p1 and p2
		return classRange + j
	}
	return int64(party+1)*classRange + j
}

func value(party int, row int64) int64 { return row*3 + int64(party) }

// note is the text of a row; some have none.
func note(row int64) (s string, ok bool) {
	if row%5 == 3 {
		return "", false
	}
	return strconv.FormatInt(-row, 10), true
}

// tables makes the rows as they are read.
func (p people) tables() (sources []table.Source) {
	for party, n := range p.rows {
		sources = append(sources, table.Generate(peopleSchema, n, func(b *table.Builder, row int64) {
			b.Ints(0).Append(value(party, row))
			if s, ok := note(row); ok {
				b.Texts(1).Append(s)
			} else {
				b.Texts(1).AppendNull()
			}
			b.Texts(2).Append(string(align.AppendSubject(nil, p.subject(party, row))))
		}))
	}
	return sources
}

// rowSet is which rows of p0 and p1 a result holds to be of one subject, sorted.
type rowSet []uint64

func newPair(row0, row1 int64) uint64 { return uint64(row0)<<32 | uint64(row1) }

// inTheClear finds the common rows with a hash table, in the tables as anybody
// would read them.
func inTheClear(t testing.TB, sources []table.Source) (set rowSet) {
	t.Helper()
	row0 := make(map[string]int64) // of each key of p0
	var have []int                 // how many parties have a row of p0, one after the other
	var row1 []int64
	for party, src := range sources {
		row := int64(0)
		for b, err := range src.Batches(t.Context()) {
			must(t, err)
			keys := b.Column(src.Schema().Index(idColumn)).(*array.String)
			for r := range keys.Len() {
				if party == 0 {
					row0[strings.Clone(keys.Value(r))] = row
					have, row1 = append(have, 1), append(row1, -1)
				} else if i, ok := row0[keys.Value(r)]; ok && have[i] == party {
					have[i]++
					if party == 1 {
						row1[i] = row
					}
				}
				row++
			}
		}
	}
	for i, n := range have {
		if n == len(sources) {
			set = append(set, newPair(int64(i), row1[i]))
		}
	}
	return set // sorted, as rows of p0 are
}

// cursor reads a source row by row.
type cursor struct {
	next func() (arrow.RecordBatch, error, bool)
	stop func()
	b    arrow.RecordBatch
	at   int
}

func newCursor(ctx context.Context, src table.Source) *cursor {
	next, stop := iter.Pull2(src.Batches(ctx))
	return &cursor{next: next, stop: stop}
}

// more goes to the next row and says whether there is one.
func (c *cursor) more() (bool, error) {
	c.at++
	for c.b == nil || c.at == int(c.b.NumRows()) {
		b, err, ok := c.next()
		if err != nil || !ok {
			return false, err
		}
		c.b, c.at = b, 0
	}
	return true, nil
}

// check holds results to the plaintext and returns the row set.
func (p people) check(t testing.TB, results []job.Result) rowSet {
	t.Helper()
	set, err := p.compare(t.Context(), results)
	must(t, err)
	return set
}

// compare says what is wrong with results: all have row k of one common subject,
// with all its columns; each common subject comes once; counts and numbers of
// rows are right. It returns the row set of results of up to 2^20 rows.
func (p people) compare(ctx context.Context, results []job.Result) (set rowSet, err error) {
	var cursors []*cursor
	for i, r := range results {
		if n, ok := r.Counts[job.CountCommon]; !ok || n != p.common || r.Rows != p.rows[i] {
			return nil, fmt.Errorf("p%d counts %d common of %d rows, want %d of %d", i, n, r.Rows, p.common, p.rows[i])
		}
		if n, ok := r.Counts[align.CountJoined]; ok && n != p.common {
			return nil, fmt.Errorf("p%d counts %d rows of the result, want %d", i, n, p.common)
		}
		src, ok := r.Tables["intersection"]
		if !ok {
			continue
		}
		if got := names(src); !slices.Equal(got, []string{idColumn, valueName, noteName}) {
			return nil, fmt.Errorf("p%d has columns %q", i, got)
		}
		c := newCursor(ctx, src)
		defer c.stop()
		cursors = append(cursors, c)
	}
	if len(cursors) == 0 { // only counted
		return nil, nil
	}
	if len(cursors) != len(results) {
		return nil, fmt.Errorf("%d of %d parties have a table", len(cursors), len(results))
	}
	seen := make([]uint64, p.common/64+1)
	for k := int64(0); ; k++ {
		ended := 0
		for _, c := range cursors {
			more, err := c.more()
			if err != nil {
				return nil, err
			}
			if !more {
				ended++
			}
		}
		switch {
		case ended == len(cursors) && k == p.common:
			slices.Sort(set)
			return set, nil
		case ended == len(cursors):
			return nil, fmt.Errorf("the result has %d rows, want %d", k, p.common)
		case ended > 0:
			return nil, fmt.Errorf("%d of %d parties' tables end after %d rows, others go on", ended, len(cursors), k)
		}
		var subject int64
		var rows [2]int64
		for i, c := range cursors {
			row, s, err := p.rowAt(i, c)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				subject = s
			}
			if i < len(rows) {
				rows[i] = row
			}
			if s != subject {
				return nil, fmt.Errorf("row %d of the result is not of one subject at p0 and p%d", k, i)
			}
		}
		if subject >= p.common || seen[subject/64]>>(subject%64)&1 != 0 {
			return nil, fmt.Errorf("row %d of the result is of a subject that not all have, or comes twice", k)
		}
		seen[subject/64] |= 1 << (subject % 64)
		if p.common <= 1<<20 {
			set = append(set, newPair(rows[0], rows[1]))
		}
	}
}

// rowAt returns which row of a party a cursor is at, and whom it is of, if all
// its columns are those of that row.
func (p people) rowAt(party int, c *cursor) (row, subject int64, err error) {
	ids, values, notes := c.b.Column(0).(*array.String), c.b.Column(1).(*array.Int64), c.b.Column(2).(*array.String)
	if ids.IsNull(c.at) || values.IsNull(c.at) {
		return 0, 0, fmt.Errorf("a row of p%d is missing", party)
	}
	v := values.Value(c.at)
	row = (v - int64(party)) / 3
	if v < 0 || row >= p.rows[party] || value(party, row) != v {
		return 0, 0, fmt.Errorf("p%d has a row that is not of its table", party)
	}
	subject = p.subject(party, row)
	want, ok := note(row)
	if ids.Value(c.at) != string(align.AppendSubject(nil, subject)) || notes.IsNull(c.at) == ok || ok && notes.Value(c.at) != want {
		return 0, 0, fmt.Errorf("the columns of a row of p%d are not of one row", party)
	}
	return row, subject, nil
}

// numbered makes a table of subjects whose value is the row.
func numbered(t testing.TB, subjects []int) *table.Table {
	t.Helper()
	b := table.NewBuilder(peopleSchema)
	for row, s := range subjects {
		b.Ints(0).Append(int64(row))
		b.Texts(1).AppendNull()
		b.Texts(2).Append(string(align.AppendSubject(nil, int64(s))))
	}
	tb, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// rowSetOf returns the row set of results of numbered tables.
func rowSetOf(t testing.TB, results []job.Result) (set rowSet) {
	t.Helper()
	var columns [2][]int64
	for i := range columns {
		columns[i] = intsOf(t, results[i].Tables["intersection"], valueName)
	}
	if len(columns[0]) != len(columns[1]) {
		t.Fatalf("tables of %d and %d rows", len(columns[0]), len(columns[1]))
	}
	for k := range columns[0] {
		set = append(set, newPair(columns[0][k], columns[1][k]))
	}
	slices.Sort(set)
	return set
}

// intsOf reads a column; a missing value is -1.
func intsOf(t testing.TB, src table.Source, name string) (xs []int64) {
	t.Helper()
	for b, err := range src.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		a := b.Column(src.Schema().Index(name)).(*array.Int64)
		for r := range a.Len() {
			if a.IsNull(r) {
				xs = append(xs, -1)
			} else {
				xs = append(xs, a.Value(r))
			}
		}
	}
	return xs
}

func names(src table.Source) (ns []string) {
	for _, c := range src.Schema() {
		ns = append(ns, c.Name)
	}
	return ns
}

// overlap is how much of the smallest table all parties have.
type overlap struct {
	name string
	of   func(n int64) int64
}

var overlaps = []overlap{
	{"none", func(int64) int64 { return 0 }},
	{"one row", func(n int64) int64 { return min(n, 1) }},
	{"1 %", func(n int64) int64 { return n / 100 }},
	{"50 %", func(n int64) int64 { return n / 2 }},
	{"all", func(n int64) int64 { return n }},
}

// peopleOf returns tables for a kind: at kinds of two parties of the given rows,
// at kinds of three the third with as many as the second.
func (k kind) peopleOf(o overlap, n, m int64) people {
	p := people{rows: []int64{n, m}, common: o.of(min(n, m))}
	if len(k.roles) == 3 {
		p.rows = append(p.rows, m)
		p.pairs = (min(n, m) - p.common) / 3
	}
	return p
}

func (p people) String() string { return fmt.Sprintf("%d rows, %d common", p.rows, p.common) }
