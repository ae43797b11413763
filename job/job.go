// Package job is what a computation looks like to a node: a [Definition] with
// its roles, what it reveals and to whom, and the function that runs one
// party's part. A new protocol is one package that returns a Definition.
//
// The node reads Reveals at admission, the documents quote it, and tests hold
// a protocol's results to it.
package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Role is a party's part in a protocol, in the literature's words: "sender",
// "receiver", "label-holder".
type Role string

// RoleSpec says how many parties hold a role. Max 0 means no upper bound.
type RoleSpec struct {
	Role     Role
	Min, Max int
}

// Spec is the part of a contract that a protocol may read: the kind, its
// parameters, who takes part as what with which granted columns.
type Spec struct {
	Kind       string
	Params     json.RawMessage // as the contract holds it; see DecodeParams
	Parties    []Participant   // in the contract's order
	Recipients []session.PartyID
	Limits     Limits
}

// Limits of the grant that protocols enforce themselves.
type Limits struct {
	// MinIntersection is the smallest number of common rows that may be used;
	// 0 means none.
	MinIntersection int64
	// MinBeforeReveal asks that it be enforced before any match is revealed.
	MinBeforeReveal bool
	// Release is what the grant and this party's own policy ask of released
	// statistics, the stricter of each. Parties may differ in it: kinds that
	// release statistics apply the strictest of all.
	Release ReleaseRules
}

// ReleaseRules are rules of statistical disclosure control.
type ReleaseRules = rules.Set

// Participant is a party in its role with its inputs.
type Participant struct {
	Party  session.PartyID
	Role   Role
	Inputs []Input
}

// Input names the granted items of one entry version.
type Input struct {
	Entry   string
	Version int64
	Items   []string
}

// Participant returns the line of party id.
func (s Spec) Participant(id session.PartyID) (Participant, bool) {
	for _, p := range s.Parties {
		if p.Party == id {
			return p, true
		}
	}
	return Participant{}, false
}

// ByRole returns the parties that hold role, in order.
func (s Spec) ByRole(role Role) []session.PartyID {
	var ids []session.PartyID
	for _, p := range s.Parties {
		if p.Role == role {
			ids = append(ids, p.Party)
		}
	}
	return ids
}

// Disclosure is one thing that a role learns about other parties' data.
type Disclosure struct {
	To Role // "" means every role
	// Field is the key of the Result's Values, Tables, Counts or Digests that holds it,
	// or the name of a view that never reaches the result ("view.rows").
	Field string
	What  string // one sentence, for people
	// Permission is what the grant must list for this to be revealed; blank
	// where the kind itself implies it.
	Permission string
}

// Reach says when a protocol can hold to a minimum intersection.
type Reach int

const (
	// NotApplicable: the protocol computes no intersection.
	NotApplicable Reach = iota
	// BeforeReveal: enforced before any party knows which rows match.
	BeforeReveal
	// AfterReveal: a party knows its matches by the time the count is known.
	AfterReveal
)

// Definition is one job kind. Definitions are immutable once registered.
type Definition struct {
	Name    string // "psi.ecdh.v1"; a wire change is a new name
	Summary string // one line
	Roles   []RoleSpec
	// MinIntersection says when the protocol can enforce one.
	MinIntersection Reach
	// Assumptions are the computational assumptions security rests on; they
	// stand in the contract and the receipt, and a node's policy may refuse one
	// by name.
	Assumptions []string
	// Reveals lists who learns what under spec.
	Reveals func(Spec) []Disclosure
	// Validate checks a spec before anything is reserved.
	Validate func(Spec) error
	// Run computes one party's part.
	Run func(context.Context, Env) (Result, error)
	// Clear computes the same over everybody's rows in one place, and returns
	// values to set beside a party's: for examples and tests that compare with
	// the plaintext. Nil where there is no such computation.
	Clear func(context.Context, Spec, map[session.PartyID][]table.Source) (map[string]any, error)
	// Bench makes the inputs of a benchmark run; nil where there is none.
	Bench func(n int64) (Bench, error)
	// BenchStatistics makes them for kinds whose result is a table of statistics;
	// see BenchSize.
	BenchStatistics func(BenchSize) (Bench, error)
	// BenchSizes makes them for parties of different sizes: n rows at the first
	// party, m at each other. Nil where all have as many rows.
	BenchSizes func(n, m int64) (Bench, error)
	// Family names the kinds that give the same result by other means, of which
	// a job may ask for the one that suits best; blank where there are none. The
	// kinds of a family have the same roles, parameters and result fields.
	Family string
	// Estimate says what a run would cost where the party at place i of
	// spec.Parties has rows[i] rows; the error says why such a run is not
	// possible. Set where Family is.
	Estimate func(spec Spec, rows []int64) (Cost, error)
	// Resumable kinds keep in Env.Scratch what is finished, so that a later
	// attempt at the same run does only the rest.
	Resumable bool
	// Restarts marks resumable kinds of which the initiator begins a further
	// attempt by itself when one has ended because a party was lost.
	Restarts bool
	// Spare says how many parties may be lost while a run goes on: their channels
	// fail with session.ErrGone and the receipt names them absent. Nil is none.
	Spare func(Spec) int
}

