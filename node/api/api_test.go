package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/yinqiao/yinqiao/internal/suite"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a node that records who called what.
type fake struct {
	mu    sync.Mutex
	calls []string // "person method"
	err   error
	info  func(context.Context) error
	watch func(ctx context.Context, send func(*nodev1.JobView) error) error
}

func note[R any](f *fake, ctx context.Context, method string, r *R) (*R, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, Person(ctx)+" "+method)
	if f.err != nil {
		return nil, f.err
	}
	return r, nil
}

func (f *fake) Info(ctx context.Context, _ *nodev1.InfoRequest) (*nodev1.InfoReply, error) {
	if f.info != nil {
		if err := f.info(ctx); err != nil {
			return nil, err
		}
	}
	return note(f, ctx, "Info", &nodev1.InfoReply{Party: "zs-bank"})
}

func (f *fake) Doctor(ctx context.Context, _ *nodev1.DoctorRequest) (*nodev1.DoctorReply, error) {
	return note(f, ctx, "Doctor", &nodev1.DoctorReply{})
}

func (f *fake) RegisterEntry(ctx context.Context, _ *nodev1.RegisterEntryRequest) (*nodev1.RegisterEntryReply, error) {
	return note(f, ctx, "RegisterEntry", &nodev1.RegisterEntryReply{})
}

func (f *fake) ListEntries(ctx context.Context, _ *nodev1.ListEntriesRequest) (*nodev1.ListEntriesReply, error) {
	return note(f, ctx, "ListEntries", &nodev1.ListEntriesReply{})
}

func (f *fake) CreateRequest(ctx context.Context, _ *nodev1.CreateRequestRequest) (*nodev1.CreateRequestReply, error) {
	return note(f, ctx, "CreateRequest", &nodev1.CreateRequestReply{})
}

func (f *fake) SubmitRequest(ctx context.Context, _ *nodev1.SubmitRequestRequest) (*nodev1.SubmitRequestReply, error) {
	return note(f, ctx, "SubmitRequest", &nodev1.SubmitRequestReply{})
}

func (f *fake) ListRequests(ctx context.Context, _ *nodev1.ListRequestsRequest) (*nodev1.ListRequestsReply, error) {
	return note(f, ctx, "ListRequests", &nodev1.ListRequestsReply{})
}

func (f *fake) DecideRequest(ctx context.Context, _ *nodev1.DecideRequestRequest) (*nodev1.DecideRequestReply, error) {
	return note(f, ctx, "DecideRequest", &nodev1.DecideRequestReply{})
}

func (f *fake) ListKinds(ctx context.Context, _ *nodev1.ListKindsRequest) (*nodev1.ListKindsReply, error) {
	return note(f, ctx, "ListKinds", &nodev1.ListKindsReply{})
}

func (f *fake) ResumeJob(ctx context.Context, _ *nodev1.ResumeJobRequest) (*nodev1.ResumeJobReply, error) {
	return note(f, ctx, "ResumeJob", &nodev1.ResumeJobReply{Job: "J-2", Attempt: 2})
}

func (f *fake) SubmitJob(ctx context.Context, _ *nodev1.SubmitJobRequest) (*nodev1.SubmitJobReply, error) {
	return note(f, ctx, "SubmitJob", &nodev1.SubmitJobReply{Job: "J-1"})
}

func (f *fake) WatchJob(ctx context.Context, r *nodev1.WatchJobRequest, send func(*nodev1.JobView) error) error {
	v, err := note(f, ctx, "WatchJob", &nodev1.JobView{Job: r.GetJob()})
	if err != nil {
		return err
	}
	if f.watch != nil {
		return f.watch(ctx, send)
	}
	return send(v)
}

func (f *fake) ListJobs(ctx context.Context, _ *nodev1.ListJobsRequest) (*nodev1.ListJobsReply, error) {
	return note(f, ctx, "ListJobs", &nodev1.ListJobsReply{})
}

func (f *fake) CancelJob(ctx context.Context, _ *nodev1.CancelJobRequest) (*nodev1.CancelJobReply, error) {
	return note(f, ctx, "CancelJob", &nodev1.CancelJobReply{})
}

