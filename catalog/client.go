package catalog

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// ClientConfig says how to reach the platform and as whom.
type ClientConfig struct {
	Address     string // host:port
	PlatformKey []byte // pinned
	Party       string
	Key         *suite.Key
	Seen        Seen             // nil: remembers nothing, accepts older versions
	Timeout     time.Duration    // of one call; 0: 10 s
	RosterAge   time.Duration    // how old a roster Roster may return; 0: 3 s
	Now         func() time.Time // nil: time.Now
	Log         *slog.Logger     // nil: silent
}

// Client speaks to the reference platform. It connects when first used,
// reconnects by itself, verifies everything that comes back, and is safe for
// concurrent use.
type Client struct {
	cfg      ClientConfig
	conn     *grpc.ClientConn
	platform catalogv1.PlatformClient
	badKey   atomic.Bool // the last handshake met another key than the pinned one
	// questions is shared by the calls under way; see settled.
	questions *semaphore.Weighted

	mu     sync.Mutex
	roster *Roster
	at     time.Time // when roster came
	grants map[string]*Grant
}

const (
	maxReply        = 32 << 20 // a whole catalog
	maxCachedGrants = 1024
	olderRetries    = 3
	maxQuestions    = 1 << 30 // at once
)

// NewClient makes a client. It does not connect yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Address == "" || cfg.Key == nil {
		return nil, errors.New("catalog: client: an address and a key are needed")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.RosterAge <= 0 {
		cfg.RosterAge = 3 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.PlatformKey = bytes.Clone(cfg.PlatformKey)
	c := &Client{cfg: cfg, grants: make(map[string]*Grant), questions: semaphore.NewWeighted(maxQuestions)}
	tlsConfig, err := cfg.Key.ClientTLS(cfg.Party, cfg.PlatformKey)
	if err != nil {
		return nil, err
	}
	// gRPC tells a failed handshake as text; remember which kind it was.
	verify := tlsConfig.VerifyConnection
	tlsConfig.VerifyConnection = func(cs tls.ConnectionState) error {
		err := verify(cs)
		c.badKey.Store(err != nil)
		return err
	}
	c.conn, err = Dial(cfg.Address, tlsConfig)
	if err != nil {
		return nil, err
	}
	c.platform = catalogv1.NewPlatformClient(c.conn)
	return c, nil
}

// Dial makes a connection to a platform, lazily, with the limits and the
// reconnecting that every client of it wants.
func Dial(address string, tlsConfig *tls.Config) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(credentials.NewTLS(tlsConfig)),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply), grpc.MaxCallSendMsgSize(2*MaxGrant)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("catalog: client: %w", err)
	}
	return conn, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// call runs one call under the client's deadline and reads its error.
func call[Q, A any](ctx context.Context, c *Client, rpc func(context.Context, Q, ...grpc.CallOption) (A, error), q Q) (A, error) {
	limited, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	a, err := rpc(limited, q)
	if err == nil {
		return a, nil
	}
	var none A
	err = FromStatus(ctx, err)
	if errors.Is(err, ErrUnreachable) && c.badKey.Load() {
		err = fmt.Errorf("%w: %w", ErrUnreachable,
			alarm(RulePlatformKey, "whoever answers at %s does not hold the platform's pinned key", c.cfg.Address))
	}
	return none, err
}

// Hello is what the platform says of itself to anyone.
type Hello struct {
	Version   string
	Now       time.Time // the platform's clock
	Suite     string
	PublicKey []byte
	RoundTrip time.Duration
}

// Hello asks for the platform's clock and version; it needs no enrolment.
func (c *Client) Hello(ctx context.Context) (Hello, error) {
	start := time.Now()
	a, err := call(ctx, c, c.platform.Hello, &catalogv1.HelloRequest{})
	if err != nil {
		return Hello{}, err
	}
	if a.GetNow().CheckValid() != nil {
		return Hello{}, Refuse(RuleMalformed, "the platform's greeting lacks its clock")
	}
	return Hello{clip(a.Version), a.Now.AsTime(), clip(a.Suite), a.PublicKey, time.Since(start)}, nil
}

func (c *Client) enrol(ctx context.Context, m *catalogv1.EnrolRequest) (*Roster, error) {
	a, err := call(ctx, c, c.platform.Enrol, m)
	if err != nil {
		return nil, err
	}
	return c.keep(a.GetRoster())
}

