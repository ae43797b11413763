package aggregate

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"

	"github.com/yinqiao/yinqiao/internal/disclosure"
	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// ErrLost is wrapped where so many parties are lost, or such, that this attempt
// cannot go on.
var ErrLost = fmt.Errorf("mpc/aggregate: %w", session.ErrGone)

// adder is one way of adding vectors of several parties.
type adder interface {
	// Sum opens the sum of the contributors' vectors to the parties in to.
	Sum(ctx context.Context, step string, shape share.Shape, v share.Vector, to []session.PartyID) (share.Vector, error)
	// Included returns the contributors whose vectors count, from the first Sum on.
	Included() []session.PartyID
}

// terms are what a way of adding has to know.
type terms struct {
	contributors []session.PartyID
	threshold    int
	leastInside  int // fewest contributors in a sum
	shape        share.Shape
	once         job.Once
}

// way is one of the ways of adding, as a job kind.
type way struct {
	name, summary string
	assumptions   []string
	most          int  // contributors
	majority      bool // a threshold below all must be more than half
	elements      int  // of a vector, 0 for as many as a plan may have
	open          func(ctx context.Context, s *session.Session, t terms) (adder, error)
	// setup is what a run costs before anything is added, and cost what adding a
	// vector does, of n contributors.
	setup func(n int) job.Cost
	cost  func(n int, shape share.Shape, receivers int) job.Cost
}

// run is one party's part.
func (w way) run(ctx context.Context, env job.Env) (job.Result, error) {
	r, err := decode(env.Spec, w)
	if err != nil {
		return job.Result{}, err
	}
	s := env.Session
	if err := s.BindPresent(ctx, w.name, session.Field{Name: "form", Value: r.plan.String()}, session.Field{Name: "threshold", Value: fmt.Sprint(r.threshold())}); err != nil {
		return job.Result{}, err
	}
	sums, err := s.Fork(ctx, "sum")
	if err != nil {
		return job.Result{}, err
	}
	p := &party{request: r, env: env, mesh: newMesh(s)}
	if err := p.greet(ctx); err != nil {
		return job.Result{}, err
	}
	if err := p.checkNoise(); err != nil {
		return job.Result{}, err
	}
	if p.contributes() {
		if err := p.count(ctx); err != nil {
			return job.Result{}, err
		}
	}
	engine, err := w.open(ctx, sums, terms{
		contributors: p.inside, threshold: min(r.threshold(), len(p.inside)), leastInside: p.leastInside(),
		shape: largest(p.plan), once: env.Once,
	})
	if err != nil {
		return job.Result{}, errors.Join(err, p.forget(ctx))
	}
	if err := p.agreeOnMask(ctx, engine); err != nil {
		return job.Result{}, errors.Join(err, p.forget(ctx))
	}
	return p.release(ctx, engine)
}

// party is one party's run.
type party struct {
	*request
	env   job.Env
	mesh  *mesh
	rules rules.Set // in force
	// inside is the contributors of this attempt: all, or those that an earlier
	// attempt has fixed.
	inside []session.PartyID
	fixed  bool
	home   *home // what this party has counted; nil where it contributes nothing
	// What the gates found: whose rows are in, and which cells are withheld.
	counted []session.PartyID
	mask    []bool
}

func (p *party) self() session.PartyID { return p.env.Session.Self() }

func (p *party) contributes() bool { return slices.Contains(p.inside, p.self()) }

func (p *party) receives() bool { return slices.Contains(p.env.Spec.Recipients, p.self()) }

// leastInside is the fewest parties whose rows may be added: with fewer than
// the rules ask for, every cell would be withheld anyway.
func (p *party) leastInside() int {
	if p.fixed {
		return len(p.inside)
	}
	return int(max(2, min(p.rules.MinProviders, int64(len(p.inside)))))
}

// orderedPart reports whether ids are some of all, in the same order.
func orderedPart(ids, all []session.PartyID) bool {
	for _, id := range ids {
		i := slices.Index(all, id)
		if i < 0 {
			return false
		}
		all = all[i+1:]
	}
	return true
}

const includedFile = "included"

