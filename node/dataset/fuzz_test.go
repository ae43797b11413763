package dataset

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/yinqiao/yinqiao/table"
)

// FuzzCSV reads any bytes as a file. Whatever they are, reading ends in rows
// or in a typed error with a line that the file has; a check and a second read
// agree with it; and what was read survives being written and read again.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{
		header + "a,1,2.5,广州\nb,-2,1e3,深圳\n",
		"\ufeff" + header + "a,1,2,x\r\n\r\n\r\n",
		header + "a,1,2,\"x, \"\"y\"\"\nz\"\n\nb,1\n",
		header + "a,,NA,\n,1,2,x\na,NaN,1e999,\x00\n",
		header + "\"a\"b,1,2,x\nc,1,2,\"x",
		"city;id;income;age\nx;a;2;1\n",
		gb(f, header+"张,1,2,深圳\n"),
		"id,age,age,income,city\n\xff\xfe,1,2,3,4",
		"id,age,income,city\ra,1,2,x\r",
	} {
		for mode := range 4 {
			f.Add([]byte(s), byte(mode))
		}
	}
	path := filepath.Join(f.TempDir(), "people.csv")
	ctx := context.Background()
	f.Fuzz(func(t *testing.T, content []byte, mode byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		d := people(path)
		if mode&1 != 0 {
			d.Encoding = "gb18030"
		}
		if mode&2 != 0 {
			d.Delimiter, d.Missing = ";", []string{}
		}
		var text string
		src, err := Open(ctx, d)
		if err == nil {
			text, err = read(t, src)
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("untyped error %v", err)
			}
			if e.Line < 1 || e.Line > bytes.Count(content, []byte("\n"))+1 {
				t.Fatalf("line %d of %d: %v", e.Line, bytes.Count(content, []byte("\n")), err)
			}
		}
		rep, cerr := checkFile(d, 1000)
		if cerr != nil {
			t.Fatal(cerr)
		}
		row := 0
		for _, f := range rep.Faults {
			if f.Rule != KeyDuplicate && f.Rule != KeyBlank && f.Rule != KeyText && f.Rule != KeyUnfit {
				row++
			}
		}
		if (row > 0) != (err != nil) {
			t.Fatalf("read gave %v, the check %v", err, rep.Faults)
		}
		if err != nil {
			return
		}
		_, kerr := table.Keys(ctx, src, table.RuleID)
		if (kerr != nil) != (len(rep.Faults) > 0) {
			t.Fatalf("keys gave %v, the check %v", kerr, rep.Faults)
		}
		before, err := Digest(ctx, src)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// Written, a missing value is an empty field, whatever it was before.
		d.Encoding, d.Delimiter, d.Missing = "", "", []string{""}
		if mode&2 != 0 {
			d.Missing = []string{}
		}
		if src, err = Open(ctx, d); err != nil {
			t.Fatal(err)
		}
		after, err := Digest(ctx, src)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before, after) {
			t.Fatalf("%q became another table", content)
		}
	})
}
