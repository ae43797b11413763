package node

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// rule returns the rule an error refuses by, and who refused.
func rule(err error) (string, string) {
	var r *Refusal
	if errors.As(err, &r) {
		return r.RuleCode, r.By
	}
	return "", ""
}

// propose sends gov a contract that a misbehaving bank wrote, past the bank's
// own admission, and returns gov's answer.
func (w *world) propose(grant string, change func(*peerv1.Contract), forge func(*signv1.Signed)) *peerv1.ProposeReply {
	w.t.Helper()
	bank := w.nodes["bank"]
	g, err := bank.resolver.Grant(w.ctx, grant)
	must(w.t, err)
	c, err := bank.draft(g, &nodev1.SubmitJobRequest{GrantId: grant})
	must(w.t, err)
	m := proto.CloneOf(c.Contract)
	if change != nil {
		change(m)
	}
	payload, err := proto.Marshal(m)
	must(w.t, err)
	s := bank.key.Seal("bank", suite.ContextContract, payload)
	if forge != nil {
		forge(s)
	}
	reply, err := bank.peers.Propose(w.ctx, "gov", &peerv1.ProposeRequest{Contract: s})
	must(w.t, err)
	return reply
}

// TestEveryNodeRefuses has a bank that skips its own admission ask for what
// the grant forbids: the other node refuses by itself, names the rule, records
// it, and spends nothing.
func TestEveryNodeRefuses(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	other, err := suite.GenerateKey(rand.Reader)
	must(t, err)
	for _, c := range []struct {
		name     string
		change   func(*peerv1.Contract)
		forge    func(*signv1.Signed)
		rule     string
		security bool
	}{
		{"no grant", func(c *peerv1.Contract) { c.GrantId = "G-none" }, nil, "not_found", false},
		{"another document under the ID", func(c *peerv1.Contract) { c.GrantDigest[0] ^= 1 }, nil, "grant_digest", true},
		{"another kind", func(c *peerv1.Contract) { c.Kind = "test.other.v1" }, nil, "kind", false},
		{"another purpose", func(c *peerv1.Contract) { c.Purpose = "marketing" }, nil, "purpose", false},
		{"another scene", func(c *peerv1.Contract) { c.Scene = "elsewhere" }, nil, "scene", false},
		{"a column outside", func(c *peerv1.Contract) {
			c.Parties[1].Inputs[0].Items = append(c.Parties[1].Inputs[0].Items, "hidden")
		}, nil, "items", false},
		{"a column twice", func(c *peerv1.Contract) {
			c.Parties[1].Inputs[0].Items = append(c.Parties[1].Inputs[0].Items, "x")
		}, nil, "items", false},
		{"an entry outside", func(c *peerv1.Contract) { c.Parties[1].Inputs[0].Entry = "300009/9" }, nil, "entry", false},
		{"another version", func(c *peerv1.Contract) { c.Parties[1].Inputs[0].Version = 2 }, nil, "entry_version", false},
		{"roles exchanged", func(c *peerv1.Contract) {
			c.Parties[0].Role, c.Parties[1].Role = c.Parties[1].Role, c.Parties[0].Role
		}, nil, "parties", false},
		{"a recipient outside", func(c *peerv1.Contract) { c.Recipients = append(c.Recipients, "third") }, nil, "recipients", false},
		{"more opened than granted", func(c *peerv1.Contract) { c.Params = []byte(`{"open":true}`) }, nil, "permission", false},
		{"unknown parameter", func(c *peerv1.Contract) { c.Params = []byte(`{"depth":9}`) }, nil, "params", false},
		{"assumptions hidden", func(c *peerv1.Contract) { c.Assumptions = nil }, nil, "assumptions", false},
		{"expired", func(c *peerv1.Contract) {
			c.Created, c.Expires = timestamppb.New(time.Now().Add(-time.Hour)), timestamppb.New(time.Now().Add(-time.Hour+time.Minute))
		}, nil, "contract_expired", false},
		{"dated in the future", func(c *peerv1.Contract) {
			c.Created, c.Expires = timestamppb.New(time.Now().Add(time.Hour)), timestamppb.New(time.Now().Add(time.Hour+time.Minute))
		}, nil, "contract_dates", false},
		{"in another's name", func(c *peerv1.Contract) { c.Initiator = "gov" }, nil, "contract_signature", true},
		{"altered after signing", nil, func(s *signv1.Signed) { s.Payload[len(s.Payload)-1] ^= 1 }, "", true},
		{"signed by another key", nil, func(s *signv1.Signed) { *s = *other.Seal("bank", suite.ContextContract, s.Payload) }, "contract_signature", true},
		{"signed for another context", nil, func(s *signv1.Signed) {
			s.Signatures[0] = w.nodes["bank"].key.Sign("bank", suite.ContextReceipt, s.Payload)
		}, "contract_signature", true},
		{"unsigned", nil, func(s *signv1.Signed) { s.Signatures = nil }, "contract_signature", true},
		{"garbage", nil, func(s *signv1.Signed) { s.Payload = []byte{0xff, 0xff, 0xff} }, "contract_malformed", true},
		{"unknown field", nil, func(s *signv1.Signed) { s.Payload = append(s.Payload, 0xfa, 0x3f, 0x01, 'x') }, "contract_malformed", true},
		{"timeout beyond the node's", func(c *peerv1.Contract) { c.TimeoutSeconds = 1 << 40 }, nil, "local_policy", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(w.events("gov"))
			r := w.propose(grant, c.change, c.forge).GetRefusal()
			if r == nil {
				t.Fatal("gov signed")
			}
			if c.rule != "" && r.GetRule() != c.rule {
				t.Errorf("rule %q (%s), want %q", r.GetRule(), r.GetText(), c.rule)
			}
			if r.GetRule() == "local_policy" && r.GetText() != "" {
				t.Errorf("a local rule reached the peer: %q", r.GetText())
			}
			evs := w.events("gov")
			if len(evs) != before+1 {
				t.Fatalf("%d events recorded, want 1", len(evs)-before)
			}
			e := evs[len(evs)-1]
			if (e.GetCategory() == "security") != c.security {
				t.Errorf("category %s of rule %s", e.GetCategory(), e.GetRule())
			}
			if u := w.used("gov", grant); u != 0 {
				t.Errorf("%d uses spent", u)
			}
		})
	}
	// After all of that, an honest job succeeds.
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	if v := w.ended("bank", id); v.GetState() != "done" {
		t.Errorf("%s: %s", v.GetState(), v.GetReason())
	}
}

