package logit

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/yinqiao/yinqiao/fl/metrics"
	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/ecdh"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Name of the protocol; a change on the wire is a new name.
const Name = "fl.logit.v1"

// Errors of a run.
var (
	ErrNoRows  = errors.New("logit: no common row trains")
	ErrNoHeld  = errors.New("logit: evaluation needs held-out rows of both classes among the common rows")
	ErrCounts  = errors.New("logit: the parties' counts disagree at the end")
	ErrColumns = errors.New("logit: unusable columns")
)

// Names of the public counts.
const (
	CountCommon     = "rows.common"
	CountTrain      = "rows.train"
	CountTest       = "rows.test"
	CountIterations = "iterations"
)

// Column is one column's part of a model. A row's partial score is
// Σ Standardised·clip((x - Mean)/SD), with x = Fill where it is missing, plus
// the intercept at the label holder; the log-odds are the sum of both parties'
// partial scores.
type Column struct {
	Column       string  `json:"column"`
	Weight       float64 `json:"weight"`       // per unit of the raw column: Standardised/SD
	Standardised float64 `json:"standardised"` // per standard deviation
	Scaling
}

// Metric compares the label holder's own model with the joint one.
type Metric struct {
	Alone *float64 `json:"alone,omitempty"`
	Joint *float64 `json:"joint,omitempty"`
}

// Definition returns fl.logit.v1.
func Definition() job.Definition {
	return job.Definition{
		Name:            Name,
		Summary:         "logistic regression on two parties' columns about their common rows",
		Roles:           []job.RoleSpec{{Role: LabelHolder, Min: 1, Max: 1}, {Role: FeatureHolder, Min: 1, Max: 1}},
		MinIntersection: job.BeforeReveal,
		Assumptions:     assumptions(),
		Reveals:         reveals,
		Validate: func(spec job.Spec) error {
			_, err := readSpec(spec)
			return err
		},
		Run:   run,
		Clear: inTheClear,
		Bench: bench,
	}
}

func reveals(spec job.Spec) []job.Disclosure {
	p := DefaultParams()
	if err := job.DecodeParams(spec.Params, &p); err != nil {
		p = DefaultParams()
		p.Evaluation = EvaluateScores // unreadable: state the most
	}
	d := []job.Disclosure{
		{Field: "view.rows", What: "which of its own rows the other party also holds, and how many rows the other party put in"},
		{Field: CountCommon, What: "how many rows both parties hold"},
		{To: LabelHolder, Field: "view.count", What: "how many rows both hold, even if they are fewer than the minimum"},
		{To: FeatureHolder, Field: "view.below", What: "that fewer rows than the minimum are common, if so"},
		{Field: CountTrain, What: "how many common rows train"},
		{Field: CountTest, What: "how many common rows are held out"},
		{Field: "view.columns", What: "how many columns the other party put in"},
		{Field: CountIterations, What: "the number of iterations: after each, one bit says whether the step was shorter than the tolerance"},
		{Field: "converged", What: "the last of those bits"},
		{Field: "period", What: "one bit per attempt: whether both parties' largest partial scores on the training rows fit into the period, and the period and terms in use"},
		{Field: "view.rejected", What: "where a first attempt does not fit the period, its weights of the own columns as well"},
		{To: FeatureHolder, Field: "weights", What: "the weights of its own columns, which depend on the labels: at the optimum they are as many linear equations in all training rows' residuals as it has columns"},
		{To: LabelHolder, Field: "weights", What: "the weights of its own columns, which depend on the other party's columns: as many linear equations in all training rows' residuals as it has columns"},
		{To: LabelHolder, Field: "intercept", What: "the intercept, one more such equation"},
	}
	if p.Evaluation == EvaluateScores {
		d = append(d,
			job.Disclosure{
				To: LabelHolder, Field: "scores", Permission: PermissionScores,
				What: "the exact joint score of every held-out row, and with it the feature holder's partial score: nearly a strong column itself (R² .92 for PAY_0 of default_credit)",
			},
			job.Disclosure{To: LabelHolder, Field: "auc", What: "area under the ROC curve of the joint scores; of its own model, which tells nothing new"},
			job.Disclosure{To: LabelHolder, Field: "ks", What: "Kolmogorov-Smirnov distance of the joint scores; of its own model, which tells nothing new"})
	} else if p.Baseline {
		d = append(d,
			job.Disclosure{To: LabelHolder, Field: "auc", What: "of its own model alone: tells nothing new"},
			job.Disclosure{To: LabelHolder, Field: "ks", What: "of its own model alone: tells nothing new"})
	}
	return d
}