func (f *fake) GetResult(ctx context.Context, _ *nodev1.GetResultRequest, send func(*nodev1.GetResultReply) error) error {
	v, err := note(f, ctx, "GetResult", &nodev1.GetResultReply{Values: []byte("{}")})
	if err != nil {
		return err
	}
	return send(v)
}

func (f *fake) ListAudit(ctx context.Context, _ *nodev1.ListAuditRequest) (*nodev1.ListAuditReply, error) {
	return note(f, ctx, "ListAudit", &nodev1.ListAuditReply{})
}

// calls is one call of every method, by name.
var calls = map[string]func(context.Context, nodev1.OperatorClient) error{
	"Info":          unaryCall(nodev1.OperatorClient.Info),
	"Doctor":        unaryCall(nodev1.OperatorClient.Doctor),
	"RegisterEntry": unaryCall(nodev1.OperatorClient.RegisterEntry),
	"ListEntries":   unaryCall(nodev1.OperatorClient.ListEntries),
	"CreateRequest": unaryCall(nodev1.OperatorClient.CreateRequest),
	"SubmitRequest": unaryCall(nodev1.OperatorClient.SubmitRequest),
	"ListRequests":  unaryCall(nodev1.OperatorClient.ListRequests),
	"DecideRequest": unaryCall(nodev1.OperatorClient.DecideRequest),
	"ListKinds":     unaryCall(nodev1.OperatorClient.ListKinds),
	"SubmitJob":     unaryCall(nodev1.OperatorClient.SubmitJob),
	"ResumeJob":     unaryCall(nodev1.OperatorClient.ResumeJob),
	"WatchJob":      streamCall(nodev1.OperatorClient.WatchJob),
	"ListJobs":      unaryCall(nodev1.OperatorClient.ListJobs),
	"CancelJob":     unaryCall(nodev1.OperatorClient.CancelJob),
	"GetResult":     streamCall(nodev1.OperatorClient.GetResult),
	"ListAudit":     unaryCall(nodev1.OperatorClient.ListAudit),
}

func unaryCall[Q, R any](m func(nodev1.OperatorClient, context.Context, *Q, ...grpc.CallOption) (*R, error)) func(context.Context, nodev1.OperatorClient) error {
	return func(ctx context.Context, c nodev1.OperatorClient) error {
		_, err := m(c, ctx, new(Q))
		return err
	}
}

