package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/audit"
	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/node/peer"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

const (
	// finishWait is how long the first party to finish waits for the last.
	finishWait = 60 * time.Second
	// signWait is how long a finished receipt waits for a signature before the
	// party is named absent.
	signWait = 15 * time.Second
	// coSignTries is how often a party asks for a receipt it has signed.
	coSignTries = 4
)

// finisher is the initiator's side of making one receipt: it collects every
// party's line, writes the payload, and collects the signatures.
type finisher struct {
	contract *contract

	mu      sync.Mutex
	lines   map[string]*peerv1.FinishRequest
	gone    map[string]bool // parties that are not waited for
	waiting int             // how often a party has asked to be waited for
	payload []byte
	present []string // whom payload names as having finished
	sigs    map[string]*signv1.Signature
	err     error
	done    bool
	changed chan struct{}
}

func newFinisher(c *contract) *finisher {
	return &finisher{contract: c, lines: make(map[string]*peerv1.FinishRequest), gone: make(map[string]bool), changed: make(chan struct{})}
}

func (f *finisher) update(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// wait blocks until ready reports true under the lock, or ctx ends.
func (f *finisher) wait(ctx context.Context, ready func() bool) error {
	for {
		f.mu.Lock()
		ok, err, changed := ready(), f.err, f.changed
		f.mu.Unlock()
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// lose notes that nobody waits for a party any more. What it has signed counts.
func (f *finisher) lose(party string) { f.update(func() { f.gone[party] = true }) }

// awaited reports, under the lock, whether one of parties that is not gone has
// not done its part.
func (f *finisher) awaited(parties []string, done func(party string) bool) bool {
	return slices.ContainsFunc(parties, func(p string) bool { return !f.gone[p] && !done(p) })
}

func (f *finisher) fail(err error) {
	f.update(func() {
		if f.err == nil && !f.done {
			f.err = err
		}
	})
}

// compose writes the receipt's payload from the lines that are in. It fails
// where the parties' counts disagree.
func (f *finisher) compose(present []string, started time.Time) ([]byte, error) {
	c := f.contract
	r := &auditv1.Receipt{
		Job: c.GetJob(), Session: c.GetSession(), GrantId: c.GetGrantId(), GrantDigest: c.GetGrantDigest(),
		ContractDigest: c.digest, Kind: c.GetKind(), Assumptions: c.GetAssumptions(),
		Started: timestamppb.New(started), Finished: timestamppb.Now(),
		Run: c.GetRun(), Attempt: c.GetAttempt(),
	}
	var first string
	for _, p := range c.GetParties() {
		if !slices.Contains(present, p.GetParty()) {
			r.Absent = append(r.Absent, p.GetParty())
			continue
		}
		line := f.lines[p.GetParty()]
		if first == "" {
			first, r.Counts, r.Digests = p.GetParty(), line.GetCounts(), line.GetDigests()
		} else if !maps.Equal(r.Counts, line.GetCounts()) {
			return nil, fail("count_disagreement", "%s and %s report different counts", first, p.GetParty())
		} else if !sameDigests(r.Digests, line.GetDigests()) {
			return nil, fail("digest_disagreement", "%s and %s report different digests of what they agreed on", first, p.GetParty())
		}
		r.Parties = append(r.Parties, line.GetRecord())
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(r)
}

// makeReceipt runs at the initiator once its own part is computed.
func (n *Node) makeReceipt(ctx context.Context, a *active, own *peerv1.FinishRequest, started time.Time) (*signv1.Signed, error) {
	f := a.finisher
	all := make([]string, 0, len(f.contract.GetParties()))
	for _, p := range f.contract.GetParties() {
		all = append(all, p.GetParty())
	}
	f.update(func() { f.lines[n.cfg.Party] = own })

	// Every line, or as many as come in time.
	err := n.awaitLines(ctx, f, all)
	if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
		f.fail(err)
		return nil, err
	}
	f.mu.Lock()
	var present []string
	inputs := make(map[string][]byte)
	for _, p := range all {
		if f.lines[p] != nil && !f.gone[p] {
			present = append(present, p)
			inputs[p] = f.lines[p].GetRecord().GetInputCommitment()
		}
	}
	f.mu.Unlock()

	for _, p := range present {
		if !n.sameInputs(f.contract.runOf(), p, inputs[p]) {
			err := otherInputs(p, f.contract)
			f.fail(err)
			return nil, err
		}
	}

	for {
		f.mu.Lock()
		payload, err := f.compose(present, started)
		f.mu.Unlock()
		if err != nil {
			f.fail(err)
			return nil, err
		}
		a.seal()
		f.update(func() {
			f.payload, f.present = payload, present
			f.sigs = map[string]*signv1.Signature{n.cfg.Party: n.key.Sign(n.cfg.Party, suite.ContextReceipt, payload)}
		})
		wctx, cancel := context.WithTimeout(ctx, n.waits.sign)
		err = f.wait(wctx, func() bool { return !f.awaited(present, func(p string) bool { return f.sigs[p] != nil }) })
		cancel()
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
			f.fail(err)
			return nil, err
		}
		// Whoever did not sign is named absent in a new payload.
		f.mu.Lock()
		signed := slices.DeleteFunc(slices.Clone(present), func(p string) bool { return f.sigs[p] == nil })
		f.mu.Unlock()
		if len(signed) == len(present) {
			break
		}
		present = signed
	}
	signed := &signv1.Signed{Payload: f.payload}
	f.update(func() {
		for _, p := range present {
			signed.Signatures = append(signed.Signatures, f.sigs[p])
		}
		f.done = true
	})
	return signed, nil
}

// awaitLines waits for the lines of all parties but those that are known to be
// lost, for n.waits.finish after the last word of a party that still writes its
// output.
func (n *Node) awaitLines(ctx context.Context, f *finisher, all []string) error {
	for {
		f.mu.Lock()
		before := f.waiting
		f.mu.Unlock()
		wctx, cancel := context.WithTimeout(ctx, n.waits.finish)
		err := f.wait(wctx, func() bool { return !f.awaited(all, func(p string) bool { return f.lines[p] != nil }) })
		cancel()
		f.mu.Lock()
		asked := f.waiting > before
		f.mu.Unlock()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || !asked {
			return err
		}
	}
}

// askToWait keeps telling the initiator that this party still writes its
// output, which takes longer the more rows there are, until the returned
// function is called.
func (n *Node) askToWait(ctx context.Context, a *active) (stop func()) {
	if a.finisher != nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(n.waits.finish / 4)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := n.peers.Finish(ctx, a.contract.GetInitiator(), &peerv1.FinishRequest{Session: a.contract.GetSession(), Pending: true}); err != nil {
				n.log.Debug("the initiator was not asked to wait", slog.String("job", a.contract.GetJob()))
			}
		}
	}()
	return func() { cancel(); <-done }
}

