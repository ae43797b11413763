package logit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/yinqiao/yinqiao/job"
)

// Params are the public parameters of fl.logit.v1 as a contract holds them.
// DefaultParams documents the values that stand where a contract is silent.
type Params struct {
	// Label names the item of the label holder that holds 0 or 1. Required.
	Label string `json:"label"`
	// Weight names an item of the label holder with a positive weight per
	// row; "" weighs all rows alike. Weights are divided by their mean over
	// the training rows, so that L2 keeps its meaning.
	Weight string `json:"weight"`
	// ClassWeight "balanced" weighs the classes alike, on top of Weight.
	ClassWeight string `json:"class_weight"`
	// L2 is the penalty λ in Σ loss + λ/2·|w|², on standardised columns; the
	// intercept is free. C of scikit-learn is 1/λ.
	L2 float64 `json:"l2"`
	// Clip bounds a standardised value to ±Clip; 0 means no bound.
	Clip float64 `json:"clip"`
	// PeriodLog2 and Terms choose the Fourier series that stands for the
	// sigmoid: period 2^PeriodLog2 in log-odds, Terms sines.
	PeriodLog2 int `json:"period_log2"`
	Terms      int `json:"terms"`
	// MaxIterations bounds the passes over the rows.
	MaxIterations int `json:"max_iterations"`
	// Tolerance ends training once the step of an iteration, a vector of all
	// weights in whitened coordinates, is shorter: about the change of the
	// log-odds of a typical row. 0 runs all iterations.
	Tolerance float64 `json:"tolerance"`
	// Step and Momentum are those of gradient descent in whitened
	// coordinates. Momentum is a multiple of 1/8 up to 6/8. Descent is stable
	// for any rows of equal weight while Step is below 4·(1 + Momentum), and
	// more is refused.
	Step     float64 `json:"step"`
	Momentum float64 `json:"momentum"`
	// Split says which common rows train.
	Split Split `json:"split"`
	// Evaluation is "none", or "scores" to open the exact joint scores of the
	// held-out rows to the label holder.
	Evaluation string `json:"evaluation"`
	// Baseline has the label holder also fit its own columns alone.
	Baseline bool `json:"baseline"`
}

// Split divides the common rows by their normalised key, so that both parties
// divide alike without a word.
type Split struct {
	// Rule is "hash" (SHA-256 of Salt and key), "key_mod" (the key as a
	// decimal number) or "none" (all rows train).
	Rule string `json:"rule"`
	// A row trains if the number modulo Modulus is below TrainBelow.
	Modulus    uint64 `json:"modulus"`
	TrainBelow uint64 `json:"train_below"`
	// Salt makes hash splits differ from each other.
	Salt string `json:"salt"`
}

// Values of the enumerated parameters.
const (
	SplitHash   = "hash"
	SplitKeyMod = "key_mod"
	SplitNone   = "none"

	EvaluateNone   = "none"
	EvaluateScores = "scores"

	ClassWeightNone     = "none"
	ClassWeightBalanced = "balanced"
)

// PermissionScores is what a grant lists to allow Evaluation "scores".
const PermissionScores = "open.scores.exact"

// Bounds of parameters and inputs.
const (
	minPeriodLog2, maxPeriodLog2 = 3, 9
	maxTerms                     = 32
	maxIterations                = 200
	maxColumns                   = 1024 // of one party, without label and weight
	maxRows                      = 1 << 20
	maxRelativeWeight            = 16 // of a row, the mean being 1
	// maxModulus keeps a split from being a filter: with a large one a job could
	// name single persons by their numbers, train with and without them, and
	// compare. Which runs a grant allows it does not say.
	maxModulus = 1000
)

// DefaultParams returns the defaults: the reference setting for thousands of
// rows. For a few hundred rows, whose scores spread wider, take a period of
// 2^7 with 24 terms.
func DefaultParams() Params {
	return Params{
		ClassWeight:   ClassWeightNone,
		L2:            1,
		Clip:          8,
		PeriodLog2:    5,
		Terms:         8,
		MaxIterations: 24,
		Tolerance:     0.005,
		Step:          5.25,
		Momentum:      0.375,
		Split:         Split{Rule: SplitHash, Modulus: 10, TrainBelow: 7},
		Evaluation:    EvaluateNone,
		Baseline:      true,
	}
}