// inputs is a party's own data about the common rows, in the common order.
type inputs struct {
	keys    [][]byte
	names   []string
	columns [][]float64
	label   []float64
	weight  []float64
	rows    int64 // of the whole table
}

// run is one party's part: bind, align, split, train, evaluate, compare counts.
// The minimum of common rows holds for those that train, too: the split is the
// job's choice and not the grant's.
func run(ctx context.Context, env job.Env) (job.Result, error) {
	pl, err := readSpec(env.Spec)
	if err != nil {
		return job.Result{}, err
	}
	role := env.Self().Role
	if len(env.Inputs) != 1 {
		return job.Result{}, fmt.Errorf("%w: want one input, got %d", ErrColumns, len(env.Inputs))
	}
	fields, err := bindFields(env.Spec, pl)
	if err != nil {
		return job.Result{}, err
	}
	if err := env.Session.Bind(ctx, Name, fields...); err != nil {
		return job.Result{}, err
	}
	in, err := align(ctx, env, pl, role)
	if err != nil {
		return job.Result{}, err
	}
	train := make([]bool, len(in.keys))
	counts := map[string]int64{CountCommon: int64(len(train)), CountTrain: 0, CountTest: 0}
	for i, k := range in.keys {
		if train[i], err = pl.params.Split.trains(k); err != nil {
			return job.Result{}, err
		}
		if train[i] {
			counts[CountTrain]++
		} else {
			counts[CountTest]++
		}
	}
	if counts[CountTrain] == 0 {
		return job.Result{}, ErrNoRows
	}
	if counts[CountTrain] < pl.minIntersection {
		return job.Result{}, fmt.Errorf("logit: %w (%d common rows train)", job.ErrMinIntersection, counts[CountTrain])
	}
	if counts[CountTrain] > maxRows || counts[CountTest] > maxRows {
		return job.Result{}, fmt.Errorf("%w: more than %d rows to train or hold out", ErrRange, maxRows)
	}
	if pl.params.Evaluation == EvaluateScores && counts[CountTest] == 0 {
		return job.Result{}, ErrNoHeld
	}

	var res job.Result
	var m model
	if role == LabelHolder {
		res, m, err = runLabel(ctx, env.Session, pl, in, train)
	} else {
		res, m, err = runFeature(ctx, env.Session, pl, in, train)
	}
	if err != nil {
		return job.Result{}, err
	}
	res.Values["converged"] = m.converged
	res.Values["period"] = map[string]any{"log2": m.attempt.periodLog2, "terms": m.attempt.terms, "attempt": m.attempt.number}
	counts[CountIterations] = int64(m.iterations)
	res.Counts, res.Rows = counts, in.rows
	if err := compareCounts(ctx, env.Session, counts); err != nil {
		return job.Result{}, err
	}
	return res, nil
}

// bindFields are the public parameters that both parties must share. The
// minimum intersection is not one: a node may hold to a higher one than the
// grant's, which is its own affair, and the alignment enforces each side's.
func bindFields(spec job.Spec, pl plan) ([]session.Field, error) {
	b, err := json.Marshal(pl.params)
	if err != nil {
		return nil, fmt.Errorf("logit: encode parameters: %w", err)
	}
	return []session.Field{
		{Name: string(LabelHolder), Value: string(spec.ByRole(LabelHolder)[0])},
		{Name: string(FeatureHolder), Value: string(spec.ByRole(FeatureHolder)[0])},
		{Name: "params", Value: string(b)},
	}, nil
}

