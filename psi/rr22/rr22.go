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
// The receiver encodes its keys in an oblivious key-value store (mpc/okvs) and
// sends it under the mask of a vector OLE (mpc/vole). With its own half of that,
// the sender can compute a hash of any key, and the receiver of its own keys
// only. The sender sends the hashes of its keys; the receiver compares.
//
// Security: semi-honest parties; learning parity with noise, decisional
// Diffie-Hellman, AES-128 as an ideal cipher, SHA-256 and SHA-512 as random
// oracles. The paper is Raghuraman and Rindal, CCS 2022, https://eprint.iacr.org/2022/320.
// The package's page is docs/protocols/psi-rr22.md: messages, what each party
// learns, what a dishonest one can do.
//
// Time and memory accesses depend on the own keys; a peer sees of it only how
// long a step takes.
package rr22

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/okvs"
	"github.com/yinqiao/yinqiao/session"
)

// Name of the protocol; a change on the wire is a new name.
const Name = "psi.rr22.v1"

// MaxRows is the most rows a side may hold.
const MaxRows = 1 << 28

// Limits and defaults of Params.
const (
	DefaultFalseMatchBits = 40
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
		return DefaultFalseMatchBits
	}
	return p.FalseMatchBits
}

// hashForm returns the form of the hashes of n rows that are compared with m:
// long enough for all pairs of the two sides, and for the pairs of the n, two of
// which with one hash would end the session.
func (p Params) hashForm(n, m int) (hashForm, error) {
	pairs := 0 // log2 of the number of pairs, rounded up
	if nm := uint64(n) * uint64(max(m, n/2)); nm > 1 {
		pairs = bits.Len64(nm - 1)
	}
	return newHashForm(p.falseMatchBits()+pairs, n)
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

func (p Params) fields(sender, receiver session.PartyID, vole string) []session.Field {
	return []session.Field{
		{Name: "sender", Value: string(sender)},
		{Name: "receiver", Value: string(receiver)},
		{Name: "okvs", Value: okvs.Version},
		{Name: "vole", Value: vole},
		{Name: "items", Value: p.Items},
		{Name: "false_match_bits", Value: strconv.Itoa(p.falseMatchBits())},
		{Name: "output", Value: p.output()},
	}
}

// Match is the result of one party: Rows[k] is the index of the own row whose
// key is also that of row Rows[k] of the other party's Match. The sender's is
// empty without Params.Broadcast.
type Match struct{ Rows []int32 }

// Send runs the sender's role on n items, which must be distinct; each is valid
// until the next is asked for. It holds about 60 bytes a row, and 100 MB.
func Send(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params) (Match, error) {
	return send(ctx, s, items, n, p, silent{})
}

func send(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params, c correlator) (Match, error) {
	r, err := begin(ctx, s, true, items, n, p, c)
	if err != nil {
		return Match{}, err
	}
	defer r.close()

	// b of the vector OLE with the receiver, which has a and c = b + Δ·a,
	v, err := c.sender(ctx, r.sub)
	if err != nil {
		return Match{}, err
	}
	// and p + a of its vector p: b + Δ·(p + a) is c + Δ·p, which decodes to what
	// c does plus Δ times what p does. For a key of the receiver that is
	// Δ·value(key).
	var table *okvs.Table
	entries := make([]entry, n)
	for pc := range r.pieces(c.piece()) {
		b, err := v.Extend(ctx, pc.drawn)
		if err != nil {
			return Match{}, err
		}
		b = b[:pc.size]
		if pc.first {
			if table, err = r.recvSeed(ctx); err != nil {
				return Match{}, err
			}
		}
		if err := r.recvVector(ctx, b, v.Delta()); err != nil {
			return Match{}, err
		}
		if err := r.decode(ctx, table, pc, b, v.Delta(), entries); err != nil {
			return Match{}, err
		}
	}
	if err := r.link.empty(ctx, kindCheck); err != nil {
		return Match{}, err
	}

	// The hashes, in an order that says nothing.
	if err := sortEntries(ctx, entries); err != nil {
		return Match{}, err
	}
	if err := r.sendHashes(ctx, entries); err != nil {
		return Match{}, err
	}
	if err := r.link.send(ctx, kindCheck, nil); err != nil {
		return Match{}, err
	}
	if !p.Broadcast {
		if err := r.recvFinished(ctx); err != nil {
			return Match{}, err
		}
		return Match{}, r.link.send(ctx, kindDone, nil)
	}

	// Which of them are common.
	rows, err := r.recvMatches(ctx, entries)
	if err != nil {
		return Match{}, err
	}
	count := int64(len(rows))
	if count < p.MinIntersection {
		return Match{}, r.sendBelow(ctx)
	}
	if err := r.sendCount(ctx, count); err != nil {
		return Match{}, err
	}
	return Match{Rows: rows}, nil
}

// Receive runs the receiver's role on n items, which must be distinct; each is
// valid until the next is asked for. It holds about 60 bytes a row, and 150 MB.
func Receive(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params) (Match, error) {
	return receive(ctx, s, items, n, p, silent{})
}

func receive(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, p Params, c correlator) (Match, error) {
	r, err := begin(ctx, s, false, items, n, p, c)
	if err != nil {
		return Match{}, err
	}
	defer r.close()

	// The vector is encoded while the vector OLE begins.
	encoding, err := r.encode(ctx)
	if err != nil {
		return Match{}, err
	}
	defer encoding.stop()
	v, err := c.receiver(ctx, r.sub)
	if err != nil {
		return Match{}, err
	}
	entries := make([]entry, n)
	for pc := range r.pieces(c.piece()) {
		a, sum, err := v.Extend(ctx, pc.drawn)
		if err != nil {
			return Match{}, err
		}
		if err := encoding.wait(); err != nil {
			return Match{}, err
		}
		if pc.first {
			if err := r.link.send(ctx, kindSeed, encoding.table.Seed[:]); err != nil {
				return Match{}, err
			}
		}
		a, sum = a[:pc.size], sum[:pc.size]
		gf128.Add(a, encoding.vector[pc.start:])
		if err := r.sendVector(ctx, a); err != nil {
			return Match{}, err
		}
		if err := r.decode(ctx, encoding.table, pc, sum, gf128.Element{}, entries); err != nil {
			return Match{}, err
		}
	}
	encoding.vector, encoding.table = nil, nil
	if err := r.link.send(ctx, kindCheck, nil); err != nil {
		return Match{}, err
	}

	// The sender's hashes, among the own.
	if err := sortEntries(ctx, entries); err != nil {
		return Match{}, err
	}
	m := &matcher{own: entries}
	if err := r.recvHashes(ctx, m); err != nil {
		return Match{}, err
	}
	if err := r.link.empty(ctx, kindCheck); err != nil {
		return Match{}, err
	}
	count := int64(len(m.rows))
	if count < p.MinIntersection {
		return Match{}, r.sendBelow(ctx)
	}
	if !p.Broadcast {
		if err := r.link.send(ctx, kindDone, nil); err != nil {
			return Match{}, err
		}
		if err := r.link.empty(ctx, kindDone); err != nil {
			return Match{}, err
		}
		return Match{Rows: m.rows}, nil
	}

	// The matches, over the order of the hashes.
	if err := r.sendMatches(ctx, m.bits); err != nil {
		return Match{}, err
	}
	if err := r.sendCount(ctx, count); err != nil {
		return Match{}, err
	}
	if err := r.recvCount(ctx, count); err != nil {
		return Match{}, err
	}
	return Match{Rows: m.rows}, nil
}

// run is one party's state in one session. It is single-use.
type run struct {
	params   Params
	sess     *session.Session
	sub      *session.Session // of the vector OLE
	link     *link
	keys     []gf128.Element // digests of the own items, by row
	layout   okvs.Layout     // of the receiver's rows
	form     hashForm        // of the sender's hashes
	rows     int
	peerRows int
}

// begin agrees on the parameters, hashes the items and exchanges the sizes.
func begin(ctx context.Context, s *session.Session, sender bool, items iter.Seq[[]byte], n int, p Params, c correlator) (*run, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if n < 0 || n > MaxRows {
		return nil, fmt.Errorf("%w: %d rows, the limit is %d", ErrSize, n, MaxRows)
	}
	peer, ch, err := s.Other()
	if err != nil {
		return nil, err
	}
	from, to := s.Self(), peer
	if !sender {
		from, to = peer, s.Self()
	}
	if err := s.Bind(ctx, Name, p.fields(from, to, c.name())...); err != nil {
		return nil, err
	}
	r := &run{params: p, link: newLink(ch, peer, sender), sess: s, rows: n}
	if r.keys, err = digestItems(ctx, s.Transcript(), items, n); err != nil {
		return nil, err
	}
	if err := r.exchangeRows(ctx); err != nil {
		return nil, err
	}
	encoded, hashed := r.peerRows, r.rows
	if !sender {
		encoded, hashed = hashed, encoded
	}
	if r.layout, err = okvs.NewLayout(encoded); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSize, err)
	}
	if r.form, err = p.hashForm(hashed, encoded); err != nil {
		return nil, err
	}
	r.sub, err = s.Fork(ctx, "vole")
	return r, err
}

