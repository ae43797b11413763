package session

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/yinqiao/yinqiao/session/errgroup"
)

// ErrMismatch is wrapped by every error of Bind that says the parties do not
// mean the same computation; a *MismatchError names the field.
var ErrMismatch = errors.New("session: parties disagree")

// MismatchError names the first field in which a peer differs. Values of
// parameters are public (they stand in the contract), so both may be shown.
type MismatchError struct {
	Peer        PartyID
	Field       string
	Ours, Peers string
}

func (e *MismatchError) Error() string {
	field := e.Field
	if strings.ContainsFunc(field, func(r rune) bool { return r <= ' ' || r > '~' }) {
		field = strconv.QuoteToASCII(field) // a peer's own, and not for a terminal
	}
	return fmt.Sprintf("session: %s disagrees on %s: ours %q, theirs %q", e.Peer, field, e.Ours, e.Peers)
}

func (e *MismatchError) Unwrap() error { return ErrMismatch }

// Field is one named public parameter of a protocol, as text.
type Field struct{ Name, Value string }

// bindLimit bounds a peer's first frame, in bytes.
const bindLimit = 64 << 10

// Bind exchanges the first frame with every peer: protocol name with version,
// session ID, label, ordered parties and params, in that order. It fails with
// a *MismatchError where a peer's differ, and otherwise fixes the transcript
// hash. Every protocol calls it first, once.
func (s *Session) Bind(ctx context.Context, protocol string, params ...Field) error {
	return s.bind(ctx, false, protocol, params)
}

// BindPresent is Bind for a protocol that can do without some parties: one that
// is gone already is no error. The transcript is the same, whoever is gone.
func (s *Session) BindPresent(ctx context.Context, protocol string, params ...Field) error {
	return s.bind(ctx, true, protocol, params)
}

func (s *Session) bind(ctx context.Context, without bool, protocol string, params []Field) error {
	if s.bound {
		return errors.New("session: bound twice")
	}
	s.bound = true
	names := make([]string, len(s.cfg.Parties))
	for i, p := range s.cfg.Parties {
		names[i] = string(p)
	}
	fields := append([]Field{
		{"protocol", protocol},
		{"session", s.cfg.ID},
		{"label", s.label},
		{"parties", strings.Join(names, ",")},
	}, params...)
	frame := encodeFields(fields)
	if len(frame) > bindLimit {
		return errors.New("session: parameters exceed the limit of the first frame")
	}
	g, recvCtx := errgroup.WithContext(ctx)
	for id, ch := range s.peers {
		// Not under the group's context: a mismatch found here must not keep
		// our frame from the peer, which has to find it as well.
		g.Go(func() error {
			err := ch.Send(ctx, frame)
			if without && ctx.Err() == nil && errors.Is(err, ErrGone) {
				return nil
			}
			return err
		})
		g.Go(func() error {
			p, err := ch.Recv(recvCtx)
			if without && recvCtx.Err() == nil && (errors.Is(err, ErrGone) || errors.Is(err, io.EOF)) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("session: first frame of %s: %w", id, err)
			}
			theirs, err := decodeFields(p)
			if err != nil {
				return fmt.Errorf("session: first frame of %s: %w", id, err)
			}
			return compareFields(id, fields, theirs)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	h := sha256.New()
	h.Write([]byte("yinqiao/session/transcript/v1\x00"))
	h.Write(frame)
	h.Sum(s.transcript[:0])
	return nil
}

// Transcript returns the hash that binds keys and tags to this protocol,
// session, fork, parties and parameters; valid after Bind.
func (s *Session) Transcript() [32]byte { return s.transcript }

func encodeFields(fields []Field) []byte {
	b := binary.AppendUvarint(nil, uint64(len(fields)))
	for _, f := range fields {
		b = binary.AppendUvarint(b, uint64(len(f.Name)))
		b = append(b, f.Name...)
		b = binary.AppendUvarint(b, uint64(len(f.Value)))
		b = append(b, f.Value...)
	}
	return b
}

// ErrFirstFrame is wrapped by the error of Bind for a first frame that does not
// parse.
var ErrFirstFrame = errors.New("malformed first frame")

func decodeFields(b []byte) ([]Field, error) {
	if len(b) > bindLimit {
		return nil, ErrFirstFrame
	}
	text := func() (string, bool) {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return "", false
		}
		v := string(b[k : k+int(n)])
		b = b[k+int(n):]
		return v, true
	}
	count, k := binary.Uvarint(b)
	if k <= 0 || count > uint64(len(b)) {
		return nil, ErrFirstFrame
	}
	b = b[k:]
	var fields []Field
	for range count {
		name, ok1 := text()
		value, ok2 := text()
		if !ok1 || !ok2 {
			return nil, ErrFirstFrame
		}
		fields = append(fields, Field{name, value})
	}
	if len(b) != 0 {
		return nil, ErrFirstFrame
	}
	return fields, nil
}

func compareFields(peer PartyID, ours, theirs []Field) error {
	for i, f := range ours {
		if i >= len(theirs) || theirs[i].Name != f.Name {
			return &MismatchError{Peer: peer, Field: f.Name, Ours: f.Value, Peers: "(absent)"}
		}
		if theirs[i].Value != f.Value {
			return &MismatchError{Peer: peer, Field: f.Name, Ours: f.Value, Peers: clip(theirs[i].Value)}
		}
	}
	if len(theirs) > len(ours) {
		f := theirs[len(ours)]
		return &MismatchError{Peer: peer, Field: clip(f.Name), Ours: "(absent)", Peers: clip(f.Value)}
	}
	return nil
}

// clip keeps a peer from filling an error, which is logged and recorded, with
// as much as a first frame holds.
func clip(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
