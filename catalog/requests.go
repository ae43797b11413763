package catalog

import (
	"bytes"
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
)

func timestamp(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

// Request is a request as the platform shows it. The request itself is
// verified; state, reason, grant ID and awaiting are the platform's word.
type Request struct {
	Request  *catalogv1.Request
	Digest   []byte // SHA-256 of the signed payload
	State    catalogv1.RequestState
	Reason   string
	GrantID  string
	Awaiting []string // providers whose decision is still missing
	// Decisions are those that verify, in the platform's order.
	Decisions []*catalogv1.Decision
}

func readRequest(v *catalogv1.RequestView, r *Roster) (*Request, error) {
	m, err := VerifyRequest(v.GetRequest(), r)
	if err != nil {
		return nil, err
	}
	q := &Request{
		Request: m,
		Digest:  suite.Digest(v.Request.Payload),
		State:   v.State,
		Reason:  clipTo(v.Reason, maxLong),
		GrantID: clip(v.GrantId),
	}
	for _, id := range v.Awaiting {
		if ValidPartyID(id) && len(q.Awaiting) < maxUses {
			q.Awaiting = append(q.Awaiting, id)
		}
	}
	for _, s := range v.Decisions {
		if d, err := VerifyDecision(s, r, m.Id, q.Digest); err == nil {
			q.Decisions = append(q.Decisions, d)
		}
	}
	return q, nil
}

func (c *Client) readRequest(ctx context.Context, v *catalogv1.RequestView, id string) (*Request, error) {
	r, err := c.freshRoster(ctx)
	if err != nil {
		return nil, err
	}
	q, err := readRequest(v, r)
	if err != nil {
		return nil, err
	}
	if q.Request.Id != id {
		return nil, alarm(RuleRequest, "the platform gave another request than the one asked for")
	}
	return q, nil
}

// FileRequest signs and files a request of this party, as a draft or for
// decision. Requester and date are filled in where blank. The request given is
// not changed. The same request again is answered as the first time.
func (c *Client) FileRequest(ctx context.Context, request *catalogv1.Request, draft bool) (*Request, error) {
	m := proto.CloneOf(request)
	if m.Requester == "" {
		m.Requester = c.cfg.Party
	}
	if m.Created == nil {
		m.Created = timestamp(c.cfg.Now())
	}
	if err := ValidateRequest(m); err != nil {
		return nil, err
	}
	signed, err := SignRequest(c.cfg.Key, m)
	if err != nil {
		return nil, err
	}
	a, err := call(ctx, c, c.platform.FileRequest, &catalogv1.FileRequestRequest{Request: signed, Draft: draft})
	if err != nil {
		return nil, err
	}
	return c.readRequest(ctx, a.GetRequest(), m.Id)
}

// SubmitRequest submits a draft.
func (c *Client) SubmitRequest(ctx context.Context, id string) (*Request, error) {
	a, err := call(ctx, c, c.platform.SubmitRequest, &catalogv1.SubmitRequestRequest{RequestId: id})
	if err != nil {
		return nil, err
	}
	return c.readRequest(ctx, a.GetRequest(), id)
}

// Request returns one request that this party is a party to.
func (c *Client) Request(ctx context.Context, id string) (*Request, error) {
	a, err := call(ctx, c, c.platform.ListRequests, &catalogv1.ListRequestsRequest{RequestId: id})
	if err != nil {
		return nil, err
	}
	if len(a.Requests) != 1 {
		return nil, Refuse(RuleNotFound, "the platform has no request %s for this party", clip(id))
	}
	return c.readRequest(ctx, a.Requests[0], id)
}

// ListRequests returns the requests that this party is a party to. One that
// does not verify is left out and logged.
func (c *Client) ListRequests(ctx context.Context) ([]*Request, error) {
	a, err := call(ctx, c, c.platform.ListRequests, &catalogv1.ListRequestsRequest{})
	if err != nil {
		return nil, err
	}
	r, err := c.freshRoster(ctx)
	if err != nil {
		return nil, err
	}
	qs := make([]*Request, 0, len(a.Requests))
	for _, v := range a.Requests {
		q, err := readRequest(v, r)
		if err != nil {
			c.cfg.Log.WarnContext(ctx, "request left out", "rule", Rule(err))
			continue
		}
		qs = append(qs, q)
	}
	return qs, nil
}

// Decision is a provider's word on a request.
type Decision struct {
	RequestID string
	// Digest is that of the request the person saw (Request.Digest); where it
	// is given, the decision is signed only if the request is still that one.
	Digest  []byte
	Approve bool
	Reason  string // a refusal states its legal reason
	Person  string
}

// Decide signs and sends this party's decision on a request. The decision is
// over the bytes the requester signed, so it covers nothing else. A refusal
// after the grant revokes it.
func (c *Client) Decide(ctx context.Context, d Decision) (*Request, error) {
	q, err := c.Request(ctx, d.RequestID)
	if err != nil {
		return nil, err
	}
	if len(d.Digest) > 0 && !bytes.Equal(d.Digest, q.Digest) {
		return nil, alarm(RuleRequest, "request %s is not the one that was shown", clip(d.RequestID))
	}
	m := &catalogv1.Decision{
		RequestDigest: q.Digest,
		RequestId:     d.RequestID,
		Party:         c.cfg.Party,
		Approved:      d.Approve,
		Reason:        d.Reason,
		Person:        d.Person,
		Decided:       timestamp(c.cfg.Now()),
	}
	if !d.Approve && d.Reason == "" {
		return nil, Refuse(RuleReason, "a refusal states its reason")
	}
	signed, err := SignDecision(c.cfg.Key, m)
	if err != nil {
		return nil, err
	}
	a, err := call(ctx, c, c.platform.Decide, &catalogv1.DecideRequest{Decision: signed})
	if err != nil {
		return nil, err
	}
	return c.readRequest(ctx, a.GetRequest(), d.RequestID)
}
