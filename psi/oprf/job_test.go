package oprf

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// spec has the client first, p0, and the server second.
func spec(change func(*job.Spec)) job.Spec {
	return psitest.Spec(Name, change, Client, Server)
}

// runJobs runs the registered job at all parties, with what they keep.
func runJobs(t testing.TB, s job.Spec, sources map[session.PartyID][]table.Source, caches map[session.PartyID]scratch.Files) (map[session.PartyID]*job.Result, []sessiontest.Outcome) {
	t.Helper()
	ids := sessiontest.PartyIDs(2)
	j := psitest.Job{Definition: Definition(), Spec: s, Caches: []scratch.Files{caches[ids[0]], caches[ids[1]]}}
	results, out := j.Run(t, sources[ids[0]][0], sources[ids[1]][0])
	return map[session.PartyID]*job.Result{ids[0]: &results[0], ids[1]: &results[1]}, out
}

func pair(client, server table.Source) map[session.PartyID][]table.Source {
	return map[session.PartyID][]table.Source{"p0": {client}, "p1": {server}}
}

func TestJobAlignsCompositeKeys(t *testing.T) {
	client := psitest.People(t, [3]string{"7", " １1010119900101123x ", "Q"}, [3]string{"8", "AB", "c"}, [3]string{"9", "abc", "d"})
	server := psitest.People(t, [3]string{"1", "a", "bc"}, [3]string{"2", "ab", "c"}, [3]string{"3", "11010119900101123X", "q"}, [3]string{"4", "z", "z"})
	caches := map[session.PartyID]scratch.Files{"p0": scratch.Memory(), "p1": scratch.Memory()}
	want := map[string]string{"AB|c|8": "ab|c|2", " １1010119900101123x |Q|7": "11010119900101123X|q|3"}
	for range 2 { // cold and warm
		results, out := runJobs(t, spec(psitest.Params(`{"output":"both"}`)), pair(client, server), caches)
		sessiontest.NoErrors(t, out)
		for id, rows := range map[session.PartyID]int64{"p0": 3, "p1": 4} {
			r := results[id]
			if r.Counts[job.CountCommon] != 2 || r.Rows != rows {
				t.Errorf("%s: %+v", id, r)
			}
			if names := psitest.Columns(r.Tables["intersection"]); !slices.Equal(names, []string{"id", "branch", "income"}) {
				t.Errorf("%s: columns %v", id, names)
			}
		}
		mine, theirs := psitest.Cells(t, results["p0"].Tables["intersection"]), psitest.Cells(t, results["p1"].Tables["intersection"])
		if len(mine) != 2 || len(theirs) != 2 || want[mine[0]] != theirs[0] || want[mine[1]] != theirs[1] {
			t.Errorf("%q are aligned with %q", mine, theirs)
		}
	}
	// The same entry under another rule or with other key columns has a table of
	// its own.
	one := rowsOf(t, []string{"ab", "z"})
	for i, c := range []struct {
		params         string
		client, server table.Source
		common         int64
	}{
		{`{"output":"both","key_rule":"none.v1"}`, client, server, 0},
		{`{"output":"both"}`, one, one, 2},
		{`{"output":"both","false_match_bits":30}`, client, server, 2},
		{`{"output":"both"}`, client, server, 2},
	} {
		results, out := runJobs(t, spec(psitest.Params(c.params)), pair(c.client, c.server), caches)
		sessiontest.NoErrors(t, out)
		if got := results["p0"].Counts[job.CountCommon]; got != c.common {
			t.Errorf("case %d: %d rows are common, want %d", i, got, c.common)
		}
	}
}

// What a result holds and a view shows stands in Reveals, for every role and
// output, and nothing else does.
func TestRevealsCoversTheResult(t *testing.T) {
	d := Definition()
	x := psitest.People(t, [3]string{"1", "a", "b"})
	for _, p := range []string{"", `{"output":"both"}`, `{"output":"client"}`} {
		s := spec(psitest.Params(p))
		results, out := runJobs(t, s, pair(x, x), nil)
		sessiontest.NoErrors(t, out)
		psitest.CheckReveals(t, d, s, []job.Result{*results["p0"], *results["p1"]}, "view.rows", "view.epoch")
	}
	below := func(min int64) (fs []string) {
		for _, x := range d.Reveals(spec(func(s *job.Spec) { s.Limits.MinIntersection = min })) {
			fs = append(fs, string(x.To)+":"+x.Field)
		}
		return fs
	}
	if slices.Contains(below(0), "server:view.below") || !slices.Contains(below(5), "server:view.below") {
		t.Errorf("view.below is revealed exactly where there is a minimum: %v, %v", below(0), below(5))
	}
}

