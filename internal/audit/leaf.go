package audit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/transparency-dev/merkle/rfc6962"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/yinqiao/yinqiao/internal/suite"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// ErrReceipt is wrapped for a receipt, record or event that is not signed by
// exactly those who must sign it.
var ErrReceipt = errors.New("audit: bad signatures")

// Digest is the RFC 6962 leaf hash of an entry's bytes.
func Digest(raw []byte) []byte { return rfc6962.DefaultHasher.HashLeaf(raw) }

// Decode decodes an entry's bytes, and the payload in it, and refuses unknown
// fields in either.
func Decode(raw []byte) (*auditv1.Leaf, error) {
	var leaf auditv1.Leaf
	if err := decode(raw, &leaf); err != nil {
		return nil, err
	}
	var err error
	switch k := leaf.Kind.(type) {
	case *auditv1.Leaf_Receipt:
		err = decode(k.Receipt.GetPayload(), &auditv1.Receipt{})
	case *auditv1.Leaf_Record:
		err = decode(k.Record.GetPayload(), &auditv1.Record{})
	case *auditv1.Leaf_Event:
		err = decode(k.Event.GetPayload(), &auditv1.Event{})
	default:
		err = fmt.Errorf("%w: it has no kind", ErrLeaf)
	}
	if err != nil {
		return nil, err
	}
	return &leaf, nil
}

func decode(raw []byte, m proto.Message) error {
	name := m.ProtoReflect().Descriptor().Name()
	if err := proto.Unmarshal(raw, m); err != nil {
		return fmt.Errorf("%w: not an encoded %s", ErrLeaf, name)
	}
	if unknownFields(m.ProtoReflect()) {
		return fmt.Errorf("%w: unknown fields in %s", ErrLeaf, name)
	}
	return nil
}

func unknownFields(m protoreflect.Message) (found bool) {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			// The maps of this schema hold numbers.
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				found = found || unknownFields(v.List().Get(i).Message())
			}
		case !f.IsList() && f.Message() != nil:
			found = unknownFields(v.Message())
		}
		return !found
	})
	return found
}

// Signers returns who must sign a receipt: its parties in order, without the
// absent ones.
func Signers(r *auditv1.Receipt) ([]string, error) {
	var signers []string
	seen := map[string]bool{}
	for _, p := range r.GetParties() {
		if p.GetParty() == "" || seen[p.GetParty()] {
			return nil, fmt.Errorf("%w: a party is blank or named twice", ErrReceipt)
		}
		seen[p.GetParty()] = true
		if !slices.Contains(r.GetAbsent(), p.GetParty()) {
			signers = append(signers, p.GetParty())
		}
	}
	if len(signers) == 0 {
		return nil, fmt.Errorf("%w: no party finished", ErrReceipt)
	}
	return signers, nil
}

// Cosigned puts signatures beside a receipt's payload in the order of its
// parties, so that every party logs the same bytes. It checks who signed, not
// the signatures: VerifyReceipt does.
func Cosigned(payload []byte, sigs ...*signv1.Signature) (*signv1.Signed, error) {
	var r auditv1.Receipt
	if err := decode(payload, &r); err != nil {
		return nil, err
	}
	signers, err := Signers(&r)
	if err != nil {
		return nil, err
	}
	s := &signv1.Signed{Payload: payload}
	for _, who := range signers {
		i := slices.IndexFunc(sigs, func(g *signv1.Signature) bool { return g.GetSigner() == who })
		if i < 0 {
			return nil, fmt.Errorf("%w: %s has not signed", ErrReceipt, who)
		}
		s.Signatures = append(s.Signatures, sigs[i])
	}
	if len(sigs) != len(signers) {
		return nil, fmt.Errorf("%w: %d signatures, %d parties finished", ErrReceipt, len(sigs), len(signers))
	}
	return s, nil
}

// VerifyReceipt checks that a receipt is signed by exactly the parties that
// finished, in their order, with the keys given, and returns it.
func VerifyReceipt(s *signv1.Signed, keys map[string][]byte) (*auditv1.Receipt, error) {
	var r auditv1.Receipt
	if err := decode(s.GetPayload(), &r); err != nil {
		return nil, err
	}
	signers, err := Signers(&r)
	if err != nil {
		return nil, err
	}
	return &r, verifySigned(s, suite.ContextReceipt, signers, keys)
}

// VerifyRecord checks that a record is signed by its party and no one else.
func VerifyRecord(s *signv1.Signed, keys map[string][]byte) (*auditv1.Record, error) {
	var r auditv1.Record
	if err := decode(s.GetPayload(), &r); err != nil {
		return nil, err
	}
	return &r, verifySigned(s, suite.ContextRecord, []string{r.GetParty()}, keys)
}

// VerifyEvent checks that an event is signed by its party and no one else.
func VerifyEvent(s *signv1.Signed, keys map[string][]byte) (*auditv1.Event, error) {
	var e auditv1.Event
	if err := decode(s.GetPayload(), &e); err != nil {
		return nil, err
	}
	return &e, verifySigned(s, suite.ContextEvent, []string{e.GetParty()}, keys)
}

func verifySigned(s *signv1.Signed, context string, signers []string, keys map[string][]byte) error {
	if len(s.GetSignatures()) != len(signers) {
		return fmt.Errorf("%w: %d signatures where %d belong", ErrReceipt, len(s.GetSignatures()), len(signers))
	}
	for i, who := range signers {
		sig := s.GetSignatures()[i]
		public, ok := keys[who]
		switch {
		case !ok:
			return fmt.Errorf("%w: no key is known for %q", ErrReceipt, who)
		case sig.GetSigner() != who:
			return fmt.Errorf("%w: signature %d is not in the name of %s", ErrReceipt, i, who)
		case !bytes.Equal(sig.GetPublicKey(), public):
			return fmt.Errorf("%w: the key beside the signature of %s is not the known one", ErrReceipt, who)
		}
		if err := suite.Verify(who, suite.Std, public, context, s.GetPayload(), sig); err != nil {
			return fmt.Errorf("%w: %w", ErrReceipt, err)
		}
	}
	return nil
}
