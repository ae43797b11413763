// Package node is the life of one party's node: its identity and
// configuration, the admission of every job against the platform's grant and
// its own policy, the engine that runs jobs with the other nodes, the release
// of results, and the receipts.
//
// A node knows jobs only as job.Definition; it never sees a protocol. It
// starts with [Open], serves with [Node.Run] and ends with [Node.Close].
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/audit"
	"github.com/yinqiao/yinqiao/internal/store"
	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/node/peer"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
)

// Options is what Open needs beside the home folder.
type Options struct {
	Registry *job.Registry
	Version  string
	Log      *slog.Logger
	// Metrics hears what happens; nil counts nothing.
	Metrics Metrics
	// Platform replaces the client of the reference platform, so that an
	// existing platform can stand behind the node; nil uses node.yaml's.
	Platform Platform
}

// Metrics is what a node reports of itself; api.Metrics collects it.
type Metrics interface {
	JobState(from, to string)
	Refused(rule string)
	Exchanged(sent, received int64)
	SessionStarted() (ended func())
	PlatformSeen(at time.Time)
}

// Platform is what a node asks of the government data platform. The reference
// client is catalog.Client; an existing platform can stand behind it.
type Platform interface {
	catalog.Resolver
	Hello(ctx context.Context) (catalog.Hello, error)
	ListEntries(ctx context.Context, code string) ([]*catalog.Entry, error)
	RegisterEntry(ctx context.Context, entry *catalogv1.Entry) (*catalog.Entry, error)
	FileRequest(ctx context.Context, request *catalogv1.Request, draft bool) (*catalog.Request, error)
	SubmitRequest(ctx context.Context, id string) (*catalog.Request, error)
	Request(ctx context.Context, id string) (*catalog.Request, error)
	ListRequests(ctx context.Context) ([]*catalog.Request, error)
	Decide(ctx context.Context, d catalog.Decision) (*catalog.Request, error)
}

// seen remembers catalog versions in the node's store.
type seen struct{ store *store.Store }

func (s seen) Raise(key string, version int64) error {
	err := s.store.Raise(key, version)
	if errors.Is(err, store.ErrOlder) {
		return catalog.ErrOlder
	}
	return err
}

// waits are how long a receipt waits for the other parties' parts.
type waits struct{ finish, sign time.Duration }

// peerStreams is how many streams one party may hold open here at once: a job
// takes a few, and each can fill its window.
const peerStreams = 32

// Node is one party's running node.
type Node struct {
	cfg      Config
	home     Home
	key      *suite.Key
	version  string
	registry *job.Registry
	store    *store.Store
	disk     *disk
	audit    *audit.Log
	resolver Platform
	closers  []func() error
	log      *slog.Logger
	metrics  Metrics
	now      func() time.Time
	pause    func(ctx context.Context, d time.Duration) error // between tries to restart a run
	waits    waits

	peers   *peer.Peers
	roster  atomic.Pointer[catalog.Roster]
	keysMu  sync.Mutex // guards the file of known keys
	runMu   sync.Mutex // guards the states of runs in the store
	events  eventGate
	counted counted
	asked   atomic.Int64 // when an unknown party last made the node ask for the roster

	mu      sync.Mutex
	active  map[string]*active // by session
	byJob   map[string]*active
	byRun   map[string]*active  // at most one attempt at a run is under way
	busy    map[string]bool     // runs that are being ended for their age
	waiting map[string]*waiting // runs of which this node begins a further attempt
	closing bool
	wg      sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelCauseFunc
}

