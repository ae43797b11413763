package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/catalog/platform"
	"github.com/yinqiao/yinqiao/internal/audit"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/node/api"
	"github.com/yinqiao/yinqiao/node/dataset"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	"github.com/yinqiao/yinqiao/table"
)

const testKind = "test.count.v1"

// hooks lets a test act in the middle of the toy protocol.
type hooks struct {
	mu  sync.Mutex
	mid func(party string)
	err map[string]error
	cnt map[string]int64   // overrides a party's count
	out func(party string) // while the output is staged: after the protocol, before the receipt
	// outErr is why a party's output cannot be written.
	outErr map[string]error
	step   func(party string, i int) error // after step i of stepJob
	// estimate is what a kind of the family of choose_test.go is to cost.
	estimate func(kind string, rows []int64) (job.Cost, error)
	// What a party of releaseJob does and says, see history_test.go.
	release releaseHooks
}

// staging is a result value that calls hooks.out when it is written.
type staging struct {
	h     *hooks
	party string
}

func (s staging) MarshalJSON() ([]byte, error) {
	s.h.mu.Lock()
	out, err := s.h.out, s.h.outErr[s.party]
	s.h.mu.Unlock()
	if out != nil {
		out(s.party)
	}
	if err != nil {
		return nil, err
	}
	return []byte("1"), nil
}

func (h *hooks) at(party string) error {
	h.mu.Lock()
	mid, err := h.mid, h.err[party]
	h.mu.Unlock()
	if mid != nil {
		mid(party)
	}
	return err
}

// countJob is a protocol of two messages: both parties tell how many rows they
// have and end with the sum.
func countJob(h *hooks) job.Definition {
	return job.Definition{
		Name: testKind, Summary: "adds two row counts", Assumptions: []string{"none"},
		Roles: []job.RoleSpec{{Role: "left", Min: 1, Max: 1}, {Role: "right", Min: 1, Max: 1}},
		Reveals: func(s job.Spec) []job.Disclosure {
			d := []job.Disclosure{{Field: "rows", What: "the number of rows of both"}, {Field: "list", What: "own keys"}, {Field: "staged", What: "nothing"}}
			var p struct {
				Open  bool `json:"open"`
				Sneak bool `json:"sneak"`
			}
			_ = json.Unmarshal(s.Params, &p)
			if p.Open {
				d = append(d, job.Disclosure{To: "left", Field: "opened", What: "more", Permission: "open.test"})
			}
			return d
		},
		Validate: func(s job.Spec) error {
			var p struct {
				Open  bool `json:"open"`
				Sneak bool `json:"sneak"`
				Panic bool `json:"panic"`
			}
			err := job.DecodeParams(s.Params, &p)
			if p.Panic {
				panic("a fault in the job kind")
			}
			if unit := s.Limits.Release.Unit; unit != "" {
				err = errors.Join(err, fmt.Errorf("this kind protects no %s", unit))
			}
			return err
		},
		Run: func(ctx context.Context, env job.Env) (job.Result, error) {
			var p struct {
				Open  bool `json:"open"`
				Sneak bool `json:"sneak"`
			}
			if err := job.DecodeParams(env.Spec.Params, &p); err != nil {
				return job.Result{}, err
			}
			if err := env.Session.Bind(ctx, testKind); err != nil {
				return job.Result{}, err
			}
			_, ch, err := env.Session.Other()
			if err != nil {
				return job.Result{}, err
			}
			var own int64
			for b, err := range env.Inputs[0].Batches(ctx) {
				if err != nil {
					return job.Result{}, err
				}
				own += b.NumRows()
			}
			if err := ch.Send(ctx, []byte{byte(own)}); err != nil {
				return job.Result{}, err
			}
			if err := h.at(string(env.Session.Self())); err != nil {
				return job.Result{}, err
			}
			if err := ctx.Err(); err != nil {
				return job.Result{}, context.Cause(ctx)
			}
			m, err := ch.Recv(ctx)
			if err != nil {
				return job.Result{}, err
			}
			sum := own + int64(m[0])
			h.mu.Lock()
			if c, ok := h.cnt[string(env.Session.Self())]; ok {
				sum = c
			}
			h.mu.Unlock()
			res := job.Result{Values: map[string]any{"staged": staging{h, string(env.Session.Self())}}, Counts: map[string]int64{"rows": sum}, Rows: own}
			if p.Sneak {
				res.Values["secret"] = 1
			}
			t, err := table.Take(ctx, env.Inputs[0], []int{0})
			if err != nil {
				return job.Result{}, err
			}
			res.Tables = map[string]table.Source{"list": t}
			return res, nil
		},
	}
}

