package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/yinqiao/yinqiao/catalog"
)

// rosterEvery is how often the roster is renewed while the node runs; a party
// that was suspended loses its connections then at the latest.
const rosterEvery = 3 * time.Second

// refreshRoster fetches the roster and remembers it for the transport.
func (n *Node) refreshRoster(ctx context.Context) (*catalog.Roster, error) {
	r, err := n.resolver.Roster(ctx)
	if err != nil {
		return nil, err
	}
	n.roster.Store(r)
	n.keysMu.Lock()
	err = n.home.writeKnownKeys(keysOf(r))
	n.keysMu.Unlock()
	if err != nil {
		return nil, err
	}
	n.metrics.PlatformSeen(n.now())
	return r, nil
}

// liveRoster is a fresh roster or, while the platform does not answer, the last
// one as long as it lives: enough to check what a run began with.
func (n *Node) liveRoster(ctx context.Context) (*catalog.Roster, error) {
	r, err := n.refreshRoster(ctx)
	if errors.Is(err, catalog.ErrUnreachable) {
		if last := (*directory)(n).current(); last != nil {
			return last, nil
		}
	}
	return r, err
}

// keepRoster renews the roster until ctx ends, and drops the connections of
// parties that are no longer on it.
func (n *Node) keepRoster(ctx context.Context) {
	tick := time.NewTicker(rosterEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		old := n.roster.Load()
		callCtx, cancel := context.WithTimeout(ctx, 2*time.Second)
		now, err := n.refreshRoster(callCtx)
		cancel()
		if err != nil {
			n.log.Debug("roster not renewed", slog.Any("error", err))
			continue
		}
		if old == nil {
			continue
		}
		for _, p := range old.Parties() {
			q, ok := now.Party(p.ID)
			if p.ID != n.cfg.Party && !p.Suspended && (!ok || q.Suspended || string(q.PublicKey) != string(p.PublicKey)) {
				n.log.Warn("party left the roster", slog.String("peer", p.ID))
				n.peers.Drop(p.ID)
			}
		}
	}
}

// directory is the roster as the transport asks it: who holds a key, and where
// a party is. A roster past its life names nobody.
type directory Node

func (d *directory) current() *catalog.Roster {
	r := (*Node)(d).roster.Load()
	if r == nil || (*Node)(d).now().After(r.Expires().Add(clockSkew)) {
		return nil
	}
	return r
}

// askAgain spaces the questions that an unknown key or party can cause.
const askAgain = time.Second

// find looks a party up, and once more on a fresh roster where it is unknown:
// it may have enrolled a moment ago.
func (d *directory) find(look func(*catalog.Roster) (catalog.Party, bool)) (catalog.Party, bool) {
	n := (*Node)(d)
	if r := d.current(); r != nil {
		if p, ok := look(r); ok {
			return p, !p.Suspended
		}
	}
	last := n.asked.Load()
	now := n.now().UnixNano()
	if now-last < int64(askAgain) || !n.asked.CompareAndSwap(last, now) {
		return catalog.Party{}, false
	}
	ctx, cancel := context.WithTimeout(n.ctx, 2*time.Second)
	defer cancel()
	r, err := n.refreshRoster(ctx)
	if err != nil {
		return catalog.Party{}, false
	}
	p, ok := look(r)
	return p, ok && !p.Suspended
}

// ByKey returns the party whose pinned key this is.
func (d *directory) ByKey(public []byte) (string, bool) {
	p, ok := d.find(func(r *catalog.Roster) (catalog.Party, bool) { return r.ByKey(public) })
	return p.ID, ok
}

// ByID returns a party's endpoint and pinned key.
func (d *directory) ByID(id string) (string, []byte, bool) {
	p, ok := d.find(func(r *catalog.Roster) (catalog.Party, bool) { return r.Party(id) })
	return p.Endpoint, p.PublicKey, ok
}
