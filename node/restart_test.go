package node

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// pauses is the clock of the waits of one node: it moves on when the test says so.
type pauses struct {
	began chan time.Duration // how long each pause is to be
	end   chan struct{}

	mu    sync.Mutex
	ahead time.Duration // of the real clock
}

func newPauses() *pauses {
	return &pauses{began: make(chan time.Duration, 64), end: make(chan struct{}, 64)}
}

func (p *pauses) pause(ctx context.Context, d time.Duration) error {
	p.began <- d
	select {
	case <-p.end:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ahead += d
	return nil
}

func (p *pauses) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.ahead)
}

// again is a world of three parties with a grant of one run for againKind. The
// bank waits by the returned clock.
func again(t *testing.T, tune func(*Node)) (*world, string, *pauses) {
	p := newPauses()
	w, grant := sums(t, againKind, func(n *Node) {
		if n.cfg.Party == "bank" {
			n.pause = p.pause
		}
		if tune != nil {
			tune(n)
		}
	})
	return w, grant, p
}

// cutOff submits a job in which tax is cut off, and waits until the bank waits
// for it.
func (w *world) cutOff(grant string, p *pauses) string {
	w.t.Helper()
	w.step(func(party string, place int) error {
		if party == "tax" && place == afterSending {
			w.cut("tax")
		}
		return nil
	})
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(w.t, err)
	if d := <-p.began; d != restartFirst {
		w.t.Errorf("the first pause is %s", d)
	}
	w.step(nil)
	return id
}

// isBack brings tax back after cutOff.
func (w *world) isBack() {
	w.t.Helper()
	w.stops["tax"]()
	w.start("tax")
}

// goesOnAs holds the attempt after id to what a restarted one must be, and
// returns it.
func (w *world) goesOnAs(id, grant string) string {
	w.t.Helper()
	v := w.ended("bank", id)
	if v.GetState() != "failed" || v.GetNext() == "" || v.GetRestarts() {
		w.t.Fatalf("bank: %s, %s, followed by %q: %s", v.GetState(), v.GetClass(), v.GetNext(), v.GetReason())
	}
	next := v.GetNext()
	for _, p := range threeParties {
		v := w.ended(p, next)
		if v.GetState() != "done" || v.GetCounts()["rows"] != 9 || v.GetRun() != id || v.GetAttempt() != 2 {
			w.t.Errorf("%s: %s, %v, attempt %d at %s: %s", p, v.GetState(), v.GetCounts(), v.GetAttempt(), v.GetRun(), v.GetReason())
		}
		if u := w.used(p, grant); u != 1 {
			w.t.Errorf("%s: %d uses spent", p, u)
		}
		if r := w.view(p, id); r.Next != next || r.State != Failed {
			w.t.Errorf("%s: the first attempt is %s, followed by %q", p, r.State, r.Next)
		}
	}
	return next
}

// TestRestart: a party is cut off, and the run goes on by itself once it is back.
func TestRestart(t *testing.T) {
	w, grant, p := again(t, nil)
	id := w.cutOff(grant, p)
	a := w.view("bank", id)
	if !a.Restarts || !a.Resumable || a.Class != "peer_gone" || a.Next != "" {
		t.Errorf("bank: %+v", a)
	}
	w.stops["tax"]()
	for _, want := range []time.Duration{4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second} {
		p.end <- struct{}{} // tax does not answer
		if d := <-p.began; d != want {
			t.Errorf("a pause of %s, want %s", d, want)
		}
	}
	if rs, err := w.nodes["bank"].records(); err != nil || len(rs) != 1 {
		t.Errorf("%d jobs while tax is away, %v", len(rs), err)
	}
	w.start("tax")
	p.end <- struct{}{}
	next := w.goesOnAs(id, grant)
	if r := w.view("bank", next); r.Person != "op" {
		t.Errorf("the attempt is %q's", r.Person)
	}
	if n := w.nodes["gov"]; len(n.waiting) != 0 {
		t.Error("gov waited as well")
	}
}

// TestRestartOverAStop: the initiator's node is stopped while it waits, and goes
// on when it is started again.
func TestRestartOverAStop(t *testing.T) {
	w, grant, p := again(t, nil)
	id := w.cutOff(grant, p)
	w.isBack()
	w.stops["bank"]()
	w.start("bank")
	<-p.began
	p.end <- struct{}{}
	w.goesOnAs(id, grant)
}