func streamCall[Q, R any](m func(nodev1.OperatorClient, context.Context, *Q, ...grpc.CallOption) (grpc.ServerStreamingClient[R], error)) func(context.Context, nodev1.OperatorClient) error {
	return func(ctx context.Context, c nodev1.OperatorClient) error {
		s, err := m(c, ctx, new(Q))
		if err != nil {
			return err
		}
		for {
			if _, err := s.Recv(); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

// node is a server under test with its three persons.
type node struct {
	*fake
	addr    string
	key     *suite.Key
	persons *Persons
	tokens  map[Role]string
	log     *lockedBuffer
	stop    func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, edit ...func(*Config)) *node {
	t.Helper()
	n := &node{fake: &fake{}, tokens: make(map[Role]string), log: &lockedBuffer{}}
	var err error
	if n.key, err = suite.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if n.persons, err = OpenPersons(filepath.Join(t.TempDir(), PersonsFile)); err != nil {
		t.Fatal(err)
	}
	for _, r := range []Role{Operate, Approve, Audit} {
		if n.tokens[r], err = n.persons.Add("p-"+string(r), r); err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{
		Node: "zs-bank", Key: n.key, Persons: n.persons, Backend: n.fake,
		Log: slog.New(slog.NewTextHandler(n.log, nil)), StopGrace: 50 * time.Millisecond,
	}
	for _, e := range edit {
		e(&cfg)
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

func (n *node) dial(t *testing.T, token string) nodev1.OperatorClient {
	t.Helper()
	c, stop, err := Dial(t.Context(), n.addr, n.key.Public(), token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	return c
}

func class(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return fmt.Sprintf("%T", err)
}

func TestEveryMethodIsInTheTable(t *testing.T) {
	var methods []string
	for _, m := range nodev1.Operator_ServiceDesc.Methods {
		methods = append(methods, m.MethodName)
	}
	for _, m := range nodev1.Operator_ServiceDesc.Streams {
		methods = append(methods, m.StreamName)
	}
	for _, m := range methods {
		if _, ok := needs[m]; !ok {
			t.Errorf("%s has no role", m)
		}
		if calls[m] == nil {
			t.Errorf("%s is not tested", m)
		}
	}
	if len(needs) != len(methods) || len(calls) != len(methods) {
		t.Errorf("%d methods, %d with a role, %d tested", len(methods), len(needs), len(calls))
	}
	if _, ok := need("/yinqiao.node.v1.Operator/Format"); ok {
		t.Error("an unknown method has a role")
	}
	if _, ok := need("/other.Service/Info"); ok {
		t.Error("another service's method has a role")
	}
}

func TestWhoMayCallWhat(t *testing.T) {
	n := start(t, func(c *Config) {})
	allowed := map[Role][]string{ // written out by hand: the table in the code is what is tested
		Operate: {
			"Info", "Doctor", "RegisterEntry", "ListEntries", "CreateRequest", "SubmitRequest", "ListRequests", "ListKinds",
			"SubmitJob", "ResumeJob", "WatchJob", "ListJobs", "CancelJob", "GetResult",
		},
		Approve: {"Info", "Doctor", "ListEntries", "ListRequests", "DecideRequest", "ListKinds", "WatchJob", "ListJobs"},
		Audit:   {"Info", "Doctor", "ListEntries", "ListRequests", "ListKinds", "WatchJob", "ListJobs", "ListAudit"},
	}
	for role, token := range n.tokens {
		c := n.dial(t, token)
		for method, call := range calls {
			n.fake.calls = nil
			err := call(t.Context(), c)
			if slices.Contains(allowed[role], method) {
				if err != nil || !slices.Equal(n.fake.calls, []string{"p-" + string(role) + " " + method}) {
					t.Errorf("%s %s: %v, calls %q", role, method, err, n.fake.calls)
				}
				continue
			}
			if class(err) != WrongRole || len(n.fake.calls) != 0 {
				t.Errorf("%s %s: %v, calls %q", role, method, err, n.fake.calls)
			}
		}
	}

	revoked, err := n.persons.Add("gone", Operate)
	if err != nil {
		t.Fatal(err)
	}
	gone := n.dial(t, revoked)
	if err := calls["Info"](t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if err := n.persons.Remove("gone"); err != nil {
		t.Fatal(err)
	}
	good := n.tokens[Operate]
	for name, c := range map[string]nodev1.OperatorClient{
		"no token":       n.dial(t, ""),
		"another token":  n.dial(t, strings.Repeat("A", 43)),
		"one bit off":    n.dial(t, flip(good)),
		"with a tail":    n.dial(t, good+"A"),
		"hash as token":  n.dial(t, n.persons.list[0].Token),
		"revoked person": gone,
	} {
		n.fake.calls = nil
		for method, call := range calls {
			// The first failures are "unauthenticated"; many of them slow down.
			if err := call(t.Context(), c); class(err) != Unauthenticated && class(err) != Exhausted {
				t.Errorf("%s, %s: %v", name, method, err)
			}
		}
		if len(n.fake.calls) != 0 {
			t.Errorf("%s reached the node: %q", name, n.fake.calls)
		}
	}
	if log := n.log.String(); strings.Contains(log, good) || strings.Contains(log, revoked) {
		t.Error("a token is in the log")
	}
}

func flip(token string) string {
	c := byte('A')
	if token[0] == c {
		c = 'B'
	}
	return string(c) + token[1:]
}

func TestFailuresAreLimited(t *testing.T) {
	n := start(t)
	bad := n.dial(t, strings.Repeat("A", 43))
	seen := make(map[string]int)
	for range 3 * failBurst {
		seen[class(calls["Info"](t.Context(), bad))]++
	}
	if seen[Unauthenticated] < failBurst || seen[Exhausted] < failBurst || seen[Unauthenticated]+seen[Exhausted] != 3*failBurst {
		t.Errorf("answers: %v", seen)
	}
	if lines := strings.Count(n.log.String(), "without a valid token"); lines != seen[Unauthenticated] {
		t.Errorf("%d lines in the log for %v", lines, seen)
	}
	if err := calls["Info"](t.Context(), n.dial(t, n.tokens[Operate])); err != nil {
		t.Errorf("a right token pays for wrong ones: %v", err)
	}
}

func TestThrottle(t *testing.T) {
	now := time.Unix(1000, 0)
	th := newThrottle()
	th.now = func() time.Time { return now }
	burst := func(a string) (n int) {
		for th.fail(a) {
			n++
		}
		return n
	}
	if n := burst("a"); n != failBurst {
		t.Fatalf("burst of %d", n)
	}
	if n := burst("b"); n != failBurst {
		t.Fatalf("another address: burst of %d", n)
	}
	now = now.Add(2 * failEvery)
	if n := burst("a"); n != 2 {
		t.Fatalf("after two steps: %d", n)
	}
	for i := range 3 * maxBuckets {
		th.fail(fmt.Sprint(i))
	}
	if len(th.buckets) > maxBuckets {
		t.Fatalf("%d buckets", len(th.buckets))
	}
	if th.fail("one more") {
		t.Fatal("addresses beyond the bound are not limited")
	}
	now = now.Add(time.Hour)
	if !th.fail("one more") || len(th.buckets) != 1 {
		t.Fatalf("full buckets are kept: %d", len(th.buckets))
	}
}

func TestPinnedKey(t *testing.T) {
	n := start(t)
	other, err := suite.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, pin := range map[string][]byte{"another key": other.Public(), "no key": nil, "half a key": n.key.Public()[:16]} {
		_, _, err := Dial(t.Context(), n.addr, pin, n.tokens[Operate])
		if class(err) != WrongKey {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(n.fake.calls) != 0 {
		t.Errorf("calls: %q", n.fake.calls)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	if _, _, err := Dial(t.Context(), addr, make([]byte, 32), "x"); class(err) != Unreachable {
		t.Errorf("nobody listens: %v", err)
	}
	// A listener that accepts and says nothing: the caller's patience decides.
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := Dial(ctx, l.Addr().String(), make([]byte, 32), "x"); class(err) != Timeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silence: %v", err)
	}

	n := start(t)
	c := n.dial(t, n.tokens[Operate])
	n.stop()
	if err := calls["Info"](t.Context(), c); class(err) != Unreachable {
		t.Errorf("node has stopped: %v", err)
	}
}

type codedError struct{ code, rule, who, hint, text string }

func (e *codedError) Error() string { return e.text }
func (e *codedError) Code() string  { return e.code }
func (e *codedError) Rule() string  { return e.rule }
func (e *codedError) Who() string   { return e.who }
func (e *codedError) Hint() string  { return e.hint }

func TestErrorsTravel(t *testing.T) {
	n := start(t)
	c := n.dial(t, n.tokens[Operate])
	for code := range grpcCode {
		if code == Internal {
			continue
		}
		n.err = fmt.Errorf("node: %w", &codedError{code, "max_runs", "zs-gov", "ask for more runs", "the grant allows 3 runs and 3 are used"})
		for _, method := range []string{"SubmitJob", "WatchJob"} {
			err := calls[method](t.Context(), c)
			var e *Error
			if !errors.As(err, &e) || e.Code() != code || e.Rule() != "max_runs" || e.Who() != "zs-gov" || e.Hint() != "ask for more runs" ||
				e.Error() != "node: the grant allows 3 runs and 3 are used" {
				t.Errorf("%s: %s arrived as %+v", method, code, err)
			}
		}
	}
	n.err = &codedError{code: "min_intersection", text: "a class of the backend's own"}
	if err := calls["SubmitJob"](t.Context(), c); class(err) != "min_intersection" {
		t.Errorf("%v", err)
	}
	n.err = &codedError{code: "invalid", text: "bad\x1b[31m" + strings.Repeat("长", 10*maxText), hint: strings.Repeat("h", 10*maxText)}
	err := calls["SubmitJob"](t.Context(), c)
	if class(err) != Invalid || strings.ContainsRune(err.Error(), 0x1b) || len([]rune(err.Error())) != maxText {
		t.Errorf("unbounded text: %d bytes", len(err.Error()))
	}

	for _, cause := range []error{errors.New("disk: row 17 is Li Wei"), &codedError{code: Internal, text: "disk: row 17 is Li Wei"}, status.Error(codes.NotFound, "row 17 is Li Wei")} {
		n.err = cause
		for _, method := range []string{"SubmitJob", "GetResult"} {
			err := calls[method](t.Context(), c)
			if class(err) != Internal || strings.Contains(err.Error(), "Li Wei") {
				t.Errorf("%s: %v", method, err)
			}
			_, id, _ := strings.Cut(err.Error(), "(id ")
			if id = strings.TrimSuffix(id, ")"); id == "" || !strings.Contains(n.log.String(), "id="+id) {
				t.Errorf("%s: the log has nothing under the id of %v", method, err)
			}
		}
	}
}

func TestPanicEndsTheCallAlone(t *testing.T) {
	n := start(t)
	c := n.dial(t, n.tokens[Operate])
	n.info = func(context.Context) error { panic("row 17 is Li Wei") }
	n.watch = func(_ context.Context, send func(*nodev1.JobView) error) error {
		if err := send(&nodev1.JobView{}); err != nil {
			return err
		}
		panic(errors.New("row 17 is Li Wei"))
	}
	for _, method := range []string{"Info", "WatchJob"} {
		if err := calls[method](t.Context(), c); class(err) != Internal {
			t.Errorf("%s: %v", method, err)
		}
	}
	if log := n.log.String(); !strings.Contains(log, "stack=") || strings.Contains(log, "Li Wei") {
		t.Errorf("log: %s", log)
	}
	if err := calls["ListJobs"](t.Context(), c); err != nil {
		t.Errorf("after the panics: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	n := start(t, func(c *Config) { c.CallTimeout = 30 * time.Millisecond })
	n.info = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	c := n.dial(t, n.tokens[Operate])
	if err := calls["Info"](t.Context(), c); class(err) != Timeout {
		t.Errorf("the node's bound: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n.watch = func(ctx context.Context, send func(*nodev1.JobView) error) error {
		if err := send(&nodev1.JobView{}); err != nil {
			return err
		}
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	if err := calls["WatchJob"](ctx, c); class(err) != Cancelled || !errors.Is(err, context.Canceled) {
		t.Errorf("the caller left: %v", err)
	}
}

func TestTooLargeRequest(t *testing.T) {
	n := start(t)
	c := n.dial(t, n.tokens[Operate])
	if _, err := c.SubmitJob(t.Context(), &nodev1.SubmitJobRequest{Params: make([]byte, maxRequest+1)}); class(err) != Exhausted {
		t.Errorf("%v", err)
	}
	if len(n.fake.calls) != 0 {
		t.Errorf("calls: %q", n.fake.calls)
	}
}

// A person who is removed hears nothing more on a stream that is open.
func TestRevocationEndsStreams(t *testing.T) {
	n := start(t)
	more := make(chan struct{})
	ended := make(chan error, 1)
	n.watch = func(ctx context.Context, send func(*nodev1.JobView) error) error {
		err := send(&nodev1.JobView{State: "running"})
		for err == nil {
			<-more
			err = send(&nodev1.JobView{State: "running"})
		}
		ended <- err
		return err
	}
	s, err := n.dial(t, n.tokens[Audit]).WatchJob(t.Context(), &nodev1.WatchJobRequest{Job: "J-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	more <- struct{}{}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	// Another process removes the person.
	elsewhere, err := OpenPersons(n.persons.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Remove("p-audit"); err != nil {
		t.Fatal(err)
	}
	more <- struct{}{}
	if v, err := s.Recv(); class(err) != Unauthenticated {
		t.Errorf("got %v, %v", v, err)
	}
	if err := <-ended; err == nil {
		t.Error("the node was not told")
	}
}

func TestStopEndsCalls(t *testing.T) {
	n := start(t)
	started := make(chan struct{})
	n.watch = func(ctx context.Context, send func(*nodev1.JobView) error) error {
		close(started)
		<-ctx.Done()
		return ctx.Err()
	}
	c := n.dial(t, n.tokens[Operate])
	done := make(chan error, 1)
	go func() { done <- calls["WatchJob"](context.Background(), c) }()
	<-started
	n.stop()
	if err := <-done; class(err) != Unreachable && class(err) != Cancelled {
		t.Errorf("%v", err)
	}
}

func TestNewServerNeedsItsParts(t *testing.T) {
	if _, err := NewServer(Config{}); err == nil {
		t.Error("a server without a key was made")
	}
}
