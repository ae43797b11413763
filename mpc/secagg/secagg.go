package secagg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strconv"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// MaxContributors is how many parties can have an input.
const MaxContributors = 64

// maxVectorBytes bounds a vector on the wire: 256 million narrow values.
const maxVectorBytes = 1 << 30

// Name is the protocol's name and version, compared when a run begins.
const Name = "secagg.v1"

var (
	// ErrParams is wrapped by New for parameters that cannot be, and by Sum for
	// a step, shape or list of receivers that cannot be.
	ErrParams = errors.New("secagg: unusable parameters")
	// ErrLost is wrapped where too few parties are left, where one is lost after
	// the contributors whose data count were fixed, where the coordinator of a
	// sum is lost, and where this party itself was left out.
	ErrLost = fmt.Errorf("secagg: parties lost: %w", session.ErrGone)
	// ErrPeer is wrapped by every *PeerError.
	ErrPeer = errors.New("secagg: a peer did not follow the protocol")
	// ErrSurvivors is wrapped, beside ErrPeer, where a coordinator asks for shares
	// of a set of contributors that may not be asked for: both shares of one, a
	// set too small or other than the one fixed, or not the same of everybody.
	ErrSurvivors = errors.New("secagg: refused set of contributors")
	// ErrMasks is wrapped where masks are left in a sum: some contributor masked
	// its vector for another roster or with other keys than it confirmed.
	ErrMasks = errors.New("secagg: masks do not cancel")
	// ErrUsed is wrapped by every call after one that failed, and where shares of
	// a step have been revealed before.
	ErrUsed = errors.New("secagg: used already")
)

// PeerError names the party that did not follow the protocol, and the step of
// the sum in which it did not. It wraps ErrPeer.
type PeerError struct {
	Party session.PartyID
	Step  string
	// Witness is the party on whose word Party is named: either of the two may be
	// at fault. Blank where this party has seen the fault itself.
	Witness session.PartyID
	Err     error // what it did
}

// Error implements error.
func (e *PeerError) Error() string {
	if e.Witness != "" {
		return fmt.Sprintf("secagg: step %q: %s, if %s is right: %v", e.Step, e.Party, e.Witness, e.Err)
	}
	return fmt.Sprintf("secagg: step %q: %s: %v", e.Step, e.Party, e.Err)
}

// Unwrap makes errors.Is find ErrPeer and what Err wraps.
func (e *PeerError) Unwrap() []error { return []error{ErrPeer, e.Err} }

// Once records durably that something is being done that must not be done
// again, and fails where it has been recorded before; job.Once is one.
type Once interface {
	Once(ctx context.Context, key string) error
}

// Params is what the parties agree on before a run.
type Params struct {
	// Contributors have an input; 2 to 64 parties of the session, in the
	// contract's order. Its other parties only receive.
	Contributors []session.PartyID
	// Threshold is how many contributors suffice to open a sum, at least 2 and more
	// than half of them; 0 means all.
	Threshold int
	// Sums is how many calls of Sum there will be at most.
	Sums int
	// MaxShape bounds the vectors that are summed.
	MaxShape share.Shape
	// Once keeps this party from revealing shares of one step twice, after a crash
	// too. Contributors need one. It is asked with keys that are unique within a
	// session.
	Once Once
	// MinIncluded is the fewest contributors whose data may be in a sum, at least
	// 2; 0 means 3.
	MinIncluded int
}

// complete fills in what zero stands for, and returns all faults.
func (p *Params) complete(self session.PartyID, parties []session.PartyID) error {
	var errs []error
	fault := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrParams}, a...)...))
	}
	n := len(p.Contributors)
	if p.Threshold == 0 {
		p.Threshold = n
	}
	if p.MinIncluded == 0 {
		p.MinIncluded = 3
	}
	if n < 2 || n > MaxContributors {
		fault("%d contributors, want 2 to %d", n, MaxContributors)
	}
	for i, c := range p.Contributors {
		if slices.Contains(p.Contributors[:i], c) || !slices.Contains(parties, c) {
			fault("contributor %q is named twice or is no party", c)
		}
	}
	if p.Threshold < 2 || p.Threshold > n || 2*p.Threshold <= n {
		// Two halves that are told different things could open both masks of one.
		fault("threshold %d of %d contributors, want more than half and at least 2", p.Threshold, n)
	}
	if p.MinIncluded < 2 || p.MinIncluded > n {
		fault("at least %d of %d contributors are to be included", p.MinIncluded, n)
	}
	if p.Sums < 1 {
		fault("%d sums", p.Sums)
	}
	if !within(p.MaxShape, share.Shape{Narrow: maxVectorBytes, Wide: maxVectorBytes, Huge: maxVectorBytes}) || vectorBytes(p.MaxShape) > maxVectorBytes {
		fault("vectors of shape %v, more than %d bytes", p.MaxShape, maxVectorBytes)
	}
	if p.Once == nil && slices.Contains(p.Contributors, self) {
		fault("nothing to record what has been revealed")
	}
	return errors.Join(errs...)
}

// within says whether s has no negative part and none above limit's.
func within(s, limit share.Shape) bool {
	return min(s.Narrow, s.Wide, s.Huge) >= 0 && s.Narrow <= limit.Narrow && s.Wide <= limit.Wide && s.Huge <= limit.Huge
}

func vectorBytes(s share.Shape) int64 {
	return int64(narrow.width())*int64(s.Narrow) + int64(wide.width())*int64(s.Wide) + int64(huge.width())*int64(s.Huge)
}

