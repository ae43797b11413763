package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/table"
)

func TestBatchesStop(t *testing.T) {
	var b strings.Builder
	b.WriteString(header)
	for i := range 3 * batchRows {
		fmt.Fprintf(&b, "k%d,1,2,x\n", i)
	}
	src, err := Open(context.Background(), people(write(t, b.String())))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range src.Batches(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			break
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n = 0
	for _, err := range src.Batches(ctx) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			break
		}
		n++
		cancel()
	}
	if n != 1 {
		t.Errorf("%d batches after cancel", n)
	}
	if place, err := src.Locate(context.Background(), 3*batchRows); err != nil || !strings.HasSuffix(place, fmt.Sprintf(" line %d", 3*batchRows+1)) {
		t.Errorf("place %q, %v", place, err)
	}
}

// Long texts end a batch early, so a stream's memory does not grow with them.
func TestBatchBytes(t *testing.T) {
	var b strings.Builder
	b.WriteString(header)
	text := strings.Repeat("x", maxFieldBytes)
	for i := range 1000 {
		fmt.Fprintf(&b, "k%d,1,2,%s\n", i, text)
	}
	src, err := Open(context.Background(), people(write(t, b.String())))
	if err != nil {
		t.Fatal(err)
	}
	var rows, most int64
	for b, err := range src.Batches(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		rows, most = rows+b.NumRows(), max(most, b.NumRows())
	}
	if rows != 1000 || most > batchBytes/maxFieldBytes+1 {
		t.Errorf("%d rows, at most %d in a batch", rows, most)
	}
}

// Streaming holds one batch, whatever the file's size.
func TestStreamMemory(t *testing.T) {
	path := writeRows(t, 200_000)
	src, err := Open(context.Background(), wide(path))
	if err != nil {
		t.Fatal(err)
	}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	most, i := uint64(0), 0
	for _, err := range src.Batches(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		if i++; i%5 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
	}
	if grown := int64(most) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("a stream held %d KiB", grown>>10)
	}
}

// wide has the 14 columns of a bank's table.
func wide(path string) Dataset {
	d := Dataset{Name: "wide", Driver: "csv", Path: path, Columns: []Column{{Name: "id", Type: table.Int, Key: true}}}
	for i := range 13 {
		typ := table.Int
		if i%2 == 0 {
			typ = table.Float
		}
		d.Columns = append(d.Columns, Column{Name: fmt.Sprintf("x%d", i), Type: typ})
	}
	return d
}

func writeRows(t testing.TB, n int) string {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("id")
	for i := range 13 {
		fmt.Fprintf(&b, ",x%d", i)
	}
	b.WriteByte('\n')
	for i := range n {
		fmt.Fprintf(&b, "%d", 1000+i)
		for j := range 13 {
			fmt.Fprintf(&b, ",%d", (i*7919+j*104729)%50000)
		}
		b.WriteByte('\n')
	}
	return write(t, b.String())
}

func BenchmarkBatches(b *testing.B) {
	const rows = 100_000
	src, err := Open(context.Background(), wide(writeRows(b, rows)))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range src.Batches(context.Background()) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkDigest(b *testing.B) {
	const rows = 100_000
	src, err := Open(context.Background(), wide(writeRows(b, rows)))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Digest(context.Background(), src); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
