// Package transcript is the message link of the two-party protocols of psi:
// numbered messages of known kinds over a [session.Channel], and a running
// digest of what both sides have said.
//
//	var protocol = transcript.Protocol{
//		Prefix: "psi/mine",
//		Kinds:  []string{kindRows: "rows", kindPoints: "points", …},
//		…
//	}
//	l := protocol.Link(ch, peer, sender)
//	err := l.Send(ctx, kindPoints, body)
//	body, err := l.Recv(ctx, kindTags)
//
// A message is one byte of kind, its number in its direction as a varint, and a
// body. A message of a sealed kind ends with a digest: the first 16 bytes of
// SHA-256(F ‖ S), where F is the SHA-256 of all messages that the first party
// has sent before this one and S that of the second's, each message preceded by
// its length in 8 bytes, little-endian. Two honest parties thus find bytes that
// were changed on the way, lost, repeated or put in another order when the next
// sealed message comes, at the latest. That is a check of the transport and of
// the program, which TLS makes hard to fail; it is no signature, and a dishonest
// party computes a digest of whatever it likes.
package transcript

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
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// Kind is the kind of a message.
type Kind byte

// DigestSize is how many bytes a sealed message has after its body.
const DigestSize = 16

// Protocol says what a protocol's messages are called and which errors tell of
// faulty ones.
type Protocol struct {
	Prefix string   // of errors: the package
	Kinds  []string // names by Kind; where the name is blank, there is no such kind
	Sealed []Kind   // which end with a digest
	// ErrMessage is wrapped by the error for a message that is not what was due
	// or does not parse, ErrDisagree by the one for a digest that differs.
	ErrMessage, ErrDisagree error
}

// Name returns the kind's name, "unknown" where there is no such kind.
func (p *Protocol) Name(k Kind) string {
	if !p.known(k) {
		return "unknown"
	}
	return p.Kinds[k]
}

func (p *Protocol) known(k Kind) bool { return int(k) < len(p.Kinds) && p.Kinds[k] != "" }

// Link is one party's end. One goroutine may send while another receives, but a
// sealed message is sent or received with the other direction at rest.
type Link struct {
	protocol *Protocol
	ch       session.Channel
	peer     session.PartyID
	first    bool
	out, in  direction
	frame    []byte // of the message being sent
}

type direction struct {
	messages uint64
	h        hash.Hash
}

// Link returns this party's end of a link over ch to peer. Exactly one of the
// two parties is the first.
func (p *Protocol) Link(ch session.Channel, peer session.PartyID, first bool) *Link {
	return &Link{
		protocol: p, ch: ch, peer: peer, first: first,
		out: direction{h: sha256.New()}, in: direction{h: sha256.New()},
	}
}

// Peer returns the other party.
func (l *Link) Peer() session.PartyID { return l.peer }

func (d *direction) add(frame []byte) {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(frame)))
	d.h.Write(n[:])
	d.h.Write(frame)
	d.messages++
}

// digest is the same at both sides if each has received what the other sent.
func (l *Link) digest() []byte {
	first, second := l.out.h, l.in.h
	if !l.first {
		first, second = second, first
	}
	d := sha256.Sum256(second.Sum(first.Sum(nil)))
	return d[:DigestSize]
}

// Send sends a message, of whose body it keeps nothing.
func (l *Link) Send(ctx context.Context, k Kind, body []byte) error {
	frame := AppendFrame(l.frame[:0], k, l.out.messages, body)
	if slices.Contains(l.protocol.Sealed, k) {
		frame = append(frame, l.digest()...)
	}
	l.frame = frame
	l.out.add(frame)
	if err := l.ch.Send(ctx, frame); err != nil {
		return fmt.Errorf("%s: send %s to %s: %w", l.protocol.Prefix, l.protocol.Name(k), l.peer, err)
	}
	return nil
}

// Recv returns the body of the next message, which has to be of kind k. The
// caller owns it.
func (l *Link) Recv(ctx context.Context, k Kind) ([]byte, error) {
	_, body, err := l.RecvOneOf(ctx, k)
	return body, err
}

// RecvOneOf is Recv where the next message may be of several kinds. Errors name
// the first.
func (l *Link) RecvOneOf(ctx context.Context, ks ...Kind) (Kind, []byte, error) {
	p := l.protocol
	frame, err := l.ch.Recv(ctx)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, nil, fmt.Errorf("%s: wait for %s of %s: %w", p.Prefix, p.Name(ks[0]), l.peer, err)
	}
	k, body, err := p.ParseFrame(frame, l.in.messages)
	if err != nil {
		return 0, nil, fmt.Errorf("%w (wanted %s of %s)", err, p.Name(ks[0]), l.peer)
	}
	if !slices.Contains(ks, k) {
		return 0, nil, fmt.Errorf("%w: %s of %s where %s was due", p.ErrMessage, p.Name(k), l.peer, p.Name(ks[0]))
	}
	if slices.Contains(p.Sealed, k) {
		if len(body) < DigestSize {
			return 0, nil, fmt.Errorf("%w: %s without a digest", p.ErrMessage, p.Name(k))
		}
		at := len(body) - DigestSize
		if subtle.ConstantTimeCompare(body[at:], l.digest()) != 1 {
			return 0, nil, fmt.Errorf("%w: bytes were changed between here and %s", p.ErrDisagree, l.peer)
		}
		body = body[:at:at]
	}
	l.in.add(frame)
	return k, body, nil
}

