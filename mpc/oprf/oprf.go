// Package oprf evaluates a pseudorandom function on many keys obliviously: the
// receiver learns F of its own keys and the sender, who learns nothing of them,
// can compute F of any key. Key-value store and vector OLE make it cheap: about
// a microsecond and 20 bytes a key of the receiver.
//
//	// the sender
//	err := oprf.Send(ctx, cfg, keys, use)
//
//	// the receiver
//	e, err := oprf.Encode(ctx, s.Rand(), keys)
//	defer e.Close()
//	err = e.Receive(ctx, cfg, use)
//
// The receiver encodes its keys (mpc/okvs) and sends the vector under the mask
// of a vector OLE (mpc/vole):
//
//	sender (x₁ …)                                       receiver (y₁ … yₙ)
//	                                                    p encodes yᵢ ↦ value(yᵢ)
//	Δ, b                           ◀─ vector OLE ─▶     a, c = b + Δ·a
//	b' = b + Δ·(p + a)                  ◀───            seed, p + a
//	F(x) = final(⟨x, b'⟩ + Δ·value(x))                  F(y) = final(⟨y, c⟩)
//
// Security: semi-honest parties; learning parity with noise; AES-128 as an ideal
// cipher. Config.Malicious is the variant for parties that do not follow the
// protocol. The paper is Raghuraman and Rindal, CCS 2022,
// https://eprint.iacr.org/2022/320; the page is docs/protocols/oprf.md.
//
// A run is single-use: Δ, the noise and F are of that run alone. Messages are
// checked for their lengths; the protocol around notices one that was changed
// (see [Conn]). Time and memory accesses depend on the own keys.
package oprf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/okvs"
	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// Version names the construction; a change on the wire, or of F, is a new one.
const Version = "mpc.oprf.v1"

// MaxKeys is the most keys that a party may hold.
const MaxKeys = okvs.MaxRows

// Faults that end a run, besides those of mpc/vole, mpc/ot and the Conn.
var (
	ErrMessage    = errors.New("oprf: malformed message")
	ErrSize       = errors.New("oprf: number of keys not supported")
	ErrDuplicates = okvs.ErrDuplicates
	// ErrCheat: a check of Config.Malicious failed.
	ErrCheat = errors.New("oprf: the peer does not follow the protocol")
)

// Conn carries the messages of a run, all of them from the receiver to the
// sender, in order and whole. The protocol whose messages they are has to hold
// both sides to the same bytes before the sender says anything that depends on
// what it has computed.
type Conn interface {
	Send(ctx context.Context, p []byte) error
	Recv(ctx context.Context) ([]byte, error)
}

// Config is what the two parties of a run agree on.
type Config struct {
	// Session is of the two parties and for the vector OLE alone, which binds
	// it. The caller ends it.
	Session *session.Session
	Conn    Conn
	// Rows is the receiver's number of keys.
	Rows int
	// OLE is the vector OLE; nil means mpc/vole.
	OLE OLE
	// Malicious makes F, and with the default OLE what it rests on, one that holds
	// against a peer that does not follow the protocol. Both parties have it or
	// neither: the protocol around compares that.
	Malicious bool
}

// Fields returns what the two parties have to agree on by name, for the first
// frame of the protocol around; ole may be nil.
func Fields(ole OLE) []session.Field {
	return []session.Field{
		{Name: "oprf", Value: Version}, {Name: "okvs", Value: okvs.Version}, {Name: "vole", Value: orSilent(ole).Name()},
	}
}

func (c Config) layout() (okvs.Layout, error) {
	l, err := okvs.NewLayout(c.Rows)
	if err != nil {
		return l, fmt.Errorf("%w: %w", ErrSize, err)
	}
	return l, nil
}

// Output takes F of some of the keys: values[i] is that of the key that was
// given in place rows[i], and first is how many keys come before these in the
// order of the bins; every place below the number of keys is filled once. Calls
// come from several goroutines; values is valid until the call returns.
type Output func(first int, values []gf128.Element, rows []int32)

// The hashes: of a key to the value that it has in the vector, and of what is
// decoded to F.
var (
	valueHash = aeshash.Named("yinqiao/" + Version + "/value")
	finalHash = aeshash.Named("yinqiao/" + Version + "/final")
)

