package stats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/table"
)

func decode(t testing.TB, form string) stats.Form {
	t.Helper()
	var f stats.Form
	if err := job.DecodeParams(json.RawMessage(form), &f); err != nil {
		t.Fatalf("%s: %v", form, err)
	}
	return f
}

func TestValidateReportsEveryFault(t *testing.T) {
	f := decode(t, `{
		"entity": "amount",
		"where": [
			{"column": "branch"},
			{"column": "branch", "in": ["11", 11], "min": 1},
			{"column": "year", "in": ["02000", "x"]},
			{"column": "rate", "in": [1]},
			{"column": "branch", "max": 3},
			{"column": "term", "min": 3, "max": 2},
			{"column": "term", "not_in": []},
			{"column": "nobody", "min": 1}
		],
		"group_by": [
			{"column": "branch"},
			{"column": "branch", "name": "status", "domain": ["a"], "bins": [1, 2]},
			{"column": "year", "domain": ["all", 2000, "other"], "other": true},
			{"column": "term", "bins": [1, 3, 3], "other": true},
			{"column": "branch", "name": "b2", "domain": ["x"], "open_ended": true},
			{"column": "rate", "bins": [5]}
		],
		"measures": [
			{"of": "median"},
			{},
			{"of": "count", "range": [0, 1], "scale": 1, "column": "branch"},
			{"of": "sum", "column": "branch", "range": [3, 1]},
			{"of": "mean", "column": "term", "range": [0, 1.5], "bins": [1, 2]},
			{"of": "variance", "range": [0]},
			{"of": "covariance", "columns": ["term", "term"], "range": [0, 1, 2]},
			{"of": "correlation", "column": "term", "range": [0, 1]},
			{"of": "stddev", "name": "b2", "column": "rate", "range": [0, 1e16], "scale": 13},
			{"of": "sum", "column": "term", "range": [0, 1e15], "scale": 1, "name": "big"},
			{"of": "quantiles", "column": "rate", "bins": [0, 1], "at": [0.5, 1.5, 0.5]},
			{"of": "histogram", "column": "rate", "at": [0.1], "name": "a\u0007"}
		],
		"missing": "maybe", "margins": true, "max_rows": 3000000000, "unit_rows": -1
	}`)
	err := f.Validate(columnsOf)
	if !errors.Is(err, stats.ErrForm) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		"entity: column amount is float, want text or int",
		"where[0]: want one of in, not_in, and min or max",
		"where[1].in[1]: occurs twice",
		"where[1]: want one of",
		"where[2].in[0]: column year is int",
		"where[2].in[1]: column year is int",
		"where[3].column: column rate is float, want text or int",
		"where[4].column: column branch is text, want int or float",
		"where[5].min: above max",
		"where[6].not_in: empty",
		"where[7].column: there is no column nobody",
		"group_by[0]: want one of domain and bins",
		"group_by[1]: want one of domain and bins",
		"group_by[1]: the result has a column status twice",
		"group_by[2].domain[0]: all is what",
		"group_by[2].domain[2]: other is what",
		"group_by[3].bins[2]: not above",
		"group_by[3].other: goes with a domain",
		"group_by[4].open_ended: goes with bins",
		"group_by[5].bins: 1 edges, want 2",
		"measures[0].of: unknown",
		"measures[1].of: blank",
		"measures[2].range: has no place in a count",
		"measures[2].scale: has no place in a count",
		"measures[3].column: column branch is text",
		"measures[3].range[1]: below the lower end",
		"measures[4].range[1]: more decimals than scale 0",
		"measures[4].bins: has no place in a mean",
		"measures[5].column: is needed for a variance",
		"measures[5].range: 1 numbers, want two numbers",
		"measures[6].columns: want two different columns",
		"measures[6].range: 3 numbers, want two numbers, or four",
		"measures[7].column: has no place",
		"measures[7].columns: is needed",
		"measures[8].scale: want 0 to 12",
		"measures[8]: the result has a column b2 twice: group_by[4] has it too",
		"measures[9].range[1]: beyond 1e+15 at scale 1",
		"measures[10].at[1]: want 0 to 1",
		"measures[10].at[2]: occurs twice",
		"measures[11].bins: is needed",
		"measures[11].at: has no place",
		"measures[11].name: holds a control character",
		"missing: want refuse or skip",
		"max_rows: want 1 to",
		"unit_rows: want 1 to",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
	if _, err := stats.NewPlan(f, 3); !errors.Is(err, stats.ErrForm) {
		t.Errorf("NewPlan: %v", err)
	}
}

