package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/internal/audit"
	"github.com/yinqiao/yinqiao/internal/store"
	"github.com/yinqiao/yinqiao/internal/suite"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// maxRecords is how many records of failed runs one exchange carries.
const maxRecords = 64

func decodeReceipt(s *signv1.Signed) (*auditv1.Receipt, error) {
	r := &auditv1.Receipt{}
	if err := proto.Unmarshal(s.GetPayload(), r); err != nil {
		return nil, errors.New("node: receipt does not decode")
	}
	return r, nil
}

// note records a refusal or a security event in the audit log.
func (n *Node) note(r *Refusal, peer, jobID, grantID string) {
	category := "refusal"
	n.metrics.Refused(r.RuleCode)
	if r.Security {
		category = "security"
	}
	skipped, ok := n.events.pass(peer, n.now())
	if !ok {
		return
	}
	e := &auditv1.Event{
		Party: n.cfg.Party, Category: category, Rule: r.RuleCode, Peer: clip(peer, 64),
		Job: clip(jobID, 64), GrantId: clip(grantID, 64), At: timestamppb.New(n.now()), Detail: withSkipped(clip(r.Text, 512), skipped),
	}
	n.log.Warn("refused", slog.String("by", r.By), slog.String("rule", r.RuleCode), slog.String("category", category),
		slog.String("peer", clip(peer, 64)), slog.String("job", clip(jobID, 64)))
	n.append(n.ctx, suite.ContextEvent, e, func(s *signv1.Signed) *auditv1.Leaf {
		return &auditv1.Leaf{Kind: &auditv1.Leaf_Event{Event: s}}
	})
}

// SecurityEvent records what the transport refused: an unknown or wrong
// certificate, a replayed session.
func (h *handler) SecurityEvent(_ context.Context, party, rule, detail string) {
	n := (*Node)(h)
	n.note(&Refusal{By: n.cfg.Party, RuleCode: rule, Text: detail, Security: true}, party, "", "")
}

func (n *Node) append(ctx context.Context, signing string, m proto.Message, leaf func(*signv1.Signed) *auditv1.Leaf) *signv1.Signed {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		n.log.Error("audit entry not encoded", slog.Any("error", err))
		return nil
	}
	signed := n.key.Seal(n.cfg.Party, signing, payload)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if _, err := n.audit.Append(ctx, leaf(signed)); err != nil {
		n.log.Error("audit entry not logged", slog.Any("error", err))
	}
	return signed
}

// leaveRecord logs this party's own account of a run that did not finish, and
// keeps it for the other parties until they meet again.
func (n *Node) leaveRecord(ctx context.Context, r *record) {
	rec := &auditv1.Record{
		Party: n.cfg.Party, Job: r.Job, Session: r.Session, GrantId: r.GrantID, ContractDigest: r.ContractDigest,
		Kind: r.Kind, State: string(r.State), Class: r.Class, RunsUsed: r.RunsUsed,
		Started: timestamppb.New(r.Started), Ended: timestamppb.New(r.Finished), Units: r.Units, Parties: r.Parties,
		InputCommitment: r.InputCommitment,
	}
	rec.Run, rec.Attempt = r.resumed()
	signed := n.append(ctx, suite.ContextRecord, rec, func(s *signv1.Signed) *auditv1.Leaf {
		return &auditv1.Leaf{Kind: &auditv1.Leaf_Record{Record: s}}
	})
	if signed == nil {
		return
	}
	raw, err := proto.Marshal(signed)
	if err != nil {
		return
	}
	for _, p := range r.Parties {
		if p != n.cfg.Party {
			if err := n.store.Put("owed/"+p+"/"+r.Session, raw); err != nil {
				n.log.Error("record not kept for a peer", slog.String("peer", p), slog.Any("error", err))
			}
		}
	}
}

func (n *Node) owed(party string) ([]*signv1.Signed, []string, error) {
	var out []*signv1.Signed
	var keys []string
	for item, err := range n.store.Scan("owed/" + party + "/") {
		if err != nil {
			return nil, nil, err
		}
		s := &signv1.Signed{}
		if err := proto.Unmarshal(item.Value, s); err != nil {
			return nil, nil, fmt.Errorf("node: owed record: %w", err)
		}
		out, keys = append(out, s), append(keys, item.Key)
		if len(out) == maxRecords {
			break
		}
	}
	return out, keys, nil
}

