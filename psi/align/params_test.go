package align

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

func TestValidate(t *testing.T) {
	d := Definition((&openProtocol{}).protocol())
	for _, s := range []string{
		"", "{}", `{"key_rule":"id.v1","false_match_bits":50,"output":"receiver"}`, `{"partition_rows":4096,"join":"full","duplicates":"join"}`,
		`{"output":"receiver","join":"difference","duplicates":"join"}`,
	} {
		if err := d.Validate(specOf(s, nil)); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, r := range table.KeyRules() {
		if err := d.Validate(specOf(`{"key_rule":"`+string(r)+`"}`, nil)); err != nil {
			t.Errorf("%s: %v", r, err)
		}
	}
	params := func(s string) func(*job.Spec) { return func(sp *job.Spec) { sp.Params = json.RawMessage(s) } }
	for name, c := range map[string]struct {
		change func(*job.Spec)
		want   []string
	}{
		"false matches":     {params(`{"false_match_bits":1}`), []string{"false_match_bits is 1"}},
		"key rule":          {params(`{"key_rule":"none"}`), []string{"none"}},
		"output":            {params(`{"output":"all"}`), []string{`output is "all"`}},
		"join":              {params(`{"join":"outer"}`), []string{`join is "outer"`}},
		"duplicates":        {params(`{"duplicates":"first"}`), []string{`duplicates is "first"`}},
		"small partitions":  {params(`{"partition_rows":4095}`), []string{"partition_rows is 4095"}},
		"negative":          {params(`{"partition_rows":-1}`), []string{"partition_rows is -1"}},
		"all at once":       {params(`{"join":"x","output":"y","false_match_bits":99,"key_rule":"z"}`), []string{`join is "x"`, `output is "y"`, "99", "z"}},
		"unknown":           {params(`{"salt":"x"}`), []string{"salt"}},
		"trailing":          {params(`{} {}`), []string{"after the object"}},
		"receiver and left": {params(`{"output":"receiver","join":"left"}`), []string{"left join", `the output "both"`}},
		"receiver and many": {params(`{"output":"receiver","duplicates":"join"}`), []string{`duplicates "refuse"`, `the output "both"`}},
		"minimum":           {func(s *job.Spec) { s.Limits.MinIntersection = -1 }, []string{"minimum"}},
		"two receivers":     {func(s *job.Spec) { s.Parties[0].Role = Receiver }, []string{"exactly 1 sender"}},
		"a helper":          {func(s *job.Spec) { s.Parties[0].Role = "helper" }, []string{"no role"}},
		"one party":         {func(s *job.Spec) { s.Parties = s.Parties[:1] }, []string{"receiver, got 0"}},
		"no input":          {func(s *job.Spec) { s.Parties[1].Inputs = nil }, []string{"p1 needs exactly"}},
		"no items":          {func(s *job.Spec) { s.Parties[1].Inputs = []job.Input{{Entry: "e"}} }, []string{"at least one"}},
		"a recipient": {func(s *job.Spec) {
			s.Params, s.Recipients = json.RawMessage(`{"output":"receiver"}`), []session.PartyID{"p0", "p1"}
		}, []string{"p0 is a recipient"}},
	} {
		err := d.Validate(specOf("", c.change))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := job.NewRegistry(d); err != nil {
		t.Error(err)
	}
}

// What a result holds and a view shows stands in Reveals, for every role, output
// and join, and nothing else does.
func TestRevealsCoversTheResult(t *testing.T) {
	d := Definition((&openProtocol{}).protocol())
	xs := []row{{"a", 1}, {"a", 2}, {"b", 3}}
	ys := []row{{"a", 4}, {"c", 5}}
	for _, output := range outputs {
		for _, join := range joins {
			s := specOf(params(output, join, "join", 0), nil)
			if d.Validate(s) != nil {
				continue
			}
			t.Run(output+"/"+join, func(t *testing.T) {
				a := attempt{sources: [2]table.Source{tableOf(t, xs), tableOf(t, ys)}, specs: [2]job.Spec{s}}
				results, out := a.run(t)
				sessiontest.NoErrors(t, out)
				psitest.CheckReveals(t, d, s, results[:])
			})
		}
	}
}

// Views are listed exactly where the messages that show them are sent.
func TestRevealsListsTheViews(t *testing.T) {
	d := Definition((&openProtocol{}).protocol())
	for _, c := range []struct {
		params string
		min    int64
		want   string
	}{
		{`{}`, 0, "view.rows view.finished"},
		{`{}`, 5, "view.rows sender:view.below view.finished"},
		{`{"output":"receiver"}`, 0, "view.rows view.finished"},
		{`{"duplicates":"join"}`, 0, "view.rows view.multiplicities view.finished"},
		{`{"duplicates":"join","join":"difference"}`, 0, "view.rows receiver:view.unmatched sender:view.unmatched view.finished"},
		{`{"join":"left"}`, 0, "view.rows receiver:view.unmatched view.finished"},
		{`{"join":"right"}`, 0, "view.rows sender:view.unmatched view.finished"},
		{`{"join":"full"}`, 0, "view.rows receiver:view.unmatched sender:view.unmatched view.finished"},
	} {
		var got []string
		for _, x := range d.Reveals(specOf(c.params, func(s *job.Spec) { s.Limits.MinIntersection = c.min })) {
			if strings.HasPrefix(x.Field, "view.") {
				got = append(got, strings.TrimPrefix(fmt.Sprintf("%s:%s", x.To, x.Field), ":"))
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s, minimum %d: %v, want %s", c.params, c.min, got, c.want)
		}
	}
}

func TestJobRefusesKeysThatCannotBeUsed(t *testing.T) {
	good := tableOf(t, []row{{"a", 1}})
	for name, c := range map[string]struct {
		bad    []row
		params string
		want   error
	}{
		"duplicates by the rule": {[]row{{"a", 1}, {" A", 2}}, ``, table.ErrDuplicateKeys},
		"blank":                  {[]row{{"a", 1}, {" ", 2}}, `{"duplicates":"join"}`, table.ErrBlankKeys},
		"not of the rule's form": {[]row{{"13800138000", 1}, {"010-12345678", 2}}, `{"key_rule":"phone-cn.v1"}`, table.ErrUnfitKeys},
	} {
		x := good
		if name == "not of the rule's form" {
			x = tableOf(t, []row{{"（+86）138-0013-8000", 1}})
		}
		a := attempt{sources: [2]table.Source{x, tableOf(t, c.bad)}, specs: [2]job.Spec{specOf(c.params, nil)}}
		_, out := a.run(t)
		if err := sessiontest.Cause(out); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Ten or so partitions need four bits more than were asked for, of at most 64.
func TestFalseMatchBitsOfPartitions(t *testing.T) {
	rows := make([]row, 300)
	for i := range rows {
		rows[i] = row{fmt.Sprint(i), int64(i)}
	}
	for bits, want := range map[int]error{60: nil, 61: ErrSize} {
		s := specOf(fmt.Sprintf(`{"partition_rows":60,"false_match_bits":%d}`, bits), nil)
		a := attempt{sources: [2]table.Source{tableOf(t, rows), tableOf(t, rows)}, specs: [2]job.Spec{s}}
		_, out := a.run(t)
		if err := sessiontest.Cause(out); !errors.Is(err, want) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}

func TestBench(t *testing.T) {
	d := Definition((&openProtocol{}).protocol())
	for _, sizes := range [][2]int64{{1, 1}, {2, 2}, {301, 301}, {10, 2000}} {
		b, err := d.BenchSizes(sizes[0], sizes[1])
		if err != nil {
			t.Fatal(err)
		}
		a := attempt{sources: [2]table.Source{b.Inputs["p0"][0], b.Inputs["p1"][0]}, specs: [2]job.Spec{b.Spec}}
		results, out := a.run(t)
		sessiontest.NoErrors(t, out)
		clear, err := d.Clear(t.Context(), b.Spec, b.Inputs)
		if err != nil {
			t.Fatal(err)
		}
		if got := results[1].Counts[job.CountCommon]; got != b.Common || clear[job.CountCommon] != got {
			t.Errorf("%v: %d common keys, made %d, in the clear %v", sizes, got, b.Common, clear[job.CountCommon])
		}
	}
	for _, sizes := range [][2]int64{{0, 1}, {1, 0}, {MaxRows + 1, 1}} {
		if _, err := d.BenchSizes(sizes[0], sizes[1]); !errors.Is(err, ErrSize) {
			t.Errorf("a benchmark of %v: %v", sizes, err)
		}
	}
	if err := Compare(t.Context(), 1000); err != nil {
		t.Error(err)
	}
	if got := string(AppendSubject([]byte("x"), 12)); got != "x000000012000000084" {
		t.Errorf("a key %q", got)
	}
}

// The estimate adds up the sessions, whichever party is named first.
func TestEstimate(t *testing.T) {
	d := Definition((&openProtocol{}).protocol())
	s := specOf(`{"partition_rows":4096}`, nil)
	one, err := d.Estimate(s, []int64{4000, 2000})
	if err != nil {
		t.Fatal(err)
	}
	swapped := specOf(`{"partition_rows":4096}`, func(s *job.Spec) { s.Parties[0], s.Parties[1] = s.Parties[1], s.Parties[0] })
	if two, err := d.Estimate(swapped, []int64{2000, 4000}); err != nil || two != one {
		t.Errorf("%+v and %+v, %v", one, two, err)
	}
	many, err := d.Estimate(s, []int64{40000, 20000})
	if err != nil {
		t.Fatal(err)
	}
	if many.Rounds < 10*3 || many.Bytes < 10*one.Bytes || many.Bytes > 14*one.Bytes || many.CPUSeconds < 10*one.CPUSeconds {
		t.Errorf("%+v, and ten times that %+v", one, many)
	}
	for _, rows := range [][]int64{{1}, {1, 2, 3}, {-1, 1}, {MaxRows + 1, 1}} {
		if _, err := d.Estimate(s, rows); err == nil {
			t.Errorf("an estimate of %v", rows)
		}
	}
}
