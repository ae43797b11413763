package multi

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

func spec(change func(*job.Spec)) job.Spec {
	return psitest.Spec(Name, change, Member, Leader, Member)
}

// runJobs runs the registered job at all parties.
func runJobs(t testing.TB, s job.Spec, sources ...table.Source) ([]job.Result, []sessiontest.Outcome) {
	t.Helper()
	return psitest.Job{Definition: Definition(), Spec: s}.Run(t, sources...)
}

func TestJobAlignsAllParties(t *testing.T) {
	results, out := runJobs(t, spec(nil),
		psitest.People(t, [3]string{"1", "a", "bc"}, [3]string{"2", "ab", "c"}, [3]string{"3", "11010119900101123X", "q"}),
		psitest.People(t, [3]string{"7", " １1010119900101123x ", "Q"}, [3]string{"8", "AB", "c"}, [3]string{"9", "abc", "d"}),
		psitest.People(t, [3]string{"4", "ab", "C"}, [3]string{"5", "a", "bc"}, [3]string{"6", "11010119900101123x", "q"}, [3]string{"0", "abc", "d"}))
	sessiontest.NoErrors(t, out)
	var lines []string
	for i, r := range results {
		if r.Counts[job.CountCommon] != 2 || r.Rows != []int64{3, 3, 4}[i] {
			t.Errorf("p%d: %+v", i, r)
		}
		if names := psitest.Columns(r.Tables["intersection"]); !slices.Equal(names, []string{"id", "branch", "income"}) {
			t.Errorf("p%d: columns %v", i, names)
		}
		for k, row := range psitest.Cells(t, r.Tables["intersection"]) {
			if i == 0 {
				lines = append(lines, row)
			} else {
				lines[k] += " = " + row
			}
		}
	}
	slices.Sort(lines)
	want := []string{"11010119900101123X|q|3 =  １1010119900101123x |Q|7 = 11010119900101123x|q|6", "ab|c|2 = AB|c|8 = ab|C|4"}
	if !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
}

// What a result holds and a view shows stands in Reveals, for every role and
// output, and nothing else does.
func TestRevealsCoversTheResult(t *testing.T) {
	d := Definition()
	x := psitest.People(t, [3]string{"1", "a", "b"})
	for _, p := range []string{"", `{"output":"all"}`, `{"output":"leader"}`} {
		s := spec(psitest.Params(p))
		results, out := runJobs(t, s, x, x, x)
		sessiontest.NoErrors(t, out)
		psitest.CheckReveals(t, d, s, results)
	}
	below := func(min int64) (fs []string) {
		for _, x := range d.Reveals(spec(func(s *job.Spec) { s.Limits.MinIntersection = min })) {
			fs = append(fs, string(x.To)+":"+x.Field)
		}
		return fs
	}
	if slices.Contains(below(0), "member:view.below") || !slices.Contains(below(5), "member:view.below") {
		t.Errorf("view.below is revealed exactly where there is a minimum: %v, %v", below(0), below(5))
	}
}

// The leader alone: members have no table, and nobody has a count, as a receipt
// wants all to have the same.
func TestJobForTheLeaderAlone(t *testing.T) {
	x, y := psitest.People(t, [3]string{"1", "a", "b"}, [3]string{"2", "c", "d"}), psitest.People(t, [3]string{"3", "C", "D"})
	results, out := runJobs(t, spec(psitest.Params(`{"output":"leader"}`)), x, y, x)
	sessiontest.NoErrors(t, out)
	for i, r := range results {
		if len(r.Counts) != 0 || i != 1 && len(r.Tables) != 0 {
			t.Errorf("p%d: %+v", i, r)
		}
	}
	if got := psitest.Cells(t, results[1].Tables["intersection"]); !slices.Equal(got, []string{"C|D|3"}) {
		t.Errorf("leader: %v", got)
	}
}

func TestJobEnforcesTheGrantsMinimum(t *testing.T) {
	x := psitest.People(t, [3]string{"1", "a", "b"}, [3]string{"1", "c", "d"})
	for min, want := range map[int64]error{2: nil, 3: job.ErrMinIntersection} {
		s := spec(func(s *job.Spec) { s.Limits.MinIntersection = min })
		results, out := runJobs(t, s, x, x, x)
		if err := sessiontest.Cause(out); !errors.Is(err, want) {
			t.Errorf("minimum %d: %v", min, err)
		}
		for i, r := range results {
			if want != nil && r.Tables != nil {
				t.Errorf("minimum %d: p%d has a table", min, i)
			}
		}
	}
	if Definition().MinIntersection != job.AfterReveal {
		t.Error("a leader that compares locally cannot hold to a minimum before")
	}
}

