package hesum

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/yinqiao/yinqiao/session"
)

// set is a set of parties, by their index in the session.
type set uint64

func (s set) has(i int) bool { return i >= 0 && s>>i&1 == 1 }
func (s set) size() int      { return bits.OnesCount64(uint64(s)) }
func (s set) in(t set) bool  { return s&^t == 0 }

// decision is what the parties of a step go on with.
type decision struct {
	coordinator int // -1 where there was nothing to decide
	present     set // whom everybody hears
	included    set // contributors whose data count: all present have them
	active      set // contributors that open the sum
}

const decisionSize = 3 * 8

func (d decision) body() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(d.present))
	b = binary.LittleEndian.AppendUint64(b, uint64(d.included))
	return binary.LittleEndian.AppendUint64(b, uint64(d.active))
}

func parseDecision(b []byte, coordinator int) decision {
	return decision{
		coordinator: coordinator,
		present:     set(binary.LittleEndian.Uint64(b)),
		included:    set(binary.LittleEndian.Uint64(b[8:])),
		active:      set(binary.LittleEndian.Uint64(b[16:])),
	}
}

// agree settles with whom a step goes on, after every party has got what it
// got: peers take part in the step, and have are the contributors whose message
// has come here. Where all contributors are needed there is nothing to settle.
//
// Everybody reports what it has to everybody; the first contributor that lives
// is the coordinator and decides. Each party sees that the decision follows
// from the reports it knows. If the coordinator is lost before it has said
// anything, the next one takes its place; if it was lost while it spoke,
// parties with different coordinators find out and end with ErrLost.
func (e *Engine) agree(ctx context.Context, peers, have set) (decision, error) {
	if e.params.Threshold == len(e.params.Contributors) {
		if missing := e.contributors &^ have; missing != 0 {
			return decision{}, e.lostError(missing)
		}
		return decision{coordinator: -1, present: (peers | 1<<e.self) &^ e.lost, included: e.contributors, active: e.contributors}, nil
	}
	reports := make(map[int]set)
	reports[e.self] = have
	got := make([]*set, len(e.parties))
	body := binary.LittleEndian.AppendUint64(nil, uint64(have))
	err := e.exchange(ctx, peers,
		func(int) half {
			return func(ctx context.Context, l *link) error { return l.send(ctx, e.at, kindReport, body) }
		},
		func(i int) half {
			return func(ctx context.Context, l *link) error {
				b, err := l.recv(ctx, e.at, kindReport, 8)
				if err != nil {
					return err
				}
				s := set(binary.LittleEndian.Uint64(b))
				if !s.in(e.contributors) || e.contributors.has(i) && !s.has(i) {
					return fmt.Errorf("%w: a report of parties that are none", errFrame)
				}
				got[i] = &s
				return nil
			}
		})
	if err != nil {
		return decision{}, err
	}
	for i, s := range got {
		if s != nil {
			reports[i] = *s
		}
	}
	return e.decide(ctx, peers, reports)
}

// decide is agree's second half. Contributors are asked in the contract's order.
func (e *Engine) decide(ctx context.Context, peers set, reports map[int]set) (decision, error) {
	first := true // nobody can have announced before
	for _, c := range e.order {
		switch {
		case !e.holders.has(c):
			continue
		case e.lost.has(c):
			first = false
			continue
		case c == e.self:
			d := e.propose(reports)
			if err := e.enough(d); err != nil {
				return d, err
			}
			body := d.body()
			return d, e.exchange(ctx, d.present, func(int) half {
				return func(ctx context.Context, l *link) error { return l.send(ctx, e.at, kindDecision, body) }
			}, nil)
		}
		var heard *decision
		err := e.exchange(ctx, set(1)<<c, nil, func(int) half {
			return func(ctx context.Context, l *link) error {
				b, err := l.recv(ctx, e.at, kindDecision, decisionSize)
				if crossed := new(crossedError); first && errors.As(err, &crossed) {
					return fmt.Errorf("%w: %v", errKind, crossed.got)
				}
				if err != nil {
					return err
				}
				d := parseDecision(b, c)
				if err := e.follows(d, peers, reports); err != nil {
					return err
				}
				heard = &d
				return nil
			}
		})
		if err != nil {
			return decision{}, err
		}
		if heard != nil {
			return *heard, e.enough(*heard)
		}
		first = false
	}
	return decision{}, e.lostError(0)
}

