package app_test

import (
	"context"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/table"
)

// ratesKind is a job kind of the scripts alone: it gives the recipients a table
// of statistics that comes from nobody's data.
func ratesKind() job.Definition {
	return job.Definition{
		Name: "test.rates.v1", Summary: "releases a table of its own", Assumptions: []string{"none"},
		Roles: []job.RoleSpec{{Role: "receiver", Min: 1, Max: 1}, {Role: "sender", Min: 1, Max: 1}},
		Reveals: func(job.Spec) []job.Disclosure {
			return []job.Disclosure{{Field: "rates", What: "rates that everybody knows"}}
		},
		Validate: func(job.Spec) error { return nil },
		Run: func(ctx context.Context, env job.Env) (job.Result, error) {
			if err := env.Session.Bind(ctx, "test.rates.v1"); err != nil {
				return job.Result{}, err
			}
			b := table.NewBuilder(table.Schema{{Name: "industry", Type: table.Text}, {Name: "rate", Type: table.Float}, {Name: "status", Type: table.Text}})
			for i, name := range []string{"Mining", "Retail trade", "制造业"} {
				b.Texts(0).Append(name)
				if i == 1 {
					b.Floats(1).AppendNull()
					b.Texts(2).Append("suppressed")
				} else {
					b.Floats(1).Append(float64(i+1) / 4)
					b.Texts(2).Append("")
				}
			}
			t, err := b.Table()
			if err != nil {
				return job.Result{}, err
			}
			return job.Result{
				Tables:  map[string]table.Source{"rates": t},
				Figures: map[string]job.Figure{"rates": {Title: "Rates by industry", Categories: []string{"industry"}, Values: []string{"rate"}, Status: "status"}},
				Notes:   map[string]any{"rounding": 4},
			}, nil
		},
	}
}