// keep verifies a roster and remembers it, unless a newer one is there.
func (c *Client) keep(signed *signv1.Signed) (*Roster, error) {
	r, err := VerifyRoster(signed, c.cfg.PlatformKey, c.cfg.Seen, c.cfg.Now())
	if err != nil {
		return nil, err
	}
	if p, ok := r.Party(c.cfg.Party); !ok || !bytes.Equal(p.PublicKey, c.cfg.Key.Public()) {
		return nil, alarm(RuleOwnKey, "the roster does not list %s with its own key", c.cfg.Party)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.roster == nil || c.roster.version <= r.version {
		c.roster, c.at = r, c.cfg.Now()
	}
	return r, nil
}

// settled runs ask, which puts a question to the platform and holds the answer
// to the versions seen. Questions that overlap may be answered in one order and
// heard in another, and the one that was overtaken looks older than what has
// been seen: it is asked again, in the end with no other question under way.
// What is older then, the platform has really gone back to.
func (c *Client) settled(ctx context.Context, ask func() error) error {
	var err error
	for attempt := range olderRetries {
		share := int64(1)
		if attempt == olderRetries-1 {
			share = maxQuestions
		}
		if err := c.questions.Acquire(ctx, share); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("%w: no answer that settles what is current", ErrUnreachable)
			}
			return context.Cause(ctx)
		}
		err = ask()
		c.questions.Release(share)
		switch Rule(err) {
		case RuleRosterRollback, RuleStatusRollback, RuleEntryRollback:
			continue
		}
		break
	}
	return err
}

// raiseOwn remembers the highest version of an entry of this party's own, and
// refuses an older one whatever the platform says of it: what a provider has
// replaced, or withdrawn, is no longer its word.
func (c *Client) raiseOwn(e *Entry) error {
	if e.Provider() != c.cfg.Party {
		return nil
	}
	return raise(c.cfg.Seen, RuleEntryRollback, "own-entry/"+e.Code(), e.Version())
}

// Roster implements Resolver.
func (c *Client) Roster(ctx context.Context) (*Roster, error) {
	c.mu.Lock()
	r, age := c.roster, c.cfg.Now().Sub(c.at)
	c.mu.Unlock()
	if r != nil && age >= 0 && age < c.cfg.RosterAge {
		return r, nil
	}
	return c.freshRoster(ctx)
}

