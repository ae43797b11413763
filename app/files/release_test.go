package files

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
)

const requestHead = `purpose: "loans by region"
scene: "statistics"
legal_basis: "agreement"
uses: [{entry: 300001/1, version: 1, items: [id]}]
computations: [{kind: mpc.aggregate.v1, roles: [{party: a, role: contributor}]}]
recipients: [a]
limits:
  max_runs: 3
  valid_for: 24h
`

func readText[T any](t *testing.T, text string) (*T, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Read[T](path)
}

// What a request's file says of releases is what is signed.
func TestReleaseRules(t *testing.T) {
	r, err := readText[Request](t, requestHead+`  release:
    min_units: 20
    min_providers: 2
    dominance_units: 2
    dominance_percent: 85.5
    p_percent: 10
    round_to: 5
    epsilon: 0.5
    delta: 1e-6
    budget_epsilon: 2
    budget_delta: 1e-5
`)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Message(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := rules.Set{
		MinUnits: 20, MinProviders: 2, DominanceUnits: 2, DominancePercent: 85.5, PPercent: 10, RoundTo: 5,
		Epsilon: 0.5, Delta: 1e-6, BudgetEpsilon: 2, BudgetDelta: 1e-5,
	}
	if got := catalog.ReleaseOf(m.GetLimits().GetRelease()); got != want {
		t.Errorf("signed are %+v", got)
	}
	for _, text := range []string{requestHead, requestHead + "  release:\n", requestHead + "  release: {}\n"} {
		r, err := readText[Request](t, text)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := r.Message(time.Now(), nil); err != nil || m.GetLimits().GetRelease() != nil {
			t.Errorf("rules out of nothing: %v, %v", m.GetLimits(), err)
		}
	}
}

// Every fault has its line and path.
func TestReleaseRuleFaults(t *testing.T) {
	for text, want := range map[string]string{
		"  release: {min_unit: 10}\n":       `file.yaml:10:13: unknown key "limits.release.min_unit"; did you mean "min_units"?`,
		"  release: 10\n":                   "file.yaml:10:12: limits.release: want",
		"  release:\n    min_units: many\n": "file.yaml:11:16: limits.release.min_units: want a whole number",
		"  release:\n    epsilon: .nan\n":   "file.yaml:11:14: limits.release.epsilon: want",
		"  release:\n    epsilon: 1000\n":   "file.yaml:11:14: limits.release.epsilon: want 0 to 100",
		"  release:\n    min_units: -1\n    round_to: -5\n": "file.yaml:11:16: limits.release.min_units: want 0 to 1099511627776\n" +
			"file.yaml:12:15: limits.release.round_to: want 0 to 1099511627776",
		"  release:\n    dominance_percent: 80\n": "limits.release.dominance_units: want dominance_percent beside it, or neither",
		"  release:\n    delta: 1e-6\n":           "limits.release.epsilon: want a value beside delta",
	} {
		if _, err := readText[Request](t, requestHead+text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gave\n%v, want\n%s", text, err, want)
		}
	}
	// A scenario's request and its parties' policies are held to the same.
	_, err := readText[Scenario](t, `name: "s"
parties:
  - id: a
    policy:
      min_intersection: -1
      release: {p_percent: -1}
  - id: b
request:
  by: a
  limits:
    max_runs: 1
    valid_for: 1h
    release:
      budget_epsilon: 1e9
`)
	if err == nil {
		t.Fatal("faults of a scenario were accepted")
	}
	for _, want := range []string{
		"file.yaml:5:25: parties[0].policy.min_intersection: want 0 or more",
		"file.yaml:6:28: parties[0].policy.release.p_percent: want 0 to 1000",
		"file.yaml:14:23: request.limits.release.budget_epsilon: want 0 to 10000",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s\n%v", want, err)
		}
	}
}
