package dataset

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/table"
)

// transcript is everything that reading d's file row by row shows, and then
// what its source, its check and its digest make of it.
func transcript(t *testing.T, d Dataset) string {
	t.Helper()
	var out strings.Builder
	f, err := newFile(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newReader(f, d)
	if err != nil {
		return err.Error()
	}
	defer r.close()
	at, faults, err := r.header(d)
	fmt.Fprintln(&out, at, faults, err)
	for err == nil {
		var line int
		line, err = r.next()
		fmt.Fprintf(&out, "%d %v", line, err)
		if err == nil {
			for i := range r.names {
				fmt.Fprintf(&out, " %q %v", r.field(i), r.text(r.field(i), line, "") != nil)
			}
		}
		fmt.Fprintln(&out, r.offset(), r.line)
		if e, ok := err.(*Error); ok && (e.Rule == RowFields || e.Rule == RowBlank || e.Rule == RowQuote || e.Rule == FieldSize) {
			err = nil
		}
	}
	rep, err := checkFile(d, 1000)
	fmt.Fprintln(&out, rep.Rows, rep.Faults, rep.More, err)
	src, err := Open(context.Background(), d)
	if err != nil {
		return out.String() + err.Error()
	}
	text, err := read(t, src)
	fmt.Fprintln(&out, text, err)
	digest, err := Digest(context.Background(), src)
	fmt.Fprintf(&out, "%x %v\n", digest, err)
	for row := int64(1); err == nil && row < 4; row++ {
		line, err := src.(*csvSource).lineOf(context.Background(), row)
		fmt.Fprintln(&out, line, err == io.EOF)
	}
	return out.String()
}

// comparePlain reads d's file with and without nextPlain.
func comparePlain(t *testing.T, d Dataset) {
	t.Helper()
	defer func() { readPlain = true }()
	readPlain = true
	fast := transcript(t, d)
	readPlain = false
	if slow := transcript(t, d); fast != slow {
		a, b := strings.Split(fast, "\n"), strings.Split(slow, "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("step %d: plain reading gives\n%s\nencoding/csv\n%s", i, a[i], b[i])
			}
		}
		t.Fatalf("plain reading gives %d steps, encoding/csv %d", len(a), len(b))
	}
}

