package oprf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// faults are the errors of this package that tampering may end in.
var faults = []error{ErrMessage, ErrPoint, ErrSize, ErrDisagree}

// runWithin is run with a deadline of its own for each party.
func (w *world) runWithin(t testing.TB, idle time.Duration, ys []string, src table.Source, p Params) (r result) {
	t.Helper()
	r.out = w.net.Run(t,
		psitest.Within(idle, func(ctx context.Context, s *session.Session) (err error) {
			r.client, err = Query(ctx, s, psitest.Items(ys), len(ys), w.client, p)
			return err
		}),
		psitest.Within(idle, func(ctx context.Context, s *session.Session) (err error) {
			r.server, err = Serve(ctx, s, src, table.RuleNone, w.server, p)
			return err
		}))
	return r
}

// sentBy counts a party's messages in an untouched run.
func (w *world) sentBy(t *testing.T, party session.PartyID, ys []string, src table.Source, p Params) int {
	t.Helper()
	var v sessiontest.View
	w.net.Wrap = func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Self == party {
			return sessiontest.Record(ch, &v)
		}
		return ch
	}
	sessiontest.NoErrors(t, w.run(t, ys, src, p).out)
	w.net.Wrap = nil
	return len(v.Sent())
}

// Every message of either side, changed in every way, with a cold cache and a
// warm one: the run ends, somebody reports a typed error, and whoever reports
// none has the right result. What is in the caches then still gives right ones.
func TestTampering(t *testing.T) {
	xs, ys := psitest.Number(0, 20), psitest.Number(10, 30)
	src := rowsOf(t, xs)
	for _, p := range []Params{{}, both} {
		for _, warm := range []bool{false, true} {
			for _, party := range []session.PartyID{"p0", "p1"} {
				prepared := newWorld()
				if warm {
					checkIdeal(t, ys, xs, p, prepared.run(t, ys, src, p))
				}
				counting := newWorld()
				if warm {
					counting = prepared
				}
				n := counting.sentBy(t, party, ys, src, p)
				if n < 5 {
					t.Fatalf("%s sends %d messages", party, n)
				}
				for a := range psitest.Attacks(n, psitest.FurtherIn) {
					what := fmt.Sprintf("%s, %s, warm %v", party, p.output(), warm)
					w := newWorld()
					if warm {
						w.client.Cache, w.server.Cache = copied(t, prepared.client.Cache), copied(t, prepared.server.Cache)
					}
					w.net = psitest.Tampering(party, "", a.Change)
					r := w.runWithin(t, a.Idle(50*time.Millisecond), ys, src, p)
					if err := a.CheckNoticed(t, what, r.out, faults...); errors.Is(err, job.ErrMinIntersection) {
						t.Errorf("%v of %s passed for a small intersection", a, what)
					}
					for i, m := range []Match{r.client, r.server} {
						if want := 10; r.out[i].Err == nil && len(m.Rows) != want && (i == 0 || p.Broadcast) {
							t.Errorf("%v of %s: p%d has %d rows and no error", a, what, i, len(m.Rows))
						}
						if r.out[i].Err != nil && (m.Rows != nil || m.Own != 0) {
							t.Errorf("%v of %s: p%d has a result and an error", a, what, i)
						}
					}
					w.net = sessiontest.Net{}
					checkIdeal(t, ys, xs, p, w.run(t, ys, src, p))
				}
			}
		}
	}
}

// What one session's messages are is worth nothing in another: they are refused.
func TestReplay(t *testing.T) {
	xs, ys := psitest.Number(0, 20), psitest.Number(10, 30)
	for _, party := range []session.PartyID{"p0", "p1"} {
		w := newWorld()
		checkIdeal(t, ys, xs, both, w.run(t, ys, rowsOf(t, xs), both))
		var v sessiontest.View
		w.net.Wrap = func(l sessiontest.Link, ch session.Channel) session.Channel {
			if l.Self == party {
				return sessiontest.Record(ch, &v)
			}
			return ch
		}
		checkIdeal(t, ys, xs, both, w.run(t, ys, rowsOf(t, xs), both))
		old := v.Sent()
		for from := 1; from < len(old)-1; from++ {
			w.net = psitest.Tampering(party, "", func(i int, p []byte) [][]byte {
				if i >= from && i < len(old) {
					return [][]byte{old[i]}
				}
				return [][]byte{p}
			})
			r := w.run(t, ys, rowsOf(t, xs), both)
			err := sessiontest.Cause(r.out)
			if err == nil {
				// The first messages of a client say its number of items and what it
				// has, and of a server which epoch: the same in every session.
				checkIdeal(t, ys, xs, both, r)
				continue
			}
			if !psitest.Typed(err, faults...) {
				t.Errorf("%s from message %d on: %v", party, from, err)
			}
		}
		w.net = psitest.Tampering(party, "", func(i int, p []byte) [][]byte {
			if k := transcript.Kind(old[min(i, len(old)-1)][0]); i > 0 && (k == kindBlinded || k == kindEvaluated) {
				return [][]byte{old[i]}
			}
			return [][]byte{p}
		})
		if err := sessiontest.Cause(w.run(t, ys, rowsOf(t, xs), both).out); !errors.Is(err, ErrDisagree) {
			t.Errorf("the points of %s's last session: %v", party, err)
		}
	}
}

func curvePoint(t testing.TB, name string) curve25519.Point {
	h, err := curve25519.NewHasher("test")
	if err != nil {
		t.Fatal(err)
	}
	var u [1]curve25519.FieldElement
	var p [1]curve25519.Point
	h.HashToField(&u[0], []byte(name))
	curve25519.MapToCurve(p[:], u[:])
	return p[0]
}

