package platform

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
)

func TestLineToGrant(t *testing.T) {
	r, b, x, s := line(t, Config{AutoAccept: true})
	uses := []*catalogv1.Use{
		{Entry: taxCode, Version: 1, Items: []string{"id", "paid"}},
		{Entry: socialCode, Version: 1, Items: []string{"paid"}},
	}
	q, err := b.FileRequest(r.ctx, r.request("R-1", uses...), false)
	wantState(t, q, err, accepted)
	if !slices.Equal(q.Awaiting, []string{tax}) {
		t.Errorf("awaiting %v", q.Awaiting)
	}
	// The unconditional entry's provider has no say.
	_, err = s.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Approve: true, Person: "p"})
	wantRule(t, err, catalog.RuleState)
	// The provider signs what it was shown, or nothing.
	shown, err := x.Request(r.ctx, "R-1")
	wantState(t, shown, err, accepted)
	_, err = x.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Digest: make([]byte, 32), Approve: true, Person: "p"})
	wantRule(t, err, catalog.RuleRequest)
	q, err = x.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Digest: shown.Digest, Approve: true, Person: "wang.wei"})
	wantState(t, q, err, granted)
	if len(q.Decisions) != 1 || q.Decisions[0].Person != "wang.wei" || len(q.Awaiting) != 0 {
		t.Errorf("%+v", q)
	}
	if want := fmt.Sprintf("G-%d-0001", r.now().UTC().Year()); q.GrantID != want {
		t.Errorf("grant ID %s, want %s", q.GrantID, want)
	}
	var digest []byte
	for _, c := range []*catalog.Client{b, x, s} {
		g, err := c.Grant(r.ctx, q.GrantID)
		if err != nil {
			t.Fatal(err)
		}
		if digest == nil {
			digest = g.Digest()
		}
		if !slices.Equal(digest, g.Digest()) || g.RequestID() != "R-1" || len(g.Entries()) != 2 {
			t.Error("parties see different grants")
		}
		if err := c.Status(r.ctx, q.GrantID); err != nil {
			t.Error(err)
		}
	}
	// The same filing and the same approval again change nothing.
	again, err := x.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Approve: true, Person: "other"})
	wantState(t, again, err, granted)
	if again.GrantID != q.GrantID || again.Decisions[0].Person != "wang.wei" {
		t.Error("an approval was replaced")
	}

	// Everything survives a restart, and versions go on rising.
	before, err := b.Roster(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.end()
	if _, err := b.Roster(r.ctx); !errors.Is(err, catalog.ErrUnreachable) {
		t.Errorf("a platform that is down: %v", err)
	}
	if err := b.Status(r.ctx, q.GrantID); !errors.Is(err, catalog.ErrUnreachable) || catalog.Rule(err) != "" {
		t.Errorf("a platform that is down: %v", err)
	}
	r.start()
	b = r.client(bank)
	g, err := b.Grant(r.ctx, q.GrantID)
	if err != nil || !slices.Equal(g.Digest(), digest) {
		t.Fatalf("after a restart: %v", err)
	}
	after, err := b.Roster(r.ctx)
	if err != nil || after.Version() <= before.Version() {
		t.Errorf("roster version %d after %d: %v", after.Version(), before.Version(), err)
	}
	q, err = b.FileRequest(r.ctx, r.request("R-2", uses[1]), false)
	wantState(t, q, err, granted) // needs nobody's approval
	if !strings.HasSuffix(q.GrantID, "-0002") {
		t.Errorf("grant numbers do not go on: %s", q.GrantID)
	}
	if list, err := b.ListRequests(r.ctx); err != nil || len(list) != 2 {
		t.Errorf("%d requests: %v", len(list), err)
	}
}

