package ot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"

	fp "github.com/cloudflare/circl/math/fp25519"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/parallel"
)

// Base transfers against parties that do not follow the protocol: the endemic
// transfers of Masny and Rindal (CCS 2019, https://eprint.iacr.org/2019/706),
// from a random oracle H into the group. The chooser sends two points for each
// transfer, and its public keys follow from both:
//
//	M_c = b·G − H(c, M_{1-c}),  M_{1-c} random;   P_0 = M_0 + H(0, M_1),  P_1 = M_1 + H(1, M_0).
//
// It knows the logarithm of P_c = b·G. Of the two values of H the one that it
// asked for last was random when the point that it is added to was fixed, and so
// is the public key: its key a·P takes solving Diffie-Hellman. Both points are
// uniform in the group whatever c is, without an assumption.
//
// Every transfer has a scalar b of its own: under one scalar a sender whose A
// differs from transfer to transfer could make one key depend on the choice of
// another transfer.
//
// Points need both coordinates to be added. One travels as its X with the lowest
// bit of Y in the highest bit.

// generator is Curve25519's base point, of prime order.
var generator = curve25519.Point{9}

// oracle names what clears the cofactor of H's points.
const oracle = "cleared"

// clearing is a public scalar: like every scalar a multiple of the cofactor.
func (c Config) clearing() (*curve25519.Scalar, error) {
	seed := c.derive(oracle, 0)
	k, err := curve25519.NewScalar(bytes.NewReader(append(seed[:], seed[:]...)))
	if err != nil {
		return nil, fmt.Errorf("ot: %w", err)
	}
	return k, nil
}

// affine is a point with both coordinates, reduced; never the neutral one.
type affine struct{ x, y fp.Elt }

// coefficient is A of Y² = X³ + A·X² + X.
var coefficient = fp.Elt{0x06, 0x6d, 0x07} // 486662

// lift returns the point with this X whose Y has the lowest bit given.
func lift(x *curve25519.Point, bit byte) (p affine, ok bool) {
	p.x = fp.Elt(*x)
	var t fp.Elt
	one := fp.Elt{1}
	fp.Add(&t, &p.x, &coefficient)
	fp.Mul(&t, &t, &p.x)
	fp.Add(&t, &t, &one)
	fp.Mul(&t, &t, &p.x)
	ok = sqrt(&p.y, &t) == 1
	fp.Modp(&p.x)
	fp.Modp(&p.y)
	var neg fp.Elt
	fp.Neg(&neg, &p.y)
	fp.Modp(&neg)
	fp.Cmov(&p.y, &neg, uint((p.y[0]^bit)&1))
	return p, ok
}

// rootOfMinusOne is 2^((p−1)/4).
var rootOfMinusOne = fp.Elt{
	0xb0, 0xa0, 0x0e, 0x4a, 0x27, 0x1b, 0xee, 0xc4, 0x78, 0xe4, 0x2f, 0xad, 0x06, 0x18, 0x43, 0x2f,
	0xa7, 0xd7, 0xfb, 0x3d, 0x99, 0x00, 0x4d, 0x2b, 0x0b, 0xdf, 0xc1, 0x4f, 0x80, 0x24, 0x83, 0x2b,
}

// sqrt sets z to a root of x and returns 1, or 0 if there is none. It takes the
// same steps for every x: fp25519's does not.
func sqrt(z, x *fp.Elt) int {
	// x^(2^n−1) to the power of 2^m, times x^(2^m−1), is x^(2^(n+m)−1).
	raise := func(a fp.Elt, m int, b *fp.Elt) fp.Elt {
		for range m {
			fp.Sqr(&a, &a)
		}
		fp.Mul(&a, &a, b)
		return a
	}
	e2 := raise(*x, 1, x)
	e4 := raise(e2, 2, &e2)
	e5 := raise(e4, 1, x)
	e10 := raise(e5, 5, &e5)
	e20 := raise(e10, 10, &e10)
	e40 := raise(e20, 20, &e20)
	e50 := raise(e40, 10, &e10)
	e100 := raise(e50, 50, &e50)
	e200 := raise(e100, 100, &e100)
	e250 := raise(e200, 50, &e50)
	w := raise(e250, 2, x) // x^((p−5)/8)
	fp.Mul(z, &w, x)       // z² = ±x, if x is a square

	var other, square fp.Elt
	fp.Mul(&other, z, &rootOfMinusOne)
	fp.Sqr(&square, z)
	fp.Cmov(z, &other, uint(1-same(&square, x)))
	fp.Sqr(&square, z)
	return same(&square, x)
}

