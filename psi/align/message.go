package align

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// Kinds of messages, in the order of the diagram.
const (
	kindHello transcript.Kind = 1 + iota
	kindInput
	kindFinished
	kindCount
	kindBelow
	kindMultiplicities
	kindUnmatched
	kindDone
)

var messages = transcript.Protocol{
	Prefix: "psi/align",
	Kinds: []string{
		kindHello: "hello", kindInput: "input", kindFinished: "finished", kindCount: "count", kindBelow: "below",
		kindMultiplicities: "multiplicities", kindUnmatched: "unmatched", kindDone: "done",
	},
	Sealed:     []transcript.Kind{kindInput, kindDone},
	ErrMessage: ErrMessage, ErrDisagree: ErrDisagree,
}

// Lengths in bytes.
const (
	nonceSize      = 32
	tagSize        = 16 // names the seed of an earlier attempt
	commitmentSize = 32
	digestSize     = 16 // of an outcome
)

// both sends and receives at once, so that neither party waits for the other.
func both(ctx context.Context, send, recv func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return send(ctx) })
	g.Go(func() error { return recv(ctx) })
	return g.Wait()
}

// hello begins a run: a nonce, and the tag of the attempt that the party would
// go on with, zero where there is none.
type hello struct {
	nonce [nonceSize]byte
	tag   [tagSize]byte
}

func (h hello) append(b []byte) []byte { return append(append(b, h.nonce[:]...), h.tag[:]...) }

func parseHello(body []byte) (h hello, err error) {
	if err := messages.CheckLength(body, nonceSize+tagSize, "hello"); err != nil {
		return h, err
	}
	copy(h.nonce[:], body)
	copy(h.tag[:], body[nonceSize:])
	return h, nil
}

// input is what a party says of its own: how many distinct keys, and a
// commitment by which a later attempt knows them again.
type input struct {
	distinct   int64
	commitment [commitmentSize]byte
}

func (in input) append(b []byte) []byte {
	return append(transcript.AppendNumber(b, in.distinct), in.commitment[:]...)
}

func parseInput(body []byte) (in input, err error) {
	r := wire.NewReader(body)
	n := r.Uvarint(1 << 62)
	c := r.Fixed(commitmentSize)
	if err := r.Done(); err != nil {
		return in, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if n > MaxRows {
		return in, fmt.Errorf("%w: the peer has %d keys, the limit is %d", ErrSize, n, MaxRows)
	}
	return input{int64(n), [commitmentSize]byte(c)}, nil
}

// outcomeID tells one execution of a partition from another.
type outcomeID = [digestSize]byte

// appendFinished appends which partitions are finished, a bit each, and then the
// digest of each of those. A zero digest is one that is not.
func appendFinished(b []byte, ids []outcomeID) []byte {
	at := len(b)
	b = append(b, make([]byte, (len(ids)+7)/8)...)
	for p, id := range ids {
		if id != (outcomeID{}) {
			b[at+p/8] |= 1 << (p % 8)
			b = append(b, id[:]...)
		}
	}
	return b
}

// parseFinished is the inverse of appendFinished for parts partitions.
func parseFinished(body []byte, parts int) ([]outcomeID, error) {
	bits := body[:min(len(body), (parts+7)/8)]
	if err := messages.CheckBitmap(bits, parts); err != nil {
		return nil, err
	}
	ids := make([]outcomeID, parts)
	rest := body[len(bits):]
	for p := range ids {
		if bits[p/8]>>(p%8)&1 == 0 {
			continue
		}
		if len(rest) < digestSize {
			return nil, fmt.Errorf("%w: fewer digests than finished partitions", ErrMessage)
		}
		if ids[p] = outcomeID(rest); ids[p] == (outcomeID{}) {
			return nil, fmt.Errorf("%w: a finished partition without a digest", ErrMessage)
		}
		rest = rest[digestSize:]
	}
	return ids, messages.CheckLength(rest, 0, "what follows the digests")
}

// multiplicityChunk is how many bytes of multiplicities go into one message.
const multiplicityChunk = 255 << 10

// parseMultiplicities hands the numbers of a message, of which at most limit are
// due, to use.
func parseMultiplicities(body []byte, limit int64, use func(n int64) error) (count int64, err error) {
	r := wire.NewReader(body)
	for r.Len() > 0 {
		n := r.Uvarint(maxJoined)
		if r.Err() != nil {
			break
		}
		if count++; n == 0 || count > limit {
			return 0, fmt.Errorf("%w: a key without rows, or more keys than are common", ErrMessage)
		}
		if err := use(int64(n)); err != nil {
			return 0, err
		}
	}
	if err := r.Done(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if count == 0 {
		return 0, fmt.Errorf("%w: a message without multiplicities", ErrMessage)
	}
	return count, nil
}

// totals are the counts of a result.
type totals struct{ common, joined int64 }

func (t totals) append(b []byte) []byte {
	return binary.AppendUvarint(transcript.AppendNumber(b, t.common), uint64(t.joined))
}

func parseTotals(body []byte) (t totals, err error) {
	r := wire.NewReader(body)
	t.common, t.joined = int64(r.Uvarint(MaxRows)), int64(r.Uvarint(maxJoined))
	if err := r.Done(); err != nil {
		return t, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return t, nil
}