// propose is the decision that follows from the reports of those who live.
func (e *Engine) propose(reports map[int]set) decision {
	d := decision{coordinator: e.self}
	for i := range reports {
		if !e.lost.has(i) {
			d.present |= 1 << i
		}
	}
	d.included = common(d.present, reports)
	d.active = e.opening(d)
	return d
}

// common is what all of present have.
func common(present set, reports map[int]set) set {
	all := ^set(0)
	for i, s := range reports {
		if present.has(i) {
			all &= s
		}
	}
	return all
}

// opening is the first contributors, in the contract's order, that suffice to
// open a sum. No more are taken: each is one whose loss would end the run.
func (e *Engine) opening(d decision) set {
	var active set
	for _, c := range e.order {
		if active.size() < e.params.Threshold && d.included.has(c) && d.present.has(c) {
			active |= 1 << c
		}
	}
	return active
}

// follows finds a coordinator's fault: a decision that no honest one can have
// come to.
func (e *Engine) follows(d decision, peers set, reports map[int]set) error {
	switch {
	case !d.present.in(peers|1<<e.self) || !d.included.in(e.holders):
		return fmt.Errorf("%w: it names parties that take no part", errDecision)
	case !d.present.has(d.coordinator):
		return fmt.Errorf("%w: it leaves out the party that took it", errDecision)
	case d.included.size() < e.params.MinIncluded:
		return fmt.Errorf("%w: %d contributors are included, the fewest are %d", errDecision, d.included.size(), e.params.MinIncluded)
	case d.active.size() != e.params.Threshold || d.active != e.opening(d):
		return fmt.Errorf("%w: not the contributors that should open the sum", errDecision)
	case !d.present.has(e.self):
		return nil // lost on the way to the coordinator: enough says so
	case !d.included.in(reports[e.self]):
		return fmt.Errorf("%w: it includes what has not come here", errDecision)
	}
	known := true
	for i := range e.parties {
		if _, ok := reports[i]; d.present.has(i) && !ok {
			known = false
		}
	}
	if all := common(d.present, reports); !d.included.in(all) || known && d.included != all {
		return fmt.Errorf("%w: not the contributors that have reached all", errDecision)
	}
	return nil
}

// enough says whether the run can go on with d, a sound decision.
func (e *Engine) enough(d decision) error {
	switch {
	case !d.present.has(e.self) || e.contributors.has(e.self) && !d.included.has(e.self):
		return fmt.Errorf("%w: the others go on without this party", ErrLost)
	case d.included.size() < e.params.MinIncluded, d.active.size() < e.params.Threshold:
		return e.lostError(e.contributors &^ d.included)
	case e.fixed != 0 && d.included != e.fixed:
		return fmt.Errorf("%w: %s counted in an earlier sum", ErrLost, e.names(e.fixed&^d.included))
	}
	return nil
}

// lostError says which contributors are missing, if it is known.
func (e *Engine) lostError(missing set) error {
	if missing |= e.lost & e.contributors; missing == 0 {
		return fmt.Errorf("%w (step %q)", ErrLost, e.at.step)
	}
	return fmt.Errorf("%w: %s in step %q", ErrLost, e.names(missing), e.at.step)
}

