package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
)

// Metadata of a stream. The reply header accepted tells the dialler that its
// stream has its place in the callee's session.
const (
	mdSession  = "yinqiao-session"
	mdLabel    = "yinqiao-label"
	mdContract = "yinqiao-contract-bin"
	mdAccepted = "yinqiao-accepted"
)

// maxName bounds session IDs and labels, in bytes.
const maxName = 256

// validName holds session IDs and labels to what HTTP/2 carries unchanged.
func validName(s string) bool {
	if len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// caller returns who is calling, held against the directory as it is now.
func (p *Peers) caller(ctx context.Context) (string, error) {
	remote, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return "", ErrUnknownParty
	}
	id, ok := remote.AuthInfo.(identity)
	if !ok {
		return "", ErrUnknownParty
	}
	if now, err := p.partyOf(id.public); err != nil || now != id.party {
		p.event(id.party, "not_admitted", "a call with a key that the roster no longer lists")
		p.Drop(id.party)
		return "", ErrUnknownParty
	}
	return id.party, nil
}

// enter takes one of a party's places, which count selects, and a token.
func (p *Peers) enter(name string, count func(*party) *int, limit int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.partyLocked(name)
	if n := count(s); *n >= limit || !s.bucket.take(time.Now()) {
		return ErrBusy
	}
	*count(s)++
	return nil
}

func (p *Peers) leave(name string, count func(*party) *int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*count(p.partyLocked(name))--
}

func calls(s *party) *int   { return &s.calls }
func streams(s *party) *int { return &s.streams }

// arriving sees a call before any of its message has been read, which is long
// before unary does: a party whose uploads stand still, or come all at once,
// must not have this node hold a message of each. What is too many is ended
// unread. It runs on the connection's reading goroutine, so it only counts.
func (p *Peers) arriving(ctx context.Context, info *tap.Info) (context.Context, error) {
	remote, ok := grpcpeer.FromContext(ctx)
	if !ok || info.FullMethodName == peerv1.Peer_Stream_FullMethodName {
		return ctx, nil
	}
	id, ok := remote.AuthInfo.(identity)
	if !ok {
		return ctx, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.partyLocked(id.party)
	if s.uploads >= p.limits.Calls+spareCalls {
		// An error here would leave the call's context behind in gRPC until the
		// connection ends; a cancelled one ends the call and itself.
		ended, cancel := context.WithCancelCause(ctx)
		cancel(ErrBusy)
		return ended, nil
	}
	s.uploads++
	context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		s.uploads--
	})
	return ctx, nil
}

type callerKey struct{}

func (p *Peers) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
	name, err := p.caller(ctx)
	if err != nil {
		return nil, refusal(err)
	}
	if err := p.enter(name, calls, p.limits.Calls); err != nil {
		p.event(name, "busy", "more calls than this node allows")
		return nil, refusal(err)
	}
	defer p.leave(name, calls)
	defer p.recovered(name, info.FullMethod, &err)
	reply, err = handler(context.WithValue(ctx, callerKey{}, name), req)
	if err == nil {
		return reply, nil
	}
	var r *RefusedError
	switch {
	case errors.As(err, &r):
		return nil, r
	case ctx.Err() != nil: // the caller no longer waits
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	p.log.Error("call failed", slog.String("method", info.FullMethod), slog.String("peer", name), slog.Any("error", err))
	return nil, Refuse("internal")
}

func (p *Peers) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	name, err := p.caller(stream.Context())
	if err != nil {
		return refusal(err)
	}
	if err := p.enter(name, streams, p.limits.Streams); err != nil {
		p.event(name, "busy", "more streams than this node allows")
		return refusal(err)
	}
	defer p.leave(name, streams)
	defer p.recovered(name, info.FullMethod, &err)
	ctx := context.WithValue(stream.Context(), callerKey{}, name)
	if err := handler(srv, &calledStream{stream, ctx}); err != nil {
		return refusal(err)
	}
	return nil
}

type calledStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *calledStream) Context() context.Context { return s.ctx }

// recovered turns a panic into a refusal of this one call. The value is not
// logged: it may hold a peer's data.
func (p *Peers) recovered(name, method string, err *error) {
	if r := recover(); r != nil {
		p.log.Error("call panicked", slog.String("method", method), slog.String("peer", name), slog.String("type", fmt.Sprintf("%T", r)))
		*err = Refuse("internal")
	}
}

// service hands calls to the node and streams to their sessions.
type service struct {
	peerv1.UnimplementedPeerServer
	peers *Peers
}

func from(ctx context.Context) string {
	name, _ := ctx.Value(callerKey{}).(string)
	return name
}