// Validate reports every fault, each with its key path.
func (p Params) Validate() error {
	var errs []error
	check := func(ok bool, key, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("logit: parameter %s: %s", key, want))
		}
	}
	in := func(x, lo, hi float64) bool { return x >= lo && x <= hi } // false for NaN
	check(p.Label != "", "label", "name the item that holds the label")
	check(p.Weight == "" || p.Weight != p.Label, "weight", "the label cannot weigh the rows")
	check(p.ClassWeight == ClassWeightNone || p.ClassWeight == ClassWeightBalanced, "class_weight", `want "none" or "balanced"`)
	check(in(p.L2, 0, 1e9), "l2", "want a number from 0 to 1e9")
	check(p.Clip == 0 || in(p.Clip, 1, 100), "clip", "want 0 for none, or a number from 1 to 100")
	check(p.PeriodLog2 >= minPeriodLog2 && p.PeriodLog2 <= maxPeriodLog2, "period_log2", fmt.Sprintf("want %d to %d", minPeriodLog2, maxPeriodLog2))
	check(p.Terms >= 1 && p.Terms <= maxTerms, "terms", fmt.Sprintf("want 1 to %d", maxTerms))
	check(p.MaxIterations >= 1 && p.MaxIterations <= maxIterations, "max_iterations", fmt.Sprintf("want 1 to %d", maxIterations))
	check(p.Tolerance == 0 || in(p.Tolerance, minTolerance, 1), "tolerance", fmt.Sprintf("want 0 for none, or a number from %g to 1", minTolerance))
	check(in(p.Momentum, 0, 0.75) && p.Momentum*8 == math.Trunc(p.Momentum*8), "momentum", "want a multiple of 1/8 from 0 to 6/8")
	check(in(p.Step, 0.01, 4*(1+p.Momentum)), "step", "want a number from 0.01 to 4·(1 + momentum), beyond which descent diverges")
	errs = append(errs, p.Split.faults()...)
	check(p.Evaluation == EvaluateNone || p.Evaluation == EvaluateScores, "evaluation", `want "none" or "scores"`)
	check(p.Evaluation != EvaluateScores || p.Split.Rule != SplitNone, "evaluation", `scores need held-out rows: choose a split rule other than "none"`)
	return errors.Join(errs...)
}

func (s Split) faults() (errs []error) {
	switch s.Rule {
	case SplitNone:
		return nil
	case SplitHash, SplitKeyMod:
	default:
		errs = append(errs, errors.New(`logit: parameter split.rule: want "hash", "key_mod" or "none"`))
	}
	if s.Modulus < 2 || s.Modulus > maxModulus {
		errs = append(errs, fmt.Errorf("logit: parameter split.modulus: want 2 to %d", maxModulus))
	}
	if s.TrainBelow < 1 || s.TrainBelow >= s.Modulus {
		errs = append(errs, errors.New("logit: parameter split.train_below: want 1 to below split.modulus"))
	}
	if len(s.Salt) > 256 || (s.Rule == SplitKeyMod && s.Salt != "") {
		errs = append(errs, errors.New("logit: parameter split.salt: want at most 256 bytes, and none with key_mod"))
	}
	return errs
}

// ErrSplitKey is returned for a key that split rule "key_mod" cannot read.
var ErrSplitKey = errors.New(`logit: a common key is not a decimal number below 2^64: use split rule "hash"`)

// trains says whether the row with a normalised key trains.
func (s Split) trains(key []byte) (bool, error) {
	switch s.Rule {
	case SplitNone:
		return true, nil
	case SplitKeyMod:
		v, err := strconv.ParseUint(string(key), 10, 64)
		if err != nil {
			return false, ErrSplitKey
		}
		return v%s.Modulus < s.TrainBelow, nil
	}
	h := sha256.New()
	h.Write([]byte("yinqiao/fl.logit/split/v1\x00"))
	h.Write(binary.AppendUvarint(nil, uint64(len(s.Salt))))
	h.Write([]byte(s.Salt))
	h.Write(key)
	v := binary.LittleEndian.Uint64(h.Sum(nil))
	return v%s.Modulus < s.TrainBelow, nil
}

// plan is a spec read for this protocol.
type plan struct {
	params          Params
	labelColumns    []string // of the label holder, without label and weight
	featureColumns  []string
	minIntersection int64
}

// readSpec decodes and checks a spec; it reports every fault.
func readSpec(spec job.Spec) (plan, error) {
	p := plan{params: DefaultParams(), minIntersection: spec.Limits.MinIntersection}
	if err := job.DecodeParams(spec.Params, &p.params); err != nil {
		return plan{}, err
	}
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("logit: "+format, args...)) }
	if err := p.params.Validate(); err != nil {
		errs = append(errs, err)
	}
	if len(spec.ByRole(LabelHolder)) != 1 || len(spec.ByRole(FeatureHolder)) != 1 || len(spec.Parties) != 2 {
		fault("want exactly one %s and one %s", LabelHolder, FeatureHolder)
		return plan{}, errors.Join(errs...)
	}
	for _, party := range spec.Parties {
		if len(party.Inputs) != 1 {
			fault("%s: want one input, got %d", party.Role, len(party.Inputs))
			continue
		}
		items := party.Inputs[0].Items
		for i, name := range items {
			if slices.Contains(items[:i], name) {
				fault("%s: item %q is named twice", party.Role, name)
			}
		}
		columns := slices.Clone(items)
		if party.Role == LabelHolder {
			for _, named := range []struct{ key, item string }{{"label", p.params.Label}, {"weight", p.params.Weight}} {
				if named.item == "" {
					continue
				}
				if !slices.Contains(items, named.item) {
					fault("parameter %s: the %s's input has no item %q", named.key, LabelHolder, named.item)
				}
				columns = slices.DeleteFunc(columns, func(c string) bool { return c == named.item })
			}
			p.labelColumns = columns
		} else {
			p.featureColumns = columns
			if len(columns) == 0 {
				fault("%s: want at least one item", FeatureHolder)
			}
		}
		if len(columns) > maxColumns {
			fault("%s: want at most %d columns, got %d", party.Role, maxColumns, len(columns))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return plan{}, err
	}
	return p, nil
}
