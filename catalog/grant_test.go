package catalog

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

func TestVerifyGrant(t *testing.T) {
	w := newWorld(t)
	ev := w.sign()
	g, err := w.verify(ev, NewMemorySeen(), testNow)
	if err != nil {
		t.Fatal(err)
	}
	e, ok := g.Entry(taxCode)
	switch {
	case g.ID() != "G-2026-0007" || g.RequestID() != "R-1" || g.Requester() != bank || g.Purpose() != "credit scoring" ||
		g.Scene() != "before the loan" || g.LegalBasis() == "" || g.Person() != "li.na":
		t.Error("the request's fields differ")
	case !bytes.Equal(g.Digest(), suite.Digest(ev.grant.Payload)):
		t.Error("the digest is not that of the signed payload")
	case !ok || e.Version() != 3 || e.Provider() != tax || e.ShareType() != ShareConditional || len(e.Digest()) != 32:
		t.Error("the entry's fields differ")
	case !slices.Equal(g.Items(taxCode), []string{"id", "paid"}) || g.Items("310009/000001") != nil:
		t.Error("the items differ")
	case !slices.Equal(g.Parties(), []string{bank, social, tax}) || !slices.Equal(g.Recipients(), []string{bank}):
		t.Error("the parties differ")
	case g.Limits() != (Limits{3, 100, true, rules.Set{}, testNow.Add(-time.Hour), testNow.Add(24 * time.Hour)}):
		t.Error("the limits differ")
	}
	c, ok := g.Computation("fl.logit.v1")
	if !ok || c.Role(tax) != "feature-holder" || c.Role("zs-other") != "" || !c.Allows("open.scores.exact") || c.Allows("open.scores") {
		t.Errorf("the computation differs: %+v", c)
	}
	if _, ok := g.Computation("fl.gbdt.v1"); ok {
		t.Error("a computation that was not asked for is allowed")
	}
	// What accessors return is not the grant itself.
	g.Items(taxCode)[0] = "x"
	g.Request().Purpose = "x"
	g.Signed().Payload[0] ^= 1
	g.Digest()[0] ^= 1
	if g.Items(taxCode)[0] != "id" || g.Purpose() == "x" || !bytes.Equal(g.Digest(), suite.Digest(g.Signed().Payload)) {
		t.Error("a grant was changed through an accessor")
	}
}

