package benchmarks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/benchmarks"
	"github.com/yinqiao/yinqiao/job"
)

func sweep(t *testing.T, s benchmarks.Sweep) (*benchmarks.SweepReport, []string, error) {
	t.Helper()
	var lines []string
	stop := s.Progress
	s.Progress = func(line string) {
		lines = append(lines, line)
		if stop != nil {
			stop(line)
		}
	}
	s.Name, s.Version = "psi", "test"
	r, err := s.Run(t.Context())
	return r, lines, err
}

func wellFormed(t testing.TB, svg []byte) {
	t.Helper()
	for dec := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := dec.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("%v\n%s", err, svg)
		}
	}
}

// A sweep measures every case as often as asked, writes what a report reads
// back the same, and names every protocol in table and plots.
func TestSweep(t *testing.T) {
	jobs := []job.Definition{kind(t, "psi.ecdh.v1"), kind(t, "psi.cardinality.v1")}
	saved := 0
	r, lines, err := sweep(t, benchmarks.Sweep{
		Jobs: jobs, Sizes: []int64{64, 128}, Nets: []string{"none", "lan"}, Runs: 2,
		Save: func(r *benchmarks.SweepReport) error { saved++; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cases) != 8 || saved != 8 || len(lines) != 8 || r.Interrupted || r.Machine.Cores < 1 || r.Machine.Binary == "" || r.Links["lan"].BitsPerSecond != 1e9 {
		t.Errorf("%d cases, saved %d times, %q: %+v", len(r.Cases), saved, lines, r)
	}
	for _, c := range r.Cases {
		s := c.Summary
		if c.State != benchmarks.StateMeasured || len(c.Runs) != 2 || s == nil || s.Seconds.Min > s.Seconds.Median || s.Seconds.Median > s.Seconds.Max ||
			s.BaselineRatio <= 0 || s.BytesPerRow <= 0 || s.CPUPerRow <= 0 {
			t.Errorf("%+v %+v", c, s)
		}
		if withYardstick := c.Runs[0].Baseline.Name != ""; withYardstick != (c.Net == "none") {
			t.Errorf("%s over %s: the yardstick ran: %v", c.Job, c.Net, withYardstick)
		}
	}
	dir := filepath.Join(t.TempDir(), "new", "folder")
	names, err := r.WriteFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"sweep.json", "table.md", "seconds-none.svg", "seconds-lan.svg", "bytes.svg", "cpu.svg"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %s in %q", want, names)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != len(names) {
		t.Errorf("%v, %v", left, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range jobs {
			if !bytes.Contains(b, []byte(d.Name)) {
				t.Errorf("%s does not name %s", name, d.Name)
			}
		}
		switch filepath.Ext(name) {
		case ".svg":
			wellFormed(t, b)
		case ".json":
			again, err := benchmarks.ReadSweep(b)
			if err != nil {
				t.Fatal(err)
			}
			one, _ := json.Marshal(r)
			two, _ := json.Marshal(again)
			if !bytes.Equal(one, two) {
				t.Errorf("written\n%s\nread\n%s", one, two)
			}
		}
	}
}

// A case that fails is a line, and the others are measured; so is one that
// would take too long, and those larger than it.
func TestSweepGoesOn(t *testing.T) {
	slow := kind(t, "psi.ecdh.v1")
	slow.Name = "test.slow.v1"
	slow.Estimate = func(_ job.Spec, rows []int64) (job.Cost, error) {
		return job.Cost{CPUSeconds: float64(rows[0])}, nil // two runs of 100 rows: 200 s
	}
	r, lines, err := sweep(t, benchmarks.Sweep{
		Jobs: []job.Definition{kind(t, "test.failing.v1"), slow, kind(t, "psi.ecdh.v1")}, Sizes: []int64{100, 1000}, Nets: []string{"none"},
		Runs: 2, Limit: 150 * time.Second,
	})
	if !errors.Is(err, benchmarks.ErrCases) || !strings.Contains(err.Error(), "2 of 6") {
		t.Error(err)
	}
	var states []benchmarks.State
	for _, c := range r.Cases {
		states = append(states, c.State)
	}
	if !slices.Equal(states, []benchmarks.State{"failed", "failed", "skipped", "skipped", "measured", "measured"}) {
		t.Errorf("%q: %q", states, lines)
	}
	if !strings.Contains(r.Cases[0].Note, errPlanned.Error()) || !strings.Contains(r.Cases[3].Note, "expected to take 33 min, the limit is 150 s") {
		t.Errorf("%q, %q", r.Cases[0].Note, r.Cases[3].Note)
	}
	if page := string(r.Markdown(nil)); !strings.Contains(page, errPlanned.Error()) || !strings.Contains(page, "skipped: 2 runs") {
		t.Error(page)
	}
	for _, svg := range r.Plots() {
		wellFormed(t, svg)
	}
}

// A sweep that is ended keeps what it has measured; one whose case hangs goes
// on after twice the limit.
func TestSweepEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := benchmarks.Sweep{
		Name: "psi", Jobs: []job.Definition{kind(t, "psi.ecdh.v1")}, Sizes: []int64{64, 128, 256}, Nets: []string{"none"}, Runs: 1,
		Progress: func(line string) {
			if strings.Contains(line, "128 rows") {
				cancel()
			}
		},
	}
	r, err := s.Run(ctx)
	if !errors.Is(err, context.Canceled) || !r.Interrupted || len(r.Cases) != 2 || r.Cases[1].State != benchmarks.StateMeasured {
		t.Errorf("%v: %+v", err, r)
	}
	hanging := kind(t, "psi.ecdh.v1")
	hanging.Run = func(ctx context.Context, _ job.Env) (job.Result, error) {
		<-ctx.Done()
		return job.Result{}, ctx.Err()
	}
	s = benchmarks.Sweep{Name: "psi", Jobs: []job.Definition{hanging}, Sizes: []int64{64}, Nets: []string{"none"}, Runs: 1, Limit: 20 * time.Millisecond}
	r, err = s.Run(t.Context())
	if !errors.Is(err, benchmarks.ErrCases) || len(r.Cases) != 1 || !strings.Contains(r.Cases[0].Note, "twice the limit") {
		t.Errorf("%v: %+v", err, r.Cases)
	}
}

// report is one of cases with these CPU seconds, at the machine cpu.
func report(cpu string, cases ...benchmarks.SweepCase) *benchmarks.SweepReport {
	return &benchmarks.SweepReport{
		Format: "yinqiao.sweep.v1", Name: "psi", Machine: benchmarks.Machine{CPU: cpu, Cores: 2}, RunsWanted: 1,
		Links: map[string]benchmarks.LinkShape{"none": {}}, Cases: cases,
	}
}

func measuredCase(n int64, cpuSeconds float64) benchmarks.SweepCase {
	run := benchmarks.Report{Job: "psi.a.v1", N: n, Net: "none", Seconds: cpuSeconds, CPUSeconds: cpuSeconds, BytesPerRow: 30, Rounds: 3}
	return benchmarks.SweepCase{Job: "psi.a.v1", N: n, Net: "none", State: benchmarks.StateMeasured, Runs: []benchmarks.Report{run}}
}

// Cost a row is set against that at 2^16, also where the sizes come from two
// sweeps.
func TestLinearity(t *testing.T) {
	small := report("x", measuredCase(1<<12, 1), measuredCase(1<<16, 2), measuredCase(1<<20, 2*16*1.1))
	m, err := benchmarks.Merge(small, report("x", measuredCase(1<<22, 2*64*0.9), measuredCase(1<<20, 2*16*1.15)))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Cases) != 4 || len(m.Merged) != 2 {
		t.Fatalf("%+v", m)
	}
	for i, want := range []float64{8, 1, 1.15, 0.9} {
		if got := m.Cases[i].Summary.ToReference; got < want-1e-9 || got > want+1e-9 {
			t.Errorf("%d rows: %v, want %v", m.Cases[i].N, got, want)
		}
	}
	want := "psi.a.v1: CPU time a row from 2^16 to 2^22 is 0.90 to 1.15 of that at 2^16: within 20 %"
	if lines := m.Linearity(); len(lines) != 1 || lines[0] != want {
		t.Errorf("%q", lines)
	}
	m, err = benchmarks.Merge(small, report("x", measuredCase(1<<24, 2*256*1.3)))
	if err != nil {
		t.Fatal(err)
	}
	if lines := m.Linearity(); len(lines) != 1 || !strings.HasSuffix(lines[0], "1.10 to 1.30 of that at 2^16: not within 20 %") {
		t.Errorf("%q", lines)
	}
	if _, err := benchmarks.Merge(small, report("y")); !errors.Is(err, benchmarks.ErrMachines) {
		t.Errorf("two machines: %v", err)
	}
	failed := measuredCase(1<<20, 1)
	failed.State, failed.Runs = benchmarks.StateFailed, nil
	if m, err = benchmarks.Merge(small, report("x", failed)); err != nil || m.Cases[2].State != benchmarks.StateMeasured {
		t.Errorf("a failure took the place of a figure: %v", err)
	}
}

// FuzzReadSweep: a file is refused, or can be shown in every way.
func FuzzReadSweep(f *testing.F) {
	b, err := json.Marshal(report("x", measuredCase(1<<12, 1), measuredCase(1<<16, 2)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":"yinqiao.sweep.v1","cases":[{"job":"a","n":1,"net":"none","state":"skipped"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := benchmarks.ReadSweep(b)
		if err != nil {
			return
		}
		r.Table()
		r.Markdown([]string{"x.svg"})
		r.Linearity()
		for _, svg := range r.Plots() {
			wellFormed(t, svg)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
		if _, err := benchmarks.Merge(r, r); err != nil {
			t.Error(err)
		}
	})
}
