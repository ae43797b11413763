package catalog

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// Seen remembers the highest version of every roster and status, across
// restarts. Raise returns an error that wraps ErrOlder for a version below it.
// It must be safe for concurrent use.
type Seen interface {
	Raise(key string, version int64) error
}

// raise asks seen, which may be nil.
func raise(seen Seen, rule, key string, version int64) error {
	if seen == nil {
		return nil
	}
	err := seen.Raise("catalog/"+key, version)
	if errors.Is(err, ErrOlder) {
		return alarm(rule, "%s: version %d is older than one already seen", key, version)
	}
	return err
}

// Party is one line of a roster.
type Party struct {
	ID        string
	Name      string
	Endpoint  string // host:port of the peer listener
	Suite     string
	PublicKey []byte
	Suspended bool
}

// Roster is the verified list of parties. It is immutable.
type Roster struct {
	version  int64
	issued   time.Time
	expires  time.Time
	parties  []Party
	table    *CodeTable
	platform []byte
}

// VerifyRoster checks a roster under the pinned platform key. seen may be nil.
func VerifyRoster(signed *signv1.Signed, platformKey []byte, seen Seen, now time.Time) (*Roster, error) {
	if err := checkSigned(signed, "roster"); err != nil {
		return nil, err
	}
	err := suite.Verify(suite.Platform, suite.Std, platformKey, suite.ContextRoster, signed.Payload, suite.Find(signed, suite.Platform))
	if err != nil {
		return nil, alarm(RuleRosterSignature, "the roster is not signed by the pinned platform key")
	}
	var m catalogv1.Roster
	if err := Decode(signed.Payload, &m); err != nil {
		return nil, err
	}
	if m.Version < 1 || m.Issued.CheckValid() != nil || m.Expires.CheckValid() != nil {
		return nil, Refuse(RuleRoster, "the roster lacks its version or dates")
	}
	r := &Roster{version: m.Version, issued: m.Issued.AsTime(), expires: m.Expires.AsTime(), platform: bytes.Clone(platformKey)}
	if err := fresh(r.issued, r.expires, now); err != nil {
		return nil, Refuse(RuleRosterStale, "the roster %v", err)
	}
	if r.table, err = codeTableOf(m.CodeTable); err != nil {
		return nil, err
	}
	for i, p := range m.Parties {
		if err := ValidateParty(p); err != nil {
			return nil, err
		}
		for _, q := range m.Parties[:i] {
			if p.Id == q.Id || bytes.Equal(p.PublicKey, q.PublicKey) {
				return nil, Refuse(RuleRoster, "two parties of the roster share an ID or a key")
			}
		}
		r.parties = append(r.parties, Party{p.Id, p.Name, p.Endpoint, p.Suite, p.PublicKey, p.Suspended})
	}
	if err := raise(seen, RuleRosterRollback, "roster", r.version); err != nil {
		return nil, err
	}
	return r, nil
}

func fresh(issued, expires, now time.Time) error {
	switch {
	case issued.After(now.Add(ClockSkew)):
		return errors.New("was issued in the future: compare this clock with the platform's")
	case !now.Before(expires.Add(ClockSkew)):
		return errors.New("is past its life")
	}
	return nil
}

// Version of the roster.
func (r *Roster) Version() int64 { return r.version }

// Issued says when.
func (r *Roster) Issued() time.Time { return r.issued }

// Expires says until when the roster may be used.
func (r *Roster) Expires() time.Time { return r.expires }

// CodeTable is the platform's.
func (r *Roster) CodeTable() *CodeTable { return r.table }

// PlatformKey is the key the roster was verified under.
func (r *Roster) PlatformKey() []byte { return bytes.Clone(r.platform) }

// Parties returns all parties, suspended ones too.
func (r *Roster) Parties() []Party {
	ps := slices.Clone(r.parties)
	for i := range ps {
		ps[i].PublicKey = bytes.Clone(ps[i].PublicKey)
	}
	return ps
}

// Party finds a party by its ID.
func (r *Roster) Party(id string) (Party, bool) {
	return r.find(func(p Party) bool { return p.ID == id })
}

// ByKey finds a party by its public key.
func (r *Roster) ByKey(public []byte) (Party, bool) {
	return r.find(func(p Party) bool { return bytes.Equal(p.PublicKey, public) })
}