// Send runs the sender's role and hands F of its keys, which must be distinct,
// to out. It keeps none of them: a caller that drops them saves 16 bytes a key.
// It holds 20 bytes a key and those of a piece of the vector OLE.
func Send(ctx context.Context, cfg Config, keys []gf128.Element, out Output) error {
	l, err := cfg.layout()
	if err != nil {
		return err
	}
	ole := cfg.ole()

	// b of the vector OLE with the receiver, which has a and c = b + Δ·a,
	v, err := ole.Sender(ctx, cfg.Session)
	if err != nil {
		return err
	}
	// and p + a of its vector p: b + Δ·(p + a) is c + Δ·p, which decodes to what
	// c does plus Δ times what p does. For a key of the receiver that is
	// Δ·value(key).
	var t *okvs.Table
	for pc := range pieces(l, ole.Piece()) {
		coin, err := cfg.commitCoin(ctx, pc.firstBin)
		if err != nil {
			return err
		}
		b, err := v.Extend(ctx, pc.drawn)
		if err != nil {
			return err
		}
		b = b[:pc.size]
		if t == nil {
			if t, err = recvSeed(ctx, cfg.Conn, l, keys); err != nil {
				return err
			}
			keys = nil
		}
		if err := recvVector(ctx, cfg.Conn, b, v.Delta()); err != nil {
			return err
		}
		if err := cfg.openCoin(ctx, coin); err != nil {
			return err
		}
		if err := decode(ctx, cfg.Session, t, pc, b, v.Delta(), coin, out); err != nil {
			return err
		}
	}
	return nil
}

// Encoding is a receiver's keys on their way into a vector.
type Encoding struct {
	rows   int
	vector []gf128.Element
	table  *okvs.Table
	work   errgroup.Group // computes them
	cancel context.CancelFunc
}

// Encode begins to encode keys, which must be distinct, and returns. It keeps
// none of them; the vector and the table take 40.5 bytes a key. Its randomness
// is taken from rnd before it returns, so that a source that is no crypto/rand
// is read in one order. Close ends it.
func Encode(ctx context.Context, rnd io.Reader, keys []gf128.Element) (*Encoding, error) {
	stream, err := share.NewStream(rnd)
	if err != nil {
		return nil, fmt.Errorf("oprf: randomness: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	e := &Encoding{rows: len(keys), cancel: cancel}
	e.work.Go(func() (err error) {
		e.vector, e.table, err = okvs.Encode(ctx, stream, keys, func(dst, keys []gf128.Element, _ []int32) {
			valueHash.Hash(dst, keys)
		})
		keys = nil
		return err
	})
	return e, nil
}

// Close ends what is still going on, waits for that and drops the vector.
func (e *Encoding) Close() {
	e.cancel()
	_ = e.work.Wait() // whoever needs the vector has its error
	e.vector, e.table = nil, nil
}

// Receive runs the receiver's role with one sender and hands F of the keys to
// out. It may be called for several senders, at once too: each has a function of
// its own. It holds a piece of the vector OLE.
func (e *Encoding) Receive(ctx context.Context, cfg Config, out Output) error {
	if cfg.Rows != e.rows {
		return fmt.Errorf("%w: %d were encoded and %d announced", ErrSize, e.rows, cfg.Rows)
	}
	l, err := cfg.layout()
	if err != nil {
		return err
	}
	ole := cfg.ole()
	v, err := ole.Receiver(ctx, cfg.Session)
	if err != nil {
		return err
	}
	for pc := range pieces(l, ole.Piece()) {
		coin, err := cfg.awaitCoin(ctx, pc.firstBin)
		if err != nil {
			return err
		}
		a, c, err := v.Extend(ctx, pc.drawn)
		if err != nil {
			return err
		}
		if err := e.work.Wait(); err != nil {
			return err
		}
		if pc.firstBin == 0 {
			if err := cfg.Conn.Send(ctx, e.table.Seed[:]); err != nil {
				return err
			}
		}
		a, c = a[:pc.size], c[:pc.size]
		gf128.Add(a, e.vector[pc.start:])
		if err := sendVector(ctx, cfg.Conn, a); err != nil {
			return err
		}
		if err := cfg.tossCoin(ctx, coin); err != nil {
			return err
		}
		if err := decode(ctx, cfg.Session, e.table, pc, c, gf128.Element{}, coin, out); err != nil {
			return err
		}
	}
	return nil
}

// piece is a part of the vector that is made at a time: bins from firstBin to,
// but without, endBin.
type piece struct {
	firstBin, endBin int
	start, size      int // in elements of the vector
	drawn            int // elements of vector OLE to make for it: the same for all pieces
}

// pieces cuts the vector into pieces of about the same size and of at most
// limit elements, or one bin.
func pieces(l okvs.Layout, limit int) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		stride := l.Stride()
		most := max(1, limit/stride) // bins
		n := (l.Bins + most - 1) / most
		for i := range n {
			from, to := l.Bins*i/n, l.Bins*(i+1)/n
			if !yield(piece{from, to, from * stride, (to - from) * stride, (l.Bins + n - 1) / n * stride}) {
				return
			}
		}
	}
}

