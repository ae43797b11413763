// Package ecdh is private set intersection from Diffie-Hellman: psi.ecdh.v1.
//
// [Send] and [Receive] are the two roles. Both learn which of their own rows
// the other side holds too, in one common order, or, below a minimum number of
// common rows, neither does:
//
//	m, err := ecdh.Send(ctx, s, keys.All(), keys.Len(), ecdh.Params{MinIntersection: 100})
//	// m.Rows[k] at both parties is the same subject
//
// With Params.ReceiverOnly the sender learns neither rows nor their number.
// [SendDigests] and [ReceiveDigests] are the same roles on items that are in
// memory.
//
// Each side masks the hashes of its keys with a secret scalar and sends them
// in a secret random order. The sender masks what it got once more and returns
// it as short tags, permuted; so the receiver, which has masked the sender's
// points as well, can count what is common before anyone can tell which rows
// those are. The permutation follows if the count suffices.
//
// [CountSendDigests] and [CountReceiveDigests] end with the count: no permutation
// follows, and nobody learns which rows are common. They are psi.cardinality.v1,
// with names, hashes and a page of their own.
//
// Security: semi-honest parties, decisional Diffie-Hellman in Curve25519,
// random oracle. The package's page is docs/protocols/psi-ecdh.md: messages,
// what each party learns, what a dishonest one can do.
//
// Time does not depend on the value of a key, but on its length, on the number
// of rows and, by some nanoseconds for each, on how many are common.
package ecdh

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"strconv"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/session"
)

// Name of the protocol; a change on the wire is a new name.
const Name = "psi.ecdh.v1"

// MaxRows is the most rows a side may hold.
const MaxRows = 1 << 28

// Limits and defaults of Params.
const (
	defaultFalseMatchBits = 40
	minFalseMatchBits     = 30
	maxFalseMatchBits     = 64
	minTagBytes           = 5
	maxTagBytes           = 12
)

// Faults that end a session, besides job.ErrMinIntersection and
// [session.ErrMismatch].
var (
	ErrMessage    = errors.New("psi/ecdh: malformed message")
	ErrSize       = errors.New("psi/ecdh: number of rows not supported")
	ErrDuplicates = errors.New("psi/ecdh: keys occur more than once")
	ErrDisagree   = errors.New("psi/ecdh: the two sides disagree")
	ErrPoint      = curve25519.ErrPoint
)

// Params are the public parameters, the same at both parties except for
// MinIntersection. The zero value is the default.
type Params struct {
	// FalseMatchBits bounds the probability, 2^-bits, that any two different
	// keys are taken for one. 0 means 40; 30 to 64.
	FalseMatchBits int
	// TagBytes is the length of a tag. 0 means as few as FalseMatchBits and the
	// sizes of the sets need; 5 to 12.
	TagBytes int
	// Items says what the items are, such as the rule and the number of columns
	// that made them, so that a difference is named instead of matching nothing.
	Items string
	// ReceiverOnly keeps the rows, and how many they are, from the sender.
	ReceiverOnly bool
	// MinIntersection is the smallest number of common rows that this party
	// agrees to reveal. 0 means none. With ReceiverOnly, both are told the
	// other's, and the higher holds for both.
	MinIntersection int64
}

// Validate reports every fault of p.
func (p Params) Validate() error {
	var errs []error
	if p.FalseMatchBits != 0 && (p.FalseMatchBits < minFalseMatchBits || p.FalseMatchBits > maxFalseMatchBits) {
		errs = append(errs, fmt.Errorf("psi/ecdh: false_match_bits is %d, allowed are %d to %d", p.FalseMatchBits, minFalseMatchBits, maxFalseMatchBits))
	}
	if p.TagBytes != 0 && (p.TagBytes < minTagBytes || p.TagBytes > maxTagBytes) {
		errs = append(errs, fmt.Errorf("psi/ecdh: tag_bytes is %d, allowed are %d to %d", p.TagBytes, minTagBytes, maxTagBytes))
	}
	if p.MinIntersection < 0 {
		errs = append(errs, errors.New("psi/ecdh: the minimum intersection is negative"))
	}
	return errors.Join(errs...)
}

