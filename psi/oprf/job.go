package oprf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Roles of the job.
const (
	Client job.Role = "client"
	Server job.Role = "server"
)

// Fields of the result and of what is revealed beside it.
const (
	fieldIntersection = "intersection"
	fieldRows         = "view.rows"
	fieldEpoch        = "view.epoch"
	fieldBelow        = "view.below"
)

// jobParams are the contract's parameters. The zero value is the default.
type jobParams struct {
	// KeyRule normalises the keys before they are compared; see package table.
	KeyRule        string `json:"key_rule"`
	FalseMatchBits int    `json:"false_match_bits"`
	// Output is who gets the common rows: "client", which is the default, or
	// "both".
	Output string `json:"output"`
	// MaxAgeHours is how long the server uses one key, and MaxEvaluations for how
	// many items, of all clients together. 0 means 168 and 2^24.
	MaxAgeHours    int64 `json:"max_age_hours"`
	MaxEvaluations int64 `json:"max_evaluations"`
}

// decode returns what spec asks for, having checked it.
func decode(spec job.Spec) (Params, table.KeyRule, error) {
	var jp jobParams
	if err := job.DecodeParams(spec.Params, &jp); err != nil {
		return Params{}, "", err
	}
	var errs []error
	if jp.Output != "" && jp.Output != outputClient && jp.Output != outputBoth {
		errs = append(errs, fmt.Errorf("psi/oprf: output is %q, allowed are %q and %q", jp.Output, outputClient, outputBoth))
	}
	const most = int64(maxMaxAge / time.Hour)
	if jp.MaxAgeHours < 0 || jp.MaxAgeHours > most {
		errs = append(errs, fmt.Errorf("psi/oprf: max_age_hours is %d, allowed are up to %d", jp.MaxAgeHours, most))
		jp.MaxAgeHours = 0
	}
	p := Params{
		FalseMatchBits: jp.FalseMatchBits, Broadcast: jp.Output == outputBoth, MinIntersection: spec.Limits.MinIntersection,
		MaxAge: time.Duration(jp.MaxAgeHours) * time.Hour, MaxEvaluations: jp.MaxEvaluations,
	}
	rule, err := table.ParseKeyRule(jp.KeyRule)
	return p, rule, errors.Join(append(errs, p.Validate(), err)...)
}

// assumptions of the protocol, by name.
var assumptions = []string{"omgdh.curve25519", "ddh.curve25519", "prg.aes256", "rom.sha256", "rom.sha512", "semi-honest"}

// Definition returns psi.oprf.v1: the rows of a small table that a very large
// one has as well, to the party with the small one, or to both.
//
// Each party has one input with at least one key column. The client's Result has
// its granted columns of the common rows, keys first, as table "intersection".
// With the output "both" so has the server's (row k is the same subject at
// both), and both have their number as the count job.CountCommon.
func Definition() job.Definition {
	d := job.Definition{
		Name:            Name,
		Summary:         "find a small table's rows in a very large one (oblivious PRF; the large side is prepared once)",
		Roles:           []job.RoleSpec{{Role: Client, Min: 1, Max: 1}, {Role: Server, Min: 1, Max: 1}},
		MinIntersection: job.AfterReveal,
		Assumptions:     assumptions,
		Reveals:         reveals,
		Run:             runJob,
		Clear:           inTheClear,
		Bench:           func(n int64) (job.Bench, error) { return bench(n, max(1, n/1000)) },
		BenchSizes:      bench,
	}
	d.Validate = func(spec job.Spec) error {
		p, _, err := decode(spec)
		errs := []error{err, d.CheckRoles(spec)}
		for _, q := range spec.Parties {
			if len(q.Inputs) != 1 || len(q.Inputs[0].Items) == 0 {
				errs = append(errs, fmt.Errorf("psi/oprf: %s needs exactly one input with at least one item", q.Party))
			}
			if q.Role == Server && !p.Broadcast && slices.Contains(spec.Recipients, q.Party) {
				errs = append(errs, fmt.Errorf("psi/oprf: %s is a recipient, and the output %q gives the server nothing", q.Party, outputClient))
			}
		}
		return errors.Join(errs...)
	}
	return d
}

func reveals(spec job.Spec) []job.Disclosure {
	p, _, err := decode(spec)
	toClient := Client
	if err != nil || p.Broadcast {
		toClient = "" // both; also what is said of parameters that are refused
	}
	ds := []job.Disclosure{
		{To: toClient, Field: fieldIntersection, What: "which of its own rows the other party has as well, in a common order"},
		{Field: fieldRows, What: "how many rows the other party has put in"},
		{To: Client, Field: fieldEpoch, What: "whether the server has made a new table since the last time, because its rows changed or its key ended; with the table, each further key can be tested only by asking the server"},
		{To: Server, Field: fieldEpoch, What: "how much of the server's table the client had fetched before"},
	}
	if toClient == "" {
		ds = append(ds, job.Disclosure{Field: job.CountCommon, What: "how many rows both have"})
	}
	if spec.Limits.MinIntersection > 0 {
		ds = append(ds, job.Disclosure{To: Server, Field: fieldBelow, What: "that fewer rows than the minimum are common, if so; the client knows which by then"})
	}
	return ds
}

