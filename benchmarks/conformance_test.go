package benchmarks_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/yinqiao/yinqiao/app"
	"github.com/yinqiao/yinqiao/benchmarks"
	"github.com/yinqiao/yinqiao/benchmarks/link"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// definitions are the job kinds of the program as it ships.
func definitions(t *testing.T) []job.Definition {
	t.Helper()
	r, err := app.Registry()
	if err != nil {
		t.Fatal(err)
	}
	var defs []job.Definition
	for _, name := range r.Names() {
		d, _ := r.Lookup(name)
		defs = append(defs, d)
	}
	return defs
}

// size of a case that is large enough to learn from and small enough for every
// link.
const size = 600

// parties runs one case of def over kind and returns every party's result.
func parties(ctx context.Context, def job.Definition, b job.Bench, kind link.Kind) ([]job.Result, error) {
	var ids []session.PartyID
	for _, p := range b.Spec.Parties {
		ids = append(ids, p.Party)
	}
	openers, done, err := link.Connect(kind, ids)
	if err != nil {
		return nil, err
	}
	results := make([]job.Result, len(ids))
	group, gctx := errgroup.WithContext(ctx)
	for i, id := range ids {
		group.Go(func() error {
			s, err := session.New(gctx, session.Config{ID: "conformance", Self: id, Parties: ids, Open: openers[id]})
			if err != nil {
				return err
			}
			results[i], err = def.Run(gctx, job.Env{Spec: b.Spec, Session: s, Inputs: b.Inputs[id], Once: &job.MemoryOnce{}})
			return err
		})
	}
	return results, errors.Join(group.Wait(), done())
}

// TestConformance runs every registered job over every link and holds it to
// the plaintext, to its peers' counts, and to what it declares to reveal.
func TestConformance(t *testing.T) {
	for _, def := range definitions(t) {
		if def.Bench == nil || def.Clear == nil {
			t.Errorf("%s: a job kind comes with a benchmark case and a computation in the clear", def.Name)
			continue
		}
		for _, kind := range link.Kinds() {
			t.Run(def.Name+"/"+string(kind), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				b, err := def.Bench(size)
				if err != nil {
					t.Fatal(err)
				}
				clear, err := def.Clear(ctx, b.Spec, b.Inputs)
				if err != nil {
					t.Fatal(err)
				}
				results, err := parties(ctx, def, b, kind)
				if err != nil {
					t.Fatal(err)
				}
				for i, r := range results {
					p := b.Spec.Parties[i]
					for _, count := range []string{job.CountCommon, job.CountCells} {
						if want, ok := clear[count]; ok && r.Counts[count] != want {
							t.Errorf("%s counts %d %s, in the clear there are %v", p.Party, r.Counts[count], count, want)
						}
					}
					for name, want := range clear {
						if want, ok := want.(table.Source); ok && r.Tables[name] != nil && csvText(t, r.Tables[name]) != csvText(t, want) {
							t.Errorf("%s has another table %s than there is in the clear", p.Party, name)
						}
					}
					var declared []string
					for _, d := range def.Reveals(b.Spec) {
						if d.To == "" || d.To == p.Role {
							declared = append(declared, d.Field)
						}
					}
					for _, f := range r.Fields() {
						if !slices.Contains(declared, f) {
							t.Errorf("%s as %s holds %q, which Reveals does not declare", p.Party, p.Role, f)
						}
					}
				}
			})
		}
	}
}

func csvText(t *testing.T, src table.Source) string {
	var b strings.Builder
	if err := table.WriteCSV(t.Context(), &b, src); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestReport: a run prints what it measured, and a bad link or size is
// refused.
func TestReport(t *testing.T) {
	for _, def := range definitions(t) {
		r, err := benchmarks.Run(t.Context(), def, benchmarks.Case{N: size})
		if err != nil {
			t.Fatal(err)
		}
		if r.Job != def.Name || r.N != size || r.Parties < 2 || r.Bytes <= 0 || r.BytesPerRow != float64(r.Bytes)/size ||
			r.Rounds < 1 || r.Seconds <= 0 || r.CPUSeconds <= 0 || r.PeakRSSBytes <= 0 || r.ResultRows <= 0 || r.Baseline.Name == "" {
			t.Errorf("%+v", r)
		}
		if _, err := benchmarks.Run(t.Context(), def, benchmarks.Case{N: size, Net: "carrier pigeon"}); err == nil {
			t.Error("an unknown link was accepted")
		}
		if _, err := benchmarks.Run(t.Context(), def, benchmarks.Case{N: -1}); err == nil {
			t.Error("a negative size was accepted")
		}
	}
}
