package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/node/peer"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
)

const (
	thriftyKind = "test.thrifty.v1" // costs by the row, holds to a minimum in time
	quickKind   = "test.quick.v1"   // costs a second, rests on young.test, knows too early
	oddKind     = "test.odd.v1"     // of another family
)

// familyJobs are two kinds that do what countJob does, one that is cheap for few
// rows and one for many, and a kind of another family.
func familyJobs(h *hooks) []job.Definition {
	kind := func(name, family string, reach job.Reach, assumptions []string, cost func([]int64) job.Cost) job.Definition {
		d := countJob(h)
		d.Name, d.Family, d.MinIntersection, d.Assumptions = name, family, reach, assumptions
		d.Estimate = func(_ job.Spec, rows []int64) (job.Cost, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.estimate != nil {
				return h.estimate(name, rows)
			}
			return cost(rows), nil
		}
		return d
	}
	cores := float64(runtime.GOMAXPROCS(0))
	perRow := func(rows []int64) job.Cost { return job.Cost{CPUSeconds: cores * 0.01 * float64(rows[0]+rows[1])} }
	constant := func([]int64) job.Cost { return job.Cost{CPUSeconds: cores} }
	return []job.Definition{
		kind(thriftyKind, "test.family", job.BeforeReveal, []string{"none"}, perRow),
		kind(quickKind, "test.family", job.AfterReveal, []string{"none", "young.test"}, constant),
		kind(oddKind, "test.others", job.BeforeReveal, []string{"none"}, constant),
	}
}

// inGrant lets a grant allow these kinds, with the roles of countJob.
func inGrant(kinds ...string) func(*catalogv1.Request) {
	return func(q *catalogv1.Request) {
		one := q.Computations[0]
		q.Computations = nil
		for _, k := range kinds {
			c := proto.CloneOf(one)
			c.Kind = k
			q.Computations = append(q.Computations, c)
		}
	}
}

// rows gives a party's table n rows.
func (w *world) rows(party string, n int) {
	w.t.Helper()
	var b strings.Builder
	b.WriteString("id,x,hidden\n")
	for i := range n {
		fmt.Fprintf(&b, "%d,%d,7\n", i+1, i)
	}
	must(w.t, os.WriteFile(filepath.Join(w.homes[party].Dir, "data.csv"), []byte(b.String()), 0o600))
}

func auto(grant string) *nodev1.SubmitJobRequest {
	return &nodev1.SubmitJobRequest{GrantId: grant, Protocol: ProtocolAuto}
}

// chosen asks the bank which kind it would take, and why.
func (w *world) chosen(grant string, change func(*nodev1.SubmitJobRequest)) (kind, why string, err error) {
	w.t.Helper()
	g, err := w.nodes["bank"].resolver.Grant(w.ctx, grant)
	must(w.t, err)
	req := auto(grant)
	if change != nil {
		change(req)
	}
	picked, why, err := w.nodes["bank"].choose(w.ctx, g, req)
	return picked.GetKind(), why, err
}

// drafts are the contracts that the bank would ask gov about.
func (w *world) drafts(grant string, change func(*peerv1.Contract)) [][]byte {
	w.t.Helper()
	bank := w.nodes["bank"]
	g, err := bank.resolver.Grant(w.ctx, grant)
	must(w.t, err)
	options, err := bank.options(g, auto(grant))
	must(w.t, err)
	var payloads [][]byte
	for _, o := range options {
		m := proto.CloneOf(o.contract.Contract)
		if change != nil {
			change(m)
		}
		b, err := proto.Marshal(m)
		must(w.t, err)
		payloads = append(payloads, b)
	}
	return payloads
}