// exchangeRecords gives a peer the records it has not seen and takes in its.
// A failure is no reason to stop a job: the next meeting tries again.
func (n *Node) exchangeRecords(ctx context.Context, party string) {
	mine, keys, err := n.owed(party)
	if err != nil {
		n.log.Error("records not read", slog.Any("error", err))
		return
	}
	reply, err := n.peers.Records(ctx, party, &peerv1.RecordsRequest{Records: mine})
	if err != nil {
		n.log.Debug("records not exchanged", slog.String("peer", party))
		return
	}
	for _, k := range keys {
		if err := n.store.Delete(k); err != nil {
			n.log.Error("owed record not removed", slog.Any("error", err))
		}
	}
	if len(reply.GetRecords()) == 0 {
		return
	}
	if err := n.takeRecords(ctx, party, reply.GetRecords()); err != nil {
		n.log.Error("records of a peer not taken", slog.String("peer", party), slog.Any("error", err))
		return
	}
	taken := &peerv1.RecordsRequest{}
	for _, s := range reply.GetRecords() {
		taken.Taken = append(taken.Taken, suite.Digest(s.GetPayload()))
	}
	if _, err := n.peers.Records(ctx, party, taken); err != nil {
		n.log.Debug("records not acknowledged", slog.String("peer", party))
	}
}

// Records takes in a peer's records and gives back what is owed to it. What it
// gives is kept until the peer says that it has it: a reply that is lost is
// repeated, and the log holds each record once.
func (h *handler) Records(ctx context.Context, from string, req *peerv1.RecordsRequest) (*peerv1.RecordsReply, error) {
	n := (*Node)(h)
	if err := n.takeRecords(ctx, from, req.GetRecords()); err != nil {
		return nil, err // the peer keeps them for the next meeting
	}
	mine, keys, err := n.owed(from)
	if err != nil {
		return nil, err
	}
	if len(req.GetTaken()) > 0 {
		for i, s := range mine {
			if slices.ContainsFunc(req.GetTaken(), func(d []byte) bool { return bytes.Equal(d, suite.Digest(s.GetPayload())) }) {
				if err := n.store.Delete(keys[i]); err != nil {
					return nil, err
				}
			}
		}
		return &peerv1.RecordsReply{}, nil
	}
	return &peerv1.RecordsReply{Records: mine}, nil
}

// takeRecords logs a peer's own records of runs that this node took part in, one a
// session, and receipts that name this party absent. It fails where the peer should
// give them again.
func (n *Node) takeRecords(ctx context.Context, from string, records []*signv1.Signed) error {
	if len(records) == 0 {
		return nil
	}
	roster, err := n.refreshRoster(ctx)
	if err != nil {
		return err
	}
	p, ok := roster.Party(from)
	if !ok {
		return fmt.Errorf("node: %s is not on the roster", from)
	}
	for i, s := range records {
		if i == maxRecords {
			break
		}
		if r, err := audit.VerifyReceipt(s, keysOf(roster)); err == nil {
			if err := n.takeAbsence(ctx, from, r, s); err != nil {
				return err
			}
			continue
		}
		rec := &auditv1.Record{}
		if suite.Verify(from, p.Suite, p.PublicKey, suite.ContextRecord, s.GetPayload(), suite.Find(s, from)) != nil ||
			len(s.GetSignatures()) != 1 || proto.Unmarshal(s.GetPayload(), rec) != nil || hasUnknown(rec.ProtoReflect()) || rec.GetParty() != from {
			n.note(n.refuseSecurity("record_signature", "a record of a failed run does not verify"), from, "", "")
			continue
		}
		own := n.took(rec.GetJob(), rec.GetSession(), from)
		if own == nil {
			continue
		}
		if err := n.noteCommitment(own.runOf(), from, rec.GetInputCommitment()); err != nil {
			return err
		}
		key := "taken/" + from + "/" + rec.GetSession()
		if _, err := n.store.Get(key); err == nil {
			continue
		}
		// The log first: the same bytes again get the same place in it.
		if _, err := n.audit.Append(ctx, &auditv1.Leaf{Kind: &auditv1.Leaf_Record{Record: s}}); err != nil {
			return err
		}
		if err := n.store.Put(key, suite.Digest(s.GetPayload())); err != nil {
			return err
		}
	}
	return nil
}

// oweReceipt keeps a complete receipt for the parties that it names absent, until
// they meet again.
func (n *Node) oweReceipt(session string) error {
	s, err := n.keptReceipt(session)
	if err != nil || s == nil {
		return err
	}
	r, err := decodeReceipt(s)
	if err != nil || len(r.GetAbsent()) == 0 {
		return err
	}
	raw, err := proto.Marshal(s)
	if err != nil {
		return err
	}
	for _, p := range r.GetAbsent() {
		err = errors.Join(err, n.store.Put("owed/"+p+"/"+session, raw))
	}
	return err
}

