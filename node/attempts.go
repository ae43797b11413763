package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/audit"
	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/internal/store"
	"github.com/yinqiao/yinqiao/job"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
)

// A run is one or more attempts at the same computation. Each attempt is a job
// and a session of its own, with a contract that all parties sign, fresh keys
// and fresh randomness. What they share is the run's name (the job of the first
// attempt), its one use of the grant, the inputs, and the scratch folder in
// which a resumable kind keeps what is finished.

// runState is what this node knows of a run of a resumable kind. It begins as
// the first attempt does, and is kept, without its contents, when the run is
// over.
type runState struct {
	Run      string
	Contract []byte    // of the attempt that this node saw first
	Attempt  int64     // the last one that has begun here
	Job      string    // of that attempt
	Spent    bool      // the run has used a use of its grant, which nothing gives back
	Over     string    // why there is no further attempt; blank while there may be one
	Touched  time.Time // when the last attempt began or ended
	FollowUp *followUp // this node begins a further attempt by itself

	// Digests of this party's inputs as the first attempt read them, and the
	// opening of the commitment to them. They stay home.
	Digests [][]byte
	Opening []byte
	// Commitments of the other parties, as their records of failed attempts
	// give them.
	Commitments map[string][]byte
}

// Why a run is over.
const (
	overDone     = "it is done"
	overGrant    = "its grant has ended"
	overAttempts = "it has had all its attempts"
	overMissed   = "the other parties completed it without this one"
	overAge      = "what it had finished was removed after limits.scratch_retention"
)

func runKey(run string) string { return "run/" + run }

// runOf is the run that a contract is an attempt at.
func (c *contract) runOf() string {
	if c.GetRun() != "" {
		return c.GetRun()
	}
	return c.GetJob()
}

// attempt counts from 1.
func (c *contract) attempt() int64 { return max(1, c.GetAttempt()) }

// loadRun returns nil for a run that this node does not know.
func (n *Node) loadRun(run string) (*runState, error) {
	b, err := n.store.Get(runKey(run))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeRun(b)
}

func decodeRun(b []byte) (*runState, error) {
	st := &runState{}
	if err := json.Unmarshal(b, st); err != nil {
		return nil, fmt.Errorf("node: state of a run: %w", err)
	}
	return st, nil
}

func (n *Node) saveRun(st *runState) error {
	b, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("node: state of a run: %w", err)
	}
	return n.store.Put(runKey(st.Run), b)
}

// close drops what no further attempt will use.
func (st *runState) close(why string) {
	*st = runState{Run: st.Run, Attempt: st.Attempt, Job: st.Job, Spent: st.Spent, Touched: st.Touched, Over: why}
}

// admitAttempt holds a contract that resumes a run to what this node knows of
// the run. It returns nil for a first attempt.
func (n *Node) admitAttempt(c *contract, def job.Definition) (*runState, error) {
	if c.GetRun() == "" {
		return nil, nil
	}
	run := c.GetRun()
	if !def.Resumable {
		return nil, n.refuse("not_resumable", "%s keeps nothing between attempts: submit the job again", def.Name)
	}
	st, err := n.loadRun(run)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return nil, n.refuse("run_unknown", "run %s never began at this party: submit the job again", run)
	}
	if st.Over != "" {
		return nil, n.refuse("run_over", "run %s cannot be resumed, for %s: submit the job again", run, st.Over)
	}
	first, err := decodeContract(st.Contract)
	if err != nil {
		return nil, fmt.Errorf("node: contract of run %s: %w", run, err)
	}
	if what := otherTerms(first.Contract, c.Contract); what != "" {
		return nil, n.refuse("run_terms", "the %s differ from those of run %s, and an attempt keeps all of them: submit a new job", what, run)
	}
	return st, n.admitNumber(c, st)
}

// admitNumber holds an attempt's number to those that have begun here. It need
// not be the next: a party that an attempt never reached has not counted it.
// Since the numbers rise at every party, no party begins more than the limit.
func (n *Node) admitNumber(c *contract, st *runState) error {
	if limit := n.cfg.Limits.Attempts; c.attempt() > limit {
		return n.refuse("attempts", "a run may have %d attempts here (limits.attempts), and this is number %d of run %s: submit a new job", limit, c.attempt(), st.Run)
	}
	if c.attempt() <= st.Attempt {
		r := n.refuse("attempt", "attempt %d of run %s has begun here, so the next has a higher number: resume again", st.Attempt, st.Run)
		r.Attempt = st.Attempt
		return r
	}
	return nil
}

