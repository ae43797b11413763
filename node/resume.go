package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
)

// ResumeJob proposes a further attempt at the run of a failed job.
func (n *Node) ResumeJob(ctx context.Context, req *nodev1.ResumeJobRequest) (*nodev1.ResumeJobReply, error) {
	id, number, err := n.resume(ctx, person(ctx), req.GetJob(), req.GetTimeoutSeconds())
	if err != nil {
		return nil, err
	}
	return &nodev1.ResumeJobReply{Job: id, Attempt: number}, nil
}

// resume proposes a further attempt at the run of a failed job, and returns the
// new job and its number in the run. A timeout of 0 is the first attempt's.
func (n *Node) resume(ctx context.Context, person, job string, timeout int64) (id string, number int64, err error) {
	st, err := n.resumable(job)
	if err != nil {
		var r *Refusal
		if errors.As(err, &r) {
			n.note(r, "", job, "")
		}
		return "", 0, err
	}
	// A party at which more attempts have begun than here says how many. The
	// number rises each time, up to the limit.
	for number = st.Attempt + 1; ; {
		c, err := n.redraft(st, number, timeout)
		if err != nil {
			return "", 0, err
		}
		id, err := n.launch(ctx, c, person)
		if err == nil {
			return id, number, nil
		}
		var r *Refusal
		if !errors.As(err, &r) || r.RuleCode != "attempt" || r.Attempt < number || r.Attempt >= n.cfg.Limits.Attempts {
			return "", 0, err
		}
		number = r.Attempt + 1
	}
}

// resumable returns the state of the run that a job was an attempt at, or says
// why there can be no further attempt.
func (n *Node) resumable(jobID string) (*runState, error) {
	r, err := n.load(jobID)
	if err != nil {
		return nil, err
	}
	if !r.State.Final() {
		return nil, n.refuse("run_busy", "job %s has not ended: wait for it, or cancel it", jobID)
	}
	if r.State == Done {
		return nil, n.refuse("run_over", "job %s is done: read its result, or submit a new job", jobID)
	}
	if def, ok := n.registry.Lookup(r.Kind); !ok || !def.Resumable {
		return nil, n.refuse("not_resumable", "%s keeps nothing between attempts: submit the job again", r.Kind)
	}
	st, err := n.loadRun(r.runOf())
	switch {
	case err != nil:
		return nil, err
	case st == nil:
		return nil, n.refuse("run_unknown", "job %s ended before it began: submit it again", jobID)
	case st.Over != "":
		return nil, n.refuse("run_over", "run %s cannot be resumed, for %s: submit the job again", st.Run, st.Over)
	case !n.disk.hasScratch(st.Run):
		return nil, n.refuse("scratch_gone", "what run %s had finished is no longer on this node's disk: submit the job again", st.Run)
	}
	return st, nil
}

// viewOf is the view of a job that has ended. Whether it can be resumed changes
// after that.
func (n *Node) viewOf(r *record) *nodev1.JobView {
	v := r.view()
	if v.Resumable {
		st, err := n.loadRun(r.runOf())
		v.Resumable = err == nil && st != nil && st.Over == ""
	}
	return v
}

// redraft writes the contract of a further attempt: what was agreed on stays,
// and all that belongs to one session is new.
func (n *Node) redraft(st *runState, number, timeout int64) (*contract, error) {
	first, err := decodeContract(st.Contract)
	if err != nil {
		return nil, fmt.Errorf("node: contract of run %s: %w", st.Run, err)
	}
	c := proto.CloneOf(first.Contract)
	c.Job, c.Session, c.Run, c.Attempt = newID("J"), newID("S"), st.Run, number
	c.Initiator, c.Software = n.cfg.Party, n.version
	c.Created, c.Expires = timestamppb.New(n.now()), timestamppb.New(n.now().Add(proposalLife))
	if timeout != 0 {
		c.TimeoutSeconds = timeout
	}
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("node: contract: %w", err)
	}
	return decodeContract(payload)
}

// giveWay settles two parties that resume a run at the same moment: of attempts
// that have not started, the one proposed by the party that stands earlier in
// the contract goes on. enter refuses c where it is not that one.
func (n *Node) giveWay(ctx context.Context, c *contract) error {
	if c.GetRun() == "" {
		return nil
	}
	n.mu.Lock()
	other := n.byRun[c.GetRun()]
	n.mu.Unlock()
	if other == nil {
		return nil
	}
	// The order is the one that all agreed on at the first attempt.
	st, err := n.loadRun(c.GetRun())
	if err != nil || st == nil || st.Over != "" {
		return err
	}
	first, err := decodeContract(st.Contract)
	if err != nil || otherTerms(first.Contract, c.Contract) != "" || c.attempt() <= st.Attempt {
		return err
	}
	place := func(id string) int {
		return slices.IndexFunc(first.GetParties(), func(p *peerv1.Participant) bool { return p.GetParty() == id })
	}
	if mine := place(other.initiator); mine < 0 || place(c.GetInitiator()) < 0 || place(c.GetInitiator()) >= mine || !other.yield() {
		return nil
	}
	other.cancel(fail("run_busy", "%s resumes the run at the same moment, and its attempt goes on", c.GetInitiator()))
	select {
	case <-other.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// yield marks an attempt that gives way; false where it has started.
func (a *active) yield() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.yielded = a.yielded || !a.started && !a.committed
	return a.yielded
}

// commit marks an attempt of this node's own that every party has signed: from
// here on it gives way to no other.
func (a *active) commit() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.committed = !a.yielded
	return a.committed
}
