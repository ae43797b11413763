package ot

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	mrand "math/rand/v2"
	"testing"

	fp "github.com/cloudflare/circl/math/fp25519"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

func malicious(f role) role {
	return func(ctx context.Context, c Conn, cfg Config) error {
		cfg.Malicious = true
		return f(ctx, c, cfg)
	}
}

func TestMaliciousTransfersAndProducts(t *testing.T) {
	r := mrand.New(mrand.NewPCG(5, 6))
	const n = transfersPerMessage + 77
	choices, y := randomBytes(r, n/8+1), randomElements(r, productsPerMessage+9)
	var pairs [2][][2]gf128.Element
	var got [2][]gf128.Element
	var w, m []gf128.Element
	var delta gf128.Element
	sizes := []int{65, n}
	sessiontest.NoErrors(t, connect(t, 2, sessiontest.Net{},
		malicious(func(ctx context.Context, c Conn, cfg Config) error {
			s, err := NewSender(ctx, c, cfg)
			if err != nil {
				return err
			}
			for i, k := range sizes {
				if pairs[i], err = s[1].Random(ctx, c, k); err != nil {
					return err
				}
			}
			delta = s[0].Delta()
			w, err = s[0].Products(ctx, c, len(y))
			return err
		}),
		malicious(func(ctx context.Context, c Conn, cfg Config) error {
			r, err := NewReceiver(ctx, c, cfg)
			if err != nil {
				return err
			}
			for i, k := range sizes {
				if got[i], err = r[1].Random(ctx, c, choices, k); err != nil {
					return err
				}
			}
			m, err = r[0].Products(ctx, c, y)
			return err
		})))
	seen := make(map[gf128.Element]bool)
	for i, k := range sizes {
		if len(pairs[i]) != k || len(got[i]) != k {
			t.Fatalf("%d pairs and %d keys of %d", len(pairs[i]), len(got[i]), k)
		}
		for j, pair := range pairs[i] {
			if got[i][j] != pair[choices[j/8]>>(j%8)&1] || seen[pair[0]] || seen[pair[1]] {
				t.Fatalf("%d transfers: transfer %d", k, j)
			}
			seen[pair[0]], seen[pair[1]] = true, true
		}
	}
	for i := range y {
		if w[i] != m[i].Add(delta.Mul(y[i])) {
			t.Fatalf("product %d", i)
		}
	}
}

