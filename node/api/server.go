package api

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/yinqiao/yinqiao/internal/suite"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

const (
	maxRequest   = 1 << 20  // bytes of a caller's message
	maxReply     = 16 << 20 // bytes of a node's message
	maxHeader    = 16 << 10 // bytes of a call's metadata
	maxStreams   = 64       // calls at once on one connection
	shakeTimeout = 10 * time.Second
)

// Config describes a Server. Node, Key, Persons and Backend are needed.
type Config struct {
	Node    string // the party, for the certificate's name
	Key     *suite.Key
	Persons *Persons
	Backend Backend
	Log     *slog.Logger // nil: nothing is logged
	// CallTimeout bounds every call that is not a stream; 0 means 2 minutes.
	CallTimeout time.Duration
	// StopGrace is how long calls may go on once Serve's context has ended;
	// 0 means 5 seconds.
	StopGrace time.Duration
}

// Server is the operator API of one node.
type Server struct {
	cfg      Config
	tls      *tls.Config
	throttle *throttle
}

// NewServer returns a server for cfg.
func NewServer(cfg Config) (*Server, error) {
	if cfg.Key == nil || cfg.Persons == nil || cfg.Backend == nil {
		return nil, errors.New("api: a server needs Key, Persons and Backend")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.CallTimeout <= 0 {
		cfg.CallTimeout = 2 * time.Minute
	}
	if cfg.StopGrace <= 0 {
		cfg.StopGrace = 5 * time.Second
	}
	conf, err := cfg.Key.ServerTLS(cfg.Node, nil)
	if err != nil {
		return nil, err
	}
	conf.ClientAuth = tls.NoClientCert // persons show a token, not a certificate
	conf.VerifyConnection = nil
	return &Server{cfg: cfg, tls: conf, throttle: newThrottle()}, nil
}

// Serve answers calls on l until ctx ends, then lets the calls that are
// running finish for a while, ends them, and returns nil when all have
// returned. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.tls)),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxSendMsgSize(maxReply),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(shakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 10 * time.Minute, Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second}),
		grpc.WaitForHandlers(true),
	)
	nodev1.RegisterOperatorServer(g, service{b: s.cfg.Backend})
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	select {
	case err := <-served:
		g.Stop()
		if err == nil {
			err = errors.New("api: the listener closed")
		}
		return fmt.Errorf("api: serve: %w", err)
	case <-ctx.Done():
	}
	calm := make(chan struct{})
	go func() { g.GracefulStop(); close(calm) }()
	grace := time.NewTimer(s.cfg.StopGrace)
	defer grace.Stop()
	select {
	case <-calm:
	case <-grace.C:
		g.Stop()
		<-calm
	}
	<-served // says no more than that ctx ended
	return nil
}

// caller authenticates a call and holds it to the role its method asks for.
func (s *Server) caller(ctx context.Context, method string) (Identity, [sha256.Size]byte, error) {
	var hash [sha256.Size]byte
	role, known := need(method)
	if !known {
		return Identity{}, hash, (&Error{Class: WrongRole, Text: "no role may call this method"}).status()
	}
	id, hash, err := s.cfg.Persons.authenticate(bearer(ctx))
	switch {
	case errors.Is(err, ErrToken):
		if !s.throttle.fail(remote(ctx)) {
			return id, hash, (&Error{
				Class: Exhausted, RuleCode: "failed_attempts", Text: "too many calls without a valid token from this address",
				Advice: "use the token that was shown when the person was added",
			}).status()
		}
		s.cfg.Log.Warn("api: call without a valid token", slog.String("method", method), slog.String("remote", remote(ctx)))
		return id, hash, (&Error{
			Class: Unauthenticated, RuleCode: "token", Text: "the call carries no token of a person of this node",
			Advice: "use the token that was shown when the person was added",
		}).status()
	case err != nil:
		return id, hash, internal(s.cfg.Log, method, slog.Any("error", err))
	case role != Any && role != id.Role:
		s.cfg.Log.Warn("api: call in another role", slog.String("method", method), slog.String("person", id.Name), slog.String("role", string(id.Role)))
		return id, hash, (&Error{
			Class: WrongRole, RuleCode: "role_" + string(role),
			Text:   fmt.Sprintf("%s has the role %s, and this needs the role %s", id.Name, id.Role, role),
			Advice: "the roles operate, approve and audit are held by different persons",
		}).status()
	}
	return id, hash, nil
}

// bearer returns the call's token, "" where there is none or more than one.
func bearer(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return token
}

// remote returns the caller's address without its port.
func remote(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return "unknown"
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return "unknown"
	}
	return host
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
	id, _, err := s.caller(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(WithIdentity(ctx, id), s.cfg.CallTimeout)
	defer cancel()
	defer s.recovered(info.FullMethod, &err)
	reply, err = handler(ctx, req)
	if err != nil {
		return nil, toStatus(ctx, s.cfg.Log, info.FullMethod, err)
	}
	return reply, nil
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	id, hash, err := s.caller(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	ctx := WithIdentity(ss.Context(), id)
	defer s.recovered(info.FullMethod, &err)
	err = handler(srv, &personStream{ServerStream: ss, ctx: ctx, still: func() error {
		if now, err := s.cfg.Persons.byHash(hash); err != nil || now != id {
			return &Error{Class: Unauthenticated, RuleCode: "token", Text: "the token is no longer valid"}
		}
		return nil
	}})
	return toStatus(ctx, s.cfg.Log, info.FullMethod, err)
}

// recovered turns a panic of a handler into an internal error of that call.
func (s *Server) recovered(method string, err *error) {
	if r := recover(); r != nil {
		*err = internal(s.cfg.Log, method, slog.String("panic", fmt.Sprintf("%T", r)), slog.String("stack", string(debug.Stack())))
	}
}

// personStream is a stream in the name of a person, who must still be listed
// whenever something is sent.
type personStream struct {
	grpc.ServerStream
	ctx   context.Context
	still func() error
}

func (s *personStream) Context() context.Context { return s.ctx }

func (s *personStream) SendMsg(m any) error {
	if err := s.still(); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}
