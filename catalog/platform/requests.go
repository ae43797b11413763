package platform

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/store"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

const (
	draft     = catalogv1.RequestState_REQUEST_STATE_DRAFT
	submitted = catalogv1.RequestState_REQUEST_STATE_SUBMITTED
	accepted  = catalogv1.RequestState_REQUEST_STATE_ACCEPTED
	granted   = catalogv1.RequestState_REQUEST_STATE_GRANTED
	refused   = catalogv1.RequestState_REQUEST_STATE_REFUSED
	revoked   = catalogv1.RequestState_REQUEST_STATE_REVOKED
	expired   = catalogv1.RequestState_REQUEST_STATE_EXPIRED
)

// filing is a request with everything the state machine looks at.
type filing struct {
	request
	signed *signv1.Signed
	m      *catalogv1.Request
	digest []byte
}

// load reads a request and lets time have passed.
func (t *tx) load(id string) (*filing, error) {
	f := new(filing)
	err := t.getJSON("request/"+esc(id), &f.request)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound(id)
	}
	if err != nil {
		return nil, err
	}
	return f, f.open(t)
}

func (f *filing) open(t *tx) error {
	f.signed, f.m = new(signv1.Signed), new(catalogv1.Request)
	if err := proto.Unmarshal(f.request.Signed, f.signed); err != nil {
		return fmt.Errorf("platform: a stored request is damaged: %w", err)
	}
	if err := proto.Unmarshal(f.signed.Payload, f.m); err != nil {
		return fmt.Errorf("platform: a stored request is damaged: %w", err)
	}
	f.digest = suite.Digest(f.signed.Payload)
	switch f.State {
	case draft, submitted, accepted, granted:
		if !t.now.Before(f.m.Limits.ValidUntil.AsTime()) {
			f.State = expired
		}
	}
	return nil
}

func (t *tx) save(f *filing) error { return t.putJSON("request/"+esc(f.m.Id), f.request) }

// notFound is the same for a request that is not there and one that the caller
// may not see.
func notFound(id string) error {
	return catalog.Refuse(catalog.RuleNotFound, "there is no request %.64q for this caller", id)
}

// concerns says whether party may see the request.
func (f *filing) concerns(party string) bool {
	if f.m.Requester == party {
		return true
	}
	if f.State == draft {
		return false
	}
	for _, c := range f.m.Computations {
		for _, b := range c.Roles {
			if b.Party == party {
				return true
			}
		}
	}
	return false // recipients and providers all take part in a computation
}

// check is the formal check: everything that must hold before people decide.
func (t *tx) check(m *catalogv1.Request, signed *signv1.Signed) error {
	roster := t.current()
	for _, c := range m.Computations {
		for _, b := range c.Roles {
			if _, err := roster.Active(b.Party); err != nil {
				return err
			}
		}
	}
	if _, err := roster.Active(m.Requester); err != nil {
		return err
	}
	if !t.now.Before(m.Limits.ValidUntil.AsTime()) {
		return catalog.Refuse(catalog.RuleGrantExpired, "limits.valid_until of request %s is past", m.Id)
	}
	if m.Created.AsTime().After(t.now.Add(catalog.ClockSkew)) {
		return catalog.Refuse(catalog.RuleNotYetValid, "the request is dated in the future: compare clocks")
	}
	size := proto.Size(signed)
	for _, u := range m.Uses {
		h, err := t.head(u.Entry)
		if err != nil {
			return err
		}
		switch {
		case h.Revoked || h.Withdrawn:
			return catalog.Refuse(catalog.RuleEntryRevoked, "entry %s is no longer offered", u.Entry)
		case h.Version > u.Version:
			return catalog.Refuse(catalog.RuleEntrySuperseded, "entry %s is at version %d, the request names %d", u.Entry, h.Version, u.Version)
		}
		es, e, err := t.entry(u.Entry, u.Version)
		if err != nil {
			return err
		}
		if err := catalog.CheckUse(u, e, m); err != nil {
			return err
		}
		size += proto.Size(es)
	}
	// Leave room for the approvals.
	if size > catalog.MaxGrant*3/4 {
		return catalog.Refuse(catalog.RuleTooLarge, "the grant would be too large: use fewer entries in one request")
	}
	return nil
}

