package ot

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

type role func(ctx context.Context, c Conn, cfg Config) error

// connect runs a sender and a receiver, whose messages change may tamper with,
// and returns how each ended.
func connect(t testing.TB, instances int, net sessiontest.Net, sender, receiver role) []sessiontest.Outcome {
	t.Helper()
	party := func(f role) sessiontest.Party {
		return func(ctx context.Context, s *session.Session) error {
			_, ch, err := s.Other()
			if err != nil {
				return err
			}
			return f(ctx, ch, Config{Binding: [32]byte{1, 2, 3}, Instances: instances, Rand: s.Rand()})
		}
	}
	return net.Run(t, party(sender), party(receiver))
}

// pair runs f and g with one instance each.
func pair(t testing.TB, f func(context.Context, Conn, *Sender) error, g func(context.Context, Conn, *Receiver) error) {
	t.Helper()
	sessiontest.NoErrors(t, connect(t, 1, sessiontest.Net{},
		func(ctx context.Context, c Conn, cfg Config) error {
			s, err := NewSender(ctx, c, cfg)
			if err != nil {
				return err
			}
			return f(ctx, c, s[0])
		},
		func(ctx context.Context, c Conn, cfg Config) error {
			r, err := NewReceiver(ctx, c, cfg)
			if err != nil {
				return err
			}
			return g(ctx, c, r[0])
		}))
}

func randomBytes(r *mrand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func randomElements(r *mrand.Rand, n int) []gf128.Element {
	v := make([]gf128.Element, n)
	gf128.Load(v, randomBytes(r, n*gf128.Size))
	return v
}

func TestBaseTransfers(t *testing.T) {
	choices := make([]byte, 200)
	for i := range choices {
		choices[i] = byte(i % 3 & 1)
	}
	var pairs [][2]gf128.Element
	var keys []gf128.Element
	sessiontest.NoErrors(t, connect(t, 1, sessiontest.Net{},
		func(ctx context.Context, c Conn, cfg Config) (err error) {
			keys, err = baseReceive(ctx, c, cfg, choices)
			return err
		},
		func(ctx context.Context, c Conn, cfg Config) (err error) {
			pairs, err = baseSend(ctx, c, cfg, len(choices))
			return err
		}))
	seen := make(map[gf128.Element]bool)
	for i, c := range choices {
		if keys[i] != pairs[i][c] {
			t.Fatalf("transfer %d: not the key of choice %d", i, c)
		}
		for _, k := range pairs[i] {
			if seen[k] {
				t.Fatalf("transfer %d: a key that was there before", i)
			}
			seen[k] = true
		}
	}
}

// The keys that the chooser sends are points of the curve for every choice, and
// where the one that it knows stands is the only difference.
func TestChoicesChangeTheOrderAlone(t *testing.T) {
	sent := func(choice byte) []byte {
		var view sessiontest.View
		net := sessiontest.Net{
			Rand: func(i int) io.Reader { return mrand.NewChaCha8([32]byte{byte(i)}) },
			Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
				if l.Self == "p0" {
					return sessiontest.Record(ch, &view)
				}
				return ch
			},
		}
		sessiontest.NoErrors(t, connect(t, 1, net,
			func(ctx context.Context, c Conn, cfg Config) error {
				_, err := baseReceive(ctx, c, cfg, bytes.Repeat([]byte{choice}, 16))
				return err
			},
			func(ctx context.Context, c Conn, cfg Config) error {
				_, err := baseSend(ctx, c, cfg, 16)
				return err
			}))
		return view.Sent()[0]
	}
	zero, one := sent(0), sent(1)
	for i := range 16 {
		a, b := zero[i*pairSize:(i+1)*pairSize], one[i*pairSize:(i+1)*pairSize]
		if !bytes.Equal(a[:32], b[32:]) || !bytes.Equal(a[32:], b[:32]) || bytes.Equal(a, b) {
			t.Fatalf("pair %d differs in more than its order", i)
		}
	}
}

