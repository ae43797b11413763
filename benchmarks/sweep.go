package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/yinqiao/yinqiao/benchmarks/link"
	"github.com/yinqiao/yinqiao/job"
)

// Sweep measures every job of a list at every size over every network.
type Sweep struct {
	Name  string // of the family, for titles and files
	Jobs  []job.Definition
	Sizes []int64
	Nets  []string
	Runs  int // of each case; 0: 3
	// Limit is the longest that a case may take, all its runs together; 0: ten
	// minutes. A case expected to take longer is skipped, one that takes twice
	// as long is stopped.
	Limit time.Duration
	// Case holds what all cases share: everything but N and Net.
	Case    Case
	Version string // of the program
	// Progress hears a line when a case begins, and one when it has ended. Nil
	// hears nothing.
	Progress func(line string)
	// Save, if not nil, is given the report whenever a case has ended.
	Save func(*SweepReport) error
}

// ErrCases is wrapped by the error of a sweep some of whose cases failed.
var ErrCases = errors.New("benchmarks: cases failed")

// Run measures all cases. A case that fails is one with an error in the report,
// and the others are measured still: the error then wraps ErrCases. If ctx
// ends, the report holds what has been measured, and the error is ctx's.
func (s Sweep) Run(ctx context.Context) (*SweepReport, error) {
	if s.Runs == 0 {
		s.Runs = 3
	}
	if s.Limit == 0 {
		s.Limit = 10 * time.Minute
	}
	r := &SweepReport{
		Format: sweepFormat, Name: s.Name, Date: time.Now().UTC().Truncate(time.Second), Machine: ThisMachine(s.Version),
		Links: make(map[string]LinkShape), RunsWanted: s.Runs, LimitSeconds: s.Limit.Seconds(),
	}
	for _, n := range s.Nets {
		name, shape := shapeOf(n, s.Case.Processes)
		r.Links[name] = shape
	}
	all := len(s.Jobs) * len(s.Sizes) * len(s.Nets)
	failed, done := 0, 0
	for _, def := range s.Jobs {
		for _, n := range s.Sizes {
			for i, net := range s.Nets {
				if ctx.Err() != nil {
					r.Interrupted = true
					return r, context.Cause(ctx)
				}
				done++
				c := s.Case
				c.N, c.Net = n, net
				c.NoBaseline = c.NoBaseline || i > 0 // it does not depend on the network
				sc := s.measure(ctx, r, def, c, fmt.Sprintf("[%d/%d]", done, all))
				if sc.State == StateFailed {
					failed++
				}
				if sc.State != "" {
					r.Cases = append(r.Cases, sc)
					r.summarise()
				}
				if s.Save != nil {
					if err := s.Save(r); err != nil {
						return r, err
					}
				}
			}
		}
	}
	if ctx.Err() != nil {
		r.Interrupted = true
		return r, context.Cause(ctx)
	}
	if failed > 0 {
		return r, fmt.Errorf("%w: %d of %d", ErrCases, failed, all)
	}
	return r, nil
}

func (s Sweep) say(format string, a ...any) {
	if s.Progress != nil {
		s.Progress(fmt.Sprintf(format, a...))
	}
}

// errSlow is why a case is stopped.
var errSlow = errors.New("benchmarks: stopped at twice the limit")

