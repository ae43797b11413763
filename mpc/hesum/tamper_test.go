package hesum

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/he/tbgv"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// sending stands between a party and one of its channels, and is shown every
// frame that it sends but the first, which is the session's. What it returns is
// sent instead.
type sending struct {
	session.Channel
	change func(ctx context.Context, h header, frame []byte) ([][]byte, error)
	bound  bool
}

func (c *sending) Send(ctx context.Context, p []byte) error {
	if !c.bound {
		c.bound = true
		return c.Channel.Send(ctx, p)
	}
	h, _, err := parseFrame(p)
	if err != nil {
		return err
	}
	frames, err := c.change(ctx, h, bytes.Clone(p))
	for _, q := range frames {
		if err := c.Channel.Send(ctx, q); err != nil {
			return err
		}
	}
	return err
}

// liar is one party whose frames of one kind in one call are changed on their way
// to some peers.
type liar struct {
	self, to string // to "" is all
	kind     kind
	call     uint16
	change   func(peer session.PartyID, frame []byte) [][]byte
}

func (a liar) wrap(l sessiontest.Link, ch session.Channel) session.Channel {
	if string(l.Self) != a.self || a.to != "" && string(l.Peer) != a.to {
		return ch
	}
	return &sending{Channel: ch, change: func(_ context.Context, h header, frame []byte) ([][]byte, error) {
		if h.kind == a.kind && h.call == a.call {
			return a.change(l.Peer, frame), nil
		}
		return [][]byte{frame}, nil
	}}
}

var (
	allOfThree  = setup{3, 3, 3, share.Shape{Narrow: 3, Huge: 2}, [][]int{{0, 2}}, 0}
	threeOfFour = setup{5, 4, 3, share.Shape{Narrow: 3}, [][]int{{0, 4}, {1, 4}}, 3}
)

// changes are what can happen to one frame.
var changes = map[string]func(frame []byte) [][]byte{
	"version":       func(p []byte) [][]byte { p[0]++; return [][]byte{p} },
	"kind":          func(p []byte) [][]byte { p[1] = 1 + p[1]%byte(kindShare); return [][]byte{p} },
	"unknown kind":  func(p []byte) [][]byte { p[1] = 200; return [][]byte{p} },
	"call":          func(p []byte) [][]byte { p[2] ^= 1; return [][]byte{p} },
	"number":        func(p []byte) [][]byte { p[4] ^= 1; return [][]byte{p} },
	"step":          func(p []byte) [][]byte { p[15] ^= 1; return [][]byte{p} },
	"repeated":      func(p []byte) [][]byte { return [][]byte{p, p} },
	"empty":         func([]byte) [][]byte { return [][]byte{{}} },
	"header alone":  func(p []byte) [][]byte { return [][]byte{p[:headerSize]} },
	"half a header": func(p []byte) [][]byte { return [][]byte{p[:headerSize/2]} },
	"a byte less":   func(p []byte) [][]byte { return [][]byte{p[:len(p)-1]} },
	"a byte more":   func(p []byte) [][]byte { return [][]byte{append(p, 0)} },
	"1 MiB more":    func(p []byte) [][]byte { return [][]byte{append(p, make([]byte, 1<<20)...)} },
	"all ones": func(p []byte) [][]byte {
		return [][]byte{append(p[:headerSize:headerSize], bytes.Repeat([]byte{0xff}, len(p)-headerSize)...)}
	},
}

