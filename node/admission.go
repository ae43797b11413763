package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/store"
	"github.com/yinqiao/yinqiao/job"
)

// admitted is a contract this node has agreed to, with everything it resolved
// for itself. No later stage interprets policy again.
type admitted struct {
	contract *contract
	grant    *catalog.Grant
	def      job.Definition
	spec     job.Spec
	reveals  []job.Disclosure
	spare    int // how many parties the job can lose
	usesLeft int64
	held     bool // the run's use was spent by an earlier attempt
}

// admit is this node's own decision on a contract, whoever proposes it: the
// grant, the columns within it, and the node's policy. takeUse comes after it.
func (n *Node) admit(ctx context.Context, c *contract) (*admitted, error) {
	if err := n.store.Healthy(); err != nil {
		return nil, n.refuseLocal("disk", "%v", err)
	}
	g, err := n.resolver.Grant(ctx, c.GetGrantId())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(g.Digest(), c.GetGrantDigest()) {
		return nil, n.refuseSecurity("grant_digest", "the contract cites another grant under the ID %s", g.ID())
	}
	if _, err := n.store.Get(refusedKey(g.RequestDigest())); err == nil {
		return nil, n.refuse("provider_refused", "%s has refused the request behind grant %s", n.cfg.Party, g.ID())
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if err := n.withinGrant(c, g); err != nil {
		return nil, err
	}
	def, ok := n.registry.Lookup(c.GetKind())
	if !ok {
		return nil, n.refuse("kind_unknown", "this node does not know %s: compare versions with `yinqiao node doctor`", c.GetKind())
	}
	spec := c.spec(g, n.cfg.Policy)
	// What this node's own policy adds is no peer's business.
	if err := n.protocolFits(c, g, def, c.spec(g, Policy{})); err != nil {
		return nil, err
	}
	if err := n.withinPolicy(c, def, spec); err != nil {
		return nil, err
	}
	st, err := n.admitAttempt(c, def)
	if err != nil {
		return nil, err
	}
	if err := n.ownInputs(ctx, c); err != nil {
		return nil, err
	}
	return &admitted{contract: c, grant: g, def: def, spec: spec, reveals: def.Reveals(spec), spare: spareOf(def, spec), held: st != nil && st.Spent}, nil
}

// takeUse reserves one of the grant's runs. The attempts at one run share one.
func (n *Node) takeUse(a *admitted) error {
	limit := a.grant.Limits().MaxRuns
	used, err := n.store.Reserve(runCounter(a.grant), holderOf(a.contract), limit)
	if errors.Is(err, store.ErrExhausted) {
		return n.allRunsUsed(a.grant)
	}
	if err != nil {
		return fmt.Errorf("node: reserve a use: %w", err)
	}
	a.usesLeft = limit - used
	return nil
}

func (n *Node) allRunsUsed(g *catalog.Grant) *Refusal {
	return n.refuse("max_runs", "the grant allows %d runs and all are used (grant %s): file a new request", g.Limits().MaxRuns, g.ID())
}

// holderOf is in whose name a run's use is reserved. Sessions held uses in
// earlier versions; the prefix keeps a peer from naming a job after one.
func holderOf(c *contract) string { return "run/" + c.runOf() }

// runCounter counts the runs of the request behind a grant. It goes by the
// bytes that requester and providers signed, so that a platform that grants one
// request twice does not double what they agreed to.
func runCounter(g *catalog.Grant) string { return fmt.Sprintf("runs/%x", g.RequestDigest()) }

// withinGrant holds every line of the contract to the grant.
func (n *Node) withinGrant(c *contract, g *catalog.Grant) error {
	comp, ok := g.Computation(c.GetKind())
	if !ok {
		return n.refuse("kind", "grant %s does not allow %s", g.ID(), c.GetKind())
	}
	if c.GetPurpose() != g.Purpose() {
		return n.refuse("purpose", "grant %s is for another purpose", g.ID())
	}
	if c.GetScene() != g.Scene() {
		return n.refuse("scene", "grant %s is for another scene", g.ID())
	}
	if len(c.GetParties()) != len(comp.Roles) {
		return n.refuse("parties", "grant %s names %d parties for %s, the contract %d", g.ID(), len(comp.Roles), c.GetKind(), len(c.GetParties()))
	}
	for i, b := range comp.Roles {
		p := c.GetParties()[i]
		if p.GetParty() != b.Party || p.GetRole() != b.Role {
			return n.refuse("parties", "party %d of the contract must be %s as %s, as in grant %s", i+1, b.Party, b.Role, g.ID())
		}
	}
	for _, p := range c.GetParties() {
		for _, in := range p.GetInputs() {
			e, ok := g.Entry(in.GetEntry())
			switch {
			case !ok || e.Provider() != p.GetParty():
				return n.refuse("entry", "grant %s does not cover entry %s of %s", g.ID(), clip(in.GetEntry(), 64), p.GetParty())
			case e.Version() != in.GetVersion() || !bytes.Equal(e.Digest(), in.GetEntryDigest()):
				return n.refuse("entry_version", "grant %s covers version %d of entry %s", g.ID(), e.Version(), e.Code())
			}
			granted := g.Items(e.Code())
			for i, item := range in.GetItems() {
				if !slices.Contains(granted, item) {
					return n.refuse("items", "grant %s does not cover item %s of entry %s", g.ID(), clip(item, 64), e.Code())
				}
				if slices.Contains(in.GetItems()[:i], item) {
					return n.refuse("items", "item %s of entry %s is named twice", clip(item, 64), e.Code())
				}
			}
		}
	}
	for _, r := range c.GetRecipients() {
		if !slices.Contains(g.Recipients(), r) {
			return n.refuse("recipients", "grant %s does not name %s as a recipient", g.ID(), clip(r, 64))
		}
	}
	return nil
}

// protocolFits checks what the job kind itself asks for.
func (n *Node) protocolFits(c *contract, g *catalog.Grant, def job.Definition, spec job.Spec) error {
	if err := def.CheckRoles(spec); err != nil {
		return n.refuse("roles", "%v", err)
	}
	if err := def.Validate(spec); err != nil {
		return n.refuse("params", "%v", err)
	}
	if !slices.Equal(def.Assumptions, c.GetAssumptions()) {
		return n.refuse("assumptions", "the contract does not name the assumptions that %s rests on", def.Name)
	}
	if spec.Limits.MinBeforeReveal && def.MinIntersection != job.BeforeReveal {
		return n.refuse("min_before_reveal", "grant %s demands the minimum intersection before any match is revealed, which %s cannot enforce", g.ID(), def.Name)
	}
	comp, _ := g.Computation(def.Name)
	for _, p := range def.Permissions(spec) {
		if !slices.Contains(comp.Permissions, p) {
			return n.refuse("permission", "the job would open %q and grant %s does not say so: list the permission in the request, or change the job's parameters", p, g.ID())
		}
	}
	return nil
}

// withinPolicy holds the contract to this node's own allow-list.
func (n *Node) withinPolicy(c *contract, def job.Definition, spec job.Spec) error {
	p := n.cfg.Policy
	lacks := func(list []string, v string) bool { return len(list) > 0 && !slices.Contains(list, v) }
	if lacks(p.Kinds, def.Name) {
		return n.refuseLocal("policy.kinds", "policy.kinds of this node does not list %s", def.Name)
	}
	if lacks(p.Purposes, c.GetPurpose()) {
		return n.refuseLocal("policy.purposes", "policy.purposes of this node does not list the purpose")
	}
	for _, other := range c.others(n.cfg.Party) {
		if lacks(p.Parties, other) {
			return n.refuseLocal("policy.parties", "policy.parties of this node does not list %s", other)
		}
	}
	for _, a := range def.Assumptions {
		if lacks(p.Assumptions, a) {
			return n.refuseLocal("policy.assumptions", "policy.assumptions of this node does not list %s", a)
		}
	}
	for _, x := range def.Permissions(spec) {
		if lacks(p.Permissions, x) {
			return n.refuseLocal("policy.permissions", "policy.permissions of this node does not list %s", x)
		}
	}
	if err := def.Validate(spec); err != nil {
		return n.refuseLocal("policy", "with the rules of this node's policy, %v", err)
	}
	for _, in := range c.participant(n.cfg.Party).GetInputs() {
		for _, item := range in.GetItems() {
			if lacks(p.Columns, in.GetEntry()+"/"+item) {
				return n.refuseLocal("policy.columns", "policy.columns of this node does not list %s/%s", in.GetEntry(), item)
			}
		}
	}
	if t := time.Duration(c.GetTimeoutSeconds()) * time.Second; t <= 0 || t > n.cfg.Limits.JobTimeout {
		return n.refuseLocal("job_timeout", "limits.job_timeout of this node is %s", n.cfg.Limits.JobTimeout)
	}
	return nil
}

// ownInputs makes sure that this node can open what it is asked for.
func (n *Node) ownInputs(ctx context.Context, c *contract) error {
	for _, in := range c.participant(n.cfg.Party).GetInputs() {
		if _, err := n.openInput(ctx, in.GetEntry(), in.GetItems()); err != nil {
			return n.refuseLocal("dataset", "%v", err)
		}
	}
	return nil
}
