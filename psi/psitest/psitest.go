// Package psitest is what the tests of several intersection protocols share:
// sets and tables, jobs run at all parties, peers that say what a script says,
// and every way to change a message. It knows no protocol.
//
//	s := psitest.Spec("psi.x.v1", psitest.Params(`{"output":"both"}`), align.Sender, align.Receiver)
//	results, out := psitest.Job{Definition: Definition(), Spec: s}.Run(t, x, y)
//
//	for a := range psitest.Attacks(messages, psitest.FurtherIn) {
//		out := psitest.Tampering("p0", "", a.Change).Run(t, …)
//		a.CheckNoticed(t, "p0", out, ErrMessage, ErrDisagree)
//	}
package psitest

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// Items yields each item in the same buffer, as a source is allowed to.
func Items(xs []string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var buf []byte
		for _, x := range xs {
			buf = append(buf[:0], x...)
			if !yield(buf) {
				return
			}
			clear(buf)
		}
	}
}

// Number returns the items of the subjects from one to another, exclusive.
func Number(from, to int) []string {
	xs := make([]string, 0, max(0, to-from))
	for i := from; i < to; i++ {
		xs = append(xs, fmt.Sprintf("id-%06d", i))
	}
	return xs
}

// Shuffled returns xs in an order that the seed determines.
func Shuffled(xs []string, seed uint64) []string {
	xs = slices.Clone(xs)
	rand.New(rand.NewPCG(seed, 1)).Shuffle(len(xs), func(i, j int) { xs[i], xs[j] = xs[j], xs[i] })
	return xs
}

// Sets are what two parties put in.
type Sets struct {
	Name   string
	Xs, Ys []string
}

// Edges are the sets at whose edges protocols break. Two of them are skewed, with
// large items at one side.
func Edges(large int) []Sets {
	long := strings.Repeat("x", 100_000)
	last := Number(large-1, large)[0]
	return []Sets{
		{"both empty", nil, nil},
		{"sender empty", nil, Number(0, 5)},
		{"receiver empty", Number(0, 5), nil},
		{"one and the same", Number(0, 1), Number(0, 1)},
		{"one and another", Number(0, 1), Number(1, 2)},
		{"one of many", Number(0, 1), Number(0, 100)},
		{"many and one", Number(0, 100), Number(99, 100)},
		{"all", Number(0, 70), Shuffled(Number(0, 70), 1)},
		{"none", Number(0, 70), Number(70, 140)},
		{"half", Shuffled(Number(0, 200), 2), Shuffled(Number(100, 300), 3)},
		{"skewed to the sender", Number(0, large), []string{"id-000007", "zzz", last}},
		{"skewed to the receiver", []string{"zzz", last}, Number(0, large)},
		{"long items", []string{long + "a", long + "b", long}, []string{long, long + "b"}},
		{"the empty string and zeros", []string{"", "\x00", "\x00\x00"}, []string{"\x00\x00", ""}},
		{"prefixes", []string{"a", "ab", "abc"}, []string{"ab", "abcd", "b"}},
		{"not ASCII", []string{"张三", "\u00e9", "e\u0301", "\xff\xfe"}, []string{"e\u0301", "张三", "\xff"}},
	}
}

// CheckAligned compares the results of two parties with the ideal functionality
// on the plaintext: rows of xs and of ys, in one order. Where told is false the
// first party has to have none.
func CheckAligned(t testing.TB, out []sessiontest.Outcome, xs, ys []string, xRows, yRows []int32, told bool) {
	t.Helper()
	sessiontest.NoErrors(t, out)
	in := make(map[string]bool, len(xs))
	for _, x := range xs {
		in[x] = true
	}
	want := slices.DeleteFunc(slices.Clone(ys), func(y string) bool { return !in[y] })
	if len(yRows) != len(want) {
		t.Fatalf("the party that compares has %d rows, want %d", len(yRows), len(want))
	}
	got := make([]string, len(yRows))
	for k, row := range yRows {
		got[k] = ys[row]
	}
	switch {
	case !told && xRows != nil:
		t.Fatalf("the other party has %d rows and should have none", len(xRows))
	case told && len(xRows) != len(want):
		t.Fatalf("the other party has %d rows, want %d", len(xRows), len(want))
	}
	for k, row := range xRows {
		if xs[row] != got[k] {
			t.Fatalf("position %d is not the same subject on both sides", k)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatal("the intersection differs from the plaintext one")
	}
}

// People makes a table of income, id and branch, whose key columns, the last
// two, come last.
func People(t testing.TB, rows ...[3]string) *table.Table {
	t.Helper()
	b := table.NewBuilder(table.Schema{
		{Name: "income", Type: table.Text}, {Name: "id", Type: table.Text, Key: true}, {Name: "branch", Type: table.Text, Key: true},
	})
	for _, r := range rows {
		for i := range r {
			b.Texts(i).Append(r[i])
		}
	}
	tb, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// Cells returns the rows of a table of texts, cells parted by bars.
func Cells(t testing.TB, src table.Source) []string {
	t.Helper()
	var rows []string
	for b, err := range src.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for r := range int(b.NumRows()) {
			var cells []string
			for c := range int(b.NumCols()) {
				cells = append(cells, b.Column(c).(*array.String).Value(r))
			}
			rows = append(rows, strings.Join(cells, "|"))
		}
	}
	return rows
}

// Columns returns the names of a table's columns.
func Columns(src table.Source) (names []string) {
	for _, c := range src.Schema() {
		names = append(names, c.Name)
	}
	return names
}

// CPU is the processor time that this process has used.
func CPU(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
