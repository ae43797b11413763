package psi_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/table"
)

// joined is a row of a join: which row of the left, and which of the right; -1
// where there is none.
type joined struct{ left, right int64 }

// sqlJoin is what "left <join> JOIN right USING (id)" gives, sorted, and how
// many different keys both have. A difference is the rows of a full join that
// lack one side.
func sqlJoin(join string, left, right []string) (rows []joined, common int64) {
	matches := make(map[string][]int64)
	for j, key := range right {
		matches[key] = append(matches[key], int64(j))
	}
	held := make(map[string]bool)
	inner, appendLeft, appendRight := join != "difference", join != "inner" && join != "right", join != "inner" && join != "left"
	for i, key := range left {
		if inner {
			for _, j := range matches[key] {
				rows = append(rows, joined{int64(i), j})
			}
		}
		switch n := len(matches[key]); {
		case n == 0 && appendLeft:
			rows = append(rows, joined{int64(i), -1})
		case n > 0 && !held[key]:
			common++
		}
		held[key] = true
	}
	for j, key := range right {
		if !held[key] && appendRight {
			rows = append(rows, joined{-1, int64(j)})
		}
	}
	return sortJoined(rows), common
}

func sortJoined(rows []joined) []joined {
	slices.SortFunc(rows, func(a, b joined) int {
		return cmp.Or(cmp.Compare(a.left, b.left), cmp.Compare(a.right, b.right))
	})
	return rows
}

// repeated draws n keys of which some come often.
func repeated(r *rand.Rand, n, domain int) (keys []string) {
	for i := range n {
		k := r.IntN(domain)
		if i%100 == 0 {
			k %= 10 // a hundredth of the rows have ten keys
		}
		keys = append(keys, fmt.Sprintf("K%05d", k))
	}
	return keys
}

// different draws n keys that are all different.
func different(r *rand.Rand, n, domain int) (keys []string) {
	for _, k := range r.Perm(domain)[:n] {
		keys = append(keys, fmt.Sprintf("K%05d", k))
	}
	return keys
}

// The kinds that can join do so as SQL does, with duplicate keys and without, whichever
// party is on the left, in one session and in several.
func TestJoins(t *testing.T) {
	const n = 10_000
	r := rand.New(rand.NewPCG(17, 18))
	same := [2][]string{different(r, n, n*5/4), different(r, n-1000, n*5/4)}
	many := [2][]string{repeated(r, n, n/2), repeated(r, n-1000, n/2)}
	for _, k := range joining() {
		for i, join := range []string{"inner", "left", "right", "full", "difference"} {
			for _, c := range []struct {
				name  string
				keys  [2][]string
				dup   string
				parts int64
				turn  bool // the receiver is on the left
			}{
				{"duplicates", many, "join", 0, false},
				{"duplicates in partitions", many, "join", 4096, true},
				{"no duplicates", same, "refuse", 0, true},
				{"no duplicates, which may be", same, "join", 4096, false},
			} {
				if k.Name != "psi.rr22.v1" && c.turn == (i%2 == 0) && !large {
					continue // half of the cases
				}
				t.Run(k.Name+"/"+join+"/"+c.name, func(t *testing.T) {
					ps := params{"join": join, "duplicates": c.dup, "partition_rows": c.parts}
					checkJoin(t, k, ps, c.keys, c.turn)
				})
			}
		}
	}
}

// checkJoin runs a join of p0's keys with p1's and holds it to SQL's.
func checkJoin(t *testing.T, k kind, ps params, keys [2][]string, turn bool) {
	t.Helper()
	sources := opened(t, idFile(keys[0]...), idFile(keys[1]...))
	tr := k.trial(ps, sources...)
	left, right := 0, 1
	if turn {
		// The contract names p1 first. The sender is p0 as before.
		slices.Reverse(tr.spec.Parties)
		left, right = 1, 0
	}
	want, common := sqlJoin(ps["join"].(string), keys[left], keys[right])
	results := tr.good(t)
	var values [2][]int64
	for i, res := range results {
		if res.Counts[job.CountCommon] != common || res.Counts[align.CountJoined] != int64(len(want)) || res.Rows != int64(len(keys[i])) {
			t.Errorf("p%d: counts %v of %d rows, want %d common and %d in the result", i, res.Counts, res.Rows, common, len(want))
		}
		src := res.Tables["intersection"]
		values[i] = intsOf(t, src, valueName)
		spelt := textsOrNone(t, src, keyName(0))
		for j, row := range values[i] {
			if row < 0 != (spelt[j] == "") || row >= 0 && spelt[j] != keys[i][row] {
				t.Fatalf("p%d: row %d of the result is not one of its rows, and not missing", i, j)
			}
		}
	}
	if len(values[0]) != len(values[1]) {
		t.Fatalf("tables of %d and %d rows", len(values[0]), len(values[1]))
	}
	var got []joined
	for j := range values[0] {
		got = append(got, joined{values[left][j], values[right][j]})
	}
	if sortJoined(got); !slices.Equal(got, want) {
		t.Errorf("a result of %d rows is not the one of %d in the clear", len(got), len(want))
	}
}

