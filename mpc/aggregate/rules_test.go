package aggregate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// A gate that withholds nothing is found out by whoever's own rules withhold.
func TestGateMayNotReleaseWhatARuleAtHomeWithholds(t *testing.T) {
	w := newWorld(Definition(), 3, "")
	w.spec.Parties[1].Role = Contributor // one gate alone
	w.spec.Limits.Release.PPercent = 20
	w.rows["p2"] = append(w.rows["p2"], loan{unit: 1, industry: "retail", year: 2004, amount: 10000}, loan{unit: 2, industry: "mining", year: 2004, amount: 10000})
	w.wrap = func(from, to session.PartyID, label string, ch session.Channel) session.Channel {
		if from != "p0" || label != "" {
			return ch
		}
		return sessiontest.Tamper(ch, func(_ int, p []byte) [][]byte {
			if p[0] == kindVerdict {
				p = append([]byte{kindVerdict, p[1]}, make([]byte, len(p)-2)...)
			}
			return [][]byte{p}
		})
	}
	_, errs := w.run(t)
	if err := errs["p2"]; !errors.Is(err, ErrPeer) || !strings.Contains(err.Error(), "a rule of this party's") {
		t.Errorf("p2 accepts a mask that withholds nothing: %v", err)
	}
}

// Two gates that disagree, and a gate that tells different masks to different
// parties, end the run before a measure is opened.
func TestMasksMustAgree(t *testing.T) {
	for _, c := range []struct {
		name string
		to   []session.PartyID
	}{{"to all", []session.PartyID{"p0", "p2", "bureau"}}, {"to one", []session.PartyID{"p2"}}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(MaskedDefinition(), 3, "")
			w.wrap = func(from, to session.PartyID, label string, ch session.Channel) session.Channel {
				if from != "p1" || label != "" || !slices.Contains(c.to, to) {
					return ch
				}
				return sessiontest.Tamper(ch, func(_ int, p []byte) [][]byte {
					if p[0] == kindVerdict {
						p = slices.Clone(p)
						p[2] ^= 1
					}
					return [][]byte{p}
				})
			}
			results, errs := w.run(t)
			if err := errs["p2"]; !errors.Is(err, ErrPeer) {
				t.Errorf("p2 ends with %v, want ErrPeer", err)
			}
			if results["bureau"].Tables != nil {
				t.Error("the recipient holds a table")
			}
		})
	}
}

// Every message of the job itself, cut at every length, gives an error at its
// receiver that names the sender.
func TestTruncatedMessages(t *testing.T) {
	for _, kind := range []byte{kindRules, kindVerdict, kindAgreed} {
		for cut, whole := 0, false; !whole; cut++ {
			whole = true
			var mu sync.Mutex
			w := newWorld(MaskedDefinition(), 3, "")
			w.wrap = func(from, to session.PartyID, label string, ch session.Channel) session.Channel {
				if from != "p0" || to != "p2" || label != "" {
					return ch
				}
				return sessiontest.Tamper(ch, func(_ int, p []byte) [][]byte {
					mu.Lock()
					defer mu.Unlock()
					if p[0] == kind && len(p) > cut {
						p, whole = p[:cut], false
					}
					return [][]byte{p}
				})
			}
			_, errs := w.run(t)
			if whole {
				noErrors(t, errs)
				if cut < 2 {
					t.Errorf("no message of kind %d was cut", kind)
				}
				continue
			}
			if err := errs["p2"]; !errors.Is(err, ErrPeer) || !strings.Contains(err.Error(), "p0") {
				t.Errorf("kind %d cut to %d bytes: p2 ends with %v", kind, cut, err)
			}
		}
	}
}

