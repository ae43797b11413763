// Package peer is how nodes talk to each other: one mutually authenticated
// gRPC service for proposals and receipts, and one gRPC stream per pair of
// parties and label that carries a [session.Channel].
//
// # Identity
//
// Connections are TLS 1.3 without resumption. Both ends present a self-signed
// certificate and know each other by the public key alone, which the
// [Directory] (the verified roster) maps to a party. The key is checked in the
// handshake, again on every call and every stream, and again every heartbeat
// for connections that are open: a party that was suspended or given another
// key loses its connections, and [Peers.Drop] takes them at once.
//
// # What a peer can do to a node
//
// Every bound is in [Limits]: handshakes in progress, connections, streams and
// calls of a party, a token bucket over them, message sizes, streams that
// arrive before their session, labels and bytes of a session. A stream is
// admitted only for a session that this node has opened itself, from the party
// whose turn it is to dial, with the contract digest both signed, and once per
// label. Compression is not offered. What a peer is told of a refusal is its
// class, a short word; [Handler.SecurityEvent] hears what happened.
//
// # Concurrency
//
// [Peers] and [Link] are for any number of goroutines. A channel keeps to the
// contract of [session.Channel]: one Send may overlap one Recv. Serve owns what
// runs between sessions and returns when all of it has ended; a Link's
// goroutines have ended when Close returns. A Send or Recv that its context
// cuts short takes the stream with it, since gRPC cannot be interrupted in any
// other way.
//
// # Memory
//
// A stream holds at most three messages of a peer that its protocol has not
// asked for (two decoded, one being assembled), and Limits.Window bytes of
// HTTP/2 flow control; a sender blocks once they are full. A stream whose label
// this party has not opened holds the window alone.
package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"

	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/session"
)

// Directory says who the parties are at this moment. A suspended party is not
// in it. It is asked on every call, from many goroutines.
type Directory interface {
	// ByKey returns the party whose public key this is.
	ByKey(public []byte) (party string, ok bool)
	// ByID returns where the party's node is reached, and its public key.
	ByID(party string) (endpoint string, public []byte, ok bool)
}

// Handler is the node behind the service. Each method is told which party
// calls; that was verified, the request was not. A method that returns an
// error made by [Refuse] tells the peer its class; any other error reaches the
// peer as "internal". Methods are called concurrently and must end when ctx
// does.
type Handler interface {
	Hello(ctx context.Context, from string, req *peerv1.HelloRequest) (*peerv1.HelloReply, error)
	Weigh(ctx context.Context, from string, req *peerv1.WeighRequest) (*peerv1.WeighReply, error)
	Propose(ctx context.Context, from string, req *peerv1.ProposeRequest) (*peerv1.ProposeReply, error)
	Start(ctx context.Context, from string, req *peerv1.StartRequest) (*peerv1.StartReply, error)
	Abort(ctx context.Context, from string, req *peerv1.AbortRequest) (*peerv1.AbortReply, error)
	Finish(ctx context.Context, from string, req *peerv1.FinishRequest) (*peerv1.FinishReply, error)
	CoSign(ctx context.Context, from string, req *peerv1.CoSignRequest) (*peerv1.CoSignReply, error)
	Records(ctx context.Context, from string, req *peerv1.RecordsRequest) (*peerv1.RecordsReply, error)
	// SecurityEvent hears what the transport refused, one event at a time and
	// at a bounded rate: an unknown certificate, a replayed session. party is
	// "" where none could be established.
	SecurityEvent(ctx context.Context, party, rule, detail string)
}

// Config describes one node's end. Listener, Key, Party, Directory and Handler
// are required.
type Config struct {
	Listener  net.Listener // Serve and Close close it
	Key       *suite.Key
	Party     string // this node's own
	Directory Directory
	Handler   Handler
	Limits    Limits
	// Seen is asked once by every OpenSession, before any stream is accepted,
	// and fails (with ErrReplayed, say) for a session ID that was opened
	// before, also in an earlier life of the process; it may record the ID as
	// it does so. nil remembers the last IDs of this process alone.
	Seen func(ctx context.Context, id string) error
	// Dial connects to an endpoint of the directory; nil dials TCP.
	Dial func(ctx context.Context, endpoint string) (net.Conn, error)
	Log  *slog.Logger // nil discards
}