// TestAutoPicksTheCheaper: by the estimate, of the rows that the parties have.
// What another party says of its rows is rounded up.
func TestAutoPicksTheCheaper(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(inGrant(thriftyKind, quickKind))
	id, err := w.submit(auto(grant))
	must(t, err)
	v := w.ended("bank", id)
	if v.GetState() != "done" || v.GetKind() != thriftyKind {
		t.Errorf("%s ran and is %s: %s", v.GetKind(), v.GetState(), v.GetReason())
	}
	for _, part := range []string{"for 3 and up to 4 rows over 1000 Mbit/s", thriftyKind + " about ", quickKind + " about 1.0 s"} {
		if !strings.Contains(v.GetChoice(), part) {
			t.Errorf("the choice is %q, and says nothing of %q", v.GetChoice(), part)
		}
	}
	if other := w.ended("gov", id); other.GetKind() != thriftyKind || other.GetChoice() != "" {
		t.Errorf("gov ran %s and was told %q", other.GetKind(), other.GetChoice())
	}

	// With more rows at gov the other one is cheaper: the rows are counted anew.
	w.rows("gov", 200)
	id, err = w.submit(auto(grant))
	must(t, err)
	v = w.ended("bank", id)
	if v.GetState() != "done" || v.GetKind() != quickKind || !strings.Contains(v.GetChoice(), "for 3 and up to 256 rows") {
		t.Errorf("%s is %s, by %q: %s", v.GetKind(), v.GetState(), v.GetChoice(), v.GetReason())
	}
	w.ended("gov", id)

	// What was chosen, and why, outlives the process.
	w.stops["bank"]()
	w.start("bank")
	r, err := w.nodes["bank"].load(id)
	must(t, err)
	if r.Kind != quickKind || r.Choice != v.GetChoice() {
		t.Errorf("the record says %s by %q", r.Kind, r.Choice)
	}
	if u := w.used("gov", grant); u != 2 {
		t.Errorf("%d uses spent by two jobs", u)
	}
}

// TestAutoCountsLinkAndRounds: arithmetic, bytes and rounds are all in seconds.
func TestAutoCountsLinkAndRounds(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(inGrant(thriftyKind, quickKind))
	costs := map[string]job.Cost{}
	w.hooks.estimate = func(kind string, _ []int64) (job.Cost, error) { return costs[kind], nil }
	bank := w.nodes["bank"]
	for _, c := range []struct {
		name         string
		mbit         int64
		plain, quick job.Cost
		want         string
	}{
		{"bytes on a fast link", 1000, job.Cost{Bytes: 1e6}, job.Cost{CPUSeconds: 1}, thriftyKind},
		{"bytes on a slow link", 1, job.Cost{Bytes: 1e8}, job.Cost{CPUSeconds: 1}, quickKind},
		{"rounds", 1000, job.Cost{Rounds: 1e9}, job.Cost{CPUSeconds: 1}, quickKind},
		{"arithmetic", 1000, job.Cost{CPUSeconds: 2}, job.Cost{CPUSeconds: 3}, thriftyKind},
	} {
		bank.cfg.Limits.LinkMbit = c.mbit
		costs[thriftyKind], costs[quickKind] = c.plain, c.quick
		if kind, why, err := w.chosen(grant, nil); err != nil || kind != c.want {
			t.Errorf("%s: %s by %q, %v", c.name, kind, why, err)
		}
	}
}

// TestAutoLeavesOutWhatAPartyRefuses: and says who, by which rule; of another
// party's own policy the class alone.
func TestAutoLeavesOutWhatAPartyRefuses(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(inGrant(thriftyKind, quickKind))
	w.rows("gov", 200) // quickKind would be cheaper
	bank, gov := w.nodes["bank"], w.nodes["gov"]

	gov.cfg.Policy.Assumptions = []string{"none"}
	kind, why, err := w.chosen(grant, nil)
	must(t, err)
	if kind != thriftyKind || !strings.HasSuffix(why, "; "+quickKind+" is out, gov refused (rule local_policy)") {
		t.Errorf("%s by %q", kind, why)
	}
	if evs := w.events("gov"); len(evs) != 1 || evs[0].GetRule() != "policy.assumptions" || evs[0].GetPeer() != "bank" {
		t.Errorf("gov recorded %v", evs)
	}

	gov.cfg.Policy.Assumptions, bank.cfg.Policy.Assumptions = nil, []string{"none"}
	kind, why, err = w.chosen(grant, nil)
	must(t, err)
	if kind != thriftyKind || !strings.Contains(why, quickKind+" is out, bank refused: policy.assumptions of this node does not list young.test") {
		t.Errorf("%s by %q", kind, why)
	}
	if n := len(w.events("gov")); n != 1 {
		t.Errorf("gov recorded %d events: it was asked about a kind that the bank refuses", n)
	}
}

func TestAutoHoldsToTheMinimum(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(func(q *catalogv1.Request) {
		inGrant(thriftyKind, quickKind)(q)
		q.Limits.MinIntersection, q.Limits.MinBeforeReveal = 2, true
	})
	w.rows("gov", 200)
	kind, why, err := w.chosen(grant, nil)
	must(t, err)
	if kind != thriftyKind || !strings.Contains(why, quickKind+" is out, bank refused: ") || !strings.Contains(why, "(rule min_before_reveal)") {
		t.Errorf("%s by %q", kind, why)
	}
}

