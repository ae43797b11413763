package psi_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/yinqiao/yinqiao/psi/oprf"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// longest keeps the length of the longest message of a run and counts those
// that are about as long as is allowed.
type longest struct {
	mu    sync.Mutex
	bytes int
	full  int
	where string
}

func (l *longest) wrap(link sessiontest.Link, ch session.Channel) session.Channel {
	return sessiontest.Tamper(ch, func(_ int, p []byte) [][]byte {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(p) > l.bytes {
			l.bytes, l.where = len(p), way{link.Self, link.Peer, link.Label}.String()
		}
		if len(p) > session.ChunkSize/2 {
			l.full++
		}
		return [][]byte{p}
	})
}

// However large the sets, no message is longer than a chunk, so none comes near
// a transport's limit.
func TestMessagesStayBelowAChunk(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.Name, func(t *testing.T) {
			n := int64(70_000)
			if k.curve {
				n = 13_000 // 416 KB of points
			}
			p := k.peopleOf(overlaps[4], n, n)
			tr := k.trial(nil, p.tables()...)
			if k.joins { // lists of multiplicities and unmatched rows
				tr = k.trial(params{"join": "full", "duplicates": "join"}, p.tables()...)
			}
			var l longest
			tr.net.Wrap = l.wrap
			p.check(t, tr.good(t))
			if l.bytes > session.ChunkSize {
				t.Errorf("a message of %d bytes, from %s", l.bytes, l.where)
			}
			if l.full < 3 {
				t.Errorf("only %d messages were long, the longest of %d bytes: this test tells nothing", l.full, l.bytes)
			}
		})
	}
}

// rationed is scratch space in which only so many bytes can be written.
type rationed struct {
	scratch.Files
	left *atomic.Int64
}

type rationedWriter struct {
	scratch.Writer
	left *atomic.Int64
}

func (f rationed) Create(name string) (scratch.Writer, error) {
	w, err := f.Files.Create(name)
	return rationedWriter{w, f.left}, err
}

func (w rationedWriter) Write(p []byte) (int, error) {
	if w.left.Add(-int64(len(p))) < 0 {
		return 0, fmt.Errorf("no room: %w", scratch.ErrFull)
	}
	return w.Writer.Write(p)
}

// A disk that is full, sooner or later, at one party ends the run at all, with
// the reason at that party, and nobody has a result. With room again the next
// attempt on the same files succeeds.
func TestFullDisk(t *testing.T) {
	for _, k := range kinds {
		p := k.peopleOf(overlaps[3], 1000, 1000)
		sources := p.tables()
		ps := params{}
		if k.joins {
			ps = params{"duplicates": "join"}
		}
		for party := range k.roles {
			t.Run(fmt.Sprintf("%s/p%d", k.Name, party), func(t *testing.T) {
				const whole = 1 << 40
				var left atomic.Int64
				left.Store(whole)
				fresh := func() trial {
					tr := k.trial(ps, sources...)
					for i := range k.roles {
						files, cache := scratch.Memory(), scratch.Memory()
						if i == party {
							files, cache = rationed{files, &left}, rationed{cache, &left}
						}
						tr.files, tr.caches = append(tr.files, files), append(tr.caches, cache)
					}
					return tr
				}
				p.check(t, fresh().good(t))
				needs := whole - left.Load()
				if needs == 0 && !k.joins && k.Name != oprf.Name {
					return // which writes nothing
				}
				for _, room := range []int64{0, needs - 1} {
					tr := fresh()
					left.Store(room)
					results, out := tr.run(t)
					if !errors.Is(out[party].Err, scratch.ErrFull) {
						t.Errorf("room for %d of %d bytes: p%d: %v", room, needs, party, out[party].Err)
					}
					for i, r := range results {
						if i != party && out[i].Err != nil && !isOne(out[i].Err, ended) {
							t.Errorf("room for %d of %d bytes: p%d: %v", room, needs, i, out[i].Err)
						}
						if out[i].Err != nil && len(r.Fields()) > 0 {
							t.Errorf("room for %d of %d bytes: p%d holds %q", room, needs, i, r.Fields())
						}
					}
					left.Store(whole)
					p.check(t, tr.good(t))
				}
			})
		}
	}
}

