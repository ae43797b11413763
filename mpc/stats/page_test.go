package stats_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"flag"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/table"
)

var update = flag.Bool("update", false, "write the results of the examples into the page")

const page = "../../docs/statistics.md"

// block is a fenced block of the page that an example is made of.
var block = regexp.MustCompile("(?ms)^```(csv table|json form|csv result[^\n]*)\n(.*?)^```$")

// TestExamplesOfThePage runs what docs/statistics.md shows: the tables of an
// example, then its form, then its results.
func TestExamplesOfThePage(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var tables []table.Source
	var plan *stats.Plan
	results := 0
	written := block.ReplaceAllFunc(text, func(b []byte) []byte {
		m := block.FindSubmatch(b)
		head, body := string(m[1]), string(m[2])
		switch {
		case head == "csv table":
			if plan != nil { // the next example begins
				tables, plan = nil, nil
			}
			tables = append(tables, fromCSV(t, body))
		case head == "json form":
			f := decode(t, body)
			if err := f.Validate(tables[0].Schema()); err != nil {
				t.Fatal(err)
			}
			if plan, err = stats.NewPlan(f, len(tables)); err != nil {
				t.Fatal(err)
			}
		default:
			results++
			got := example(t, plan, tables, strings.TrimPrefix(head, "csv result"))
			if got != body && !*update {
				t.Errorf("%s: got\n%swant\n%s", head, got, body)
			}
			return []byte("```" + head + "\n" + got + "```")
		}
		return b
	})
	if results < 5 {
		t.Fatalf("found %d results: this test looks in another place", results)
	}
	if *update && !bytes.Equal(text, written) {
		if err := os.WriteFile(page, written, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// example returns a result as CSV. One that is not rounded and withholds nothing
// must also be what the oracle has.
func example(t *testing.T, p *stats.Plan, tables []table.Source, how string) string {
	sum, _ := joint(t, p, tables...)
	var opt stats.DeriveOptions
	var mask []bool
	for _, word := range strings.Fields(how) {
		key, value, _ := strings.Cut(word, "=")
		for _, s := range strings.Split(value, ",") {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			if key == "round_to" {
				opt.RoundTo = int64(n)
				continue
			}
			if mask == nil {
				mask = make([]bool, p.Cells())
			}
			mask[n] = true
		}
	}
	p.Zero(sum, mask)
	got, err := p.Derive(sum, mask, opt)
	if err != nil {
		t.Fatal(err)
	}
	if how == "" {
		want, err := stats.Clear(context.Background(), p, tables...)
		if err != nil {
			t.Fatal(err)
		}
		a, b := cellsOf(got), cellsOf(want.Table)
		for cell := range a {
			for _, c := range p.Schema() {
				if !near(a[cell][c.Name], b[cell][c.Name], 0) {
					t.Errorf("%v %s: %v, the oracle has %v", p.Labels(cell), c.Name, a[cell][c.Name], b[cell][c.Name])
				}
			}
		}
	}
	var out bytes.Buffer
	if err := table.WriteCSV(context.Background(), &out, got); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// fromCSV reads a table of the page: columns of digits are ints, with decimals
// floats, all others texts.
func fromCSV(t *testing.T, text string) *table.Table {
	records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	schema := make(table.Schema, len(records[0]))
	rows := make([]row, len(records)-1)
	for i, name := range records[0] {
		schema[i] = table.Column{Name: name, Type: table.Int}
		for _, r := range records[1:] {
			if _, err := strconv.ParseInt(r[i], 10, 64); err == nil || r[i] == "" {
				continue
			}
			if _, err := strconv.ParseFloat(r[i], 64); err == nil && schema[i].Type != table.Text {
				schema[i].Type = table.Float
			} else {
				schema[i].Type = table.Text
			}
		}
		for k, r := range records[1:] {
			switch x, _ := strconv.ParseFloat(r[i], 64); {
			case r[i] == "":
			case schema[i].Type == table.Int:
				rows[k][i] = int(x)
			case schema[i].Type == table.Float:
				rows[k][i] = x
			default:
				rows[k][i] = r[i]
			}
		}
	}
	return build(t, schema, rows)
}
