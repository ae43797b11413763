package securesum

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Member is the one role: every party puts in a column and learns the total.
const Member job.Role = "member"

// Fields of the result.
const (
	FieldTotal = "total" // of the column, over all rows of all parties
	FieldMean  = "mean"
	FieldRows  = "rows.all" // how many rows had a value, all parties together
)

// Params are the job's parameters.
type Params struct {
	// Column is the name of the column to add up, of type int, the same at
	// every party.
	Column string `json:"column"`
}

func decode(spec job.Spec) (Params, error) {
	var p Params
	if err := job.DecodeParams(spec.Params, &p); err != nil {
		return p, err
	}
	var errs []error
	if p.Column == "" {
		errs = append(errs, errors.New("securesum: name the column to add up"))
	}
	for _, part := range spec.Parties {
		if len(part.Inputs) != 1 || !slices.Contains(part.Inputs[0].Items, p.Column) {
			errs = append(errs, fmt.Errorf("securesum: %s must put in one entry, with item %q in it", part.Party, p.Column))
		}
		if !slices.Contains(spec.Recipients, part.Party) {
			errs = append(errs, fmt.Errorf("securesum: the total reaches every party, so %s must be a recipient", part.Party))
		}
	}
	return p, errors.Join(errs...)
}

// Job returns the job kind, ready for app.Main.
func Job() job.Definition {
	return job.Definition{
		Name:    Name,
		Summary: "add up a column over three or more parties; each learns the total alone",
		Roles:   []job.RoleSpec{{Role: Member, Min: MinParties}},
		Reveals: func(job.Spec) []job.Disclosure {
			return []job.Disclosure{
				{To: Member, Field: FieldTotal, What: "the sum of the column over all rows of all parties"},
				{To: Member, Field: FieldRows, What: "the number of rows with a value, of all parties together"},
				{To: Member, Field: FieldMean, What: "the sum divided by that number"},
			}
		},
		Validate: func(spec job.Spec) error {
			_, err := decode(spec)
			return err
		},
		Run:   run,
		Clear: inTheClear,
	}
}

func run(ctx context.Context, env job.Env) (job.Result, error) {
	p, err := decode(env.Spec)
	if err != nil {
		return job.Result{}, err
	}
	total, rows, err := add(ctx, env.Inputs[0], p.Column)
	if err != nil {
		return job.Result{}, err
	}
	sums, err := Sum(ctx, env.Session, []int64{total, rows})
	if err != nil {
		return job.Result{}, err
	}
	if sums[1] < rows { // rows are counts: a negative one was put in
		return job.Result{}, errors.New("securesum: the parties' row counts do not add up")
	}
	return job.Result{
		Values: values(sums[0], sums[1]),
		Counts: map[string]int64{FieldRows: sums[1]},
		Rows:   rows,
	}, nil
}

func values(total, rows int64) map[string]any {
	v := map[string]any{FieldTotal: total}
	if rows > 0 {
		v[FieldMean] = float64(total) / float64(rows)
	}
	return v
}

// add sums a party's own column. Missing values count neither in the total nor
// in the rows.
func add(ctx context.Context, src table.Source, column string) (total, rows int64, err error) {
	sel, err := table.Select(src, []string{column})
	if err != nil {
		return 0, 0, err
	}
	for b, err := range sel.Batches(ctx) {
		if err != nil {
			return 0, 0, err
		}
		a, ok := b.Column(0).(*array.Int64)
		if !ok {
			return 0, 0, fmt.Errorf("securesum: column %s is not of type int", column)
		}
		for r, v := range a.Int64Values() {
			if a.IsNull(r) {
				continue
			}
			if v > 0 && total > math.MaxInt64-v || v < 0 && total < math.MinInt64-v {
				return 0, 0, ErrRange
			}
			total += v
			rows++
		}
	}
	return total, rows, nil
}

// inTheClear is the same in one place, for comparison.
func inTheClear(ctx context.Context, spec job.Spec, inputs map[session.PartyID][]table.Source) (map[string]any, error) {
	p, err := decode(spec)
	if err != nil {
		return nil, err
	}
	var total, rows int64
	for _, part := range spec.Parties {
		t, r, err := add(ctx, inputs[part.Party][0], p.Column)
		if err != nil {
			return nil, err
		}
		total, rows = total+t, rows+r
	}
	return map[string]any{"clear": values(total, rows)}, nil
}
