package node

import (
	"context"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/node/peer"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// ProtocolAuto leaves the choice among the kinds of a family to the node.
const ProtocolAuto = "auto"

// maxDrafts bounds the kinds that one question weighs.
const maxDrafts = 8

// option is one kind that a job could run as.
type option struct {
	contract *contract
	def      job.Definition
	spec     job.Spec
	rows     []int64  // by party of the contract
	refused  *Refusal // nil where every party would take part
	seconds  float64
}

// place is where a party stands in the contract.
func (o *option) place(party string) int {
	return slices.Index(o.contract.parties(), session.PartyID(party))
}

// choose picks, of the kinds of one family that the grant allows and that
// every party would take part in, the one that is expected to end first. It
// returns the submission with that kind, and says why.
func (n *Node) choose(ctx context.Context, g *catalog.Grant, req *nodev1.SubmitJobRequest) (*nodev1.SubmitJobRequest, string, error) {
	options, err := n.options(g, req)
	if err != nil {
		return nil, "", err
	}
	for _, o := range options {
		rows, err := n.weigh(ctx, o.contract)
		if err != nil {
			o.refused = n.asRefusal(err)
			continue
		}
		o.rows[o.place(n.cfg.Party)] = rows
	}
	rtt, err := n.askWeights(ctx, options)
	if err != nil {
		return nil, "", err
	}
	link := fmt.Sprintf("%d Mbit/s and %.1f ms", n.cfg.Limits.LinkMbit, rtt.Seconds()*1000)
	for _, o := range options {
		if o.refused != nil {
			continue
		}
		if o.def.Estimate == nil {
			o.refused = n.refuse("estimate", "%s does not say what it costs", o.def.Name)
			continue
		}
		cost, err := o.def.Estimate(o.spec, o.rows)
		if err != nil {
			o.refused = n.refuse("estimate", "%v", err)
			continue
		}
		o.seconds = cost.CPUSeconds/float64(runtime.GOMAXPROCS(0)) + float64(cost.Bytes)*8/(float64(n.cfg.Limits.LinkMbit)*1e6) + float64(cost.Rounds)*rtt.Seconds()
	}
	slices.SortStableFunc(options, func(a, b *option) int {
		switch {
		case (a.refused == nil) != (b.refused == nil):
			if a.refused == nil {
				return -1
			}
			return 1
		case a.seconds < b.seconds:
			return -1
		case a.seconds > b.seconds:
			return 1
		}
		return 0
	})
	if best := options[0]; best.refused != nil {
		return nil, "", n.refuse("protocol", "no kind of the grant can run: %s", because(options))
	}
	chosen := proto.CloneOf(req)
	chosen.Kind, chosen.Protocol = options[0].def.Name, ""
	return chosen, fmt.Sprintf("%s over %s", because(options), link), nil
}

// because says of each option what it would take, or who refused it.
func because(options []*option) string {
	var parts []string
	for _, o := range options {
		if o.refused != nil {
			parts = append(parts, fmt.Sprintf("%s: %s", o.def.Name, o.refused.Error()))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s: about %s for %s rows", o.def.Name, about(o.seconds), numbers(o.rows)))
	}
	return strings.Join(parts, "; ")
}

func about(seconds float64) string {
	if seconds < 0.1 {
		return fmt.Sprintf("%.0f ms", seconds*1000)
	}
	return fmt.Sprintf("%.1f s", seconds)
}

func numbers(rows []int64) string {
	words := make([]string, len(rows))
	for i, r := range rows {
		words[i] = fmt.Sprint(r)
	}
	return strings.Join(words, " and ")
}

// options drafts a contract for each kind that may be chosen.
func (n *Node) options(g *catalog.Grant, req *nodev1.SubmitJobRequest) ([]*option, error) {
	family := ""
	if req.GetKind() != "" {
		def, ok := n.registry.Lookup(req.GetKind())
		if !ok || def.Family == "" {
			return nil, n.refuse("protocol", "nothing can be chosen in the place of %s: leave protocol out", clip(req.GetKind(), 64))
		}
		family = def.Family
	}
	var options []*option
	for _, comp := range g.Computations() {
		def, ok := n.registry.Lookup(comp.Kind)
		if !ok || def.Family == "" || (family != "" && def.Family != family) {
			continue
		}
		if family == "" {
			family = def.Family
		}
		if def.Family != family {
			return nil, n.refuse("protocol", "the grant allows kinds of the families %s and %s: name one kind of the family that is wanted", family, def.Family)
		}
		one := proto.CloneOf(req)
		one.Kind = comp.Kind
		c, err := n.draft(g, one)
		if err != nil {
			return nil, err
		}
		if len(options) > 0 && !slices.Equal(c.parties(), options[0].contract.parties()) {
			return nil, n.refuse("protocol", "grant %s names other parties, or another order, for %s than for %s: name the kind", g.ID(), def.Name, options[0].def.Name)
		}
		options = append(options, &option{contract: c, def: def, spec: c.spec(g, n.cfg.Policy), rows: make([]int64, len(c.GetParties()))})
	}
	switch {
	case len(options) == 0:
		return nil, n.refuse("protocol", "grant %s allows no kind that could be chosen: name the kind", g.ID())
	case len(options) > maxDrafts:
		return nil, n.refuse("protocol", "grant %s allows %d kinds to choose from, at most %d are weighed: name the kind", g.ID(), len(options), maxDrafts)
	}
	return options, nil
}

// askWeights asks the other parties which of the options they would take part
// in, and with how many rows. It returns how long the slowest link takes to and
// fro.
func (n *Node) askWeights(ctx context.Context, options []*option) (time.Duration, error) {
	var mu sync.Mutex
	var slowest time.Duration
	group, gctx := errgroup.WithContext(ctx)
	for _, other := range options[0].contract.others(n.cfg.Party) {
		group.Go(func() error {
			req := &peerv1.WeighRequest{}
			for _, o := range options {
				req.Contracts = append(req.Contracts, o.contract.payload)
			}
			reply, err := n.peers.Weigh(gctx, other, req)
			if err != nil {
				return n.peerError(other, err)
			}
			if len(reply.GetWeights()) != len(options) {
				return n.refuse("peer_answer", "%s weighed %d kinds where %d were asked for", other, len(reply.GetWeights()), len(options))
			}
			begin := time.Now()
			if _, err := n.peers.Hello(gctx, other, &peerv1.HelloRequest{Version: n.version}); err != nil {
				return n.peerError(other, err)
			}
			rtt := time.Since(begin)
			mu.Lock()
			defer mu.Unlock()
			slowest = max(slowest, rtt)
			for i, w := range reply.GetWeights() {
				o := options[i]
				if r := w.GetRefusal(); r != nil {
					o.refused = fromPeer(other, r)
				}
				o.rows[o.place(other)] = max(0, w.GetRows())
			}
			return nil
		})
	}
	return slowest, group.Wait()
}

// weigh admits a contract without reserving or signing anything, and returns
// how many rows this party would put in.
func (n *Node) weigh(ctx context.Context, c *contract) (int64, error) {
	a, err := n.admit(ctx, c)
	if err != nil {
		return 0, err
	}
	var most int64
	for _, in := range a.contract.participant(n.cfg.Party).GetInputs() {
		rows, err := n.rowsOf(ctx, in.GetEntry(), in.GetItems())
		if err != nil {
			return 0, n.refuseLocal("dataset", "%v", err)
		}
		most = max(most, rows)
	}
	return most, nil
}

// counted remembers the rows of files that have not changed since.
type counted struct {
	mu    sync.Mutex
	files map[string]countedFile // by path
}

type countedFile struct {
	size     int64
	modified time.Time
	rows     int64
}

// rowsOf counts the rows behind an entry, once for each state of its file.
func (n *Node) rowsOf(ctx context.Context, entry string, items []string) (int64, error) {
	d, err := n.datasetOf(entry)
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(d.Path)
	if err != nil {
		return 0, fmt.Errorf("dataset %s cannot be read", d.Name)
	}
	n.counted.mu.Lock()
	defer n.counted.mu.Unlock() // two at once would read the same file twice
	if f, ok := n.counted.files[d.Path]; ok && f.size == info.Size() && f.modified.Equal(info.ModTime()) {
		return f.rows, nil
	}
	src, err := n.openInput(ctx, entry, items)
	if err != nil {
		return 0, err
	}
	if src, err = table.Select(src, items[:1]); err != nil {
		return 0, err
	}
	var rows int64
	for b, err := range src.Batches(ctx) {
		if err != nil {
			return 0, err
		}
		rows += b.NumRows()
	}
	if n.counted.files == nil {
		n.counted.files = make(map[string]countedFile)
	}
	n.counted.files[d.Path] = countedFile{info.Size(), info.ModTime(), rows}
	return rows, nil
}

// Weigh says which of a party's drafts this node would sign, and how many rows
// it would put in, rounded up to a power of two. A party learns of its rules
// what a proposal would tell it.
func (h *handler) Weigh(ctx context.Context, from string, req *peerv1.WeighRequest) (*peerv1.WeighReply, error) {
	n := (*Node)(h)
	if len(req.GetContracts()) == 0 || len(req.GetContracts()) > maxDrafts {
		return nil, peer.Refuse("weigh")
	}
	reply := &peerv1.WeighReply{}
	for _, payload := range req.GetContracts() {
		w := &peerv1.Weight{}
		rows, err := n.weighFor(ctx, from, payload)
		if err != nil {
			w.Refusal = n.asRefusal(err).forPeer()
		} else if rows > 0 {
			w.Rows = 1 << bits.Len64(uint64(rows-1))
		}
		reply.Weights = append(reply.Weights, w)
	}
	return reply, nil
}

func (n *Node) weighFor(ctx context.Context, from string, payload []byte) (int64, error) {
	c, err := decodeContract(payload)
	if err != nil {
		return 0, n.refuseSecurity("contract_malformed", "%v", err)
	}
	if c.GetInitiator() != from || c.participant(from) == nil || c.participant(n.cfg.Party) == nil {
		return 0, n.refuse("contract_parties", "a draft is weighed for its initiator, by a party of it")
	}
	return n.weigh(ctx, c)
}
