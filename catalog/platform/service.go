package platform

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/store"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// maxAnswer bounds a list; callers then ask for one by name.
const maxAnswer = 24 << 20

// answer runs one call: it turns errors into statuses, writes security events
// to the log, and lets no panic take the process down.
func answer[A any](ctx context.Context, s *Server, call string, f func() (A, error)) (a A, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.opt.Log.ErrorContext(ctx, "panic in call", slog.String("call", call), slog.String("stack", string(debug.Stack())))
			err = catalog.StatusError(errors.New("panic"))
		}
	}()
	a, err = f()
	if err == nil {
		return a, nil
	}
	var rule *catalog.RuleError
	switch {
	case errors.As(err, &rule):
		level := slog.LevelInfo
		if rule.Security {
			level = slog.LevelWarn
		}
		s.opt.Log.Log(ctx, level, "call refused", slog.String("call", call), slog.String("rule", rule.Rule),
			slog.Bool("security", rule.Security), slog.String("party", s.nameOf(ctx)))
	default:
		s.opt.Log.ErrorContext(ctx, "call failed", slog.String("call", call), slog.Any("error", err))
	}
	var none A
	return none, catalog.StatusError(err)
}

// callerKey is the public key of the caller's TLS certificate.
func callerKey(ctx context.Context) []byte {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil
	}
	return suite.PeerKey(info.State)
}

// caller is the party whose key the connection was made with.
func (s *Server) caller(ctx context.Context) (string, error) {
	p, ok := s.roster.Load().ByKey(callerKey(ctx))
	switch {
	case !ok:
		return "", catalog.Refuse(catalog.RuleCaller, "this connection's key belongs to no party: enrol first")
	case p.Suspended:
		return "", catalog.Refuse(catalog.RulePartySuspended, "party %s is suspended", p.ID)
	}
	return p.ID, nil
}

func (s *Server) nameOf(ctx context.Context) string {
	p, _ := s.roster.Load().ByKey(callerKey(ctx))
	return p.ID
}

// Hello implements the service.
func (s *Server) Hello(context.Context, *catalogv1.HelloRequest) (*catalogv1.HelloReply, error) {
	return &catalogv1.HelloReply{
		Version:   s.opt.Version,
		Now:       timestamppb.New(s.opt.Now()),
		Suite:     s.key.Suite(),
		PublicKey: s.key.Public(),
	}, nil
}

// Enrol implements the service.
func (s *Server) Enrol(ctx context.Context, q *catalogv1.EnrolRequest) (*catalogv1.EnrolReply, error) {
	return answer(ctx, s, "enrol", func() (*catalogv1.EnrolReply, error) {
		p, err := catalog.CheckEnrolment(q)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(p.PublicKey, callerKey(ctx)) {
			return nil, &catalog.RuleError{Rule: catalog.RuleProof, Text: "the enrolment names another key than the connection's", Security: true}
		}
		roster, err := update(s, func(t *tx) (*signv1.Signed, error) { return t.enrol(p, q.Secret) })
		if err != nil {
			return nil, err
		}
		s.opt.Log.InfoContext(ctx, "party enrolled", slog.String("party", p.Id))
		return &catalogv1.EnrolReply{Roster: roster}, nil
	})
}

func inviteKey(secret []byte) string {
	d := sha256.Sum256(secret)
	return "invite/" + hex.EncodeToString(d[:])
}

