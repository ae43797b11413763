package hesum

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/yinqiao/yinqiao/mpc/he/tbgv"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// maxStep bounds the name of a step, in bytes.
const maxStep = 64

// begin checks the arguments of one Sum and sets the place of its messages.
func (e *Engine) begin(step string, shape share.Shape, v share.Vector, to []session.PartyID) (recipients set, err error) {
	if e.used || e.calls == e.params.Sums || slices.Contains(e.steps, step) {
		return 0, ErrUsed
	}
	mine := share.Shape{}
	if e.contributors.has(e.self) {
		mine = shape
	}
	switch {
	case step == "" || len(step) > maxStep || step == keysStep:
		return 0, fmt.Errorf("%w: step: 1 to %d bytes, and not %q", ErrParams, maxStep, keysStep)
	case !within(shape, e.params.MaxShape) || shape.Len() < 1:
		return 0, fmt.Errorf("%w: shape: %v where at most %v was announced", ErrParams, shape, e.params.MaxShape)
	case v.Shape() != mine:
		return 0, fmt.Errorf("%w: vector: shape %v instead of %v", ErrParams, v.Shape(), mine)
	case len(to) == 0:
		return 0, fmt.Errorf("%w: to: nobody is to have the sum", ErrParams)
	}
	for _, p := range to {
		i := e.indexOf(p)
		if i < 0 || recipients.has(i) {
			return 0, fmt.Errorf("%w: to: %q is not a party, or twice there", ErrParams, p)
		}
		recipients |= 1 << i
	}
	e.calls++
	e.steps = append(e.steps, step)
	e.enter(step, []byte(shape.String()), binary.LittleEndian.AppendUint64(nil, uint64(recipients)))
	return recipients, nil
}

// enter sets the place of the messages to come: the step with its public
// arguments.
func (e *Engine) enter(step string, args ...[]byte) {
	e.at = place{step: step, call: uint16(e.calls)}
	e.at.tag = stepTag(e.hash("step", append([][]byte{[]byte(step)}, args...)...)[:len(stepTag{})])
}

// sum is Sum for a party that takes part in it, in the order of the diagram.
func (e *Engine) sum(ctx context.Context, shape share.Shape, v share.Vector, to set) (share.Vector, error) {
	none := share.Vector{}
	work := e.spans(shape)
	peers := (e.holders | to) &^ (1 << e.self)
	cts, digests, err := e.swapVectors(ctx, peers, work, v)
	if err != nil {
		return none, err
	}
	var have set
	for i := range digests {
		have |= 1 << i
	}
	d, err := e.agree(ctx, peers, have)
	if err != nil {
		return none, err
	}
	if err := e.echo(ctx, peers, d, digests, d.active); err != nil {
		return none, err
	}
	e.lose(e.contributors &^ d.included)
	e.fixed = d.included
	if !d.active.has(e.self) && !to.has(e.self) {
		return none, nil
	}
	totals, err := e.total(ctx, work, cts, d.included)
	if err != nil {
		return none, err
	}
	shares := make([][]*tbgv.Share, len(e.parties))
	if d.active.has(e.self) {
		if shares[e.self], err = e.emit(ctx, work, totals, d.active); err != nil {
			return none, err
		}
	}
	if err := e.swapShares(ctx, work, shares, d.active, to); err != nil || !to.has(e.self) {
		return none, err
	}
	return e.decrypt(ctx, work, shape, totals, shares, d.active)
}

