package ecdh

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Roles of the job.
const (
	Sender   job.Role = "sender"
	Receiver job.Role = "receiver"
)

// Fields of the result and of what is revealed beside it.
const (
	fieldIntersection = "intersection"
	fieldRows         = "view.rows"
	fieldCount        = "view.count"
	fieldBelow        = "view.below"
)

// jobParams are the contract's parameters. The zero value is the default.
type jobParams struct {
	// KeyRule normalises the keys before they are compared; see package table.
	KeyRule        string `json:"key_rule"`
	FalseMatchBits int    `json:"false_match_bits"`
	TagBytes       int    `json:"tag_bytes"`
}

// decode returns what spec asks for, having checked it.
func decode(spec job.Spec) (Params, table.KeyRule, error) {
	var jp jobParams
	if err := job.DecodeParams(spec.Params, &jp); err != nil {
		return Params{}, "", err
	}
	p := Params{FalseMatchBits: jp.FalseMatchBits, TagBytes: jp.TagBytes, MinIntersection: spec.Limits.MinIntersection}
	rule, err := table.ParseKeyRule(jp.KeyRule)
	return p, rule, errors.Join(p.Validate(), err)
}

// Definition returns psi.ecdh.v1: the rows that two parties have in common,
// aligned, to both of them.
//
// Each party has one input with at least one key column. Its Result has its
// own granted columns of the common rows, keys first, as table "intersection"
// (row k is the same subject at both), and their number as the count
// job.CountCommon.
func Definition() job.Definition {
	d := job.Definition{
		Name:            Name,
		Summary:         "align the rows that two parties have in common (Diffie-Hellman on Curve25519)",
		Roles:           []job.RoleSpec{{Role: Sender, Min: 1, Max: 1}, {Role: Receiver, Min: 1, Max: 1}},
		MinIntersection: job.BeforeReveal,
		Assumptions:     []string{"ddh.curve25519", "prg.aes256", "rom.sha512", "semi-honest"},
		Reveals:         reveals,
		Run:             runJob,
		Clear:           inTheClear,
		Bench:           bench,
	}
	d.Validate = func(spec job.Spec) error {
		_, _, err := decode(spec)
		errs := []error{err, d.CheckRoles(spec)}
		for _, p := range spec.Parties {
			if len(p.Inputs) != 1 || len(p.Inputs[0].Items) == 0 {
				errs = append(errs, fmt.Errorf("psi/ecdh: %s needs exactly one input with at least one item", p.Party))
			}
		}
		return errors.Join(errs...)
	}
	return d
}

func reveals(spec job.Spec) []job.Disclosure {
	ds := []job.Disclosure{
		{Field: fieldIntersection, What: "which of its own rows the other party has as well, in a common order"},
		{Field: job.CountCommon, What: "how many rows both have"},
		{Field: fieldRows, What: "how many rows the other party has put in"},
		{To: Receiver, Field: fieldCount, What: "how many rows are common, even if they are fewer than the minimum"},
	}
	if spec.Limits.MinIntersection > 0 {
		ds = append(ds, job.Disclosure{To: Sender, Field: fieldBelow, What: "that fewer rows than the minimum are common, if so"})
	}
	return ds
}

func runJob(ctx context.Context, env job.Env) (job.Result, error) {
	p, rule, err := decode(env.Spec)
	if err != nil {
		return job.Result{}, err
	}
	if len(env.Inputs) != 1 {
		return job.Result{}, fmt.Errorf("psi/ecdh: needs one input, got %d", len(env.Inputs))
	}
	src := env.Inputs[0]
	keys, err := table.Keys(ctx, src, rule)
	if err != nil {
		return job.Result{}, err
	}
	p.Items = fmt.Sprintf("%s of %d columns", rule, len(src.Schema().Keys()))
	role := Send
	switch r := env.Self().Role; r {
	case Sender:
	case Receiver:
		role = Receive
	default:
		return job.Result{}, fmt.Errorf("psi/ecdh: no role %q", r)
	}
	n := int64(keys.Len())
	m, err := role(ctx, env.Session, keys.All(), keys.Len(), p)
	if err != nil {
		return job.Result{}, err
	}
	keys = nil
	common, err := take(ctx, src, m)
	if err != nil {
		return job.Result{}, err
	}
	return job.Result{
		Tables: map[string]table.Source{fieldIntersection: common},
		Counts: map[string]int64{job.CountCommon: int64(len(m.Rows))},
		Rows:   n,
	}, nil
}

