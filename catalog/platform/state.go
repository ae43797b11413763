package platform

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/store"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// Keys of the store. Codes hold slashes, so they are escaped.
//
//	party/<id>            Party
//	invite/<digest>       invite
//	roster                Signed, in pieces
//	head/<code>           entryHead
//	entry/<code>/<n>      Signed
//	request/<id>          request
//	decision/<id>/<party> Signed
//	grant/<id>            Signed, in pieces
//	granthead/<id>        grantHead
//	status/<subject>/<id> Signed
//	seq/grant             number of the last grant

type entryHead struct {
	Version   int64
	Provider  string
	Withdrawn bool
	Revoked   bool
	Reason    string `json:",omitempty"`
	Digest    []byte // of the newest version's payload
}

type request struct {
	Signed  []byte // signv1.Signed, as it came
	State   catalogv1.RequestState
	Reason  string `json:",omitempty"`
	GrantID string `json:",omitempty"`
	Filed   time.Time
}

type grantHead struct {
	Request string
	Digest  []byte
	Revoked bool
	Reason  string `json:",omitempty"`
	Until   time.Time
}

type invite struct {
	Party   string
	Name    string
	Expires time.Time
	UsedBy  []byte `json:",omitempty"` // public key
}

// tx is one transaction on the platform's state, at one time.
type tx struct {
	*store.Tx
	s   *Server
	now time.Time
	// roster is the one issued in this transaction; it becomes the server's
	// when the transaction is durable.
	roster *catalog.Roster
}

// update runs f with the right to write; what it did is durable on return.
func update[T any](s *Server, f func(*tx) (T, error)) (T, error) {
	s.write.Lock()
	defer s.write.Unlock()
	var v T
	var t *tx
	err := s.store.Update(func(x *store.Tx) (err error) {
		t = &tx{Tx: x, s: s, now: s.opt.Now()}
		v, err = f(t)
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	if t.roster != nil {
		s.roster.Store(t.roster)
	}
	return v, nil
}

// view runs f on a snapshot.
func (s *Server) view(f func(*tx) error) error {
	return s.store.View(func(x *store.Tx) error { return f(&tx{Tx: x, s: s, now: s.opt.Now()}) })
}

// current is the roster to verify by.
func (t *tx) current() *catalog.Roster {
	if t.roster != nil {
		return t.roster
	}
	return t.s.roster.Load()
}

func esc(s string) string { return url.PathEscape(s) }

func entryKey(code string, version int64) string {
	return fmt.Sprintf("entry/%s/%019d", esc(code), version)
}

func (t *tx) getJSON(key string, v any) error {
	b, err := t.Get(key)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("platform: record %s is damaged: %w", key, err)
	}
	return nil
}

func (t *tx) putJSON(key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("platform: %w", err)
	}
	return t.Put(key, b)
}

func (t *tx) getProto(key string, m proto.Message) error {
	b, err := t.Get(key)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("platform: record %s is damaged: %w", key, err)
	}
	return nil
}

func (t *tx) putProto(key string, m proto.Message) error {
	b, err := catalog.Encode(m)
	if err != nil {
		return err
	}
	return t.Put(key, b)
}

// pieceSize keeps a piece below the store's bound on values.
const pieceSize = 200 << 10

// putPieces stores what may be larger than one value: the number of pieces
// under key, each piece under the key with its number.
func (t *tx) putPieces(key string, m proto.Message) error {
	b, err := catalog.Encode(m)
	if err != nil {
		return err
	}
	n := 0
	for rest := b; len(rest) > 0; n++ {
		piece := rest[:min(len(rest), pieceSize)]
		rest = rest[len(piece):]
		if err := t.Put(key+"/piece/"+strconv.Itoa(n), piece); err != nil {
			return err
		}
	}
	return t.Put(key, binary.AppendUvarint(nil, uint64(n)))
}

func (t *tx) getPieces(key string, m proto.Message) error {
	b, err := t.Get(key)
	if err != nil {
		return err
	}
	n, _ := binary.Uvarint(b)
	var all []byte
	for i := range n {
		piece, err := t.Get(key + "/piece/" + strconv.FormatUint(i, 10))
		if err != nil {
			return err
		}
		all = append(all, piece...)
	}
	if err := proto.Unmarshal(all, m); err != nil {
		return fmt.Errorf("platform: record %s is damaged: %w", key, err)
	}
	return nil
}

