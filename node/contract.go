package node

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/job"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
	"github.com/yinqiao/yinqiao/session"
)

const (
	// proposalLife is how long a proposal may wait for its start.
	proposalLife = time.Minute
	// clockSkew is how far two nodes' clocks may differ.
	clockSkew = 2 * time.Minute
	// maxContract bounds a contract's encoding, in bytes.
	maxContract = 256 << 10
)

// contract is one job's contract as it was signed, with its decoded form.
type contract struct {
	*peerv1.Contract
	payload []byte
	digest  []byte
	choice  string // at the initiator: why the kind was chosen, where it was
}

func (c *contract) parties() []session.PartyID {
	ids := make([]session.PartyID, len(c.GetParties()))
	for i, p := range c.GetParties() {
		ids[i] = session.PartyID(p.GetParty())
	}
	return ids
}

func (c *contract) others(self string) []string {
	var ids []string
	for _, p := range c.GetParties() {
		if p.GetParty() != self {
			ids = append(ids, p.GetParty())
		}
	}
	return ids
}

func (c *contract) participant(id string) *peerv1.Participant {
	for _, p := range c.GetParties() {
		if p.GetParty() == id {
			return p
		}
	}
	return nil
}

// decodeContract reads contract bytes. The bytes are hostile until their
// signature has been verified.
func decodeContract(payload []byte) (*contract, error) {
	if len(payload) == 0 || len(payload) > maxContract {
		return nil, fmt.Errorf("contract of %d bytes", len(payload))
	}
	c := &peerv1.Contract{}
	if err := proto.Unmarshal(payload, c); err != nil {
		return nil, fmt.Errorf("contract does not decode")
	}
	if hasUnknown(c.ProtoReflect()) {
		return nil, fmt.Errorf("contract holds fields this node does not know")
	}
	return &contract{Contract: c, payload: bytes.Clone(payload), digest: suite.Digest(payload)}, nil
}

func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	unknown := false
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil || fd.IsMap():
		case fd.IsList():
			for i := range v.List().Len() {
				unknown = unknown || hasUnknown(v.List().Get(i).Message())
			}
		default:
			unknown = unknown || hasUnknown(v.Message())
		}
		return !unknown
	})
	return unknown
}

// spec is what the contract lets the protocol read.
func (c *contract) spec(g *catalog.Grant, own Policy) job.Spec {
	s := job.Spec{Kind: c.GetKind(), Params: c.GetParams()}
	for _, p := range c.GetParties() {
		part := job.Participant{Party: session.PartyID(p.GetParty()), Role: job.Role(p.GetRole())}
		for _, in := range p.GetInputs() {
			part.Inputs = append(part.Inputs, job.Input{Entry: in.GetEntry(), Version: in.GetVersion(), Items: slices.Clone(in.GetItems())})
		}
		s.Parties = append(s.Parties, part)
	}
	for _, r := range c.GetRecipients() {
		s.Recipients = append(s.Recipients, session.PartyID(r))
	}
	limits := g.Limits()
	s.Limits = job.Limits{
		MinIntersection: max(limits.MinIntersection, own.MinIntersection),
		MinBeforeReveal: limits.MinBeforeReveal,
		Release:         rules.Strictest(limits.Release, own.Release),
	}
	return s
}

// draft writes the contract for a submission under g.
func (n *Node) draft(g *catalog.Grant, req *nodev1.SubmitJobRequest) (*contract, error) {
	kind := req.GetKind()
	if kind == "" {
		allowed := g.Computations()
		if len(allowed) != 1 {
			return nil, n.refuse("kind", "the grant allows %d kinds of computation, so the job must name one", len(allowed))
		}
		kind = allowed[0].Kind
	}
	comp, ok := g.Computation(kind)
	if !ok {
		return nil, n.refuse("kind", "grant %s does not allow %s", g.ID(), kind)
	}
	c := &peerv1.Contract{
		Job:            newID("J"),
		Session:        newID("S"),
		GrantId:        g.ID(),
		GrantDigest:    g.Digest(),
		Kind:           kind,
		Params:         req.GetParams(),
		Recipients:     req.GetRecipients(),
		Purpose:        req.GetPurpose(),
		Scene:          req.GetScene(),
		Initiator:      n.cfg.Party,
		Created:        timestamppb.New(n.now()),
		Expires:        timestamppb.New(n.now().Add(proposalLife)),
		TimeoutSeconds: req.GetTimeoutSeconds(),
		Suite:          suite.Std,
		Software:       n.version,
	}
	if len(c.Params) == 0 {
		c.Params = []byte("{}")
	}
	if len(c.Recipients) == 0 {
		c.Recipients = g.Recipients()
	}
	if c.Purpose == "" {
		c.Purpose = g.Purpose()
	}
	if c.Scene == "" {
		c.Scene = g.Scene()
	}
	if c.TimeoutSeconds == 0 {
		c.TimeoutSeconds = int64(n.cfg.Limits.JobTimeout / time.Second)
	}
	if def, ok := n.registry.Lookup(kind); ok {
		c.Assumptions = def.Assumptions
	}
	for _, in := range req.GetInputs() {
		if !slices.ContainsFunc(comp.Roles, func(b catalog.RoleBinding) bool { return b.Party == in.GetParty() }) {
			return nil, n.refuse("parties", "%s takes no part in %s under grant %s", clip(in.GetParty(), 64), kind, g.ID())
		}
	}
	for _, b := range comp.Roles {
		p := &peerv1.Participant{Party: b.Party, Role: b.Role}
		if len(req.GetInputs()) == 0 {
			for _, e := range g.Entries() {
				if e.Provider() == b.Party {
					p.Inputs = append(p.Inputs, input(e, g.Items(e.Code())))
				}
			}
		}
		for _, in := range req.GetInputs() {
			if in.GetParty() != b.Party {
				continue
			}
			e, ok := g.Entry(in.GetEntry())
			if !ok {
				return nil, n.refuse("entry", "grant %s does not cover entry %s", g.ID(), in.GetEntry())
			}
			if v := in.GetVersion(); v != 0 && v != e.Version() {
				return nil, n.refuse("entry_version", "grant %s covers version %d of entry %s", g.ID(), e.Version(), e.Code())
			}
			items := in.GetItems()
			if len(items) == 0 {
				items = g.Items(e.Code())
			}
			p.Inputs = append(p.Inputs, input(e, items))
		}
		c.Parties = append(c.Parties, p)
	}
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("node: contract: %w", err)
	}
	return decodeContract(payload)
}