func TestRandom(t *testing.T) {
	r := mrand.New(mrand.NewPCG(1, 2))
	sizes := []int{0, 1, 63, 64, 65, 1000, transfersPerMessage + 77}
	var choices [][]byte
	for _, n := range sizes {
		choices = append(choices, randomBytes(r, (n+7)/8))
	}
	pads, got := make([][][2]gf128.Element, len(sizes)), make([][]gf128.Element, len(sizes))
	pair(t,
		func(ctx context.Context, c Conn, s *Sender) (err error) {
			for i, n := range sizes {
				if pads[i], err = s.Random(ctx, c, n); err != nil {
					return err
				}
			}
			return nil
		},
		func(ctx context.Context, c Conn, r *Receiver) (err error) {
			for i, n := range sizes {
				if got[i], err = r.Random(ctx, c, choices[i], n); err != nil {
					return err
				}
			}
			return nil
		})
	var all []gf128.Element
	for i, n := range sizes {
		if len(pads[i]) != n || len(got[i]) != n {
			t.Fatalf("%d pairs and %d elements, want %d", len(pads[i]), len(got[i]), n)
		}
		for j, p := range pads[i] {
			if got[i][j] != p[choices[i][j>>3]>>(j&7)&1] {
				t.Fatalf("n = %d: transfer %d is not the chosen one", n, j)
			}
			all = append(all, p[0], p[1])
		}
	}
	uniform(t, "pads", all)
	seen := make(map[gf128.Element]bool)
	for _, x := range all {
		if seen[x] {
			t.Fatal("a pad came twice")
		}
		seen[x] = true
	}
}

// uniform is a chi-square test of the bytes.
func uniform(t testing.TB, what string, v []gf128.Element) {
	t.Helper()
	uniformBytes(t, what, gf128.AppendBytes(nil, v))
}

func uniformBytes(t testing.TB, what string, b []byte) {
	t.Helper()
	var counts [256]int
	for _, x := range b {
		counts[x]++
	}
	mean, sum := float64(len(b))/256, 0.0
	for _, c := range counts {
		sum += (float64(c) - mean) * (float64(c) - mean) / mean
	}
	// 255 degrees of freedom: six deviations above the mean.
	if sum > 390 {
		t.Errorf("%s: chi-square %.1f of 255 degrees", what, sum)
	}
}

// What the receiver says looks the same for any choices.
func TestCorrectionsAreUniform(t *testing.T) {
	const n = 1 << 15
	for name, y := range map[string]byte{"zeros": 0, "ones": 0xff} {
		s := newStreams(randomElements(mrand.New(mrand.NewPCG(3, uint64(y))), groups*leaves))
		_, msg := s.correct(bytes.Repeat([]byte{y}, n/8))
		uniformBytes(t, "corrections of "+name, msg)
	}
}

func TestProducts(t *testing.T) {
	r := mrand.New(mrand.NewPCG(4, 5))
	for _, n := range []int{0, 1, 2, productsPerMessage, productsPerMessage + 1, 3000} {
		y := randomElements(r, n)
		var delta gf128.Element
		var m, w []gf128.Element
		pair(t,
			func(ctx context.Context, c Conn, s *Sender) (err error) {
				delta = s.Delta()
				w, err = s.Products(ctx, c, n)
				return err
			},
			func(ctx context.Context, c Conn, r *Receiver) (err error) {
				m, err = r.Products(ctx, c, y)
				return err
			})
		if len(m) != n || len(w) != n {
			t.Fatalf("%d and %d products, want %d", len(m), len(w), n)
		}
		gf128.MulAdd(m, y, delta)
		if !slices.Equal(m, w) {
			t.Fatalf("n = %d: w ≠ m + Δ·y", n)
		}
	}
}

