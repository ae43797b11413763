// Package session is what a protocol sees of the world: itself, its ordered
// peers, one [Channel] to each of them, and a source of randomness.
//
// A protocol written against a [Session] runs unchanged over an in-memory pipe
// (tests), gRPC (nodes) and a shaped link (benchmarks). It begins with
// [Session.Bind], which makes sure that all parties mean the same protocol,
// version, parameters, session and order of parties before anything else is
// said, and names the field in which they differ.
//
// A Session is used by one goroutine at a time; concurrent sub-protocols each
// take a sub-session from [Session.Fork].
package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
)

// PartyID names a party as the platform's roster does, for example "zs-bank".
type PartyID string

// Opener opens the channel to peer for the (sub-)session called label: "" is
// the session itself, "align" a fork of it, "align/x" a fork of that. Both
// parties open the same label; a label is opened once.
type Opener func(ctx context.Context, peer PartyID, label string) (Channel, error)

// Config describes one party's end of a session.
type Config struct {
	ID      string    // unique for ever; part of the transcript
	Self    PartyID   // one of Parties
	Parties []PartyID // in the order of the contract, the same at every party
	Open    Opener
	Rand    io.Reader // nil means crypto/rand
	Log     *slog.Logger
	Meter   *Meter // nil means a fresh one
	// Progress hears how far a stage is; total 0 means unknown. It may be nil
	// and must be safe for concurrent use.
	Progress func(stage string, done, total int64)
}

// Session is one party's end of one attempt at a computation.
type Session struct {
	cfg        Config
	label      string
	peers      map[PartyID]Channel
	transcript [32]byte
	bound      bool
}

// New validates cfg and opens the session's channels to every peer.
func New(ctx context.Context, cfg Config) (*Session, error) {
	switch {
	case cfg.ID == "":
		return nil, errors.New("session: no session ID")
	case !slices.Contains(cfg.Parties, cfg.Self):
		return nil, fmt.Errorf("session: %q is not one of the parties", cfg.Self)
	case cfg.Open == nil && len(cfg.Parties) > 1:
		return nil, errors.New("session: no way to open channels")
	}
	for i, p := range cfg.Parties {
		if p == "" || slices.Contains(cfg.Parties[:i], p) {
			return nil, fmt.Errorf("session: party %d is blank or named twice", i)
		}
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Meter == nil {
		cfg.Meter = NewMeter()
	}
	return open(ctx, cfg, "")
}

func open(ctx context.Context, cfg Config, label string) (*Session, error) {
	s := &Session{cfg: cfg, label: label, peers: make(map[PartyID]Channel)}
	for _, p := range cfg.Parties {
		if p == cfg.Self {
			continue
		}
		ch, err := cfg.Open(ctx, p, label)
		if err != nil {
			return nil, fmt.Errorf("session: open channel to %s: %w", p, err)
		}
		s.peers[p] = cfg.Meter.wrap(ch, p)
	}
	return s, nil
}

// ID returns the session's ID.
func (s *Session) ID() string { return s.cfg.ID }

// Label returns "" for a session and the path of labels for a fork.
func (s *Session) Label() string { return s.label }

// Self returns the party this end belongs to.
func (s *Session) Self() PartyID { return s.cfg.Self }

// Parties returns all parties in the contract's order.
func (s *Session) Parties() []PartyID { return slices.Clone(s.cfg.Parties) }

// Peer returns the channel to id; nil where id is not a peer.
func (s *Session) Peer(id PartyID) Channel { return s.peers[id] }

// Other returns the one peer of a two-party session, and its channel.
func (s *Session) Other() (PartyID, Channel, error) {
	if len(s.cfg.Parties) != 2 {
		return "", nil, fmt.Errorf("session: two-party protocol in a session of %d parties", len(s.cfg.Parties))
	}
	for id, ch := range s.peers {
		return id, ch, nil
	}
	return "", nil, errors.New("session: no peer")
}

// Rand returns the source of all of the protocol's randomness.
func (s *Session) Rand() io.Reader { return s.cfg.Rand }

// WithRand returns the same session with another source of randomness. Forks and
// pairs of it that run at the same time each need one where the session's own is
// not safe for concurrent use.
func (s *Session) WithRand(r io.Reader) *Session {
	other := *s
	other.cfg.Rand = r
	return &other
}

// Log returns a logger that names the session.
func (s *Session) Log() *slog.Logger { return s.cfg.Log }

// Meter returns the session's meter, shared with its forks.
func (s *Session) Meter() *Meter { return s.cfg.Meter }

// Progress reports that a stage has done units of total (0: unknown).
func (s *Session) Progress(stage string, done, total int64) {
	if s.cfg.Progress != nil {
		s.cfg.Progress(stage, done, total)
	}
}

// Fork opens a sub-session with channels of its own, for a sub-protocol. Both
// parties fork with the same label, each label once.
func (s *Session) Fork(ctx context.Context, label string) (*Session, error) {
	if label == "" {
		return nil, errors.New("session: fork without a label")
	}
	if s.label != "" {
		label = s.label + "/" + label
	}
	return open(ctx, s.cfg, label)
}

// Pair opens a sub-session with one peer alone, for a two-party sub-protocol of
// a larger session. The two parties pair with the same label, each label once.
func (s *Session) Pair(ctx context.Context, label string, peer PartyID) (*Session, error) {
	if label == "" {
		return nil, errors.New("session: pair without a label")
	}
	if s.peers[peer] == nil {
		return nil, fmt.Errorf("session: %q is not a peer", peer)
	}
	if s.label != "" {
		label = s.label + "/" + label
	}
	cfg := s.cfg
	cfg.Parties = slices.DeleteFunc(s.Parties(), func(p PartyID) bool { return p != cfg.Self && p != peer })
	return open(ctx, cfg, label)
}

// CloseSend ends this party's messages to every peer.
func (s *Session) CloseSend() error {
	var errs []error
	for _, ch := range s.peers {
		errs = append(errs, ch.CloseSend())
	}
	return errors.Join(errs...)
}
