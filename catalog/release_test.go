package catalog

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
)

// everyRule states all rules, each with a number of its own.
func everyRule() rules.Set {
	return rules.Set{
		MinUnits: 20, MinProviders: 4, DominanceUnits: 2, DominancePercent: 85, PPercent: 10, RoundTo: 5,
		Epsilon: 0.5, Delta: 1e-6, BudgetEpsilon: 2.5, Unit: "firm", BudgetDelta: 1e-5,
	}
}

func TestReleaseRulesAreInTheGrant(t *testing.T) {
	if v := reflect.ValueOf(everyRule()); true {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("the test leaves %s out", v.Type().Field(i).Name)
			}
		}
	}
	w := newWorld(t)
	w.request.Limits.Release = ReleaseMessage(everyRule())
	g, err := w.verify(w.sign(), nil, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Limits().Release; got != everyRule() {
		t.Errorf("the grant's rules are %+v", got)
	}
}

// A request that states no rules is encoded as one from before there were any,
// so what was signed then verifies now.
func TestRequestsWithoutReleaseRules(t *testing.T) {
	if m := ReleaseMessage(rules.Set{}); m != nil {
		t.Errorf("no rules became %v", m)
	}
	w := newWorld(t)
	if w.request.Limits.Release != nil {
		t.Fatal("the fixture states rules")
	}
	b, err := Encode(w.request.Limits)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 || num > 5 {
			t.Fatalf("limits hold field %d", num)
		}
		b = b[n:]
	}
	g, err := w.verify(w.sign(), nil, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if g.Limits().Release != (rules.Set{}) {
		t.Errorf("rules out of nothing: %+v", g.Limits().Release)
	}
	w.request.Limits.Release = &catalogv1.ReleaseRules{}
	if g, err = w.verify(w.sign(), nil, testNow); err != nil || g.Limits().Release != (rules.Set{}) {
		t.Errorf("an empty message: %v", err)
	}
}

func TestReleaseRulesThatCannotBe(t *testing.T) {
	for want, change := range map[string]func(*catalogv1.ReleaseRules){
		"limits.release.min_units: want 0 to":                                func(r *catalogv1.ReleaseRules) { r.MinUnits = -1 },
		"limits.release.min_providers: want":                                 func(r *catalogv1.ReleaseRules) { r.MinProviders = 5000 },
		"limits.release.dominance_units: want dominance_percent beside":      func(r *catalogv1.ReleaseRules) { r.DominancePercent = 0 },
		"limits.release.dominance_percent: want":                             func(r *catalogv1.ReleaseRules) { r.DominancePercent = math.Inf(1) },
		"limits.release.p_percent: want":                                     func(r *catalogv1.ReleaseRules) { r.PPercent = math.NaN() },
		"limits.release.round_to: want":                                      func(r *catalogv1.ReleaseRules) { r.RoundTo = math.MaxInt64 },
		"limits.release.epsilon: want 0 to":                                  func(r *catalogv1.ReleaseRules) { r.Epsilon = -0.1 },
		"limits.release.epsilon: want a value beside delta":                  func(r *catalogv1.ReleaseRules) { r.Epsilon = 0 },
		"limits.release.delta: want":                                         func(r *catalogv1.ReleaseRules) { r.Delta = 0.5 },
		"limits.release.budget_epsilon: want":                                func(r *catalogv1.ReleaseRules) { r.BudgetEpsilon = math.NaN() },
		"limits.release.budget_delta: want":                                  func(r *catalogv1.ReleaseRules) { r.BudgetDelta = 1 },
		"limits.release.min_units: want 0 to 1099511627776; limits.release.": func(r *catalogv1.ReleaseRules) { r.MinUnits, r.RoundTo = -1, -1 },
	} {
		w := newWorld(t)
		w.request.Limits.Release = ReleaseMessage(everyRule())
		change(w.request.Limits.Release)
		_, err := w.verify(w.sign(), nil, testNow)
		wantRule(t, err, RuleRequest, false)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	// A rule that this build does not know might be stricter than all it knows.
	w := newWorld(t)
	w.request.Limits.Release = ReleaseMessage(everyRule())
	w.request.Limits.Release.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	_, err := w.verify(w.sign(), nil, testNow)
	wantRule(t, err, RuleUnknownField, false)
}

func TestReleaseMessageIsTheInverse(t *testing.T) {
	m := ReleaseMessage(everyRule())
	if got := ReleaseOf(m); got != everyRule() {
		t.Errorf("there and back: %+v", got)
	}
	if !proto.Equal(ReleaseMessage(ReleaseOf(m)), m) {
		t.Error("and back again: another message")
	}
}
