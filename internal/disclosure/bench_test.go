package disclosure

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
)

// cpu is the time that this process has computed.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkSuppress(b *testing.B) {
	for _, dims := range [][]int{{20, 20}, {7, 7, 7}, {400}, {100, 100}, {255, 255}, {20, 20, 20}} {
		for _, most := range []int64{30, 1000} {
			tab := newTable(dims...)
			cells := sample(rand.New(rand.NewPCG(1, 2)), tab, most)
			b.Run(fmt.Sprintf("%v/most=%d", dims, most), func(b *testing.B) {
				var mask []bool
				before := cpu()
				for b.Loop() {
					mask, _ = Suppress(rules.Set{}, cells, tab.eqs)
				}
				b.ReportMetric(float64((cpu()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
				n, all := 0, 0
				for _, p := range primary(rules.Set{}, cells) {
					if p {
						n++
					}
				}
				for _, h := range mask {
					if h {
						all++
					}
				}
				b.ReportMetric(float64(n), "primary")
				b.ReportMetric(float64(all), "withheld")
			})
		}
	}
	cells := sample(rand.New(rand.NewPCG(1, 2)), newTable(65535), 1000)
	b.Run("65536 without equations", func(b *testing.B) {
		for b.Loop() {
			_, _ = Suppress(rules.Set{}, cells, nil)
		}
	})
}
