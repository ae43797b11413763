package rr22

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// benchKey appends the key of subject i.
func benchKey(b []byte, i int64) []byte { return align.AppendSubject(b, i) }

func spec(change func(*job.Spec)) job.Spec {
	return psitest.Spec(Name, change, align.Sender, align.Receiver)
}

// runJobs runs the registered job at both parties.
func runJobs(t testing.TB, s job.Spec, sources ...table.Source) ([]job.Result, []sessiontest.Outcome) {
	t.Helper()
	return psitest.Job{Definition: Definition(), Spec: s}.Run(t, sources...)
}

func TestJobAlignsCompositeKeys(t *testing.T) {
	x := psitest.People(t, [3]string{"1", "a", "bc"}, [3]string{"2", "ab", "c"}, [3]string{"3", "11010119900101123X", "q"})
	y := psitest.People(t, [3]string{"7", " １1010119900101123x ", "Q"}, [3]string{"8", "AB", "c"}, [3]string{"9", "abc", "d"})
	results, out := runJobs(t, spec(nil), x, y)
	sessiontest.NoErrors(t, out)
	for i, r := range results {
		if r.Counts[job.CountCommon] != 2 || r.Counts[align.CountJoined] != 2 || r.Rows != 3 {
			t.Errorf("p%d: %+v", i, r)
		}
		if names := psitest.Columns(r.Tables["intersection"]); !slices.Equal(names, []string{"id", "branch", "income"}) {
			t.Errorf("p%d: columns %v", i, names)
		}
	}
	got := [2][]string{psitest.Cells(t, results[0].Tables["intersection"]), psitest.Cells(t, results[1].Tables["intersection"])}
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
	x, y := psitest.People(t, [3]string{"1", "a", "b"}, [3]string{"2", "c", "d"}), psitest.People(t, [3]string{"3", "C", "D"})
	results, out := runJobs(t, spec(psitest.Params(`{"output":"receiver"}`)), x, y)
	sessiontest.NoErrors(t, out)
	if len(results[0].Tables) != 0 || len(results[0].Counts) != 0 || results[0].Rows != 2 {
		t.Errorf("sender: %+v", results[0])
	}
	if got := psitest.Cells(t, results[1].Tables["intersection"]); !slices.Equal(got, []string{"C|D|3"}) || len(results[1].Counts) != 0 {
		t.Errorf("receiver: %v, %+v", got, results[1])
	}
}

func TestJobEnforcesTheGrantsMinimum(t *testing.T) {
	x := psitest.People(t, [3]string{"1", "a", "b"}, [3]string{"1", "c", "d"})
	for min, want := range map[int64]error{2: nil, 3: job.ErrMinIntersection} {
		s := spec(func(s *job.Spec) { s.Limits.MinIntersection = min })
		results, out := runJobs(t, s, x, x)
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
	s := spec(psitest.Params(`{"partition_rows":4096,"join":"full"}`))
	results, out := runJobs(t, s, align.Subjects(n, 0), align.Subjects(n, n-common))
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
	psitest.CheckAssumptions(t, Definition(), "psi-rr22.md", "ot.md", "vole.md", "okvs.md", "psi-align.md")
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
		results, out := runJobs(t, b.Spec, b.Inputs["p0"][0], b.Inputs["p1"][0])
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
	_, out := runJobs(t, b.Spec, b.Inputs["p0"][0], b.Inputs["p1"][0])
	sessiontest.NoErrors(t, out)
	c, err := d.Estimate(b.Spec, []int64{n, n})
	if err != nil {
		t.Fatal(err)
	}
	if got := out[0].Traffic.Sent + out[0].Traffic.Received; float64(c.Bytes) < 0.67*float64(got) || float64(c.Bytes) > 1.5*float64(got) {
		t.Errorf("estimated %d bytes, were %d", c.Bytes, got)
	}
}