// The client alone: the server has no table and no count, and both have the
// same (empty) counts, as a receipt wants them.
func TestJobForTheClientAlone(t *testing.T) {
	client, server := psitest.People(t, [3]string{"3", "C", "D"}), psitest.People(t, [3]string{"1", "a", "b"}, [3]string{"2", "c", "d"})
	results, out := runJobs(t, spec(nil), pair(client, server), nil)
	sessiontest.NoErrors(t, out)
	if r := results["p1"]; len(r.Tables) != 0 || len(r.Counts) != 0 || r.Rows != 2 {
		t.Errorf("server: %+v", r)
	}
	if got := psitest.Cells(t, results["p0"].Tables["intersection"]); !slices.Equal(got, []string{"C|D|3"}) || len(results["p0"].Counts) != 0 {
		t.Errorf("client: %v, %+v", got, results["p0"])
	}
}

func TestJobEnforcesTheGrantsMinimum(t *testing.T) {
	x := psitest.People(t, [3]string{"1", "a", "b"}, [3]string{"1", "c", "d"})
	for _, output := range []string{`{"output":"both"}`, `{"output":"client"}`} {
		for min, want := range map[int64]error{2: nil, 3: job.ErrMinIntersection} {
			s := spec(psitest.Params(output))
			s.Limits.MinIntersection = min
			results, out := runJobs(t, s, pair(x, x), nil)
			for i, o := range out {
				if !errors.Is(o.Err, want) {
					t.Errorf("%s, minimum %d: p%d: %v", output, min, i, o.Err)
				}
			}
			if want != nil && (results["p0"].Tables != nil || results["p1"].Tables != nil) {
				t.Errorf("%s, minimum %d: a table was returned", output, min)
			}
		}
	}
	if Definition().MinIntersection != job.AfterReveal {
		t.Error("a client that matches locally cannot hold to a minimum before")
	}
}

// A server that insists on more than the client does stops it, too.
func TestServersOwnMinimum(t *testing.T) {
	w := newWorld()
	xs := psitest.Number(0, 10)
	insists := both
	insists.MinIntersection = 11
	r := w.runEach(t, xs, rowsOf(t, xs), both, insists)
	for i, o := range r.out {
		if !errors.Is(o.Err, job.ErrMinIntersection) {
			t.Errorf("p%d: %v", i, o.Err)
		}
	}
}

// Keys that cannot be used are refused with their number, at either side, and
// leave no table behind.
func TestJobRefusesKeysThatCannotBeUsed(t *testing.T) {
	for name, c := range map[string]struct {
		bad   *table.Table
		rule  string
		want  error
		count func(*table.KeyError) table.KeyFault
		fault table.KeyFault
	}{
		"duplicates by the rule": {
			psitest.People(t, [3]string{"0", "z", "z"}, [3]string{"1", "a", "b"}, [3]string{"2", " A", "B"}, [3]string{"3", "a ", "b"}), "id.v1",
			table.ErrDuplicateKeys,
			func(e *table.KeyError) table.KeyFault { return e.Duplicates },
			table.KeyFault{Count: 2, First: 3},
		},
		"blank": {
			psitest.People(t, [3]string{"1", "a", " "}, [3]string{"1", "a", "b"}), "id.v1", table.ErrBlankKeys,
			func(e *table.KeyError) table.KeyFault { return e.Blanks },
			table.KeyFault{Count: 1, First: 1},
		},
		"not of the form": {
			psitest.People(t, [3]string{"1", "13800138000", "13800138001"}, [3]string{"1", "13800138000", "12"}), "phone-cn.v1", table.ErrUnfitKeys,
			func(e *table.KeyError) table.KeyFault { return e.Unfit },
			table.KeyFault{Count: 1, First: 2},
		},
	} {
		good := psitest.People(t, [3]string{"1", "13800138000", "13800138001"})
		for side, sources := range map[string]map[session.PartyID][]table.Source{"client": pair(c.bad, good), "server": pair(good, c.bad)} {
			cache := scratch.Memory()
			_, out := runJobs(t, spec(psitest.Params(`{"key_rule":"`+c.rule+`"}`)), sources, map[session.PartyID]scratch.Files{"p1": cache})
			err := sessiontest.Cause(out)
			var ke *table.KeyError
			if !errors.Is(err, c.want) || !errors.As(err, &ke) || c.count(ke) != c.fault {
				t.Errorf("%s at the %s: %v", name, side, err)
			}
			if names := files(t, cache); side == "server" && len(names) != 0 {
				t.Errorf("%s at the server left %q", name, names)
			}
		}
	}
	// What the job's reader does not see, because it hands on distinct keys.
	w := newWorld()
	r := w.run(t, []string{"a", "b", "a"}, rowsOf(t, []string{"a"}), Params{})
	if err := sessiontest.Cause(r.out); !errors.Is(err, ErrDuplicates) || !strings.Contains(err.Error(), "1 of 3") {
		t.Errorf("a client's duplicate: %v", err)
	}
}

