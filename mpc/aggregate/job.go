// Package aggregate is joint statistics: tables that several institutions make
// over all their rows, of which nobody sees anyone's part.
//
//	contributors                     gates                       recipients
//	count rows at home
//	add units a cell ──────────────▶ sum
//	               ◀──────────────── which cells are withheld
//	zero withheld cells
//	add counters ───────────────────────────────────────────────▶ sum, table
//
// The form of the statistics is package stats', the rules of what is withheld
// are internal/disclosure's, and the adding is either threshold encryption
// ([Definition], package hesum) or pairwise masking ([MaskedDefinition],
// package secagg).
//
// # Security model
//
// Semi-honest, with the checks and the leakage that
// docs/protocols/mpc-aggregate.md states.
package aggregate

import (
	"errors"
	"fmt"
	"slices"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/session"
)

// Names of the kinds, on the wire.
const (
	Name       = "mpc.aggregate.v1"
	NameMasked = "mpc.secagg.v1"
	family     = "mpc.aggregate"
)

// Roles of the kinds.
const (
	Contributor job.Role = "contributor" // has rows
	Gate        job.Role = "gate"        // has rows, and sees the joint units of every cell
	Recipient   job.Role = "recipient"   // has no rows
)

// Fields of the result and of what is revealed beside it.
const (
	fieldStatistics   = "statistics"
	fieldCells        = "cells"
	fieldSuppressed   = "cells.suppressed"
	fieldContributors = "contributors"
	fieldMask         = "mask"
	fieldRules        = "rules"
	fieldIncluded     = "included"
	viewCells         = "view.cells"
	viewCounters      = "view.counters"
	viewRules         = "view.rules"
	viewMore          = "view.more"
	viewEnd           = "view.end"
)

// params are the contract's parameters.
type params struct {
	stats.Form
	// Title heads charts and the manifest.
	Title string `json:"title"`
	// Threshold is how many contributors suffice to open a sum; 0 is all.
	Threshold int `json:"threshold"`
	// Rules is what the request itself asks of the release. It can only make the
	// rules stricter.
	Rules rules.Set `json:"rules"`
}

// maxTitle bounds a title, in bytes.
const maxTitle = 200

// request is a spec that was checked, as Run uses it.
type request struct {
	params
	contributors []session.PartyID // in the contract's order
	gates        []session.PartyID
	plan         *stats.Plan
}

// decode reads what spec asks for and reports all that is wrong with it.
func decode(spec job.Spec, way way) (*request, error) {
	r := &request{}
	if err := job.DecodeParams(spec.Params, &r.params); err != nil {
		return nil, err
	}
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("mpc/aggregate: "+format, a...)) }
	var items []string
	for _, p := range spec.Parties {
		switch p.Role {
		case Contributor, Gate:
			r.contributors = append(r.contributors, p.Party)
			if p.Role == Gate {
				r.gates = append(r.gates, p.Party)
			}
			if len(p.Inputs) != 1 {
				bad("%s needs exactly one input", p.Party)
				continue
			}
			if sorted := slices.Sorted(slices.Values(p.Inputs[0].Items)); items == nil {
				items = sorted
			} else if !slices.Equal(items, sorted) {
				bad("%s contributes other items than the parties before it: all need the same", p.Party)
			}
		case Recipient:
			if len(p.Inputs) != 0 {
				bad("%s is a recipient and contributes nothing, but has an input", p.Party)
			}
			if !slices.Contains(spec.Recipients, p.Party) {
				bad("%s takes part as recipient and is none of the job's", p.Party)
			}
		}
	}
	n := len(r.contributors)
	switch t := r.Threshold; {
	case n < 2 || n > way.most:
		bad("%d contributors, allowed are 2 to %d", n, way.most)
	case t < 0 || t == 1 || t > n:
		bad("threshold is %d, allowed are 0 for all and 2 to %d", t, n)
	case t != 0 && 2*t <= n && way.majority:
		bad("threshold is %d of %d: two groups could open different sums, so more than half is needed", t, n)
	}
	if n == 2 {
		if least := spec.Limits.Release.MinProviders; least < 1 || least > 2 {
			bad("with two contributors each can subtract its own part, so the grant has to say limits.release.min_providers: 2")
		}
	}
	if unit := spec.Limits.Release.Unit; unit != "" && r.Entity != unit {
		bad("entity is %q, and the rules of the grant or of this party protect %q (limits.release.unit): only a job that names the same is possible", r.Entity, unit)
	}
	if len(r.gates) == 0 {
		bad("no party has the role %s, and without one nobody can say which cells are too small", Gate)
	}
	if len(r.Title) > maxTitle {
		bad("title is %d bytes long, allowed are %d", len(r.Title), maxTitle)
	}
	if err := r.Rules.Validate(); err != nil {
		bad("rules: %w", err)
	}
	if r.Rules.Unit != "" || r.Rules.BudgetEpsilon != 0 || r.Rules.BudgetDelta != 0 {
		bad("rules: unit and budgets hold for all jobs of a grant, and stand in its limits.release; a job names its entity")
	}
	all := rules.Strictest(spec.Limits.Release, r.Rules)
	if all.MinProviders > int64(n) {
		bad("the rules ask for %d providers in every cell and %d parties contribute: nothing could be released", all.MinProviders, n)
	}
	if all.Epsilon > 0 && r.UnitRows == 0 {
		bad("the rules ask for noise (epsilon), so the form has to say how many rows one unit can have: unit_rows")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if err := r.Form.Validate(stats.Names(items)); err != nil {
		return nil, err
	}
	var err error
	if r.plan, err = stats.NewPlan(r.Form, n); err != nil {
		return nil, err
	}
	if n := largest(r.plan).Len(); way.elements > 0 && n > way.elements {
		return nil, fmt.Errorf("mpc/aggregate: %d numbers to add, %s adds at most %d: ask for fewer cells, measures or bins, or take %s", n, way.name, way.elements, NameMasked)
	}
	return r, nil
}

