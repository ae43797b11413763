package benchmarks

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

const sweepFormat = "yinqiao.sweep.v1"

// State says what became of a case.
type State string

// The states.
const (
	StateMeasured State = "measured"
	StateFailed   State = "failed"
	StateSkipped  State = "skipped"
)

// SweepReport is what a sweep measured. The JSON keys are stable.
type SweepReport struct {
	Format       string               `json:"format"`
	Name         string               `json:"name"`
	Date         time.Time            `json:"date"`
	Machine      Machine              `json:"machine"`
	Links        map[string]LinkShape `json:"links"`
	RunsWanted   int                  `json:"runs"` // of each case
	LimitSeconds float64              `json:"limit_seconds"`
	Interrupted  bool                 `json:"interrupted"`
	// Merged names the sweeps that were put together, if this is not one alone.
	Merged []Origin    `json:"merged,omitempty"`
	Cases  []SweepCase `json:"cases"`
}

// Origin tells one sweep of a merged report.
type Origin struct {
	Date    time.Time `json:"date"`
	Version string    `json:"version,omitempty"`
	Commit  string    `json:"commit,omitempty"`
	Binary  string    `json:"binary_sha256,omitempty"`
}

// SweepCase is one line of the table.
type SweepCase struct {
	Job       string `json:"job"`
	N         int64  `json:"n"`
	M         int64  `json:"m,omitempty"`
	Net       string `json:"net"`
	CSV       bool   `json:"csv,omitempty"`
	Warm      bool   `json:"warm,omitempty"`
	Processes bool   `json:"processes,omitempty"`
	State     State  `json:"state"`
	Note      string `json:"note,omitempty"` // the error, or why it was skipped
	// EstimateSeconds is what one run was expected to take.
	EstimateSeconds float64  `json:"estimate_seconds,omitempty"`
	Runs            []Report `json:"runs"`
	Summary         *Summary `json:"summary,omitempty"`
}

// Summary is a case's runs in short: medians, with the extremes of what varies.
type Summary struct {
	Seconds      Spread  `json:"seconds"`
	CPUSeconds   Spread  `json:"cpu_seconds"`
	CPUPerRow    float64 `json:"cpu_seconds_per_row"` // of the first party
	BytesPerRow  float64 `json:"bytes_per_row"`
	Rounds       int64   `json:"rounds"`
	PeakRSSBytes int64   `json:"peak_rss_bytes"` // the greatest
	// BaselineRatio is CPU time against the yardstick's, which runs over the
	// sweep's first network only; 0 where there is none.
	BaselineRatio float64 `json:"baseline_ratio,omitempty"`
	// ToReference is CPU time a row against that at 2^16 rows of the same job
	// over the same network; 0 where that was not measured.
	ToReference float64 `json:"cpu_per_row_to_2e16,omitempty"`
}

// Spread is a median with the least and the greatest value.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// referenceRows is the size that cost a row is compared with.
const referenceRows = 1 << 16

func spread(runs []Report, of func(Report) float64) Spread {
	var vs []float64
	for _, r := range runs {
		vs = append(vs, of(r))
	}
	slices.Sort(vs)
	k := len(vs)
	return Spread{Median: (vs[(k-1)/2] + vs[k/2]) / 2, Min: vs[0], Max: vs[k-1]}
}

// summary is nil where there is no run.
func summary(runs []Report) *Summary {
	if len(runs) == 0 {
		return nil
	}
	s := &Summary{
		Seconds:     spread(runs, func(r Report) float64 { return r.Seconds }),
		CPUSeconds:  spread(runs, func(r Report) float64 { return r.CPUSeconds }),
		BytesPerRow: spread(runs, func(r Report) float64 { return r.BytesPerRow }).Median,
	}
	s.CPUPerRow = s.CPUSeconds.Median / float64(runs[0].N)
	for _, r := range runs {
		s.Rounds = max(s.Rounds, r.Rounds)
		s.PeakRSSBytes = max(s.PeakRSSBytes, r.PeakRSSBytes)
	}
	return s
}

// same reports whether two cases have a comparable cost a row.
func (c SweepCase) same(o SweepCase) bool {
	return c.Job == o.Job && c.Net == o.Net && c.CSV == o.CSV && c.Warm == o.Warm && c.Processes == o.Processes
}