func TestManualReview(t *testing.T) {
	r, b, x, _ := line(t, Config{})
	q, err := b.FileRequest(r.ctx, r.request("R-1"), true)
	wantState(t, q, err, draft)
	// A draft is its requester's alone, who may replace it.
	_, err = x.Request(r.ctx, "R-1")
	wantRule(t, err, catalog.RuleNotFound)
	_, err = x.SubmitRequest(r.ctx, "R-1")
	wantRule(t, err, catalog.RuleNotFound)
	changed := r.request("R-1")
	changed.Purpose = "loan supervision"
	q, err = b.FileRequest(r.ctx, changed, true)
	wantState(t, q, err, draft)
	q, err = b.SubmitRequest(r.ctx, "R-1")
	wantState(t, q, err, submitted)
	if q.Request.Purpose != "loan supervision" {
		t.Error("the draft was not replaced")
	}
	_, err = b.SubmitRequest(r.ctx, "R-1")
	wantRule(t, err, catalog.RuleState)
	_, err = b.FileRequest(r.ctx, r.request("R-1"), false)
	wantRule(t, err, catalog.RuleExists)
	_, err = x.SubmitRequest(r.ctx, "R-1")
	wantRule(t, err, catalog.RuleNotYours)
	_, err = x.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Approve: true, Person: "p"})
	wantRule(t, err, catalog.RuleState) // not accepted yet

	_, err = r.staff.Review(r.ctx, "R-1", false, "")
	wantRule(t, err, catalog.RuleReason)
	_, err = r.staff.Review(r.ctx, "R-9", true, "")
	wantRule(t, err, catalog.RuleNotFound)
	if v, err := r.staff.Review(r.ctx, "R-1", true, ""); err != nil || v.State != accepted {
		t.Fatalf("%v %v", v, err)
	}
	_, err = r.staff.Review(r.ctx, "R-1", true, "")
	wantRule(t, err, catalog.RuleState)
	_, err = x.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Person: "p"})
	wantRule(t, err, catalog.RuleReason)
	q, err = x.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Person: "p", Reason: "article 12: no legal basis"})
	wantState(t, q, err, refused)
	if q.Reason != tax+": article 12: no legal basis" {
		t.Errorf("reason %q", q.Reason)
	}
	_, err = x.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Approve: true, Person: "p"})
	wantRule(t, err, catalog.RuleState)

	q, err = b.FileRequest(r.ctx, r.request("R-2"), false)
	wantState(t, q, err, submitted)
	if v, err := r.staff.Review(r.ctx, "R-2", false, "scene is not covered"); err != nil || v.State != refused || v.Reason != "platform: scene is not covered" {
		t.Fatalf("%v %v", v, err)
	}
	all, err := r.staff.Requests(r.ctx)
	if err != nil || len(all) != 2 {
		t.Errorf("%d requests: %v", len(all), err)
	}
}

