package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/yinqiao/yinqiao/internal/suite"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// active is a job that has been admitted and has not ended.
type active struct {
	*admitted
	ctx      context.Context
	cancel   context.CancelCauseFunc
	finisher *finisher // at the initiator
	losses   *losses
	// initiator is known before the contract is admitted.
	initiator string

	mu      sync.Mutex
	rec     record
	pace    pace
	started bool // or dropped: it will not start
	yielded bool // it gives way to another attempt at its run
	// committed: every party has signed, and this node tells them to start.
	committed bool
	sealed    bool          // the receipt is being signed
	changed   chan struct{} // closed and replaced at every change
	ended     chan struct{}
}

func (a *active) update(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
	close(a.changed)
	a.changed = make(chan struct{})
}

// seal notes that this party has signed, or is about to sign, the receipt.
func (a *active) seal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sealed = true
}

func (a *active) progress(stage string, done, total int64) {
	a.update(func() { a.pace.update(time.Now(), stage, done, total) })
}

func (a *active) view() (*nodev1.JobView, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.rec.view()
	v.Stage, v.Done, v.Total = a.pace.stage, a.pace.done, a.pace.total
	v.Rate, v.RemainingSeconds = a.pace.outlook(time.Now())
	if v.Seconds == 0 && !a.rec.Started.IsZero() {
		v.Seconds = time.Since(a.rec.Started).Seconds()
	}
	return v, a.changed
}

// enter admits c and makes it an active job in state proposed.
func (n *Node) enter(ctx context.Context, c *contract, person string) (*active, error) {
	a := &active{initiator: c.GetInitiator(), changed: make(chan struct{}), ended: make(chan struct{})}
	a.ctx, a.cancel = context.WithCancelCause(n.ctx)

	// The slot and the session ID are taken before anything is reserved.
	n.mu.Lock()
	switch {
	case n.closing:
		n.mu.Unlock()
		return nil, n.refuseLocal("shutdown", "the node is stopping")
	case n.peers == nil:
		n.mu.Unlock()
		return nil, n.refuseLocal("starting", "the node is starting: try again in a moment")
	case len(n.active) >= n.cfg.Limits.ConcurrentJobs:
		n.mu.Unlock()
		return nil, n.refuseLocal("concurrent_jobs", "limits.concurrent_jobs of this node is %d and all are running: try again when one has ended", n.cfg.Limits.ConcurrentJobs)
	case n.active[c.GetSession()] != nil || n.byJob[c.GetJob()] != nil:
		n.mu.Unlock()
		return nil, n.refuseSecurity("replay", "the session is known already")
	case n.byRun[c.runOf()] != nil || n.busy[c.runOf()]:
		n.mu.Unlock()
		return nil, n.refuse("run_busy", "another attempt at run %s is under way: wait until it has ended", c.runOf())
	}
	n.active[c.GetSession()], n.byJob[c.GetJob()], n.byRun[c.runOf()] = a, a, a
	n.wg.Add(1) // until forget
	n.mu.Unlock()

	entered := false
	defer func() { // also where a job kind panics over a peer's parameters
		if !entered {
			n.forget(c)
			a.cancel(errEnded)
			close(a.ended)
		}
	}()
	admitted, err := n.claim(ctx, c)
	if err != nil {
		return nil, err
	}
	a.update(func() {
		a.rec = record{
			Job: c.GetJob(), Session: c.GetSession(), Kind: c.GetKind(), GrantID: c.GetGrantId(),
			GrantDigest: c.GetGrantDigest(), ContractDigest: c.digest,
			Initiator: c.GetInitiator(), Role: c.participant(n.cfg.Party).GetRole(), Person: person, Choice: c.choice,
			State: Proposed, Counter: runCounter(admitted.grant), Holder: holderOf(c), Held: admitted.held, UsesLeft: admitted.usesLeft, RunsUsed: true, Created: n.now(),
			Run: c.runOf(), Attempt: c.attempt(),
		}
		for _, p := range c.GetParties() {
			a.rec.Parties = append(a.rec.Parties, p.GetParty())
			a.rec.Roles = append(a.rec.Roles, p.GetRole())
		}
	})
	if err := n.save(&a.rec); err != nil {
		return nil, errors.Join(err, n.giveBack(&a.rec))
	}
	n.mu.Lock() // from here on find shows it to peers and operators
	a.admitted, a.losses = admitted, newLosses(c.GetInitiator(), admitted.spare)
	if c.GetInitiator() == n.cfg.Party {
		a.finisher = newFinisher(c)
	}
	n.mu.Unlock()
	entered = true
	n.metrics.JobState("", string(Proposed))
	return a, nil
}