// TestTampering changes a frame of every kind, from p1 to p0, in every way: p0
// ends with an error that names p1, nobody has a wrong sum, and whoever else
// ends with an error is told of p1 or has lost somebody.
func TestTampering(t *testing.T) {
	quick := allOfThree
	quick.shape = share.Shape{Narrow: 3}
	for name, c := range map[string]setup{"n of n": quick, "t of n": threeOfFour} {
		inputs := c.random(3)
		for k := kindCommit; k <= kindShare; k++ {
			if c.threshold == c.contributors && (k == kindPiece || k == kindReport || k == kindDecision || k == kindPledges) {
				continue
			}
			call := uint16(0)
			if k >= kindPledges {
				call = 1
			}
			from, to := "p1", "p0"
			if k == kindDecision {
				from, to = "p0", "p1"
			}
			for what, change := range changes {
				if what == "all ones" && (k == kindShare || k == kindPiece) {
					continue // below: it can be in its bounds
				}
				once := sync.OnceValue(func() bool { return true })
				var done bool
				a := liar{from, to, k, call, func(_ session.PartyID, p []byte) [][]byte {
					if done { // the first of its kind alone
						return [][]byte{p}
					}
					done = once()
					return change(p)
				}}
				outs := c.run(t, &cluster{wrap: a.wrap}, inputs)
				at := fmt.Sprintf("%s: %v, %s", name, k, what)
				var fault *PeerError
				victim := outs[int(to[1]-'0')]
				last := what == "repeated" && k == kindShare && name == "n of n" // nobody reads after it
				if err := victim.err; !last && (!errors.As(err, &fault) || string(fault.Party) != from || fault.Step == "") {
					t.Errorf("%s: %s ends with %v", at, to, err)
				}
				if k == kindCommit && what == "all ones" && !errors.Is(victim.err, errForged) {
					t.Errorf("%s: %v", at, victim.err)
				}
				checkRest(t, at, c, outs, inputs, from)
			}
		}
	}
}

// checkRest makes sure that every party has exact sums of everything it has,
// and a typed error where it has one.
func checkRest(t *testing.T, at string, c setup, outs []outcome, inputs []share.Vector, culprit string) {
	t.Helper()
	for i, out := range outs {
		var fault *PeerError
		switch {
		case out.err == nil, errors.Is(out.err, ErrLost):
		case errors.As(out.err, &fault) && errors.Is(out.err, ErrPeer):
			if string(fault.Party) != culprit {
				t.Errorf("%s: p%d blames %s: %v", at, i, fault.Party, out.err)
			}
		default:
			t.Errorf("%s: p%d ends with the untyped %v", at, i, out.err)
		}
		for k, sum := range out.sums {
			if slices.Contains(c.to[k], i) && !equal(sum, c.oracle(inputs, out.included, k)) {
				t.Errorf("%s: p%d has a wrong sum", at, i)
			}
		}
	}
}

// TestReordered swaps a frame with the next one in the same direction.
func TestReordered(t *testing.T) {
	c := threeOfFour
	inputs := c.random(4)
	for k := kindCommit; k <= kindEcho; k++ {
		if k == kindDecision || k == kindReport { // p1 takes no decision, and waits for p0's after its report
			continue
		}
		var held []byte
		wrap := func(l sessiontest.Link, ch session.Channel) session.Channel {
			if l.Self != "p1" || l.Peer != "p0" {
				return ch
			}
			return &sending{Channel: ch, change: func(_ context.Context, h header, p []byte) ([][]byte, error) {
				if h.kind == k && held == nil {
					held = p
					return nil, nil
				}
				if len(held) > 0 {
					q := held
					held = []byte{}
					return [][]byte{p, q}, nil
				}
				return [][]byte{p}, nil
			}}
		}
		outs := c.run(t, &cluster{wrap: wrap}, inputs)
		var fault *PeerError
		if !errors.As(outs[0].err, &fault) || fault.Party != "p1" || !errors.Is(fault, errNumber) {
			t.Errorf("%v: %v", k, outs[0].err)
		}
		checkRest(t, k.String(), c, outs, inputs, "p1")
	}
}

// TestDifferentCiphertexts: one that is not the same at all receivers is found
// before any share is sent, and both ends name its sender.
func TestDifferentCiphertexts(t *testing.T) {
	for name, c := range map[string]setup{"n of n": allOfThree, "t of n": threeOfFour} {
		inputs := c.random(5)
		var shares views
		a := liar{"p1", "p2", kindVector, 1, func(_ session.PartyID, p []byte) [][]byte {
			p[headerSize+20] ^= 1 // a residue that is still in its bounds
			return [][]byte{p}
		}}
		outs := c.run(t, &cluster{wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
			return shares.wrap(l, a.wrap(l, ch))
		}}, inputs)
		for i, out := range outs {
			var fault *PeerError
			if i == 1 {
				continue // it knows best
			}
			if !errors.As(out.err, &fault) || fault.Party != "p1" || !errors.Is(fault, ErrPeer) {
				t.Errorf("%s: p%d ends with %v", name, i, out.err)
			}
		}
		if n := shares.count(kindShare); n != 0 {
			t.Errorf("%s: %d shares were sent", name, n)
		}
	}
}

