package api

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/internal/suite"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// Dial connects to the node at address that holds nodePublicKey, in the name
// of the person whose token it is. It returns when the connection stands, or
// says why it does not. Errors of all calls are *Error. The second result
// closes the connection.
func Dial(ctx context.Context, address string, nodePublicKey []byte, token string) (nodev1.OperatorClient, func() error, error) {
	throwaway, err := suite.GenerateKey(rand.Reader) // persons show a token: this key is never asked for
	if err != nil {
		return nil, nil, err
	}
	conf, err := throwaway.ClientTLS("operator", nodePublicKey)
	if err != nil {
		return nil, nil, err
	}
	var wrongKey atomic.Bool
	verify := conf.VerifyConnection
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		err := verify(cs)
		wrongKey.Store(errors.Is(err, suite.ErrPeerKey))
		return err
	}
	explain := func(ctx context.Context, err error) error {
		err = fromStatus(ctx, err)
		if e, ok := errors.AsType[*Error](err); ok && e.Class == Unreachable && wrongKey.Load() {
			return errWrongKey(address)
		}
		return err
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(conf)),
		grpc.WithPerRPCCredentials(bearerToken{secret.New([]byte(token))}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply), grpc.MaxCallSendMsgSize(maxRequest)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return explain(ctx, call(ctx, method, req, reply, cc, opts...))
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			cs, err := open(ctx, desc, cc, method, opts...)
			if err != nil {
				return nil, explain(ctx, err)
			}
			return &clientStream{cs, explain}, nil
		}),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("api: %w", err)
	}
	if err := connect(ctx, conn); err != nil {
		conn.Close()
		switch {
		case wrongKey.Load():
			return nil, nil, errWrongKey(address)
		case ctx.Err() != nil:
			return nil, nil, &Error{Class: Timeout, Text: "no connection to the node at " + address, cause: ctx.Err()}
		}
		return nil, nil, &Error{
			Class: Unreachable, Text: "no connection to the node at " + address,
			Advice: "is it running, and is this its API address?",
		}
	}
	return nodev1.NewOperatorClient(conn), conn.Close, nil
}

func errWrongKey(address string) *Error {
	return &Error{
		Class: WrongKey, Text: "the server at " + address + " does not hold the node's key",
		Advice: "another program answers at this address, or the node was set up anew",
	}
}

// connect waits until conn is ready or has failed once.
func connect(ctx context.Context, conn *grpc.ClientConn) error {
	conn.Connect()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return errors.New("api: no connection")
		}
		if !conn.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
}

// bearerToken adds the person's token to every call.
type bearerToken struct{ token secret.Bytes }

func (b bearerToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b.token.Reveal())}, nil
}

// RequireTransportSecurity keeps the token off connections without TLS.
func (bearerToken) RequireTransportSecurity() bool { return true }

// clientStream gives the errors of a stream their type.
type clientStream struct {
	grpc.ClientStream
	explain func(context.Context, error) error
}

func (s *clientStream) SendMsg(m any) error {
	return s.explain(s.Context(), s.ClientStream.SendMsg(m))
}

func (s *clientStream) RecvMsg(m any) error {
	return s.explain(s.Context(), s.ClientStream.RecvMsg(m))
}

func (s *clientStream) CloseSend() error {
	return s.explain(s.Context(), s.ClientStream.CloseSend())
}