// TestInitiatorKilled: kill -9 of the initiator; its node begins the next attempt
// when it is back.
func TestInitiatorKilled(t *testing.T) {
	w, grant, p := again(t, nil)
	c := w.child("bank", envStall+"=step", envSubmit+"="+grant)
	id := c.waits("job")
	c.waits("step")
	c.kill()
	for _, p := range []string{"gov", "tax"} {
		if v := w.ended(p, id); v.GetState() != "failed" || v.GetClass() != "peer_gone" || v.GetRestarts() {
			t.Errorf("%s: %s, %s: %s", p, v.GetState(), v.GetClass(), v.GetReason())
		}
	}
	w.start("bank")
	if r := w.view("bank", id); r.Class != "interrupted" || !r.Restarts || !strings.Contains(r.Reason, "by itself") {
		t.Errorf("bank: %s, %v: %s", r.Class, r.Restarts, r.Reason)
	}
	<-p.began
	p.end <- struct{}{}
	w.goesOnAs(id, grant)
}

// TestRestartCancelled: a person ends the wait.
func TestRestartCancelled(t *testing.T) {
	w, grant, p := again(t, nil)
	id := w.cutOff(grant, p)
	w.isBack()
	_, err := w.nodes["bank"].CancelJob(as(w.ctx, "op"), &nodev1.CancelJobRequest{Job: id})
	must(t, err)
	v := w.ended("bank", id)
	if v.GetState() != "failed" || v.GetNext() != "" || v.GetRestarts() || !strings.Contains(v.GetReason(), "op cancelled") {
		t.Errorf("bank: %s, followed by %q: %s", v.GetState(), v.GetNext(), v.GetReason())
	}
	w.stops["bank"]()
	w.start("bank")
	if st, err := w.nodes["bank"].loadRun(id); err != nil || st.FollowUp != nil {
		t.Errorf("the run waits again: %+v, %v", st, err)
	}
	if _, err := w.nodes["bank"].CancelJob(as(w.ctx, "op"), &nodev1.CancelJobRequest{Job: id}); err == nil {
		t.Error("cancelled twice")
	}
	r, err := w.resume("gov", id) // a person may still go on
	must(t, err)
	if v := w.ended("bank", r.GetJob()); v.GetState() != "done" {
		t.Errorf("bank: %s: %s", v.GetState(), v.GetReason())
	}
}

// TestRestartEnds: what else ends the wait.
func TestRestartEnds(t *testing.T) {
	t.Run("the bound", func(t *testing.T) {
		p := newPauses()
		w, grant := sums(t, againKind, func(n *Node) {
			if n.cfg.Party == "bank" {
				n.pause, n.now, n.cfg.Limits.RestartFor = p.pause, p.now, 10*time.Second
			}
		})
		id := w.cutOff(grant, p)
		w.stops["tax"]()
		tries := 1
		for range 3 { // after 2, 6 and 14 s
			p.end <- struct{}{}
		}
		v := w.ended("bank", id)
		for len(p.began) > 0 {
			<-p.began
			tries++
		}
		if tries != 3 || v.GetNext() != "" || v.GetRestarts() || !strings.Contains(v.GetReason(), "limits.restart_for") || !strings.Contains(v.GetReason(), "tax did not answer") {
			t.Errorf("%d tries: %s", tries, v.GetReason())
		}
	})
	t.Run("the grant", func(t *testing.T) {
		w, grant, p := again(t, nil)
		id := w.cutOff(grant, p)
		w.isBack()
		w.revoke(grant, "withdrawn")
		p.end <- struct{}{}
		if v := w.ended("bank", id); v.GetNext() != "" || v.GetRestarts() || !strings.Contains(v.GetReason(), "revoked") {
			t.Errorf("followed by %q: %s", v.GetNext(), v.GetReason())
		}
	})
	t.Run("another party's attempt", func(t *testing.T) {
		w, grant, p := again(t, nil)
		id := w.cutOff(grant, p)
		w.isBack()
		w.ended("gov", id) // the bank waits, to begin again
		r, err := w.resume("gov", id)
		must(t, err)
		p.end <- struct{}{}
		if next := w.goesOnAs(id, grant); next != r.GetJob() {
			t.Errorf("followed by %s, gov began %s", next, r.GetJob())
		}
	})
	t.Run("the attempts", func(t *testing.T) {
		w, grant, p := again(t, func(n *Node) { n.cfg.Limits.Attempts = 2 })
		id := w.cutOff(grant, p)
		w.isBack()
		w.step(func(party string, place int) error {
			if party == "tax" && place == afterSending {
				w.cut("tax")
			}
			return nil
		})
		p.end <- struct{}{}
		next := w.ended("bank", id).GetNext()
		v := w.ended("bank", next)
		if v.GetState() != "failed" || v.GetRestarts() || v.GetResumable() || len(p.began) != 0 {
			t.Errorf("bank: %s, restarts %v, resumable %v: %s", v.GetState(), v.GetRestarts(), v.GetResumable(), v.GetReason())
		}
		if u := w.used("bank", grant); u != 1 {
			t.Errorf("%d uses spent", u)
		}
	})
	t.Run("a party's own failure", func(t *testing.T) {
		w, grant, p := again(t, nil)
		w.step(func(party string, place int) error {
			if party == "tax" && place == beforeSending {
				return fail("dataset", "its file is gone")
			}
			return nil
		})
		id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
		must(t, err)
		if v := w.ended("bank", id); v.GetClass() != "peer_aborted" || v.GetRestarts() || len(p.began) != 0 || !v.GetResumable() {
			t.Errorf("bank: %s, restarts %v: %s", v.GetClass(), v.GetRestarts(), v.GetReason())
		}
	})
}

