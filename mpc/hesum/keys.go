package hesum

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/yinqiao/yinqiao/mpc/he/tbgv"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// The making of the collective keys, in the order of the diagram. One message
// has the parts of the keys of all widths.

const (
	coinSize   = 32
	digestSize = 32
	keysStep   = "keys"
)

// ownKeys is what a contributor draws: by width, its secrets, parts and the
// pieces that it deals; no pieces where all open together.
type ownKeys struct {
	secrets []*tbgv.Secret
	parts   []*tbgv.KeyPart
	pieces  [][]*tbgv.Piece
}

// makeKeys is a contributor's part in it.
func (e *Engine) makeKeys(ctx context.Context) error {
	peers := e.contributors &^ (1 << e.self)
	crs, coins, err := e.tossCoins(ctx, peers)
	if err != nil {
		return err
	}
	rands, err := e.streams(len(e.keys))
	if err != nil {
		return err
	}
	mine, err := e.drawKeys(crs, e.pointOf(e.self), func(k int) io.Reader { return rands[k] })
	if err != nil {
		return err
	}
	defer mine.wipe()
	got, digests, err := e.swapKeys(ctx, peers, mine)
	if err != nil {
		return err
	}
	defer func() {
		for i := range got {
			got[i].wipe()
		}
	}()
	var have set
	for i, x := range digests {
		have |= 1 << i
		c := coins[i] // not the reference string: what differs is to name who sent it
		digests[i] = [digestSize]byte(e.hash("key", c[:], x[:]))
	}
	d, err := e.agree(ctx, peers, have)
	if err != nil {
		return err
	}
	if err := e.echo(ctx, peers, d, digests, e.allNeeded()); err != nil {
		return err
	}
	e.settle(d)
	return e.combine(crs, mine, got)
}

// allNeeded is the contributors without any of which the run ends.
func (e *Engine) allNeeded() set {
	if e.params.Threshold == len(e.params.Contributors) {
		return e.contributors
	}
	return 0
}

// settle leaves behind whom a decision leaves out.
func (e *Engine) settle(d decision) {
	e.holders = d.included
	e.lose(e.contributors &^ d.included)
}

// tossCoins agrees on a common reference string: a hash of the transcript and
// of randomness that every contributor has committed to before it sees
// another's. It returns digests of that as well, by party.
func (e *Engine) tossCoins(ctx context.Context, peers set) (crs [32]byte, digests map[int][digestSize]byte, err error) {
	coins := make([][]byte, len(e.parties))
	coins[e.self] = make([]byte, coinSize)
	if _, err := io.ReadFull(e.sess.Rand(), coins[e.self]); err != nil {
		return crs, nil, fmt.Errorf("hesum: randomness: %w", err)
	}
	commits, err := e.swapDigests(ctx, peers, kindCommit, e.commitment(e.self, coins[e.self]))
	if err != nil {
		return crs, nil, err
	}
	err = e.exchange(ctx, peers,
		func(int) half {
			return func(ctx context.Context, l *link) error { return l.send(ctx, e.at, kindReveal, coins[e.self]) }
		},
		func(i int) half {
			return func(ctx context.Context, l *link) error {
				b, err := l.recv(ctx, e.at, kindReveal, coinSize)
				if err != nil {
					return err
				}
				if !bytes.Equal(e.commitment(i, b), commits[i]) {
					return fmt.Errorf("%w: its randomness", errForged)
				}
				coins[i] = b
				return nil
			}
		})
	if err != nil {
		return crs, nil, err
	}
	var have set
	digests = make(map[int][digestSize]byte)
	for i, c := range coins {
		if c != nil {
			have |= 1 << i
			digests[i] = [digestSize]byte(e.hash("coin", c))
		}
	}
	d, err := e.agree(ctx, peers, have)
	if err != nil {
		return crs, nil, err
	}
	if d.coordinator >= 0 { // otherwise the echo of the keys says it all
		if err := e.echo(ctx, peers, d, digests, 0); err != nil {
			return crs, nil, err
		}
	}
	e.settle(d)
	var all [][]byte
	for _, i := range e.indices(d.included) {
		all = append(all, []byte(e.parties[i]), coins[i])
	}
	return [32]byte(e.hash("crs", all...)), digests, nil
}

// commitment binds party i to b, which nobody can guess.
func (e *Engine) commitment(i int, b []byte) []byte {
	return e.hash("commitment", []byte(e.parties[i]), b)
}

// swapDigests sends one message of digestSize to all peers and returns theirs,
// by party; nil of those that were lost before.
func (e *Engine) swapDigests(ctx context.Context, peers set, k kind, mine []byte) ([][]byte, error) {
	theirs := make([][]byte, len(e.parties))
	err := e.exchange(ctx, peers,
		func(int) half {
			return func(ctx context.Context, l *link) error { return l.send(ctx, e.at, k, mine) }
		},
		func(i int) half {
			return func(ctx context.Context, l *link) (err error) {
				theirs[i], err = l.recv(ctx, e.at, k, digestSize)
				return err
			}
		})
	return theirs, err
}

// drawKeys makes the keys of the contributor at a point.
func (e *Engine) drawKeys(crs [32]byte, point int, rand func(k int) io.Reader) (*ownKeys, error) {
	o := new(ownKeys)
	for n, k := range e.keys {
		sk, part, err := k.scheme.GenerateKey(rand(n), e.crsOf(crs, k))
		if err != nil {
			return nil, fmt.Errorf("hesum: %w", err)
		}
		o.secrets, o.parts = append(o.secrets, sk), append(o.parts, part)
		if e.allNeeded() != 0 {
			continue
		}
		dealt, err := k.scheme.Deal(rand(n), sk, point)
		if err != nil {
			return nil, fmt.Errorf("hesum: %w", err)
		}
		o.pieces = append(o.pieces, dealt)
	}
	return o, nil
}

