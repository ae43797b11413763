package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/node/api"
	"github.com/yinqiao/yinqiao/node/dataset"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	"github.com/yinqiao/yinqiao/table"
)

// This file is what an authenticated operator can ask of a node. The person's
// name comes with the context.

func person(ctx context.Context) string { return api.Person(ctx) }

// Info tells who this node is.
func (n *Node) Info(context.Context, *nodev1.InfoRequest) (*nodev1.InfoReply, error) {
	r := &nodev1.InfoReply{Party: n.cfg.Party, Version: n.version, Endpoint: n.cfg.Advertise, Home: n.home.Dir}
	for _, d := range n.cfg.Datasets {
		r.Datasets = append(r.Datasets, d.Name)
	}
	return r, nil
}

// RegisterEntry checks that the dataset has the entry's items, signs the
// entry, and registers it with the platform. The rows stay.
func (n *Node) RegisterEntry(ctx context.Context, req *nodev1.RegisterEntryRequest) (*nodev1.RegisterEntryReply, error) {
	e, _ := proto.Clone(req.GetEntry()).(*catalogv1.Entry)
	if e == nil {
		return nil, invalid("no entry given")
	}
	if e.Provider != "" && e.Provider != n.cfg.Party {
		return nil, invalid("entry: provider must be %s: a party registers its own entries", n.cfg.Party)
	}
	reply, err := n.checkDataset(ctx, e, req.GetDataset())
	if err != nil {
		return nil, err
	}
	registered, err := n.resolver.RegisterEntry(ctx, e)
	if err != nil {
		return nil, n.asRefusal(err)
	}
	if err := n.store.Put("entry/"+e.Code, []byte(req.GetDataset())); err != nil {
		return nil, err
	}
	reply.Code, reply.Version, reply.Digest = registered.Code(), registered.Version(), registered.Digest()
	return reply, nil
}

// maxShownFaults is how many faults of a dataset one message names.
const maxShownFaults = 10

// checkDataset reads the whole dataset once and holds it to the entry, so that
// a fault shows when it is registered and not in the middle of a job. The reply
// says what was read.
func (n *Node) checkDataset(ctx context.Context, e *catalogv1.Entry, name string) (*nodev1.RegisterEntryReply, error) {
	i := slices.IndexFunc(n.cfg.Datasets, func(d dataset.Dataset) bool { return d.Name == name })
	if i < 0 {
		return nil, invalid("node.yaml has no dataset %q", clip(name, 64))
	}
	d := n.cfg.Datasets[i]
	src, err := dataset.Open(ctx, d)
	if err != nil {
		return nil, invalid("%v", err)
	}
	reply := &nodev1.RegisterEntryReply{KeyRule: string(cmp.Or(d.KeyRule, table.RuleID))}
	rep, err := src.Check(ctx, table.KeyRule(reply.KeyRule), maxShownFaults)
	if err != nil {
		return nil, invalid("%v", err)
	}
	reply.Rows = rep.Rows
	var lines []string
	for _, f := range rep.Faults {
		switch {
		case f.Rule != dataset.KeyDuplicate:
			lines = append(lines, f.Error())
		case d.RepeatedKeys:
			reply.Notes = append(reply.Notes, f.Error())
		default:
			lines = append(lines, f.Error()+", which is for datasets with `repeated_keys: true` in node.yaml and jobs that join such rows")
		}
	}
	if len(lines) > 0 {
		if rep.More {
			lines = append(lines, "and more")
		}
		return nil, invalid("dataset %s cannot be used: %s", name, strings.Join(lines, "; "))
	}
	return reply, itemsFit(e, src.Schema(), name)
}

// itemsFit holds an entry's items to the columns of the dataset behind it.
func itemsFit(e *catalogv1.Entry, schema table.Schema, name string) error {
	var missing []string
	for _, it := range e.GetItems() {
		j := schema.Index(it.GetName())
		switch {
		case j < 0:
			missing = append(missing, it.GetName()+" is not a column")
		case string(schema[j].Type) != it.GetType():
			missing = append(missing, it.GetName()+" is "+string(schema[j].Type)+" in the dataset")
		case schema[j].Key != it.GetKey():
			missing = append(missing, it.GetName()+" must be a key on both sides or neither")
		}
	}
	if len(missing) > 0 {
		return invalid("entry items do not fit dataset %s: %s", name, strings.Join(missing, "; "))
	}
	return nil
}

