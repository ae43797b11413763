package node

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/internal/suite"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// TestResume: a failed job goes on in a new session, after the steps that were
// finished, under the one use that the run has.
func TestResume(t *testing.T) {
	w := newWorld(t)
	grant := w.steps(1)
	first := w.failed(grant)
	for _, p := range []string{"bank", "gov"} {
		if names := w.results(p); len(names) != 0 {
			t.Errorf("%s: output %v", p, names)
		}
		if !w.nodes[p].disk.hasScratch(first) {
			t.Errorf("%s: nothing is kept", p)
		}
	}
	r, err := w.resume("bank", first)
	must(t, err)
	w.isDone(r.GetJob(), steps-failsAt-1)
	for _, p := range []string{"bank", "gov"} {
		v, old := w.ended(p, r.GetJob()), w.ended(p, first)
		if old.GetResumable() || v.GetResumable() {
			t.Errorf("%s: a run that is done can be resumed", p)
		}
		if v.GetRun() != first || v.GetAttempt() != 2 || v.GetSession() == old.GetSession() || old.GetState() != "failed" || v.GetUsesLeft() != 0 {
			t.Errorf("%s: run %s, attempt %d, %d uses left", p, v.GetRun(), v.GetAttempt(), v.GetUsesLeft())
		}
		if u := w.used(p, grant); u != 1 {
			t.Errorf("%s: %d uses spent", p, u)
		}
		rs, _ := w.receiptsOf(p, r.GetJob())
		if len(rs) != 1 || rs[0].GetRun() != first || rs[0].GetAttempt() != 2 {
			t.Fatalf("%s: receipts %v", p, rs)
		}
		if none, _ := w.receiptsOf(p, first); len(none) != 0 {
			t.Errorf("%s: the failed attempt has a receipt", p)
		}
		w.sameCommitments(p, old.GetSession(), rs[0])
	}
	_, err = w.resume("bank", r.GetJob())
	refused(t, err, "run_over", "bank")
	_, err = w.resume("gov", first)
	refused(t, err, "run_over", "gov")
	_, err = w.resume("bank", "J-none")
	var none *NotFound
	if !errors.As(err, &none) {
		t.Errorf("a job that there is not: %v", err)
	}
}

// sameCommitments holds the parties' records of a failed attempt to a receipt.
func (w *world) sameCommitments(party, session string, receipt *auditv1.Receipt) {
	w.t.Helper()
	records := w.recordsOf(party, session)
	if len(records) != 2 {
		w.t.Errorf("%s: %d records of the failed attempt", party, len(records))
	}
	for _, p := range receipt.GetParties() {
		rec := records[p.GetParty()]
		if len(p.GetInputCommitment()) == 0 || !bytes.Equal(rec.GetInputCommitment(), p.GetInputCommitment()) {
			w.t.Errorf("%s: the commitments of %s differ", party, p.GetParty())
		}
	}
}

// TestResumeMoreThanOnce: any party may resume, and name any attempt.
func TestResumeMoreThanOnce(t *testing.T) {
	w := newWorld(t)
	grant := w.steps(1)
	first := w.failed(grant)
	w.hooks.outErr["bank"] = errors.New("no output")
	second, err := w.resume("gov", first)
	must(t, err)
	if v := w.ended("gov", second.GetJob()); v.GetState() != "failed" {
		t.Fatalf("gov: %s: %s", v.GetState(), v.GetReason())
	}
	if v := w.ended("bank", second.GetJob()); v.GetState() != "failed" {
		t.Fatalf("bank: %s: %s", v.GetState(), v.GetReason())
	}
	delete(w.hooks.outErr, "bank")
	third, err := w.resume("bank", second.GetJob())
	must(t, err)
	if third.GetAttempt() != 3 {
		t.Errorf("attempt %d", third.GetAttempt())
	}
	w.isDone(third.GetJob(), 0)
	if u := w.used("gov", grant); u != 1 {
		t.Errorf("%d uses spent", u)
	}
}