func (s *service) Hello(ctx context.Context, req *peerv1.HelloRequest) (*peerv1.HelloReply, error) {
	return s.peers.cfg.Handler.Hello(ctx, from(ctx), req)
}

func (s *service) Weigh(ctx context.Context, req *peerv1.WeighRequest) (*peerv1.WeighReply, error) {
	return s.peers.cfg.Handler.Weigh(ctx, from(ctx), req)
}

func (s *service) Propose(ctx context.Context, req *peerv1.ProposeRequest) (*peerv1.ProposeReply, error) {
	return s.peers.cfg.Handler.Propose(ctx, from(ctx), req)
}

func (s *service) Start(ctx context.Context, req *peerv1.StartRequest) (*peerv1.StartReply, error) {
	return s.peers.cfg.Handler.Start(ctx, from(ctx), req)
}

func (s *service) Abort(ctx context.Context, req *peerv1.AbortRequest) (*peerv1.AbortReply, error) {
	return s.peers.cfg.Handler.Abort(ctx, from(ctx), req)
}

func (s *service) Finish(ctx context.Context, req *peerv1.FinishRequest) (*peerv1.FinishReply, error) {
	return s.peers.cfg.Handler.Finish(ctx, from(ctx), req)
}

func (s *service) CoSign(ctx context.Context, req *peerv1.CoSignRequest) (*peerv1.CoSignReply, error) {
	return s.peers.cfg.Handler.CoSign(ctx, from(ctx), req)
}

func (s *service) Records(ctx context.Context, req *peerv1.RecordsRequest) (*peerv1.RecordsReply, error) {
	return s.peers.cfg.Handler.Records(ctx, from(ctx), req)
}

// Stream finds a stream's session, waiting a while for one that this node is
// about to open, and holds the stream until its channel is done.
func (s *service) Stream(stream peerv1.Peer_StreamServer) error {
	p, ctx := s.peers, stream.Context()
	name := from(ctx)
	md, _ := metadata.FromIncomingContext(ctx)
	id, ok1 := one(md, mdSession)
	label, ok2 := one(md, mdLabel)
	contract, ok3 := one(md, mdContract)
	if !ok1 || !ok2 || !ok3 || id == "" || !validName(id) || !validName(label) || len(contract) > maxName {
		p.event(name, "protocol", "a stream with malformed metadata")
		return ErrProtocol
	}
	l, err := p.await(ctx, name, id)
	if err != nil {
		p.refusedStream(name, err)
		return err
	}
	c, err := l.accept(name, label, []byte(contract))
	if err != nil {
		p.refusedStream(name, err)
		return err
	}
	defer l.wg.Done()
	return c.serve(stream)
}

func (p *Peers) refusedStream(name string, err error) {
	var r *RefusedError
	if errors.As(refusal(err), &r) && r.Class != "too_early" && r.Class != "aborted" {
		p.event(name, r.Class, "a stream was refused: "+r.Class)
	}
}

func one(md metadata.MD, key string) (string, bool) {
	v := md.Get(key)
	if len(v) != 1 {
		return "", false
	}
	return v[0], true
}

// arrival is where streams wait for their session to be opened.
type arrival struct {
	opened  chan struct{}
	waiting int
}

// await returns the session called id once this node has opened it. The wait
// is bounded in time and, per party, in number.
func (p *Peers) await(ctx context.Context, name, id string) (*Link, error) {
	p.mu.Lock()
	if l := p.links[id]; l != nil {
		p.mu.Unlock()
		return l, nil
	}
	if p.ended.has(id) {
		p.mu.Unlock()
		return nil, ErrReplayed
	}
	s := p.partyLocked(name)
	if s.waiting >= p.limits.Waiting {
		p.mu.Unlock()
		return nil, Refuse("too_early") // the dialler tries again
	}
	s.waiting++
	a := p.arrivals[id]
	if a == nil {
		a = &arrival{opened: make(chan struct{})}
		p.arrivals[id] = a
	}
	a.waiting++
	p.mu.Unlock()

	timer := time.NewTimer(p.limits.Open)
	defer timer.Stop()
	select {
	case <-a.opened:
	case <-timer.C:
	case <-ctx.Done():
	case <-p.ctx.Done():
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	s.waiting--
	if a.waiting--; a.waiting == 0 && p.arrivals[id] == a {
		delete(p.arrivals, id)
	}
	if l := p.links[id]; l != nil {
		return l, nil
	}
	if p.ended.has(id) {
		return nil, ErrReplayed
	}
	return nil, ErrUnknownSession
}
