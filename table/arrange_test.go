package table

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/scratch"
)

// tiny sends everything to disk, through many runs, buckets and parts.
var tiny = arrangement{inMemory: 0, run: 100, bucket: 1, part: 100_000}

// inTiny does the same to what does not fit a few bytes.
var inTiny = arrangement{inMemory: 1 << 20, bytes: 1, run: 5000, bucket: 1, part: 1}

func ways(t *testing.T) map[string]struct {
	arrangement
	scratch.Files
} {
	t.Helper()
	d, err := scratch.OpenDir(t.TempDir(), make([]byte, scratch.KeySize), 0)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]struct {
		arrangement
		scratch.Files
	}{
		"memory":            {sizes, nil},
		"disk":              {tiny, d},
		"too large":         {inTiny, scratch.Memory()},
		"disk, one bucket":  {arrangement{run: 1 << 20, bucket: 1 << 30, part: 1 << 30}, scratch.Memory()},
		"disk, small parts": {arrangement{run: 1 << 20, bucket: 1 << 30, part: 1}, scratch.Memory()},
	}
}

// random returns rows rows of every type, with missing values, in batches of
// uneven length.
func random(t testing.TB, rng *rand.Rand, rows int) *Table {
	t.Helper()
	s := Schema{{"id", Text, true}, {"i", Int, false}, {"f", Float, false}, {"t", Text, false}, {"empty", Text, false}}
	for i := range 5 { // more than eight columns
		s = append(s, Column{Name: fmt.Sprint("c", i), Type: Int})
	}
	out := &Table{schema: s, rows: int64(rows)}
	for done := 0; done < rows; {
		n := min(rows-done, rng.IntN(3000))
		b := NewBuilder(s)
		for i := range n {
			b.Texts(0).Append(fmt.Sprint("k", done+i))
			if v := rng.Uint64(); v%5 == 0 {
				b.Ints(1).AppendNull()
				b.Texts(3).AppendNull()
			} else {
				b.Ints(1).Append(int64(v >> (v % 64)))
				b.Texts(3).Append(strings.Repeat("文", int(v%9)))
			}
			b.Floats(2).Append(rng.NormFloat64())
			b.Texts(4).AppendNull()
			for c := range 5 {
				b.Ints(5 + c).Append(int64(c))
			}
		}
		part, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		out.batches = append(out.batches, part.batches...)
		done += n
	}
	return out
}

// cellsOf returns every row of src as text.
func cellsOf(t testing.TB, src Source) []string {
	t.Helper()
	var rows []string
	for b, err := range src.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range b.Columns() {
			if c.Len() != int(b.NumRows()) {
				t.Fatalf("a column of %d in a batch of %d", c.Len(), b.NumRows())
			}
		}
		for r := range int(b.NumRows()) {
			var s strings.Builder
			for _, c := range b.Columns() {
				if c.IsNull(r) {
					s.WriteString("|(none)")
				} else {
					s.WriteByte('|')
					s.WriteString(c.ValueStr(r))
				}
			}
			rows = append(rows, s.String())
		}
	}
	return rows
}

