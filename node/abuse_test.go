package node

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/node/peer"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// runs submits a job and returns how it ended at both parties.
func (w *world) runs(req *nodev1.SubmitJobRequest) (bank, gov *nodev1.JobView) {
	w.t.Helper()
	id, err := w.submit(req)
	must(w.t, err)
	return w.ended("bank", id), w.ended("gov", id)
}

// noOutput checks that nothing of a job was released or left lying.
func (w *world) noOutput() {
	w.t.Helper()
	for id := range w.nodes {
		if names := w.results(id); len(names) != 0 {
			w.t.Errorf("%s: output %v", id, names)
		}
	}
}

// TestCountsDisagree: parties whose counts differ fail loudly, both of them,
// and nothing is released.
func TestCountsDisagree(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	w.hooks.cnt["gov"] = 7
	bank, gov := w.runs(&nodev1.SubmitJobRequest{GrantId: grant})
	if bank.GetState() != "failed" || bank.GetClass() != "count_disagreement" {
		t.Errorf("bank: %s, %s: %s", bank.GetState(), bank.GetClass(), bank.GetReason())
	}
	if gov.GetState() != "failed" || !strings.Contains(gov.GetReason(), "count_disagreement") {
		t.Errorf("gov: %s, %s: %s", gov.GetState(), gov.GetClass(), gov.GetReason())
	}
	w.noOutput()
	if rs, _ := w.receiptsOf("bank", bank.GetJob()); len(rs) != 0 {
		t.Error("a receipt was logged")
	}
}

// TestUndeclaredField: a definition that returns more than it says it reveals
// is stopped at the release gate.
func TestUndeclaredField(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	bank, gov := w.runs(&nodev1.SubmitJobRequest{GrantId: grant, Params: []byte(`{"sneak":true}`)})
	for _, v := range []*nodev1.JobView{bank, gov} {
		if v.GetState() != "failed" || (v.GetClass() != "reveals" && v.GetClass() != "peer_aborted") {
			t.Errorf("%s, %s: %s", v.GetState(), v.GetClass(), v.GetReason())
		}
	}
	if bank.GetClass() != "reveals" && gov.GetClass() != "reveals" {
		t.Error("nobody names the gate")
	}
	w.noOutput()
}

// TestOthersGetNoOutput: a party that is no recipient keeps neither values nor
// tables, and signs the receipt like everybody.
func TestOthersGetNoOutput(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(func(q *catalogv1.Request) { q.Recipients = []string{"bank"} })
	bank, gov := w.runs(&nodev1.SubmitJobRequest{GrantId: grant})
	if bank.GetState() != "done" || gov.GetState() != "done" || gov.GetReceipt() == nil {
		t.Fatalf("bank %s, gov %s: %s", bank.GetState(), gov.GetState(), gov.GetReason())
	}
	for p, want := range map[string][]string{"bank": {"list.csv", "manifest.json", "values.json"}, "gov": {"values.json"}} {
		es, err := os.ReadDir(w.nodes[p].published(gov.GetJob()))
		must(t, err)
		var names []string
		for _, e := range es {
			names = append(names, e.Name())
		}
		if strings.Join(names, " ") != strings.Join(want, " ") {
			t.Errorf("%s: files %v", p, names)
		}
	}
	must(t, w.nodes["gov"].GetResult(w.ctx, &nodev1.GetResultRequest{Job: gov.GetJob()}, func(r *nodev1.GetResultReply) error {
		if string(r.GetValues()) != "{}" || len(r.GetTables()) != 0 {
			t.Errorf("gov got %s and %v", r.GetValues(), r.GetTables())
		}
		return nil
	}))
	err := w.nodes["gov"].GetResult(w.ctx, &nodev1.GetResultRequest{Job: gov.GetJob(), Table: "list"}, func(*nodev1.GetResultReply) error { return nil })
	var none *NotFound
	if !errors.As(err, &none) {
		t.Errorf("gov's table: %v", err)
	}
}

