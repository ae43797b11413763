package aggregate

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// Kinds of message, the first byte of each.
const (
	kindRules   = 1 // rules of one party, and what an earlier attempt fixed
	kindVerdict = 2 // whose rows a gate has seen counted, and the cells that it withholds
	kindAgreed  = 3 // digest of what this party takes for agreed, and whether it withholds more
)

// maxRulesMessage bounds a message of kindRules, in bytes: a fixed number of
// numbers, and the names of all parties.
const maxRulesMessage = 16 << 10

// mesh is this party's channels to all others, some of which may be lost.
type mesh struct {
	s *session.Session

	mu   sync.Mutex
	lost map[session.PartyID]bool
}

func newMesh(s *session.Session) *mesh {
	return &mesh{s: s, lost: make(map[session.PartyID]bool)}
}

// peers returns the parties that are not known to be lost, without this one.
func (m *mesh) peers() []session.PartyID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []session.PartyID
	for _, id := range m.s.Parties() {
		if id != m.s.Self() && !m.lost[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// gone notes a party that is lost; other errors are returned.
func (m *mesh) gone(ctx context.Context, id session.PartyID, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, session.ErrGone), errors.Is(err, io.EOF):
		m.mu.Lock()
		defer m.mu.Unlock()
		m.lost[id] = true
		return nil
	}
	return fmt.Errorf("mpc/aggregate: %s: %w", id, err)
}

// swap sends a message to each party of to and takes one of each party of from,
// at once. Parties that are lost are left out of what it returns.
func (m *mesh) swap(ctx context.Context, kind byte, own []byte, to, from []session.PartyID, limit int) (map[session.PartyID][]byte, error) {
	return m.swapEach(ctx, kind, to, from, limit, func(session.PartyID) []byte { return own })
}

// swapEach is swap with a message for each party.
func (m *mesh) swapEach(ctx context.Context, kind byte, to, from []session.PartyID, limit int, own func(session.PartyID) []byte) (map[session.PartyID][]byte, error) {
	g, gctx := errgroup.WithContext(ctx)
	for _, id := range to {
		frame := append([]byte{kind}, own(id)...)
		g.Go(func() error {
			// Not under the group's context: what one peer did wrong must not keep
			// another from learning it by itself.
			if err := m.s.Peer(id).Send(ctx, frame); err != nil {
				return m.gone(ctx, id, err)
			}
			return nil
		})
	}
	var mu sync.Mutex
	got := make(map[session.PartyID][]byte)
	for _, id := range from {
		g.Go(func() error {
			p, err := m.s.Peer(id).Recv(gctx)
			switch {
			case err != nil:
				return m.gone(gctx, id, err)
			case len(p) == 0 || p[0] != kind:
				return peerError(id, "a message of another kind than %d", kind)
			case len(p)-1 > limit:
				return peerError(id, "a message of %d bytes, at most %d are possible here", len(p), limit+1)
			}
			mu.Lock()
			defer mu.Unlock()
			got[id] = p[1:]
			return nil
		})
	}
	return got, g.Wait()
}

// ErrPeer is wrapped where a party has sent what no honest party sends.
var ErrPeer = errors.New("mpc/aggregate: a party deviates from the protocol")

func peerError(id session.PartyID, format string, a ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrPeer, id, fmt.Sprintf(format, a...))
}

// greeting is what a party says first.
type greeting struct {
	Rules rules.Set `json:"rules"`
	// Fixed is the contributors whose rows were in when an earlier attempt at
	// this run opened counts; empty where none did.
	Fixed []session.PartyID `json:"fixed,omitempty"`
}

// greet exchanges rules. It returns the rules in force and the contributors
// that an earlier attempt has fixed, or nil.
func (m *mesh) greet(ctx context.Context, own greeting, request rules.Set, entity string) (rules.Set, []session.PartyID, error) {
	b, err := json.Marshal(own)
	if err != nil {
		return rules.Set{}, nil, fmt.Errorf("mpc/aggregate: %w", err)
	}
	peers := m.peers()
	got, err := m.swap(ctx, kindRules, b, peers, peers, maxRulesMessage)
	if err != nil {
		return rules.Set{}, nil, err
	}
	all, fixed := []rules.Set{own.Rules.InForce(), request}, own.Fixed
	for _, id := range peers {
		p, here := got[id]
		if !here {
			continue
		}
		var theirs greeting
		if err := job.DecodeParams(p, &theirs); err != nil || len(p) == 0 {
			return rules.Set{}, nil, peerError(id, "rules that do not decode")
		}
		if err := theirs.Rules.Validate(); err != nil {
			return rules.Set{}, nil, peerError(id, "rules out of their bounds")
		}
		if unit := theirs.Rules.Unit; unit != "" && unit != entity {
			return rules.Set{}, nil, fmt.Errorf("mpc/aggregate: %s protects another unit than the job's entity, and should not have signed: name its unit as entity", id)
		}
		all = append(all, theirs.Rules.InForce())
		switch {
		case len(theirs.Fixed) == 0:
		case len(fixed) == 0:
			fixed = theirs.Fixed
		case !slices.Equal(fixed, theirs.Fixed):
			return rules.Set{}, nil, peerError(id, "another set of contributors from an earlier attempt than this party or one before it has")
		}
	}
	return rules.Strictest(all...), fixed, nil
}

