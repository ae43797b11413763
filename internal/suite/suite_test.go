package suite

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

func testKey(b byte) *Key {
	k, err := NewKey(bytes.Repeat([]byte{b}, ed25519.SeedSize))
	if err != nil {
		panic(err)
	}
	return k
}

var contexts = []string{
	ContextEntry, ContextRequest, ContextDecision, ContextGrant, ContextRoster, ContextStatus,
	ContextEnrol, ContextContract, ContextReceipt, ContextRecord, ContextEvent,
}

// A signature stands for its document, its context, its signer, its key.
func TestVerify(t *testing.T) {
	k, other := testKey(1), testKey(2)
	doc := []byte("document")
	good := func() *signv1.Signature { return k.Sign("zs-bank", ContextGrant, doc) }
	if err := Verify("zs-bank", Std, k.Public(), ContextGrant, doc, good()); err != nil {
		t.Fatal(err)
	}
	with := func(f func(*signv1.Signature)) *signv1.Signature { s := good(); f(s); return s }
	for name, c := range map[string]struct {
		signer, suite, context string
		public, payload        []byte
		sig                    *signv1.Signature
		err                    error
	}{
		"other signer":     {"zs-gov", Std, ContextGrant, k.Public(), doc, good(), ErrSignature},
		"renamed":          {"zs-gov", Std, ContextGrant, k.Public(), doc, with(func(s *signv1.Signature) { s.Signer = "zs-gov" }), nil},
		"other key":        {"zs-bank", Std, ContextGrant, other.Public(), doc, good(), ErrSignature},
		"own key beside":   {"zs-bank", Std, ContextGrant, k.Public(), doc, other.Sign("zs-bank", ContextGrant, doc), ErrSignature},
		"other payload":    {"zs-bank", Std, ContextGrant, k.Public(), []byte("documents"), good(), ErrSignature},
		"no payload":       {"zs-bank", Std, ContextGrant, k.Public(), nil, good(), ErrSignature},
		"no signature":     {"zs-bank", Std, ContextGrant, k.Public(), doc, nil, ErrSignature},
		"short signature":  {"zs-bank", Std, ContextGrant, k.Public(), doc, with(func(s *signv1.Signature) { s.Value = s.Value[:63] }), ErrSignature},
		"long signature":   {"zs-bank", Std, ContextGrant, k.Public(), doc, with(func(s *signv1.Signature) { s.Value = append(s.Value, 0) }), ErrSignature},
		"flipped":          {"zs-bank", Std, ContextGrant, k.Public(), doc, with(func(s *signv1.Signature) { s.Value[10] ^= 1 }), ErrSignature},
		"no key":           {"zs-bank", Std, ContextGrant, nil, doc, good(), ErrSignature},
		"short key":        {"zs-bank", Std, ContextGrant, k.Public()[:31], doc, good(), ErrSignature},
		"long key":         {"zs-bank", Std, ContextGrant, append(k.Public(), 0), doc, good(), ErrSignature},
		"unknown suite":    {"zs-bank", "gm", ContextGrant, k.Public(), doc, good(), ErrUnknown},
		"no suite":         {"zs-bank", "", ContextGrant, k.Public(), doc, good(), ErrUnknown},
		"suite in the sig": {"zs-bank", Std, ContextGrant, k.Public(), doc, with(func(s *signv1.Signature) { s.Suite = "gm" }), ErrSignature},
		"zero signature":   {"zs-bank", Std, ContextGrant, k.Public(), doc, with(func(s *signv1.Signature) { clear(s.Value) }), ErrSignature},
		"zero key and sig": {"zs-bank", Std, ContextGrant, make([]byte, 32), doc, with(func(s *signv1.Signature) { clear(s.Value) }), ErrSignature},
	} {
		err := Verify(c.signer, c.suite, c.public, c.context, c.payload, c.sig)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
		if err != nil && strings.Contains(err.Error(), string(doc)) {
			t.Errorf("%s: the error shows the document: %v", name, err)
		}
	}
	// The key that lies beside a signature decides nothing.
	lie := good()
	lie.PublicKey = other.Public()
	if err := Verify("zs-bank", Std, k.Public(), ContextGrant, doc, lie); err != nil {
		t.Errorf("a wrong key beside a good signature: %v", err)
	}
}

func TestContextsAreSeparate(t *testing.T) {
	k := testKey(1)
	for _, signed := range contexts {
		sig := k.Sign(Platform, signed, []byte("p"))
		for _, read := range append(contexts, "") {
			if err := Verify(Platform, Std, k.Public(), read, []byte("p"), sig); (err == nil) != (signed == read) {
				t.Errorf("signed as %q, read as %q: %v", signed, read, err)
			}
		}
	}
	// No pair of context and payload shares its message with another pair.
	seen := map[string]string{}
	for _, c := range contexts {
		for _, p := range []string{"", "/v1\x00", "x", "\x00x"} {
			m, name := string(message(c, []byte(p))), fmt.Sprintf("%s %q", c, p)
			if before, ok := seen[m]; ok {
				t.Errorf("%s and %s are one message", before, name)
			}
			seen[m] = name
		}
	}
	if got := string(message(ContextGrant, []byte("payload"))); got != "yinqiao/grant/v1\x00payload" {
		t.Errorf("message: %q", got)
	}
}