func TestInstancesAreApart(t *testing.T) {
	var senders []*Sender
	var receivers []*Receiver
	sessiontest.NoErrors(t, connect(t, 3, sessiontest.Net{},
		func(ctx context.Context, c Conn, cfg Config) (err error) {
			senders, err = NewSender(ctx, c, cfg)
			return err
		},
		func(ctx context.Context, c Conn, cfg Config) (err error) {
			receivers, err = NewReceiver(ctx, c, cfg)
			return err
		}))
	if len(senders) != 3 || len(receivers) != 3 {
		t.Fatalf("%d senders, %d receivers", len(senders), len(receivers))
	}
	y := make([]byte, 64)
	seen := make(map[string]bool)
	for i, s := range senders {
		cols, msg := receivers[i].streams.correct(y)
		if got := s.streams.apply(s.delta, msg, len(y)); !bytes.Equal(got.b, cols.b) {
			t.Errorf("instance %d: columns for choices of zero differ", i)
		}
		delta := s.Delta().Bytes()
		if seen[string(delta[:])] || seen[string(msg)] {
			t.Errorf("instance %d repeats another one", i)
		}
		seen[string(delta[:])], seen[string(msg)] = true, true
	}
}

// All leaves but the missing one, in the order of their distance from it.
func TestTrees(t *testing.T) {
	r := mrand.New(mrand.NewPCG(6, 7))
	prg := aeshash.NewPair(aeshash.New([16]byte{1}), aeshash.New([16]byte{2}))
	for range 8 {
		delta := randomElements(r, 1)[0]
		base := make([][2]gf128.Element, deltaBits)
		chosen := make([]gf128.Element, deltaBits)
		for i := range base {
			base[i] = [2]gf128.Element(randomElements(r, 2))
			chosen[i] = base[i][1-delta.Bit(i/groupBits*groupBits+groupBits-1-i%groupBits)]
		}
		seeds, msg := buildTrees(prg, randomElements(r, groups), base)
		if len(msg) != treeBytes || len(seeds) != groups*leaves {
			t.Fatalf("%d bytes, %d seeds", len(msg), len(seeds))
		}
		opened := openTrees(prg, msg, delta, chosen)
		for g := range groups {
			missing := 0
			for b := range groupBits {
				missing |= int(delta.Bit(g*groupBits+b)) << b
			}
			for x := range leaves {
				want := seeds[g*leaves+(x^missing)]
				if x == 0 {
					want = gf128.Element{}
				}
				if opened[g*leaves+x] != want {
					t.Fatalf("group %d, missing %d: seed %d", g, missing, x)
				}
			}
		}
	}
}

func TestTranspose(t *testing.T) {
	r := mrand.New(mrand.NewPCG(8, 9))
	for _, n := range []int{1, 64, 100, 130} {
		c := columns{bitBytes(n), randomBytes(r, deltaBits*bitBytes(n))}
		for i, row := range c.rows(n) {
			for j := range deltaBits {
				if row.Bit(j) != uint64(c.at(j)[i>>3]>>(i&7)&1) {
					t.Fatalf("n = %d: bit %d of row %d", n, j, i)
				}
			}
		}
	}
}

func TestSelections(t *testing.T) {
	a, b := gf128.Element{Lo: 1, Hi: 2}, gf128.Element{Lo: 3, Hi: 4}
	if pick(0, a, b) != a || pick(1, a, b) != b || !scale(0, a).IsZero() || scale(1, a) != a {
		t.Error("pick or scale")
	}
	for x := range uint64(20) {
		for y := range uint64(20) {
			if want := x == y; (equal(x, y) == 1) != want || equal(x, y) > 1 {
				t.Fatalf("equal(%d, %d) = %d", x, y, equal(x, y))
			}
		}
	}
}

