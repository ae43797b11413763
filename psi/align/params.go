package align

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Values of the parameters.
const (
	outputBoth     = "both"
	outputReceiver = "receiver"

	joinInner      = "inner"
	joinLeft       = "left"
	joinRight      = "right"
	joinFull       = "full"
	joinDifference = "difference"

	duplicatesRefuse = "refuse"
	duplicatesJoin   = "join"
)

var (
	outputs    = []string{outputBoth, outputReceiver}
	joins      = []string{joinInner, joinLeft, joinRight, joinFull, joinDifference}
	duplicates = []string{duplicatesRefuse, duplicatesJoin}
)

// Fields of the result and of what is revealed beside it.
const (
	fieldIntersection   = "intersection"
	fieldRows           = "view.rows"
	fieldBelow          = "view.below"
	fieldMultiplicities = "view.multiplicities"
	fieldUnmatched      = "view.unmatched"
	fieldFinished       = "view.finished"
)

// jobParams are the contract's parameters. The zero value is the default.
type jobParams struct {
	// KeyRule normalises the keys before they are compared; see package table.
	KeyRule        string `json:"key_rule"`
	FalseMatchBits int    `json:"false_match_bits"`
	// Output is who gets the result: "both", the default, or "receiver".
	Output string `json:"output"`
	// Join says which rows the result has: "inner", the default, "left", "right",
	// "full" or "difference". Left is the first party of the contract.
	Join string `json:"join"`
	// Duplicates says what becomes of rows with one key: "refuse", the default,
	// or "join", every row of one party with every row of the other.
	Duplicates string `json:"duplicates"`
	// PartitionRows is the most keys of one session; 0 leaves it to the protocol.
	PartitionRows int64 `json:"partition_rows"`
}

// plan is what a spec asks for, with the defaults filled in.
type plan struct {
	rule          table.KeyRule
	bits          int
	receiverOnly  bool
	join          string
	multiply      bool // duplicates "join"
	partitionRows int64
	oneSession    bool // whatever the sizes
	minimum       int64
	parties       [2]job.Participant // left, right
}

// plan returns what spec asks for, having checked the parameters and limits.
func (e *engine) plan(spec job.Spec) (plan, error) {
	var jp jobParams
	if err := job.DecodeParams(spec.Params, &jp); err != nil {
		return plan{}, err
	}
	var errs []error
	fault := func(format string, a ...any) { errs = append(errs, fmt.Errorf("psi/align: "+format, a...)) }
	choose := func(name, value string, allowed []string) string {
		if value == "" {
			return allowed[0]
		}
		if !slices.Contains(allowed, value) {
			fault("%s is %q, allowed are %q", name, value, allowed)
		}
		return value
	}
	pl := plan{bits: jp.FalseMatchBits, partitionRows: jp.PartitionRows, minimum: spec.Limits.MinIntersection}
	var err error
	if pl.rule, err = table.ParseKeyRule(jp.KeyRule); err != nil {
		errs = append(errs, err)
	}
	if pl.bits == 0 {
		pl.bits = defaultFalseMatchBits
	}
	if pl.bits < minFalseMatchBits || pl.bits > maxFalseMatchBits {
		fault("false_match_bits is %d, allowed are %d to %d", pl.bits, minFalseMatchBits, maxFalseMatchBits)
	}
	pl.receiverOnly = choose("output", jp.Output, outputs) == outputReceiver
	pl.join = choose("join", jp.Join, joins)
	pl.multiply = choose("duplicates", jp.Duplicates, duplicates) == duplicatesJoin
	if pl.receiverOnly {
		if pl.join != joinInner && pl.join != joinDifference {
			fault("a %s join appends rows of the party without a result: ask for the join %q or %q, or the output %q",
				pl.join, joinInner, joinDifference, outputBoth)
		}
		if pl.multiply && pl.join != joinDifference {
			fault("rows multiply by what the sender has of each key, which it cannot tell: ask for duplicates %q, or the output %q",
				duplicatesRefuse, outputBoth)
		}
	}
	switch {
	case pl.partitionRows == 0:
		pl.partitionRows = int64(e.PartitionRows)
	case pl.partitionRows < e.minPartition || pl.partitionRows > MaxRows:
		fault("partition_rows is %d, allowed are 0 and %d to %d", pl.partitionRows, e.minPartition, MaxRows)
	}
	if pl.minimum < 0 {
		fault("the minimum intersection is negative")
	}
	// In more than one session a count is known, and matches of the first with
	// it, before it is known what the others add.
	pl.oneSession = e.MinIntersection == job.BeforeReveal && (pl.minimum > 0 || spec.Limits.MinBeforeReveal)
	if len(spec.Parties) == 2 {
		pl.parties = [2]job.Participant(spec.Parties)
	}
	return pl, errors.Join(errs...)
}

// validate reports every fault of spec but those of its roles.
func (e *engine) validate(spec job.Spec) error {
	pl, err := e.plan(spec)
	errs := []error{err}
	for _, q := range spec.Parties {
		if len(q.Inputs) != 1 || len(q.Inputs[0].Items) == 0 {
			errs = append(errs, fmt.Errorf("psi/align: %s needs exactly one input with at least one item", q.Party))
		}
		if q.Role == Sender && pl.receiverOnly && slices.Contains(spec.Recipients, q.Party) {
			errs = append(errs, fmt.Errorf("psi/align: %s is a recipient, and the output %q gives the sender nothing", q.Party, outputReceiver))
		}
	}
	return errors.Join(errs...)
}

