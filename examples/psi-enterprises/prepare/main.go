// Command prepare makes the two tables of the enterprise example. The files it
// writes are committed: run it only to check how they came about, from the
// repository's root.
//
//	go run ./examples/psi-enterprises/prepare
//
// Every value is made up. The credit codes have the form and both check
// characters that the standards ask for, in the division 990000, which belongs to
// no place: no enterprise has one of them. All draws follow from SHA-256, so that
// every run gives the same bytes.
package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/csv"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	enterprises  = 600 // that there are
	unregistered = 30  // that the registry does not have, the last ones
	notClients   = 380 // without a loan, the first ones
)

func main() {
	out := flag.String("out", filepath.Join("examples", "psi-enterprises", "data"), "`folder` for loans.csv and registry.csv")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	for name, rows := range map[string][][]string{"loans.csv": loans(), "registry.csv": registry()} {
		var b strings.Builder
		if err := csv.NewWriter(&b).WriteAll(rows); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, name), []byte(b.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// draw is a number below n that follows from what it is for.
func draw(n int, what string, i ...int) int {
	h := sha256.Sum256(fmt.Append([]byte(what), i))
	return int(binary.BigEndian.Uint32(h[:]) % uint32(n))
}

// loans are the bank's: an enterprise has one to four. Some codes were typed in
// lower case.
func loans() [][]string {
	var rows [][]string
	for e := notClients; e < enterprises; e++ {
		for k := range 1 + max(0, draw(7, "loans", e)-3) {
			uscc := code(e)
			if draw(9, "lower case", e, k) == 0 {
				uscc = strings.ToLower(uscc)
			}
			month := draw(60, "month", e, k) // from January 2020 on
			rows = append(rows, []string{
				uscc,
				strconv.Itoa(10_000 * (5 + draw(400, "amount", e, k))),
				fmt.Sprintf("%d-%02d", 2020+month/12, 1+month%12),
				strconv.Itoa(max(0, draw(300, "overdue", e, k)-240)),
			})
		}
	}
	shuffle(rows, "loans")
	for i := range rows {
		rows[i] = slices.Insert(rows[i], 1, fmt.Sprintf("L%05d", 20_000+7*i))
	}
	return slices.Insert(rows, 0, []string{"uscc", "loan", "amount", "granted", "days_overdue"})
}

// registry is the department's: one row an enterprise.
func registry() [][]string {
	kinds := []string{"limited company", "joint-stock company", "sole proprietorship", "partnership"}
	states := []string{"active", "active", "active", "active", "active", "active", "listed as abnormal", "being wound up", "deregistered"}
	var rows [][]string
	for e := range enterprises - unregistered {
		rows = append(rows, []string{
			code(e), kinds[draw(len(kinds), "kind", e)], strconv.Itoa(1995 + draw(29, "year", e)),
			strconv.Itoa(10 * (1 + draw(500, "capital", e))), states[draw(len(states), "state", e)],
		})
	}
	shuffle(rows, "registry")
	return slices.Insert(rows, 0, []string{"uscc", "kind", "founded", "capital_10k", "state"})
}

func shuffle(rows [][]string, what string) {
	type placed struct {
		at  int
		row []string
	}
	order := make([]placed, len(rows))
	for i, r := range rows {
		order[i] = placed{draw(1<<31, "order of "+what, i), r}
	}
	slices.SortFunc(order, func(a, b placed) int { return cmp.Compare(a.at, b.at) })
	for i, p := range order {
		rows[i] = p.row
	}
}

// The characters of a credit code, each at its value (GB 32100-2015, table 2),
// and those of an organisation code (GB 11714-1997).
const (
	creditChars       = "0123456789ABCDEFGHJKLMNPQRTUWXY"
	organisationChars = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// code is the unified social credit code of enterprise e: registered by the
// market regulator (9) as an enterprise (1), the division, an organisation code
// of eight characters with its check character, and a check character.
func code(e int) string {
	organisation := "MA"
	for k := range 6 {
		organisation += creditChars[draw(len(creditChars), "organisation", e, k):][:1]
	}
	body := "91" + "990000" + organisation + organisationCheck(organisation)
	return body + creditCheck(body)
}

// organisationCheck is the ninth character of an organisation code: 11 less the
// weighted sum modulo 11, with X for 10.
func organisationCheck(b string) string {
	sum := 0
	for i, w := range []int{3, 7, 9, 10, 5, 8, 4, 2} {
		sum += w * strings.IndexByte(organisationChars, b[i])
	}
	return "0123456789X"[(11-sum%11)%11:][:1]
}

// creditCheck is the last character of a credit code: what makes the sum of all
// values, weighted by the powers of 3 modulo 31, a multiple of 31.
func creditCheck(b string) string {
	sum, weight := 0, 1
	for i := range len(b) {
		sum += weight * strings.IndexByte(creditChars, b[i])
		weight = weight * 3 % 31
	}
	return creditChars[(31-sum%31)%31:][:1]
}