// RecvEmpty receives a message of kind k that has no body.
func (l *Link) RecvEmpty(ctx context.Context, k Kind) error {
	body, err := l.Recv(ctx, k)
	if err != nil {
		return err
	}
	return l.Fault(k, l.protocol.CheckLength(body, 0, l.protocol.Name(k)))
}

// Fault adds to an error about a body of the peer's, nil included, whose it was
// and of what kind.
func (l *Link) Fault(k Kind, err error) error {
	if err != nil {
		return fmt.Errorf("%w (%s of %s)", err, l.protocol.Name(k), l.peer)
	}
	return nil
}

// SendNumber sends a message whose body is one number, 0 or above.
func (l *Link) SendNumber(ctx context.Context, k Kind, n int64) error {
	return l.Send(ctx, k, AppendNumber(nil, n))
}

// RecvNumber receives a message of kind k whose body is one number from 0 to
// limit.
func (l *Link) RecvNumber(ctx context.Context, k Kind, limit int64) (int64, error) {
	body, err := l.Recv(ctx, k)
	if err != nil {
		return 0, err
	}
	n, err := l.protocol.ParseNumber(body, limit)
	return n, l.Fault(k, err)
}

// Exchange sends a number, and returns the peer's of the same kind, which is
// from 0 to limit. Neither party waits for the other to begin.
func (l *Link) Exchange(ctx context.Context, k Kind, n, limit int64) (theirs int64, err error) {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.SendNumber(gctx, k, n) })
	g.Go(func() (err error) {
		theirs, err = l.RecvNumber(gctx, k, limit)
		return err
	})
	err = g.Wait()
	return theirs, err
}

// AppendFrame appends a message without a digest to b.
func AppendFrame(b []byte, k Kind, number uint64, body []byte) []byte {
	b = append(b, byte(k))
	b = binary.AppendUvarint(b, number)
	return append(b, body...)
}

// ParseFrame takes a message apart; number is the one it has to bear. The body
// still has the digest, if its kind is sealed.
func (p *Protocol) ParseFrame(frame []byte, number uint64) (Kind, []byte, error) {
	r := wire.NewReader(frame)
	k := Kind(r.Byte())
	n := r.Uvarint(math.MaxUint64)
	body := r.Fixed(r.Len())
	switch {
	case r.Done() != nil:
		return 0, nil, fmt.Errorf("%w: %w", p.ErrMessage, r.Err())
	case !p.known(k):
		return 0, nil, fmt.Errorf("%w: unknown kind", p.ErrMessage)
	case n != number:
		return 0, nil, fmt.Errorf("%w: message %d where %d was due", p.ErrMessage, n, number)
	}
	return k, body, nil
}

// AppendNumber appends n, 0 or above, to b.
func AppendNumber(b []byte, n int64) []byte { return binary.AppendUvarint(b, uint64(n)) }

// ParseNumber takes a body that is one number from 0 to limit.
func (p *Protocol) ParseNumber(body []byte, limit int64) (int64, error) {
	r := wire.NewReader(body)
	n := r.Uvarint(uint64(limit))
	if err := r.Done(); err != nil {
		return 0, fmt.Errorf("%w: %w", p.ErrMessage, err)
	}
	return int64(n), nil
}

// CheckLength holds a body to its length in bytes; what says what it holds.
func (p *Protocol) CheckLength(body []byte, n int, what string) error {
	if len(body) != n {
		return fmt.Errorf("%w: %d bytes of %s, %d were due", p.ErrMessage, len(body), what, n)
	}
	return nil
}

// CheckBitmap holds a body that has one bit for each of n rows, the lowest bit
// first, to its length and its padding to zero.
func (p *Protocol) CheckBitmap(body []byte, n int) error {
	if len(body) != (n+7)/8 {
		return fmt.Errorf("%w: a bitmap of %d bytes for %d rows", p.ErrMessage, len(body), n)
	}
	if n%8 != 0 && body[len(body)-1]>>(n%8) != 0 {
		return fmt.Errorf("%w: a bitmap with rows past its end", p.ErrMessage)
	}
	return nil
}
