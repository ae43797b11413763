package platform

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/internal/store"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

const (
	defaultInvite = 24 * time.Hour
	maxInvite     = 30 * 24 * time.Hour
	maxReason     = 2000
)

// adminServer answers the platform's own staff.
type adminServer struct {
	catalogv1.UnimplementedAdminServer
	s *Server
}

// authorise compares the bearer token, in time that does not depend on it.
func (s *Server) authorise(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if vs := md.Get("authorization"); len(vs) == 1 {
		if token, ok := strings.CutPrefix(vs[0], "Bearer "); ok {
			got, want := sha256.Sum256([]byte(token)), sha256.Sum256(s.token.Reveal())
			if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
				return nil
			}
		}
	}
	return &catalog.RuleError{Rule: catalog.RuleToken, Text: "the admin token is missing or wrong", Security: true}
}

func staff[A any](ctx context.Context, s *Server, call string, f func() (A, error)) (A, error) {
	return answer(ctx, s, "admin."+call, func() (A, error) {
		if err := s.authorise(ctx); err != nil {
			var none A
			return none, err
		}
		return f()
	})
}

func checkReason(reason string, needed bool) error {
	switch {
	case reason == "" && needed:
		return catalog.Refuse(catalog.RuleReason, "a reason must be stated")
	case utf8.RuneCountInString(reason) > maxReason || strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }):
		return catalog.Refuse(catalog.RuleReason, "a reason is one line of at most %d characters", maxReason)
	}
	return nil
}

// Invite implements the service.
func (a *adminServer) Invite(ctx context.Context, q *catalogv1.InviteRequest) (*catalogv1.InviteReply, error) {
	return staff(ctx, a.s, "invite", func() (*catalogv1.InviteReply, error) {
		code, err := a.s.Invite(q.GetParty(), q.GetName(), time.Duration(min(q.GetValidSeconds(), int64(maxInvite/time.Second)))*time.Second)
		return &catalogv1.InviteReply{Code: code}, err
	})
}