// Open opens the home folder, its store and its log, connects to the platform,
// and accounts for jobs that a crash interrupted.
func Open(ctx context.Context, home Home, o Options) (n *Node, err error) {
	if o.Registry == nil {
		return nil, errors.New("node: no job registry")
	}
	cfg, err := home.Config()
	if err != nil {
		return nil, err
	}
	key, err := home.Key()
	if err != nil {
		return nil, err
	}
	storeKey, err := home.storeSecret()
	if err != nil {
		return nil, err
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n = &Node{
		cfg: cfg, home: home, key: key, version: o.Version, registry: o.Registry,
		log: log.With(slog.String("party", cfg.Party)), metrics: o.Metrics, now: time.Now, pause: pause,
		waits:  waits{finish: finishWait, sign: signWait},
		active: make(map[string]*active), byJob: make(map[string]*active), byRun: make(map[string]*active),
		busy: make(map[string]bool), waiting: make(map[string]*waiting),
	}
	if n.metrics == nil {
		n.metrics = noMetrics{}
	}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, n.closeAll())
			n = nil
		}
	}()
	if err := os.MkdirAll(home.resultDir(), 0o700); err != nil {
		return n, fmt.Errorf("node: home: %w", err)
	}
	n.store, err = store.Open(store.Config{Dir: home.storeDir(), Key: storeKey, MinFreeBytes: cfg.Limits.MinFreeBytes, Log: n.log})
	if err != nil {
		return n, err
	}
	n.closers = append(n.closers, n.store.Close)
	if n.disk, err = newDisk(home, storeKey, cfg.Limits); err != nil {
		return n, err
	}
	n.audit, err = audit.Open(ctx, audit.Config{Dir: home.AuditDir(), Party: cfg.Party, Key: key, Log: n.log})
	if err != nil {
		return n, err
	}
	n.closers = append(n.closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return n.audit.Close(ctx)
	})
	if o.Platform != nil {
		n.resolver = o.Platform
		return n, n.recover(ctx)
	}
	client, err := catalog.NewClient(catalog.ClientConfig{
		Address: cfg.Platform.Address, PlatformKey: cfg.PlatformKey(), Party: cfg.Party, Key: key, Seen: seen{n.store}, Log: n.log,
		RosterAge: time.Nanosecond, // every decision rests on the roster of this moment
	})
	if err != nil {
		return n, err
	}
	n.resolver = client
	n.closers = append(n.closers, client.Close)
	return n, n.recover(ctx)
}

// recover accounts for what a stop left undone.
func (n *Node) recover(ctx context.Context) error {
	if err := n.recoverJobs(ctx); err != nil {
		return err
	}
	return n.sweep()
}

// Run serves peers on lis until ctx ends, then stops every job and returns.
func (n *Node) Run(ctx context.Context, lis net.Listener) error {
	if _, err := n.refreshRoster(ctx); err != nil {
		n.log.Warn("the platform cannot be reached yet", slog.Any("error", err))
	}
	peers, err := peer.New(peer.Config{
		Listener: lis, Key: n.key, Party: n.cfg.Party, Directory: (*directory)(n), Handler: (*handler)(n), Log: n.log,
		Seen:   func(ctx context.Context, id string) error { return n.store.Once(ctx, "link/"+id) },
		Limits: peer.Limits{Idle: n.cfg.Limits.PeerIdle, Open: n.cfg.Limits.PeerIdle, SessionBytes: n.cfg.Limits.SessionBytes, Streams: peerStreams},
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.peers = peers
	n.mu.Unlock()
	n.wg.Go(func() { n.keepRoster(n.ctx) })
	n.wg.Go(n.keepSwept)
	n.wg.Go(n.restartRuns)
	// Jobs end first, so that the other parties still hear why.
	serve, quiet := context.WithCancel(context.WithoutCancel(ctx))
	defer quiet()
	stop := context.AfterFunc(ctx, func() {
		n.cancel(errStopped)
		n.shutdown()
		quiet()
	})
	defer stop()
	err = peers.Serve(serve)
	n.cancel(errStopped)
	n.shutdown() // what a last call had begun
	return err
}

// transport is the peer transport, nil before Run.
func (n *Node) transport() *peer.Peers {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peers
}

var errStopped = fail("shutdown", "the node was stopped")

// shutdown ends every running job with its reason and waits for all of them.
func (n *Node) shutdown() {
	n.mu.Lock()
	n.closing = true
	for _, a := range n.active {
		a.cancel(errStopped)
	}
	n.mu.Unlock()
	n.wg.Wait()
}

// Close waits for running jobs to end and closes the store and the log.
func (n *Node) Close() error {
	n.cancel(errStopped)
	n.shutdown()
	return n.closeAll()
}

func (n *Node) closeAll() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	n.closers = nil
	return errors.Join(errs...)
}

// Party returns the node's party ID.
func (n *Node) Party() string { return n.cfg.Party }

// Config returns the configuration in force.
func (n *Node) Config() Config { return n.cfg }

// Key returns the node's identity, for its operator API.
func (n *Node) Key() *suite.Key { return n.key }

// Ready are the checks of whether the node can take work, by name.
func (n *Node) Ready() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"store": func(context.Context) error { return n.store.Healthy() },
		"platform": func(ctx context.Context) error {
			_, err := n.refreshRoster(ctx)
			return err
		},
	}
}

type noMetrics struct{}

func (noMetrics) JobState(string, string) {}
func (noMetrics) Refused(string)          {}
func (noMetrics) Exchanged(int64, int64)  {}
func (noMetrics) SessionStarted() func()  { return func() {} }
func (noMetrics) PlatformSeen(time.Time)  {}