// TestForgedKeyPart: a key part, or randomness, that was not committed to.
func TestForgedKeyPart(t *testing.T) {
	for _, k := range []kind{kindPart, kindReveal} {
		c := allOfThree
		inputs := c.random(6)
		a := liar{"p2", "", k, 0, func(_ session.PartyID, p []byte) [][]byte {
			p[len(p)/2] ^= 1
			return [][]byte{p}
		}}
		outs := c.run(t, &cluster{wrap: a.wrap}, inputs)
		for i, out := range outs[:2] {
			var fault *PeerError
			if !errors.As(out.err, &fault) || fault.Party != "p2" || !errors.Is(fault, errForged) || fault.Step != keysStep {
				t.Errorf("%v: p%d ends with %v", k, i, out.err)
			}
		}
	}
}

// TestLyingCoordinator: decisions that do not follow, and different ones to
// different parties.
func TestLyingCoordinator(t *testing.T) {
	c := threeOfFour // p0 … p3 contribute, p4 receives
	inputs := c.random(7)
	rewrite := func(f func(peer session.PartyID, d decision) decision) func(session.PartyID, []byte) [][]byte {
		return func(peer session.PartyID, p []byte) [][]byte {
			d := f(peer, parseDecision(p[headerSize:], 0))
			return [][]byte{append(p[:headerSize:headerSize], d.body()...)}
		}
	}
	for name, f := range map[string]func(peer session.PartyID, d decision) decision{
		"different to p1": func(peer session.PartyID, d decision) decision {
			if peer == "p1" {
				d.present &^= 1 << 3 // a fourth contributor is not needed
			}
			return d
		},
		"leaves out one that all have": func(_ session.PartyID, d decision) decision {
			d.included &^= 1 << 3
			return d
		},
		"too few included": func(_ session.PartyID, d decision) decision {
			d.included, d.active = 0b011, 0b011
			return d
		},
		"too few open":        func(_ session.PartyID, d decision) decision { d.active = 0b011; return d },
		"others open":         func(_ session.PartyID, d decision) decision { d.active = 0b1110; return d },
		"all open":            func(_ session.PartyID, d decision) decision { d.active = 0b1111; return d },
		"a receiver is in it": func(_ session.PartyID, d decision) decision { d.included |= 1 << 4; return d },
		"a stranger is in it": func(_ session.PartyID, d decision) decision { d.included |= 1 << 40; return d },
		"a stranger listens":  func(_ session.PartyID, d decision) decision { d.present |= 1 << 63; return d },
		"it is not there":     func(_ session.PartyID, d decision) decision { d.present &^= 1; return d },
		"nobody":              func(session.PartyID, decision) decision { return decision{} },
		"one that is not there": func(_ session.PartyID, d decision) decision {
			d.present &^= 0b0100
			return d
		},
	} {
		for call := range uint16(2) {
			var views views
			a := liar{"p0", "", kindDecision, call, rewrite(f)}
			outs := c.run(t, &cluster{wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
				return views.wrap(l, a.wrap(l, ch))
			}}, inputs)
			at := fmt.Sprintf("%s in call %d", name, call)
			blamed := 0
			for i, out := range outs[1:4] {
				var fault *PeerError
				switch {
				case errors.As(out.err, &fault) && fault.Party == "p0":
					blamed++
				case fault != nil && fault.Witness == "p0": // it says that others lie
				case !errors.Is(out.err, ErrLost):
					t.Errorf("%s: p%d ends with %v", at, i+1, out.err)
				}
			}
			if blamed == 0 {
				t.Errorf("%s: nobody blames the coordinator", at)
			}
			if n := views.count(kindShare); n != 0 {
				t.Errorf("%s: %d shares were sent", at, n)
			}
		}
	}
}