func TestVerifyGrantRefuses(t *testing.T) {
	type change = func(*world)
	tests := map[string]struct {
		change   change
		rule     string
		security bool
	}{
		"consent invented":                {func(w *world) { w.approve = nil }, RuleApprovalMissing, true},
		"consent of another party":        {func(w *world) { w.approve[0].Party = social }, RuleApprovalMissing, true},
		"a refusal passed off as consent": {func(w *world) { w.approve[0].Approved = false }, RuleApprovalMissing, true},
		"consent to another request":      {func(w *world) { w.approve[0].RequestDigest = make([]byte, 32) }, RuleApprovalForged, true},
		"consent to another request ID":   {func(w *world) { w.approve[0].RequestId = "R-2" }, RuleApprovalForged, true},
		"entry signed by the platform":    {func(w *world) { w.keys[tax] = w.platform }, RuleEntrySignature, true},
		"consent signed by a stranger": {func(w *world) {
			w.signedApprove = func(s *signv1.Signed) {
				s.Signatures = []*signv1.Signature{newKey(w.tb).Sign(tax, suite.ContextDecision, s.Payload)}
			}
		}, RuleApprovalForged, true},
		"an entry's signature passed off as consent": {func(w *world) {
			w.signedApprove = func(s *signv1.Signed) {
				s.Signatures = []*signv1.Signature{w.keys[tax].Sign(tax, suite.ContextEntry, s.Payload)}
			}
		}, RuleApprovalForged, true},
		"consent by nobody on the roster": {
			func(w *world) {
				w.approve = append(w.approve, &catalogv1.Decision{RequestId: "R-1", Party: "zs-ghost", Approved: true})
			},
			RuleUnknownSigner, true,
		},
		"request signed by a stranger": {func(w *world) {
			w.signedRequest = func(s *signv1.Signed) {
				s.Signatures = []*signv1.Signature{newKey(w.tb).Sign(bank, suite.ContextRequest, s.Payload)}
			}
		}, RuleRequestSignature, true},
		"request by nobody on the roster": {func(w *world) { w.request.Requester = "zs-ghost" }, RuleUnknownSigner, true},
		"request widened by the platform": {func(w *world) {
			w.signedRequest = func(s *signv1.Signed) {
				m := proto.CloneOf(w.request)
				m.Limits.MaxRuns = 1000
				s.Payload, _ = Encode(m)
			}
		}, RuleRequestSignature, true},
		"entry changed by the platform": {func(w *world) {
			w.signedEntry = func(i int, s *signv1.Signed) {
				m := proto.CloneOf(w.entries[i])
				m.ShareType, m.ShareCondition = "1", ""
				s.Payload, _ = Encode(m)
			}
		}, RuleEntrySignature, true},
		"entry by nobody on the roster": {func(w *world) { w.entries[1].Provider = "zs-ghost" }, RuleUnknownSigner, true},
		"entry of another version":      {func(w *world) { w.entries[0].Version = 2 }, RuleEntryMismatch, true},
		"entries in another order":      {func(w *world) { slices.Reverse(w.entries) }, RuleEntryMismatch, true},
		"an entry too few":              {func(w *world) { w.entries = w.entries[:1] }, RuleEntryMismatch, true},
		"entry not to be shared":        {func(w *world) { w.entries[1].ShareType, w.entries[1].ShareCondition = "3", "state secrets" }, RuleShareType, false},
		"unknown share type":            {func(w *world) { w.entries[1].ShareType = "0" }, RuleEntry, false},
		"entry by another code table":   {func(w *world) { w.entries[1].CodeTable = "zs:00" }, RuleCodeTable, false},
		"entry withdrawn":               {func(w *world) { w.entries[0].Withdrawn = true }, RuleEntryRevoked, false},
		"item the entry lacks":          {func(w *world) { w.request.Uses[0].Items = []string{"id", "salary"} }, RuleItems, false},
		"provider takes no part": {
			func(w *world) { w.request.Computations = w.request.Computations[:1] },
			RuleRequest, false,
		},
		"recipient takes no part": {func(w *world) { w.request.Recipients = []string{"zs-other"} }, RuleRequest, false},
		"no limit on runs":        {func(w *world) { w.request.Limits.MaxRuns = 0 }, RuleRequest, false},
		"no purpose":              {func(w *world) { w.request.Purpose = "" }, RuleRequest, false},
		"party not on the roster": {func(w *world) { w.request.Computations[0].Roles[1].Party = "zs-other" }, RuleUnknownParty, false},
		"party suspended":         {func(w *world) { w.roster.Parties[1].Suspended = true }, RulePartySuspended, false},
		"requester suspended":     {func(w *world) { w.roster.Parties[0].Suspended = true }, RulePartySuspended, false},
		"not valid yet":           {func(w *world) { w.request.Limits.ValidFrom = stamp(3 * time.Minute) }, RuleNotYetValid, false},
		"expired":                 {func(w *world) { w.request.Limits.ValidUntil = stamp(0) }, RuleGrantExpired, false},
		"granted in the future":   {func(w *world) { w.grant.Issued = stamp(3 * time.Minute) }, RuleNotYetValid, false},
		"without an ID":           {func(w *world) { w.grant.Id = "" }, RuleGrant, false},
		"without a status":        {func(w *world) { w.status = nil }, RuleStatusStale, false},
		"stale status":            {func(w *world) { w.status.Expires = stamp(-3 * time.Minute) }, RuleStatusStale, false},
		"status from the future":  {func(w *world) { w.status.Issued = stamp(3 * time.Minute) }, RuleStatusStale, false},
		"status of another grant": {func(w *world) { w.status.Id = "G-2026-0008" }, RuleStatusMismatch, true},
		"status of other bytes":   {func(w *world) { w.status.Digest = make([]byte, 32) }, RuleStatusMismatch, true},
		"status of an entry":      {func(w *world) { w.status.Subject = catalogv1.Subject_SUBJECT_ENTRY }, RuleStatusMismatch, true},
		"status without version":  {func(w *world) { w.status.Version = 0 }, RuleMalformed, false},
		"status without a state":  {func(w *world) { w.status.State = 0 }, RuleStatusMismatch, false},
		"revoked":                 {func(w *world) { w.status.State = catalogv1.State_STATE_REVOKED }, RuleGrantRevoked, false},
		"expired by its status":   {func(w *world) { w.status.State = catalogv1.State_STATE_EXPIRED }, RuleGrantExpired, false},
		"an entry status too few": {func(w *world) { w.statuses = w.statuses[:1] }, RuleStatusStale, false},
		"stale entry status":      {func(w *world) { w.statuses[1].Expires = stamp(-3 * time.Minute) }, RuleStatusStale, false},
		"entry statuses swapped":  {func(w *world) { w.sign(); slices.Reverse(w.statuses) }, RuleStatusMismatch, true},
		"entry revoked":           {func(w *world) { w.statuses[1].State = catalogv1.State_STATE_REVOKED }, RuleEntryRevoked, false},
		"entry superseded":        {func(w *world) { w.statuses[1].State = catalogv1.State_STATE_SUPERSEDED }, RuleEntrySuperseded, false},
		"newer entry is current":  {func(w *world) { w.statuses[0].Digest = make([]byte, 32) }, RuleEntrySuperseded, false},
		"stale roster":            {func(w *world) { w.roster.Expires = stamp(-3 * time.Minute) }, RuleRosterStale, false},
		"roster from the future":  {func(w *world) { w.roster.Issued = stamp(3 * time.Minute) }, RuleRosterStale, false},
		"roster without version":  {func(w *world) { w.roster.Version = 0 }, RuleRoster, false},
		"roster without codes":    {func(w *world) { w.roster.CodeTable = nil }, RuleCodeTable, false},
		"one key for two parties": {func(w *world) { w.roster.Parties[1].PublicKey = w.roster.Parties[0].PublicKey }, RuleRoster, false},
		"one ID for two parties":  {func(w *world) { w.roster.Parties[1].Id = bank }, RuleRoster, false},
		"party called platform":   {func(w *world) { w.roster.Parties[1].Id = "platform" }, RuleRoster, false},
		"party without a key":     {func(w *world) { w.roster.Parties[1].PublicKey = nil }, RuleRoster, false},
		"party of another suite":  {func(w *world) { w.roster.Parties[1].Suite = "gm" }, RuleRoster, false},
		"party without a port":    {func(w *world) { w.roster.Parties[1].Endpoint = "host" }, RuleRoster, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			g, err := w.verify(w.sign(), NewMemorySeen(), testNow)
			if g != nil {
				t.Error("a refused grant was returned")
			}
			wantRule(t, err, tt.rule, tt.security)
		})
	}
}

