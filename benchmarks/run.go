// Package benchmarks measures any registered job: the same definition that
// nodes run, over an in-memory pipe or over gRPC on a shaped link, with all
// parties in this process or each in one of its own, with sets in memory or
// with CSV files on both sides.
//
// [Run] measures one [Case]; a [Sweep] measures many, and its [SweepReport]
// prints them, draws them and merges with others.
package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/yinqiao/yinqiao/benchmarks/link"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
	"github.com/yinqiao/yinqiao/table"
)

// Case is what one run measures. The zero value of each field but N is the
// default.
type Case struct {
	N   int64  // rows of the first party
	M   int64  // rows of each other party; 0: N
	Net string // see package link; "" is "none"
	// Parties, Cells and Measures are for kinds that make statistics, see
	// job.BenchSize: N is rows where Cells is set, and counters where it is not.
	Parties         int
	Cells, Measures int64
	// CSV has each party read its rows from CSV files and write its results to
	// others, as a node does; the clock runs meanwhile. Without it rows are in
	// memory, and results stay there.
	CSV bool
	// Warm runs the case twice on the same job.Env.Cache and reports the second.
	Warm bool
	// Processes gives each party a process of its own.
	Processes bool
	// NoBaseline leaves the yardstick out.
	NoBaseline bool
	// Dir holds the files of the run, a folder a party; "" is a temporary folder
	// that goes with the run. It need not exist, and its files stay.
	Dir string
	// Command starts a process that calls ServeParty with its standard input and
	// output; nil is this program with the arguments "bench party".
	Command []string
	// Progress, if not nil, hears how far a party is; it must be safe for
	// concurrent use.
	Progress func(stage string, done, total int64) `json:"-"`
}

// Report is what one run measured. The JSON keys are stable.
type Report struct {
	Job         string  `json:"job"`
	N           int64   `json:"n"`           // rows of the first party
	M           int64   `json:"m,omitempty"` // rows of each other party, where that was asked for
	Parties     int     `json:"parties"`
	Cells       int64   `json:"cells,omitempty"`    // where that was asked for: of each party's N rows,
	Measures    int64   `json:"measures,omitempty"` // with as many measures
	Net         string  `json:"net"`
	CSV         bool    `json:"csv,omitempty"`
	Warm        bool    `json:"warm,omitempty"`
	Processes   bool    `json:"processes,omitempty"`
	Seconds     float64 `json:"seconds"`     // wall clock
	CPUSeconds  float64 `json:"cpu_seconds"` // of all parties together
	Bytes       int64   `json:"bytes"`       // of all messages, every party's once
	BytesPerRow float64 `json:"bytes_per_row"`
	Rounds      int64   `json:"rounds"` // of the party with most
	// PeakRSSBytes is of all parties together in one process, and of the party
	// that used most where each has its own.
	PeakRSSBytes int64         `json:"peak_rss_bytes"`
	ResultRows   int64         `json:"result_rows"` // in common, or cells of a table of statistics
	Baseline     Baseline      `json:"baseline"`
	PerParty     []PartyReport `json:"per_party"`
}

// Baseline is the yardstick of the same run.
type Baseline struct {
	Name       string  `json:"name"`
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
}

// PartyReport is one party's share of a run. CPU time and memory are known
// where each party has a process of its own.
type PartyReport struct {
	Party        session.PartyID `json:"party"`
	Role         job.Role        `json:"role"`
	Rows         int64           `json:"rows"`
	Seconds      float64         `json:"seconds"`
	ReadSeconds  float64         `json:"read_seconds,omitempty"` // inputs opened and digested, before the job
	JobSeconds   float64         `json:"job_seconds"`
	WriteSeconds float64         `json:"write_seconds,omitempty"` // results written as CSV
	CPUSeconds   float64         `json:"cpu_seconds,omitempty"`
	PeakRSSBytes int64           `json:"peak_rss_bytes,omitempty"`
	BytesSent    int64           `json:"bytes_sent"`
	Rounds       int64           `json:"rounds"`
}

// check completes c and holds it to what def can do.
func (c *Case) check(def job.Definition) error {
	if def.Bench == nil {
		return fmt.Errorf("benchmarks: %s has no benchmark", def.Name)
	}
	if c.Net == "" {
		c.Net = string(link.None)
	}
	if _, err := link.Parse(c.Net); err != nil {
		return err
	}
	if c.M != 0 && def.BenchSizes == nil {
		return fmt.Errorf("benchmarks: the parties of %s have as many rows each: there is one size", def.Name)
	}
	if (c.Parties != 0 || c.Cells != 0 || c.Measures != 0) && def.BenchStatistics == nil {
		return fmt.Errorf("benchmarks: %s makes no statistics: there is no choice of parties, cells and measures", def.Name)
	}
	if c.Parties < 0 || c.Cells < 0 || c.Measures < 0 || c.Cells == 0 && c.Measures != 0 {
		return fmt.Errorf("benchmarks: %d parties, %d cells, %d measures: none may be negative, and measures want cells", c.Parties, c.Cells, c.Measures)
	}
	if c.N < 1 || c.M < 0 || max(c.N, c.M) > MaxSize {
		return fmt.Errorf("benchmarks: %d and %d rows: 1 to 2^40 are possible", c.N, c.M)
	}
	return nil
}

// bench makes the case of def, held to def's own rules.
func (c *Case) bench(def job.Definition) (job.Bench, error) {
	var b job.Bench
	var err error
	switch {
	case c.M != 0:
		b, err = def.BenchSizes(c.N, c.M)
	case c.Cells != 0:
		b, err = def.BenchStatistics(job.BenchSize{Parties: c.Parties, Rows: c.N, Cells: c.Cells, Measures: c.Measures})
	case c.Parties != 0:
		b, err = def.BenchStatistics(job.BenchSize{Parties: c.Parties, Counters: c.N})
	default:
		b, err = def.Bench(c.N)
	}
	if err != nil {
		return b, err
	}
	return b, errors.Join(def.CheckRoles(b.Spec), def.Validate(b.Spec))
}

