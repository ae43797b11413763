package aggregate

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// lines returns the released table of the recipient, without its heading.
func lines(t *testing.T, w *world) [][]string {
	t.Helper()
	results, errs := w.run(t)
	noErrors(t, errs)
	return csvOf(t, results["bureau"].Tables[fieldStatistics])[1:]
}

func ask(w *world, form string) {
	w.spec.Params = json.RawMessage(`{"entity": "unit", "max_rows": 1000, ` + form + `}`)
}

// even gives each of three parties n loans of each industry and year, of
// amounts below 100.
func even(w *world, n int) {
	for i, id := range w.ids()[:len(w.ids())-1] {
		var rows []loan
		for _, ind := range industries {
			for year := int64(2004); year <= 2006; year++ {
				for k := range n {
					rows = append(rows, loan{unit: int64(i*10000 + len(rows)), industry: ind, year: year, amount: int64(k % 100)})
				}
			}
		}
		w.rows[id] = rows
	}
}

const byIndustry = `"group_by": [{"column": "industry", "domain": ["retail", "mining", "health", "transport"]}]`

// A mean of values that nearly all rows miss is the value of the one that has
// it, however many units the cell has.
func TestMeasureOfOneUnitIsWithheld(t *testing.T) {
	for _, margins := range []bool{false, true} {
		w := newWorld(MaskedDefinition(), 3, "")
		even(w, 20)
		for _, rows := range w.rows {
			for i := range rows {
				rows[i].blank = rows[i].industry == "retail" || rows[i].industry == "mining"
			}
		}
		target := &w.rows["p1"][0]
		target.blank, target.amount = false, 77
		ask(w, fmt.Sprintf(`"missing": "skip", %s, "margins": %t, "measures": [{"name": "m", "of": "sum", "column": "amount", "range": [0, 100]}]`, byIndustry, margins))
		var total, shown float64
		withheld := 0
		for _, l := range lines(t, w) {
			if l[3] == stats.Suppressed {
				withheld++
				continue
			}
			var x float64
			if _, err := fmt.Sscan(l[1], &x); err != nil {
				t.Fatal(err)
			}
			if l[0] == stats.All {
				total = x
			} else {
				shown += x
			}
			if l[0] == target.industry {
				t.Errorf("margins %t: %s is shown, of which one unit has a value: %v", margins, l[0], l)
			}
		}
		if total-shown == 77 {
			t.Errorf("the total less what is shown is the one unit's value")
		}
		if withheld == 0 || withheld == 4 && !margins {
			t.Errorf("margins %t: %d cells are withheld", margins, withheld)
		}
	}
}

// The same of two sums over different rows: their difference is what the one
// unit has that is in the first alone.
func TestSumsOverNearlyTheSameRowsAreWithheld(t *testing.T) {
	w := newWorld(MaskedDefinition(), 3, "")
	even(w, 20)
	w.rows["p1"][0].blank = true
	ask(w, `"missing": "skip", `+byIndustry+`, "measures": [{"of": "sum", "column": "bad", "range": [0, 1]}, {"of": "covariance", "columns": ["bad", "amount"], "range": [0, 1, 0, 100]}]`)
	for _, l := range lines(t, w) {
		if got, want := l[len(l)-1] == stats.Suppressed, l[0] == "retail"; got != want {
			t.Errorf("%s is withheld: %t, want %t", l[0], got, want)
		}
	}
}

// A bin is a cell of its own: a histogram is no way round the fewest units.
func TestBinOfOneUnitIsWithheld(t *testing.T) {
	for _, measure := range []string{
		`{"of": "histogram", "column": "amount", "bins": [0, 100, 200]}`,
		`{"of": "max", "column": "amount", "bins": [0, 100, 200]}`,
		// Bins that differ by one unit.
		`{"of": "histogram", "column": "amount", "bins": [0, 10, 200]}, {"of": "max", "column": "amount", "bins": [0, 10, 100, 200]}`,
	} {
		w := newWorld(MaskedDefinition(), 3, "")
		even(w, 20)
		w.rows["p1"][0].amount = 150
		ask(w, byIndustry+`, "measures": [`+measure+`]`)
		for _, l := range lines(t, w) {
			if got, want := l[len(l)-1] == stats.Suppressed, l[0] == "retail"; got != want {
				t.Errorf("%s: %s is withheld: %t, want %t", measure, l[0], got, want)
			}
		}
	}
}

