// Package cardinality is the job kind psi.cardinality.v1: how many rows two
// parties have in common, and not which.
//
// The protocol is that of package [github.com/yinqiao/yinqiao/psi/ecdh] up to
// the count: each side masks the hashes of its keys on Curve25519, the
// receiver's come back masked twice and in a secret order, and the receiver
// counts those that it finds among the sender's. The order is never told.
//
// Security: semi-honest parties, decisional Diffie-Hellman in Curve25519,
// random oracle. Both learn the other's number of rows; the receiver learns
// the count, and the sender too, by default. A receiver that departs from the
// protocol can report a wrong count, and find out of rows of its choice whether
// they are common. The page is docs/protocols/psi-cardinality.md.
package cardinality

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/psi/ecdh"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Name of the protocol; a change on the wire is a new name.
const Name = ecdh.CountName

// Roles of the job.
const (
	Sender   job.Role = "sender"
	Receiver job.Role = "receiver"
)

// Fields of the result and of what is revealed beside it.
const (
	fieldSize  = "intersection.size" // where the receiver alone has it
	fieldRows  = "view.rows"
	fieldCount = "view.count"
	fieldBelow = "view.below"
)

// Values of the parameter output.
const (
	outputBoth     = "both"
	outputReceiver = "receiver"
)

// jobParams are the contract's parameters. The zero value is the default.
type jobParams struct {
	// KeyRule normalises the keys before they are compared; see package table.
	KeyRule        string `json:"key_rule"`
	FalseMatchBits int    `json:"false_match_bits"`
	TagBytes       int    `json:"tag_bytes"`
	// Output is who learns the count: "both", which is the default, or
	// "receiver".
	Output string `json:"output"`
}

// decode returns what spec asks for, having checked it.
func decode(spec job.Spec) (ecdh.CountParams, table.KeyRule, error) {
	var jp jobParams
	if err := job.DecodeParams(spec.Params, &jp); err != nil {
		return ecdh.CountParams{}, "", err
	}
	p := ecdh.CountParams{
		Params: ecdh.Params{FalseMatchBits: jp.FalseMatchBits, TagBytes: jp.TagBytes, MinIntersection: spec.Limits.MinIntersection},
		Tell:   jp.Output != outputReceiver,
	}
	rule, err := table.ParseKeyRule(jp.KeyRule)
	errs := []error{p.Validate(), err}
	if jp.Output != "" && jp.Output != outputBoth && jp.Output != outputReceiver {
		errs = append(errs, fmt.Errorf("psi/cardinality: output is %q, allowed are %q and %q", jp.Output, outputBoth, outputReceiver))
	}
	return p, rule, errors.Join(errs...)
}

// Definition returns psi.cardinality.v1.
//
// Each party has one input with at least one key column; other columns are not
// read. Each Result has the number of common rows as the count
// job.CountCommon. With the output "receiver" only the receiver's has it, as
// value "intersection.size", and the receipt holds no count.
//
// A minimum intersection is enforced before any party knows which rows match,
// as no party ever does. The receiver knows the count by then, and no grant
// can help that.
func Definition() job.Definition {
	d := job.Definition{
		Name:            Name,
		Summary:         "count the rows that two parties have in common, and not which (Diffie-Hellman on Curve25519)",
		Roles:           []job.RoleSpec{{Role: Sender, Min: 1, Max: 1}, {Role: Receiver, Min: 1, Max: 1}},
		MinIntersection: job.BeforeReveal,
		Assumptions:     []string{"ddh.curve25519", "prg.aes256", "rom.sha256", "rom.sha512", "semi-honest"},
		Reveals:         reveals,
		Run:             runJob,
		Clear:           inTheClear,
		Bench:           func(n int64) (job.Bench, error) { return bench(n, n) },
		BenchSizes:      bench,
	}
	d.Validate = func(spec job.Spec) error {
		p, _, err := decode(spec)
		errs := []error{err, d.CheckRoles(spec)}
		for _, q := range spec.Parties {
			if len(q.Inputs) != 1 || len(q.Inputs[0].Items) == 0 {
				errs = append(errs, fmt.Errorf("psi/cardinality: %s needs exactly one input with at least one item", q.Party))
			}
			if q.Role == Sender && !p.Tell && slices.Contains(spec.Recipients, q.Party) {
				errs = append(errs, fmt.Errorf("psi/cardinality: %s is a recipient, and the output %q gives the sender nothing", q.Party, outputReceiver))
			}
		}
		return errors.Join(errs...)
	}
	return d
}

func reveals(spec job.Spec) []job.Disclosure {
	size := job.Disclosure{Field: job.CountCommon, What: "how many rows both have, and not which"}
	if p, _, err := decode(spec); err == nil && !p.Tell {
		size.To, size.Field = Receiver, fieldSize
	}
	return []job.Disclosure{
		size,
		{Field: fieldRows, What: "how many rows the other party has put in"},
		{To: Receiver, Field: fieldCount, What: "how many rows are common, even if they are fewer than the minimum"},
		// The other party may have a minimum where this one has none.
		{To: Sender, Field: fieldBelow, What: "that fewer rows than the minimum of either party are common, if so"},
	}
}

// salt begins what is hashed to an item. It is no secret: items stay at home,
// and what leaves is masked.
var salt = [16]byte([]byte("psi.cardinality."))

func runJob(ctx context.Context, env job.Env) (job.Result, error) {
	p, rule, err := decode(env.Spec)
	if err != nil {
		return job.Result{}, err
	}
	if len(env.Inputs) != 1 {
		return job.Result{}, fmt.Errorf("psi/cardinality: needs one input, got %d", len(env.Inputs))
	}
	src := env.Inputs[0]
	items, err := align.Items(ctx, src, rule, salt)
	if err != nil {
		return job.Result{}, err
	}
	p.Items = fmt.Sprintf("%s of %d columns", rule, len(src.Schema().Keys()))
	role := ecdh.CountSendDigests
	switch r := env.Self().Role; r {
	case Sender:
	case Receiver:
		role = ecdh.CountReceiveDigests
	default:
		return job.Result{}, fmt.Errorf("psi/cardinality: no role %q", r)
	}
	c, err := role(ctx, env.Session, items, p)
	if err != nil {
		return job.Result{}, err
	}
	res := job.Result{Rows: int64(len(items))}
	switch {
	case p.Tell:
		res.Counts = map[string]int64{job.CountCommon: c.Common}
	case c.Known:
		res.Values = map[string]any{fieldSize: c.Common}
	}
	return res, nil
}

// inTheClear counts the common rows of two tables in one place.
func inTheClear(ctx context.Context, spec job.Spec, sources map[session.PartyID][]table.Source) (map[string]any, error) {
	p, rule, err := decode(spec)
	if err != nil {
		return nil, err
	}
	held := make(map[string]int)
	var common int64
	for _, q := range spec.Parties {
		for _, src := range sources[q.Party] {
			keys, err := table.Keys(ctx, src, rule)
			if err != nil {
				return nil, err
			}
			for k := range keys.All() {
				if held[string(k)]++; held[string(k)] == len(spec.Parties) {
					common++
				}
			}
		}
	}
	if !p.Tell {
		return map[string]any{fieldSize: common}, nil
	}
	return map[string]any{job.CountCommon: common}, nil
}

// bench is the case of psi.ecdh.v1: the same tables, and the same arithmetic
// that cannot be left out.
func bench(n, m int64) (job.Bench, error) {
	b, err := ecdh.Definition().BenchSizes(n, m)
	b.Spec.Kind = Name
	return b, err
}
