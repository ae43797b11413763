package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/yinqiao/yinqiao/session"
)

// SessionConfig describes a session to this node's end of the network.
type SessionConfig struct {
	ID      string            // unique for ever; printable ASCII without spaces
	Self    session.PartyID   // the Party of Config
	Parties []session.PartyID // in the contract's order, the same at every party
	// Digest is the contract's. A peer whose stream brings another one is
	// refused.
	Digest []byte
	// Lost, if not nil, is told at most once per peer that a channel to it
	// failed for a reason of the peer's or of the network's, while the protocol
	// may be busy elsewhere: a session.ErrGone (ErrPeerGone, ErrIdle, ErrNoStream,
	// ErrDropped), with which all channels to that peer fail, or ErrProtocol or
	// ErrQuota. It must not block, and must not close the Link.
	Lost func(peer session.PartyID, err error)
}

// Link is one party's end of one session: the channels to all of its peers.
// Of each pair the party that stands earlier in Parties dials, and the other
// waits. Its methods are safe for concurrent use.
type Link struct {
	peers  *Peers
	cfg    SessionConfig
	self   int
	ctx    context.Context
	cancel context.CancelCauseFunc
	bytes  atomic.Int64
	wg     sync.WaitGroup // streams, in both directions

	release   func() bool   // unties the session from the life of peers
	closing   chan struct{} // closed as Close begins
	closeOnce sync.Once
	closeErr  error

	mu       sync.Mutex
	done     bool // nothing may be added to wg
	channels map[channelKey]*channel
	labels   map[session.PartyID]int
	lost     map[session.PartyID]error // the first failure, or the first session.ErrGone
}

type channelKey struct {
	peer  session.PartyID
	label string
}

// OpenSession registers a session, from which moment on its peers' streams are
// accepted; a stream that came a little early is waiting for it. Channels end
// when ctx does, with its cause. An ID that was used before is refused with
// ErrReplayed. The caller closes the Link.
func (p *Peers) OpenSession(ctx context.Context, cfg SessionConfig) (*Link, error) {
	self := slices.Index(cfg.Parties, cfg.Self)
	switch {
	case cfg.ID == "" || !validName(cfg.ID):
		return nil, errors.New("peer: the session ID is blank, too long or not printable ASCII")
	case self < 0 || string(cfg.Self) != p.cfg.Party:
		return nil, errors.New("peer: the session is not one of this node's")
	case len(cfg.Digest) > maxName:
		return nil, fmt.Errorf("peer: the contract digest exceeds %d bytes", maxName)
	}
	for i, party := range cfg.Parties {
		if slices.Contains(cfg.Parties[:i], party) {
			return nil, fmt.Errorf("peer: party %q is named twice", party)
		}
		if _, _, ok := p.cfg.Directory.ByID(string(party)); !ok && i != self {
			return nil, fmt.Errorf("%w: %q", ErrUnknownParty, party)
		}
	}
	cfg.Parties, cfg.Digest = slices.Clone(cfg.Parties), bytes.Clone(cfg.Digest)
	if err := p.claim(ctx, cfg.ID); err != nil {
		return nil, err
	}
	l := &Link{
		peers: p, cfg: cfg, self: self,
		closing:  make(chan struct{}),
		channels: make(map[channelKey]*channel),
		labels:   make(map[session.PartyID]int),
		lost:     make(map[session.PartyID]error),
	}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	l.release = context.AfterFunc(p.ctx, func() { l.cancel(ErrClosed) })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links[cfg.ID] = l
	if a := p.arrivals[cfg.ID]; a != nil {
		close(a.opened)
		delete(p.arrivals, cfg.ID)
	}
	return l, nil
}

// claim makes sure that id is used once. A nil entry in links holds its place
// while Seen is asked.
func (p *Peers) claim(ctx context.Context, id string) error {
	p.mu.Lock()
	if p.ctx.Err() != nil {
		p.mu.Unlock()
		return ErrClosed
	}
	if _, live := p.links[id]; live || p.ended.has(id) {
		p.mu.Unlock()
		return ErrReplayed
	}
	p.links[id] = nil
	p.mu.Unlock()
	if p.cfg.Seen == nil {
		return nil
	}
	if err := p.cfg.Seen(ctx, id); err != nil {
		p.retire(id)
		return fmt.Errorf("peer: session %q: %w", id, err)
	}
	return nil
}

func (p *Peers) retire(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, id)
	p.ended.add(id)
}

// Opener returns how this party opens channels. It does not wait for the peer:
// the first Send or Recv of a channel does.
func (l *Link) Opener() session.Opener { return l.open }

func (l *Link) open(ctx context.Context, peer session.PartyID, label string) (session.Channel, error) {
	at := slices.Index(l.cfg.Parties, peer)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case at < 0 || at == l.self:
		return nil, fmt.Errorf("%w: %q is not a peer of this session", ErrUnknownParty, peer)
	case !validName(label):
		return nil, fmt.Errorf("%w: %d bytes", ErrLabel, len(label))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := l.channelLocked(peer, label)
	if err != nil {
		return nil, err
	}
	if c.opened {
		return nil, fmt.Errorf("%w: %q with %s", ErrLabel, label, peer)
	}
	c.opened = true
	close(c.wanted)
	switch {
	case !c.attached && errors.Is(l.lost[peer], session.ErrGone): // and accept takes no more of its streams
		c.cancel(l.lost[peer])
		close(c.ended)
	case l.self < at:
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			c.dial()
		}()
	case !c.attached:
		c.timer = time.AfterFunc(l.peers.limits.Open, c.overdue)
	}
	return c, nil
}

