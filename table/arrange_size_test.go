package table

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/yinqiao/yinqiao/scratch"
)

// endless streams rows of a few batches again and again, in no memory.
type endless struct {
	*Table
	rows int
	look func()
}

func (s endless) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for at := 0; at < s.rows; {
			for _, b := range s.batches {
				if s.look != nil && at%(1<<17) == 0 {
					s.look()
				}
				if n := int64(s.rows - at); b.NumRows() > n {
					b = b.NewSlice(0, n)
				}
				if at += int(b.NumRows()); ctx.Err() != nil {
					yield(nil, ctx.Err())
					return
				}
				if !yield(b, nil) || at >= s.rows {
					return
				}
			}
		}
	}
}

// records is rows of a key of 18 characters, a number and a short text.
func records(t testing.TB, rows int) endless {
	t.Helper()
	out := &Table{schema: Schema{{"id", Text, true}, {"amount", Float, false}, {"city", Text, false}}}
	for i := range 16 {
		b := NewBuilder(out.schema)
		for j := range batchRows {
			b.Texts(0).Append(fmt.Sprintf("%018d", i*batchRows+j))
			b.Floats(1).Append(float64(i*j) / 8)
			b.Texts(2).Append("中山市"[:3*(1+j%3)])
		}
		part, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		out.batches = append(out.batches, part.batches...)
	}
	return endless{Table: out, rows: rows}
}

// scattered is a permutation of n rows that needs no memory; 1000003 must not
// divide n.
func scattered(n int) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		for k := range n {
			if !yield(int64(k)*1_000_003%int64(n), nil) {
				return
			}
		}
	}
}

// Memory does not grow with the rows: what Arrange says of it holds at 2^21
// rows on disk, and so does what it says of files.
func TestArrangeMemory(t *testing.T) {
	const rows = 1 << 21
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	d, err := scratch.OpenDir(t.TempDir(), make([]byte, scratch.KeySize), 0)
	if err != nil {
		t.Fatal(err)
	}
	src := records(t, rows)
	before, peak := heap(), int64(0)
	src.look = func() { peak = max(peak, heap()-before) }
	order := func(yield func(int64, error) bool) {
		for r, err := range scattered(rows) {
			if r%(1<<17) == 0 {
				src.look()
			}
			if !yield(r, err) {
				return
			}
		}
	}
	got, err := Arrange(t.Context(), src, order, rows, d)
	if err != nil {
		t.Fatal(err)
	}
	if peak > 128_000_000 {
		t.Errorf("arranging took %d bytes", peak)
	}
	if most := int64(rows * 48); d.Used() > most {
		t.Errorf("%d bytes on disk, want at most %d", d.Used(), most)
	}
	peak = 0
	n := 0
	for b, err := range got.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n%(1<<17) == 0 {
			src.look()
		}
		n += int(b.NumRows())
	}
	if n != rows || peak > 64_000_000 {
		t.Errorf("reading %d rows took %d bytes", n, peak)
	}
}

// cpu returns the process's CPU time in nanoseconds.
func cpu() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// perRow reports CPU time a row.
func perRow(b *testing.B, rows int, do func()) {
	b.Helper()
	begin := cpu()
	for b.Loop() {
		do()
	}
	b.ReportMetric(float64(cpu()-begin)/float64(b.N)/float64(rows), "cpu-ns/row")
}

func BenchmarkArrange(b *testing.B) {
	for _, c := range []struct {
		name string
		rows int
	}{{"memory/1M", 1 << 20}, {"disk/5M", 5 << 20}} {
		src := records(b, c.rows)
		b.Run(c.name, func(b *testing.B) {
			d, err := scratch.OpenDir(b.TempDir(), make([]byte, scratch.KeySize), 0)
			if err != nil {
				b.Fatal(err)
			}
			b.Run("arrange", func(b *testing.B) {
				perRow(b, c.rows, func() {
					if _, err := Arrange(b.Context(), src, scattered(c.rows), int64(c.rows), d); err != nil {
						b.Fatal(err)
					}
				})
			})
			b.Run("read", func(b *testing.B) {
				got, err := Arrange(b.Context(), src, scattered(c.rows), int64(c.rows), d)
				if err != nil {
					b.Fatal(err)
				}
				perRow(b, c.rows, func() {
					if n, err := drain(b.Context(), got); n != int64(c.rows) || err != nil {
						b.Fatal(n, err)
					}
				})
			})
		})
	}
}

func BenchmarkTake(b *testing.B) {
	const rows = 1 << 20
	src := records(b, rows)
	order := rand.New(rand.NewPCG(1, 1)).Perm(rows)
	perRow(b, rows, func() {
		if _, err := Take(b.Context(), src, order); err != nil {
			b.Fatal(err)
		}
	})
}