// same returns 1 if x is y, and 0 if not.
func same(x, y *fp.Elt) int {
	a, b := *x, *y
	fp.Modp(&a)
	fp.Modp(&b)
	return subtle.ConstantTimeCompare(a[:], b[:])
}

func (p *affine) encode() (m [curve25519.Size]byte) {
	m = p.x
	m[curve25519.Size-1] |= p.y[0] << 7
	return m
}

// decode is the inverse of encode for what a peer sent.
func decode(m []byte) (affine, error) {
	x := curve25519.Point(m)
	bit := x[curve25519.Size-1] >> 7
	x[curve25519.Size-1] &= 0x7f
	p, ok := lift(&x, bit)
	if !ok || p.x != fp.Elt(x) || p.y[0]&1 != bit {
		return p, ErrPoint
	}
	return p, nil
}

// add returns p + q, for points of different X: it is false for others.
func add(p, q *affine) (r affine, ok bool) {
	var dx, dy, l, t fp.Elt
	fp.Sub(&dx, &q.x, &p.x)
	fp.Sub(&dy, &q.y, &p.y)
	fp.Modp(&dx)
	ok = dx != fp.Elt{}
	fp.Inv(&dx, &dx)
	fp.Mul(&l, &dy, &dx)
	// x = l² − A − p.x − q.x, y = l·(p.x − x) − p.y
	fp.Sqr(&r.x, &l)
	fp.Sub(&r.x, &r.x, &coefficient)
	fp.Sub(&r.x, &r.x, &p.x)
	fp.Sub(&r.x, &r.x, &q.x)
	fp.Sub(&t, &p.x, &r.x)
	fp.Mul(&r.y, &l, &t)
	fp.Sub(&r.y, &r.y, &p.y)
	fp.Modp(&r.x)
	fp.Modp(&r.y)
	return r, ok
}

func (p *affine) negate() {
	fp.Neg(&p.y, &p.y)
	fp.Modp(&p.y)
}

// oracles returns H(side, m) for each transfer's side and encoded point.
func (c Config) oracles(ctx context.Context, sides []byte, ms [][]byte) ([]affine, error) {
	msgs := make([][]byte, len(ms))
	for i, m := range ms {
		msgs[i] = append([]byte{byte(i), byte(i >> 8), sides[i]}, m...)
	}
	points, err := c.hashPoints("endemic keys", msgs)
	if err != nil {
		return nil, err
	}
	k, err := c.clearing()
	if err != nil {
		return nil, err
	}
	if err := mulAll(ctx, k, points, points); err != nil {
		return nil, err
	}
	out := make([]affine, len(points))
	for i := range points {
		// The sign of Y is the oracle's too.
		d := sha256.Sum256(msgs[i])
		p, ok := lift(&points[i], d[0]&1)
		if !ok {
			return nil, fmt.Errorf("ot: an oracle's point: %w", ErrPoint) // one in 2^250
		}
		out[i] = p
	}
	return out, nil
}

// endemicSend makes n pairs of keys; the peer chooses one of each.
func endemicSend(ctx context.Context, c Conn, cfg Config, n int) ([][2]gf128.Element, error) {
	a, err := curve25519.NewScalar(cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("ot: %w", err)
	}
	defer a.Wipe()
	pub := []curve25519.Point{generator}
	a.Mul(pub, pub)
	if err := send(ctx, c, "public key", pub[0][:]); err != nil {
		return nil, err
	}

	body, err := recv(ctx, c, "pairs of points", n*pairSize)
	if err != nil {
		return nil, err
	}
	ms, sides, others := make([]affine, 2*n), make([]byte, 2*n), make([][]byte, 2*n)
	for j := range ms {
		if ms[j], err = decode(body[j*curve25519.Size:][:curve25519.Size]); err != nil {
			return nil, fmt.Errorf("ot: pairs of points: %w", err)
		}
		sides[j] = byte(j & 1)
		others[j] = body[(j^1)*curve25519.Size:][:curve25519.Size]
	}
	hs, err := cfg.pairOracles(ctx, sides, others)
	if err != nil {
		return nil, err
	}
	shared := make([]curve25519.Point, 2*n)
	for j := range ms {
		p, ok := add(&ms[j], &hs[j])
		if !ok {
			return nil, fmt.Errorf("ot: pairs of points: %w", ErrPoint)
		}
		shared[j] = curve25519.Point(p.x)
	}
	if err := curve25519.Check(shared, cfg.Rand); err != nil {
		return nil, fmt.Errorf("ot: public keys: %w", err)
	}
	if err := mulAll(ctx, a, shared, shared); err != nil {
		return nil, err
	}
	pairs := make([][2]gf128.Element, n)
	for i := range pairs {
		pair := (*[pairSize]byte)(body[i*pairSize:])
		for side := range 2 {
			pairs[i][side] = cfg.baseKey(i, byte(side), &pub[0], pair, &shared[2*i+side])
		}
	}
	clear(shared)
	return pairs, nil
}

