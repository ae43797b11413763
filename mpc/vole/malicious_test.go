package vole

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

var malicious = Params{Malicious: true}

func TestMaliciousIdentity(t *testing.T) {
	for _, n := range []int{0, 1, 4097, 1 << 16, ChunkElements + 12345} {
		r := runWith(t, sessiontest.Net{}, n, malicious)
		sessiontest.NoErrors(t, r.out)
		r.check(t, n)
	}
}

func TestMaliciousExtendAgain(t *testing.T) {
	sizes := []int{10, 5000, 10}
	var got [3]result
	sessiontest.NoErrors(t, sessiontest.Net{}.Run(t,
		func(ctx context.Context, s *session.Session) error {
			sender, err := NewSender(ctx, s, malicious)
			for i, n := range sizes {
				if err == nil {
					got[i].delta = sender.Delta()
					got[i].b, err = sender.Extend(ctx, n)
				}
			}
			return err
		},
		func(ctx context.Context, s *session.Session) error {
			receiver, err := NewReceiver(ctx, s, malicious)
			for i, n := range sizes {
				if err == nil {
					got[i].a, got[i].c, err = receiver.Extend(ctx, n)
				}
			}
			return err
		}))
	for i, n := range sizes {
		got[i].check(t, n)
	}
	if got[0].a[0] == got[2].a[0] || got[0].b[0] == got[2].b[0] {
		t.Error("two calls have one vector")
	}
}

// The messages of a run of few elements, by party.
const (
	senderPoints = iota
	senderTrees
	senderAnswer
	senderMessages = 4

	receiverChallenge = 7
	receiverMessages  = 8
)

