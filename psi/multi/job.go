package multi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Roles of the job.
const (
	Leader job.Role = "leader"
	Member job.Role = "member"
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
	KeyRule string `json:"key_rule"`
	// Output is who gets the common rows: "all", which is the default, or
	// "leader".
	Output string `json:"output"`
}

// decode returns what spec asks for, having checked it.
func decode(spec job.Spec) (Params, table.KeyRule, error) {
	var jp jobParams
	if err := job.DecodeParams(spec.Params, &jp); err != nil {
		return Params{}, "", err
	}
	p := Params{LeaderOnly: jp.Output == outputLeader, MinIntersection: spec.Limits.MinIntersection}
	var errs []error
	if jp.Output != "" && jp.Output != outputAll && jp.Output != outputLeader {
		errs = append(errs, fmt.Errorf("psi/multi: output is %q, allowed are %q and %q", jp.Output, outputAll, outputLeader))
	}
	if p.MinIntersection < 0 {
		errs = append(errs, errors.New("psi/multi: the minimum intersection is negative"))
	}
	if leaders := spec.ByRole(Leader); len(leaders) == 1 {
		p.Leader = leaders[0]
	}
	rule, err := table.ParseKeyRule(jp.KeyRule)
	return p, rule, errors.Join(append(errs, err)...)
}

// Assumptions of the protocol, by name: those of mpc/oprf, and Diffie-Hellman
// in Curve25519 once more, for the secrets of pairs.
var assumptions = []string{
	"lpn." + vole.DefaultCode, "ddh.curve25519", "icm.aes128", "prg.aes128", "prg.aes256", "rom.sha256", "rom.sha512", "semi-honest",
}

// Definition returns psi.multi.v1: the rows that three or more parties all have,
// to all of them, aligned, or to the leader alone.
//
// Each party has one input with at least one key column. Its Result has its
// own granted columns of the common rows, keys first, as table "intersection"
// (row k is the same subject at all), and their number as the count
// job.CountCommon. With the output "leader", members have neither, and the
// leader the table.
func Definition() job.Definition {
	d := job.Definition{
		Name:            Name,
		Summary:         "find the rows that three or more parties all have, and nothing of those that some have",
		Roles:           []job.RoleSpec{{Role: Leader, Min: 1, Max: 1}, {Role: Member, Min: MinParties - 1, Max: MaxParties - 1}},
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
				errs = append(errs, fmt.Errorf("psi/multi: %s needs exactly one input with at least one item", q.Party))
			}
			if q.Role == Member && p.LeaderOnly && slices.Contains(spec.Recipients, q.Party) {
				errs = append(errs, fmt.Errorf("psi/multi: %s is a recipient, and the output %q gives members nothing", q.Party, outputLeader))
			}
		}
		return errors.Join(errs...)
	}
	return d
}

func reveals(spec job.Spec) []job.Disclosure {
	p, _, err := decode(spec)
	to := Leader
	if err != nil || !p.LeaderOnly {
		to = "" // all; also what is said of parameters that are refused
	}
	ds := []job.Disclosure{
		{To: to, Field: fieldIntersection, What: "which of its own rows all other parties have as well, in a common order"},
		{To: Leader, Field: fieldRows, What: "how many rows each member has put in"},
		{To: Member, Field: fieldRows, What: "how many rows the leader has put in"},
	}
	if to == "" {
		ds = append(ds, job.Disclosure{Field: job.CountCommon, What: "how many rows all have"})
	}
	if spec.Limits.MinIntersection > 0 {
		ds = append(ds, job.Disclosure{To: Member, Field: fieldBelow, What: "that fewer rows than the minimum are common, if so; the leader knows which by then"})
	}
	return ds
}

