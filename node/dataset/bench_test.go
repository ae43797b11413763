package dataset

import (
	"bytes"
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/yinqiao/yinqiao/table"
)

// keyed writes rows as an intersection reads them: an 18-digit key and an int.
func keyed(t testing.TB, n int) Source {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("id,amount\n")
	for i := range n {
		fmt.Fprintf(&b, "%018d,%d\n", 110101199003070000+i*7919, i%100_000)
	}
	src, err := Open(context.Background(), Dataset{Name: "keyed", Driver: "csv", Path: write(t, b.String()), Columns: []Column{
		{Name: "id", Type: table.Text, Key: true}, {Name: "amount", Type: table.Int},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// perRow runs f over rows rows b.N times and reports its processor time, which
// other work on the machine disturbs less than the wall clock.
func perRow(b *testing.B, rows int, f func() error) {
	b.ReportAllocs()
	cpu := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	began := cpu()
	for b.Loop() {
		if err := f(); err != nil {
			b.Fatal(err)
		}
	}
	n := float64(b.N) * float64(rows)
	b.ReportMetric(float64(cpu()-began)/n, "cpu-ns/row")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/row")
}

// BenchmarkKeyed is what surrounds an intersection of files.
func BenchmarkKeyed(b *testing.B) {
	const rows = 1 << 18
	ctx := context.Background()
	src := keyed(b, rows)
	stream := func(src table.Source) func() error {
		return func() error {
			for _, err := range src.Batches(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	b.Run("both", func(b *testing.B) { perRow(b, rows, stream(src)) })
	b.Run("key", func(b *testing.B) { perRow(b, rows, stream(src.Project([]int{0}))) })
	b.Run("digest", func(b *testing.B) {
		perRow(b, rows, func() error { _, err := Digest(ctx, src); return err })
	})
	b.Run("eachkey", func(b *testing.B) {
		perRow(b, rows, func() error {
			_, err := table.EachKey(ctx, src, table.RuleID, nil, func(table.KeyBatch, struct{}) error { return nil })
			return err
		})
	})
	b.Run("keys", func(b *testing.B) {
		perRow(b, rows, func() error { _, err := table.Keys(ctx, src, table.RuleID); return err })
	})
	b.Run("check", func(b *testing.B) {
		perRow(b, rows, func() error { _, err := src.Check(ctx, table.RuleID, 5); return err })
	})
}
