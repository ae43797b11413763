package ot

import (
	"context"
	"fmt"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/gf128"
)

// MaxTransfers is the most transfers, or products, of one call.
const MaxTransfers = 1 << 24

// How many are corrected by one message: as many as go into 256 KiB with their
// frame and proof.
const (
	transfersPerMessage = 1<<16 - 1<<10
	productsPerMessage  = 1<<9 - 1<<3
)

// Sender is the party with Δ. It is for one goroutine.
type Sender struct {
	delta   gf128.Element
	streams *streams
	hash    *aeshash.Key
	tweak   uint64
	check   *checker
}

// Receiver is the party that chooses. It is for one goroutine.
type Receiver struct {
	streams *streams
	hash    *aeshash.Key
	tweak   uint64
	check   *checker
}

// NewSender draws a Δ for each instance and runs the base transfers.
func NewSender(ctx context.Context, c Conn, cfg Config) ([]*Sender, error) {
	n, err := cfg.instances()
	if err != nil {
		return nil, err
	}
	deltas := make([]gf128.Element, n)
	if err := gf128.Random(cfg.Rand, deltas); err != nil {
		return nil, fmt.Errorf("ot: %w", err)
	}
	choices := make([]byte, 0, n*deltaBits)
	for _, delta := range deltas {
		for i := range deltaBits {
			// Within a group the highest bit comes first, as levels of a tree do.
			j := i/groupBits*groupBits + groupBits - 1 - i%groupBits
			choices = append(choices, byte(1-delta.Bit(j)))
		}
	}
	transfers, setup := baseReceive, (*recorder)(nil)
	if cfg.Malicious {
		setup = newRecorder(c)
		transfers, c = endemicReceive, setup
	}
	base, err := transfers(ctx, c, cfg, choices)
	if err != nil {
		return nil, err
	}
	size := cfg.treeBytes()
	msg, err := recv(ctx, c, "trees", n*size)
	if err != nil {
		return nil, err
	}
	senders := make([]*Sender, n)
	for i, delta := range deltas {
		trees := msg[i*size : (i+1)*size]
		seeds := openTrees(cfg.prg(i), trees[:treeBytes], delta, base[i*deltaBits:(i+1)*deltaBits])
		senders[i] = &Sender{delta: delta, hash: cfg.hash(i)}
		if cfg.Malicious {
			if err := cfg.checkTrees(i, seeds, delta, trees[treeBytes:]); err != nil {
				return nil, err
			}
			senders[i].check = cfg.checker(i, setup.out, setup.in)
		}
		senders[i].streams = newStreams(seeds)
		clear(seeds)
	}
	return senders, nil
}

// NewReceiver is the other side of NewSender.
func NewReceiver(ctx context.Context, c Conn, cfg Config) ([]*Receiver, error) {
	n, err := cfg.instances()
	if err != nil {
		return nil, err
	}
	roots := make([]gf128.Element, n*groups)
	if err := gf128.Random(cfg.Rand, roots); err != nil {
		return nil, fmt.Errorf("ot: %w", err)
	}
	transfers, setup := baseSend, (*recorder)(nil)
	if cfg.Malicious {
		setup = newRecorder(c)
		transfers, c = endemicSend, setup
	}
	base, err := transfers(ctx, c, cfg, n*deltaBits)
	if err != nil {
		return nil, err
	}
	var msg []byte
	receivers := make([]*Receiver, n)
	for i := range receivers {
		seeds, m := buildTrees(cfg.prg(i), roots[i*groups:(i+1)*groups], base[i*deltaBits:(i+1)*deltaBits])
		msg = append(msg, m...)
		if cfg.Malicious {
			msg = append(msg, cfg.proveTrees(i, seeds)...)
		}
		receivers[i] = &Receiver{streams: newStreams(seeds), hash: cfg.hash(i)}
		clear(seeds)
	}
	if err := send(ctx, c, "trees", msg); err != nil {
		return nil, err
	}
	if cfg.Malicious {
		for i, r := range receivers {
			r.check = cfg.checker(i, setup.in, setup.out)
		}
	}
	return receivers, nil
}

func (c Config) prg(instance int) *aeshash.Pair {
	return aeshash.NewPair(aeshash.New(c.derive("left", instance)), aeshash.New(c.derive("right", instance)))
}

func (c Config) hash(instance int) *aeshash.Key { return aeshash.New(c.derive("pads", instance)) }

// Delta returns the sender's Δ.
func (s *Sender) Delta() gf128.Element { return s.delta }

