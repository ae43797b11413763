package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// TestAttemptsRunOut: the strictest party's limit counts, and says so.
func TestAttemptsRunOut(t *testing.T) {
	w := newWorldOf(t)
	w.tune = func(n *Node) {
		if n.cfg.Party == "gov" {
			n.cfg.Limits.Attempts = 2
		}
	}
	for _, id := range []string{"bank", "gov"} {
		w.enrol(id)
	}
	for _, id := range []string{"bank", "gov"} {
		w.start(id)
	}
	grant := w.steps(2)
	first := w.failed(grant)
	w.breaks("gov")
	w.hooks.step = func(p string, _ int) error {
		if p == "gov" {
			return errors.New("the step fails")
		}
		return nil
	}
	r, err := w.resume("bank", first)
	must(t, err)
	if v := w.ended("bank", r.GetJob()); v.GetState() != "failed" || !v.GetResumable() {
		t.Errorf("bank: %s, resumable %v", v.GetState(), v.GetResumable())
	}
	if v := w.ended("gov", r.GetJob()); v.GetResumable() || w.nodes["gov"].disk.hasScratch(first) {
		t.Errorf("gov: resumable %v after its last attempt", v.GetResumable())
	}
	_, err = w.resume("bank", first)
	refused(t, err, "run_over", "gov")
	_, err = w.resume("gov", first)
	refused(t, err, "run_over", "gov")
	if u := w.used("bank", grant); u != 1 {
		t.Errorf("%d uses spent", u)
	}
}

// TestBehind: a party that has seen fewer attempts than another learns their
// number, and goes on from there.
func TestBehind(t *testing.T) {
	w := newWorld(t)
	first := w.failed(w.steps(1))
	gov := w.nodes["gov"]
	st, err := gov.loadRun(first)
	must(t, err)
	st.Attempt = 3
	must(t, gov.saveRun(st))
	r, err := w.resume("bank", first)
	must(t, err)
	if r.GetAttempt() != 4 {
		t.Errorf("attempt %d", r.GetAttempt())
	}
	w.isDone(r.GetJob(), steps-failsAt-1)
}

// TestScratchLost: the other party's loss costs its time again; a party that
// has lost its own begins anew.
func TestScratchLost(t *testing.T) {
	w := newWorld(t)
	first := w.failed(w.steps(1))
	must(t, w.nodes["gov"].disk.drop(first))
	_, err := w.resume("gov", first)
	refused(t, err, "scratch_gone", "gov")
	r, err := w.resume("bank", first)
	must(t, err)
	w.isDone(r.GetJob(), steps)
}

// TestNotResumable: what a person can ask for in vain.
func TestNotResumable(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	w.hooks.err["gov"] = errors.New("it fails")
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	for _, p := range []string{"bank", "gov"} {
		if v := w.ended(p, id); v.GetState() != "failed" || v.GetResumable() || w.nodes[p].disk.hasScratch(id) {
			t.Errorf("%s: %s, resumable %v", p, v.GetState(), v.GetResumable())
		}
		_, err = w.resume(p, id)
		refused(t, err, "not_resumable", p)
	}
	w.hooks.err = nil
	grant = w.approvedSteps()
	entered, release := make(chan string, 2*steps), make(chan struct{})
	w.hooks.step = func(p string, _ int) error { entered <- p; <-release; return nil }
	id, err = w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	<-entered
	_, err = w.resume("bank", id)
	refused(t, err, "run_busy", "bank")
	close(release)
	w.isDone(id, steps)
}

// approvedSteps is steps where the entries are registered already.
func (w *world) approvedSteps() string {
	w.t.Helper()
	q := proto.CloneOf(w.lastRequest())
	q.Computations[0].Kind, q.Id = stepKind, ""
	return w.approved(q)
}

// lastRequest is what the last request asked for.
func (w *world) lastRequest() *catalogv1.Request {
	w.t.Helper()
	r, err := w.nodes["bank"].ListRequests(w.ctx, &nodev1.ListRequestsRequest{})
	must(w.t, err)
	return r.GetRequests()[0].GetRequest()
}

