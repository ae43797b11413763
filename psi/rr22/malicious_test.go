package rr22

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/oprf/oprftest"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

var maliciousBoth = Params{Broadcast: true, Malicious: true}

// The same rows as with semi-honest parties, and as the plaintext has.
func TestMaliciousFunctionality(t *testing.T) {
	for _, c := range []struct{ n, from, to int }{
		{0, 0, 0},
		{0, 0, 7},
		{7, 0, 0},
		{1, 0, 1},
		{1, 1, 2},
		{1000, 1000, 2000},
		{1000, 999, 1999},
		{1000, 500, 1500},
		{1000, 0, 1000},
		{10_000, 9999, 10_099},
		{100, 0, 10_000},
		{10_000, 0, 10_000},
		{100_000, 60_000, 160_000},
		{100_000, 50_000, 150_000},
	} {
		xs, ys := psitest.Shuffled(psitest.Number(0, c.n), 1), psitest.Shuffled(psitest.Number(c.from, c.to), 2)
		for _, p := range []Params{maliciousBoth, {Malicious: true}} {
			if !p.Broadcast && c.n != 1000 {
				continue
			}
			var ole oprf.OLE
			if c.from == 50_000 {
				ole = oprftest.Dealer{} // each bin is a piece with a coin of its own
			}
			r := intersectOver(t, sessiontest.Net{}, ole, xs, ys, p, p)
			checkIdeal(t, xs, ys, p, r)
			if c.n != 1000 || !p.Broadcast {
				continue
			}
			p.Malicious = false
			other := intersect(t, sessiontest.Net{}, xs, ys, p)
			sessiontest.NoErrors(t, other.out)
			slices.Sort(r.receiver.Rows)
			slices.Sort(other.receiver.Rows)
			if !slices.Equal(r.receiver.Rows, other.receiver.Rows) {
				t.Errorf("%v: other rows than with semi-honest parties", c)
			}
		}
	}
}

// A window of one message suffices, and every transport's.
func TestMaliciousWindow(t *testing.T) {
	xs, ys := psitest.Number(0, 200), psitest.Number(100, 300)
	for _, window := range []int{1, 8} {
		for _, ole := range []oprf.OLE{nil, oprftest.Dealer{}} {
			r := intersectOver(t, sessiontest.Net{Connect: sessiontest.Pipes(window)}, ole, xs, ys, maliciousBoth, maliciousBoth)
			checkIdeal(t, xs, ys, maliciousBoth, r)
		}
	}
}

// The minimum is each side's own, after the fact, as in the other mode.
func TestMaliciousMinimum(t *testing.T) {
	xs, ys := psitest.Number(0, 20), psitest.Number(15, 35)
	for _, c := range []struct {
		minimum int64
		want    error
	}{{5, nil}, {6, job.ErrMinIntersection}} {
		p := maliciousBoth
		p.MinIntersection = c.minimum
		r := intersectOver(t, sessiontest.Net{}, oprftest.Dealer{}, xs, ys, p, p)
		if err := sessiontest.Cause(r.out); !errors.Is(err, c.want) {
			t.Errorf("minimum %d: %v", c.minimum, err)
		}
	}
}

// Both parties have the mode or none begins, and the error names it.
func TestMaliciousIsCompared(t *testing.T) {
	xs := psitest.Number(0, 5)
	for _, p := range [][2]Params{{maliciousBoth, both}, {both, maliciousBoth}} {
		r := intersectEach(t, sessiontest.Net{}, xs, xs, p[0], p[1])
		if err := sessiontest.Cause(r.out); !errors.Is(err, session.ErrMismatch) || !strings.Contains(err.Error(), "security") {
			t.Errorf("%v", err)
		}
	}
}

// Hashes have 128 bits on the wire, which are uniform and all there is.
func TestMaliciousViews(t *testing.T) {
	const n = 3000
	var views [2]sessiontest.View
	r := intersect(t, record(&views), psitest.Number(0, n), psitest.Number(n/2, n+n/2), maliciousBoth)
	sessiontest.NoErrors(t, r.out)
	sent := kinds(views[0].Sent())
	i, j := slices.Index(sent, kindHashes), slices.Index(sent, kindTails)
	if i < 0 || j < i || slices.Index(sent, kindVector) > i {
		t.Fatalf("messages %v", sent)
	}
	if tails := bodies(t, views[0].Sent(), kindTails); len(tails) != n*tailSize {
		t.Errorf("%d bytes of tails", len(tails))
	} else {
		var ones int
		for _, b := range tails {
			ones += bits.OnesCount8(b)
		}
		if mean := len(tails) * 4; ones < mean-700 || ones > mean+700 { // 8 standard deviations
			t.Errorf("%d ones in %d bytes", ones, len(tails))
		}
	}
	f, err := maliciousBoth.hashForm(n, n)
	if err != nil || f.Bits() != tags.MaxBits {
		t.Errorf("%d bits beside the tails: %v", f.Bits(), err)
	}
}

