package ecdh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/job"
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

// runJobs runs the registered job at both parties.
func runJobs(t testing.TB, net sessiontest.Net, s job.Spec, sources [2]table.Source) (results [2]job.Result, out []sessiontest.Outcome) {
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
	return results, net.Run(t, party(0), party(1))
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
	results, out := runJobs(t, sessiontest.Net{}, spec(nil), [2]table.Source{x, y})
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

// What a result holds and a view shows stands in Reveals, for every role, and
// nothing else does.
func TestRevealsCoversTheResult(t *testing.T) {
	d := Definition()
	x := people(t, [3]string{"1", "a", "b"})
	results, out := runJobs(t, sessiontest.Net{}, spec(nil), [2]table.Source{x, x})
	sessiontest.NoErrors(t, out)
	for i, role := range []job.Role{Sender, Receiver} {
		said := map[string]bool{}
		for _, x := range d.Reveals(spec(nil)) {
			if x.To == "" || x.To == role {
				said[x.Field] = true
			}
		}
		for _, f := range results[i].Fields() {
			if !said[f] {
				t.Errorf("%s holds %q, which Reveals does not list", role, f)
			}
			delete(said, f)
		}
		for f := range said {
			if !strings.HasPrefix(f, "view.") {
				t.Errorf("Reveals lists %q for %s, which its result does not hold", f, role)
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

func TestJobEnforcesTheGrantsMinimum(t *testing.T) {
	x := people(t, [3]string{"1", "a", "b"}, [3]string{"1", "c", "d"})
	for min, want := range map[int64]error{2: nil, 3: job.ErrMinIntersection} {
		s := spec(func(s *job.Spec) { s.Limits = job.Limits{MinIntersection: min, MinBeforeReveal: true} })
		results, out := runJobs(t, sessiontest.Net{}, s, [2]table.Source{x, x})
		if err := sessiontest.Cause(out); !errors.Is(err, want) {
			t.Errorf("minimum %d: %v", min, err)
		}
		if want != nil && (results[0].Tables != nil || results[1].Tables != nil) {
			t.Errorf("minimum %d: a table was returned", min)
		}
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
		_, out := runJobs(t, sessiontest.Net{}, spec(nil), [2]table.Source{good, c.bad})
		if err := sessiontest.Cause(out); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every rule of the table package can be asked for, is held to at both sides,
// and refuses what does not fit it before anything is sent.
func TestJobKeyRules(t *testing.T) {
	one := func(xs ...string) *table.Table {
		b := table.NewBuilder(table.Schema{{Name: "id", Type: table.Text, Key: true}})
		for _, x := range xs {
			b.Texts(0).Append(x)
		}
		tb, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		return tb
	}
	ruled := func(r table.KeyRule) job.Spec {
		return spec(func(s *job.Spec) { s.Params = json.RawMessage(`{"key_rule":"` + string(r) + `"}`) })
	}
	for _, r := range table.KeyRules() {
		if err := Definition().Validate(ruled(r)); err != nil {
			t.Errorf("%s: %v", r, err)
		}
	}
	x := one("（+86）138-0013-8000", "13900139000")
	results, out := runJobs(t, sessiontest.Net{}, ruled(table.RulePhoneCN), [2]table.Source{x, one("13800138000")})
	sessiontest.NoErrors(t, out)
	if got := rowsOf(t, results[0].Tables["intersection"]); !slices.Equal(got, []string{"（+86）138-0013-8000"}) {
		t.Errorf("aligned %q", got)
	}
	_, out = runJobs(t, sessiontest.Net{}, ruled(table.RulePhoneCN), [2]table.Source{x, one("13800138000", "010-12345678")})
	var ke *table.KeyError
	if err := sessiontest.Cause(out); !errors.Is(err, table.ErrUnfitKeys) || !errors.As(err, &ke) || ke.Unfit != (table.KeyFault{Count: 1, First: 2}) {
		t.Errorf("a landline number: %v", err)
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
	_, out := runJobs(t, sessiontest.Net{}, spec(nil), [2]table.Source{people(t, [3]string{"1", "a", "b"}), one})
	var m *session.MismatchError
	if err := sessiontest.Cause(out); !errors.As(err, &m) || m.Field != "items" {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	d := Definition()
	params := func(s string) func(*job.Spec) { return func(sp *job.Spec) { sp.Params = json.RawMessage(s) } }
	for _, s := range []string{"", "{}", `{"key_rule":"id.v1","false_match_bits":50,"tag_bytes":9}`} {
		if err := d.Validate(spec(params(s))); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for name, change := range map[string]func(*job.Spec){
		"false_match_bits": params(`{"false_match_bits":1}`),
		"tag_bytes":        params(`{"tag_bytes":99}`),
		"key_rule":         params(`{"key_rule":"none"}`),
		"salt":             params(`{"salt":"x"}`), // no such parameter
		"after the object": params(`{} {}`),
		"minimum":          func(s *job.Spec) { s.Limits.MinIntersection = -1 },
		"exactly 1 sender": func(s *job.Spec) { s.Parties[0].Role = Receiver },
		"no role":          func(s *job.Spec) { s.Parties[0].Role = "helper" },
		"receiver, got 0":  func(s *job.Spec) { s.Parties = s.Parties[:1] },
		"p1 needs exactly": func(s *job.Spec) { s.Parties[1].Inputs = nil },
		"at least one":     func(s *job.Spec) { s.Parties[1].Inputs = []job.Input{{Entry: "e"}} },
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

func runBench(t testing.TB, n int64) (b job.Bench, bytes int64) {
	t.Helper()
	d := Definition()
	b, err := d.Bench(n)
	if err != nil {
		t.Fatal(err)
	}
	results, out := runJobs(t, sessiontest.Net{Connect: sessiontest.Pipes(8), Timeout: time.Hour}, b.Spec,
		[2]table.Source{b.Inputs["p0"][0], b.Inputs["p1"][0]})
	sessiontest.NoErrors(t, out)
	if got, want := results[0].Counts[job.CountCommon], n-n/2; got != want {
		t.Fatalf("%d common rows, want %d", got, want)
	}
	return b, out[0].Traffic.Sent + out[0].Traffic.Received
}

func TestBench(t *testing.T) {
	for _, n := range []int64{1, 2, 301} {
		b, _ := runBench(t, n)
		if err := b.Baseline(t.Context()); err != nil || b.BaselineName == "" {
			t.Errorf("n %d: baseline %q: %v", n, b.BaselineName, err)
		}
	}
	if _, err := Definition().Bench(0); !errors.Is(err, ErrSize) {
		t.Errorf("a benchmark of nothing: %v", err)
	}
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkJob runs psi.ecdh.v1 with both parties in this process, and the
// bare arithmetic after it: "x-bare" is the first's processor time over the
// second's.
func BenchmarkJob(b *testing.B) {
	for _, log := range []int{12, 16} {
		b.Run(fmt.Sprintf("2^%d", log), func(b *testing.B) {
			n := int64(1) << log
			var protocol, bare time.Duration
			var bytes int64
			for b.Loop() {
				start := cpu(b)
				var bench job.Bench
				bench, bytes = runBench(b, n)
				between := cpu(b)
				if err := bench.Baseline(b.Context()); err != nil {
					b.Fatal(err)
				}
				protocol, bare = protocol+between-start, bare+cpu(b)-between
			}
			rows := float64(n) * float64(b.N)
			b.ReportMetric(float64(protocol.Nanoseconds())/1e3/rows, "cpu-µs/pair")
			b.ReportMetric(float64(bare.Nanoseconds())/1e3/rows, "bare-µs/pair")
			b.ReportMetric(float64(protocol)/float64(bare), "x-bare")
			b.ReportMetric(float64(bytes)/float64(n), "B/row")
		})
	}
}

func BenchmarkPermutation(b *testing.B) {
	for b.Loop() {
		permutation([seedSize]byte{}, 1<<20)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(1<<20), "ns/row")
}

var _ io.Reader = (*stream)(nil)
