package oprf

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"

	"github.com/yinqiao/yinqiao/mpc/gf128"
)

// With Config.Malicious an element w goes into F that neither party knows before
// the receiver has sent the piece of its vector to which it belongs (Rindal and
// Schoppmann, ePrint 2021/266, the steps of their OPRF for malicious parties):
//
//	sender                                    receiver
//	commitment of w_s        ──▶
//	                         ◀──              the piece of the vector, w_r
//	w_s                      ──▶              opened as committed
//	F(x) = SHA-256(domain ‖ ⟨x, b'⟩ + Δ·value(x) + w ‖ x),   w = w_s + w_r
//
// The receiver cannot have asked for an F before the vector is fixed that says
// which it will have; the sender cannot choose w, and so no F; and F names its key.

const (
	blindSize      = 16
	openingSize    = gf128.Size + blindSize
	commitmentSize = sha256.Size
)

// opening is w_s and what hides it in the commitment.
type opening [openingSize]byte

func (o *opening) commit(transcript [32]byte, piece int) [commitmentSize]byte {
	b := fmt.Appendf(nil, "yinqiao/%s/commitment\x00%x%d\x00", Version, transcript, piece)
	return sha256.Sum256(append(b, o[:]...))
}

func (o *opening) element() gf128.Element { return gf128.FromBytes([gf128.Size]byte(o[:])) }

// coin is one party's part of a piece's w. A nil one is that of semi-honest
// parties, whose F has none.
type coin struct {
	piece int
	own   opening
	peers [commitmentSize]byte // the receiver's
	w     gf128.Element
}

// commitCoin begins a piece at the sender.
func (c Config) commitCoin(ctx context.Context, piece int) (*coin, error) {
	if !c.Malicious {
		return nil, nil
	}
	k := &coin{piece: piece}
	if _, err := io.ReadFull(c.Session.Rand(), k.own[:]); err != nil {
		return nil, fmt.Errorf("oprf: draw a coin: %w", err)
	}
	commitment := k.own.commit(c.Session.Transcript(), piece)
	return k, c.Conn.Send(ctx, commitment[:])
}

// awaitCoin is the other side of commitCoin.
func (c Config) awaitCoin(ctx context.Context, piece int) (*coin, error) {
	if !c.Malicious {
		return nil, nil
	}
	body, err := c.recvFixed(ctx, "a commitment", commitmentSize)
	if err != nil {
		return nil, err
	}
	return &coin{piece: piece, peers: [commitmentSize]byte(body)}, nil
}

// openCoin ends a piece's vector at the sender.
func (c Config) openCoin(ctx context.Context, k *coin) error {
	if k == nil {
		return nil
	}
	body, err := c.recvFixed(ctx, "a coin", gf128.Size)
	if err != nil {
		return err
	}
	k.w = k.own.element().Add(gf128.FromBytes([gf128.Size]byte(body)))
	return c.Conn.Send(ctx, k.own[:])
}

// tossCoin is the other side of openCoin.
func (c Config) tossCoin(ctx context.Context, k *coin) error {
	if k == nil {
		return nil
	}
	own := make([]gf128.Element, 1)
	if err := gf128.Random(c.Session.Rand(), own); err != nil {
		return fmt.Errorf("oprf: draw a coin: %w", err)
	}
	if err := c.Conn.Send(ctx, gf128.AppendBytes(nil, own)); err != nil {
		return err
	}
	body, err := c.recvFixed(ctx, "an opening", openingSize)
	if err != nil {
		return err
	}
	o := opening(body)
	if commitment := o.commit(c.Session.Transcript(), k.piece); subtle.ConstantTimeCompare(commitment[:], k.peers[:]) != 1 {
		return fmt.Errorf("%w: a coin that is not the one committed to", ErrCheat)
	}
	k.w = o.element().Add(own[0])
	return nil
}

func (c Config) recvFixed(ctx context.Context, what string, n int) ([]byte, error) {
	body, err := c.Conn.Recv(ctx)
	if err == nil {
		err = checkLength(body, what, n)
	}
	return body, err
}

func checkLength(body []byte, what string, n int) error {
	if len(body) != n {
		return fmt.Errorf("%w: %s of %d bytes, %d were due", ErrMessage, what, len(body), n)
	}
	return nil
}

const finalDomain = "yinqiao/" + Version + "/m\x00" // with 32 bytes more, one block of SHA-256

// finish turns what was decoded into F of the keys.
func (k *coin) finish(values, keys []gf128.Element) {
	if k == nil {
		finalHash.Hash(values, values)
		return
	}
	var b [len(finalDomain) + 2*gf128.Size]byte
	at := b[copy(b[:], finalDomain):]
	for i := range values {
		v, x := values[i].Add(k.w).Bytes(), keys[i].Bytes()
		copy(at, v[:])
		copy(at[gf128.Size:], x[:])
		d := sha256.Sum256(b[:])
		values[i] = gf128.FromBytes([gf128.Size]byte(d[:]))
	}
}
