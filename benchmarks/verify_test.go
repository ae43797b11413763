package benchmarks

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

func TestSameKeys(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) keyFile {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return keyFile{path, []string{"id", "sub"}}
	}
	first := file("first", "id,sub,v\na,1,x\nb,2,y\nc,3,z\n")
	for _, c := range []struct {
		name, other string
		fault       string // "" is none
	}{
		{"the same keys, other columns", "w,sub,id\n9,1,a\n8,2,b\n7,3,c\n", ""},
		{"another order", "id,sub\na,1\nc,3\nb,2\n", "row 1 is not of the same subject"},
		{"half a key", "id,sub\na,1\nb,9\nc,3\n", "row 1 is not of the same subject"},
		{"a row too few", "id,sub\na,1\nb,2\n", "ends after 2 rows"},
		{"a row too many", "id,sub\na,1\nb,2\nc,3\nd,4\n", "ends after 3 rows"},
		{"nothing", "", "no header"},
		{"no key", "id,v\na,1\n", "no column of its keys"},
		{"not CSV", "id,sub\na,1\n\"b,2\n", "parse error"},
	} {
		rows, err := sameKeys(t.Context(), []keyFile{first, file("other", c.other)})
		switch {
		case c.fault == "" && (err != nil || rows != 3):
			t.Errorf("%s: %d rows, %v", c.name, rows, err)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if rows, err := sameKeys(t.Context(), []keyFile{first}); rows != 3 || err != nil {
		t.Errorf("alone: %d rows, %v", rows, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sameKeys(ctx, []keyFile{first}); !errors.Is(err, context.Canceled) {
		t.Errorf("under an ended context: %v", err)
	}
}

// A protocol that loses a row at both parties alike, that orders its table
// differently at one of them, or that counts what the case has not, is found
// out.
func TestWrongResults(t *testing.T) {
	good := psi.Jobs()[0]
	with := func(change func(ctx context.Context, env job.Env, r *job.Result) error) job.Definition {
		d := good
		d.Bench = func(n int64) (job.Bench, error) {
			b, err := good.Bench(n)
			b.Common = 0 // not known beforehand: worked out in the clear
			return b, err
		}
		d.Run = func(ctx context.Context, env job.Env) (job.Result, error) {
			r, err := good.Run(ctx, env)
			if err == nil {
				err = change(ctx, env, &r)
			}
			return r, err
		}
		return d
	}
	taking := func(of func(rows []int, self session.PartyID) []int) func(context.Context, job.Env, *job.Result) error {
		return func(ctx context.Context, env job.Env, r *job.Result) error {
			rows := make([]int, r.Counts[job.CountCommon])
			for i := range rows {
				rows[i] = i
			}
			rows = of(rows, env.Session.Self())
			for name, src := range r.Tables {
				t, err := table.Take(ctx, src, rows)
				if err != nil {
					return err
				}
				r.Tables[name] = t
			}
			r.Counts = map[string]int64{job.CountCommon: int64(len(rows))}
			return nil
		}
	}
	for name, c := range map[string]struct {
		def   job.Definition
		fault string
	}{
		"a lost row":    {with(taking(func(rows []int, _ session.PartyID) []int { return rows[1:] })), "in the clear there are 100"},
		"another order": {with(taking(func(rows []int, self session.PartyID) []int { return swapAt(rows, self == "p1") })), "row 0 is not of the same subject"},
		"another count": {with(func(_ context.Context, env job.Env, r *job.Result) error {
			if env.Session.Self() == "p1" {
				r.Counts = map[string]int64{job.CountCommon: 99}
			}
			return nil
		}), "p1 99"},
	} {
		_, err := Run(t.Context(), c.def, Case{N: 200, CSV: true, NoBaseline: true})
		if err == nil || !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stated := good
	stated.Bench = func(n int64) (job.Bench, error) {
		b, err := good.Bench(n)
		b.Common = n
		return b, err
	}
	if _, err := Run(t.Context(), stated, Case{N: 200}); err == nil || !strings.Contains(err.Error(), "the case has 200") {
		t.Errorf("a case of 200 common rows: %v", err)
	}
}

func swapAt(rows []int, yes bool) []int {
	if yes {
		rows[0], rows[1] = rows[1], rows[0]
	}
	return rows
}

// Parties may have different sizes where the kind says so, and only there; CSV
// inputs are then as long as asked.
func TestSizes(t *testing.T) {
	def := psi.Jobs()[0]
	r, err := Run(t.Context(), def, Case{N: 100, M: 10, CSV: true, NoBaseline: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.PerParty[0].Rows != 100 || r.PerParty[1].Rows != 10 || r.M != 10 || r.BytesPerRow != float64(r.Bytes)/100 {
		t.Errorf("%+v", r)
	}
	def.BenchSizes = nil
	if _, err := Run(t.Context(), def, Case{N: 100, M: 10}); err == nil || !strings.Contains(err.Error(), "as many rows each") {
		t.Error(err)
	}
}