// enrol lets a party in, once per invite. A second call with the same key is
// the first one's answer that was lost.
func (t *tx) enrol(p *catalogv1.Party, secret []byte) (*signv1.Signed, error) {
	var inv invite
	key := inviteKey(secret)
	switch err := t.getJSON(key, &inv); {
	case errors.Is(err, store.ErrNotFound), err == nil && inv.Party != p.Id:
		return nil, catalog.Refuse(catalog.RuleInvite, "the invite code is not valid here")
	case err != nil:
		return nil, err
	}
	holder, known := t.current().ByKey(p.PublicKey)
	switch {
	case len(inv.UsedBy) > 0 && bytes.Equal(inv.UsedBy, p.PublicKey) && known && holder.ID == p.Id:
		return t.issueRoster(false)
	case len(inv.UsedBy) > 0:
		return nil, catalog.Refuse(catalog.RuleInvite, "the invite code has been used")
	case !t.now.Before(inv.Expires):
		return nil, catalog.Refuse(catalog.RuleInvite, "the invite code has expired: ask for a new one")
	case known && holder.ID != p.Id:
		return nil, catalog.Refuse(catalog.RuleExists, "the key belongs to another party")
	}
	if p.Name == "" {
		p.Name = inv.Name
	}
	if was, ok := t.current().Party(p.Id); ok {
		p.Suspended = was.Suspended // new keys do not end a suspension
	}
	inv.UsedBy = p.PublicKey
	if err := errors.Join(t.putJSON(key, inv), t.putProto("party/"+p.Id, p)); err != nil {
		return nil, err
	}
	return t.issueRoster(true)
}

// GetRoster implements the service.
func (s *Server) GetRoster(ctx context.Context, _ *catalogv1.GetRosterRequest) (*catalogv1.GetRosterReply, error) {
	return answer(ctx, s, "get_roster", func() (*catalogv1.GetRosterReply, error) {
		if _, err := s.caller(ctx); err != nil {
			return nil, err
		}
		return update(s, func(t *tx) (*catalogv1.GetRosterReply, error) {
			r, err := t.issueRoster(false)
			return &catalogv1.GetRosterReply{Roster: r}, err
		})
	})
}

// RegisterEntry implements the service.
func (s *Server) RegisterEntry(ctx context.Context, q *catalogv1.RegisterEntryRequest) (*catalogv1.RegisterEntryReply, error) {
	return answer(ctx, s, "register_entry", func() (*catalogv1.RegisterEntryReply, error) {
		caller, err := s.caller(ctx)
		if err != nil {
			return nil, err
		}
		return update(s, func(t *tx) (*catalogv1.RegisterEntryReply, error) {
			status, err := t.registerEntry(caller, q.GetEntry())
			return &catalogv1.RegisterEntryReply{Status: status}, err
		})
	})
}

// ListEntries implements the service.
func (s *Server) ListEntries(ctx context.Context, q *catalogv1.ListEntriesRequest) (*catalogv1.ListEntriesReply, error) {
	return answer(ctx, s, "list_entries", func() (*catalogv1.ListEntriesReply, error) {
		if _, err := s.caller(ctx); err != nil {
			return nil, err
		}
		a := new(catalogv1.ListEntriesReply)
		return a, s.view(func(t *tx) error {
			if q.GetCode() != "" {
				return t.listEntry(q.GetCode(), q.GetVersion(), a)
			}
			return t.listEntries(a)
		})
	})
}

func (t *tx) listEntry(code string, version int64, a *catalogv1.ListEntriesReply) error {
	if version == 0 {
		h, err := t.head(code)
		if err != nil {
			return err
		}
		version = h.Version
	}
	signed := new(signv1.Signed)
	err := t.getProto(entryKey(code, version), signed)
	if errors.Is(err, store.ErrNotFound) {
		return catalog.Refuse(catalog.RuleNotFound, "there is no entry %.64q version %d", code, version)
	}
	a.Entries = append(a.Entries, signed)
	return err
}

func (t *tx) listEntries(a *catalogv1.ListEntriesReply) error {
	size := 0
	for item, err := range t.Scan("head/") {
		if err != nil {
			return err
		}
		signed, err := t.newest(item)
		if err != nil {
			return err
		}
		if signed == nil {
			continue
		}
		if size += proto.Size(signed); size > maxAnswer {
			return catalog.Refuse(catalog.RuleTooLarge, "the catalog is too large for one answer: ask for entries by code")
		}
		a.Entries = append(a.Entries, signed)
	}
	return nil
}

