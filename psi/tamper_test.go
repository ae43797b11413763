package psi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	voprf "github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/ot"
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/psi/ecdh"
	"github.com/yinqiao/yinqiao/psi/multi"
	"github.com/yinqiao/yinqiao/psi/oprf"
	"github.com/yinqiao/yinqiao/psi/rr22"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// faults of the family that a caller can tell apart, in messages that were
// changed on their way. That a set is below a minimum, a key comes twice or a
// cache is damaged are none of them.
var faults = []error{
	align.ErrMessage, align.ErrDisagree, align.ErrSize, align.ErrInputChanged,
	ecdh.ErrMessage, ecdh.ErrDisagree, ecdh.ErrSize, ecdh.ErrPoint,
	rr22.ErrMessage, rr22.ErrDisagree, rr22.ErrSize, rr22.ErrCheat,
	oprf.ErrMessage, oprf.ErrDisagree, oprf.ErrSize,
	multi.ErrMessage, multi.ErrDisagree, multi.ErrSize,
	voprf.ErrMessage, voprf.ErrSize, voprf.ErrCheat, vole.ErrMessage, vole.ErrDisagree, vole.ErrSize, vole.ErrCode, ot.ErrMessage, ot.ErrSize, ot.ErrCheat,
	session.ErrMismatch, session.ErrFirstFrame, session.ErrTooLarge, io.ErrUnexpectedEOF, errIdle,
}

// ended are the errors of a party whose peer has gone.
var ended = []error{sessiontest.ErrPeerFailed, context.Canceled, io.EOF, io.ErrUnexpectedEOF}

func isOne(err error, of []error) bool {
	return slices.ContainsFunc(of, func(target error) bool { return errors.Is(err, target) })
}

// way is one direction of one channel.
type way struct {
	from, to session.PartyID
	label    string
}

func (w way) String() string { return fmt.Sprintf("%s to %s on %q", w.from, w.to, w.label) }

// wires is what was sent over each way in a run.
type wires struct {
	mu    sync.Mutex
	views map[way]*sessiontest.View
}

func (ws *wires) wrap(l sessiontest.Link, ch session.Channel) session.Channel {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.views == nil {
		ws.views = make(map[way]*sessiontest.View)
	}
	v := &sessiontest.View{}
	ws.views[way{l.Self, l.Peer, l.Label}] = v
	return sessiontest.Record(ch, v)
}

// ways returns those on which something was sent, in a fixed order.
func (ws *wires) ways() (all []way) {
	for w, v := range ws.views {
		if len(v.Sent()) > 0 {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b way) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// attack changes message at; old is what was sent in its place in another
// session between the same parties with the same tables.
type attack struct {
	name   string
	change func(at int, old []byte) sessiontest.Change
	lost   bool // a message: both sides may wait, and a deadline ends that, as a node's for idle sessions
}

var attacks = []attack{
	{name: "flip the first bits", change: func(at int, _ []byte) sessiontest.Change { return sessiontest.Flip(at, 1) }},
	{name: "flip the number", change: func(at int, _ []byte) sessiontest.Change { return sessiontest.Flip(at, 9) }},
	{name: "flip the middle", change: func(at int, old []byte) sessiontest.Change { return sessiontest.Flip(at, 4*len(old)+2) }},
	{name: "flip the last bit", change: func(at int, old []byte) sessiontest.Change { return sessiontest.Flip(at, 8*len(old)-1) }},
	{name: "drop", change: func(at int, _ []byte) sessiontest.Change { return sessiontest.Drop(at) }, lost: true},
	{name: "reorder", change: func(at int, _ []byte) sessiontest.Change { return sessiontest.Swap(at) }, lost: true},
	{name: "repeat", change: func(at int, _ []byte) sessiontest.Change { return sessiontest.Repeat(at) }},
	{name: "replay the one before", change: func(at int, _ []byte) sessiontest.Change {
		var last []byte
		return func(i int, p []byte) [][]byte {
			q := p
			if i == at && at > 0 {
				q = last
			}
			last = p
			return [][]byte{q}
		}
	}},
	{name: "replay another session's", change: sessiontest.Replace},
	{name: "cut a byte", change: func(at int, _ []byte) sessiontest.Change { return sessiontest.Truncate(at, 1) }},
	{name: "cut half", change: func(at int, old []byte) sessiontest.Change { return sessiontest.Truncate(at, len(old)/2+1) }},
	{name: "empty", change: func(at int, _ []byte) sessiontest.Change { return sessiontest.Replace(at, nil) }},
	{name: "grow", change: func(at int, _ []byte) sessiontest.Change { return sessiontest.Grow(at, 1) }},
}

// A message of any kind that is changed, lost, cut, repeated or taken from
// another session ends the run at once: with an error that a caller can tell
// apart at the party that finds it, and with its peer's end at the others. No
// party that ends well has a wrong result.
//
// By default this tries about fifty messages of each kind, spread evenly
// over ways, positions and attacks.
func TestTampering(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.Name, func(t *testing.T) {
			tr := k.trial(nil, opened(t, tampered...)[:len(k.roles)]...)
			if k.joins { // so that everything is said that can be
				tr = k.trial(params{"join": "full", "duplicates": "join"}, opened(t, tamperedDuplicates...)...)
			}
			var honest wires
			tr.net.Wrap = honest.wrap
			want := holdings(t, tr.good(t))

			type target struct {
				way
				at int
				attack
			}
			var targets []target
			for _, w := range honest.ways() {
				for at := range honest.views[w].Sent() {
					for _, a := range attacks {
						targets = append(targets, target{w, at, a})
					}
				}
			}
			step := 1
			if !large {
				step = max(1, len(targets)/50)
				for step%len(attacks) == 0 {
					step++
				}
			}
			for i := 0; i < len(targets); i += step {
				x := targets[i]
				t.Run(fmt.Sprintf("%s/%d of %v", x.name, x.at, x.way), func(t *testing.T) {
					t.Parallel()
					tamperWith(t, tr, x.way, honest.views[x.way].Sent(), x.at, x.attack, want)
				})
			}
		})
	}
}

