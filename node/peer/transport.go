package peer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/yinqiao/yinqiao/internal/suite"
)

// identity is who a connection belongs to, as its handshake found.
type identity struct {
	credentials.CommonAuthInfo
	party  string
	public []byte
}

// AuthType implements credentials.AuthInfo.
func (identity) AuthType() string { return "yinqiao" }

// trackedConn is an accepted connection of a known party.
type trackedConn struct {
	net.Conn
	public []byte
	once   sync.Once
	forget func(*trackedConn)
}

func (c *trackedConn) Close() error {
	c.once.Do(func() { c.forget(c) })
	return c.Conn.Close()
}

// serverCredentials are the accepting side of a connection: bounded TLS
// handshakes, a certificate whose key the directory knows, a bounded number of
// connections per party.
type serverCredentials struct {
	peers *Peers
	tls   credentials.TransportCredentials
}

func (p *Peers) serverCredentials() (credentials.TransportCredentials, error) {
	cfg, err := p.cfg.Key.ServerTLS(p.cfg.Party, func(public []byte) error {
		_, err := p.partyOf(public)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &serverCredentials{p, credentials.NewTLS(cfg)}, nil
}

func (p *Peers) partyOf(public []byte) (string, error) {
	name, ok := p.cfg.Directory.ByKey(public)
	if !ok || name == p.cfg.Party {
		return "", ErrUnknownParty
	}
	return name, nil
}

func (s *serverCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	p := s.peers
	host := raw.RemoteAddr().String()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if !p.handshakes.enter(host) {
		p.event("", "busy", "too many handshakes in progress; connection from "+host+" refused")
		return nil, nil, ErrBusy
	}
	defer p.handshakes.leave(host)
	conn, info, err := s.tls.ServerHandshake(raw)
	if err != nil {
		p.handshakeFailed(host, err)
		return nil, nil, err
	}
	state := info.(credentials.TLSInfo)
	public := suite.PeerKey(state.State)
	name, err := p.partyOf(public)
	if err != nil { // it left the roster since the certificate was checked
		conn.Close()
		return nil, nil, err
	}
	tracked := &trackedConn{Conn: conn, public: bytes.Clone(public), forget: func(c *trackedConn) { p.forget(name, c) }}
	if err := p.track(name, tracked); err != nil {
		conn.Close()
		p.event(name, "busy", "too many new connections")
		return nil, nil, err
	}
	return tracked, identity{state.CommonAuthInfo, name, tracked.public}, nil
}

// handshakeFailed tells apart what is worth a security event (a certificate
// that was read and refused) from noise on a port.
func (p *Peers) handshakeFailed(host string, err error) {
	var bad *tls.CertificateVerificationError
	switch {
	case errors.Is(err, ErrUnknownParty), errors.Is(err, suite.ErrPeerKey), errors.As(err, &bad):
		p.event("", "unknown_certificate", "connection from "+host+" with a key that the roster does not list")
	}
	p.log.Debug("handshake failed", slog.String("remote", host), slog.Any("error", err))
}

// track admits a connection. The newest wins: a peer that restarted must not
// be kept out by its own dead connections.
func (p *Peers) track(name string, c *trackedConn) error {
	p.mu.Lock()
	s := p.partyLocked(name)
	if p.ctx.Err() != nil || !s.bucket.take(time.Now()) {
		p.mu.Unlock()
		return ErrBusy
	}
	s.conns = append(s.conns, c)
	var oldest *trackedConn
	if len(s.conns) > p.limits.Conns {
		oldest = s.conns[0]
		s.conns = slices.Delete(s.conns, 0, 1)
	}
	p.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
	return nil
}

func (p *Peers) forget(name string, c *trackedConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.parties[name]; s != nil {
		s.conns = slices.DeleteFunc(s.conns, func(x *trackedConn) bool { return x == c })
	}
}

func (s *serverCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("peer: credentials of a server")
}
func (s *serverCredentials) Info() credentials.ProtocolInfo          { return s.tls.Info() }
func (s *serverCredentials) Clone() credentials.TransportCredentials { return s }
func (s *serverCredentials) OverrideServerName(string) error         { return nil }

// clientCredentials are the dialling side of a connection to one party with
// one pinned key. They remember why the last attempt failed, which gRPC passes
// on as text only.
type clientCredentials struct {
	credentials.TransportCredentials
	trouble atomic.Pointer[error]
	worked  atomic.Bool // the party has answered over this connection
}

func (p *Peers) clientCredentials(public []byte) (*clientCredentials, error) {
	cfg, err := p.cfg.Key.ClientTLS(p.cfg.Party, public)
	if err != nil {
		return nil, err
	}
	return &clientCredentials{TransportCredentials: credentials.NewTLS(cfg)}, nil
}

func (c *clientCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	c.note(err)
	return conn, info, err
}

// Clone keeps the memory: gRPC clones the credentials it is given.
func (c *clientCredentials) Clone() credentials.TransportCredentials { return c }

func (c *clientCredentials) note(err error) {
	if err == nil {
		c.trouble.Store(nil)
		return
	}
	c.trouble.Store(&err)
}

// unreachable says why there is no connection, as far as this side knows.
func (c *clientCredentials) unreachable() error {
	if err := c.trouble.Load(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, *err)
	}
	if c.worked.Load() {
		return fmt.Errorf("%w: the connection broke", ErrUnreachable)
	}
	return fmt.Errorf("%w: it closed the connection; its roster may not admit this node's key", ErrUnreachable)
}

// fingerprint names a public key in logs.
func fingerprint(public []byte) string {
	d := sha256.Sum256(public)
	return hex.EncodeToString(d[:8])
}
