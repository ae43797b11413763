package node

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/node/peer"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	"github.com/yinqiao/yinqiao/session"
)

const trioKind = "test.trio.v1"

// trioJob is countJob for three: everybody tells everybody its number of rows.
func trioJob(h *hooks) job.Definition {
	return job.Definition{
		Name: trioKind, Summary: "adds three row counts",
		Roles: []job.RoleSpec{{Role: "member", Min: 3, Max: 3}},
		Reveals: func(job.Spec) []job.Disclosure {
			return []job.Disclosure{{Field: "rows", What: "the number of rows of all"}, {Field: "staged", What: "nothing"}}
		},
		Validate: func(job.Spec) error { return nil },
		Run: func(ctx context.Context, env job.Env) (job.Result, error) {
			s := env.Session
			if err := s.Bind(ctx, trioKind); err != nil {
				return job.Result{}, err
			}
			var own int64
			for b, err := range env.Inputs[0].Batches(ctx) {
				if err != nil {
					return job.Result{}, err
				}
				own += b.NumRows()
			}
			sum := own
			each := func(f func(session.Channel) error) error {
				for _, p := range s.Parties() {
					if p != s.Self() {
						if err := f(s.Peer(p)); err != nil {
							return err
						}
					}
				}
				return nil
			}
			if err := each(func(c session.Channel) error { return c.Send(ctx, binary.BigEndian.AppendUint64(nil, uint64(own))) }); err != nil {
				return job.Result{}, err
			}
			if err := h.at(string(s.Self())); err != nil {
				return job.Result{}, err
			}
			if err := each(func(c session.Channel) error {
				m, err := c.Recv(ctx)
				if err == nil {
					sum += int64(binary.BigEndian.Uint64(m))
				}
				return err
			}); err != nil {
				return job.Result{}, err
			}
			return job.Result{
				Values: map[string]any{"staged": staging{h, string(s.Self())}},
				Counts: map[string]int64{"rows": sum}, Rows: own,
			}, nil
		},
	}
}

const taxCode = "300003/1"

// trio is a world of three parties with a grant for trioJob, and its ID.
func trio(t *testing.T, change func(*catalogv1.Request)) (*world, string) {
	w := newWorldOf(t, "bank", "gov", "tax")
	return w, w.grantedTo([]string{"bank", "gov", "tax"}, change)
}

// grantedTo registers an entry of each party and returns the ID of a grant for
// trioJob, in which each is a member.
func (w *world) grantedTo(parties []string, change func(*catalogv1.Request)) string {
	w.t.Helper()
	codes := map[string]string{"bank": bankCode, "gov": govCode, "tax": taxCode}
	q := &catalogv1.Request{
		Purpose: "joint count", Scene: "test", LegalBasis: "contract", Recipients: parties,
		Computations: []*catalogv1.Computation{{Kind: trioKind}},
		Limits:       &catalogv1.Limits{MaxRuns: 5, ValidFrom: timestamppb.Now(), ValidUntil: timestamppb.New(time.Now().Add(time.Hour))},
	}
	for _, id := range parties {
		_, err := w.nodes[id].RegisterEntry(w.ctx, &nodev1.RegisterEntryRequest{Entry: entry(codes[id], "id", "x", "hidden"), Dataset: "data"})
		must(w.t, err)
		q.Uses = append(q.Uses, &catalogv1.Use{Entry: codes[id], Version: 1, Items: []string{"id", "x"}})
		q.Computations[0].Roles = append(q.Computations[0].Roles, &catalogv1.RoleBinding{Party: id, Role: "member"})
	}
	if change != nil {
		change(q)
	}
	return w.approved(q)
}

// TestThreeParties: one receipt with three signatures in three logs.
func TestThreeParties(t *testing.T) {
	w, grant := trio(t, nil)
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	var first []byte
	for _, p := range []string{"bank", "gov", "tax"} {
		v := w.ended(p, id)
		if v.GetState() != "done" || v.GetCounts()["rows"] != 9 {
			t.Fatalf("%s: %s, %v: %s", p, v.GetState(), v.GetCounts(), v.GetReason())
		}
		rs, raw := w.receiptsOf(p, id)
		if len(rs) != 1 || len(rs[0].GetParties()) != 3 || len(rs[0].GetAbsent()) != 0 {
			t.Fatalf("%s: receipts %v", p, rs)
		}
		if first == nil {
			first = raw
		} else if string(first) != string(raw) {
			t.Errorf("%s logged other bytes", p)
		}
	}
}