// claim admits the contract, remembers its IDs for ever, and takes one use. A
// contract that is refused leaves nothing in the store.
func (n *Node) claim(ctx context.Context, c *contract) (*admitted, error) {
	a, err := n.admit(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := n.store.Once(ctx, sessionKey(c.GetSession())); err != nil {
		return nil, n.refuseSecurity("replay", "the session has been used before: every attempt needs a new one")
	}
	if err := n.store.Once(ctx, "jobid/"+c.GetJob()); err != nil {
		return nil, n.refuseSecurity("replay", "the job ID has been used before")
	}
	return a, n.takeUse(a)
}

func (n *Node) forget(c *contract) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.active, c.GetSession())
	delete(n.byJob, c.GetJob())
	delete(n.byRun, c.runOf())
	n.wg.Done()
}

// giveBack releases a job's use, unless an earlier attempt at its run has spent
// it.
func (n *Node) giveBack(r *record) error {
	if !r.RunsUsed || r.Held {
		return nil
	}
	if err := n.store.Release(r.Counter, r.holder()); err != nil {
		return fmt.Errorf("node: use not released: %w", err)
	}
	r.RunsUsed = false
	r.UsesLeft++
	return nil
}

// find returns the admitted job that runs under a session, or nil.
func (n *Node) find(session string) *active { return n.shown(n.active, session) }

// findJob is find by the job's ID.
func (n *Node) findJob(id string) *active { return n.shown(n.byJob, id) }

func (n *Node) shown(in map[string]*active, key string) *active {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := in[key]
	if a == nil || a.admitted == nil {
		return nil
	}
	return a
}

// Submit proposes a job to every party of the grant and starts it when all
// have signed. It returns the job's ID, or the first refusal; the job is then
// in state refused, and nobody's use is spent.
func (n *Node) Submit(ctx context.Context, person string, req *nodev1.SubmitJobRequest) (string, error) {
	g, err := n.resolver.Grant(ctx, req.GetGrantId())
	if err != nil {
		r := n.asRefusal(err)
		n.note(r, "", "", req.GetGrantId())
		return "", r
	}
	choice := ""
	switch req.GetProtocol() {
	case "":
	case ProtocolAuto:
		req, choice, err = n.choose(ctx, g, req)
	default:
		err = n.refuse("protocol", "protocol is %q: leave it out, or write %s", clip(req.GetProtocol(), 32), ProtocolAuto)
	}
	var c *contract
	if err == nil {
		c, err = n.draft(g, req)
	}
	if err != nil {
		r := n.asRefusal(err)
		n.note(r, "", "", g.ID())
		return "", r
	}
	c.choice = choice
	return n.launch(ctx, c, person)
}

// launch proposes a contract of this node's own, and begins when all have
// signed it.
func (n *Node) launch(ctx context.Context, c *contract, person string) (string, error) {
	a, err := n.enter(ctx, c, person)
	if err != nil {
		r := n.asRefusal(err)
		n.note(r, "", c.GetJob(), c.GetGrantId())
		return "", r
	}
	signed, err := n.gather(ctx, a)
	if cause := context.Cause(a.ctx); cause != nil {
		err = n.notStarted(cause)
	}
	if err != nil {
		n.withdraw(a, err)
		return "", err
	}
	n.begin(a, signed)
	return c.GetJob(), nil
}

// notStarted is the refusal of a job that was ended while it was proposed.
func (n *Node) notStarted(cause error) *Refusal {
	_, class, reason := n.classify(cause)
	return n.refuse(class, "%s", reason)
}

