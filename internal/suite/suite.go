// Package suite is the cipher suite behind one small interface: signatures of
// parties and of the platform. Suite "std" is Ed25519 with SHA-256; the
// national-cryptography suite "gm" will join it here.
//
// Everything signed is signed as bytes under a context, so that a signature
// over one kind of document never stands for another:
//
//	message = "yinqiao/" context "/v1" 0x00 payload
package suite

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// Std is the name of the international suite.
const Std = "std"

// Platform is the signer name of the platform.
const Platform = "platform"

// Signing contexts.
const (
	ContextEntry    = "entry"
	ContextRequest  = "request"
	ContextDecision = "decision"
	ContextGrant    = "grant"
	ContextRoster   = "roster"
	ContextStatus   = "status"
	ContextEnrol    = "enrol"
	ContextContract = "contract"
	ContextReceipt  = "receipt"
	ContextRecord   = "record"
	ContextEvent    = "event"
)

var (
	// ErrSignature is returned for a signature that does not verify.
	ErrSignature = errors.New("suite: signature does not verify")
	// ErrUnknown is returned for a suite this node does not speak.
	ErrUnknown = errors.New("suite: unknown cipher suite")
)

// Key signs for one party. It holds the private key and never prints it.
type Key struct {
	private *hidden
}

// hidden keeps the key two pointers away from a struct that holds a Key in an
// unexported field: there fmt asks for no method, and for a verb that does not
// fit it follows one pointer and prints what it finds.
type hidden struct{ key *ed25519.PrivateKey }

func keep(priv ed25519.PrivateKey) *Key { return &Key{&hidden{&priv}} }

func (k *Key) key() ed25519.PrivateKey { return *k.private.key }

// GenerateKey makes a key of suite std.
func GenerateKey(rand io.Reader) (*Key, error) {
	_, priv, err := ed25519.GenerateKey(rand)
	if err != nil {
		return nil, fmt.Errorf("suite: %w", err)
	}
	return keep(priv), nil
}

// NewKey makes a key from its 32-byte seed.
func NewKey(seed []byte) (*Key, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("suite: a key seed has %d bytes, got %d", ed25519.SeedSize, len(seed))
	}
	return keep(ed25519.NewKeyFromSeed(seed)), nil
}

// Seed returns what NewKey takes, for storing.
func (k *Key) Seed() []byte { return k.key().Seed() }

// Suite returns the key's suite.
func (k *Key) Suite() string { return Std }

// Public returns the public key as rosters list it: 32 bytes.
func (k *Key) Public() []byte { return append([]byte(nil), k.key().Public().(ed25519.PublicKey)...) }

// Signer returns the key for TLS certificates.
func (k *Key) Signer() crypto.Signer { return k.key() }

// String keeps the key out of logs.
func (*Key) String() string { return "[key]" }

// GoString keeps the key out of logs.
func (*Key) GoString() string { return "[key]" }

// Format keeps the key out of every verb.
func (*Key) Format(f fmt.State, _ rune) { io.WriteString(f, "[key]") }

func message(context string, payload []byte) []byte {
	m := make([]byte, 0, len(payload)+len(context)+16)
	m = append(m, "yinqiao/"...)
	m = append(m, context...)
	m = append(m, "/v1\x00"...)
	return append(m, payload...)
}

// Sign signs payload under context in the name of signer.
func (k *Key) Sign(signer, context string, payload []byte) *signv1.Signature {
	return &signv1.Signature{
		Signer:    signer,
		Suite:     Std,
		PublicKey: k.Public(),
		Value:     ed25519.Sign(k.key(), message(context, payload)),
	}
}

// Seal returns payload with k's signature beside it.
func (k *Key) Seal(signer, context string, payload []byte) *signv1.Signed {
	return &signv1.Signed{Payload: payload, Signatures: []*signv1.Signature{k.Sign(signer, context, payload)}}
}

// Verify checks that sig is public's signature over payload under context, and
// that it is in the name of signer. It never trusts the key that lies beside
// the signature.
func Verify(signer, suiteName string, public []byte, context string, payload []byte, sig *signv1.Signature) error {
	switch {
	case suiteName != Std:
		return fmt.Errorf("%w %q", ErrUnknown, suiteName)
	case sig == nil || sig.Signer != signer || sig.Suite != suiteName,
		len(public) != ed25519.PublicKeySize || len(sig.GetValue()) != ed25519.SignatureSize,
		!ed25519.Verify(public, message(context, payload), sig.GetValue()):
		return fmt.Errorf("%w: %s in the name of %s", ErrSignature, context, signer)
	}
	return nil
}

// Find returns the signature in the name of signer, or nil.
func Find(s *signv1.Signed, signer string) *signv1.Signature {
	for _, sig := range s.GetSignatures() {
		if sig.GetSigner() == signer {
			return sig
		}
	}
	return nil
}

// Digest is the SHA-256 of a payload.
func Digest(payload []byte) []byte {
	d := sha256.Sum256(payload)
	return d[:]
}
