package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/internal/wire"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// Sizes of an invite's parts.
const (
	InviteSecretSize  = 16
	inviteKeySize     = 32
	inviteChecksum    = 5
	inviteVersion     = 1
	maxInviteAddress  = 260
	maxInvitePartyLen = 63
)

const invitePrefix = "yq1"

// Crockford's alphabet has no I, L, O or U; the first three are read as the
// digits they look like.
var inviteAlphabet = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

var inviteSlips = strings.NewReplacer("o", "0", "i", "1", "l", "1", "-", "", " ", "", "\t", "", "\r", "", "\n", "")

// Invite is what a one-time code holds: where the platform is, which key it
// must prove to have, and the secret that lets one party in, once.
//
//	code    = "yq1" base32(body checksum)
//	body    = version(1) address party key(32) secret(16)   address, party: length-prefixed
//	checksum = the first 5 bytes of SHA-256("yinqiao/invite" body)
type Invite struct {
	Address     string // host:port of the platform
	PlatformKey []byte
	Party       string
	Secret      secret.Bytes
}

// Code returns the text to hand over. It is a secret until it has been used.
func (i Invite) Code() string {
	b := []byte{inviteVersion}
	b = wire.AppendBytes(b, []byte(i.Address))
	b = wire.AppendBytes(b, []byte(i.Party))
	b = append(b, i.PlatformKey...)
	b = append(b, i.Secret.Reveal()...)
	return invitePrefix + inviteAlphabet.EncodeToString(append(b, checksum(b)...))
}

// String does not show the secret; see Code.
func (i Invite) String() string { return "[invite for " + i.Party + " to " + i.Address + "]" }

func checksum(body []byte) []byte {
	h := sha256.New()
	h.Write([]byte("yinqiao/invite"))
	h.Write(body)
	return h.Sum(nil)[:inviteChecksum]
}

// ParseInvite reads a code as a person may have copied it: upper or lower
// case, broken into lines or groups. A mistyped character is noticed.
func ParseInvite(code string) (Invite, error) {
	if len(code) > 2000 {
		return Invite{}, Refuse(RuleInvite, "that is too long to be an invite code")
	}
	s := inviteSlips.Replace(strings.ToLower(code))
	text, ok := strings.CutPrefix(s, invitePrefix)
	if !ok {
		return Invite{}, Refuse(RuleInvite, "an invite code begins with %s", invitePrefix)
	}
	b, err := inviteAlphabet.DecodeString(text)
	if err != nil || len(b) < inviteChecksum+1 || inviteAlphabet.EncodeToString(b) != text {
		return Invite{}, Refuse(RuleInvite, "the invite code is mistyped or incomplete")
	}
	body, sum := b[:len(b)-inviteChecksum], b[len(b)-inviteChecksum:]
	if string(checksum(body)) != string(sum) {
		return Invite{}, Refuse(RuleInvite, "the invite code is mistyped or incomplete")
	}
	r := wire.NewReader(body)
	version := r.Byte()
	i := Invite{
		Address:     string(r.Bytes(maxInviteAddress)),
		Party:       string(r.Bytes(maxInvitePartyLen)),
		PlatformKey: append([]byte(nil), r.Fixed(inviteKeySize)...),
		Secret:      secret.New(r.Fixed(InviteSecretSize)),
	}
	var f faults
	f.endpoint("address", i.Address)
	f.party("party", i.Party)
	switch {
	case version != inviteVersion:
		return Invite{}, Refuse(RuleInvite, "the invite code is of version %d, which this build does not know", version)
	case r.Done() != nil || f.err("") != nil:
		return Invite{}, Refuse(RuleInvite, "the invite code is damaged")
	}
	return i, nil
}

// Enrol joins the platform under an invite: it tells the party's public key,
// peer endpoint and name, proves possession of the key, and returns the roster
// on which the party then stands. Where the answer was lost, the same call
// again gets it; a used code lets no other key in.
func Enrol(ctx context.Context, invite Invite, key *suite.Key, endpoint, name string) (*Roster, error) {
	c, err := NewClient(ClientConfig{Address: invite.Address, PlatformKey: invite.PlatformKey, Party: invite.Party, Key: key})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	m := &catalogv1.EnrolRequest{
		Party:     invite.Party,
		Secret:    invite.Secret.Reveal(),
		Suite:     key.Suite(),
		PublicKey: key.Public(),
		Endpoint:  endpoint,
		Name:      name,
	}
	payload, err := Encode(m)
	if err != nil {
		return nil, err
	}
	m.Proof = key.Sign(invite.Party, suite.ContextEnrol, payload).Value
	return c.enrol(ctx, m)
}

// CheckEnrolment verifies what the platform received: who it says it is, and
// that it holds the key.
func CheckEnrolment(m *catalogv1.EnrolRequest) (*catalogv1.Party, error) {
	if err := known(m.ProtoReflect()); err != nil {
		return nil, err
	}
	p := &catalogv1.Party{Id: m.Party, Name: m.Name, Endpoint: m.Endpoint, Suite: m.Suite, PublicKey: m.PublicKey}
	if err := ValidateParty(p); err != nil {
		return nil, err
	}
	bare := &catalogv1.EnrolRequest{Party: m.Party, Secret: m.Secret, Suite: m.Suite, PublicKey: m.PublicKey, Endpoint: m.Endpoint, Name: m.Name}
	payload, err := Encode(bare)
	if err != nil {
		return nil, err
	}
	proof := &signv1.Signature{Signer: m.Party, Suite: m.Suite, Value: m.Proof}
	if len(m.Secret) != InviteSecretSize || suite.Verify(m.Party, m.Suite, m.PublicKey, suite.ContextEnrol, payload, proof) != nil {
		return nil, alarm(RuleProof, "the enrolment of %s does not prove that it holds its key", m.Party)
	}
	return p, nil
}
