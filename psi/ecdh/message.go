package ecdh

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
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/session"
)

type kind byte

const (
	kindRows kind = 1 + iota
	kindPoints
	kindTags
	kindCheck
	kindCount
	kindBelow
	kindSeed
	kindMatches
	kindDone
	kindMinimum
)

var kindNames = [...]string{
	kindRows: "rows", kindPoints: "points", kindTags: "tags", kindCheck: "check", kindCount: "count",
	kindBelow: "below", kindSeed: "seed", kindMatches: "matches", kindDone: "done",
	kindMinimum: "minimum",
}

func (k kind) String() string {
	if k >= kindRows && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// sealed says whether a message of this kind ends with the digest of
// everything that came before it in both directions.
func (k kind) sealed() bool {
	switch k {
	case kindCheck, kindCount, kindBelow, kindSeed, kindDone:
		return true
	}
	return false
}

// Lengths in bytes.
const (
	seedSize   = 32
	digestSize = 16
)

var errLength = fmt.Errorf("%w: wrong length", ErrMessage)

// link numbers, frames and hashes the messages of one session. One goroutine
// may send while another receives, but a sealed message is sent or received
// with the other direction at rest.
type link struct {
	ch     session.Channel
	peer   session.PartyID
	sender bool // this side is
	out    direction
	in     direction
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
	frame := appendFrame(make([]byte, 0, 16+len(body)+digestSize), k, l.out.messages, body)
	if k.sealed() {
		frame = append(frame, l.digest()...)
	}
	l.out.add(frame)
	if err := l.ch.Send(ctx, frame); err != nil {
		return fmt.Errorf("psi/ecdh: send %s to %s: %w", k, l.peer, err)
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
		return 0, nil, fmt.Errorf("psi/ecdh: wait for %s of %s: %w", ks[0], l.peer, err)
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

// parsePoints fills points, all that the body may hold. What they are is for
// curve25519.Check to say.
func parsePoints(points []curve25519.Point, body []byte) error {
	if len(body) != len(points)*curve25519.Size {
		return fmt.Errorf("%w: %d bytes of points, %d were due", ErrMessage, len(body), len(points)*curve25519.Size)
	}
	for i := range points {
		points[i] = curve25519.Point(body[i*curve25519.Size:])
	}
	return nil
}

func parseTags(body []byte, n, tagBytes int) error {
	if len(body) != n*tagBytes {
		return fmt.Errorf("%w: %d bytes of tags, %d were due", ErrMessage, len(body), n*tagBytes)
	}
	return nil
}

func parseSeed(body []byte) (seed [seedSize]byte, err error) {
	if len(body) != seedSize {
		return seed, errLength
	}
	return [seedSize]byte(body), nil
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