// TestConcurrentJobs: four jobs run at once; the fifth is refused by a rule of
// the node's own, of which a peer learns the class alone.
func TestConcurrentJobs(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(func(q *catalogv1.Request) { q.Limits.MaxRuns = 10 })
	entered, release := make(chan string, 10), make(chan struct{})
	w.hooks.mid = func(p string) { entered <- p; <-release }
	var ids []string
	for range 4 {
		id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
		must(t, err)
		ids = append(ids, id)
	}
	for range 8 {
		<-entered
	}
	_, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	if r, by := rule(err); r != "concurrent_jobs" || by != "bank" {
		t.Errorf("fifth: rule %q by %q: %v", r, by, err)
	}
	if r := w.propose(grant, nil, nil).GetRefusal(); r.GetRule() != "local_policy" || r.GetText() != "" {
		t.Errorf("fifth at gov: %v", r)
	}
	close(release)
	for _, id := range ids {
		for _, p := range []string{"bank", "gov"} {
			if v := w.ended(p, id); v.GetState() != "done" {
				t.Errorf("%s: %s: %s", p, v.GetState(), v.GetReason())
			}
		}
	}
	if u := w.used("gov", grant); u != 4 {
		t.Errorf("%d uses spent, want 4: refusals spend none", u)
	}
	if bank, _ := w.runs(&nodev1.SubmitJobRequest{GrantId: grant}); bank.GetState() != "done" {
		t.Errorf("after the four: %s", bank.GetState())
	}
}

