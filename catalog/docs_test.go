package catalog

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

func TestValidateReportsEveryFault(t *testing.T) {
	e := testEntry("31/1", "ZS_Tax", "7")
	e.Version = 0
	e.Name = " padded"
	e.Grade = ""
	e.Format = "9999"
	e.SourceSystem = ""
	e.Published = nil
	e.Abstract = "two\x1blines"
	e.Related = []string{"x"}
	e.Items = append(e.Items, &catalogv1.Item{Name: "id", Type: "date"})
	err := ValidateEntry(e, Canonical())
	wantRule(t, err, RuleEntry, false)
	for _, path := range []string{
		"code:", "provider:", "share_type: code \"7\"", "version:", "name: begins", "grade: is missing", "format: code \"9999\"",
		"source_system:", "published:", "abstract: holds unprintable", "related[0]:", "items[3].name:", "items[3].type:",
	} {
		if !strings.Contains(err.Error(), path) {
			t.Errorf("not reported: %s\n%v", path, err)
		}
	}
	for _, share := range []string{"2", "3"} {
		e = testEntry(taxCode, tax, share)
		e.ShareCondition = ""
		if err := ValidateEntry(e, Canonical()); err == nil || !strings.Contains(err.Error(), "share_condition: is missing") {
			t.Errorf("share type %s without its condition: %v", share, err)
		}
	}

	r := newWorld(t).request
	r.Id = "R 1"
	r.Purpose, r.Scene, r.LegalBasis, r.Person = "", "", "", ""
	r.Uses[1].Entry = r.Uses[0].Entry
	r.Uses[1].Items = []string{"id", "id"}
	r.Computations[0].Kind = "psi"
	r.Computations[1].Roles[1].Party = bank
	r.Computations[1].Permissions = []string{"a", "a"}
	r.Recipients = nil
	r.Limits = &catalogv1.Limits{MinIntersection: -1, ValidFrom: stamp(0), ValidUntil: stamp(0), MinBeforeReveal: true}
	err = ValidateRequest(r)
	wantRule(t, err, RuleRequest, false)
	for _, path := range []string{
		"id:", "purpose:", "scene:", "legal_basis:", "person:", "uses[1].entry: is used twice", "uses[1].items[1]: stands twice",
		"computations[0].kind:", "computations[1].roles[1].party: has two roles", "computations[1].permissions[1]: stands twice", "recipients:",
		"limits.max_runs:", "limits.min_intersection:", "limits.min_before_reveal:", "limits.valid_until:",
	} {
		if !strings.Contains(err.Error(), path) {
			t.Errorf("not reported: %s\n%v", path, err)
		}
	}
	if err := ValidateRequest(nil); Rule(err) != RuleRequest {
		t.Errorf("no request at all: %v", err)
	}
	if err := ValidateEntry(nil, Canonical()); Rule(err) != RuleCodeTable {
		t.Errorf("no entry at all: %v", err)
	}
}

func TestTooLargeIsRefused(t *testing.T) {
	big := make([]byte, MaxDocument+1)
	if err := Decode(big, new(catalogv1.Entry)); Rule(err) != RuleTooLarge {
		t.Errorf("a huge entry: %v", err)
	}
	w := newWorld(t)
	ev := w.sign()
	for range maxSignatures {
		ev.grant.Signatures = append(ev.grant.Signatures, &signv1.Signature{})
	}
	_, err := w.verify(ev, nil, testNow)
	wantRule(t, err, RuleTooLarge, false)
}

func testInvite() Invite {
	return Invite{
		Address: "platform.example:7400", PlatformKey: bytes.Repeat([]byte{0xa5}, 32),
		Party: bank, Secret: secret.New([]byte("0123456789abcdef")),
	}
}

func sameInvite(a, b Invite) bool {
	return a.Address == b.Address && a.Party == b.Party && bytes.Equal(a.PlatformKey, b.PlatformKey) && a.Secret.Equal(b.Secret.Reveal())
}

