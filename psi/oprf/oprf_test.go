package oprf

import (
	"fmt"
	"testing"

	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

var both = Params{Broadcast: true}

// The ideal functionality, with a cold cache and then with a warm one.
func TestIdealFunctionality(t *testing.T) {
	for _, c := range []struct{ client, server, common int }{
		{0, 0, 0},
		{0, 5, 0},
		{5, 0, 0},
		{1, 1, 0},
		{1, 1, 1},
		{3, 700, 3},
		{10, 1000, 4},
		{64, 65, 64},
		{65, 5000, 30},
		{700, 3, 2},
		{40, 40_000, 1},
		{3000, 20_000, 2999},
	} {
		for _, p := range []Params{{}, both} {
			t.Run(fmt.Sprintf("%d against %d, %d common, %s", c.client, c.server, c.common, p.output()), func(t *testing.T) {
				w := newWorld()
				xs := psitest.Shuffled(psitest.Number(0, c.server), 1)
				ys := psitest.Shuffled(psitest.Number(c.server-c.common, c.server-c.common+c.client), 2)
				src := rowsOf(t, xs)
				cold := w.run(t, ys, src, p)
				checkIdeal(t, ys, xs, p, cold)
				warm := w.run(t, ys, src, p)
				checkIdeal(t, ys, xs, p, warm)
				if saved := cold.traffic() - warm.traffic(); saved < 8*int64(c.server) {
					t.Errorf("a warm cache saved %d bytes", saved)
				}
			})
		}
	}
}

// A window of one message and a wide one, and the order of results.
func TestWindows(t *testing.T) {
	xs, ys := psitest.Number(0, 9000), psitest.Number(500, 10_000)
	for _, window := range []int{1, 7} {
		w := newWorld()
		w.net.Connect = sessiontest.Pipes(window)
		checkIdeal(t, ys, xs, both, w.run(t, ys, rowsOf(t, xs), both))
	}
}