// greet agrees on the rules in force, and on the contributors where an earlier
// attempt at this run has fixed them.
func (p *party) greet(ctx context.Context) error {
	own := greeting{Rules: p.env.Spec.Limits.Release}
	switch f, err := p.env.Disk().Open(includedFile); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("mpc/aggregate: %w", err)
	default:
		err := errors.Join(json.NewDecoder(f).Decode(&own.Fixed), f.Close())
		if err != nil {
			return fmt.Errorf("mpc/aggregate: parties of an earlier attempt: %w", err)
		}
	}
	var fixed []session.PartyID
	var err error
	if p.rules, fixed, err = p.mesh.greet(ctx, own, p.Rules, p.Entity); err != nil {
		return err
	}
	p.inside = p.contributors
	if fixed != nil {
		// No attempt counts fewer than suffice to open, so that a party that makes
		// up an attempt leaves out no more than the contract can spare.
		if !orderedPart(fixed, p.contributors) || len(fixed) < p.threshold() {
			return fmt.Errorf("%w: a set of contributors that no earlier attempt can have had", ErrPeer)
		}
		p.inside, p.fixed = fixed, true
	}
	return nil
}

// agreeOnMask opens the counts to the gates, and has all agree on the cells
// that are withheld.
func (p *party) agreeOnMask(ctx context.Context, engine adder) error {
	cells := p.plan.Cells()
	shape := countsShape(p.plan)
	var vector share.Vector
	if p.home != nil {
		vector = p.home.counts()
	}
	p.env.Session.Progress("add the units of every cell", 0, 0)
	sum, err := engine.Sum(ctx, "counts", shape, vector, p.gates)
	// Whether it failed or not, gates may know the counts of these parties, and
	// no later attempt may show them those of others.
	if err := errors.Join(err, p.fix(engine.Included())); err != nil {
		return err
	}
	var counts []disclosure.Count
	var narrow []bool // cells that supports of theirs withhold
	if slices.Contains(p.gates, p.self()) {
		counts = make([]disclosure.Count, cells)
		for c := range counts {
			counts[c] = countAt(sum, c)
		}
		if narrow, err = unsupported(ctx, p.plan, p.rules, func(i int) disclosure.Count { return countAt(sum, cells+i) }, func(done, total int64) {
			p.env.Session.Progress("find the cells to withhold", done, total)
		}); err != nil {
			return err
		}
	}
	for range maxRounds {
		more, err := p.agree(ctx, engine, counts, narrow)
		switch {
		case err != nil:
			return err
		case more == nil && p.home != nil:
			return p.home.accept(ctx, p.mask)
		case more == nil:
			return nil
		}
		for c := range counts {
			counts[c].Flags += more[c]
		}
	}
	return fmt.Errorf("mpc/aggregate: after %d rounds a withheld cell would still follow from earlier releases: ask for fewer cells, or for the same ones as before", maxRounds)
}

// maxRounds bounds how often the gates find cells to withhold. One more round
// is needed when a withheld cell follows from what the last one shows and an
// earlier release; each withholds more cells.
const maxRounds = 8

// agree has the gates say which cells are withheld, and all parties hold that
// to what they know. It returns nil where all is well, and otherwise, at a gate,
// at how many parties each cell has to be withheld besides. At a gate counts are
// what was opened of cells, and narrow is what that of their supports withholds.
func (p *party) agree(ctx context.Context, engine adder, counts []disclosure.Count, narrow []bool) (more []int64, err error) {
	cells := p.plan.Cells()
	var own *verdict
	if counts != nil {
		own = &verdict{included: make([]bool, len(p.contributors))}
		for i, id := range p.contributors {
			own.included[i] = slices.Contains(engine.Included(), id)
		}
		if own.mask, err = disclosure.Suppress(p.rules, counts, equations(p.plan)); err != nil {
			return nil, err
		}
		merge(own.mask, narrow)
	}
	v, err := p.mesh.hear(ctx, p.gates, own, len(p.contributors), cells)
	if err != nil {
		return nil, err
	}
	p.mask, p.counted = v.mask, nil
	for i, id := range p.contributors {
		if v.included[i] {
			p.counted = append(p.counted, id)
		}
	}
	if known := engine.Included(); len(known) > 0 && !slices.Equal(known, p.counted) {
		return nil, fmt.Errorf("%w: the gates counted other parties than this one has seen added", ErrPeer)
	}
	mine := make([]bool, cells)
	if p.home != nil {
		if mine, err = p.home.judge(ctx, p.mask); err != nil {
			return nil, err
		}
	}
	if more, err = p.mesh.confirm(ctx, p.gates, p.agreed(), mine); err != nil {
		return nil, err
	}
	// Who has not seen who was added knows it from the gates, and not before all
	// parties have heard the same.
	return more, p.fix(p.counted)
}

