package platform

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
)

// Staff speaks to a running platform with the token of its home folder, on the
// platform's own host.
type Staff struct {
	conn  *grpc.ClientConn
	admin catalogv1.AdminClient
	token secret.Bytes
}

// OpenStaff reads the home folder of a platform that is running.
func OpenStaff(home string) (*Staff, error) {
	seed, err := readSeed(filepath.Join(home, KeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noHome(home, err)
	}
	if err != nil {
		return nil, fmt.Errorf("platform: %w", err)
	}
	key, err := suite.NewKey(seed)
	if err != nil {
		return nil, err
	}
	token, err := readPrivate(filepath.Join(home, TokenFile))
	if err != nil {
		return nil, fmt.Errorf("platform: %w", err)
	}
	address, err := readPrivate(filepath.Join(home, AddressFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("platform: it has not run yet: start it with `yinqiao platform run`")
	}
	if err != nil {
		return nil, fmt.Errorf("platform: %w", err)
	}
	return NewStaff(local(address), key.Public(), token)
}

// local turns an address that stands for every interface into one to dial.
func local(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return address
}

// NewStaff speaks to the platform at address, which must hold publicKey.
func NewStaff(address string, publicKey []byte, token string) (*Staff, error) {
	// The key of this connection proves nothing: the token does.
	key, err := suite.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := key.ClientTLS("staff", publicKey)
	if err != nil {
		return nil, err
	}
	conn, err := catalog.Dial(address, tlsConfig)
	if err != nil {
		return nil, err
	}
	return &Staff{conn, catalogv1.NewAdminClient(conn), secret.New([]byte(token))}, nil
}

// Close ends the connection.
func (s *Staff) Close() error { return s.conn.Close() }

func ask[Q, A any](ctx context.Context, s *Staff, rpc func(context.Context, Q, ...grpc.CallOption) (A, error), q Q) (A, error) {
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	limited = metadata.AppendToOutgoingContext(limited, "authorization", "Bearer "+string(s.token.Reveal()))
	a, err := rpc(limited, q)
	return a, catalog.FromStatus(ctx, err)
}

// Invite makes a one-time code for a party; valid 0 means a day.
func (s *Staff) Invite(ctx context.Context, party, name string, valid time.Duration) (string, error) {
	a, err := ask(ctx, s, s.admin.Invite, &catalogv1.InviteRequest{Party: party, Name: name, ValidSeconds: int64(valid / time.Second)})
	return a.GetCode(), err
}

// Review accepts or refuses a submitted request.
func (s *Staff) Review(ctx context.Context, requestID string, accept bool, reason string) (*catalogv1.RequestView, error) {
	a, err := ask(ctx, s, s.admin.Review, &catalogv1.ReviewRequest{RequestId: requestID, Accept: accept, Reason: reason})
	return a.GetRequest(), err
}

// RevokeGrant ends a grant.
func (s *Staff) RevokeGrant(ctx context.Context, id, reason string) error {
	_, err := ask(ctx, s, s.admin.Revoke, &catalogv1.RevokeRequest{Subject: catalogv1.Subject_SUBJECT_GRANT, Id: id, Reason: reason})
	return err
}

// RevokeEntry sends an entry back to its provider: what is registered now may
// no longer be used.
func (s *Staff) RevokeEntry(ctx context.Context, code, reason string) error {
	_, err := ask(ctx, s, s.admin.Revoke, &catalogv1.RevokeRequest{Subject: catalogv1.Subject_SUBJECT_ENTRY, Id: code, Reason: reason})
	return err
}

// Suspend suspends a party or ends its suspension.
func (s *Staff) Suspend(ctx context.Context, party string, suspended bool, reason string) error {
	_, err := ask(ctx, s, s.admin.SuspendParty, &catalogv1.SuspendPartyRequest{Party: party, Suspended: suspended, Reason: reason})
	return err
}

// Parties lists the roster.
func (s *Staff) Parties(ctx context.Context) ([]*catalogv1.Party, error) {
	a, err := ask(ctx, s, s.admin.ListParties, &catalogv1.ListPartiesRequest{})
	return a.GetParties(), err
}

// Requests lists every request that has been submitted.
func (s *Staff) Requests(ctx context.Context) ([]*catalogv1.RequestView, error) {
	a, err := ask(ctx, s, s.admin.ListAllRequests, &catalogv1.ListAllRequestsRequest{})
	return a.GetRequests(), err
}
