package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/internal/audit"
	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/node/peer"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
	"github.com/yinqiao/yinqiao/session"
)

const (
	spareKind = "test.spare.v1"
	againKind = "test.again.v1"
)

// Where sumJob calls hooks.step. A node of another process stalls after sending.
const (
	beforeSending = iota
	afterReceiving
	afterSending = failsAt
)

// sumJobs are two kinds that add the row counts of three parties: spareKind of
// those that stay, as long as there are two; againKind of all, in as many
// attempts as it takes.
func sumJobs(h *hooks) []job.Definition {
	spare := job.Definition{
		Name: spareKind, Summary: "adds the row counts of those that stay",
		Roles: []job.RoleSpec{{Role: "member", Min: 3, Max: 3}},
		Reveals: func(job.Spec) []job.Disclosure {
			return []job.Disclosure{{Field: "rows", What: "rows of those that stay"}, {Field: "staged", What: "nothing"}}
		},
		Validate: func(job.Spec) error { return nil },
		Spare:    func(job.Spec) int { return 1 },
	}
	again := spare
	again.Name, again.Spare, again.Resumable, again.Restarts = againKind, nil, true, true
	spare.Run = func(ctx context.Context, env job.Env) (job.Result, error) { return sumRun(ctx, h, env, 1) }
	again.Run = func(ctx context.Context, env job.Env) (job.Result, error) { return sumRun(ctx, h, env, 0) }
	return []job.Definition{spare, again}
}

// sumRun tells everybody the own number of rows, and then whose numbers have come:
// those count that all who stay have. It does without spare parties.
func sumRun(ctx context.Context, h *hooks, env job.Env, spare int) (job.Result, error) {
	s := env.Session
	step := func(i int) error {
		h.mu.Lock()
		f := h.step
		h.mu.Unlock()
		if f == nil {
			return nil
		}
		return f(string(s.Self()), i)
	}
	if err := step(beforeSending); err != nil {
		return job.Result{}, err
	}
	var own uint64
	for b, err := range env.Inputs[0].Batches(ctx) {
		if err != nil {
			return job.Result{}, err
		}
		own += uint64(b.NumRows())
	}
	lost := make(map[session.PartyID]bool)
	// each calls f for every peer that is there, and notes who is not.
	each := func(f func(session.PartyID, session.Channel) error) error {
		for _, p := range s.Parties() {
			if p == s.Self() || lost[p] {
				continue
			}
			err := f(p, s.Peer(p))
			if errors.Is(err, session.ErrGone) {
				if lost[p] = true; len(lost) <= spare {
					continue
				}
			}
			if err != nil {
				return fmt.Errorf("sum: with %s: %w", p, err)
			}
		}
		return nil
	}
	rows := map[session.PartyID]uint64{s.Self(): own}
	if err := each(func(_ session.PartyID, c session.Channel) error {
		return c.Send(ctx, binary.BigEndian.AppendUint64(nil, own))
	}); err != nil {
		return job.Result{}, err
	}
	if err := step(afterSending); err != nil {
		return job.Result{}, err
	}
	if err := each(func(p session.PartyID, c session.Channel) error {
		m, err := c.Recv(ctx)
		if err == nil {
			rows[p] = binary.BigEndian.Uint64(m)
		}
		return err
	}); err != nil {
		return job.Result{}, err
	}
	if err := step(afterReceiving); err != nil {
		return job.Result{}, err
	}
	var have []byte
	for _, p := range s.Parties() {
		if _, ok := rows[p]; ok {
			have = append(have, p[0]) // the parties' first letters differ
		}
	}
	if err := each(func(_ session.PartyID, c session.Channel) error { return c.Send(ctx, have) }); err != nil {
		return job.Result{}, err
	}
	if err := each(func(_ session.PartyID, c session.Channel) error {
		m, err := c.Recv(ctx)
		if err == nil {
			have = slices.DeleteFunc(have, func(b byte) bool { return !slices.Contains(m, b) })
		}
		return err
	}); err != nil {
		return job.Result{}, err
	}
	var sum int64
	for p, n := range rows {
		if slices.Contains(have, p[0]) {
			sum += int64(n)
		}
	}
	return job.Result{
		Values: map[string]any{"staged": staging{h, string(s.Self())}}, Counts: map[string]int64{"rows": sum}, Rows: int64(own),
	}, nil
}