// file takes a request from its requester.
func (t *tx) file(caller string, signed *signv1.Signed, asDraft bool) (*filing, error) {
	m, err := catalog.VerifyRequest(signed, t.current())
	if err != nil {
		return nil, err
	}
	if m.Requester != caller {
		return nil, catalog.Refuse(catalog.RuleNotYours, "the request is in the name of %s", m.Requester)
	}
	// A request stays the bytes that were signed: the same again is answered
	// with what became of it, other bytes may replace a draft alone.
	switch was, err := t.load(m.Id); {
	case catalog.Rule(err) == catalog.RuleNotFound:
	case err != nil:
		return nil, err
	case was.m.Requester != caller:
		return nil, catalog.Refuse(catalog.RuleExists, "request ID %s is taken", m.Id)
	case bytes.Equal(was.signed.Payload, signed.Payload) && (was.State != draft || asDraft):
		return was, nil
	case was.State != draft:
		return nil, catalog.Refuse(catalog.RuleExists, "request %s has been submitted already: choose another ID", m.Id)
	}
	if err := t.check(m, signed); err != nil {
		return nil, err
	}
	clean := &signv1.Signed{Payload: signed.Payload, Signatures: []*signv1.Signature{suite.Find(signed, caller)}}
	raw, err := catalog.Encode(clean)
	if err != nil {
		return nil, err
	}
	f := &filing{request: request{Signed: raw, State: draft, Filed: t.now}, signed: clean, m: m, digest: suite.Digest(clean.Payload)}
	if asDraft {
		return f, t.save(f)
	}
	return f, t.submit(f)
}

// submit takes a draft out of its requester's hands.
func (t *tx) submit(f *filing) error {
	if f.State != draft {
		return catalog.Refuse(catalog.RuleState, "request %s is %s, not a draft", f.m.Id, word(f.State))
	}
	if err := t.check(f.m, f.signed); err != nil {
		return err
	}
	f.State = submitted
	if t.s.cfg.AutoAccept {
		f.State = accepted
		return t.advance(f)
	}
	return t.save(f)
}

// review is the platform's own decision on a submitted request.
func (t *tx) review(f *filing, accept bool, reason string) error {
	switch {
	case f.State != submitted:
		return catalog.Refuse(catalog.RuleState, "request %s is %s, not submitted", f.m.Id, word(f.State))
	case !accept && reason == "":
		return catalog.Refuse(catalog.RuleReason, "a refusal states its reason")
	case !accept:
		f.State, f.Reason = refused, suite.Platform+": "+reason
		return t.save(f)
	}
	f.State = accepted
	return t.advance(f)
}

// deciders are the providers whose approval the request needs, in order.
func (t *tx) deciders(f *filing) ([]string, error) {
	var ids []string
	for _, u := range f.m.Uses {
		_, e, err := t.entry(u.Entry, u.Version)
		if err != nil {
			return nil, err
		}
		if e.ShareType() != catalog.ShareUnconditional && !slices.Contains(ids, e.Provider()) {
			ids = append(ids, e.Provider())
		}
	}
	return ids, nil
}

func decisionKey(id, party string) string { return "decision/" + esc(id) + "/" + party }

// decisions returns what has been decided, by party in order.
func (t *tx) decisions(f *filing) ([]*signv1.Signed, error) {
	var ds []*signv1.Signed
	for item, err := range t.Scan(decisionKey(f.m.Id, "")) {
		if err != nil {
			return nil, err
		}
		d := new(signv1.Signed)
		if err := proto.Unmarshal(item.Value, d); err != nil {
			return nil, fmt.Errorf("platform: record %s is damaged: %w", item.Key, err)
		}
		ds = append(ds, d)
	}
	return ds, nil
}

// awaiting returns the deciders that have not decided yet.
func (t *tx) awaiting(f *filing) ([]string, error) {
	ids, err := t.deciders(f)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, id := range ids {
		switch _, err := t.Get(decisionKey(f.m.Id, id)); {
		case errors.Is(err, store.ErrNotFound):
			missing = append(missing, id)
		case err != nil:
			return nil, err
		}
	}
	return missing, nil
}

// decide takes a provider's word on a request.
func (t *tx) decide(f *filing, caller string, signed *signv1.Signed) error {
	d, err := catalog.VerifyDecision(signed, t.current(), f.m.Id, f.digest)
	switch {
	case err != nil:
		return err
	case d.Party != caller:
		return catalog.Refuse(catalog.RuleNotYours, "the decision is in the name of %s", d.Party)
	case !d.Approved && d.Reason == "":
		return catalog.Refuse(catalog.RuleReason, "a refusal states its reason")
	case d.Decided.AsTime().After(t.now.Add(catalog.ClockSkew)):
		return catalog.Refuse(catalog.RuleNotYetValid, "the decision is dated in the future: compare clocks")
	case f.State != accepted && !(f.State == granted && !d.Approved):
		if f.State == granted {
			if _, err := t.Get(decisionKey(f.m.Id, caller)); err == nil {
				return nil // the same approval again
			}
		}
		if f.State == submitted {
			return catalog.Refuse(catalog.RuleState, "request %s waits for the platform to accept it, and is decided after that", f.m.Id)
		}
		return catalog.Refuse(catalog.RuleState, "request %s is %s: it cannot be decided", f.m.Id, word(f.State))
	}
	ids, err := t.deciders(f)
	if err != nil {
		return err
	}
	if !slices.Contains(ids, caller) {
		return catalog.Refuse(catalog.RuleState, "request %s does not need %s's decision", f.m.Id, caller)
	}
	key := decisionKey(f.m.Id, caller)
	if _, err := t.Get(key); err == nil && d.Approved {
		return nil // the first approval stands
	}
	clean := &signv1.Signed{Payload: signed.Payload, Signatures: []*signv1.Signature{suite.Find(signed, caller)}}
	if err := t.putProto(key, clean); err != nil {
		return err
	}
	switch reason := caller + ": " + d.Reason; {
	case d.Approved:
		return t.advance(f)
	case f.State == granted:
		_, err := t.revokeGrant(f, reason)
		return err
	default:
		f.State, f.Reason = refused, reason
		return t.save(f)
	}
}