// decode computes F of the own keys in the bins of a piece, which decode from v,
// plus delta times each key's value; the coin makes F of that.
func decode(ctx context.Context, s *session.Session, t *okvs.Table, pc piece, v []gf128.Element, delta gf128.Element, coin *coin, out Output) error {
	stride := t.Layout.Stride()
	err := parallel.Each(ctx, pc.endBin-pc.firstBin, 1, func() func(lo, hi int) error {
		var values []gf128.Element
		return func(i, _ int) error {
			bin := pc.firstBin + i
			keys, rows := t.Bin(bin)
			values = slices.Grow(values[:0], len(keys))[:len(keys)]
			t.DecodeBin(bin, values, v[i*stride:][:stride])
			if !delta.IsZero() {
				addValues(values, keys, delta)
			}
			coin.finish(values, keys)
			out(t.Start(bin), values, rows)
			return nil
		}
	})
	s.Progress("decode", int64(t.Start(pc.endBin)), int64(t.Len()))
	return err
}

// addValues adds delta times each key's value to what was decoded for it.
func addValues(dst, keys []gf128.Element, delta gf128.Element) {
	var values [256]gf128.Element
	for len(keys) > 0 {
		n := min(len(keys), len(values))
		valueHash.Hash(values[:n], keys[:n])
		gf128.MulAdd(dst[:n], values[:n], delta)
		dst, keys = dst[n:], keys[n:]
	}
}

// recvSeed returns the own keys, arranged under the receiver's seed.
func recvSeed(ctx context.Context, c Conn, l okvs.Layout, keys []gf128.Element) (*okvs.Table, error) {
	body, err := c.Recv(ctx)
	if err != nil {
		return nil, err
	}
	seed, err := parseSeed(body)
	if err != nil {
		return nil, err
	}
	t, err := okvs.Arrange(ctx, l, seed, keys)
	if err != nil {
		return nil, err
	}
	n, err := t.Duplicates(ctx)
	if err == nil && n > 0 {
		err = fmt.Errorf("%w: %d of %d", ErrDuplicates, n, len(keys))
	}
	return t, err
}

func parseSeed(body []byte) (seed okvs.Seed, err error) {
	if len(body) != okvs.SeedSize {
		return seed, fmt.Errorf("%w: a seed of %d bytes, %d were due", ErrMessage, len(body), okvs.SeedSize)
	}
	return okvs.Seed(body), nil
}

// chunkElements is how many elements of the vector go into one message.
const chunkElements = 16_128

func sendVector(ctx context.Context, c Conn, v []gf128.Element) error {
	body := make([]byte, 0, min(chunkElements, len(v))*gf128.Size)
	for part := range slices.Chunk(v, chunkElements) {
		body = gf128.AppendBytes(body[:0], part)
		if err := c.Send(ctx, body); err != nil {
			return err
		}
	}
	return nil
}

// recvVector adds delta times the vector's next elements to b.
func recvVector(ctx context.Context, c Conn, b []gf128.Element, delta gf128.Element) error {
	buf := make([]gf128.Element, min(chunkElements, len(b)))
	for part := range slices.Chunk(b, chunkElements) {
		body, err := c.Recv(ctx)
		if err != nil {
			return err
		}
		if err := parseVector(buf[:len(part)], body); err != nil {
			return err
		}
		gf128.MulAdd(part, buf[:len(part)], delta)
	}
	return nil
}

// parseVector fills dst, all that the body may hold.
func parseVector(dst []gf128.Element, body []byte) error {
	if len(body) != len(dst)*gf128.Size {
		return fmt.Errorf("%w: %d bytes of the vector, %d were due", ErrMessage, len(body), len(dst)*gf128.Size)
	}
	gf128.Load(dst, body)
	return nil
}