func TestArrange(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const rows = 17_000
	src := random(t, rng, rows)
	before := cellsOf(t, src)
	missing := strings.Repeat("|(none)", len(src.schema))
	orders := map[string][]int32{
		"as it is": nil, "backwards": nil, "shuffled": nil, "with missing rows": nil, "one row, often": nil, "some": {5, rows - 1, 0, -1, 5},
		"the last": {rows - 1}, "only missing": slices.Repeat([]int32{-1}, 9000), "none": {},
	}
	for i := range int32(rows) {
		orders["as it is"] = append(orders["as it is"], i)
		orders["backwards"] = append(orders["backwards"], rows-1-i)
		orders["with missing rows"] = append(orders["with missing rows"], rng.Int32N(rows+1000)-1000)
		orders["one row, often"] = append(orders["one row, often"], 777)
	}
	for _, i := range rng.Perm(rows) {
		orders["shuffled"] = append(orders["shuffled"], int32(i))
	}
	for i, r := range orders["with missing rows"] {
		orders["with missing rows"][i] = max(r, -1)
	}
	for way, w := range ways(t) {
		for name, order := range orders {
			t.Run(way+"/"+name, func(t *testing.T) {
				got, err := w.of(t.Context(), src, Order(order), int64(len(order)), w.Files)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 { // it can be read again
					after := cellsOf(t, got)
					if len(after) != len(order) {
						t.Fatalf("%d rows, want %d", len(after), len(order))
					}
					for k, r := range order {
						want := missing
						if r >= 0 {
							want = before[r]
						}
						if after[k] != want {
							t.Fatalf("row %d is %s, want %s", k, after[k], want)
						}
					}
				}
				if n := got.(rowCounter).Rows(); n != int64(len(order)) {
					t.Errorf("Rows says %d of %d", n, len(order))
				}
				if key := got.Schema()[0].Key; key == slices.Contains(order, -1) {
					t.Errorf("a key: %v", key)
				}
				// What is not wanted is not read, and takes no room.
				wanted := slices.ContainsFunc(order, func(r int32) bool { return r >= 0 })
				if w.Files != nil && (wanted || w.inMemory == 0 && len(order) > 0) {
					if names, err := w.Names(""); !slices.Equal(names, []string{rowsName}) || err != nil {
						t.Errorf("files %q, %v", names, err)
					}
				}
			})
		}
	}
}

// What Arrange and Take return holds nothing of the source's memory.
func TestArrangeOfReusedBatches(t *testing.T) {
	src := chopped{sample(t)}
	want := cellsOf(t, sample(t))
	for way, w := range ways(t) {
		got, err := w.of(t.Context(), src, Order([]int{2, 0, 1}), 3, w.Files)
		if err != nil {
			t.Fatal(err)
		}
		if s := cellsOf(t, got); !slices.Equal(s, []string{want[2], want[0], want[1]}) {
			t.Errorf("%s: %q", way, s)
		}
	}
	sliced := &Table{schema: src.schema, batches: []arrow.RecordBatch{src.batches[0].NewSlice(1, 3)}, rows: 2}
	got, err := Take(t.Context(), sliced, []int{1, 0, 1})
	if err != nil {
		t.Fatal(err)
	}
	if s := cellsOf(t, got); !slices.Equal(s, []string{want[2], want[1], want[2]}) {
		t.Errorf("of a slice: %q", s)
	}
}

func TestArrangeRefuses(t *testing.T) {
	src := sample(t)
	fault := errors.New("of the order")
	broken := func(yield func(int64, error) bool) { _ = yield(1, nil) && yield(0, fault) }
	for way, w := range ways(t) {
		for _, c := range []struct {
			what  string
			order iter.Seq2[int64, error]
			n     int64
			want  error
		}{
			{"a row beyond the source", Order([]int{0, 3}), 2, ErrRow},
			{"a row far beyond", Order([]int{0, math.MaxInt64}), 2, ErrRow},
			{"the first row beyond the bound", Order([]int{maxRows}), 1, ErrRow},
			{"the last row within it", Order([]int{maxRows - 1}), 1, ErrRow},
			{"a negative row", Order([]int{-2, 0}), 2, ErrRow},
			{"a short order", Order([]int{0, 1}), 3, nil},
			{"a long order", Order([]int{0, 1, 2, 0}), 3, nil},
			{"a negative length", Order([]int{}), -1, nil},
			{"a length beyond the bound", Order([]int{}), maxRows + 1, nil},
			{"an order with a fault", broken, 2, fault},
		} {
			if _, err := w.of(t.Context(), src, c.order, c.n, w.Files); err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s, %s: %v", way, c.what, err)
			}
			if w.Files != nil {
				if names, err := w.Names(""); len(names) != 0 || err != nil {
					t.Errorf("%s, %s: left %q, %v", way, c.what, names, err)
				}
			}
		}
	}
	if _, err := tiny.of(t.Context(), src, Order([]int{0}), 1, nil); err == nil {
		t.Error("a large arrangement without files passed")
	}
}

// twice streams one table the first time and another from then on; with an err,
// it ends with that.
type twice struct {
	*Table
	then *Table
	err  error
	read int
}