// world is a platform and two nodes in one process, over real TLS.
type world struct {
	t        *testing.T
	ctx      context.Context
	hooks    *hooks
	tune     func(*Node) // before a node runs
	platform *platform.Server
	platLis  net.Listener
	stopPlat func()
	platHome string
	homes    map[string]Home
	nodes    map[string]*Node
	stops    map[string]func()
}

func newWorld(t *testing.T) *world { return newWorldOf(t, "bank", "gov") }

func newWorldOf(t *testing.T, ids ...string) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{t: t, ctx: ctx, hooks: &hooks{err: map[string]error{}, cnt: map[string]int64{}, outErr: map[string]error{}}, homes: map[string]Home{}, nodes: map[string]*Node{}, stops: map[string]func(){}}
	t.Cleanup(cancel)
	home := filepath.Join(t.TempDir(), "platform")
	var err error
	w.platLis, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, platform.Init(home, platform.Config{Listen: w.platLis.Addr().String(), Advertise: w.platLis.Addr().String(), AutoAccept: true}))
	s, err := platform.Open(home, platform.Options{Version: "test"})
	must(t, err)
	w.platform, w.platHome = s, home
	pctx, pcancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(pctx, w.platLis) }()
	var once sync.Once
	w.stopPlat = func() { once.Do(func() { pcancel(); <-done; _ = s.Close() }) }
	t.Cleanup(w.stopPlat)
	for _, id := range ids {
		w.enrol(id)
	}
	for _, id := range ids {
		w.start(id)
	}
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// freeAddr returns an address nobody listens on, below the ports that systems
// give to outgoing connections: it stays free while its node is down.
func freeAddr(t *testing.T) string {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 18000+mrand.IntN(14000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

func (w *world) enrol(id string) {
	w.t.Helper()
	addr := freeAddr(w.t)
	w.enrolAt(id, addr, addr)
}

// enrolAt enrols a party that listens at addr, where others reach it at
// endpoint.
func (w *world) enrolAt(id, addr, endpoint string) {
	t := w.t
	t.Helper()
	h := Home{Dir: filepath.Join(t.TempDir(), id)}
	key, err := h.Create()
	must(t, err)
	code, err := w.platform.Invite(id, id, time.Hour)
	must(t, err)
	inv, err := catalog.ParseInvite(code)
	must(t, err)
	_, err = catalog.Enrol(w.ctx, inv, key, endpoint, id)
	must(t, err)
	csv := filepath.Join(h.Dir, "data.csv")
	must(t, os.WriteFile(csv, []byte("id,x,hidden\n1,10,7\n2,20,8\n3,30,9\n"), 0o600))
	must(t, h.ReplaceConfig(Config{
		Party: id, Listen: addr, Advertise: endpoint, API: "127.0.0.1:1",
		Platform: PlatformConfig{Address: inv.Address, PublicKey: EncodeKey(inv.PlatformKey)},
		Datasets: []dataset.Dataset{{Name: "data", Driver: "csv", Path: csv, Columns: []dataset.Column{
			{Name: "id", Type: table.Int, Key: true}, {Name: "x", Type: table.Float}, {Name: "hidden", Type: table.Float},
		}}},
	}))
	w.homes[id] = h
}

func (w *world) start(id string) {
	t := w.t
	t.Helper()
	reg, err := job.NewRegistry(slices.Concat(familyJobs(w.hooks), sumJobs(w.hooks), statisticsJobs(w.hooks), []job.Definition{countJob(w.hooks), trioJob(w.hooks), stepJob(w.hooks), releaseJob(w.hooks), figureJob()})...)
	must(t, err)
	n, err := Open(w.ctx, w.homes[id], Options{Registry: reg, Version: "test", Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))})
	must(t, err)
	if w.tune != nil {
		w.tune(n)
	}
	l, err := net.Listen("tcp", n.cfg.Listen)
	must(t, err)
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = n.Run(ctx, l) }()
	var once sync.Once
	w.nodes[id] = n
	w.stops[id] = func() {
		once.Do(func() {
			cancel()
			<-done
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(w.stops[id])
	until(t, n.up)
}

// up reports whether Run has set the transport up.
func (n *Node) up() bool { return n.roster.Load() != nil && n.transport() != nil }

// until waits for a condition that nobody announces.
func until(t testing.TB, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatal("the condition did not come about")
		}
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if testing.Verbose() {
		fmt.Fprintf(os.Stderr, "%s", p)
	}
	return len(p), nil
}

const (
	bankCode = "300001/1"
	govCode  = "300002/1"
)

func entry(code string, items ...string) *catalogv1.Entry {
	e := &catalogv1.Entry{
		Code: code, Name: "table", ShareType: "2", ShareCondition: "on request", Grade: "2", SourceSystem: "core", UpdateCycle: "2", Format: "0200",
		Published: timestamppb.Now(),
	}
	for _, n := range items {
		it := &catalogv1.Item{Name: n, Type: "float"}
		if n == "id" {
			it.Type, it.Key = "int", true
		}
		e.Items = append(e.Items, it)
	}
	return e
}

func (w *world) register() {
	w.t.Helper()
	for id, code := range map[string]string{"bank": bankCode, "gov": govCode} {
		_, err := w.nodes[id].RegisterEntry(w.ctx, &nodev1.RegisterEntryRequest{Entry: entry(code, "id", "x", "hidden"), Dataset: "data"})
		must(w.t, err)
	}
}

func as(ctx context.Context, name string) context.Context {
	return api.WithIdentity(ctx, api.Identity{Name: name, Role: api.Operate})
}

// granted registers entries, files a request, has it approved, and returns the
// grant's ID.
func (w *world) granted(change func(*catalogv1.Request)) string {
	w.t.Helper()
	w.register()
	return w.approved(wanted(change))
}

// wanted is a request for the registered entries.
func wanted(change func(*catalogv1.Request)) *catalogv1.Request {
	q := &catalogv1.Request{
		Purpose: "joint count", Scene: "test", LegalBasis: "contract",
		Uses: []*catalogv1.Use{{Entry: bankCode, Version: 1, Items: []string{"id", "x"}}, {Entry: govCode, Version: 1, Items: []string{"id", "x"}}},
		Computations: []*catalogv1.Computation{{Kind: testKind, Roles: []*catalogv1.RoleBinding{
			{Party: "bank", Role: "left"}, {Party: "gov", Role: "right"},
		}}},
		Recipients: []string{"bank", "gov"},
		Limits:     &catalogv1.Limits{MaxRuns: 3, ValidFrom: timestamppb.Now(), ValidUntil: timestamppb.New(time.Now().Add(time.Hour))},
	}
	if change != nil {
		change(q)
	}
	return q
}

// approved files a request, has it approved, and returns the grant's ID.
func (w *world) approved(q *catalogv1.Request) string {
	w.t.Helper()
	r, err := w.nodes["bank"].CreateRequest(as(w.ctx, "op"), &nodev1.CreateRequestRequest{Request: q})
	must(w.t, err)
	id := r.GetRequest().GetRequest().GetId()
	var last *nodev1.RequestSummary
	for _, p := range r.GetRequest().GetAwaiting() {
		d, err := w.nodes[p].DecideRequest(as(w.ctx, "ap"), &nodev1.DecideRequestRequest{RequestId: id, Approve: true, Digest: r.GetRequest().GetDigest()})
		must(w.t, err)
		last = d.GetRequest()
	}
	if last.GetGrantId() == "" {
		w.t.Fatalf("request is %s", last.GetState())
	}
	return last.GetGrantId()
}

// revoke revokes a grant as the platform's staff.
func (w *world) revoke(grant, reason string) {
	w.t.Helper()
	staff, err := platform.OpenStaff(w.platHome)
	must(w.t, err)
	defer staff.Close()
	must(w.t, staff.RevokeGrant(w.ctx, grant, reason))
}

func (w *world) submit(req *nodev1.SubmitJobRequest) (string, error) {
	r, err := w.nodes["bank"].SubmitJob(as(w.ctx, "op"), req)
	return r.GetJob(), err
}

// ended waits for a job to end at a node.
func (w *world) ended(party, id string) *nodev1.JobView {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
	defer cancel()
	var last *nodev1.JobView
	err := w.nodes[party].WatchJob(ctx, &nodev1.WatchJobRequest{Job: id}, func(v *nodev1.JobView) error { last = v; return nil })
	must(w.t, err)
	return last
}

func (w *world) events(party string) []*auditv1.Event {
	w.t.Helper()
	var out []*auditv1.Event
	for _, e := range w.entries(party) {
		if s := e.Leaf.GetEvent(); s != nil {
			ev, err := audit.VerifyEvent(s, map[string][]byte{party: w.nodes[party].key.Public()})
			must(w.t, err)
			out = append(out, ev)
		}
	}
	return out
}

func (w *world) entries(party string) []audit.Entry {
	es, err := w.nodes[party].audit.Read(w.ctx, 0, 500)
	must(w.t, err)
	return es
}

func (w *world) used(party, grant string) int64 {
	g, err := w.nodes[party].resolver.Grant(w.ctx, grant)
	must(w.t, err)
	u, err := w.nodes[party].store.Used(runCounter(g))
	must(w.t, err)
	return u
}

// TestWholeLine runs a job between two nodes and holds both parties' accounts
// against each other.
func TestWholeLine(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	bank, gov := w.ended("bank", id), w.ended("gov", id)
	for p, v := range map[string]*nodev1.JobView{"bank": bank, "gov": gov} {
		if v.GetState() != "done" {
			t.Fatalf("%s: %s %s %s", p, v.GetState(), v.GetClass(), v.GetReason())
		}
		if v.GetCounts()["rows"] != 6 || v.GetUsesLeft() != 2 || v.GetParties()[1].GetRows() != 3 {
			t.Errorf("%s: counts %v, uses left %d, parties %v", p, v.GetCounts(), v.GetUsesLeft(), v.GetParties())
		}
	}
	if !bytes.Equal(bank.GetReceipt().GetDigest(), gov.GetReceipt().GetDigest()) || len(bank.GetReceipt().GetDigest()) == 0 {
		t.Error("the receipts differ")
	}
	keys := map[string][]byte{"bank": w.nodes["bank"].key.Public(), "gov": w.nodes["gov"].key.Public()}
	var raws [][]byte
	for _, p := range []string{"bank", "gov"} {
		for _, e := range w.entries(p) {
			if s := e.Leaf.GetReceipt(); s != nil {
				r, err := audit.VerifyReceipt(s, keys)
				must(t, err)
				if len(r.GetParties()) != 2 || len(r.GetAbsent()) != 0 || r.GetParties()[0].GetUnits()["bytes_sent"] == 0 {
					t.Errorf("receipt %v", r)
				}
				raws = append(raws, e.Raw)
			}
		}
	}
	if len(raws) != 2 || !bytes.Equal(raws[0], raws[1]) {
		t.Error("the logs do not hold the same receipt bytes")
	}
	var values []byte
	must(t, w.nodes["bank"].GetResult(w.ctx, &nodev1.GetResultRequest{Job: id}, func(r *nodev1.GetResultReply) error {
		values = append(values, r.GetValues()...)
		if len(r.GetTables()) != 1 || r.GetTables()[0] != "list" {
			t.Errorf("tables %v", r.GetTables())
		}
		return nil
	}))
	var csv []byte
	must(t, w.nodes["bank"].GetResult(w.ctx, &nodev1.GetResultRequest{Job: id, Table: "list"}, func(r *nodev1.GetResultReply) error {
		csv = append(csv, r.GetChunk()...)
		return nil
	}))
	if string(csv) != "id,x\n1,10\n" {
		t.Errorf("table %q: only granted columns may be in it", csv)
	}
	for _, p := range []string{"bank", "gov"} {
		w.stops[p]()
		rep, err := audit.Verify(w.ctx, audit.VerifyConfig{Dir: w.homes[p].AuditDir(), Party: p, LogKey: keys[p], PartyKeys: keys})
		must(t, err)
		if !rep.OK() || rep.Receipts != 1 {
			t.Errorf("%s: report %+v", p, rep)
		}
	}
}
