package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/node/dataset"
	"github.com/yinqiao/yinqiao/node/peer"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// statusEvery is how often a running session asks whether its grant still
// holds. A revocation must end it within five seconds.
const statusEvery = 1500 * time.Millisecond

// lastWord is how long a party whose stream has ended has to say why it left.
const lastWord = 500 * time.Millisecond

// run is one session from the first byte to the receipt. It owns the job until
// end has been called.
func (n *Node) run(a *active, _ *signv1.Signed) {
	ctx, cancel := context.WithTimeoutCause(a.ctx, time.Duration(a.contract.GetTimeoutSeconds())*time.Second,
		fail("timeout", "the job did not end within its %d s", a.contract.GetTimeoutSeconds()))
	defer cancel()
	a.update(func() {
		a.rec.State, a.rec.Started = Running, n.now()
		if err := errors.Join(n.beginAttempt(a), n.save(&a.rec)); err != nil {
			a.cancel(err)
		}
	})
	n.metrics.JobState(string(Proposed), string(Running))
	defer n.metrics.SessionStarted()()

	watchDone := make(chan struct{})
	go func() {
		defer close(watchDone)
		if f := n.watchGrant(ctx, a.contract.GetGrantId()); f != nil {
			a.cancel(f)
		}
	}()

	meter := session.NewMeter()
	out, err := n.compute(ctx, a, meter)
	if err == nil {
		// The output may be computed while it is read.
		err = n.contain(func() error { return n.release(ctx, a, out) }, slog.String("job", a.contract.GetJob()))
	}
	n.discardStaged(a, err)

	if diskFull(err) {
		err = diskFailure(err)
	} else if err != nil {
		err = n.reasonOf(ctx, err)
	}
	cancel()
	<-watchDone

	last, stop := context.WithTimeout(context.WithoutCancel(n.ctx), 10*time.Second)
	defer stop()
	traffic := meter.Traffic()
	n.metrics.Exchanged(traffic.Sent, traffic.Received)
	a.update(func() { a.rec.Units = n.units(a, traffic) })
	if err == nil {
		n.end(last, a, Done, "", "", false)
		return
	}
	state, class, reason := n.classify(err)
	if a.rec.Staged {
		// Every party that finished has signed, and holds the receipt: this is
		// this node's own trouble, and its next start completes the release.
		n.end(last, a, Releasing, class, "the receipt is complete, and the output opens when the node is started again: "+reason, false)
		return
	}
	untouched := traffic.MessagesSent == 0 && traffic.MessagesReceived == 0
	var told sync.WaitGroup
	if class != "peer_aborted" {
		told.Go(func() { n.abortAll(last, a, class) }) // a peer that is gone must not hold up the rest
	}
	if r := n.asRefusalOnly(err); r != nil {
		n.note(r, "", a.contract.GetJob(), a.contract.GetGrantId())
	}
	n.end(last, a, state, class, reason, untouched)
	told.Wait()
}

// reasonOf is why a run ended. What this party found out for itself counts;
// a broken call or channel is mostly a consequence, of which the cause of the
// cancelled context says more. A party that left may still say why.
func (n *Node) reasonOf(ctx context.Context, err error) error {
	_, class, _ := n.classify(err)
	switch class {
	case classGone:
		word := time.NewTimer(lastWord)
		defer word.Stop()
		select {
		case <-ctx.Done():
		case <-word.C:
		}
	case "protocol", "receipt", "internal", "platform_unreachable":
	default:
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// units is what the receipt meters.
func (n *Node) units(a *active, t session.Traffic) map[string]int64 {
	return map[string]int64{
		"bytes_sent": t.Sent, "bytes_received": t.Received,
		"messages_sent": t.MessagesSent, "messages_received": t.MessagesReceived,
		"rounds": t.Rounds, "milliseconds": n.now().Sub(a.rec.Started).Milliseconds(),
	}
}

// watchGrant returns the reason to stop a running session: the grant, a party
// or an entry revoked, or the platform out of reach for longer than the grace.
// It returns nil when ctx ends.
func (n *Node) watchGrant(ctx context.Context, grant string) *failure {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	last := n.now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		callCtx, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := n.resolver.Status(callCtx, grant)
		cancel()
		var rule *catalog.RuleError
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			last = n.now()
			n.metrics.PlatformSeen(last)
		case !errors.Is(err, catalog.ErrUnreachable) && errors.As(err, &rule):
			return fail(rule.Rule, "%s", rule.Text)
		case n.now().Sub(last) > n.cfg.Limits.PlatformGrace:
			return fail("platform_unreachable", "the platform has not answered for %s (limits.platform_grace)", n.cfg.Limits.PlatformGrace)
		}
	}
}

// output is a finished computation that has not been released.
type output struct {
	result  job.Result
	record  *auditv1.PartyRecord
	started time.Time
}

