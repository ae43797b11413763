package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/test/bufconn"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"

	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// roster is a Directory that tests change under way.
type roster struct {
	mu      sync.Mutex
	entries map[string]entry
}

type entry struct {
	endpoint string
	public   []byte
}

func (r *roster) ByKey(public []byte) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, e := range r.entries {
		if bytes.Equal(e.public, public) {
			return name, true
		}
	}
	return "", false
}

func (r *roster) ByID(name string) (string, []byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.entries[name]
	return e.endpoint, e.public, ok
}

func (r *roster) set(name string, e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries[name] = e
}

func (r *roster) remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.entries, name)
}

// node is a Handler that says who called, and one end of the network.
type node struct {
	*Peers
	name   string
	key    *suite.Key
	roster *roster // its own view
	served chan error
	stop   context.CancelFunc

	hello  func(ctx context.Context, from string) (*peerv1.HelloReply, error)
	events chan event
}

func (n *node) Hello(ctx context.Context, from string, _ *peerv1.HelloRequest) (*peerv1.HelloReply, error) {
	if n.hello != nil {
		return n.hello(ctx, from)
	}
	return &peerv1.HelloReply{Party: from}, nil
}

func (n *node) Weigh(_ context.Context, _ string, req *peerv1.WeighRequest) (*peerv1.WeighReply, error) {
	return &peerv1.WeighReply{Weights: make([]*peerv1.Weight, len(req.GetContracts()))}, nil
}

func (n *node) Propose(_ context.Context, from string, _ *peerv1.ProposeRequest) (*peerv1.ProposeReply, error) {
	return &peerv1.ProposeReply{Refusal: &peerv1.Refusal{Party: from, Rule: "propose"}}, nil
}

func (n *node) Start(_ context.Context, from string, _ *peerv1.StartRequest) (*peerv1.StartReply, error) {
	return &peerv1.StartReply{Refusal: &peerv1.Refusal{Party: from, Rule: "start"}}, nil
}

func (n *node) Abort(context.Context, string, *peerv1.AbortRequest) (*peerv1.AbortReply, error) {
	return &peerv1.AbortReply{}, nil
}

func (n *node) Finish(_ context.Context, from string, _ *peerv1.FinishRequest) (*peerv1.FinishReply, error) {
	return &peerv1.FinishReply{Receipt: []byte(from)}, nil
}

func (n *node) CoSign(context.Context, string, *peerv1.CoSignRequest) (*peerv1.CoSignReply, error) {
	return &peerv1.CoSignReply{}, nil
}

func (n *node) Records(context.Context, string, *peerv1.RecordsRequest) (*peerv1.RecordsReply, error) {
	return &peerv1.RecordsReply{}, nil
}

func (n *node) SecurityEvent(_ context.Context, party, rule, detail string) {
	select {
	case n.events <- event{party, rule, detail}:
	default:
	}
}

// wantEvent waits for a security event by its rule.
func (n *node) wantEvent(t *testing.T, rule string) event {
	t.Helper()
	for {
		select {
		case e := <-n.events:
			if e.rule == rule {
				return e
			}
		case <-t.Context().Done():
			t.Fatalf("no security event %q", rule)
		}
	}
}