// TestResumeAfterCancel: a job that a person cancelled can go on as well.
func TestResumeAfterCancel(t *testing.T) {
	w := newWorld(t)
	grant := w.steps(1)
	entered, release := make(chan string, 2*steps), make(chan struct{})
	w.hooks.step = func(p string, i int) error {
		if i == failsAt {
			entered <- p
			<-release
		}
		return nil
	}
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	<-entered
	<-entered
	gov := w.nodes["gov"].findJob(id)
	_, err = w.nodes["bank"].CancelJob(as(w.ctx, "op"), &nodev1.CancelJobRequest{Job: id})
	must(t, err)
	close(release)
	if v := w.ended("bank", id); v.GetState() != "cancelled" || !v.GetResumable() {
		t.Errorf("bank: %s, resumable %v: %s", v.GetState(), v.GetResumable(), v.GetReason())
	}
	<-gov.ended
	w.breaks("")
	r, err := w.resume("gov", id)
	must(t, err)
	if v := w.ended("gov", r.GetJob()); v.GetState() != "done" {
		t.Errorf("gov: %s: %s", v.GetState(), v.GetReason())
	}
}

// TestRevokedBetweenAttempts: a grant that is revoked resumes nothing.
func TestRevokedBetweenAttempts(t *testing.T) {
	w := newWorld(t)
	grant := w.steps(1)
	first := w.failed(grant)
	w.revoke(grant, "withdrawn")
	_, err := w.resume("bank", first)
	refused(t, err, "grant_revoked", "bank")
}

// TestRevokedWhileRunning: a run that ends by its grant's revocation is over,
// and leaves nothing on the disk.
func TestRevokedWhileRunning(t *testing.T) {
	w := newWorld(t)
	grant := w.steps(1)
	entered, release := make(chan string, 2*steps), make(chan struct{})
	w.hooks.step = func(p string, _ int) error { entered <- p; <-release; return nil }
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	<-entered
	a := w.nodes["bank"].findJob(id)
	b := w.nodes["gov"].findJob(id)
	w.revoke(grant, "withdrawn")
	<-a.ctx.Done()
	<-b.ctx.Done()
	close(release)
	v := w.ended("bank", id)
	w.ended("gov", id)
	if v.GetState() != "failed" || v.GetResumable() && v.GetClass() == "grant_revoked" {
		t.Errorf("bank: %s, %s, resumable %v", v.GetState(), v.GetClass(), v.GetResumable())
	}
	if v.GetClass() == "grant_revoked" && w.nodes["bank"].disk.hasScratch(id) {
		t.Error("scratch of a revoked run is left")
	}
	_, err = w.resume("bank", id)
	if r, by := rule(err); (r != "run_over" && r != "grant_revoked") || by != "bank" {
		t.Errorf("rule %q by %q: %v", r, by, err)
	}
}

// TestRetention: a run that nobody resumes goes, with its files; a folder of no
// run goes at the next look.
func TestRetention(t *testing.T) {
	w := newWorld(t)
	grant := w.steps(2)
	first := w.failed(grant)
	bank := w.nodes["bank"]
	must(t, bank.sweep())
	if !bank.disk.hasScratch(first) {
		t.Fatal("the sweep took a run of today")
	}
	w.stops["bank"]()
	must(t, os.Mkdir(filepath.Join(w.homes["bank"].scratchDir(), "J-orphan"), 0o700))
	w.tune = func(n *Node) { n.cfg.Limits.ScratchRetention = time.Nanosecond }
	w.start("bank")
	bank = w.nodes["bank"]
	if runs, err := bank.disk.runs(); err != nil || len(runs) != 1 || runs[0] != first {
		t.Errorf("after the start: %v, %v", runs, err)
	}
	must(t, bank.sweep())
	if bank.disk.hasScratch(first) {
		t.Error("an old run is left")
	}
	_, err := w.resume("bank", first)
	refused(t, err, "run_over", "bank")
	_, err = w.resume("gov", first)
	refused(t, err, "run_over", "bank")
	if v, err := bank.load(first); err != nil || v.State != Failed {
		t.Errorf("the record: %v, %v", v, err)
	}
}

