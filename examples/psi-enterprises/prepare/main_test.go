package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Codes that are published keep their check characters.
func TestCheckCharacters(t *testing.T) {
	for _, c := range []string{"91330100799655058B", "914403001922038216", "9144030071526726XG"} {
		if got := organisationCheck(c[8:16]); got != c[16:17] {
			t.Errorf("%s: organisation code ends with %s", c, got)
		}
		if got := creditCheck(c[:17]); got != c[17:] {
			t.Errorf("%s ends with %s", c, got)
		}
	}
}

// The committed files are what this program writes.
func TestFilesAreTheProgramsOwn(t *testing.T) {
	dir := t.TempDir()
	if err := run(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"loans.csv", "registry.csv"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join("../data", name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs: %v", name, err)
		}
	}
}

// The numbers that the README gives.
func TestNumbers(t *testing.T) {
	perEnterprise := map[string]int{}
	for _, r := range loans()[1:] {
		perEnterprise[strings.ToUpper(r[0])]++
	}
	registered := map[string]bool{}
	for _, r := range registry()[1:] {
		registered[r[0]] = true
	}
	rows, several, common, alone := 0, 0, 0, 0
	for c, n := range perEnterprise {
		rows += n
		if n > 1 {
			several++
		}
		if registered[c] {
			common++
		} else {
			alone += n
		}
	}
	got := []int{rows, len(perEnterprise), several, len(registered), common, alone}
	want := []int{415, 220, 95, 570, 190, 59}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("loans, borrowers, with several, registered, common, loans without a partner: %v, want %v", got, want)
		}
	}
}
