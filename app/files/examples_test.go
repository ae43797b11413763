package files

import (
	"path/filepath"
	"reflect"
	"testing"

	"github.com/yinqiao/yinqiao/internal/strictyaml"
	"github.com/yinqiao/yinqiao/node/dataset"
)

const root = "../.."

func read[T any](t *testing.T, path string) *T {
	t.Helper()
	v, err := Read[T](filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestShippedScenarios(t *testing.T) {
	for _, path := range []string{"examples/psi", "examples/psi-enterprises", "examples/statistics", "examples/loans", "examples/credit", "benchmarks/default_credit"} {
		s := read[Scenario](t, path+"/scenario.yaml")
		if len(s.Parties) < 2 || len(s.Parties[0].Entries) == 0 || s.Name == "" {
			t.Errorf("%s lacks parties, entries or a name", path)
		}
	}
}

// The files of examples/credit/by-hand say what the scenario says.
func TestByHandAgreesWithTheScenario(t *testing.T) {
	const dir = "examples/credit/by-hand/"
	s := read[Scenario](t, "examples/credit/scenario.yaml")
	same := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s differs:\n by hand  %+v\n scenario %+v", what, got, want)
		}
	}
	same("request", *read[Request](t, dir+"request.yaml"), s.Request.Request)
	same("job", *read[Job](t, dir+"job.yaml"), s.Job)
	for i, name := range []string{"bank", "gov"} {
		p := s.Parties[i]
		same(name+" entry", *read[Entry](t, dir+name+"-entry.yaml"), p.Entries[0])
		var part struct {
			Datasets []dataset.Dataset `yaml:"datasets"`
		}
		if err := strictyaml.DecodeFile(filepath.Join(root, dir+name+"-datasets.yaml"), &part); err != nil {
			t.Fatal(err)
		}
		want := p.Datasets[0]
		want.Path = filepath.Base(want.Path)
		same(name+" datasets", part.Datasets, []dataset.Dataset{want})
	}
}
