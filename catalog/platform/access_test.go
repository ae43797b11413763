package platform

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
)

func TestEnrolment(t *testing.T) {
	r := newRig(t, Config{})
	in := r.invite(bank)
	key := newKey(t)
	// Unknown keys may say hello and nothing else.
	r.keys[bank] = key
	c := r.client(bank)
	h, err := c.Hello(r.ctx)
	if err != nil || h.Version != "test" || !bytes.Equal(h.PublicKey, r.s.PublicKey()) {
		t.Fatalf("%+v %v", h, err)
	}
	_, err = c.Roster(r.ctx)
	wantRule(t, err, catalog.RuleCaller)
	_, err = c.Grant(r.ctx, "G-1")
	wantRule(t, err, catalog.RuleCaller)
	_, err = c.ListEntries(r.ctx, "")
	wantRule(t, err, catalog.RuleCaller)
	_, err = c.ListRequests(r.ctx)
	wantRule(t, err, catalog.RuleCaller)

	wrong := in
	wrong.Secret = secret.New(make([]byte, 16))
	_, err = catalog.Enrol(r.ctx, wrong, key, "h.example:1", "")
	wantRule(t, err, catalog.RuleInvite)
	wrong = in
	wrong.Party = tax
	_, err = catalog.Enrol(r.ctx, wrong, key, "h.example:1", "")
	wantRule(t, err, catalog.RuleInvite)
	_, err = catalog.Enrol(r.ctx, in, key, "nowhere", "")
	wantRule(t, err, catalog.RuleRoster)

	roster, err := catalog.Enrol(r.ctx, in, key, "h.example:1", "")
	if err != nil {
		t.Fatal(err)
	}
	p, ok := roster.ByKey(key.Public())
	if !ok || p.ID != bank || p.Endpoint != "h.example:1" || p.Name != "party "+bank {
		t.Errorf("%+v", p)
	}
	// The answer was lost: the same again. Another key: no.
	if _, err := catalog.Enrol(r.ctx, in, key, "h.example:1", ""); err != nil {
		t.Error(err)
	}
	_, err = catalog.Enrol(r.ctx, in, newKey(t), "h.example:1", "")
	wantRule(t, err, catalog.RuleInvite)

	// A newer invite ends the older, an old one expires, one key is one party.
	older := r.invite(tax)
	newer := r.invite(tax)
	_, err = catalog.Enrol(r.ctx, older, newKey(t), "h.example:1", "")
	wantRule(t, err, catalog.RuleInvite)
	_, err = catalog.Enrol(r.ctx, newer, key, "h.example:1", "")
	wantRule(t, err, catalog.RuleExists)
	r.ahead.Add(int64(25 * time.Hour))
	_, err = catalog.Enrol(r.ctx, newer, newKey(t), "h.example:1", "")
	wantRule(t, err, catalog.RuleInvite)
	r.ahead.Store(0)

	// New keys for a party end the old ones, but not its suspension.
	if err := r.staff.Suspend(r.ctx, bank, true, "audit"); err != nil {
		t.Fatal(err)
	}
	_, err = c.Roster(r.ctx)
	wantRule(t, err, catalog.RulePartySuspended)
	next := newKey(t)
	roster, err = catalog.Enrol(r.ctx, r.invite(bank), next, "h.example:2", "")
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := roster.Party(bank); !ok || !p.Suspended || !bytes.Equal(p.PublicKey, next.Public()) {
		t.Errorf("%+v", p)
	}
	_, err = c.Roster(r.ctx)
	wantRule(t, err, catalog.RuleCaller)
	if err := r.staff.Suspend(r.ctx, bank, false, ""); err != nil {
		t.Fatal(err)
	}
	r.keys[bank] = next
	if _, err := r.client(bank).Roster(r.ctx); err != nil {
		t.Error(err)
	}
	wantRule(t, r.staff.Suspend(r.ctx, "zs-ghost", true, "x"), catalog.RuleUnknownParty)
	if ps, err := r.staff.Parties(r.ctx); err != nil || len(ps) != 1 {
		t.Errorf("%v %v", ps, err)
	}
}