// verdict is what the gates tell everybody once they have seen the counts.
type verdict struct {
	included []bool // of the contributors, whose rows were counted
	mask     []bool // of the cells, which are withheld
}

func packBits(bits []bool) []byte {
	b := make([]byte, (len(bits)+7)/8)
	for i, m := range bits {
		if m {
			b[i/8] |= 1 << (i % 8)
		}
	}
	return b
}

// unpackBits reads n bits; false where b holds another number, or spare bits
// that are not 0.
func unpackBits(b []byte, n int) ([]bool, bool) {
	if len(b) != (n+7)/8 || n%8 != 0 && b[len(b)-1]>>(n%8) != 0 {
		return nil, false
	}
	bits := make([]bool, n)
	for i := range bits {
		bits[i] = b[i/8]>>(i%8)&1 == 1
	}
	return bits, true
}

// decodeVerdict reads a gate's message about so many contributors and cells.
func decodeVerdict(b []byte, contributors, cells int) (verdict, bool) {
	n := (contributors + 7) / 8
	if len(b) < n {
		return verdict{}, false
	}
	included, ok1 := unpackBits(b[:n], contributors)
	mask, ok2 := unpackBits(b[n:], cells)
	return verdict{included, mask}, ok1 && ok2
}

func (v verdict) encode() []byte { return append(packBits(v.included), packBits(v.mask)...) }

func (v verdict) equal(w verdict) bool {
	return slices.Equal(v.included, w.included) && slices.Equal(v.mask, w.mask)
}

// hear has the gates tell everybody their verdict, and returns it. own is nil
// at a party that is no gate.
func (m *mesh) hear(ctx context.Context, gates []session.PartyID, own *verdict, contributors, cells int) (verdict, error) {
	peers := m.peers()
	var to, from []session.PartyID
	for _, id := range peers {
		if slices.Contains(gates, id) {
			from = append(from, id)
		}
	}
	var message []byte
	if own != nil {
		to, message = peers, own.encode()
	}
	got, err := m.swap(ctx, kindVerdict, message, to, from, (contributors+7)/8+(cells+7)/8)
	if err != nil {
		return verdict{}, err
	}
	known, by := own, m.s.Self()
	for _, id := range from {
		p, here := got[id]
		if !here {
			continue
		}
		theirs, ok := decodeVerdict(p, contributors, cells)
		switch {
		case !ok:
			return verdict{}, peerError(id, "a mask that does not decode")
		case known == nil:
			known, by = &theirs, id
		case !known.equal(theirs):
			return verdict{}, fmt.Errorf("%w: the gates %s and %s withhold different cells, or counted different parties", ErrPeer, by, id)
		}
	}
	if known == nil {
		return verdict{}, fmt.Errorf("%w: no gate is left to say which cells are withheld", ErrLost)
	}
	return *known, nil
}

// confirm makes sure that all parties that are left hold the same digest. own
// is the cells that this party has to have withheld besides; gates are told
// which, everybody else only whether there are any. It returns nil where no
// party has any, and otherwise, at a gate, how many have each.
func (m *mesh) confirm(ctx context.Context, gates []session.PartyID, agreed [sha256.Size]byte, own []bool) (more []int64, err error) {
	some := byte(0)
	if slices.Contains(own, true) {
		some = 1
	}
	short := append(agreed[:], some)
	long := append(slices.Clone(short), packBits(own)...)
	gate := slices.Contains(gates, m.s.Self())
	peers := m.peers()
	limit := len(short)
	if gate {
		limit = len(long)
	}
	got, err := m.swapEach(ctx, kindAgreed, peers, peers, limit, func(to session.PartyID) []byte {
		if slices.Contains(gates, to) {
			return long
		}
		return short
	})
	if err != nil {
		return nil, err
	}
	count := make([]int64, len(own))
	add := func(cells []bool) {
		for c, withheld := range cells {
			if withheld {
				count[c]++
			}
		}
	}
	add(own)
	for id, p := range got {
		if len(p) != limit || p[sha256.Size] > 1 {
			return nil, peerError(id, "a confirmation that does not decode")
		}
		if !slices.Equal(p[:sha256.Size], agreed[:]) {
			if len(m.peers())+1 < len(m.s.Parties()) { // it may have told its rules to one and not to the other
				return nil, fmt.Errorf("%w: %s knows other rules, included parties or withheld cells, and somebody is lost", ErrLost, id)
			}
			return nil, peerError(id, "other rules, included parties or withheld cells than this party's")
		}
		some |= p[sha256.Size]
		if gate {
			cells, ok := unpackBits(p[len(short):], len(own))
			if !ok || slices.Contains(cells, true) != (p[sha256.Size] == 1) {
				return nil, peerError(id, "a confirmation that does not decode")
			}
			add(cells)
		}
	}
	if some == 0 {
		return nil, nil
	}
	return count, nil
}