// GetGrant implements the service.
func (s *Server) GetGrant(ctx context.Context, q *catalogv1.GetGrantRequest) (*catalogv1.GetGrantReply, error) {
	return answer(ctx, s, "get_grant", func() (*catalogv1.GetGrantReply, error) {
		caller, err := s.caller(ctx)
		if err != nil {
			return nil, err
		}
		return update(s, func(t *tx) (*catalogv1.GetGrantReply, error) { return t.getGrant(caller, q.GetGrantId()) })
	})
}

// visibleGrant reads a grant's head for one of its parties.
func (t *tx) visibleGrant(caller, id string) (grantHead, *filing, error) {
	h, err := t.grantHead(id)
	if err != nil {
		return h, nil, err
	}
	f, err := t.load(h.Request)
	if err != nil {
		return h, nil, err
	}
	if !f.concerns(caller) {
		return h, nil, noGrant(id)
	}
	return h, f, nil
}

func (t *tx) getGrant(caller, id string) (*catalogv1.GetGrantReply, error) {
	h, f, err := t.visibleGrant(caller, id)
	if err != nil {
		return nil, err
	}
	a := &catalogv1.GetGrantReply{Grant: new(signv1.Signed)}
	if err := t.getPieces("grant/"+id, a.Grant); err != nil {
		return nil, err
	}
	if a.Status, err = t.grantStatus(id, h); err != nil {
		return nil, err
	}
	for _, u := range f.m.Uses {
		status, err := t.entryStatus(u.Entry)
		if err != nil {
			return nil, err
		}
		a.EntryStatuses = append(a.EntryStatuses, status)
	}
	a.Roster, err = t.issueRoster(false)
	return a, err
}

// maxSubjects bounds one question for statuses: a grant and its entries.
const maxSubjects = 128

// GetStatus implements the service.
func (s *Server) GetStatus(ctx context.Context, q *catalogv1.GetStatusRequest) (*catalogv1.GetStatusReply, error) {
	return answer(ctx, s, "get_status", func() (*catalogv1.GetStatusReply, error) {
		caller, err := s.caller(ctx)
		if err != nil {
			return nil, err
		}
		if len(q.GetSubjects()) > maxSubjects {
			return nil, catalog.Refuse(catalog.RuleTooLarge, "at most %d subjects can be asked for at once", maxSubjects)
		}
		return update(s, func(t *tx) (*catalogv1.GetStatusReply, error) { return t.getStatus(caller, q.GetSubjects()) })
	})
}

func (t *tx) getStatus(caller string, subjects []*catalogv1.SubjectKey) (*catalogv1.GetStatusReply, error) {
	a := new(catalogv1.GetStatusReply)
	for _, k := range subjects {
		var status *signv1.Signed
		var err error
		switch k.GetSubject() {
		case catalogv1.Subject_SUBJECT_ENTRY:
			status, err = t.entryStatus(k.GetId())
		case catalogv1.Subject_SUBJECT_GRANT:
			var h grantHead
			if h, _, err = t.visibleGrant(caller, k.GetId()); err == nil {
				status, err = t.grantStatus(k.GetId(), h)
			}
		default:
			err = catalog.Refuse(catalog.RuleMalformed, "statuses are of grants and entries")
		}
		if err != nil {
			return nil, err
		}
		a.Statuses = append(a.Statuses, status)
	}
	var err error
	a.Roster, err = t.issueRoster(false)
	return a, err
}

// FileRequest implements the service.
func (s *Server) FileRequest(ctx context.Context, q *catalogv1.FileRequestRequest) (*catalogv1.FileRequestReply, error) {
	return answer(ctx, s, "file_request", func() (*catalogv1.FileRequestReply, error) {
		caller, err := s.caller(ctx)
		if err != nil {
			return nil, err
		}
		v, err := s.change(func(t *tx) (*filing, error) { return t.file(caller, q.GetRequest(), q.GetDraft()) })
		return &catalogv1.FileRequestReply{Request: v}, err
	})
}