func TestConfigs(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no randomness":      {},
		"negative instances": {Rand: rand.Reader, Instances: -1},
		"too many instances": {Rand: rand.Reader, Instances: 9},
	} {
		if _, err := NewSender(t.Context(), nil, cfg); err == nil {
			t.Errorf("sender with %s", name)
		}
		if _, err := NewReceiver(t.Context(), nil, cfg); err == nil {
			t.Errorf("receiver with %s", name)
		}
	}
	s, r := &Sender{}, &Receiver{}
	for _, n := range []int{-1, MaxTransfers + 1} {
		if _, err := s.Random(t.Context(), nil, n); !errors.Is(err, ErrSize) {
			t.Errorf("%d transfers: %v", n, err)
		}
		if _, err := r.Random(t.Context(), nil, nil, n); !errors.Is(err, ErrSize) {
			t.Errorf("%d choices: %v", n, err)
		}
		if _, err := s.Products(t.Context(), nil, n); !errors.Is(err, ErrSize) {
			t.Errorf("%d products: %v", n, err)
		}
	}
	if _, err := r.Random(t.Context(), nil, make([]byte, 1), 9); !errors.Is(err, ErrSize) {
		t.Errorf("nine choices in a byte: %v", err)
	}
}

// script is a peer whose messages stand beforehand.
type script struct{ messages [][]byte }

func (s *script) Send(context.Context, []byte) error { return nil }
func (s *script) Recv(context.Context) ([]byte, error) {
	if len(s.messages) == 0 {
		return nil, io.EOF
	}
	m := s.messages[0]
	s.messages = s.messages[1:]
	return m, nil
}

// points returns n encodings of a good point, one of them replaced.
func points(n, at int, bad []byte) []byte {
	b := bytes.Repeat(append([]byte{9}, make([]byte, 31)...), n)
	copy(b[at*curve25519.Size:], bad)
	return b
}

func TestHostileMessages(t *testing.T) {
	cfg := Config{Rand: rand.Reader}
	for name, bad := range map[string][]byte{
		"zero":        make([]byte, 32),
		"one":         append([]byte{1}, make([]byte, 31)...),
		"not reduced": bytes.Repeat([]byte{0xff}, 32),
		"top bit":     append(append([]byte{9}, make([]byte, 30)...), 0x80),
		"twist":       append([]byte{2}, make([]byte, 31)...),
	} {
		if _, err := NewSender(t.Context(), &script{[][]byte{points(128, 77, bad)}}, cfg); !errors.Is(err, ErrPoint) {
			t.Errorf("public key %s: %v", name, err)
		}
		if _, err := NewReceiver(t.Context(), &script{[][]byte{points(256, 77, bad)}}, cfg); !errors.Is(err, ErrPoint) {
			t.Errorf("key of a pair %s: %v", name, err)
		}
	}
	good := points(128, 0, nil)
	for name, c := range map[string]struct {
		messages [][]byte
		want     error
	}{
		"nothing":        {nil, io.ErrUnexpectedEOF},
		"a point less":   {[][]byte{good[32:]}, ErrMessage},
		"a byte more":    {[][]byte{append(slices.Clone(good), 0)}, ErrMessage},
		"no trees":       {[][]byte{good}, io.ErrUnexpectedEOF},
		"trees cut":      {[][]byte{good, make([]byte, treeBytes-1)}, ErrMessage},
		"no corrections": {[][]byte{good, make([]byte, treeBytes)}, io.ErrUnexpectedEOF},
		"cut off":        {[][]byte{good, make([]byte, treeBytes), make([]byte, groups*8-1)}, ErrMessage},
		"too long":       {[][]byte{good, make([]byte, treeBytes), make([]byte, groups*8+1)}, ErrMessage},
	} {
		conn := &script{c.messages}
		s, err := NewSender(t.Context(), conn, cfg)
		if err == nil {
			_, err = s[0].Random(t.Context(), conn, 5)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// Bytes that were changed under way give other results, errors or both, and
// neither side hangs or panics: that they were is for the caller's protocol to
// notice.
func TestTampering(t *testing.T) {
	for name, attack := range map[string]func(at int) sessiontest.Change{
		// A bit of every byte: a sum of a tree that is not read may be anything.
		"flip": func(at int) sessiontest.Change {
			return func(i int, p []byte) [][]byte {
				for j := range p {
					if i == at {
						p[j] ^= 4
					}
				}
				return [][]byte{p}
			}
		},
		"truncate": func(at int) sessiontest.Change { return sessiontest.Truncate(at, 1) },
		"grow":     func(at int) sessiontest.Change { return sessiontest.Grow(at, 1) },
		"empty":    func(at int) sessiontest.Change { return sessiontest.Replace(at, nil) },
		"repeat":   sessiontest.Repeat,
	} {
		for party, messages := range map[session.PartyID]int{"p0": 1, "p1": 3} {
			for at := range messages {
				var pads [][2]gf128.Element
				var got []gf128.Element
				net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
					if l.Self == party {
						return sessiontest.Tamper(ch, attack(at))
					}
					return ch
				}}
				out := connect(t, 1, net,
					func(ctx context.Context, c Conn, cfg Config) error {
						s, err := NewSender(ctx, c, cfg)
						if err == nil {
							pads, err = s[0].Random(ctx, c, 64)
						}
						return err
					},
					func(ctx context.Context, c Conn, cfg Config) error {
						r, err := NewReceiver(ctx, c, cfg)
						if err == nil {
							got, err = r[0].Random(ctx, c, make([]byte, 8), 64)
						}
						return err
					})
				what := fmt.Sprintf("%s of message %d of %s", name, at, party)
				err := sessiontest.Cause(out)
				if err != nil && !errors.Is(err, ErrMessage) && !errors.Is(err, ErrPoint) && !errors.Is(err, ErrCheat) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, sessiontest.ErrPeerFailed) {
					t.Errorf("%s: %v", what, err)
				}
				if err == nil && name == "repeat" && at == messages-1 {
					continue // nobody reads past the last message
				}
				same := err == nil && len(got) == 64
				for i := range got {
					same = same && got[i] == pads[i][0]
				}
				if same {
					t.Errorf("%s changed nothing", what)
				}
			}
		}
	}
}