var (
	tampered = []file{
		idFile("a", "b", "c", "d", "e", "f", "g", "h", "i"), idFile("x", "g", "c", "y", "a", "e", "z"), idFile("e", "f", "q", "a", "c"),
	}
	tamperedDuplicates = []file{
		idFile("a", "b", "c", "d", "c", "f", "g", "a", "i", "c"), idFile("x", "g", "c", "y", "a", "x", "a"),
	}
)

func tamperWith(t *testing.T, tr trial, w way, old [][]byte, at int, a attack, want []holding) {
	t.Helper()
	var mu sync.Mutex
	changed := false
	change := a.change(at, old[at])
	tr.net.Wrap = func(l sessiontest.Link, ch session.Channel) session.Channel {
		if (way{l.Self, l.Peer, l.Label}) != w {
			return ch
		}
		return sessiontest.Tamper(ch, func(i int, p []byte) [][]byte {
			out := change(i, bytes.Clone(p))
			if len(out) != 1 || !bytes.Equal(out[0], p) {
				mu.Lock()
				defer mu.Unlock()
				changed = true
			}
			return out
		})
	}
	tr.net.Timeout = 30 * time.Second
	if a.lost {
		tr.idle = 400 * time.Millisecond
	}
	results, out := tr.run(t)
	noticed := false
	for i, o := range out {
		noticed = noticed || isOne(o.Err, faults)
		switch {
		case o.Err == nil:
			if got := holdingOf(t, results[i]); !got.equal(want[i]) {
				t.Errorf("p%d has a wrong result and no error", i)
			}
		case len(results[i].Fields()) > 0:
			t.Errorf("p%d has a result and an error", i)
		case errors.Is(o.Err, job.ErrMinIntersection):
			t.Errorf("it passed for a small intersection: %v", o.Err)
		case !isOne(o.Err, faults) && !isOne(o.Err, ended):
			t.Errorf("p%d: %v", i, o.Err)
		}
	}
	// Another session's message may be the same, and nobody reads past the last.
	if !noticed && changed && (a.name != "repeat" || at != len(old)-1) {
		t.Errorf("nobody noticed: %v", out)
	}
}

// holding is what a party holds at the end, where the order of rows is free.
type holding struct {
	counts map[string]int64
	values []int64
	keys   []string
}

func (h holding) equal(o holding) bool {
	return maps.Equal(h.counts, o.counts) && slices.Equal(h.values, o.values) && slices.Equal(h.keys, o.keys)
}

func holdingOf(t testing.TB, r job.Result) holding {
	t.Helper()
	h := holding{counts: r.Counts}
	if src := r.Tables["intersection"]; src != nil {
		h.values = slices.Sorted(slices.Values(intsOf(t, src, valueName)))
		h.keys = slices.Sorted(slices.Values(textsOrNone(t, src, keyName(0))))
	}
	return h
}

func holdings(t testing.TB, results []job.Result) (hs []holding) {
	t.Helper()
	for _, r := range results {
		hs = append(hs, holdingOf(t, r))
	}
	return hs
}