func (r *Roster) find(is func(Party) bool) (Party, bool) {
	i := slices.IndexFunc(r.parties, is)
	if i < 0 {
		return Party{}, false
	}
	p := r.parties[i]
	p.PublicKey = bytes.Clone(p.PublicKey)
	return p, true
}

// Active finds a party that may take part: on the roster and not suspended.
func (r *Roster) Active(id string) (Party, error) {
	p, ok := r.Party(id)
	switch {
	case !ok:
		return Party{}, Refuse(RuleUnknownParty, "party %s is not on the roster", clip(id))
	case p.Suspended:
		return Party{}, Refuse(RulePartySuspended, "party %s is suspended", id)
	}
	return p, nil
}

// verifyBy checks that signed carries party's signature under its roster key.
func (r *Roster) verifyBy(party, context string, signed *signv1.Signed, rule string) error {
	p, ok := r.Party(party)
	if !ok {
		return alarm(RuleUnknownSigner, "the %s is in the name of %s, which is not on the roster", context, clip(party))
	}
	if suite.Verify(p.ID, p.Suite, p.PublicKey, context, signed.GetPayload(), suite.Find(signed, p.ID)) != nil {
		return alarm(rule, "the %s does not carry %s's signature", context, p.ID)
	}
	return nil
}

// Item is one information item of an entry.
type Item struct {
	Name        string
	Type        string // one of ItemTypes
	Description string
	Key         bool
	Grade       string // code; the entry's where the item has none
}

// Entry is a verified registration of one data resource. It is immutable.
type Entry struct {
	m      *catalogv1.Entry
	signed *signv1.Signed
	digest []byte
	share  ShareType
}

// VerifyEntry checks an entry: its provider's signature, its rules, its codes.
// Whether it is current, a status says.
func VerifyEntry(signed *signv1.Signed, roster *Roster) (*Entry, error) {
	if err := checkSigned(signed, "entry"); err != nil {
		return nil, err
	}
	m := new(catalogv1.Entry)
	if err := Decode(signed.Payload, m); err != nil {
		return nil, err
	}
	if err := roster.verifyBy(m.Provider, suite.ContextEntry, signed, RuleEntrySignature); err != nil {
		return nil, err
	}
	if err := ValidateEntry(m, roster.table); err != nil {
		return nil, err
	}
	share, err := roster.table.ShareType(m.ShareType)
	if err != nil {
		return nil, err
	}
	return &Entry{m, proto.CloneOf(signed), suite.Digest(signed.Payload), share}, nil
}

// Code of the entry (目录代码).
func (e *Entry) Code() string { return e.m.Code }

// Version of the entry.
func (e *Entry) Version() int64 { return e.m.Version }

// Name of the entry.
func (e *Entry) Name() string { return e.m.Name }

// Provider is the party that holds the data.
func (e *Entry) Provider() string { return e.m.Provider }

// Digest is the SHA-256 of the signed payload.
func (e *Entry) Digest() []byte { return bytes.Clone(e.digest) }

// ShareType is what the entry's share type code means.
func (e *Entry) ShareType() ShareType { return e.share }

// Withdrawn says that the provider no longer offers the entry.
func (e *Entry) Withdrawn() bool { return e.m.Withdrawn }

// Items returns the entry's information items in order.
func (e *Entry) Items() []Item {
	items := make([]Item, len(e.m.Items))
	for i, it := range e.m.Items {
		items[i] = Item{it.Name, it.Type, it.Description, it.Key, it.Grade}
		if it.Grade == "" {
			items[i].Grade = e.m.Grade
		}
	}
	return items
}

// Item finds an information item by name.
func (e *Entry) Item(name string) (Item, bool) {
	for _, it := range e.Items() {
		if it.Name == name {
			return it, true
		}
	}
	return Item{}, false
}

// Message returns a copy of the whole entry.
func (e *Entry) Message() *catalogv1.Entry { return proto.CloneOf(e.m) }

// Signed returns a copy of the bytes the provider signed.
func (e *Entry) Signed() *signv1.Signed { return proto.CloneOf(e.signed) }

// MemorySeen is a Seen that lasts as long as the process: for tests and short
// commands.
type MemorySeen struct {
	mu   sync.Mutex
	high map[string]int64
}

// NewMemorySeen returns one that has seen nothing.
func NewMemorySeen() *MemorySeen { return &MemorySeen{high: make(map[string]int64)} }

// Raise implements Seen.
func (s *MemorySeen) Raise(key string, version int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version < s.high[key] {
		return ErrOlder
	}
	s.high[key] = version
	return nil
}