// compute opens the session and runs this party's part.
func (n *Node) compute(ctx context.Context, a *active, meter *session.Meter) (*output, error) {
	c := a.contract
	past := n.histories(a)
	defer past.close()
	env := job.Env{
		Spec: a.spec, Once: &onceStore{n, c.GetSession()},
		History: past, Budget: n.budget(a), Reference: c.runOf(),
	}
	var err error
	if env.Scratch, err = n.disk.scratch(c.runOf()); err != nil {
		return nil, err
	}
	if env.Cache, err = n.disk.cache(c.GetKind()); err != nil {
		return nil, err
	}
	if err := n.resolver.Status(ctx, c.GetGrantId()); err != nil {
		return nil, n.asRefusal(err)
	}
	// The link comes first: its heartbeats run while the inputs are read.
	link, err := n.peers.OpenSession(ctx, peer.SessionConfig{
		ID: c.GetSession(), Self: session.PartyID(n.cfg.Party), Parties: c.parties(), Digest: c.digest,
		Lost: func(id session.PartyID, err error) { n.peerLost(a, string(id), err) },
	})
	if err != nil {
		return nil, n.runError(err)
	}
	a.losses.open(link)
	var out *output
	err = n.contain(func() (err error) {
		out, err = n.converse(ctx, a, link, meter, env)
		return err
	}, slog.String("job", c.GetJob()))
	if err != nil {
		link.Abort(err)
	}
	if closed := a.losses.closed(link.Close()); err == nil {
		err = closed
	}
	if err != nil {
		return nil, n.runError(err)
	}
	out.record = &auditv1.PartyRecord{
		Party: n.cfg.Party, Role: c.participant(n.cfg.Party).GetRole(), Rows: out.result.Rows,
		Units: n.units(a, meter.Traffic()), InputCommitment: a.rec.InputCommitment,
	}
	return out, nil
}

// converse commits to the inputs and runs the definition over an open link.
func (n *Node) converse(ctx context.Context, a *active, link *peer.Link, meter *session.Meter, env job.Env) (out *output, err error) {
	c := a.contract
	env.Session, err = session.New(ctx, session.Config{
		ID: c.GetSession(), Self: session.PartyID(n.cfg.Party), Parties: c.parties(), Open: link.Opener(),
		Log: n.log.With(slog.String("job", c.GetJob())), Meter: meter, Progress: a.progress,
	})
	if err != nil {
		return nil, err
	}
	if env.Inputs, err = n.readInputs(ctx, a); err != nil {
		return nil, err
	}
	out = &output{started: a.rec.Started}
	out.result, err = a.def.Run(ctx, env)
	return out, err
}

// readInputs opens this party's inputs and commits to their digests. A dataset
// that changes afterwards fails when the protocol reads it.
func (n *Node) readInputs(ctx context.Context, a *active) ([]table.Source, error) {
	var sources []table.Source
	var digests [][]byte
	for _, in := range a.contract.participant(n.cfg.Party).GetInputs() {
		src, err := n.openInput(ctx, in.GetEntry(), in.GetItems())
		if err != nil {
			return nil, fail("dataset", "%v", err)
		}
		a.progress("read input", 0, 0)
		read, err := dataset.Read(ctx, src)
		if err != nil {
			return nil, fail("dataset", "%v", err)
		}
		sources, digests = append(sources, read), append(digests, read.Digest())
	}
	return sources, n.commitInputs(a, digests)
}

type onceStore struct {
	n       *Node
	session string
}

func (o *onceStore) Once(ctx context.Context, key string) error {
	return o.n.store.Once(ctx, "once/"+o.session+"/"+key)
}

// openInput opens the dataset behind an entry, reduced to the granted items.
func (n *Node) openInput(ctx context.Context, entry string, items []string) (table.Source, error) {
	d, err := n.datasetOf(entry)
	if err != nil {
		return nil, err
	}
	src, err := dataset.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	return table.Select(src, items)
}

// datasetOf finds the dataset behind an entry.
func (n *Node) datasetOf(entry string) (dataset.Dataset, error) {
	name, err := n.store.Get("entry/" + entry)
	if err != nil {
		return dataset.Dataset{}, fmt.Errorf("no dataset of this node stands behind entry %s: register it with `yinqiao catalog register ENTRY.yaml`", clip(entry, 64))
	}
	for _, d := range n.cfg.Datasets {
		if d.Name == string(name) {
			return d, nil
		}
	}
	return dataset.Dataset{}, fmt.Errorf("dataset %s behind entry %s is not in node.yaml", name, clip(entry, 64))
}

// runError gives a stable class to what a protocol or the transport returned.
func (n *Node) runError(err error) error {
	var f *failure
	var mismatch *session.MismatchError
	var keys *table.KeyError
	switch {
	case errors.As(err, &f):
		return f
	case diskFull(err):
		return diskFailure(err)
	case errors.Is(err, job.ErrBudget):
		return fail("privacy_budget", "%v", err)
	case errors.Is(err, job.ErrInput), errors.As(err, &keys):
		return fail("dataset", "%v", err)
	case errors.Is(err, job.ErrMinIntersection):
		return fail("min_intersection", "%v", err)
	case errors.As(err, &mismatch):
		return fail("mismatch", "%v", err)
	case errors.Is(err, session.ErrGone):
		return fail(classGone, "%v", err)
	}
	return &failure{class: "protocol", reason: err.Error()}
}

// peerError is a unary call to a peer that gave no answer.
func (n *Node) peerError(party string, err error) error {
	return &Refusal{
		By: n.cfg.Party, RuleCode: "peer_unreachable",
		Text: fmt.Sprintf("%s did not answer (%s): run `yinqiao node doctor`", party, peer.Reason(err)),
	}
}

func (n *Node) classify(err error) (State, string, string) {
	var f *failure
	if errors.As(err, &f) {
		if f.class == "cancelled" {
			return Cancelled, f.class, f.reason
		}
		return Failed, f.class, f.reason
	}
	if r := n.asRefusalOnly(err); r != nil {
		return Failed, r.RuleCode, r.Error()
	}
	return Failed, "internal", err.Error()
}

func (n *Node) asRefusalOnly(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}
