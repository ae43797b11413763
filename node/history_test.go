package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/job"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	"github.com/yinqiao/yinqiao/scratch"
)

const releaseKind = "test.release.v1"

// releaseHooks are what releaseJob does differently at a party.
type releaseHooks struct {
	epsilon map[string]float64           // spent before anything is sent; 0.5 where there is none
	digests map[string]map[string][]byte // in place of the one that all agree on
	held    func(party, job string)      // while it holds its entry's history
}

// releaseJob releases nothing, and does all that goes with it: at each party it
// holds its entry's history across a message, adds to it, spends, and agrees on a digest.
func releaseJob(h *hooks) job.Definition {
	return job.Definition{
		Name: releaseKind, Summary: "goes with a release", Assumptions: []string{"none"},
		Roles: []job.RoleSpec{{Role: "left", Min: 1, Max: 1}, {Role: "right", Min: 1, Max: 1}},
		Reveals: func(job.Spec) []job.Disclosure {
			return []job.Disclosure{
				{Field: "rules", What: "the own rules"},
				{Field: "past", What: "how many releases there were"},
				{Field: "left", What: "the budget's rest"},
				{Field: "run", What: "the run"},
				{Field: "cells", What: "what is suppressed"},
			}
		},
		Validate: func(job.Spec) error { return nil },
		Run: func(ctx context.Context, env job.Env) (job.Result, error) {
			self := string(env.Session.Self())
			if err := env.Session.Bind(ctx, releaseKind); err != nil {
				return job.Result{}, err
			}
			_, ch, err := env.Session.Other()
			if err != nil {
				return job.Result{}, err
			}
			files, done, err := env.Past().Hold(ctx, env.Self().Inputs[0].Entry)
			if err != nil {
				return job.Result{}, err
			}
			defer done()
			h.mu.Lock()
			held, epsilon, digests := h.release.held, h.release.epsilon[self], h.release.digests[self]
			h.mu.Unlock()
			if held != nil {
				held(self, env.Reference)
			}
			past, err := files.Names("release/")
			if err != nil {
				return job.Result{}, err
			}
			if err := writeFile(files, fmt.Sprintf("release/%03d", len(past)), "cells"); err != nil {
				return job.Result{}, err
			}
			if epsilon == 0 {
				epsilon = 0.5
			}
			left, err := env.Budget.Spend(ctx, epsilon, 0)
			if err != nil {
				return job.Result{}, err
			}
			if _, err := tell(ctx, ch, 1); err != nil {
				return job.Result{}, err
			}
			if err := h.at(self); err != nil {
				return job.Result{}, err
			}
			if digests == nil {
				digests = map[string][]byte{"cells": bytes.Repeat([]byte{7}, 32)}
			}
			return job.Result{
				Values:  map[string]any{"rules": env.Spec.Limits.Release, "past": len(past), "left": left, "run": env.Reference},
				Digests: digests,
			}, nil
		},
	}
}

func writeFile(files scratch.Files, name, text string) error {
	f, err := files.Create(name)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write([]byte(text)); err != nil {
		return err
	}
	return f.Commit()
}

// releases grants releaseJob.
func (w *world) releases(change func(*catalogv1.Limits)) string {
	w.t.Helper()
	return w.granted(func(q *catalogv1.Request) {
		q.Computations[0].Kind = releaseKind
		if change != nil {
			change(q.Limits)
		}
	})
}

// released is what a done job of releaseJob gave a party.
type released struct {
	Rules rules.Set `json:"rules"`
	Past  int       `json:"past"`
	Left  float64   `json:"left"`
	Run   string    `json:"run"`
}

func (w *world) released(party, id string) (r released) {
	w.t.Helper()
	if v := w.ended(party, id); v.GetState() != "done" {
		w.t.Fatalf("%s: %s, %s: %s", party, v.GetState(), v.GetClass(), v.GetReason())
	}
	must(w.t, w.nodes[party].GetResult(w.ctx, &nodev1.GetResultRequest{Job: id}, func(p *nodev1.GetResultReply) error {
		if len(p.GetValues()) == 0 {
			return nil
		}
		return json.Unmarshal(p.GetValues(), &r)
	}))
	return r
}