// TestInitiatorRefuses: the own node refuses too, before it asks anybody.
func TestInitiatorRefuses(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	for _, c := range []struct {
		req  *nodev1.SubmitJobRequest
		rule string
	}{
		{&nodev1.SubmitJobRequest{GrantId: "G-none"}, "not_found"},
		{&nodev1.SubmitJobRequest{GrantId: grant, Kind: "psi.none.v1"}, "kind"},
		{&nodev1.SubmitJobRequest{GrantId: grant, Purpose: "marketing"}, "purpose"},
		{&nodev1.SubmitJobRequest{GrantId: grant, Inputs: []*nodev1.JobInput{{Party: "bank", Entry: bankCode, Items: []string{"id", "hidden"}}}}, "items"},
		{&nodev1.SubmitJobRequest{GrantId: grant, Inputs: []*nodev1.JobInput{{Party: "bank", Entry: bankCode, Version: 9}}}, "entry_version"},
		{&nodev1.SubmitJobRequest{GrantId: grant, Inputs: []*nodev1.JobInput{{Party: "third", Entry: bankCode}}}, "parties"},
		{&nodev1.SubmitJobRequest{GrantId: grant, Params: []byte(`{"open":true}`)}, "permission"},
		{&nodev1.SubmitJobRequest{GrantId: grant, Recipients: []string{"bank", "third"}}, "recipients"},
	} {
		_, err := w.submit(c.req)
		if r, by := rule(err); r != c.rule || by != "bank" {
			t.Errorf("%v: rule %q by %q (%v), want %q by bank", c.req, r, by, err, c.rule)
		}
	}
	if len(w.events("gov")) != 0 {
		t.Error("gov was asked")
	}
	if len(w.events("bank")) != 8 {
		t.Errorf("%d events recorded, want 8", len(w.events("bank")))
	}
}

func TestRunsAreLimited(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(func(q *catalogv1.Request) { q.Limits.MaxRuns = 1 })
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	if v := w.ended("bank", id); v.GetState() != "done" || v.GetUsesLeft() != 0 {
		t.Fatalf("%s, %d left", v.GetState(), v.GetUsesLeft())
	}
	w.ended("gov", id)
	_, err = w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	if r, by := rule(err); r != "max_runs" || by != "bank" {
		t.Errorf("rule %q by %q: %v", r, by, err)
	}
	// And by gov for itself, when the bank does not count.
	if r := w.propose(grant, nil, nil).GetRefusal(); r.GetRule() != "max_runs" || !strings.Contains(r.GetText(), "1 runs") {
		t.Errorf("gov: %v", r)
	}
}