// Invite makes a one-time code for a party; valid 0 means a day. An invite for
// the same party that has not been used yet ends. A party that is on the
// roster already gets new keys by its invite, and what it signed under the old
// ones no longer counts.
func (s *Server) Invite(party, name string, valid time.Duration) (string, error) {
	if valid == 0 {
		valid = defaultInvite
	}
	address := s.Address()
	switch {
	case !catalog.ValidPartyID(party):
		return "", catalog.Refuse(catalog.RuleInvite, "%.64q is not a party ID (lower-case letters, digits, inner hyphens)", party)
	case utf8.RuneCountInString(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", catalog.Refuse(catalog.RuleInvite, "a name has at most 200 printable characters")
	case valid < 0 || valid > maxInvite:
		return "", catalog.Refuse(catalog.RuleInvite, "an invite is valid for at most 30 days")
	case address == "" || local(address) != address:
		return "", catalog.Refuse(catalog.RuleInvite, "the platform does not know by which address nodes reach it: set advertise")
	}
	code := make([]byte, catalog.InviteSecretSize)
	if _, err := io.ReadFull(rand.Reader, code); err != nil {
		return "", fmt.Errorf("platform: %w", err)
	}
	_, err := update(s, func(t *tx) (struct{}, error) {
		for item, err := range t.Scan("invite/") {
			if err != nil {
				return struct{}{}, err
			}
			var old invite
			if err := json.Unmarshal(item.Value, &old); err != nil {
				return struct{}{}, fmt.Errorf("platform: record %s is damaged: %w", item.Key, err)
			}
			if !t.now.Before(old.Expires) || old.Party == party && len(old.UsedBy) == 0 {
				if err := t.Delete(item.Key); err != nil {
					return struct{}{}, err
				}
			}
		}
		return struct{}{}, t.putJSON(inviteKey(code), invite{Party: party, Name: name, Expires: t.now.Add(valid)})
	})
	if err != nil {
		return "", err
	}
	s.opt.Log.Info("party invited", slog.String("party", party))
	return catalog.Invite{Address: address, PlatformKey: s.key.Public(), Party: party, Secret: secret.New(code)}.Code(), nil
}

// Review implements the service.
func (a *adminServer) Review(ctx context.Context, q *catalogv1.ReviewRequest) (*catalogv1.ReviewReply, error) {
	return staff(ctx, a.s, "review", func() (*catalogv1.ReviewReply, error) {
		if err := checkReason(q.GetReason(), !q.GetAccept()); err != nil {
			return nil, err
		}
		v, err := a.s.change(func(t *tx) (*filing, error) {
			f, err := t.load(q.GetRequestId())
			if err != nil {
				return nil, err
			}
			return f, t.review(f, q.GetAccept(), q.GetReason())
		})
		return &catalogv1.ReviewReply{Request: v}, err
	})
}

// Revoke implements the service.
func (a *adminServer) Revoke(ctx context.Context, q *catalogv1.RevokeRequest) (*catalogv1.RevokeReply, error) {
	return staff(ctx, a.s, "revoke", func() (*catalogv1.RevokeReply, error) {
		if err := checkReason(q.GetReason(), true); err != nil {
			return nil, err
		}
		status, err := update(a.s, func(t *tx) (*signv1.Signed, error) {
			switch q.GetSubject() {
			case catalogv1.Subject_SUBJECT_ENTRY:
				return t.revokeEntry(q.GetId(), q.GetReason())
			case catalogv1.Subject_SUBJECT_GRANT:
				h, err := t.grantHead(q.GetId())
				if err != nil {
					return nil, err
				}
				f, err := t.load(h.Request)
				if err != nil {
					return nil, err
				}
				return t.revokeGrant(f, q.GetReason())
			}
			return nil, catalog.Refuse(catalog.RuleMalformed, "grants and entries can be revoked")
		})
		if err != nil {
			return nil, err
		}
		a.s.opt.Log.InfoContext(ctx, "revoked", slog.String("subject", q.GetSubject().String()), slog.String("id", q.GetId()))
		return &catalogv1.RevokeReply{Status: status}, nil
	})
}

// SuspendParty implements the service.
func (a *adminServer) SuspendParty(ctx context.Context, q *catalogv1.SuspendPartyRequest) (*catalogv1.SuspendPartyReply, error) {
	return staff(ctx, a.s, "suspend_party", func() (*catalogv1.SuspendPartyReply, error) {
		if err := checkReason(q.GetReason(), q.GetSuspended()); err != nil {
			return nil, err
		}
		roster, err := update(a.s, func(t *tx) (*signv1.Signed, error) {
			p := new(catalogv1.Party)
			switch err := t.getProto("party/"+esc(q.GetParty()), p); {
			case errors.Is(err, store.ErrNotFound):
				return nil, catalog.Refuse(catalog.RuleUnknownParty, "there is no party %.64q", q.GetParty())
			case err != nil:
				return nil, err
			}
			if p.Suspended == q.GetSuspended() {
				return t.issueRoster(false)
			}
			p.Suspended = q.GetSuspended()
			if err := t.putProto("party/"+p.Id, p); err != nil {
				return nil, err
			}
			return t.issueRoster(true)
		})
		if err != nil {
			return nil, err
		}
		a.s.opt.Log.InfoContext(ctx, "suspension changed", slog.String("party", q.GetParty()), slog.Bool("suspended", q.GetSuspended()), slog.String("reason", q.GetReason()))
		return &catalogv1.SuspendPartyReply{Roster: roster}, nil
	})
}

// ListParties implements the service.
func (a *adminServer) ListParties(ctx context.Context, _ *catalogv1.ListPartiesRequest) (*catalogv1.ListPartiesReply, error) {
	return staff(ctx, a.s, "list_parties", func() (*catalogv1.ListPartiesReply, error) {
		l := new(catalogv1.ListPartiesReply)
		return l, a.s.view(func(t *tx) error {
			for item, err := range t.Scan("party/") {
				if err != nil {
					return err
				}
				p := new(catalogv1.Party)
				if err := proto.Unmarshal(item.Value, p); err != nil {
					return fmt.Errorf("platform: record %s is damaged: %w", item.Key, err)
				}
				l.Parties = append(l.Parties, p)
			}
			return nil
		})
	})
}

// ListAllRequests implements the service.
func (a *adminServer) ListAllRequests(ctx context.Context, _ *catalogv1.ListAllRequestsRequest) (*catalogv1.ListAllRequestsReply, error) {
	return staff(ctx, a.s, "list_all_requests", func() (*catalogv1.ListAllRequestsReply, error) {
		l := new(catalogv1.ListAllRequestsReply)
		return l, a.s.view(func(t *tx) (err error) {
			l.Requests, err = t.list(func(f *filing) bool { return f.State != draft })
			return err
		})
	})
}
