// Package multi is private set intersection of three or more parties:
// psi.multi.v1. It reveals the rows that all of them have, and of rows that only
// some have nothing, not even to the party that compares.
//
// [Lead] is the role of the one party that compares, [Join] that of all others:
//
//	m, err := multi.Lead(ctx, s, keys.All(), keys.Len(), multi.Params{})
//	m, err := multi.Join(ctx, s, keys.All(), keys.Len(), multi.Params{Leader: "zs-bank"})
//	// m.Rows[k] is the same subject at all parties
//
// Every two parties share a secret pseudorandom function; the sum of those that
// a party shares is its share of an item, and the shares of one item at all
// parties add up to zero. Each member hands the leader its shares of its own
// items in a key-value store (mpc/okvs), masked by an oblivious pseudorandom
// function (mpc/oprf) so that the leader can read it at its own items alone. What
// an item of the leader reads at all members adds up to the leader's share if
// every member has it, and to something random if one does not.
//
// Security: semi-honest parties of which any may collude, in the sense of the
// paper's augmented model: what a coalition with the leader learns is that of
// members who put in all the leader's rows. See the package's page,
// docs/protocols/psi-multi.md. The paper is Kolesnikov, Matania, Pinkas, Rosulek
// and Trieu, CCS 2017, https://eprint.iacr.org/2017/799, section 5; the
// assumptions are those of mpc/oprf, and Diffie-Hellman in Curve25519.
//
// Time and memory accesses depend on the own keys; a peer sees of it only how
// long a step takes.
package multi

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/okvs"
	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// Name of the protocol; a change on the wire is a new name.
const Name = "psi.multi.v1"

// Limits.
const (
	MaxRows    = 1 << 28 // of a party
	MinParties = 3
	MaxParties = 16
)

// membersAtOnce is how many members the leader works with at a time. Each costs
// it the memory of a piece of the vector OLE; two keep a processor busy while
// the other waits for the link.
const membersAtOnce = 2

// Faults that end a session, besides job.ErrMinIntersection,
// [session.ErrMismatch] and those of mpc/vole and mpc/ot.
var (
	ErrMessage    = errors.New("psi/multi: malformed message")
	ErrSize       = errors.New("psi/multi: number of rows or parties not supported")
	ErrDuplicates = errors.New("psi/multi: keys occur more than once")
	ErrDisagree   = errors.New("psi/multi: the parties disagree")
)

// Params are the public parameters, the same at all parties except for
// MinIntersection. The zero value, with a leader, is the default.
type Params struct {
	// Leader is the party that compares. Lead takes a blank one for its own.
	Leader session.PartyID
	// Items says what the items are, such as the rule and the number of columns
	// that made them, so that a difference is named instead of matching nothing.
	Items string
	// LeaderOnly keeps the result from the members.
	LeaderOnly bool
	// MinIntersection is the smallest number of common rows that may be used; 0
	// means none. The leader knows its matches by the time they are counted.
	MinIntersection int64
}

// Outputs of the protocol, as parameters name them.
const (
	outputAll    = "all"
	outputLeader = "leader"
)

func (p Params) output() string {
	if p.LeaderOnly {
		return outputLeader
	}
	return outputAll
}

// Match is the result of one party: Rows[k] is the index of the own row whose
// key is also that of row Rows[k] of every other party's Match. A member's is
// empty with Params.LeaderOnly.
type Match struct{ Rows []int32 }

// Lead runs the leader's role on n items, which must be distinct; each is valid
// until the next is asked for. It holds about 170 bytes a row, and 300 MB.
func Lead(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params) (Match, error) {
	return lead(ctx, s, items, n, p, nil)
}