// ListEntries returns the catalog's current entries, or all versions of one.
func (n *Node) ListEntries(ctx context.Context, req *nodev1.ListEntriesRequest) (*nodev1.ListEntriesReply, error) {
	es, err := n.resolver.ListEntries(ctx, req.GetCode())
	if err != nil {
		return nil, n.asRefusal(err)
	}
	r := &nodev1.ListEntriesReply{}
	for _, e := range es {
		r.Entries = append(r.Entries, e.Message())
	}
	return r, nil
}

// CreateRequest signs an exchange request and files it.
func (n *Node) CreateRequest(ctx context.Context, req *nodev1.CreateRequestRequest) (*nodev1.CreateRequestReply, error) {
	q, _ := proto.Clone(req.GetRequest()).(*catalogv1.Request)
	if q == nil {
		return nil, invalid("no request given")
	}
	if q.Requester != "" && q.Requester != n.cfg.Party {
		return nil, invalid("request: requester must be %s: a party files its own requests", n.cfg.Party)
	}
	q.Requester, q.Person = n.cfg.Party, person(ctx)
	if q.Id == "" {
		q.Id = newID("R")
	}
	v, err := n.resolver.FileRequest(ctx, q, req.GetDraft())
	if err != nil {
		return nil, n.asRefusal(err)
	}
	return &nodev1.CreateRequestReply{Request: summarise(v)}, nil
}

// SubmitRequest submits a draft.
func (n *Node) SubmitRequest(ctx context.Context, req *nodev1.SubmitRequestRequest) (*nodev1.SubmitRequestReply, error) {
	v, err := n.resolver.SubmitRequest(ctx, req.GetRequestId())
	if err != nil {
		return nil, n.asRefusal(err)
	}
	return &nodev1.SubmitRequestReply{Request: summarise(v)}, nil
}

// ListRequests returns the requests this party has a part in, or one of them.
func (n *Node) ListRequests(ctx context.Context, req *nodev1.ListRequestsRequest) (*nodev1.ListRequestsReply, error) {
	r := &nodev1.ListRequestsReply{}
	if id := req.GetRequestId(); id != "" {
		q, err := n.resolver.Request(ctx, id)
		if err != nil {
			return nil, n.asRefusal(err)
		}
		r.Requests = append(r.Requests, summarise(q))
		return r, nil
	}
	qs, err := n.resolver.ListRequests(ctx)
	if err != nil {
		return nil, n.asRefusal(err)
	}
	for _, q := range qs {
		r.Requests = append(r.Requests, summarise(q))
	}
	return r, nil
}

// DecideRequest signs this provider's approval or refusal of a request.
func (n *Node) DecideRequest(ctx context.Context, req *nodev1.DecideRequestRequest) (*nodev1.DecideRequestReply, error) {
	if len(req.GetDigest()) == 0 {
		return nil, invalid("a decision names the digest of the request that was shown")
	}
	q, err := n.resolver.Decide(ctx, catalog.Decision{
		RequestID: req.GetRequestId(), Digest: req.GetDigest(), Approve: req.GetApprove(), Reason: req.GetReason(), Person: person(ctx),
	})
	if err != nil {
		return nil, n.asRefusal(err)
	}
	// This node keeps its party's last word itself: a platform that forgets a
	// refusal does not bring the consent back.
	if req.GetApprove() {
		err = n.store.Delete(refusedKey(q.Digest))
	} else {
		err = n.store.Put(refusedKey(q.Digest), []byte{1})
	}
	if err != nil {
		return nil, err
	}
	return &nodev1.DecideRequestReply{Request: summarise(q)}, nil
}

func refusedKey(requestDigest []byte) string { return fmt.Sprintf("refused/%x", requestDigest) }

func summarise(q *catalog.Request) *nodev1.RequestSummary {
	return &nodev1.RequestSummary{
		Request: q.Request, State: q.State, Reason: q.Reason, GrantId: q.GrantID, Awaiting: q.Awaiting, Digest: q.Digest,
	}
}