// fix keeps the contributors whose rows were counted for later attempts.
func (p *party) fix(included []session.PartyID) error {
	if len(included) == 0 {
		return nil
	}
	b, err := json.Marshal(included)
	if err != nil {
		return fmt.Errorf("mpc/aggregate: %w", err)
	}
	w, err := p.env.Disk().Create(includedFile)
	if err != nil {
		return fmt.Errorf("mpc/aggregate: %w", err)
	}
	defer w.Discard()
	if _, err = w.Write(b); err == nil {
		err = w.Commit()
	}
	return err
}

// digests of what was agreed on, for the receipt.
func (p *party) digests() map[string][]byte {
	inForce, _ := json.Marshal(p.rules)    // numbers alone
	included, _ := json.Marshal(p.counted) // texts alone
	sum := func(b []byte) []byte { h := sha256.Sum256(b); return h[:] }
	return map[string][]byte{fieldRules: sum(inForce), fieldIncluded: sum(included), fieldMask: sum(packBits(p.mask))}
}

func (p *party) agreed() [sha256.Size]byte {
	d := p.digests()
	return sha256.Sum256(slices.Concat([]byte("yinqiao/mpc/aggregate/agreed/v1\x00"), d[fieldRules], d[fieldIncluded], d[fieldMask]))
}

// release opens the cells that are not withheld to the recipients.
func (p *party) release(ctx context.Context, engine adder) (job.Result, error) {
	var own share.Vector
	var spent *spending
	if p.home != nil {
		var err error
		if spent, err = p.home.prepare(ctx); err != nil {
			return job.Result{}, errors.Join(err, p.forget(ctx))
		}
		own = p.home.part.Vector
	}
	p.env.Session.Progress("add the measures", 0, 0)
	sum, err := engine.Sum(ctx, "measures", p.plan.Shape(), own, p.env.Spec.Recipients)
	if err != nil {
		return job.Result{}, err
	}
	withheld := int64(0)
	for _, m := range p.mask {
		if m {
			withheld++
		}
	}
	res := job.Result{
		Counts: map[string]int64{
			fieldCells: int64(p.plan.Cells()), fieldSuppressed: withheld, fieldContributors: int64(len(p.counted)),
		},
		Digests: p.digests(),
	}
	// Rows stays 0: the receipt would tell everybody how many rows of each party
	// the filter lets through, which is that party's part of a count.
	if !p.receives() {
		return res, nil
	}
	t, err := p.plan.Derive(sum, p.mask, stats.DeriveOptions{RoundTo: p.rules.RoundTo, Noisy: p.rules.Epsilon > 0})
	if err != nil {
		return job.Result{}, err
	}
	res.Tables = map[string]table.Source{fieldStatistics: t}
	res.Figures = map[string]job.Figure{fieldStatistics: p.plan.Figure(p.Title)}
	res.Notes = p.notes(spent)
	return res, nil
}

// notes are for the manifest.
func (p *party) notes(spent *spending) map[string]any {
	n := map[string]any{
		"title": p.Title, "rules": p.rules, "included": p.counted,
		"threshold": min(p.threshold(), len(p.inside)), "opened": p.plan.Opened(),
		"rounding": "none", "noise": "none",
	}
	if p.rules.RoundTo > 1 {
		n["rounding"] = fmt.Sprintf("counts and sums to the nearest multiple of %d, by the recipient's node", p.rules.RoundTo)
	}
	if p.rules.Epsilon > 0 {
		q := p.noise()
		deviations := make(map[string]float64)
		for _, c := range p.plan.Sensitivities() {
			deviations[c.Name] = q.Deviation(c.Touch) * math.Sqrt(float64(len(p.counted))) / math.Pow10(c.Scale)
		}
		n["noise"] = map[string]any{
			"mechanism": q.Mechanism(), "epsilon": q.Epsilon, "delta": q.Delta,
			"added_by": "each contributor, in full", "standard_deviation": deviations,
		}
		if spent != nil {
			n["budget_left_epsilon"] = spent.left
		}
	}
	return n
}

// forget takes the release back out of this party's history, where nothing of
// it was opened.
func (p *party) forget(ctx context.Context) error {
	if p.home == nil {
		return nil
	}
	return p.home.abandon(ctx)
}