// TestAbsentAtTheReceipt: tax computes its part and then does not answer. The
// other two sign a receipt that names it absent; what tax says later, even
// that the job has failed, changes nothing for them.
func TestAbsentAtTheReceipt(t *testing.T) {
	w, grant := trio(t, nil)
	w.nodes["bank"].waits = waits{finish: 2 * time.Second, sign: 5 * time.Second}
	release := make(chan struct{})
	w.hooks.out = func(p string) {
		if p == "tax" {
			<-release
		}
	}
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	for _, p := range []string{"bank", "gov"} {
		if v := w.ended(p, id); v.GetState() != "done" {
			t.Errorf("%s: %s: %s", p, v.GetState(), v.GetReason())
		}
		rs, _ := w.receiptsOf(p, id)
		if len(rs) != 1 || len(rs[0].GetParties()) != 2 || len(rs[0].GetAbsent()) != 1 || rs[0].GetAbsent()[0] != "tax" {
			t.Errorf("%s: receipts %v", p, rs)
		}
	}
	close(release)
	if v := w.ended("tax", id); v.GetState() != "failed" || v.GetClass() != "receipt" {
		t.Errorf("tax: %s, %s: %s", v.GetState(), v.GetClass(), v.GetReason())
	}
	if names := w.results("tax"); len(names) != 0 {
		t.Errorf("tax keeps output that no receipt covers: %v", names)
	}
	if u := w.usedBy("tax", id); u != 1 {
		t.Errorf("tax: %d uses spent", u)
	}
}

// TestLateSignatureHurtsNobody: tax hands in its line, does not sign, and ends
// the job. The others have signed by then, or are about to: tax is named absent
// in a second payload, which they sign too.
func TestLateSignatureHurtsNobody(t *testing.T) {
	w, grant := trio(t, nil)
	bank, tax := w.nodes["bank"], w.nodes["tax"]
	bank.waits = waits{finish: 20 * time.Second, sign: 500 * time.Millisecond}
	staged, release := make(chan struct{}), make(chan struct{})
	w.hooks.out = func(p string) {
		if p == "tax" { // its engine stays here while the test speaks for it
			close(staged)
			<-release
		}
	}
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	<-staged
	a := tax.findJob(id)
	session := a.contract.GetSession()
	reply, err := tax.peers.Finish(w.ctx, "bank", &peerv1.FinishRequest{
		Session: session, Record: &auditv1.PartyRecord{Party: "tax", Role: "member", Rows: 3}, Counts: map[string]int64{"rows": 9},
	})
	must(t, err)
	for sealed := false; !sealed; {
		g := w.nodes["gov"].findJob(id)
		if g == nil {
			t.Fatal("gov did not wait for the receipt")
		}
		g.mu.Lock()
		sealed = g.sealed
		g.mu.Unlock()
	}
	for _, p := range []string{"bank", "gov"} {
		_, err := tax.peers.Abort(w.ctx, p, &peerv1.AbortRequest{Session: session, Class: "internal"})
		must(t, err)
	}
	for _, p := range []string{"bank", "gov"} {
		if v := w.ended(p, id); v.GetState() != "done" {
			t.Errorf("%s: %s: %s", p, v.GetState(), v.GetReason())
		}
		if rs, _ := w.receiptsOf(p, id); len(rs) != 1 || len(rs[0].GetAbsent()) != 1 {
			t.Errorf("%s: receipts %v", p, rs)
		}
	}
	// The signature that comes too late is not taken, and buys no receipt.
	_, err = tax.peers.CoSign(w.ctx, "bank", &peerv1.CoSignRequest{
		Session: session, Signature: tax.key.Sign("tax", suite.ContextReceipt, reply.GetReceipt()),
	})
	if peer.Reason(err) != "unknown_session" {
		t.Errorf("late signature: %v", err)
	}
	close(release)
	if v := w.ended("tax", id); v.GetState() != "failed" {
		t.Errorf("tax: %s", v.GetState())
	}
}

// TestOneOfThreeFails: the failure of one party ends the job of all, with its
// class.
func TestOneOfThreeFails(t *testing.T) {
	w, grant := trio(t, nil)
	w.hooks.mid = func(p string) {
		if p == "tax" {
			panic("a fault in the protocol")
		}
	}
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	for _, p := range []string{"bank", "gov", "tax"} {
		v := w.ended(p, id)
		if v.GetState() != "failed" || v.GetReason() == "" {
			t.Errorf("%s: %s, %s: %s", p, v.GetState(), v.GetClass(), v.GetReason())
		}
		if p == "tax" && v.GetClass() != "internal" {
			t.Errorf("tax: class %s", v.GetClass())
		}
		if u := w.usedBy(p, id); u != 1 {
			t.Errorf("%s: %d uses spent", p, u)
		}
	}
	w.hooks.mid = nil
	next, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	if v := w.ended("tax", next); v.GetState() != "done" {
		t.Errorf("next job: %s: %s", v.GetState(), v.GetReason())
	}
}
