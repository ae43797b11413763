package he

import (
	"fmt"
	"io"
	"log/slog"
	"math/bits"
	"sync/atomic"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// SecretKey decrypts. It is for one run, is safe for concurrent use and does
// not print.
type SecretKey struct {
	s *Scheme
	*secretRows
}

// secretRows stands behind a pointer, so that printing whatever encloses a key
// cannot reach it.
type secretRows struct {
	sM ringq.Poly // transformed, Montgomery form
}

// PublicKey lets the evaluator make fresh encryptions of zero. Its second half
// is expanded from a seed, so the key holder cannot choose it.
type PublicKey struct {
	s    *Scheme
	seed [seedSize]byte
	b, a ringq.Poly // transformed; b = e - a·s
	// opened counts the coefficients answered under this key: the flooding is
	// made for so many and no more. A run keeps one PublicKey per peer.
	opened atomic.Int64
}

// Request is an encrypted vector on its way to the evaluator: c0 and the seed
// of c1.
type Request struct {
	s    *Scheme
	seed [seedSize]byte
	c0   ringq.Poly // transformed
}

const redacted = "[secret]"

// Format keeps the key out of every verb.
func (SecretKey) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText keeps it out of JSON and YAML.
func (SecretKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (SecretKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// Wipe overwrites the key, which cannot decrypt afterwards.
func (sk *SecretKey) Wipe() {
	for _, row := range sk.sM {
		clear(row)
	}
}

// GenerateKeys makes the keys of one run.
func (s *Scheme) GenerateKeys(rand io.Reader) (*SecretKey, *PublicKey, error) {
	st, seed, err := draw(rand)
	if err != nil {
		return nil, nil, err
	}
	sk := &SecretKey{s, &secretRows{sM: ringq.NewPoly(len(s.limbs), Degree)}}
	secret := ringq.Ternary(st, Degree)
	for i := range s.limbs {
		l, row := &s.limbs[i], sk.sM[i]
		l.Lift(row, secret)
		l.NTT(row)
		for j, v := range row {
			row[j] = l.Form(v)
		}
	}
	clear(secret)
	pk := &PublicKey{s: s, seed: seed, b: ringq.NewPoly(len(s.limbs), Degree)}
	sk.seal(pk.b, ringq.Noise(st, Degree), seed, usePublicKey)
	pk.expand()
	return sk, pk, nil
}

func (pk *PublicKey) expand() {
	pk.a = ringq.NewPoly(len(pk.s.limbs), Degree)
	pk.s.expand(pk.a, pk.seed, usePublicKey)
}

// draw reads a private stream and a public seed, which are independent.
func draw(rand io.Reader) (*share.Stream, [seedSize]byte, error) {
	var seed [seedSize]byte
	st, err := share.NewStream(rand)
	if err == nil {
		_, err = io.ReadFull(rand, seed[:])
	}
	if err != nil {
		return nil, seed, fmt.Errorf("he: draw randomness: %w", err)
	}
	return st, seed, nil
}

// seal turns a message in coefficients into c0 = m + e - a·s, transformed.
func (sk *SecretKey) seal(c0 ringq.Poly, e []int8, seed [seedSize]byte, use byte) {
	s := sk.s
	a := ringq.NewPoly(len(s.limbs), Degree)
	s.expand(a, seed, use)
	for i := range s.limbs {
		l, row, sM, a := &s.limbs[i], c0[i][:Degree], sk.sM[i][:Degree], a[i][:Degree]
		l.AddSmall(row, e)
		l.NTT(row)
		for j, v := range row {
			row[j] = l.Sub(v, l.Mul(a[j], sM[j]))
		}
	}
	clear(e)
}

// Encrypt encrypts m, value i at X^i, the rest 0. Values are taken modulo a
// power of two t, and must be below a prime one.
func (sk *SecretKey) Encrypt(rand io.Reader, m []share.Word) (*Request, error) {
	s := sk.s
	if len(m) > Degree {
		return nil, fmt.Errorf("%w: %d values, a request holds %d", ErrInput, len(m), Degree)
	}
	if err := s.checkWords(m); err != nil {
		return nil, err
	}
	st, seed, err := draw(rand)
	if err != nil {
		return nil, err
	}
	r := &Request{s: s, seed: seed, c0: ringq.NewPoly(len(s.limbs), Degree)}
	s.putAll(r.c0, m)
	sk.seal(r.c0, ringq.Noise(st, Degree), seed, useRequest)
	return r, nil
}

// checkWords refuses values at or above a prime t, looking at all of them.
func (s *Scheme) checkWords(m []share.Word) error {
	if s.set.t == 0 {
		return nil
	}
	var bad uint64
	for _, w := range m {
		_, below := bits.Sub64(w.Lo, s.set.t, 0)
		bad |= w.Hi | (1 - below)
	}
	if bad != 0 {
		return fmt.Errorf("%w: a value is not below the plaintext modulus", ErrInput)
	}
	return nil
}

// centre returns 1 where m, in [0, t), stands for m - t.
func (s *Scheme) centre(m share.Word) uint64 {
	if s.set.t != 0 {
		_, above := bits.Sub64(s.set.t>>1, m.Lo, 0)
		return above
	}
	return m.Bit(s.set.tbits - 1)
}

// putAll writes t⁻¹·m at the first coefficients. m is centred first, which
// halves how often products wrap: t⁻¹·(m-t) = t⁻¹·m - 1.
func (s *Scheme) putAll(p ringq.Poly, m []share.Word) {
	small := s.PlainBits() <= 64
	for j, w := range m {
		if s.set.t == 0 {
			w = w.Mask(s.set.tbits)
		}
		above := s.centre(w)
		for i := range s.limbs {
			l := &s.limbs[i]
			if small { // public: depends on the set alone
				p[i][j] = l.Sub(l.Mul(w.Lo, l.tInvM), above)
			} else {
				p[i][j] = l.Sub(l.Word(w, l.tInvM, l.tInvWM), above)
			}
		}
	}
}

// Margin tells how far the values of a response stayed below wrapping.
type Margin struct {
	// Bits is how many more bits the largest value could have had.
	Bits int
}

// Decrypt opens a response: word i is the value at pos[i] modulo t, pos being
// what the evaluator gave to Respond. A value closer to wrapping than an
// honest one can be is ErrMargin.
func (sk *SecretKey) Decrypt(r *Response, pos []int) ([]share.Word, Margin, error) {
	s := sk.s
	if r == nil || r.s.id != s.id {
		return nil, Margin{}, fmt.Errorf("%w: the response is not of %s", ErrParam, s.id)
	}
	if err := checkPos(pos); err != nil {
		return nil, Margin{}, err
	}
	if len(pos) != r.need {
		return nil, Margin{}, fmt.Errorf("%w: %d positions for a response of %d coefficients", ErrInput, len(pos), r.need)
	}
	x := ringq.NewPoly(s.set.resp, Degree)
	for i := range x {
		l, row, sM := &s.limbs[i], x[i], sk.sM[i][:Degree]
		copy(row, r.c1[i])
		l.NTT(row)
		for j, v := range row {
			row[j] = l.Mul(v, sM[j])
		}
		l.INTT(row)
		for n, j := range pos {
			row[j] = l.Mul(l.Add(row[j], r.c0[i][n]), l.tM)
		}
	}
	out, size := s.dec.open(s, x, pos)
	m := Margin{Bits: s.dec.halfBits - size}
	if m.Bits < MinMargin {
		return nil, m, fmt.Errorf("%w: %d bits left of at least %d; the response is damaged or for another key", ErrMargin, m.Bits, MinMargin)
	}
	return out, m, nil
}

// checkPos wants strictly increasing positions, at least one.
func checkPos(pos []int) error {
	if len(pos) == 0 {
		return fmt.Errorf("%w: no positions", ErrInput)
	}
	last := -1
	for _, j := range pos {
		if j <= last || j >= Degree {
			return fmt.Errorf("%w: positions must increase and stay below %d", ErrInput, Degree)
		}
		last = j
	}
	return nil
}
