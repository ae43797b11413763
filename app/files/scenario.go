package files

import (
	"errors"
	"fmt"
	"slices"

	"github.com/yinqiao/yinqiao/internal/strictyaml"
	"github.com/yinqiao/yinqiao/node"
	"github.com/yinqiao/yinqiao/node/dataset"
)

// Scenario is scenario.yaml: everything one run of the whole line needs. Paths
// in it are relative to the file.
type Scenario struct {
	Name    string   `yaml:"name"`
	About   string   `yaml:"about"`
	Parties []Party  `yaml:"parties"`
	Request Filed    `yaml:"request"`
	Job     Job      `yaml:"job"`
	Report  Report   `yaml:"report"`
	Expect  []Expect `yaml:"expect"`
}

// Party is one organisation with its node.
type Party struct {
	ID       string            `yaml:"id"`
	Name     string            `yaml:"name"`
	Datasets []dataset.Dataset `yaml:"datasets"`
	Entries  []Entry           `yaml:"entries"`
	Policy   node.Policy       `yaml:"policy"`
}

// Filed is the exchange request and the party that files it and submits the
// job.
type Filed struct {
	By      string `yaml:"by"`
	Request `yaml:",inline"`
}

// Report says how the job's values are shown.
type Report struct {
	// Clear also runs the job kind's computation over everybody's rows in one
	// place, to compare with. It needs all the data and is for examples alone.
	Clear bool `yaml:"clear"`
	// Show keeps only these of the result's keys; blank keeps all.
	Show []string `yaml:"show"`
	// Tables is how many rows of every result table are shown to people; 0
	// shows none. They are shown for every recipient, and never with --json.
	Tables int `yaml:"tables"`
	// Rename gives result keys other names, for example alone: bank.
	Rename map[string]string `yaml:"rename"`
}

// Expect is a check on the result: value ≥ at_least (+ plus), or
// |value − near| ≤ within. Operands are numbers or paths into the result, for
// example auc.joint.
type Expect struct {
	Value   string  `yaml:"value"`
	AtLeast string  `yaml:"at_least"`
	Plus    float64 `yaml:"plus"`
	Near    string  `yaml:"near"`
	Within  float64 `yaml:"within"`
}

// Validate reports what does not fit together.
func (s *Scenario) Validate() error {
	var errs []error
	bad := func(path, format string, a ...any) { errs = append(errs, strictyaml.Invalid(path, format, a...)) }
	var ids []string
	if len(s.Parties) < 2 {
		bad("parties", "a scenario has at least two parties")
	}
	for i, p := range s.Parties {
		at := fmt.Sprintf("parties[%d]", i)
		if slices.Contains(ids, p.ID) {
			bad(at+".id", "is used twice")
		}
		ids = append(ids, p.ID)
		var names []string
		for j, d := range p.Datasets {
			if err := d.Validate(); err != nil {
				errs = append(errs, strictyaml.Under(fmt.Sprintf("%s.datasets[%d]", at, j), err))
			}
			names = append(names, d.Name)
		}
		if err := p.Policy.Validate(); err != nil {
			errs = append(errs, strictyaml.Under(at+".policy", err))
		}
		for j, e := range p.Entries {
			if !slices.Contains(names, e.Dataset) {
				bad(fmt.Sprintf("%s.entries[%d].dataset", at, j), "is not a dataset of %s", p.ID)
			}
		}
	}
	if !slices.Contains(ids, s.Request.By) {
		bad("request.by", "names no party of the scenario")
	}
	if err := s.Request.Request.Validate(); err != nil {
		errs = append(errs, strictyaml.Under("request", err))
	}
	if err := s.Job.Validate(); err != nil {
		errs = append(errs, strictyaml.Under("job", err))
	}
	if s.Report.Tables < 0 {
		bad("report.tables", "want 0 or more")
	}
	for i, e := range s.Expect {
		if e.Value == "" || (e.AtLeast == "") == (e.Near == "") {
			bad(fmt.Sprintf("expect[%d]", i), "give value and either at_least or near")
		}
	}
	return errors.Join(errs...)
}
