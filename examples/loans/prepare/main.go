// Command prepare splits the loans that the U.S. Small Business Administration
// guaranteed over three banks, as if each bank lent in one part of the country.
// The tables are not part of this repository; make them from the file that the
// README names:
//
//	go run ./examples/loans/prepare -in SBAnational.csv
//
// Columns are renamed and narrowed to what the example asks for; no value is
// made up.
package main

import (
	"encoding/csv"
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

func main() {
	in := flag.String("in", "SBAnational.csv", "the table of loans")
	out := flag.String("out", filepath.Join("examples", "loans", "data"), "folder for the three tables")
	flag.Parse()
	if err := run(*in, *out, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

type bank struct {
	name   string
	states []string // blank: all that no bank before it has
}

// banks are the three lenders, by the states they lend in.
var banks = []bank{
	{"west", strings.Fields("AK AZ CA CO HI ID MT NM NV OR UT WA WY")},
	{"north", strings.Fields("CT IA IL IN KS MA ME MI MN MO ND NE NH NJ NY OH PA RI SD VT WI")},
	{"south", nil},
}

// sectors are the industries, by the first two digits of their NAICS code.
var sectors = map[string]string{
	"11": "agriculture", "21": "mining", "22": "utilities", "23": "construction",
	"31": "manufacturing", "32": "manufacturing", "33": "manufacturing",
	"42": "wholesale", "44": "retail", "45": "retail", "48": "transport", "49": "transport",
	"51": "information", "52": "finance", "53": "real estate", "54": "professional", "55": "holdings",
	"56": "administrative", "61": "education", "62": "health", "71": "recreation",
	"72": "hotels and food", "81": "other services", "92": "public",
}

// run writes west.csv, north.csv and south.csv into the folder out, and tells
// report how many loans each has.
func run(in, out string, report io.Writer) error {
	f, err := os.Open(in)
	if err != nil {
		return fmt.Errorf("%w: examples/loans/README.md says where the table comes from", err)
	}
	defer f.Close()
	tables, err := split(f)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for i, b := range banks {
		if err := write(filepath.Join(out, b.name+".csv"), tables[i]); err != nil {
			return err
		}
		fmt.Fprintf(report, "%s.csv: %d loans\n", b.name, len(tables[i]))
	}
	return nil
}

var header = []string{"loan", "industry", "year", "amount", "jobs", "defaulted"}

// split returns the rows of each bank. Loans of which nobody knows how they
// ended are left out.
func split(r io.Reader) ([][][]string, error) {
	rows := csv.NewReader(r)
	names, err := rows.Read()
	if err != nil {
		return nil, err
	}
	at := make(map[string]int)
	for i, n := range names {
		at[n] = i
	}
	for _, n := range []string{"LoanNr_ChkDgt", "State", "NAICS", "ApprovalFY", "DisbursementGross", "NoEmp", "MIS_Status"} {
		if _, ok := at[n]; !ok {
			return nil, fmt.Errorf("no column %s", n)
		}
	}
	tables := make([][][]string, len(banks))
	for {
		rec, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return tables, nil
		}
		if err != nil {
			return nil, err
		}
		ended := map[string]string{"P I F": "0", "CHGOFF": "1"}[rec[at["MIS_Status"]]]
		if ended == "" {
			continue
		}
		sector := "unknown"
		if code := rec[at["NAICS"]]; len(code) >= 2 && sectors[code[:2]] != "" {
			sector = sectors[code[:2]]
		}
		row := []string{rec[at["LoanNr_ChkDgt"]], sector, rec[at["ApprovalFY"]], rec[at["DisbursementGross"]], rec[at["NoEmp"]], ended}
		for _, i := range []int{2, 3, 4} {
			if _, err := strconv.ParseInt(row[i], 10, 64); err != nil {
				line, _ := rows.FieldPos(0)
				return nil, fmt.Errorf("line %d: %s is not a whole number", line, header[i])
			}
		}
		i := slices.IndexFunc(banks, func(b bank) bool { return b.states == nil || slices.Contains(b.states, rec[at["State"]]) })
		tables[i] = append(tables[i], row)
	}
}

func write(path string, rows [][]string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := csv.NewWriter(f)
	return errors.Join(w.Write(header), w.WriteAll(rows), f.Close())
}