// Two tables over the rows of all but one party and over those of all differ by
// what this one has, in every cell. The others know, and withhold it.
func TestOnePartyMoreIsFound(t *testing.T) {
	w := newWorld(MaskedDefinition(), 4, `, "threshold": 3`)
	w.gone = "p3"
	first, errs := w.run(t)
	for _, id := range []session.PartyID{"p0", "p1", "p2", "bureau"} {
		if errs[id] != nil {
			t.Fatalf("%s: %v", id, errs[id])
		}
	}
	if n := first["bureau"].Counts[fieldSuppressed]; n == 20 {
		t.Fatal("the first table shows nothing")
	}
	again, errs := w.run(t) // the same three
	if n := again["bureau"].Counts[fieldSuppressed]; n != first["bureau"].Counts[fieldSuppressed] {
		t.Errorf("the same parties once more: %d cells are withheld; %v", n, errs)
	}
	w.gone = ""
	for _, id := range w.ids() {
		w.envOf(id).Scratch = scratch.Memory() // another run
	}
	results, errs := w.run(t)
	noErrors(t, errs)
	if n := results["bureau"].Counts[fieldSuppressed]; n != 20 {
		t.Errorf("with a party more, %d of 20 cells are withheld", n)
	}
}

// A party that makes up an earlier attempt cannot leave out more contributors
// than the contract can spare.
func TestFixedSetCannotBeMadeUp(t *testing.T) {
	for _, c := range []struct {
		threshold int
		fixed     []session.PartyID
	}{
		{0, []session.PartyID{"p0", "p1", "p2"}},
		{3, []session.PartyID{"p0", "p1"}},
		{3, []session.PartyID{"p2", "p1", "p0"}},
		{3, []session.PartyID{"p0", "p1", "p1"}},
		{3, []session.PartyID{"p0", "p1", "bureau"}},
	} {
		w := newWorld(MaskedDefinition(), 4, fmt.Sprintf(`, "threshold": %d`, c.threshold))
		w.wrap = func(from, _ session.PartyID, label string, ch session.Channel) session.Channel {
			if from != "bureau" || label != "" {
				return ch
			}
			return sessiontest.Tamper(ch, func(_ int, p []byte) [][]byte {
				if p[0] == kindRules {
					b, err := json.Marshal(greeting{Fixed: c.fixed})
					if err != nil {
						t.Error(err)
					}
					p = append([]byte{kindRules}, b...)
				}
				return [][]byte{p}
			})
		}
		_, errs := w.run(t)
		if err := errs["p3"]; !errors.Is(err, ErrPeer) {
			t.Errorf("threshold %d: p3 takes %v for those of an earlier attempt: %v", c.threshold, c.fixed, err)
		}
	}
}

// What was begun and not opened is forgotten, whatever ended it: a release that
// never was would be held against every later one.
func TestNothingOpenedIsNothingRemembered(t *testing.T) {
	for _, stage := range []string{"count rows", stageCounts, stageMeasures} {
		w := newWorld(Definition(), 3, "")
		w.at = lose("p2", stage)
		_, errs := w.run(t)
		if errs["p0"] == nil {
			t.Fatal("the run goes on without a party that it needs")
		}
		files, done, err := w.env["p0"].History.Hold(t.Context(), "e0")
		if err != nil {
			t.Fatal(err)
		}
		names, err := files.Names("release/")
		done()
		if err != nil {
			t.Fatal(err)
		}
		// Of the measures, others may have what p0 sent.
		if want := stage == stageMeasures; (len(names) > 0) != want {
			t.Errorf("lost at %q: %d releases are remembered", stage, len(names))
		}
	}
}

