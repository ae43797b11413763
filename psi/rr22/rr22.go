// Package rr22 is private set intersection from vector OLE: psi.rr22.v1, for
// sets that are large and about as large as each other.
//
// [Send] and [Receive] are the two roles. The receiver learns which of its own
// rows the sender holds too; with Params.Broadcast the sender learns the same of
// its own, in the same order:
//
//	m, err := rr22.Receive(ctx, s, keys.All(), keys.Len(), rr22.Params{Broadcast: true})
//	// m.Rows[k] at both parties is the same subject
//
// By an oblivious pseudorandom function (mpc/oprf) the receiver learns a hash of
// each of its keys, and the sender can compute it of any key. The sender sends the
// hashes of its keys; the receiver compares.
//
// Security: semi-honest parties; learning parity with noise, decisional
// Diffie-Hellman, AES-128 as an ideal cipher, SHA-256 and SHA-512 as random
// oracles. Params.Malicious is the variant made against a peer that departs from
// the protocol; the page says how much of that is proven. The paper is Raghuraman and Rindal, CCS 2022, https://eprint.iacr.org/2022/320.
// The package's page is docs/protocols/psi-rr22.md: messages, what each party
// learns, what a dishonest one can do.
//
// Time and memory accesses depend on the own keys; a peer sees of it only how
// long a step takes.
package rr22

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"strconv"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
)

// Name of the protocol; a change on the wire is a new name.
const Name = "psi.rr22.v1"

// MaxRows is the most rows a side may hold.
const MaxRows = 1 << 28

// Limits and defaults of Params.
const (
	defaultFalseMatchBits = 40
	minFalseMatchBits     = 30
	maxFalseMatchBits     = 64
)

// Faults that end a session, besides job.ErrMinIntersection,
// [session.ErrMismatch] and those of mpc/ot and mpc/vole.
var (
	ErrMessage    = errors.New("psi/rr22: malformed message")
	ErrSize       = errors.New("psi/rr22: number of rows not supported")
	ErrDuplicates = errors.New("psi/rr22: keys occur more than once")
	ErrDisagree   = errors.New("psi/rr22: the two sides disagree")
	// ErrCheat: a check of Params.Malicious failed.
	ErrCheat = errors.New("psi/rr22: the peer does not follow the protocol")
)

// Params are the public parameters, the same at both parties except for
// MinIntersection. The zero value is the default.
type Params struct {
	// FalseMatchBits bounds the probability, 2^-bits, that any two different
	// keys are taken for one. 0 means 40; 30 to 64.
	FalseMatchBits int
	// Items says what the items are, such as the rule and the number of columns
	// that made them, so that a difference is named instead of matching nothing.
	Items string
	// Broadcast gives the sender the result too.
	Broadcast bool
	// MinIntersection is the smallest number of common rows that may be used; 0
	// means none. The receiver knows its matches by the time they are counted.
	MinIntersection int64
	// Malicious runs the variant made against a peer that does not follow
	// the protocol.
	Malicious bool
}

// Validate reports every fault of p.
func (p Params) Validate() error {
	var errs []error
	if p.FalseMatchBits != 0 && (p.FalseMatchBits < minFalseMatchBits || p.FalseMatchBits > maxFalseMatchBits) {
		errs = append(errs, fmt.Errorf("psi/rr22: false_match_bits is %d, allowed are %d to %d", p.FalseMatchBits, minFalseMatchBits, maxFalseMatchBits))
	}
	if p.MinIntersection < 0 {
		errs = append(errs, errors.New("psi/rr22: the minimum intersection is negative"))
	}
	return errors.Join(errs...)
}

func (p Params) falseMatchBits() int {
	if p.FalseMatchBits == 0 {
		return defaultFalseMatchBits
	}
	return p.FalseMatchBits
}

// hashForm returns the form of the hashes of n rows that are compared with m:
// long enough for all pairs of the two sides, and for the pairs of the n, two of
// which with one hash would end the session.
func (p Params) hashForm(n, m int) (tags.Form, error) {
	need := tags.MaxBits // the tails have the rest
	if !p.Malicious {
		need = p.falseMatchBits() + pairBits(n, m)
	}
	f, err := tags.NewForm(need, n)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrSize, err)
	}
	return f, err
}

// pairBits returns log2 of the number of pairs that must differ, rounded up.
func pairBits(n, m int) int {
	if pairs := uint64(n) * uint64(max(m, n/2)); pairs > 1 {
		return bits.Len64(pairs - 1)
	}
	return 0
}

// Outputs of the protocol, as parameters name them.
const (
	outputBoth     = "both"
	outputReceiver = "receiver"
)

func (p Params) output() string {
	if p.Broadcast {
		return outputBoth
	}
	return outputReceiver
}