func checkCount(n int) error {
	if n < 0 || n > MaxTransfers {
		return fmt.Errorf("%w: %d, the limit of one call is %d", ErrSize, n, MaxTransfers)
	}
	return nil
}

// bitBytes is the length of a string of n bits, in whole words.
func bitBytes(n int) int { return (n + 63) / 64 * 8 }

// recvCorrections returns the columns w for the peer's size bytes of bits.
func (s *Sender) recvCorrections(ctx context.Context, c Conn, size int) (columns, error) {
	size = s.check.width(size)
	msg, err := recv(ctx, c, "corrections", groups*size+s.check.proofSize())
	if err != nil {
		return columns{}, err
	}
	msg, proof := msg[:groups*size], msg[groups*size:]
	cols := s.streams.apply(s.delta, msg, size)
	return cols, s.check.verify(cols, s.delta, msg, proof)
}

// sendCorrections returns the columns v for the bits y.
func (r *Receiver) sendCorrections(ctx context.Context, c Conn, y []byte) (columns, error) {
	y, err := r.check.widen(y)
	if err != nil {
		return columns{}, err
	}
	cols, msg := r.streams.correct(y)
	return cols, send(ctx, c, "corrections", r.check.prove(cols, msg, y))
}

// Random makes n pairs of random elements. It holds 32 bytes a pair.
func (s *Sender) Random(ctx context.Context, c Conn, n int) ([][2]gf128.Element, error) {
	if err := checkCount(n); err != nil {
		return nil, err
	}
	var pads [][2]gf128.Element
	for done := 0; done < n; {
		k := min(n-done, transfersPerMessage)
		cols, err := s.recvCorrections(ctx, c, bitBytes(k))
		if err != nil {
			return nil, err
		}
		zero := cols.rows(k)
		one := make([]gf128.Element, k)
		for i := range one {
			one[i] = zero[i].Add(s.delta)
		}
		s.hash.HashTweaked(zero, zero, s.tweak)
		s.hash.HashTweaked(one, one, s.tweak)
		for i := range zero {
			pads = append(pads, [2]gf128.Element{zero[i], one[i]})
		}
		s.tweak += uint64(k)
		done += k
	}
	return pads, nil
}

// Random gets one element of each of n pairs; bit i of choices, the lowest of a
// byte first, says which. It holds 16 bytes a pair.
func (r *Receiver) Random(ctx context.Context, c Conn, choices []byte, n int) ([]gf128.Element, error) {
	if err := checkCount(n); err != nil {
		return nil, err
	}
	if len(choices) < (n+7)/8 {
		return nil, fmt.Errorf("%w: %d bytes of choices for %d transfers", ErrSize, len(choices), n)
	}
	pads := make([]gf128.Element, 0, n)
	for len(pads) < n {
		k := min(n-len(pads), transfersPerMessage)
		y := make([]byte, bitBytes(k)) // a full message is of whole bytes
		copy(y, choices[len(pads)/8:(len(pads)+k+7)/8])
		cols, err := r.sendCorrections(ctx, c, y)
		if err != nil {
			return nil, err
		}
		rows := cols.rows(k)
		r.hash.HashTweaked(rows, rows, r.tweak)
		r.tweak += uint64(k)
		pads = append(pads, rows...)
	}
	return pads, nil
}

// Products returns w = m + Δ·y for the receiver's m and y, of length n.
func (s *Sender) Products(ctx context.Context, c Conn, n int) ([]gf128.Element, error) {
	if err := checkCount(n); err != nil {
		return nil, err
	}
	var w []gf128.Element
	for len(w) < n {
		k := min(n-len(w), productsPerMessage)
		cols, err := s.recvCorrections(ctx, c, k*gf128.Size)
		if err != nil {
			return nil, err
		}
		w = append(w, cols.products(k)...)
	}
	return w, nil
}

// Products returns m for the elements y.
func (r *Receiver) Products(ctx context.Context, c Conn, y []gf128.Element) ([]gf128.Element, error) {
	if err := checkCount(len(y)); err != nil {
		return nil, err
	}
	m := make([]gf128.Element, 0, len(y))
	for len(m) < len(y) {
		k := min(len(y)-len(m), productsPerMessage)
		cols, err := r.sendCorrections(ctx, c, gf128.AppendBytes(nil, y[len(m):len(m)+k]))
		if err != nil {
			return nil, err
		}
		m = append(m, cols.products(k)...)
	}
	return m, nil
}