// Naming other units is no way round the history: by rows, say, the same table
// without one of them has nothing in common with the one before.
func TestOtherUnitsAreNotCompared(t *testing.T) {
	w := newWorld(MaskedDefinition(), 3, "")
	even(w, 20)
	for _, rows := range w.rows {
		for i := range rows {
			rows[i].bad = rows[i].unit + 1 // names the loan as well
		}
	}
	const measures = `, "measures": [{"of": "sum", "column": "amount", "range": [0, 100]}]`
	ask(w, byIndustry+measures)
	for _, l := range lines(t, w) {
		if l[2] == stats.Suppressed {
			t.Fatalf("%s is withheld from the first table", l[0])
		}
	}
	w.spec.Params = json.RawMessage(`{"entity": "bad", "max_rows": 1000, "where": [{"column": "unit", "not_in": [10000]}], ` + byIndustry + measures + `}`)
	for _, l := range lines(t, w) {
		if l[2] != stats.Suppressed {
			t.Errorf("%s is shown in both tables, which differ by one loan", l[0])
		}
	}
}

// The manifest tells noise in the measure of the values that carry it.
func TestNoiseIsToldInTheValuesMeasure(t *testing.T) {
	deviation := func(scale int) float64 {
		w := newWorld(MaskedDefinition(), 3, "")
		even(w, 20)
		w.spec.Limits.Release.Epsilon = 1
		ask(w, fmt.Sprintf(`"unit_rows": 1, "measures": [{"of": "variance", "column": "amount", "range": [0, 100], "scale": %d}]`, scale))
		results, errs := w.run(t)
		noErrors(t, errs)
		noise := results["bureau"].Notes["noise"].(map[string]any)
		return noise["standard_deviation"].(map[string]float64)["squares of amount"]
	}
	if a, b := deviation(0), deviation(2); a == 0 || a != b {
		t.Errorf("the same range has noise of %v, and at scale 2 of %v", a, b)
	}
}

// Two requests whose bins, or whose sums' rows, overlap differ by what is in one
// alone: the second is withheld. Finer bins, and the same rows, are no such thing.
func TestPartsOfCellsAreHeldAgainstEachOther(t *testing.T) {
	const (
		bins   = `"measures": [{"of": "histogram", "column": "amount", "bins": [0, %s, 100]}]`
		mean   = `"missing": "skip", "measures": [{"of": "mean", "column": "bad", "range": [0, 1]}]`
		joint  = `"missing": "skip", "measures": [{"of": "covariance", "columns": ["bad", "amount"], "range": [0, 1, 0, 100]}]`
		spread = `"missing": "skip", "measures": [{"of": "variance", "column": "bad", "range": [0, 1]}]`
	)
	for _, c := range []struct {
		first, second string
		withheld      bool
	}{
		{fmt.Sprintf(bins, "10"), fmt.Sprintf(bins, "11"), true},
		{fmt.Sprintf(bins, "10"), fmt.Sprintf(bins, "5, 10"), false},
		{fmt.Sprintf(bins, "5, 10"), fmt.Sprintf(bins, "10"), false},
		{mean, joint, true},
		{mean, spread, false},
	} {
		w := newWorld(MaskedDefinition(), 3, "")
		even(w, 20)
		ask(w, byIndustry+", "+c.first)
		for _, l := range lines(t, w) {
			if l[len(l)-1] == stats.Suppressed {
				t.Fatalf("%s: %s is withheld", c.first, l[0])
			}
		}
		ask(w, byIndustry+", "+c.second)
		for _, l := range lines(t, w) {
			if got := l[len(l)-1] == stats.Suppressed; got != c.withheld {
				t.Errorf("%s after %s: %s is withheld: %t", c.second, c.first, l[0], got)
			}
		}
	}
}