// change runs a step of the state machine and shows where it led.
func (s *Server) change(step func(*tx) (*filing, error)) (*catalogv1.RequestView, error) {
	return update(s, func(t *tx) (*catalogv1.RequestView, error) {
		f, err := step(t)
		if err != nil {
			return nil, err
		}
		return t.show(f)
	})
}

// SubmitRequest implements the service.
func (s *Server) SubmitRequest(ctx context.Context, q *catalogv1.SubmitRequestRequest) (*catalogv1.SubmitRequestReply, error) {
	return answer(ctx, s, "submit_request", func() (*catalogv1.SubmitRequestReply, error) {
		caller, err := s.caller(ctx)
		if err != nil {
			return nil, err
		}
		v, err := s.change(func(t *tx) (*filing, error) {
			f, err := t.load(q.GetRequestId())
			if err != nil {
				return nil, err
			}
			switch {
			case !f.concerns(caller):
				return nil, notFound(q.GetRequestId())
			case f.m.Requester != caller:
				return nil, catalog.Refuse(catalog.RuleNotYours, "request %s is %s's to submit", f.m.Id, f.m.Requester)
			}
			return f, t.submit(f)
		})
		return &catalogv1.SubmitRequestReply{Request: v}, err
	})
}

// Decide implements the service.
func (s *Server) Decide(ctx context.Context, q *catalogv1.DecideRequest) (*catalogv1.DecideReply, error) {
	return answer(ctx, s, "decide", func() (*catalogv1.DecideReply, error) {
		caller, err := s.caller(ctx)
		if err != nil {
			return nil, err
		}
		// Only to find the request; decide verifies the bytes.
		var d catalogv1.Decision
		if err := catalog.Decode(q.GetDecision().GetPayload(), &d); err != nil {
			return nil, err
		}
		v, err := s.change(func(t *tx) (*filing, error) {
			f, err := t.load(d.RequestId)
			if err != nil {
				return nil, err
			}
			if !f.concerns(caller) {
				return nil, notFound(d.RequestId)
			}
			return f, t.decide(f, caller, q.GetDecision())
		})
		return &catalogv1.DecideReply{Request: v}, err
	})
}

// ListRequests implements the service.
func (s *Server) ListRequests(ctx context.Context, q *catalogv1.ListRequestsRequest) (*catalogv1.ListRequestsReply, error) {
	return answer(ctx, s, "list_requests", func() (*catalogv1.ListRequestsReply, error) {
		caller, err := s.caller(ctx)
		if err != nil {
			return nil, err
		}
		a := new(catalogv1.ListRequestsReply)
		err = s.view(func(t *tx) error {
			if id := q.GetRequestId(); id != "" {
				f, err := t.load(id)
				if err != nil {
					return err
				}
				if !f.concerns(caller) {
					return notFound(id)
				}
				v, err := t.show(f)
				a.Requests = append(a.Requests, v)
				return err
			}
			a.Requests, err = t.list(func(f *filing) bool { return f.concerns(caller) })
			return err
		})
		return a, err
	})
}

// list shows the requests that keep lets through.
func (t *tx) list(keep func(*filing) bool) ([]*catalogv1.RequestView, error) {
	var vs []*catalogv1.RequestView
	size := 0
	for item, err := range t.Scan("request/") {
		if err != nil {
			return nil, err
		}
		f, err := t.parse(item)
		if err != nil {
			return nil, err
		}
		if !keep(f) {
			continue
		}
		v, err := t.show(f)
		if err != nil {
			return nil, err
		}
		if size += proto.Size(v); size > maxAnswer {
			return nil, catalog.Refuse(catalog.RuleTooLarge, "there are too many requests for one answer: ask for one by its ID")
		}
		vs = append(vs, v)
	}
	return vs, nil
}
