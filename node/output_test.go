package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/internal/secret"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	"github.com/yinqiao/yinqiao/scratch"
)

// fill leaves a node no room, or gives it back.
func (d *disk) fill(full bool) {
	for _, r := range []*room{&d.space, &d.quota} {
		r.mu.Lock()
		r.left = 0
		r.measure = func() (int64, error) {
			if full {
				return 0, nil
			}
			return 1 << 40, nil
		}
		r.what = "the test has filled it"
		r.mu.Unlock()
	}
}

// TestOutputFails: one side fails as it writes its output, for want of room or
// otherwise. Both sides end, with the reason, and release nothing; the next job
// is none the worse.
func TestOutputFails(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	for i, c := range []struct {
		party string
		err   error
		class string
	}{
		{"gov", errors.New("the output fails"), "internal"},
		{"bank", syscall.ENOSPC, "disk"},
		{"gov", fmt.Errorf("a piece: %w", scratch.ErrFull), "disk"},
	} {
		w.hooks.outErr[c.party] = c.err
		id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
		must(t, err)
		other := map[string]string{"gov": "bank", "bank": "gov"}[c.party]
		if v := w.ended(c.party, id); v.GetState() != "failed" || v.GetClass() != c.class {
			t.Errorf("%d: %s: %s, %s: %s", i, c.party, v.GetState(), v.GetClass(), v.GetReason())
		}
		v := w.ended(other, id)
		if v.GetState() != "failed" || !strings.Contains(v.GetReason(), c.class) {
			t.Errorf("%d: %s: %s, %s: %s", i, other, v.GetState(), v.GetClass(), v.GetReason())
		}
		w.noOutput()
		delete(w.hooks.outErr, c.party)
	}
	fresh := w.approvedAgain()
	if bank, gov := w.runs(&nodev1.SubmitJobRequest{GrantId: fresh}); bank.GetState() != "done" || gov.GetState() != "done" {
		t.Errorf("the next job: %s and %s", bank.GetState(), gov.GetState())
	}
}

// approvedAgain grants once more what the last request asked for.
func (w *world) approvedAgain() string {
	w.t.Helper()
	q := w.lastRequest()
	q.Id = ""
	return w.approved(q)
}

// TestDiskFull: a node without room for results or for scratch fails the job
// with class disk, and works again once there is room; the run goes on.
func TestDiskFull(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	gov := w.nodes["gov"]
	gov.disk.fill(true)
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	if v := w.ended("gov", id); v.GetState() != "failed" || v.GetClass() != "disk" || !strings.Contains(v.GetReason(), "filled") {
		t.Errorf("results: %s, %s: %s", v.GetState(), v.GetClass(), v.GetReason())
	}
	if v := w.ended("bank", id); v.GetState() != "failed" || v.GetReason() != "gov ended the job (disk)" {
		t.Errorf("bank: %s: %s", v.GetState(), v.GetReason())
	}
	w.noOutput()

	grant = w.approvedSteps()
	id, err = w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	if v := w.ended("gov", id); v.GetClass() != "disk" || !v.GetResumable() {
		t.Errorf("scratch: %s, %s, resumable %v: %s", v.GetState(), v.GetClass(), v.GetResumable(), v.GetReason())
	}
	w.ended("bank", id)
	gov.disk.fill(false)
	r, err := w.resume("bank", id)
	must(t, err)
	w.isDone(r.GetJob(), steps)
}

// TestSlowOutput: a party that takes longer over its output than the initiator
// would wait says so, and is not named absent.
func TestSlowOutput(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	for _, n := range w.nodes {
		n.waits.finish = 400 * time.Millisecond
	}
	for slow, late := range map[string]func(*finisher) bool{
		"gov":  func(f *finisher) bool { return f.waiting > 8 }, // twice as long as the bank would wait
		"bank": func(f *finisher) bool { return f.lines["gov"] != nil },
	} {
		release := make(chan struct{})
		w.hooks.mu.Lock()
		w.hooks.out = func(p string) {
			if p == slow {
				<-release
			}
		}
		w.hooks.mu.Unlock()
		id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
		must(t, err)
		f := w.nodes["bank"].findJob(id).finisher
		until(t, func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return late(f)
		})
		close(release)
		for _, p := range []string{"bank", "gov"} {
			if v := w.ended(p, id); v.GetState() != "done" {
				t.Errorf("%s is slow, %s: %s: %s", slow, p, v.GetState(), v.GetReason())
			}
			if rs, _ := w.receiptsOf(p, id); len(rs) != 1 || len(rs[0].GetAbsent()) != 0 {
				t.Errorf("%s is slow, %s: receipts %v", slow, p, rs)
			}
		}
	}
}