// gather asks every other party for its signature and tells all to start.
func (n *Node) gather(ctx context.Context, a *active) (*signv1.Signed, error) {
	c := a.contract
	ctx, cancel := context.WithDeadline(ctx, c.GetExpires().AsTime())
	defer cancel()
	stop := context.AfterFunc(a.ctx, cancel) // cancelled here, or withdrawn by a party
	defer stop()
	roster, err := n.refreshRoster(ctx)
	if err != nil {
		return nil, n.asRefusal(err)
	}
	signed := n.key.Seal(n.cfg.Party, suite.ContextContract, c.payload)
	proposal := &signv1.Signed{Payload: c.payload, Signatures: slices.Clone(signed.Signatures)}
	var mu sync.Mutex
	group, gctx := errgroup.WithContext(ctx)
	for _, other := range c.others(n.cfg.Party) {
		group.Go(func() error {
			n.exchangeRecords(gctx, other)
			reply, err := n.peers.Propose(gctx, other, &peerv1.ProposeRequest{Contract: proposal})
			if err != nil {
				return n.peerError(other, err)
			}
			if r := reply.GetRefusal(); r != nil {
				return fromPeer(other, r)
			}
			if err := n.verifyParty(roster, other, c, reply.GetSignature()); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			signed.Signatures = append(signed.Signatures, reply.GetSignature())
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if !a.commit() {
		return nil, n.notStarted(context.Cause(a.ctx))
	}
	group, gctx = errgroup.WithContext(ctx)
	for _, other := range c.others(n.cfg.Party) {
		group.Go(func() error {
			reply, err := n.peers.Start(gctx, other, &peerv1.StartRequest{Contract: signed})
			if err != nil {
				return n.peerError(other, err)
			}
			if r := reply.GetRefusal(); r != nil {
				return fromPeer(other, r)
			}
			return nil
		})
	}
	return signed, group.Wait()
}

// withdraw ends a proposal that did not start: every side's use is released.
func (n *Node) withdraw(a *active, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.ctx), 5*time.Second)
	defer cancel()
	r := n.asRefusal(cause)
	n.abortAll(ctx, a, "refused")
	n.note(r, r.By, a.contract.GetJob(), a.contract.GetGrantId())
	n.end(ctx, a, Refused, r.RuleCode, r.Error(), true)
}

// abortWait bounds the word to the other parties that a job is over: one that
// does not answer finds out by itself.
const abortWait = 3 * time.Second

func (n *Node) abortAll(ctx context.Context, a *active, class string) {
	ctx, cancel := context.WithTimeout(ctx, abortWait)
	defer cancel()
	var wg sync.WaitGroup
	for _, other := range a.contract.others(n.cfg.Party) {
		wg.Go(func() {
			_, err := n.peers.Abort(ctx, other, &peerv1.AbortRequest{Session: a.contract.GetSession(), Class: class})
			if err != nil {
				n.log.Debug("abort not delivered", slog.String("peer", other))
			}
		})
	}
	wg.Wait()
}

// begin runs the job in the background, once. It reports whether the job runs.
func (n *Node) begin(a *active, signed *signv1.Signed) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.yielded {
		return false
	}
	if !a.started {
		a.started = true
		n.wg.Go(func() { n.run(a, signed) })
	}
	return true
}

// end writes a job's last state, releases its use where no protocol byte
// flowed, and leaves this party's own signed record of a run that failed.
func (n *Node) end(ctx context.Context, a *active, state State, class, reason string, release bool) {
	var rec record
	var from State
	a.update(func() {
		from = a.rec.State
		if a.rec.State.Final() {
			return
		}
		if release {
			if err := n.giveBack(&a.rec); err != nil {
				n.log.Error("use not released", slog.String("job", a.rec.Job), slog.Any("error", err))
			}
		}
		a.rec.State, a.rec.Class, a.rec.Reason, a.rec.Finished = state, class, reason, n.now()
		a.rec.Restarts = n.restarts(a, state, class)
		if err := n.settleRun(&a.rec); err != nil {
			n.log.Error("run not settled", slog.String("job", a.rec.Job), slog.Any("error", err))
		}
		if err := n.save(&a.rec); err != nil {
			n.log.Error("job record not written", slog.String("job", a.rec.Job), slog.Any("error", err))
		}
		rec = a.rec
	})
	if rec.Job == "" {
		return
	}
	if rec.owesRecord() {
		n.leaveRecord(ctx, &rec)
		a.update(func() {
			a.rec.Recorded = true
			if err := n.save(&a.rec); err != nil {
				n.log.Error("job record not written", slog.String("job", rec.Job), slog.Any("error", err))
			}
		})
	}
	if state == Done {
		if err := n.oweReceipt(rec.Session); err != nil {
			n.log.Error("receipt not kept for absent parties", slog.String("job", rec.Job), slog.Any("error", err))
		}
	}
	n.metrics.JobState(string(from), string(state))
	n.log.Info("job ended", slog.String("job", rec.Job), slog.String("state", string(state)), slog.String("class", class))
	a.cancel(errEnded)
	if rec.Restarts {
		n.awaitRestart(rec.runOf(), rec.Job, a.ended)
	}
	n.forget(a.contract)
	close(a.ended)
}

var errEnded = errors.New("node: the job has ended")

// handler is the node as its peers reach it.
type handler Node

// Propose admits a contract and signs it, or refuses with the rule.
func (h *handler) Propose(ctx context.Context, from string, req *peerv1.ProposeRequest) (*peerv1.ProposeReply, error) {
	n := (*Node)(h)
	c, err := n.propose(ctx, from, req.GetContract())
	if err != nil {
		r := n.asRefusal(err)
		jobID, grantID := "", ""
		if c != nil {
			jobID, grantID = c.GetJob(), c.GetGrantId()
		}
		n.note(r, from, jobID, grantID)
		return &peerv1.ProposeReply{Refusal: r.forPeer()}, nil
	}
	return &peerv1.ProposeReply{Signature: n.key.Sign(n.cfg.Party, suite.ContextContract, c.payload)}, nil
}