// The same request without one unit would give that unit away.
func TestDifferencingIsFound(t *testing.T) {
	w := newWorld(Definition(), 3, "")
	results, errs := w.run(t)
	noErrors(t, errs)
	first := results["bureau"].Counts[fieldSuppressed]
	again, errs := w.run(t)
	noErrors(t, errs)
	if n := again["bureau"].Counts[fieldSuppressed]; n != first {
		t.Errorf("the same request once more withholds %d cells, the first %d: nothing new is told", n, first)
	}
	target := w.rows["p1"][0]
	w.spec.Params = json.RawMessage(strings.Replace(string(w.spec.Params), `"entity": "unit",`,
		`"entity": "unit", "where": [{"column": "amount", "not_in": [`+strconv.FormatInt(target.amount, 10)+`]}],`, 1))
	same := 0
	for _, id := range w.ids()[:3] {
		for _, r := range w.rows[id] {
			if r.amount == target.amount {
				same++
			}
		}
	}
	if same > 3 {
		t.Fatalf("%d loans have the amount: the test wants few", same)
	}
	results, errs = w.run(t)
	noErrors(t, errs)
	for _, l := range csvOf(t, results["bureau"].Tables[fieldStatistics])[1:] {
		if (l[0] == target.industry || l[0] == stats.All) && (l[1] == strconv.FormatInt(target.year, 10) || l[1] == stats.All) && l[6] != stats.Suppressed {
			t.Errorf("%s %s is shown: with the first table it gives one loan away", l[0], l[1])
		}
	}
}