// summarise works out the figures that compare a case with others.
func (r *SweepReport) summarise() {
	for i := range r.Cases {
		c := &r.Cases[i]
		if c.Summary = summary(c.Runs); c.Summary == nil {
			continue
		}
		for _, o := range r.Cases {
			if o.Summary == nil {
				o.Summary = summary(o.Runs)
			}
			if o.Summary == nil {
				continue
			}
			onNet := o
			onNet.Net = c.Net
			if onNet.same(*c) && o.N == c.N && o.M == c.M {
				yardstick := spread(o.Runs, func(r Report) float64 { return r.Baseline.CPUSeconds }).Median
				if yardstick > 0 && (c.Summary.BaselineRatio == 0 || o.Net == c.Net) {
					c.Summary.BaselineRatio = c.Summary.CPUSeconds.Median / yardstick
				}
			}
			if o.same(*c) && o.N == referenceRows && c.M == 0 && o.M == 0 && o.Summary.CPUPerRow > 0 {
				c.Summary.ToReference = c.Summary.CPUPerRow / o.Summary.CPUPerRow
			}
		}
	}
}

// ReadSweep reads a report that WriteFiles wrote, and works its summaries out
// anew.
func ReadSweep(b []byte) (*SweepReport, error) {
	r := new(SweepReport)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("benchmarks: not a sweep's report: %w", err)
	}
	if r.Format != sweepFormat {
		return nil, fmt.Errorf("benchmarks: not a sweep's report of format %s", sweepFormat)
	}
	for i, c := range r.Cases {
		ok := c.Job != "" && c.Net != "" && sizeOK(c.N) && (c.M == 0 || sizeOK(c.M)) &&
			(c.State != StateMeasured || len(c.Runs) > 0)
		switch c.State {
		case StateMeasured, StateFailed, StateSkipped:
		default:
			ok = false
		}
		for _, run := range c.Runs {
			ok = ok && run.Job == c.Job && run.N == c.N && run.M == c.M && run.Net == c.Net &&
				figures(run.Seconds, run.CPUSeconds, run.BytesPerRow, run.Baseline.CPUSeconds, float64(run.Rounds), float64(run.PeakRSSBytes))
		}
		if !ok {
			return nil, fmt.Errorf("benchmarks: case %d of the report contradicts itself", i)
		}
	}
	r.summarise()
	return r, nil
}

func sizeOK(n int64) bool { return n >= 1 && n <= MaxSize }

// figures reports whether all vs can have been measured.
func figures(vs ...float64) bool {
	return !slices.ContainsFunc(vs, func(v float64) bool { return v < 0 || v > 1e18 || math.IsNaN(v) })
}

// ErrMachines is returned for reports of different machines.
var ErrMachines = errors.New("benchmarks: the reports are of different machines: their figures do not belong in one table")

// Merge puts reports of one machine together. Where two have the same case,
// the later one's counts.
func Merge(reports ...*SweepReport) (*SweepReport, error) {
	if len(reports) == 0 {
		return nil, errors.New("benchmarks: no report")
	}
	m := *reports[0]
	m.Cases, m.Merged, m.Links = nil, nil, make(map[string]LinkShape)
	for _, r := range reports {
		if r.Machine.CPU != m.Machine.CPU || r.Machine.Cores != m.Machine.Cores || r.Machine.Arch != m.Machine.Arch {
			return nil, ErrMachines
		}
		for name, shape := range r.Links {
			m.Links[name] = shape
		}
		m.Interrupted = m.Interrupted || r.Interrupted
		if len(r.Merged) > 0 {
			m.Merged = append(m.Merged, r.Merged...)
		} else {
			m.Merged = append(m.Merged, Origin{r.Date, r.Machine.Version, r.Machine.Commit, r.Machine.Binary})
		}
		for _, c := range r.Cases {
			at := slices.IndexFunc(m.Cases, func(o SweepCase) bool { return o.same(c) && o.N == c.N && o.M == c.M })
			if at < 0 {
				m.Cases = append(m.Cases, c)
			} else if c.State == StateMeasured || m.Cases[at].State != StateMeasured {
				m.Cases[at] = c
			}
		}
	}
	if len(m.Merged) < 2 {
		m.Merged = nil
	}
	nets := map[string]int{"none": 0, "lan": 1, "wan": 2}
	slices.SortStableFunc(m.Cases, func(a, b SweepCase) int {
		return cmp.Or(cmp.Compare(a.series(), b.series()), cmp.Compare(a.N, b.N), cmp.Compare(a.M, b.M), cmp.Compare(nets[a.Net], nets[b.Net]))
	})
	m.summarise()
	return &m, nil
}
