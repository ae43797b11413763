package cardinality

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// spec is a job of p0 as the sender and p1 as the receiver.
func spec(params string, change func(*job.Spec)) job.Spec {
	s := psitest.Spec(Name, psitest.Params(params), Sender, Receiver)
	s.Recipients = []session.PartyID{"p1"}
	if change != nil {
		change(&s)
	}
	return s
}

func minimum(n int64) func(*job.Spec) {
	return func(s *job.Spec) { s.Limits = job.Limits{MinIntersection: n, MinBeforeReveal: true} }
}

// runJobs runs the registered job at both parties.
func runJobs(t testing.TB, s job.Spec, sources ...table.Source) ([]job.Result, []sessiontest.Outcome) {
	t.Helper()
	return psitest.Job{Definition: Definition(), Spec: s}.Run(t, sources...)
}

func people(t testing.TB, ids ...string) *table.Table {
	t.Helper()
	b := table.NewBuilder(table.Schema{{Name: "income", Type: table.Int}, {Name: "id", Type: table.Text, Key: true}})
	for i, id := range ids {
		b.Ints(0).Append(int64(i))
		b.Texts(1).Append(id)
	}
	tb, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// The job gives what the plaintext gives, to whom the parameters say, and
// nothing that Reveals does not list.
func TestJob(t *testing.T) {
	d := Definition()
	for _, c := range []struct {
		name   string
		xs, ys []string
		want   int64
	}{
		{"empty", nil, nil, 0},
		{"one side empty", nil, psitest.Number(0, 3), 0},
		{"none", psitest.Number(0, 5), psitest.Number(5, 9), 0},
		{"one", []string{"x"}, []string{" ｘ"}, 1},
		{"some", psitest.Number(0, 30), psitest.Number(20, 60), 10},
		{"all", psitest.Number(0, 30), psitest.Number(0, 30), 30},
	} {
		x, y := people(t, c.xs...), people(t, c.ys...)
		for _, params := range []string{"", `{"output":"both"}`, `{"output":"receiver"}`} {
			s := spec(params, nil)
			results, out := runJobs(t, s, x, y)
			sessiontest.NoErrors(t, out)
			clear, err := d.Clear(t.Context(), s, map[session.PartyID][]table.Source{"p0": {x}, "p1": {y}})
			if err != nil {
				t.Fatal(err)
			}
			receiverOnly := strings.Contains(params, "receiver")
			psitest.CheckReveals(t, d, s, results)
			for i, r := range results {
				if r.Tables != nil || r.Rows != int64([]int{len(c.xs), len(c.ys)}[i]) {
					t.Errorf("%s %s: p%d: %+v", c.name, params, i, r)
				}
				switch {
				case !receiverOnly && (r.Counts[job.CountCommon] != c.want || clear[job.CountCommon] != c.want || r.Values != nil):
					t.Errorf("%s %s: p%d: %+v, in the clear %v, want %d", c.name, params, i, r, clear, c.want)
				case receiverOnly && i == 1 && (r.Values[fieldSize] != c.want || clear[fieldSize] != c.want || r.Counts != nil):
					t.Errorf("%s %s: %+v, in the clear %v, want %d", c.name, params, r, clear, c.want)
				case receiverOnly && i == 0 && len(r.Fields()) != 0:
					t.Errorf("%s %s: the sender holds %v", c.name, params, r.Fields())
				}
			}
		}
	}
}

func TestMinimum(t *testing.T) {
	x, y := people(t, psitest.Number(0, 6)...), people(t, psitest.Number(4, 10)...) // 2 common
	for _, params := range []string{"", `{"output":"receiver"}`} {
		for min, want := range map[int64]error{2: nil, 3: job.ErrMinIntersection, 7: job.ErrMinIntersection} {
			results, out := runJobs(t, spec(params, minimum(min)), x, y)
			if err := sessiontest.Cause(out); !errors.Is(err, want) {
				t.Errorf("%q, minimum %d: %v", params, min, err)
			}
			for i, r := range results {
				if want != nil && (len(r.Fields()) != 0 || out[i].Err == nil) {
					t.Errorf("%q, minimum %d: p%d: %+v, %v", params, min, i, r, out[i].Err)
				}
			}
		}
	}
}

func TestKeys(t *testing.T) {
	good := people(t, "11010519491231002x")
	s := spec(`{"key_rule":"cn-id18.v1"}`, nil)
	results, out := runJobs(t, s, good, people(t, "１1010519491231002X "))
	sessiontest.NoErrors(t, out)
	if results[0].Counts[job.CountCommon] != 1 {
		t.Errorf("%+v", results[0])
	}
	for name, c := range map[string]struct {
		bad  *table.Table
		want error
	}{
		"check digit": {people(t, "110105194912310021"), table.ErrUnfitKeys},
		"duplicate":   {people(t, "11010519491231002x", "11010519491231002X"), table.ErrDuplicateKeys},
		"blank":       {people(t, " "), table.ErrBlankKeys},
	} {
		_, out := runJobs(t, s, good, c.bad)
		if err := sessiontest.Cause(out); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidate(t *testing.T) {
	d := Definition()
	for _, params := range []string{"", "{}", `{"key_rule":"uscc.v1","false_match_bits":50,"tag_bytes":9,"output":"receiver"}`} {
		if err := d.Validate(spec(params, nil)); err != nil {
			t.Errorf("%q: %v", params, err)
		}
	}
	toSender := func(s *job.Spec) { s.Recipients = []session.PartyID{"p0"} }
	if err := d.Validate(spec("", toSender)); err != nil {
		t.Errorf("the sender as recipient: %v", err)
	}
	for want, s := range map[string]job.Spec{
		"false_match_bits":        spec(`{"false_match_bits":1}`, nil),
		"tag_bytes":               spec(`{"tag_bytes":99}`, nil),
		"cn-id18.v1":              spec(`{"key_rule":"cn-id18"}`, nil),
		"output is \"sender\"":    spec(`{"output":"sender"}`, nil),
		"salt":                    spec(`{"salt":"x"}`, nil),
		"minimum":                 spec("", minimum(-1)),
		"p0 is a recipient":       spec(`{"output":"receiver"}`, toSender),
		"exactly 1 sender, got 0": spec("", func(s *job.Spec) { s.Parties[0].Role = Receiver }),
		"receiver, got 0":         spec("", func(s *job.Spec) { s.Parties = s.Parties[:1] }),
		"p1 needs exactly one":    spec("", func(s *job.Spec) { s.Parties[1].Inputs = nil }),
	} {
		if err := d.Validate(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := job.NewRegistry(d); err != nil {
		t.Error(err)
	}
	// A receiver learns how many rows are common below the minimum too, and that
	// is said.
	said := d.Reveals(spec("", minimum(5)))
	if !slices.ContainsFunc(said, func(x job.Disclosure) bool { return x.To == Receiver && x.Field == fieldCount }) {
		t.Errorf("%+v", said)
	}
}

func TestBench(t *testing.T) {
	for _, n := range []int64{1, 2, 301} {
		b, err := Definition().Bench(n)
		if err != nil {
			t.Fatal(err)
		}
		results, out := runJobs(t, b.Spec, b.Inputs["p0"][0], b.Inputs["p1"][0])
		sessiontest.NoErrors(t, out)
		if b.Spec.Kind != Name || results[1].Counts[job.CountCommon] != n-n/2 {
			t.Errorf("n %d: %s, %+v", n, b.Spec.Kind, results[1])
		}
	}
	if _, err := Definition().Bench(0); !errors.Is(err, align.ErrSize) {
		t.Errorf("a benchmark of nothing: %v", err)
	}
	b, err := Definition().BenchSizes(5, 300)
	if err != nil {
		t.Fatal(err)
	}
	results, out := runJobs(t, b.Spec, b.Inputs["p0"][0], b.Inputs["p1"][0])
	sessiontest.NoErrors(t, out)
	if results[0].Rows != 5 || results[1].Rows != 300 || results[1].Counts[job.CountCommon] != b.Common {
		t.Errorf("5 and 300 rows: %+v, %d are common", results, b.Common)
	}
}