// Rows of every kind, in every order and across every edge of the buffer, are
// read as encoding/csv reads them.
func TestPlainRowsAreReadAsCSVReadsThem(t *testing.T) {
	defer func(n int) { bufferBytes = n }(bufferBytes)
	rng := rand.New(rand.NewPCG(4180, 1))
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	path := filepath.Join(t.TempDir(), "people.csv")
	for i := range 120 {
		bufferBytes = []int{4096, 4096, 5000, 1 << 16}[i%4]
		d := people(path)
		d.Delimiter = []string{"", ";"}[i/4%2]
		comma := pick(",", ",", ",", ";")
		if d.Delimiter == "" {
			comma = ","
		}
		// Every other file has only rows that can be read.
		odd := 0
		if i%2 == 0 {
			odd = 1 + rng.IntN(100)
		}
		end := pick("\n", "\r\n")
		var b strings.Builder
		b.WriteString(pick("", "\ufeff") + strings.Join([]string{"id", "age", "income", "city"}, comma) + end)
		if i%3 == 0 {
			d.Encoding = "gb18030"
		}
		for n := range 60 + rng.IntN(900) {
			row := []string{
				fmt.Sprintf("k%d", n),
				pick("1", "0", "-7", "007", "NA", "", " 12\t", "999999999999999999", "9223372036854775807", "+3"),
				pick("2.5", "1e3", "NULL", "17", "00.5", "123456789012345678", "-0"),
				pick("x", "广州", "", strings.Repeat("长", rng.IntN(40))),
			}
			switch {
			case odd > 0 && rng.IntN(odd) == 0:
				row[rng.IntN(4)] = pick("\"q\"\"q\"", "\"a"+end+"b\"", "a\"b", "\"a\"b", "\x00", "\xff", "\r", "\ufffd", strings.Repeat("l", 5000), comma, "1.0", "99999999999999999999")
			case odd > 0 && rng.IntN(odd) == 0:
				row = row[:1+rng.IntN(3)]
			case odd == 0 && rng.IntN(20) == 0:
				row[3] = "\"" + pick("a, b", "two"+end+"lines", "\"\"", strings.Repeat("q", 5000)) + "\""
			}
			b.WriteString(strings.Join(row, comma) + end)
			if odd > 0 && rng.IntN(odd*2) == 0 {
				b.WriteString(strings.Repeat(end, 1+rng.IntN(3)))
			}
		}
		content := strings.TrimSuffix(b.String(), pick("", end))
		if d.Encoding == "gb18030" && rng.IntN(4) > 0 {
			content = gb(t, strings.ToValidUTF8(content, "?"))
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		comparePlain(t, d)
	}
}

func FuzzPlain(f *testing.F) {
	for _, s := range []string{
		"a,1,2.5,广州\nb,-2,1e3,深圳\n", "a,1,2,x\r\n\r\nb,1,2\n\"q\",1,2,3\n", "a,1,2,\"x\ny\"\nb,1,2,\x00\n\xff,1,2,3", "\r\r\n\r\n,,,\n",
		"a,1,2\"3,x\n\"a\"b,1,2,x\nc,1,2,\"x",
	} {
		for mode := range 4 {
			f.Add([]byte(s), uint16(1), byte(mode))
			f.Add([]byte(s), uint16(4070), byte(mode))
		}
	}
	path := filepath.Join(f.TempDir(), "people.csv")
	f.Fuzz(func(t *testing.T, rows []byte, before uint16, mode byte) {
		defer func(n int) { bufferBytes = n }(bufferBytes)
		bufferBytes = 4096
		d := people(path)
		if mode&1 != 0 {
			d.Encoding = "gb18030"
		}
		content := header
		if mode&2 != 0 {
			d.Delimiter, d.Missing = ";", []string{}
			content = strings.ReplaceAll(content, ",", ";")
		}
		// A row in front moves the others to where the buffer ends.
		content += strings.Join([]string{"k", "1", "2", strings.Repeat("x", int(before%8192))}, d.delimiter()) + "\n"
		if err := os.WriteFile(path, append([]byte(content), rows...), 0o600); err != nil {
			t.Fatal(err)
		}
		comparePlain(t, d)
	})
}

func (d Dataset) delimiter() string {
	if d.Delimiter == "" {
		return ","
	}
	return d.Delimiter
}

// The short way to read a number gives what strconv gives.
func TestParseDigits(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 18))
	for i := range 20_000 {
		v := fmt.Sprint(rng.Int64N(1 << (1 + i%62)))
		if i%5 == 0 {
			v = []string{"", "0", "00", "01", "-1", "+1", "1.", "a", "1e1", "999999999999999999", "1000000000000000000", "9223372036854775808", "/", ":", "１"}[i/5%15]
		}
		n, ok := parseDigits(v)
		if !ok {
			continue
		}
		var want int64
		if _, err := fmt.Sscanf(v, "%d", &want); err != nil || n != want || fmt.Sprint(n) != v {
			t.Fatalf("%q gives %d", v, n)
		}
		var x float64
		if _, err := fmt.Sscanf(v, "%g", &x); err != nil || x != float64(n) {
			t.Fatalf("%q: %g, %g", v, x, float64(n))
		}
	}
}

// Missing cells of every type are where the file has them, in each batch.
func TestMissingCells(t *testing.T) {
	var b strings.Builder
	b.WriteString(header)
	const rows = batchRows + 300
	for i := range rows {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&b, "k%d,%d,,\n", i, i)
		case 1:
			fmt.Fprintf(&b, "k%d,,%d.5,city%d\n", i, i, i)
		default:
			fmt.Fprintf(&b, "k%d,%d,%d,x\n", i, i, i)
		}
	}
	src, err := Open(context.Background(), people(write(t, b.String())))
	if err != nil {
		t.Fatal(err)
	}
	x, err := table.ReadFloats(context.Background(), src, []string{"age", "income"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		age, income := float64(i), float64(i)
		if i%3 == 1 {
			income += 0.5
		}
		if missing := x[0][i] != x[0][i]; missing != (i%3 == 1) || !missing && x[0][i] != age {
			t.Fatalf("row %d: age %v", i, x[0][i])
		}
		if missing := x[1][i] != x[1][i]; missing != (i%3 == 0) || !missing && x[1][i] != income {
			t.Fatalf("row %d: income %v", i, x[1][i])
		}
	}
	if text, err := read(t, src); err != nil || text != b.String() {
		t.Errorf("the rows came back otherwise: %v", err)
	}
}
