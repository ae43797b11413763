package ot

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"slices"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/parallel"
)

// Base transfers, all under one scalar a of the sender and one, b, of the
// chooser, so that points share their ladders. G_i is the hash of i to the curve.
// The chooser makes two public keys for each transfer and knows the secret key
// of the one that it chooses:
//
//	A_i = a·G_i;   P_c = b·G_i,   P_{1-c} = b'·E_i,   E_i the hash of a secret seed.
//
// The keys are a·P_0 and a·P_1, of which the chooser can compute b·A_i. Under
// DDH both public keys look uniform to the sender, whatever c is. The chooser
// does not know the logarithm of E_i to any G_j, so that a·P_{1-c} is as hard to
// compute as CDH. (It could know, did it not make E_i as it should: that is the
// semi-honest part. endemicSend and endemicReceive are for other parties.)

const pairSize = 2 * curve25519.Size

// mulStep is how many points a worker multiplies at a time.
const mulStep = 64

func mulAll(ctx context.Context, k *curve25519.Scalar, dst, src []curve25519.Point) error {
	return parallel.For(ctx, len(src), mulStep, func(lo, hi int) error {
		k.Mul(dst[lo:hi], src[lo:hi])
		return nil
	})
}

// hashPoints hashes msgs to the curve under the binding.
func (c Config) hashPoints(what string, msgs [][]byte) ([]curve25519.Point, error) {
	h, err := curve25519.NewHasher("yinqiao ot " + what + " with " + curve25519.Suite + " " + string(c.Binding[:]))
	if err != nil {
		return nil, fmt.Errorf("ot: %w", err)
	}
	us, points := make([]curve25519.FieldElement, len(msgs)), make([]curve25519.Point, len(msgs))
	for i, m := range msgs {
		h.HashToField(&us[i], m)
	}
	curve25519.MapToCurve(points, us)
	return points, nil
}

// generators returns G_0 to G_{n-1}.
func (c Config) generators(n int) ([]curve25519.Point, error) {
	msgs := make([][]byte, n)
	for i := range msgs {
		msgs[i] = []byte{byte(i), byte(i >> 8)}
	}
	return c.hashPoints("generators", msgs)
}

func recvPoints(ctx context.Context, c Conn, what string, n int, rand io.Reader) ([]curve25519.Point, []byte, error) {
	body, err := recv(ctx, c, what, n*curve25519.Size)
	if err != nil {
		return nil, nil, err
	}
	points := make([]curve25519.Point, n)
	for i := range points {
		points[i] = curve25519.Point(body[i*curve25519.Size:])
	}
	if err := curve25519.Check(points, rand); err != nil {
		return nil, nil, fmt.Errorf("ot: %s: %w", what, err)
	}
	return points, body, nil
}

func appendPoints(b []byte, points []curve25519.Point) []byte {
	for i := range points {
		b = append(b, points[i][:]...)
	}
	return b
}

// baseSend makes n pairs of keys; the peer chooses one of each.
func baseSend(ctx context.Context, c Conn, cfg Config, n int) ([][2]gf128.Element, error) {
	a, err := curve25519.NewScalar(cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("ot: %w", err)
	}
	defer a.Wipe()
	pub, err := cfg.generators(n)
	if err != nil {
		return nil, err
	}
	if err := mulAll(ctx, a, pub, pub); err != nil {
		return nil, err
	}
	if err := send(ctx, c, "public keys", appendPoints(nil, pub)); err != nil {
		return nil, err
	}

	shared, body, err := recvPoints(ctx, c, "pairs of public keys", 2*n, cfg.Rand)
	if err != nil {
		return nil, err
	}
	if err := mulAll(ctx, a, shared, shared); err != nil {
		return nil, err
	}
	pairs := make([][2]gf128.Element, n)
	for i := range pairs {
		pair := (*[pairSize]byte)(body[i*pairSize:])
		pairs[i][0] = cfg.baseKey(i, 0, &pub[i], pair, &shared[2*i])
		pairs[i][1] = cfg.baseKey(i, 1, &pub[i], pair, &shared[2*i+1])
	}
	clear(shared)
	return pairs, nil
}

// baseReceive gets the key that choices[i], 0 or 1, names of each pair.
func baseReceive(ctx context.Context, c Conn, cfg Config, choices []byte) ([]gf128.Element, error) {
	n := len(choices)
	b, err := curve25519.NewScalar(cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("ot: %w", err)
	}
	defer b.Wipe()
	other, err := curve25519.NewScalar(cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("ot: %w", err)
	}
	defer other.Wipe()
	seeds := make([]byte, 32*n)
	if _, err := io.ReadFull(cfg.Rand, seeds); err != nil {
		return nil, fmt.Errorf("ot: draw seeds: %w", err)
	}
	known, err := cfg.generators(n)
	if err != nil {
		return nil, err
	}
	unknown, err := cfg.hashPoints("oblivious keys", slices.Collect(slices.Chunk(seeds, 32)))
	if err != nil {
		return nil, err
	}
	clear(seeds)
	if err := mulAll(ctx, b, known, known); err != nil {
		return nil, err
	}
	if err := mulAll(ctx, other, unknown, unknown); err != nil {
		return nil, err
	}
	keys := make([]byte, 0, n*pairSize)
	for i := range choices {
		keys = append(append(keys, known[i][:]...), unknown[i][:]...)
		p0, p1 := keys[i*pairSize:][:curve25519.Size], keys[i*pairSize+curve25519.Size:]
		subtle.ConstantTimeCopy(int(choices[i]), p0, unknown[i][:])
		subtle.ConstantTimeCopy(int(choices[i]), p1, known[i][:])
	}
	if err := send(ctx, c, "pairs of public keys", keys); err != nil {
		return nil, err
	}

	pub, _, err := recvPoints(ctx, c, "public keys", n, cfg.Rand)
	if err != nil {
		return nil, err
	}
	shared := make([]curve25519.Point, n)
	if err := mulAll(ctx, b, shared, pub); err != nil {
		return nil, err
	}
	out := make([]gf128.Element, n)
	for i := range out {
		out[i] = cfg.baseKey(i, choices[i], &pub[i], (*[pairSize]byte)(keys[i*pairSize:]), &shared[i])
	}
	clear(shared)
	return out, nil
}

// baseKey hashes a shared point together with all that was said about it.
func (c Config) baseKey(i int, choice byte, pub *curve25519.Point, pair *[pairSize]byte, shared *curve25519.Point) gf128.Element {
	var b [192]byte
	p := append(b[:0], "yinqiao/ot/v1/base\x00"...)
	p = append(p, c.Binding[:]...)
	p = append(p, byte(i), byte(i>>8), choice)
	p = append(p, pub[:]...)
	p = append(p, pair[:]...)
	p = append(p, shared[:]...)
	d := sha256.Sum256(p)
	return gf128.FromBytes([gf128.Size]byte(d[:]))
}
