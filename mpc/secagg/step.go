package secagg

import (
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// step is one party's part in one sum.
type step struct {
	e           *Engine
	name        string
	tag         [sha256.Size]byte // of session, step, shape and receivers
	shape       share.Shape
	messages    [][]piece         // how a vector is cut
	to          []session.PartyID // aggregators
	coordinator session.PartyID   // the first of them
	candidates  set               // contributors that may take part
	deals       []*deal           // of each contributor; nil where there is none
	pairs       [][]byte          // secrets agreed on with the others
	seed        [secretSize]byte  // of the own self-mask
	roster      set               // who deals and masks with whom
	held        set               // contributors whose whole masked vector is here
	inputs      [][][]byte        // masked vectors by contributor, as they came; aggregators only
	survivors   set               // whose vectors are in the sum
	agreed      [digestSize]byte  // of roster, keys and survivors
	revealed    map[int]*reveal   // by contributor; aggregators only
}

func newStep(e *Engine, name string, shape share.Shape, to []session.PartyID) *step {
	n := len(e.p.Contributors)
	s := &step{
		e: e, name: name, shape: shape, messages: layout(shape), to: to, coordinator: to[0], candidates: firstN(n),
		deals: make([]*deal, n), pairs: make([][]byte, n), inputs: make([][][]byte, n), revealed: make(map[int]*reveal),
	}
	if e.included != 0 {
		s.candidates = e.included
	}
	h := sha256.New()
	transcript := e.s.Transcript()
	h.Write([]byte(domain + "step\x00"))
	h.Write(transcript[:])
	var b []byte
	b = binary.AppendUvarint(b, uint64(len(e.steps)))
	b = binary.AppendUvarint(b, uint64(len(name)))
	b = append(b, name...)
	for _, n := range []int{shape.Narrow, shape.Wide, shape.Huge, len(to)} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	for _, id := range to {
		b = binary.AppendUvarint(b, uint64(len(id)))
		b = append(b, id...)
	}
	h.Write(b)
	h.Sum(s.tag[:0])
	return s
}

// fault blames a peer.
func (s *step) fault(l *link, err error) error {
	return &PeerError{Party: l.id, Step: s.name, Err: err}
}

func (s *step) blame(contributor int, err error) error {
	return &PeerError{Party: s.e.p.Contributors[contributor], Step: s.name, Err: err}
}

func (s *step) lost(format string, a ...any) error {
	return fmt.Errorf("%w: step %q: "+format, append([]any{ErrLost, s.name}, a...)...)
}

func (s *step) contributes() bool { return s.candidates.has(s.e.self) }
func (s *step) aggregates() bool  { return slices.Contains(s.to, s.e.s.Self()) }
func (s *step) coordinates() bool { return s.coordinator == s.e.s.Self() }

// contributors returns the links to the members of c that are left.
func (s *step) contributors(c set) []*link {
	var ls []*link
	for i := range c.all() {
		if l := s.e.links[s.e.p.Contributors[i]]; l != nil && !l.lost.Load() {
			ls = append(ls, l)
		}
	}
	return ls
}

// aggregators returns the links to the receivers that are left; those that are
// contributors too count while they are in c.
func (s *step) aggregators(c set) []*link {
	var ls []*link
	for _, id := range s.to {
		i, contributes := s.e.index[id]
		if l := s.e.links[id]; l != nil && !l.lost.Load() && (!contributes || c.has(i)) {
			ls = append(ls, l)
		}
	}
	return ls
}

// both returns the links of contributors and aggregators, each once.
func (s *step) both(c set) []*link {
	ls := s.contributors(c)
	for _, l := range s.aggregators(c) {
		if !slices.Contains(ls, l) {
			ls = append(ls, l)
		}
	}
	return ls
}

// place of a peer among the contributors; -1 for one that only receives.
func (s *step) place(l *link) int {
	if i, ok := s.e.index[l.id]; ok {
		return i
	}
	return -1
}

// toCoordinator does one thing with the coordinator, without whom there is no
// sum.
func (s *step) toCoordinator(ctx context.Context, do func(*link) error) error {
	err := do(s.e.links[s.coordinator])
	if isLost(err) && ctx.Err() == nil {
		return s.lost("the coordinator %s: %w", s.coordinator, err)
	}
	return err
}

// run is the protocol, in the order of the diagram in docs/protocols/secagg.md.
func (s *step) run(ctx context.Context, v share.Vector) (share.Vector, error) {
	if !s.contributes() && !s.aggregates() {
		return share.Vector{}, s.watch(ctx)
	}
	if err := s.deal(ctx); err != nil {
		return share.Vector{}, err
	}
	if err := s.agreeRoster(ctx); err != nil {
		return share.Vector{}, err
	}
	if err := s.exchangeInputs(ctx, v); err != nil {
		return share.Vector{}, err
	}
	if err := s.agreeSurvivors(ctx); err != nil {
		return share.Vector{}, err
	}
	if err := s.confirm(ctx); err != nil {
		return share.Vector{}, err
	}
	if err := s.reveal(ctx); err != nil {
		return share.Vector{}, err
	}
	s.e.included = s.survivors
	if !s.aggregates() {
		return share.Vector{}, nil
	}
	return s.open(ctx)
}

// watch is the part of a party that neither contributes nor receives: it hears
// whose data count.
func (s *step) watch(ctx context.Context) error {
	s.roster = s.candidates
	if err := s.hearSurvivors(ctx); err != nil {
		return err
	}
	s.e.included = s.survivors
	return nil
}

// deal draws this step's secrets and gives every contributor its shares of
// them, and takes those of the others.
func (s *step) deal(ctx context.Context) error {
	var tasks []task
	var private *ecdh.PrivateKey
	if s.contributes() {
		own, shares, key, err := s.draw()
		if err != nil {
			return err
		}
		private = key
		s.deals[s.e.self] = own
		for _, l := range s.both(s.candidates) {
			frame := newFrame(own.appendPublic(nil))
			if i := s.place(l); i >= 0 {
				frame = append(append(frame, shares[ofSeed][i][:]...), shares[ofKey][i][:]...)
			}
			tasks = append(tasks, task{l, func(ctx context.Context) error { return l.send(ctx, kindDeal, &s.tag, frame) }})
		}
	}
	for _, l := range s.contributors(s.candidates) {
		tasks = append(tasks, task{l, func(ctx context.Context) error {
			body, err := l.receive(ctx, kindDeal, s)
			if err != nil {
				return err
			}
			return s.take(l, body, private)
		}})
	}
	return together(ctx, tasks)
}

// draw makes a key pair and the seed of a self-mask, and splits both.
func (s *step) draw() (*deal, [2][][secretSize]byte, *ecdh.PrivateKey, error) {
	var shares [2][][secretSize]byte
	rand, n := s.e.s.Rand(), len(s.e.p.Contributors)
	var scalar [secretSize]byte
	defer clear(scalar[:])
	for _, secret := range []*[secretSize]byte{&s.seed, &scalar} {
		if _, err := io.ReadFull(rand, secret[:]); err != nil {
			return nil, shares, nil, fmt.Errorf("secagg: draw a secret: %w", err)
		}
	}
	key, err := ecdh.X25519().NewPrivateKey(scalar[:])
	if err != nil {
		return nil, shares, nil, fmt.Errorf("secagg: a private key: %w", err)
	}
	d := &deal{key: [32]byte(key.PublicKey().Bytes()), seedDigest: s.seedDigest(s.e.self, &s.seed)}
	for k, secret := range []*[secretSize]byte{ofSeed: &s.seed, ofKey: &scalar} {
		if shares[k], err = split(secret, s.e.p.Threshold, n, rand); err != nil {
			return nil, shares, nil, err
		}
		d.shareDigest[k] = make([][digestSize]byte, n)
		for i := range shares[k] {
			d.shareDigest[k][i] = s.shareDigest(shareKind(k), s.e.self, i, &shares[k][i])
		}
		d.shares[k] = shares[k][s.e.self]
	}
	d.seal(&s.tag, s.e.self)
	return d, shares, key, nil
}

// take checks what another contributor dealt. Its shares are those it has
// announced, so that nobody can blame a holder for a share that it was given.
func (s *step) take(l *link, body []byte, private *ecdh.PrivateKey) error {
	from := s.place(l)
	d, err := parseDeal(body, len(s.e.p.Contributors), private != nil)
	if err != nil {
		return s.fault(l, err)
	}
	if private != nil {
		for k := range d.shares {
			if s.shareDigest(shareKind(k), from, s.e.self, &d.shares[k]) != d.shareDigest[k][s.e.self] {
				return s.fault(l, errors.New("dealt a share that is not the one it announced"))
			}
		}
		if s.pairs[from], err = agree(private, &d.key); err != nil {
			return s.fault(l, err)
		}
	}
	d.seal(&s.tag, from)
	s.deals[from] = d
	return nil
}

// tell sends the same to all in ls.
func (s *step) tell(ctx context.Context, k kind, ls []*link, body []byte) error {
	var tasks []task
	for _, l := range ls {
		frame := newFrame(body)
		tasks = append(tasks, task{l, func(ctx context.Context) error { return l.send(ctx, k, &s.tag, frame) }})
	}
	return together(ctx, tasks)
}

// exchangeInputs masks the own vector for the aggregators; these take the
// others'.
func (s *step) exchangeInputs(ctx context.Context, v share.Vector) error {
	var tasks []task
	complete := make([]bool, len(s.inputs))
	if s.aggregates() {
		for _, l := range s.contributors(s.roster) {
			tasks = append(tasks, task{l, func(ctx context.Context) error {
				from := s.place(l)
				for _, pieces := range s.messages {
					body, err := l.receive(ctx, kindInput, s)
					if err != nil {
						return err
					}
					if want := messageBytes(pieces); len(body) != want {
						return s.fault(l, fmt.Errorf("%w: %d bytes of a masked vector, want %d", errFrame, len(body), want))
					}
					s.inputs[from] = append(s.inputs[from], body)
				}
				complete[from] = true
				return nil
			}})
		}
	}
	if s.contributes() {
		keys := s.ownKeys()
		self := &link{} // no peer: what it does is lost with nobody
		tasks = append(tasks, task{self, func(ctx context.Context) error { return s.sendInput(ctx, v, keys) }})
	}
	if err := together(ctx, tasks); err != nil {
		return err
	}
	for i, c := range complete {
		if c {
			s.held |= setOf(i)
		} else if i != s.e.self {
			s.inputs[i] = nil // not needed, and may be large
		}
	}
	if s.aggregates() && s.contributes() {
		s.held |= setOf(s.e.self)
	}
	return nil
}

// sendInput masks v message by message and sends each to all aggregators that
// are left. One that reads slowly slows the others; all of them read.
func (s *step) sendInput(ctx context.Context, v share.Vector, keys []maskKey) error {
	m := newMasker(keys)
	frame := make([]byte, headerSize+chunkBytes)
	for _, pieces := range s.messages {
		frame = frame[:headerSize+messageBytes(pieces)]
		body := frame[headerSize:]
		for _, p := range pieces {
			p.blocks(func(b piece, at int) {
				dst := body[at : at+b.n]
				b.encode(dst, v)
				m.add(dst, b)
			})
			body = body[p.n:]
		}
		if s.aggregates() {
			s.inputs[s.e.self] = append(s.inputs[s.e.self], slices.Clone(frame[headerSize:]))
		}
		for _, l := range s.aggregators(s.roster) {
			if err := l.send(ctx, kindInput, &s.tag, frame); isLost(err) && ctx.Err() == nil {
				l.lost.Store(true)
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// agreeSurvivors finds the contributors whose vectors all aggregators have.
func (s *step) agreeSurvivors(ctx context.Context) error {
	if !s.coordinates() {
		if s.aggregates() {
			if err := s.toCoordinator(ctx, func(l *link) error {
				return l.send(ctx, kindHeld, &s.tag, newFrame(appendSets(nil, s.held)))
			}); err != nil {
				return err
			}
		}
		return s.hearSurvivors(ctx)
	}
	s.survivors = s.held
	answers := make(map[*link]*set)
	var tasks []task
	for _, l := range s.aggregators(s.roster) {
		answer := new(set)
		answers[l] = answer
		tasks = append(tasks, task{l, func(ctx context.Context) error {
			body, err := l.receive(ctx, kindHeld, s)
			if err != nil {
				return err
			}
			if err := parseSets(body, s.roster, answer); err != nil {
				return s.fault(l, err)
			}
			return nil
		}})
	}
	if err := together(ctx, tasks); err != nil {
		return err
	}
	for _, l := range s.aggregators(s.roster) {
		if s.contributes() && !answers[l].has(s.e.self) {
			l.lost.Store(true) // there is no way from here to there
			continue
		}
		s.survivors &= *answers[l]
	}
	if err := s.enough(s.survivors); err != nil {
		return err
	}
	var all []*link
	for _, l := range s.e.links {
		if i := s.place(l); !l.lost.Load() && (i < 0 || s.roster.has(i)) {
			all = append(all, l)
		}
	}
	return s.tell(ctx, kindSurvivors, all, appendSets(nil, s.survivors, s.roster.without(s.survivors)))
}

// hearSurvivors reads and judges the set that the coordinator asks shares for.
func (s *step) hearSurvivors(ctx context.Context) error {
	return s.toCoordinator(ctx, func(l *link) error {
		body, err := l.receive(ctx, kindSurvivors, s)
		if err != nil {
			return err
		}
		var dropped set
		if err := parseSets(body, s.roster, &s.survivors, &dropped); err != nil {
			return s.fault(l, err)
		}
		idle := !s.contributes() && !s.aggregates() // and knows of no roster
		switch {
		case s.survivors&dropped != 0:
			return s.fault(l, fmt.Errorf("%w: both shares of %d contributors", ErrSurvivors, (s.survivors&dropped).size()))
		case !idle && s.survivors|dropped != s.roster:
			return s.fault(l, fmt.Errorf("%w: not those of the roster", ErrSurvivors))
		}
		if err := s.checkSet(l, s.survivors); err != nil {
			return err
		}
		if s.contributes() && !s.survivors.has(s.e.self) {
			return s.lost("%s left this party out", l.id)
		}
		return nil
	})
}

// confirm makes sure, before anything is revealed, that every survivor that is
// left was told the same sets and holds the same public keys; and that whoever
// was left out goes on with no other set.
func (s *step) confirm(ctx context.Context) error {
	own := &echo{roster: s.roster, survivors: s.survivors}
	for i := range s.roster.all() {
		own.digests = append(own.digests, s.deals[i].digest)
	}
	body := own.append(nil)
	h := sha256.New()
	h.Write([]byte(domain + "agreed\x00"))
	h.Write(s.tag[:])
	h.Write(body)
	copy(s.agreed[:], h.Sum(nil))
	if !s.contributes() {
		return nil
	}
	var tasks []task
	same := make([]bool, len(s.deals))
	for _, l := range s.contributors(s.survivors) {
		frame := newFrame(body)
		tasks = append(tasks,
			task{l, func(ctx context.Context) error { return l.send(ctx, kindEcho, &s.tag, frame) }},
			task{l, func(ctx context.Context) error {
				body, err := l.receive(ctx, kindEcho, s)
				if err != nil {
					return err
				}
				same[s.place(l)] = true
				return s.compare(l, own, body)
			}})
	}
	for _, l := range s.contributors(s.candidates.without(s.survivors)) {
		frame := newFrame(body)
		tasks = append(tasks, task{l, func(ctx context.Context) error { return s.hearLeftOut(ctx, l, own, frame) }})
	}
	if err := together(ctx, tasks); err != nil {
		return err
	}
	confirmed := 1
	for _, ok := range same {
		if ok {
			confirmed++
		}
	}
	if confirmed < s.e.p.Threshold {
		return s.lost("%d contributors are left to open the sum, %d are needed", confirmed, s.e.p.Threshold)
	}
	return nil
}

// hearLeftOut waits for the end of the messages of a contributor that is none of
// the survivors: it ends them when it is told so, or loses the coordinator. One
// that was told another set sends its echo instead, as this party does: without
// that, two groups of contributors that know of each other as left out would
// both reveal their shares, and together they open single vectors.
func (s *step) hearLeftOut(ctx context.Context, l *link, own *echo, frame []byte) error {
	pair, stop := context.WithCancel(ctx)
	var sending errgroup.Group
	sending.Go(func() error { return l.send(pair, kindEcho, &s.tag, frame) })
	body, err := l.receive(ctx, kindEcho, s)
	stop()
	_ = sending.Wait() // it need not take what it is sent
	if err != nil {
		return err
	}
	if err := s.compare(l, own, body); err != nil {
		return err
	}
	return s.fault(l, fmt.Errorf("%w: confirms one that it is not in", ErrSurvivors))
}

// compare holds an echo of l to the own one.
func (s *step) compare(l *link, own *echo, body []byte) error {
	theirs, err := parseEcho(body, s.candidates)
	if err != nil {
		return s.fault(l, err)
	}
	if theirs.roster != own.roster || theirs.survivors != own.survivors {
		// One of the two does not tell the truth. Whoever it is, nothing is revealed.
		told := s.coordinator
		if told == s.e.s.Self() {
			told = l.id
		}
		return &PeerError{Party: told, Step: s.name, Witness: l.id, Err: fmt.Errorf("%w: it told another one", ErrSurvivors)}
	}
	k := 0
	for i := range own.roster.all() {
		if theirs.digests[k] != own.digests[k] {
			if i == s.e.self || i == s.place(l) {
				return s.fault(l, errors.New("confirms other keys than were dealt"))
			}
			return &PeerError{Party: s.e.p.Contributors[i], Step: s.name, Witness: l.id, Err: errors.New("dealt other keys")}
		}
		k++
	}
	return nil
}
