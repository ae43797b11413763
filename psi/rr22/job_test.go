package rr22

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
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

func spec(change func(*job.Spec)) job.Spec {
	in := []job.Input{{Entry: "e", Version: 1, Items: []string{"id"}}}
	s := job.Spec{Kind: Name, Parties: []job.Participant{
		{Party: "p0", Role: Sender, Inputs: in}, {Party: "p1", Role: Receiver, Inputs: in},
	}}
	if change != nil {
		change(&s)
	}
	return s
}

func params(s string) func(*job.Spec) {
	return func(sp *job.Spec) { sp.Params = json.RawMessage(s) }
}

// runJobs runs the registered job at both parties.
func runJobs(t testing.TB, s job.Spec, sources [2]table.Source) (results [2]job.Result, out []sessiontest.Outcome) {
	t.Helper()
	d := Definition()
	if err := d.Validate(s); err != nil {
		t.Fatal(err)
	}
	party := func(i int) sessiontest.Party {
		return func(ctx context.Context, sess *session.Session) (err error) {
			results[i], err = d.Run(ctx, job.Env{Spec: s, Session: sess, Inputs: []table.Source{sources[i]}, Once: &job.MemoryOnce{}})
			return err
		}
	}
	return results, sessiontest.Net{}.Run(t, party(0), party(1))
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

func TestJobAlignsCompositeKeys(t *testing.T) {
	x := people(t, [3]string{"1", "a", "bc"}, [3]string{"2", "ab", "c"}, [3]string{"3", "11010119900101123X", "q"})
	y := people(t, [3]string{"7", " １1010119900101123x ", "Q"}, [3]string{"8", "AB", "c"}, [3]string{"9", "abc", "d"})
	results, out := runJobs(t, spec(nil), [2]table.Source{x, y})
	sessiontest.NoErrors(t, out)
	for i, r := range results {
		if r.Counts[job.CountCommon] != 2 || r.Rows != 3 || r.Tables["intersection"].(*table.Table).Rows() != 2 {
			t.Errorf("p%d: %+v", i, r)
		}
		var names []string
		for _, c := range r.Tables["intersection"].Schema() {
			names = append(names, c.Name)
		}
		if !slices.Equal(names, []string{"id", "branch", "income"}) {
			t.Errorf("p%d: columns %v", i, names)
		}
	}
	got := [2][]string{rowsOf(t, results[0].Tables["intersection"]), rowsOf(t, results[1].Tables["intersection"])}
	want := map[string]string{"ab|c|2": "AB|c|8", "11010119900101123X|q|3": " １1010119900101123x |Q|7"}
	for k := range got[0] {
		if want[got[0][k]] != got[1][k] {
			t.Errorf("row %d: %q is aligned with %q", k, got[0][k], got[1][k])
		}
	}
}

// What a result holds and a view shows stands in Reveals, for every role and
// output, and nothing else does.
func TestRevealsCoversTheResult(t *testing.T) {
	d := Definition()
	x := people(t, [3]string{"1", "a", "b"})
	for _, p := range []string{"", `{"output":"both"}`, `{"output":"receiver"}`} {
		s := spec(params(p))
		results, out := runJobs(t, s, [2]table.Source{x, x})
		sessiontest.NoErrors(t, out)
		for i, role := range []job.Role{Sender, Receiver} {
			said := map[string]bool{}
			for _, x := range d.Reveals(s) {
				if x.To == "" || x.To == role {
					said[x.Field] = true
				}
			}
			for _, f := range results[i].Fields() {
				if !said[f] {
					t.Errorf("%s: %s holds %q, which Reveals does not list", p, role, f)
				}
				delete(said, f)
			}
			for f := range said {
				if !strings.HasPrefix(f, "view.") {
					t.Errorf("%s: Reveals lists %q for %s, which its result does not hold", p, f, role)
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
	if slices.Contains(below(0), "sender:view.below") || !slices.Contains(below(5), "sender:view.below") {
		t.Errorf("view.below is revealed exactly where there is a minimum: %v, %v", below(0), below(5))
	}
}

// The receiver alone: the sender has no table and no count, and both have the
// same (empty) counts, as a receipt wants them.
func TestJobForTheReceiverAlone(t *testing.T) {
	x, y := people(t, [3]string{"1", "a", "b"}, [3]string{"2", "c", "d"}), people(t, [3]string{"3", "C", "D"})
	results, out := runJobs(t, spec(params(`{"output":"receiver"}`)), [2]table.Source{x, y})
	sessiontest.NoErrors(t, out)
	if len(results[0].Tables) != 0 || len(results[0].Counts) != 0 || results[0].Rows != 2 {
		t.Errorf("sender: %+v", results[0])
	}
	if got := rowsOf(t, results[1].Tables["intersection"]); !slices.Equal(got, []string{"C|D|3"}) || len(results[1].Counts) != 0 {
		t.Errorf("receiver: %v, %+v", got, results[1])
	}
}

func TestJobEnforcesTheGrantsMinimum(t *testing.T) {
	x := people(t, [3]string{"1", "a", "b"}, [3]string{"1", "c", "d"})
	for min, want := range map[int64]error{2: nil, 3: job.ErrMinIntersection} {
		s := spec(func(s *job.Spec) { s.Limits.MinIntersection = min })
		results, out := runJobs(t, s, [2]table.Source{x, x})
		if err := sessiontest.Cause(out); !errors.Is(err, want) {
			t.Errorf("minimum %d: %v", min, err)
		}
		if want != nil && (results[0].Tables != nil || results[1].Tables != nil) {
			t.Errorf("minimum %d: a table was returned", min)
		}
	}
	if Definition().MinIntersection != job.AfterReveal {
		t.Error("a receiver that matches locally cannot hold to a minimum before")
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
		_, out := runJobs(t, spec(nil), [2]table.Source{good, c.bad})
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
	_, out := runJobs(t, spec(nil), [2]table.Source{people(t, [3]string{"1", "a", "b"}), one})
	var m *session.MismatchError
	if err := sessiontest.Cause(out); !errors.As(err, &m) || m.Field != "items" {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	d := Definition()
	for _, s := range []string{"", "{}", `{"key_rule":"id.v1","false_match_bits":50,"output":"receiver"}`} {
		if err := d.Validate(spec(params(s))); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for name, change := range map[string]func(*job.Spec){
		"false_match_bits": params(`{"false_match_bits":1}`),
		"key_rule":         params(`{"key_rule":"none"}`),
		`output is "all"`:  params(`{"output":"all"}`),
		"salt":             params(`{"salt":"x"}`), // no such parameter
		"after the object": params(`{} {}`),
		"minimum":          func(s *job.Spec) { s.Limits.MinIntersection = -1 },
		"exactly 1 sender": func(s *job.Spec) { s.Parties[0].Role = Receiver },
		"no role":          func(s *job.Spec) { s.Parties[0].Role = "helper" },
		"receiver, got 0":  func(s *job.Spec) { s.Parties = s.Parties[:1] },
		"p1 needs exactly": func(s *job.Spec) { s.Parties[1].Inputs = nil },
		"at least one":     func(s *job.Spec) { s.Parties[1].Inputs = []job.Input{{Entry: "e"}} },
		"p0 is a recipient": func(s *job.Spec) {
			s.Params, s.Recipients = json.RawMessage(`{"output":"receiver"}`), []session.PartyID{"p0", "p1"}
		},
	} {
		want := name
		if name == "key_rule" {
			want = "none"
		}
		if err := d.Validate(spec(change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := job.NewRegistry(d); err != nil {
		t.Error(err)
	}
}

// The contract and the receipt name the code, the weight of its noise and the
// field, so that a policy can refuse them.
func TestAssumptionsNameTheCode(t *testing.T) {
	d := Definition()
	lpn := "lpn." + vole.DefaultCode
	if !slices.Contains(d.Assumptions, lpn) || !strings.Contains(lpn, ".t848.") || !strings.HasSuffix(lpn, ".gf128") || !slices.Contains(d.Assumptions, "semi-honest") {
		t.Errorf("%v", d.Assumptions)
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
	for _, page := range []string{"ot.md", "vole.md", "okvs.md"} {
		for _, m := range name.FindAllStringSubmatch(read(page), -1) {
			if !slices.Contains(stated, m[1]) {
				t.Errorf("%s rests on %s, which the contract does not name", page, m[1])
			}
		}
	}
	own := read("psi-rr22.md")
	for _, a := range stated {
		if !strings.Contains(own, "| `"+a+"` |") {
			t.Errorf("psi-rr22.md does not explain %s", a)
		}
	}
}

func TestBench(t *testing.T) {
	d := Definition()
	for _, n := range []int64{1, 2, 301} {
		b, err := d.Bench(n)
		if err != nil {
			t.Fatal(err)
		}
		results, out := runJobs(t, b.Spec, [2]table.Source{b.Inputs["p0"][0], b.Inputs["p1"][0]})
		sessiontest.NoErrors(t, out)
		clear, err := d.Clear(t.Context(), b.Spec, b.Inputs)
		if err != nil {
			t.Fatal(err)
		}
		for i := range results {
			if got := results[i].Counts[job.CountCommon]; got != n-n/2 || got != clear[job.CountCommon] {
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