// fresh says whether a statement may be handed out again: it must have half
// its life before it, so that what a node receives lasts a while.
func (t *tx) fresh(issued *timestamppb.Timestamp) bool {
	age := t.now.Sub(issued.AsTime())
	return age >= 0 && age < t.s.cfg.life()/2
}

// issueRoster returns the roster, renewed where it is due or force is set.
func (t *tx) issueRoster(force bool) (*signv1.Signed, error) {
	last := new(signv1.Signed)
	var m catalogv1.Roster
	switch err := t.getPieces("roster", last); {
	case err == nil:
		if err := proto.Unmarshal(last.Payload, &m); err != nil {
			return nil, fmt.Errorf("platform: the stored roster is damaged: %w", err)
		}
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	if !force && m.Version > 0 && t.fresh(m.Issued) {
		return last, nil
	}
	next := &catalogv1.Roster{
		Version:   m.Version + 1,
		Issued:    timestamppb.New(t.now),
		Expires:   timestamppb.New(t.now.Add(t.s.cfg.life())),
		CodeTable: t.s.table.Message(),
	}
	for item, err := range t.Scan("party/") {
		if err != nil {
			return nil, err
		}
		p := new(catalogv1.Party)
		if err := proto.Unmarshal(item.Value, p); err != nil {
			return nil, fmt.Errorf("platform: record %s is damaged: %w", item.Key, err)
		}
		next.Parties = append(next.Parties, p)
	}
	signed, err := catalog.SignRoster(t.s.key, next)
	if err != nil {
		return nil, err
	}
	if t.roster, err = catalog.VerifyRoster(signed, t.s.key.Public(), nil, t.now); err != nil {
		return nil, fmt.Errorf("platform: the new roster: %w", err)
	}
	return signed, t.putPieces("roster", signed)
}

// issueStatus returns the status of a subject, renewed where it is due or
// where it says something new.
func (t *tx) issueStatus(subject catalogv1.Subject, id string, digest []byte, state catalogv1.State, reason string) (*signv1.Signed, error) {
	key := fmt.Sprintf("status/%d/%s", subject, esc(id))
	last := new(signv1.Signed)
	var m catalogv1.Status
	switch err := t.getProto(key, last); {
	case err == nil:
		if err := proto.Unmarshal(last.Payload, &m); err != nil {
			return nil, fmt.Errorf("platform: record %s is damaged: %w", key, err)
		}
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	if m.Version > 0 && t.fresh(m.Issued) && m.State == state && m.Reason == reason && bytes.Equal(m.Digest, digest) {
		return last, nil
	}
	signed, err := catalog.SignStatus(t.s.key, &catalogv1.Status{
		Subject: subject,
		Id:      id,
		Digest:  digest,
		Version: m.Version + 1,
		State:   state,
		Reason:  reason,
		Issued:  timestamppb.New(t.now),
		Expires: timestamppb.New(t.now.Add(t.s.cfg.life())),
	})
	if err != nil {
		return nil, err
	}
	return signed, t.putProto(key, signed)
}

// entryStatus issues the status of an entry's newest version.
func (t *tx) entryStatus(code string) (*signv1.Signed, error) {
	h, err := t.head(code)
	if err != nil {
		return nil, err
	}
	state, reason := catalogv1.State_STATE_CURRENT, ""
	switch {
	case h.Revoked:
		state, reason = catalogv1.State_STATE_REVOKED, h.Reason
	case h.Withdrawn:
		state, reason = catalogv1.State_STATE_REVOKED, "withdrawn by "+h.Provider
	}
	return t.issueStatus(catalogv1.Subject_SUBJECT_ENTRY, code, h.Digest, state, reason)
}

// grantStatus issues the status of a grant.
func (t *tx) grantStatus(id string, h grantHead) (*signv1.Signed, error) {
	state, reason := catalogv1.State_STATE_CURRENT, ""
	switch {
	case h.Revoked:
		state, reason = catalogv1.State_STATE_REVOKED, h.Reason
	case !t.now.Before(h.Until):
		state = catalogv1.State_STATE_EXPIRED
	}
	return t.issueStatus(catalogv1.Subject_SUBJECT_GRANT, id, h.Digest, state, reason)
}

func (t *tx) head(code string) (entryHead, error) {
	var h entryHead
	err := t.getJSON("head/"+esc(code), &h)
	if errors.Is(err, store.ErrNotFound) {
		err = catalog.Refuse(catalog.RuleNotFound, "there is no entry %.64q", code)
	}
	return h, err
}

// entry reads one version, verified as nodes will verify it.
func (t *tx) entry(code string, version int64) (*signv1.Signed, *catalog.Entry, error) {
	signed := new(signv1.Signed)
	err := t.getProto(entryKey(code, version), signed)
	if errors.Is(err, store.ErrNotFound) {
		err = catalog.Refuse(catalog.RuleNotFound, "there is no entry %.64q version %d", code, version)
	}
	if err != nil {
		return nil, nil, err
	}
	e, err := catalog.VerifyEntry(signed, t.current())
	return signed, e, err
}

// registerEntry takes a new version of an entry from its provider.
func (t *tx) registerEntry(caller string, signed *signv1.Signed) (*signv1.Signed, error) {
	e, err := catalog.VerifyEntry(signed, t.current())
	if err != nil {
		return nil, err
	}
	if e.Provider() != caller {
		return nil, catalog.Refuse(catalog.RuleNotYours, "the entry is in the name of %s", e.Provider())
	}
	if e.Message().Published.AsTime().After(t.now.Add(catalog.ClockSkew)) {
		return nil, catalog.Refuse(catalog.RuleNotYetValid, "the entry is dated in the future: compare clocks")
	}
	switch h, err := t.head(e.Code()); {
	case catalog.Rule(err) == catalog.RuleNotFound:
	case err != nil:
		return nil, err
	case h.Provider != caller:
		// One authoritative source per datum.
		return nil, catalog.Refuse(catalog.RuleNotYours, "entry %s belongs to another provider", e.Code())
	case h.Version == e.Version() && bytes.Equal(h.Digest, e.Digest()):
		return t.entryStatus(e.Code()) // the same again
	case e.Version() <= h.Version:
		return nil, catalog.Refuse(catalog.RuleVersion, "entry %s is at version %d, so the next is at least %d", e.Code(), h.Version, h.Version+1)
	}
	// Keep the provider's signature alone: other signatures mean nothing here.
	clean := &signv1.Signed{Payload: signed.Payload, Signatures: []*signv1.Signature{suite.Find(signed, caller)}}
	if err := t.putProto(entryKey(e.Code(), e.Version()), clean); err != nil {
		return nil, err
	}
	h := entryHead{Version: e.Version(), Provider: caller, Withdrawn: e.Withdrawn(), Digest: e.Digest()}
	if err := t.putJSON("head/"+esc(e.Code()), h); err != nil {
		return nil, err
	}
	return t.entryStatus(e.Code())
}

// revokeEntry marks the newest version of an entry as not to be used. Its
// provider may register a corrected version.
func (t *tx) revokeEntry(code, reason string) (*signv1.Signed, error) {
	h, err := t.head(code)
	if err != nil {
		return nil, err
	}
	if !h.Revoked {
		h.Revoked, h.Reason = true, reason
		if err := t.putJSON("head/"+esc(code), h); err != nil {
			return nil, err
		}
	}
	return t.entryStatus(code)
}

// newest returns the newest version of the entry whose head item is, or nil
// for one that is no longer offered.
func (t *tx) newest(item store.Item) (*signv1.Signed, error) {
	var h entryHead
	if err := json.Unmarshal(item.Value, &h); err != nil {
		return nil, fmt.Errorf("platform: record %s is damaged: %w", item.Key, err)
	}
	if h.Withdrawn || h.Revoked {
		return nil, nil
	}
	signed := new(signv1.Signed)
	// The head's key ends with the code as entry keys escape it.
	key := fmt.Sprintf("entry/%s/%019d", strings.TrimPrefix(item.Key, "head/"), h.Version)
	return signed, t.getProto(key, signed)
}

// parse reads a request that a scan came upon.
func (t *tx) parse(item store.Item) (*filing, error) {
	f := new(filing)
	if err := json.Unmarshal(item.Value, &f.request); err != nil {
		return nil, fmt.Errorf("platform: record %s is damaged: %w", item.Key, err)
	}
	return f, f.open(t)
}
