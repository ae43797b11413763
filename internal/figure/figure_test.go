package figure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/table"
)

var ctx = context.Background()

// row is a line of the tables that these tests draw: blank statuses have a value.
type row struct {
	a, b   string
	value  float64
	status string
}

var ratesSchema = table.Schema{
	{Name: "industry", Type: table.Text},
	{Name: "year", Type: table.Text},
	{Name: "loans", Type: table.Int},
	{Name: "rate", Type: table.Float},
	{Name: "status", Type: table.Text},
}

func rates(t testing.TB, rows ...row) *table.Table {
	t.Helper()
	b := table.NewBuilder(ratesSchema)
	for _, r := range rows {
		b.Texts(0).Append(r.a)
		b.Texts(1).Append(r.b)
		b.Texts(4).Append(r.status)
		if r.status == "" {
			b.Ints(2).Append(int64(r.value * 1000))
			b.Floats(3).Append(r.value)
		} else {
			b.Ints(2).AppendNull()
			b.Floats(3).AppendNull()
		}
	}
	tb, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func byBoth(title string) job.Figure {
	return job.Figure{Title: title, Categories: []string{"industry", "year"}, Values: []string{"rate", "loans"}, Status: "status", Total: "all"}
}

func TestJSON(t *testing.T) {
	src := rates(t, row{"a \"b\" <c>\n&", "2020", 0.1, ""}, row{"矿业", "2021", 0, Suppressed}, row{"\xff", "2022", 1.0 / 3, ""})
	var b bytes.Buffer
	if err := WriteJSON(ctx, &b, src, byBoth("Rates 违约率")); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Title   string
		Columns []struct{ Name, Type string }
		Rows    []map[string]any
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s", err, b.Bytes())
	}
	if got.Title != "Rates 违约率" || len(got.Columns) != 5 || got.Columns[2].Name != "loans" || got.Columns[2].Type != "int" || len(got.Rows) != 3 {
		t.Fatalf("%+v", got)
	}
	first, second, third := got.Rows[0], got.Rows[1], got.Rows[2]
	if first["industry"] != "a \"b\" <c>\n&" || first["loans"] != 100.0 || first["rate"] != 0.1 || first["status"] != "" {
		t.Errorf("first row %v", first)
	}
	if v, there := second["rate"]; v != nil || !there || second["loans"] != nil || second["status"] != Suppressed {
		t.Errorf("a missing value is not null: %v", second)
	}
	if third["rate"] != 1.0/3 || third["industry"] != "\ufffd" {
		t.Errorf("third row %v", third)
	}

	b.Reset()
	if err := WriteJSON(ctx, &b, rates(t), byBoth("")); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got.Rows == nil || len(got.Rows) != 0 {
		t.Errorf("no rows: %v, %s", err, b.Bytes())
	}
}

