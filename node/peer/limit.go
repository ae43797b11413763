package peer

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// bucket is a token bucket; its owner's lock guards it.
type bucket struct {
	rate, burst, tokens float64
	last                time.Time
}

func newBucket(rate float64, burst int) bucket {
	return bucket{rate: rate, burst: float64(burst), tokens: float64(burst), last: time.Now()}
}

func (b *bucket) take(now time.Time) bool {
	if d := now.Sub(b.last); d > 0 {
		b.tokens = min(b.burst, b.tokens+d.Seconds()*b.rate)
		b.last = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// handshakes bounds the connections of which nothing is known yet.
type handshakes struct {
	total, perHost int

	mu    sync.Mutex
	busy  int
	hosts map[string]int // as many as busy at most
}

func (h *handshakes) enter(host string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy >= h.total || h.hosts[host] >= h.perHost {
		return false
	}
	h.busy++
	h.hosts[host]++
	return true
}

func (h *handshakes) leave(host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy--
	if h.hosts[host]--; h.hosts[host] == 0 {
		delete(h.hosts, host)
	}
}

// memory remembers the last n strings.
type memory struct {
	ring []string
	next int
	set  map[string]bool
}

func newMemory(n int) *memory { return &memory{ring: make([]string, n), set: make(map[string]bool)} }

func (m *memory) add(s string) {
	if m.set[s] {
		return
	}
	delete(m.set, m.ring[m.next])
	m.ring[m.next] = s
	m.next = (m.next + 1) % len(m.ring)
	m.set[s] = true
}

func (m *memory) has(s string) bool { return m.set[s] }

// Security events are written to a log that syncs to disk: a peer must not be
// able to make a node write more than this.
const (
	eventRate  = 2 // per second
	eventBurst = 64
	lastEvents = 5 * time.Second
)

type event struct{ party, rule, detail string }

// events hands security events to the node from one goroutine, and counts
// those it leaves out.
type events struct {
	queue chan event

	mu      sync.Mutex
	bucket  bucket
	dropped int
}

func newEvents() *events {
	return &events{queue: make(chan event, eventBurst), bucket: newBucket(eventRate, eventBurst)}
}

func (e *events) add(ev event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.bucket.take(time.Now()) {
		e.dropped++
		return
	}
	if e.dropped > 0 {
		ev.detail = fmt.Sprintf("%s (and %d other events since the last one)", ev.detail, e.dropped)
	}
	select {
	case e.queue <- ev:
		e.dropped = 0
	default:
		e.dropped++
	}
}

func (e *events) deliver(ctx context.Context, h Handler) {
	for {
		select {
		case ev := <-e.queue:
			h.SecurityEvent(ctx, ev.party, ev.rule, ev.detail)
		case <-ctx.Done():
			// What was seen before the end is still told, within reason.
			for end := time.Now().Add(lastEvents); time.Now().Before(end); {
				select {
				case ev := <-e.queue:
					h.SecurityEvent(ctx, ev.party, ev.rule, ev.detail)
				default:
					return
				}
			}
			return
		}
	}
}

func (p *Peers) event(party, rule, detail string) { p.events.add(event{party, rule, detail}) }
