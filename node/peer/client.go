package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
)

// client is the dialled connection to one party, at one endpoint, with one
// key. gRPC reconnects it.
type client struct {
	cc       *grpc.ClientConn
	creds    *clientCredentials
	endpoint string
	public   []byte
}

func (c *client) rpc() peerv1.PeerClient { return peerv1.NewPeerClient(c.cc) }

// client returns the connection to a party, with the endpoint and key that the
// directory gives now.
func (p *Peers) client(name string) (*client, error) {
	endpoint, public, ok := p.cfg.Directory.ByID(name)
	if !ok || name == p.cfg.Party {
		return nil, fmt.Errorf("%w: %q", ErrUnknownParty, name)
	}
	p.mu.Lock()
	if p.ctx.Err() != nil {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	s := p.partyLocked(name)
	old := s.client
	if old != nil && old.endpoint == endpoint && bytes.Equal(old.public, public) && !old.broken() {
		p.mu.Unlock()
		return old, nil
	}
	fresh, err := p.connect(endpoint, public)
	s.client = fresh
	p.mu.Unlock()
	if old != nil {
		old.cc.Close()
	}
	if err != nil {
		return nil, err
	}
	p.log.Debug("connecting", slog.String("peer", name), slog.String("endpoint", endpoint), slog.String("key", fingerprint(public)))
	return fresh, nil
}

// broken says that the last attempt to connect failed. A fresh connection
// tries at once and reports its own reason, where gRPC would sit out its
// back-off; no call or stream lives on a broken one.
func (c *client) broken() bool {
	s := c.cc.GetState()
	return s == connectivity.TransientFailure || s == connectivity.Shutdown
}

func (p *Peers) connect(endpoint string, public []byte) (*client, error) {
	creds, err := p.clientCredentials(public)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := p.cfg.Dial(ctx, endpoint)
		if err != nil {
			creds.note(err)
		}
		return conn, err
	}
	cc, err := grpc.NewClient("passthrough:///"+endpoint,
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(dial),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: p.limits.Handshake,
		}),
		grpc.WithStaticStreamWindowSize(int32(p.limits.Window)),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithMaxHeaderListSize(headerBytes),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 20 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxFrame)),
	)
	if err != nil {
		return nil, fmt.Errorf("peer: endpoint %q: %w", endpoint, err)
	}
	return &client{cc: cc, creds: creds, endpoint: endpoint, public: bytes.Clone(public)}, nil
}

// call makes one unary call to a party, with the ctx's deadline or
// Limits.Call.
func call[Q, R any](ctx context.Context, p *Peers, name string, req Q,
	method func(peerv1.PeerClient, context.Context, Q, ...grpc.CallOption) (R, error),
) (R, error) {
	var none R
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.limits.Call)
		defer cancel()
	}
	c, err := p.client(name)
	if err != nil {
		return none, err
	}
	reply, err := method(c.rpc(), ctx, req)
	if err == nil {
		c.creds.worked.Store(true)
		return reply, nil
	}
	return none, p.callError(ctx, c, err)
}

func (p *Peers) callError(ctx context.Context, c *client, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("peer: call: %w", context.Cause(ctx))
	case p.ctx.Err() != nil:
		return ErrClosed
	}
	var r *RefusedError
	err = fromStatus(err)
	if errors.As(err, &r) && (r.Class == "unavailable" || r.Class == "cancelled") {
		return c.creds.unreachable()
	}
	return err
}

// retryable says that a stream was refused for a reason that may pass. It is
// cancelled, rather than unavailable, where another call has just replaced a
// broken connection.
func retryable(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Canceled:
		return true
	}
	return false
}

// Hello asks a party who and how it is.
func (p *Peers) Hello(ctx context.Context, party string, req *peerv1.HelloRequest) (*peerv1.HelloReply, error) {
	return call(ctx, p, party, req, peerv1.PeerClient.Hello)
}

// Weigh asks a party which of several contracts it would sign.
func (p *Peers) Weigh(ctx context.Context, party string, req *peerv1.WeighRequest) (*peerv1.WeighReply, error) {
	return call(ctx, p, party, req, peerv1.PeerClient.Weigh)
}

// Propose asks a party to admit and sign a contract.
func (p *Peers) Propose(ctx context.Context, party string, req *peerv1.ProposeRequest) (*peerv1.ProposeReply, error) {
	return call(ctx, p, party, req, peerv1.PeerClient.Propose)
}

// Start gives a party every signature.
func (p *Peers) Start(ctx context.Context, party string, req *peerv1.StartRequest) (*peerv1.StartReply, error) {
	return call(ctx, p, party, req, peerv1.PeerClient.Start)
}

// Abort tells a party that a proposal or a session is over.
func (p *Peers) Abort(ctx context.Context, party string, req *peerv1.AbortRequest) (*peerv1.AbortReply, error) {
	return call(ctx, p, party, req, peerv1.PeerClient.Abort)
}

// Finish tells the initiator what this party's receipt line says.
func (p *Peers) Finish(ctx context.Context, party string, req *peerv1.FinishRequest) (*peerv1.FinishReply, error) {
	return call(ctx, p, party, req, peerv1.PeerClient.Finish)
}

// CoSign gives the initiator this party's signature for the receipt.
func (p *Peers) CoSign(ctx context.Context, party string, req *peerv1.CoSignRequest) (*peerv1.CoSignReply, error) {
	return call(ctx, p, party, req, peerv1.PeerClient.CoSign)
}

// Records exchanges signed records of failed runs.
func (p *Peers) Records(ctx context.Context, party string, req *peerv1.RecordsRequest) (*peerv1.RecordsReply, error) {
	return call(ctx, p, party, req, peerv1.PeerClient.Records)
}