// TestWatchGoesOn: who watches a job that restarts sees it wait, and then which
// job follows.
func TestWatchGoesOn(t *testing.T) {
	w, grant, p := again(t, nil)
	id := w.cutOff(grant, p)
	w.isBack()
	var seen []bool
	must(t, w.nodes["bank"].WatchJob(w.ctx, &nodev1.WatchJobRequest{Job: id}, func(v *nodev1.JobView) error {
		seen = append(seen, v.GetRestarts())
		if v.GetRestarts() {
			p.end <- struct{}{}
		}
		return nil
	}))
	if !slices.Equal(seen, []bool{true, false}) {
		t.Errorf("views that say the job restarts: %v", seen)
	}
	w.goesOnAs(id, grant)
}

// TestSweepIsNoAttempt: while a run is ended for its age, no attempt begins, and
// nobody meets an attempt that is none.
func TestSweepIsNoAttempt(t *testing.T) {
	w := newWorld(t)
	first := w.failed(w.steps(1))
	bank := w.nodes["bank"]
	bank.runMu.Lock() // forsake gets as far as this
	swept := make(chan error, 1)
	go func() { swept <- bank.forsake(first) }()
	until(t, func() bool {
		bank.mu.Lock()
		defer bank.mu.Unlock()
		return bank.busy[first]
	})
	bank.mu.Lock()
	other := bank.byRun[first]
	bank.mu.Unlock()
	if other != nil {
		t.Error("an attempt is under way")
	}
	_, err := w.resume("bank", first)
	refused(t, err, "run_busy", "bank")
	bank.runMu.Unlock()
	must(t, <-swept)
	r, err := w.resume("gov", first)
	must(t, err)
	w.isDone(r.GetJob(), steps-failsAt-1)
}

// TestCommitmentOfAStranger: only parties of a run commit to its inputs.
func TestCommitmentOfAStranger(t *testing.T) {
	w := newWorld(t)
	first := w.failed(w.steps(1))
	bank := w.nodes["bank"]
	must(t, bank.noteCommitment(first, "tax", []byte("of whom?")))
	must(t, bank.noteCommitment("J-unknown", "gov", []byte("to what?")))
	st, err := bank.loadRun(first)
	must(t, err)
	if st.Commitments["tax"] != nil {
		t.Error("the commitment of a party that has no part in the run was kept")
	}
	must(t, bank.noteCommitment(first, "gov", []byte("gov's")))
	if st, err = bank.loadRun(first); err != nil || string(st.Commitments["gov"]) != "gov's" {
		t.Errorf("gov's: %q, %v", st.Commitments["gov"], err)
	}
}
