package align

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// run is one party's state in one attempt. It is single-use.
type run struct {
	*engine
	plan
	sess   *session.Session
	link   *transcript.Link
	files  scratch.Files
	src    table.Source
	side   int // 0: the left of a join
	sender bool

	saved   *manifest
	resumed bool
	set     *itemSet
	parts   int
	// common keys and the own rows that have them, so far.
	common, commonRows int64
	// theirRows of common keys the peer has, by what it tells.
	theirRows int64
}

// run runs one party's part.
func (e *engine) run(ctx context.Context, env job.Env) (job.Result, error) {
	r, err := e.newRun(env)
	if err != nil {
		return job.Result{}, err
	}
	if err := r.begin(ctx); err != nil {
		return job.Result{}, err
	}
	if err := r.align(ctx); err != nil {
		return job.Result{}, err
	}
	return r.finish(ctx)
}

func (e *engine) newRun(env job.Env) (*run, error) {
	if err := e.validate(env.Spec); err != nil {
		return nil, err
	}
	pl, err := e.plan(env.Spec)
	if err != nil {
		return nil, err
	}
	if len(env.Inputs) != 1 {
		return nil, fmt.Errorf("psi/align: needs one input, got %d", len(env.Inputs))
	}
	src, err := KeysFirst(env.Inputs[0])
	if err != nil {
		return nil, err
	}
	r := &run{engine: e, plan: pl, sess: env.Session, files: env.Disk(), src: src}
	switch env.Self().Role {
	case Sender:
		r.sender = true
	case Receiver:
	default:
		return nil, fmt.Errorf("psi/align: no role %q", env.Self().Role)
	}
	if pl.parties[1].Party == env.Session.Self() {
		r.side = 1
	}
	peer, ch, err := env.Session.Other()
	if err != nil {
		return nil, err
	}
	r.link = messages.Link(ch, peer, r.side == 0)
	return r, nil
}

// keyColumns is how many columns make a key.
func (r *run) keyColumns() int { return len(r.src.Schema().Keys()) }

// begin agrees on the parameters and the seed, reads the keys and exchanges
// their numbers; at the end both sides have a manifest that says so.
func (r *run) begin(ctx context.Context) error {
	fields := r.fields(r.Name, r.keyColumns())
	parameters := sha256.New()
	for _, f := range append(fields, session.Field{Name: "self", Value: string(r.sess.Self())}) {
		fmt.Fprintf(parameters, "%q=%q\n", f.Name, f.Value)
	}
	old, err := loadManifest(r.files)
	if err != nil {
		return err
	}
	if old != nil {
		// What was promised then has to hold before anything else is said.
		if [32]byte(parameters.Sum(nil)) != old.parameters {
			return fmt.Errorf("%w: parameters", ErrInputChanged)
		}
		if err := r.read(ctx, old.seed); err != nil {
			return err
		}
		if r.set.digest != old.digest || r.set.rows != old.rows || r.set.distinct != old.distinct {
			return fmt.Errorf("%w: rows", ErrInputChanged)
		}
	}
	if err := r.sess.Bind(ctx, Name, fields...); err != nil {
		return err
	}
	ours := hello{tag: old.tag()}
	if err := r.draw(ours.nonce[:]); err != nil {
		return err
	}
	theirs, err := r.exchangeHello(ctx, ours)
	if err != nil {
		return err
	}
	if old != nil && theirs.tag == ours.tag {
		r.saved, r.resumed = old, true
	} else if err := r.beginAnew(ctx, ours, theirs, [32]byte(parameters.Sum(nil))); err != nil {
		return err
	}

	in := input{r.set.distinct, r.saved.commit()}
	body, err := r.exchangeSealed(ctx, kindInput, in.append(nil))
	if err != nil {
		return err
	}
	peers, err := parseInput(body)
	if err != nil {
		return r.link.Fault(kindInput, err)
	}
	if r.resumed {
		if peers.distinct != r.saved.peers || peers.commitment != r.saved.commitment {
			return fmt.Errorf("%w: those of %s", ErrInputChanged, r.link.Peer())
		}
	} else {
		r.saved.peers, r.saved.commitment = peers.distinct, peers.commitment
		if err := r.saved.save(r.files); err != nil {
			return err
		}
	}
	if r.parts, err = r.partitions(r.plan, max(r.set.distinct, peers.distinct)); err != nil {
		return err
	}
	if most := maxFalseMatchBits - addedBits(r.parts); r.bits > most {
		return fmt.Errorf("%w: false_match_bits is %d, and %d partitions leave at most %d", ErrSize, r.bits, r.parts, most)
	}
	return nil
}