func TestAutoLeavesOutWhatHasNoEstimate(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(inGrant(thriftyKind, quickKind))
	for name, quick := range map[string]func() (job.Cost, error){
		"too many rows": func() (job.Cost, error) { return job.Cost{}, errors.New("so many rows do not fit") },
		"no number":     func() (job.Cost, error) { return job.Cost{CPUSeconds: math.NaN()}, nil },
		"overflow":      func() (job.Cost, error) { return job.Cost{Bytes: math.MinInt64}, nil },
		"endless":       func() (job.Cost, error) { return job.Cost{CPUSeconds: math.Inf(1)}, nil },
	} {
		w.hooks.estimate = func(kind string, rows []int64) (job.Cost, error) {
			if kind == quickKind {
				return quick()
			}
			return job.Cost{CPUSeconds: 1e6}, nil
		}
		kind, why, err := w.chosen(grant, nil)
		if err != nil || kind != thriftyKind || !strings.Contains(why, quickKind+" is out, bank refused: ") || !strings.Contains(why, "(rule estimate)") {
			t.Errorf("%s: %s by %q, %v", name, kind, why, err)
		}
	}
}

// TestAutoRefuses: where nothing is left, or the job does not say what it wants.
func TestAutoRefuses(t *testing.T) {
	w := newWorld(t)
	family := w.granted(inGrant(thriftyKind, quickKind))
	mixed := w.approved(wanted(inGrant(thriftyKind, oddKind, testKind)))
	swapped := w.approved(wanted(func(q *catalogv1.Request) {
		inGrant(thriftyKind, quickKind)(q)
		q.Computations[1].Roles = []*catalogv1.RoleBinding{{Party: "gov", Role: "left"}, {Party: "bank", Role: "right"}}
	}))
	gov, bank := w.nodes["gov"], w.nodes["bank"]
	for _, c := range []struct {
		name     string
		grant    string
		change   func(*nodev1.SubmitJobRequest)
		bank     Policy
		gov      Policy
		rule, by string
		text     []string
	}{
		{
			name: "a reason each", grant: family, bank: Policy{Kinds: []string{thriftyKind}}, gov: Policy{Kinds: []string{quickKind}}, rule: "protocol", by: "bank",
			text: []string{thriftyKind + " is out, gov refused (rule local_policy)", quickKind + " is out, bank refused: policy.kinds"},
		},
		{name: "one reason for all", grant: family, gov: Policy{Purposes: []string{"another"}}, rule: "local_policy", by: "gov"},
		{name: "outside the grant", grant: family, change: func(r *nodev1.SubmitJobRequest) { r.Purpose = "marketing" }, rule: "purpose", by: "bank"},
		{name: "other results", grant: mixed, rule: "protocol", by: "bank", text: []string{"different results"}},
		{name: "of no family", grant: mixed, change: func(r *nodev1.SubmitJobRequest) { r.Kind = testKind }, rule: "protocol", by: "bank", text: []string{testKind}},
		{name: "unknown kind", grant: mixed, change: func(r *nodev1.SubmitJobRequest) { r.Kind = "test.none.v1" }, rule: "protocol", by: "bank"},
		{name: "unknown word", grant: family, change: func(r *nodev1.SubmitJobRequest) { r.Protocol = "fastest" }, rule: "protocol", by: "bank", text: []string{`"fastest"`, "auto"}},
		{name: "roles exchanged", grant: swapped, rule: "protocol", by: "bank", text: []string{"other parts"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bank.cfg.Policy, gov.cfg.Policy = c.bank, c.gov
			req := auto(c.grant)
			if c.change != nil {
				c.change(req)
			}
			_, err := w.submit(req)
			r, by := rule(err)
			if r != c.rule || by != c.by {
				t.Fatalf("rule %q by %q: %v", r, by, err)
			}
			for _, part := range c.text {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v: no word of %q", err, part)
				}
			}
			for _, p := range []string{"bank", "gov"} {
				if u := w.used(p, c.grant); u != 0 {
					t.Errorf("%s: %d uses spent", p, u)
				}
			}
		})
	}
	// With a kind named, those of other families do not stand in the way.
	bank.cfg.Policy, gov.cfg.Policy = Policy{}, Policy{}
	if kind, why, err := w.chosen(mixed, func(r *nodev1.SubmitJobRequest) { r.Kind = oddKind }); err != nil || kind != oddKind {
		t.Errorf("%s by %q, %v", kind, why, err)
	}
}