// swapVectors sends this party's vector, encrypted, to all peers and gets
// theirs, by party. It returns a digest of each party's ciphertexts as well. One
// that was seen before, at any time in the run, is refused.
//
// Contributors pledge their ciphertexts before any is shown, the same ones to
// all: who could choose its own after seeing the others' would choose the sum,
// and honest shares of a chosen sum give the key away.
func (e *Engine) swapVectors(ctx context.Context, peers set, work []span, v share.Vector) ([][]*tbgv.Ciphertext, map[int][digestSize]byte, error) {
	cts := make([][]*tbgv.Ciphertext, len(e.parties))
	hashes := make([][][digestSize]byte, len(e.parties))
	var told func(i int) half
	if e.contributors.has(e.self) {
		own, frames, err := e.encrypt(ctx, work, v)
		if err != nil {
			return nil, nil, err
		}
		cts[e.self] = own
		for _, b := range frames {
			hashes[e.self] = append(hashes[e.self], sha256.Sum256(b))
		}
		told = func(int) half { return sendAll(e.at, kindVector, frames) }
	}
	var pledges [][]byte
	if e.holders.has(e.self) {
		var err error
		mine := e.commitment(e.self, joined(hashes[e.self]))
		pledges, err = e.swapDigests(ctx, e.holders&^(1<<e.self), kindPledge, mine)
		pledges[e.self] = mine
		if err == nil {
			err = e.samePledges(ctx, pledges)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	err := e.exchange(ctx, peers, told, func(i int) half {
		if !e.holders.has(i) {
			return nil
		}
		return func(ctx context.Context, l *link) error {
			var theirs []*tbgv.Ciphertext
			var sums [][digestSize]byte
			for _, s := range work {
				b, err := l.recv(ctx, e.at, kindVector, s.scheme.CiphertextSize())
				if err != nil {
					return err
				}
				ct, err := s.scheme.ParseCiphertext(b)
				if err != nil {
					return err
				}
				theirs, sums = append(theirs, ct), append(sums, sha256.Sum256(b))
			}
			if pledges != nil && !bytes.Equal(e.commitment(i, joined(sums)), pledges[i]) {
				return fmt.Errorf("%w: its ciphertexts", errForged)
			}
			cts[i], hashes[i] = theirs, sums
			return nil
		}
	})
	if err != nil {
		return nil, nil, err
	}
	digests, err := e.remember(hashes)
	return cts, digests, err
}

// samePledges makes sure, before this party shows its ciphertexts, that all
// others have been pledged the same as it. Where all contributors open, the echo
// comes from all of them, and shows it as well. With fewer the echoes of some may
// be missing; one that pledges to these, sees their ciphertexts, and only then
// pledges to the rest, could take theirs out of the sum.
func (e *Engine) samePledges(ctx context.Context, pledges [][]byte) error {
	if e.allNeeded() != 0 {
		return nil
	}
	var mine []byte // of the holders in order; zeros where none has come
	order := e.indices(e.holders)
	for _, j := range order {
		mine = append(mine, pledges[j]...)
		if pledges[j] == nil {
			mine = append(mine, make([]byte, digestSize)...)
		}
	}
	none := make([]byte, digestSize)
	differs := make([]error, len(e.parties))
	err := e.exchange(ctx, e.holders&^(1<<e.self),
		func(int) half {
			return func(ctx context.Context, l *link) error { return l.send(ctx, e.at, kindPledges, mine) }
		},
		func(i int) half {
			return func(ctx context.Context, l *link) error {
				theirs, err := l.recv(ctx, e.at, kindPledges, len(mine))
				if err != nil {
					return err
				}
				for k, j := range order {
					a, b := mine[k*digestSize:][:digestSize], theirs[k*digestSize:][:digestSize]
					// One that is lost before it pledges to all takes no part; everybody has its own.
					if bytes.Equal(a, b) || j != i && j != e.self && (bytes.Equal(a, none) || bytes.Equal(b, none)) {
						continue
					}
					differs[i] = e.differs(i, j, fmt.Errorf("%w: a commitment to its ciphertexts", errDiffers))
					return nil
				}
				return nil
			}
		})
	return cmp.Or(err, worst(differs))
}

// remember keeps the digests of all ciphertexts of a step, and returns one for
// each party that has sent any.
func (e *Engine) remember(hashes [][][digestSize]byte) (map[int][digestSize]byte, error) {
	digests := make(map[int][digestSize]byte)
	// Own ciphertexts first: whoever else sends one of them has copied it. Of two
	// others that send the same in one step the later is named.
	for _, i := range append([]int{e.self}, e.order...) {
		if _, done := digests[i]; done || hashes[i] == nil {
			continue
		}
		all := sha256.New()
		for _, h := range hashes[i] {
			if j, ok := e.seen[h]; ok {
				return nil, &PeerError{Party: e.parties[i], Step: e.at.step, Err: fmt.Errorf("%w: %s has sent it", errRepeated, e.parties[j])}
			}
			e.seen[h] = i
			all.Write(h[:])
		}
		digests[i] = [digestSize]byte(all.Sum(nil))
	}
	return digests, nil
}

func joined(hashes [][digestSize]byte) []byte {
	var b []byte
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

func sendAll(at place, k kind, messages [][]byte) half {
	return func(ctx context.Context, l *link) error {
		for _, b := range messages {
			if err := l.send(ctx, at, k, b); err != nil {
				return err
			}
		}
		return nil
	}
}

// swapShares sends this party's shares, if it has any, to the parties that are
// to have the sum, and fills in those of the active parties if this is one of
// them.
func (e *Engine) swapShares(ctx context.Context, work []span, shares [][]*tbgv.Share, active, to set) error {
	var told, heard func(i int) half
	if mine := shares[e.self]; mine != nil {
		frames := make([][]byte, len(mine))
		for i, sh := range mine {
			frames[i] = sh.Marshal()
		}
		told = func(i int) half {
			if !to.has(i) {
				return nil
			}
			return sendAll(e.at, kindShare, frames)
		}
	}
	if to.has(e.self) {
		heard = func(i int) half {
			if !active.has(i) {
				return nil
			}
			return func(ctx context.Context, l *link) error {
				var theirs []*tbgv.Share
				for _, s := range work {
					b, err := l.recv(ctx, e.at, kindShare, s.scheme.ShareSize())
					if err != nil {
						return err
					}
					sh, err := s.scheme.ParseShare(b, e.pointOf(i))
					if err != nil {
						return err
					}
					theirs = append(theirs, sh)
				}
				shares[i] = theirs
				return nil
			}
		}
	}
	if err := e.exchange(ctx, (active|to)&^(1<<e.self), told, heard); err != nil {
		return err
	}
	switch {
	case to.in(e.lost):
		return fmt.Errorf("%w: nobody is left that was to have the sum of step %q", ErrLost, e.at.step)
	case !to.has(e.self):
		return nil
	}
	for _, i := range e.indices(active) {
		if shares[i] == nil {
			return e.lostError(1 << i)
		}
	}
	return nil
}
