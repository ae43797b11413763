package main

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func readCSV(t *testing.T, path string) (map[string]int, [][]string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, name := range rows[0] {
		at[name] = i
	}
	return at, rows[1:]
}

func column(rows [][]string, i int) map[string]bool {
	ids := map[string]bool{}
	for _, r := range rows {
		ids[r[i]] = true
	}
	return ids
}

// The committed files are what the README says of them.
func TestData(t *testing.T) {
	readme, err := os.ReadFile("../data/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, columns := range map[string][]string{"bank.csv": bank, "gov.csv": gov} {
		data, err := os.ReadFile(filepath.Join("../data", name))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		if !strings.Contains(string(readme), hex.EncodeToString(sum[:])) {
			t.Errorf("the README states another SHA-256 for %s", name)
		}
		first, _, _ := strings.Cut(string(data), "\n")
		if want := "id," + strings.Join(columns, ","); first != want {
			t.Errorf("%s has columns %s, want %s", name, first, want)
		}
	}
	_, b := readCSV(t, "../data/bank.csv")
	_, g := readCSV(t, "../data/gov.csv")
	atBank, atGov := column(b, 0), column(g, 0)
	common, train := 0, 0
	for id := range atBank {
		if atGov[id] {
			common++
			if n, err := strconv.Atoi(id); err != nil {
				t.Fatal(err)
			} else if n%10 < 7 {
				train++
			}
		}
	}
	if len(b) != 28_200 || len(g) != 27_600 || len(atBank) != len(b) || len(atGov) != len(g) || common != 25_800 || train != 18_107 {
		t.Errorf("bank %d (%d distinct), gov %d (%d distinct), common %d, train %d", len(b), len(atBank), len(g), len(atGov), common, train)
	}
}

// Another copy of the source agrees in every value.
func TestDataAgreesWithSource(t *testing.T) {
	dir := os.Getenv("YINQIAO_DATA")
	if dir == "" {
		dir = "../../../../shared/data"
	}
	path := filepath.Join(dir, "default_credit", "UCI_Credit_Card.csv")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no copy of the source to compare with: %v", err)
	}
	at, rows := readCSV(t, path)
	byID := map[string][]string{}
	for _, r := range rows {
		byID[r[at["ID"]]] = r
	}
	names := map[string]string{"id": "ID", "default_next_month": "default.payment.next.month"}
	for _, name := range []string{"bank.csv", "gov.csv"} {
		cols, rows := readCSV(t, filepath.Join("../data", name))
		for c, i := range cols {
			source := c
			if n, ok := names[c]; ok {
				source = n
			}
			j, ok := at[source]
			if !ok {
				t.Fatalf("%s: the source has no %s", name, source)
			}
			differ := 0
			for _, r := range rows {
				a, _ := strconv.ParseFloat(r[i], 64)
				b, err := strconv.ParseFloat(byID[r[0]][j], 64)
				if err != nil || a != b {
					differ++
				}
			}
			if differ > 0 {
				t.Errorf("%s: column %s differs in %d rows", name, c, differ)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, in := range []string{"ID\n1\n", "ID\nx\n"} {
		if _, err := parse(strings.NewReader(in)); err == nil {
			t.Errorf("%q parsed", in)
		}
	}
}