// pairOracles is oracles for both sides of every transfer, which are numbered
// alike.
func (c Config) pairOracles(ctx context.Context, sides []byte, ms [][]byte) ([]affine, error) {
	out := make([]affine, len(ms))
	for side := range 2 {
		n := len(ms) / 2
		one, msgs := make([]byte, n), make([][]byte, n)
		for i := range n {
			one[i], msgs[i] = sides[2*i+side], ms[2*i+side]
		}
		hs, err := c.oracles(ctx, one, msgs)
		if err != nil {
			return nil, err
		}
		for i := range hs {
			out[2*i+side] = hs[i]
		}
	}
	return out, nil
}

// endemicReceive gets the key that choices[i], 0 or 1, names of each pair.
func endemicReceive(ctx context.Context, c Conn, cfg Config, choices []byte) ([]gf128.Element, error) {
	n := len(choices)
	scalars := make([]*curve25519.Scalar, n)
	known, unknown := make([]curve25519.Point, n), make([]curve25519.Point, n)
	raw := make([]byte, n)
	if _, err := io.ReadFull(cfg.Rand, raw); err != nil {
		return nil, fmt.Errorf("ot: draw signs: %w", err)
	}
	others := make([]*curve25519.Scalar, n)
	for i := range scalars {
		var err error
		if scalars[i], err = curve25519.NewScalar(cfg.Rand); err != nil {
			return nil, fmt.Errorf("ot: %w", err)
		}
		defer scalars[i].Wipe()
		if others[i], err = curve25519.NewScalar(cfg.Rand); err != nil {
			return nil, fmt.Errorf("ot: %w", err)
		}
		defer others[i].Wipe()
	}
	err := parallel.For(ctx, n, mulStep, func(lo, hi int) error {
		base := []curve25519.Point{generator}
		for i := lo; i < hi; i++ {
			scalars[i].Mul(known[i:i+1], base)
			others[i].Mul(unknown[i:i+1], base)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	// M_{1-c} is a random point, M_c what is left of b·G.
	randoms := make([][]byte, n)
	for i := range randoms {
		p, ok := lift(&unknown[i], raw[i]&1)
		if !ok {
			return nil, fmt.Errorf("ot: %w", ErrPoint) // cannot happen
		}
		m := p.encode()
		randoms[i] = m[:]
	}
	hs, err := cfg.oracles(ctx, choices, randoms)
	if err != nil {
		return nil, err
	}
	body := make([]byte, n*pairSize)
	for i := range choices {
		p, ok := lift(&known[i], raw[i]>>1&1)
		hs[i].negate()
		m, different := add(&p, &hs[i])
		if !ok || !different {
			return nil, fmt.Errorf("ot: %w", ErrPoint) // one in 2^250
		}
		own := m.encode()
		p0, p1 := body[i*pairSize:][:curve25519.Size], body[i*pairSize+curve25519.Size:][:curve25519.Size]
		copy(p0, own[:])
		copy(p1, randoms[i])
		subtle.ConstantTimeCopy(int(choices[i]), p0, randoms[i])
		subtle.ConstantTimeCopy(int(choices[i]), p1, own[:])
	}
	if err := send(ctx, c, "pairs of points", body); err != nil {
		return nil, err
	}

	pub, _, err := recvPoints(ctx, c, "public key", 1, cfg.Rand)
	if err != nil {
		return nil, err
	}
	shared := make([]curve25519.Point, n)
	err = parallel.For(ctx, n, mulStep, func(lo, hi int) error {
		for i := lo; i < hi; i++ {
			scalars[i].Mul(shared[i:i+1], pub)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]gf128.Element, n)
	for i := range out {
		out[i] = cfg.baseKey(i, choices[i], &pub[0], (*[pairSize]byte)(body[i*pairSize:]), &shared[i])
	}
	clear(shared)
	return out, nil
}