// beginAnew draws a seed from both nonces and reads the keys under it.
func (r *run) beginAnew(ctx context.Context, ours, theirs hello, parameters [32]byte) error {
	if err := removeAll(r.files); err != nil {
		return err
	}
	h := sha256.New()
	h.Write([]byte("yinqiao/align/seed/v1\x00"))
	transcriptHash := r.sess.Transcript()
	h.Write(transcriptHash[:])
	for _, x := range r.inOrder(ours.nonce[:], theirs.nonce[:]) {
		h.Write(x)
	}
	m := &manifest{seed: seed(h.Sum(nil)[:seedSize]), parameters: parameters}
	if err := r.draw(m.key[:]); err != nil {
		return err
	}
	if err := r.read(ctx, m.seed); err != nil {
		return err
	}
	m.rows, m.distinct, m.digest = r.set.rows, r.set.distinct, r.set.digest
	r.saved = m
	return nil
}

// inOrder returns what the left said, then what the right did.
func (r *run) inOrder(ours, theirs []byte) [2][]byte {
	if r.side == 0 {
		return [2][]byte{ours, theirs}
	}
	return [2][]byte{theirs, ours}
}

// read reads the own keys under a seed.
func (r *run) read(ctx context.Context, s seed) error {
	inMemory := r.memoryRows
	if r.oneSession { // which takes them all at once
		inMemory = max(inMemory, r.maxOneSession)
	}
	var err error
	r.set, err = readItems(ctx, r.src, r.rule, s, r.multiply, inMemory, r.files, func(rows int64) { r.sess.Progress("read", rows, 0) })
	return err
}

func (r *run) draw(b []byte) error {
	if _, err := io.ReadFull(r.sess.Rand(), b); err != nil {
		return fmt.Errorf("psi/align: randomness: %w", err)
	}
	return nil
}

func (r *run) exchangeHello(ctx context.Context, ours hello) (theirs hello, err error) {
	err = both(ctx, func(ctx context.Context) error {
		return r.link.Send(ctx, kindHello, ours.append(nil))
	}, func(ctx context.Context) error {
		body, err := r.link.Recv(ctx, kindHello)
		if err != nil {
			return err
		}
		theirs, err = parseHello(body)
		return r.link.Fault(kindHello, err)
	})
	return theirs, err
}

// exchangeSealed exchanges messages that end with a digest of all before them,
// the left's first.
func (r *run) exchangeSealed(ctx context.Context, k transcript.Kind, ours []byte) (theirs []byte, err error) {
	if r.side == 0 {
		if err := r.link.Send(ctx, k, ours); err != nil {
			return nil, err
		}
		return r.link.Recv(ctx, k)
	}
	if theirs, err = r.link.Recv(ctx, k); err != nil {
		return nil, err
	}
	return theirs, r.link.Send(ctx, k, ours)
}

// align runs the protocol on every partition that is not finished.
func (r *run) align(ctx context.Context) error {
	finished, err := r.finished(ctx)
	if err != nil {
		return err
	}
	cut, err := newCutter(ctx, r.set, r.parts)
	if err != nil {
		return err
	}
	limit := r.bound(r.set.distinct, r.parts)
	for p := range r.parts {
		r.sess.Progress("align", r.set.rows*int64(p)/int64(r.parts), r.set.rows)
		g, err := cut.next(ctx, p)
		if err != nil {
			return err
		}
		if int64(len(g.items)) > limit {
			return ErrOverflow
		}
		o := finished[p]
		if o.id == (outcomeID{}) {
			if o, err = r.partition(ctx, p, g, limit); err != nil {
				return err
			}
		}
		r.common += o.keys
		r.commonRows += o.rows
	}
	r.sess.Progress("align", r.set.rows, r.set.rows)
	if r.common > min(r.set.distinct, r.saved.peers) || r.commonRows > r.set.rows {
		return fmt.Errorf("%w: more common keys than there are keys", ErrDisagree)
	}
	if r.set.spilled != nil {
		err = r.set.spilled.remove()
	}
	r.set.whole, r.set.spilled = nil, nil
	return err
}