// A match of the first bits is none if the tails differ, wherever it stands.
func TestTails(t *testing.T) {
	r := mrand.New(mrand.NewPCG(3, 4))
	for range 50 {
		n := 1 + r.IntN(40)
		m := &matcher{seen: n, bits: make([]byte, (n+7)/8)}
		own, said := make([]uint32, n), []byte{}
		var want []int32
		wantBits := make([]byte, len(m.bits))
		for i := range n {
			own[i] = r.Uint32()
			tail := own[i]
			if r.IntN(2) == 0 {
				tail ^= 1 << r.IntN(32)
			}
			if r.IntN(2) == 0 {
				m.rows = append(m.rows, int32(i))
				m.bits[i/8] |= 1 << (i % 8)
				if tail == own[i] {
					want = append(want, int32(i))
					wantBits[i/8] |= 1 << (i % 8)
				}
			}
			said = append(said, byte(tail), byte(tail>>8), byte(tail>>16), byte(tail>>24))
		}
		tm := tailMatcher{m: m, own: own}
		half := n / 2 * tailSize
		tm.take(said[:half])
		tm.take(said[half:])
		if got := m.rows[:tm.kept]; !slices.Equal(got, want) || !slices.Equal(m.bits, wantBits) || tm.seen != n {
			t.Fatalf("%v of %v", got, want)
		}
	}
}

// Every message of the mode over a dealer's vector OLE, changed; mpc/vole's has
// the same test of its own. Whoever reports no error has the right result.
func TestMaliciousTampering(t *testing.T) {
	xs, ys := psitest.Number(0, 20), psitest.Number(10, 30)
	run := func(net sessiontest.Net) (r result) {
		return intersectOver(t, net, oprftest.Dealer{}, xs, ys, maliciousBoth, maliciousBoth)
	}
	var views [2]sessiontest.View
	clean := run(record(&views))
	sessiontest.NoErrors(t, clean.out)
	attacks := map[string]func(at int) sessiontest.Change{
		"flip the kind":     func(at int) sessiontest.Change { return sessiontest.Flip(at, 1) },
		"flip the body":     func(at int) sessiontest.Change { return sessiontest.Flip(at, 19) },
		"flip further in":   func(at int) sessiontest.Change { return sessiontest.Flip(at, 8*18+3) },
		"flip the last bit": psitest.FlipLast,
		"repeat":            sessiontest.Repeat,
		"cut a byte":        func(at int) sessiontest.Change { return sessiontest.Truncate(at, 1) },
		"add a byte":        func(at int) sessiontest.Change { return sessiontest.Grow(at, 1) },
		"empty":             func(at int) sessiontest.Change { return sessiontest.Replace(at, nil) },
	}
	for i, party := range []session.PartyID{"p0", "p1"} {
		n := len(views[i].Sent())
		for name, attack := range attacks {
			for at := range n {
				r := run(psitest.Tampering(party, "", attack(at)))
				what := fmt.Sprintf("%s of message %d of %s", name, at, party)
				err := sessiontest.Cause(r.out)
				switch {
				case err == nil && name == "repeat" && at == n-1: // nobody reads it
				case err == nil:
					t.Errorf("%s: nobody noticed", what)
				case at > 0 && !psitest.Typed(err, append(faults, ErrCheat)...):
					t.Errorf("%s: %v", what, err)
				}
				for j, rows := range [][]int32{r.sender.Rows, r.receiver.Rows} {
					if r.out[j].Err == nil && len(rows) != 10 || r.out[j].Err != nil && rows != nil {
						t.Errorf("%s: p%d has %d rows, error %v", what, j, len(rows), r.out[j].Err)
					}
				}
			}
		}
	}
}