// fields are what both parties have to mean alike.
func (pl plan) fields(kind string, keyColumns int) []session.Field {
	var sender, receiver session.PartyID
	for _, q := range pl.parties {
		if q.Role == Sender {
			sender = q.Party
		} else {
			receiver = q.Party
		}
	}
	output, dup, partition := outputBoth, duplicatesRefuse, strconv.FormatInt(pl.partitionRows, 10)
	if pl.receiverOnly {
		output = outputReceiver
	}
	if pl.multiply {
		dup = duplicatesJoin
	}
	if pl.oneSession {
		partition = "all"
	}
	return []session.Field{
		{Name: "kind", Value: kind},
		{Name: "sender", Value: string(sender)},
		{Name: "receiver", Value: string(receiver)},
		{Name: "left", Value: string(pl.parties[0].Party)},
		{Name: "key_rule", Value: string(pl.rule)},
		{Name: "key_columns", Value: strconv.Itoa(keyColumns)},
		{Name: "false_match_bits", Value: strconv.Itoa(pl.bits)},
		{Name: "output", Value: output},
		{Name: "join", Value: pl.join},
		{Name: "duplicates", Value: dup},
		{Name: "partition_rows", Value: partition},
	}
}

// appends says whether the result has the rows of a side, 0 left and 1 right,
// that have no partner.
func (pl plan) appends(side int) bool {
	switch pl.join {
	case joinLeft:
		return side == 0
	case joinRight:
		return side == 1
	case joinFull, joinDifference:
		return true
	}
	return false
}

// tells says whether the parties tell each other how many rows they have of each
// common key.
func (pl plan) tells() bool { return pl.multiply && pl.join != joinDifference && !pl.receiverOnly }

// reveals lists who learns what.
func (e *engine) reveals(spec job.Spec) []job.Disclosure {
	pl, err := e.plan(spec)
	var to job.Role // both; also what is said of parameters that are refused
	if err == nil && pl.receiverOnly {
		to = Receiver
	}
	rows := "which of its own rows the other party has as well, in a common order"
	switch pl.join {
	case joinDifference:
		rows = "which of its own rows the other party has not, and so which it has"
	case joinLeft, joinRight, joinFull:
		rows += ", and how many rows without a partner come after them"
	}
	ds := []job.Disclosure{
		{To: to, Field: fieldIntersection, What: rows},
		{Field: fieldRows, What: "how many different keys the other party has put in"},
	}
	if to == "" {
		ds = append(ds,
			job.Disclosure{Field: job.CountCommon, What: "how many keys both have"},
			job.Disclosure{Field: CountJoined, What: "how many rows the result has"})
		if pl.tells() {
			ds = append(ds, job.Disclosure{Field: fieldMultiplicities, What: "how many rows the other party has of each key that both have"})
		}
		for side, q := range pl.parties {
			if pl.appends(side) {
				ds = append(ds, job.Disclosure{
					To: pl.parties[1-side].Role, Field: fieldUnmatched,
					What: fmt.Sprintf("how many rows %s has without a partner", q.Party),
				})
			}
		}
	}
	if pl.minimum > 0 {
		what := "that fewer keys than the minimum are common, if so"
		if e.MinIntersection == job.AfterReveal {
			what += "; the receiver knows which by then"
		}
		ds = append(ds, job.Disclosure{To: Sender, Field: fieldBelow, What: what})
	}
	ds = append(ds, job.Disclosure{
		Field: fieldFinished,
		What:  "in a further attempt: whether the other party still has the earlier one, which partitions it has finished, and that its rows are the same",
	})
	return append(ds, e.Views...)
}

// estimate is the cost of all sessions together.
func (e *engine) estimate(spec job.Spec, rows []int64) (job.Cost, error) {
	pl, err := e.plan(spec)
	if err != nil {
		return job.Cost{}, err
	}
	if len(rows) != 2 || len(spec.Parties) != 2 {
		return job.Cost{}, fmt.Errorf("psi/align: an estimate for %d parties, want 2", len(rows))
	}
	if rows[0] < 0 || rows[1] < 0 {
		return job.Cost{}, fmt.Errorf("%w: a negative number of rows", ErrSize)
	}
	parts, err := e.partitions(pl, max(rows[0], rows[1]))
	if err != nil {
		return job.Cost{}, err
	}
	n, m := rows[0], rows[1]
	if spec.Parties[0].Role == Receiver {
		n, m = m, n
	}
	if parts > 1 {
		n, m = e.bound(n, parts), e.bound(m, parts)
	}
	c, err := e.Estimate(n, m)
	if err != nil {
		return job.Cost{}, err
	}
	p := int64(parts)
	const handshake = 4 // rounds of the engine's own
	return job.Cost{
		CPUSeconds: c.CPUSeconds*float64(p) + readSeconds*float64(max(rows[0], rows[1])),
		Bytes:      c.Bytes * p,
		Rounds:     c.Rounds*p + handshake,
	}, nil
}

// readSeconds is what it takes to read, hash and arrange a row, on one processor
// at 2.5 GHz.
const readSeconds = 0.6e-6