// otherTerms names what a contract has that the first attempt's had not; ""
// where they ask for the same.
func otherTerms(first, c *peerv1.Contract) string {
	sameInputs := func(a, b *peerv1.Input) bool { return proto.Equal(a, b) }
	for _, t := range []struct {
		what string
		same bool
	}{
		{"grants", first.GetGrantId() == c.GetGrantId() && bytes.Equal(first.GetGrantDigest(), c.GetGrantDigest())},
		{"job kinds", first.GetKind() == c.GetKind()},
		{"parameters", bytes.Equal(first.GetParams(), c.GetParams())},
		{"parties or roles", slices.EqualFunc(first.GetParties(), c.GetParties(), func(a, b *peerv1.Participant) bool {
			return a.GetParty() == b.GetParty() && a.GetRole() == b.GetRole()
		})},
		{"inputs", slices.EqualFunc(first.GetParties(), c.GetParties(), func(a, b *peerv1.Participant) bool {
			return slices.EqualFunc(a.GetInputs(), b.GetInputs(), sameInputs)
		})},
		{"recipients", slices.Equal(first.GetRecipients(), c.GetRecipients())},
		{"purposes or scenes", first.GetPurpose() == c.GetPurpose() && first.GetScene() == c.GetScene()},
		{"assumptions", slices.Equal(first.GetAssumptions(), c.GetAssumptions())},
		{"cipher suites", first.GetSuite() == c.GetSuite()},
	} {
		if !t.same {
			return t.what
		}
	}
	return ""
}

// beginAttempt notes, before the first protocol byte, that an attempt begins:
// whatever happens from here on, its number and the run's use are taken.
func (n *Node) beginAttempt(a *active) error {
	if !a.def.Resumable {
		return nil
	}
	c := a.contract
	n.runMu.Lock()
	defer n.runMu.Unlock()
	st, err := n.loadRun(c.runOf())
	if err != nil {
		return err
	}
	if st == nil {
		st = &runState{Run: c.runOf(), Contract: c.payload}
	}
	before := st.Job
	st.Attempt, st.Job, st.Spent, st.Touched, st.FollowUp = c.attempt(), c.GetJob(), true, n.now(), nil
	if err := n.saveRun(st); err != nil || before == "" {
		return err
	}
	r, err := n.load(before)
	if err != nil {
		return err
	}
	r.Next, r.Restarts = c.GetJob(), false
	return n.save(r)
}

// commitInputs commits to the digests of this party's inputs. All attempts at a
// run have the same inputs and so, under the opening of the first, the same
// commitment; where an input has changed, the attempt ends here.
func (n *Node) commitInputs(a *active, digests [][]byte) error {
	c := a.contract
	commit, err := audit.NewCommitter(nil, "input")
	if err != nil {
		return err
	}
	n.runMu.Lock()
	defer n.runMu.Unlock()
	st, err := n.loadRun(c.runOf())
	if err != nil {
		return err
	}
	inputs := c.participant(n.cfg.Party).GetInputs()
	if st != nil && st.Digests != nil {
		for i, in := range inputs {
			if i >= len(st.Digests) || !bytes.Equal(st.Digests[i], digests[i]) {
				return fail("input_changed", "the data behind entry %s is not what the first attempt at run %s read: put it back and resume, or submit a new job", in.GetEntry(), st.Run)
			}
		}
		commit = audit.Commit(secret.New(st.Opening), "input")
	}
	for i, in := range inputs {
		if _, err := fmt.Fprintf(commit, "%s %d %x\n", in.GetEntry(), in.GetVersion(), digests[i]); err != nil {
			return err
		}
	}
	if err := n.keepOpening(c.GetJob(), "input", commit.Opening()); err != nil {
		return err
	}
	if st != nil && st.Digests == nil {
		st.Digests, st.Opening = digests, commit.Opening().Reveal()
		if err := n.saveRun(st); err != nil {
			return err
		}
	}
	a.update(func() { a.rec.InputCommitment = commit.Sum() })
	return nil
}

// settleRun notes in the run's state how an attempt ended, and removes the
// run's files where no further attempt can use them. r is about to be saved.
func (n *Node) settleRun(r *record) error {
	restarts := r.Restarts
	r.Restarts = false
	n.runMu.Lock()
	defer n.runMu.Unlock()
	st, err := n.loadRun(r.runOf())
	if err != nil {
		return err
	}
	if st == nil { // not of a resumable kind, or it never began
		return n.disk.drop(r.runOf())
	}
	if st.Over != "" {
		return n.disk.drop(st.Run)
	}
	if r.Started.IsZero() { // a later attempt that was refused
		return nil
	}
	st.Spent, st.Touched = r.RunsUsed, n.now()
	if why := n.whyOver(r, st); why != "" {
		st.close(why)
		if err := n.saveRun(st); err != nil {
			return err
		}
		return n.disk.drop(st.Run)
	}
	r.Resumable = r.State == Failed || r.State == Cancelled
	if restarts {
		r.Restarts, st.FollowUp = true, &followUp{Job: r.Job, Person: r.Person, Since: n.now()}
	}
	return n.saveRun(st)
}