// TestConsentKeyIsNotThePlatforms: the platform signs all a provider should.
func TestConsentKeyIsNotThePlatforms(t *testing.T) {
	w := newWorld(t)
	w.signedApprove = func(s *signv1.Signed) {
		s.Signatures = []*signv1.Signature{w.platform.Sign(tax, suite.ContextDecision, s.Payload)}
	}
	_, err := w.verify(w.sign(), nil, testNow)
	wantRule(t, err, RuleApprovalForged, true)
}

// TestEveryByteIsSigned flips a bit of every byte of every signed payload and
// signature in turn.
func TestEveryByteIsSigned(t *testing.T) {
	w := newWorld(t)
	base := w.sign()
	if _, err := w.verify(base, nil, testNow); err != nil {
		t.Fatal(err)
	}
	flipped := func(s *signv1.Signed, visit func(*signv1.Signed)) {
		for i := range s.Payload {
			c := proto.CloneOf(s)
			c.Payload[i] ^= 1 << (i % 8)
			visit(c)
		}
		for i := range s.Signatures[0].Value {
			c := proto.CloneOf(s)
			c.Signatures[0].Value[i] ^= 1 << (i % 8)
			visit(c)
		}
		c := proto.CloneOf(s)
		c.Signatures[0].Signer = "zs-other"
		visit(c)
		c = proto.CloneOf(s)
		c.Signatures = nil
		visit(c)
		c = proto.CloneOf(s)
		c.Payload = nil
		visit(c)
	}
	check := func(what string, ev evidence, rules ...string) {
		t.Helper()
		g, err := w.verify(ev, nil, testNow)
		if g != nil || !slices.Contains(rules, Rule(err)) {
			t.Fatalf("%s: an altered document gave %v, want one of %v", what, err, rules)
		}
	}
	flipped(base.roster, func(s *signv1.Signed) {
		ev := base
		ev.roster = s
		check("roster", ev, RuleRosterSignature, RuleMalformed)
	})
	flipped(base.status, func(s *signv1.Signed) {
		ev := base
		ev.status = s
		check("status", ev, RuleStatusSignature, RuleMalformed)
	})
	flipped(base.statuses[1], func(s *signv1.Signed) {
		ev := base
		ev.statuses = []*signv1.Signed{base.statuses[0], s}
		check("entry status", ev, RuleStatusSignature, RuleMalformed)
	})
	flipped(base.grant, func(s *signv1.Signed) {
		ev := base
		ev.grant = s
		check("grant", ev, RuleGrantSignature, RuleMalformed)
	})
	// The documents inside are altered by a platform that signs anew.
	resign := func(change func(*catalogv1.Grant)) evidence {
		ev := base
		var m catalogv1.Grant
		if err := proto.Unmarshal(base.grant.Payload, &m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		var err error
		if ev.grant, err = SignGrant(w.platform, &m); err != nil {
			t.Fatal(err)
		}
		st := proto.CloneOf(w.status)
		st.Digest = suite.Digest(ev.grant.Payload)
		if ev.status, err = SignStatus(w.platform, st); err != nil {
			t.Fatal(err)
		}
		return ev
	}
	var g catalogv1.Grant
	if err := proto.Unmarshal(base.grant.Payload, &g); err != nil {
		t.Fatal(err)
	}
	if _, err := w.verify(resign(func(*catalogv1.Grant) {}), nil, testNow); err != nil {
		t.Fatalf("positive control: %v", err)
	}
	// A flip in the party's name makes it another signer's, one in the framing
	// makes it undecodable.
	flipped(g.Request, func(s *signv1.Signed) {
		check("request", resign(func(m *catalogv1.Grant) { m.Request = s }), RuleRequestSignature, RuleMalformed, RuleUnknownField, RuleUnknownSigner)
	})
	flipped(g.Entries[0], func(s *signv1.Signed) {
		check("entry", resign(func(m *catalogv1.Grant) { m.Entries[0] = s }), RuleEntrySignature, RuleMalformed, RuleUnknownField, RuleUnknownSigner)
	})
	flipped(g.Approvals[0], func(s *signv1.Signed) {
		check("approval", resign(func(m *catalogv1.Grant) { m.Approvals[0] = s }), RuleApprovalForged, RuleMalformed, RuleUnknownField, RuleUnknownSigner)
	})
}

func TestUnknownFieldsAreRefused(t *testing.T) {
	extra := protowire.AppendVarint(protowire.AppendTag(nil, 900, protowire.VarintType), 1)
	add := func(m proto.Message) { m.ProtoReflect().SetUnknown(extra) }
	for name, change := range map[string]func(*world){
		"grant":             func(w *world) { add(w.grant) },
		"request":           func(w *world) { add(w.request) },
		"request limits":    func(w *world) { add(w.request.Limits) },
		"role binding":      func(w *world) { add(w.request.Computations[1].Roles[2]) },
		"entry":             func(w *world) { add(w.entries[1]) },
		"entry item":        func(w *world) { add(w.entries[0].Items[2]) },
		"decision":          func(w *world) { add(w.approve[0]) },
		"status":            func(w *world) { add(w.status) },
		"entry status":      func(w *world) { add(w.statuses[1]) },
		"roster":            func(w *world) { add(w.roster) },
		"party":             func(w *world) { add(w.roster.Parties[2]) },
		"timestamp":         func(w *world) { add(w.request.Created) },
		"request envelope":  func(w *world) { w.signedRequest = func(s *signv1.Signed) { add(s) } },
		"approval envelope": func(w *world) { w.signedApprove = func(s *signv1.Signed) { add(s) } },
		"signature": func(w *world) {
			w.signedApprove = func(s *signv1.Signed) { add(s.Signatures[0]) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			change(w)
			_, err := w.verify(w.sign(), nil, testNow)
			wantRule(t, err, RuleUnknownField, false)
		})
	}
}

func TestRollback(t *testing.T) {
	w := newWorld(t)
	seen := NewMemorySeen()
	old := w.sign()
	if _, err := w.verify(old, seen, testNow); err != nil {
		t.Fatal(err)
	}
	if _, err := w.verify(old, seen, testNow); err != nil {
		t.Fatalf("the same version again: %v", err)
	}
	w.status.Version++
	w.status.State = catalogv1.State_STATE_REVOKED
	_, err := w.verify(w.sign(), seen, testNow)
	wantRule(t, err, RuleGrantRevoked, false)
	_, err = w.verify(old, seen, testNow) // the status from before the revocation
	wantRule(t, err, RuleStatusRollback, true)

	w = newWorld(t)
	seen = NewMemorySeen()
	old = w.sign()
	w.statuses[0].Version++
	w.roster.Version++
	newer := w.sign()
	if _, err := w.verify(newer, seen, testNow); err != nil {
		t.Fatal(err)
	}
	_, err = w.verify(old, seen, testNow)
	wantRule(t, err, RuleRosterRollback, true)
	mixed := newer
	mixed.statuses = old.statuses
	_, err = w.verify(mixed, seen, testNow)
	wantRule(t, err, RuleStatusRollback, true)

	// A forged version must not be remembered: it would shut the true one out.
	forged := w.sign()
	w.status.Version = 1 << 60
	forged.status, _ = SignStatus(newKey(t), w.status)
	_, err = w.verify(forged, seen, testNow)
	wantRule(t, err, RuleStatusSignature, true)
	if _, err := w.verify(newer, seen, testNow); err != nil {
		t.Errorf("a forged version was remembered: %v", err)
	}
}

type brokenSeen struct{}

var errBroken = errors.New("disk is gone")

func (brokenSeen) Raise(string, int64) error { return errBroken }

func TestSeenThatFailsIsNoRefusal(t *testing.T) {
	w := newWorld(t)
	_, err := w.verify(w.sign(), brokenSeen{}, testNow)
	if !errors.Is(err, errBroken) || Rule(err) != "" {
		t.Errorf("got %v", err)
	}
}

// TestRosterIsHeldToItsLife: a roster that was fresh when it was verified is
// not so for ever.
func TestRosterIsHeldToItsLife(t *testing.T) {
	w := newWorld(t)
	w.status.Expires, w.statuses[0].Expires, w.statuses[1].Expires = stamp(time.Hour), stamp(time.Hour), stamp(time.Hour)
	ev := w.sign()
	r, err := VerifyRoster(ev.roster, w.platform.Public(), nil, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyGrant(ev.grant, ev.status, ev.statuses, r, nil, testNow.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, err = VerifyGrant(ev.grant, ev.status, ev.statuses, r, nil, testNow.Add(4*time.Minute))
	wantRule(t, err, RuleRosterStale, false)
}

func TestClockSkew(t *testing.T) {
	w := newWorld(t)
	w.request.Limits.ValidFrom = stamp(time.Minute)
	w.grant.Issued = stamp(time.Minute)
	w.status.Issued = stamp(time.Minute)
	w.status.Expires = stamp(2 * time.Minute)
	if _, err := w.verify(w.sign(), nil, testNow); err != nil {
		t.Errorf("a clock one minute behind: %v", err)
	}
	w = newWorld(t)
	w.status.Expires = stamp(-time.Minute)
	if _, err := w.verify(w.sign(), nil, testNow); err != nil {
		t.Errorf("a clock one minute ahead: %v", err)
	}
}

// TestInvertedCodeTable is about a platform that numbers share types
// 0 conditional, 1 unconditional, 2 none. Read by the canonical table its
// "none" would be "conditional".
func TestInvertedCodeTable(t *testing.T) {
	field, err := NewCodeTable("field-platform", map[string]map[string]string{
		FieldShareType: {"0": "conditional", "1": "unconditional", "2": "none"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := field.ShareType("2"); err != nil || s != ShareNone {
		t.Fatalf("%v %v", s, err)
	}
	if s, err := Canonical().ShareType("2"); err != nil || s != ShareConditional {
		t.Fatalf("%v %v", s, err)
	}
	if _, err := Canonical().ShareType("0"); Rule(err) != RuleCodeTable {
		t.Errorf("an unknown code was read: %v", err)
	}
	if _, err := field.ShareType("3"); Rule(err) != RuleCodeTable {
		t.Errorf("an unknown code was read: %v", err)
	}

	// The provider says "none" in the field platform's codes.
	w := newWorld(t)
	w.entries[0].CodeTable = field.ID()
	w.entries[0].ShareType = "2"
	// Read by the right table: never granted, approval or not.
	w.entries[1].CodeTable = field.ID()
	w.roster.CodeTable = field.Message()
	_, err = w.verify(w.sign(), nil, testNow)
	wantRule(t, err, RuleShareType, false)
	// Read by the wrong one, which would call it conditional: refused all the
	// same, because the provider signed by which table it wrote.
	w.roster.CodeTable = Canonical().Message()
	_, err = w.verify(w.sign(), nil, testNow)
	wantRule(t, err, RuleCodeTable, false)
	// A platform that gives its table another's name, or changes a meaning,
	// has a table with another ID.
	renamed := field.Message()
	renamed.Name = "cn-2017-1272"
	for _, c := range renamed.Codes {
		if c.Field == FieldShareType && c.Code == "2" {
			c.Meaning = "conditional"
		}
		if c.Field == FieldShareType && c.Code == "0" {
			c.Meaning = "none"
		}
	}
	for _, name := range []string{renamed.Name, field.Name()} {
		renamed.Name = name
		w.roster.CodeTable = renamed
		_, err = w.verify(w.sign(), nil, testNow)
		wantRule(t, err, RuleCodeTable, false)
	}
	// The right table, with the code for "conditional": granted.
	w = newWorld(t)
	w.roster.CodeTable = field.Message()
	for _, e := range w.entries {
		e.CodeTable = field.ID()
	}
	w.entries[0].ShareType = "0"
	if _, err := w.verify(w.sign(), nil, testNow); err != nil {
		t.Error(err)
	}
	w.approve = nil
	w.statuses[0].Digest, w.statuses[1].Digest = nil, nil
	_, err = w.verify(w.sign(), nil, testNow)
	wantRule(t, err, RuleApprovalMissing, true)
}

func TestCodeTable(t *testing.T) {
	for name, tt := range map[string]struct {
		fields map[string]map[string]string
		want   string
	}{
		"unknown field":   {map[string]map[string]string{"share_typ": {"1": "none"}}, "share_typ: is not a coded field"},
		"unknown meaning": {map[string]map[string]string{FieldShareType: {"1": "sometimes"}}, `has no meaning "sometimes"`},
		"two meanings":    {map[string]map[string]string{FieldShareType: {"1": "none", "2": "none"}}, `means "none", as "1" does`},
		"no codes":        {map[string]map[string]string{FieldGrade: {}}, "needs 1 to 64 codes"},
	} {
		if _, err := NewCodeTable("x", tt.fields); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, err := codeTableOf(Canonical().Message())
	if err != nil || a.ID() != Canonical().ID() {
		t.Errorf("a table does not survive its message: %v", err)
	}
	m := Canonical().Message()
	m.Codes = append(m.Codes, m.Codes[0])
	if _, err := codeTableOf(m); Rule(err) != RuleCodeTable {
		t.Errorf("a code with two meanings: %v", err)
	}
	if c, err := Canonical().Code(FieldFormat, "database table"); err != nil || c != "0200" {
		t.Errorf("%q %v", c, err)
	}
	if ShareType(0).String() != "unknown" {
		t.Error("the zero share type has a meaning")
	}
}