// ListKinds returns the job kinds this node knows.
func (n *Node) ListKinds(context.Context, *nodev1.ListKindsRequest) (*nodev1.ListKindsReply, error) {
	r := &nodev1.ListKindsReply{}
	for _, name := range n.registry.Names() {
		d, _ := n.registry.Lookup(name)
		k := &nodev1.Kind{Name: name, Summary: d.Summary}
		for _, role := range d.Roles {
			k.Roles = append(k.Roles, string(role.Role))
		}
		r.Kinds = append(r.Kinds, k)
	}
	return r, nil
}

// SubmitJob proposes a job and starts it.
func (n *Node) SubmitJob(ctx context.Context, req *nodev1.SubmitJobRequest) (*nodev1.SubmitJobReply, error) {
	id, err := n.Submit(ctx, person(ctx), req)
	if err != nil {
		return nil, err
	}
	return &nodev1.SubmitJobReply{Job: id}, nil
}

// watchEvery spaces the views of a running job.
const watchEvery = 200 * time.Millisecond

// WatchJob sends the job's view now and after changes, until it has ended.
func (n *Node) WatchJob(ctx context.Context, req *nodev1.WatchJobRequest, send func(*nodev1.JobView) error) error {
	a := n.findJob(req.GetJob())
	for a != nil {
		v, changed := a.view()
		if State(v.GetState()).Final() { // shown once its record is left
			select {
			case <-a.ended:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			break
		}
		if err := send(v); err != nil {
			return err
		}
		pause := time.NewTimer(watchEvery)
		select {
		case <-a.ended:
			pause.Stop()
			a = nil
			continue
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		case <-pause.C:
		}
		select {
		case <-changed:
		case <-a.ended:
			a = nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	r, err := n.load(req.GetJob())
	if err != nil {
		return err
	}
	if w := n.awaiting(r); w != nil { // what follows is known once the next attempt has begun
		if err := send(n.viewOf(r)); err != nil {
			return err
		}
		select {
		case <-w.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if r, err = n.load(req.GetJob()); err != nil {
			return err
		}
	}
	return send(n.viewOf(r))
}

// ListJobs returns every job this node took part in, newest first.
func (n *Node) ListJobs(context.Context, *nodev1.ListJobsRequest) (*nodev1.ListJobsReply, error) {
	rs, err := n.records()
	if err != nil {
		return nil, err
	}
	reply := &nodev1.ListJobsReply{}
	for _, r := range rs {
		reply.Jobs = append(reply.Jobs, n.viewOf(r))
	}
	return reply, nil
}

// CancelJob ends a job that has not ended, or keeps one that has from going on by
// itself.
func (n *Node) CancelJob(ctx context.Context, req *nodev1.CancelJobRequest) (*nodev1.CancelJobReply, error) {
	a := n.findJob(req.GetJob())
	if a == nil {
		r, err := n.load(req.GetJob())
		if err != nil {
			return nil, err
		}
		if w := n.awaiting(r); w != nil {
			w.cancel(fail("cancelled", "%s cancelled the job", person(ctx)))
			return &nodev1.CancelJobReply{}, nil
		}
		return nil, invalid("the job has ended already (%s)", r.State)
	}
	a.cancel(fail("cancelled", "%s cancelled the job", person(ctx)))
	return &nodev1.CancelJobReply{}, nil
}

// ListAudit returns entries of the node's log.
func (n *Node) ListAudit(ctx context.Context, req *nodev1.ListAuditRequest) (*nodev1.ListAuditReply, error) {
	size, err := n.audit.Size(ctx)
	if err != nil {
		return nil, err
	}
	limit := req.GetLimit()
	if limit <= 0 || limit > 500 {
		limit = 500
	}
	entries, err := n.audit.Read(ctx, req.GetFrom(), int(limit))
	if err != nil {
		return nil, err
	}
	r := &nodev1.ListAuditReply{Size: size}
	for _, e := range entries {
		line := &nodev1.AuditLine{Index: e.Index, Digest: e.Digest}
		switch {
		case e.Leaf.GetReceipt() != nil:
			line.Kind, line.Signed = "receipt", e.Leaf.GetReceipt()
		case e.Leaf.GetRecord() != nil:
			line.Kind, line.Signed = "record", e.Leaf.GetRecord()
		case e.Leaf.GetEvent() != nil:
			line.Kind, line.Signed = "event", e.Leaf.GetEvent()
		}
		r.Lines = append(r.Lines, line)
	}
	return r, nil
}