func (n *Node) propose(ctx context.Context, from string, signed *signv1.Signed) (*contract, error) {
	roster, err := n.refreshRoster(ctx)
	if err != nil {
		return nil, err
	}
	c, err := n.openProposal(roster, from, signed)
	if err != nil {
		return nil, err
	}
	if err := n.giveWay(ctx, c); err != nil {
		return c, err
	}
	a, err := n.enter(ctx, c, "")
	if err != nil {
		return c, err
	}
	// A proposal that nobody starts gives its use back when it expires.
	n.wg.Go(func() {
		timer := time.NewTimer(time.Until(c.GetExpires().AsTime()))
		defer timer.Stop()
		select {
		case <-timer.C:
			n.dropProposal(a, "expired", "the initiator did not start the job in time")
		case <-a.ctx.Done():
			_, class, reason := n.classify(context.Cause(a.ctx))
			n.dropProposal(a, class, reason)
		}
	})
	if ctx.Err() != nil { // the initiator has left, and its word to withdraw came too early
		n.dropProposal(a, "withdrawn", from+" withdrew the job")
	}
	return c, nil
}

// dropProposal ends a job that was admitted and never started.
func (n *Node) dropProposal(a *active, class, reason string) {
	a.mu.Lock()
	started := a.started
	a.started = true
	a.mu.Unlock()
	if started {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.ctx), 5*time.Second)
	defer cancel()
	n.end(ctx, a, Refused, class, reason, true)
}

// Start checks every party's signature, evaluates the grant once more, and
// begins to run.
func (h *handler) Start(ctx context.Context, from string, req *peerv1.StartRequest) (*peerv1.StartReply, error) {
	n := (*Node)(h)
	err := n.start(ctx, from, req.GetContract())
	if err != nil {
		r := n.asRefusal(err)
		n.note(r, from, "", "")
		return &peerv1.StartReply{Refusal: r.forPeer()}, nil
	}
	return &peerv1.StartReply{}, nil
}

func (n *Node) start(ctx context.Context, from string, signed *signv1.Signed) error {
	c, err := decodeContract(signed.GetPayload())
	if err != nil {
		return n.refuseSecurity("contract_malformed", "%v", err)
	}
	a := n.find(c.GetSession())
	switch {
	case a == nil:
		return n.refuse("unknown_session", "no proposal is waiting under this session")
	case a.contract.GetInitiator() != from || !bytes.Equal(a.contract.payload, c.payload):
		return n.refuseSecurity("contract_altered", "the contract is not the one that was proposed")
	}
	roster, err := n.refreshRoster(ctx)
	if err != nil {
		return err
	}
	for _, p := range c.GetParties() {
		if err := n.verifyParty(roster, p.GetParty(), c, suite.Find(signed, p.GetParty())); err != nil {
			return err
		}
	}
	if err := n.resolver.Status(ctx, c.GetGrantId()); err != nil {
		return err
	}
	if !n.begin(a, signed) {
		return n.refuse("run_busy", "another attempt at run %s goes on", c.runOf())
	}
	return nil
}

// Abort ends a proposal or a running job on a party's word.
func (h *handler) Abort(_ context.Context, from string, req *peerv1.AbortRequest) (*peerv1.AbortReply, error) {
	n := (*Node)(h)
	a := n.find(req.GetSession())
	if a == nil || a.contract.participant(from) == nil {
		return &peerv1.AbortReply{}, nil
	}
	class := clip(req.GetClass(), 32)
	a.mu.Lock()
	sealed := a.sealed
	a.mu.Unlock()
	if sealed && from != a.contract.GetInitiator() {
		// It has computed its part and will be named absent: the others still
		// complete the receipt, which some of them may have signed already.
		n.log.Warn("party left while the receipt was signed", slog.String("job", a.contract.GetJob()), slog.String("peer", from), slog.String("class", class))
		if a.finisher != nil {
			a.finisher.lose(from)
		}
		return &peerv1.AbortReply{}, nil
	}
	n.peerLeft(a, from, class)
	return &peerv1.AbortReply{}, nil
}

// Hello tells version, clock and known kinds.
func (h *handler) Hello(context.Context, string, *peerv1.HelloRequest) (*peerv1.HelloReply, error) {
	n := (*Node)(h)
	return n.hello(), nil
}
