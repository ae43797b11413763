package vole

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// cpuTime is what the process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Both parties in one process. 1345600 elements are what 2^20 rows of PSI need.
func BenchmarkVOLE(b *testing.B) {
	for _, n := range []int{1 << 16, 1345600} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			run(b, sessiontest.Net{}, n).check(b, n) // and the tables are made
			cpu, bytes := cpuTime(b), int64(0)
			for b.Loop() {
				r := run(b, sessiontest.Net{}, n)
				bytes = r.out[0].Traffic.Sent + r.out[0].Traffic.Received
			}
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(bytes)/float64(n), "B/element")
		})
	}
}

func BenchmarkTables(b *testing.B) {
	cpu := cpuTime(b)
	for b.Loop() {
		if _, err := newTables(DefaultCode, 1345600); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

// One vector through the code; the trees cost nothing here.
func BenchmarkEncode(b *testing.B) {
	code, s := codes[DefaultCode], codes[DefaultCode].shape(1345600)
	enc, err := newEncoder(code, s)
	if err != nil {
		b.Fatal(err)
	}
	defer enc.close()
	out := make([]gf128.Element, s.k)
	best := [2]time.Duration{time.Hour, time.Hour}
	for b.Loop() {
		for i, step := range []func() error{
			func() error { return enc.run(b.Context(), func(int, []gf128.Element) {}) },
			func() error { return enc.finish(b.Context(), out) },
		} {
			cpu := cpuTime(b)
			if err := step(); err != nil {
				b.Fatal(err)
			}
			best[i] = min(best[i], cpuTime(b)-cpu)
		}
	}
	b.ReportMetric(float64(best[0].Microseconds())/1000, "run-cpu-ms")
	b.ReportMetric(float64(best[1].Microseconds())/1000, "finish-cpu-ms")
}