func lead(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params, ole oprf.OLE) (Match, error) {
	if p.Leader == "" {
		p.Leader = s.Self()
	}
	r, err := begin(ctx, s, items, n, p, ole)
	if err != nil {
		return Match{}, err
	}
	defer r.close()

	// The own share of each item and what it reads at the members, summed up.
	sums, err := r.gather(ctx)
	if err != nil {
		return Match{}, err
	}
	m := Match{Rows: []int32{}}
	for i := range sums {
		if sums[i].IsZero() {
			m.Rows = append(m.Rows, int32(i))
		}
	}
	if int64(len(m.Rows)) < p.MinIntersection {
		return Match{}, r.sendBelow(ctx, r.members())
	}
	r.sortByKey(m.Rows)

	if p.LeaderOnly {
		if err := r.toAll(ctx, func(ctx context.Context, m session.PartyID) error {
			if err := r.links[m].Send(ctx, kindDone, nil); err != nil {
				return err
			}
			return r.links[m].RecvEmpty(ctx, kindDone)
		}); err != nil {
			return Match{}, err
		}
		return m, nil
	}

	// Each member learns which of its rows these are, and says what it made of it.
	want := r.agreed(m.Rows)
	below := make(map[session.PartyID]bool)
	var mu sync.Mutex
	if err := r.toAll(ctx, func(ctx context.Context, member session.PartyID) error {
		if err := r.sendCommon(ctx, member, m.Rows); err != nil {
			return err
		}
		small, err := r.recvAgreed(ctx, member, want)
		mu.Lock()
		defer mu.Unlock()
		below[member] = small
		return err
	}); err != nil {
		return Match{}, err
	}
	if content := slices.DeleteFunc(r.members(), func(m session.PartyID) bool { return below[m] }); len(content) < len(r.members()) {
		return Match{}, r.sendBelow(ctx, content)
	}
	if err := r.toAll(ctx, func(ctx context.Context, m session.PartyID) error {
		return r.links[m].Send(ctx, kindDone, nil)
	}); err != nil {
		return Match{}, err
	}
	return m, nil
}

// Join runs a member's role on n items, which must be distinct; each is valid
// until the next is asked for. It holds about 100 bytes a row, and 100 MB.
func Join(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params) (Match, error) {
	return join(ctx, s, items, n, p, nil)
}

func join(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params, ole oprf.OLE) (Match, error) {
	if p.Leader == s.Self() {
		return Match{}, fmt.Errorf("psi/multi: %s leads and cannot join", p.Leader)
	}
	r, err := begin(ctx, s, items, n, p, ole)
	if err != nil {
		return Match{}, err
	}
	defer r.close()
	link := r.links[p.Leader]

	// The leader may read the store at its own items alone.
	leaderRows, err := r.exchangeRows(ctx, link)
	if err != nil {
		return Match{}, err
	}
	masks := make([]gf128.Element, n)
	cfg := oprf.Config{Session: r.pairs[p.Leader], Conn: conn{link}, Rows: leaderRows, OLE: ole}
	if err := oprf.Send(ctx, cfg, r.keys, byRow(masks)); err != nil {
		return Match{}, r.fault(err)
	}
	if err := link.RecvEmpty(ctx, kindCheck); err != nil {
		return Match{}, err
	}
	if err := r.sendStore(ctx, link, masks); err != nil {
		return Match{}, err
	}
	if err := link.Send(ctx, kindCheck, nil); err != nil {
		return Match{}, err
	}

	if p.LeaderOnly {
		if err := r.recvDone(ctx, link); err != nil {
			return Match{}, err
		}
		return Match{}, link.Send(ctx, kindDone, nil)
	}
	rows, err := r.recvCommon(ctx, link, leaderRows)
	if err != nil {
		return Match{}, err
	}
	if int64(len(rows)) < p.MinIntersection {
		return Match{}, r.sendBelow(ctx, []session.PartyID{p.Leader})
	}
	if err := link.Send(ctx, kindAgreed, r.agreed(rows)); err != nil {
		return Match{}, err
	}
	if err := r.recvDone(ctx, link); err != nil {
		return Match{}, err
	}
	return Match{Rows: rows}, nil
}

// run is one party's state in one session. It is single-use.
type run struct {
	params Params
	sess   *session.Session
	rows   int
	keys   []gf128.Element // of the own items, by row
	ole    oprf.OLE        // nil but in tests
	links  map[session.PartyID]*transcript.Link
	pairs  map[session.PartyID]*session.Session // of the vector OLE: at a member the leader's alone
	shared map[session.PartyID]*secret
}