// takeAbsence takes in a complete receipt of a job that the others finished
// without this party: it stands in this log too, and the run is over.
func (n *Node) takeAbsence(ctx context.Context, from string, r *auditv1.Receipt, s *signv1.Signed) error {
	own := n.took(r.GetJob(), r.GetSession(), from)
	signed := slices.ContainsFunc(r.GetParties(), func(p *auditv1.PartyRecord) bool { return p.GetParty() == from })
	if own == nil || !signed || !slices.Contains(r.GetAbsent(), n.cfg.Party) || !bytes.Equal(r.GetContractDigest(), own.ContractDigest) {
		return nil
	}
	n.mu.Lock()
	busy := n.byRun[own.runOf()] != nil
	n.mu.Unlock()
	if busy || !own.State.Final() {
		return fmt.Errorf("node: run %s has not ended here", own.runOf())
	}
	if own.State == Done || own.Missed {
		return nil
	}
	if _, err := n.audit.Append(ctx, &auditv1.Leaf{Kind: &auditv1.Leaf_Receipt{Receipt: s}}); err != nil {
		return err
	}
	return n.missRun(own.Job)
}

// took is this node's record of a session of a job in which it and party took
// part; nil where there is none.
func (n *Node) took(jobID, session, party string) *record {
	if !plainID(jobID) || len(jobID) > 64 {
		return nil
	}
	r, err := n.load(jobID)
	if err != nil || r.Session != session || !slices.Contains(r.Parties, party) {
		return nil
	}
	return r
}

// keptReceipt is the complete receipt of a session, nil where there is none.
func (n *Node) keptReceipt(session string) (*signv1.Signed, error) {
	raw, err := n.store.Get(receiptKey(session))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &signv1.Signed{}
	if err := proto.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("node: kept receipt: %w", err)
	}
	return s, nil
}

// recoverJobs accounts for what a crash interrupted: a job that was running
// has failed, one that was only proposed gives its use back, and one whose
// receipt is in the log is released.
func (n *Node) recoverJobs(ctx context.Context) error {
	rs, err := n.records()
	if err != nil {
		return err
	}
	for _, r := range rs {
		if r.State.Final() {
			if err := n.recoverRecord(ctx, r); err != nil {
				return err
			}
			continue
		}
		receipt, err := n.keptReceipt(r.Session)
		if err != nil {
			return err
		}
		switch {
		case receipt != nil:
			r.Staged, r.State, r.Class, r.Reason = true, Done, "", ""
			if err := n.settle(ctx, r, receipt); errors.Is(err, fs.ErrNotExist) {
				n.log.Error("the output of a finished job is gone", slog.String("job", r.Job))
			} else if err != nil {
				return err
			}
		case r.State == Proposed:
			if err := n.giveBack(r); err != nil {
				return err
			}
			r.State, r.Class, r.Reason = Refused, "interrupted", "the node stopped before the job started"
		default:
			r.State, r.Class = Failed, "interrupted"
			r.Restarts = r.Initiator == n.cfg.Party && n.restartsByItself(r.Kind)
			r.Reason = "the node stopped while the job was running; " + n.advice(r)
		}
		if !r.Staged {
			if err := os.RemoveAll(n.staging(r.Job)); err != nil {
				return err
			}
		}
		r.Finished = n.now()
		if err := n.settleRun(r); err != nil {
			return err
		}
		if err := n.save(r); err != nil {
			return err
		}
		if r.State == Done {
			if err := n.oweReceipt(r.Session); err != nil {
				return err
			}
		}
		if err := n.recoverRecord(ctx, r); err != nil {
			return err
		}
		n.log.Warn("job interrupted by a stop", slog.String("job", r.Job), slog.String("state", string(r.State)))
	}
	return nil
}

// advice is what to do about a job that was cut short.
func (n *Node) advice(r *record) string {
	if r.Restarts {
		return "a further attempt begins by itself"
	}
	if def, ok := n.registry.Lookup(r.Kind); ok && def.Resumable {
		return "resume it with `yinqiao job resume " + r.Job + "`"
	}
	return "submit it again"
}

// recoverRecord leaves the record of a failed run where a crash came between
// the job's end and its record.
func (n *Node) recoverRecord(ctx context.Context, r *record) error {
	if !r.owesRecord() {
		return nil
	}
	n.leaveRecord(ctx, r)
	r.Recorded = true
	return n.save(r)
}
