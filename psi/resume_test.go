package psi_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// brokenOff is a trial in four partitions of which one party went away in the
// last, with what was said until then.
func brokenOff(t *testing.T, k kind, ps params, sources ...table.Source) (tr trial, said *wires) {
	t.Helper()
	ps["partition_rows"] = align.MinPartitionRows
	tr = k.trial(ps, sources...)
	tr.files = disks(t, 2)
	said = &wires{}
	tr.net.Wrap = func(l sessiontest.Link, ch session.Channel) session.Channel {
		ch = said.wrap(l, ch)
		if l.Self == "p1" && l.Label == "part-00003" {
			return &gone{ch, 1}
		}
		return ch
	}
	results, out := tr.run(t)
	if !errors.Is(out[1].Err, errGone) || !isOne(out[0].Err, ended) || len(results[0].Fields())+len(results[1].Fields()) > 0 {
		t.Fatalf("%v", out)
	}
	tr.net.Wrap = nil
	return tr, said
}

// pieces calls each with runs of 16 bytes of the messages in the sessions below
// the run's own, a run at every step-th byte, but for text: what a session is
// about.
func (ws *wires) pieces(step int, each func([16]byte)) {
	for w, v := range ws.views {
		if w.label == "" {
			continue
		}
		for _, p := range v.Sent() {
			for i := 0; i+16 <= len(p); i += step {
				if x := [16]byte(p[i:]); printable(x[:]) < 12 {
					each(x)
				}
			}
		}
	}
}

func printable(b []byte) (n int) {
	for _, c := range b {
		if ' ' <= c && c <= '~' {
			n++
		}
	}
	return n
}

// A peer that comes back after a failure: finished partitions are not run again,
// and the rest is, in sessions that share nothing with those that failed.
func TestResume(t *testing.T) {
	for _, k := range joining() {
		t.Run(k.Name, func(t *testing.T) {
			p := k.peopleOf(overlaps[3], 13_000, 13_000)
			tr, before := brokenOff(t, k, params{}, p.tables()...)
			var after wires
			tr.net.Wrap = after.wrap
			set := p.check(t, tr.good(t))
			equalsMap(t, p, set)
			for _, w := range after.ways() {
				if w.label != "" && !strings.HasPrefix(w.label, "part-00003") {
					t.Errorf("a partition that was finished ran again: %v", w)
				}
			}
			old := make(map[[16]byte]bool)
			before.pieces(16, func(x [16]byte) { old[x] = true })
			shared := 0
			after.pieces(1, func(x [16]byte) {
				if old[x] {
					shared++
				}
			})
			if len(old) < 10_000 || shared > 0 {
				t.Errorf("%d of %d pieces of the first attempt occur in the second", shared, len(old))
			}
		})
	}
}

// It is not resumed where rows, their order or a parameter are not what they
// were, at either side: the party at fault says so before a key is compared.
func TestResumeWithOtherInput(t *testing.T) {
	k := only(t, "psi.rr22.v1")[0]
	p := k.peopleOf(overlaps[3], 13_000, 13_000)
	changed := p
	changed.common++
	for name, change := range map[string]func(tr *trial){
		"a row of p0": func(tr *trial) { tr.sources[0] = people{rows: []int64{12_999, 13_000}, common: p.common}.tables()[0] },
		"a row of p1": func(tr *trial) { tr.sources[1] = changed.tables()[1] },
		"a parameter": func(tr *trial) {
			tr.spec = k.spec(params{"partition_rows": align.MinPartitionRows, "false_match_bits": 41})
		},
		"the sizes alone": func(tr *trial) { tr.spec = k.spec(params{"partition_rows": align.MinPartitionRows + 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			tr, _ := brokenOff(t, k, params{}, p.tables()...)
			change(&tr)
			var said wires
			tr.net.Wrap = said.wrap
			results, out := tr.run(t)
			told := false
			for i, o := range out {
				told = told || errors.Is(o.Err, align.ErrInputChanged)
				if o.Err == nil || !errors.Is(o.Err, align.ErrInputChanged) && !isOne(o.Err, ended) || len(results[i].Fields()) > 0 {
					t.Errorf("p%d: %v, holding %q", i, o.Err, results[i].Fields())
				}
			}
			if !told {
				t.Error("nobody said that the input has changed")
			}
			for _, w := range said.ways() {
				if w.label != "" {
					t.Errorf("keys were compared: %v", w)
				}
			}
		})
	}
}

// A server of psi.oprf.v1 that comes back with the same rows takes up its table;
// with other rows it makes another one, under another key.
func TestServerWithOtherRows(t *testing.T) {
	k := only(t, "psi.oprf.v1")[0]
	caches := disks(t, 2)
	sent := func(p people) *wires {
		tr := k.trial(nil, p.tables()...)
		tr.caches = caches
		var said wires
		tr.net.Wrap = said.wrap
		p.check(t, tr.good(t))
		return &said
	}
	p := k.peopleOf(overlaps[3], 3000, 100)
	changed := people{rows: []int64{3001, 100}, common: 50}
	tableOf := func(ws *wires) (n int) {
		for _, m := range ws.views[way{"p0", "p1", ""}].Sent() {
			n += len(m)
		}
		return n
	}
	cold, warm, other := tableOf(sent(p)), tableOf(sent(p)), tableOf(sent(changed))
	if cold < 3000*4 || warm > cold-3000*4 || other < 3000*4 {
		t.Errorf("the server sends %d bytes at first, %d to a client that has the table, %d once its rows have changed", cold, warm, other)
	}
}

// Runs of one kind at the same time, on one cache, do not disturb each other.
func TestRunsAtOnce(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.Name, func(t *testing.T) {
			caches := disks(t, len(k.roles)) // of the kind, for all its runs
			var wg sync.WaitGroup
			for i := range 3 {
				p := k.peopleOf(overlaps[3], int64(700+100*i), 900)
				wg.Go(func() {
					tr := k.trial(nil, p.tables()...)
					tr.caches = caches
					results, out := tr.run(t)
					for j, o := range out {
						if o.Err != nil || results[j].Counts[job.CountCommon] != p.common {
							t.Errorf("%v: p%d: %v", p, j, o.Err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