func (p Params) fields(sender, receiver session.PartyID, in input) []session.Field {
	fields := append([]session.Field{
		{Name: "sender", Value: string(sender)},
		{Name: "receiver", Value: string(receiver)},
		{Name: "items", Value: p.Items},
		{Name: "item_form", Value: in.form},
		{Name: "false_match_bits", Value: strconv.Itoa(p.falseMatchBits())},
		{Name: "output", Value: p.output()},
	}, oprf.Fields(in.ole)...)
	if p.Malicious {
		fields = append(fields, session.Field{Name: "security", Value: "malicious"})
	}
	return fields
}

// Match is the result of one party: Rows[k] is the index of the own row whose
// key is also that of row Rows[k] of the other party's Match. The sender's is
// empty without Params.Broadcast.
type Match struct{ Rows []int32 }

// Digest is an item that is pseudorandom and of this run alone, such as the
// first bytes of a hash of a fresh seed and a key.
type Digest = [oprf.DigestSize]byte

// Send runs the sender's role on n items, which must be distinct; each is valid
// until the next is asked for. It holds about 60 bytes a row, and 100 MB.
func Send(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params) (Match, error) {
	return send(ctx, s, fromItems(items, n), p)
}

// SendDigests is [Send] for items that need no hashing. Both parties' items are,
// or neither's.
func SendDigests(ctx context.Context, s *session.Session, items []Digest, p Params) (Match, error) {
	return send(ctx, s, fromDigests(items), p)
}

func send(ctx context.Context, s *session.Session, in input, p Params) (Match, error) {
	r, err := begin(ctx, s, true, in, p)
	if err != nil {
		return Match{}, err
	}
	defer r.close()

	// The hashes of the own keys.
	hashes := make([]tags.Tag, r.rows)
	if err := oprf.Send(ctx, r.config, r.takeKeys(), r.enter(hashes)); err != nil {
		return Match{}, r.fault(err)
	}
	if err := r.link.RecvEmpty(ctx, kindCheck); err != nil {
		return Match{}, err
	}

	// They go out in an order that says nothing.
	if err := tags.Sort(ctx, hashes); err != nil {
		return Match{}, err
	}
	if err := r.sendHashes(ctx, hashes); err != nil {
		return Match{}, err
	}
	if err := r.sendTails(ctx, hashes); err != nil {
		return Match{}, err
	}
	if err := r.link.Send(ctx, kindCheck, nil); err != nil {
		return Match{}, err
	}
	if !p.Broadcast {
		if err := r.recvFinished(ctx); err != nil {
			return Match{}, err
		}
		return Match{}, r.link.Send(ctx, kindDone, nil)
	}

	// Which of them are common.
	rows, err := r.recvMatches(ctx, hashes)
	if err != nil {
		return Match{}, err
	}
	count := int64(len(rows))
	if count < p.MinIntersection {
		return Match{}, r.sendBelow(ctx)
	}
	if err := r.link.SendNumber(ctx, kindDone, count); err != nil {
		return Match{}, err
	}
	return Match{Rows: rows}, nil
}

// Receive runs the receiver's role on n items, which must be distinct; each is
// valid until the next is asked for. It holds about 60 bytes a row, and 150 MB.
func Receive(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params) (Match, error) {
	return receive(ctx, s, fromItems(items, n), p)
}

// ReceiveDigests is the other side of [SendDigests].
func ReceiveDigests(ctx context.Context, s *session.Session, items []Digest, p Params) (Match, error) {
	return receive(ctx, s, fromDigests(items), p)
}

func receive(ctx context.Context, s *session.Session, in input, p Params) (Match, error) {
	r, err := begin(ctx, s, false, in, p)
	if err != nil {
		return Match{}, err
	}
	defer r.close()

	// The hashes of the own keys; those are encoded while the vector OLE begins.
	e, err := oprf.Encode(ctx, s.Rand(), r.takeKeys())
	if err != nil {
		return Match{}, err
	}
	defer e.Close()
	hashes := make([]tags.Tag, r.rows)
	if err := e.Receive(ctx, r.config, r.enter(hashes)); err != nil {
		return Match{}, r.fault(err)
	}
	e.Close()
	if err := r.link.Send(ctx, kindCheck, nil); err != nil {
		return Match{}, err
	}

	// The sender's hashes, among the own.
	if err := tags.Sort(ctx, hashes); err != nil {
		return Match{}, err
	}
	m := &matcher{own: hashes}
	if err := r.recvHashes(ctx, m); err != nil {
		return Match{}, err
	}
	if err := r.recvTails(ctx, m); err != nil {
		return Match{}, err
	}
	if err := r.link.RecvEmpty(ctx, kindCheck); err != nil {
		return Match{}, err
	}
	count := int64(len(m.rows))
	if count < p.MinIntersection {
		return Match{}, r.sendBelow(ctx)
	}
	if !p.Broadcast {
		if err := r.link.Send(ctx, kindDone, nil); err != nil {
			return Match{}, err
		}
		if err := r.link.RecvEmpty(ctx, kindDone); err != nil {
			return Match{}, err
		}
		return Match{Rows: m.rows}, nil
	}

	// The matches, over the order of the hashes.
	if err := r.sendMatches(ctx, m.bits); err != nil {
		return Match{}, err
	}
	if err := r.link.SendNumber(ctx, kindDone, count); err != nil {
		return Match{}, err
	}
	if err := r.recvCount(ctx, count); err != nil {
		return Match{}, err
	}
	return Match{Rows: m.rows}, nil
}