func otherInputs(party string, c *contract) error {
	return fail("input_commitment", "%s commits to other inputs than in an earlier attempt at run %s", party, c.runOf())
}

// joinReceipt runs at every other party: it hands in its line, checks the
// payload word by word, signs it, and returns the receipt with all signatures.
func (n *Node) joinReceipt(ctx context.Context, a *active, own *peerv1.FinishRequest) (*signv1.Signed, error) {
	c := a.contract
	reply, err := n.peers.Finish(ctx, c.GetInitiator(), own)
	if err != nil {
		return nil, n.receiptError(c, err)
	}
	payload := reply.GetReceipt()
	for {
		if err := n.checkReceipt(c, own, payload); err != nil {
			return nil, err
		}
		a.seal()
		sig := n.key.Sign(n.cfg.Party, suite.ContextReceipt, payload)
		reply, err := n.coSign(ctx, c, sig)
		if err != nil {
			return nil, n.receiptError(c, err)
		}
		receipt := reply.GetReceipt()
		if bytes.Equal(receipt.GetPayload(), payload) {
			roster, err := n.liveRoster(ctx)
			if err != nil {
				return nil, err
			}
			if _, err := audit.VerifyReceipt(receipt, keysOf(roster)); err != nil {
				return nil, fail("receipt_signature", "%v", err)
			}
			return receipt, nil
		}
		payload = receipt.GetPayload() // a party became absent meanwhile
	}
}

