package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	const table = "LoanNr_ChkDgt,State,NAICS,ApprovalFY,DisbursementGross,NoEmp,MIS_Status\n" +
		"1,CA,722410,2005,100,2,P I F\n2,OH,0,1997,200,3,CHGOFF\n3,TX,451120,2004,300,4,P I F\n4,TX,451120,2004,300,4,\n"
	got, err := split(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"1 hotels and food 2005 100 2 0", "2 unknown 1997 200 3 1", "3 retail 2004 300 4 0"} {
		if len(got[i]) != 1 || strings.Join(got[i][0], " ") != want {
			t.Errorf("%s has %q, want one loan %q", banks[i].name, got[i], want)
		}
	}
	if _, err := split(strings.NewReader(strings.Replace(table, ",200,", ",2.5,", 1))); err == nil || !strings.Contains(err.Error(), "line 3: amount") {
		t.Errorf("an amount of 2.5 gives %v", err)
	}
	if _, err := split(strings.NewReader("a,b\n")); err == nil {
		t.Error("a table without the columns was taken")
	}
}

// The real table gives the number of loans that the README states.
func TestRealTable(t *testing.T) {
	dir := os.Getenv("YINQIAO_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared", "data")
	}
	in := filepath.Join(dir, "sba_loans", "SBAnational.csv")
	if _, err := os.Stat(in); err != nil {
		t.Skipf("no table of loans at %s", in)
	}
	f, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := split(f)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{6148, 8796, 7364} {
		if len(got[i]) != want {
			t.Errorf("%s has %d loans, want %d", banks[i].name, len(got[i]), want)
		}
	}
}