func TestOneInviteLetsOneIn(t *testing.T) {
	r := newRig(t, Config{})
	in := r.invite(bank)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		key := newKey(t)
		wg.Go(func() { _, errs[i] = catalog.Enrol(r.ctx, in, key, "h.example:1", "") })
	}
	wg.Wait()
	in1 := 0
	for _, err := range errs {
		if err == nil {
			in1++
		} else if catalog.Rule(err) != catalog.RuleInvite {
			t.Error(err)
		}
	}
	if in1 != 1 {
		t.Errorf("%d keys got in", in1)
	}
}

func TestInviteFaults(t *testing.T) {
	r := newRig(t, Config{})
	for _, party := range []string{"", "platform", "ZS", "zs_bank", "-zs", strings.Repeat("a", 64)} {
		_, err := r.staff.Invite(r.ctx, party, "", 0)
		wantRule(t, err, catalog.RuleInvite)
	}
	_, err := r.staff.Invite(r.ctx, bank, "", -time.Hour)
	wantRule(t, err, catalog.RuleInvite)
	_, err = r.staff.Invite(r.ctx, bank, "two\nlines", 0)
	wantRule(t, err, catalog.RuleInvite)
	r.s.address = "0.0.0.0:7400"
	_, err = r.staff.Invite(r.ctx, bank, "", 0)
	wantRule(t, err, catalog.RuleInvite)
}

// TestNewcomerIsNoStranger: a cached roster does not make one of a party that
// has just enrolled.
func TestNewcomerIsNoStranger(t *testing.T) {
	r := newRig(t, Config{AutoAccept: true})
	r.enrol(bank)
	b := r.clientWith(catalog.ClientConfig{Party: bank, Key: r.keys[bank], RosterAge: time.Hour})
	was, err := b.Roster(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.enrol(tax)
	if _, err := r.client(tax).RegisterEntry(r.ctx, testEntry(taxCode, "1")); err != nil {
		t.Fatal(err)
	}
	if now, err := b.Roster(r.ctx); err != nil || now != was {
		t.Fatalf("the roster is not the cached one: %v", err)
	}
	if _, err := b.Entry(r.ctx, taxCode, 0); err != nil {
		t.Error(err)
	}
	if now, err := b.Roster(r.ctx); err != nil || len(now.Parties()) != 2 {
		t.Errorf("the newer roster was not kept: %v", err)
	}
}

func TestVisibility(t *testing.T) {
	r, b, x, _ := line(t, Config{AutoAccept: true})
	r.enrol("zs-other")
	o := r.client("zs-other")
	if _, err := b.FileRequest(r.ctx, r.request("R-1"), false); err != nil {
		t.Fatal(err)
	}
	q, err := x.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Approve: true, Person: "p"})
	wantState(t, q, err, granted)
	if l, err := o.ListRequests(r.ctx); err != nil || len(l) != 0 {
		t.Errorf("an outsider sees %d requests: %v", len(l), err)
	}
	// What is there and what is not are answered alike.
	for _, id := range []string{"R-1", "R-2"} {
		_, err := o.Request(r.ctx, id)
		wantRule(t, err, catalog.RuleNotFound)
		if id = strings.ReplaceAll(err.Error(), id, "?"); id != `catalog: the platform answers: there is no request "?" for this caller (rule not_found)` {
			t.Errorf("%s", id)
		}
		_, err = o.Decide(r.ctx, catalog.Decision{RequestID: id, Approve: true, Person: "p"})
		wantRule(t, err, catalog.RuleNotFound)
	}
	_, here := o.Grant(r.ctx, q.GrantID)
	_, gone := o.Grant(r.ctx, "G-2026-9999")
	wantRule(t, here, catalog.RuleNotFound)
	if strings.ReplaceAll(here.Error(), q.GrantID, "?") != strings.ReplaceAll(gone.Error(), "G-2026-9999", "?") {
		t.Errorf("a hidden grant is told from none: %v / %v", here, gone)
	}
	// An outsider's approval counts for nothing even with the right digest.
	d := &catalogv1.Decision{RequestDigest: q.Digest, RequestId: "R-1", Party: tax, Approved: true, Person: "p", Decided: q.Decisions[0].Decided}
	signed, err := catalog.SignDecision(r.keys["zs-other"], d)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.s.change(func(t *tx) (*filing, error) {
		f, err := t.load("R-1")
		if err != nil {
			return nil, err
		}
		return f, t.decide(f, "zs-other", signed)
	})
	wantRule(t, err, catalog.RuleApprovalForged)
}