// TestStrictestRules: of the grant's and its own policy's rules a party applies
// the stricter, one by one.
func TestStrictestRules(t *testing.T) {
	w := newWorldOf(t)
	w.tune = func(n *Node) {
		if n.cfg.Party == "gov" {
			n.cfg.Policy.Release = rules.Set{MinUnits: 30, RoundTo: 5, Epsilon: 2, BudgetEpsilon: 4}
		}
	}
	for _, id := range []string{"bank", "gov"} {
		w.enrol(id)
	}
	for _, id := range []string{"bank", "gov"} {
		w.start(id)
	}
	grant := w.releases(func(l *catalogv1.Limits) {
		l.Release = &catalogv1.ReleaseRules{MinUnits: 20, MinProviders: 4, Epsilon: 1, BudgetEpsilon: 3}
	})
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	stated := rules.Set{MinUnits: 20, MinProviders: 4, Epsilon: 1, BudgetEpsilon: 3}
	if r := w.released("bank", id); r.Rules != stated || r.Left != 2.5 || r.Run != id {
		t.Errorf("bank: %+v", r)
	}
	stated.MinUnits, stated.RoundTo = 30, 5
	if r := w.released("gov", id); r.Rules != stated || r.Left != 2.5 || r.Run != id {
		t.Errorf("gov: %+v", r)
	}
}

// TestHistoryIsKept: over restarts, and over new versions of the entry.
func TestHistoryIsKept(t *testing.T) {
	w := newWorld(t)
	grant := w.releases(nil)
	run := func(past int) {
		t.Helper()
		id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
		must(t, err)
		for _, p := range []string{"bank", "gov"} {
			if r := w.released(p, id); r.Past != past {
				t.Errorf("%s remembers %d releases, want %d", p, r.Past, past)
			}
		}
	}
	run(0)
	run(1)
	for _, p := range []string{"bank", "gov"} {
		w.stops[p]()
		w.start(p)
	}
	run(2)
	w.register()
	q := w.lastRequest()
	q.Id = ""
	for _, u := range q.Uses {
		u.Version = 2
	}
	grant = w.approved(q)
	run(3)
}

func testHistories(t *testing.T) *histories {
	t.Helper()
	d, err := newDisk(Home{Dir: t.TempDir()}, secret.New(make([]byte, 32)), LimitConfig{})
	must(t, err)
	return d.histories
}

// of is a job's hold; jobs with a greater number are younger.
func (h *histories) ofJob(number int, entries ...string) *jobHistory {
	return &jobHistory{
		all: h, entries: entries, created: time.Unix(int64(number), 0), job: fmt.Sprint("J-", number),
		yield: func(string) {}, held: make(map[string]*history),
	}
}

// TestHistoryIsExclusive: one job at a time has an entry's files, whoever waits
// is let go by its context, and other entries are free.
func TestHistoryIsExclusive(t *testing.T) {
	h := testHistories(t)
	first, second := h.ofJob(1, bankCode, govCode), h.ofJob(2, bankCode, govCode)
	_, done, err := first.Hold(t.Context(), bankCode)
	must(t, err)
	_, other, err := second.Hold(t.Context(), govCode)
	must(t, err)
	other()
	why := errors.New("the job was cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, _, err := second.Hold(ctx, bankCode); !errors.Is(err, why) {
		t.Errorf("waiting under an ended context: %v", err)
	}
	if _, _, err := first.Hold(t.Context(), bankCode); err == nil {
		t.Error("a job may hold an entry twice")
	}
	if _, _, err := first.Hold(t.Context(), taxCode); err == nil {
		t.Error("a job may hold an entry that is none of its inputs")
	}
	done()
	done() // the second time gives nothing back
	_, done, err = second.Hold(t.Context(), bankCode)
	must(t, err)
	if _, _, err := first.Hold(ctx, bankCode); !errors.Is(err, why) {
		t.Errorf("what the second job holds went back with the first's: %v", err)
	}
	done()

	// Many at once: never two inside.
	const jobs = 16
	var wg sync.WaitGroup
	inside := 0
	for i := range jobs {
		wg.Go(func() {
			j := h.ofJob(10+i, bankCode)
			files, done, err := j.Hold(t.Context(), bankCode)
			if err != nil {
				t.Error(err)
				return
			}
			defer done()
			inside++ // unsynchronised: the race detector and the count see two at once
			names, err := files.Names("")
			if err == nil {
				err = writeFile(files, fmt.Sprintf("%03d", len(names)), "x")
			}
			if err != nil {
				t.Error(err)
			}
			if inside--; inside != 0 {
				t.Errorf("%d others are inside", inside)
			}
		})
	}
	wg.Wait()
	e, err := h.of(bankCode)
	must(t, err)
	if names, err := e.files.Names(""); err != nil || len(names) != jobs {
		t.Errorf("%d of %d jobs left a file: %v", len(names), jobs, err)
	}
}

