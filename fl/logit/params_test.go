package logit

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/he"
)

func specOf(params string) job.Spec {
	return job.Spec{Kind: Name, Params: json.RawMessage(params), Parties: []job.Participant{
		{Party: "bank", Role: LabelHolder, Inputs: []job.Input{{Entry: "a", Items: []string{"y", "w", "x"}}}},
		{Party: "gov", Role: FeatureHolder, Inputs: []job.Input{{Entry: "b", Items: []string{"z"}}}},
	}}
}

func TestValidate(t *testing.T) {
	if err := Definition().Validate(specOf(`{"label":"y"}`)); err != nil {
		t.Fatal(err)
	}
	if err := Definition().Validate(specOf(`{"label":"y","weight":"w","split":{"rule":"key_mod"},"evaluation":"scores","clip":0}`)); err != nil {
		t.Fatal(err)
	}
	for params, want := range map[string]string{
		``:                                                  "parameter label",
		`{`:                                                 "job: parameters",
		`[]`:                                                "job: parameters",
		`{"label":"y"} {}`:                                  "after the object",
		`{"label":"y","lambda":1}`:                          "lambda",
		`{"label":"y","split":{"mod":3}}`:                   "mod",
		`{"label":7}`:                                       "label",
		`{"label":"z"}`:                                     `no item "z"`,
		`{"label":"y","weight":"y"}`:                        "parameter weight",
		`{"label":"y","weight":"v"}`:                        `no item "v"`,
		`{"label":"y","class_weight":"even"}`:               "parameter class_weight",
		`{"label":"y","l2":-1}`:                             "parameter l2",
		`{"label":"y","l2":1e400}`:                          "l2",
		`{"label":"y","clip":0.5}`:                          "parameter clip",
		`{"label":"y","period_log2":2}`:                     "parameter period_log2",
		`{"label":"y","period_log2":10}`:                    "parameter period_log2",
		`{"label":"y","terms":0}`:                           "parameter terms",
		`{"label":"y","terms":33}`:                          "parameter terms",
		`{"label":"y","max_iterations":0}`:                  "parameter max_iterations",
		`{"label":"y","max_iterations":1.5}`:                "max_iterations",
		`{"label":"y","tolerance":1e-9}`:                    "parameter tolerance",
		`{"label":"y","step":0}`:                            "parameter step",
		`{"label":"y","momentum":0.4}`:                      "parameter momentum",
		`{"label":"y","momentum":1}`:                        "parameter momentum",
		`{"label":"y","split":{"rule":"x"}}`:                "parameter split.rule",
		`{"label":"y","split":{"modulus":1}}`:               "parameter split.modulus",
		`{"label":"y","split":{"modulus":1001}}`:            "parameter split.modulus",
		`{"label":"y","split":{"train_below":10}}`:          "parameter split.train_below",
		`{"label":"y","split":{"modulus":-1}}`:              "modulus",
		`{"label":"y","split":{"rule":"key_mod","salt":1}}`: "salt",
		`{"label":"y","evaluation":"auc"}`:                  "parameter evaluation",
		`{"label":"y","evaluation":"scores","split":{"rule":"none"}}`: "held-out",
		`{"label":"y","baseline":1}`:                                  "baseline",
	} {
		err := Definition().Validate(specOf(params))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a word on %q", params, err, want)
		}
	}
	// Every fault at once.
	err := Definition().Validate(specOf(`{"l2":-1,"terms":0,"step":0,"evaluation":"x"}`))
	for _, want := range []string{"label", "l2", "terms", "step", "evaluation"} {
		if err == nil || !strings.Contains(err.Error(), "parameter "+want) {
			t.Errorf("%v does not tell about %s", err, want)
		}
	}
}

