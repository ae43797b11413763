package ui

import (
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const (
	// lineEvery spaces the lines of progress where there is no terminal.
	lineEvery = 3 * time.Second
	// maxBars bounds the stages shown at once.
	maxBars = 12
	// maxStage bounds a stage's name, in columns.
	maxStage = 32
)

// Progress shows how far long work is: a bar for each stage on a terminal, a
// line every few seconds elsewhere, nothing where the output is for machines.
// It is safe for concurrent use.
type Progress struct {
	mu   sync.Mutex
	show func(stage string, done, total int64, pace string)
	end  func()
}

// NewProgress returns a Progress that writes to w; silent asks for nothing.
// Close it before anything else is written to w.
func NewProgress(w io.Writer, silent bool) *Progress {
	switch {
	case silent:
		return &Progress{}
	case IsTerminal(w):
		return newBars(w)
	}
	return newLines(w, time.Now)
}

// Update says that stage has done units of total; total 0 means unknown.
func (p *Progress) Update(stage string, done, total int64) {
	p.UpdatePace(stage, done, total, 0, 0)
}

// UpdatePace is Update with the units done a second and the seconds that the
// stage still takes; 0 means unknown.
func (p *Progress) UpdatePace(stage string, done, total int64, rate, left float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.show == nil || stage == "" {
		return
	}
	stage = cellWidth.Truncate(Clean(stage), maxStage, "…")
	total = max(total, 0)
	done = max(done, 0)
	if total > 0 {
		done = min(done, total)
	}
	p.show(stage, done, total, paceText(rate, left))
}

// paceText is " · 310 k/s · 12 s left", or what of it is known.
func paceText(rate, left float64) string {
	text := ""
	if rate > 0 && !math.IsInf(rate, 0) {
		text = " · " + rateText(rate)
	}
	if left > 0 && left < 1e7 { // a hundred days are as good as unknown
		text += " · " + leftText(left) + " left"
	}
	return text
}

func rateText(r float64) string {
	unit := ""
	for _, next := range []string{" k", " M", " G"} {
		if r < 999.5 {
			break
		}
		r, unit = r/1000, next
	}
	if r < 9.95 {
		return fmt.Sprintf("%.1f%s/s", r, unit)
	}
	return fmt.Sprintf("%.0f%s/s", r, unit)
}

func leftText(seconds float64) string {
	s := int64(math.Ceil(seconds))
	switch {
	case s < 100:
		return fmt.Sprintf("%d s", s)
	case s < 100*60:
		return fmt.Sprintf("%d min", (s+59)/60)
	}
	return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
}

// Close ends the display. Later updates show nothing.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end != nil {
		p.end()
	}
	p.show, p.end = nil, nil
}

func newLines(w io.Writer, now func() time.Time) *Progress {
	var last time.Time
	return &Progress{show: func(stage string, done, total int64, pace string) {
		t := now()
		if !last.IsZero() && t.Sub(last) < lineEvery {
			return
		}
		last = t
		switch {
		case total > 0:
			fmt.Fprintf(w, "%s: %s of %s (%d%%)%s\n", stage, Count(done), Count(total), int64(float64(done)/float64(total)*100), pace)
		case done > 0:
			fmt.Fprintf(w, "%s: %s%s\n", stage, Count(done), pace)
		default:
			fmt.Fprintf(w, "%s\n", stage)
		}
	}}
}

func newBars(w io.Writer, more ...mpb.ContainerOption) *Progress {
	container := mpb.New(append([]mpb.ContainerOption{mpb.WithOutput(w), mpb.WithWidth(64)}, more...)...)
	bars := make(map[string]*mpb.Bar)
	paces := make(map[string]*atomic.Value) // of strings, read as the bars are drawn
	var last string
	return &Progress{
		show: func(stage string, done, total int64, text string) {
			bar, pace := bars[stage], paces[stage]
			if bar == nil {
				if len(bars) >= maxBars {
					return
				}
				pace = &atomic.Value{}
				paces[stage] = pace
				bar = container.New(0, mpb.BarStyle(), // 0: SetTotal ends it, not the count
					mpb.PrependDecorators(decor.Name(stage, decor.WCSyncSpaceR)),
					mpb.AppendDecorators(
						decor.Any(func(s decor.Statistics) string {
							if s.Total <= 0 {
								return Count(s.Current)
							}
							return Count(s.Current) + " / " + Count(s.Total)
						}, decor.WCSyncSpace),
						decor.Elapsed(decor.ET_STYLE_GO, decor.WCSyncSpace),
						decor.Any(func(s decor.Statistics) string {
							if s.Completed || s.Aborted {
								return ""
							}
							text, _ := pace.Load().(string)
							return text
						}),
					))
				bars[stage] = bar
			}
			if before := bars[last]; last != stage && before != nil {
				before.SetTotal(-1, true) // it ended where it was: views come now and then
			}
			pace.Store(text)
			last = stage
			if total > 0 {
				bar.SetTotal(total, false)
			}
			bar.SetCurrent(done)
		},
		end: func() {
			for _, bar := range bars {
				bar.Abort(false) // a bar that is complete stays so
			}
			container.Wait()
		},
	}
}