// TestWeighIsGuarded: whoever asks out of turn learns a rule and no number, and
// whatever is asked, nothing is reserved, signed or remembered.
func TestWeighIsGuarded(t *testing.T) {
	w := newWorldOf(t, "bank", "gov", "tax")
	grant := w.granted(inGrant(thriftyKind, quickKind))
	bank, gov, tax := w.nodes["bank"], w.nodes["gov"], w.nodes["tax"]
	weigh := func(from *Node, payloads ...[]byte) (*peerv1.WeighReply, error) {
		return from.peers.Weigh(w.ctx, "gov", &peerv1.WeighRequest{Contracts: payloads})
	}
	honest := w.drafts(grant, nil)
	keys := func() (all []string) {
		for it, err := range gov.store.Scan("") {
			must(t, err)
			all = append(all, it.Key)
		}
		return all
	}
	before := keys()

	r, err := weigh(bank, honest...)
	must(t, err)
	if ws := r.GetWeights(); len(ws) != 2 || ws[0].GetRefusal() != nil || ws[0].GetRows() != 4 || ws[1].GetRows() != 4 {
		t.Fatalf("an honest question: %v", r)
	}
	for _, c := range []struct {
		name     string
		from     *Node
		change   func(*peerv1.Contract)
		payload  []byte
		rule     string
		security bool
	}{
		{"a stranger with another's draft", tax, nil, nil, "contract_parties", true},
		{"a stranger in its own name", tax, func(c *peerv1.Contract) { c.Initiator = "tax" }, nil, "contract_parties", true},
		{"a stranger who names itself a party", tax, func(c *peerv1.Contract) { c.Initiator, c.Parties[0].Party = "tax", "tax" }, nil, "parties", false},
		{"without the party that is asked", bank, func(c *peerv1.Contract) { c.Parties = c.Parties[:1] }, nil, "contract_parties", true},
		{"no such grant", bank, func(c *peerv1.Contract) { c.GrantId = "G-none" }, nil, "not_found", false},
		{"another document under the ID", bank, func(c *peerv1.Contract) { c.GrantDigest[0] ^= 1 }, nil, "grant_digest", true},
		{"a column outside", bank, func(c *peerv1.Contract) { c.Parties[1].Inputs[0].Items = []string{"id", "hidden"} }, nil, "items", false},
		{"no column", bank, func(c *peerv1.Contract) { c.Parties[1].Inputs[0].Items = nil }, nil, "local_policy", false},
		{"another kind", bank, func(c *peerv1.Contract) { c.Kind = oddKind }, nil, "kind", false},
		{"a panic in the job kind", bank, func(c *peerv1.Contract) { c.Params = []byte(`{"panic":true}`) }, nil, "", false},
		{"a further attempt", bank, func(c *peerv1.Contract) { c.Run, c.Attempt = "J-first", 2 }, nil, "run_terms", false},
		{"garbage", bank, nil, []byte{0xff, 0xff}, "contract_malformed", true},
		{"nothing", bank, nil, []byte{}, "contract_malformed", true},
		{"an unknown field", bank, nil, append(slices.Clone(honest[0]), 0xfa, 0x3f, 0x01, 'x'), "contract_malformed", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			payload, recorded := c.payload, len(w.events("gov"))
			if payload == nil {
				payload = w.drafts(grant, c.change)[0]
			}
			r, err := weigh(c.from, payload)
			if c.rule == "" {
				if err == nil {
					t.Fatalf("answered %v", r)
				}
				return
			}
			must(t, err)
			ws := r.GetWeights()
			if len(ws) != 1 || ws[0].GetRefusal().GetRule() != c.rule || ws[0].GetRows() != 0 {
				t.Fatalf("answered %v, want rule %s", r, c.rule)
			}
			evs := w.events("gov")[recorded:]
			if len(evs) != 1 || evs[0].GetPeer() != c.from.cfg.Party || (evs[0].GetCategory() == "security") != c.security {
				t.Errorf("recorded %v", evs)
			}
		})
	}
	for name, payloads := range map[string][][]byte{"nothing to weigh": {}, "too much to weigh": slices.Repeat(honest[:1], maxDrafts+1)} {
		if r, err := weigh(bank, payloads...); peer.Reason(err) != "weigh" {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	if r, err := weigh(bank, slices.Repeat(honest[:1], maxDrafts)...); err != nil || len(r.GetWeights()) != maxDrafts {
		t.Errorf("as many as may be: %v, %v", r, err)
	}
	if after := keys(); !slices.Equal(before, after) {
		t.Errorf("the store held %q, and holds %q", before, after)
	}
	if jobs, err := gov.records(); err != nil || len(jobs) != 0 {
		t.Errorf("jobs %v, %v", jobs, err)
	}
	for _, n := range []*Node{bank, gov} {
		if u := w.used(n.cfg.Party, grant); u != 0 {
			t.Errorf("%s: %d uses spent", n.cfg.Party, u)
		}
	}

	// Once the runs of a grant are used, its parties learn nothing more under it.
	for range 3 {
		id, err := w.submit(auto(grant))
		must(t, err)
		w.ended("bank", id)
		w.ended("gov", id)
	}
	r, err = weigh(bank, honest[0])
	must(t, err)
	if w := r.GetWeights()[0]; w.GetRefusal().GetRule() != "max_runs" || w.GetRows() != 0 {
		t.Errorf("after the last run: %v", r)
	}
	_, err = w.submit(auto(grant))
	if r, by := rule(err); r != "max_runs" || by != "bank" {
		t.Errorf("rule %q by %q: %v", r, by, err)
	}
}

// impostor answers in the place of a node.
type impostor struct {
	peer.Handler
	weigh func(*peerv1.WeighRequest) *peerv1.WeighReply
}

func (i *impostor) Weigh(_ context.Context, _ string, req *peerv1.WeighRequest) (*peerv1.WeighReply, error) {
	return i.weigh(req), nil
}

// TestWeighedWrongly: what another party answers is checked before it is used.
func TestWeighedWrongly(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(inGrant(thriftyKind, quickKind))
	gov := w.nodes["gov"]
	w.stops["gov"]()
	lis, err := net.Listen("tcp", gov.cfg.Listen)
	must(t, err)
	fake := &impostor{Handler: (*handler)(gov)}
	peers, err := peer.New(peer.Config{Listener: lis, Key: gov.key, Party: "gov", Directory: (*directory)(w.nodes["bank"]), Handler: fake})
	must(t, err)
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = peers.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	some := func(n int, rows int64) *peerv1.WeighReply {
		r := &peerv1.WeighReply{}
		for range n {
			r.Weights = append(r.Weights, &peerv1.Weight{Rows: rows})
		}
		return r
	}
	for name, reply := range map[string]*peerv1.WeighReply{
		"none": {}, "too few": some(1, 4), "too many": some(3, 4), "below zero": some(2, -1), "beyond all tables": some(2, math.MaxInt64),
	} {
		fake.weigh = func(*peerv1.WeighRequest) *peerv1.WeighReply { return reply }
		_, err := w.submit(auto(grant))
		if r, by := rule(err); r != "peer_answer" || by != "bank" || !strings.Contains(err.Error(), "gov") {
			t.Errorf("%s: rule %q by %q: %v", name, r, by, err)
		}
	}
	fake.weigh = func(*peerv1.WeighRequest) *peerv1.WeighReply {
		r := some(2, 1<<40)
		r.Weights[0].Refusal = &peerv1.Refusal{Rule: strings.Repeat("r", 999), Text: "\x1b[2J" + strings.Repeat("t", 9999)}
		return r
	}
	kind, why, err := w.chosen(grant, nil)
	if err != nil || kind != quickKind || strings.ContainsRune(why, 0x1b) || len(why) > 1000 {
		t.Errorf("%s by %q, %v", kind, why, err)
	}
}

// TestAutoDoesNotWaitForLong: a submission whose party has many rows to count is
// refused with what to do, by the party that would wait; the count goes on and
// the next submission has it.
func TestAutoDoesNotWaitForLong(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(inGrant(thriftyKind, quickKind))
	g, err := w.nodes["bank"].resolver.Grant(w.ctx, grant)
	must(t, err)
	for _, party := range []string{"bank", "gov"} {
		slow := w.nodes[party]
		info, err := os.Stat(filepath.Join(w.homes[party].Dir, "data.csv"))
		must(t, err)
		release := make(chan struct{})
		slow.counted.datasets = nil
		c, err := slow.counting("data", info, func(context.Context) (int64, error) { <-release; return 3, nil })
		must(t, err)
		ctx, cancel := context.WithTimeout(w.ctx, 200*time.Millisecond)
		_, _, err = w.nodes["bank"].choose(ctx, g, auto(grant))
		cancel()
		if r, _ := rule(err); r != "counting" {
			t.Errorf("%s counts: rule %q: %v", party, r, err)
		} else if !strings.Contains(err.Error(), party+" is still counting its rows") || !strings.Contains(err.Error(), "submit the job again") {
			t.Errorf("%s counts: %v", party, err)
		}
		close(release)
		<-c.ended
		if kind, _, err := w.chosen(grant, nil); err != nil || kind != thriftyKind {
			t.Errorf("after %s has counted: %s, %v", party, kind, err)
		}
	}
}

// TestRowsAreCountedOnce: for each state of the file; a caller that leaves does
// not end the count, and nobody waits for longer than it wants.
func TestRowsAreCountedOnce(t *testing.T) {
	w := newWorld(t)
	w.register()
	gov := w.nodes["gov"]
	path := filepath.Join(w.homes["gov"].Dir, "data.csv")
	count := func() int64 {
		t.Helper()
		rows, err := gov.rowsOf(w.ctx, govCode, []string{"x", "id"})
		must(t, err)
		return rows
	}
	if n := count(); n != 3 {
		t.Fatalf("%d rows", n)
	}
	// Other content of the same size and date is not read again: a date says so.
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte("id,x,hidden\n1,1000,7\n2,200,88888\n"), 0o600))
	must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	if now, err := os.Stat(path); err != nil || now.Size() != info.Size() {
		t.Fatalf("the test's two files differ in size: %v", err)
	}
	if n := count(); n != 3 {
		t.Errorf("%d rows: the file was read again", n)
	}
	later := info.ModTime().Add(time.Second)
	must(t, os.Chtimes(path, later, later))
	if n := count(); n != 2 {
		t.Errorf("%d rows of the changed file", n)
	}

	// A pass that takes long.
	now, err := os.Stat(path)
	must(t, err)
	gov.counted.datasets = nil
	release, passes := make(chan struct{}), 0
	c, err := gov.counting("data", now, func(context.Context) (int64, error) { passes++; <-release; return 77, nil })
	must(t, err)
	hurried, cancel := context.WithCancel(w.ctx)
	cancel()
	if _, err := gov.rowsOf(hurried, govCode, []string{"x"}); err == nil {
		t.Error("a caller without time got a number")
	} else if r, _ := rule(err); r != "counting" {
		t.Errorf("rule %q: %v", r, err)
	}
	if same, err := gov.counting("data", now, nil); err != nil || same != c {
		t.Errorf("a second pass beside the first: %v", err)
	}
	close(release)
	if n := count(); n != 77 || passes != 1 {
		t.Errorf("%d rows after %d passes", n, passes)
	}

	// A pass that fails is not remembered.
	gov.counted.datasets = nil
	must(t, os.WriteFile(path, []byte("id,x,hidden\n1,SECRET,7\n"), 0o600))
	_, err = gov.rowsOf(w.ctx, govCode, []string{"x"})
	var r *Refusal
	if !errors.As(err, &r) || r.RuleCode != "dataset" || !r.Local || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("a row that is none: %v", err)
	}
	w.rows("gov", 5)
	if n := count(); n != 5 {
		t.Errorf("%d rows of the mended file", n)
	}
	must(t, os.Remove(path))
	if _, err := gov.rowsOf(w.ctx, govCode, []string{"x"}); err == nil {
		t.Error("a file that is gone has rows")
	}

	// A node that stops waits for the pass, and begins none.
	w.rows("gov", 5)
	w.stops["gov"]()
	if _, err := gov.counting("other", now, nil); err == nil {
		t.Error("a node that has stopped counts")
	}
}

// TestAutoWithoutPeers: a node that has no transport yet says so.
func TestAutoWithoutPeers(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(inGrant(thriftyKind, quickKind))
	g, err := w.nodes["bank"].resolver.Grant(w.ctx, grant)
	must(t, err)
	w.stops["gov"]()
	_, err = w.submit(auto(grant))
	if r, by := rule(err); r != "peer_unreachable" || by != "bank" {
		t.Errorf("with gov away: rule %q by %q: %v", r, by, err)
	}
	w.stops["bank"]()
	n, err := Open(w.ctx, w.homes["bank"], Options{Registry: w.nodes["bank"].registry, Version: "test"})
	must(t, err)
	defer n.Close()
	_, _, err = n.choose(w.ctx, g, auto(grant))
	if r, _ := rule(err); r != "starting" {
		t.Errorf("before it runs: %v", err)
	}
}