// TestRefusalGivesTheUseBack: a party's refusal before the first protocol byte
// releases the reservation of every side.
func TestRefusalGivesTheUseBack(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	for _, policy := range []Policy{{Purposes: []string{"something else"}}, {Release: rules.Set{Unit: "something"}}} {
		w.nodes["gov"].cfg.Policy = policy
		_, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
		r, by := rule(err)
		if r != "local_policy" || by != "gov" {
			t.Fatalf("rule %q by %q: %v", r, by, err)
		}
		if strings.Contains(err.Error(), "something") {
			t.Errorf("gov's policy reached the bank: %v", err)
		}
	}
	for _, p := range []string{"bank", "gov"} {
		if u := w.used(p, grant); u != 0 {
			t.Errorf("%s: %d uses spent", p, u)
		}
	}
	w.nodes["gov"].cfg.Policy = Policy{}
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	if v := w.ended("bank", id); v.GetState() != "done" || v.GetUsesLeft() != 2 {
		t.Errorf("%s, %d left", v.GetState(), v.GetUsesLeft())
	}
}

func TestPolicyNarrows(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	gov := w.nodes["gov"]
	for name, p := range map[string]Policy{
		"kinds": {Kinds: []string{"psi.ecdh.v1"}}, "parties": {Parties: []string{"other"}},
		"assumptions": {Assumptions: []string{"ddh"}}, "columns": {Columns: []string{govCode + "/id"}},
	} {
		gov.cfg.Policy = p
		if r := w.propose(grant, nil, nil).GetRefusal(); r.GetRule() != "local_policy" {
			t.Errorf("%s: %v", name, r)
		}
	}
	gov.cfg.Policy = Policy{Kinds: []string{testKind}, Parties: []string{"bank"}, Assumptions: []string{"none"}, Columns: []string{govCode + "/id", govCode + "/x"}}
	if r := w.propose(grant, nil, nil).GetRefusal(); r != nil {
		t.Errorf("refused what the policy lists: %v", r)
	}
}

// TestReplay: a session ID is used once, also across a restart.
func TestReplay(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	var session, jobID string
	keep := func(c *peerv1.Contract) { session, jobID = c.Session, c.Job }
	if r := w.propose(grant, keep, nil).GetRefusal(); r != nil {
		t.Fatal(r)
	}
	again := func(c *peerv1.Contract) { c.Session = session }
	if r := w.propose(grant, again, nil).GetRefusal(); r.GetRule() != "replay" {
		t.Errorf("while proposed: %v", r)
	}
	sameJob := func(c *peerv1.Contract) { c.Job = jobID }
	if r := w.propose(grant, sameJob, nil).GetRefusal(); r.GetRule() != "replay" {
		t.Errorf("same job: %v", r)
	}
	w.stops["gov"]()
	w.start("gov")
	if u := w.used("gov", grant); u != 0 {
		t.Errorf("%d uses spent by a proposal that never started", u)
	}
	if r := w.propose(grant, again, nil).GetRefusal(); r.GetRule() != "replay" {
		t.Errorf("after a restart: %v", r)
	}
}

