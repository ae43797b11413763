package platform

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, leaks...) }

// Libraries keep these for the life of the process.
var leaks = []goleak.Option{
	goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
	goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
}

const (
	bank, tax, social = "zs-bank", "zs-tax", "zs-social"
	taxCode           = "310001/000001" // conditional
	socialCode        = "310002/000007" // unconditional
)

// rig is a platform on loopback with a clock of its own.
type rig struct {
	t      *testing.T
	ctx    context.Context
	home   string
	s      *Server
	addr   string
	staff  *Staff
	stop   func()
	ahead  atomic.Int64 // of the real clock, in nanoseconds
	keys   map[string]*suite.Key
	closed bool
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	cfg.MinFreeMiB = 1
	r := &rig{t: t, ctx: t.Context(), home: filepath.Join(t.TempDir(), "platform"), keys: map[string]*suite.Key{}}
	if err := Init(r.home, cfg); err != nil {
		t.Fatal(err)
	}
	r.start()
	t.Cleanup(r.end)
	return r
}

func (r *rig) start() {
	r.t.Helper()
	s, err := Open(r.home, Options{Now: r.now, Version: "test"})
	if err != nil {
		r.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	r.s, r.addr = s, ln.Addr().String()
	if err := s.noteAddress(r.addr); err != nil { // as Serve does, before OpenStaff reads it
		r.t.Fatal(err)
	}
	go func() { done <- s.Serve(ctx, ln) }()
	if r.staff, err = OpenStaff(r.home); err != nil {
		r.t.Fatal(err)
	}
	r.stop = func() {
		cancel()
		if err := errors.Join(r.staff.Close(), <-done, s.Close()); err != nil {
			r.t.Errorf("closing: %v", err)
		}
	}
	r.closed = false
}

func (r *rig) end() {
	if !r.closed {
		r.closed = true
		r.stop()
	}
}

func (r *rig) invite(party string) catalog.Invite {
	r.t.Helper()
	code, err := r.staff.Invite(r.ctx, party, "party "+party, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	in, err := catalog.ParseInvite(code)
	if err != nil {
		r.t.Fatal(err)
	}
	return in
}

// enrol brings parties onto the roster.
func (r *rig) enrol(parties ...string) {
	r.t.Helper()
	for _, p := range parties {
		r.keys[p] = newKey(r.t)
		if _, err := catalog.Enrol(r.ctx, r.invite(p), r.keys[p], p+".example:7400", ""); err != nil {
			r.t.Fatal(err)
		}
	}
}

func newKey(t *testing.T) *suite.Key {
	t.Helper()
	k, err := suite.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// client is a party's; it asks for the roster every time.
func (r *rig) client(party string) *catalog.Client {
	r.t.Helper()
	return r.clientWith(catalog.ClientConfig{Party: party, Key: r.keys[party], Seen: catalog.NewMemorySeen()})
}

func (r *rig) clientWith(cfg catalog.ClientConfig) *catalog.Client {
	r.t.Helper()
	if cfg.Address == "" {
		cfg.Address = r.addr
	}
	if cfg.PlatformKey == nil {
		cfg.PlatformKey = r.s.PublicKey()
	}
	cfg.Now = r.now
	if cfg.RosterAge == 0 {
		cfg.RosterAge = time.Nanosecond
	}
	c, err := catalog.NewClient(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func testEntry(code, share string) *catalogv1.Entry {
	e := &catalogv1.Entry{
		Code: code, Name: "a record", ShareType: share, Grade: "3", SourceSystem: "core", UpdateCycle: "4", Format: "0200",
		Items: []*catalogv1.Item{{Name: "id", Type: "text", Key: true}, {Name: "paid", Type: "float"}},
	}
	if share != "1" {
		e.ShareCondition = "with consent"
	}
	return e
}

func (r *rig) request(id string, uses ...*catalogv1.Use) *catalogv1.Request {
	if len(uses) == 0 {
		uses = []*catalogv1.Use{{Entry: taxCode, Version: 1, Items: []string{"paid"}}}
	}
	return &catalogv1.Request{
		Id: id, Purpose: "credit scoring", Scene: "before the loan", LegalBasis: "consent", Person: "li.na", Uses: uses,
		Computations: []*catalogv1.Computation{{Kind: "fl.logit.v1", Roles: []*catalogv1.RoleBinding{
			{Party: bank, Role: "label-holder"}, {Party: tax, Role: "feature-holder"}, {Party: social, Role: "feature-holder"},
		}}},
		Recipients: []string{bank},
		Limits:     &catalogv1.Limits{MaxRuns: 1, ValidFrom: timestamppb.New(r.now().Add(-time.Minute)), ValidUntil: timestamppb.New(r.now().Add(time.Hour))},
	}
}

// line is a platform with three parties, two entries, and their clients.
func line(t *testing.T, cfg Config) (r *rig, b, x, s *catalog.Client) {
	t.Helper()
	r = newRig(t, cfg)
	r.enrol(bank, tax, social)
	b, x, s = r.client(bank), r.client(tax), r.client(social)
	if _, err := x.RegisterEntry(r.ctx, testEntry(taxCode, "2")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RegisterEntry(r.ctx, testEntry(socialCode, "1")); err != nil {
		t.Fatal(err)
	}
	return r, b, x, s
}

func wantRule(t *testing.T, err error, rule string) {
	t.Helper()
	if catalog.Rule(err) != rule {
		t.Fatalf("want a refusal by rule %s, got %v", rule, err)
	}
}

func wantState(t *testing.T, q *catalog.Request, err error, state catalogv1.RequestState) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if q.State != state {
		t.Fatalf("want state %s, got %s (%s)", state, q.State, q.Reason)
	}
}