// close ends the vector OLE's channel.
func (r *run) close() { r.sub.CloseSend() }

// digestItems returns the first 16 bytes of SHA-256 over the transcript, which
// makes them worthless in another session, and each of n items.
func digestItems(ctx context.Context, transcript [32]byte, items iter.Seq[[]byte], n int) ([]gf128.Element, error) {
	digests := make([]gf128.Element, n)
	// Items are valid until the next one only: a batch is copied and then
	// hashed by all workers.
	const batch, block = 1 << 14, 1 << 11
	var arena []byte
	ends := make([]int, 1, batch+1)
	done := 0
	flush := func() error {
		n := len(ends) - 1
		err := parallel(ctx, (n+block-1)/block, func(b int) error {
			buf := append(make([]byte, 0, 256), transcript[:]...)
			for i := b * block; i < min((b+1)*block, n); i++ {
				buf = append(buf[:len(transcript)], arena[ends[i]:ends[i+1]]...)
				d := sha256.Sum256(buf)
				digests[done+i] = gf128.FromBytes([gf128.Size]byte(d[:gf128.Size]))
			}
			return nil
		})
		done += n
		arena, ends = arena[:0], ends[:1]
		return err
	}
	seen := 0
	for item := range items {
		if seen++; seen > n {
			break
		}
		arena = append(arena, item...)
		if ends = append(ends, len(arena)); len(ends) > batch {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	if seen != n {
		return nil, fmt.Errorf("%w: %d rows were announced and the source has more or fewer", ErrSize, n)
	}
	return digests, flush()
}

func (r *run) exchangeRows(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.link.send(gctx, kindRows, appendNumber(nil, int64(r.rows))) })
	g.Go(func() error {
		body, err := r.link.recv(gctx, kindRows)
		if err != nil {
			return err
		}
		n, err := parseRows(body)
		r.peerRows = n
		return err
	})
	return g.Wait()
}