// sums is a world of three parties with a grant for a kind of sumJobs.
func sums(t *testing.T, kind string, tune func(*Node), changes ...func(*catalogv1.Request)) (*world, string) {
	w := newWorldOf(t)
	w.tune = func(n *Node) {
		n.cfg.Limits.PeerIdle = 6 * time.Second // a loaded machine is silent for a while
		if tune != nil {
			tune(n)
		}
	}
	for _, p := range threeParties {
		w.enrol(p)
	}
	for _, p := range threeParties {
		w.start(p)
	}
	return w, w.grantedTo(threeParties, func(q *catalogv1.Request) {
		q.Computations[0].Kind = kind
		q.Limits.MaxRuns = 1
		for _, change := range changes {
			change(q)
		}
	})
}

var threeParties = []string{"bank", "gov", "tax"}

// step runs f at every place of every party's sumRun. The others wait for the
// bank to begin, which starts the jobs: what they do before that has it withdraw
// the proposal.
func (w *world) step(f func(party string, place int) error) {
	w.hooks.mu.Lock()
	defer w.hooks.mu.Unlock()
	if w.hooks.step = f; f == nil {
		return
	}
	begun := make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) })
	w.hooks.step = func(party string, place int) error {
		if party == "bank" {
			begin()
		}
		select {
		case <-begun:
			return f(party, place)
		case <-w.ctx.Done():
			return context.Cause(w.ctx)
		}
	}
}

// cut takes a party's network away.
func (w *world) cut(party string) { w.nodes[party].peers.Close() }

// without checks that bank and gov have a receipt that names tax absent, under
// their own two signatures.
func (w *world) without(id, class string, rows int64) {
	w.t.Helper()
	var first []byte
	for _, p := range []string{"bank", "gov"} {
		v := w.ended(p, id)
		if v.GetState() != "done" || v.GetCounts()["rows"] != rows {
			for _, other := range threeParties {
				o := w.view(other, id)
				w.t.Logf("%s: %s, %s: %s", other, o.State, o.Class, o.Reason)
			}
			w.t.Fatalf("%s: %s, %s, %v: %s", p, v.GetState(), v.GetClass(), v.GetCounts(), v.GetReason())
		}
		if lost := v.GetParties()[2].GetLost(); lost != class {
			w.t.Errorf("%s: tax left with class %q, want %q", p, lost, class)
		}
		rs, raw := w.receiptsOf(p, id)
		if len(rs) != 1 || len(rs[0].GetParties()) != 2 || len(rs[0].GetAbsent()) != 1 || rs[0].GetAbsent()[0] != "tax" {
			w.t.Fatalf("%s: receipts %v", p, rs)
		}
		if first != nil && string(first) != string(raw) {
			w.t.Error("the receipts differ")
		}
		first = raw
	}
}

// TestSparedParty: tax is cut off before it has sent anything, and when the others
// have what it sent: they finish without it at once.
func TestSparedParty(t *testing.T) {
	for name, c := range map[string]struct {
		place int
		rows  int64
	}{"before it sends": {beforeSending, 6}, "after": {afterSending, 9}} {
		t.Run(name, func(t *testing.T) {
			w, grant := sums(t, spareKind, nil)
			have := make(chan struct{}, 2)
			w.step(func(p string, place int) error {
				switch {
				case p != "tax" && place == afterReceiving:
					have <- struct{}{}
				case p == "tax" && place == c.place:
					if place == afterSending {
						<-have
						<-have
					}
					w.cut("tax")
				}
				return nil
			})
			begin := time.Now()
			id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
			must(t, err)
			w.without(id, "peer_gone", c.rows)
			if d := time.Since(begin); d > signWait {
				t.Errorf("it took %s: somebody waited for tax", d)
			}
			w.stops["tax"]()
			w.start("tax")
			w.learns(id)
		})
	}
}