// TestResumeHoldsToTheRun: a bank that skips its own admission cannot resume
// under other terms.
func TestResumeHoldsToTheRun(t *testing.T) {
	w := newWorld(t)
	grant := w.steps(3)
	first := w.failed(grant)
	other, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	w.isDoneBeside(other)
	bank := w.nodes["bank"]
	st, err := bank.loadRun(first)
	must(t, err)
	ask := func(change func(*peerv1.Contract)) *peerv1.Refusal {
		c, err := bank.redraft(st, 2, 0)
		must(t, err)
		m := proto.CloneOf(c.Contract)
		change(m)
		payload, err := proto.Marshal(m)
		must(t, err)
		reply, err := bank.peers.Propose(w.ctx, "gov", &peerv1.ProposeRequest{Contract: bank.key.Seal("bank", suite.ContextContract, payload)})
		must(t, err)
		return reply.GetRefusal()
	}
	for _, c := range []struct {
		name   string
		change func(*peerv1.Contract)
		rule   string
	}{
		{"other parameters", func(c *peerv1.Contract) { c.Params = []byte(`{"depth":2}`) }, "run_terms"},
		{"fewer items", func(c *peerv1.Contract) { c.Parties[1].Inputs[0].Items = c.Parties[1].Inputs[0].Items[:1] }, "run_terms"},
		{"no input", func(c *peerv1.Contract) { c.Parties[0].Inputs = nil }, "run_terms"},
		{"fewer recipients", func(c *peerv1.Contract) { c.Recipients = c.Recipients[:1] }, "run_terms"},
		{"another run", func(c *peerv1.Contract) { c.Run = other }, "run_over"},
		{"a run of nobody", func(c *peerv1.Contract) { c.Run = "J-nobody" }, "run_unknown"},
		{"no run", func(c *peerv1.Contract) { c.Run = "" }, "contract_malformed"},
		{"its own run", func(c *peerv1.Contract) { c.Run = c.Job }, "contract_malformed"},
		{"a run that is no name", func(c *peerv1.Contract) { c.Run = "../bank" }, "contract_malformed"},
		{"no attempt", func(c *peerv1.Contract) { c.Attempt = 0 }, "contract_malformed"},
		{"the first attempt", func(c *peerv1.Contract) { c.Attempt = 1 }, "contract_malformed"},
		{"beyond the limit", func(c *peerv1.Contract) { c.Attempt = 6 }, "attempts"},
		{"the first attempt's session", func(c *peerv1.Contract) { c.Session = w.view("gov", first).Session }, "replay"},
		{"the first attempt's job", func(c *peerv1.Contract) { c.Job, c.Run = first, other }, "run_over"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := ask(c.change); r.GetRule() != c.rule {
				t.Errorf("rule %q (%s), want %q", r.GetRule(), r.GetText(), c.rule)
			}
		})
	}
	r, err := w.resume("bank", first)
	must(t, err)
	w.isDone(r.GetJob(), steps-failsAt-1)
}

// isDoneBeside checks that a job is done while another run keeps its scratch.
func (w *world) isDoneBeside(id string) {
	w.t.Helper()
	for _, p := range []string{"bank", "gov"} {
		if v := w.ended(p, id); v.GetState() != "done" {
			w.t.Fatalf("%s: %s: %s", p, v.GetState(), v.GetReason())
		}
		if w.nodes[p].disk.hasScratch(id) {
			w.t.Errorf("%s: scratch of a job that is done", p)
		}
	}
}