func (p Params) falseMatchBits() int {
	if p.FalseMatchBits == 0 {
		return defaultFalseMatchBits
	}
	return p.FalseMatchBits
}

// tagBytes returns the length of a tag for sets of n and m rows.
func (p Params) tagBytes(n, m int) (int, error) {
	pairs := 0 // log2 of the number of pairs, rounded up
	if nm := uint64(n) * uint64(m); nm > 1 {
		pairs = bits.Len64(nm - 1)
	}
	need := max((p.falseMatchBits()+pairs+7)/8, minTagBytes)
	have := p.TagBytes
	if have == 0 {
		// Two keys of one side whose tags agree end the session. A side that is
		// much the larger has more such pairs than there are across, and gets
		// longer tags as far as there are any.
		within := 0
		if most := uint64(max(n, m)); most > 1 {
			within = bits.Len64(most*most/2 - 1)
		}
		have = min(max(need, (p.falseMatchBits()+within+7)/8), maxTagBytes)
	}
	if have < need {
		return 0, fmt.Errorf("%w: %d and %d rows need tags of %d bytes for false_match_bits %d, and tags have %d",
			ErrSize, n, m, need, p.falseMatchBits(), have)
	}
	return have, nil
}

func (p Params) fields(sender, receiver session.PartyID) []session.Field {
	tags, to := "auto", "both"
	if p.ReceiverOnly {
		to = "receiver"
	}
	if p.TagBytes != 0 {
		tags = strconv.Itoa(p.TagBytes)
	}
	return []session.Field{
		{Name: "sender", Value: string(sender)},
		{Name: "receiver", Value: string(receiver)},
		{Name: "suite", Value: curve25519.Suite},
		{Name: "items", Value: p.Items},
		{Name: "false_match_bits", Value: strconv.Itoa(p.falseMatchBits())},
		{Name: "tag_bytes", Value: tags},
		{Name: "rows_to", Value: to},
	}
}

// Match is the result of one party: Rows[k] is the index of the own row whose
// key is also that of row Rows[k] of the other party's Match.
// A sender that is not told has none.
type Match struct{ Rows []int32 }

// Send runs the sender's role on n items, which must be distinct; each is valid
// until the next is asked for. It holds about 60 bytes a row.
func Send(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params) (Match, error) {
	return send(ctx, s, sequence{items, n}, p)
}

// SendDigests is Send on items of 16 bytes each, which should look random, as
// digests do. It holds about 30 bytes a row beside them.
func SendDigests(ctx context.Context, s *session.Session, items [][16]byte, p Params) (Match, error) {
	return send(ctx, s, digests(items), p)
}

func send(ctx context.Context, s *session.Session, items source, p Params) (Match, error) {
	r, err := begin(ctx, s, true, items, p)
	if err != nil {
		return Match{}, err
	}
	defer r.scalar.Wipe()

	// Both streams of points at once. The receiver's become tags.
	tags, err := r.exchangePoints(ctx)
	if err != nil {
		return Match{}, err
	}

	// An item sent several times would come back as so many equal tags, and tell
	// by their number which row it was: the order hides distinct items only.
	if err := r.refuseRepeated(ctx, tags); err != nil {
		return Match{}, err
	}

	// The tags go back in a secret order.
	var seed [seedSize]byte
	if err := r.draw(seed[:]); err != nil {
		return Match{}, err
	}
	if err := r.sendTags(ctx, tags, permutation(seed, r.peerRows)); err != nil {
		return Match{}, err
	}
	tags = nil //nolint:ineffassign,wastedassign // gives the memory back while the rest runs
	if err := r.sendCheck(ctx); err != nil {
		return Match{}, err
	}
	if p.ReceiverOnly {
		// That there are enough, the order, and that all went well.
		if err := r.recvEnough(ctx); err != nil {
			return Match{}, err
		}
		if err := r.sendSeed(ctx, seed); err != nil {
			return Match{}, err
		}
		return Match{}, r.recvDone(ctx, untold)
	}

	// The count, and the order if it suffices.
	count, err := r.recvCount(ctx)
	if err != nil {
		return Match{}, err
	}
	if count < r.params.MinIntersection {
		return Match{}, r.sendBelow(ctx)
	}
	if err := r.sendSeed(ctx, seed); err != nil {
		return Match{}, err
	}

	// The matches, over the order in which the own points were sent.
	rows, err := r.recvMatches(ctx, count)
	if err != nil {
		return Match{}, err
	}
	if err := r.recvDone(ctx, count); err != nil {
		return Match{}, err
	}
	if err := r.sendDone(ctx, count); err != nil {
		return Match{}, err
	}
	return Match{Rows: rows}, nil
}

