package table

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/yinqiao/yinqiao/session/errgroup"
)

// cut is a source that gives its table's rows in batches of several sizes, each
// a view into the table's arrays.
type cut struct {
	*Table
	sizes []int
}

func (c cut) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range c.Table.Batches(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			for from, i := int64(0), 0; from < b.NumRows(); i++ {
				to := min(from+int64(c.sizes[i%len(c.sizes)]), b.NumRows())
				if !yield(b.NewSlice(from, to), nil) {
					return
				}
				from = to
			}
		}
	}
}

// streamed returns what EachKey hands on, checking the order of its batches.
func streamed(t testing.TB, src Source, rule KeyRule) ([]string, int64, error) {
	t.Helper()
	var got []string
	work := func(b KeyBatch) (string, error) { return fmt.Sprint(b.First(), b.Len()), nil }
	rows, err := EachKey(context.Background(), src, rule, work, func(b KeyBatch, s string) error {
		if b.First() != int64(len(got)) || b.Len() == 0 || s != fmt.Sprint(b.First(), b.Len()) {
			t.Fatalf("after %d rows a batch of %d from %d with the result %q", len(got), b.Len(), b.First(), s)
		}
		for i, key := range b.All() {
			if string(key) != string(b.At(i)) {
				t.Fatalf("key %d: All gives %q, At %q", i, key, b.At(i))
			}
			got = append(got, string(key))
		}
		return nil
	})
	return got, rows, err
}

// EachKey and Keys give the same bytes, however the source cuts its rows.
func TestEachKeyGivesTheBytesOfKeys(t *testing.T) {
	const n = 3*keyBatchRows + 11
	one := NewBuilder(Schema{{Name: "id", Type: Text, Key: true}})
	ints := NewBuilder(Schema{{Name: "v", Type: Float}, {Name: "id", Type: Int, Key: true}})
	both := NewBuilder(Schema{{Name: "name", Type: Text, Key: true}, {Name: "v", Type: Text}, {Name: "id", Type: Int, Key: true}})
	for i := range n {
		one.Texts(0).Append(fmt.Sprintf(" ４４%dx%s", i, strings.Repeat("a", i%97)))
		ints.Floats(0).Append(1)
		ints.Ints(1).Append(int64(n - i))
		both.Texts(0).Append(fmt.Sprint("甲（乙）", i/2))
		both.Texts(1).AppendNull()
		both.Ints(2).Append(int64(i % 2))
	}
	for name, b := range map[string]*Builder{"text": one, "int": ints, "composite": both} {
		tab, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range []KeyRule{"", RuleNone, RuleNFKC, RuleCompanyName} {
			k, err := Keys(context.Background(), tab, rule)
			if err != nil {
				t.Fatal(err)
			}
			for _, sizes := range [][]int{{n}, {keyBatchRows, 1, 7, keyBatchRows + 1}, {100}} {
				got, rows, err := streamed(t, cut{tab, sizes}, rule)
				if err != nil || rows != n || len(got) != n {
					t.Fatalf("%s, %s: %d keys of %d rows, %v", name, rule, len(got), rows, err)
				}
				for i := range n {
					if got[i] != string(k.At(i)) {
						t.Fatalf("%s, %s, row %d: %q, Keys gives %q", name, rule, i, got[i], k.At(i))
					}
				}
			}
		}
	}
	empty, err := NewBuilder(Schema{{Name: "id", Type: Text, Key: true}}).Table()
	if err != nil {
		t.Fatal(err)
	}
	if got, rows, err := streamed(t, empty, RuleID); err != nil || rows != 0 || got != nil {
		t.Errorf("no rows: %q, %d, %v", got, rows, err)
	}
}

// A batch ends early where keys are long, and holds at least one.
func TestEachKeyBoundsItsBatches(t *testing.T) {
	b := NewBuilder(Schema{{Name: "id", Type: Text, Key: true}})
	for i := range 3000 {
		b.Texts(0).Append(fmt.Sprintf("%04d%s", i, strings.Repeat("z", MaxKeyBytes-4)))
	}
	b.Texts(0).Append(strings.Repeat("z", 3*keyBatchBytes)) // no key, but a row
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	rows, most := 0, 0
	_, err = EachKey(context.Background(), tab, RuleNone, nil, func(b KeyBatch, _ struct{}) error {
		rows, most = rows+b.Len(), max(most, len(b.data))
		return nil
	})
	var ke *KeyError
	if !errors.As(err, &ke) || ke.Bad != (KeyFault{Count: 1, First: 3001}) || rows != 3001 || most > keyBatchBytes {
		t.Errorf("%d rows, at most %d bytes, %v", rows, most, err)
	}
}