// learns lets tax meet the others again: it has the receipt that names it absent,
// beside its own record that it failed, and nothing is owed any more.
func (w *world) learns(id string) {
	w.t.Helper()
	for range 2 { // the second time changes nothing
		for _, p := range []string{"bank", "gov"} {
			w.nodes["tax"].exchangeRecords(w.ctx, p)
			w.settled("tax", p)
		}
	}
	r := w.view("tax", id)
	if r.State != Failed || r.Resumable || strings.Count(r.Reason, "completed the job without") != 1 {
		w.t.Errorf("tax: %s, %s, resumable %v: %s", r.State, r.Class, r.Resumable, r.Reason)
	}
	rs, raw := w.receiptsOf("tax", id)
	if _, want := w.receiptsOf("bank", id); len(rs) != 1 || string(raw) != string(want) {
		w.t.Errorf("tax: receipts %v", rs)
	}
	for _, p := range threeParties {
		if rec := w.recordsOf(p, r.Session); len(rec) != 1 || rec["tax"].GetState() != "failed" {
			w.t.Errorf("%s: records %v", p, rec)
		}
	}
	if names := w.results("tax"); len(names) != 0 {
		w.t.Errorf("tax has output: %v", names)
	}
	w.stops["tax"]()
	keys := map[string][]byte{}
	for p, n := range w.nodes {
		keys[p] = n.key.Public()
	}
	rep, err := audit.Verify(w.ctx, audit.VerifyConfig{Dir: w.homes["tax"].AuditDir(), Party: "tax", LogKey: keys["tax"], PartyKeys: keys})
	if err != nil || len(rep.Faults) != 0 {
		w.t.Errorf("tax's log: %+v, %v", rep, err)
	}
}

// TestForgedAbsence: a receipt that another party gives tax counts only where it
// is complete, names tax absent, and is of a job that tax has taken part in.
func TestForgedAbsence(t *testing.T) {
	w, grant := sums(t, spareKind, nil)
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	for _, p := range threeParties {
		w.ended(p, id)
	}
	rs, _ := w.receiptsOf("bank", id)
	bank := w.nodes["bank"]
	for name, change := range map[string]func(*auditv1.Receipt){
		"a job that tax finished":  func(*auditv1.Receipt) {},
		"a job of nobody":          func(r *auditv1.Receipt) { r.Job, r.Session = "J-none", "S-none" },
		"another contract":         func(r *auditv1.Receipt) { r.ContractDigest = []byte("x") },
		"tax as one who was there": func(r *auditv1.Receipt) { r.Parties[1].Party, r.Absent = "tax", []string{"gov"} },
	} {
		r := proto.CloneOf(rs[0])
		r.Parties, r.Absent = r.Parties[:2], []string{"tax"}
		change(r)
		payload, err := proto.Marshal(r)
		must(t, err)
		s := bank.key.Seal("bank", suite.ContextReceipt, payload)
		s.Signatures = append(s.Signatures, w.nodes["gov"].key.Sign("gov", suite.ContextReceipt, payload))
		_, err = bank.peers.Records(w.ctx, "tax", &peerv1.RecordsRequest{Records: []*signv1.Signed{s}})
		must(t, err)
		if v := w.view("tax", id); v.State != Done {
			t.Errorf("%s: %s", name, v.State)
		}
		if got, _ := w.receiptsOf("tax", id); len(got) != 1 {
			t.Errorf("%s: receipts %v", name, got)
		}
	}
}

// TestKilledAndSpared: kill -9.
func TestKilledAndSpared(t *testing.T) {
	w, grant := sums(t, spareKind, nil)
	c := w.child("tax", envStall+"=step")
	have := make(chan struct{}, 2)
	w.step(func(_ string, place int) error {
		if place == afterReceiving {
			have <- struct{}{}
		}
		return nil
	})
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	c.waits("step")
	<-have
	<-have
	c.kill()
	w.without(id, "peer_gone", 9)
	w.start("tax")
	if r := w.view("tax", id); r.State != Failed || r.Class != "interrupted" {
		t.Errorf("tax: %s, %s: %s", r.State, r.Class, r.Reason)
	}
}

// TestSparedPartyFails: tax ends the job by itself, and says so.
func TestSparedPartyFails(t *testing.T) {
	w, grant := sums(t, spareKind, nil)
	w.step(func(p string, place int) error {
		if p == "tax" && place == beforeSending {
			return fail("dataset", "its file is gone")
		}
		return nil
	})
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	w.without(id, "dataset", 6)
	if v := w.ended("tax", id); v.GetState() != "failed" || v.GetClass() != "dataset" {
		t.Errorf("tax: %s, %s: %s", v.GetState(), v.GetClass(), v.GetReason())
	}
}