// advance grants an accepted request once nothing is missing.
func (t *tx) advance(f *filing) error {
	missing, err := t.awaiting(f)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return t.save(f)
	}
	// The world may have moved on while people decided.
	if err := t.check(f.m, f.signed); err != nil {
		var rule *catalog.RuleError
		if !errors.As(err, &rule) {
			return err
		}
		f.State, f.Reason = refused, suite.Platform+": "+rule.Text
		return t.save(f)
	}
	return t.grant(f)
}

// grant signs the grant with everything that proves it.
func (t *tx) grant(f *filing) error {
	id, err := t.nextGrant()
	if err != nil {
		return err
	}
	g := &catalogv1.Grant{Id: id, Request: f.signed, Issued: timestamppb.New(t.now)}
	for _, u := range f.m.Uses {
		signed, _, err := t.entry(u.Entry, u.Version)
		if err != nil {
			return err
		}
		g.Entries = append(g.Entries, signed)
	}
	if g.Approvals, err = t.decisions(f); err != nil {
		return err
	}
	signed, err := catalog.SignGrant(t.s.key, g)
	if err != nil {
		return err
	}
	if len(signed.Payload) > catalog.MaxGrant {
		return catalog.Refuse(catalog.RuleTooLarge, "the grant would be too large: use fewer entries in one request")
	}
	f.State, f.GrantID = granted, id
	h := grantHead{Request: f.m.Id, Digest: suite.Digest(signed.Payload), Until: f.m.Limits.ValidUntil.AsTime()}
	if err := t.putPieces("grant/"+id, signed); err != nil {
		return err
	}
	if err := t.putJSON("granthead/"+id, h); err != nil {
		return err
	}
	return t.save(f)
}

func (t *tx) nextGrant() (string, error) {
	var n uint64
	switch b, err := t.Get("seq/grant"); {
	case err == nil:
		n, _ = binary.Uvarint(b)
	case !errors.Is(err, store.ErrNotFound):
		return "", err
	}
	n++
	return fmt.Sprintf("G-%d-%04d", t.now.UTC().Year(), n), t.Put("seq/grant", binary.AppendUvarint(nil, n))
}

func (t *tx) grantHead(id string) (grantHead, error) {
	var h grantHead
	err := t.getJSON("granthead/"+esc(id), &h)
	if errors.Is(err, store.ErrNotFound) {
		err = noGrant(id)
	}
	return h, err
}

func noGrant(id string) error {
	return catalog.Refuse(catalog.RuleNotFound, "there is no grant %.64q for this caller", id)
}

// revokeGrant ends a grant; its status says so at once.
func (t *tx) revokeGrant(f *filing, reason string) (*signv1.Signed, error) {
	h, err := t.grantHead(f.GrantID)
	if err != nil {
		return nil, err
	}
	if !h.Revoked {
		h.Revoked, h.Reason = true, reason
		f.State, f.Reason = revoked, reason
		if err := errors.Join(t.putJSON("granthead/"+f.GrantID, h), t.save(f)); err != nil {
			return nil, err
		}
	}
	return t.grantStatus(f.GrantID, h)
}

// show is the request as its parties and the platform's staff see it.
func (t *tx) show(f *filing) (*catalogv1.RequestView, error) {
	v := &catalogv1.RequestView{Request: f.signed, State: f.State, Reason: f.Reason, GrantId: f.GrantID}
	var err error
	if v.Decisions, err = t.decisions(f); err != nil {
		return nil, err
	}
	if f.State == accepted {
		if v.Awaiting, err = t.awaiting(f); catalog.Rule(err) != "" {
			err = nil // an entry's provider has new keys: nobody is awaited any more
		}
	}
	return v, err
}

func word(s catalogv1.RequestState) string {
	switch s {
	case draft:
		return "a draft"
	case submitted:
		return "submitted"
	case accepted:
		return "accepted"
	case granted:
		return "granted"
	case refused:
		return "refused"
	case revoked:
		return "revoked"
	case expired:
		return "expired"
	}
	return "in no known state"
}
