package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
)

func policyHome(t *testing.T, policy string) (Home, error) {
	t.Helper()
	h := Home{Dir: t.TempDir()}
	text := `party: bank
listen: 127.0.0.1:7443
platform:
  address: 127.0.0.1:7440
  public_key: ` + EncodeKey(make([]byte, 32)) + `
policy:
` + policy
	must(t, os.WriteFile(filepath.Join(h.Dir, "node.yaml"), []byte(text), 0o600))
	_, err := h.Config()
	return h, err
}

// TestPolicyFaults: what a policy cannot say has its line and path.
func TestPolicyFaults(t *testing.T) {
	_, err := policyHome(t, `  min_intersection: -1
  release:
    min_units: -1
    epsilon: 1000
    budget_delta: 0.5
`)
	if err == nil {
		t.Fatal("a policy with faults was read")
	}
	for _, want := range []string{
		"node.yaml:7:21: policy.min_intersection: want 0 or more",
		"node.yaml:9:16: policy.release.min_units: want 0 to 1099511627776",
		"node.yaml:10:14: policy.release.epsilon: want 0 to 100",
		"node.yaml:11:19: policy.release.budget_delta: want 0 to 0.01",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s\n%v", want, err)
		}
	}
	if _, err := policyHome(t, "  release: {min_unit: 3}\n"); err == nil || !strings.Contains(err.Error(), `policy.release.min_unit"; did you mean "min_units"?`) {
		t.Errorf("an unknown key: %v", err)
	}
}

// TestPolicyIsWrittenAsItIsRead, small numbers and those of many digits too.
func TestPolicyIsWrittenAsItIsRead(t *testing.T) {
	h, err := policyHome(t, "  release: {min_units: 20, p_percent: 12.5, epsilon: 0.1, delta: 1e-7, budget_epsilon: 1}\n")
	must(t, err)
	c, err := h.Config()
	must(t, err)
	want := rules.Set{MinUnits: 20, PPercent: 12.5, Epsilon: 0.1, Delta: 1e-7, BudgetEpsilon: 1}
	for range 2 {
		if c.Policy.Release != want {
			t.Fatalf("policy.release is %+v", c.Policy.Release)
		}
		must(t, h.ReplaceConfig(c))
		c, err = h.Config()
		must(t, err)
	}
}