// TestForeignVector: a coordinator that includes a contributor whose ciphertext
// has not come, because that party is lost.
func TestForeignVector(t *testing.T) {
	c := threeOfFour
	inputs := c.random(8)
	net := &cluster{}
	a := liar{"p0", "", kindDecision, 1, func(_ session.PartyID, p []byte) [][]byte {
		d := parseDecision(p[headerSize:], 0)
		d.included |= 1 << 3
		return [][]byte{append(p[:headerSize:headerSize], d.body()...)}
	}}
	dropped := dropper{net: net, self: "p3", kind: kindVector, call: 1}
	net.wrap = func(l sessiontest.Link, ch session.Channel) session.Channel { return dropped.wrap(l, a.wrap(l, ch)) }
	outs := c.run(t, net, inputs)
	for _, i := range []int{1, 2, 4} {
		var fault *PeerError
		if !errors.As(outs[i].err, &fault) || fault.Party != "p0" || !errors.Is(fault, errDecision) {
			t.Errorf("p%d ends with %v", i, outs[i].err)
		}
	}
}

// TestRepeatedCiphertext: one that its sender, or another party, has sent before,
// in the place of one that was pledged; and with the pledge that belongs to it.
func TestRepeatedCiphertext(t *testing.T) {
	c := setup{4, 4, 4, share.Shape{Narrow: 3}, [][]int{{0}, {0}}, 0}
	inputs := c.random(9)
	for name, from := range map[string]string{"its own": "p1", "another's": "p2"} {
		var mu sync.Mutex
		var old []byte
		wrap := func(l sessiontest.Link, ch session.Channel) session.Channel {
			return &sending{Channel: ch, change: func(_ context.Context, h header, p []byte) ([][]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				if h.kind == kindVector && h.call == 1 && string(l.Self) == from && old == nil {
					old = bytes.Clone(p[headerSize:])
				}
				if h.kind == kindVector && h.call == 2 && l.Self == "p1" {
					copy(p[headerSize:], old)
				}
				return [][]byte{p}, nil
			}}
		}
		outs := c.run(t, &cluster{wrap: wrap}, inputs)
		for _, i := range []int{0, 2, 3} {
			var fault *PeerError
			if !errors.As(outs[i].err, &fault) || fault.Party != "p1" || !errors.Is(fault, errForged) || len(outs[i].sums) != 1 {
				t.Errorf("%s: p%d ends with %v", name, i, outs[i].err)
			}
		}
	}
	e := &Engine{parties: sessiontest.PartyIDs(3), order: []int{0, 1, 2}, self: 2, seen: make(map[[digestSize]byte]int)}
	x, y, z, u := [digestSize]byte{1}, [digestSize]byte{2}, [digestSize]byte{3}, [digestSize]byte{4}
	if d, err := e.remember([][][digestSize]byte{{x}, {y}, {z}}); err != nil || len(d) != 3 || d[0] == d[1] {
		t.Errorf("three different ciphertexts give %d digests, %v", len(d), err)
	}
	for who, hashes := range map[session.PartyID][][][digestSize]byte{"p1": {{u}, {x}, nil}, "p0": {{z}, nil, nil}} {
		var fault *PeerError
		if _, err := e.remember(hashes); !errors.As(err, &fault) || fault.Party != who || !errors.Is(err, errRepeated) {
			t.Errorf("one that %s repeats gives %v", who, err)
		}
	}
}

// TestForeignSet: frames of another parameter set in place of this one's.
func TestForeignSet(t *testing.T) {
	c := setup{2, 2, 2, share.Shape{Wide: 3}, [][]int{{0}}, 0}
	var other views
	c.run(t, &cluster{wrap: other.wrap}, c.random(10))
	foreign := other.sent("p1", "p0", kindVector)
	c.shape = share.Shape{Huge: 3}
	a := liar{"p1", "p0", kindVector, 1, nil}
	n := 0
	a.change = func(_ session.PartyID, p []byte) [][]byte {
		n++
		if n > len(foreign) {
			return [][]byte{p}
		}
		// The frames have other lengths: what fits is filled up with the foreign one.
		copy(p[headerSize:], foreign[n-1][headerSize:])
		return [][]byte{p}
	}
	outs := c.run(t, &cluster{wrap: a.wrap}, c.random(10))
	var fault *PeerError
	if !errors.As(outs[0].err, &fault) || fault.Party != "p1" || !errors.Is(fault, tbgv.ErrParam) {
		t.Errorf("p0 ends with %v", outs[0].err)
	}
}

