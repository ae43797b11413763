package multi

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

func spec(change func(*job.Spec)) job.Spec {
	in := []job.Input{{Entry: "e", Version: 1, Items: []string{"id"}}}
	s := job.Spec{Kind: Name, Parties: []job.Participant{
		{Party: "p0", Role: Member, Inputs: in}, {Party: "p1", Role: Leader, Inputs: in}, {Party: "p2", Role: Member, Inputs: in},
	}}
	if change != nil {
		change(&s)
	}
	return s
}

func params(s string) func(*job.Spec) {
	return func(sp *job.Spec) { sp.Params = json.RawMessage(s) }
}

// runJobs runs the registered job at all parties.
func runJobs(t testing.TB, s job.Spec, sources ...table.Source) ([]job.Result, []sessiontest.Outcome) {
	t.Helper()
	d := Definition()
	if err := d.Validate(s); err != nil {
		t.Fatal(err)
	}
	results := make([]job.Result, len(sources))
	var parties []sessiontest.Party
	for i, src := range sources {
		parties = append(parties, func(ctx context.Context, sess *session.Session) (err error) {
			results[i], err = d.Run(ctx, job.Env{Spec: s, Session: sess, Inputs: []table.Source{src}, Once: &job.MemoryOnce{}})
			return err
		})
	}
	return results, sessiontest.Net{}.Run(t, parties...)
}

// people makes a table whose key columns come last.
func people(t testing.TB, rows ...[3]string) *table.Table {
	t.Helper()
	b := table.NewBuilder(table.Schema{
		{Name: "income", Type: table.Text}, {Name: "id", Type: table.Text, Key: true}, {Name: "branch", Type: table.Text, Key: true},
	})
	for _, r := range rows {
		for i := range r {
			b.Texts(i).Append(r[i])
		}
	}
	tb, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func rowsOf(t testing.TB, tb table.Source) []string {
	t.Helper()
	var rows []string
	for b, err := range tb.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for r := range int(b.NumRows()) {
			var cells []string
			for c := range int(b.NumCols()) {
				cells = append(cells, b.Column(c).(*array.String).Value(r))
			}
			rows = append(rows, strings.Join(cells, "|"))
		}
	}
	return rows
}

func TestJobAlignsAllParties(t *testing.T) {
	results, out := runJobs(t, spec(nil),
		people(t, [3]string{"1", "a", "bc"}, [3]string{"2", "ab", "c"}, [3]string{"3", "11010119900101123X", "q"}),
		people(t, [3]string{"7", " １1010119900101123x ", "Q"}, [3]string{"8", "AB", "c"}, [3]string{"9", "abc", "d"}),
		people(t, [3]string{"4", "ab", "C"}, [3]string{"5", "a", "bc"}, [3]string{"6", "11010119900101123x", "q"}, [3]string{"0", "abc", "d"}))
	sessiontest.NoErrors(t, out)
	var lines []string
	for i, r := range results {
		if r.Counts[job.CountCommon] != 2 || r.Rows != []int64{3, 3, 4}[i] {
			t.Errorf("p%d: %+v", i, r)
		}
		var names []string
		for _, c := range r.Tables["intersection"].Schema() {
			names = append(names, c.Name)
		}
		if !slices.Equal(names, []string{"id", "branch", "income"}) {
			t.Errorf("p%d: columns %v", i, names)
		}
		for k, row := range rowsOf(t, r.Tables["intersection"]) {
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
	x := people(t, [3]string{"1", "a", "b"})
	for _, p := range []string{"", `{"output":"all"}`, `{"output":"leader"}`} {
		s := spec(params(p))
		results, out := runJobs(t, s, x, x, x)
		sessiontest.NoErrors(t, out)
		for i, q := range s.Parties {
			said := map[string]bool{}
			for _, x := range d.Reveals(s) {
				if x.To == "" || x.To == q.Role {
					said[x.Field] = true
				}
			}
			for _, f := range results[i].Fields() {
				if !said[f] {
					t.Errorf("%s: %s holds %q, which Reveals does not list", p, q.Role, f)
				}
				delete(said, f)
			}
			for f := range said {
				if !strings.HasPrefix(f, "view.") {
					t.Errorf("%s: Reveals lists %q for %s, which its result does not hold", p, f, q.Role)
				}
			}
		}
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
	x, y := people(t, [3]string{"1", "a", "b"}, [3]string{"2", "c", "d"}), people(t, [3]string{"3", "C", "D"})
	results, out := runJobs(t, spec(params(`{"output":"leader"}`)), x, y, x)
	sessiontest.NoErrors(t, out)
	for i, r := range results {
		if len(r.Counts) != 0 || i != 1 && len(r.Tables) != 0 {
			t.Errorf("p%d: %+v", i, r)
		}
	}
	if got := rowsOf(t, results[1].Tables["intersection"]); !slices.Equal(got, []string{"C|D|3"}) {
		t.Errorf("leader: %v", got)
	}
}

func TestJobEnforcesTheGrantsMinimum(t *testing.T) {
	x := people(t, [3]string{"1", "a", "b"}, [3]string{"1", "c", "d"})
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
	good := people(t, [3]string{"1", "a", "b"})
	for name, c := range map[string]struct {
		bad  *table.Table
		want error
	}{
		"duplicates by the rule": {people(t, [3]string{"1", "a", "b"}, [3]string{"2", " A", "B"}), table.ErrDuplicateKeys},
		"blank":                  {people(t, [3]string{"1", "a", " "}), table.ErrBlankKeys},
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
	two := people(t, [3]string{"1", "a", "b"})
	_, out := runJobs(t, spec(nil), two, two, one)
	var m *session.MismatchError
	if err := sessiontest.Cause(out); !errors.As(err, &m) || m.Field != "items" {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	d := Definition()
	for _, s := range []string{"", "{}", `{"key_rule":"id.v1","output":"leader"}`} {
		if err := d.Validate(spec(params(s))); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for name, change := range map[string]func(*job.Spec){
		"rule-of-nobody":        params(`{"key_rule":"rule-of-nobody"}`),
		`output is "both"`:      params(`{"output":"both"}`),
		"salt":                  params(`{"salt":"x"}`), // no such parameter
		"after the object":      params(`{} {}`),
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
	read := func(page string) string {
		b, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocols", page))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	name := regexp.MustCompile("`((?:lpn|ddh|cdh|icm|prg|rom)\\.[a-z0-9.]+)`")
	stated := Definition().Assumptions
	for _, page := range []string{"ot.md", "vole.md", "okvs.md", "oprf.md"} {
		for _, m := range name.FindAllStringSubmatch(read(page), -1) {
			if !slices.Contains(stated, m[1]) {
				t.Errorf("%s rests on %s, which the contract does not name", page, m[1])
			}
		}
	}
	own := read("psi-multi.md")
	for _, a := range stated {
		if !strings.Contains(own, "| `"+a+"` |") {
			t.Errorf("psi-multi.md does not explain %s", a)
		}
	}
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