// crsOf is the reference string of one width's key.
func (e *Engine) crsOf(crs [32]byte, k *keyset) [32]byte {
	return [32]byte(e.hash("crs of a set", crs[:], []byte(k.scheme.Set())))
}

func (o *ownKeys) wipe() {
	for _, sk := range o.secrets {
		sk.Wipe()
	}
	for _, dealt := range o.pieces {
		for _, p := range dealt {
			p.Wipe()
		}
	}
}

// swapKeys sends this party's commitment to its key parts to all peers, and
// then the parts, with the pieces that are each peer's own; and gets theirs. It
// returns what has come, by party and by width, and digests of the parts.
func (e *Engine) swapKeys(ctx context.Context, peers set, mine *ownKeys) (*[MaxParties]ownKeys, map[int][digestSize]byte, error) {
	var parts []byte
	for _, p := range mine.parts {
		parts = append(parts, p.Marshal()...)
	}
	pledges, err := e.swapDigests(ctx, peers, kindPledge, e.commitment(e.self, parts))
	if err != nil {
		return nil, nil, err
	}
	got := new([MaxParties]ownKeys)
	me := e.pointOf(e.self)
	err = e.exchange(ctx, peers,
		func(i int) half {
			return func(ctx context.Context, l *link) error {
				if err := l.send(ctx, e.at, kindPart, parts); err != nil {
					return err
				}
				for _, dealt := range mine.pieces {
					b := dealt[e.pointOf(i)].Marshal()
					err := l.send(ctx, e.at, kindPiece, b)
					clear(b)
					if err != nil {
						return err
					}
				}
				return nil
			}
		},
		func(i int) half {
			return func(ctx context.Context, l *link) (err error) {
				var theirs ownKeys
				all, err := l.recv(ctx, e.at, kindPart, len(parts))
				if err != nil {
					return err
				}
				if !bytes.Equal(e.commitment(i, all), pledges[i]) {
					return fmt.Errorf("%w: its key part", errForged)
				}
				if theirs.parts, err = e.parseParts(all); err != nil {
					return err
				}
				for range mine.pieces {
					k := e.keys[len(theirs.pieces)]
					b, err := l.recv(ctx, e.at, kindPiece, k.scheme.PieceSize())
					if err != nil {
						return err
					}
					p, err := k.scheme.ParsePiece(b, e.pointOf(i), me)
					clear(b)
					if err != nil {
						return err
					}
					theirs.pieces = append(theirs.pieces, []*tbgv.Piece{p})
				}
				got[i] = theirs
				return nil
			}
		})
	if err != nil {
		return nil, nil, err
	}
	digests := map[int][digestSize]byte{e.self: [digestSize]byte(e.commitment(e.self, parts))}
	for i := range got {
		if got[i].parts != nil {
			digests[i] = [digestSize]byte(pledges[i])
		}
	}
	return got, digests, nil
}

// parseParts takes one contributor's key parts apart.
func (e *Engine) parseParts(b []byte) ([]*tbgv.KeyPart, error) {
	var parts []*tbgv.KeyPart
	for _, k := range e.keys {
		n := k.scheme.KeyPartSize() // b is as long as all together
		p, err := k.scheme.ParseKeyPart(b[:n])
		if err != nil {
			return nil, err
		}
		parts, b = append(parts, p), b[n:]
	}
	return parts, nil
}

// combine makes the collective keys and this party's share of each.
//
// The place of a contributor that was lost on the way is taken by one whose
// secret is drawn from the reference string, so that everybody knows it: it
// adds nothing to the key's secrecy and takes nothing from it, and everything
// has as many parties as at the beginning.
func (e *Engine) combine(crs [32]byte, mine *ownKeys, got *[MaxParties]ownKeys) error {
	me := e.pointOf(e.self)
	by := make([]*ownKeys, len(e.order))
	for point, c := range e.order {
		switch {
		case c == e.self:
			by[point] = mine
		case e.holders.has(c):
			by[point] = &got[c]
		default:
			key := [share.KeySize]byte(e.hash("stand-in", crs[:], []byte(e.parties[c])))
			public := share.KeyedStream(&key)
			o, err := e.drawKeys(crs, point, func(int) io.Reader { return public })
			if err != nil {
				return err
			}
			by[point] = o
		}
	}
	for n, k := range e.keys {
		parts := make([]*tbgv.KeyPart, len(by))
		dealt := make([]*tbgv.Piece, len(by))
		for point, o := range by {
			parts[point] = o.parts[n]
			switch {
			case o.pieces == nil:
			case e.holders.has(e.order[point]) && point != me:
				dealt[point] = o.pieces[n][0]
			default:
				dealt[point] = o.pieces[n][me]
			}
		}
		var err error
		if k.pk, err = k.scheme.CombineKeys(e.crsOf(crs, k), parts); err != nil {
			return e.blame(err, nil)
		}
		if e.allNeeded() != 0 {
			k.share, err = mine.secrets[n].Share()
		} else {
			k.share, err = k.scheme.Collect(mine.secrets[n], me, dealt)
		}
		if err != nil {
			return e.blame(err, nil)
		}
	}
	return nil
}