// The hashes of this protocol: of a key to the value that it has in the vector,
// and of what is decoded to what is compared.
var (
	valueHash = aeshash.Named("yinqiao/" + Name + "/value")
	finalHash = aeshash.Named("yinqiao/" + Name + "/final")
)

// encoding is the receiver's vector in the making.
type encoding struct {
	vector []gf128.Element
	table  *okvs.Table
	done   chan struct{}
	err    error
	cancel context.CancelFunc
}

func (e *encoding) wait() error {
	<-e.done
	return e.err
}

// stop ends what is still going on, and waits for that.
func (e *encoding) stop() {
	e.cancel()
	<-e.done
}

// encode begins to encode the own keys. It takes its randomness before it
// returns, so that a source that is no crypto/rand is read in one order.
func (r *run) encode(ctx context.Context) (*encoding, error) {
	stream, err := r.stream()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	e := &encoding{done: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(e.done)
		e.vector, e.table, e.err = okvs.Encode(ctx, stream, r.keys, func(dst, keys []gf128.Element, _ []int32) {
			valueHash.Hash(dst, keys)
		})
		r.keys = nil
		if errors.Is(e.err, okvs.ErrDuplicates) {
			e.err = fmt.Errorf("%w: %w", ErrDuplicates, e.err)
		}
	}()
	return e, nil
}

// piece is a part of the vector that is made at a time: bins from firstBin to,
// but without, endBin.
type piece struct {
	firstBin, endBin int
	start, size      int // in elements of the vector
	drawn            int // elements of vector OLE to make for it: the same for all pieces
	first            bool
}

// pieces cuts the vector into pieces of about the same size and of at most
// limit elements, or one bin.
func (r *run) pieces(limit int) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		stride, bins := r.layout.Stride(), r.layout.Bins
		most := max(1, limit/stride) // bins
		n := (bins + most - 1) / most
		for i := range n {
			from, to := bins*i/n, bins*(i+1)/n
			if !yield(piece{from, to, from * stride, (to - from) * stride, (bins + n - 1) / n * stride, i == 0}) {
				return
			}
		}
	}
}

// decode computes the final hashes of the own keys in the bins of a piece,
// which decode from v, plus delta times each key's value.
func (r *run) decode(ctx context.Context, t *okvs.Table, pc piece, v []gf128.Element, delta gf128.Element, entries []entry) error {
	stride := r.layout.Stride()
	workers := min(pc.endBin-pc.firstBin, runtime.GOMAXPROCS(0))
	err := parallel(ctx, workers, func(w int) error {
		var hashes []gf128.Element
		for bin := pc.firstBin + w; bin < pc.endBin; bin += workers {
			keys, rows := t.Bin(bin)
			hashes = slices.Grow(hashes[:0], len(keys))[:len(keys)]
			t.DecodeBin(bin, hashes, v[(bin-pc.firstBin)*stride:][:stride])
			if !delta.IsZero() {
				addValues(hashes, keys, delta)
			}
			finalHash.Hash(hashes, hashes)
			to := entries[t.Start(bin):]
			for j := range hashes {
				to[j] = r.form.entry(hashes[j], rows[j])
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		return nil
	})
	r.sess.Progress("decode", int64(t.Start(pc.endBin)), int64(r.rows))
	return err
}

// addValues adds delta times each key's value to its hash.
func addValues(hashes, keys []gf128.Element, delta gf128.Element) {
	var values [256]gf128.Element
	for len(keys) > 0 {
		n := min(len(keys), len(values))
		valueHash.Hash(values[:n], keys[:n])
		gf128.MulAdd(hashes[:n], values[:n], delta)
		hashes, keys = hashes[n:], keys[n:]
	}
}