// TestHistoryIsGivenBack when the computation ends, whatever became of it, and
// is not held by it after that.
func TestHistoryIsGivenBack(t *testing.T) {
	h := testHistories(t)
	first := h.ofJob(1, bankCode)
	_, done, err := first.Hold(t.Context(), bankCode)
	must(t, err)
	first.close()
	second := h.ofJob(2, bankCode)
	_, _, err = second.Hold(t.Context(), bankCode)
	must(t, err)
	done() // too late: the entry is the second job's
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := h.ofJob(3, bankCode).Hold(ctx, bankCode); !errors.Is(err, context.Canceled) {
		t.Errorf("the second job has lost its hold: %v", err)
	}
	second.close()
	if _, _, err := first.Hold(t.Context(), bankCode); err == nil {
		t.Error("a computation that has ended holds a history")
	}
	if _, _, err := h.ofJob(4, bankCode).Hold(t.Context(), bankCode); err != nil {
		t.Error(err)
	}
}

// TestHistoryOlderJobsFirst: a younger job waits for an older one as long as it
// takes; an older one ends the younger after a while, by time and then by name.
func TestHistoryOlderJobsFirst(t *testing.T) {
	h := testHistories(t)
	h.patience = time.Millisecond
	for _, c := range []struct {
		name            string
		holder, waiting *jobHistory
		ends            bool
	}{
		{"older waits", h.ofJob(2, bankCode), h.ofJob(1, bankCode), true},
		{"younger waits", h.ofJob(1, bankCode), h.ofJob(2, bankCode), false},
		{"of one moment", h.ofJob(1, bankCode), h.ofJob(1, bankCode), true},
	} {
		if c.name == "of one moment" {
			c.holder.job = "J-2"
		}
		_, done, err := c.holder.Hold(t.Context(), bankCode)
		must(t, err)
		wait := 50 * h.patience
		if c.ends {
			wait = 30 * time.Second // it takes as long as this machine does
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		ended := false
		c.holder.yield = func(entry string) {
			if entry != bankCode {
				t.Errorf("%s: it ends for entry %s", c.name, entry)
			}
			if !ended {
				ended = true
				done()
			}
		}
		_, _, err = c.waiting.Hold(ctx, bankCode)
		if ended != c.ends || (err == nil) != c.ends {
			t.Errorf("%s: ended %v, %v", c.name, ended, err)
		}
		cancel()
		c.waiting.close()
		c.holder.close()
	}
}

// TestHistoriesHeldCrosswise: two jobs that hold in different order at two nodes
// do not wait for each other for ever. The older one ends well.
func TestHistoriesHeldCrosswise(t *testing.T) {
	w := newWorld(t)
	for _, n := range w.nodes {
		n.disk.histories.patience = 50 * time.Millisecond
	}
	grant := w.releases(nil)
	// The first job holds at the bank and waits at gov, where the second was let
	// in first.
	gov := w.nodes["gov"].disk.histories.ofJob(1<<40, govCode)
	_, giveBack, err := gov.Hold(t.Context(), govCode)
	must(t, err)
	yielded := make(chan struct{})
	gov.yield = func(string) { close(yielded); giveBack() }
	entered := make(chan string, 2)
	w.hooks.release.held = func(party, _ string) { entered <- party }
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	if p := <-entered; p != "bank" {
		t.Errorf("%s came first", p)
	}
	<-yielded
	for _, p := range []string{"bank", "gov"} {
		w.released(p, id)
	}
}

// TestYoungerJobEnds: the one that is ended says why, and gives no output.
func TestYoungerJobEnds(t *testing.T) {
	w := newWorld(t)
	w.nodes["bank"].disk.histories.patience = 10 * time.Millisecond
	grant := w.releases(nil)
	entered, release := make(chan string, 2), make(chan struct{})
	w.hooks.mid = func(p string) {
		if p == "bank" { // it holds its entry here
			entered <- p
			<-release
		}
	}
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	<-entered
	a := w.nodes["bank"].findJob(id)
	older := w.nodes["bank"].disk.histories.ofJob(0, bankCode)
	got := make(chan error, 1)
	go func() {
		_, _, err := older.Hold(t.Context(), bankCode)
		got <- err
	}()
	<-a.ctx.Done()
	close(release)
	must(t, <-got)
	if v := w.ended("bank", id); v.GetState() != "failed" || v.GetClass() != "history_busy" || !strings.Contains(v.GetReason(), bankCode) {
		t.Errorf("bank: %s, %s: %s", v.GetState(), v.GetClass(), v.GetReason())
	}
	if v := w.ended("gov", id); v.GetState() != "failed" {
		t.Errorf("gov: %s", v.GetState())
	}
	if names := w.results("bank"); len(names) != 0 {
		t.Errorf("output of a job that was ended: %v", names)
	}
}

// TestHistoryIsSealedAndCounted: on disk stands nothing readable, the name of an
// entry included, and what stands there counts against the room for files.
func TestHistoryIsSealedAndCounted(t *testing.T) {
	home := Home{Dir: t.TempDir()}
	key := secret.New(make([]byte, 32))
	d, err := newDisk(home, key, LimitConfig{})
	must(t, err)
	e, err := d.histories.of(bankCode)
	must(t, err)
	must(t, writeFile(e.files, "release/000", "find-me-in-a-file"))
	var paths []string
	must(t, filepath.WalkDir(home.historyDir(), func(path string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return err
		}
		paths = append(paths, path)
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("find-me")) || strings.Contains(path, "300001") {
			t.Errorf("%s can be read", path)
		}
		return err
	}))
	if len(paths) != 1 {
		t.Fatalf("files %v", paths)
	}
	// Another entry's files do not open in its place.
	other, err := d.histories.of(govCode)
	must(t, err)
	b, err := os.ReadFile(paths[0])
	must(t, err)
	folders, err := os.ReadDir(home.historyDir())
	must(t, err)
	i := slices.IndexFunc(folders, func(f fs.DirEntry) bool { return !strings.Contains(paths[0], f.Name()) })
	must(t, os.WriteFile(filepath.Join(home.historyDir(), folders[i].Name(), filepath.Base(paths[0])), b, 0o600))
	if _, err := other.files.Open("release/000"); !errors.Is(err, scratch.ErrDamaged) {
		t.Errorf("an exchanged file: %v", err)
	}

	size, err := folderSize(home.historyDir())
	must(t, err)
	d, err = newDisk(home, key, LimitConfig{ScratchBytes: size + 100})
	must(t, err)
	e, err = d.histories.of(bankCode)
	must(t, err)
	if f, err := e.files.Open("release/000"); err != nil {
		t.Error(err)
	} else {
		must(t, f.Close())
	}
	if err := writeFile(e.files, "release/001", strings.Repeat("x", 101)); !errors.Is(err, scratch.ErrFull) {
		t.Errorf("more than there is room for: %v", err)
	}
	s, err := d.scratch("J-1")
	must(t, err)
	if err := writeFile(s, "a", strings.Repeat("x", 101)); !errors.Is(err, scratch.ErrFull) {
		t.Errorf("a run's file beside the history: %v", err)
	}
}