func randomPoint(t *testing.T) affine {
	t.Helper()
	k, err := curve25519.NewScalar(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := []curve25519.Point{generator}
	k.Mul(p, p)
	a, ok := lift(&p[0], 1)
	if !ok {
		t.Fatal("a multiple of the generator is not on the curve")
	}
	return a
}

func TestPoints(t *testing.T) {
	for range 20 {
		p, q := randomPoint(t), randomPoint(t)
		sum, ok := add(&p, &q)
		m := sum.encode()
		if again, err := decode(m[:]); !ok || err != nil || again != sum {
			t.Fatalf("the sum is no point that is encoded: %v", err)
		}
		swapped, _ := add(&q, &p)
		// (p + q) + r = p + (q + r), and (p + q) − q = p.
		r := randomPoint(t)
		left, _ := add(&sum, &r)
		right, _ := add(&q, &r)
		right, _ = add(&p, &right)
		q.negate()
		back, ok := add(&sum, &q)
		if swapped != sum || left != right || !ok || back != p {
			t.Fatal("sums are those of no group")
		}
		if _, ok := add(&p, &p); ok {
			t.Fatal("a point was added to itself")
		}
	}
	for name, m := range map[string][]byte{
		"on the twist":    append([]byte{2}, make([]byte, 31)...),
		"not reduced":     bytes.Repeat([]byte{0xff}, 32),
		"the sign of 0":   append(make([]byte, 31), 0x80),
		"p, which is 0":   append(append([]byte{0xed}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f),
		"not reduced, +9": append(append([]byte{0xf6}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f),
	} {
		if _, err := decode(m); !errors.Is(err, ErrPoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSquareRoots(t *testing.T) {
	r := mrand.New(mrand.NewPCG(15, 16))
	squares := 0
	for range 200 {
		var x, want, z fp.Elt
		copy(x[:], randomBytes(r, len(x)))
		one := fp.Elt{1}
		ok := fp.InvSqrt(&want, &x, &one)
		if got := sqrt(&z, &x) == 1; got != ok {
			t.Fatalf("a root: %v, want %v", got, ok)
		}
		if ok {
			squares++
			fp.Sqr(&z, &z)
			if same(&z, &x) != 1 {
				t.Fatal("a root of something else")
			}
		}
	}
	if squares < 50 || squares > 150 {
		t.Errorf("%d squares of 200", squares)
	}
}

func FuzzDecodePoint(f *testing.F) {
	f.Add(generator[:])
	f.Add(bytes.Repeat([]byte{0xff}, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != curve25519.Size {
			return
		}
		p, err := decode(b)
		if err != nil {
			known(t, err)
			return
		}
		if m := p.encode(); !bytes.Equal(m[:], b) {
			t.Fatalf("%x is %x again", b, m)
		}
	})
}

// A chooser that makes both points of a pair so that it knows their logarithms
// has both keys of a base transfer for semi-honest parties, and of an endemic one
// neither.
func TestChooserWithTwoLogarithms(t *testing.T) {
	const n = 4
	for name, c := range map[string]struct {
		send func(context.Context, Conn, Config, int) ([][2]gf128.Element, error)
		gets bool
	}{"semi-honest": {baseSend, true}, "endemic": {endemicSend, false}} {
		var pairs [][2]gf128.Element
		var keys [n][2]gf128.Element
		sessiontest.NoErrors(t, connect(t, 1, sessiontest.Net{},
			func(ctx context.Context, conn Conn, cfg Config) error {
				gs, err := cfg.generators(n)
				if err != nil {
					return err
				}
				if !c.gets {
					for i := range gs {
						gs[i] = generator
					}
				}
				var ks [2]*curve25519.Scalar
				body := make([]byte, n*pairSize)
				for side := range ks {
					if ks[side], err = curve25519.NewScalar(cfg.Rand); err != nil {
						return err
					}
					ps := make([]curve25519.Point, n)
					ks[side].Mul(ps, gs)
					for i, p := range ps {
						copy(body[i*pairSize+side*curve25519.Size:], p[:])
					}
				}
				if err := conn.Send(ctx, body); err != nil {
					return err
				}
				raw, err := conn.Recv(ctx)
				if err != nil {
					return err
				}
				for i := range keys {
					pub := curve25519.Point(raw)
					if c.gets {
						pub = curve25519.Point(raw[i*curve25519.Size:])
					}
					for side, k := range ks {
						shared := []curve25519.Point{pub}
						k.Mul(shared, shared)
						keys[i][side] = cfg.baseKey(i, byte(side), &pub, (*[pairSize]byte)(body[i*pairSize:]), &shared[0])
					}
				}
				return nil
			},
			func(ctx context.Context, conn Conn, cfg Config) (err error) {
				pairs, err = c.send(ctx, conn, cfg, n)
				return err
			}))
		for i := range keys {
			for side := range 2 {
				if (keys[i][side] == pairs[i][side]) != c.gets {
					t.Errorf("%s: key %d of transfer %d", name, side, i)
				}
			}
		}
	}
}

func TestEndemicTransfers(t *testing.T) {
	choices := []byte{0, 1, 1, 0, 1}
	var pairs [][2]gf128.Element
	var keys []gf128.Element
	sessiontest.NoErrors(t, connect(t, 1, sessiontest.Net{},
		func(ctx context.Context, c Conn, cfg Config) (err error) {
			keys, err = endemicReceive(ctx, c, cfg, choices)
			return err
		},
		func(ctx context.Context, c Conn, cfg Config) (err error) {
			pairs, err = endemicSend(ctx, c, cfg, len(choices))
			return err
		}))
	for i, c := range choices {
		if keys[i] != pairs[i][c] || keys[i] == pairs[i][1-c] {
			t.Errorf("transfer %d: not the key of choice %d alone", i, c)
		}
	}
}

// streamPair returns the streams of both sides for a Δ, as the setup leaves them.
func streamPair(r *mrand.Rand) (receiver, sender *streams, delta gf128.Element) {
	seeds, delta := randomElements(r, groups*leaves), randomElements(r, 1)[0]
	known := make([]gf128.Element, len(seeds))
	for g := range groups {
		d := int(group(delta, g))
		for p := 1; p < leaves; p++ {
			known[g*leaves+p] = seeds[g*leaves+(p^d)]
		}
	}
	return newStreams(seeds), newStreams(known), delta
}

// group returns bits 4g to 4g+3 of Δ.
func group(delta gf128.Element, g int) (d uint64) {
	for b := range groupBits {
		d |= delta.Bit(g*groupBits+b) << b
	}
	return d
}

func checkers() (receiver, sender *checker) {
	cfg := Config{Binding: [32]byte{7}, Rand: rand.Reader}
	return cfg.checker(0, sha256.New(), sha256.New()), cfg.checker(0, sha256.New(), sha256.New())
}

// A receiver that corrects one group for other bits than the rest, and proves
// what it can, is found unless the group of Δ is zero: then the sender's columns
// do not depend on the correction, and all that the receiver has learnt is that.
func TestCheatingReceiverIsFound(t *testing.T) {
	r := mrand.New(mrand.NewPCG(7, 8))
	found := 0
	for _, size := range []int{8, 16, 848 * 16} {
		for g := range groups {
			rs, ss, delta := streamPair(r)
			mine, theirs := checkers()
			y, err := mine.widen(randomBytes(r, size))
			if err != nil {
				t.Fatal(err)
			}
			cols, msg := rs.correct(y)
			msg[g*len(y)+r.IntN(size)] ^= 1 << r.IntN(8)
			n := len(msg)
			msg = mine.prove(cols, msg, y)
			w := ss.apply(delta, msg[:n], len(y))
			err = theirs.verify(w, delta, msg[:n], msg[n:])
			if guessed := group(delta, g) == 0; guessed != (err == nil) || err != nil && !errors.Is(err, ErrCheat) {
				t.Errorf("%d bytes, group %d of Δ is zero: %v; %v", size, g, guessed, err)
			}
			if err != nil {
				found++
			}
		}
	}
	if found < 3*groups*3/4 {
		t.Errorf("%d of %d were found", found, 3*groups)
	}
}

// A proof for other corrections, for other bits, of other columns and of a message
// before.
func TestProofs(t *testing.T) {
	r := mrand.New(mrand.NewPCG(9, 10))
	for name, c := range map[string]struct {
		change func(msg, proof []byte)
		replay bool
		good   bool
	}{
		"honest":               {func(_, _ []byte) {}, false, true},
		"the fold of y":        {func(_, proof []byte) { proof[3] ^= 1 }, false, false},
		"the fold of a column": {func(_, proof []byte) { proof[len(proof)-1] ^= 0x80 }, false, false},
		"all corrections":      {func(msg, _ []byte) { msg[0] ^= 1; msg[len(msg)-1] ^= 1 }, false, false},
		"of another message":   {func(_, _ []byte) {}, true, false},
	} {
		rs, ss, delta := streamPair(r)
		mine, theirs := checkers()
		y, err := mine.widen(randomBytes(r, 64))
		if err != nil {
			t.Fatal(err)
		}
		cols, msg := rs.correct(y)
		n := len(msg)
		msg = mine.prove(cols, msg, y)
		c.change(msg[:n], msg[n:])
		if c.replay {
			theirs.done++
		}
		err = theirs.verify(ss.apply(delta, msg[:n], len(y)), delta, msg[:n], msg[n:])
		if (err == nil) != c.good || err != nil && !errors.Is(err, ErrCheat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A receiver whose trees are none is found, but where what it changed is not
// what the sender opens.
func TestCheatingTreesAreFound(t *testing.T) {
	r := mrand.New(mrand.NewPCG(11, 12))
	cfg := Config{Binding: [32]byte{3}, Malicious: true}
	open := func(delta gf128.Element, change func(sums, proof []byte)) error {
		roots := randomElements(r, groups)
		flat := randomElements(r, 2*deltaBits)
		base, opened := make([][2]gf128.Element, deltaBits), make([]gf128.Element, deltaBits)
		for i := range base {
			base[i] = [2]gf128.Element{flat[2*i], flat[2*i+1]}
			opened[i] = base[i][1-delta.Bit(i/groupBits*groupBits+groupBits-1-i%groupBits)]
		}
		seeds, msg := buildTrees(cfg.prg(0), roots, base)
		proof := cfg.proveTrees(0, seeds)
		change(msg, proof)
		got := openTrees(cfg.prg(0), msg, delta, opened)
		if err := cfg.checkTrees(0, got, delta, proof); err != nil {
			return err
		}
		for g := range groups {
			for p := 1; p < leaves; p++ {
				if got[g*leaves+p] != seeds[g*leaves+(p^int(group(delta, g)))] {
					t.Fatalf("group %d, place %d: another seed", g, p)
				}
			}
		}
		return nil
	}
	for range 20 {
		delta := randomElements(r, 1)[0]
		i, side := r.IntN(deltaBits), r.IntN(2)
		level := i*2*gf128.Size + side*gf128.Size
		read := delta.Bit(i/groupBits*groupBits+groupBits-1-i%groupBits) != uint64(side)
		for name, c := range map[string]struct {
			change func(sums, proof []byte)
			found  bool
		}{
			"honest":              {func(_, _ []byte) {}, false},
			"one sum":             {func(sums, _ []byte) { sums[level] ^= 1 }, read},
			"both sums":           {func(sums, _ []byte) { sums[level] ^= 1; sums[level^gf128.Size] ^= 4 }, true},
			"a sum of witnesses":  {func(_, proof []byte) { proof[i/groupBits*2*witnessSize+5] ^= 1 }, true},
			"a hash of witnesses": {func(_, proof []byte) { proof[(i/groupBits*2+1)*witnessSize+5] ^= 1 }, true},
		} {
			if err := open(delta, c.change); (err != nil) != c.found || err != nil && !errors.Is(err, ErrCheat) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Messages of the mode that are changed on the way: the run ends with an error,
// at the sender, who is the one that is told something.
func TestMaliciousTampering(t *testing.T) {
	for at := range 3 { // public key, trees, corrections
		for name, change := range map[string]sessiontest.Change{
			"flip":  sessiontest.Flip(at, 77),
			"cut":   sessiontest.Truncate(at, 1),
			"grown": sessiontest.Grow(at, 1),
			"empty": sessiontest.Replace(at, nil),
		} {
			net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
				if l.Self == "p1" {
					return sessiontest.Tamper(ch, change)
				}
				return ch
			}}
			out := connect(t, 1, net,
				malicious(func(ctx context.Context, c Conn, cfg Config) error {
					s, err := NewSender(ctx, c, cfg)
					if err == nil {
						_, err = s[0].Random(ctx, c, 100)
					}
					return err
				}),
				malicious(func(ctx context.Context, c Conn, cfg Config) error {
					r, err := NewReceiver(ctx, c, cfg)
					if err == nil {
						_, err = r[0].Random(ctx, c, make([]byte, 100), 100)
					}
					return err
				}))
			if err := out[0].Err; err == nil {
				t.Errorf("message %d, %s: nobody noticed", at, name)
			} else {
				known(t, err)
			}
		}
	}
}

// Corrections and proofs look uniform whatever the bits are.
func TestProofsAreUniform(t *testing.T) {
	r := mrand.New(mrand.NewPCG(13, 14))
	var all []byte
	for range 40 {
		rs, _, _ := streamPair(r)
		k, _ := checkers()
		y, err := k.widen(make([]byte, 64))
		if err != nil {
			t.Fatal(err)
		}
		cols, msg := rs.correct(y)
		all = append(all, k.prove(cols, msg, y)...)
	}
	uniformBytes(t, "corrections and proofs", all)
}

// FuzzMalicious lets a peer say anything to either role.
func FuzzMalicious(f *testing.F) {
	f.Add(true, generator[:], make([]byte, treeBytes+checkedTreeBytes), make([]byte, groups*32+proofBytes))
	f.Add(false, bytes.Repeat(generator[:], 2*deltaBits), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, sender bool, a, b, c []byte) {
		conn, cfg := &script{[][]byte{a, b, c}}, Config{Rand: rand.Reader, Malicious: true}
		if !sender {
			_, err := NewReceiver(t.Context(), conn, cfg)
			known(t, err)
			return
		}
		s, err := NewSender(t.Context(), conn, cfg)
		if err == nil {
			_, err = s[0].Random(t.Context(), conn, 64)
		}
		known(t, err)
	})
}