// coSign hands in a signature. An answer that was lost is asked for again: the
// initiator keeps the complete receipt.
func (n *Node) coSign(ctx context.Context, c *contract, sig *signv1.Signature) (*peerv1.CoSignReply, error) {
	for try := 1; ; try++ {
		reply, err := n.peers.CoSign(ctx, c.GetInitiator(), &peerv1.CoSignRequest{Session: c.GetSession(), Signature: sig})
		var refused *peer.RefusedError
		if err == nil || errors.As(err, &refused) || try == coSignTries {
			return reply, err
		}
		pause := time.NewTimer(time.Duration(try) * time.Second)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

func keysOf(r *catalog.Roster) map[string][]byte {
	keys := make(map[string][]byte)
	for _, p := range r.Parties() {
		keys[p.ID] = p.PublicKey
	}
	return keys
}

func (n *Node) receiptError(c *contract, err error) error {
	var r *peer.RefusedError
	if errors.As(err, &r) {
		return fail("receipt", "%s did not complete the receipt (%s)", c.GetInitiator(), r.Class)
	}
	return fail("peer_gone", "%s went away before the receipt was complete", c.GetInitiator())
}

// checkReceipt holds a payload written by the initiator to what this node
// knows for itself.
func (n *Node) checkReceipt(c *contract, own *peerv1.FinishRequest, payload []byte) error {
	r := &auditv1.Receipt{}
	bad := func(what string) error {
		return fail("receipt_content", "the receipt that %s wrote is wrong about %s", c.GetInitiator(), what)
	}
	if len(payload) > maxContract || proto.Unmarshal(payload, r) != nil || hasUnknown(r.ProtoReflect()) {
		return bad("its form")
	}
	var mine bool
	var named []string
	for _, p := range r.GetParties() {
		part := c.participant(p.GetParty())
		if part == nil || part.GetRole() != p.GetRole() || slices.Contains(named, p.GetParty()) {
			return bad("the parties")
		}
		named = append(named, p.GetParty())
		if p.GetParty() == n.cfg.Party {
			mine = proto.Equal(p, own.GetRecord())
		} else if !n.sameInputs(c.runOf(), p.GetParty(), p.GetInputCommitment()) {
			return otherInputs(p.GetParty(), c)
		}
	}
	for _, p := range r.GetAbsent() {
		if c.participant(p) == nil || slices.Contains(named, p) {
			return bad("the absent parties")
		}
		named = append(named, p)
	}
	switch {
	case !mine:
		return bad("this party's line")
	case len(named) != len(c.GetParties()):
		return bad("the parties")
	case r.GetJob() != c.GetJob() || r.GetSession() != c.GetSession() || r.GetKind() != c.GetKind():
		return bad("the job")
	case r.GetGrantId() != c.GetGrantId() || !bytes.Equal(r.GetGrantDigest(), c.GetGrantDigest()):
		return bad("the grant")
	case r.GetRun() != c.GetRun() || r.GetAttempt() != c.GetAttempt():
		return bad("the run")
	case !bytes.Equal(r.GetContractDigest(), c.digest):
		return bad("the contract")
	case !slices.Equal(r.GetAssumptions(), c.GetAssumptions()):
		return bad("the assumptions")
	case !maps.Equal(r.GetCounts(), own.GetCounts()):
		return bad("the counts")
	case !sameDigests(r.GetDigests(), own.GetDigests()):
		return bad("the digests")
	}
	return nil
}

// Finish takes in a party's line and answers with the payload to sign.
func (h *handler) Finish(ctx context.Context, from string, req *peerv1.FinishRequest) (*peerv1.FinishReply, error) {
	n := (*Node)(h)
	a := n.find(req.GetSession())
	if a == nil || a.finisher == nil || a.contract.participant(from) == nil {
		return nil, peer.Refuse("unknown_session")
	}
	f := a.finisher
	if req.GetPending() {
		f.update(func() { f.waiting++ })
		return &peerv1.FinishReply{}, nil
	}
	rec := req.GetRecord()
	if rec.GetParty() != from || rec.GetRole() != a.contract.participant(from).GetRole() ||
		proto.Size(req) > maxContract || hasUnknown(req.ProtoReflect()) || !validDigests(req.GetDigests()) {
		return nil, peer.Refuse("malformed_line")
	}
	known, absent := false, false
	f.update(func() {
		_, known = f.lines[from]
		absent = f.gone[from] || f.payload != nil
		if !known && !absent {
			f.lines[from] = req
		}
	})
	switch {
	case known:
		return nil, peer.Refuse("line_known")
	case absent: // the others have gone on without it
		return nil, peer.Refuse("absent")
	}
	if err := f.wait(ctx, func() bool { return f.payload != nil }); err != nil {
		return nil, receiptRefusal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return &peerv1.FinishReply{Receipt: f.payload}, nil
}

// CoSign takes in a party's signature and answers with the receipt and every
// signature, or with a new payload where a party has become absent.
func (h *handler) CoSign(ctx context.Context, from string, req *peerv1.CoSignRequest) (*peerv1.CoSignReply, error) {
	n := (*Node)(h)
	a := n.find(req.GetSession())
	if a == nil && plainID(req.GetSession()) {
		// The job has ended here; a party whose answer was lost gets it again.
		if s, err := n.keptReceipt(req.GetSession()); err == nil && s != nil && suite.Find(s, from) != nil {
			return &peerv1.CoSignReply{Receipt: s}, nil
		}
	}
	if a == nil || a.finisher == nil || a.contract.participant(from) == nil {
		return nil, peer.Refuse("unknown_session")
	}
	f := a.finisher
	roster, err := n.liveRoster(ctx)
	if err != nil {
		return nil, peer.Refuse("platform")
	}
	p, ok := roster.Party(from)
	f.mu.Lock()
	payload, open := f.payload, slices.Contains(f.present, from) && !f.done
	f.mu.Unlock()
	if !ok || !open || suite.Verify(from, p.Suite, p.PublicKey, suite.ContextReceipt, payload, req.GetSignature()) != nil {
		if len(payload) > 0 {
			return nil, peer.Refuse("signature")
		}
		return nil, peer.Refuse("no_receipt_to_sign")
	}
	f.update(func() {
		if bytes.Equal(f.payload, payload) {
			f.sigs[from] = req.GetSignature()
		}
	})
	err = f.wait(ctx, func() bool { return f.done || !bytes.Equal(f.payload, payload) })
	if err != nil {
		return nil, receiptRefusal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &signv1.Signed{Payload: f.payload}
	if f.done {
		for _, q := range a.contract.GetParties() {
			if s := f.sigs[q.GetParty()]; s != nil {
				out.Signatures = append(out.Signatures, s)
			}
		}
	}
	return &peerv1.CoSignReply{Receipt: out}, nil
}

func receiptRefusal(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return peer.Refuse(f.class)
	}
	return peer.Refuse("ended")
}
