package platform

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// liar is a platform with the true key that changes some of its answers.
type liar struct {
	catalogv1.PlatformServer
	grant  func(*catalogv1.GetGrantRequest, *catalogv1.GetGrantReply)
	status func(*catalogv1.GetStatusReply)
	list   func(*catalogv1.ListRequestsReply)
	entry  func(*catalogv1.ListEntriesReply)
}

func (l *liar) GetGrant(ctx context.Context, q *catalogv1.GetGrantRequest) (*catalogv1.GetGrantReply, error) {
	a, err := l.PlatformServer.GetGrant(ctx, q)
	if err == nil && l.grant != nil {
		l.grant(q, a)
	}
	return a, err
}

func (l *liar) GetStatus(ctx context.Context, q *catalogv1.GetStatusRequest) (*catalogv1.GetStatusReply, error) {
	a, err := l.PlatformServer.GetStatus(ctx, q)
	if err == nil && l.status != nil {
		l.status(a)
	}
	return a, err
}

func (l *liar) ListRequests(ctx context.Context, q *catalogv1.ListRequestsRequest) (*catalogv1.ListRequestsReply, error) {
	a, err := l.PlatformServer.ListRequests(ctx, q)
	if err == nil && l.list != nil {
		l.list(a)
	}
	return a, err
}

func (l *liar) ListEntries(ctx context.Context, q *catalogv1.ListEntriesRequest) (*catalogv1.ListEntriesReply, error) {
	a, err := l.PlatformServer.ListEntries(ctx, q)
	if err == nil && l.entry != nil {
		l.entry(a)
	}
	return a, err
}