// align reads the own columns, finds the common rows and puts them in the
// common order. The minimum intersection holds before anyone knows a match.
func align(ctx context.Context, env job.Env, pl plan, role job.Role) (inputs, error) {
	src := env.Inputs[0]
	keys, err := table.Keys(ctx, src, table.RuleID)
	if err != nil {
		return inputs{}, err
	}
	schema := src.Schema()
	isKey := func(name string) bool { i := schema.Index(name); return i >= 0 && schema[i].Key }
	names := pl.featureColumns
	if role == LabelHolder {
		names = pl.labelColumns
	}
	names = slices.DeleteFunc(slices.Clone(names), isKey)
	if role == FeatureHolder && len(names) == 0 {
		return inputs{}, fmt.Errorf("%w: no column besides the key", ErrColumns)
	}
	read := slices.Clone(names)
	if role == LabelHolder {
		for _, extra := range []string{pl.params.Label, pl.params.Weight} {
			if isKey(extra) {
				return inputs{}, fmt.Errorf("%w: label and weight cannot be key columns", ErrColumns)
			}
			if extra != "" {
				read = append(read, extra)
			}
		}
	}
	all, err := table.ReadFloats(ctx, src, read)
	if err != nil {
		return inputs{}, err
	}
	for i := range all {
		if len(all[i]) != keys.Len() {
			return inputs{}, fmt.Errorf("%w: %s has %d rows and the key %d", ErrColumns, read[i], len(all[i]), keys.Len())
		}
	}

	fork, err := env.Session.Fork(ctx, "align")
	if err != nil {
		return inputs{}, err
	}
	part := ecdh.Send
	if role == LabelHolder {
		part = ecdh.Receive
	}
	match, err := part(ctx, fork, keys.All(), keys.Len(), ecdh.Params{
		MinIntersection: pl.minIntersection,
		Items:           fmt.Sprintf("%s of %d columns", table.RuleID, len(schema.Keys())),
	})
	if err != nil {
		return inputs{}, err
	}
	if err := fork.CloseSend(); err != nil {
		return inputs{}, err
	}

	in := inputs{names: names, rows: int64(keys.Len())}
	for _, r := range match.Rows {
		in.keys = append(in.keys, keys.At(int(r)))
	}
	for i := range all {
		c := make([]float64, len(match.Rows))
		for k, r := range match.Rows {
			c[k] = all[i][r]
		}
		switch {
		case i < len(names):
			in.columns = append(in.columns, c)
		case i == len(names):
			in.label = c
		default:
			in.weight = c
		}
	}
	return in, nil
}

// runLabel trains and evaluates at the label holder.
func runLabel(ctx context.Context, s *session.Session, pl plan, in inputs, train []bool) (job.Result, model, error) {
	p := pl.params
	fail := func(err error) (job.Result, model, error) { return job.Result{}, model{}, err }
	fit, held, scalings := design(in.columns, train, p.Clip, true)
	y, yHeld := pick(in.label, train)
	if err := checkLabels(y); err != nil {
		return fail(err)
	}
	if p.Evaluation == EvaluateScores && checkLabels(yHeld) != nil {
		return fail(ErrNoHeld)
	}
	wFit, _ := pick(in.weight, train)
	weights, err := rowWeights(wFit, y, p.ClassWeight)
	if err != nil {
		return fail(err)
	}

	m, err := trainLabel(ctx, s, p, fit, y, weights, len(yHeld), len(pl.featureColumns), nil)
	if err != nil {
		return fail(err)
	}
	last := len(m.weights) - 1
	res := job.Result{Values: map[string]any{
		"weights":   columnsOf(in.names, scalings, m.weights[:last]),
		"intercept": m.weights[last],
	}}
	var auc, ks Metric
	if p.Baseline && checkLabels(yHeld) == nil {
		// Columns without an optimum of their own have no baseline; that is no
		// reason to throw the joint model away.
		if alone, err := fitRows(fit, y, p.L2, weights); err == nil {
			if auc.Alone, ks.Alone, err = measure(dot(held, append(alone.Weights, alone.Intercept)), yHeld); err != nil {
				return fail(err)
			}
		}
	}
	if p.Evaluation == EvaluateScores {
		theirs, err := recvScores(ctx, s, len(yHeld))
		if err != nil {
			return fail(err)
		}
		z := dot(held, m.weights)
		for i := range z {
			z[i] += theirs[i]
		}
		if auc.Joint, ks.Joint, err = measure(z, yHeld); err != nil {
			return fail(err)
		}
		t, err := scoreTable(in.keys, train, z, yHeld)
		if err != nil {
			return fail(err)
		}
		res.Tables = map[string]table.Source{"scores": t}
	}
	if auc != (Metric{}) {
		res.Values["auc"], res.Values["ks"] = auc, ks
	}
	return res, m, nil
}

// runFeature trains at the feature holder and gives its partial scores away
// where the grant says so.
func runFeature(ctx context.Context, s *session.Session, pl plan, in inputs, train []bool) (job.Result, model, error) {
	fit, held, scalings := design(in.columns, train, pl.params.Clip, false)
	heldRows := 0
	if held != nil {
		heldRows, _ = held.Dims()
	}
	m, err := trainFeature(ctx, s, pl.params, fit, heldRows, len(pl.labelColumns)+1, nil)
	if err != nil {
		return job.Result{}, model{}, err
	}
	if pl.params.Evaluation == EvaluateScores {
		if err := sendScores(ctx, s, dot(held, m.weights)); err != nil {
			return job.Result{}, model{}, err
		}
	}
	return job.Result{Values: map[string]any{"weights": columnsOf(in.names, scalings, m.weights)}}, m, nil
}

