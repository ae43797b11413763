package vole

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/session"
)

// Lengths in bytes.
const (
	nonceSize  = 16
	digestSize = 16
	maxName    = 64
)

// link numbers and hashes the messages of one session, those of mpc/ot too: it
// is their Conn. One goroutine may send while another receives. Which message
// is due is known at every point, so that its number says what it is.
type link struct {
	ch   session.Channel
	peer session.PartyID
	out  direction
	in   direction
}

type direction struct {
	messages uint64
	h        hash.Hash
}

func newLink(ch session.Channel, peer session.PartyID) *link {
	return &link{ch: ch, peer: peer, out: direction{h: sha256.New()}, in: direction{h: sha256.New()}}
}

func (d *direction) add(frame []byte) {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(frame)))
	d.h.Write(n[:])
	d.h.Write(frame)
	d.messages++
}

// Send sends a message with its number before it.
func (l *link) Send(ctx context.Context, body []byte) error {
	frame := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64+len(body)), l.out.messages)
	frame = append(frame, body...)
	l.out.add(frame)
	if err := l.ch.Send(ctx, frame); err != nil {
		return fmt.Errorf("vole: send to %s: %w", l.peer, err)
	}
	return nil
}

// Recv returns the next message, which has to bear the next number.
func (l *link) Recv(ctx context.Context) ([]byte, error) {
	frame, err := l.ch.Recv(ctx)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("vole: wait for %s: %w", l.peer, err)
	}
	body, err := parseFrame(frame, l.in.messages)
	if err != nil {
		return nil, fmt.Errorf("%w (of %s)", err, l.peer)
	}
	l.in.add(frame)
	return body, nil
}

func parseFrame(frame []byte, number uint64) ([]byte, error) {
	r := wire.NewReader(frame)
	n := r.Uvarint(1<<64 - 1)
	body := r.Fixed(r.Len())
	switch {
	case r.Done() != nil:
		return nil, fmt.Errorf("%w: %w", ErrMessage, r.Err())
	case n != number:
		return nil, fmt.Errorf("%w: message %d where %d was due", ErrMessage, n, number)
	}
	return body, nil
}

// digest is that of everything that the sender and then the receiver has sent.
func digest(sender, receiver *direction) []byte {
	d := sha256.Sum256(receiver.h.Sum(sender.h.Sum(nil)))
	return d[:digestSize]
}

// sendSeal ends what the sender says of a call: the receiver learns by it that
// neither direction was changed, before it uses what it has.
func (l *link) sendSeal(ctx context.Context) error {
	return l.Send(ctx, digest(&l.out, &l.in))
}

func (l *link) recvSeal(ctx context.Context) error {
	want := digest(&l.in, &l.out)
	body, err := l.Recv(ctx)
	if err != nil {
		return err
	}
	if len(body) != digestSize {
		return fmt.Errorf("%w: a seal of %d bytes", ErrMessage, len(body))
	}
	if subtle.ConstantTimeCompare(body, want) != 1 {
		return fmt.Errorf("%w: bytes were changed between here and %s", ErrDisagree, l.peer)
	}
	return nil
}

// The receiver speaks first: what code it means, and a nonce that sets this run
// apart from others of the session.
func (c *common) sendHello(ctx context.Context, nonce []byte) error {
	return c.link.Send(ctx, appendHello(nil, c.label(), nonce))
}

func appendHello(b []byte, name string, nonce []byte) []byte {
	b = wire.AppendBytes(b, []byte(name))
	return append(b, nonce...)
}

func (c *common) parseHello(body []byte) ([]byte, error) {
	name, nonce, err := parseHello(body)
	if err != nil {
		return nil, err
	}
	if name != c.label() {
		return nil, &session.MismatchError{Peer: c.link.peer, Field: "code", Ours: c.label(), Peers: name}
	}
	return nonce, nil
}

func parseHello(body []byte) (name string, nonce []byte, err error) {
	r := wire.NewReader(body)
	name = string(r.Bytes(maxName))
	nonce = r.Fixed(nonceSize)
	if err := r.Done(); err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return name, nonce, nil
}

// Every call begins with the receiver's number of elements.
func (c *common) sendCount(ctx context.Context, n int) error {
	return c.link.Send(ctx, binary.AppendUvarint(nil, uint64(n)))
}

func (c *common) recvCount(ctx context.Context, n int) error {
	body, err := c.link.Recv(ctx)
	if err != nil {
		return err
	}
	theirs, err := parseCount(body)
	if err == nil && theirs != n {
		err = mismatch(c.link.peer, "elements", n, theirs)
	}
	return err
}

func parseCount(body []byte) (int, error) {
	r := wire.NewReader(body)
	n := r.Uvarint(MaxElements)
	if err := r.Done(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return int(n), nil
}

// elementsPerMessage go into a message of the sender's trees, with its frame.
const elementsPerMessage = session.ChunkSize/gf128.Size - 64

func (c *common) sendTrees(ctx context.Context, trees []gf128.Element) error {
	for len(trees) > 0 {
		k := min(len(trees), elementsPerMessage)
		if err := c.link.Send(ctx, gf128.AppendBytes(make([]byte, 0, k*gf128.Size), trees[:k])); err != nil {
			return err
		}
		trees = trees[k:]
	}
	return nil
}

func (c *common) recvTrees(ctx context.Context, shape shape) ([]gf128.Element, error) {
	trees := make([]gf128.Element, shape.trees*shape.treeElements())
	for rest := trees; len(rest) > 0; {
		k := min(len(rest), elementsPerMessage)
		body, err := c.link.Recv(ctx)
		if err != nil {
			return nil, err
		}
		if len(body) != k*gf128.Size {
			return nil, fmt.Errorf("%w: trees of %d bytes, %d were due", ErrMessage, len(body), k*gf128.Size)
		}
		gf128.Load(rest[:k], body)
		rest = rest[k:]
	}
	return trees, nil
}