// Faults are counted over the whole table with the place of the first, keep
// their rows, and are told as Keys tells them.
func TestEachKeyCountsFaults(t *testing.T) {
	const n = 2*keyBatchRows + 50
	b := NewBuilder(Schema{{Name: "id", Type: Text, Key: true}})
	want := make([]string, n)
	for i := range n {
		switch {
		case i >= keyBatchRows && i%1000 == 500:
			b.Texts(0).AppendNull()
		case i >= keyBatchRows && i%1000 == 600:
			b.Texts(0).Append("\xff")
		case i >= keyBatchRows && i%1000 == 700:
			b.Texts(0).Append("12345")
		default:
			want[i] = fmt.Sprintf("138%08d", i)
			b.Texts(0).Append("+86 " + want[i])
		}
	}
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	got, rows, err := streamed(t, located{tab}, RulePhoneCN)
	var ke *KeyError
	if !errors.As(err, &ke) || rows != n || !slices.Equal(got, want) {
		t.Fatalf("%d rows, %v", rows, err)
	}
	count := func(rest int) (f KeyFault) {
		for i := keyBatchRows; i < n; i++ {
			if i%1000 == rest {
				f.add(int64(i) + 1)
			}
		}
		f.Place = fmt.Sprintf("people.csv line %d", f.First+1)
		return f
	}
	if ke.Blanks != count(500) || ke.Bad != count(600) || ke.Unfit != count(700) || ke.Duplicates.Count != 0 || ke.Rows != n {
		t.Errorf("%+v", ke)
	}
	_, kerr := Keys(context.Background(), located{tab}, RulePhoneCN)
	if cerr := CheckKeys(context.Background(), located{tab}, RulePhoneCN); kerr == nil || kerr.Error() != err.Error() || cerr.Error() != err.Error() {
		t.Errorf("EachKey: %v\nKeys: %v\nCheckKeys: %v", err, kerr, cerr)
	}
}

// An error of either callback, of the source or of the context ends the
// reading, and no goroutine stays.
func TestEachKeyStops(t *testing.T) {
	b := NewBuilder(Schema{{Name: "id", Type: Int, Key: true}})
	for i := range 40 * keyBatchRows {
		b.Ints(0).Append(int64(i))
	}
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	boom := errors.New("boom")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for why, c := range map[string]struct {
		ctx  context.Context
		src  Source
		work func(KeyBatch) (int, error)
		use  func(KeyBatch, int) error
		want error
	}{
		"work": {context.Background(), tab, func(b KeyBatch) (int, error) {
			if b.First() == 3*keyBatchRows {
				return 0, boom
			}
			return 0, nil
		}, func(b KeyBatch, _ int) error {
			if b.First() >= 3*keyBatchRows {
				t.Error("used a batch that could not be worked on, or one behind it")
			}
			return nil
		}, boom},
		"use":     {context.Background(), tab, nil, func(KeyBatch, int) error { return boom }, boom},
		"context": {ctx, tab, nil, func(KeyBatch, int) error { cancel(); return nil }, context.Canceled},
		"source":  {context.Background(), broken{tab, boom}, nil, func(KeyBatch, int) error { return nil }, boom},
	} {
		if rows, err := EachKey(c.ctx, c.src, RuleID, c.work, c.use); !errors.Is(err, c.want) || rows != 0 {
			t.Errorf("%s: %d rows, %v", why, rows, err)
		}
	}
	for i := 0; runtime.NumGoroutine() > before; i++ { // one that is through may still be ending
		if i == 1_000_000 {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
		runtime.Gosched()
	}
}

// broken fails behind its table's rows.
type broken struct {
	*Table
	err error
}

func (b broken) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for batch, err := range b.Table.Batches(ctx) {
			if !yield(batch, err) {
				return
			}
		}
		yield(nil, b.err)
	}
}