func TestEveryProviderApprovesItsOwn(t *testing.T) {
	r, b, x, s := line(t, Config{AutoAccept: true})
	if _, err := s.RegisterEntry(r.ctx, testEntry("310002/000008", "2")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.RegisterEntry(r.ctx, testEntry("900001/000001", "2")); err != nil {
		t.Fatal(err)
	}
	uses := []*catalogv1.Use{
		{Entry: taxCode, Version: 1, Items: []string{"paid"}},
		{Entry: "310002/000008", Version: 1, Items: []string{"paid"}},
		{Entry: "900001/000001", Version: 1, Items: []string{"id"}},
	}
	q, err := b.FileRequest(r.ctx, r.request("R-1", uses...), false)
	wantState(t, q, err, accepted)
	if !slices.Equal(q.Awaiting, []string{tax, social, bank}) {
		t.Errorf("awaiting %v: the requester decides on its own entries too", q.Awaiting)
	}
	// The first approval stands; its person cannot be changed later.
	for _, person := range []string{"wang.wei", "someone.else"} {
		if q, err = x.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Approve: true, Person: person}); err != nil || q.Decisions[0].Person != "wang.wei" {
			t.Fatalf("%+v %v", q, err)
		}
	}
	// All at once: exactly one grant comes out.
	var wg sync.WaitGroup
	for _, c := range []*catalog.Client{b, x, s, b, x, s} {
		wg.Go(func() {
			if _, err := c.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Approve: true, Person: "p"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	q, err = b.Request(r.ctx, "R-1")
	wantState(t, q, err, granted)
	if !strings.HasSuffix(q.GrantID, "-0001") || len(q.Decisions) != 3 {
		t.Errorf("%s, %d decisions", q.GrantID, len(q.Decisions))
	}
	if _, err := x.Grant(r.ctx, q.GrantID); err != nil {
		t.Error(err)
	}
	if q2, err := b.FileRequest(r.ctx, r.request("R-2", &catalogv1.Use{Entry: socialCode, Version: 1, Items: []string{"id"}}), false); err != nil || !strings.HasSuffix(q2.GrantID, "-0002") {
		t.Errorf("the next grant: %v %v", q2, err)
	}
}

func TestFormalCheck(t *testing.T) {
	r, b, x, s := line(t, Config{AutoAccept: true})
	if _, err := s.RegisterEntry(r.ctx, testEntry("310002/000009", "3")); err != nil {
		t.Fatal(err)
	}
	one := func(code string, version int64, items ...string) func(*catalogv1.Request) {
		return func(q *catalogv1.Request) { q.Uses = []*catalogv1.Use{{Entry: code, Version: version, Items: items}} }
	}
	for name, tt := range map[string]struct {
		change func(*catalogv1.Request)
		rule   string
	}{
		"share type 3":           {one("310002/000009", 1, "id"), catalog.RuleShareType},
		"no such entry":          {one("310002/000010", 1, "id"), catalog.RuleNotFound},
		"no such version":        {one(taxCode, 2, "id"), catalog.RuleNotFound},
		"no such item":           {one(taxCode, 1, "salary"), catalog.RuleItems},
		"unknown party":          {func(q *catalogv1.Request) { q.Computations[0].Roles[0].Party = "zs-ghost"; q.Recipients[0] = tax }, catalog.RuleUnknownParty},
		"provider takes no part": {func(q *catalogv1.Request) { q.Computations[0].Roles = q.Computations[0].Roles[:1] }, catalog.RuleRequest},
		"past": {func(q *catalogv1.Request) {
			q.Limits.ValidFrom, q.Limits.ValidUntil = timestamppb.New(r.now().Add(-2*time.Hour)), timestamppb.New(r.now().Add(-time.Hour))
		}, catalog.RuleGrantExpired},
		"from the future": {func(q *catalogv1.Request) { q.Created = timestamppb.New(r.now().Add(time.Hour)) }, catalog.RuleNotYetValid},
		"of another":      {func(q *catalogv1.Request) { q.Requester = tax }, catalog.RuleRequestSignature},
	} {
		for _, asDraft := range []bool{false, true} {
			q := r.request("R-x")
			tt.change(q)
			if _, err := b.FileRequest(r.ctx, q, asDraft); catalog.Rule(err) != tt.rule {
				t.Errorf("%s: want %s, got %v", name, tt.rule, err)
			}
		}
	}
	if l, err := b.ListRequests(r.ctx); err != nil || len(l) != 0 {
		t.Errorf("a refused filing left %d requests: %v", len(l), err)
	}
	// The client checks before it sends; the platform must not rely on that.
	bad := r.request("R-bad")
	bad.Requester, bad.Created, bad.Purpose = bank, timestamppb.New(r.now()), ""
	signed, err := catalog.SignRequest(r.keys[bank], bad)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.s.change(func(t *tx) (*filing, error) { return t.file(bank, signed, false) })
	wantRule(t, err, catalog.RuleRequest)
	good := r.request("R-good")
	good.Requester, good.Created = tax, timestamppb.New(r.now())
	if signed, err = catalog.SignRequest(r.keys[tax], good); err != nil {
		t.Fatal(err)
	}
	_, err = r.s.change(func(t *tx) (*filing, error) { return t.file(bank, signed, false) })
	wantRule(t, err, catalog.RuleNotYours)

	// Another party's request ID is taken.
	if _, err := b.FileRequest(r.ctx, r.request("R-1"), true); err != nil {
		t.Fatal(err)
	}
	_, err = x.FileRequest(r.ctx, r.request("R-1"), false)
	wantRule(t, err, catalog.RuleExists)
}

func TestEntryVersions(t *testing.T) {
	r, b, x, s := line(t, Config{AutoAccept: true})
	_, err := s.RegisterEntry(r.ctx, testEntry(taxCode, "1")) // version 2 of another's entry
	wantRule(t, err, catalog.RuleNotYours)
	foreign := testEntry("310003/000001", "1")
	foreign.Provider = social
	_, err = x.RegisterEntry(r.ctx, foreign)
	wantRule(t, err, catalog.RuleEntrySignature)
	stale := testEntry(taxCode, "2")
	stale.Version = 1
	_, err = x.RegisterEntry(r.ctx, stale) // other bytes under a version that is taken
	wantRule(t, err, catalog.RuleVersion)
	coded := testEntry("310003/000001", "9")
	_, err = x.RegisterEntry(r.ctx, coded)
	wantRule(t, err, catalog.RuleEntry)

	q, err := b.FileRequest(r.ctx, r.request("R-1"), false)
	wantState(t, q, err, accepted)
	waiting, err := b.FileRequest(r.ctx, r.request("R-2"), false)
	wantState(t, waiting, err, accepted)
	q, err = x.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Approve: true, Person: "p"})
	wantState(t, q, err, granted)
	if _, err := b.Grant(r.ctx, q.GrantID); err != nil {
		t.Fatal(err)
	}

	e, err := x.RegisterEntry(r.ctx, testEntry(taxCode, "2"))
	if err != nil || e.Version() != 2 {
		t.Fatalf("%v %v", e, err)
	}
	// New jobs need a new request; what runs may end.
	_, err = b.Grant(r.ctx, q.GrantID)
	wantRule(t, err, catalog.RuleEntrySuperseded)
	if err := b.Status(r.ctx, q.GrantID); err != nil {
		t.Errorf("a running job: %v", err)
	}
	// A request for the old version is refused once it could be granted.
	waiting, err = x.Decide(r.ctx, catalog.Decision{RequestID: "R-2", Approve: true, Person: "p"})
	wantState(t, waiting, err, refused)
	if !strings.Contains(waiting.Reason, "version 2") {
		t.Errorf("reason %q", waiting.Reason)
	}
	for _, v := range []int64{1, 2} {
		if e, err := b.Entry(r.ctx, taxCode, v); err != nil || e.Version() != v {
			t.Errorf("version %d: %v", v, err)
		}
	}
	if e, err := b.Entry(r.ctx, taxCode, 0); err != nil || e.Version() != 2 {
		t.Errorf("the newest: %v", err)
	}
	_, err = b.Entry(r.ctx, taxCode, 3)
	wantRule(t, err, catalog.RuleNotFound)
	if es, err := b.ListEntries(r.ctx, ""); err != nil || len(es) != 2 || es[0].Version()+es[1].Version() != 3 {
		t.Errorf("%d entries: %v", len(es), err)
	}

	// Withdrawal ends what runs.
	gone := testEntry(taxCode, "2")
	gone.Withdrawn = true
	if _, err := x.RegisterEntry(r.ctx, gone); err != nil {
		t.Fatal(err)
	}
	wantRule(t, b.Status(r.ctx, q.GrantID), catalog.RuleEntryRevoked)
	if es, err := b.ListEntries(r.ctx, ""); err != nil || len(es) != 1 {
		t.Errorf("%d entries: %v", len(es), err)
	}
	fresh := r.request("R-3")
	fresh.Uses[0].Version = 3
	_, err = b.FileRequest(r.ctx, fresh, false)
	wantRule(t, err, catalog.RuleEntryRevoked)

	// The platform sends an entry back to its author, who corrects it.
	use := &catalogv1.Use{Entry: socialCode, Version: 1, Items: []string{"id"}}
	q, err = b.FileRequest(r.ctx, r.request("R-4", use), false)
	wantState(t, q, err, granted)
	if err := r.staff.RevokeEntry(r.ctx, socialCode, "items are not described"); err != nil {
		t.Fatal(err)
	}
	_, err = b.Grant(r.ctx, q.GrantID)
	wantRule(t, err, catalog.RuleEntryRevoked)
	_, err = b.FileRequest(r.ctx, r.request("R-5", use), false)
	wantRule(t, err, catalog.RuleEntryRevoked)
	if _, err := s.RegisterEntry(r.ctx, testEntry(socialCode, "1")); err != nil {
		t.Fatal(err)
	}
	use.Version = 2
	q, err = b.FileRequest(r.ctx, r.request("R-5", use), false)
	wantState(t, q, err, granted)
	wantRule(t, r.staff.RevokeEntry(r.ctx, "310009/000001", "x"), catalog.RuleNotFound)
}