// begin agrees on the parameters, hashes the items and agrees on a secret with
// every other party.
func begin(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params, ole oprf.OLE) (*run, error) {
	parties := s.Parties()
	switch {
	case p.MinIntersection < 0:
		return nil, errors.New("psi/multi: the minimum intersection is negative")
	case len(parties) < MinParties || len(parties) > MaxParties:
		return nil, fmt.Errorf("%w: %d parties, allowed are %d to %d", ErrSize, len(parties), MinParties, MaxParties)
	case !slices.Contains(parties, p.Leader):
		return nil, fmt.Errorf("psi/multi: the leader %q is not one of the parties", p.Leader)
	case n < 0 || n > MaxRows:
		return nil, fmt.Errorf("%w: %d rows, the limit is %d", ErrSize, n, MaxRows)
	}
	if err := s.Bind(ctx, Name, append([]session.Field{
		{Name: "leader", Value: string(p.Leader)},
		{Name: "items", Value: p.Items},
		{Name: "output", Value: p.output()},
	}, oprf.Fields(ole)...)...); err != nil {
		return nil, err
	}
	r := &run{
		params: p, sess: s, rows: n, ole: ole,
		links: make(map[session.PartyID]*transcript.Link), pairs: make(map[session.PartyID]*session.Session),
	}
	self := slices.Index(parties, s.Self())
	for i, q := range parties {
		if i != self {
			r.links[q] = protocol.Link(s.Peer(q), q, self < i)
		}
	}
	var err error
	if r.keys, err = oprf.Keys(ctx, s.Transcript(), items, n); err != nil {
		return nil, r.fault(err)
	}
	if r.shared, err = r.agreeOnSecrets(ctx); err != nil {
		return nil, err
	}
	for _, q := range parties {
		if q == s.Self() || s.Self() != p.Leader && q != p.Leader {
			continue
		}
		// The leader runs several at once: each draws from a source of its own.
		own, err := r.stream()
		if err == nil {
			r.pairs[q], err = s.WithRand(own).Pair(ctx, "vole", q)
		}
		if err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

// close ends the channels of the vector OLE.
func (r *run) close() {
	for _, s := range r.pairs {
		if s != nil {
			_ = s.CloseSend() // all has been said, or the run has failed
		}
	}
}

// members returns all parties but the leader.
func (r *run) members() []session.PartyID {
	return slices.DeleteFunc(r.sess.Parties(), func(p session.PartyID) bool { return p == r.params.Leader })
}

// toAll calls f for all members at once, and waits for all calls.
func (r *run) toAll(ctx context.Context, f func(ctx context.Context, m session.PartyID) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, m := range r.members() {
		g.Go(func() error { return f(ctx, m) })
	}
	return g.Wait()
}

// gather returns for each of the leader's items its own share plus what it reads
// at every member: zero if all have it.
func (r *run) gather(ctx context.Context) ([]gf128.Element, error) {
	// One vector serves all members, each under a mask of its own.
	encoding, err := oprf.Encode(ctx, r.sess.Rand(), r.keys)
	if err != nil {
		return nil, err
	}
	defer encoding.Close()
	sums := make([]gf128.Element, r.rows)
	if err := r.addAllShares(ctx, sums); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	done := int64(0)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(membersAtOnce)
	for _, m := range r.members() {
		g.Go(func() error {
			read, err := r.read(gctx, m, encoding)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			gf128.Add(sums, read)
			done++
			r.sess.Progress("members", done, int64(len(r.links)))
			return nil
		})
	}
	return sums, g.Wait()
}

// read returns what each of the leader's items reads at one member: that
// member's share of it, if the member has it, and something random if not.
func (r *run) read(ctx context.Context, m session.PartyID, encoding *oprf.Encoding) ([]gf128.Element, error) {
	link := r.links[m]
	rows, err := r.exchangeRows(ctx, link)
	if err != nil {
		return nil, err
	}
	read := make([]gf128.Element, r.rows)
	cfg := oprf.Config{Session: r.pairs[m], Conn: conn{link}, Rows: r.rows, OLE: r.ole}
	if err := encoding.Receive(ctx, cfg, byRow(read)); err != nil {
		return nil, r.fault(err)
	}
	if err := link.Send(ctx, kindCheck, nil); err != nil {
		return nil, err
	}
	if err := r.recvStore(ctx, link, rows, read); err != nil {
		return nil, err
	}
	return read, link.RecvEmpty(ctx, kindCheck)
}

// byRow puts outputs in the order of the keys.
func byRow(dst []gf128.Element) oprf.Output {
	return func(_ int, values []gf128.Element, rows []int32) {
		for i, row := range rows {
			dst[row] = values[i]
		}
	}
}

// fault gives the faults of the building blocks that callers know the names that
// they have here.
func (r *run) fault(err error) error {
	switch {
	case errors.Is(err, okvs.ErrDuplicates):
		return fmt.Errorf("%w: %w", ErrDuplicates, err)
	case errors.Is(err, oprf.ErrSize):
		return fmt.Errorf("%w: %w", ErrSize, err)
	case errors.Is(err, oprf.ErrMessage):
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return err
}

// stream returns a source of randomness of its own for one step.
func (r *run) stream() (*share.Stream, error) {
	s, err := share.NewStream(r.sess.Rand())
	if err != nil {
		return nil, fmt.Errorf("psi/multi: randomness: %w", err)
	}
	return s, nil
}