// TestResumeReplayed: the signed contract of a resumed job starts no second
// session.
func TestResumeReplayed(t *testing.T) {
	w := newWorld(t)
	first := w.failed(w.steps(1))
	bank := w.nodes["bank"]
	st, err := bank.loadRun(first)
	must(t, err)
	c, err := bank.redraft(st, 2, 0)
	must(t, err)
	signed := bank.key.Seal("bank", suite.ContextContract, c.payload)
	propose := func() *peerv1.ProposeReply {
		reply, err := bank.peers.Propose(w.ctx, "gov", &peerv1.ProposeRequest{Contract: proto.CloneOf(signed)})
		must(t, err)
		return reply
	}
	if r := propose().GetRefusal(); r != nil {
		t.Fatalf("refused: %v", r)
	}
	if r := propose().GetRefusal(); r.GetRule() != "replay" {
		t.Errorf("twice: %v", r)
	}
	a := w.nodes["gov"].findJob(c.GetJob())
	_, err = bank.peers.Abort(w.ctx, "gov", &peerv1.AbortRequest{Session: c.GetSession(), Class: "refused"})
	must(t, err)
	<-a.ended
	if r := propose().GetRefusal(); r.GetRule() != "replay" {
		t.Errorf("after it was withdrawn: %v", r)
	}
	if _, err := bank.peers.Start(w.ctx, "gov", &peerv1.StartRequest{Contract: &signv1.Signed{Payload: c.payload}}); err != nil {
		t.Error(err)
	}
	// A withdrawn attempt has not begun: its number is free, and so is the run.
	r, err := w.resume("bank", first)
	must(t, err)
	if r.GetAttempt() != 2 {
		t.Errorf("attempt %d", r.GetAttempt())
	}
	w.isDone(r.GetJob(), steps-failsAt-1)
}

// data replaces a party's table.
func (w *world) data(party, text string) {
	w.t.Helper()
	must(w.t, os.WriteFile(filepath.Join(w.homes[party].Dir, "data.csv"), []byte(text), 0o600))
}

const goodData = "id,x,hidden\n1,10,7\n2,20,8\n3,30,9\n"

// TestResumeWithOtherData: the attempt ends at the party whose data has
// changed, before it says a word. With the data back, the next one goes on.
func TestResumeWithOtherData(t *testing.T) {
	w := newWorld(t)
	grant := w.steps(1)
	first := w.failed(grant)
	w.data("gov", "id,x,hidden\n1,10,7\n2,20,8\n3,31,9\n")
	r, err := w.resume("bank", first)
	must(t, err)
	gov, bank := w.ended("gov", r.GetJob()), w.ended("bank", r.GetJob())
	if gov.GetState() != "failed" || gov.GetClass() != "input_changed" || gov.GetUnits()["messages_sent"] != 0 {
		t.Errorf("gov: %s, %s, %v: %s", gov.GetState(), gov.GetClass(), gov.GetUnits(), gov.GetReason())
	}
	if bank.GetState() != "failed" || bank.GetReason() != "gov ended the job (input_changed)" {
		t.Errorf("bank: %s: %s", bank.GetState(), bank.GetReason())
	}
	w.data("gov", goodData)
	r, err = w.resume("bank", first)
	must(t, err)
	if r.GetAttempt() != 3 {
		t.Errorf("attempt %d", r.GetAttempt())
	}
	w.isDone(r.GetJob(), steps-failsAt-1)
	if u := w.used("gov", grant); u != 1 {
		t.Errorf("%d uses spent", u)
	}
}

// TestResumeTakesAnotherUse: gov's use was given back, for no byte flowed
// there; a further attempt takes one in the name of the same run.
func TestResumeTakesAnotherUse(t *testing.T) {
	w := newWorld(t)
	grant := w.steps(1)
	w.data("gov", "id,x,hidden\n1,10,7\n2,x,8\n")
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	w.ended("bank", id)
	if v := w.ended("gov", id); v.GetClass() != "dataset" || !v.GetResumable() || w.used("gov", grant) != 0 {
		t.Fatalf("gov: %s, %s, %d uses: %s", v.GetState(), v.GetClass(), w.used("gov", grant), v.GetReason())
	}
	w.data("gov", goodData)
	r, err := w.resume("gov", id)
	must(t, err)
	w.isDone(r.GetJob(), steps)
	for _, p := range []string{"bank", "gov"} {
		if u := w.used(p, grant); u != 1 {
			t.Errorf("%s: %d uses spent", p, u)
		}
	}
}
