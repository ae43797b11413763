package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
)

const (
	maxConnections = 2048
	maxStreams     = 64 // calls at once on one connection
	handshakeTime  = 10 * time.Second
	idleTime       = 5 * time.Minute
	drainTime      = 5 * time.Second
)

// Register adds the platform's services to a server whose connections are TLS
// with client certificates.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	catalogv1.RegisterPlatformServer(r, s)
	catalogv1.RegisterAdminServer(r, &s.admin)
}

// Serve answers on a listener until ctx ends, and then lets the calls under
// way finish. It closes the listener.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if err := s.noteAddress(ln.Addr().String()); err != nil {
		return errors.Join(err, ln.Close())
	}
	// Any key may connect: Hello and Enrol are for keys nobody knows yet.
	// Every other call looks its caller up by key.
	tlsConfig, err := s.key.ServerTLS(suite.Platform, func([]byte) error { return nil })
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(tlsConfig)),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.MaxRecvMsgSize(2*catalog.MaxDocument),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(16<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTime, Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
	s.Register(g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(netutil.LimitListener(ln, maxConnections)) }()
	select {
	case err := <-done:
		return fmt.Errorf("platform: serve: %w", err)
	case <-ctx.Done():
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); g.GracefulStop() }()
	select {
	case <-stopped:
	case <-time.After(drainTime):
		g.Stop()
		<-stopped
	}
	if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("platform: serve: %w", err)
	}
	return nil
}

// Address is what invites name: the configured one, or where Serve listens.
func (s *Server) Address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// noteAddress writes down where the platform is, for the staff's commands.
func (s *Server) noteAddress(listening string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Advertise == "" {
		s.address = listening
	}
	path := filepath.Join(s.home, AddressFile)
	if err := os.WriteFile(path+".new", []byte(listening+"\n"), 0o600); err != nil {
		return fmt.Errorf("platform: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("platform: %w", err)
	}
	return nil
}