// The receiver alone: the rows of its table that have a partner, or that have
// none, and the sender learns nothing of them.
func TestJoinsForTheReceiverAlone(t *testing.T) {
	const n = 10_000
	r := rand.New(rand.NewPCG(19, 20))
	same := [2][]string{different(r, n, n*5/4), different(r, n, n*5/4)}
	many := [2][]string{repeated(r, n, n/2), repeated(r, n, n/2)}
	for _, k := range joining() {
		for _, c := range []struct {
			join, dup string
			keys      [2][]string
			parts     int64
		}{
			{"inner", "refuse", same, 4096},
			{"difference", "refuse", same, 0},
			{"difference", "join", many, 4096},
		} {
			t.Run(k.Name+"/"+c.join+"/"+c.dup, func(t *testing.T) {
				ps := params{"join": c.join, "duplicates": c.dup, "partition_rows": c.parts, "output": "receiver"}
				results := k.trial(ps, opened(t, idFile(c.keys[0]...), idFile(c.keys[1]...))...).good(t)
				if len(results[0].Tables)+len(results[0].Values)+len(results[0].Counts) > 0 || results[0].Rows != n {
					t.Errorf("the sender holds %q of %d rows", results[0].Fields(), results[0].Rows)
				}
				held := make(map[string]bool)
				for _, key := range c.keys[0] {
					held[key] = true
				}
				var want []int64
				for row, key := range c.keys[1] {
					if held[key] == (c.join == "inner") {
						want = append(want, int64(row))
					}
				}
				got := intsOf(t, results[1].Tables["intersection"], valueName)
				if slices.Sort(got); !slices.Equal(got, want) {
					t.Errorf("the receiver has %d rows, want %d", len(got), len(want))
				}
			})
		}
	}
}

// Names of companies come more than once in a real list: joined with itself it
// gives what SQL gives, and a kind that was not asked to join refuses it.
func TestRealDuplicates(t *testing.T) {
	loans := column(t, "sba_loans/SBAnational.csv", "Name")
	for _, k := range joining() {
		t.Run(k.Name, func(t *testing.T) {
			names := loans
			if k.curve {
				names = loans[:4000]
			}
			n := len(names)
			keys := [2][]string{names[:n*2/3], names[n/3:]}
			left, right := make([]string, len(keys[0])), make([]string, len(keys[1]))
			for i, own := range [][]string{left, right} {
				for j, key := range keys[i] {
					b, err := table.RuleCompanyName.Append(nil, key)
					must(t, err)
					own[j] = string(b)
				}
			}
			want, common := sqlJoin("full", left, right)
			files := [2]file{idFile(keys[0]...), idFile(keys[1]...)}
			files[0].missing, files[1].missing = []string{}, []string{}
			ps := params{"join": "full", "duplicates": "join", "key_rule": table.RuleCompanyName}
			results := k.trial(ps, opened(t, files[:]...)...).good(t)
			var values [2][]int64
			for i, res := range results {
				if res.Counts[job.CountCommon] != common || res.Counts[align.CountJoined] != int64(len(want)) {
					t.Errorf("p%d: counts %v, want %d and %d", i, res.Counts, common, len(want))
				}
				values[i] = intsOf(t, res.Tables["intersection"], valueName)
			}
			var got []joined
			for j := range values[0] {
				got = append(got, joined{values[0][j], values[1][j]})
			}
			if sortJoined(got); !slices.Equal(got, want) {
				t.Errorf("a result of %d rows is not the one of %d in the clear", len(got), len(want))
			}
			if int64(len(want)) <= int64(len(left)+len(right))-common {
				t.Error("the list has no duplicates, so this test tells nothing")
			}
		})
	}
}
