package logit

import (
	"path/filepath"
	"testing"
)

func TestTmpBreast(t *testing.T) {
	d := dataDir(t)
	e := vertical(t, filepath.Join(d, "breast/breast_hetero_guest.csv"), filepath.Join(d, "breast/breast_hetero_host.csv"))
	for _, its := range []int{24, 100} {
		p := params()
		p.PeriodLog2 = 7
		p.Terms = 24
		p.MaxIterations = its
		s := cpu()
		o, m, err := trainPair(t, e, p, nil, nil)
		if err != nil {
			t.Log(err)
			continue
		}
		auc, ex, w := compareExact(t, e, p, o)
		t.Logf("auc %.4f exact %.4f dp %.3f its %d conv %v attempt %+v cpu %v MB %.1f", auc, ex, w, o.label.iterations, o.label.converged, o.label.attempt, cpu()-s, float64(m.Traffic().Sent+m.Traffic().Received)/1e6)
	}
}