func TestStartNeedsEverySignature(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	bank := w.nodes["bank"]
	g, err := bank.resolver.Grant(w.ctx, grant)
	must(t, err)
	c, err := bank.draft(g, &nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	s := bank.key.Seal("bank", suite.ContextContract, c.payload)
	reply, err := bank.peers.Propose(w.ctx, "gov", &peerv1.ProposeRequest{Contract: s})
	must(t, err)
	if reply.GetRefusal() != nil {
		t.Fatal(reply.GetRefusal())
	}
	start := func(s *signv1.Signed) *peerv1.Refusal {
		r, err := bank.peers.Start(w.ctx, "gov", &peerv1.StartRequest{Contract: s})
		must(t, err)
		return r.GetRefusal()
	}
	if r := start(s); r.GetRule() != "contract_signature" {
		t.Errorf("without gov's own signature: %v", r)
	}
	other := proto.CloneOf(c.Contract)
	other.TimeoutSeconds++
	payload, err := proto.Marshal(other)
	must(t, err)
	if r := start(bank.key.Seal("bank", suite.ContextContract, payload)); r.GetRule() != "contract_altered" {
		t.Errorf("another contract under the session: %v", r)
	}
}

func TestExpiredRevokedAndStatus(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	w.revoke(grant, "withdrawn by the province")
	_, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	if r, by := rule(err); r != "grant_revoked" || by != "bank" {
		t.Errorf("rule %q by %q: %v", r, by, err)
	}
}

// TestPlatformDown: no job starts without the platform, and one that runs ends
// after the grace.
func TestPlatformDown(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	for _, n := range w.nodes {
		n.cfg.Limits.PlatformGrace = time.Second
	}
	entered := make(chan string, 2)
	release := make(chan struct{})
	w.hooks.mid = func(p string) { entered <- p; <-release }
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	<-entered
	<-entered
	w.stopPlat()
	for _, p := range []string{"bank", "gov"} {
		a := w.nodes[p].byJobID(id)
		<-a.ctx.Done()
	}
	close(release)
	for _, p := range []string{"bank", "gov"} {
		v := w.ended(p, id)
		if v.GetState() != "failed" || (v.GetClass() != "platform_unreachable" && v.GetClass() != "peer_aborted" && v.GetClass() != "peer_gone") {
			t.Errorf("%s: %s %s", p, v.GetState(), v.GetClass())
		}
	}
	_, err = w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	if r, _ := rule(err); r != "platform_unreachable" {
		t.Errorf("submission without the platform: %v", err)
	}
}

func (n *Node) byJobID(id string) *active {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.byJob[id]
}

// TestRevocationEndsARun: a running session ends within five seconds of a
// revocation; its output is never released and the use is spent.
func TestRevocationEndsARun(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	entered := make(chan string, 2)
	release := make(chan struct{})
	w.hooks.mid = func(p string) { entered <- p; <-release }
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	<-entered
	<-entered
	w.revoke(grant, "misuse")
	begin := time.Now()
	for _, p := range []string{"bank", "gov"} {
		<-w.nodes[p].byJobID(id).ctx.Done()
	}
	t.Logf("both sessions were told to end %.1f s after the revocation", time.Since(begin).Seconds())
	close(release)
	classes := map[string]bool{}
	for _, p := range []string{"bank", "gov"} {
		v := w.ended(p, id)
		classes[v.GetClass()] = true
		if v.GetState() != "failed" {
			t.Errorf("%s: %s", p, v.GetState())
		}
		if u := w.usedBy(p, id); u != 1 {
			t.Errorf("%s: %d uses spent, want 1: protocol bytes had flowed", p, u)
		}
		if _, err := os.Stat(w.nodes[p].published(id)); !os.IsNotExist(err) {
			t.Errorf("%s: output was released", p)
		}
		if _, err := os.Stat(w.nodes[p].staging(id)); !os.IsNotExist(err) {
			t.Errorf("%s: staged output was left", p)
		}
	}
	if !classes["grant_revoked"] {
		t.Errorf("no party names the revocation: %v", classes)
	}
}

// usedBy asks by the job's record, since a revoked grant no longer resolves.
func (w *world) usedBy(party, jobID string) int64 {
	r, err := w.nodes[party].load(jobID)
	must(w.t, err)
	u, err := w.nodes[party].store.Used(r.Counter)
	must(w.t, err)
	return u
}

func TestCancel(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	entered := make(chan string, 2)
	release := make(chan struct{})
	w.hooks.mid = func(p string) { entered <- p; <-release }
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	<-entered
	<-entered
	_, err = w.nodes["bank"].CancelJob(as(w.ctx, "op"), &nodev1.CancelJobRequest{Job: id})
	must(t, err)
	close(release)
	if v := w.ended("bank", id); v.GetState() != "cancelled" {
		t.Errorf("bank: %s %s", v.GetState(), v.GetReason())
	}
	if v := w.ended("gov", id); v.GetState() != "failed" {
		t.Errorf("gov: %s %s", v.GetState(), v.GetReason())
	}
	if _, err := w.nodes["bank"].CancelJob(context.Background(), &nodev1.CancelJobRequest{Job: id}); err == nil {
		t.Error("cancelled twice")
	}
}

// TestDecisionIsAboutWhatWasShown: a decision names the bytes that the person
// saw, and a refusal stays in force at the provider's own node even where the
// platform forgets it.
func TestDecisionIsAboutWhatWasShown(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	gov := w.nodes["gov"]
	g, err := gov.resolver.Grant(w.ctx, grant)
	must(t, err)
	decide := func(approve bool, digest []byte) error {
		_, err := gov.DecideRequest(as(w.ctx, "ap"), &nodev1.DecideRequestRequest{
			RequestId: g.RequestID(), Approve: approve, Reason: "misuse", Digest: digest,
		})
		return err
	}
	var invalid *Invalid
	if err := decide(true, nil); !errors.As(err, &invalid) {
		t.Errorf("a decision without a digest: %v", err)
	}
	other := g.RequestDigest()
	other[0] ^= 1
	if r, _ := rule(decide(true, other)); r != "request" {
		t.Errorf("a decision on other bytes: rule %q", r)
	}
	must(t, gov.store.Put(refusedKey(g.RequestDigest()), []byte{1}))
	if r := w.propose(grant, nil, nil).GetRefusal(); r.GetRule() != "provider_refused" {
		t.Errorf("after its own refusal: %v", r)
	}
	if err := decide(false, g.RequestDigest()); err != nil {
		t.Errorf("a refusal after the grant: %v", err)
	}
	_, err = w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	if r, by := rule(err); r != "grant_revoked" || by != "bank" {
		t.Errorf("rule %q by %q: %v", r, by, err)
	}
}
