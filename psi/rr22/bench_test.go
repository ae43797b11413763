package rr22

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// cpu is the processor time that this process has used.
func cpu(b testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// keys yields n keys of 18 digits from subject number from on. They are made at
// once, so that reading them costs next to nothing.
func keys(from, n int) iter.Seq[[]byte] {
	arena := make([]byte, 0, 18*n)
	for i := from; i < from+n; i++ {
		arena = benchKey(arena, int64(i))
	}
	return func(yield func([]byte) bool) {
		for k := range slices.Chunk(arena, 18) {
			if !yield(k) {
				return
			}
		}
	}
}

// BenchmarkProtocol runs both parties in this process on sets of 2^20 rows, of
// which half are common; keys in memory.
func BenchmarkProtocol(b *testing.B) {
	for name, c := range map[string]correlator{"silent": silent{}, "dealer": dealer{}} {
		for _, log := range []int{12, 16, 18, 20, 22} {
			b.Run(fmt.Sprintf("%s/2^%d", name, log), func(b *testing.B) {
				n := 1 << log
				xs, ys := keys(0, n), keys(n/2, n)
				var bytes int64
				runtime.GC()
				start := cpu(b)
				peak := watchMemory()
				for b.Loop() {
					out := sessiontest.Net{Connect: sessiontest.Pipes(8), Timeout: time.Hour}.Run(b,
						func(ctx context.Context, s *session.Session) error {
							_, err := send(ctx, s, xs, n, both, c)
							return err
						},
						func(ctx context.Context, s *session.Session) error {
							m, err := receive(ctx, s, ys, n, both, c)
							if err == nil && len(m.Rows) != n-n/2 {
								err = fmt.Errorf("%d rows", len(m.Rows))
							}
							return err
						})
					sessiontest.NoErrors(b, out)
					bytes = out[0].Traffic.Sent + out[0].Traffic.Received
				}
				rows := float64(n) * float64(b.N)
				b.ReportMetric(float64((cpu(b)-start).Nanoseconds())/rows, "cpu-ns/pair")
				b.ReportMetric(float64(bytes)/float64(n), "B/row")
				b.ReportMetric(float64(peak())/(1<<20), "heap-MiB")
			})
		}
	}
}

// watchMemory samples the heap until the function that it returns is called.
func watchMemory() func() uint64 {
	var peak atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		held := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
		for {
			metrics.Read(held)
			peak.Store(max(peak.Load(), held[0].Value.Uint64()+held[1].Value.Uint64()))
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		return peak.Load()
	}
}