// TestLongLocalWork: a party that computes for longer than a silent peer may
// live is alive for the other: heartbeats go on.
func TestLongLocalWork(t *testing.T) {
	w := newWorldOf(t)
	w.tune = func(n *Node) { n.cfg.Limits.PeerIdle = 5 * time.Second }
	for _, id := range []string{"bank", "gov"} {
		w.enrol(id)
	}
	for _, id := range []string{"bank", "gov"} {
		w.start(id)
	}
	grant := w.granted(nil)
	w.hooks.mid = func(p string) {
		if p == "gov" {
			<-time.After(7 * time.Second) // the time is the test's subject
		}
	}
	bank, gov := w.runs(&nodev1.SubmitJobRequest{GrantId: grant})
	if bank.GetState() != "done" || gov.GetState() != "done" {
		t.Errorf("bank %s: %s, gov %s: %s", bank.GetState(), bank.GetReason(), gov.GetState(), gov.GetReason())
	}
}

// TestDisk: what jobs write is counted against the limit wherever it lies, comes
// back with what is removed, and is sealed.
func TestDisk(t *testing.T) {
	home := Home{Dir: t.TempDir()}
	key := secret.New(bytes.Repeat([]byte{3}, 32))
	open := func(limit int64) *disk {
		d, err := newDisk(home, key, LimitConfig{ScratchBytes: limit})
		must(t, err)
		return d
	}
	d := open(1 << 20)
	write := func(f scratch.Files, name string, n int) error {
		w, err := f.Create(name)
		must(t, err)
		defer w.Discard()
		for range n {
			if _, err := w.Write(bytes.Repeat([]byte("a key of a row. "), 1024)); err != nil {
				return err
			}
		}
		return w.Commit()
	}
	run, err := d.scratch("J-1")
	must(t, err)
	cache, err := d.cache("test.kind.v1")
	must(t, err)
	must(t, write(run, "part/1", 20)) // of 16 KiB
	must(t, write(cache, "side", 20))
	if err := write(run, "part/2", 40); !diskFull(err) || !strings.Contains(err.Error(), "limits.scratch_bytes") {
		t.Errorf("beyond the limit: %v", err)
	}
	must(t, d.drop("J-1"))
	if d.hasScratch("J-1") {
		t.Error("the folder is left")
	}
	other, err := d.scratch("J-2")
	must(t, err)
	must(t, write(other, "part/2", 40))
	if again, err := d.cache("test.kind.v1"); err != nil || again != cache {
		t.Errorf("one kind has two caches: %v", err)
	}
	if _, err := d.cache("../other"); err != nil {
		t.Error(err)
	}

	// Another node's key, and another run's, open nothing.
	names, err := open(0).scratch("J-2")
	must(t, err)
	if f, err := names.Open("part/2"); err != nil {
		t.Errorf("after a restart: %v", err)
	} else {
		must(t, f.Close())
	}
	must(t, os.Rename(filepath.Join(home.scratchDir(), "J-2"), filepath.Join(home.scratchDir(), "J-3")))
	moved, err := d.scratch("J-3")
	must(t, err)
	if _, err := moved.Open("part/2"); !errors.Is(err, scratch.ErrDamaged) {
		t.Errorf("another run's file: %v", err)
	}
	must(t, filepath.WalkDir(home.Dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("a key of a row")) {
			t.Errorf("%s can be read", path)
		}
		return err
	}))
}

// TestPace holds rate and remaining time to what the work does.
func TestPace(t *testing.T) {
	var p pace
	at := time.Unix(0, 0)
	if r, l := p.outlook(at); r != 0 || l != 0 {
		t.Errorf("nothing yet: %g, %g", r, l)
	}
	p.update(at, "match", 0, 10_000)
	for range 10 {
		at = at.Add(500 * time.Millisecond)
		p.update(at, "match", p.done+500, 10_000)
	}
	if r, l := p.outlook(at); r < 999 || r > 1001 || l < 4.99 || l > 5.01 {
		t.Errorf("1000 a second, and half is done: %g, %g", r, l)
	}
	at = at.Add(20 * time.Second) // it has come to a halt
	if r, l := p.outlook(at); r > 100 || l < 50 {
		t.Errorf("at a halt: %g, %g", r, l)
	}
	p.update(at, "write", 1, 10)
	if r, l := p.outlook(at); r != 0 || l != 0 {
		t.Errorf("a new stage: %g, %g", r, l)
	}
	for range 4 {
		at = at.Add(time.Second)
		p.update(at, "write", p.done+1, 0)
	}
	if r, l := p.outlook(at); r < 0.99 || r > 1.01 || l != 0 {
		t.Errorf("of no known total: %g, %g", r, l)
	}
	p.update(at, "write", 1, 0) // begins again
	if r, _ := p.outlook(at); r != 0 {
		t.Errorf("begun again: %g", r)
	}
}
