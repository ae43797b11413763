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
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// benchKey appends the key of subject i.
func benchKey(b []byte, i int64) []byte { return align.AppendSubject(b, i) }

func spec(change func(*job.Spec)) job.Spec {
	in := []job.Input{{Entry: "e", Version: 1, Items: []string{"id"}}}
	s := job.Spec{Kind: Name, Parties: []job.Participant{
		{Party: "p0", Role: align.Sender, Inputs: in}, {Party: "p1", Role: align.Receiver, Inputs: in},
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
		if r.Counts[job.CountCommon] != 2 || r.Counts[align.CountJoined] != 2 || r.Rows != 3 {
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
	if len(got[0]) != len(want) || len(got[1]) != len(want) {
		t.Fatalf("%v", got)
	}
	for k := range got[0] {
		if want[got[0][k]] != got[1][k] {
			t.Errorf("row %d: %q is aligned with %q", k, got[0][k], got[1][k])
		}
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

// Three partitions, padded, each a session of its own.
func TestJobInPartitions(t *testing.T) {
	const n, common = 10_000, 1234
	s := spec(params(`{"partition_rows":4096,"join":"full"}`))
	results, out := runJobs(t, s, [2]table.Source{align.Subjects(n, 0), align.Subjects(n, n-common)})
	sessiontest.NoErrors(t, out)
	for i, r := range results {
		if r.Counts[job.CountCommon] != common || r.Counts[align.CountJoined] != 2*n-common || r.Rows != n {
			t.Errorf("p%d: %+v", i, r)
		}
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
	for _, page := range []string{"ot.md", "vole.md", "okvs.md", "psi-align.md"} {
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
	if _, err := job.NewRegistry(d); err != nil {
		t.Error(err)
	}
	for _, sizes := range [][2]int64{{1, 1}, {2, 2}, {301, 301}, {17, 200}} {
		b, err := d.BenchSizes(sizes[0], sizes[1])
		if err != nil {
			t.Fatal(err)
		}
		results, out := runJobs(t, b.Spec, [2]table.Source{b.Inputs["p0"][0], b.Inputs["p1"][0]})
		sessiontest.NoErrors(t, out)
		for i := range results {
			if got := results[i].Counts[job.CountCommon]; got != b.Common {
				t.Errorf("%v: p%d has %d common rows, want %d", sizes, i, got, b.Common)
			}
		}
		if err := b.Baseline(t.Context()); err != nil || b.BaselineName == "" {
			t.Errorf("%v: baseline %q: %v", sizes, b.BaselineName, err)
		}
	}
}

// The estimate is of the run that the job makes of the sizes, and grows with
// them; its bytes are those of a real run, within a third.
func TestEstimate(t *testing.T) {
	d := Definition()
	if _, err := d.Estimate(spec(nil), []int64{-1, 5}); err == nil {
		t.Error("an estimate of a negative number of rows")
	}
	small, err := d.Estimate(spec(nil), []int64{1 << 20, 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	large, err := d.Estimate(spec(nil), []int64{1 << 25, 1 << 25})
	if err != nil {
		t.Fatal(err)
	}
	if large.CPUSeconds < 20*small.CPUSeconds || large.Bytes < 25*small.Bytes || large.Rounds <= small.Rounds {
		t.Errorf("%+v and %+v", small, large)
	}
	const n = 1 << 15
	b, err := d.Bench(n)
	if err != nil {
		t.Fatal(err)
	}
	_, out := runJobs(t, b.Spec, [2]table.Source{b.Inputs["p0"][0], b.Inputs["p1"][0]})
	sessiontest.NoErrors(t, out)
	c, err := d.Estimate(b.Spec, []int64{n, n})
	if err != nil {
		t.Fatal(err)
	}
	if got := out[0].Traffic.Sent + out[0].Traffic.Received; float64(c.Bytes) < 0.67*float64(got) || float64(c.Bytes) > 1.5*float64(got) {
		t.Errorf("estimated %d bytes, were %d", c.Bytes, got)
	}
}
