// Package benchmarks measures any registered job: the same definition that
// nodes run, over an in-memory pipe or over gRPC on a shaped link, with all
// parties in this process.
package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/yinqiao/yinqiao/benchmarks/link"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
)

// Report is what one run measured. The JSON keys are stable.
type Report struct {
	Job          string   `json:"job"`
	N            int64    `json:"n"` // rows a party
	Parties      int      `json:"parties"`
	Net          string   `json:"net"`
	Seconds      float64  `json:"seconds"`     // wall clock of the job
	CPUSeconds   float64  `json:"cpu_seconds"` // of all parties together
	Bytes        int64    `json:"bytes"`       // of all messages, every party's once
	BytesPerRow  float64  `json:"bytes_per_row"`
	Rounds       int64    `json:"rounds"` // of the party with most
	PeakRSSBytes int64    `json:"peak_rss_bytes"`
	ResultRows   int64    `json:"result_rows"`
	Baseline     Baseline `json:"baseline"`
}

// Baseline is the yardstick of the same run.
type Baseline struct {
	Name       string  `json:"name"`
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
}

// Run runs def's benchmark case of n rows over net once, and its baseline
// after it.
func Run(ctx context.Context, def job.Definition, n int64, net string) (Report, error) {
	r := Report{Job: def.Name, N: n, Net: net}
	if def.Bench == nil {
		return r, fmt.Errorf("benchmarks: %s has no benchmark", def.Name)
	}
	kind, err := link.Parse(net)
	if err != nil {
		return r, err
	}
	b, err := def.Bench(n)
	if err != nil {
		return r, err
	}
	if err := errors.Join(def.CheckRoles(b.Spec), def.Validate(b.Spec)); err != nil {
		return r, err
	}
	var parties []session.PartyID
	for _, p := range b.Spec.Parties {
		parties = append(parties, p.Party)
	}
	r.Parties = len(parties)
	openers, closeLink, err := link.Connect(kind, parties)
	if err != nil {
		return r, err
	}
	results := make([]job.Result, len(parties))
	meters := make([]*session.Meter, len(parties))
	runtime.GC()
	debug.FreeOSMemory() // what made the inputs is not the job's
	resetPeak()
	cpu, begin := cpuTime(), time.Now()
	group, gctx := errgroup.WithContext(ctx)
	for i, p := range parties {
		meters[i] = session.NewMeter()
		group.Go(func() error {
			s, err := session.New(gctx, session.Config{ID: "bench", Self: p, Parties: parties, Open: openers[p], Meter: meters[i]})
			if err != nil {
				return err
			}
			results[i], err = def.Run(gctx, job.Env{Spec: b.Spec, Session: s, Inputs: b.Inputs[p], Once: &job.MemoryOnce{}})
			if err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			return nil
		})
	}
	err = group.Wait()
	r.Seconds, r.CPUSeconds = time.Since(begin).Seconds(), (cpuTime() - cpu).Seconds()
	r.PeakRSSBytes = peakRSS()
	if err := errors.Join(err, closeLink()); err != nil {
		return r, err
	}
	for _, m := range meters {
		t := m.Traffic()
		r.Bytes += t.Sent
		r.Rounds = max(r.Rounds, t.Rounds)
	}
	if n > 0 {
		r.BytesPerRow = float64(r.Bytes) / float64(n)
	}
	r.ResultRows = results[0].Counts[job.CountCommon]
	for i := range results {
		if got := results[i].Counts[job.CountCommon]; got != r.ResultRows {
			return r, fmt.Errorf("benchmarks: %s counts %d rows, %s %d", parties[0], r.ResultRows, parties[i], got)
		}
	}
	if b.Baseline != nil {
		cpu, begin := cpuTime(), time.Now()
		if err := b.Baseline(ctx); err != nil {
			return r, fmt.Errorf("benchmarks: baseline: %w", err)
		}
		r.Baseline = Baseline{Name: b.BaselineName, Seconds: time.Since(begin).Seconds(), CPUSeconds: (cpuTime() - cpu).Seconds()}
	}
	return r, nil
}

// cpuTime is the user and system time of this process.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resetPeak starts the kernel's high-water mark of resident memory anew, where
// it allows that.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peakRSS is the high-water mark of resident memory, in bytes.
func peakRSS() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err == nil {
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
				if err == nil {
					return kb << 10
				}
			}
		}
	}
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) == nil {
		return u.Maxrss << 10
	}
	return 0
}
