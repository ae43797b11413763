package catalog

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

var testNow = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

func stamp(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(testNow.Add(d)) }

const (
	bank, tax, social = "zs-bank", "zs-tax", "zs-social"
	taxCode           = "310001/000001" // conditional
	socialCode        = "310002/000007" // unconditional
)

// world holds every message behind one grant, to be changed before signing.
type world struct {
	tb       testing.TB
	platform *suite.Key
	keys     map[string]*suite.Key
	roster   *catalogv1.Roster
	entries  []*catalogv1.Entry
	request  *catalogv1.Request
	approve  []*catalogv1.Decision
	grant    *catalogv1.Grant
	status   *catalogv1.Status
	statuses []*catalogv1.Status
	// afterSigning are changes to what has been signed already.
	signedRequest func(*signv1.Signed)
	signedEntry   func(i int, s *signv1.Signed)
	signedApprove func(*signv1.Signed)
}

func newKey(tb testing.TB) *suite.Key {
	k, err := suite.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// namedKey is always the same, as seeds of fuzz targets need it.
func namedKey(tb testing.TB, name string) *suite.Key {
	k, err := suite.NewKey(suite.Digest([]byte(name)))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func testEntry(code, provider, share string) *catalogv1.Entry {
	e := &catalogv1.Entry{
		Code: code, Version: 3, Name: "tax payment record", Provider: provider, ProviderCode: "11440000",
		Classification: &catalogv1.Classification{Category: "3", Item: "10"},
		Items: []*catalogv1.Item{
			{Name: "id", Type: "text", Key: true}, {Name: "paid", Type: "float"}, {Name: "years", Type: "int"},
		},
		ShareType: share, Grade: "3", SourceSystem: "core tax system", UpdateCycle: "4", Format: "0200",
		OpenAttribute: "0", Published: stamp(-48 * time.Hour), CodeTable: Canonical().ID(),
	}
	if share != "1" {
		e.ShareCondition = "credit assessment with the subject's consent"
	}
	return e
}

func newWorld(tb testing.TB) *world {
	w := &world{tb: tb, platform: namedKey(tb, suite.Platform), keys: map[string]*suite.Key{}}
	w.roster = &catalogv1.Roster{Version: 7, Issued: stamp(-10 * time.Second), Expires: stamp(50 * time.Second), CodeTable: Canonical().Message()}
	for _, id := range []string{bank, tax, social} {
		w.keys[id] = namedKey(tb, id)
		w.roster.Parties = append(w.roster.Parties, &catalogv1.Party{
			Id: id, Name: "party " + id, Endpoint: id + ".example:7400", Suite: suite.Std, PublicKey: w.keys[id].Public(),
		})
	}
	w.entries = []*catalogv1.Entry{testEntry(taxCode, tax, "2"), testEntry(socialCode, social, "1")}
	w.request = &catalogv1.Request{
		Id: "R-1", Requester: bank, Purpose: "credit scoring", Scene: "before the loan", LegalBasis: "consent of the applicant",
		Uses: []*catalogv1.Use{
			{Entry: taxCode, Version: 3, Items: []string{"id", "paid"}},
			{Entry: socialCode, Version: 3, Items: []string{"id", "years"}},
		},
		Computations: []*catalogv1.Computation{
			{Kind: "psi.ecdh.v1", Roles: []*catalogv1.RoleBinding{{Party: bank, Role: "receiver"}, {Party: tax, Role: "sender"}}},
			{Kind: "fl.logit.v1", Permissions: []string{"open.scores.exact"}, Roles: []*catalogv1.RoleBinding{
				{Party: bank, Role: "label-holder"}, {Party: tax, Role: "feature-holder"}, {Party: social, Role: "feature-holder"},
			}},
		},
		Recipients: []string{bank},
		Limits: &catalogv1.Limits{
			MaxRuns: 3, MinIntersection: 100, MinBeforeReveal: true, ValidFrom: stamp(-time.Hour), ValidUntil: stamp(24 * time.Hour),
		},
		Created: stamp(-2 * time.Hour), Person: "li.na",
	}
	w.approve = []*catalogv1.Decision{{RequestId: "R-1", Party: tax, Approved: true, Person: "wang.wei", Decided: stamp(-30 * time.Minute)}}
	w.grant = &catalogv1.Grant{Id: "G-2026-0007", Issued: stamp(-20 * time.Minute)}
	w.status = &catalogv1.Status{
		Subject: catalogv1.Subject_SUBJECT_GRANT, Id: "G-2026-0007", Version: 5, State: catalogv1.State_STATE_CURRENT,
		Issued: stamp(-5 * time.Second), Expires: stamp(55 * time.Second),
	}
	for _, code := range []string{taxCode, socialCode} {
		w.statuses = append(w.statuses, &catalogv1.Status{
			Subject: catalogv1.Subject_SUBJECT_ENTRY, Id: code, Version: 2, State: catalogv1.State_STATE_CURRENT,
			Issued: stamp(-5 * time.Second), Expires: stamp(55 * time.Second),
		})
	}
	return w
}

// evidence is what VerifyGrant is given.
type evidence struct {
	grant, status *signv1.Signed
	statuses      []*signv1.Signed
	roster        *signv1.Signed
}

// sign signs everything as it now stands; digests that are blank are filled in.
func (w *world) sign() evidence {
	must := func(s *signv1.Signed, err error) *signv1.Signed {
		w.tb.Helper()
		if err != nil {
			w.tb.Fatal(err)
		}
		return s
	}
	keyOf := func(id string) *suite.Key {
		if k := w.keys[id]; k != nil {
			return k
		}
		return newKey(w.tb) // a stranger
	}
	var ev evidence
	ev.roster = must(SignRoster(w.platform, w.roster))
	g := proto.CloneOf(w.grant)
	g.Request = must(SignRequest(keyOf(w.request.Requester), w.request))
	reqDigest := suite.Digest(g.Request.Payload)
	if w.signedRequest != nil {
		w.signedRequest(g.Request)
	}
	for i, e := range w.entries {
		s := must(SignEntry(keyOf(e.Provider), e))
		if i < len(w.statuses) && w.statuses[i].Digest == nil {
			w.statuses[i].Digest = suite.Digest(s.Payload)
		}
		if w.signedEntry != nil {
			w.signedEntry(i, s)
		}
		g.Entries = append(g.Entries, s)
	}
	for _, d := range w.approve {
		d := proto.CloneOf(d)
		if d.RequestDigest == nil {
			d.RequestDigest = reqDigest
		}
		s := must(SignDecision(keyOf(d.Party), d))
		if w.signedApprove != nil {
			w.signedApprove(s)
		}
		g.Approvals = append(g.Approvals, s)
	}
	ev.grant = must(SignGrant(w.platform, g))
	if w.status != nil {
		st := proto.CloneOf(w.status)
		if st.Digest == nil {
			st.Digest = suite.Digest(ev.grant.Payload)
		}
		ev.status = must(SignStatus(w.platform, st))
	}
	for _, s := range w.statuses {
		ev.statuses = append(ev.statuses, must(SignStatus(w.platform, s)))
	}
	return ev
}

func (w *world) verify(ev evidence, seen Seen, now time.Time) (*Grant, error) {
	r, err := VerifyRoster(ev.roster, w.platform.Public(), seen, now)
	if err != nil {
		return nil, err
	}
	return VerifyGrant(ev.grant, ev.status, ev.statuses, r, seen, now)
}

func wantRule(t *testing.T, err error, rule string, security bool) {
	t.Helper()
	var r *RuleError
	switch {
	case !errors.As(err, &r):
		t.Fatalf("want a refusal by rule %s, got %v", rule, err)
	case r.Rule != rule:
		t.Fatalf("want rule %s, got %v", rule, err)
	case r.Security != security:
		t.Fatalf("want security %v: %v", security, err)
	}
}