// freshRoster asks for the roster. What others signed is verified by one that
// was asked for afterwards, lest somebody who has just enrolled look like a
// stranger.
func (c *Client) freshRoster(ctx context.Context) (*Roster, error) {
	var r *Roster
	err := c.settled(ctx, func() error {
		a, err := call(ctx, c, c.platform.GetRoster, &catalogv1.GetRosterRequest{})
		if err != nil {
			return err
		}
		r, err = c.keep(a.GetRoster())
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Grant implements Resolver.
func (c *Client) Grant(ctx context.Context, id string) (*Grant, error) {
	var g *Grant
	err := c.settled(ctx, func() error {
		a, err := call(ctx, c, c.platform.GetGrant, &catalogv1.GetGrantRequest{GrantId: id})
		if err != nil {
			return err
		}
		r, err := c.keep(a.GetRoster())
		if err != nil {
			return err
		}
		g, err = VerifyGrant(a.GetGrant(), a.GetStatus(), a.GetEntryStatuses(), r, c.cfg.Seen, c.cfg.Now())
		if err == nil && g.ID() != id {
			err = alarm(RuleGrant, "the platform gave another grant than the one asked for")
		}
		if err != nil {
			return err
		}
		for _, e := range g.entries {
			if err := c.raiseOwn(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.grants) >= maxCachedGrants {
		clear(c.grants) // a cache: Status asks for the whole grant then
	}
	c.grants[id] = g
	return g, nil
}

// Status implements Resolver.
func (c *Client) Status(ctx context.Context, grantID string) error {
	c.mu.Lock()
	g := c.grants[grantID]
	c.mu.Unlock()
	if g == nil {
		_, err := c.Grant(ctx, grantID)
		return err
	}
	q := &catalogv1.GetStatusRequest{Subjects: []*catalogv1.SubjectKey{{Subject: catalogv1.Subject_SUBJECT_GRANT, Id: grantID}}}
	for _, e := range g.entries {
		q.Subjects = append(q.Subjects, &catalogv1.SubjectKey{Subject: catalogv1.Subject_SUBJECT_ENTRY, Id: e.Code()})
	}
	return c.settled(ctx, func() error {
		a, err := call(ctx, c, c.platform.GetStatus, q)
		if err != nil {
			return err
		}
		if len(a.Statuses) != len(q.Subjects) {
			return Refuse(RuleStatusStale, "the platform answered for %d of %d subjects", len(a.Statuses), len(q.Subjects))
		}
		r, err := c.keep(a.GetRoster())
		if err != nil {
			return err
		}
		// Signatures under keys that are no longer on the roster do not count
		// any more.
		if _, err := verifyDocument(g.signed, r); err != nil {
			return err
		}
		now := c.cfg.Now()
		if err := g.checkStatus(a.Statuses[0], r, c.cfg.Seen, now); err != nil {
			return err
		}
		if err := g.checkEntryStatuses(a.Statuses[1:], r, c.cfg.Seen, now, false); err != nil {
			return err
		}
		if err := g.checkParties(r); err != nil {
			return err
		}
		return g.CheckDates(now)
	})
}

// Entry implements Resolver.
func (c *Client) Entry(ctx context.Context, code string, version int64) (*Entry, error) {
	es, err := c.list(ctx, code, version)
	if err != nil {
		return nil, err
	}
	if len(es) == 0 {
		return nil, Refuse(RuleNotFound, "the platform has no entry %s", clip(code))
	}
	if len(es) > 1 || es[0].Code() != code || version != 0 && es[0].Version() != version {
		return nil, alarm(RuleEntryMismatch, "the platform gave another entry than the one asked for")
	}
	return es[0], nil
}

// ListEntries returns the newest version of every entry that has not been
// withdrawn, or, where a code is given, of that entry.
func (c *Client) ListEntries(ctx context.Context, code string) ([]*Entry, error) {
	return c.list(ctx, code, 0)
}

func (c *Client) list(ctx context.Context, code string, version int64) ([]*Entry, error) {
	a, err := call(ctx, c, c.platform.ListEntries, &catalogv1.ListEntriesRequest{Code: code, Version: version})
	if err != nil {
		return nil, err
	}
	r, err := c.freshRoster(ctx)
	if err != nil {
		return nil, err
	}
	es := make([]*Entry, 0, len(a.Entries))
	for _, s := range a.Entries {
		e, err := VerifyEntry(s, r)
		switch {
		case err == nil:
			es = append(es, e)
		case code != "":
			return nil, err
		default: // one bad entry must not hide the others
			c.cfg.Log.WarnContext(ctx, "catalog entry left out", slog.String("rule", Rule(err)))
		}
	}
	return es, nil
}

// RegisterEntry signs and registers an entry of this party. Where version is 0
// the next one is filled in; provider, code table and date are filled in where
// blank. The entry given is not changed.
func (c *Client) RegisterEntry(ctx context.Context, entry *catalogv1.Entry) (*Entry, error) {
	r, err := c.Roster(ctx)
	if err != nil {
		return nil, err
	}
	m := proto.CloneOf(entry)
	if m.Provider == "" {
		m.Provider = c.cfg.Party
	}
	if m.CodeTable == "" {
		m.CodeTable = r.table.ID()
	}
	if m.Published == nil {
		m.Published = timestamp(c.cfg.Now())
	}
	if m.Version == 0 {
		m.Version = 1
		switch newest, err := c.Entry(ctx, m.Code, 0); {
		case err == nil:
			m.Version = newest.Version() + 1
		case Rule(err) != RuleNotFound:
			return nil, err
		}
	}
	if err := ValidateEntry(m, r.table); err != nil {
		return nil, err
	}
	signed, err := SignEntry(c.cfg.Key, m)
	if err != nil {
		return nil, err
	}
	e, err := VerifyEntry(signed, r)
	if err != nil {
		return nil, err
	}
	var s *catalogv1.Status
	if err := c.settled(ctx, func() error { // the same registration again is answered as the first time
		a, err := call(ctx, c, c.platform.RegisterEntry, &catalogv1.RegisterEntryRequest{Entry: signed})
		if err != nil {
			return err
		}
		s, err = verifyStatus(a.GetStatus(), r, c.cfg.Seen, c.cfg.Now(), catalogv1.Subject_SUBJECT_ENTRY, m.Code)
		return err
	}); err != nil {
		return nil, err
	}
	if !sameBytes(s.Digest, e.digest) {
		return nil, alarm(RuleStatusMismatch, "the platform registered something else than entry %s version %d", m.Code, m.Version)
	}
	if err := c.raiseOwn(e); err != nil {
		return nil, err
	}
	return e, nil
}