func (s *twice) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		t := s.Table
		if s.read++; s.read > 1 && s.then != nil {
			t = s.then
		}
		for b, err := range t.Batches(ctx) {
			if !yield(b, err) {
				return
			}
		}
		if s.err != nil {
			yield(nil, s.err)
		}
	}
}

func TestArrangeOfChangedSource(t *testing.T) {
	shorter, err := Take(t.Context(), sample(t), []int{0, 1})
	if err != nil {
		t.Fatal(err)
	}
	b := NewBuilder(Schema{{"id", Int, true}, {"n", Int, false}, {"x", Float, false}, {"s", Text, false}})
	b.Ints(0).Append(1)
	b.Ints(1).Append(1)
	b.Floats(2).Append(1)
	b.Texts(3).Append("")
	retyped, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	b = NewBuilder(Schema{{"id", Text, true}})
	b.Texts(0).Append("a")
	narrower, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		then *Table
		want error
	}{{shorter, ErrRow}, {retyped, ErrType}, {narrower, nil}} {
		// The first read, in memory, ends as too large.
		src := &twice{Table: sample(t), then: c.then}
		_, err := inTiny.of(t.Context(), src, Order([]int{2, 1, 0}), 3, scratch.Memory())
		if err == nil || c.want != nil && !errors.Is(err, c.want) || src.read != 2 {
			t.Errorf("%v, read %d times", err, src.read)
		}
	}
	// A source says that it changed at its end, which is past the rows wanted.
	fault := errors.New("the file changed")
	for way, w := range ways(t) {
		if _, err := w.of(t.Context(), &twice{Table: sample(t), err: fault}, Order([]int{0}), 1, w.Files); !errors.Is(err, fault) {
			t.Errorf("%s: %v", way, err)
		}
	}
	if _, err := Take(t.Context(), &twice{Table: sample(t), err: fault}, []int{0}); !errors.Is(err, fault) {
		t.Errorf("Take: %v", err)
	}
}

func TestArrangeStops(t *testing.T) {
	src := random(t, rand.New(rand.NewPCG(3, 4)), 20_000)
	order := make([]int32, 200_000)
	for i := range order {
		order[i] = int32(i % 20_000)
	}
	for way, w := range ways(t) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stopping := func(yield func(int64, error) bool) {
			for k, r := range order {
				if k == 100_000 {
					cancel()
				}
				if !yield(int64(r), nil) {
					return
				}
			}
		}
		if _, err := w.of(ctx, src, stopping, int64(len(order)), w.Files); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", way, err)
		}

		got, err := w.of(t.Context(), src, Order(order[:30_000]), 30_000, w.Files)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancelRead := context.WithCancel(t.Context())
		defer cancelRead()
		batches := 0
		for _, err = range got.Batches(ctx) {
			if batches++; batches == 2 {
				cancelRead()
			}
		}
		if !errors.Is(err, context.Canceled) || batches != 3 {
			t.Errorf("%s: %v after %d batches", way, err, batches)
		}
		// Two readers at once, of which one stops.
		next, stop := iter.Pull2(got.Batches(t.Context()))
		first, err, _ := next()
		if err != nil {
			t.Fatal(err)
		}
		kept := first.Column(0).(*array.String).Value(100)
		if s := cellsOf(t, got); len(s) != 30_000 || !strings.HasPrefix(s[100], "|"+kept+"|") {
			t.Errorf("%s: %d rows", way, len(s))
		}
		stop()
	}
}

// Rows that are much longer than the first ones, and than a segment.
func TestArrangeUnevenRows(t *testing.T) {
	const rows = 40_000
	b := NewBuilder(Schema{{"s", Text, false}})
	want := make([][32]byte, rows)
	for i := range rows {
		s := fmt.Sprint(i)
		if i > 20_000 && i%50 == 0 {
			s = strings.Repeat(s, 1+i%977*16)
		}
		want[i] = sha256.Sum256([]byte(s))
		b.Texts(0).Append(s)
	}
	src, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	order := rand.New(rand.NewPCG(5, 6)).Perm(rows)
	for way, a := range map[string]arrangement{
		"memory": sizes, "disk": {run: 1 << 20, bucket: 100 << 10, part: 200 << 10}, "one bucket": {run: 1 << 20, bucket: 1 << 30, part: 1 << 20},
	} {
		got, err := a.of(t.Context(), src, Order(order), rows, scratch.Memory())
		if err != nil {
			t.Fatal(err)
		}
		k := 0
		for b, err := range got.Batches(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			c := b.Column(0).(*array.String)
			for r := range c.Len() {
				if sha256.Sum256([]byte(c.Value(r))) != want[order[k]] {
					t.Fatalf("%s: row %d", way, k)
				}
				k++
			}
		}
		if k != rows {
			t.Errorf("%s: %d rows", way, k)
		}
	}
}