// TestKilledAndResumed: kill -9 of a node in the middle of a run; once it is
// back, the run goes on where both were.
func TestKilledAndResumed(t *testing.T) {
	for _, killed := range []string{"gov", "bank"} {
		t.Run(killed, func(t *testing.T) {
			w := newWorld(t)
			grant := w.steps(1)
			var c *child
			var id string
			if killed == "gov" {
				c = w.child(killed, envStall+"=step")
				var err error
				id, err = w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
				must(t, err)
			} else {
				c = w.child(killed, envStall+"=step", envSubmit+"="+grant)
				id = c.waits("job")
			}
			c.waits("step")
			c.kill()
			stays := map[string]string{"gov": "bank", "bank": "gov"}[killed]
			if v := w.ended(stays, id); v.GetState() != "failed" || !v.GetResumable() {
				t.Errorf("%s: %s, resumable %v", stays, v.GetState(), v.GetResumable())
			}
			w.start(killed)
			if r := w.view(killed, id); r.State != Failed || r.Class != "interrupted" || !r.Resumable {
				t.Errorf("%s: %s, %s, resumable %v: %s", killed, r.State, r.Class, r.Resumable, r.Reason)
			}
			r, err := w.resume("gov", id)
			must(t, err)
			w.isDone(r.GetJob(), steps-failsAt-1)
			for _, p := range []string{"bank", "gov"} {
				if u := w.used(p, grant); u != 1 {
					t.Errorf("%s: %d uses spent", p, u)
				}
			}
		})
	}
}

// TestBothResume: of two parties that resume at the same time one wins, and the
// other is told so.
func TestBothResume(t *testing.T) {
	w := newWorld(t)
	grant := w.steps(1)
	first := w.failed(grant)
	release := make(chan struct{})
	w.hooks.step = func(string, int) error { <-release; return nil }
	var wg sync.WaitGroup
	replies, errs := make([]*nodev1.ResumeJobReply, 2), make([]error, 2)
	for i, p := range []string{"bank", "gov"} {
		wg.Go(func() { replies[i], errs[i] = w.resume(p, first) })
	}
	wg.Wait()
	close(release)
	var won string
	for i := range errs {
		if errs[i] == nil {
			if won != "" {
				t.Fatal("both won")
			}
			won = replies[i].GetJob()
		} else if r, _ := rule(errs[i]); r != "run_busy" {
			t.Errorf("rule %q: %v", r, errs[i])
		}
	}
	if won == "" {
		t.Fatalf("nobody won: %v", errs)
	}
	w.isDone(won, steps-failsAt-1)
}

// TestGivesWay: gov has proposed an attempt and the bank, which stands before
// it in the contract, proposes one as well: gov's gives way. The other way
// round gov is refused.
func TestGivesWay(t *testing.T) {
	w := newWorld(t)
	first := w.failed(w.steps(1))
	enter := func(party string) *active {
		n := w.nodes[party]
		st, err := n.loadRun(first)
		must(t, err)
		c, err := n.redraft(st, 2, 0)
		must(t, err)
		a, err := n.enter(w.ctx, c, "op")
		must(t, err)
		return a
	}
	a := enter("bank")
	_, err := w.resume("gov", first)
	refused(t, err, "run_busy", "bank")
	w.nodes["bank"].withdraw(a, w.nodes["bank"].refuse("test", "over"))

	a = enter("gov")
	gave := make(chan error, 1)
	go func() {
		<-a.ctx.Done()
		gave <- context.Cause(a.ctx)
		w.nodes["gov"].withdraw(a, context.Cause(a.ctx))
	}()
	r, err := w.resume("bank", first)
	must(t, err)
	var f *failure
	if err := <-gave; !errors.As(err, &f) || f.class != "run_busy" {
		t.Errorf("gov: %v", err)
	}
	w.isDone(r.GetJob(), steps-failsAt-1)

	// One that has told the others to start gives way to nobody.
	b := &active{}
	if !b.commit() || b.yield() {
		t.Error("a committed attempt gave way")
	}
	b = &active{}
	if !b.yield() || b.commit() {
		t.Error("an attempt that gave way went on")
	}
}

// TestOtherCommitment: a party that commits to other inputs in a later attempt
// gets no receipt for it.
func TestOtherCommitment(t *testing.T) {
	w := newWorld(t)
	first := w.failed(w.steps(1))
	must(t, w.nodes["bank"].noteCommitment(first, "gov", []byte("not what gov committed to")))
	r, err := w.resume("bank", first)
	must(t, err)
	if v := w.ended("bank", r.GetJob()); v.GetState() != "failed" || v.GetClass() != "input_commitment" {
		t.Errorf("bank: %s, %s: %s", v.GetState(), v.GetClass(), v.GetReason())
	}
	if v := w.ended("gov", r.GetJob()); v.GetState() != "failed" {
		t.Errorf("gov: %s", v.GetState())
	}
	w.noOutput()
	var rules []string
	for _, e := range w.events("bank") {
		rules = append(rules, e.GetRule())
	}
	if !slices.Contains(rules, "input_commitment") { // gov's record of the first attempt told the bank
		t.Errorf("events %v", rules)
	}
}
