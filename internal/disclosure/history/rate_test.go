package history

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/yinqiao/yinqiao/internal/disclosure"
	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
)

// How many cells of harmless requests are flagged, and how many are withheld in
// the end. A request is harmless if the sequence of them, were it made over the
// units of all parties by one party, would be flagged nowhere; then what a node
// flags it flags for knowing its own units only.

// provider is one party: its units' attributes.
type provider []row

// question is a request: by which attributes, over which units.
type question struct {
	by     []int
	where  func(row) bool // nil for all
	filter byte           // names where
}

// ask lays a question out over a party's rows, with all margins.
func ask(q question, rows []row, levels []int, id string) Release {
	r := Release{ID: id, Filter: [32]byte{q.filter}, Cells: 1, Dims: []Dim{}}
	for _, d := range q.by {
		r.Dims = append(r.Dims, Dim{Key: uint64(d), Size: levels[d]})
		r.Cells *= levels[d]
	}
	for _, x := range rows {
		if q.where != nil && !q.where(x) {
			continue
		}
		c := 0
		for _, d := range q.by {
			c = c*levels[d] + x.attr[d]
		}
		r.Members = append(r.Members, Member{Unit: x.unit, Cell: int32(c)})
	}
	for subset := range 1<<len(q.by) - 1 {
		var dims []Dim
		n := 1
		for i, d := range r.Dims {
			if subset>>i&1 == 1 {
				dims = append(dims, d)
				n *= d.Size
			}
		}
		groups := make([][]int32, n)
		for c, at := range project(r.Dims, r.Cells, dims) {
			groups[at] = append(groups[at], int32(c))
		}
		r.Groups = append(r.Groups, groups...)
	}
	return r
}

// tallies of a sequence of requests.
type tally struct {
	cells    int // with at least one unit, base and margins
	flagged  int // by one party or more
	small    int // withheld for having too few units or providers
	withheld int // in the end
	without  int // in the end, had no history been kept
	rounds   int // most, until nothing withheld followed
	failed   int // requests that took too many
}

// run asks one question after the other of all parties, withholds what they and
// the counts ask for and then what their histories find to follow, as a job does,
// and amends every history to that.
func run(t testing.TB, parties []provider, levels []int, questions []question, r rules.Set) tally {
	t.Helper()
	var sum tally
	r = r.InForce()
	past := make([][]Release, len(parties))
	for k, q := range questions {
		var counts []disclosure.Count
		var now []Release
		flags := make([]int, 0)
		for p, rows := range parties {
			rel := ask(q, rows, levels, fmt.Sprint(k))
			f, err := Compare(past[p], rel, r.MinUnits)
			if err != nil {
				t.Fatal(err)
			}
			l := label(&rel)
			if p == 0 {
				counts, flags = make([]disclosure.Count, rel.Queries()), make([]int, rel.Queries())
			}
			for c := range counts {
				counts[c].Units += l.count[c]
				if l.count[c] > 0 {
					counts[c].Providers++
				}
				if f[c] {
					flags[c]++
				}
			}
			now = append(now, rel)
		}
		// Every margin is the sum of its base cells: what Suppress is given here
		// says less than the lines of a table would, and the same for cells.
		var eqs []disclosure.Equation
		for g, cells := range now[0].Groups {
			e := disclosure.Equation{Total: now[0].Cells + g}
			for _, c := range cells {
				e.Parts = append(e.Parts, int(c))
			}
			eqs = append(eqs, e)
		}
		before, err := disclosure.Suppress(r, counts, eqs)
		if err != nil {
			t.Fatal(err)
		}
		small, _ := disclosure.Suppress(r, counts, nil)
		for c, n := range flags {
			counts[c].Flags = int64(n)
		}
		var mask []bool
		for n, more := 1, true; more; n++ {
			if n > 8 {
				sum.failed++
				break
			}
			sum.rounds = max(sum.rounds, n)
			if mask, err = disclosure.Suppress(r, counts, eqs); err != nil {
				t.Fatal(err)
			}
			more = false
			for p := range now {
				now[p].Shown = make([]bool, len(mask))
				for c := range mask {
					now[p].Shown[c] = !mask[c]
				}
				f, err := Compare(past[p], now[p], r.MinUnits)
				if err != nil {
					t.Fatal(err)
				}
				for c := range mask {
					if f[c] && !mask[c] {
						counts[c].Flags++
						more = true
					}
				}
			}
		}
		for c := range counts {
			if counts[c].Units == 0 {
				continue
			}
			sum.cells++
			for _, x := range []struct {
				n  *int
				is bool
			}{{&sum.flagged, flags[c] > 0}, {&sum.small, small[c]}, {&sum.withheld, mask[c]}, {&sum.without, before[c]}} {
				if x.is {
					*x.n++
				}
			}
		}
		for p := range now {
			past[p] = append(past[p], now[p])
		}
	}
	return sum
}

// check holds a tally to the most cells flagged and withheld, of all.
func (s tally) check(t *testing.T, name string, flagged, withheld float64) {
	t.Helper()
	for _, x := range []struct {
		what string
		n    int
		most float64
	}{{"flagged", s.flagged, flagged}, {"withheld", s.withheld, withheld}, {"requests given up", s.failed, 0}} {
		if rate := float64(x.n) / float64(s.cells); rate > x.most {
			t.Errorf("%s: %s: %.3f, want at most %.2f", name, x.what, rate, x.most)
		}
	}
}

func (s tally) String() string {
	pc := func(n int) float64 { return 100 * float64(n) / float64(s.cells) }
	return fmt.Sprintf("%d cells: %.1f%% flagged, %.1f%% small, %.1f%% withheld, %.1f%% without history, %d rounds, %d failed", s.cells, pc(s.flagged), pc(s.small), pc(s.withheld), pc(s.without), s.rounds, s.failed)
}