// TestSparedPartyNeverComes: tax signs and does not open the session. The others
// wait for limits.peer_idle, and no longer.
func TestSparedPartyNeverComes(t *testing.T) {
	stall := make(chan struct{})
	var armed atomic.Bool
	w, grant := sums(t, spareKind, func(n *Node) {
		if n.cfg.Party == "tax" {
			n.resolver = &stalled{Platform: n.resolver, armed: &armed, stall: stall}
		}
	})
	armed.Store(true)
	begin := time.Now()
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	w.without(id, "peer_gone", 6)
	if d := time.Since(begin); d > signWait {
		t.Errorf("it took %s", d)
	}
	close(stall)
	if v := w.ended("tax", id); v.GetState() != "failed" || v.GetClass() != "peer_gone" {
		t.Errorf("tax: %s, %s: %s", v.GetState(), v.GetClass(), v.GetReason())
	}
}

// stalled is a platform that does not answer once a job has started.
type stalled struct {
	Platform
	armed *atomic.Bool
	asked atomic.Int32
	stall chan struct{}
}

func (s *stalled) Status(ctx context.Context, grant string) error {
	if s.armed.Load() && s.asked.Add(1) == 2 { // the first is at the start
		select {
		case <-s.stall:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return s.Platform.Status(ctx, grant)
}

// TestTooManyLost: the kind can spare one party, and two are gone.
func TestTooManyLost(t *testing.T) {
	w, grant := sums(t, spareKind, nil)
	w.step(func(p string, place int) error {
		if p != "bank" && place == beforeSending {
			w.cut(p)
		}
		return nil
	})
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	v := w.ended("bank", id)
	if v.GetState() != "failed" || v.GetClass() != "peer_gone" {
		t.Errorf("bank: %s, %s: %s", v.GetState(), v.GetClass(), v.GetReason())
	}
	if rs, _ := w.receiptsOf("bank", id); len(rs) != 0 || len(w.results("bank")) != 0 {
		t.Errorf("receipts %v, results %v", rs, w.results("bank"))
	}
}

// TestInitiatorIsNotSpared: the initiator writes the receipt.
func TestInitiatorIsNotSpared(t *testing.T) {
	w, grant := sums(t, spareKind, nil)
	w.step(func(p string, place int) error {
		if p == "bank" && place == beforeSending {
			w.cut(p)
		}
		return nil
	})
	begin := time.Now()
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	for _, p := range []string{"gov", "tax"} {
		v := w.ended(p, id)
		// Whoever finds out first tells the other.
		if v.GetState() != "failed" || v.GetClass() != "peer_gone" && v.GetClass() != "peer_aborted" {
			t.Errorf("%s: %s, %s: %s", p, v.GetState(), v.GetClass(), v.GetReason())
		}
	}
	if d := time.Since(begin); d > signWait {
		t.Errorf("it took %s", d)
	}
}

// TestLosses: which losses a job goes on after.
func TestLosses(t *testing.T) {
	gone := func(l *losses, party, class string) string {
		f := l.lose(party, class, fail("peer_aborted", "%s left", party))
		if f == nil {
			return ""
		}
		return f.reason
	}
	l := newLosses("bank", 1)
	if r := gone(l, "tax", classGone); r != "" {
		t.Errorf("the first: %s", r)
	}
	if r := gone(l, "tax", "disk"); r != "" || l.parties()["tax"] != "disk" {
		t.Errorf("the same party, which tells why: %s, %v", r, l.parties())
	}
	if r := gone(l, "tax", classGone); r != "" || l.parties()["tax"] != "disk" || l.away() {
		t.Errorf("and again: %s, %v", r, l.parties())
	}
	if err := l.closed(fmt.Errorf("%w: tax", peer.ErrPeerGone)); err != nil {
		t.Errorf("the end of the link: %v", err)
	}
	if err := l.closed(peer.ErrProtocol); !errors.Is(err, peer.ErrProtocol) {
		t.Errorf("a fault at the end of the link: %v", err)
	}
	if r := gone(l, "gov", classGone); !strings.Contains(r, "gov, tax") || !strings.Contains(r, "can spare 1") {
		t.Errorf("the second: %q", r)
	}
	if err := l.closed(fmt.Errorf("%w: tax", peer.ErrPeerGone)); err == nil {
		t.Error("nothing came of the second")
	}
	for _, class := range disagreements {
		if gone(newLosses("bank", 2), "tax", class) == "" {
			t.Errorf("a party left for %s, and the job goes on", class)
		}
	}
	if l := newLosses("bank", 0); gone(l, "tax", "shutdown") != "tax left" || !l.away() {
		t.Error("nothing to spare")
	}
	if err := newLosses("bank", 0).closed(peer.ErrIdle); err == nil {
		t.Error("a kind that can spare nobody lost one at the end")
	}
}
