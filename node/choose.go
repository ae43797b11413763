package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/node/peer"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// ProtocolAuto leaves the choice among the kinds of a family to the node.
const ProtocolAuto = "auto"

const (
	// maxDrafts bounds the kinds that one question weighs.
	maxDrafts = 8
	// maxWeighed bounds what a party may say that it has, in rows.
	maxWeighed = 1 << 40
	// weighWait is how long the parties may take to count their rows while whoever
	// submits hears nothing: well below the time that the operator's API gives a
	// call. A count goes on beyond it, for the next submission to find.
	weighWait = 30 * time.Second
)

// option is one kind that a job could run as.
type option struct {
	contract *contract
	def      job.Definition
	spec     job.Spec
	rows     []int64  // by party of the contract
	refused  *Refusal // nil where every party would take part
	seconds  float64
}

// choose picks, of the kinds of one family that the grant allows and that
// every party would take part in, the one that is expected to end first. It
// returns the submission with that kind, and says why.
func (n *Node) choose(ctx context.Context, g *catalog.Grant, req *nodev1.SubmitJobRequest) (*nodev1.SubmitJobRequest, string, error) {
	options, err := n.options(g, req)
	if err != nil {
		return nil, "", err
	}
	rtt, err := n.weighAll(ctx, options)
	if err != nil {
		return nil, "", err
	}
	for _, o := range options {
		if o.refused == nil {
			o.seconds, o.refused = n.estimate(o, rtt)
		}
	}
	slices.SortStableFunc(options, func(a, b *option) int {
		if (a.refused == nil) != (b.refused == nil) {
			if a.refused == nil {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.seconds, b.seconds)
	})
	best := options[0]
	if best.refused != nil {
		return nil, "", n.noneLeft(options)
	}
	chosen := proto.CloneOf(req)
	chosen.Kind, chosen.Protocol = best.def.Name, ""
	return chosen, fmt.Sprintf("for %s over %d Mbit/s and %.1f ms: %s", n.rowsIn(best), n.cfg.Limits.LinkMbit, rtt.Seconds()*1000, because(options)), nil
}

// estimate is how long an option is expected to take: of its arithmetic on all
// processors of this node, its bytes over the link and its rounds one after the
// other, as if none of them overlapped.
func (n *Node) estimate(o *option, rtt time.Duration) (float64, *Refusal) {
	if o.def.Estimate == nil {
		return 0, n.refuse("estimate", "%s does not say what it costs", o.def.Name)
	}
	cost, err := o.def.Estimate(o.spec, o.rows)
	if err != nil {
		return 0, n.refuse("estimate", "%v", err)
	}
	seconds := cost.CPUSeconds/float64(runtime.GOMAXPROCS(0)) + float64(cost.Bytes)*8/(float64(n.cfg.Limits.LinkMbit)*1e6) + float64(cost.Rounds)*rtt.Seconds()
	if cost.CPUSeconds < 0 || cost.Bytes < 0 || cost.Rounds < 0 || math.IsNaN(seconds) || math.IsInf(seconds, 0) {
		return 0, n.refuse("estimate", "%s does not say what so many rows cost", o.def.Name)
	}
	return seconds, nil
}

// noneLeft is the refusal of a job that no option can run: what all say where
// that is the same, else what each says.
func (n *Node) noneLeft(options []*option) *Refusal {
	first := options[0].refused
	for _, o := range options {
		if *o.refused != *first {
			return n.refuse("protocol", "no kind of the grant can run: %s", because(options))
		}
	}
	return first
}

// because says of each option what it would take, or who refused it.
func because(options []*option) string {
	var parts []string
	for _, o := range options {
		if o.refused != nil {
			parts = append(parts, fmt.Sprintf("%s is out, %s", o.def.Name, o.refused.Error()))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s about %s", o.def.Name, about(o.seconds)))
	}
	return strings.Join(parts, "; ")
}

func about(seconds float64) string {
	if seconds < 1 {
		return fmt.Sprintf("%.0f ms", seconds*1000)
	}
	return fmt.Sprintf("%.1f s", seconds)
}

// rowsIn says what each party puts in, of which this node knows its own exactly.
func (n *Node) rowsIn(o *option) string {
	var words []string
	for i, p := range o.contract.GetParties() {
		if len(p.GetInputs()) == 0 {
			continue
		}
		rows := fmt.Sprint(o.rows[i])
		if p.GetParty() != n.cfg.Party {
			rows = "up to " + rows
		}
		words = append(words, rows)
	}
	return strings.Join(words, " and ") + " rows"
}

// options drafts a contract for each kind that may be chosen.
func (n *Node) options(g *catalog.Grant, req *nodev1.SubmitJobRequest) ([]*option, error) {
	family, named := "", req.GetKind() != ""
	if named {
		def, ok := n.registry.Lookup(req.GetKind())
		if !ok || def.Family == "" {
			return nil, n.refuse("protocol", "nothing can be chosen in the place of %s: leave protocol out", clip(req.GetKind(), 64))
		}
		family = def.Family
	}
	var options []*option
	for i, comp := range g.Computations() {
		def, _ := n.registry.Lookup(comp.Kind)
		if !named && i == 0 {
			family = def.Family
		}
		if def.Family == "" || def.Family != family {
			if named {
				continue
			}
			return nil, n.refuse("protocol", "grant %s allows computations that give different results: name a kind, and a kind that gives the same may be chosen", g.ID())
		}
		one := proto.CloneOf(req)
		one.Kind = comp.Kind
		c, err := n.draft(g, one)
		if err != nil {
			return nil, err
		}
		if len(options) > 0 && !sameParts(c, options[0].contract) {
			return nil, n.refuse("protocol", "grant %s gives the parties other parts in %s than in %s: name the kind, without protocol", g.ID(), def.Name, options[0].def.Name)
		}
		options = append(options, &option{contract: c, def: def, spec: c.spec(g, n.cfg.Policy), rows: make([]int64, len(c.GetParties()))})
	}
	switch {
	case len(options) == 0:
		return nil, n.refuse("protocol", "grant %s allows no kind that could be chosen: name the kind, without protocol", g.ID())
	case len(options) > maxDrafts:
		return nil, n.refuse("protocol", "grant %s allows %d kinds to choose from, at most %d are weighed: name the kind, without protocol", g.ID(), len(options), maxDrafts)
	}
	return options, nil
}

// sameParts says whether two contracts have the same parties in the same roles
// and order: who receives what hangs on both.
func sameParts(a, b *contract) bool {
	return slices.EqualFunc(a.GetParties(), b.GetParties(), func(p, q *peerv1.Participant) bool {
		return p.GetParty() == q.GetParty() && p.GetRole() == q.GetRole()
	})
}

// weighAll fills in every party's rows and the refusals. This node decides
// first: the others are not asked about what it would not sign itself. It
// returns how long the slowest link takes to and fro.
func (n *Node) weighAll(ctx context.Context, options []*option) (time.Duration, error) {
	var open []*option
	for _, o := range options {
		if err := n.wouldSign(ctx, o.contract); err != nil {
			o.refused = n.asRefusal(err)
			continue
		}
		open = append(open, o)
	}
	peers := n.transport()
	switch {
	case len(open) == 0:
		return 0, ctx.Err()
	case peers == nil:
		return 0, n.refuseLocal("starting", "the node is starting: try again in a moment")
	}
	ctx, cancel := context.WithTimeout(ctx, weighWait)
	defer cancel()
	parties := open[0].contract.parties()
	answers := make([][]weight, len(parties))
	links := make([]time.Duration, len(parties))
	req := &peerv1.WeighRequest{}
	for _, o := range open {
		req.Contracts = append(req.Contracts, o.contract.payload)
	}
	group, gctx := errgroup.WithContext(ctx)
	for i, p := range parties {
		group.Go(func() (err error) {
			if string(p) == n.cfg.Party {
				answers[i], err = n.weighOwn(gctx, open)
			} else {
				answers[i], links[i], err = n.askWeights(gctx, peers, string(p), req)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	for i := range parties {
		for k, o := range open {
			o.rows[i] = answers[i][k].rows
			if o.refused == nil {
				o.refused = answers[i][k].refused
			}
		}
	}
	return slices.Max(links), nil
}

// weight is what one party says of one option.
type weight struct {
	rows    int64
	refused *Refusal
}

func (n *Node) weighOwn(ctx context.Context, options []*option) ([]weight, error) {
	ws := make([]weight, len(options))
	for k, o := range options {
		rows, err := n.ownRows(ctx, o.contract)
		if err != nil {
			ws[k].refused = n.asRefusal(err)
			continue
		}
		ws[k].rows = rows
	}
	return ws, nil
}

// askWeights asks another party which of the options it would take part in, and
// with how many rows. It returns how long the link takes to and fro.
func (n *Node) askWeights(ctx context.Context, peers *peer.Peers, other string, req *peerv1.WeighRequest) ([]weight, time.Duration, error) {
	reply, err := peers.Weigh(ctx, other, req)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, 0, n.stillCounting(other)
	}
	if err != nil {
		return nil, 0, n.peerError(other, err)
	}
	if len(reply.GetWeights()) != len(req.GetContracts()) {
		return nil, 0, n.refuse("peer_answer", "%s weighed %d kinds where %d were asked for", other, len(reply.GetWeights()), len(req.GetContracts()))
	}
	ws := make([]weight, len(reply.GetWeights()))
	for k, w := range reply.GetWeights() {
		if r := w.GetRefusal(); r != nil {
			ws[k].refused = fromPeer(other, r)
			continue
		}
		if ws[k].rows = w.GetRows(); ws[k].rows < 0 || ws[k].rows > maxWeighed {
			return nil, 0, n.refuse("peer_answer", "%s gives a number of rows that no table has", other)
		}
	}
	link := time.Duration(math.MaxInt64)
	for range 3 { // the connection stands, and the answer takes no work: the quickest is the link
		begin := time.Now()
		if _, err := peers.Hello(ctx, other, &peerv1.HelloRequest{Version: n.version}); err != nil {
			return nil, 0, n.peerError(other, err)
		}
		link = min(link, time.Since(begin))
	}
	return ws, link, nil
}

// stillCounting is the refusal of a choice for which a party's rows are missing.
func (n *Node) stillCounting(party string) *Refusal {
	return n.refuse("counting", "%s is still counting its rows, and goes on with it: submit the job again in a minute, "+
		"or name a kind of the grant and leave protocol out", party)
}

// wouldSign is this node's own decision on a draft. It reserves and signs
// nothing.
func (n *Node) wouldSign(ctx context.Context, c *contract) error {
	a, err := n.admit(ctx, c)
	if err != nil {
		return err
	}
	used, err := n.store.Used(runCounter(a.grant))
	if err != nil {
		return err
	}
	if used >= a.grant.Limits().MaxRuns {
		return n.allRunsUsed(a.grant)
	}
	return nil
}

// ownRows is how many rows this party would put in: of several inputs, those of
// the longest.
func (n *Node) ownRows(ctx context.Context, c *contract) (int64, error) {
	var most int64
	for _, in := range c.participant(n.cfg.Party).GetInputs() {
		rows, err := n.rowsOf(ctx, in.GetEntry(), in.GetItems())
		if err != nil {
			return 0, err
		}
		most = max(most, rows)
	}
	return most, nil
}

// counted remembers the rows of datasets whose files have not changed since.
type counted struct {
	mu       sync.Mutex
	datasets map[string]*count // by name
}

// count is one pass over a dataset. Once it has ended, rows and err stand.
type count struct {
	size     int64
	modified time.Time
	ended    chan struct{}
	rows     int64
	err      error
}

// of says whether the count is of the file as it is now.
func (c *count) of(info os.FileInfo) bool {
	return c.size == info.Size() && c.modified.Equal(info.ModTime())
}

// rowsOf counts the rows behind an entry, once for each state of its file. The
// count goes on when a caller has left: the next one finds it further on.
func (n *Node) rowsOf(ctx context.Context, entry string, items []string) (int64, error) {
	d, err := n.datasetOf(entry)
	if err != nil {
		return 0, n.refuseLocal("dataset", "%v", err)
	}
	for {
		info, err := os.Stat(d.Path)
		if err != nil {
			return 0, n.refuseLocal("dataset", "dataset %s cannot be read", d.Name)
		}
		c, err := n.counting(d.Name, info, func(ctx context.Context) (int64, error) { return n.countRows(ctx, entry, items) })
		if err != nil {
			return 0, err
		}
		select {
		case <-c.ended:
		case <-ctx.Done():
			return 0, n.stillCounting(n.cfg.Party)
		}
		switch {
		case c.err != nil:
			return 0, n.refuseLocal("dataset", "%v", c.err)
		case c.of(info):
			return c.rows, nil
		}
	}
}

// counting returns the count of a dataset that is under way, the one that stands
// for the file as it is, or a new one.
func (n *Node) counting(name string, info os.FileInfo, pass func(context.Context) (int64, error)) (*count, error) {
	n.counted.mu.Lock()
	defer n.counted.mu.Unlock()
	if c := n.counted.datasets[name]; c != nil {
		select {
		case <-c.ended:
			if c.err == nil && c.of(info) {
				return c, nil
			}
		default:
			return c, nil
		}
	}
	c := &count{size: info.Size(), modified: info.ModTime(), ended: make(chan struct{})}
	n.mu.Lock()
	if n.closing {
		n.mu.Unlock()
		return nil, n.refuseLocal("shutdown", "the node is stopping")
	}
	n.wg.Add(1)
	n.mu.Unlock()
	go func() {
		defer n.wg.Done()
		defer close(c.ended)
		c.err = n.contain(func() (err error) {
			c.rows, err = pass(n.ctx)
			return err
		})
	}()
	if n.counted.datasets == nil {
		n.counted.datasets = make(map[string]*count)
	}
	n.counted.datasets[name] = c
	return c, nil
}

// countRows reads one column of the dataset behind an entry.
func (n *Node) countRows(ctx context.Context, entry string, items []string) (rows int64, err error) {
	src, err := n.openInput(ctx, entry, items[:min(1, len(items))])
	if err != nil {
		return 0, err
	}
	for b, err := range src.Batches(ctx) {
		if err != nil {
			return 0, err
		}
		rows += b.NumRows()
	}
	return rows, nil
}

// Weigh says which of a party's drafts this node would sign, and how many rows
// it would put in, rounded up to a power of two. A party learns of its rules
// what a proposal would tell it, and its refusals are recorded as those of
// proposals are.
func (h *handler) Weigh(ctx context.Context, from string, req *peerv1.WeighRequest) (*peerv1.WeighReply, error) {
	n := (*Node)(h)
	if len(req.GetContracts()) == 0 || len(req.GetContracts()) > maxDrafts {
		return nil, peer.Refuse("weigh")
	}
	reply := &peerv1.WeighReply{}
	for _, payload := range req.GetContracts() {
		w := &peerv1.Weight{}
		rows, grant, err := n.weighFor(ctx, from, payload)
		if err != nil {
			r := n.asRefusal(err)
			n.note(r, from, "", grant)
			w.Refusal = r.forPeer()
		} else if rows > 0 {
			w.Rows = 1 << bits.Len64(uint64(rows-1))
		}
		reply.Weights = append(reply.Weights, w)
	}
	return reply, nil
}

// weighFor weighs one draft of another party, under the grant that it cites.
func (n *Node) weighFor(ctx context.Context, from string, payload []byte) (rows int64, grant string, err error) {
	c, err := decodeContract(payload)
	if err != nil {
		return 0, "", n.refuseSecurity("contract_malformed", "%v", err)
	}
	grant = c.GetGrantId()
	if c.GetInitiator() != from || c.participant(from) == nil || c.participant(n.cfg.Party) == nil {
		return 0, grant, n.refuseSecurity("contract_parties", "a draft is weighed for its initiator, by a party of it")
	}
	if c.GetRun() != "" {
		return 0, grant, n.refuse("run_terms", "a further attempt keeps the kind of the first")
	}
	if err := n.wouldSign(ctx, c); err != nil {
		return 0, grant, err
	}
	rows, err = n.ownRows(ctx, c)
	return rows, grant, err
}