func partyIDs(spec job.Spec) []session.PartyID {
	var ids []session.PartyID
	for _, p := range spec.Parties {
		ids = append(ids, p.Party)
	}
	return ids
}

// rows is how many all parties have together.
func (c *Case) rows(parties int) int64 {
	each := c.M
	if each == 0 {
		each = c.N
	}
	return c.N + int64(parties-1)*each
}

// passes is how often the parties run the job: the last one is reported.
func (c *Case) passes() int {
	if c.Warm {
		return 2
	}
	return 1
}

// measured is what the parties of one pass did.
type measured struct {
	outcomes []outcome
	seconds  float64
	cpu      float64
	peak     int64
}

// Run runs def's benchmark case once, and its yardstick after it.
func Run(ctx context.Context, def job.Definition, c Case) (Report, error) {
	if err := c.check(def); err != nil {
		return Report{}, err
	}
	r := Report{Job: def.Name, N: c.N, M: c.M, Cells: c.Cells, Measures: c.Measures, Net: c.Net, CSV: c.CSV, Warm: c.Warm, Processes: c.Processes}
	b, err := c.bench(def)
	if err != nil {
		return r, err
	}
	if c.Dir == "" && (c.CSV || c.Warm || c.Processes) {
		if c.Dir, err = os.MkdirTemp("", "yinqiao-bench-"); err != nil {
			return r, err
		}
		defer os.RemoveAll(c.Dir)
	}
	r.Parties = len(b.Spec.Parties)
	run := runHere
	if c.Processes {
		run = runProcesses
	}
	m, err := run(ctx, def, c, b)
	if err != nil {
		return r, err
	}
	if err := r.fill(b, m); err != nil {
		return r, err
	}
	if c.CSV {
		if err := checkResults(ctx, def, c, b, m.outcomes); err != nil {
			return r, err
		}
	}
	if b.Baseline == nil || c.NoBaseline {
		return r, nil
	}
	if err := hold(ctx, b); err != nil {
		return r, err
	}
	settle()
	cpu, begin := cpuTime(), time.Now()
	if err := b.Baseline(ctx); err != nil {
		return r, fmt.Errorf("benchmarks: yardstick: %w", err)
	}
	r.Baseline = Baseline{Name: b.BaselineName, Seconds: time.Since(begin).Seconds(), CPUSeconds: (cpuTime() - cpu).Seconds()}
	return r, nil
}

// hold reads the inputs into memory, in b's own map: a yardstick that reads
// them finds them there.
func hold(ctx context.Context, b job.Bench) error {
	for id := range b.Inputs {
		if err := holdParty(ctx, b, id); err != nil {
			return err
		}
	}
	return nil
}

func holdParty(ctx context.Context, b job.Bench, id session.PartyID) error {
	for i, src := range b.Inputs[id] {
		t, err := table.Hold(ctx, src)
		if err != nil {
			return err
		}
		b.Inputs[id][i] = t
	}
	return nil
}

// fill puts what the parties did into the report.
func (r *Report) fill(b job.Bench, m measured) error {
	r.Seconds, r.CPUSeconds, r.PeakRSSBytes = m.seconds, m.cpu, m.peak
	for i, o := range m.outcomes {
		r.Bytes += o.BytesSent
		r.Rounds = max(r.Rounds, o.Rounds)
		r.PerParty = append(r.PerParty, o.PartyReport)
		common, ok := o.Counts[job.CountCommon]
		if !ok {
			common = o.Counts[job.CountCells]
		}
		if i == 0 {
			r.ResultRows = common
		}
		if common != r.ResultRows {
			return fmt.Errorf("benchmarks: %s counts %d rows, %s %d", m.outcomes[0].Party, r.ResultRows, o.Party, common)
		}
	}
	r.BytesPerRow = float64(r.Bytes) / float64(r.N)
	if b.Common > 0 && r.ResultRows != b.Common {
		return fmt.Errorf("benchmarks: %d rows in common, the case has %d", r.ResultRows, b.Common)
	}
	return nil
}

// runHere runs all parties in this process.
func runHere(ctx context.Context, def job.Definition, c Case, b job.Bench) (m measured, err error) {
	ids := partyIDs(b.Spec)
	parties := make([]*party, len(ids))
	for i, id := range ids {
		if parties[i], err = prepare(ctx, def, c, b, id); err != nil {
			return m, err
		}
		defer parties[i].close()
	}
	for range c.passes() {
		openers, closeLink, err := link.Connect(link.Kind(c.Net), ids)
		if err != nil {
			return m, err
		}
		m.outcomes = make([]outcome, len(ids))
		settle()
		cpu, begin := cpuTime(), time.Now()
		group, gctx := errgroup.WithContext(ctx)
		for i, p := range parties {
			group.Go(func() (err error) {
				m.outcomes[i], err = p.run(gctx, openers[ids[i]])
				return err
			})
		}
		err = group.Wait()
		m.seconds, m.cpu, m.peak = time.Since(begin).Seconds(), (cpuTime() - cpu).Seconds(), peakRSS()
		if err := errors.Join(err, closeLink()); err != nil {
			return m, err
		}
	}
	return m, nil
}

// partyDir is the folder of one party's files.
func (c *Case) partyDir(id session.PartyID) string { return filepath.Join(c.Dir, string(id)) }