// hostilePoints are encodings that no honest party sends.
func hostilePoints(t testing.TB) map[string][]byte {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	littleEndian := func(x *big.Int) []byte {
		b := x.FillBytes(make([]byte, 32))
		slices.Reverse(b)
		return b
	}
	onTwist := func() []byte { // g(x) is no square
		for x := int64(2); ; x++ {
			g := big.NewInt(x*x*x + 486662*x*x + x)
			if big.Jacobi(g, p) == -1 {
				return littleEndian(big.NewInt(x))
			}
		}
	}
	good := curvePoint(t, "good")
	good[31] |= 0x80
	return map[string][]byte{
		"zero":       make([]byte, 32),
		"one":        littleEndian(big.NewInt(1)),
		"minus one":  littleEndian(new(big.Int).Sub(p, big.NewInt(1))),
		"p":          littleEndian(p),
		"p plus two": littleEndian(new(big.Int).Add(p, big.NewInt(2))),
		"top bit":    good[:],
		"all ones":   bytes.Repeat([]byte{0xff}, 32),
		"twist":      onTwist(),
	}
}

// Points that would tell something of a scalar are refused by both, before they
// are multiplied.
func TestHostilePoints(t *testing.T) {
	for name, point := range hostilePoints(t) {
		for party, k := range map[session.PartyID]transcript.Kind{"p0": kindBlinded, "p1": kindEvaluated} {
			w := newWorld()
			var answered atomic.Bool // both parties send
			w.net.Wrap = func(l sessiontest.Link, ch session.Channel) session.Channel {
				return sessiontest.Tamper(ch, func(i int, m []byte) [][]byte {
					if i > 0 && l.Self == party && m[0] == byte(k) {
						copy(m[2+7*32:], point)
					}
					if i > 0 && m[0] == byte(kindEvaluated) {
						answered.Store(true)
					}
					return [][]byte{m}
				})
			}
			r := w.run(t, psitest.Number(10, 30), rowsOf(t, psitest.Number(0, 20)), Params{})
			if err := sessiontest.Cause(r.out); !errors.Is(err, ErrPoint) {
				t.Errorf("%s of %s: %v", name, party, err)
			}
			if party == "p0" && answered.Load() {
				t.Errorf("%s was answered", name)
			}
		}
	}
}

// Another point of the curve in the place of one cannot be told from it until
// the digest comes: before the client looks anything up.
func TestChangedPointsAreFound(t *testing.T) {
	xs := psitest.Number(0, 20)
	other := curvePoint(t, "another point")
	for party, k := range map[session.PartyID]transcript.Kind{"p0": kindBlinded, "p1": kindEvaluated} {
		w := newWorld()
		w.net = psitest.Tampering(party, "", func(i int, m []byte) [][]byte {
			if i > 0 && m[0] == byte(k) {
				// Where it keeps the order.
				for at := 2; at+32 <= len(m); at += 32 {
					if k == kindEvaluated || bytes.Compare(m[at:at+32], other[:]) >= 0 {
						copy(m[at:], other[:])
						break
					}
				}
			}
			return [][]byte{m}
		})
		r := w.run(t, xs, rowsOf(t, xs), Params{})
		if err := sessiontest.Cause(r.out); !errors.Is(err, ErrDisagree) {
			t.Errorf("%s: %v", party, err)
		}
	}
}

// A client that asks for one item twice, or in another order, is refused.
func TestPointsAscend(t *testing.T) {
	for name, change := range map[string]func(points []byte){
		"twice":   func(b []byte) { copy(b[32:64], b[:32]) },
		"swapped": func(b []byte) { x := bytes.Clone(b[:32]); copy(b, b[32:64]); copy(b[32:], x) },
	} {
		w := newWorld()
		w.net = psitest.Tampering("p0", "", func(i int, m []byte) [][]byte {
			if i > 0 && m[0] == byte(kindBlinded) {
				change(m[2:])
			}
			return [][]byte{m}
		})
		r := w.run(t, psitest.Number(0, 20), rowsOf(t, psitest.Number(0, 20)), Params{})
		if err := sessiontest.Cause(r.out); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Two sets of one size give transcripts of the same lengths, and nothing of a
// client's is the same in two sessions of one set.
func TestTranscriptsAreAlike(t *testing.T) {
	xs := psitest.Number(0, 500)
	w := newWorld()
	sessiontest.NoErrors(t, w.run(t, nil, rowsOf(t, xs), Params{}).out)
	var lengths [][]int
	seen := map[string]bool{}
	for _, ys := range [][]string{psitest.Number(0, 30), psitest.Number(0, 30), psitest.Number(1000, 1030), append(psitest.Number(400, 415), psitest.Number(900, 915)...)} {
		var v sessiontest.View
		w.net.Wrap = func(l sessiontest.Link, ch session.Channel) session.Channel {
			if l.Self == "p0" {
				return sessiontest.Record(ch, &v)
			}
			return ch
		}
		checkIdeal(t, ys, xs, Params{}, w.run(t, ys, rowsOf(t, xs), Params{}))
		var ns []int
		for _, m := range append(v.Sent()[1:], v.Received()[1:]...) { // without the frames that bind
			ns = append(ns, len(m))
			if m[0] == byte(kindBlinded) || m[0] == byte(kindEvaluated) {
				for p := range slices.Chunk(m[2:], 32) {
					if seen[string(p)] {
						t.Fatal("a point occurs twice")
					}
					seen[string(p)] = true
				}
			}
		}
		lengths = append(lengths, ns)
	}
	for i := range lengths {
		if !slices.Equal(lengths[i], lengths[0]) {
			t.Errorf("set %d: messages of %v bytes, the first set's have %v", i, lengths[i], lengths[0])
		}
	}
}