// FuzzSender lets a receiver say anything.
func FuzzSender(f *testing.F) {
	f.Add(points(128, 0, nil), make([]byte, treeBytes), make([]byte, groups*8))
	f.Add(points(128, 3, make([]byte, 32)), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		conn := &script{[][]byte{a, b, c}}
		s, err := NewSender(t.Context(), conn, Config{Rand: rand.Reader})
		if err == nil {
			_, err = s[0].Random(t.Context(), conn, 5)
		}
		known(t, err)
	})
}

// FuzzReceiver lets a sender say anything.
func FuzzReceiver(f *testing.F) {
	f.Add(points(256, 0, nil))
	f.Add(points(256, 255, bytes.Repeat([]byte{0xff}, 32)))
	f.Fuzz(func(t *testing.T, a []byte) {
		_, err := NewReceiver(t.Context(), &script{[][]byte{a}}, Config{Rand: rand.Reader})
		known(t, err)
	})
}

func known(t *testing.T, err error) {
	if err != nil && !errors.Is(err, ErrMessage) && !errors.Is(err, ErrPoint) && !errors.Is(err, ErrCheat) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
}

func BenchmarkSetup(b *testing.B) {
	for b.Loop() {
		sessiontest.NoErrors(b, connect(b, 2, sessiontest.Net{},
			func(ctx context.Context, c Conn, cfg Config) error { _, err := NewSender(ctx, c, cfg); return err },
			func(ctx context.Context, c Conn, cfg Config) error { _, err := NewReceiver(ctx, c, cfg); return err }))
	}
}

func BenchmarkCorrect(b *testing.B) {
	s := newStreams(randomElements(mrand.New(mrand.NewPCG(1, 1)), groups*leaves))
	y := make([]byte, productsPerMessage*gf128.Size)
	for b.Loop() {
		s.correct(y)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/productsPerMessage, "ns/product")
}