// split deals rows to parties by a hash of the unit.
func split(rows []row, n int) []provider {
	parties := make([]provider, n)
	for _, r := range rows {
		p := int(r.unit % uint64(n))
		parties[p] = append(parties[p], r)
	}
	return parties
}

// Drill-downs over synthetic data are hardly ever held up.
func TestFalseBlockRateSynthetic(t *testing.T) {
	// Most flags that a request over all rows can get come from other filters.
	for _, c := range []struct {
		name    string
		filters bool
		most    float64 // of cells flagged
		hidden  float64 // of cells withheld in the end
	}{
		{"drill-downs over the same rows", false, 0.01, 0.04},
		{"drill-downs with filters", true, 0.06, 0.10},
	} {
		var sum tally
		for seed := range uint64(12) {
			rng := rand.New(rand.NewPCG(seed, 21))
			levels := []int{8, 6, 3}
			rows := people(rng, 3000, [3]int{8, 6, 3})
			var questions []question
			for range 6 {
				q := question{}
				for d := range 3 {
					if rng.IntN(2) == 0 {
						q.by = append(q.by, d)
					}
				}
				if c.filters && rng.IntN(2) == 0 {
					d := rng.IntN(3)
					v := rng.IntN(levels[d])
					q.where, q.filter = func(r row) bool { return r.attr[d] == v }, byte(1+8*d+v)
					q.by = slices.DeleteFunc(q.by, func(x int) bool { return x == d })
				}
				questions = append(questions, q)
			}
			s := run(t, split(rows, 3), levels, questions, rules.Set{})
			sum.cells += s.cells
			sum.flagged += s.flagged
			sum.small += s.small
			sum.withheld += s.withheld
			sum.without += s.without
			sum.rounds = max(sum.rounds, s.rounds)
			sum.failed += s.failed
		}
		t.Logf("%s: %v", c.name, sum)
		sum.check(t, c.name, c.most, c.hidden)
	}
}

// loans reads the loans with a known outcome: industry (the first two digits of
// the code), year of approval and whether the loan was charged off.
func loans(t testing.TB) (parties []provider, levels []int) {
	t.Helper()
	dir := os.Getenv("YINQIAO_DATA")
	if dir == "" {
		for up := "."; ; up = filepath.Join(up, "..") {
			if _, err := os.Stat(filepath.Join(up, "go.mod")); err == nil {
				dir = filepath.Join(up, "..", "shared", "data")
				break
			}
			if a, _ := filepath.Abs(up); a == string(filepath.Separator) {
				break
			}
		}
	}
	f, err := os.Open(filepath.Join(dir, "sba_loans", "SBAnational.csv"))
	if err != nil {
		t.Skip("no data sets beside the checkout; YINQIAO_DATA may name their folder")
	}
	defer f.Close()
	recs, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[string]int)
	for i, name := range recs[0] {
		at[name] = i
	}
	parties = make([]provider, 3)
	industries := make(map[string]int)
	years := make(map[string]int)
	number := func(m map[string]int, s string) int {
		if _, ok := m[s]; !ok {
			m[s] = len(m)
		}
		return m[s]
	}
	states := make(map[string]int)
	for _, rec := range recs[1:] {
		status := rec[at["MIS_Status"]]
		if status != "P I F" && status != "CHGOFF" || len(rec[at["NAICS"]]) < 2 {
			continue
		}
		if y, _ := strconv.Atoi(rec[at["ApprovalFY"]]); y < 1997 || y > 2006 {
			continue
		}
		h := fnv.New64a()
		_, _ = h.Write([]byte(rec[at["LoanNr_ChkDgt"]]))
		r := row{unit: h.Sum64() * 0x9e3779b97f4a7c15, value: 1}
		r.attr[0] = number(industries, rec[at["NAICS"]][:2])
		r.attr[1] = number(years, rec[at["ApprovalFY"]])
		if status == "CHGOFF" {
			r.attr[2] = 1
		}
		p := number(states, rec[at["State"]]) % 3
		parties[p] = append(parties[p], r)
	}
	for p := range parties {
		slices.SortFunc(parties[p], func(a, b row) int { return cmp.Compare(a.unit, b.unit) })
	}
	return parties, []int{len(industries), len(years), 2}
}

// Loans of three banks by industry, by year and by both, then again for the
// loans that were charged off alone.
func TestFalseBlockRateLoans(t *testing.T) {
	parties, levels := loans(t)
	bad := func(r row) bool { return r.attr[2] == 1 }
	for _, c := range []struct {
		name      string
		questions []question
		most      float64
		hidden    float64
	}{
		{"industry, year, both", []question{{by: []int{0}}, {by: []int{1}}, {by: []int{0, 1}}}, 0.05, 0.88},
		{"industry, year, both, all again", []question{{by: []int{0}}, {by: []int{1}}, {by: []int{0, 1}}, {by: []int{0}}, {by: []int{1}}, {by: []int{0, 1}}}, 0.05, 0.89},
		{"industry, year, both, of charged off loans too", []question{{by: []int{0}}, {by: []int{1}}, {by: []int{0, 1}}, {by: []int{0}, where: bad, filter: 1}, {by: []int{1}, where: bad, filter: 1}}, 0.08, 0.83},
		{"both, industry, year", []question{{by: []int{0, 1}}, {by: []int{0}}, {by: []int{1}}}, 0.06, 0.54},
	} {
		s := run(t, parties, levels, c.questions, rules.Set{})
		t.Logf("%s: %v", c.name, s)
		s.check(t, c.name, c.most, c.hidden)
	}
}
