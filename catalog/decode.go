package catalog

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// Bounds on signed documents.
const (
	MaxDocument   = 128 << 10 // bytes of one signed payload
	MaxGrant      = 768 << 10 // of a grant's, which holds several
	maxSignatures = 16
)

// Decode decodes a payload strictly: what is too large is refused, and so are
// fields this build does not know, at any depth.
func Decode(payload []byte, m proto.Message) error {
	limit := MaxDocument
	switch m.(type) {
	case *catalogv1.Grant, *catalogv1.Roster:
		limit = MaxGrant
	}
	name := m.ProtoReflect().Descriptor().Name()
	if len(payload) > limit {
		return Refuse(RuleTooLarge, "a %s has at most %d bytes, got %d", name, limit, len(payload))
	}
	if err := (proto.UnmarshalOptions{RecursionLimit: 16}).Unmarshal(payload, m); err != nil {
		return Refuse(RuleMalformed, "not the encoding of a %s", name)
	}
	return known(m.ProtoReflect())
}

// known refuses unknown fields, recursively.
func known(m protoreflect.Message) (err error) {
	if u := m.GetUnknown(); len(u) > 0 {
		num, _, _ := protowire.ConsumeTag(u)
		return Refuse(RuleUnknownField, "a %s has a field (number %d) that this build does not know", m.Descriptor().Name(), num)
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil || fd.IsMap():
		case fd.IsList():
			for i := range v.List().Len() {
				if err = known(v.List().Get(i).Message()); err != nil {
					return false
				}
			}
		default:
			err = known(v.Message())
		}
		return err == nil
	})
	return err
}

// checkSigned bounds the envelope before anything in it is looked at.
func checkSigned(s *signv1.Signed, what string) error {
	switch {
	case s == nil || len(s.GetPayload()) == 0:
		return Refuse(RuleMalformed, "%s: nothing signed", what)
	case len(s.GetSignatures()) > maxSignatures:
		return Refuse(RuleTooLarge, "%s: more than %d signatures", what, maxSignatures)
	}
	return known(s.ProtoReflect())
}

// Encode is how documents are encoded before they are signed.
func Encode(m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("catalog: encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b, nil
}

func sameBytes(a, b []byte) bool { return len(a) > 0 && bytes.Equal(a, b) }
