package node

import (
	"fmt"
	"sync"
	"time"
)

const (
	// A peer's refusals are recorded one by one up to eventBurst, and from then
	// on one every eventEvery with the number of those in between: a storm of
	// proposals must not fill the log.
	eventBurst = 50
	eventEvery = 2 * time.Second
)

// eventGate decides which refusals of a peer are recorded one by one.
type eventGate struct {
	mu    sync.Mutex
	peers map[string]*eventCount // parties of the roster, so it stays small
}

type eventCount struct {
	tokens  float64
	at      time.Time
	skipped int64
}

// pass reports whether an event of peer is recorded, and how many were skipped
// before it. Events that no peer caused always are.
func (g *eventGate) pass(peer string, now time.Time) (skipped int64, ok bool) {
	if peer == "" {
		return 0, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.peers == nil {
		g.peers = make(map[string]*eventCount)
	}
	c := g.peers[peer]
	if c == nil {
		c = &eventCount{tokens: eventBurst, at: now}
		g.peers[peer] = c
	}
	c.tokens = min(eventBurst, c.tokens+now.Sub(c.at).Seconds()/eventEvery.Seconds())
	c.at = now
	if c.tokens < 1 {
		c.skipped++
		return 0, false
	}
	c.tokens--
	skipped, c.skipped = c.skipped, 0
	return skipped, true
}

func withSkipped(detail string, skipped int64) string {
	if skipped == 0 {
		return detail
	}
	return fmt.Sprintf("%s (and %d refusals of this peer before it that were not recorded one by one)", detail, skipped)
}
