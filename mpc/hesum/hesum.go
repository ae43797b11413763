package hesum

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/yinqiao/yinqiao/mpc/he/tbgv"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// Name is the protocol's name and version, compared when a run begins.
const Name = "hesum.v1"

// Bounds on what one run may ask for.
const (
	MinContributors = 2
	MaxContributors = 32
	MaxParties      = 64      // of the session, receivers included
	MaxSums         = 64      // calls of Sum
	MaxElements     = 1 << 18 // of MaxShape: about 13 MB of ciphertexts a contributor
)

var (
	// ErrParams is wrapped by errors about this party's own arguments.
	ErrParams = errors.New("hesum: parameters")
	// ErrLost says that too few parties are left, or that one was lost whose
	// data count already. A new attempt needs new keys. It wraps
	// session.ErrGone.
	ErrLost = fmt.Errorf("hesum: a party that is needed is lost: %w", session.ErrGone)
	// ErrPeer is wrapped by every *PeerError.
	ErrPeer = errors.New("hesum: a party broke the protocol")
	// ErrUsed is returned by an engine that has failed, has done all its sums,
	// or has done a step of that name.
	ErrUsed = errors.New("hesum: the engine is used up")
)

// PeerError says which party sent something malformed, forged, repeated or out
// of place, and in which step.
type PeerError struct {
	Party session.PartyID
	Step  string // "keys", or a sum's
	// Witness is the party on whose word Party is named: its words and what
	// was seen here contradict each other, and one of the two is at fault.
	// Blank where this party has seen the fault itself.
	Witness session.PartyID
	Err     error
}

// Error implements error.
func (e *PeerError) Error() string {
	if e.Witness != "" {
		return fmt.Sprintf("hesum: %s broke the protocol in step %q, if %s is right: %v", e.Party, e.Step, e.Witness, e.Err)
	}
	return fmt.Sprintf("hesum: %s broke the protocol in step %q: %v", e.Party, e.Step, e.Err)
}

// Unwrap makes a PeerError an ErrPeer.
func (e *PeerError) Unwrap() []error { return []error{ErrPeer, e.Err} }

// Once durably records that a step has been taken and fails for a step it has
// seen; it returns before the step may begin. A job's Env supplies one.
type Once interface {
	Once(ctx context.Context, key string) error
}

// Params is what all parties of a run agree on, but for Once.
type Params struct {
	// Contributors have an input, in the contract's order: 2 to 32 parties of
	// the session. Any other party of the session only receives.
	Contributors []session.PartyID
	// Threshold is how many contributors suffice to open a sum, and so how
	// many can decrypt everything if they collude: 2 to all.
	Threshold int
	// Sums is how often Sum will be called at most.
	Sums int
	// MaxShape is the largest vector that will be summed. A width that it does
	// not have gets no key.
	MaxShape share.Shape
	// Once keeps a share of a ciphertext from being emitted twice, also across
	// a crash. Contributors need one.
	Once Once
	// MinIncluded is the fewest contributors whose data may be in a sum: 2 or
	// more. With two, a contributor that is a recipient can subtract its own part.
	MinIncluded int
}

// Validate reports everything that is wrong with p in a session of parties.
func (p Params) Validate(parties []session.PartyID) error {
	var errs []error
	fault := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrParams}, a...)...))
	}
	n := len(p.Contributors)
	if n < MinContributors || n > MaxContributors {
		fault("contributors: %d, allowed are %d to %d", n, MinContributors, MaxContributors)
	}
	for i, c := range p.Contributors {
		switch {
		case !slices.Contains(parties, c):
			fault("contributors: %q is not a party of the session", c)
		case slices.Contains(p.Contributors[:i], c):
			fault("contributors: %q is named twice", c)
		}
	}
	if len(parties) > MaxParties {
		fault("parties: %d, allowed are %d", len(parties), MaxParties)
	}
	if p.Threshold < 2 || p.Threshold > n {
		fault("threshold: %d, allowed are 2 to the number of contributors", p.Threshold)
	}
	if p.MinIncluded < 2 || p.MinIncluded > n {
		fault("min_included: %d, allowed are 2 to the number of contributors", p.MinIncluded)
	}
	if p.Sums < 1 || p.Sums > MaxSums {
		fault("sums: %d, allowed are 1 to %d", p.Sums, MaxSums)
	}
	s := p.MaxShape
	if !within(s, share.Shape{Narrow: MaxElements, Wide: MaxElements, Huge: MaxElements}) || s.Len() < 1 || s.Len() > MaxElements {
		fault("max_shape: 1 to %d elements in all are allowed", MaxElements)
	}
	return errors.Join(errs...)
}

// within says whether no part of s is negative or longer than that of most.
func within(s, most share.Shape) bool {
	return 0 <= s.Narrow && s.Narrow <= most.Narrow && 0 <= s.Wide && s.Wide <= most.Wide && 0 <= s.Huge && s.Huge <= most.Huge
}