// Engine is one party's end of a run: up to Params.Sums sums over the same
// contributors. It is used by one goroutine at a time, and by none after a
// call that failed.
type Engine struct {
	s        *session.Session
	p        Params
	self     int // own place among the contributors; -1 for a party that only receives
	index    map[session.PartyID]int
	links    map[session.PartyID]*link
	included set // 0 until the first sum is open
	steps    map[string]bool
	failed   error
}

// New binds s, which is a fork for this engine alone, with all its parties that
// are there.
func New(ctx context.Context, s *session.Session, p Params) (*Engine, error) {
	p.Contributors = slices.Clone(p.Contributors)
	if err := p.complete(s.Self(), s.Parties()); err != nil {
		return nil, err
	}
	e := &Engine{
		s: s, p: p, self: slices.Index(p.Contributors, s.Self()),
		index: make(map[session.PartyID]int), links: make(map[session.PartyID]*link), steps: make(map[string]bool),
	}
	for i, c := range p.Contributors {
		e.index[c] = i
	}
	for _, id := range s.Parties() {
		if id != s.Self() {
			e.links[id] = &link{id: id, ch: s.Peer(id)}
		}
	}
	err := s.BindPresent(ctx, Name,
		session.Field{Name: "contributors", Value: fmt.Sprintf("%q", p.Contributors)},
		session.Field{Name: "threshold", Value: strconv.Itoa(p.Threshold)},
		session.Field{Name: "min_included", Value: strconv.Itoa(p.MinIncluded)},
		session.Field{Name: "sums", Value: strconv.Itoa(p.Sums)},
		session.Field{Name: "max_shape", Value: p.MaxShape.String()})
	if isLost(err) {
		err = fmt.Errorf("%w: %w", ErrLost, err)
	}
	if err != nil {
		_ = s.CloseSend() // nobody is to wait for this party
		return nil, err
	}
	return e, nil
}

// Sum adds the contributors' vectors, which have the given shape, and opens the
// sum to the parties in to. Every party of the session calls it with the same
// step, shape and to, in the same order; contributors pass their vector, which
// is not changed, the others an empty one. Parties not in to get an empty
// vector. The first of to is coordinator: no sum survives its loss.
//
// The first sum goes on while enough contributors are left, and fixes which
// contributors' data count; see Included. A later sum over others fails with
// ErrLost.
func (e *Engine) Sum(ctx context.Context, step string, shape share.Shape, v share.Vector, to []session.PartyID) (share.Vector, error) {
	if e.failed != nil {
		return share.Vector{}, fmt.Errorf("%w: the engine failed before: %w", ErrUsed, e.failed)
	}
	st, err := e.newStep(step, shape, v, to)
	if err == nil {
		v, err = st.run(ctx, v)
	}
	if err != nil {
		var fault *PeerError
		if cause := context.Cause(ctx); cause != nil && !errors.As(err, &fault) && !errors.Is(err, cause) {
			err = fmt.Errorf("secagg: step %q: %w", step, cause) // and not what that did to the channels
		}
		e.failed = err
		_ = e.s.CloseSend() // nobody is to wait for this party
		return share.Vector{}, err
	}
	return v, nil
}

// newStep checks what the caller asks for.
func (e *Engine) newStep(name string, shape share.Shape, v share.Vector, to []session.PartyID) (*step, error) {
	fault := func(format string, a ...any) error {
		return fmt.Errorf("%w: step %q: "+format, append([]any{ErrParams, name}, a...)...)
	}
	switch {
	case name == "" || len(name) > 128:
		return nil, fault("a name of %d bytes", len(name))
	case e.steps[name]:
		return nil, fmt.Errorf("%w: step %q", ErrUsed, name)
	case len(e.steps) == e.p.Sums:
		return nil, fault("more than %d sums", e.p.Sums)
	case !within(shape, e.p.MaxShape):
		return nil, fault("shape %v is not within %v", shape, e.p.MaxShape)
	case e.self >= 0 && v.Shape() != shape:
		return nil, fault("a vector of shape %v, want %v", v.Shape(), shape)
	case len(to) == 0:
		return nil, fault("opened to nobody")
	}
	for i, id := range to {
		if slices.Contains(to[:i], id) || id != e.s.Self() && e.links[id] == nil {
			return nil, fault("%q is named twice or is no party", id)
		}
	}
	e.steps[name] = true
	return newStep(e, name, shape, slices.Clone(to)), nil
}

// Included returns the contributors whose data are in the sums, in the
// contract's order; nil before the first sum is done.
func (e *Engine) Included() []session.PartyID {
	var ids []session.PartyID
	for i := range e.included.all() {
		ids = append(ids, e.p.Contributors[i])
	}
	return ids
}

// need is the fewest contributors that a sum may have.
func (e *Engine) need() int { return max(e.p.Threshold, e.p.MinIncluded) }

// set is contributors by their place.
type set uint64

func setOf(i int) set           { return 1 << i }
func (s set) has(i int) bool    { return i >= 0 && s>>i&1 == 1 }
func (s set) size() int         { return bits.OnesCount64(uint64(s)) }
func (s set) without(t set) set { return s &^ t }
func (s set) within(t set) bool { return s&^t == 0 }
func (s set) all() func(func(int) bool) {
	return func(yield func(int) bool) {
		for ; s != 0; s &= s - 1 {
			if !yield(bits.TrailingZeros64(uint64(s))) {
				return
			}
		}
	}
}

// firstN returns the first n contributors.
func firstN(n int) set { return ^set(0) >> (MaxContributors - n) }

// isLost says whether err is of a channel whose peer is gone, or has ended its
// messages before this party expected it.
func isLost(err error) bool {
	return errors.Is(err, session.ErrGone) || errors.Is(err, io.EOF)
}
