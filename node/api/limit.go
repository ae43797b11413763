package api

import (
	"sync"
	"time"
)

// Failed attempts from one address: a burst, and then one every so often.
const (
	failBurst = 10
	failEvery = 3 * time.Second
	// maxBuckets bounds the addresses remembered, about 100 bytes each; those
	// beyond it share one bucket.
	maxBuckets = 4096
)

// throttle counts failed attempts by address in token buckets.
type throttle struct {
	now func() time.Time

	mu      sync.Mutex
	buckets map[string]*bucket
	rest    bucket
}

// bucket is full at its zero value: spent counts what is missing.
type bucket struct {
	spent float64
	at    time.Time
}

func newThrottle() *throttle {
	return &throttle{now: time.Now, buckets: make(map[string]*bucket)}
}

// fail counts a failed attempt and reports whether it is within the rate.
func (t *throttle) fail(address string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	b := t.buckets[address]
	if b == nil {
		if len(t.buckets) >= maxBuckets {
			t.forget(now)
		}
		b = &t.rest
		if len(t.buckets) < maxBuckets {
			b = new(bucket)
			t.buckets[address] = b
		}
	}
	b.refill(now)
	if b.spent+1 > failBurst {
		return false
	}
	b.spent++
	return true
}

func (b *bucket) refill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.spent = max(0, b.spent-float64(d)/float64(failEvery))
		b.at = now
	}
}

// forget drops the buckets that are full again.
func (t *throttle) forget(now time.Time) {
	for a, b := range t.buckets {
		if b.refill(now); b.spent == 0 {
			delete(t.buckets, a)
		}
	}
}
