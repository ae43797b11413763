package node

import (
	"math"
	"time"
)

const (
	// paceEvery spaces the measurements of a stage's rate.
	paceEvery = 500 * time.Millisecond
	// paceMemory is how far back a rate looks: older work counts 1/e.
	paceMemory = 5 * time.Second
	// paceLeast is how long a stage runs before its rate means anything.
	paceLeast = time.Second
)

// pace is how far a stage is and how fast it goes: a rate smoothed
// exponentially over paceMemory.
type pace struct {
	stage       string
	done, total int64

	began    time.Time // the stage
	measured time.Time
	at       int64 // done when measured
	rate     float64
	known    bool // rate has been measured at all
}

// update takes in what a protocol says of its progress.
func (p *pace) update(now time.Time, stage string, done, total int64) {
	if stage != p.stage || done < p.at || p.began.IsZero() {
		*p = pace{stage: stage, done: done, total: total, began: now, measured: now, at: done}
		return
	}
	p.done, p.total = done, total
	if now.Sub(p.measured) >= paceEvery {
		p.rate, p.known = p.smoothed(now), true
		p.measured, p.at = now, done
	}
}

// smoothed is the rate with what has been done since the last measurement.
func (p *pace) smoothed(now time.Time) float64 {
	dt := now.Sub(p.measured).Seconds()
	if dt <= 0 {
		return p.rate
	}
	latest := float64(p.done-p.at) / dt
	if !p.known {
		return latest
	}
	return p.rate + (1-math.Exp(-dt/paceMemory.Seconds()))*(latest-p.rate)
}

// outlook returns the units a second and the seconds that the rest of the stage
// will take, 0 where they are not known. A stage that has come to a halt slows
// down in it.
func (p *pace) outlook(now time.Time) (rate, left float64) {
	if p.began.IsZero() || p.done <= 0 || now.Sub(p.began) < paceLeast {
		return 0, 0
	}
	rate = p.rate
	if now.Sub(p.measured) >= paceEvery {
		rate = p.smoothed(now)
	}
	if rate <= 0 {
		return 0, 0
	}
	if rest := p.total - p.done; rest > 0 {
		left = float64(rest) / rate
	}
	return rate, left
}
