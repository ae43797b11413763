package aggregate

import (
	"context"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/internal/disclosure"
	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
	"github.com/yinqiao/yinqiao/table"
)

// BenchmarkJob runs whole jobs of three parties in this process and reports the
// CPU time of all of them together.
func BenchmarkJob(b *testing.B) {
	for _, def := range definitions() {
		b.Run(def.Name+"/4096", func(b *testing.B) {
			c, err := def.BenchStatistics(job.BenchSize{Parties: 3, Counters: 4096})
			if err != nil {
				b.Fatal(err)
			}
			var ids []session.PartyID
			inputs := make(map[session.PartyID][]table.Source)
			for _, p := range c.Spec.Parties {
				ids = append(ids, p.Party)
				t, err := table.Hold(b.Context(), c.Inputs[p.Party][0])
				if err != nil {
					b.Fatal(err)
				}
				inputs[p.Party] = []table.Source{t}
			}
			begin := cpuTime()
			for i := range b.N {
				net := session.NewPipeNetwork(4)
				g, ctx := errgroup.WithContext(context.Background())
				for _, id := range ids {
					g.Go(func() error {
						s, err := session.New(ctx, session.Config{ID: "B" + strconv.Itoa(i), Self: id, Parties: ids, Open: net.Opener(id)})
						if err != nil {
							return err
						}
						_, err = def.Run(ctx, job.Env{Spec: c.Spec, Session: s, Inputs: inputs[id], Once: &job.MemoryOnce{}})
						return err
					})
				}
				if err := g.Wait(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpuTime()-begin).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// BenchmarkBins is what the gates do about a histogram of 500 bins in each of
// 441 cells, most of them sparse.
func BenchmarkBins(b *testing.B) {
	edges := func(n int) []float64 {
		e := make([]float64, n+1)
		for i := range e {
			e[i] = float64(i)
		}
		return e
	}
	plan, err := stats.NewPlan(stats.Form{
		GroupBy:  []stats.Dimension{{Column: "a", Bins: edges(20)}, {Column: "b", Bins: edges(20)}},
		Measures: []stats.Measure{{Of: stats.Histogram, Column: "x", Bins: edges(500)}}, Margins: true,
	}, 3)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	counts := make([]disclosure.Count, plan.Supports()*plan.Cells())
	for s := range plan.Supports() {
		units := make([]int64, plan.Cells())
		for row := range 21 {
			for col := range 21 {
				if row == 20 || col == 20 {
					continue
				}
				n := r.Int64N(60)
				units[row*21+col] = n
				for _, total := range []int{row*21 + 20, 20*21 + col, 20*21 + 20} {
					units[total] += n
				}
			}
		}
		for c, n := range units {
			counts[s*len(units)+c] = disclosure.Count{Units: n, Providers: min(3, n)}
		}
	}
	before := cpuTime()
	for b.Loop() {
		if _, err := unsupported(b.Context(), plan, rules.Set{}, func(i int) disclosure.Count { return counts[i] }, func(int64, int64) {}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