func TestAdminToken(t *testing.T) {
	r := newRig(t, Config{})
	good, err := readPrivate(filepath.Join(r.home, TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"", "x", good[:len(good)-1], good + "x", strings.ToUpper(good)} {
		s, err := NewStaff(r.addr, r.s.PublicKey(), token)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Invite(r.ctx, bank, "", 0)
		wantRule(t, err, catalog.RuleToken)
		_, err = s.Review(r.ctx, "R-1", true, "")
		wantRule(t, err, catalog.RuleToken)
		wantRule(t, s.RevokeGrant(r.ctx, "G-1", "x"), catalog.RuleToken)
		wantRule(t, s.Suspend(r.ctx, bank, true, "x"), catalog.RuleToken)
		_, err = s.Parties(r.ctx)
		wantRule(t, err, catalog.RuleToken)
		_, err = s.Requests(r.ctx)
		wantRule(t, err, catalog.RuleToken)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	s, err := NewStaff(r.addr, newKey(t).Public(), good)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Parties(r.ctx); !errors.Is(err, catalog.ErrUnreachable) {
		t.Errorf("the token was given to whoever listens: %v", err)
	}
}

func TestWrongKeysAreRefused(t *testing.T) {
	r, _, _, _ := line(t, Config{AutoAccept: true})
	// The platform's key is pinned.
	c := r.clientWith(catalog.ClientConfig{Party: bank, Key: r.keys[bank], PlatformKey: newKey(t).Public()})
	_, err := c.Hello(r.ctx)
	if !errors.Is(err, catalog.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	wantRule(t, err, catalog.RulePlatformKey)
	// A party is its key.
	c = r.clientWith(catalog.ClientConfig{Party: bank, Key: newKey(t)})
	_, err = c.Roster(r.ctx)
	wantRule(t, err, catalog.RuleCaller)
	// A roster that gives this party another key is not believed.
	c = r.clientWith(catalog.ClientConfig{Party: bank, Key: r.keys[tax]})
	_, err = c.Roster(r.ctx)
	wantRule(t, err, catalog.RuleOwnKey)
	// No certificate, no connection; nor an older TLS.
	for name, change := range map[string]func(*tls.Config){
		"no certificate": func(c *tls.Config) { c.Certificates = nil },
		"TLS 1.2":        func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
	} {
		cfg, err := r.keys[bank].ClientTLS(bank, r.s.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		change(cfg)
		conn, err := grpc.NewClient(r.addr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)), grpc.WithNoProxy())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := catalogv1.NewPlatformClient(conn).Hello(r.ctx, &catalogv1.HelloRequest{}); err == nil {
			t.Errorf("%s: connected", name)
		}
		conn.Close()
	}
	// Someone who says nothing gets nothing.
	raw, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(raw); err == nil && bytes.Contains(b, []byte("yinqiao")) {
		t.Error("plain text was answered")
	}
}

func TestOversizeIsRefused(t *testing.T) {
	r, _, x, _ := line(t, Config{})
	cfg, err := r.keys[tax].ClientTLS(tax, r.s.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := catalog.Dial(r.addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := catalogv1.NewPlatformClient(conn)
	signed := r.keys[tax].Seal(tax, suite.ContextEntry, make([]byte, 1<<20))
	_, err = p.RegisterEntry(r.ctx, &catalogv1.RegisterEntryRequest{Entry: signed})
	wantRule(t, catalog.FromStatus(r.ctx, err), catalog.RuleTooLarge)
	many := make([]*catalogv1.SubjectKey, maxSubjects+1)
	_, err = p.GetStatus(r.ctx, &catalogv1.GetStatusRequest{Subjects: many})
	wantRule(t, catalog.FromStatus(r.ctx, err), catalog.RuleTooLarge)
	// Empty messages are refused, and the platform goes on.
	_, err = p.RegisterEntry(r.ctx, &catalogv1.RegisterEntryRequest{})
	wantRule(t, catalog.FromStatus(r.ctx, err), catalog.RuleMalformed)
	_, err = p.FileRequest(r.ctx, &catalogv1.FileRequestRequest{})
	wantRule(t, catalog.FromStatus(r.ctx, err), catalog.RuleMalformed)
	_, err = p.Decide(r.ctx, &catalogv1.DecideRequest{})
	wantRule(t, catalog.FromStatus(r.ctx, err), catalog.RuleNotFound)
	_, err = p.GetStatus(r.ctx, &catalogv1.GetStatusRequest{Subjects: many[:1]})
	wantRule(t, catalog.FromStatus(r.ctx, err), catalog.RuleMalformed)
	if _, err := x.Roster(r.ctx); err != nil {
		t.Error(err)
	}
}

// TestLargeGrant goes through the store in pieces.
func TestLargeGrant(t *testing.T) {
	r, b, _, s := line(t, Config{AutoAccept: true})
	q := r.request("R-1")
	q.Uses = nil
	for i := range 7 {
		e := testEntry("31000"+string(rune('2'+i))+"/000100", "1")
		e.Items = nil
		var items []string
		for j := range 1000 {
			name := "item " + string(rune('a'+j%26)) + strings.Repeat("x", 20) + string(rune('0'+j/26))
			e.Items = append(e.Items, &catalogv1.Item{Name: name, Type: "float", Description: strings.Repeat("d", 40)})
			items = append(items, name)
		}
		if _, err := s.RegisterEntry(r.ctx, e); err != nil {
			t.Fatal(err)
		}
		q.Uses = append(q.Uses, &catalogv1.Use{Entry: e.Code, Version: 1, Items: items[:200]})
	}
	_, err := b.FileRequest(r.ctx, q, false)
	wantRule(t, err, catalog.RuleTooLarge)
	q.Uses = q.Uses[:5]
	f, err := b.FileRequest(r.ctx, q, false)
	wantState(t, f, err, granted)
	g, err := b.Grant(r.ctx, f.GrantID)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(g.Signed().Payload); n < 2*pieceSize {
		t.Errorf("the grant has only %d bytes: not what this test is about", n)
	}
}

func TestConcurrentStatus(t *testing.T) {
	r, b, x, _ := line(t, Config{AutoAccept: true, StatusLife: 2 * time.Second})
	if _, err := b.FileRequest(r.ctx, r.request("R-1"), false); err != nil {
		t.Fatal(err)
	}
	q, err := x.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Approve: true, Person: "p"})
	wantState(t, q, err, granted)
	// Many ask while the clock runs on and statuses are renewed: an answer that
	// was overtaken is no rollback.
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				r.ahead.Add(int64(300 * time.Millisecond))
				if err := b.Status(r.ctx, q.GrantID); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestSuspensionEndsWhatRuns(t *testing.T) {
	r, b, x, _ := line(t, Config{AutoAccept: true})
	if _, err := b.FileRequest(r.ctx, r.request("R-1"), false); err != nil {
		t.Fatal(err)
	}
	q, err := x.Decide(r.ctx, catalog.Decision{RequestID: "R-1", Approve: true, Person: "p"})
	wantState(t, q, err, granted)
	if _, err := b.Grant(r.ctx, q.GrantID); err != nil {
		t.Fatal(err)
	}
	if err := r.staff.Suspend(r.ctx, social, true, "breach"); err != nil {
		t.Fatal(err)
	}
	wantRule(t, b.Status(r.ctx, q.GrantID), catalog.RulePartySuspended)
	_, err = b.Grant(r.ctx, q.GrantID)
	wantRule(t, err, catalog.RulePartySuspended)
	_, err = b.FileRequest(r.ctx, r.request("R-2"), false)
	wantRule(t, err, catalog.RulePartySuspended)
	if err := r.staff.Suspend(r.ctx, social, false, ""); err != nil {
		t.Fatal(err)
	}
	if err := b.Status(r.ctx, q.GrantID); err != nil {
		t.Error(err)
	}
	// New keys of the approver: what it signed under the old ones is void.
	r.enrol(tax)
	wantRule(t, b.Status(r.ctx, q.GrantID), catalog.RuleEntrySignature)
}

func TestHome(t *testing.T) {
	home := filepath.Join(t.TempDir(), "p")
	if _, err := Open(home, Options{}); err == nil || !strings.Contains(err.Error(), "run `yinqiao platform init` first") {
		t.Errorf("no home: %v", err)
	}
	if err := Init(home, Config{Listen: "nowhere", Advertise: ":1", StatusLife: time.Millisecond, MinFreeMiB: -1, CodeTable: CodeTable{
		Name:   "x",
		Fields: map[string]map[string]string{"share_type": {"1": "maybe"}},
	}}); err == nil {
		t.Error("a bad configuration was taken")
	} else {
		for _, key := range []string{"listen", "advertise", "status_life", "min_free_mib", "maybe"} {
			if !strings.Contains(err.Error(), key) {
				t.Errorf("not reported: %s: %v", key, err)
			}
		}
	}
	cfg := Config{Listen: "127.0.0.1:0", AutoAccept: true, StatusLife: 30 * time.Second, MinFreeMiB: 1, CodeTable: CodeTable{
		Name:   "zs",
		Fields: map[string]map[string]string{"share_type": {"0": "conditional", "1": "unconditional", "2": "none"}},
	}}
	if err := Init(home, cfg); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(home, KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := Init(home, cfg); !errors.Is(err, os.ErrExist) {
		t.Errorf("a home was made twice: %v", err)
	}
	if again, _ := os.ReadFile(filepath.Join(home, KeyFile)); !bytes.Equal(key, again) {
		t.Error("the key was overwritten")
	}
	if _, err := OpenStaff(home); err == nil || !strings.Contains(err.Error(), "yinqiao platform run") {
		t.Errorf("staff before the first start: %v", err)
	}
	s, err := Open(home, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := s.Config()
	if got.StatusLife != cfg.StatusLife || !got.AutoAccept || got.CodeTable.Fields["share_type"]["2"] != "none" {
		t.Errorf("the configuration does not survive its file: %+v", got)
	}
	if st, err := s.CodeTable().ShareType("2"); err != nil || st != catalog.ShareNone {
		t.Errorf("%v %v", st, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{KeyFile, TokenFile, storeKey} {
		path := filepath.Join(home, name)
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, fi.Mode(), err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(home, Options{}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("%s open to others: %v", name, err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(home, ConfigFile), []byte("listen: 127.0.0.1:0\nauto_acept: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(home, Options{}); err == nil || !strings.Contains(err.Error(), "auto_accept") {
		t.Errorf("an unknown key: %v", err)
	}
}

// TestPanicIsContained: a fault in one call is that call's.
func TestPanicIsContained(t *testing.T) {
	r := newRig(t, Config{})
	_, err := answer(context.Background(), r.s, "test", func() (int, error) { panic("boom") })
	if err == nil || strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v", err)
	}
}
