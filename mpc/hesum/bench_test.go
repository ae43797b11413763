package hesum

import (
	"syscall"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/mpc/share"
)

// cpuTime is the processor time that the process has used.
func cpuTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSum is one run, New and a sum, of all parties in this process. The
// processor time is that of all of them together.
func BenchmarkSum(b *testing.B) {
	for name, c := range map[string]setup{
		"3of3/4096x32bit":       {3, 3, 3, share.Shape{Narrow: 4096}, [][]int{{0, 1, 2}}, 0},
		"3of3/4096x32bit/to1":   {3, 3, 3, share.Shape{Narrow: 4096}, [][]int{{0}}, 0},
		"3of5/4096x32bit":       {5, 5, 3, share.Shape{Narrow: 4096}, [][]int{{0}}, 0},
		"3of3/3200x64bit":       {3, 3, 3, share.Shape{Wide: 3200}, [][]int{{0}}, 0},
		"3of3/400x32,3200x96":   {3, 3, 3, share.Shape{Narrow: 400, Huge: 3200}, [][]int{{0}}, 0},
		"10of10/65536x32bit":    {10, 10, 10, share.Shape{Narrow: 65536}, [][]int{{0}}, 0},
		"20of32/4096x32bit/to1": {32, 32, 20, share.Shape{Narrow: 4096}, [][]int{{0}}, 0},
	} {
		b.Run(name, func(b *testing.B) {
			inputs := c.random(1)
			from := cpuTime(b)
			for b.Loop() {
				for i, out := range c.run(b, new(cluster), inputs) {
					if out.err != nil {
						b.Fatalf("p%d: %v", i, out.err)
					}
				}
			}
			b.ReportMetric(float64(cpuTime(b)-from)/float64(b.N)/1e6, "cpu-ms/op")
		})
	}
}