// missRun ends the run of an attempt that the others completed without this party.
func (n *Node) missRun(job string) error {
	n.runMu.Lock()
	defer n.runMu.Unlock()
	r, err := n.load(job)
	if err != nil || r.Missed {
		return err
	}
	st, err := n.loadRun(r.runOf())
	if err != nil {
		return err
	}
	if st != nil && st.Over == "" {
		st.close(overMissed)
		if err := n.saveRun(st); err != nil {
			return err
		}
	}
	if err := n.disk.drop(r.runOf()); err != nil {
		return err
	}
	r.Missed, r.Resumable = true, false
	r.Reason += "; the other parties completed the job without this one"
	return n.save(r)
}

func (n *Node) whyOver(r *record, st *runState) string {
	switch {
	case r.State == Done || r.State == Releasing:
		return overDone // a complete receipt is released at the next start
	case r.Class == catalog.RuleGrantRevoked || r.Class == catalog.RuleGrantExpired:
		return overGrant
	case st.Attempt >= n.cfg.Limits.Attempts:
		return overAttempts
	}
	return ""
}

// noteCommitment remembers the commitment that a party's record of a failed
// attempt gives. One that differs from an earlier one is a security event.
func (n *Node) noteCommitment(run, party string, commitment []byte) error {
	if len(commitment) == 0 || len(commitment) > 64 {
		return nil
	}
	st, known, err := n.keepCommitment(run, party, commitment)
	if known != nil && !bytes.Equal(known, commitment) {
		n.note(n.refuseSecurity("input_commitment", "%s commits to other inputs in another attempt at run %s", party, run), party, st.Job, "")
	}
	return err
}

// keepCommitment returns the commitment that a party of a run gave before. Where
// there is none it keeps this one.
func (n *Node) keepCommitment(run, party string, commitment []byte) (st *runState, known []byte, err error) {
	n.runMu.Lock()
	defer n.runMu.Unlock()
	st, err = n.loadRun(run)
	if err != nil || st == nil || st.Over != "" {
		return st, nil, err
	}
	first, err := decodeContract(st.Contract)
	if err != nil {
		return st, nil, fmt.Errorf("node: contract of run %s: %w", run, err)
	}
	if first.participant(party) == nil {
		return st, nil, nil // it has no say in this run
	}
	if known = st.Commitments[party]; known != nil {
		return st, known, nil
	}
	if st.Commitments == nil {
		st.Commitments = make(map[string][]byte)
	}
	st.Commitments[party] = commitment
	return st, nil, n.saveRun(st)
}

// sameInputs reports whether party's commitment is the one it gave in earlier
// attempts at the run, or whether there was none.
func (n *Node) sameInputs(run, party string, commitment []byte) bool {
	st, err := n.loadRun(run)
	if err != nil {
		n.log.Error("state of a run not read", slog.String("run", run), slog.Any("error", err))
		return false
	}
	return st == nil || st.Commitments[party] == nil || bytes.Equal(st.Commitments[party], commitment)
}

// sweepEvery spaces the looks for runs past their time.
const sweepEvery = time.Hour

// keepSwept removes what runs left behind, until the node stops.
func (n *Node) keepSwept() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
		if err := n.sweep(); err != nil {
			n.log.Error("old runs not removed", slog.Any("error", err))
		}
	}
}

// sweep ends the runs that nobody has resumed for limits.scratch_retention, and
// removes folders that belong to no run.
func (n *Node) sweep() error {
	var old, open []string
	for item, err := range n.store.Scan("run/") {
		if err != nil {
			return err
		}
		st, err := decodeRun(item.Value)
		switch {
		case err != nil:
			return err
		case st.Over != "":
		case n.now().Sub(st.Touched) > n.cfg.Limits.ScratchRetention:
			old = append(old, st.Run)
		default:
			open = append(open, st.Run)
		}
	}
	folders, err := n.disk.runs()
	if err != nil {
		return err
	}
	for _, run := range folders {
		if !slices.Contains(open, run) && !slices.Contains(old, run) {
			old = append(old, run)
		}
	}
	for _, run := range old {
		err = errors.Join(err, n.forsake(run))
	}
	return err
}

// forsake ends a run for its age, unless an attempt is under way.
func (n *Node) forsake(run string) error {
	n.mu.Lock()
	if n.byRun[run] != nil {
		n.mu.Unlock()
		return nil
	}
	n.busy[run] = true // no attempt begins meanwhile
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.busy, run)
		n.mu.Unlock()
	}()
	n.runMu.Lock()
	defer n.runMu.Unlock()
	st, err := n.loadRun(run)
	if err != nil {
		return err
	}
	if st != nil && st.Over == "" {
		if n.now().Sub(st.Touched) <= n.cfg.Limits.ScratchRetention {
			return nil // it began after sweep had looked
		}
		st.close(overAge)
		if err := n.saveRun(st); err != nil {
			return err
		}
		n.log.Info("a run was not resumed in time", slog.String("run", run))
	}
	return n.disk.drop(run)
}