// accept gives a peer's stream its channel. On success the caller owes
// l.wg.Done.
func (l *Link) accept(name, label string, digest []byte) (*channel, error) {
	peer := session.PartyID(name)
	at := slices.Index(l.cfg.Parties, peer)
	switch {
	case at < 0 || at == l.self:
		return nil, ErrUnknownSession // which sessions there are is not for others
	case at > l.self:
		return nil, Refuse("wrong_party") // of this pair, this party dials
	case !bytes.Equal(digest, l.cfg.Digest):
		return nil, ErrContract
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.lost[peer], session.ErrGone) {
		return nil, ErrPeerGone
	}
	c, err := l.channelLocked(peer, label)
	if err != nil {
		return nil, err
	}
	if c.attached {
		return nil, ErrLabel
	}
	c.attached = true
	if c.timer != nil {
		c.timer.Stop()
	}
	l.wg.Add(1)
	return c, nil
}

func (l *Link) channelLocked(peer session.PartyID, label string) (*channel, error) {
	if l.done {
		return nil, ErrReplayed
	}
	if l.ctx.Err() != nil {
		return nil, context.Cause(l.ctx)
	}
	key := channelKey{peer, label}
	if c := l.channels[key]; c != nil {
		return c, nil
	}
	if l.labels[peer] >= l.peers.limits.Labels {
		return nil, fmt.Errorf("%w: the session has as many channels with %s as it may", ErrBusy, peer)
	}
	l.labels[peer]++
	c := newChannel(l, peer, label)
	l.channels[key] = c
	return c, nil
}

// talking says that some stream with peer is up: it is alive, and only late
// in opening another.
func (l *Link) talking(peer session.PartyID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, c := range l.channels {
		if k.peer == peer && c.attached && c.ctx.Err() == nil {
			return true
		}
	}
	return false
}

// carry counts payload against the session's quota.
func (l *Link) carry(n int) error {
	if l.bytes.Add(int64(n)) > l.peers.limits.SessionBytes {
		return ErrQuota
	}
	return nil
}

// Leave ends all channels to a peer that is known to be gone, or out of the
// session, by other means than its streams. Channels to the others go on.
func (l *Link) Leave(peer session.PartyID, why error) {
	if l.ctx.Err() == nil {
		l.report(peer, fmt.Errorf("%w: %w", ErrPeerGone, why))
	}
}

// report passes on the first failure of a peer. One that is gone on one channel
// is gone on all: nobody waits on another for it.
func (l *Link) report(peer session.PartyID, err error) {
	l.mu.Lock()
	before := l.lost[peer]
	gone := errors.Is(err, session.ErrGone) && !errors.Is(before, session.ErrGone)
	if before == nil || gone {
		l.lost[peer] = err
	}
	l.mu.Unlock()
	if gone {
		l.failPeer(peer, err)
	}
	if before != nil {
		return
	}
	l.peers.log.Info("peer lost", slog.String("session", l.cfg.ID), slog.String("peer", string(peer)), slog.String("class", Reason(err)))
	if l.cfg.Lost != nil {
		l.cfg.Lost(peer, err)
	}
}

func (l *Link) failPeer(peer session.PartyID, err error) {
	for _, c := range l.snapshot() {
		if c.peer == peer {
			c.fail(err)
		}
	}
}

func (l *Link) snapshot() []*channel {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*channel, 0, len(l.channels))
	for _, c := range l.channels {
		all = append(all, c)
	}
	return all
}

// Abort ends the session's channels at once, here with cause and at every peer
// with ErrPeerGone. Close is still due.
func (l *Link) Abort(cause error) {
	if cause == nil {
		cause = ErrClosed
	}
	l.cancel(cause)
}

// Close ends this party's messages on every channel, waits until its peers
// have received all of them and ended theirs, and takes the streams down. It
// waits no longer than a peer lives and ctx of OpenSession lasts: after a
// failure, end that ctx or call Abort first. It returns the reason of the
// first channel that did not end cleanly, of those first that is no
// session.ErrGone. Streams of this session are refused from then on.
func (l *Link) Close() error {
	l.closeOnce.Do(func() {
		close(l.closing)
		drained := make(map[*channel]bool)
		for {
			late := l.undrained(drained)
			if len(late) == 0 {
				break
			}
			for _, c := range late {
				_ = c.CloseSend() // drain says how it ended
			}
			for _, c := range late {
				err := c.drain()
				if err != nil && (l.closeErr == nil || errors.Is(l.closeErr, session.ErrGone) && !errors.Is(err, session.ErrGone)) {
					l.closeErr = err
				}
				drained[c] = true
			}
		}
		l.cancel(ErrClosed)
		l.release()
		l.wg.Wait()
		l.peers.retire(l.cfg.ID)
	})
	return l.closeErr
}

// undrained returns the channels that are not in drained: those of a peer may
// still come while this side closes. When there are none, no more are taken.
func (l *Link) undrained(drained map[*channel]bool) []*channel {
	l.mu.Lock()
	defer l.mu.Unlock()
	var late []*channel
	for _, c := range l.channels {
		if !drained[c] {
			late = append(late, c)
		}
	}
	l.done = len(late) == 0
	return late
}
