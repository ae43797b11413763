package aggregate

import (
	"context"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
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

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
