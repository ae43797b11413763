package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/yinqiao/yinqiao/table"
)

// people is the dataset that the tests read: one column of each type.
func people(path string) Dataset {
	return Dataset{Name: "people", Driver: "csv", Path: path, Columns: []Column{
		{Name: "id", Type: table.Text, Key: true},
		{Name: "age", Type: table.Int},
		{Name: "income", Type: table.Float},
		{Name: "city", Type: table.Text},
	}}
}

func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "people.csv")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// read returns what a source holds, as CSV.
func read(t testing.TB, src table.Source) (string, error) {
	t.Helper()
	n := 0
	for b, err := range src.Batches(context.Background()) {
		if err != nil {
			return "", err
		}
		n += int(b.NumRows())
	}
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	tab, err := table.Take(context.Background(), src, rows)
	if err != nil {
		return "", err
	}
	var buf bytes.Buffer
	err = table.WriteCSV(t.Context(), &buf, tab)
	return buf.String(), err
}

func gb(t testing.TB, s string) string {
	t.Helper()
	b, err := simplifiedchinese.GB18030.NewEncoder().String(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const header = "id,age,income,city\n"

func TestRead(t *testing.T) {
	for _, c := range []struct {
		why     string
		content string
		change  func(*Dataset)
		want    string
		rows    int64
	}{
		{"plain", header + "a,1,2.5,广州\nb,-2,1e3,深圳\n", nil, "a,1,2.5,广州\nb,-2,1000,深圳\n", 2},
		{"no rows", header, nil, "", 0},
		{"no line end at the end", header + "a,1,2,x", nil, "a,1,2,x\n", 1},
		{"byte order mark and CRLF", "\ufeff" + strings.ReplaceAll(header+"a,1,2,x\nb,1,2,y\n", "\n", "\r\n"), nil, "a,1,2,x\nb,1,2,y\n", 2},
		{"another column order", "city,id,income,age\nx,a,2,1\n", nil, "a,1,2,x\n", 1},
		{"quotes, commas and line ends in fields", header + "\"a\",\"1\",2,\"x, \"\"y\"\"\nz\"\nb,1,2,y\n", nil, "a,1,2,\"x, \"\"y\"\"\nz\"\nb,1,2,y\n", 2},
		{"missing values", header + "a,,NA,\nb,NULL,null,NA\nc,N/A,,NULL\n", nil, "a,,,\nb,,,NA\nc,,,NULL\n", 3},
		{"own missing values", header + "a,-9,2,-9\nb,1,-9,x\n", func(d *Dataset) { d.Missing = []string{"-9"} }, "a,,2,\nb,1,,x\n", 2},
		{"leading zeros of text stay", header + "007,1,2,010\n", nil, "007,1,2,010\n", 1},
		{"aligned numbers", header + "a, 1,\t2 ,x\n", nil, "a,1,2,x\n", 1},
		{"limits of int", header + "a,9223372036854775807,2,x\nb,-9223372036854775808,2,x\n", nil, "a,9223372036854775807,2,x\nb,-9223372036854775808,2,x\n", 2},
		{"blank lines at the end", header + "a,1,2,x\n\n\r\n", nil, "a,1,2,x\n", 1},
		{"semicolons", "id;age;income;city\na;1;2;x,y\n", func(d *Dataset) { d.Delimiter = ";" }, "a,1,2,\"x,y\"\n", 1},
		{"tabs", "id\tage\tincome\tcity\na\t1\t2\tx\n", func(d *Dataset) { d.Delimiter = "\t" }, "a,1,2,x\n", 1},
		{"GB 18030", gb(t, header+"张,1,2,深圳\n"), func(d *Dataset) { d.Encoding = "gb18030" }, "张,1,2,深圳\n", 1},
		{"GB 18030 with a mark, CRLF and a bar in a character", gb(t, "\ufeffid|age|income|city\r\n張|1|2|竱\r\n"), func(d *Dataset) { d.Encoding, d.Delimiter = "gb18030", "|" }, "張,1,2,竱\n", 1},
		{"int key", "id,age,income,city\n12,1,2,x\n", func(d *Dataset) { d.Columns[0].Type = table.Int }, "12,1,2,x\n", 1},
	} {
		d := people(write(t, c.content))
		if c.change != nil {
			c.change(&d)
		}
		src, err := Open(context.Background(), d)
		if err != nil {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		got, err := read(t, src)
		if err != nil || got != header+c.want {
			t.Errorf("%s: got %q, %v; want %q", c.why, got, err, header+c.want)
		}
		rep, err := src.Check(context.Background(), table.RuleID, 10)
		if err != nil || len(rep.Faults) > 0 || rep.More || rep.Rows != c.rows {
			t.Errorf("%s: check gave %+v, %v", c.why, rep, err)
		}
	}
}

// secret stands in every bad row of the tests; no error may show it.
const secret = "S3CR3T"

func TestBadInput(t *testing.T) {
	good := "a,1,2,x\n"
	long := strings.Repeat("S3CR3T", maxFieldBytes/6+1)
	for _, c := range []struct {
		why     string
		content string
		change  func(*Dataset)
		line    int
		column  string
		rule    Rule
	}{
		{"missing key column", "age,income,city\n1,2,S3CR3T\n", nil, 1, "id", HeaderKey},
		{"missing column", "id,age,city\nS3CR3T,2,x\n", nil, 1, "income", HeaderColumn},
		{"unknown column", "id,age,income,city,S3CR3T\n", nil, 1, "", HeaderUnknown},
		{"a name but for case", "ID,age,income,city\n", nil, 1, "", HeaderUnknown},
		{"duplicate column", "id,age,age,income,city\n", nil, 1, "age", HeaderDuplicate},
		{"no header", "S3CR3T,1,2,S3CR3T\n" + good, nil, 1, "", HeaderMissing},
		{"empty file", "", nil, 1, "", HeaderMissing},
		{"only a byte order mark", "\ufeff", nil, 1, "", HeaderMissing},
		{"another delimiter", "id;age;income;city\nS3CR3T;1;2;x\n", nil, 1, "", HeaderMissing},
		{"bare carriage returns", "id,age,income,city\rS3CR3T,1,2,x\r", nil, 1, "", HeaderUnknown},
		{"blank header name", "id,age,,income,city\n", nil, 1, "", HeaderUnknown},

		{"short row", header + good + "S3CR3T,1\n", nil, 3, "income", RowFields},
		{"long row", header + good + "S3CR3T,1,2,x,S3CR3T\n", nil, 3, "city", RowFields},
		{"short row after CRLF", "id,age,income,city\r\na,1,2,x\r\nS3CR3T,1\r\n", nil, 3, "income", RowFields},
		{"short row after a field with line ends", header + "a,1,2,\"x\ny\nz\"\nS3CR3T,1,2\n", nil, 5, "city", RowFields},
		{"blank line", header + good + "\nS3CR3T,1,2,x\n", nil, 3, "", RowBlank},
		{"quote within a field", header + "S3CR3T,1,2\"S3CR3T,x\n", nil, 2, "income", RowQuote},
		{"text behind a quote", header + "\"S3CR3T\"S3CR3T,1,2,x\n", nil, 2, "id", RowQuote},
		{"quote left open", header + good + "S3CR3T,1,2,\"S3CR3T\nb,1,2,x\n", nil, 3, "city", RowQuote},
		{"quote left open for long", header + good + "S3CR3T,1,2,\"" + strings.Repeat("S3CR3T,\n", 200_000), nil, 3, "", RowSize},
		{"long row without end", header + good + strings.Repeat("S3CR3T,", 200_000), nil, 3, "", RowSize},
		{"long field", header + good + "a,1,2," + long + "\n", nil, 3, "city", FieldSize},

		{"text for int", header + "a,S3CR3T,2,x\n", nil, 2, "age", TypeInt},
		{"int read as float", header + "a,3.0,2,S3CR3T\n", nil, 2, "age", TypeInt},
		{"thousands", header + "a,\"1,234\",2,S3CR3T\n", nil, 2, "age", TypeInt},
		{"int too large", header + "a,9223372036854775808,2,S3CR3T\n", nil, 2, "age", TypeRange},
		{"full-width digits in an int", header + "a,１２,2,S3CR3T\n", nil, 2, "age", TypeInt},
		{"text for float", header + "a,1,S3CR3T,x\n", nil, 2, "income", TypeFloat},
		{"hexadecimal", header + "a,1,0x1p4,S3CR3T\n", nil, 2, "income", TypeFloat},
		{"underscores", header + "a,1,1_000,S3CR3T\n", nil, 2, "income", TypeFloat},
		{"NaN", header + "a,1,NaN,S3CR3T\n", nil, 2, "income", TypeFinite},
		{"Inf", header + "a,1,-Inf,S3CR3T\n", nil, 2, "income", TypeFinite},
		{"Infinity", header + "a,1,infinity,S3CR3T\n", nil, 2, "income", TypeFinite},
		{"float too large", header + "a,1,1e309,S3CR3T\n", nil, 2, "income", TypeRange},
		{"empty number where none is missing", header + "a,,2,S3CR3T\n", func(d *Dataset) { d.Missing = []string{} }, 2, "age", TypeInt},

		{"int key with leading zeros", header + "007,1,2,S3CR3T\n", func(d *Dataset) { d.Columns[0].Type = table.Int }, 2, "id", KeyForm},
		{"int key with a sign", header + "+7,1,2,S3CR3T\n", func(d *Dataset) { d.Columns[0].Type = table.Int }, 2, "id", KeyForm},
		{"int key minus nought", header + "-0,1,2,S3CR3T\n", func(d *Dataset) { d.Columns[0].Type = table.Int }, 2, "id", KeyForm},

		{"GBK in a text", header + good + "S3CR3T,1,2," + gb(t, "深圳") + "\n", nil, 3, "city", FileEncoding},
		{"GBK in a key", header + good + gb(t, "张") + "S3CR3T,1,2,x\n", nil, 3, "id", FileEncoding},
		{"GBK in a number", header + good + "S3CR3T," + gb(t, "三十") + ",2,x\n", nil, 3, "age", FileEncoding},
		{"GBK in the header", gb(t, "id,age,income,城市\nS3CR3T,1,2,x\n"), nil, 1, "", FileEncoding},
		{"UTF-8 read as GB 18030", header + good + "S3CR3T,1,2,x\xff\n", func(d *Dataset) { d.Encoding = "gb18030" }, 3, "city", FileEncoding},
		{"UTF-16", "\xff\xfei\x00d\x00", nil, 1, "", FileEncoding},
		{"NUL in a text", header + good + "S3CR3T,1,2,x\x00y\n", nil, 3, "city", FileNUL},
		{"NUL in a number", header + good + "S3CR3T,1\x00,2,x\n", nil, 3, "age", FileNUL},
		{"NUL in the header", "id\x00,age,income,city\n", nil, 1, "", FileNUL},
	} {
		d := people(write(t, c.content))
		if c.change != nil {
			c.change(&d)
		}
		src, err := Open(context.Background(), d)
		if inHeader := c.line == 1; inHeader != (err != nil) {
			t.Errorf("%s: Open gave %v", c.why, err)
			continue
		}
		if err == nil {
			_, err = read(t, src)
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		if e.File != d.Path || e.Line != c.line || e.Column != c.column || e.Rule != c.rule {
			t.Errorf("%s: line %d, column %q, rule %s; want %d, %q, %s", c.why, e.Line, e.Column, e.Rule, c.line, c.column, c.rule)
		}
		if ruleText[e.Rule] == "" || !strings.HasPrefix(err.Error(), "dataset: "+d.Path+" line ") {
			t.Errorf("%s: %v", c.why, err)
		}
		silent(t, c.why, d.Path, err, c.content)

		// A check files the same fault. Its source must be opened around the
		// header, as a node does that reports a dataset it cannot open.
		rep, err := checkFile(d, 20)
		if err != nil || len(rep.Faults) == 0 || rep.Faults[0].Error() != e.Error() {
			t.Errorf("%s: check gave %+v, %v", c.why, rep, err)
		}
		for _, f := range rep.Faults {
			silent(t, c.why, d.Path, f, c.content)
		}
	}
}

// silent fails if err shows a cell of the file. What is short or a name of the
// configuration can occur in any sentence.
func silent(t *testing.T, why, path string, err error, content string) {
	t.Helper()
	text := strings.ReplaceAll(err.Error(), path, "")
	if strings.Contains(text, secret) {
		t.Errorf("%s: the error shows a value", why)
	}
	_, rows, _ := strings.Cut(content, "\n")
	for _, cell := range strings.FieldsFunc(rows, func(r rune) bool { return strings.ContainsRune(",;\"\r\n", r) }) {
		if len(cell) > 3 && strings.Contains(text, cell) {
			t.Errorf("%s: the error shows a value: %q", why, cell)
		}
	}
}

func checkFile(d Dataset, max int) (Report, error) {
	f, err := newFile(d.Path)
	if err != nil {
		return Report{}, err
	}
	s := &csvSource{file: f, dataset: d, schema: d.Schema()}
	for i := range d.Columns {
		s.columns = append(s.columns, i)
	}
	return s.Check(context.Background(), table.RuleID, max)
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		why, rows string
		is        error
		line      int
		rule      Rule
		count     int
	}{
		{"duplicates", "S3CR3T,1,2,x\nb,1,2,\"x\ny\"\n s3cr3t ,1,2,x\nＳ３ＣＲ３Ｔ,1,2,x\n", table.ErrDuplicateKeys, 5, KeyDuplicate, 2},
		{"empty", "S3CR3T,1,2,x\n,1,2,x\n", table.ErrBlankKeys, 3, KeyBlank, 1},
		{"a stand-in", "S3CR3T,1,2,x\nNULL,1,2,x\nNA,1,2,x\n", table.ErrBlankKeys, 3, KeyBlank, 2},
		{"blank once normalised", "S3CR3T,1,2,x\nb,1,2,x\n\u3000,1,2,x\n", table.ErrBlankKeys, 4, KeyBlank, 1},
		{"too long", "S3CR3T,1,2,x\n" + strings.Repeat("S3CR3T", 1000) + ",1,2,x\n", table.ErrBadKeys, 3, KeyText, 1},
	} {
		d := people(write(t, header+c.rows))
		src, err := Open(context.Background(), d)
		if err != nil {
			t.Fatal(err)
		}
		_, err = table.Keys(context.Background(), src, table.RuleID)
		place := fmt.Sprintf("%d ", c.count)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), place) || !strings.Contains(err.Error(), fmt.Sprintf("%s line %d)", d.Path, c.line)) {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		silent(t, c.why, d.Path, err, c.rows)
		rep, err := src.Check(context.Background(), table.RuleID, 20)
		if err != nil || len(rep.Faults) != 1 {
			t.Errorf("%s: check gave %+v, %v", c.why, rep, err)
			continue
		}
		f := rep.Faults[0]
		if f.Line != c.line || f.Column != "id" || f.Rule != c.rule || f.Hint != fmt.Sprintf("the first of %d", c.count) {
			t.Errorf("%s: %v", c.why, f)
		}
	}
}

// A check names every fault of every kind, in order, up to its limit.
func TestCheckAll(t *testing.T) {
	rows := header + // line
		"a,1,2,x\n" + // 2
		"b,S3CR3T,inf,\x00\n" + // 3: three faults
		"\n" + // 4
		"c,1\n" + // 5
		"d,1,2,\"x\ny\"\n" + // 6, 7
		"e,\"1\"2,2,x\n" + // 8
		"f,1,2," + gb(t, "深圳") + "\n" // 9
	d := people(write(t, rows))
	want := []string{"3 age type.int", "3 income type.finite", "3 city file.nul", "4  row.blank", "5 income row.fields", "8 age row.quote", "9 city file.encoding"}
	for max := range len(want) + 2 {
		rep, err := checkFile(d, max)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range rep.Faults {
			got = append(got, fmt.Sprintf("%d %s %s", f.Line, f.Column, f.Rule))
			silent(t, "check", d.Path, f, rows)
		}
		w := want[:min(max, len(want))]
		if fmt.Sprint(got) != fmt.Sprint(w) || rep.More != (max < len(want)) {
			t.Errorf("limit %d: got %q, more %v", max, got, rep.More)
		}
		if !rep.More && rep.Rows != 6 {
			t.Errorf("%d rows", rep.Rows)
		}
	}
	// Header faults come first, and the rest of the file is judged all the same.
	d = people(write(t, "id,age,age,city\na,S3CR3T,1,x\na,1,1,x\n"))
	rep, err := checkFile(d, 20)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range rep.Faults {
		got = append(got, fmt.Sprintf("%d %s %s", f.Line, f.Column, f.Rule))
	}
	if fmt.Sprint(got) != "[1 age header.duplicate 1 income header.column 2 age type.int]" {
		t.Errorf("got %q", got)
	}
}

func TestFile(t *testing.T) {
	ctx := context.Background()
	rule := func(err error) Rule {
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("untyped error %v", err)
			return ""
		}
		return e.Rule
	}
	dir := t.TempDir()
	if _, err := Open(ctx, people(filepath.Join(dir, "none.csv"))); rule(err) != FileMissing || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := Open(ctx, people(dir)); rule(err) != FileKind {
		t.Errorf("folder: %v", err)
	}
	if _, err := Open(ctx, people("/dev/null")); rule(err) != FileKind {
		t.Errorf("device: %v", err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Open(done, people(dir)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}

	content := header + "a,1,2,x\nb,3,4,y\n"
	for _, c := range []struct {
		why    string
		change func(path string) error
		rule   Rule
	}{
		{"rows added", func(p string) error { return os.WriteFile(p, []byte(content+"c,1,2,z\n"), 0o600) }, FileChanged},
		{"same size, later", func(p string) error {
			if err := os.WriteFile(p, []byte(strings.Replace(content, "3", "5", 1)), 0o600); err != nil {
				return err
			}
			return os.Chtimes(p, time.Time{}, time.Now().Add(time.Hour))
		}, FileChanged},
		{"another file in its place", func(p string) error {
			info, err := os.Stat(p)
			if err != nil {
				return err
			}
			if err := os.WriteFile(p+".new", []byte(strings.Replace(content, "3", "5", 1)), 0o600); err != nil {
				return err
			}
			if err := os.Chtimes(p+".new", time.Time{}, info.ModTime()); err != nil {
				return err
			}
			return os.Rename(p+".new", p)
		}, FileChanged},
		{"removed", os.Remove, FileMissing},
		{"a folder in its place", func(p string) error {
			if err := os.Remove(p); err != nil {
				return err
			}
			return os.Mkdir(p, 0o700)
		}, FileKind},
	} {
		path := write(t, content)
		src, err := Open(ctx, people(path))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // re-readable while it stays
			if got, err := read(t, src); err != nil || got != content {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if err := c.change(path); err != nil {
			t.Fatal(err)
		}
		if _, err := read(t, src); rule(err) != c.rule {
			t.Errorf("%s: %v", c.why, err)
		}
		if rep, err := src.Check(ctx, table.RuleID, 5); err != nil || len(rep.Faults) != 1 || rep.Faults[0].Rule != c.rule {
			t.Errorf("%s: check gave %+v, %v", c.why, rep, err)
		}
		if _, err := src.Locate(ctx, 1); rule(err) != c.rule {
			t.Errorf("%s: locate gave %v", c.why, err)
		}
	}

	// A change while the file is being read is noticed at its end.
	path := write(t, content)
	src, err := Open(ctx, people(path))
	if err != nil {
		t.Fatal(err)
	}
	s := src.(*csvSource)
	r, _, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("c,1,2,z\n")
	f.Close()
	for err == nil {
		_, err = r.next()
	}
	if rule(err) != FileChanged {
		t.Errorf("changed while read: %v", err)
	}
}

func TestIn(t *testing.T) {
	path := write(t, header+"a,1,2,x\n")
	dir := filepath.Dir(path)
	if err := os.Symlink(path, filepath.Join(dir, "link.csv")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"people.csv", "link.csv", "../" + filepath.Base(dir) + "/people.csv", path} {
		if _, err := Open(context.Background(), people(p).In(dir)); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestProject(t *testing.T) {
	// Columns that are not read are not parsed.
	src, err := Open(context.Background(), people(write(t, header+"a,S3CR3T,2,x\nb,1,,y\n")))
	if err != nil {
		t.Fatal(err)
	}
	sel, err := table.Select(src, []string{"income", "id"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, sel); err != nil || got != "income,id\n2,a\n,b\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if sel, err = table.Select(sel, []string{"id"}); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, sel); err != nil || got != "id\na\nb\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := table.Select(sel, []string{"income"}); !errors.Is(err, table.ErrColumn) {
		t.Errorf("a column came back: %v", err)
	}
}

func TestValidate(t *testing.T) {
	bad := Dataset{Driver: "excel", Encoding: "GBK", Delimiter: "::", Columns: []Column{
		{Name: "a", Type: "text"}, {Name: "a", Type: "date"}, {Name: "", Type: "int"}, {Name: "k", Type: "float", Key: true},
	}}
	err := bad.Validate()
	for _, want := range []string{
		"name: is required", `driver: "excel" is unknown; there is csv`, "path: is required", "gb18030 holds this one", "delimiter: ",
		"columns[1].name: a is already columns[0]", `columns[1].type: "date" is unknown`, "columns[2].name: is required", "columns[3].type: a key is int or text",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if _, err := Open(context.Background(), bad); err == nil {
		t.Error("opened")
	}
	if err := people("x").Validate(); err != nil {
		t.Error(err)
	}
	if err := (Dataset{Name: "n", Driver: "csv", Path: "p"}).Validate(); err == nil {
		t.Error("no columns passed")
	}
	if err := (Dataset{Name: "n", Driver: "csv", Path: "p", Columns: make([]Column, maxColumns+1)}).Validate(); err == nil {
		t.Error("too many columns passed")
	}
}
