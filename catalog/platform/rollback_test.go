package platform

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// TestReplacedRegistrationIsNoConsent: a provider has shared an entry without
// conditions once, then on approval, then no more. A platform that goes back,
// with every signature it needs in place, is refused by the provider's own
// node, which remembers.
func TestReplacedRegistrationIsNoConsent(t *testing.T) {
	r := newRig(t, Config{AutoAccept: true})
	r.enrol(bank, tax, social)
	l := new(liar)
	cfg := catalog.ClientConfig{Address: l.serve(r), Party: tax, Key: r.keys[tax], Seen: catalog.NewMemorySeen()}
	register := func(share string, withdrawn bool) *catalog.Entry {
		t.Helper()
		e := testEntry(taxCode, share)
		e.Withdrawn = withdrawn
		v, err := r.clientWith(cfg).RegisterEntry(r.ctx, e)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	must := func(s *signv1.Signed, err error) *signv1.Signed {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	free := register("1", false)
	q, err := r.client(bank).FileRequest(r.ctx, r.request("R-1"), false)
	wantState(t, q, err, granted)

	// ask has the platform grant R-2, on e in the version given, and returns
	// what the provider's node says to it after a restart.
	version := int64(1000)
	ask := func(e *catalog.Entry) error {
		version++
		m := r.request("R-2", &catalogv1.Use{Entry: taxCode, Version: e.Version(), Items: []string{"paid"}})
		m.Requester, m.Created = bank, timestamppb.New(r.now())
		request := must(catalog.SignRequest(r.keys[bank], m))
		grant := must(catalog.SignGrant(r.s.key, &catalogv1.Grant{
			Id: q.GrantID, Issued: timestamppb.New(r.now()), Request: request, Entries: []*signv1.Signed{e.Signed()},
			Approvals: []*signv1.Signed{must(catalog.SignDecision(r.keys[tax], &catalogv1.Decision{
				RequestDigest: suite.Digest(request.Payload), RequestId: "R-2", Party: tax, Approved: true, Person: "p", Decided: m.Created,
			}))},
		}))
		status := func(subject catalogv1.Subject, id string, digest []byte) *signv1.Signed {
			return must(catalog.SignStatus(r.s.key, &catalogv1.Status{
				Subject: subject, Id: id, Digest: digest, Version: version, State: catalogv1.State_STATE_CURRENT,
				Issued: timestamppb.New(r.now()), Expires: timestamppb.New(r.now().Add(time.Minute)),
			}))
		}
		ofGrant := status(catalogv1.Subject_SUBJECT_GRANT, q.GrantID, suite.Digest(grant.Payload))
		ofEntry := status(catalogv1.Subject_SUBJECT_ENTRY, taxCode, e.Digest())
		l.grant = func(_ *catalogv1.GetGrantRequest, a *catalogv1.GetGrantReply) {
			a.Grant, a.Status, a.EntryStatuses = grant, ofGrant, []*signv1.Signed{ofEntry}
		}
		_, err := r.clientWith(cfg).Grant(r.ctx, q.GrantID)
		return err
	}
	if err := ask(free); err != nil {
		t.Fatalf("the current version: %v", err)
	}
	// The versions of the entry's status are the platform's own: let the true
	// one go on from where the forged ones are, as a platform that lies would.
	raise := func() {
		t.Helper()
		if _, err := update(r.s, func(x *tx) (*signv1.Signed, error) {
			s := must(catalog.SignStatus(r.s.key, &catalogv1.Status{Subject: catalogv1.Subject_SUBJECT_ENTRY, Id: taxCode, Version: version}))
			return s, x.putProto("status/2/"+esc(taxCode), s)
		}); err != nil {
			t.Fatal(err)
		}
		version++
	}
	raise()
	conditional := register("2", false)
	wantRule(t, ask(free), catalog.RuleEntryRollback)
	if err := ask(conditional); err != nil {
		t.Fatalf("the current version: %v", err)
	}
	raise()
	register("2", true)
	wantRule(t, ask(conditional), catalog.RuleEntryRollback)
}