func TestRevocation(t *testing.T) {
	r, b, x, _ := line(t, Config{AutoAccept: true})
	grant := func(id string) string {
		t.Helper()
		if _, err := b.FileRequest(r.ctx, r.request(id), false); err != nil {
			t.Fatal(err)
		}
		q, err := x.Decide(r.ctx, catalog.Decision{RequestID: id, Approve: true, Person: "p"})
		wantState(t, q, err, granted)
		if _, err := b.Grant(r.ctx, q.GrantID); err != nil {
			t.Fatal(err)
		}
		return q.GrantID
	}
	first, second, third := grant("R-1"), grant("R-2"), grant("R-3")
	wantRule(t, r.staff.RevokeGrant(r.ctx, first, ""), catalog.RuleReason)
	wantRule(t, r.staff.RevokeGrant(r.ctx, "G-1", "x"), catalog.RuleNotFound)
	if err := r.staff.RevokeGrant(r.ctx, first, "misuse"); err != nil {
		t.Fatal(err)
	}
	err := b.Status(r.ctx, first)
	wantRule(t, err, catalog.RuleGrantRevoked)
	if !strings.Contains(err.Error(), "misuse") {
		t.Errorf("no reason: %v", err)
	}
	_, err = b.Grant(r.ctx, first)
	wantRule(t, err, catalog.RuleGrantRevoked)
	q, err := b.Request(r.ctx, "R-1")
	wantState(t, q, err, revoked)

	// A provider takes its consent back.
	q, err = x.Decide(r.ctx, catalog.Decision{RequestID: "R-2", Reason: "consent of the subjects has ended", Person: "p"})
	wantState(t, q, err, revoked)
	wantRule(t, b.Status(r.ctx, second), catalog.RuleGrantRevoked)
	q, err = x.Decide(r.ctx, catalog.Decision{RequestID: "R-2", Approve: true, Person: "p"})
	if err == nil {
		t.Errorf("a revoked grant came back: %s", q.State)
	}

	// Time ends the third, and open requests.
	if _, err := b.FileRequest(r.ctx, r.request("R-4"), false); err != nil {
		t.Fatal(err)
	}
	if _, err := b.FileRequest(r.ctx, r.request("R-5"), true); err != nil {
		t.Fatal(err)
	}
	r.ahead.Add(int64(2 * time.Hour))
	wantRule(t, b.Status(r.ctx, third), catalog.RuleGrantExpired)
	_, err = b.Grant(r.ctx, third)
	wantRule(t, err, catalog.RuleGrantExpired)
	for _, id := range []string{"R-3", "R-4", "R-5"} {
		q, err = b.Request(r.ctx, id)
		wantState(t, q, err, expired)
	}
	_, err = x.Decide(r.ctx, catalog.Decision{RequestID: "R-4", Approve: true, Person: "p"})
	wantRule(t, err, catalog.RuleState)
	_, err = b.SubmitRequest(r.ctx, "R-5")
	wantRule(t, err, catalog.RuleState)
	// What is revoked or refused stays so.
	q, err = b.Request(r.ctx, "R-1")
	wantState(t, q, err, revoked)
}