// The check of the trees, against a sender whose sums are none of a tree's: of
// one that it makes wrong at both sides or for all leaves nothing can come but an
// error, and one side alone passes exactly where the receiver does not look. (It is
// then the seal that finds it, since here the sender is honest and the bytes were
// changed.) The others are answers and challenges that are not those of the trees.
func TestMaliciousTrees(t *testing.T) {
	const n = 5
	clean := tamperedWith(t, malicious, "", nil, time.Hour, n)
	sessiontest.NoErrors(t, clean.out)
	clean.check(t, n)
	if a, b := clean.out[0].Traffic.MessagesSent, clean.out[1].Traffic.MessagesSent; a != senderMessages+1 || b != receiverMessages+1 {
		t.Fatalf("%d and %d messages, with that of Bind", a, b) // the numbers above are of other messages
	}
	s := codes[DefaultCode].shape(n)
	tree := func(i int) int { return 1 + i*s.treeElements()*gf128.Size } // after the number
	flip := func(bytes ...int) func(p []byte) {
		return func(p []byte) {
			for _, at := range bytes {
				p[at] ^= 1
			}
		}
	}
	for name, c := range map[string]struct {
		party  session.PartyID
		at     int
		change func(p []byte)
	}{
		"the sum of a tree's leaves": {"p0", senderTrees, flip(tree(3) + (s.treeElements()-1)*gf128.Size)},
		"both sums of a level":       {"p0", senderTrees, flip(tree(100), tree(100)+gf128.Size)},
		"both sums of the leaves":    {"p0", senderTrees, flip(tree(848)-3*gf128.Size, tree(848)-2*gf128.Size)},
		"two trees alike": {"p0", senderTrees, flip(
			tree(1)+(s.treeElements()-1)*gf128.Size, tree(2)+(s.treeElements()-1)*gf128.Size)},
		"another answer":    {"p0", senderAnswer, flip(5)},
		"another challenge": {"p1", receiverChallenge, flip(5)},
		"another weight":    {"p1", receiverChallenge, flip(1 + gf128.Size)},
		"another sum":       {"p1", receiverChallenge, flip(1 + 2*gf128.Size)},
	} {
		r := tamperedWith(t, malicious, c.party, func(i int, p []byte) [][]byte {
			if i == c.at+1 { // after that of Bind
				c.change(p)
			}
			return [][]byte{p}
		}, time.Hour, n)
		if err := r.out[1].Err; !errors.Is(err, ErrCheat) || r.a != nil || r.c != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// One wrong sum of a level is a guess of one bit of a noise position.
func TestMaliciousGuess(t *testing.T) {
	passed := 0
	const runs = 24
	for i := range runs {
		r := tamperedWith(t, malicious, "p0", func(at int, p []byte) [][]byte {
			if at == senderTrees+1 {
				p[1+i*9*gf128.Size] ^= 1
			}
			return [][]byte{p}
		}, time.Hour, 5)
		switch err := r.out[1].Err; {
		case errors.Is(err, ErrDisagree):
			passed++ // the check; the bytes were changed all the same
		case !errors.Is(err, ErrCheat):
			t.Fatal(err)
		}
	}
	if passed == 0 || passed == runs { // 2^-23
		t.Errorf("%d of %d guesses were right", passed, runs)
	}
}

// Every message of the mode, changed: somebody reports a typed error, and the
// receiver has no result.
func TestMaliciousTampering(t *testing.T) {
	attacks := map[string]func(at int) sessiontest.Change{
		"flip":  func(at int) sessiontest.Change { return sessiontest.Flip(at, 8*20+3) },
		"last":  flipLast,
		"cut":   func(at int) sessiontest.Change { return sessiontest.Truncate(at, 1) },
		"grown": func(at int) sessiontest.Change { return sessiontest.Grow(at, 1) },
		"empty": func(at int) sessiontest.Change { return sessiontest.Replace(at, nil) },
	}
	for party, messages := range map[session.PartyID]int{"p0": senderMessages, "p1": receiverMessages} {
		for name, attack := range attacks {
			for at := 1; at <= messages; at++ {
				r := tamperedWith(t, malicious, party, attack(at), time.Hour, 5)
				err := sessiontest.Cause(r.out)
				if !typed(err) && !errors.Is(err, sessiontest.ErrPeerFailed) {
					t.Errorf("%s of message %d of %s: %v", name, at, party, err)
				}
				if r.out[1].Err == nil || r.a != nil || r.c != nil {
					t.Errorf("%s of message %d of %s: the receiver has a result", name, at, party)
				}
			}
		}
	}
}

// A party with the checks and one without do not begin, in a session of their own
// or in one that is bound.
func TestModesAreCompared(t *testing.T) {
	for _, bind := range []bool{false, true} {
		for _, p := range [][2]Params{{malicious, {}}, {{}, malicious}} {
			bound := func(ctx context.Context, s *session.Session) error {
				if bind {
					return s.Bind(ctx, "test")
				}
				return nil
			}
			out := sessiontest.Net{}.Run(t,
				func(ctx context.Context, s *session.Session) error {
					err := bound(ctx, s)
					if err == nil {
						_, _, err = Send(ctx, s, 5, p[0])
					}
					return err
				},
				func(ctx context.Context, s *session.Session) error {
					err := bound(ctx, s)
					if err == nil {
						_, _, err = Receive(ctx, s, 5, p[1])
					}
					return err
				})
			if err := sessiontest.Cause(out); !errors.Is(err, session.ErrMismatch) {
				t.Errorf("bound %v, %v: %v", bind, p, err)
			}
		}
	}
}

// Both sides of the check agree on honest trees, and on no others, for every
// shape: an error of one leaf of one tree changes the sum.
func TestWeights(t *testing.T) {
	r := mrand.New(mrand.NewPCG(1, 2))
	element := func() gf128.Element { return gf128.Element{Lo: r.Uint64(), Hi: r.Uint64()} }
	s := codes[DefaultCode].shape(5)
	ch := challenge{leaf: element(), tree: element(), masked: element()}
	if again, err := parseChallenge(ch.append(nil)); err != nil || again != ch {
		t.Fatal(err)
	}
	w := ch.weights(s)
	seen := make(map[gf128.Element]string)
	for _, i := range []int{0, 1, 847} {
		for x := range s.size(i) {
			leaves := make([]gf128.Element, s.room())
			leaves[x] = gf128.One
			sum, name := w.sum(i, leaves), fmt.Sprint(i, ":", x)
			if other, twice := seen[sum]; twice || sum.IsZero() {
				t.Fatalf("%s weighs what %s does", name, other)
			}
			seen[sum] = name
		}
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(make([]byte, 3*gf128.Size))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseChallenge(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(c.append(nil), b) {
			t.Fatalf("%x decodes to something else", b)
		}
	})
}

// FuzzMaliciousRoles lets a peer say anything to either role.
func FuzzMaliciousRoles(f *testing.F) {
	const name = DefaultCode + "+malicious"
	hello := appendHello(nil, name, make([]byte, nonceSize))
	point := append([]byte{9}, make([]byte, 31)...)
	f.Add(false, hello, point, make([]byte, 2*6144), []byte{5})
	f.Add(true, bytes.Repeat(point, 512), make([]byte, 848*9*16), make([]byte, hashSize), make([]byte, 16))
	f.Fuzz(func(t *testing.T, receive bool, a, b, c, d []byte) {
		if len(a)+len(b)+len(c)+len(d) > 1<<19 {
			return
		}
		if err := scriptedWith(t, malicious, name, receive, 5, a, b, c, d); !typed(err) {
			t.Fatalf("ended with %v", err)
		}
	})
}