func runJob(ctx context.Context, env job.Env) (job.Result, error) {
	p, rule, err := decode(env.Spec)
	if err != nil {
		return job.Result{}, err
	}
	if len(env.Inputs) != 1 {
		return job.Result{}, fmt.Errorf("psi/multi: needs one input, got %d", len(env.Inputs))
	}
	src := env.Inputs[0]
	keys, err := table.Keys(ctx, src, rule)
	if err != nil {
		return job.Result{}, err
	}
	p.Items = fmt.Sprintf("%s of %d columns", rule, len(src.Schema().Keys()))
	role, gets := Join, !p.LeaderOnly
	switch r := env.Self().Role; r {
	case Member:
	case Leader:
		role, gets = Lead, true
	default:
		return job.Result{}, fmt.Errorf("psi/multi: no role %q", r)
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
	if !p.LeaderOnly {
		res.Counts = map[string]int64{job.CountCommon: int64(len(m.Rows))}
	}
	return res, nil
}

// take returns the matched rows of src, key columns first.
func take(ctx context.Context, src table.Source, m Match) (*table.Table, error) {
	ordered, err := align.KeysFirst(src)
	if err != nil {
		return nil, err
	}
	rows := make([]int, len(m.Rows))
	for k, i := range m.Rows {
		rows[k] = int(i)
	}
	return table.Take(ctx, ordered, rows)
}

// inTheClear counts the common rows of all tables in one place.
func inTheClear(ctx context.Context, spec job.Spec, sources map[session.PartyID][]table.Source) (map[string]any, error) {
	_, rule, err := decode(spec)
	if err != nil {
		return nil, err
	}
	common, err := bareComparison(ctx, spec, rule, sources)
	if err != nil {
		return nil, err
	}
	return map[string]any{job.CountCommon: common}, nil
}

// bareComparison counts the common rows as anybody would who may see all.
func bareComparison(ctx context.Context, spec job.Spec, rule table.KeyRule, sources map[session.PartyID][]table.Source) (common int64, err error) {
	held := make(map[string]int)
	for i, p := range spec.Parties {
		for _, src := range sources[p.Party] {
			keys, err := table.Keys(ctx, src, rule)
			if err != nil {
				return 0, err
			}
			for k := range keys.All() {
				if n := held[string(k)]; n == i { // all before have it
					held[string(k)] = n + 1
				}
			}
		}
	}
	for _, n := range held {
		if n == len(spec.Parties) {
			common++
		}
	}
	return common, nil
}

// benchParties take part in a benchmark.
const benchParties = 3

// bench makes three tables of n rows. A third of them all have; each pair of
// parties has as good as all others.
func bench(n int64) (job.Bench, error) {
	if n < 1 || n > MaxRows {
		return job.Bench{}, fmt.Errorf("%w: a benchmark of %d rows, allowed are 1 to %d", ErrSize, n, MaxRows)
	}
	spec := job.Spec{Kind: Name}
	inputs := make(map[session.PartyID][]table.Source)
	for i := range benchParties {
		id, role := session.PartyID("p"+strconv.Itoa(i)), Member
		if i == 0 {
			role = Leader
		}
		t, err := benchTable(n, int64(i))
		if err != nil {
			return job.Bench{}, err
		}
		spec.Parties = append(spec.Parties, job.Participant{Party: id, Role: role, Inputs: []job.Input{{Entry: "bench", Version: 1, Items: []string{"id", "v"}}}})
		spec.Recipients = append(spec.Recipients, id)
		inputs[id] = []table.Source{t}
	}
	return job.Bench{
		Spec:   spec,
		Inputs: inputs,
		Baseline: func(ctx context.Context) error {
			_, err := bareComparison(ctx, spec, table.RuleID, inputs)
			return err
		},
		BaselineName: "one party with all tables: keys normalised and counted in a hash table",
	}, nil
}

// benchSubjects calls f for the n subjects of a party: those that all have,
// those that it shares with the next party, with the one before, and at most
// one of its own.
func benchSubjects(n, party int64, f func(subject int64)) {
	common := n / 3
	each := (n - common) / 2 // that a pair has
	upTo := func(from, count int64) {
		for i := range count {
			f(from + i)
		}
	}
	upTo(0, common)
	upTo(common+party*each, each)
	upTo(common+(party+benchParties-1)%benchParties*each, each)
	upTo(common+benchParties*each+party, n-common-2*each)
}

// benchKey appends the key of a subject, of the length of an identity number;
// the product stays below 10^18, so that keys are distinct.
func benchKey(b []byte, subject int64) []byte {
	return fmt.Appendf(b, "%018d", subject*1_000_000_007)
}

func benchTable(n, party int64) (*table.Table, error) {
	tb := table.NewBuilder(table.Schema{{Name: "id", Type: table.Text, Key: true}, {Name: "v", Type: table.Int}})
	var key []byte
	row := int64(0)
	benchSubjects(n, party, func(subject int64) {
		key = benchKey(key[:0], subject)
		tb.Texts(0).Append(string(key))
		tb.Ints(1).Append(row)
		row++
	})
	return tb.Table()
}
