package table

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// viaRecords is what WriteCSV is to write, through encoding/csv.
func viaRecords(t testing.TB, src Source) string {
	t.Helper()
	var buf bytes.Buffer
	cw := csv.NewWriter(&buf)
	write := func(rec []string) {
		if len(rec) == 1 && rec[0] == "" {
			cw.Flush()
			buf.WriteString("\"\"\n")
		} else if err := cw.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	var rec []string
	for _, c := range src.Schema() {
		rec = append(rec, c.Name)
	}
	write(rec)
	for b, err := range src.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for r := range int(b.NumRows()) {
			rec = rec[:0]
			for _, col := range b.Columns() {
				s := ""
				if !col.IsNull(r) {
					switch a := col.(type) {
					case *array.Int64:
						s = strconv.FormatInt(a.Value(r), 10)
					case *array.Float64:
						s = strconv.FormatFloat(a.Value(r), 'g', -1, 64)
					case *array.String:
						s = a.Value(r)
					}
				}
				rec = append(rec, s)
			}
			write(rec)
		}
	}
	cw.Flush()
	if err := cw.Error(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func checkCSV(t testing.TB, src Source) {
	t.Helper()
	var buf bytes.Buffer
	if err := WriteCSV(t.Context(), &buf, src); err != nil {
		t.Fatal(err)
	}
	if want := viaRecords(t, src); buf.String() != want {
		t.Errorf("got %q, want %q", buf.String(), want)
	}
}

// oneBatch is texts in one column, and in one of two.
func oneBatch(t testing.TB, name string, texts []string, valid []bool) []Source {
	t.Helper()
	one := NewBuilder(Schema{{name, Text, false}})
	one.Texts(0).AppendValues(texts, valid)
	two := NewBuilder(Schema{{"n", Float, false}, {name, Text, false}})
	for i := range texts {
		two.Floats(0).Append(float64(i) / 3)
	}
	two.Texts(1).AppendValues(texts, valid)
	var out []Source
	for _, b := range []*Builder{one, two} {
		tab, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, tab)
		// The rest of a batch, whose texts are those of the whole.
		if n := tab.rows; n > 0 {
			out = append(out, &Table{schema: tab.schema, batches: []arrow.RecordBatch{tab.batches[0].NewSlice(n/2, n)}, rows: n - n/2})
		}
	}
	return out
}

func TestWriteCSVFields(t *testing.T) {
	for _, s := range []string{
		"", "a", " ", " a", "a ", "\ta", "\u3000张", "张", "\u00a0", "\u0085x", "\u2028", `\.`, `\.x`, `\`, `\\`, "a\\.", ",", "a,b", `"`, `""`, `a"b"`, "\r",
		"\n", "\r\n", "a\rb", "a\nb", "\xff", "\xffa,", "\x00", "'", "=1+1", "\v", "\f", "\x1f", "\ufeff", "a\"", "\"a", strings.Repeat(`"`, 1000),
		strings.Repeat("x", 3*csvBuffer),
	} {
		for _, src := range oneBatch(t, s, []string{s, "z", s, s}, []bool{true, true, false, true}) {
			checkCSV(t, src)
		}
		for _, src := range oneBatch(t, "s", []string{s}, nil) {
			checkCSV(t, src)
		}
	}
	checkCSV(t, sample(t))
	checkCSV(t, chopped{sample(t)})
	checkCSV(t, random(t, rand.New(rand.NewPCG(1, 2)), 5000))
	b := NewBuilder(Schema{{"i", Int, false}, {"f", Float, false}})
	for _, f := range []float64{0, math.Copysign(0, -1), 1e21, 1e20, 1e-7, math.MaxFloat64, math.SmallestNonzeroFloat64, 0.1 + 0.2, math.NaN(), math.Inf(-1)} {
		b.Floats(1).Append(f)
		b.Ints(0).Append(int64(math.Float64bits(f)))
	}
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	checkCSV(t, tab)
	empty, err := NewBuilder(Schema{{"", Text, false}}).Table()
	if err != nil {
		t.Fatal(err)
	}
	checkCSV(t, empty)
}

// Every character at the beginning of a text, and every pair of bytes.
func TestWriteCSVEveryStart(t *testing.T) {
	var texts []string
	for r := range rune(0x110000) {
		if r < 0x3100 || r%251 == 0 || unicode.IsSpace(r) {
			texts = append(texts, string(r)+"x")
		}
	}
	for i := range 1 << 16 {
		texts = append(texts, string([]byte{byte(i >> 8), byte(i)}))
	}
	for _, src := range oneBatch(t, "s", texts, nil) {
		checkCSV(t, src)
	}
	// The same in batches where nothing else needs quotes.
	for _, s := range texts {
		if unicode.IsSpace([]rune(s)[0]) || s[0] == '\\' {
			checkCSV(t, oneBatch(t, "s", []string{s, "z"}, nil)[0])
		}
	}
}

func TestAppendFloat(t *testing.T) {
	check := func(f float64) {
		for _, f := range []float64{f, -f} {
			if got, want := string(appendFloat(nil, f)), strconv.FormatFloat(f, 'g', -1, 64); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	}
	for k := range 20_000 {
		check(float64(k) / 1000)
		check(float64(k) / 10000)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		k := float64(rng.Int64N(1e10) >> rng.IntN(30))
		for _, f := range []float64{k, k / 10, k / 100, k / 1000, k / 1024, k * 0.001, math.Float64frombits(rng.Uint64())} {
			check(f)
		}
		f := k / 1000
		check(math.Nextafter(f, 0))
		check(math.Nextafter(f, math.Inf(1)))
	}
	for _, f := range []float64{0, 999999.999, 1e6, 1e6 - 1, 1e5, 123456, 1e-3, 1e-4, 9e15, 1 << 53, 1e18, 1e19, math.MaxFloat64, math.Inf(1), math.NaN()} {
		check(f)
	}
}

func FuzzWriteCSV(f *testing.F) {
	f.Add("name", "a,b", " x", true)
	f.Add("", "", `\.`, false)
	f.Add("\"", "\u3000", "\r\n", true)
	f.Fuzz(func(t *testing.T, name, a, b string, valid bool) {
		for _, src := range oneBatch(t, name, []string{a, b, a + b}, []bool{true, true, valid}) {
			checkCSV(t, src)
		}
	})
}

// short takes some bytes and then fails, or says that it took fewer.
type short struct {
	room int
	err  error
}

func (s *short) Write(p []byte) (int, error) {
	if s.room -= len(p); s.room < 0 {
		return 0, s.err
	}
	return len(p), nil
}

func TestWriteCSVReportsFaults(t *testing.T) {
	full := errors.New("full")
	src := random(t, rand.New(rand.NewPCG(1, 2)), 5000)
	var all bytes.Buffer
	if err := WriteCSV(t.Context(), &all, src); err != nil {
		t.Fatal(err)
	}
	for _, room := range []int{0, 1, csvBuffer, 2 * csvBuffer, all.Len() - 1} {
		if err := WriteCSV(t.Context(), &short{room, full}, src); !errors.Is(err, full) {
			t.Errorf("room for %d: %v", room, err)
		}
		if err := WriteCSV(t.Context(), &short{room, nil}, src); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("room for %d: %v", room, err)
		}
	}
	if err := WriteCSV(t.Context(), &short{all.Len(), full}, src); err != nil {
		t.Errorf("room for all: %v", err)
	}
	if err := WriteCSV(t.Context(), io.Discard, &twice{Table: src, err: full}); !errors.Is(err, full) {
		t.Errorf("of the source: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WriteCSV(ctx, io.Discard, src); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := WriteCSV(t.Context(), io.Discard, booleans{src}); !errors.Is(err, ErrType) {
		t.Errorf("a column of another type: %v", err)
	}
}

// booleans is a source that does not keep to its schema.
type booleans struct{ *Table }

func (s booleans) Batches(context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		t := arrow.FixedWidthTypes.Boolean
		cols, fields := make([]arrow.Array, len(s.schema)), make([]arrow.Field, len(s.schema))
		for i := range cols {
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, t, 1)
			fields[i] = arrow.Field{Name: s.schema[i].Name, Type: t, Nullable: true}
		}
		yield(array.NewRecordBatch(arrow.NewSchema(fields, nil), cols, 1), nil)
	}
}

func BenchmarkWriteCSV(b *testing.B) {
	const rows = 1 << 20
	src := records(b, rows)
	perRow(b, rows, func() {
		if err := WriteCSV(b.Context(), io.Discard, src); err != nil {
			b.Fatal(err)
		}
	})
}