// take returns the matched rows of src, key columns first.
func take(ctx context.Context, src table.Source, m Match) (*table.Table, error) {
	var names, rest []string
	for _, c := range src.Schema() {
		if c.Key {
			names = append(names, c.Name)
		} else {
			rest = append(rest, c.Name)
		}
	}
	ordered, err := table.Select(src, append(names, rest...))
	if err != nil {
		return nil, err
	}
	rows := make([]int, len(m.Rows))
	for k, i := range m.Rows {
		rows[k] = int(i)
	}
	return table.Take(ctx, ordered, rows)
}

// inTheClear counts the common rows of two tables in one place.
func inTheClear(ctx context.Context, spec job.Spec, sources map[session.PartyID][]table.Source) (map[string]any, error) {
	_, rule, err := decode(spec)
	if err != nil {
		return nil, err
	}
	held := make(map[string]int)
	for _, p := range spec.Parties {
		for _, src := range sources[p.Party] {
			keys, err := table.Keys(ctx, src, rule)
			if err != nil {
				return nil, err
			}
			for k := range keys.All() {
				held[string(k)]++
			}
		}
	}
	var common int64
	for _, n := range held {
		if n == len(spec.Parties) {
			common++
		}
	}
	return map[string]any{job.CountCommon: common}, nil
}

// bench makes two tables of n rows, half of them common.
func bench(n int64) (job.Bench, error) {
	if n < 1 || n > MaxRows {
		return job.Bench{}, fmt.Errorf("%w: a benchmark of %d rows, allowed are 1 to %d", ErrSize, n, MaxRows)
	}
	spec := job.Spec{Kind: Name}
	inputs := make(map[session.PartyID][]table.Source)
	for i, role := range []job.Role{Sender, Receiver} {
		id := session.PartyID("p" + strconv.Itoa(i))
		t, err := benchTable(n, int64(i)*(n/2))
		if err != nil {
			return job.Bench{}, err
		}
		spec.Parties = append(spec.Parties, job.Participant{Party: id, Role: role, Inputs: []job.Input{{Entry: "bench", Version: 1, Items: []string{"id", "v"}}}})
		spec.Recipients = append(spec.Recipients, id)
		inputs[id] = []table.Source{t}
	}
	return job.Bench{
		Spec:         spec,
		Inputs:       inputs,
		Baseline:     func(ctx context.Context) error { return bareArithmetic(ctx, int(n)) },
		BaselineName: "bare arithmetic: a hash to the curve and two ladders for every row of both parties",
	}, nil
}

// benchKey is the key of subject i, of the length of an identity number; the
// product stays below 10^18, so that keys are distinct.
func benchKey(b []byte, i int64) []byte {
	return fmt.Appendf(b, "%018d", i*1_000_000_007)
}

func benchTable(n, from int64) (*table.Table, error) {
	tb := table.NewBuilder(table.Schema{{Name: "id", Type: table.Text, Key: true}, {Name: "v", Type: table.Int}})
	var key []byte
	for i := range n {
		key = benchKey(key[:0], from+i)
		tb.Texts(0).Append(string(key))
		tb.Ints(1).Append(i)
	}
	return tb.Table()
}

// bareArithmetic does what no implementation of the protocol can leave out, on
// all processors: for 2n rows, a hash to the curve and two multiplications.
func bareArithmetic(ctx context.Context, n int) error {
	k, err := curve25519.NewScalar(newStream([seedSize]byte{1}, 0))
	if err != nil {
		return err
	}
	h, err := curve25519.NewHasher("yinqiao " + Name + " with " + curve25519.Suite + " " + string(make([]byte, 32)))
	if err != nil {
		return err
	}
	return parallel(ctx, 2*n, ladderBlock, func(lo, hi int) error {
		var us [ladderBlock]curve25519.FieldElement
		var points [ladderBlock]curve25519.Point
		h := h.Clone()
		var key [18]byte
		for i := lo; i < hi; i++ {
			h.HashToField(&us[i-lo], benchKey(key[:0], int64(i)))
		}
		block := points[:hi-lo]
		curve25519.MapToCurve(block, us[:hi-lo])
		k.Mul(block, block)
		k.Mul(block, block)
		return nil
	})
}