func TestInvite(t *testing.T) {
	in := testInvite()
	code := in.Code()
	spoilt := strings.ToUpper(code[:40]) + "-\n  " + strings.NewReplacer("0", "O", "1", "l").Replace(code[40:])
	for _, c := range []string{code, strings.ToUpper(code), " " + code + "\n", spoilt} {
		got, err := ParseInvite(c)
		if err != nil || !sameInvite(got, in) {
			t.Errorf("%q: %v", c, err)
		}
	}
	if strings.Contains(in.String(), code[20:]) || strings.Contains(in.String(), "0123456789abcdef") {
		t.Error("String shows the secret")
	}
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	for i := range code {
		for _, r := range alphabet {
			if byte(r) == code[i] || i == 2 && r == '1' {
				continue
			}
			if _, err := ParseInvite(code[:i] + string(r) + code[i+1:]); Rule(err) != RuleInvite {
				t.Fatalf("a wrong character at %d went unnoticed: %v", i, err)
			}
		}
		if i+1 < len(code) && code[i] != code[i+1] {
			if _, err := ParseInvite(code[:i] + code[i+1:i+2] + code[i:i+1] + code[i+2:]); Rule(err) != RuleInvite {
				t.Fatalf("swapped characters at %d went unnoticed: %v", i, err)
			}
		}
		if _, err := ParseInvite(code[:i]); Rule(err) != RuleInvite {
			t.Fatalf("a code cut at %d went unnoticed: %v", i, err)
		}
	}
	for name, bad := range map[string]Invite{
		"no port":   {Address: "host", PlatformKey: in.PlatformKey, Party: bank, Secret: in.Secret},
		"no party":  {Address: in.Address, PlatformKey: in.PlatformKey, Secret: in.Secret},
		"no secret": {Address: in.Address, PlatformKey: in.PlatformKey, Party: bank},
		"short key": {Address: in.Address, PlatformKey: in.PlatformKey[:31], Party: bank, Secret: in.Secret},
	} {
		if _, err := ParseInvite(bad.Code()); Rule(err) != RuleInvite {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseInvite(f *testing.F) {
	f.Add(testInvite().Code())
	f.Add("yq1")
	f.Add("")
	f.Fuzz(func(t *testing.T, code string) {
		in, err := ParseInvite(code)
		if err != nil {
			if Rule(err) != RuleInvite {
				t.Fatalf("no rule: %v", err)
			}
			return
		}
		again, err := ParseInvite(in.Code())
		if err != nil || !sameInvite(in, again) {
			t.Fatalf("does not survive its own code: %v", err)
		}
	})
}

// FuzzVerifyGrant signs arbitrary bytes as the platform, so that they get past
// the outermost signature.
func FuzzVerifyGrant(f *testing.F) {
	w := newWorld(f)
	ev := w.sign()
	roster, err := VerifyRoster(ev.roster, w.platform.Public(), nil, testNow)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ev.grant.Payload, ev.status.Payload, ev.statuses[0].Payload)
	f.Add([]byte{}, []byte{1}, []byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, grant, st, entry []byte) {
		g, err := VerifyGrant(w.platform.Seal(suite.Platform, suite.ContextGrant, grant), w.platform.Seal(suite.Platform, suite.ContextStatus, st),
			[]*signv1.Signed{w.platform.Seal(suite.Platform, suite.ContextStatus, entry), ev.statuses[1]}, roster, NewMemorySeen(), testNow)
		switch {
		case err != nil && Rule(err) == "":
			t.Fatalf("no rule: %v", err)
		case err == nil && (g.Requester() != bank || len(g.Entries()) != 2):
			t.Fatal("a grant that nobody asked for was accepted")
		}
	})
}

// FuzzVerifyDocuments gives arbitrary bytes to each of the other verifiers,
// signed by whom they should be signed.
func FuzzVerifyDocuments(f *testing.F) {
	w := newWorld(f)
	ev := w.sign()
	roster, err := VerifyRoster(ev.roster, w.platform.Public(), nil, testNow)
	if err != nil {
		f.Fatal(err)
	}
	var g catalogv1.Grant
	if err := proto.Unmarshal(ev.grant.Payload, &g); err != nil {
		f.Fatal(err)
	}
	for _, p := range [][]byte{ev.roster.Payload, g.Request.Payload, g.Entries[0].Payload, g.Approvals[0].Payload} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var errs []error
		_, err := VerifyRoster(w.platform.Seal(suite.Platform, suite.ContextRoster, p), w.platform.Public(), nil, testNow)
		errs = append(errs, err)
		_, err = VerifyRequest(w.keys[bank].Seal(bank, suite.ContextRequest, p), roster)
		errs = append(errs, err)
		_, err = VerifyEntry(w.keys[tax].Seal(tax, suite.ContextEntry, p), roster)
		errs = append(errs, err)
		_, err = VerifyDecision(w.keys[tax].Seal(tax, suite.ContextDecision, p), roster, "R-1", suite.Digest(g.Request.Payload))
		for _, err := range append(errs, err) {
			if err != nil && Rule(err) == "" {
				t.Fatalf("no rule: %v", err)
			}
		}
	})
}