func input(e *catalog.Entry, items []string) *peerv1.Input {
	return &peerv1.Input{Entry: e.Code(), Version: e.Version(), EntryDigest: e.Digest(), Items: items}
}

// openProposal checks that signed is a contract proposed by the party that
// sent it, addressed to this node, and fresh.
func (n *Node) openProposal(roster *catalog.Roster, from string, signed *signv1.Signed) (*contract, error) {
	c, err := decodeContract(signed.GetPayload())
	if err != nil {
		return nil, n.refuseSecurity("contract_malformed", "%v", err)
	}
	if c.GetInitiator() != from {
		return nil, n.refuseSecurity("contract_signature", "a contract is proposed by its initiator alone")
	}
	if err := n.verifyParty(roster, from, c, suite.Find(signed, from)); err != nil {
		return nil, err
	}
	now := n.now()
	created, expires := c.GetCreated().AsTime(), c.GetExpires().AsTime()
	switch {
	case c.GetCreated() == nil || c.GetExpires() == nil || expires.Before(created) || expires.Sub(created) > 2*proposalLife:
		return nil, n.refuse("contract_dates", "a proposal needs a creation time and ends within %s of it", 2*proposalLife)
	case created.After(now.Add(clockSkew)):
		return nil, n.refuse("contract_dates", "the proposal is dated in the future: compare the clocks with `yinqiao node doctor`")
	case expires.Before(now):
		return nil, n.refuse("contract_expired", "the proposal has expired: submit the job again")
	case c.GetSession() == "" || len(c.GetSession()) > 64 || c.GetJob() == "" || len(c.GetJob()) > 64 || !plainID(c.GetJob()) || !plainID(c.GetSession()):
		return nil, n.refuseSecurity("contract_malformed", "job and session IDs have 1 to 64 letters, digits and hyphens")
	case !validAttempt(c):
		return nil, n.refuseSecurity("contract_malformed", "a resumed job names the run of an earlier job, and an attempt from 2 on")
	case c.GetSuite() != suite.Std:
		return nil, n.refuse("suite", "this node speaks cipher suite std")
	case c.participant(n.cfg.Party) == nil:
		return nil, n.refuseSecurity("contract_parties", "this node is not a party of the contract")
	}
	return c, nil
}

// validAttempt looks at the form of what a contract says of its run.
func validAttempt(c *contract) bool {
	if c.GetRun() == "" {
		return c.GetAttempt() == 0
	}
	return len(c.GetRun()) <= 64 && plainID(c.GetRun()) && c.GetRun() != c.GetJob() && c.GetAttempt() >= 2
}

func plainID(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return true
}

// verifyParty checks one party's signature over c against the roster.
func (n *Node) verifyParty(roster *catalog.Roster, id string, c *contract, sig *signv1.Signature) error {
	p, ok := roster.Party(id)
	if !ok {
		return n.refuseSecurity("unknown_signer", "%s is not on the platform's roster", id)
	}
	if p.Suspended {
		return n.refuseSecurity("party_suspended", "%s is suspended by the platform", id)
	}
	if err := suite.Verify(id, p.Suite, p.PublicKey, suite.ContextContract, c.payload, sig); err != nil {
		return n.refuseSecurity("contract_signature", "the contract does not carry a valid signature of %s", id)
	}
	return nil
}