func TestSealAndFind(t *testing.T) {
	k, doc := testKey(1), []byte("document")
	s := k.Seal("zs-bank", ContextEntry, doc)
	if !bytes.Equal(s.GetPayload(), doc) || Find(s, "zs-bank") == nil || Find(s, "zs-gov") != nil || Find(nil, "zs-bank") != nil {
		t.Errorf("%v", s)
	}
	if err := Verify("zs-bank", Std, k.Public(), ContextEntry, s.GetPayload(), Find(s, "zs-bank")); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(s.GetSignatures()[0].GetPublicKey(), k.Public()) || s.GetSignatures()[0].GetSuite() != Std {
		t.Error("what lies beside the signature is wrong")
	}
	// Signing again gives the same bytes: receipts are compared as bytes.
	if !proto.Equal(s, k.Seal("zs-bank", ContextEntry, doc)) {
		t.Error("two signatures of one document differ")
	}
}

func TestKeys(t *testing.T) {
	k, err := GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewKey(k.Seed())
	if err != nil || !bytes.Equal(again.Public(), k.Public()) {
		t.Errorf("seed does not give the key back: %v", err)
	}
	k.Public()[0] ^= 1
	if !bytes.Equal(again.Public(), k.Public()) {
		t.Error("Public hands out the key's own memory")
	}
	for _, n := range []int{0, 31, 33, 64} {
		if _, err := NewKey(make([]byte, n)); err == nil {
			t.Errorf("a seed of %d bytes was taken", n)
		}
	}
	if _, err := GenerateKey(strings.NewReader("short")); err == nil {
		t.Error("a key without randomness")
	}
	if k.Suite() != Std {
		t.Error(k.Suite())
	}
}

// RFC 8032 §7.1, test 2: the key derivation is plain Ed25519, so that another
// implementation can check what we sign.
func TestRFC8032(t *testing.T) {
	seed, _ := hex.DecodeString("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
	public, _ := hex.DecodeString("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
	sig, _ := hex.DecodeString("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da" +
		"085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
	k, err := NewKey(seed)
	if err != nil || !bytes.Equal(k.Public(), public) {
		t.Fatalf("%v, %x", err, k.Public())
	}
	if !bytes.Equal(ed25519.Sign(k.key(), []byte{0x72}), sig) {
		t.Error("signature differs from the RFC's")
	}
}

// No verb prints a key, not even from unexported fields, where fmt does not
// ask for methods.
func TestKeyIsNotPrinted(t *testing.T) {
	seed := []byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	k, err := NewKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	type inner struct {
		key   *Key
		value Key
	}
	type outer struct {
		Key *Key
		in  inner
		p   *inner
	}
	o := outer{k, inner{k, *k}, &inner{k, *k}}
	leaks := []string{"AAAA", "41414141", "65 65", "0x41, 0x41", "41 41", "U+0041", base64.StdEncoding.EncodeToString(seed)[:8]}
	judge := func(how, out string) {
		t.Helper()
		for _, l := range leaks {
			if strings.Contains(out, l) {
				t.Errorf("%s prints %s", how, out)
			}
		}
	}
	for _, v := range []any{k, *k, o, &o, []outer{o}, map[string]inner{"k": {k, *k}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%U", "%e", "%c"} {
			judge(fmt.Sprintf("%s of %T", verb, v), fmt.Sprintf(verb, v))
		}
		if out, err := json.Marshal(v); err == nil {
			judge(fmt.Sprintf("JSON of %T", v), string(out))
		}
		var text, js bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", slog.Any("v", v))
		slog.New(slog.NewJSONHandler(&js, nil)).Info("m", slog.Any("v", v))
		judge(fmt.Sprintf("slog of %T", v), text.String()+js.String())
	}
}

func FuzzVerify(f *testing.F) {
	k := testKey(1)
	f.Add("zs-bank", ContextGrant, []byte("p"), []byte("sig"), k.Public())
	f.Fuzz(func(t *testing.T, signer, context string, payload, sig, public []byte) {
		s := &signv1.Signature{Signer: signer, Suite: Std, PublicKey: public, Value: sig}
		// No input panics; nobody else's bytes verify under our key.
		if Verify(signer, Std, k.Public(), context, payload, s) == nil {
			t.Error("forged")
		}
		Verify(signer, Std, public, context, payload, s)
	})
}