// threshold is how many contributors suffice to open.
func (r *request) threshold() int {
	if r.Threshold == 0 {
		return len(r.contributors)
	}
	return r.Threshold
}

// Definition returns mpc.aggregate.v1, which adds by threshold encryption.
func Definition() job.Definition { return definition(encrypted) }

// MaskedDefinition returns mpc.secagg.v1, which adds by pairwise masking.
func MaskedDefinition() job.Definition { return definition(masked) }

func definition(w way) job.Definition {
	d := job.Definition{
		Name:    w.name,
		Summary: w.summary,
		Roles: []job.RoleSpec{
			{Role: Contributor, Max: w.most - 1},
			{Role: Gate, Min: 1, Max: w.most},
			{Role: Recipient},
		},
		Assumptions: w.assumptions,
		Family:      family,
		Resumable:   true,
		Restarts:    true,
	}
	d.Validate = func(spec job.Spec) error {
		_, err := decode(spec, w)
		return errors.Join(d.CheckRoles(spec), err)
	}
	d.Spare = func(spec job.Spec) int {
		r, err := decode(spec, w)
		if err != nil {
			return 0
		}
		return len(r.contributors) - r.threshold()
	}
	d.Reveals = func(spec job.Spec) []job.Disclosure { return reveals(spec, w) }
	d.Run = w.run
	d.Clear = w.clear
	d.Estimate = w.estimate
	d.BenchStatistics = w.bench
	d.Bench = func(n int64) (job.Bench, error) { return w.bench(job.BenchSize{Counters: n}) }
	return d
}

func reveals(spec job.Spec, w way) []job.Disclosure {
	ds := []job.Disclosure{
		{Field: viewRules, What: "every party's rules of release, from its grant and its own policy"},
		{Field: fieldCells, What: "how many cells the table has"},
		{Field: fieldSuppressed, What: "how many cells are withheld"},
		{Field: fieldMask, What: "which cells are withheld, and not for which rule"},
		{Field: fieldRules, What: "the rules in force, which are the strictest of all"},
		{Field: fieldIncluded, What: "the rows of which parties are in the table"},
		{Field: fieldContributors, What: "how many parties' rows are in the table"},
		{Field: viewMore, What: "which parties withhold cells besides, because a withheld one would follow from an earlier release, if any do"},
		{Field: viewEnd, What: "that a party has ended the run because of its own rows, if one does, and not which row or why"},
		{To: Gate, Field: viewMore, What: "which cells those are"},
		{To: Gate, Field: viewCells, What: "of every cell, withheld or not: how many units all parties have in it together, how many parties have one, and at how many parties a rule of their own withholds it; the first two also of every bin of a measure, and of the rows that have the values a measure needs where others are skipped"},
	}
	r, err := decode(spec, w)
	shown := "the opened counters of every cell that is not withheld"
	if err == nil {
		shown += ": " + r.plan.Opened()
		if len(r.contributors) == 2 {
			shown += "; a recipient that contributes subtracts its own part and has the other's"
		}
	}
	for _, p := range spec.Parties {
		if !slices.Contains(spec.Recipients, p.Party) {
			continue
		}
		for _, d := range []job.Disclosure{
			{To: p.Role, Field: fieldStatistics, What: "the table of statistics, without the cells that are withheld"},
			{To: p.Role, Field: viewCounters, What: shown},
		} {
			if !slices.Contains(ds, d) {
				ds = append(ds, d)
			}
		}
	}
	return ds
}