// TestForgedReceipt: a party signs no receipt that is wrong about anything it
// knows for itself.
func TestForgedReceipt(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	bank, gov := w.nodes["bank"], w.nodes["gov"]
	g, err := bank.resolver.Grant(w.ctx, grant)
	must(t, err)
	c, err := bank.draft(g, &nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	line := func(party, role string) *auditv1.PartyRecord {
		return &auditv1.PartyRecord{Party: party, Role: role, Rows: 3, Units: map[string]int64{"bytes_sent": 10}, InputCommitment: []byte{1}, ResultCommitment: []byte{2}}
	}
	own := &peerv1.FinishRequest{
		Session: c.GetSession(), Record: line("gov", "right"), Counts: map[string]int64{"rows": 6}, Digests: map[string][]byte{"cells": {1, 2}},
	}
	f := newFinisher(c)
	f.lines["bank"] = &peerv1.FinishRequest{Session: c.GetSession(), Record: line("bank", "left"), Counts: own.Counts, Digests: own.Digests}
	f.lines["gov"] = own
	honest, err := f.compose([]string{"bank", "gov"}, time.Now())
	must(t, err)
	if err := gov.checkReceipt(c, own, honest); err != nil {
		t.Fatalf("honest receipt: %v", err)
	}
	for name, forge := range map[string]func(*auditv1.Receipt){
		"own rows":           func(r *auditv1.Receipt) { r.Parties[1].Rows = 4 },
		"own units":          func(r *auditv1.Receipt) { r.Parties[1].Units["bytes_sent"] = 0 },
		"own input":          func(r *auditv1.Receipt) { r.Parties[1].InputCommitment = []byte{9} },
		"own result":         func(r *auditv1.Receipt) { r.Parties[1].ResultCommitment = nil },
		"own line left out":  func(r *auditv1.Receipt) { r.Parties = r.Parties[:1] },
		"own line as absent": func(r *auditv1.Receipt) { r.Parties, r.Absent = r.Parties[:1], []string{"gov"} },
		"absent and present": func(r *auditv1.Receipt) { r.Absent = []string{"bank"} },
		"bank left out":      func(r *auditv1.Receipt) { r.Parties = r.Parties[1:] },
		"bank twice":         func(r *auditv1.Receipt) { r.Parties = append(r.Parties, r.Parties[0]) },
		"bank's role":        func(r *auditv1.Receipt) { r.Parties[0].Role = "right" },
		"a stranger":         func(r *auditv1.Receipt) { r.Parties = append(r.Parties, line("tax", "left")) },
		"a stranger absent":  func(r *auditv1.Receipt) { r.Absent = []string{"tax"} },
		"counts":             func(r *auditv1.Receipt) { r.Counts["rows"] = 7 },
		"more counts":        func(r *auditv1.Receipt) { r.Counts["other"] = 1 },
		"digests":            func(r *auditv1.Receipt) { r.Digests["cells"][1] = 3 },
		"more digests":       func(r *auditv1.Receipt) { r.Digests["other"] = []byte{1} },
		"no digests":         func(r *auditv1.Receipt) { r.Digests = nil },
		"job":                func(r *auditv1.Receipt) { r.Job = "J-other" },
		"session":            func(r *auditv1.Receipt) { r.Session = "S-other" },
		"kind":               func(r *auditv1.Receipt) { r.Kind = "test.other.v1" },
		"grant":              func(r *auditv1.Receipt) { r.GrantId = "G-other" },
		"grant digest":       func(r *auditv1.Receipt) { r.GrantDigest[0] ^= 1 },
		"contract":           func(r *auditv1.Receipt) { r.ContractDigest[0] ^= 1 },
		"assumptions":        func(r *auditv1.Receipt) { r.Assumptions = nil },
		"hidden fields":      func(r *auditv1.Receipt) { r.ProtoReflect().SetUnknown([]byte{0xfa, 0x3f, 0x01, 'x'}) },
	} {
		r := &auditv1.Receipt{}
		must(t, proto.Unmarshal(honest, r))
		forge(r)
		payload, err := proto.Marshal(r)
		must(t, err)
		var fl *failure
		if err := gov.checkReceipt(c, own, payload); !errors.As(err, &fl) || fl.class != "receipt_content" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := gov.checkReceipt(c, own, []byte{0xff}); err == nil {
		t.Error("garbage was accepted")
	}
}

// TestLyingInitiator: over the wire, a bank that lies about gov's line gets no
// signature of gov's.
func TestLyingInitiator(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	bank := w.nodes["bank"]
	bank.waits = waits{finish: 20 * time.Second, sign: 300 * time.Millisecond}
	lied := make(chan struct{})
	w.hooks.out = func(p string) {
		if p != "bank" {
			return
		}
		f := onlyActive(bank).finisher
		_ = f.wait(w.ctx, func() bool { return f.lines["gov"] != nil })
		f.update(func() { f.lines["gov"].Record.Rows = 1000 })
		close(lied)
	}
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	<-lied
	if v := w.ended("gov", id); v.GetState() != "failed" || v.GetClass() != "receipt_content" || !strings.Contains(v.GetReason(), "this party's line") {
		t.Errorf("gov: %s, %s: %s", v.GetState(), v.GetClass(), v.GetReason())
	}
	w.ended("bank", id)
	rs, _ := w.receiptsOf("bank", id)
	for _, r := range rs {
		for _, p := range r.GetParties() {
			if p.GetParty() == "gov" {
				t.Error("the bank's log holds a receipt in gov's name")
			}
		}
	}
	if rs, _ := w.receiptsOf("gov", id); len(rs) != 0 {
		t.Error("gov logged a receipt")
	}
}

func onlyActive(n *Node) *active {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.active {
		return a
	}
	return nil
}

// TestPanics: a fault in a job kind fails one job, at admission and in the run,
// and takes neither the node nor a slot.
func TestPanics(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	for range w.nodes["gov"].cfg.Limits.ConcurrentJobs + 1 {
		bank := w.nodes["bank"]
		g, err := bank.resolver.Grant(w.ctx, grant)
		must(t, err)
		c, err := bank.draft(g, &nodev1.SubmitJobRequest{GrantId: grant, Params: []byte(`{"panic":true}`)})
		must(t, err)
		_, err = bank.peers.Propose(w.ctx, "gov", &peerv1.ProposeRequest{Contract: bank.key.Seal("bank", suite.ContextContract, c.payload)})
		if peer.Reason(err) != "internal" {
			t.Errorf("proposal: %v", err)
		}
	}
	fault := func(p string) {
		if p != "gov" {
			return
		}
		var g errgroup.Group
		g.Go(func() error { panic("a fault in the protocol") })
		_ = g.Wait()
	}
	for name, plant := range map[string]func(func(string)){
		"running":             func(f func(string)) { w.hooks.mid = f },
		"writing its results": func(f func(string)) { w.hooks.out = f },
	} {
		plant(fault)
		bank, gov := w.runs(&nodev1.SubmitJobRequest{GrantId: grant})
		if gov.GetState() != "failed" || gov.GetClass() != "internal" || strings.Contains(gov.GetReason(), "a fault in") {
			t.Errorf("%s: gov: %s, %s: %s", name, gov.GetState(), gov.GetClass(), gov.GetReason())
		}
		if bank.GetState() != "failed" || bank.GetReason() != "gov ended the job (internal)" {
			t.Errorf("%s: bank: %s, %s: %s", name, bank.GetState(), bank.GetClass(), bank.GetReason())
		}
		plant(nil)
	}
	if bank, gov := w.runs(&nodev1.SubmitJobRequest{GrantId: grant}); bank.GetState() != "done" || gov.GetState() != "done" {
		t.Errorf("afterwards: %s, %s", bank.GetState(), gov.GetState())
	}
}

// TestNothingRunsAfterClose: goroutines of nodes that ran, failed and were
// stopped have ended.
func TestNothingRunsAfterClose(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("life", func(t *testing.T) {
		w := newWorld(t)
		grant := w.granted(nil)
		w.runs(&nodev1.SubmitJobRequest{GrantId: grant})
		w.hooks.err["gov"] = errors.New("failed")
		w.runs(&nodev1.SubmitJobRequest{GrantId: grant})
		if r := w.propose(grant, nil, nil).GetRefusal(); r != nil { // waits to be started when the node stops
			t.Error(r)
		}
	})
	goleak.VerifyNone(t, before)
}

// TestProposalStorm: a party that proposes without end fills neither the log
// nor the store nor the slots of its peer, and spends no use.
func TestProposalStorm(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(func(q *catalogv1.Request) { q.Limits.MaxRuns = 100 })
	gov, bank := w.nodes["gov"], w.nodes["bank"]
	g, err := bank.resolver.Grant(w.ctx, grant)
	must(t, err)
	const each = 40
	var wg sync.WaitGroup
	refused, busy := make(chan string, 1000), make(chan error, 1000)
	for i := range 8 {
		wg.Go(func() {
			for range each {
				c, err := bank.draft(g, &nodev1.SubmitJobRequest{GrantId: grant, Purpose: map[bool]string{true: "marketing"}[i%2 == 0]})
				if err != nil {
					busy <- err
					return
				}
				c.Contract.Expires = timestamppb.New(time.Now().Add(2 * time.Second))
				payload, err := proto.Marshal(c.Contract)
				if err != nil {
					busy <- err
					return
				}
				r, err := bank.peers.Propose(w.ctx, "gov", &peerv1.ProposeRequest{Contract: bank.key.Seal("bank", suite.ContextContract, payload)})
				if err != nil {
					busy <- err
				} else {
					refused <- r.GetRefusal().GetRule()
				}
			}
		})
	}
	wg.Wait()
	close(refused)
	close(busy)
	rules := map[string]int{}
	for r := range refused {
		rules[r]++
	}
	for err := range busy {
		if peer.Reason(err) != "busy" {
			t.Error(err)
		}
	}
	if rules["purpose"] == 0 || rules["local_policy"] == 0 || rules[""] < gov.cfg.Limits.ConcurrentJobs {
		t.Errorf("answers %v", rules)
	}
	if n := len(w.events("gov")); n > eventBurst+10 {
		t.Errorf("%d events in gov's log", n)
	}
	var stored int
	for _, err := range gov.store.Scan("job/") {
		must(t, err)
		stored++
	}
	if stored > rules[""] {
		t.Errorf("%d jobs in the store, %d were signed", stored, rules[""])
	}
	// The proposals that were signed expire, and give everything back.
	until(t, func() bool { return onlyActive(gov) == nil })
	if u := w.used("gov", grant); u != 0 {
		t.Errorf("%d uses spent", u)
	}
	if b, _ := w.runs(&nodev1.SubmitJobRequest{GrantId: grant}); b.GetState() != "done" {
		t.Errorf("an honest job afterwards: %s: %s", b.GetState(), b.GetReason())
	}
	t.Logf("answers %v, %d events recorded", rules, len(w.events("gov")))
}

func TestEventGate(t *testing.T) {
	g := &eventGate{}
	now := time.Now()
	for i := range eventBurst + 5 {
		if _, ok := g.pass("bank", now); ok != (i < eventBurst) {
			t.Fatalf("event %d: %v", i, ok)
		}
		if _, ok := g.pass("", now); !ok {
			t.Fatal("an event of this node's own was skipped")
		}
	}
	if skipped, ok := g.pass("tax", now); !ok || skipped != 0 {
		t.Error("another peer pays for it")
	}
	if skipped, ok := g.pass("bank", now.Add(eventEvery)); !ok || skipped != 5 {
		t.Errorf("later: %d skipped, %v", skipped, ok)
	}
	if s := withSkipped("text", 5); !strings.Contains(s, "5 refusals") {
		t.Error(s)
	}
}

// TestStrangers: a party of the roster that has no part in a session can
// neither end it nor speak at its receipt; one that has cannot speak twice.
func TestStrangers(t *testing.T) {
	w := newWorldOf(t, "bank", "gov", "tax")
	grant := w.granted(nil)
	entered, release := make(chan string, 2), make(chan struct{})
	w.hooks.mid = func(p string) { entered <- p; <-release }
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	<-entered
	<-entered
	bank, tax, gov := w.nodes["bank"], w.nodes["tax"], w.nodes["gov"]
	a := bank.findJob(id)
	session := a.contract.GetSession()
	payload := a.contract.payload
	for _, p := range []string{"bank", "gov"} {
		_, err := tax.peers.Abort(w.ctx, p, &peerv1.AbortRequest{Session: session, Class: "mischief"})
		must(t, err)
		if w.nodes[p].findJob(id).ctx.Err() != nil {
			t.Errorf("tax ended %s's job", p)
		}
	}
	rec := &auditv1.PartyRecord{Party: "tax", Role: "right", Rows: 1}
	if _, err := tax.peers.Finish(w.ctx, "bank", &peerv1.FinishRequest{Session: session, Record: rec}); peer.Reason(err) != "unknown_session" {
		t.Errorf("Finish of a stranger: %v", err)
	}
	rec.Party = "gov"
	if _, err := tax.peers.Finish(w.ctx, "bank", &peerv1.FinishRequest{Session: session, Record: rec}); peer.Reason(err) != "unknown_session" {
		t.Errorf("Finish in another's name: %v", err)
	}
	sig := tax.key.Sign("gov", suite.ContextReceipt, payload)
	if _, err := tax.peers.CoSign(w.ctx, "bank", &peerv1.CoSignRequest{Session: session, Signature: sig}); peer.Reason(err) != "unknown_session" {
		t.Errorf("CoSign of a stranger: %v", err)
	}
	// A party: in another's name, in another role, to the wrong node, too early.
	for name, r := range map[string]*auditv1.PartyRecord{
		"another's line": {Party: "bank", Role: "left"}, "another role": {Party: "gov", Role: "left"}, "no line": nil,
	} {
		if _, err := gov.peers.Finish(w.ctx, "bank", &peerv1.FinishRequest{Session: session, Record: r}); peer.Reason(err) != "malformed_line" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bank.peers.Finish(w.ctx, "gov", &peerv1.FinishRequest{Session: session, Record: &auditv1.PartyRecord{Party: "bank", Role: "left"}}); peer.Reason(err) != "unknown_session" {
		t.Errorf("Finish at a party that does not write the receipt: %v", err)
	}
	if _, err := gov.peers.CoSign(w.ctx, "bank", &peerv1.CoSignRequest{Session: session, Signature: gov.key.Sign("gov", suite.ContextReceipt, payload)}); peer.Reason(err) != "no_receipt_to_sign" {
		t.Errorf("CoSign before there is a receipt: %v", err)
	}
	// Start by somebody else, and once more by the initiator.
	signed := bank.key.Seal("bank", suite.ContextContract, payload)
	signed.Signatures = append(signed.Signatures, gov.key.Sign("gov", suite.ContextContract, payload))
	if r, err := tax.peers.Start(w.ctx, "gov", &peerv1.StartRequest{Contract: signed}); err != nil || r.GetRefusal().GetRule() != "contract_altered" {
		t.Errorf("Start of a stranger: %v, %v", r, err)
	}
	if r, err := bank.peers.Start(w.ctx, "gov", &peerv1.StartRequest{Contract: signed}); err != nil || r.GetRefusal() != nil {
		t.Errorf("Start again while it runs: %v, %v", r, err)
	}
	close(release)
	for _, p := range []string{"bank", "gov"} {
		if v := w.ended(p, id); v.GetState() != "done" {
			t.Errorf("%s: %s: %s", p, v.GetState(), v.GetReason())
		}
	}
	// And after the end.
	if r, err := bank.peers.Start(w.ctx, "gov", &peerv1.StartRequest{Contract: signed}); err != nil || r.GetRefusal().GetRule() != "unknown_session" {
		t.Errorf("Start after the end: %v, %v", r, err)
	}
	if _, err := bank.peers.Abort(w.ctx, "gov", &peerv1.AbortRequest{Session: session, Class: "late"}); err != nil {
		t.Error(err)
	}
	if v := w.ended("gov", id); v.GetState() != "done" {
		t.Errorf("an Abort after the end changed it to %s", v.GetState())
	}
	if u := w.used("gov", grant); u != 1 {
		t.Errorf("%d uses spent", u)
	}
	// The kept receipt is given to the parties that signed it, not to others.
	reply, err := gov.peers.CoSign(w.ctx, "bank", &peerv1.CoSignRequest{Session: session})
	if err != nil || suite.Find(reply.GetReceipt(), "gov") == nil {
		t.Errorf("the kept receipt for gov: %v", err)
	}
	if _, err := tax.peers.CoSign(w.ctx, "bank", &peerv1.CoSignRequest{Session: session}); peer.Reason(err) != "unknown_session" {
		t.Errorf("the kept receipt for a stranger: %v", err)
	}
}

// TestRecordsAreChecked: what a peer sends as records of failed runs is logged
// only where it is its own, signed, and of a run that both took part in.
func TestRecordsAreChecked(t *testing.T) {
	w := newWorldOf(t, "bank", "gov", "tax")
	grant := w.granted(nil)
	w.hooks.err["gov"] = errors.New("failed")
	bank, gov := w.runs(&nodev1.SubmitJobRequest{GrantId: grant})
	if gov.GetState() != "failed" {
		t.Fatal(gov.GetState())
	}
	id, session := bank.GetJob(), bank.GetSession()
	rec := func(party string) *auditv1.Record {
		return &auditv1.Record{Party: party, Job: id, Session: session, State: "failed", Ended: timestamppb.Now()}
	}
	give := func(from string, signer *suite.Key, m *auditv1.Record) {
		payload, err := proto.Marshal(m)
		must(t, err)
		_, err = w.nodes[from].peers.Records(w.ctx, "gov", &peerv1.RecordsRequest{Records: sealed(signer, from, payload)})
		must(t, err)
	}
	count := func() (n int) {
		for _, e := range w.entries("gov") {
			if e.Leaf.GetRecord() != nil {
				n++
			}
		}
		return n
	}
	if n := count(); n != 1 {
		t.Fatalf("%d records to begin with", n)
	}
	other, err := suite.GenerateKey(rand.Reader)
	must(t, err)
	give("tax", w.nodes["tax"].key, rec("tax"))   // had no part in it
	give("bank", w.nodes["bank"].key, rec("gov")) // in another's name
	give("bank", other, rec("bank"))              // signed by nobody
	unknown := rec("bank")
	unknown.Job = "J-unknown"
	give("bank", w.nodes["bank"].key, unknown)
	elsewhere := rec("bank")
	elsewhere.Session = "S-other"
	give("bank", w.nodes["bank"].key, elsewhere)
	if n := count(); n != 1 {
		t.Errorf("%d records logged", n)
	}
	give("bank", w.nodes["bank"].key, rec("bank"))
	again := rec("bank")
	again.Class = "another story"
	give("bank", w.nodes["bank"].key, again)
	if n := count(); n != 2 {
		t.Errorf("%d records logged, want the first of the bank's alone", n)
	}
	// With the platform out of reach nothing can be verified: the peer keeps it.
	w.stopPlat()
	payload, err := proto.Marshal(rec("bank"))
	must(t, err)
	if _, err := w.nodes["bank"].peers.Records(w.ctx, "gov", &peerv1.RecordsRequest{Records: sealed(w.nodes["bank"].key, "bank", payload)}); err == nil {
		t.Error("taken without a roster")
	}
}

// TestCancelWhileProposed: a job that is cancelled before every party has
// signed is withdrawn at all of them, and spends nothing.
func TestCancelWhileProposed(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	bank := w.nodes["bank"]
	g, err := bank.resolver.Grant(w.ctx, grant)
	must(t, err)
	c, err := bank.draft(g, &nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	a, err := bank.enter(w.ctx, c, "op")
	must(t, err)
	_, err = bank.CancelJob(as(w.ctx, "op"), &nodev1.CancelJobRequest{Job: c.GetJob()})
	must(t, err)
	_, err = bank.gather(w.ctx, a)
	if err == nil {
		t.Error("gathered signatures for a cancelled job")
	}
	bank.withdraw(a, bank.notStarted(context.Cause(a.ctx)))
	if r := w.view("bank", c.GetJob()); r.State != Refused || r.Class != "cancelled" || r.RunsUsed {
		t.Errorf("bank: %s, %s", r.State, r.Class)
	}
	for _, p := range []string{"bank", "gov"} {
		if onlyActive(w.nodes[p]) != nil || w.used(p, grant) != 0 {
			t.Errorf("%s still holds it", p)
		}
	}
}

func sealed(key *suite.Key, party string, payload []byte) []*signv1.Signed {
	return []*signv1.Signed{key.Seal(party, suite.ContextRecord, payload)}
}
