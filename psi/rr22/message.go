package rr22

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/okvs"
	"github.com/yinqiao/yinqiao/session"
)

type kind byte

const (
	kindRows kind = 1 + iota
	kindSeed
	kindVector
	kindCheck
	kindHashes
	kindMatches
	kindBelow
	kindDone
)

var kindNames = [...]string{
	kindRows: "rows", kindSeed: "seed", kindVector: "vector", kindCheck: "check", kindHashes: "hashes",
	kindMatches: "matches", kindBelow: "below", kindDone: "done",
}

func (k kind) String() string {
	if k >= kindRows && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// sealed says whether a message of this kind ends with the digest of
// everything that came before it in both directions.
func (k kind) sealed() bool { return k == kindCheck || k == kindBelow || k == kindDone }

const digestSize = 16

var errLength = fmt.Errorf("%w: wrong length", ErrMessage)

// link numbers, frames and hashes the messages of one channel. One goroutine
// may send while another receives, but a sealed message is sent or received
// with the other direction at rest.
type link struct {
	ch     session.Channel
	peer   session.PartyID
	sender bool // this side is
	out    direction
	in     direction
	buf    []byte // of the message being sent
}

type direction struct {
	messages uint64
	h        hash.Hash
}

func newLink(ch session.Channel, peer session.PartyID, sender bool) *link {
	return &link{ch: ch, peer: peer, sender: sender, out: direction{h: sha256.New()}, in: direction{h: sha256.New()}}
}

func (d *direction) add(frame []byte) {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(frame)))
	d.h.Write(n[:])
	d.h.Write(frame)
	d.messages++
}

// digest is the same at both sides if each has received what the other sent.
func (l *link) digest() []byte {
	first, second := l.out.h, l.in.h
	if !l.sender {
		first, second = second, first
	}
	d := sha256.Sum256(second.Sum(first.Sum(nil)))
	return d[:digestSize]
}

func (l *link) send(ctx context.Context, k kind, body []byte) error {
	frame := appendFrame(l.buf[:0], k, l.out.messages, body)
	if k.sealed() {
		frame = append(frame, l.digest()...)
	}
	l.buf = frame
	l.out.add(frame)
	if err := l.ch.Send(ctx, frame); err != nil {
		return fmt.Errorf("psi/rr22: send %s to %s: %w", k, l.peer, err)
	}
	return nil
}

// recv returns the body of the next message, which has to be of kind k.
func (l *link) recv(ctx context.Context, k kind) ([]byte, error) {
	_, body, err := l.recvOneOf(ctx, k)
	return body, err
}

func (l *link) recvOneOf(ctx context.Context, ks ...kind) (kind, []byte, error) {
	frame, err := l.ch.Recv(ctx)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, nil, fmt.Errorf("psi/rr22: wait for %s of %s: %w", ks[0], l.peer, err)
	}
	k, body, err := parseFrame(frame, l.in.messages)
	if err != nil {
		return 0, nil, fmt.Errorf("%w (wanted %s of %s)", err, ks[0], l.peer)
	}
	if !slices.Contains(ks, k) {
		return 0, nil, fmt.Errorf("%w: %s of %s where %s was due", ErrMessage, k, l.peer, ks[0])
	}
	if k.sealed() {
		if len(body) < digestSize {
			return 0, nil, errLength
		}
		d := body[len(body)-digestSize:]
		if subtle.ConstantTimeCompare(d, l.digest()) != 1 {
			return 0, nil, fmt.Errorf("%w: bytes were changed between here and %s", ErrDisagree, l.peer)
		}
		body = body[:len(body)-digestSize]
	}
	l.in.add(frame)
	return k, body, nil
}

// empty receives a message of kind k that has no body.
func (l *link) empty(ctx context.Context, k kind) error {
	body, err := l.recv(ctx, k)
	if err == nil && len(body) != 0 {
		err = errLength
	}
	return err
}

func appendFrame(b []byte, k kind, number uint64, body []byte) []byte {
	b = append(b, byte(k))
	b = binary.AppendUvarint(b, number)
	return append(b, body...)
}

// parseFrame takes a message apart; number is the one it has to bear.
func parseFrame(frame []byte, number uint64) (kind, []byte, error) {
	r := wire.NewReader(frame)
	k := kind(r.Byte())
	n := r.Uvarint(math.MaxUint64)
	body := r.Fixed(r.Len())
	switch {
	case r.Done() != nil:
		return 0, nil, fmt.Errorf("%w: %w", ErrMessage, r.Err())
	case k.String() == "unknown":
		return 0, nil, fmt.Errorf("%w: unknown kind", ErrMessage)
	case n != number:
		return 0, nil, fmt.Errorf("%w: message %d where %d was due", ErrMessage, n, number)
	}
	return k, body, nil
}

func appendNumber(b []byte, n int64) []byte { return binary.AppendUvarint(b, uint64(n)) }

// parseNumber takes a body that is one number from 0 to limit.
func parseNumber(body []byte, limit int64) (int64, error) {
	r := wire.NewReader(body)
	n := r.Uvarint(uint64(limit))
	if err := r.Done(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return int64(n), nil
}

func parseRows(body []byte) (int, error) {
	n, err := parseNumber(body, math.MaxInt64)
	if err == nil && n > MaxRows {
		err = fmt.Errorf("%w: the peer has %d rows, the limit is %d", ErrSize, n, MaxRows)
	}
	return int(n), err
}

func parseSeed(body []byte) (seed okvs.Seed, err error) {
	if len(body) != okvs.SeedSize {
		return seed, errLength
	}
	return okvs.Seed(body), nil
}

// parseVector fills dst, all that the body may hold.
func parseVector(dst []gf128.Element, body []byte) error {
	if len(body) != len(dst)*gf128.Size {
		return fmt.Errorf("%w: %d bytes of the vector, %d were due", ErrMessage, len(body), len(dst)*gf128.Size)
	}
	gf128.Load(dst, body)
	return nil
}

// parseMatches holds a bitmap of n rows to its length and its padding to zero.
func parseMatches(body []byte, n int) error {
	if len(body) != (n+7)/8 {
		return fmt.Errorf("%w: a bitmap of %d bytes for %d rows", ErrMessage, len(body), n)
	}
	if n%8 != 0 && body[len(body)-1]>>(n%8) != 0 {
		return fmt.Errorf("%w: a bitmap with rows past its end", ErrMessage)
	}
	return nil
}