// What a check finds comes out as this package's error: another coin, another
// vector, wrong trees and corrections for different bits.
func TestMaliciousChecks(t *testing.T) {
	xs := psitest.Number(0, 20)
	for name, c := range map[string]struct {
		net  sessiontest.Net
		want error
		at   int // who finds it
	}{
		"a coin that was not committed to": {psitest.Tampering("p0", "", func(i int, p []byte) [][]byte {
			if transcript.Kind(p[0]) == kindVector && len(p) == 2+32 && i == 3 {
				p[10] ^= 1
			}
			return [][]byte{p}
		}), ErrCheat, 1},
		"trees that are none":        {psitest.Tampering("p0", "vole", sessiontest.Flip(3, 8*20)), ErrCheat, 1},
		"corrections for other bits": {psitest.Tampering("p1", "vole", sessiontest.Flip(5, 8*20)), ErrCheat, 0},
		"seeds of no tree":           {psitest.Tampering("p1", "vole", sessiontest.Flip(3, 8*5000)), ErrCheat, 0},
		"a vector that was changed":  {psitest.Tampering("p1", "", sessiontest.Flip(3, 8*200)), ErrDisagree, 0},
	} {
		r := intersectOver(t, c.net, nil, xs, xs, maliciousBoth, maliciousBoth)
		if err := r.out[c.at].Err; !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, r.out[c.at].Err, c.want)
		}
		if r.sender.Rows != nil || r.receiver.Rows != nil {
			t.Errorf("%s: somebody has a result", name)
		}
	}
}

func TestMaliciousDefinition(t *testing.T) {
	d := MaliciousDefinition()
	if d.Name != MaliciousName || slices.Contains(d.Assumptions, "semi-honest") || !slices.Contains(d.Assumptions, "malicious") {
		t.Errorf("%s with %v", d.Name, d.Assumptions)
	}
	if plain := Definition(); plain.Name == d.Name || slices.Contains(plain.Assumptions, "malicious") {
		t.Errorf("%s with %v", plain.Name, plain.Assumptions)
	}
	s := spec(func(s *job.Spec) { s.Kind = MaliciousName })
	x := psitest.People(t, [3]string{"1", "a", "x"}, [3]string{"2", "b", "x"}, [3]string{"3", "c", "x"})
	y := psitest.People(t, [3]string{"7", "c", "x"}, [3]string{"8", "b", "x"}, [3]string{"9", "d", "x"})
	var results [2]job.Result
	party := func(i int, in table.Source) sessiontest.Party {
		return func(ctx context.Context, sess *session.Session) (err error) {
			results[i], err = d.Run(ctx, job.Env{Spec: s, Session: sess, Inputs: []table.Source{in}, Once: &job.MemoryOnce{}})
			return err
		}
	}
	if err := d.Validate(s); err != nil {
		t.Fatal(err)
	}
	sessiontest.NoErrors(t, sessiontest.Net{Timeout: time.Minute}.Run(t, party(0, x), party(1, y)))
	for i, r := range results {
		if r.Counts[job.CountCommon] != 2 {
			t.Errorf("p%d: %v", i, r.Counts)
		}
	}
}

// What estimateMalicious says of bytes and rounds is what a run takes.
func TestMaliciousEstimate(t *testing.T) {
	for _, n := range []int{1000, 30_000} {
		ds := digests(0, n)
		out := sessiontest.Net{}.Run(t,
			func(ctx context.Context, s *session.Session) error {
				_, err := SendDigests(ctx, s, ds, maliciousBoth)
				return err
			},
			func(ctx context.Context, s *session.Session) error {
				_, err := ReceiveDigests(ctx, s, ds, maliciousBoth)
				return err
			})
		sessiontest.NoErrors(t, out)
		c, err := estimateMalicious(int64(n), int64(n))
		if err != nil {
			t.Fatal(err)
		}
		got := out[0].Traffic.Sent + out[0].Traffic.Received
		if c.Bytes < got || c.Bytes > got*16/10 {
			t.Errorf("%d rows: %d bytes, estimated %d", n, got, c.Bytes)
		}
		if d := c.Rounds - out[0].Traffic.Rounds; d < -3 || d > 3 {
			t.Errorf("%d rows: %d rounds, estimated %d", n, out[0].Traffic.Rounds, c.Rounds)
		}
	}
	if _, err := estimateMalicious(-1, 0); !errors.Is(err, ErrSize) {
		t.Errorf("%v", err)
	}
}