// input is the own items, and what makes keys of them.
type input struct {
	n    int
	form string // parties have to agree on it
	keys func(ctx context.Context, transcript [32]byte) ([]gf128.Element, error)
	ole  oprf.OLE // nil but in tests
}

func fromItems(items iter.Seq[[]byte], n int) input {
	return input{n: n, form: "bytes", keys: func(ctx context.Context, transcript [32]byte) ([]gf128.Element, error) {
		return oprf.Keys(ctx, transcript, items, n)
	}}
}

func fromDigests(items []Digest) input {
	return input{n: len(items), form: "digests", keys: func(ctx context.Context, transcript [32]byte) ([]gf128.Element, error) {
		return oprf.KeysOfDigests(ctx, transcript, items)
	}}
}

// run is one party's state in one session. It is single-use.
type run struct {
	params   Params
	sess     *session.Session
	link     *transcript.Link
	keys     []gf128.Element // of the own items, by row
	config   oprf.Config
	form     tags.Form // of the sender's hashes
	tails    []uint32  // of the own hashes, by row; nil for semi-honest parties
	rows     int
	peerRows int
}

// begin agrees on the parameters, hashes the items and exchanges the sizes.
func begin(ctx context.Context, s *session.Session, sender bool, in input, p Params) (*run, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if in.n < 0 || in.n > MaxRows {
		return nil, fmt.Errorf("%w: %d rows, the limit is %d", ErrSize, in.n, MaxRows)
	}
	peer, ch, err := s.Other()
	if err != nil {
		return nil, err
	}
	from, to := s.Self(), peer
	if !sender {
		from, to = peer, s.Self()
	}
	if err := s.Bind(ctx, Name, p.fields(from, to, in)...); err != nil {
		return nil, err
	}
	r := &run{params: p, sess: s, link: protocol.Link(ch, peer, sender), rows: in.n}
	if r.keys, err = in.keys(ctx, s.Transcript()); err != nil {
		return nil, r.fault(err)
	}
	if err := r.exchangeRows(ctx); err != nil {
		return nil, err
	}
	encoded, hashed := r.peerRows, r.rows
	if !sender {
		encoded, hashed = hashed, encoded
	}
	if r.form, err = p.hashForm(hashed, encoded); err != nil {
		return nil, err
	}
	r.config = oprf.Config{Conn: conn{r.link}, Rows: encoded, OLE: in.ole, Malicious: p.Malicious}
	if p.Malicious {
		r.tails = make([]uint32, r.rows)
	}
	r.config.Session, err = s.Fork(ctx, "vole")
	return r, err
}

// close ends the vector OLE's channel.
func (r *run) close() { _ = r.config.Session.CloseSend() } // all has been said, or the run has failed

// takeKeys returns the keys, which r then no longer holds.
func (r *run) takeKeys() []gf128.Element {
	keys := r.keys
	r.keys = nil
	return keys
}

// enter puts the first bits of the hashes that come into hashes.
func (r *run) enter(hashes []tags.Tag) oprf.Output {
	return func(first int, values []gf128.Element, rows []int32) {
		to := hashes[first:]
		for i := range values {
			to[i] = tagOf(r.form, values[i], rows[i])
		}
		if r.tails != nil {
			for i := range values {
				r.tails[rows[i]] = uint32(values[i].Hi)
			}
		}
	}
}

// fault gives the faults of the building block that callers know the names that
// they have here.
func (r *run) fault(err error) error {
	switch {
	case errors.Is(err, oprf.ErrCheat), errors.Is(err, vole.ErrCheat):
		return fmt.Errorf("%w: %w", ErrCheat, err)
	case errors.Is(err, oprf.ErrDuplicates):
		return fmt.Errorf("%w: %w", ErrDuplicates, err)
	case errors.Is(err, oprf.ErrSize):
		return fmt.Errorf("%w: %w", ErrSize, err)
	case errors.Is(err, oprf.ErrMessage):
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return err
}