// TestWithheld: what says that it is suppressed and is not, and numbers that are
// none, are errors.
func TestWithheld(t *testing.T) {
	make := func(v float64, status string) *table.Table {
		b := table.NewBuilder(ratesSchema)
		b.Texts(0).Append("a")
		b.Texts(1).Append("b")
		b.Ints(2).AppendNull()
		b.Floats(3).Append(v)
		b.Texts(4).Append(status)
		tb, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		return tb
	}
	if err := WriteJSON(ctx, io.Discard, make(7.25, Suppressed), byBoth("")); !errors.Is(err, ErrWithheld) || strings.Contains(err.Error(), "7.25") {
		t.Errorf("a value that is withheld: %v", err)
	}
	for _, v := range []float64{math.NaN(), math.Inf(-1)} {
		if err := WriteJSON(ctx, io.Discard, make(v, ""), byBoth("")); !errors.Is(err, table.ErrNotFinite) {
			t.Errorf("JSON of %v: %v", v, err)
		}
		if _, err := Chart(ctx, io.Discard, make(v, ""), byBoth("")); !errors.Is(err, table.ErrNotFinite) {
			t.Errorf("chart of %v: %v", v, err)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, fig := range []job.Figure{
		{Categories: []string{"industry"}},
		{Categories: []string{"none"}, Values: []string{"rate"}},
		{Categories: []string{"rate"}, Values: []string{"loans"}},
		{Categories: []string{"industry"}, Values: []string{"year"}},
		{Categories: []string{"industry", "industry"}, Values: []string{"rate"}},
		{Categories: []string{"industry"}, Values: []string{"rate"}, Status: "loans"},
	} {
		if err := Check(ratesSchema, fig); !errors.Is(err, ErrColumn) {
			t.Errorf("%+v: %v", fig, err)
		}
		if _, err := Chart(ctx, io.Discard, rates(t), fig); !errors.Is(err, ErrColumn) {
			t.Errorf("chart of %+v: %v", fig, err)
		}
	}
	if err := Check(ratesSchema, byBoth("")); err != nil {
		t.Error(err)
	}
}

// readParquet reads a file back as CSV, and how many row groups it has.
func readParquet(t *testing.T, b []byte) (csv string, schema table.Schema, groups int) {
	t.Helper()
	r, err := file.NewParquetReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	at, err := fr.ReadTable(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer at.Release()
	for _, f := range at.Schema().Fields() {
		c := table.Column{Name: f.Name, Key: !f.Nullable, Type: map[string]table.Type{"int64": table.Int, "float64": table.Float, "utf8": table.Text}[f.Type.String()]}
		schema = append(schema, c)
	}
	tb := table.NewBuilder(schema)
	rows := array.NewTableReader(at, 0)
	defer rows.Release()
	for rows.Next() {
		for i := range schema {
			switch a := rows.RecordBatch().Column(i).(type) {
			case *array.Int64:
				for k := range a.Len() {
					if a.IsNull(k) {
						tb.Ints(i).AppendNull()
					} else {
						tb.Ints(i).Append(a.Value(k))
					}
				}
			case *array.Float64:
				for k := range a.Len() {
					if a.IsNull(k) {
						tb.Floats(i).AppendNull()
					} else {
						tb.Floats(i).Append(a.Value(k))
					}
				}
			case *array.String:
				for k := range a.Len() {
					tb.Texts(i).Append(a.Value(k))
				}
			default:
				t.Fatalf("column %d is %T", i, a)
			}
		}
	}
	back, err := tb.Table()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := table.WriteCSV(ctx, &out, back); err != nil {
		t.Fatal(err)
	}
	return out.String(), schema, r.NumRowGroups()
}

// TestParquet: what is read back is what was written, in several row groups
// from batches of other sizes, and the same table gives the same bytes.
func TestParquet(t *testing.T) {
	schema := table.Schema{{Name: "k", Type: table.Int, Key: true}, {Name: "x", Type: table.Float}, {Name: "名", Type: table.Text}}
	src := table.Generate(schema, groupRows+3000, func(b *table.Builder, i int64) {
		b.Ints(0).Append(math.MaxInt64 - i*i)
		if i%3 == 0 {
			b.Floats(1).AppendNull()
		} else {
			b.Floats(1).Append(math.Sqrt(float64(i)))
		}
		b.Texts(2).Append([]string{"", "违约", "a,\"b\"\n"}[i%3])
	})
	var one, two, want bytes.Buffer
	for _, b := range []*bytes.Buffer{&one, &two} {
		if err := WriteParquet(ctx, b, src); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the same table gives other bytes")
	}
	if err := table.WriteCSV(ctx, &want, src); err != nil {
		t.Fatal(err)
	}
	got, back, groups := readParquet(t, one.Bytes())
	if got != want.String() {
		t.Error("other rows are read back")
	}
	for i, c := range schema {
		if back[i] != c {
			t.Errorf("column %d is %+v, want %+v", i, back[i], c)
		}
	}
	if groups != 2 {
		t.Errorf("%d row groups", groups)
	}
	if !bytes.Contains(one.Bytes(), []byte(writer)) || bytes.Contains(one.Bytes(), []byte("arrow-go")) {
		t.Error("the file names a library")
	}

	var none bytes.Buffer
	if err := WriteParquet(ctx, &none, rates(t)); err != nil {
		t.Fatal(err)
	}
	if csv, _, _ := readParquet(t, none.Bytes()); csv != "industry,year,loans,rate,status\n" {
		t.Errorf("no rows: %q", csv)
	}
}

// closer fails after some bytes, and knows whether it was closed.
type closer struct {
	left   int
	closed bool
}

var errFull = errors.New("full")

func (c *closer) Write(b []byte) (int, error) {
	if c.left -= len(b); c.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func (c *closer) Close() error { c.closed = true; return nil }

// TestWriterFails: a full disk is an error of every writer, wherever it comes,
// and nobody closes the caller's file.
func TestWriterFails(t *testing.T) {
	var rows []row
	for _, a := range []string{"a", "b", "c"} {
		rows = append(rows, row{a, "x", 1.5, ""}, row{a, "y", 0, Suppressed})
	}
	src, fig := rates(t, rows...), byBoth("t")
	for name, write := range map[string]func(io.Writer) error{
		"json":    func(w io.Writer) error { return WriteJSON(ctx, w, src, fig) },
		"parquet": func(w io.Writer) error { return WriteParquet(ctx, w, src) },
		"svg":     func(w io.Writer) error { _, err := Chart(ctx, w, src, fig); return err },
	} {
		var whole bytes.Buffer
		if err := write(&whole); err != nil {
			t.Fatal(name, err)
		}
		for left := range whole.Len() {
			if left > 50 && left%37 != 0 && left < whole.Len()-50 {
				continue
			}
			w := &closer{left: left}
			if err := write(w); !errors.Is(err, errFull) {
				t.Fatalf("%s, full after %d of %d bytes: %v", name, left, whole.Len(), err)
			}
			if w.closed {
				t.Fatal(name, "closed the file")
			}
		}
	}
}

// TestSourceFails: an error of the table, or of the caller's context, comes
// through.
func TestSourceFails(t *testing.T) {
	src := table.Generate(ratesSchema, 1<<20, func(b *table.Builder, i int64) {
		b.Texts(0).Append("a")
		b.Texts(1).Append("b")
		b.Ints(2).Append(i)
		b.Floats(3).Append(1)
		b.Texts(4).Append("")
	})
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := WriteJSON(gone, io.Discard, src, byBoth("")); !errors.Is(err, context.Canceled) {
		t.Errorf("json: %v", err)
	}
	if err := WriteParquet(gone, io.Discard, src); !errors.Is(err, context.Canceled) {
		t.Errorf("parquet: %v", err)
	}
	if _, err := Chart(gone, io.Discard, src, byBoth("")); !errors.Is(err, context.Canceled) {
		t.Errorf("svg: %v", err)
	}
	// A million rows for one cell are no chart, which shows at the second row.
	if ok, err := Chart(ctx, io.Discard, src, byBoth("")); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

// TestMemory: what is held does not grow with the rows. What a look finds rises
// and falls with the row group, and one that falls into a cycle of the
// collector's own counts what that cycle spared: a hash table just outgrown,
// for one. What is held for good is in every look, so the least of the looks at
// the last half of the file is taken.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes two million rows")
	}
	src := func(rows int64) table.Source {
		return table.Generate(table.Schema{{Name: "k", Type: table.Int}, {Name: "x", Type: table.Float}}, rows, func(b *table.Builder, i int64) {
			b.Ints(0).Append(i)
			b.Floats(1).Append(math.Sqrt(float64(i)))
		})
	}
	held := func(rows int64) uint64 {
		var looks []uint64
		w := writerFunc(func(b []byte) (int, error) {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			looks = append(looks, m.HeapAlloc)
			return len(b), nil
		})
		if err := WriteParquet(ctx, w, src(rows)); err != nil {
			t.Fatal(err)
		}
		return slices.Min(looks[len(looks)/2:])
	}
	few, many := held(4*groupRows), held(24*groupRows)
	if many > few+8<<20 {
		t.Errorf("%d bytes are held of %d rows, %d of %d", many, 24*groupRows, few, 4*groupRows)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