// network starts a node for each of names on the loopback interface, each with
// its own view of the same roster; change sees each Config first.
func network(t testing.TB, names []string, change func(*Config)) map[string]*node {
	t.Helper()
	return networkOn(t, names, change, func(string) (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") })
}

// bubble starts a network inside a synctest bubble, where time passes only
// while everybody waits: connections are in memory.
func bubble(t testing.TB, names []string, change func(*Config)) map[string]*node {
	t.Helper()
	listeners := make(map[string]*bufconn.Listener)
	dial := func(ctx context.Context, endpoint string) (net.Conn, error) {
		return listeners[endpoint].DialContext(ctx)
	}
	return networkOn(t, names, func(c *Config) {
		c.Dial = dial
		if change != nil {
			change(c)
		}
	}, func(name string) (net.Listener, error) {
		l := bufconn.Listen(64 << 10)
		listeners[name] = l
		return named{l, name}, nil
	})
}

type named struct {
	*bufconn.Listener
	name string
}

func (n named) Addr() net.Addr  { return n }
func (n named) Network() string { return "memory" }
func (n named) String() string  { return n.name }

func networkOn(t testing.TB, names []string, change func(*Config), listen func(name string) (net.Listener, error)) map[string]*node {
	t.Helper()
	nodes := make(map[string]*node, len(names))
	listeners := make(map[string]net.Listener)
	entries := make(map[string]entry)
	for _, name := range names {
		key, err := suite.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		lis, err := listen(name)
		if err != nil {
			t.Fatal(err)
		}
		listeners[name] = lis
		entries[name] = entry{lis.Addr().String(), key.Public()}
		nodes[name] = &node{name: name, key: key, served: make(chan error, 1), events: make(chan event, 256)}
	}
	for _, name := range names {
		n := nodes[name]
		n.roster = &roster{entries: make(map[string]entry)}
		for k, e := range entries {
			n.roster.set(k, e)
		}
		n.serve(t, listeners[name], change)
	}
	return nodes
}

// serve starts n's end on lis and stops it in Cleanup.
func (n *node) serve(t testing.TB, lis net.Listener, change func(*Config)) {
	t.Helper()
	cfg := Config{Listener: lis, Key: n.key, Party: n.name, Directory: n.roster, Handler: n}
	cfg.Limits.Open = 10 * time.Second
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	n.Peers, n.stop, n.served = p, cancel, served
	go func() { served <- p.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("%s: Serve: %v", n.name, err)
		}
	})
}

func ids(names []string) []session.PartyID {
	all := make([]session.PartyID, len(names))
	for i, n := range names {
		all[i] = session.PartyID(n)
	}
	return all
}

var discard = slog.New(slog.DiscardHandler)

var sessions atomic.Int64

func freshID() string { return "session-" + strconv.FormatInt(sessions.Add(1), 10) }

// open opens one session at every one of names and closes it in Cleanup.
func open(t testing.TB, ctx context.Context, nodes map[string]*node, names ...string) map[string]*Link {
	t.Helper()
	id := freshID()
	links := make(map[string]*Link)
	for _, name := range names {
		l, err := nodes[name].OpenSession(ctx, SessionConfig{
			ID: id, Self: session.PartyID(name), Parties: ids(names), Digest: []byte("contract"),
		})
		if err != nil {
			t.Fatal(err)
		}
		links[name] = l
	}
	t.Cleanup(func() { closeAll(links) })
	return links
}

func closeAll(links map[string]*Link) {
	var wg sync.WaitGroup
	for _, l := range links {
		l.Abort(errors.New("the test is over"))
		wg.Go(func() { l.Close() })
	}
	wg.Wait()
}

// pair opens a session of a and b and the channel "" between them.
func pair(t testing.TB, ctx context.Context, nodes map[string]*node, a, b string) (la, lb *Link, ca, cb session.Channel) {
	t.Helper()
	links := open(t, ctx, nodes, a, b)
	la, lb = links[a], links[b]
	return la, lb, channelOf(t, la, b, ""), channelOf(t, lb, a, "")
}

func channelOf(t testing.TB, l *Link, peer, label string) session.Channel {
	t.Helper()
	c, err := l.Opener()(context.Background(), session.PartyID(peer), label)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// greet makes sure that the stream between two ends is up.
func greet(t testing.TB, ctx context.Context, ca, cb session.Channel) {
	t.Helper()
	for _, d := range [][2]session.Channel{{ca, cb}, {cb, ca}} {
		if err := d[0].Send(ctx, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if p, err := d[1].Recv(ctx); err != nil || string(p) != "hello" {
			t.Fatalf("%q, %v", p, err)
		}
	}
}

func wantIs(t testing.TB, what string, err error, want ...error) {
	t.Helper()
	if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}