// Noise is on the counters, is paid for, and ends when the budget does.
func TestNoiseIsPaidFor(t *testing.T) {
	w := newWorld(Definition(), 3, `, "unit_rows": 1`)
	w.spec.Limits.Release.Epsilon = 8
	for _, id := range w.ids()[:3] {
		w.envOf(id).Budget = &job.MemoryBudget{Epsilon: 16, Delta: 1}
	}
	exact := inTheOpen(w.rows, w.ids()[:3])[[2]string{stats.All, stats.All}]
	for range 2 {
		results, errs := w.run(t)
		noErrors(t, errs)
		lines := csvOf(t, results["bureau"].Tables[fieldStatistics])
		total := lines[len(lines)-1]
		sum, err := strconv.ParseFloat(total[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		// A unit is in 4 cells of 4 counters, so L0 is 16 and the scale of a sum is
		// 10000·16/8 at each of three parties.
		if diff := math.Abs(sum - float64(exact.sum)); diff == 0 || diff > 20*3*20000 {
			t.Errorf("the noisy sum is %v from the exact one", diff)
		}
		if results["bureau"].Notes["noise"] == "none" {
			t.Error("the notes say that there is no noise")
		}
	}
	_, errs := w.run(t)
	if err := errs["p0"]; !errors.Is(err, job.ErrBudget) {
		t.Errorf("a third release of epsilon 8 from a budget of 16 ends with %v, want ErrBudget", err)
	}
}

// manyCells asks for 270,000 cells.
func manyCells(w *world) {
	var edges []string
	for i := range 300 {
		edges = append(edges, strconv.Itoa(i))
	}
	bins := strings.Join(append(edges, "300"), ",")
	w.spec.Params = json.RawMessage(`{"group_by": [{"column": "year", "bins": [` + bins + `]}, {"column": "amount", "bins": [` + bins + `]}, {"column": "bad", "domain": [0, 1, 2]}], "measures": [{"of": "count"}]}`)
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		def    job.Definition
		change func(*world)
		want   string // "": valid
	}{
		{"as it is", Definition(), func(*world) {}, ""},
		{"two contributors", Definition(), func(w *world) { w.spec.Parties = append(w.spec.Parties[:2], w.spec.Parties[3]) }, "min_providers: 2"},
		{"two, as the grant says", Definition(), func(w *world) {
			w.spec.Parties = append(w.spec.Parties[:2], w.spec.Parties[3])
			w.spec.Limits.Release.MinProviders = 2
		}, ""},
		{"no gate", Definition(), func(w *world) { w.spec.Parties[0].Role, w.spec.Parties[1].Role = Contributor, Contributor }, "gate"},
		{"other items", Definition(), func(w *world) { w.spec.Parties[1].Inputs[0].Items = []string{"unit"} }, "other items"},
		{"recipient with rows", Definition(), func(w *world) { w.spec.Parties[3].Inputs = w.spec.Parties[0].Inputs }, "has an input"},
		{"half of the parties", MaskedDefinition(), func(w *world) {
			w.spec.Parties = append(w.spec.Parties, job.Participant{Party: "p9", Role: Contributor, Inputs: w.spec.Parties[0].Inputs})
			w.spec.Params = json.RawMessage(fmt.Sprintf(loanForm, `, "threshold": 2`))
		}, "more than half"},
		{"unknown key", Definition(), func(w *world) { w.spec.Params = json.RawMessage(fmt.Sprintf(loanForm, `, "treshold": 2`)) }, "treshold"},
		{"sums that wrap", Definition(), func(w *world) {
			w.spec.Params = json.RawMessage(strings.ReplaceAll(fmt.Sprintf(loanForm, ""), "10000]", "1e15]"))
		}, "wrap"},
		{"more than can be encrypted", Definition(), manyCells, "at most 262144"},
		{"as many under masks", MaskedDefinition(), manyCells, ""},
		{"another unit than the grant's", Definition(), func(w *world) { w.spec.Limits.Release.Unit = "industry" }, "limits.release.unit"},
		{"the grant's unit", Definition(), func(w *world) { w.spec.Limits.Release.Unit = "unit" }, ""},
		{"bad rules", Definition(), func(w *world) {
			w.spec.Params = json.RawMessage(fmt.Sprintf(loanForm, `, "rules": {"min_units": -1}`))
		}, "min_units"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(c.def, 3, "")
			c.change(w)
			err := errors.Join(w.def.CheckRoles(w.spec), w.def.Validate(w.spec))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A value out of its declared range ends the run at its own node, which says
// where it stands and not what it is.
func TestOwnNodeRefusesBadRows(t *testing.T) {
	w := newWorld(Definition(), 3, "")
	w.rows["p1"][7].amount = 1234567
	_, errs := w.run(t)
	err := errs["p1"]
	if !errors.Is(err, stats.ErrRange) || !errors.Is(err, job.ErrInput) || strings.Contains(err.Error(), "1234567") {
		t.Errorf("p1 ends with %v, want ErrRange without the value", err)
	}
	if !errors.Is(errs["p0"], session.ErrGone) {
		t.Errorf("p0 ends with %v", errs["p0"])
	}
}

func FuzzVerdict(f *testing.F) {
	f.Add([]byte{7, 1, 0, 3}, 3, 20)
	f.Add([]byte{}, 0, 0)
	f.Fuzz(func(t *testing.T, b []byte, contributors, cells int) {
		if contributors < 0 || contributors > 64 || cells < 0 || cells > 1<<12 {
			return
		}
		v, ok := decodeVerdict(b, contributors, cells)
		if ok && !bytes.Equal(v.encode(), b) {
			t.Errorf("%x decodes and is not the one way to write it", b)
		}
	})
}

// A cell that the mask withholds may not follow from an earlier, coarser table,
// of which the gates know nothing: another goes with it.
func TestWithheldCellDoesNotFollowFromAnEarlierRelease(t *testing.T) {
	w := newWorld(MaskedDefinition(), 3, "")
	const form = `{"entity": "unit", "group_by": [%s], "measures": [{"name": "lent", "of": "sum", "column": "amount", "range": [-10000, 10000]}], "max_rows": 1000}`
	const industry, year = `{"column": "industry", "domain": ["retail", "mining"]}`, `{"column": "year", "domain": [2004, 2005, 2006]}`
	for i := range 3 {
		var rows []loan
		for _, c := range []struct {
			industry string
			year     int64
			n        int
		}{{"retail", 2004, 20}, {"retail", 2005, 20}, {"retail", 2006, 20}, {"mining", 2004, 2}, {"mining", 2005, 20}, {"mining", 2006, 20}} {
			for range c.n {
				rows = append(rows, loan{unit: int64(1000*i + len(rows)), industry: c.industry, year: c.year, amount: int64(100 + len(rows))})
			}
		}
		w.rows[w.ids()[i]] = rows
	}
	w.spec.Params = json.RawMessage(fmt.Sprintf(form, industry))
	results, errs := w.run(t)
	noErrors(t, errs)
	if n := results["bureau"].Counts[fieldSuppressed]; n != 0 {
		t.Fatalf("the coarse table withholds %d cells, want none", n)
	}
	w.spec.Params = json.RawMessage(fmt.Sprintf(form, industry+", "+year))
	results, errs = w.run(t)
	noErrors(t, errs)
	withheld := map[string]int{}
	for _, l := range csvOf(t, results["bureau"].Tables[fieldStatistics])[1:] {
		if l[3] == stats.Suppressed {
			withheld[l[0]]++
		}
	}
	if withheld["mining"] < 2 || withheld["retail"] != 0 {
		t.Errorf("withheld are %v: want mining in 2004 and another year of mining, and no retail", withheld)
	}
}
