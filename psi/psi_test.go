package psi

import (
	"testing"

	"github.com/yinqiao/yinqiao/job"
)

func TestJobsRegister(t *testing.T) {
	r, err := job.NewRegistry(Jobs()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"psi.ecdh.v1", "psi.rr22.v1", "psi.rr22m.v1", "psi.oprf.v1", "psi.multi.v1", "psi.cardinality.v1"} {
		if _, ok := r.Lookup(name); !ok {
			t.Errorf("%s is not registered", name)
		}
	}
	for _, d := range Jobs() {
		if d.MinIntersection == job.NotApplicable || d.Bench == nil || d.Summary == "" || len(d.Assumptions) == 0 {
			t.Errorf("%s says too little of itself", d.Name)
		}
	}
}