func TestValidateParties(t *testing.T) {
	edit := func(f func(*job.Spec)) job.Spec { s := specOf(`{"label":"y"}`); f(&s); return s }
	many := make([]string, maxColumns+1)
	for i := range many {
		many[i] = fmt.Sprint("c", i)
	}
	for name, s := range map[string]job.Spec{
		"one party":          edit(func(s *job.Spec) { s.Parties = s.Parties[:1] }),
		"two label holders":  edit(func(s *job.Spec) { s.Parties[1].Role = LabelHolder }),
		"three parties":      edit(func(s *job.Spec) { s.Parties = append(s.Parties, job.Participant{Party: "x", Role: "observer"}) }),
		"no input":           edit(func(s *job.Spec) { s.Parties[1].Inputs = nil }),
		"two inputs":         edit(func(s *job.Spec) { s.Parties[1].Inputs = append(s.Parties[1].Inputs, s.Parties[1].Inputs[0]) }),
		"no feature columns": edit(func(s *job.Spec) { s.Parties[1].Inputs[0].Items = nil }),
		"an item twice":      edit(func(s *job.Spec) { s.Parties[1].Inputs[0].Items = []string{"z", "z"} }),
		"too many columns":   edit(func(s *job.Spec) { s.Parties[1].Inputs[0].Items = many }),
	} {
		if err := Definition().Validate(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := Definition().CheckRoles(specOf("")); err != nil {
		t.Error(err)
	}
}

// Reveals must not say less for parameters that it cannot read.
func TestRevealsOfUnreadableParams(t *testing.T) {
	if got := Definition().Permissions(specOf(`{`)); len(got) != 1 || got[0] != PermissionScores {
		t.Errorf("%v", got)
	}
	if got := Definition().Permissions(specOf(`{"label":"y"}`)); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestSplit(t *testing.T) {
	mod := Split{Rule: SplitKeyMod, Modulus: 10, TrainBelow: 7}
	for key, want := range map[string]bool{"0": true, "6": true, "7": false, "129": false, "130": true, "18446744073709551615": true} {
		if got, err := mod.trains([]byte(key)); err != nil || got != want {
			t.Errorf("%s: %v %v", key, got, err)
		}
	}
	for _, key := range []string{"", "-1", "x", "1.0", "18446744073709551616"} {
		if _, err := mod.trains([]byte(key)); !errors.Is(err, ErrSplitKey) {
			t.Errorf("%q: %v", key, err)
		}
	}
	a := DefaultParams().Split
	b := a
	b.Salt = "other"
	var train, differ int
	for i := range 10000 {
		key := fmt.Appendf(nil, "person %d", i)
		x, err := a.trains(key)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := a.trains(key)
		y, _ := b.trains(key)
		if x != again {
			t.Fatal("the split is not a function of the key")
		}
		if x {
			train++
		}
		if x != y {
			differ++
		}
	}
	// 7,000 expected with a deviation of 46; 4,200 with 49.
	if math.Abs(float64(train)-7000) > 300 || math.Abs(float64(differ)-4200) > 300 {
		t.Errorf("%d train, %d differ by salt", train, differ)
	}
}

// The statistical masks must keep their 40 bits at the largest inputs allowed.
func TestBudgets(t *testing.T) {
	for _, rows := range []int{1, 10, 399, 21000, maxRows} {
		for log2 := minPeriodLog2; log2 <= maxPeriodLog2; log2++ {
			fp, err := newFixedPoint(log2, 5.25, rows)
			if err != nil {
				t.Fatalf("%d rows: %v", rows, err)
			}
			if fp.kappa <= 0.5 || fp.kappa > 1 || fp.shift < 1 || fp.weightBits < stepBits {
				t.Errorf("%d rows, period 2^%d: %+v", rows, log2, fp)
			}
			if xBits+fp.weightBits+log2 != scoreMod {
				t.Error("scores modulo 2^scoreMod are not scores modulo the period")
			}
		}
	}
	if gradMask-gradLimit < 40 || gradMask >= gradMod || gradOffset <= gradLimit {
		t.Error("gradients are not hidden")
	}
	if compareBits*compareBits > he.Degree || stepMask-46 < 40 || compareBits <= stepMask {
		t.Error("comparisons do not fit")
	}
	for _, rows := range []int{0, -1, maxRows + 1} {
		if _, err := newFixedPoint(5, 5, rows); !errors.Is(err, ErrRange) {
			t.Errorf("%d rows: %v", rows, err)
		}
	}
}

// Schemes open for everything that Validate lets through, or fail with a
// typed error; margins stay above the bar.
func TestSchemes(t *testing.T) {
	for _, c := range []struct{ rows, columns, iterations, terms int }{
		{10, 1, 1, 1}, {21000, 14, 24, 8}, {399, 20, 24, 24}, {100_000, 331, 24, 8}, {maxRows, 100, 24, 32}, {maxRows, 100, 200, 32},
	} {
		p := &party{params: params(), rows: c.rows, columns: c.columns, peer: c.columns}
		p.params.MaxIterations = c.iterations
		var err error
		if p.fp, err = newFixedPoint(5, 5.25, c.rows); err != nil {
			t.Fatal(err)
		}
		if err := p.openSchemes(c.terms); err != nil {
			if !errors.Is(err, he.ErrFlood) || c.rows < maxRows {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		for _, s := range []*he.Scheme{p.score, p.grad, p.sines[0], p.sines[1]} {
			if s.Margin() < he.MinMargin {
				t.Errorf("%+v: %s keeps %.1f bits", c, s.ID(), s.Margin())
			}
		}
	}
}