// TestForeignShare: a share of another step in place of this one's.
func TestForeignShare(t *testing.T) {
	c := setup{3, 3, 3, share.Shape{Narrow: 3}, [][]int{{0}, {0}}, 0}
	var old []byte
	wrap := func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Self != "p1" || l.Peer != "p0" {
			return ch
		}
		return &sending{Channel: ch, change: func(_ context.Context, h header, p []byte) ([][]byte, error) {
			switch {
			case h.kind == kindShare && h.call == 1:
				old = bytes.Clone(p[headerSize:])
			case h.kind == kindShare:
				copy(p[headerSize:], old)
			}
			return [][]byte{p}, nil
		}}
	}
	outs := c.run(t, &cluster{wrap: wrap}, c.random(11))
	var fault *PeerError
	if !errors.As(outs[0].err, &fault) || fault.Party != "p1" || !errors.Is(fault, tbgv.ErrForeign) || fault.Step != stepName(1) {
		t.Errorf("p0 ends with %v", outs[0].err)
	}
}

// TestDamagedPieces: a well-formed piece of no secret is found when a sum is
// opened, by its margin; nobody can tell whose it was.
func TestDamagedPieces(t *testing.T) {
	c := threeOfFour
	inputs := c.random(12)
	a := liar{"p1", "p0", kindPiece, 0, func(_ session.PartyID, p []byte) [][]byte {
		p[len(p)/2] ^= 4
		return [][]byte{p}
	}}
	outs := c.run(t, &cluster{wrap: a.wrap}, inputs)
	if err := outs[0].err; !errors.Is(err, ErrPeer) || !errors.Is(err, tbgv.ErrMargin) {
		t.Errorf("p0 ends with %v", err)
	}
	checkNoSums(t, outs)
}

func checkNoSums(t *testing.T, outs []outcome) {
	t.Helper()
	for i, out := range outs {
		for _, sum := range out.sums {
			if sum.Shape().Len() > 0 {
				t.Errorf("p%d has a sum", i)
			}
		}
	}
}

// channelOf yields frames and then the end.
type channelOf struct{ frames [][]byte }

func (c *channelOf) Send(context.Context, []byte) error { return nil }
func (c *channelOf) CloseSend() error                   { return nil }
func (c *channelOf) Recv(context.Context) ([]byte, error) {
	if len(c.frames) == 0 {
		return nil, session.ErrGone
	}
	p := c.frames[0]
	c.frames = c.frames[1:]
	return p, nil
}

// TestEveryTruncation cuts every kind of message at every length: its receiver
// refuses it before anything is parsed.
func TestEveryTruncation(t *testing.T) {
	c := threeOfFour
	var seen views
	outs := c.run(t, &cluster{wrap: seen.wrap}, c.random(13))
	for i, out := range outs {
		if out.err != nil {
			t.Fatalf("p%d: %v", i, out.err)
		}
	}
	for k := kindCommit; k <= kindShare; k++ {
		from, to := session.PartyID("p1"), session.PartyID("p0")
		if k == kindDecision {
			from, to = to, from
		}
		frame := seen.sent(from, to, k)[0]
		h, body, err := parseFrame(frame)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(frame) {
			l := &link{ch: &channelOf{[][]byte{frame[:n]}}, in: h.number}
			_, err := l.recv(t.Context(), place{call: h.call, tag: h.step}, k, len(body))
			if !errors.Is(err, errFrame) && !errors.Is(err, errLength) {
				t.Fatalf("%v of %d bytes, cut to %d: %v", k, len(frame), n, err)
			}
		}
		l := &link{ch: &channelOf{[][]byte{frame}}, in: h.number}
		if _, err := l.recv(t.Context(), place{call: h.call, tag: h.step}, k, len(body)); err != nil {
			t.Errorf("%v as it was: %v", k, err)
		}
	}
}

