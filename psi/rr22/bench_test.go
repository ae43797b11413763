package rr22

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/oprf/oprftest"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

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

// BenchmarkProtocol runs both parties in this process on sets of which half are
// common; keys in memory.
func BenchmarkProtocol(b *testing.B) {
	for name, ole := range map[string]oprf.OLE{"silent": nil, "dealer": oprftest.Dealer{}} {
		for _, log := range []int{12, 16, 18, 20, 22} {
			n := 1 << log
			x, y := fromItems(keys(0, n), n), fromItems(keys(n/2, n), n)
			x.ole, y.ole = ole, ole
			benchmark(b, fmt.Sprintf("%s/2^%d", name, log), x, y, n-n/2)
		}
	}
}

// BenchmarkSizes runs it on digests, for sides of all sizes: what Estimate says
// comes from here.
func BenchmarkSizes(b *testing.B) {
	for _, logs := range [][2]int{{10, 10}, {20, 20}, {20, 10}, {10, 20}, {22, 22}} {
		n, m := 1<<logs[0], 1<<logs[1]
		benchmark(b, fmt.Sprintf("2^%dx2^%d", logs[0], logs[1]), fromDigests(digests(0, n)), fromDigests(digests(0, m)), min(n, m))
	}
}

// BenchmarkMalicious runs both modes one after the other, so that their ratio is
// of one machine in one state.
func BenchmarkMalicious(b *testing.B) {
	for _, log := range []int{10, 16, 18, 20, 22} {
		n := 1 << log
		x, y := fromDigests(digests(0, n)), fromDigests(digests(n/2, n))
		for _, mode := range []struct {
			name string
			p    Params
		}{{"semi-honest", both}, {"malicious", Params{Broadcast: true, Malicious: true}}} {
			benchmarkMode(b, fmt.Sprintf("2^%d/%s", log, mode.name), x, y, n/2, mode.p)
		}
	}
}

func benchmark(b *testing.B, name string, x, y input, common int) {
	benchmarkMode(b, name, x, y, common, both)
}

func benchmarkMode(b *testing.B, name string, x, y input, common int, p Params) {
	b.Run(name, func(b *testing.B) {
		var bytes int64
		runtime.GC()
		start := psitest.CPU(b)
		peak := watchMemory()
		for b.Loop() {
			out := sessiontest.Net{Connect: sessiontest.Pipes(8), Timeout: time.Hour}.Run(b,
				func(ctx context.Context, s *session.Session) error {
					_, err := send(ctx, s, x, p)
					return err
				},
				func(ctx context.Context, s *session.Session) error {
					m, err := receive(ctx, s, y, p)
					if err == nil && len(m.Rows) != common {
						err = fmt.Errorf("%d rows", len(m.Rows))
					}
					return err
				})
			sessiontest.NoErrors(b, out)
			bytes = out[0].Traffic.Sent + out[0].Traffic.Received
		}
		rows := float64(max(x.n, y.n))
		used := psitest.CPU(b) - start
		b.ReportMetric(used.Seconds()/float64(b.N), "cpu-s")
		b.ReportMetric(float64(used.Nanoseconds())/float64(b.N)/rows, "cpu-ns/row")
		b.ReportMetric(float64(bytes)/rows, "B/row")
		b.ReportMetric(float64(peak())/(1<<20), "heap-MiB")
	})
}

// digests returns the digests of n subjects.
func digests(from, n int) []Digest {
	ds := make([]Digest, n)
	for i := range ds {
		h := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(from+i)))
		ds[i] = Digest(h[:len(ds[i])])
	}
	return ds
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
