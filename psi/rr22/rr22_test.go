package rr22

import (
	"testing"

	"github.com/yinqiao/yinqiao/session/sessiontest"
)

func TestQuick(t *testing.T) {
	for name, c := range map[string]correlator{"dealer": dealer{}, "silent": silent{}} {
		xs, ys := number(0, 3000), shuffled(number(1000, 5000), 1)
		for _, p := range []Params{{}, both} {
			t.Log(name)
			checkIdeal(t, xs, ys, p, alignOver(t, sessiontest.Net{}, c, xs, ys, p, p))
		}
	}
}
