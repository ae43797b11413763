package psitest

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// Spec is a job of p0, p1, … in these roles, with one input each; change may be
// nil.
func Spec(kind string, change func(*job.Spec), roles ...job.Role) job.Spec {
	s := job.Spec{Kind: kind}
	for i, id := range sessiontest.PartyIDs(len(roles)) {
		in := []job.Input{{Entry: "e", Version: 1, Items: []string{"id"}}}
		s.Parties = append(s.Parties, job.Participant{Party: id, Role: roles[i], Inputs: in})
	}
	if change != nil {
		change(&s)
	}
	return s
}

// Params gives a spec these parameters.
func Params(params string) func(*job.Spec) {
	return func(s *job.Spec) { s.Params = json.RawMessage(params) }
}

// Job is a job to be run at all of its parties.
type Job struct {
	Definition job.Definition
	Spec       job.Spec
	Net        sessiontest.Net
	Caches     []scratch.Files // of each party; nil means none
}

// Run runs the job with one source for each party, in the order of the spec.
func (j Job) Run(t testing.TB, sources ...table.Source) ([]job.Result, []sessiontest.Outcome) {
	t.Helper()
	if err := j.Definition.Validate(j.Spec); err != nil {
		t.Fatal(err)
	}
	results := make([]job.Result, len(sources))
	var parties []sessiontest.Party
	for i, src := range sources {
		env := job.Env{Spec: j.Spec, Inputs: []table.Source{src}, Once: &job.MemoryOnce{}}
		if j.Caches != nil {
			env.Cache = j.Caches[i]
		}
		parties = append(parties, func(ctx context.Context, s *session.Session) (err error) {
			env.Session = s
			results[i], err = j.Definition.Run(ctx, env)
			return err
		})
	}
	return results, j.Net.Run(t, parties...)
}

// CheckReveals holds the results of all parties of a job, in the order of the
// spec, to what Reveals lists: nothing else, and all of it but what a view shows.
// The fields that it lists have to include the views named.
func CheckReveals(t testing.TB, d job.Definition, s job.Spec, results []job.Result, views ...string) {
	t.Helper()
	for i, q := range s.Parties {
		said := map[string]bool{}
		for _, x := range d.Reveals(s) {
			if x.To == "" || x.To == q.Role {
				said[x.Field] = true
			}
		}
		for _, v := range views {
			if !said[v] {
				t.Errorf("%s: Reveals does not list %q for %s", s.Params, v, q.Role)
			}
		}
		for _, f := range results[i].Fields() {
			if !said[f] {
				t.Errorf("%s: %s holds %q, which Reveals does not list", s.Params, q.Role, f)
			}
			delete(said, f)
		}
		for f := range said {
			if !strings.HasPrefix(f, "view.") {
				t.Errorf("%s: Reveals lists %q for %s, which its result does not hold", s.Params, f, q.Role)
			}
		}
	}
}

var assumption = regexp.MustCompile("`((?:lpn|ddh|cdh|icm|prg|rom)\\.[a-z0-9.]+)`")

// CheckAssumptions holds the assumptions that a contract names to the pages of
// what the protocol is built on, each of which it has to name too, and the
// protocol's own page to explaining all.
func CheckAssumptions(t testing.TB, d job.Definition, own string, pages ...string) {
	t.Helper()
	read := func(page string) string {
		b, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocols", page))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, page := range pages {
		for _, m := range assumption.FindAllStringSubmatch(read(page), -1) {
			if !slices.Contains(d.Assumptions, m[1]) {
				t.Errorf("%s rests on %s, which the contract does not name", page, m[1])
			}
		}
	}
	text := read(own)
	for _, a := range d.Assumptions {
		if !strings.Contains(text, "| `"+a+"` |") {
			t.Errorf("%s does not explain %s", own, a)
		}
	}
}
