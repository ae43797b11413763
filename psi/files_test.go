package psi_test

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/yinqiao/yinqiao/node/dataset"
	"github.com/yinqiao/yinqiao/table"
)

// dataDir finds the data sets that lie beside the checkout.
func dataDir(t testing.TB) string {
	t.Helper()
	d := os.Getenv("YINQIAO_DATA")
	if d == "" {
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				d = filepath.Join(dir, "..", "shared", "data")
				break
			}
		}
	}
	if _, err := os.Stat(d); err != nil {
		t.Skip("no data sets beside the checkout; YINQIAO_DATA may name their folder")
	}
	return d
}

// column reads a column of one of the data sets, rows without it left out.
func column(t testing.TB, file, name string) (xs []string) {
	t.Helper()
	f, err := os.Open(filepath.Join(dataDir(t), filepath.FromSlash(file)))
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = -1 // one list ends with a line about itself
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for i, head := range rows[0] {
		if head == name {
			at = i
		}
	}
	if at < 0 {
		t.Fatalf("%s has no column %s", file, name)
	}
	for _, row := range rows[1:] {
		if len(row) == len(rows[0]) && strings.TrimSpace(row[at]) != "" {
			xs = append(xs, row[at])
		}
	}
	return xs
}

// file is a CSV file of identifiers as a party may have it. Its rows are
// numbered in a column of their own.
type file struct {
	keys    [][]string // of each row, one for each key column
	typ     table.Type // of key columns; text by default
	bom     bool
	crlf    bool
	gb18030 bool
	missing []string // nil is the dataset's default
}

// idFile is a file of one key column.
func idFile(keys ...string) file {
	f := file{}
	for _, k := range keys {
		f.keys = append(f.keys, []string{k})
	}
	return f
}

func keyName(i int) string { return "id" + strings.Repeat("_", i) }

// open writes f and opens it as a node would.
func (f file) open(t testing.TB) table.Source {
	t.Helper()
	columns := 1
	if len(f.keys) > 0 {
		columns = len(f.keys[0])
	}
	if f.typ == "" {
		f.typ = table.Text
	}
	d := dataset.Dataset{Name: "case", Driver: "csv", Path: filepath.Join(t.TempDir(), "case.csv"), Missing: f.missing}
	head := []string{valueName}
	d.Columns = []dataset.Column{{Name: valueName, Type: table.Int}}
	for i := range columns {
		head = append(head, keyName(i))
		d.Columns = append(d.Columns, dataset.Column{Name: keyName(i), Type: f.typ, Key: true})
	}
	var text strings.Builder
	if f.bom {
		text.WriteString("\ufeff")
	}
	w := csv.NewWriter(&text)
	w.UseCRLF = f.crlf
	must(t, w.Write(head))
	for row, keys := range f.keys {
		must(t, w.Write(append([]string{strconv.Itoa(row)}, keys...)))
	}
	w.Flush()
	must(t, w.Error())
	content := text.String()
	if f.gb18030 {
		d.Encoding = "gb18030"
		var err error
		content, err = simplifiedchinese.GB18030.NewEncoder().String(content)
		must(t, err)
	}
	must(t, os.WriteFile(d.Path, []byte(content), 0o600))
	src, err := dataset.Open(t.Context(), d)
	must(t, err)
	return src
}

// opened opens all files.
func opened(t testing.TB, files ...file) (sources []table.Source) {
	t.Helper()
	for _, f := range files {
		sources = append(sources, f.open(t))
	}
	return sources
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
