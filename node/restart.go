package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"

	"github.com/yinqiao/yinqiao/session/errgroup"
)

// An attempt of a kind that restarts by itself is followed by another when it has
// ended because a party was lost: the initiator's node waits until all parties
// answer, and proposes it as a person would by ResumeJob. It stops when one has
// begun, by whomever, when a person cancels, when a party refuses for good, and
// after limits.restart_for. A wait goes on when the node is started again.

const (
	// restartFirst is how long the initiator waits before it tries for the first
	// time; the pause doubles up to restartMost.
	restartFirst = 2 * time.Second
	restartMost  = 30 * time.Second
	// restartAsk is how long a party may take to answer.
	restartAsk = 5 * time.Second
)

// followUp is the further attempt that the state of a run says this node begins
// by itself.
type followUp struct {
	Job    string // the attempt that was cut short
	Person string // who submitted it
	Since  time.Time
}

// waiting is a run for whose parties this node waits.
type waiting struct {
	job    string
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the next attempt has begun, or none will
}

// pause is a pause that ends early with ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (n *Node) restartsByItself(kind string) bool {
	def, ok := n.registry.Lookup(kind)
	return ok && def.Restarts
}

// restarts reports whether this node begins a further attempt after one that ends
// now.
func (n *Node) restarts(a *active, state State, class string) bool {
	if a.finisher == nil || !a.def.Restarts || state != Failed {
		return false
	}
	switch class {
	case classGone, "peer_aborted":
		return a.losses.away()
	}
	return class == errStopped.class
}

// awaitRestart begins the next attempt at a run in the background, once the last
// has ended.
func (n *Node) awaitRestart(run, job string, ended <-chan struct{}) {
	ctx, cancel := context.WithCancelCause(n.ctx)
	w := &waiting{job: job, cancel: cancel, done: make(chan struct{})}
	n.mu.Lock()
	n.waiting[run] = w
	n.mu.Unlock()
	n.wg.Go(func() {
		defer close(w.done)
		defer cancel(nil)
		defer func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.waiting[run] == w {
				delete(n.waiting, run)
			}
		}()
		<-ended
		n.restart(ctx, run, job)
	})
}

// awaiting is the wait for the attempt after r, nil where there is none.
func (n *Node) awaiting(r *record) *waiting {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.waiting[r.runOf()]; w != nil && w.job == r.Job {
		return w
	}
	return nil
}

// restartRuns takes up the waits that the node's last stop ended.
func (n *Node) restartRuns() {
	ended := make(chan struct{})
	close(ended)
	for item, err := range n.store.Scan("run/") {
		var st *runState
		if err == nil {
			st, err = decodeRun(item.Value)
		}
		if err != nil {
			n.log.Error("runs not restarted", slog.Any("error", err))
			return
		}
		if st.FollowUp != nil {
			n.awaitRestart(st.Run, st.FollowUp.Job, ended)
		}
	}
}

// restart tries to begin the attempt after job until it has begun or cannot.
func (n *Node) restart(ctx context.Context, run, job string) {
	for wait := restartFirst; ; wait = min(2*wait, restartMost) {
		if n.pause(ctx, wait) != nil {
			n.gaveUp(ctx, run, job)
			return
		}
		st, err := n.loadRun(run)
		switch {
		case err != nil:
			n.followed(run, job, "", err.Error())
			return
		case st == nil || st.FollowUp == nil || st.FollowUp.Job != job:
			return // another attempt has begun: another party's, or a person's
		}
		next, err := n.nextAttempt(ctx, st)
		switch {
		case err == nil:
			n.followed(run, job, next, "")
			if a := n.findJob(next); a != nil && ctx.Err() != nil {
				a.cancel(context.Cause(ctx)) // the word came too late to keep it from beginning
			}
			return
		case ctx.Err() != nil:
			n.gaveUp(ctx, run, job)
			return
		case !mayPass(err):
			n.followed(run, job, "", err.Error())
			return
		case n.now().Sub(st.FollowUp.Since) >= n.cfg.Limits.RestartFor:
			n.followed(run, job, "", "it could not begin for "+n.cfg.Limits.RestartFor.String()+" (limits.restart_for), at last because "+err.Error())
			return
		}
		n.log.Info("the next attempt cannot begin yet", slog.String("run", run), slog.Any("error", err))
	}
}

// gaveUp ends a wait that was cut short: for good by a person, or until the next
// start by the node's stop.
func (n *Node) gaveUp(ctx context.Context, run, job string) {
	if n.ctx.Err() == nil {
		n.followed(run, job, "", context.Cause(ctx).Error())
	}
}

// nextAttempt proposes a further attempt if all parties answer. A proposal leaves
// a record at every party, and so there is none before.
func (n *Node) nextAttempt(ctx context.Context, st *runState) (string, error) {
	first, err := decodeContract(st.Contract)
	if err != nil {
		return "", err
	}
	asked, cancel := context.WithTimeout(ctx, restartAsk)
	defer cancel()
	group, gctx := errgroup.WithContext(asked)
	for _, other := range first.others(n.cfg.Party) {
		group.Go(func() error {
			if _, err := n.peers.Hello(gctx, other, &peerv1.HelloRequest{Version: n.version}); err != nil {
				return n.peerError(other, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	next, _, err := n.resume(ctx, st.FollowUp.Person, st.FollowUp.Job, 0)
	return next, err
}

// mayPass reports whether a proposal was refused for a reason that may not last:
// a party is away, or full, or has not noticed yet that the last attempt is over.
func mayPass(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && slices.Contains([]string{
		"peer_unreachable", "platform_unreachable", "local_policy", "concurrent_jobs", "run_busy", "unknown_session",
		"peer_aborted", "withdrawn", "shutdown", "starting", "expired",
	}, r.RuleCode)
}

// followed notes in a run, and in the attempt that was cut short, what became of
// the wait: the job that goes on, or why there is none.
func (n *Node) followed(run, job, next, why string) {
	err := func() error {
		n.runMu.Lock()
		defer n.runMu.Unlock()
		st, err := n.loadRun(run)
		if err != nil || st == nil || st.FollowUp == nil || st.FollowUp.Job != job {
			return err
		}
		st.FollowUp = nil
		if err := n.saveRun(st); err != nil {
			return err
		}
		r, err := n.load(job)
		if err != nil {
			return err
		}
		r.Restarts, r.Next = false, next
		if why != "" {
			r.Reason += "; no further attempt has begun: " + why
		}
		return n.save(r)
	}()
	if err != nil {
		n.log.Error("run not settled", slog.String("run", run), slog.Any("error", err))
	}
	n.log.Info("a run that lost a party", slog.String("run", run), slog.String("job", job), slog.String("next", next), slog.String("why", why))
}