// Limits bound what a peer can use. The zero value of each field means its
// default.
type Limits struct {
	Handshake  time.Duration // TLS and HTTP/2 preface of one connection; 10 s
	Handshakes int           // connections in that state, a quarter of them from one host; 64
	Conns      int           // connections of one party, the oldest gives way; 4
	Streams    int           // streams of one party; 128
	Calls      int           // unary calls of one party; 32
	Rate       float64       // new connections, streams and calls of one party, per second; 100
	Burst      int           // the same, at once; 500

	Call      time.Duration // a call whose ctx has no deadline; 30 s
	Open      time.Duration // from opening a channel to its stream; 30 s
	Waiting   int           // streams of one party that came before their session; 32
	Labels    int           // channels of one session with one party; 4096
	Heartbeat time.Duration // between frames of an idle stream; Idle/4
	Idle      time.Duration // silence, not even a heartbeat, that ends a stream; 20 s

	SessionBytes int64 // payload of one session, both directions; 512 GiB
	Window       int   // HTTP/2 flow control window of a stream, in bytes; 1 MiB
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.Handshake, 10*time.Second)
	setDefault(&l.Handshakes, 64)
	setDefault(&l.Conns, 4)
	setDefault(&l.Streams, 128)
	setDefault(&l.Calls, 32)
	setDefault(&l.Rate, 100)
	setDefault(&l.Burst, 500)
	setDefault(&l.Call, 30*time.Second)
	setDefault(&l.Open, 30*time.Second)
	setDefault(&l.Waiting, 32)
	setDefault(&l.Labels, 4096)
	setDefault(&l.Idle, 20*time.Second)
	setDefault(&l.Heartbeat, l.Idle/4)
	setDefault(&l.SessionBytes, 512<<30)
	setDefault(&l.Window, 1<<20)
	return l
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate reports every limit that makes no sense.
func (l Limits) Validate() error {
	l = l.withDefaults()
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Handshake", l.Handshake}, {"Call", l.Call}, {"Open", l.Open}, {"Heartbeat", l.Heartbeat}, {"Idle", l.Idle}} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("peer: Limits.%s is not positive", d.name))
		}
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"Handshakes", int64(l.Handshakes)},
		{"Conns", int64(l.Conns)},
		{"Streams", int64(l.Streams)},
		{"Calls", int64(l.Calls)},
		{"Burst", int64(l.Burst)},
		{"Waiting", int64(l.Waiting)},
		{"Labels", int64(l.Labels)},
		{"SessionBytes", l.SessionBytes},
	} {
		if n.value < 1 {
			errs = append(errs, fmt.Errorf("peer: Limits.%s is below 1", n.name))
		}
	}
	if !(l.Rate > 0) {
		errs = append(errs, errors.New("peer: Limits.Rate is not positive"))
	}
	if l.Window < minWindow || l.Window > maxWindow {
		errs = append(errs, fmt.Errorf("peer: Limits.Window is not between %d and %d", minWindow, maxWindow))
	}
	if l.Idle < 2*l.Heartbeat {
		errs = append(errs, errors.New("peer: Limits.Idle is shorter than two heartbeats"))
	}
	return errors.Join(errs...)
}

const (
	minWindow = 64 << 10 // below it gRPC would ignore the setting
	maxWindow = 16 << 20
	// maxFrame is the largest gRPC message: a channel's message in its frame.
	maxFrame = session.MaxMessage + 1<<10
	// connWindow is the flow control window of a connection. gRPC gives it back
	// as bytes arrive, so that a stream that is not read does not stop others.
	connWindow = 16 << 20
	// headerBytes bounds the metadata of a call.
	headerBytes = 16 << 10
	// spareCalls is how many unary calls of a party may arrive beyond those that
	// are served: enough that an honest one is told that the node is busy.
	spareCalls = 8
	// endedSessions is how many IDs of ended sessions are remembered here;
	// Config.Seen remembers all of them.
	endedSessions = 8192
)

// Peers is one node's end of its connections to all others. Its methods are
// safe for concurrent use.
type Peers struct {
	cfg    Config
	limits Limits
	log    *slog.Logger
	server *grpc.Server
	events *events

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	close  sync.Once

	handshakes handshakes

	mu       sync.Mutex
	parties  map[string]*party // only parties that the directory has known
	links    map[string]*Link  // open sessions
	arrivals map[string]*arrival
	ended    *memory
}

// party is what this node holds for one peer; Peers.mu guards it.
type party struct {
	conns   []*trackedConn // accepted
	client  *client        // dialled
	bucket  bucket
	streams int
	calls   int
	waiting int
	uploads int // unary calls from their first byte on
}