// What panics on the way, in the source, at work on a batch or in its use,
// panics in EachKey.
func TestEachKeyPanics(t *testing.T) {
	const rows = 4 * keyBatchRows
	boom := errors.New("boom")
	b := NewBuilder(Schema{{Name: "id", Type: Int, Key: true}})
	for i := range rows {
		b.Ints(0).Append(int64(i))
	}
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	run := func(src Source, work func(KeyBatch) (int, error), use func(KeyBatch, int) error) (got *errgroup.Panic) {
		defer func() { got = errgroup.Recovered(recover()) }()
		_, err := EachKey(t.Context(), src, RuleID, work, use)
		t.Errorf("returned, with %v", err)
		return nil
	}
	work := func(KeyBatch) (int, error) { return 0, nil }
	use := func(KeyBatch, int) error { return nil }
	for name, got := range map[string]*errgroup.Panic{
		"source": run(explosive{tab, boom}, work, use),
		"work":   run(tab, func(b KeyBatch) (int, error) { panic(boom) }, use),
		"late work": run(tab, func(b KeyBatch) (int, error) {
			if b.First() > 2*keyBatchRows {
				panic(boom)
			}
			return 0, nil
		}, use),
		"use": run(tab, work, func(KeyBatch, int) error { panic(boom) }),
	} {
		if got == nil || got.Value != boom {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// explosive is a source whose second batch panics.
type explosive struct {
	Source
	value error
}

func (e explosive) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range e.Source.Batches(ctx) {
			if !yield(b, err) {
				return
			}
			panic(e.value)
		}
	}
}

// work runs on every core: as many calls as there are cores wait for each other.
func TestEachKeyWorksInParallel(t *testing.T) {
	cores := runtime.GOMAXPROCS(0)
	b := NewBuilder(Schema{{Name: "id", Type: Int, Key: true}})
	for i := range (cores + 1) * keyBatchRows {
		b.Ints(0).Append(int64(i))
	}
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	var started atomic.Int32
	together := make(chan struct{})
	_, err = EachKey(context.Background(), tab, RuleID, func(KeyBatch) (struct{}, error) {
		if int(started.Add(1)) == cores {
			close(together)
		}
		<-together
		return struct{}{}, nil
	}, func(KeyBatch, struct{}) error { return nil })
	if err != nil {
		t.Error(err)
	}
}

// A source may use a batch's memory again for the next: what EachKey hands on
// is its own.
func TestEachKeyCopies(t *testing.T) {
	ids := make([]int64, 100)
	src := reusing{ids}
	next := int64(0)
	rows, err := EachKey(context.Background(), src, RuleNone, nil, func(b KeyBatch, _ struct{}) error {
		for i, key := range b.All() {
			if want := fmt.Sprint((b.First() + int64(i)) * 3); string(key) != want {
				return fmt.Errorf("row %d: %s, want %s", b.First()+int64(i), key, want)
			}
			next++
		}
		return nil
	})
	if err != nil || rows != 5000 || next != 5000 {
		t.Errorf("%d rows, %d keys, %v", rows, next, err)
	}
}

// reusing gives 50 batches in the same 100 places.
type reusing struct{ ids []int64 }

func (reusing) Schema() Schema { return Schema{{Name: "id", Type: Int, Key: true}} }

func (r reusing) Batches(context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for b := range 50 {
			for i := range r.ids {
				r.ids[i] = int64(b*len(r.ids)+i) * 3
			}
			buffers := []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(r.ids))}
			data := array.NewData(arrow.PrimitiveTypes.Int64, len(r.ids), buffers, nil, 0, 0)
			if !yield(array.NewRecordBatch(r.Schema().Arrow(), []arrow.Array{array.NewInt64Data(data)}, int64(len(r.ids))), nil) {
				return
			}
		}
	}
}

func TestDuplicateKeys(t *testing.T) {
	tab := texts(t, []any{"a", 1}, []any{"b", 1}, []any{"a", 1})
	_, want := Keys(context.Background(), located{tab}, "")
	got := DuplicateKeys(context.Background(), located{tab}, "", 3, 1, 3)
	if want == nil || got.Error() != want.Error() || !errors.Is(got, ErrDuplicateKeys) || errors.Is(got, ErrBlankKeys) {
		t.Errorf("%v, want %v", got, want)
	}
}

// CheckKeys reports what Keys reports, also where it takes several readings.
func TestCheckKeys(t *testing.T) {
	defer func(n int) { checkSlots = n }(checkSlots)
	b := NewBuilder(Schema{{Name: "id", Type: Text, Key: true}})
	for i := range 5000 {
		b.Texts(0).Append(fmt.Sprint(i))
	}
	distinct, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		b.Texts(0).Append(fmt.Sprint(i))
		if i%100 == 99 {
			b.Texts(0).Append(fmt.Sprint(" ", i/2))
		}
	}
	b.Texts(0).Append("")
	twice, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1 << 24, 1 << 10} { // one reading, and ten or more
		checkSlots = n
		if err := CheckKeys(context.Background(), distinct, RuleID); err != nil {
			t.Errorf("%d slots: %v", n, err)
		}
		_, want := Keys(context.Background(), located{twice}, RuleID)
		if err := CheckKeys(context.Background(), located{twice}, RuleID); err == nil || err.Error() != want.Error() {
			t.Errorf("%d slots: %v\nKeys: %v", n, err, want)
		}
	}
	if err := CheckKeys(context.Background(), &growing{tab: distinct}, RuleID); !errors.Is(err, errGrown) {
		t.Errorf("a source that grows: %v", err)
	}
	if err := CheckKeys(context.Background(), distinct, "other"); !errors.Is(err, ErrKeyRule) {
		t.Errorf("other rule: %v", err)
	}
}

// growing gives no row at first and then its table's.
type growing struct {
	tab  *Table
	read bool
}

func (g *growing) Schema() Schema { return g.tab.Schema() }

func (g *growing) Project([]int) Source { return g }

func (g *growing) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	if !g.read {
		g.read = true
		return func(func(arrow.RecordBatch, error) bool) {}
	}
	return g.tab.Batches(ctx)
}

func BenchmarkEachKey(b *testing.B) {
	const n = 1 << 18
	tb := NewBuilder(Schema{{Name: "id", Type: Text, Key: true}})
	for i := range n {
		tb.Texts(0).Append(fmt.Sprintf("44200019%09dx", i))
	}
	tab, err := tb.Table()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := EachKey(context.Background(), tab, RuleID, nil, func(KeyBatch, struct{}) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/key")
}