func TestErrorsOverTheWire(t *testing.T) {
	ctx := context.Background()
	for _, want := range []*RuleError{
		{RuleShareType, "entry x is not to be shared", false},
		{RuleApprovalForged, "forged", true},
		{RuleNotFound, "none", false},
	} {
		err := FromStatus(ctx, StatusError(want))
		var got *RuleError
		if !errors.As(err, &got) || got.Rule != want.Rule || got.Security != want.Security || !strings.Contains(got.Text, want.Text) {
			t.Errorf("%v became %v", want, err)
		}
	}
	if err := StatusError(errors.New("open /home/secret: denied")); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
		t.Errorf("an internal error was told: %v", err)
	}
	if err := FromStatus(ctx, status.Error(codes.Unavailable, "no route")); !errors.Is(err, ErrUnreachable) || Rule(err) != "" {
		t.Errorf("unreachable: %v", err)
	}
	if err := FromStatus(ctx, status.Error(codes.Internal, "x")); err == nil || errors.Is(err, ErrUnreachable) {
		t.Errorf("internal: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := FromStatus(gone, status.Error(codes.Canceled, "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if !errors.Is(Refuse(RuleItems, "x"), &RuleError{Rule: RuleItems}) || errors.Is(Refuse(RuleItems, "x"), &RuleError{Rule: RuleEntry}) {
		t.Error("errors.Is does not ask for the rule")
	}
}

func TestEnrolmentProvesItsKey(t *testing.T) {
	key := newKey(t)
	good := func() *catalogv1.EnrolRequest {
		m := &catalogv1.EnrolRequest{Party: bank, Secret: make([]byte, InviteSecretSize), Suite: suite.Std, PublicKey: key.Public(), Endpoint: "h:1", Name: "n"}
		payload, _ := Encode(m)
		m.Proof = key.Sign(bank, suite.ContextEnrol, payload).Value
		return m
	}
	if p, err := CheckEnrolment(good()); err != nil || p.Id != bank {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*catalogv1.EnrolRequest){
		"another party":    func(m *catalogv1.EnrolRequest) { m.Party = tax },
		"another key":      func(m *catalogv1.EnrolRequest) { m.PublicKey = newKey(t).Public() },
		"another endpoint": func(m *catalogv1.EnrolRequest) { m.Endpoint = "evil:1" },
		"another secret":   func(m *catalogv1.EnrolRequest) { m.Secret[0]++ },
		"short secret":     func(m *catalogv1.EnrolRequest) { m.Secret = nil },
		"no proof":         func(m *catalogv1.EnrolRequest) { m.Proof = nil },
	} {
		m := good()
		change(m)
		if _, err := CheckEnrolment(m); Rule(err) != RuleProof {
			t.Errorf("%s: %v", name, err)
		}
	}
}