// finished returns the outcomes of partitions that earlier attempts finished, at
// both sides and alike.
func (r *run) finished(ctx context.Context) ([]outcome, error) {
	done := make([]outcome, r.parts)
	if !r.resumed {
		return done, nil
	}
	ids := make([]outcomeID, r.parts)
	for p := range done {
		o, ok, err := checkOutcome(ctx, r.files, p, r.set.rows)
		if err != nil {
			return nil, err
		}
		if ok {
			done[p], ids[p] = o, o.id
		}
	}
	var theirs []outcomeID
	err := both(ctx, func(ctx context.Context) error {
		return r.link.Send(ctx, kindFinished, appendFinished(nil, ids))
	}, func(ctx context.Context) error {
		body, err := r.link.Recv(ctx, kindFinished)
		if err != nil {
			return err
		}
		theirs, err = parseFinished(body, r.parts)
		return r.link.Fault(kindFinished, err)
	})
	if err != nil {
		return nil, err
	}
	for p := range done {
		if theirs[p] != ids[p] {
			done[p] = outcome{}
		}
	}
	return done, nil
}

// partition runs the protocol on the items of one partition, padded to size, and
// keeps the outcome.
func (r *run) partition(ctx context.Context, p int, g *group, size int64) (outcome, error) {
	items := g.items
	known := int32(len(items))
	if n := int(size) - len(items); n > 0 {
		// Random digests, which no key of either side has.
		padding := make([]byte, n*len(Digest{}))
		if err := r.draw(padding); err != nil {
			return outcome{}, err
		}
		for ; len(padding) > 0; padding = padding[len(Digest{}):] {
			items = append(items, Digest(padding))
		}
	}
	sub, err := r.sess.Fork(ctx, fmt.Sprintf("part-%05d", p))
	if err != nil {
		return outcome{}, err
	}
	role := r.Receive
	if r.sender {
		role = r.Send
	}
	params := Params{
		Items:          fmt.Sprintf("%s of %d columns, partition %d of %d", r.rule, r.keyColumns(), p+1, r.parts),
		FalseMatchBits: r.bits + addedBits(r.parts),
		ReceiverOnly:   r.receiverOnly,
	}
	if r.parts == 1 {
		params.MinIntersection = r.minimum
	}
	rows, err := role(ctx, sub, items, params)
	if closeErr := sub.CloseSend(); err == nil {
		err = closeErr
	}
	if err != nil {
		return outcome{}, err
	}
	if r.sender && r.receiverOnly && len(rows) > 0 {
		return outcome{}, fmt.Errorf("%w: a result for the party that gets none", ErrDisagree)
	}
	seen := make([]uint64, int(known)/64+1)
	for _, i := range rows {
		if i < 0 || i >= known || seen[i/64]>>(i%64)&1 != 0 {
			return outcome{}, fmt.Errorf("%w: a match that is padding, or comes twice", ErrDisagree)
		}
		seen[i/64] |= 1 << (i % 64)
	}
	var buf [1]int32
	return writeOutcome(r.files, p, r.identity(sub, len(rows)), len(rows), func(k int) []int32 { return g.rowsOf(rows[k], &buf) })
}

// identity names the execution of a partition alike at both sides: by the
// session that it had, and by the number of matches where both know it.
func (r *run) identity(sub *session.Session, matches int) (id outcomeID) {
	h := sha256.New()
	fmt.Fprintf(h, "yinqiao/align/outcome/v1\x00%q %q\x00", sub.ID(), sub.Label())
	t := sub.Transcript()
	h.Write(t[:])
	if !r.receiverOnly {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(matches)))
	}
	copy(id[:], h.Sum(nil))
	return id
}