// New makes the node's end. It neither listens nor dials before Serve, or a
// call, needs it. A Peers that is never served must be closed.
func New(cfg Config) (*Peers, error) {
	switch {
	case cfg.Listener == nil || cfg.Key == nil || cfg.Directory == nil || cfg.Handler == nil:
		return nil, errors.New("peer: Config needs Listener, Key, Directory and Handler")
	case cfg.Party == "":
		return nil, errors.New("peer: Config names no party")
	}
	if err := cfg.Limits.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, endpoint string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", endpoint)
		}
	}
	l := cfg.Limits.withDefaults()
	p := &Peers{
		cfg: cfg, limits: l, log: cfg.Log,
		events:     newEvents(),
		handshakes: handshakes{total: l.Handshakes, perHost: max(1, l.Handshakes/4), hosts: make(map[string]int)},
		parties:    make(map[string]*party),
		links:      make(map[string]*Link),
		arrivals:   make(map[string]*arrival),
		ended:      newMemory(endedSessions),
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	creds, err := p.serverCredentials()
	if err != nil {
		return nil, err
	}
	p.server = grpc.NewServer(
		grpc.Creds(creds),
		grpc.ConnectionTimeout(l.Handshake),
		grpc.MaxRecvMsgSize(maxFrame),
		grpc.MaxHeaderListSize(headerBytes),
		grpc.MaxConcurrentStreams(uint32(l.Streams+l.Calls)),
		grpc.StaticStreamWindowSize(int32(l.Window)),
		grpc.StaticConnWindowSize(connWindow),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second}),
		grpc.WaitForHandlers(true),
		grpc.InTapHandle(p.arriving),
		grpc.UnaryInterceptor(p.unary),
		grpc.StreamInterceptor(p.stream),
	)
	peerv1.RegisterPeerServer(p.server, &service{peers: p})
	return p, nil
}

// Serve accepts peers until ctx ends or Close is called, closes everything,
// and returns once all of it is down. It returns nil then, or the listener's
// error. Serve is called once.
func (p *Peers) Serve(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { p.events.deliver(p.ctx, p.cfg.Handler) })
	wg.Go(func() { p.watch() })
	stop := context.AfterFunc(ctx, p.Close)
	err := p.server.Serve(p.cfg.Listener)
	stop()
	closed := p.ctx.Err() != nil
	p.Close()
	wg.Wait()
	if err == nil || closed || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return fmt.Errorf("peer: serve: %w", err)
}

// Close ends every session with ErrClosed, every call and every connection,
// and waits for the handlers. It may be called more than once; the owners of
// links still close those.
func (p *Peers) Close() {
	p.close.Do(func() {
		p.cancel(ErrClosed)
		p.mu.Lock()
		var clients []*client
		for _, s := range p.parties {
			if s.client != nil {
				clients = append(clients, s.client)
			}
		}
		links := p.openLocked()
		p.mu.Unlock()
		for _, l := range links { // first, so that they end for this reason
			l.cancel(ErrClosed)
		}
		p.server.Stop()
		p.cfg.Listener.Close()
		for _, c := range clients {
			c.cc.Close()
		}
	})
}

// Drop takes every connection and stream of a party: the roster no longer
// admits it, or gave it another key. Its sessions here end with ErrDropped.
func (p *Peers) Drop(name string) {
	p.mu.Lock()
	var conns []*trackedConn
	var c *client
	if s := p.parties[name]; s != nil {
		conns, c = s.conns, s.client
		s.conns, s.client = nil, nil
	}
	links := p.openLocked()
	p.mu.Unlock()
	for _, l := range links { // first, so that they end for this reason
		l.failPeer(session.PartyID(name), ErrDropped)
	}
	for _, conn := range conns {
		conn.Close()
	}
	if c != nil {
		c.cc.Close()
	}
	if len(conns) > 0 || c != nil {
		p.log.Info("peer dropped", slog.String("peer", name))
	}
}

func (p *Peers) openLocked() []*Link {
	links := make([]*Link, 0, len(p.links))
	for _, l := range p.links {
		if l != nil {
			links = append(links, l)
		}
	}
	return links
}

// watch holds open connections against the directory, every heartbeat.
func (p *Peers) watch() {
	t := time.NewTicker(p.limits.Heartbeat)
	defer t.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-t.C:
		}
		for _, name := range p.outdated() {
			p.event(name, "not_admitted", "an open connection's key is no longer the roster's")
			p.Drop(name)
		}
	}
}

func (p *Peers) outdated() []string {
	type open struct {
		name string
		keys [][]byte
	}
	var all []open
	p.mu.Lock()
	for name, s := range p.parties {
		o := open{name: name}
		for _, c := range s.conns {
			o.keys = append(o.keys, c.public)
		}
		if s.client != nil {
			o.keys = append(o.keys, s.client.public)
		}
		all = append(all, o)
	}
	p.mu.Unlock()
	var names []string
	for _, o := range all {
		for _, k := range o.keys {
			if now, ok := p.cfg.Directory.ByKey(k); !ok || now != o.name {
				names = append(names, o.name)
				break
			}
		}
	}
	return names
}

// partyLocked returns the state of a party that the directory knows.
func (p *Peers) partyLocked(name string) *party {
	s := p.parties[name]
	if s == nil {
		s = &party{bucket: newBucket(p.limits.Rate, p.limits.Burst)}
		p.parties[name] = s
	}
	return s
}