func columnsOf(names []string, scalings []Scaling, w []float64) []Column {
	out := make([]Column, len(names))
	for j := range out {
		out[j] = Column{Column: names[j], Scaling: scalings[j]}
		if sd := scalings[j].SD; sd > 0 { // a constant column has no say
			out[j].Standardised, out[j].Weight = w[j], w[j]/sd
		}
	}
	return out
}

func measure(scores, y []float64) (auc, ks *float64, err error) {
	a, err := metrics.AUC(scores, y)
	if err != nil {
		return nil, nil, err
	}
	k, err := metrics.KS(scores, y)
	return &a, &k, err
}

// scoreTable lists the held-out rows: key, probability, label.
func scoreTable(keys [][]byte, train []bool, z, y []float64) (*table.Table, error) {
	b := table.NewBuilder(table.Schema{
		{Name: "key", Type: table.Text, Key: true},
		{Name: "score", Type: table.Float},
		{Name: "label", Type: table.Int},
	})
	k := 0
	for i, key := range keys {
		if train[i] {
			continue
		}
		b.Texts(0).Append(string(key))
		b.Floats(1).Append(sigmoid(z[k]))
		b.Ints(2).Append(int64(y[k]))
		k++
	}
	return b.Table()
}

// heldChunk is how many partial scores a message carries.
const heldChunk = session.ChunkSize / 16

func sendScores(ctx context.Context, s *session.Session, z []float64) error {
	_, ch, err := s.Other()
	if err != nil {
		return err
	}
	for from := 0; from < len(z); from += heldChunk {
		var b []byte
		for _, v := range z[from:min(from+heldChunk, len(z))] {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
		if err := (link{ch}).send(ctx, msgHeldOut, 0, from/heldChunk, b); err != nil {
			return err
		}
	}
	return nil
}

func recvScores(ctx context.Context, s *session.Session, n int) ([]float64, error) {
	_, ch, err := s.Other()
	if err != nil {
		return nil, err
	}
	z := make([]float64, 0, n)
	for len(z) < n {
		index := len(z) / heldChunk
		b, err := link{ch}.recv(ctx, msgHeldOut, 0, index)
		if err != nil {
			return nil, err
		}
		v, err := decodeUint64s(b, min(heldChunk, n-len(z)))
		if err != nil {
			return nil, badPayload(msgHeldOut, 0, index, err)
		}
		for _, x := range v {
			f := math.Float64frombits(x)
			if !(math.Abs(f) <= 1e6) {
				return nil, badPayload(msgHeldOut, 0, index, errors.New("a score is out of range"))
			}
			z = append(z, f)
		}
	}
	return z, nil
}

// countNames is the order of the counts on the wire.
var countNames = []string{CountCommon, CountTrain, CountTest, CountIterations}

// compareCounts holds both parties' counts against each other.
func compareCounts(ctx context.Context, s *session.Session, counts map[string]int64) error {
	_, ch, err := s.Other()
	if err != nil {
		return err
	}
	l := link{ch}
	return duplex(ctx, func(ctx context.Context) error {
		var b []byte
		for _, k := range countNames {
			b = binary.AppendUvarint(b, uint64(counts[k]))
		}
		return l.send(ctx, msgCounts, 0, 0, b)
	}, func(ctx context.Context) error {
		b, err := l.recv(ctx, msgCounts, 0, 0)
		if err != nil {
			return err
		}
		r := wire.NewReader(b)
		for _, k := range countNames {
			if theirs := int64(r.Uvarint(1 << 40)); r.Err() == nil && theirs != counts[k] {
				return fmt.Errorf("%w: %s is %d here and %d at the peer", ErrCounts, k, counts[k], theirs)
			}
		}
		if err := r.Done(); err != nil {
			return badPayload(msgCounts, 0, 0, err)
		}
		return nil
	})
}

// assumptions are those of the alignment and of the encryption.
func assumptions() []string {
	return []string{"ddh.curve25519", "prg.aes256", "rlwe", "rom.aes256", "rom.sha512", "semi-honest"}
}