// broken is a source that fails at one of its readings, counted from 0, after its
// first rows.
type broken struct {
	table.Source
	at   int64
	read *atomic.Int64
}

var errBroken = errors.New("the file is gone")

func (b broken) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	n := b.read.Add(1) - 1
	return func(yield func(arrow.RecordBatch, error) bool) {
		for batch, err := range b.Source.Batches(ctx) {
			if !yield(batch, err) {
				return
			}
			if n == b.at {
				yield(nil, errBroken)
				return
			}
		}
	}
}

// A party whose table cannot be read any more, while it reads its keys or while
// it makes its result, ends with the reason; the others end too, at once, and
// with no result but the right one.
func TestTableThatBreaks(t *testing.T) {
	for _, k := range kinds {
		p := k.peopleOf(overlaps[3], 1000, 1000)
		for party := range k.roles {
			t.Run(fmt.Sprintf("%s/p%d", k.Name, party), func(t *testing.T) {
				readings := int64(1)
				for at := int64(0); at < readings; at++ {
					tr := k.trial(nil, p.tables()...)
					tr.net.Timeout = 30 * time.Second
					b := broken{tr.sources[party], at, &atomic.Int64{}}
					tr.sources[party] = b
					if at == 0 {
						whole := b
						whole.at = -1
						tr.sources[party] = whole
						tr.good(t)
						readings = b.read.Swap(0)
						tr.sources[party] = b
					}
					results, out := tr.run(t)
					if !errors.Is(out[party].Err, errBroken) || len(results[party].Fields()) > 0 {
						t.Errorf("reading %d: p%d: %v, holding %q", at, party, out[party].Err, results[party].Fields())
					}
					for i, o := range out {
						if i == party {
							continue
						}
						switch {
						case o.Err == nil && results[i].Counts["rows.common"] != p.common:
							t.Errorf("reading %d: p%d has a wrong result", at, i)
						case o.Err != nil && (len(results[i].Fields()) > 0 || !isOne(o.Err, ended)):
							t.Errorf("reading %d: p%d: %v, holding %q", at, i, o.Err, results[i].Fields())
						}
					}
				}
				if readings < 1 || readings > 4 {
					t.Errorf("the table is read %d times", readings)
				}
			})
		}
	}
}

// gone is a channel that breaks off after so many messages.
type gone struct {
	session.Channel
	left int
}

var errGone = errors.New("the network is gone")

func (g *gone) Send(ctx context.Context, p []byte) error {
	if g.left--; g.left < 0 {
		return errGone
	}
	return g.Channel.Send(ctx, p)
}

// A party that leaves at any moment ends the run at all. By default every third
// moment is tried.
func TestPartyThatLeaves(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.Name, func(t *testing.T) {
			tr := k.trial(nil, opened(t, tampered...)[:len(k.roles)]...)
			var honest wires
			tr.net.Wrap = honest.wrap
			want := holdings(t, tr.good(t))
			for i, w := range honest.ways() {
				for at := range honest.views[w].Sent() {
					if !large && (i+at)%3 != 0 {
						continue
					}
					tr.net.Timeout = 30 * time.Second
					tr.net.Wrap = func(l sessiontest.Link, ch session.Channel) session.Channel {
						if (way{l.Self, l.Peer, l.Label}) == w {
							return &gone{ch, at}
						}
						return ch
					}
					results, out := tr.run(t)
					left := false
					for i, o := range out {
						left = left || errors.Is(o.Err, errGone)
						switch {
						case o.Err == nil && !holdingOf(t, results[i]).equal(want[i]):
							t.Errorf("message %d of %v: p%d has a wrong result", at, w, i)
						case o.Err != nil && len(results[i].Fields()) > 0:
							t.Errorf("message %d of %v: p%d has a result and an error", at, w, i)
						case o.Err != nil && !errors.Is(o.Err, errGone) && !isOne(o.Err, ended):
							t.Errorf("message %d of %v: p%d: %v", at, w, i, o.Err)
						}
					}
					if !left {
						t.Errorf("message %d of %v was not sent: %v", at, w, strings.Join(names(tr.sources[0]), " "))
					}
				}
			}
		})
	}
}
