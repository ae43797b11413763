package catalog

import (
	"bytes"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// Limits of a grant.
type Limits struct {
	MaxRuns         int64
	MinIntersection int64 // 0: none
	MinBeforeReveal bool
	Release         rules.Set // of released statistics
	ValidFrom       time.Time
	ValidUntil      time.Time // not valid at this instant any more
}

// Computation is one job kind that a grant allows.
type Computation struct {
	Kind        string
	Roles       []RoleBinding
	Permissions []string
}

// RoleBinding is a party in a role.
type RoleBinding struct {
	Party string
	Role  string
}

// Role returns the role of a party, or "".
func (c Computation) Role(party string) string {
	for _, b := range c.Roles {
		if b.Party == party {
			return b.Role
		}
	}
	return ""
}

// Allows reports whether the computation lists a permission.
func (c Computation) Allows(permission string) bool {
	return slices.Contains(c.Permissions, permission)
}

// Grant is the platform's verified decision on a request. It is immutable, and
// holds all that admission, handshake and release need to know.
type Grant struct {
	id      string
	digest  []byte
	signed  *signv1.Signed
	issued  time.Time
	request *catalogv1.Request
	reqDig  []byte
	entries []*Entry // in the order of the request's uses
	parties []string
}

// VerifyGrant checks a grant and everything that must stand behind it:
//
//   - the platform's signature over the grant, and the requester's over the
//     request in it, which follows the rules for requests;
//   - for every entry used, its provider's signed registration in exactly the
//     version the request names, with the items asked for;
//   - share types: 3 never; 2 with the provider's signed approval of exactly
//     this request; 1 by its registration alone;
//   - that every party named is on the roster and not suspended;
//   - the grant's dates, and the platform's statuses: of the grant, and of
//     every entry in entryStatuses, each signed, live, not older than one seen
//     before, and about these very bytes.
//
// seen may be nil. A refusal is a RuleError.
func VerifyGrant(signed, status *signv1.Signed, entryStatuses []*signv1.Signed, roster *Roster, seen Seen, now time.Time) (*Grant, error) {
	g, err := verifyDocument(signed, roster)
	if err != nil {
		return nil, err
	}
	if g.issued.After(now.Add(ClockSkew)) {
		return nil, Refuse(RuleNotYetValid, "grant %s was issued in the future: compare this clock with the platform's", g.id)
	}
	if err := fresh(roster.issued, roster.expires, now); err != nil {
		return nil, Refuse(RuleRosterStale, "the roster %v", err)
	}
	if err := g.checkParties(roster); err != nil {
		return nil, err
	}
	if err := g.checkStatus(status, roster, seen, now); err != nil {
		return nil, err
	}
	if err := g.checkEntryStatuses(entryStatuses, roster, seen, now, true); err != nil {
		return nil, err
	}
	if err := g.CheckDates(now); err != nil {
		return nil, err
	}
	return g, nil
}

// verifyDocument checks all that does not depend on the time.
func verifyDocument(signed *signv1.Signed, roster *Roster) (*Grant, error) {
	if err := checkSigned(signed, "grant"); err != nil {
		return nil, err
	}
	if suite.Verify(suite.Platform, suite.Std, roster.platform, suite.ContextGrant, signed.Payload, suite.Find(signed, suite.Platform)) != nil {
		return nil, alarm(RuleGrantSignature, "the grant is not signed by the pinned platform key")
	}
	var m catalogv1.Grant
	if err := Decode(signed.Payload, &m); err != nil {
		return nil, err
	}
	if !requestPattern.MatchString(m.Id) || m.Issued.CheckValid() != nil {
		return nil, Refuse(RuleGrant, "the grant lacks its ID or date")
	}
	g := &Grant{id: m.Id, digest: suite.Digest(signed.Payload), signed: proto.CloneOf(signed), issued: m.Issued.AsTime()}
	var err error
	if g.request, err = VerifyRequest(m.Request, roster); err != nil {
		return nil, err
	}
	g.reqDig = suite.Digest(m.Request.Payload)
	if err := g.takeEntries(m.Entries, roster); err != nil {
		return nil, err
	}
	if err := g.checkConsent(m.Approvals, roster); err != nil {
		return nil, err
	}
	for _, c := range g.request.Computations {
		for _, b := range c.Roles {
			g.parties = append(g.parties, b.Party)
		}
	}
	slices.Sort(g.parties)
	g.parties = slices.Compact(g.parties)
	return g, nil
}

// VerifyRequest checks a request: its requester's signature and its rules.
func VerifyRequest(signed *signv1.Signed, roster *Roster) (*catalogv1.Request, error) {
	if err := checkSigned(signed, "request"); err != nil {
		return nil, err
	}
	m := new(catalogv1.Request)
	if err := Decode(signed.Payload, m); err != nil {
		return nil, err
	}
	if err := roster.verifyBy(m.Requester, suite.ContextRequest, signed, RuleRequestSignature); err != nil {
		return nil, err
	}
	if err := ValidateRequest(m); err != nil {
		return nil, err
	}
	return m, nil
}

// takeEntries verifies the registrations in the grant and holds the request's
// uses to them, one for one.
func (g *Grant) takeEntries(signed []*signv1.Signed, roster *Roster) error {
	if len(signed) != len(g.request.Uses) {
		return alarm(RuleEntryMismatch, "grant %s holds %d registrations for %d entries used", g.id, len(signed), len(g.request.Uses))
	}
	for i, u := range g.request.Uses {
		e, err := VerifyEntry(signed[i], roster)
		if err != nil {
			return err
		}
		if e.Code() != u.Entry || e.Version() != u.Version {
			return alarm(RuleEntryMismatch, "grant %s holds entry %s version %d where the request names %s version %d",
				g.id, e.Code(), e.Version(), u.Entry, u.Version)
		}
		if err := CheckUse(u, e, g.request); err != nil {
			return err
		}
		g.entries = append(g.entries, e)
	}
	return nil
}

// CheckUse holds one use of a request to the entry it names: it must not be
// withdrawn, it must be shareable, it must have the items, and its provider
// must take part.
func CheckUse(u *catalogv1.Use, e *Entry, r *catalogv1.Request) error {
	switch {
	case e.Withdrawn():
		return Refuse(RuleEntryRevoked, "entry %s has been withdrawn by %s", e.Code(), e.Provider())
	case e.ShareType() != ShareUnconditional && e.ShareType() != ShareConditional:
		return Refuse(RuleShareType, "entry %s is not to be shared (share type %q, %s): no grant can cover it",
			e.Code(), e.m.ShareType, e.ShareType())
	}
	for _, name := range u.Items {
		if _, ok := e.Item(name); !ok {
			return Refuse(RuleItems, "entry %s version %d has no item %q", e.Code(), e.Version(), clip(name))
		}
	}
	for _, c := range r.Computations {
		for _, b := range c.Roles {
			if b.Party == e.Provider() {
				return nil
			}
		}
	}
	return Refuse(RuleRequest, "entry %s is held by %s, which takes part in no computation of the request", e.Code(), e.Provider())
}

// VerifyDecision checks that signed is party's decision on the request with
// this digest.
func VerifyDecision(signed *signv1.Signed, roster *Roster, requestID string, requestDigest []byte) (*catalogv1.Decision, error) {
	if err := checkSigned(signed, "decision"); err != nil {
		return nil, err
	}
	d := new(catalogv1.Decision)
	if err := Decode(signed.Payload, d); err != nil {
		return nil, err
	}
	if err := roster.verifyBy(d.Party, suite.ContextDecision, signed, RuleApprovalForged); err != nil {
		return nil, err
	}
	if !sameBytes(d.RequestDigest, requestDigest) || d.RequestId != requestID {
		return nil, alarm(RuleApprovalForged, "%s's decision is about another request than %s", d.Party, clip(requestID))
	}
	var f faults
	f.text("person", d.Person, 1, maxShort)
	f.text("reason", d.Reason, 0, maxLong)
	f.time("decided", d.Decided)
	if err := f.err("decision"); err != nil {
		return nil, Refuse(RuleMalformed, "%v", err)
	}
	return d, nil
}

// checkConsent looks for the approval of every provider of a conditionally
// shared entry. Anything in approvals that is not an approval of this request
// is refused, needed or not.
func (g *Grant) checkConsent(approvals []*signv1.Signed, roster *Roster) error {
	if len(approvals) > maxUses {
		return Refuse(RuleTooLarge, "grant %s holds more than %d approvals", g.id, maxUses)
	}
	var approved []string
	for _, a := range approvals {
		d, err := VerifyDecision(a, roster, g.request.Id, g.reqDig)
		if err != nil {
			return err
		}
		if !d.Approved {
			return alarm(RuleApprovalMissing, "grant %s holds %s's refusal", g.id, d.Party)
		}
		approved = append(approved, d.Party)
	}
	for _, e := range g.entries {
		if e.ShareType() == ShareConditional && !slices.Contains(approved, e.Provider()) {
			return alarm(RuleApprovalMissing, "grant %s lacks %s's signed approval, which entry %s needs", g.id, e.Provider(), e.Code())
		}
	}
	return nil
}

// checkParties asks for every party that takes part or receives.
func (g *Grant) checkParties(roster *Roster) error {
	for _, id := range append(g.Parties(), g.request.Requester) {
		if _, err := roster.Active(id); err != nil {
			return err
		}
	}
	return nil // recipients take part, providers too: ValidateRequest and CheckUse
}

func (g *Grant) checkStatus(signed *signv1.Signed, roster *Roster, seen Seen, now time.Time) error {
	s, err := verifyStatus(signed, roster, seen, now, catalogv1.Subject_SUBJECT_GRANT, g.id)
	if err != nil {
		return err
	}
	switch {
	case !sameBytes(s.Digest, g.digest):
		return alarm(RuleStatusMismatch, "the status of grant %s is about other bytes", g.id)
	case s.State == catalogv1.State_STATE_CURRENT:
		return nil
	case s.State == catalogv1.State_STATE_REVOKED:
		return Refuse(RuleGrantRevoked, "grant %s has been revoked%s", g.id, because(s.Reason))
	case s.State == catalogv1.State_STATE_EXPIRED:
		return Refuse(RuleGrantExpired, "grant %s has expired", g.id)
	}
	return Refuse(RuleStatusMismatch, "the status of grant %s is not one a grant can have", g.id)
}

// checkEntryStatuses asks for every entry. With strict unset, an entry with a
// newer version is let pass: a run that began on the older one may end on it.
func (g *Grant) checkEntryStatuses(signed []*signv1.Signed, roster *Roster, seen Seen, now time.Time, strict bool) error {
	if len(signed) != len(g.entries) {
		return Refuse(RuleStatusStale, "grant %s comes with %d entry statuses for %d entries", g.id, len(signed), len(g.entries))
	}
	for i, e := range g.entries {
		s, err := verifyStatus(signed[i], roster, seen, now, catalogv1.Subject_SUBJECT_ENTRY, e.Code())
		if err != nil {
			return err
		}
		if err := e.checkStatus(s, strict); err != nil {
			return err
		}
	}
	return nil
}

func (e *Entry) checkStatus(s *catalogv1.Status, strict bool) error {
	switch {
	case s.State == catalogv1.State_STATE_REVOKED:
		return Refuse(RuleEntryRevoked, "entry %s is no longer offered%s", e.Code(), because(s.Reason))
	case s.State == catalogv1.State_STATE_SUPERSEDED, s.State == catalogv1.State_STATE_CURRENT && !sameBytes(s.Digest, e.digest):
		if strict {
			return Refuse(RuleEntrySuperseded, "entry %s version %d has been superseded: a request for the new version is needed", e.Code(), e.Version())
		}
		return nil
	case s.State == catalogv1.State_STATE_CURRENT:
		return nil
	}
	return Refuse(RuleStatusMismatch, "the status of entry %s is not one an entry can have", e.Code())
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + clip(reason)
}

// verifyStatus checks a status by itself.
func verifyStatus(signed *signv1.Signed, roster *Roster, seen Seen, now time.Time, subject catalogv1.Subject, id string) (*catalogv1.Status, error) {
	what := "grant " + id
	key := "status/grant/" + id
	if subject == catalogv1.Subject_SUBJECT_ENTRY {
		what, key = "entry "+id, "status/entry/"+id
	}
	if signed == nil {
		return nil, Refuse(RuleStatusStale, "%s comes without a status", what)
	}
	if err := checkSigned(signed, "status"); err != nil {
		return nil, err
	}
	if suite.Verify(suite.Platform, suite.Std, roster.platform, suite.ContextStatus, signed.Payload, suite.Find(signed, suite.Platform)) != nil {
		return nil, alarm(RuleStatusSignature, "the status of %s is not signed by the pinned platform key", what)
	}
	s := new(catalogv1.Status)
	if err := Decode(signed.Payload, s); err != nil {
		return nil, err
	}
	switch {
	case s.Subject != subject || s.Id != id:
		return nil, alarm(RuleStatusMismatch, "the status that came for %s is about something else", what)
	case s.Version < 1 || s.Issued.CheckValid() != nil || s.Expires.CheckValid() != nil:
		return nil, Refuse(RuleMalformed, "the status of %s lacks its version or dates", what)
	}
	if err := fresh(s.Issued.AsTime(), s.Expires.AsTime(), now); err != nil {
		return nil, Refuse(RuleStatusStale, "the status of %s %v", what, err)
	}
	if err := raise(seen, RuleStatusRollback, key, s.Version); err != nil {
		return nil, err
	}
	return s, nil
}

// CheckDates holds now to the grant's own validity.
func (g *Grant) CheckDates(now time.Time) error {
	l := g.Limits()
	switch {
	case now.Add(ClockSkew).Before(l.ValidFrom):
		return Refuse(RuleNotYetValid, "grant %s is valid from %s", g.id, l.ValidFrom.Format(time.RFC3339))
	case !now.Before(l.ValidUntil):
		return Refuse(RuleGrantExpired, "grant %s was valid until %s", g.id, l.ValidUntil.Format(time.RFC3339))
	}
	return nil
}

// ID of the grant, for example "G-2026-0007".
func (g *Grant) ID() string { return g.id }

// Digest is the SHA-256 of the grant's signed payload.
func (g *Grant) Digest() []byte { return bytes.Clone(g.digest) }

// Signed returns a copy of the bytes the platform signed.
func (g *Grant) Signed() *signv1.Signed { return proto.CloneOf(g.signed) }

// Issued says when.
func (g *Grant) Issued() time.Time { return g.issued }

// Request returns a copy of the request that was granted.
func (g *Grant) Request() *catalogv1.Request { return proto.CloneOf(g.request) }

// RequestID of the request that was granted.
func (g *Grant) RequestID() string { return g.request.Id }

// RequestDigest is the SHA-256 of the request's signed payload.
func (g *Grant) RequestDigest() []byte { return bytes.Clone(g.reqDig) }

// Requester is the party that asked.
func (g *Grant) Requester() string { return g.request.Requester }

// Purpose of the request.
func (g *Grant) Purpose() string { return g.request.Purpose }

// Scene of the request.
func (g *Grant) Scene() string { return g.request.Scene }

// LegalBasis of the request.
func (g *Grant) LegalBasis() string { return g.request.LegalBasis }

// Person who filed the request.
func (g *Grant) Person() string { return g.request.Person }

// Computations returns every job kind allowed, in the request's order.
func (g *Grant) Computations() []Computation {
	cs := make([]Computation, len(g.request.Computations))
	for i, c := range g.request.Computations {
		cs[i] = Computation{Kind: c.Kind, Permissions: slices.Clone(c.Permissions)}
		for _, b := range c.Roles {
			cs[i].Roles = append(cs[i].Roles, RoleBinding{b.Party, b.Role})
		}
	}
	return cs
}

// Computation finds what is allowed of one job kind.
func (g *Grant) Computation(kind string) (Computation, bool) {
	for _, c := range g.Computations() {
		if c.Kind == kind {
			return c, true
		}
	}
	return Computation{}, false
}

// Entries returns the entries used, in the request's order.
func (g *Grant) Entries() []*Entry { return slices.Clone(g.entries) }

// Entry finds an entry used by its code.
func (g *Grant) Entry(code string) (*Entry, bool) {
	for _, e := range g.entries {
		if e.Code() == code {
			return e, true
		}
	}
	return nil, false
}

// Items returns the items of an entry that may be used; none for an entry that
// the grant does not cover.
func (g *Grant) Items(code string) []string {
	for _, u := range g.request.Uses {
		if u.Entry == code {
			return slices.Clone(u.Items)
		}
	}
	return nil
}

// Recipients are the parties that may receive results.
func (g *Grant) Recipients() []string { return slices.Clone(g.request.Recipients) }

// Parties are all that take part in any computation, sorted.
func (g *Grant) Parties() []string { return slices.Clone(g.parties) }

// Limits of the grant.
func (g *Grant) Limits() Limits {
	l := g.request.Limits
	return Limits{
		MaxRuns:         l.MaxRuns,
		MinIntersection: l.MinIntersection,
		MinBeforeReveal: l.MinBeforeReveal,
		Release:         ReleaseOf(l.Release),
		ValidFrom:       l.ValidFrom.AsTime(),
		ValidUntil:      l.ValidUntil.AsTime(),
	}
}