func TestArrangeFullOrDamagedDisk(t *testing.T) {
	src := random(t, rand.New(rand.NewPCG(7, 8)), 20_000)
	order := rand.New(rand.NewPCG(9, 10)).Perm(20_000)
	for _, limit := range []int64{10, 100_000, 200_000, 700_000} {
		d, err := scratch.OpenDir(t.TempDir(), make([]byte, scratch.KeySize), limit)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tiny.of(t.Context(), src, Order(order), 20_000, d); !errors.Is(err, scratch.ErrFull) {
			t.Errorf("limit %d: %v", limit, err)
		}
		if d.Used() != 0 {
			t.Errorf("limit %d: %d bytes left", limit, d.Used())
		}
	}

	dir := t.TempDir()
	d, err := scratch.OpenDir(dir, make([]byte, scratch.KeySize), 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tiny.of(t.Context(), src, Order(order), 20_000, d)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, rowsName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := drain(t.Context(), got); !errors.Is(err, scratch.ErrDamaged) || n == 20_000 {
		t.Errorf("a flipped bit: %d rows, %v", n, err)
	}
	if err := d.Remove(rowsName); err != nil {
		t.Fatal(err)
	}
	if _, err := drain(t.Context(), got); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is gone: %v", err)
	}
}

func drain(ctx context.Context, src Source) (int64, error) {
	n := int64(0)
	for b, err := range src.Batches(ctx) {
		if err != nil {
			return n, err
		}
		n += b.NumRows()
	}
	return n, nil
}

// Files that are not sealed can be anything: reading them ends in rows or in an
// error.
func FuzzArrangedFile(f *testing.F) {
	src := sample(f)
	plain := scratch.Memory()
	if _, err := tiny.of(f.Context(), src, Order([]int{2, -1, 0, 1, 0}), 5, plain); err != nil {
		f.Fatal(err)
	}
	file, err := plain.Open(rowsName)
	if err != nil {
		f.Fatal(err)
	}
	good, err := io.ReadAll(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0, 2, 255, 255})
	f.Add(append([]byte{0}, bytes.Repeat([]byte{255}, 12)...))
	f.Add([]byte{0, 12, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		files := scratch.Memory()
		w, err := files.Create(rowsName)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		for _, cells := range []int64{0, int64(len(good) - 8), int64(len(b))} {
			s := &spill{
				arrangement: tiny, n: 5, files: files, rows: batchRows,
				buckets: []bucket{{segments: []int64{0}, bytes: int64(min(len(b), segment))}}, cells: []int64{cells},
			}
			n, err := drain(t.Context(), newArranged(src.schema, 5, true, s.parts))
			if err == nil && n != 5 {
				t.Errorf("%d rows of 5 and no error", n)
			}
			if err != nil && !errors.Is(err, scratch.ErrDamaged) {
				t.Errorf("%v", err)
			}
		}
	})
}

func TestSortPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for _, most := range []int64{1, 2, 5, 2047, 2048, 1 << 20, 1 << 22, 1 << 31, maxRows} {
		pairs := make([]pair, 5000)
		for i := range pairs {
			pairs[i] = newPair(rng.Int64N(most), i)
		}
		want := slices.Clone(pairs)
		slices.Sort(want)
		for _, room := range [][]pair{nil, make([]pair, 5000), make([]pair, 6000)} {
			got := slices.Clone(pairs)
			sortPairs(got, room)
			if !slices.Equal(got, want) {
				t.Errorf("rows below %d are not in order", most)
			}
		}
	}
	sortPairs(nil, nil)
}