// Cost is what a run is expected to cost.
type Cost struct {
	CPUSeconds float64 // of the busier party, on one processor
	Bytes      int64   // of all messages
	Rounds     int64   // round trips that wait for the link
}

// Bench is one benchmark case: a spec over parties p0, p1, … and their inputs.
type Bench struct {
	Spec Spec
	// Inputs may make their rows as they are read, see table.Generate: a run
	// reads them into memory, or into files, before its clock starts.
	Inputs map[session.PartyID][]table.Source
	// Common is how many rows all parties have in common, which a run checks;
	// 0 where that is not known beforehand.
	Common int64
	// Baseline runs the yardstick, for example the bare arithmetic of all
	// parties; its CPU time is reported beside the protocol's. May be nil.
	Baseline     func(context.Context) error
	BaselineName string
}

// BenchSize is the shape of a benchmark of statistics. Zero fields leave the
// choice to the kind.
type BenchSize struct {
	Parties  int   // that contribute
	Counters int64 // cells of one counter each, with few rows; or
	Rows     int64 // a party, over
	Cells    int64 // cells of
	Measures int64 // measures each
}

// Env is what a node hands to Run.
type Env struct {
	Spec    Spec
	Session *session.Session
	Inputs  []table.Source // one per Input of the own Participant, granted columns only
	// Once durably records that a step has been done; a second call with the
	// same key fails with ErrDone. It returns before the step may begin.
	Once Once
	// Scratch is disk space of this run. It is empty at the first attempt, holds
	// what earlier attempts committed at a later one, and goes with the run. Nil
	// is a set of files in memory, see [Env.Disk].
	Scratch scratch.Files
	// Cache is disk space that this node keeps for the job kind between runs.
	Cache scratch.Files
	// History is what this node remembers of earlier releases from its data. Nil
	// is one that lasts as long as this Env's copies, see [Env.Past].
	History History
	// Budget is what the grant leaves of differential privacy. Nil is one
	// without an end.
	Budget Budget
	// Reference names the run to the party's own records: the job of its first
	// attempt. Blank outside a node.
	Reference string
}

// Self returns the own line of the spec.
func (e Env) Self() Participant {
	p, _ := e.Spec.Participant(e.Session.Self())
	return p
}

// Disk returns the run's scratch space, or one in memory where there is none.
func (e Env) Disk() scratch.Files {
	if e.Scratch == nil {
		return scratch.Memory()
	}
	return e.Scratch
}

// Kept returns the job kind's cache, or one in memory where there is none.
func (e Env) Kept() scratch.Files {
	if e.Cache == nil {
		return scratch.Memory()
	}
	return e.Cache
}

// Past returns the history, or a new one in memory where there is none.
func (e Env) Past() History {
	if e.History == nil {
		return new(MemoryHistory)
	}
	return e.History
}

// History keeps files about what was released from each entry of this node, for
// all job kinds and longer than any run.
type History interface {
	// Hold returns the files kept for an entry, for the caller alone until it
	// calls done.
	Hold(ctx context.Context, entry string) (files scratch.Files, done func(), err error)
}

// Budget is the privacy budget of the grant that a run is under.
type Budget interface {
	// Spend durably takes from the budget and returns what is left of epsilon,
	// or fails with ErrBudget and takes nothing. Nothing gives it back.
	Spend(ctx context.Context, epsilon, delta float64) (left float64, err error)
}

// ErrBudget is wrapped where a grant's privacy budget does not suffice.
var ErrBudget = errors.New("job: privacy budget spent")

// Once guards steps that must never happen twice, such as emitting a
// decryption share for one ciphertext.
type Once interface {
	Once(ctx context.Context, key string) error
}

// ErrDone is returned by Once for a key it has seen.
var ErrDone = errors.New("job: step was done before and may not be repeated")

// ErrMinIntersection is wrapped by a protocol that stops because the
// intersection is smaller than the grant's minimum.
var ErrMinIntersection = errors.New("job: intersection below the grant's minimum")

// ErrInput is wrapped by a job kind that stops because of this party's own rows.
// The other parties learn that it was for that, and the party's own records say
// which row.
var ErrInput = errors.New("job: the rows do not fit the job")