// measure runs one case, as often as asked; the state is blank where it was
// interrupted before its first run had ended.
func (s Sweep) measure(ctx context.Context, r *SweepReport, def job.Definition, c Case, place string) SweepCase {
	sc := SweepCase{Job: def.Name, N: c.N, M: c.M, Net: c.Net, CSV: c.CSV, Warm: c.Warm, Processes: c.Processes, Runs: []Report{}}
	title := fmt.Sprintf("%s %s, %s rows, %s", place, sc.series(), sc.rows(), c.Net)
	end := func(state State, format string, a ...any) SweepCase {
		sc.State, sc.Note = state, fmt.Sprintf(format, a...)
		s.say("%s: %s: %s", title, state, sc.Note)
		return sc
	}
	if err := c.check(def); err != nil {
		return end(StateFailed, "%v", err)
	}
	seconds, known := s.expect(r, def, c)
	total := time.Duration(min(seconds*float64(s.Runs*c.passes()), 1e9) * float64(time.Second))
	if known {
		sc.EstimateSeconds = seconds
		if total > s.Limit {
			return end(StateSkipped, "%d runs are expected to take %s, the limit is %s", s.Runs, roughly(total), roughly(s.Limit))
		}
		if total > 20*time.Second {
			s.say("%s: about %s", title, roughly(total))
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*s.Limit, errSlow)
	defer cancel()
	for range s.Runs {
		report, err := Run(ctx, def, c)
		slow := errors.Is(context.Cause(ctx), errSlow)
		switch {
		case err == nil:
			sc.Runs = append(sc.Runs, report)
		case ctx.Err() != nil && len(sc.Runs) > 0:
			why := "interrupted"
			if slow {
				why = errSlow.Error()
			}
			sc.Summary = summary(sc.Runs)
			return end(StateMeasured, "%s after %d of %d runs", why, len(sc.Runs), s.Runs)
		case slow:
			return end(StateFailed, "%v", errSlow)
		case ctx.Err() != nil:
			return SweepCase{} // interrupted
		default:
			sc.Summary = summary(sc.Runs)
			return end(StateFailed, "%v", err)
		}
	}
	sc.State, sc.Summary = StateMeasured, summary(sc.Runs)
	s.say("%s: %s s, %s bytes a row", title, digits(sc.Summary.Seconds.Median), digits(sc.Summary.BytesPerRow))
	return sc
}

// expect returns how long one run of a case will take, its yardstick included,
// judged by what has been measured of the same job: a smaller size over the
// same network, with cost in proportion to the rows, or else the same size over
// another one. Without either it takes the job's own estimate.
func (s Sweep) expect(r *SweepReport, def job.Definition, c Case) (seconds float64, known bool) {
	var smaller, elsewhere *SweepCase
	for i := range r.Cases {
		k := &r.Cases[i]
		if k.Job != def.Name || k.State == StateFailed {
			continue
		}
		if k.Net == c.Net && k.N < c.N && (smaller == nil || k.N > smaller.N) {
			smaller = k
		}
		if k.Net != c.Net && k.N == c.N && k.State == StateMeasured {
			elsewhere = k
		}
	}
	switch {
	case smaller != nil && smaller.State == StateSkipped:
		return smaller.EstimateSeconds * float64(c.N) / float64(smaller.N), true
	case smaller != nil:
		each := smaller.Summary.Seconds.Median + smaller.Runs[0].Baseline.Seconds
		return each * float64(c.N) / float64(smaller.N), true
	case elsewhere != nil:
		return elsewhere.Summary.Seconds.Median +
			onWire(c.Net, float64(elsewhere.Runs[0].Bytes), float64(elsewhere.Summary.Rounds)), true
	}
	return estimated(def, c)
}

// onWire is how long a network takes for itself.
func onWire(net string, bytes, rounds float64) float64 {
	shape := link.Kind(net).Shape()
	if shape == (link.Shape{}) {
		return 0
	}
	return bytes*8/float64(shape.BitsPerSecond) + rounds*shape.OneWay.Seconds()
}

// estimated asks the job kind what a run costs, if it says that of itself.
func estimated(def job.Definition, c Case) (seconds float64, known bool) {
	if def.Estimate == nil {
		return 0, false
	}
	tiny := Case{N: 1}
	b, err := tiny.bench(def) // its spec is that of any size
	if err != nil {
		return 0, false
	}
	rows := make([]int64, len(b.Spec.Parties))
	for i := range rows {
		if rows[i] = c.N; i > 0 && c.M != 0 {
			rows[i] = c.M
		}
	}
	cost, err := def.Estimate(b.Spec, rows)
	if err != nil {
		return 0, false
	}
	return cost.CPUSeconds + onWire(c.Net, float64(cost.Bytes), float64(cost.Rounds)), true
}

// roughly writes a duration without what nobody cares for.
func roughly(d time.Duration) string {
	switch {
	case d >= 10*time.Minute:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d >= time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return d.Round(time.Millisecond).String()
}