// A cell of one party alone is withheld, and so is what would give it back: the
// total, asked for by itself later, or the other cells where the total was before.
func TestCellOfOnePartyDoesNotFollow(t *testing.T) {
	const measures = `"measures": [{"of": "sum", "column": "amount", "range": [0, 100]}]`
	for _, forms := range [][]string{{byIndustry + ", " + measures, measures}, {measures, byIndustry + ", " + measures}} {
		w := newWorld(MaskedDefinition(), 3, "")
		even(w, 20)
		for _, id := range []session.PartyID{"p1", "p2"} {
			for i := range w.rows[id] {
				if w.rows[id][i].industry == "retail" {
					w.rows[id][i].industry = "mining"
				}
			}
		}
		shown, total := 0, false
		for _, form := range forms {
			ask(w, form)
			for _, l := range lines(t, w) {
				switch {
				case l[len(l)-1] == stats.Suppressed:
				case len(l) == 2:
					total = true
				case l[0] == "retail":
					t.Error("the cell of one party is shown")
				default:
					shown++
				}
			}
		}
		if total && shown == 3 {
			t.Errorf("the total less three cells is the fourth, which is one party's: %v", forms)
		}
		if !total && shown == 0 {
			t.Errorf("nothing is shown: %v", forms)
		}
	}
}

// The same table again is the same table, withheld cells and all: it says nothing
// new, though the cells withheld hold few units of each party.
func TestRepetitionShowsTheSame(t *testing.T) {
	w := newWorld(MaskedDefinition(), 3, "")
	even(w, 20)
	for id := range w.rows {
		few := make(map[string]int)
		w.rows[id] = slices.DeleteFunc(w.rows[id], func(l loan) bool {
			if l.industry != "retail" && l.industry != "mining" || l.year != 2005 {
				return false
			}
			few[l.industry]++
			return few[l.industry] > map[string]int{"retail": 3, "mining": 4}[l.industry]
		})
	}
	// The cell of 9 units is withheld, and with it that of 12: of each party 7.
	ask(w, `"where": [{"column": "year", "in": [2005]}], "margins": true, `+byIndustry+`, "measures": [{"of": "count"}]`)
	first := lines(t, w)
	hidden := 0
	for _, l := range first {
		if l[len(l)-1] == stats.Suppressed {
			hidden++
		}
	}
	if hidden != 2 {
		t.Fatalf("%d cells are withheld: %v", hidden, first)
	}
	for range 2 {
		if again := lines(t, w); !reflect.DeepEqual(again, first) {
			t.Errorf("again:\n%v\nbefore:\n%v", again, first)
		}
	}
}

// A filter that leaves one row of a unit out, and not the unit, is found out
// whatever the measures are called, and whatever others there are.
func TestRowOfAUnitIsNoDifference(t *testing.T) {
	const sum = `{"of": "sum", "column": "amount", "range": [0, 1000]}`
	for _, second := range []string{
		sum,
		`{"name": "other", "of": "sum", "column": "amount", "range": [0, 1001]}`,
		`{"of": "mean", "column": "amount", "range": [0, 1000]}`,
		sum + `, {"of": "sum", "column": "bad", "range": [0, 1]}`,
	} {
		w := newWorld(MaskedDefinition(), 3, "")
		even(w, 20)
		more := w.rows["p0"][0]
		more.year, more.amount = 2007, 777
		w.rows["p0"] = append(w.rows["p0"], more)
		ask(w, byIndustry+`, "measures": [`+sum+`]`)
		for _, l := range lines(t, w) {
			if l[2] == stats.Suppressed {
				t.Fatalf("%s is withheld from the first table", l[0])
			}
		}
		ask(w, `"where": [{"column": "year", "max": 2006}], `+byIndustry+`, "measures": [`+second+`]`)
		for _, l := range lines(t, w) {
			if got, want := l[len(l)-1] == stats.Suppressed, l[0] == "retail"; got != want {
				t.Errorf("%s: %s is withheld: %t, want %t", second, l[0], got, want)
			}
		}
	}
}