func (e *Engine) names(s set) string {
	var names []string
	for _, p := range e.list(s) {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}

// list returns the parties of s, contributors in the contract's order first.
func (e *Engine) list(s set) []session.PartyID {
	var ids []session.PartyID
	for _, c := range e.order {
		if s.has(c) {
			ids = append(ids, e.parties[c])
		}
	}
	for i, p := range e.parties {
		if s.has(i) && !e.contributors.has(i) {
			ids = append(ids, p)
		}
	}
	return ids
}

// echo makes sure that everybody goes on with the same decision and has the
// same messages of those included: digests has theirs by party. A party that is
// lost before it has answered ends the run if it is one of needed. One of peers
// that the decision leaves out must end its messages: if it lives and goes by
// another decision, either learns of the other's here.
func (e *Engine) echo(ctx context.Context, peers set, d decision, digests map[int][digestSize]byte, needed set) error {
	agreed := d
	if d.coordinator < 0 {
		agreed.present = 0 // nobody has settled it: a receiver may be lost here and not yet there
	}
	mine := append([]byte{byte(int8(d.coordinator))}, e.hash("decision", agreed.body())...)
	for _, i := range e.indices(d.included) {
		x := digests[i]
		mine = append(mine, x[:]...)
	}
	heard := make([]bool, len(e.parties))
	differs := make([]error, len(e.parties))
	err := e.exchange(ctx, peers,
		func(int) half {
			return func(ctx context.Context, l *link) error { return l.send(ctx, e.at, kindEcho, mine) }
		},
		func(i int) half {
			return func(ctx context.Context, l *link) error {
				// One frame, as long as the sender's decision has it.
				theirs, err := l.recvFrame(ctx, e.at, kindEcho)
				if err != nil {
					return err
				}
				heard[i] = true
				if differs[i] = e.compare(i, d, mine, theirs); differs[i] == nil && !d.present.has(i) {
					return fmt.Errorf("%w: it goes by a decision that leaves it out", errDiffers)
				}
				return nil
			}
		})
	if err != nil {
		return err
	}
	if err := worst(differs); err != nil {
		return err
	}
	e.lose(peers &^ d.present)
	voices := 0
	for i := range heard {
		if needed.has(i) && i != e.self && !heard[i] {
			return e.lostError(1 << i)
		}
		if e.contributors.has(i) && (heard[i] || i == e.self) {
			voices++
		}
	}
	if voices < e.params.Threshold {
		return e.lostError(0)
	}
	return nil
}

// compare holds a party's echo against this party's. What differs was sent by a
// third, if both tell the truth: it is named, on the word of the other.
func (e *Engine) compare(i int, d decision, mine, theirs []byte) error {
	blame := func(j int, what error) error { return e.differs(i, j, what) }
	switch {
	case len(theirs) < 1+digestSize:
		return blame(-1, fmt.Errorf("%w: an echo of %d bytes", errLength, len(theirs)))
	case mine[0] != theirs[0] && (d.coordinator < 0 || !e.holders.has(int(theirs[0]))):
		return blame(-1, fmt.Errorf("%w: it names a coordinator that is none", errDiffers))
	case mine[0] != theirs[0]:
		return fmt.Errorf("%w: %s follows another coordinator", ErrLost, e.parties[i])
	case !bytes.Equal(mine[1:][:digestSize], theirs[1:][:digestSize]):
		return blame(d.coordinator, fmt.Errorf("%w: the decision", errDiffers))
	case len(theirs) != len(mine):
		return blame(-1, fmt.Errorf("%w: an echo of %d bytes where %d were due", errLength, len(theirs), len(mine)))
	}
	for k, j := range e.indices(d.included) {
		if at := 1 + digestSize*(k+1); !bytes.Equal(mine[at:][:digestSize], theirs[at:][:digestSize]) {
			return blame(j, errDiffers)
		}
	}
	return nil
}

// differs blames party j for what party i has from it, or i where that is j's
// own, this party's, or nobody's (-1).
func (e *Engine) differs(i, j int, what error) error {
	if j < 0 || j == e.self || j == i {
		return &PeerError{Party: e.parties[i], Step: e.at.step, Err: what}
	}
	return &PeerError{Party: e.parties[j], Step: e.at.step, Witness: e.parties[i], Err: what}
}

// hash is SHA-256 over a label, the transcript, the current step and parts,
// each with its length.
func (e *Engine) hash(label string, parts ...[]byte) []byte {
	h := sha256.New()
	t := e.sess.Transcript()
	for _, p := range append([][]byte{[]byte("yinqiao/" + Name + "/" + label), t[:], e.at.tag[:]}, parts...) {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	return h.Sum(nil)
}

func (e *Engine) indexOf(p session.PartyID) int { return slices.Index(e.parties, p) }