// Receive runs the receiver's role on n items, which must be distinct; each is
// valid until the next is asked for. It holds about 60 bytes a row.
func Receive(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params) (Match, error) {
	return receive(ctx, s, sequence{items, n}, p)
}

// ReceiveDigests is Receive on items of 16 bytes each, which should look
// random, as digests do. It holds about 60 bytes a row beside them.
func ReceiveDigests(ctx context.Context, s *session.Session, items [][16]byte, p Params) (Match, error) {
	return receive(ctx, s, digests(items), p)
}

func receive(ctx context.Context, s *session.Session, items source, p Params) (Match, error) {
	r, err := begin(ctx, s, false, items, p)
	if err != nil {
		return Match{}, err
	}
	defer r.scalar.Wipe()

	// Both streams of points at once. The sender's become tags.
	theirs, err := r.exchangePoints(ctx)
	if err != nil {
		return Match{}, err
	}

	// The own rows come back as tags in the sender's secret order: matched[j]
	// is one more than the place at which row j of the sender was found.
	own, err := r.recvTags(ctx)
	if err != nil {
		return Match{}, err
	}
	if err := r.recvCheck(ctx); err != nil {
		return Match{}, err
	}
	matched, count, err := r.match(ctx, theirs, own)
	if err != nil {
		return Match{}, err
	}
	theirs, own = nil, nil //nolint:ineffassign,wastedassign // gives the memory back while the rest runs

	// The count. Up to here nobody can tell which rows are common.
	if count < r.params.MinIntersection {
		return Match{}, r.sendBelow(ctx)
	}
	if p.ReceiverOnly {
		err = r.sendEnough(ctx)
	} else {
		err = r.sendCount(ctx, count)
	}
	if err != nil {
		return Match{}, err
	}
	seed, err := r.recvSeed(ctx)
	if err != nil {
		return Match{}, err
	}

	// The matches, in the sender's sent order. A sender that is not told how many
	// they are is not made to wait for them either.
	if p.ReceiverOnly {
		if err := r.sendDone(ctx, untold); err != nil {
			return Match{}, err
		}
		return Match{Rows: r.ordered(matched, count, seed)}, nil
	}
	rows := r.ordered(matched, count, seed)
	if err := r.sendMatches(ctx, matched); err != nil {
		return Match{}, err
	}
	if err := r.sendDone(ctx, count); err != nil {
		return Match{}, err
	}
	if err := r.recvDone(ctx, count); err != nil {
		return Match{}, err
	}
	return Match{Rows: rows}, nil
}

// ordered returns the own rows that are common, in the sender's sent order.
func (r *run) ordered(matched []int32, count int64, seed [seedSize]byte) []int32 {
	perm := permutation(seed, r.rows)
	rows := make([]int32, 0, count)
	for _, m := range matched {
		if m != 0 {
			rows = append(rows, r.order[perm[m-1]])
		}
	}
	return rows
}