// TestSecondShare: one ciphertext, two openings: within a run, and by an engine
// that is built again with the same randomness after a crash.
func TestSecondShare(t *testing.T) {
	c := setup{3, 3, 3, share.Shape{Narrow: 3}, [][]int{{0, 1, 2}}, 0}
	inputs := c.random(14)
	records := []*once{{}, {}, {}}
	net := func(v *views) *cluster {
		return &cluster{
			parties: 3, id: "crashes", wrap: v.wrap,
			rand: func(i int) io.Reader { return mrand.NewChaCha8([32]byte{byte(i)}) },
		}
	}
	run := func(v *views) []outcome {
		outs := make([]outcome, 3)
		net(v).run(t, func(i int) script { return c.honest(i, records[i], inputs, &outs[i], nil) })
		return outs
	}
	var before, after views
	for i, out := range run(&before) {
		c.check(t, i, out, inputs, without(3))
	}
	records[1] = new(once) // one party forgets: the others must not
	outs := run(&after)
	if a, b := before.sent("p1", "p0", kindVector), after.sent("p1", "p0", kindVector); !bytes.Equal(a[0], b[0]) {
		t.Fatal("the second run has another ciphertext, and proves nothing")
	}
	for _, i := range []int{0, 2} {
		if !errors.Is(outs[i].err, tbgv.ErrLedger) || !errors.Is(outs[i].err, errOnce) {
			t.Errorf("p%d ends with %v", i, outs[i].err)
		}
	}
	checkNoSums(t, outs)
	for _, from := range []session.PartyID{"p0", "p2"} {
		for _, to := range without(3) {
			if n := len(after.sent(from, to, kindShare)); n != 0 {
				t.Errorf("%s sent %d shares to %s after the crash", from, n, to)
			}
		}
	}
	if n := len(records[0].keys); n != 1 {
		t.Errorf("%d records of one ciphertext", n)
	}
}

func TestSecondShareInOneRun(t *testing.T) {
	c := setup{2, 2, 2, share.Shape{Narrow: 3}, [][]int{{0}}, 0}
	errs := (&cluster{parties: 2}).run(t, func(i int) script {
		return func(ctx context.Context, s *session.Session) error {
			e, err := New(ctx, s, c.params(new(once)))
			if err != nil {
				return err
			}
			if _, err := e.begin("x", c.shape, share.NewVector(c.shape), named([]int{0})); err != nil {
				return err
			}
			work := e.spans(c.shape)
			cts, _, err := e.swapVectors(ctx, 1<<(1-i), work, share.NewVector(c.shape))
			if err != nil {
				return err
			}
			totals, err := e.total(ctx, work, cts, e.contributors)
			if err != nil {
				return err
			}
			if _, err := e.emit(ctx, work, totals, e.contributors); err != nil {
				return err
			}
			if _, err := e.emit(ctx, work, totals, e.contributors); !errors.Is(err, tbgv.ErrLedger) {
				return fmt.Errorf("a second share: %w", err)
			}
			return nil
		}
	})
	for i, err := range errs {
		if err != nil {
			t.Errorf("p%d: %v", i, err)
		}
	}
}

// TestFalseWord: a party that accuses another, or itself, or nobody there is.
func TestFalseWord(t *testing.T) {
	c := allOfThree
	for accused, want := range map[byte]string{2: "p2", 1: "p1", 200: "p1"} {
		a := liar{"p1", "p0", kindEcho, 0, func(_ session.PartyID, p []byte) [][]byte {
			p[1] = byte(kindFault)
			return [][]byte{append(p[:headerSize:headerSize], accused)}
		}}
		outs := c.run(t, &cluster{wrap: a.wrap}, c.random(15))
		var fault *PeerError
		if !errors.As(outs[0].err, &fault) || string(fault.Party) != want || want == "p2" && fault.Witness != "p1" {
			t.Errorf("accused %d: %v", accused, outs[0].err)
		}
	}
}

// views keeps the frames that every party sends, but the session's first.
type views struct {
	mu  sync.Mutex
	all map[sessiontest.Link][][]byte
}

func (v *views) wrap(l sessiontest.Link, ch session.Channel) session.Channel {
	return &sending{Channel: ch, change: func(_ context.Context, _ header, p []byte) ([][]byte, error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.all == nil {
			v.all = make(map[sessiontest.Link][][]byte)
		}
		v.all[l] = append(v.all[l], bytes.Clone(p))
		return [][]byte{p}, nil
	}}
}

// sent returns the frames of a kind from one party to another.
func (v *views) sent(from, to session.PartyID, k kind) [][]byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	var frames [][]byte
	for _, p := range v.all[sessiontest.Link{Self: from, Peer: to}] {
		if kind(p[1]) == k {
			frames = append(frames, p)
		}
	}
	return frames
}

func (v *views) count(k kind) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, frames := range v.all {
		for _, p := range frames {
			if kind(p[1]) == k {
				n++
			}
		}
	}
	return n
}