// Keys of one column never match keys of two, so the difference is named; so is
// every other one in what has to be the same.
func TestDifferencesAreNamed(t *testing.T) {
	_, out := runJobs(t, spec(nil), pair(psitest.People(t, [3]string{"1", "a", "b"}), rowsOf(t, []string{"a"})), nil)
	var m *session.MismatchError
	if err := sessiontest.Cause(out); !errors.As(err, &m) || m.Field != "items" {
		t.Errorf("key columns: %v", err)
	}
	for field, p := range map[string]Params{
		"items": {Items: "x"}, "false_match_bits": {FalseMatchBits: 41}, "output": both, "max_age": {MaxAge: 1}, "max_evaluations": {MaxEvaluations: 77},
	} {
		w := newWorld()
		r := w.runEach(t, nil, rowsOf(t, []string{"a"}), Params{}, p)
		if err := sessiontest.Cause(r.out); !errors.As(err, &m) || m.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestValidate(t *testing.T) {
	d := Definition()
	for name, s := range map[string]job.Spec{
		"unknown parameter":    spec(psitest.Params(`{"tag_bytes":9}`)),
		"unknown rule":         spec(psitest.Params(`{"key_rule":"mine"}`)),
		"unknown output":       spec(psitest.Params(`{"output":"receiver"}`)),
		"few bits":             spec(psitest.Params(`{"false_match_bits":29}`)),
		"many bits":            spec(psitest.Params(`{"false_match_bits":49}`)),
		"negative age":         spec(psitest.Params(`{"max_age_hours":-1}`)),
		"an age of years":      spec(psitest.Params(`{"max_age_hours":8785}`)),
		"an absurd age":        spec(psitest.Params(`{"max_age_hours":9223372036854775807}`)),
		"negative evaluations": spec(psitest.Params(`{"max_evaluations":-1}`)),
		"absurd evaluations":   spec(psitest.Params(`{"max_evaluations":1099511627777}`)),
		"two clients":          spec(func(s *job.Spec) { s.Parties[1].Role = Client }),
		"no input":             spec(func(s *job.Spec) { s.Parties[0].Inputs = nil }),
		"no item":              spec(func(s *job.Spec) { s.Parties[1].Inputs = []job.Input{{Entry: "e"}} }),
		"a server that gets nothing": spec(func(s *job.Spec) {
			s.Recipients = []session.PartyID{"p1"}
		}),
		"a negative minimum": spec(func(s *job.Spec) { s.Limits.MinIntersection = -1 }),
	} {
		if d.Validate(s) == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for _, p := range []string{
		"", "{}", `{"output":"both"}`,
		`{"key_rule":"none.v1","false_match_bits":48,"output":"client","max_age_hours":8784,"max_evaluations":1099511627776}`,
	} {
		if err := d.Validate(spec(psitest.Params(p))); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	if err := d.Validate(spec(func(s *job.Spec) {
		psitest.Params(`{"output":"both"}`)(s)
		s.Recipients = []session.PartyID{"p0", "p1"}
	})); err != nil {
		t.Error(err)
	}
}

// The benchmark's case is what it says, and the same in the clear.
func TestBench(t *testing.T) {
	d := Definition()
	for _, c := range []struct{ n, m, common int64 }{{600, 1, 1}, {5000, 5, 3}, {300, 300, 150}} {
		b, err := d.BenchSizes(c.n, c.m)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Validate(b.Spec), d.CheckRoles(b.Spec)); err != nil || b.Common != c.common {
			t.Fatalf("%d common: %v", b.Common, err)
		}
		clear, err := d.Clear(t.Context(), b.Spec, b.Inputs)
		if err != nil || clear[job.CountCommon] != c.common {
			t.Fatalf("in the clear: %v, %v", clear, err)
		}
		results, out := runJobs(t, b.Spec, b.Inputs, nil)
		sessiontest.NoErrors(t, out)
		for id, r := range results {
			if r.Counts[job.CountCommon] != c.common {
				t.Errorf("%s: %d rows are common, want %d", id, r.Counts[job.CountCommon], c.common)
			}
		}
		if err := b.Baseline(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if b, err := d.Bench(5000); err != nil || b.Common != 3 {
		t.Errorf("%d common, %v", b.Common, err)
	}
	for _, c := range [][2]int64{{0, 1}, {-1, 1}, {1, 0}, {5, 6}, {MaxRows + 1, 1}, {MaxRows, MaxItems + 1}} {
		if _, err := d.BenchSizes(c[0], c[1]); !errors.Is(err, ErrSize) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// The page says what the code says.
func TestPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocols", "psi-oprf.md"))
	if err != nil {
		t.Fatal(err)
	}
	psitest.CheckAssumptions(t, Definition(), "psi-oprf.md")
	for k, name := range protocol.Kinds {
		if name != "" && !regexp.MustCompile(`\| `+regexp.QuoteMeta(strconv.Itoa(k))+` \| `+name+` \|`).Match(page) {
			t.Errorf("the page's table of messages has no %s", name)
		}
	}
	s := spec(func(s *job.Spec) { s.Limits.MinIntersection = 1 })
	psitest.Params(`{"output":"both"}`)(&s)
	for _, d := range Definition().Reveals(s) {
		if !strings.Contains(string(page), "`"+d.Field+"`") {
			t.Errorf("the page does not name %s", d.Field)
		}
	}
}
