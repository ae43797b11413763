package rr22

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/vole"
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
	fieldBelow        = "view.below"
)

// jobParams are the contract's parameters. The zero value is the default.
type jobParams struct {
	// KeyRule normalises the keys before they are compared; see package table.
	KeyRule        string `json:"key_rule"`
	FalseMatchBits int    `json:"false_match_bits"`
	// Output is who gets the common rows: "both", which is the default, or
	// "receiver".
	Output string `json:"output"`
}

// decode returns what spec asks for, having checked it.
func decode(spec job.Spec) (Params, table.KeyRule, error) {
	var jp jobParams
	if err := job.DecodeParams(spec.Params, &jp); err != nil {
		return Params{}, "", err
	}
	p := Params{FalseMatchBits: jp.FalseMatchBits, Broadcast: jp.Output != outputReceiver, MinIntersection: spec.Limits.MinIntersection}
	var errs []error
	if jp.Output != "" && jp.Output != outputBoth && jp.Output != outputReceiver {
		errs = append(errs, fmt.Errorf("psi/rr22: output is %q, allowed are %q and %q", jp.Output, outputBoth, outputReceiver))
	}
	rule, err := table.ParseKeyRule(jp.KeyRule)
	return p, rule, errors.Join(append(errs, p.Validate(), err)...)
}

// Assumptions of the protocol, by name, with those of mpc/ot and mpc/vole below
// it: the code, its noise and its field are mpc/vole's.
var assumptions = []string{
	"lpn." + vole.DefaultCode, "ddh.curve25519", "icm.aes128", "prg.aes128", "prg.aes256", "rom.sha256", "rom.sha512", "semi-honest",
}

// Definition returns psi.rr22.v1: the rows that two parties have in common, to
// both of them, aligned, or to the receiver alone.
//
// Each party has one input with at least one key column. Its Result has its
// own granted columns of the common rows, keys first, as table "intersection"
// (row k is the same subject at both), and their number as the count
// job.CountCommon. With the output "receiver", the sender has neither, and the
// receiver the table.
func Definition() job.Definition {
	d := job.Definition{
		Name:            Name,
		Summary:         "find the rows that two parties have in common (vector OLE; fast for large sets)",
		Roles:           []job.RoleSpec{{Role: Sender, Min: 1, Max: 1}, {Role: Receiver, Min: 1, Max: 1}},
		MinIntersection: job.AfterReveal,
		Assumptions:     assumptions,
		Reveals:         reveals,
		Run:             runJob,
		Clear:           inTheClear,
		Bench:           bench,
	}
	d.Validate = func(spec job.Spec) error {
		p, _, err := decode(spec)
		errs := []error{err, d.CheckRoles(spec)}
		for _, q := range spec.Parties {
			if len(q.Inputs) != 1 || len(q.Inputs[0].Items) == 0 {
				errs = append(errs, fmt.Errorf("psi/rr22: %s needs exactly one input with at least one item", q.Party))
			}
			if q.Role == Sender && !p.Broadcast && slices.Contains(spec.Recipients, q.Party) {
				errs = append(errs, fmt.Errorf("psi/rr22: %s is a recipient, and the output %q gives the sender nothing", q.Party, outputReceiver))
			}
		}
		return errors.Join(errs...)
	}
	return d
}

func reveals(spec job.Spec) []job.Disclosure {
	p, _, err := decode(spec)
	toReceiver := Receiver
	if err != nil || p.Broadcast {
		toReceiver = "" // both; also what is said of parameters that are refused
	}
	ds := []job.Disclosure{
		{To: toReceiver, Field: fieldIntersection, What: "which of its own rows the other party has as well, in a common order"},
		{Field: fieldRows, What: "how many rows the other party has put in"},
	}
	if toReceiver == "" {
		ds = append(ds, job.Disclosure{Field: job.CountCommon, What: "how many rows both have"})
	}
	if spec.Limits.MinIntersection > 0 {
		ds = append(ds, job.Disclosure{To: Sender, Field: fieldBelow, What: "that fewer rows than the minimum are common, if so; the receiver knows which by then"})
	}
	return ds
}

func runJob(ctx context.Context, env job.Env) (job.Result, error) {
	p, rule, err := decode(env.Spec)
	if err != nil {
		return job.Result{}, err
	}
	if len(env.Inputs) != 1 {
		return job.Result{}, fmt.Errorf("psi/rr22: needs one input, got %d", len(env.Inputs))
	}
	src := env.Inputs[0]
	keys, err := table.Keys(ctx, src, rule)
	if err != nil {
		return job.Result{}, err
	}
	p.Items = fmt.Sprintf("%s of %d columns", rule, len(src.Schema().Keys()))
	role, gets := Send, p.Broadcast
	switch r := env.Self().Role; r {
	case Sender:
	case Receiver:
		role, gets = Receive, true
	default:
		return job.Result{}, fmt.Errorf("psi/rr22: no role %q", r)
	}
	n := keys.Len()
	m, err := role(ctx, env.Session, keys.All(), n, p)
	if err != nil {
		return job.Result{}, err
	}
	keys = nil
	res := job.Result{Rows: int64(n)}
	if gets {
		common, err := take(ctx, src, m)
		if err != nil {
			return job.Result{}, err
		}
		res.Tables = map[string]table.Source{fieldIntersection: common}
	}
	if p.Broadcast {
		res.Counts = map[string]int64{job.CountCommon: int64(len(m.Rows))}
	}
	return res, nil
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
		Baseline:     func(ctx context.Context) error { return bareComparison(ctx, inputs) },
		BaselineName: "one party with both tables: keys normalised, hashed with SHA-256, sorted and compared",
	}, nil
}

// benchKey appends the key of subject i, of the length of an identity number;
// the product stays below 10^18, so that keys are distinct.
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

// bareComparison finds the common rows as anybody would who may see all.
func bareComparison(ctx context.Context, inputs map[session.PartyID][]table.Source) error {
	var sides [2][]entry
	f, err := newHashForm(maxHashBits-8, 1)
	if err != nil {
		return err
	}
	for i := range sides {
		keys, err := table.Keys(ctx, inputs[session.PartyID("p"+strconv.Itoa(i))][0], table.RuleID)
		if err != nil {
			return err
		}
		digests, err := digestItems(ctx, [32]byte{}, keys.All(), keys.Len())
		if err != nil {
			return err
		}
		sides[i] = make([]entry, len(digests))
		for j := range digests {
			sides[i][j] = f.entry(digests[j], int32(j))
		}
		if err := sortEntries(ctx, sides[i]); err != nil {
			return err
		}
	}
	m := &matcher{own: sides[0]}
	for i := range sides[1] {
		m.next(&sides[1][i])
	}
	return nil
}
