package node

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/node/peer"
	"github.com/yinqiao/yinqiao/session"
)

// A party is lost to a running job when no channel reaches it any more, or when
// it says that it has ended the job. Kinds that can spare it go on: its channels
// fail with session.ErrGone, nobody waits for it at the receipt, and the receipt
// names it absent. The loss of the initiator, which writes the receipt, ends
// every job.

const classGone = "peer_gone"

// Classes with which a party leaves that say of the job, and not of the party,
// that it is wrong: no kind goes on without it.
var disagreements = []string{"mismatch", "count_disagreement", "digest_disagreement", "input_commitment"}

// Classes of parties that are away, and may be back for a further attempt. With
// any other a party has ended the job for a reason of its own.
var awayClasses = []string{classGone, "shutdown", "interrupted"}

// losses are the parties that a job has lost, and how many it can spare.
type losses struct {
	initiator string
	spare     int

	mu   sync.Mutex
	link *peer.Link        // while the session is open
	left map[string]string // with which class, by party
	over *failure          // the loss that is one too many
}

// spareOf is how many parties a job can do without.
func spareOf(def job.Definition, spec job.Spec) int {
	if def.Spare == nil {
		return 0
	}
	return def.Spare(spec)
}

func newLosses(initiator string, spare int) *losses {
	return &losses{initiator: initiator, spare: spare, left: make(map[string]string)}
}

// lose notes that party has left with a class. It returns nil where the job goes
// on without it, and else f with what more there is to say.
func (l *losses) lose(party, class string, f *failure) *failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	// What a party says of itself tells more than its silence.
	if before := l.left[party]; before == "" || before == classGone {
		l.left[party] = class
	}
	switch {
	case slices.Contains(disagreements, class), party == l.initiator:
	case len(l.left) <= l.spare:
		return nil
	case l.spare > 0:
		f = fail(f.class, "%s; lost by now: %s, and the job can spare %d", f.reason, strings.Join(slices.Sorted(maps.Keys(l.left)), ", "), l.spare)
	}
	if l.over == nil {
		l.over = f
	}
	return f
}

// parties returns which parties were lost, with their classes.
func (l *losses) parties() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.left)
}

// away reports whether no party has left for a reason of its own: those that are
// lost may be back.
func (l *losses) away() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, class := range l.left {
		if !slices.Contains(awayClasses, class) {
			return false
		}
	}
	return true
}

// open gives the session's link the losses that came before it.
func (l *losses) open(link *peer.Link) {
	l.mu.Lock()
	l.link = link
	left := maps.Clone(l.left)
	l.mu.Unlock()
	for party, class := range left {
		link.Leave(session.PartyID(party), leftWith(party, class))
	}
}

// leave ends the channels to a party that has said that it left.
func (l *losses) leave(party string, why error) {
	l.mu.Lock()
	link := l.link
	l.mu.Unlock()
	if link != nil {
		link.Leave(session.PartyID(party), why)
	}
}

func leftWith(party, class string) error { return fmt.Errorf("%s ended the job (%s)", party, class) }

// closed is what the end of the link means for a job that has computed its part:
// nothing where every channel that did not end well was to a party that it can
// spare.
func (l *losses) closed(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.link = nil
	switch {
	case l.over != nil:
		return l.over
	case l.spare > 0 && errors.Is(err, session.ErrGone):
		return nil
	}
	return err
}

// peerLost takes in that the channels to a party have failed.
func (n *Node) peerLost(a *active, party string, err error) {
	f := fail(classGone, "lost %s: %v", party, err)
	if !errors.Is(err, session.ErrGone) {
		f.class = "protocol"
	} else {
		if f = a.losses.lose(party, classGone, f); f == nil {
			n.without(a, party, classGone)
			return
		}
	}
	time.AfterFunc(lastWord, func() { a.cancel(f) })
}

// peerLeft takes in a party's word that it has ended the job.
func (n *Node) peerLeft(a *active, party, class string) {
	left := leftWith(party, class)
	f := fail("peer_aborted", "%v", left)
	a.mu.Lock()
	proposing := a.finisher != nil && !a.started // all must sign, and be told to start
	a.mu.Unlock()
	if !proposing {
		if f = a.losses.lose(party, class, f); f == nil {
			n.without(a, party, class)
			a.losses.leave(party, left)
			return
		}
	}
	if a.finisher == nil {
		n.dropProposal(a, "withdrawn", party+" withdrew the job ("+class+")")
	}
	a.cancel(f)
}

// without goes on with a job that has lost a party.
func (n *Node) without(a *active, party, class string) {
	n.log.Warn("party lost, and the job goes on without it", slog.String("job", a.contract.GetJob()), slog.String("peer", party), slog.String("class", class))
	if a.finisher != nil {
		a.finisher.lose(party)
	}
	a.update(func() { a.rec.Lost = a.losses.parties() })
}