func runJob(ctx context.Context, env job.Env) (job.Result, error) {
	p, rule, err := decode(env.Spec)
	if err != nil {
		return job.Result{}, err
	}
	if len(env.Inputs) != 1 {
		return job.Result{}, fmt.Errorf("psi/oprf: needs one input, got %d", len(env.Inputs))
	}
	src := env.Inputs[0]
	p.Items = fmt.Sprintf("%s of %d columns", rule, len(src.Schema().Keys()))
	disk := env.Disk()
	st := Store{Cache: env.Cache, Disk: disk, Slot: slot(env.Spec, src)}
	var m Match
	switch r := env.Self().Role; r {
	case Client:
		m, err = query(ctx, env.Session, src, rule, st, p)
	case Server:
		m, err = Serve(ctx, env.Session, src, rule, st, p)
	default:
		err = fmt.Errorf("psi/oprf: no role %q", r)
	}
	if err != nil {
		return job.Result{}, err
	}
	res := job.Result{Rows: int64(m.Own)}
	if env.Self().Role == Client || p.Broadcast {
		common, err := take(ctx, src, m, disk)
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

// slot names the server's entry and the own key columns: a server that is asked
// for other columns of an entry has another table for those.
func slot(spec job.Spec, src table.Source) string {
	name := ""
	for _, id := range spec.ByRole(Server) {
		q, _ := spec.Participant(id)
		name = string(id) + " " + q.Inputs[0].Entry
	}
	schema := src.Schema()
	for _, i := range schema.Keys() {
		name += " " + schema[i].Name
	}
	return name
}

// query reads the client's keys and asks for them.
func query(ctx context.Context, s *session.Session, src table.Source, rule table.KeyRule, st Store, p Params) (Match, error) {
	keys, err := table.Keys(ctx, src, rule)
	if err != nil {
		return Match{}, err
	}
	return Query(ctx, s, keys.All(), keys.Len(), st, p)
}

// take returns the matched rows of src, key columns first.
func take(ctx context.Context, src table.Source, m Match, disk scratch.Files) (table.Source, error) {
	ordered, err := align.KeysFirst(src)
	if err != nil {
		return nil, err
	}
	return table.Arrange(ctx, ordered, table.Order(m.Rows), int64(len(m.Rows)), scratch.Sub(disk, fieldIntersection))
}

// inTheClear counts the common rows of two tables in one place.
func inTheClear(ctx context.Context, spec job.Spec, sources map[session.PartyID][]table.Source) (map[string]any, error) {
	_, rule, err := decode(spec)
	if err != nil {
		return nil, err
	}
	asked := make(map[string]bool)
	for _, id := range spec.ByRole(Client) {
		for _, src := range sources[id] {
			keys, err := table.Keys(ctx, src, rule)
			if err != nil {
				return nil, err
			}
			for k := range keys.All() {
				asked[string(k)] = true
			}
		}
	}
	var common int64
	for _, id := range spec.ByRole(Server) {
		for _, src := range sources[id] {
			_, err := table.EachKey(ctx, src, rule, nil, func(keys table.KeyBatch, _ struct{}) error {
				for _, k := range keys.All() {
					if asked[string(k)] {
						common++
					}
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return map[string]any{job.CountCommon: common}, nil
}

// bench has a server of n rows, p0, and a client of m, p1, half of whose rows
// the server has as well.
func bench(n, m int64) (job.Bench, error) {
	if n < 1 || n > MaxRows || m < 1 || m > min(n, MaxItems) {
		return job.Bench{}, fmt.Errorf("%w: a benchmark of %d rows against %d, allowed are %d against the fewer of those and %d", ErrSize, n, m, MaxRows, MaxItems)
	}
	common := m - m/2
	b := job.Bench{
		Spec:   job.Spec{Kind: Name, Params: []byte(`{"output":"both"}`)},
		Inputs: map[session.PartyID][]table.Source{"p0": {align.Subjects(n, 0)}, "p1": {align.Subjects(m, n-common)}},
		Common: common,
		Baseline: func(ctx context.Context) error {
			return bareArithmetic(ctx, int(m))
		},
		BaselineName: "bare arithmetic of a session with a warm cache: a hash to the curve and three ladders for every row of the client",
	}
	for i, role := range []job.Role{Server, Client} {
		id := session.PartyID(fmt.Sprintf("p%d", i))
		b.Spec.Parties = append(b.Spec.Parties, job.Participant{Party: id, Role: role, Inputs: []job.Input{{Entry: "bench", Version: 1, Items: []string{"id", "v"}}}})
		b.Spec.Recipients = append(b.Spec.Recipients, id)
	}
	return b, nil
}

// bareArithmetic does what no session can leave out, on all processors: of m
// items a hash to the curve and the multiplications that blind, evaluate and
// unblind it.
func bareArithmetic(ctx context.Context, m int) error {
	k, err := curve25519.NewScalar(strings.NewReader(strings.Repeat("k", curve25519.Size)))
	if err != nil {
		return err
	}
	return parallel.Each(ctx, m, block, func() func(lo, hi int) error {
		f := newPRF(epochID{})
		var us [block]curve25519.FieldElement
		var points [block]curve25519.Point
		var key []byte
		return func(lo, hi int) error {
			for i := lo; i < hi; i++ {
				key = align.AppendSubject(key[:0], int64(i))
				f.hasher.HashToField(&us[i-lo], key)
			}
			curve25519.MapToCurve(points[:hi-lo], us[:hi-lo])
			for range 3 {
				k.Mul(points[:hi-lo], points[:hi-lo])
			}
			return nil
		}
	})
}