func (p Params) fields() []session.Field {
	names := make([]string, len(p.Contributors))
	for i, c := range p.Contributors {
		names[i] = string(c)
	}
	return []session.Field{
		{Name: "contributors", Value: strings.Join(names, ",")},
		{Name: "threshold", Value: strconv.Itoa(p.Threshold)},
		{Name: "sums", Value: strconv.Itoa(p.Sums)},
		{Name: "max_shape", Value: p.MaxShape.String()},
		{Name: "min_included", Value: strconv.Itoa(p.MinIncluded)},
	}
}

// Engine is one party's end of one run. It is used by one goroutine at a time,
// and no more after it has failed.
type Engine struct {
	params       Params
	sess         *session.Session
	parties      []session.PartyID // of the session
	self         int               // this party, among them
	order        []int             // the contributors in the contract's order
	contributors set
	links        []*link // by party; nil for this one
	keys         []*keyset
	ledger       *tbgv.Ledger

	holders set                      // contributors that have a share of the keys
	lost    set                      // parties that are not talked to any more
	fixed   set                      // contributors whose data count; 0 before the first Sum
	at      place                    // of the messages
	calls   int                      // of Sum
	steps   []string                 // of these
	seen    map[[digestSize]byte]int // ciphertexts, by digest: whose; 40 bytes each
	used    bool
}

// New binds s, which is a fork of its own that nothing has been said on, and
// makes the collective keys. It fails with a *PeerError, with ErrLost where too
// few contributors are left, or with the cause of ctx. What is said on s ends
// when New or Sum fails; otherwise, and where either refuses its arguments
// (ErrParams), which says nothing to anybody, the caller ends it.
func New(ctx context.Context, s *session.Session, p Params) (*Engine, error) {
	e, err := newEngine(s, p)
	if err != nil {
		return nil, err
	}
	if err := s.BindPresent(ctx, Name, p.fields()...); err != nil {
		if ctx.Err() == nil && (errors.Is(err, session.ErrGone) || errors.Is(err, io.EOF)) {
			err = fmt.Errorf("%w: before the run began: %w", ErrLost, err)
		}
		_ = s.CloseSend() // a channel that cannot be closed has failed
		return nil, err
	}
	e.enter(keysStep)
	if !e.contributors.has(e.self) {
		return e, nil
	}
	if err := e.makeKeys(ctx); err != nil {
		e.wipe()
		e.leave(ctx, err)
		return nil, err
	}
	return e, nil
}

func newEngine(s *session.Session, p Params) (*Engine, error) {
	parties := s.Parties()
	if err := p.Validate(parties); err != nil {
		return nil, err
	}
	p.Contributors = slices.Clone(p.Contributors)
	e := &Engine{
		params: p, sess: s, parties: parties, links: make([]*link, len(parties)),
		seen: make(map[[digestSize]byte]int),
	}
	e.self = e.indexOf(s.Self())
	for _, c := range p.Contributors {
		e.order = append(e.order, e.indexOf(c))
		e.contributors |= 1 << e.indexOf(c)
	}
	e.holders = e.contributors
	for i, q := range parties {
		if i != e.self {
			e.links[i] = &link{ch: s.Peer(q), peer: q}
		}
	}
	var err error
	if e.keys, err = newKeysets(p); err != nil {
		return nil, err
	}
	if e.contributors.has(e.self) {
		// The ledger is of the party: the session, and with it the keys, is in
		// every ciphertext already.
		if e.ledger, err = tbgv.NewLedger(p.Once, Name+"/"+string(s.Self())); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrParams, err)
		}
	}
	return e, nil
}

// Sum adds the contributors' vectors and opens the sum to the parties in to.
// Every party of the session calls it with the same step, shape and to;
// contributors pass their vector, others share.Vector{}. Parties that are not
// in to get share.Vector{}. A step's name is used once.
//
// The first Sum fixes whose data count: a later one that would need another set
// fails with ErrLost.
//
// A party holds all contributors' ciphertexts of one Sum: 32 bytes for each
// element of 32 bits and contributor, 48 for those of 64 and 96 bits, rounded
// up to whole ciphertexts.
func (e *Engine) Sum(ctx context.Context, step string, shape share.Shape, v share.Vector, to []session.PartyID) (share.Vector, error) {
	recipients, err := e.begin(step, shape, v, to)
	if err != nil {
		return share.Vector{}, err
	}
	if !(e.contributors | recipients).has(e.self) {
		return share.Vector{}, nil
	}
	sum, err := e.sum(ctx, shape, v, recipients)
	if err != nil || e.calls == e.params.Sums {
		e.wipe()
	}
	if err != nil {
		e.used = true
		e.leave(ctx, err)
		return share.Vector{}, err
	}
	return sum, nil
}

// wipe overwrites this party's shares of the keys, which open nothing more.
func (e *Engine) wipe() {
	for _, k := range e.keys {
		if k.share != nil {
			k.share.Wipe()
		}
	}
}

// Included returns the contributors whose data count, in the contract's order;
// nil before the first Sum that this party took part in.
func (e *Engine) Included() []session.PartyID { return e.list(e.fixed) }

// Sets returns the names of the parameter sets in use.
func (e *Engine) Sets() []string {
	var names []string
	for _, k := range e.keys {
		names = append(names, string(k.scheme.Set()))
	}
	return names
}