func TestValidateBoundsWhatItReports(t *testing.T) {
	f := stats.Form{Measures: []stats.Measure{{Of: stats.Count}}}
	bad := stats.Dimension{Column: "branch"}
	for range 60000 {
		bad.Domain = append(bad.Domain, "x")
	}
	f.GroupBy = []stats.Dimension{bad}
	if err := f.Validate(nil); err == nil || len(err.Error()) > 10_000 || !strings.Contains(err.Error(), "and 59899 more") {
		t.Errorf("%.200v", err)
	}
	for name, f := range map[string]stats.Form{
		"where":    {Where: make([]stats.Filter, 1e6)},
		"group_by": {GroupBy: make([]stats.Dimension, 1e6)},
		"measures": {Measures: make([]stats.Measure, 1e6)},
	} {
		if err := f.Validate(nil); err == nil || !strings.Contains(err.Error(), name+": 1000000") && !strings.Contains(err.Error(), name+": 1000000 ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTheUnitIsNothingElse: what names the protected unit cannot be filtered,
// grouped or measured, be it the entity or a key.
func TestTheUnitIsNothingElse(t *testing.T) {
	keyed := table.Schema{{Name: "id", Type: table.Int, Key: true}, {Name: "x", Type: table.Int}}
	one := 1.0
	for _, f := range []stats.Form{
		{Where: []stats.Filter{{Column: "id", Min: &one}}, Measures: []stats.Measure{{Of: stats.Count}}},
		{GroupBy: []stats.Dimension{{Column: "id", Bins: []float64{1, 2}}}, Measures: []stats.Measure{{Of: stats.Count}}},
		{Measures: []stats.Measure{{Of: stats.Sum, Column: "id", Range: []float64{0, 1}}}},
		{Measures: []stats.Measure{{Of: stats.Covariance, Columns: []string{"x", "id"}, Range: []float64{0, 1}}}},
	} {
		f.Entity = "id"
		if err := f.Validate(nil); err == nil || !strings.Contains(err.Error(), "names the protected unit") {
			t.Errorf("as the entity: %v", err)
		}
		f.Entity = ""
		if err := f.Validate(keyed); err == nil || !strings.Contains(err.Error(), "names the protected unit") {
			t.Errorf("as the key: %v", err)
		}
		f.Entity = "x"
		if len(f.Where)+len(f.GroupBy) > 0 {
			if err := f.Validate(keyed); err != nil {
				t.Errorf("a key that is not the entity: %v", err)
			}
		}
	}
}

func TestValues(t *testing.T) {
	f := decode(t, `{"where": [{"column": "c", "in": [11, "11x", 1e3, 11.0, "011", -0, ""]}], "measures": []}`)
	want := []stats.Value{"11", "11x", "1000", "11", "011", "0", ""}
	if !reflect.DeepEqual(f.Where[0].In, want) {
		t.Errorf("got %q", f.Where[0].In)
	}
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if again := decode(t, string(b)); !reflect.DeepEqual(f, again) {
		t.Errorf("written and read again: %s", b)
	}
	for _, bad := range []string{"1.5", "true", "null", "[1]", "1e300", "9223372036854775808"} {
		var f stats.Form
		if err := job.DecodeParams(json.RawMessage(`{"where": [{"in": [`+bad+`]}]}`), &f); err == nil && bad != "null" {
			t.Errorf("%s: accepted as %q", bad, f.Where[0].In)
		}
	}
	// An int column takes the numbers, a text column the bytes.
	schema := table.Schema{{Name: "n", Type: table.Int}, {Name: "s", Type: table.Text}}
	b2 := table.NewBuilder(schema)
	for i, s := range []string{"11", "011", "11"} {
		b2.Ints(0).Append([]int64{11, 11, 1000}[i])
		b2.Texts(1).Append(s)
	}
	src, err := b2.Table()
	if err != nil {
		t.Fatal(err)
	}
	for form, want := range map[string]int64{
		`{"where": [{"column": "n", "in": ["11"]}], "measures": [{"of": "count"}]}`:        2,
		`{"where": [{"column": "n", "not_in": [1000]}], "measures": [{"of": "count"}]}`:    2,
		`{"where": [{"column": "s", "in": [11]}], "measures": [{"of": "count"}]}`:          2,
		`{"where": [{"column": "s", "in": ["011"]}], "measures": [{"of": "count"}]}`:       1,
		`{"where": [{"column": "n", "min": 11, "max": 11}], "measures": [{"of":"count"}]}`: 2,
	} {
		p, err := stats.NewPlan(decode(t, form), 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, parts := joint(t, p, src); parts[0].Rows != want {
			t.Errorf("%s: %d rows, want %d", form, parts[0].Rows, want)
		}
	}
}

// placed is a table that knows where its rows stand.
type placed struct{ table.Source }

func (placed) Locate(_ context.Context, row int64) (string, error) {
	return fmt.Sprintf("loans.csv line %d", row+1), nil
}

func TestRowsThatCannotBeCounted(t *testing.T) {
	good := row{"p", 1, "11", 2000, 1.25, 12, 0.5}
	with := func(at int, v any) row {
		r := good
		r[at] = v
		return r
	}
	form := `{"entity": "person", "missing": "%s",
		"where": [{"column": "firm", "min": 0}],
		"group_by": [{"column": "branch", "domain": ["11"]}, {"column": "rate", "bins": [0, 1]}],
		"measures": [{"of": "sum", "column": "amount", "range": [0, 777], "scale": 2}, {"of": "max", "column": "term", "bins": [0, 360]}]}`
	for _, c := range []struct {
		what    string
		row     row
		err     error
		column  string
		skipped bool // the same row is no error where missing values are skipped
	}{
		{"below the range", with(4, -0.01), stats.ErrRange, "amount", false},
		{"above the range", with(4, 777.01), stats.ErrRange, "amount", false},
		{"far above the range", with(4, 1e300), stats.ErrRange, "amount", false},
		{"three decimals", with(4, 123.456), stats.ErrDecimals, "amount", false},
		{"not a number", with(4, math.NaN()), stats.ErrFinite, "amount", false},
		{"infinite", with(4, math.Inf(1)), stats.ErrFinite, "amount", false},
		{"no amount", with(4, nil), stats.ErrMissing, "amount", true},
		{"outside the bins", with(5, 361), stats.ErrRange, "term", false},
		{"no term", with(5, nil), stats.ErrMissing, "term", true},
		{"no category", with(2, "Geheim"), stats.ErrDomain, "branch", false},
		{"a missing category", with(2, nil), stats.ErrMissing, "branch", true},
		{"outside a dimension's bins", with(6, 1.5), stats.ErrDomain, "rate", false},
		{"a dimension that is no number", with(6, math.NaN()), stats.ErrFinite, "rate", false},
		{"a missing filter", with(1, nil), stats.ErrMissing, "firm", true},
		{"no unit", with(0, nil), stats.ErrUnit, "person", false},
		{"a blank unit", with(0, ""), stats.ErrUnit, "person", false},
	} {
		t.Run(c.what, func(t *testing.T) {
			src := placed{build(t, columnsOf, []row{good, good, c.row, good})}
			for _, policy := range []string{stats.MissingRefuse, stats.MissingSkip} {
				p, err := stats.NewPlan(decode(t, fmt.Sprintf(form, policy)), 3)
				if err != nil {
					t.Fatal(err)
				}
				_, err = p.Count(context.Background(), src, seed, stats.CountOptions{})
				if policy == stats.MissingSkip && c.skipped {
					if err != nil {
						t.Errorf("with skip: %v", err)
					}
					continue
				}
				var re *stats.RowError
				if !errors.Is(err, c.err) || !errors.As(err, &re) || re.Row != 3 || re.Column != c.column {
					t.Fatalf("got %v", err)
				}
				want := fmt.Sprintf("%v: column %s, loans.csv line 4", c.err, c.column)
				if err.Error() != want {
					t.Errorf("got %q, want %q", err, want)
				}
			}
		})
	}
	// A row that no filter lets through may hold anything else.
	p, err := stats.NewPlan(decode(t, fmt.Sprintf(form, "refuse")), 3)
	if err != nil {
		t.Fatal(err)
	}
	_, parts := joint(t, p, build(t, columnsOf, []row{{nil, -1, nil, nil, 1e9, nil, nil}, good}))
	if parts[0].Rows != 1 {
		t.Errorf("%d rows, want 1", parts[0].Rows)
	}
}

// TestWholeAtTheScale: what a float64 makes of a decimal is taken for it, and
// one more decimal is not.
func TestWholeAtTheScale(t *testing.T) {
	p, err := stats.NewPlan(stats.Form{MaxRows: 1, Measures: []stats.Measure{{Of: stats.Sum, Column: "amount", Range: []float64{-9e12, 9e12}, Scale: 2}}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for x, want := range map[float64]error{
		0.07: nil, 1.15: nil, 4.35: nil, -1.005: stats.ErrDecimals, 0.001: stats.ErrDecimals,
		2000000.01: nil, 2000000.001: stats.ErrDecimals, 2000000.0099: stats.ErrDecimals,
		12345678901.23: nil, 8999999999999.99: nil, -8999999999999.99: nil,
	} {
		_, err := p.Count(context.Background(), build(t, columnsOf, []row{{"a", 1, "11", 2000, x, 1, 0.0}}), seed, stats.CountOptions{})
		if !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", x, err, want)
		}
	}
}

// TestPlaceInALaterBatch: rows are numbered over all batches and blocks.
func TestPlaceInALaterBatch(t *testing.T) {
	const bad = 20_000
	src := table.Generate(columnsOf[:1], 30_000, func(b *table.Builder, i int64) {
		if i == bad-1 {
			b.Texts(0).AppendNull()
		} else {
			b.Texts(0).Append("a")
		}
	})
	held := table.NewBuilder(columnsOf[:1])
	for i := range bad {
		if i == bad-1 {
			held.Texts(0).AppendNull()
		} else {
			held.Texts(0).Append("a")
		}
	}
	one, err := held.Table()
	if err != nil {
		t.Fatal(err)
	}
	p, err := stats.NewPlan(stats.Form{Entity: "person", Measures: []stats.Measure{{Of: stats.Count}}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, src := range []table.Source{src, one} {
		var re *stats.RowError
		if _, err := p.Count(context.Background(), src, seed, stats.CountOptions{}); !errors.As(err, &re) || re.Row != bad {
			t.Errorf("got %v, want row %d", err, bad)
		}
	}
}

func TestMoreRowsThanDeclared(t *testing.T) {
	rows := []row{{"a", 1, "11"}, {"a", 1, "12"}, {"b", -1, "11"}, {"b", 1, "11"}}
	for form, want := range map[string]error{
		`{"entity": "person", "max_rows": 3, "measures": [{"of": "count"}]}`:                                              stats.ErrRows,
		`{"entity": "person", "max_rows": 4, "measures": [{"of": "count"}]}`:                                              nil,
		`{"entity": "person", "max_rows": 3, "where": [{"column": "firm", "min": 0}], "measures": [{"of": "count"}]}`:     nil,
		`{"entity": "person", "unit_rows": 1, "measures": [{"of": "count"}]}`:                                             stats.ErrRows,
		`{"entity": "person", "unit_rows": 2, "measures": [{"of": "count"}]}`:                                             nil,
		`{"entity": "person", "unit_rows": 1, "where": [{"column": "branch", "in": [12]}], "measures": [{"of":"count"}]}`: nil,
	} {
		p, err := stats.NewPlan(decode(t, form), 3)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Count(context.Background(), build(t, columnsOf, rows), seed, stats.CountOptions{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", form, err, want)
		}
	}
}

// TestTablesThatDoNotFit: a column is absent or of another type.
func TestTablesThatDoNotFit(t *testing.T) {
	p, err := stats.NewPlan(decode(t, `{"group_by": [{"column": "branch", "domain": [1]}], "measures": [{"of": "mean", "column": "person", "range": [0, 1]}, {"of": "count", "column": "gone"}]}`), 3)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Count(context.Background(), build(t, columnsOf, nil), seed, stats.CountOptions{})
	if err == nil || !strings.Contains(err.Error(), "there is no column gone") || !strings.Contains(err.Error(), "column person is text") {
		t.Errorf("got %v", err)
	}
	if err := (&stats.Form{Measures: []stats.Measure{{Of: stats.Count, Column: "x"}}}).Validate(stats.Names([]string{"x", "y"})); err != nil {
		t.Errorf("names alone: %v", err)
	}
}

// TestWidths: each counter is as narrow as its declared reach allows, and holds
// the ends of the reach.
func TestWidths(t *testing.T) {
	for _, c := range []struct {
		parties int
		rows    int64
		lo, hi  float64
		of      string
		widths  []int // rows (if needed), sum, squares
		wraps   bool
	}{
		{1, 1, 0, 1<<31 - 1, "sum", []int{32}, false},
		{1, 1, 0, 1 << 31, "sum", []int{64}, false},
		{1, 1, -(1<<31 - 1), 0, "sum", []int{32}, false},
		{1, 1, -(1 << 31), 0, "sum", []int{64}, false},
		{2, 1, 0, 1 << 30, "sum", []int{64}, false},
		{2, 1, 0, 1<<30 - 1, "sum", []int{32}, false},
		{1, 1 << 20, 0, 1 << 43, "sum", []int{64}, false}, // 2^63 is one too many
		{1, 1 << 14, -(1 << 49), 1<<49 - 1, "sum", []int{96}, false},
		{1, 1<<14 - 1, -(1 << 49), 1 << 49, "sum", []int{64}, false},
		{1, 1, 0, 1 << 47, "variance", []int{64, 32, 96}, false},
		{1, 1, 0, 1<<47 + 1<<46, "variance", nil, true}, // 2^95.1
		{1, 1, 0, 181e12, "variance", []int{64, 32, 96}, false},
		{2, 1 << 30, -1e6, 1e6, "variance", []int{64, 64, 96}, false},
		{1024, 1<<31 - 1, 0, 1e15, "sum", []int{96}, false},
		{3, 0, 0, 1e15, "variance", nil, true},
	} {
		name := fmt.Sprintf("%d parties of %d rows, %g to %g, %s", c.parties, c.rows, c.lo, c.hi, c.of)
		f := stats.Form{MaxRows: c.rows, Measures: []stats.Measure{{Of: c.of, Column: "x", Range: []float64{c.lo, c.hi}}}}
		if c.rows == 1<<20 {
			c.widths[0] = 96
		}
		p, err := stats.NewPlan(f, c.parties)
		if c.wraps {
			if !errors.Is(err, stats.ErrWrap) || !strings.Contains(err.Error(), "measures[0]") {
				t.Errorf("%s: got %v, want ErrWrap", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		most := c.rows * int64(c.parties)
		for i, s := range p.Sensitivities() {
			got := s.Bits
			if !contains(c.widths, got) {
				t.Errorf("%s: %s has %d bits, want one of %v", name, s.Name, got, c.widths)
			}
			reach := new(big.Int).Mul(s.Unit, big.NewInt(most))
			half := new(big.Int).Lsh(big.NewInt(1), uint(s.Bits-1))
			if reach.Cmp(half) >= 0 {
				t.Errorf("%s: counter %d of %d bits can reach %v", name, i, s.Bits, reach)
			}
			if s.Bits > 32 && reach.BitLen() < map[int]int{64: 32, 96: 64}[s.Bits] {
				t.Errorf("%s: %d bits for %v", name, s.Bits, reach)
			}
			room := new(big.Int).Mul(s.Room, big.NewInt(int64(c.parties)))
			if room.Add(room, reach).Cmp(half) >= 0 || s.Room.Sign() < 0 {
				t.Errorf("%s: room of %v", name, s.Room)
			}
		}
	}
}

func contains(list []int, x int) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}

// TestEndsOfTheRange: sums and squares of the largest values that a form can
// declare come out exactly, in all widths.
func TestEndsOfTheRange(t *testing.T) {
	schema := table.Schema{{Name: "x", Type: table.Int}, {Name: "y", Type: table.Int}}
	for _, m := range []int64{1, 1 << 15, 1<<30 - 1, 1 << 40, 1 << 46, 94e12} {
		x := float64(m)
		f := stats.Form{MaxRows: 2, Measures: []stats.Measure{
			{Of: stats.Sum, Column: "x", Range: []float64{-x, x}},
			{Of: stats.Variance, Column: "x", Range: []float64{-x, x}},
			{Of: stats.Covariance, Columns: []string{"x", "y"}, Range: []float64{-x, x}},
		}}
		p, err := stats.NewPlan(f, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, rows := range [][][2]int64{
			{{m, -m}, {m, -m}, {m, -m}, {-m, m}},
			{{-m, -m}, {-m, -m}, {-m, -m}, {-m, -m}},
			{{m, m}, {m - 1, m}, {-m, m}, {-m + 1, -m}},
		} {
			var tables []table.Source
			sum, squares, products, other := new(big.Int), new(big.Int), new(big.Int), new(big.Int)
			for i := range 2 {
				b := table.NewBuilder(schema)
				for _, r := range rows[2*i : 2*i+2] {
					b.Ints(0).Append(r[0])
					b.Ints(1).Append(r[1])
					x, y := big.NewInt(r[0]), big.NewInt(r[1])
					sum.Add(sum, x)
					other.Add(other, y)
					squares.Add(squares, new(big.Int).Mul(x, x))
					products.Add(products, new(big.Int).Mul(x, y))
				}
				src, err := b.Table()
				if err != nil {
					t.Fatal(err)
				}
				tables = append(tables, src)
			}
			v, _ := joint(t, p, tables...)
			want := map[string]*big.Int{
				"sum of x": sum, "sum of y": other, "squares of x": squares, "products of x and y": products, "rows": big.NewInt(4),
			}
			for _, c := range p.Sensitivities() {
				if got := counter(p, v, c, 0); got.Cmp(want[c.Name]) != 0 {
					t.Errorf("±%d: %s is %v, want %v", m, c.Name, got, want[c.Name])
				}
			}
			if _, err := p.Derive(v, nil, stats.DeriveOptions{}); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestNoiseHasRoom: where rows of a unit are declared, counters are wide enough
// for noise.
func TestNoiseHasRoom(t *testing.T) {
	f := stats.Form{
		UnitRows: 3, MaxRows: 1 << 20, Margins: true,
		GroupBy:  []stats.Dimension{{Column: "g", Domain: []stats.Value{"1", "2", "3", "4"}}},
		Measures: []stats.Measure{{Of: stats.Mean, Column: "x", Range: []float64{-100, 1000}}, {Of: stats.Histogram, Column: "x", Bins: []float64{0, 1, 2, 3, 4, 5, 6, 7, 8}}},
	}
	p, err := stats.NewPlan(f, 32)
	if err != nil {
		t.Fatal(err)
	}
	// Three rows: in at most 3 of 4 cells and as many margins, of which there is
	// one; two counters there, and three bins in each of both.
	if p.Touched() != 5 || p.Changed() != 5*2+6 {
		t.Errorf("one unit is in %d cells and %d counters", p.Touched(), p.Changed())
	}
	for _, c := range p.Sensitivities() {
		noise := new(big.Int).Mul(c.Touch, big.NewInt(p.Changed()*(1<<14)))
		if noise.Cmp(c.Room) > 0 {
			t.Errorf("%s has room for %v, want %v", c.Name, c.Room, noise)
		}
	}
	f.UnitRows = 0
	if p, err = stats.NewPlan(f, 32); err != nil || p.Touched() != 0 || p.Changed() != 0 || p.Sensitivities()[0].Touch != nil {
		t.Errorf("with no rows declared: %d, %d, %v", p.Touched(), p.Changed(), err)
	}
}

func TestSizes(t *testing.T) {
	domain := func(n int) []stats.Value {
		d := make([]stats.Value, n)
		for i := range d {
			d[i] = stats.Value(fmt.Sprint(i))
		}
		return d
	}
	f := stats.Form{
		GroupBy:  []stats.Dimension{{Column: "a", Domain: domain(1 << 10)}, {Column: "b", Domain: domain(1 << 10)}},
		Measures: []stats.Measure{{Of: stats.Count}},
	}
	p, err := stats.NewPlan(f, 2)
	if err != nil || p.Cells() != stats.MaxCells {
		t.Errorf("%v", err)
	}
	f.Measures = append(f.Measures, stats.Measure{Of: stats.Sum, Column: "x", Range: []float64{0, 1}})
	if _, err := stats.NewPlan(f, 2); !errors.Is(err, stats.ErrSize) {
		t.Errorf("twice the counters: %v", err)
	}
	f.Measures, f.Margins = f.Measures[:1], true
	if _, err := stats.NewPlan(f, 2); !errors.Is(err, stats.ErrSize) {
		t.Errorf("with margins: %v", err)
	}
	f.GroupBy = nil
	for i := range 6 {
		f.GroupBy = append(f.GroupBy, stats.Dimension{Column: fmt.Sprint(i), Domain: domain(1 << 16)})
	}
	if _, err := stats.NewPlan(f, 2); !errors.Is(err, stats.ErrSize) {
		t.Errorf("2^96 cells: %v", err)
	}
	f.GroupBy = nil
	for _, n := range []int{-1, 0, 1025} {
		if _, err := stats.NewPlan(f, n); err == nil {
			t.Errorf("%d contributors are accepted", n)
		}
	}
}

// TestStringIdentifiesTheForm: every field changes it, and a default is the same
// as its value.
func TestStringIdentifiesTheForm(t *testing.T) {
	base := `{"entity": "p", "where": [{"column": "w", "in": [1]}], "group_by": [{"column": "g", "domain": [1, 2]}],
		"measures": [{"of": "quantiles", "column": "x", "bins": [0, 1, 2], "at": [0.5]}, {"of": "sum", "column": "y", "range": [0, 9]}]}`
	str := func(form string, parties int) string {
		p, err := stats.NewPlan(decode(t, form), parties)
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		return p.String()
	}
	seen := map[string]string{str(base, 3): base}
	if once, again := str(base, 3), str(base, 3); once != again {
		t.Fatal("it is not the same twice")
	}
	for _, c := range [][2]string{
		{`"entity": "p"`, `"entity": "q"`},
		{`"column": "w"`, `"column": "v"`},
		{`"in": [1]`, `"in": [2]`},
		{`"in": [1]`, `"not_in": [1]`},
		{`"in": [1]`, `"min": 1`},
		{`"in": [1]`, `"max": 1`},
		{`[1, 2]`, `[2, 1]`},
		{`[1, 2]`, `[1, 2], "other": true`},
		{`"domain"`, `"bins"`},
		{`"domain"`, `"open_ended": true, "bins"`},
		{`"column": "g"`, `"column": "g", "name": "h"`},
		{`"column": "x"`, `"column": "x", "name": "h"`},
		{`[0, 1, 2]`, `[0, 1, 3]`},
		{`[0.5]`, `[0.25]`},
		{`[0, 9]`, `[0, 8]`},
		{`[0, 9]`, `[0, 9], "scale": 1`},
		{`"sum"`, `"mean"`},
		{`{"entity"`, `{"margins": true, "entity"`},
		{`{"entity"`, `{"missing": "skip", "entity"`},
		{`{"entity"`, `{"max_rows": 5, "entity"`},
		{`{"entity"`, `{"unit_rows": 5, "entity"`},
	} {
		form := strings.Replace(base, c[0], c[1], 1)
		if form == base {
			t.Fatalf("%s is not there", c[0])
		}
		s := str(form, 3)
		if was, ok := seen[s]; ok {
			t.Errorf("the same String for %s and %s", was, form)
		}
		seen[s] = form
	}
	if _, ok := seen[str(base, 4)]; ok {
		t.Error("the number of parties does not matter")
	}
	if str(base, 3) != str(strings.Replace(base, `{"entity"`, `{"missing": "refuse", "max_rows": 16777216, "entity"`, 1), 3) {
		t.Error("defaults that are spelt out change it")
	}
}