func TestJobRefusesKeysThatCannotBeUsed(t *testing.T) {
	good := psitest.People(t, [3]string{"1", "a", "b"})
	for name, c := range map[string]struct {
		bad  *table.Table
		want error
	}{
		"duplicates by the rule": {psitest.People(t, [3]string{"1", "a", "b"}, [3]string{"2", " A", "B"}), table.ErrDuplicateKeys},
		"blank":                  {psitest.People(t, [3]string{"1", "a", " "}), table.ErrBlankKeys},
	} {
		_, out := runJobs(t, spec(nil), good, good, c.bad)
		if err := sessiontest.Cause(out); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Keys of one column never match keys of two, so the difference is named.
func TestJobNamesADifferenceInKeyColumns(t *testing.T) {
	b := table.NewBuilder(table.Schema{{Name: "id", Type: table.Text, Key: true}})
	b.Texts(0).Append("a")
	one, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	two := psitest.People(t, [3]string{"1", "a", "b"})
	_, out := runJobs(t, spec(nil), two, two, one)
	var m *session.MismatchError
	if err := sessiontest.Cause(out); !errors.As(err, &m) || m.Field != "items" {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	d := Definition()
	for _, s := range []string{"", "{}", `{"key_rule":"id.v1","output":"leader"}`} {
		if err := d.Validate(spec(psitest.Params(s))); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for name, change := range map[string]func(*job.Spec){
		"rule-of-nobody":        psitest.Params(`{"key_rule":"rule-of-nobody"}`),
		`output is "both"`:      psitest.Params(`{"output":"both"}`),
		"salt":                  psitest.Params(`{"salt":"x"}`), // no such parameter
		"after the object":      psitest.Params(`{} {}`),
		"minimum":               func(s *job.Spec) { s.Limits.MinIntersection = -1 },
		"exactly 1 leader":      func(s *job.Spec) { s.Parties[0].Role = Leader },
		"no role":               func(s *job.Spec) { s.Parties[0].Role = "helper" },
		"2 to 15 member, got 1": func(s *job.Spec) { s.Parties = s.Parties[:2] },
		"got 16":                func(s *job.Spec) { s.Parties = append(s.Parties, slices.Repeat(s.Parties[:1], 14)...) },
		"p1 needs exactly":      func(s *job.Spec) { s.Parties[1].Inputs = nil },
		"at least one":          func(s *job.Spec) { s.Parties[1].Inputs = []job.Input{{Entry: "e"}} },
		"p0 is a recipient": func(s *job.Spec) {
			s.Params, s.Recipients = json.RawMessage(`{"output":"leader"}`), []session.PartyID{"p0", "p1"}
		},
	} {
		if err := d.Validate(spec(change)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := job.NewRegistry(d); err != nil {
		t.Error(err)
	}
}

// What the building blocks' pages name, the contract of a job on them names too,
// and the protocol's own page explains.
func TestAssumptionsOfTheBuildingBlocks(t *testing.T) {
	psitest.CheckAssumptions(t, Definition(), "psi-multi.md", "ot.md", "vole.md", "okvs.md", "oprf.md")
}

// A benchmark has rows that all have and rows that every pair has.
func TestBench(t *testing.T) {
	d := Definition()
	for _, n := range []int64{1, 2, 3, 4, 301} {
		b, err := d.Bench(n)
		if err != nil {
			t.Fatal(err)
		}
		held := map[string]int{}
		for _, id := range []session.PartyID{"p0", "p1", "p2"} {
			keys, err := table.Keys(t.Context(), b.Inputs[id][0], table.RuleID)
			if err != nil || int64(keys.Len()) != n {
				t.Fatalf("%d: %d keys, %v", n, keys.Len(), err)
			}
			for k := range keys.All() {
				held[string(k)]++
			}
		}
		var by [4]int64
		for _, n := range held {
			by[n]++
		}
		if want := 3 * ((n - n/3) / 2); by[3] != n/3 || by[2] != want {
			t.Errorf("n %d: %d rows of all and %d of pairs, want %d and %d", n, by[3], by[2], n/3, want)
		}
		results, out := runJobs(t, b.Spec, b.Inputs["p0"][0], b.Inputs["p1"][0], b.Inputs["p2"][0])
		sessiontest.NoErrors(t, out)
		clear, err := d.Clear(t.Context(), b.Spec, b.Inputs)
		if err != nil {
			t.Fatal(err)
		}
		for i := range results {
			if got := results[i].Counts[job.CountCommon]; got != n/3 || got != clear[job.CountCommon] {
				t.Errorf("n %d: p%d has %d common rows, the plaintext %v", n, i, got, clear[job.CountCommon])
			}
		}
		if err := b.Baseline(t.Context()); err != nil || b.BaselineName == "" {
			t.Errorf("n %d: baseline %q: %v", n, b.BaselineName, err)
		}
	}
	if _, err := d.Bench(0); !errors.Is(err, ErrSize) {
		t.Errorf("a benchmark of nothing: %v", err)
	}
}