// CountCommon is the key in Counts under which every job kind that aligns rows
// gives the number of rows that the parties have in common.
const CountCommon = "rows.common"

// CountCells is the key in Counts under which every job kind that makes
// statistics gives the number of cells of its table.
const CountCells = "cells"

// Result is what one party holds at the end.
type Result struct {
	// Values are small named results, encodable as JSON: metrics, weights.
	Values map[string]any
	// Tables are results with rows. Each is released to recipients as CSV, and
	// read while Env.Scratch is still there.
	Tables map[string]table.Source
	// Counts are public and must be equal at every party; they stand in the
	// receipt.
	Counts map[string]int64
	// Digests are of things that all parties agreed on during the run, such as
	// which cells are suppressed: public, equal at every party, and in the
	// receipt, which every party signs. At most 64 bytes each.
	Digests map[string][]byte
	// Figures says of some of Tables that they are statistics to be looked at:
	// these are released as JSON and Parquet too, and as a chart where one fits.
	Figures map[string]Figure
	// Notes go into the manifest beside the result: parameters, rules in force,
	// noise. Encodable as JSON; public to the recipients.
	Notes map[string]any
	// Rows is how many rows of its own this party put in.
	Rows int64
}

// Figure says how a table of statistics reads. Its columns are categories, and
// numbers; a number is missing where it is suppressed.
type Figure struct {
	Title      string
	Categories []string // columns that name the cell
	Values     []string // columns of numbers, the one to draw first
	// Status is the text column that is "suppressed" where the values are
	// withheld; blank where there is none.
	Status string
	// Total is the text in a category column that stands for all categories.
	Total string
}

// Fields returns the sorted names of everything in r that Reveals must cover.
func (r Result) Fields() []string {
	var f []string
	for k := range r.Values {
		f = append(f, k)
	}
	for k := range r.Tables {
		f = append(f, k)
	}
	for k := range r.Counts {
		f = append(f, k)
	}
	for k := range r.Digests {
		f = append(f, k)
	}
	sort.Strings(f)
	return slices.Compact(f)
}

// Registry is an immutable set of definitions.
type Registry struct{ defs map[string]Definition }

// NewRegistry refuses incomplete definitions and names that occur twice.
func NewRegistry(defs ...Definition) (*Registry, error) {
	r := &Registry{defs: make(map[string]Definition, len(defs))}
	for _, d := range defs {
		switch {
		case d.Name == "":
			return nil, errors.New("job: definition without a name")
		case d.Run == nil || d.Validate == nil || d.Reveals == nil || len(d.Roles) == 0:
			return nil, fmt.Errorf("job: definition %s needs Roles, Reveals, Validate and Run", d.Name)
		case d.Restarts && !d.Resumable:
			return nil, fmt.Errorf("job: definition %s restarts and so has to be resumable", d.Name)
		}
		if _, twice := r.defs[d.Name]; twice {
			return nil, fmt.Errorf("job: %s is defined twice", d.Name)
		}
		r.defs[d.Name] = d
	}
	return r, nil
}

// Lookup finds a definition by name.
func (r *Registry) Lookup(name string) (Definition, bool) {
	d, ok := r.defs[name]
	return d, ok
}

// Names returns all names, sorted.
func (r *Registry) Names() []string {
	names := make([]string, 0, len(r.defs))
	for n := range r.defs {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// Permissions returns what the grant must list for spec, sorted, each once.
func (d Definition) Permissions(spec Spec) []string {
	var ps []string
	for _, x := range d.Reveals(spec) {
		if x.Permission != "" {
			ps = append(ps, x.Permission)
		}
	}
	sort.Strings(ps)
	return slices.Compact(ps)
}

// CheckRoles holds spec to the definition's roles.
func (d Definition) CheckRoles(spec Spec) error {
	for _, p := range spec.Parties {
		if !slices.ContainsFunc(d.Roles, func(r RoleSpec) bool { return r.Role == p.Role }) {
			return fmt.Errorf("job: %s has no role %q", d.Name, p.Role)
		}
	}
	for _, r := range d.Roles {
		n := len(spec.ByRole(r.Role))
		if n < r.Min || (r.Max > 0 && n > r.Max) {
			return fmt.Errorf("job: %s needs %s, got %d", d.Name, r.want(), n)
		}
	}
	return nil
}

func (r RoleSpec) want() string {
	switch {
	case r.Max == r.Min:
		return fmt.Sprintf("exactly %d %s", r.Min, r.Role)
	case r.Max == 0:
		return fmt.Sprintf("at least %d %s", r.Min, r.Role)
	}
	return fmt.Sprintf("%d to %d %s", r.Min, r.Max, r.Role)
}