// finish holds the result to the minimum, tells and hears what the join needs,
// arranges the own rows and compares the counts.
func (r *run) finish(ctx context.Context) (job.Result, error) {
	res := job.Result{Rows: r.set.rows}
	if r.receiverOnly && r.sender {
		return res, r.waitForReceiver(ctx)
	}
	if err := r.holdToMinimum(ctx); err != nil {
		return job.Result{}, err
	}
	j, err := r.shape(ctx)
	if err != nil {
		return job.Result{}, err
	}
	r.sess.Progress("arrange", 0, j.rows)
	t, err := table.Arrange(ctx, r.src, j.order(ctx), j.rows, scratch.Sub(r.files, arrangeFolder))
	if err != nil {
		return job.Result{}, err
	}
	r.sess.Progress("arrange", j.rows, j.rows)
	res.Tables = map[string]table.Source{fieldIntersection: t}
	if r.receiverOnly {
		if err := r.link.Send(ctx, kindDone, nil); err != nil {
			return job.Result{}, err
		}
		return res, r.link.RecvEmpty(ctx, kindDone)
	}
	ours := totals{r.common, j.rows}
	body, err := r.exchangeSealed(ctx, kindDone, ours.append(nil))
	if err != nil {
		return job.Result{}, err
	}
	theirs, err := parseTotals(body)
	if err != nil {
		return job.Result{}, r.link.Fault(kindDone, err)
	}
	if theirs != ours {
		return job.Result{}, fmt.Errorf("%w: %d common keys and %d rows here, %d and %d at %s",
			ErrDisagree, ours.common, ours.joined, theirs.common, theirs.joined, r.link.Peer())
	}
	res.Counts = map[string]int64{job.CountCommon: ours.common, CountJoined: ours.joined}
	return res, nil
}

// waitForReceiver ends the sender's part of a run for the receiver alone.
func (r *run) waitForReceiver(ctx context.Context) error {
	k, body, err := r.link.RecvOneOf(ctx, kindDone, kindBelow)
	if err == nil {
		err = r.link.Fault(k, messages.CheckLength(body, 0, messages.Name(k)))
	}
	switch {
	case err != nil:
		return err
	case k == kindBelow:
		return fmt.Errorf("psi/align: %w (found by %s)", job.ErrMinIntersection, r.link.Peer())
	}
	return r.link.Send(ctx, kindDone, nil)
}

// holdToMinimum compares the numbers of common keys of all partitions, and holds
// them to the minimum. One partition's protocol has done both.
func (r *run) holdToMinimum(ctx context.Context) error {
	if r.parts == 1 {
		return nil
	}
	below := r.common < r.minimum
	if r.receiverOnly {
		if !below {
			return nil
		}
		return errors.Join(r.errBelow(), r.link.Send(ctx, kindBelow, nil))
	}
	theirs := int64(-1)
	err := both(ctx, func(ctx context.Context) error {
		if below {
			return r.link.Send(ctx, kindBelow, nil)
		}
		return r.link.SendNumber(ctx, kindCount, r.common)
	}, func(ctx context.Context) error {
		k, body, err := r.link.RecvOneOf(ctx, kindCount, kindBelow)
		switch {
		case err != nil:
			return err
		case k == kindBelow:
			return r.link.Fault(k, messages.CheckLength(body, 0, messages.Name(k)))
		}
		theirs, err = messages.ParseNumber(body, MaxRows)
		return r.link.Fault(k, err)
	})
	switch {
	case err != nil:
		return err
	case below:
		return r.errBelow()
	case theirs < 0:
		return fmt.Errorf("psi/align: %w (found by %s)", job.ErrMinIntersection, r.link.Peer())
	case theirs != r.common:
		return fmt.Errorf("%w: %d common keys here, %d at %s", ErrDisagree, r.common, theirs, r.link.Peer())
	}
	return nil
}

func (r *run) errBelow() error {
	return fmt.Errorf("psi/align: %w (minimum %d)", job.ErrMinIntersection, r.minimum)
}