// serve lets the liar stand in the platform's place, and returns its address.
func (l *liar) serve(r *rig) string {
	r.t.Helper()
	l.PlatformServer = r.s
	tlsConfig, err := r.s.key.ServerTLS(suite.Platform, func([]byte) error { return nil })
	if err != nil {
		r.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(tlsConfig)))
	catalogv1.RegisterPlatformServer(g, l)
	done := make(chan error, 1)
	go func() { done <- g.Serve(ln) }()
	r.t.Cleanup(func() {
		g.Stop()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	return ln.Addr().String()
}

// TestHostilePlatform: the client believes only what others signed.
func TestHostilePlatform(t *testing.T) {
	r, b, x, _ := line(t, Config{AutoAccept: true})
	grant := func(id string) *catalog.Request {
		t.Helper()
		if _, err := b.FileRequest(r.ctx, r.request(id), false); err != nil {
			t.Fatal(err)
		}
		q, err := x.Decide(r.ctx, catalog.Decision{RequestID: id, Approve: true, Person: "p"})
		wantState(t, q, err, granted)
		return q
	}
	one, two := grant("R-1"), grant("R-2")
	if _, err := b.FileRequest(r.ctx, r.request("R-3"), false); err != nil {
		t.Fatal(err)
	}

	l := new(liar)
	at := l.serve(r)
	cfg := catalog.ClientConfig{Address: at, Party: bank, Key: r.keys[bank], Seen: catalog.NewMemorySeen()}
	c := r.clientWith(cfg)
	cfg.Party, cfg.Key = tax, r.keys[tax]
	provider := r.clientWith(cfg)
	var old *catalogv1.GetStatusReply
	l.status = func(a *catalogv1.GetStatusReply) { old = a }
	if _, err := c.Grant(r.ctx, one.GrantID); err != nil {
		t.Fatal(err)
	}
	if err := c.Status(r.ctx, one.GrantID); err != nil {
		t.Fatal(err)
	}

	// After a revocation the old status is played back.
	if err := r.staff.RevokeGrant(r.ctx, one.GrantID, "misuse"); err != nil {
		t.Fatal(err)
	}
	l.status = nil
	wantRule(t, c.Status(r.ctx, one.GrantID), catalog.RuleGrantRevoked)
	l.status = func(a *catalogv1.GetStatusReply) { a.Statuses, a.Roster = old.Statuses, old.Roster }
	wantRule(t, c.Status(r.ctx, one.GrantID), catalog.RuleStatusRollback)
	l.status = func(a *catalogv1.GetStatusReply) { a.Statuses = a.Statuses[:1] }
	wantRule(t, c.Status(r.ctx, one.GrantID), catalog.RuleStatusStale)

	// Another grant, or one without its approvals.
	l.grant = func(q *catalogv1.GetGrantRequest, a *catalogv1.GetGrantReply) {
		other, err := update(r.s, func(t *tx) (*catalogv1.GetGrantReply, error) { return t.getGrant(bank, two.GrantID) })
		if err != nil {
			t.Error(err)
			return
		}
		a.Grant, a.Status, a.EntryStatuses = other.Grant, other.Status, other.EntryStatuses
	}
	_, err := c.Grant(r.ctx, one.GrantID)
	wantRule(t, err, catalog.RuleGrant)
	l.grant = func(_ *catalogv1.GetGrantRequest, a *catalogv1.GetGrantReply) {
		var g catalogv1.Grant
		if err := catalog.Decode(a.Grant.Payload, &g); err != nil {
			t.Error(err)
		}
		g.Approvals = nil
		a.Grant, err = catalog.SignGrant(r.s.key, &g)
		if err != nil {
			t.Error(err)
		}
	}
	_, err = c.Grant(r.ctx, two.GrantID)
	wantRule(t, err, catalog.RuleApprovalMissing)

	// A provider is shown one request and asked to sign another.
	l.list = func(a *catalogv1.ListRequestsReply) {
		for _, v := range a.Requests {
			other := r.request("R-3")
			other.Requester, other.Created, other.Purpose = bank, timestamppb.New(r.now()), "something else"
			v.Request, err = catalog.SignRequest(r.s.key, other) // the platform cannot sign as the bank
			if err != nil {
				t.Error(err)
			}
			v.Request.Signatures[0].Signer = bank
		}
	}
	_, err = provider.Decide(r.ctx, catalog.Decision{RequestID: "R-3", Approve: true, Person: "p"})
	wantRule(t, err, catalog.RuleRequestSignature)
	if l, err := provider.ListRequests(r.ctx); err != nil || len(l) != 0 {
		t.Errorf("%d forged requests are shown: %v", len(l), err)
	}

	// An entry that its provider did not write.
	l.entry = func(a *catalogv1.ListEntriesReply) {
		for _, s := range a.Entries {
			s.Signatures = []*signv1.Signature{r.s.key.Sign(tax, suite.ContextEntry, s.Payload)}
		}
	}
	_, err = c.Entry(r.ctx, taxCode, 1)
	wantRule(t, err, catalog.RuleEntrySignature)
	if es, err := c.ListEntries(r.ctx, ""); err != nil || len(es) != 0 {
		t.Errorf("%d forged entries are shown: %v", len(es), err)
	}
	l.entry = nil
	if _, err := c.Entry(r.ctx, taxCode, 1); err != nil {
		t.Error(err)
	}
	l.entry = func(a *catalogv1.ListEntriesReply) {
		b := new(catalogv1.ListEntriesReply)
		if err := r.s.view(func(t *tx) error { return t.listEntry(socialCode, 1, b) }); err != nil {
			t.Error(err)
		}
		a.Entries = b.Entries
	}
	_, err = c.Entry(r.ctx, taxCode, 1)
	wantRule(t, err, catalog.RuleEntryMismatch)
}

// TestReplayedDocuments: a document that is genuine, sent by someone else.
func TestReplayedDocuments(t *testing.T) {
	r, b, _, s := line(t, Config{AutoAccept: true})
	if _, err := s.RegisterEntry(r.ctx, testEntry("310002/000008", "2")); err != nil {
		t.Fatal(err)
	}
	q, err := b.FileRequest(r.ctx, r.request("R-1",
		&catalogv1.Use{Entry: taxCode, Version: 1, Items: []string{"id"}}, &catalogv1.Use{Entry: "310002/000008", Version: 1, Items: []string{"id"}}), false)
	wantState(t, q, err, accepted)
	cfg, err := r.keys[social].ClientTLS(social, r.s.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := catalog.Dial(r.addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := catalogv1.NewPlatformClient(conn)

	decision, err := catalog.SignDecision(r.keys[tax], &catalogv1.Decision{
		RequestDigest: q.Digest, RequestId: "R-1", Party: tax, Approved: true, Person: "p", Decided: timestamppb.New(r.now()),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Decide(r.ctx, &catalogv1.DecideRequest{Decision: decision})
	wantRule(t, catalog.FromStatus(r.ctx, err), catalog.RuleNotYours)

	e := testEntry("310001/000002", "2")
	e.Provider, e.Version, e.Published, e.CodeTable = tax, 1, timestamppb.New(r.now()), r.s.CodeTable().ID()
	entry, err := catalog.SignEntry(r.keys[tax], e)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.RegisterEntry(r.ctx, &catalogv1.RegisterEntryRequest{Entry: entry})
	wantRule(t, catalog.FromStatus(r.ctx, err), catalog.RuleNotYours)

	// An enrolment under a stolen code, over the thief's own connection.
	in, key := r.invite("zs-new"), newKey(t)
	m := &catalogv1.EnrolRequest{Party: "zs-new", Secret: in.Secret.Reveal(), Suite: key.Suite(), PublicKey: key.Public(), Endpoint: "h.example:1"}
	payload, err := catalog.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	m.Proof = key.Sign("zs-new", suite.ContextEnrol, payload).Value
	_, err = p.Enrol(r.ctx, m)
	wantRule(t, catalog.FromStatus(r.ctx, err), catalog.RuleProof)
	if _, err := catalog.Enrol(r.ctx, in, key, "h.example:1", ""); err != nil {
		t.Errorf("the refused call used the code up: %v", err)
	}
}
