package tbgv

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// Ciphertext is an encrypted vector of up to Slots values, or a sum of such.
type Ciphertext struct {
	s     *Scheme
	c0    ringq.Poly // coefficients
	c1    ringq.Poly // transformed
	terms int        // contributors' ciphertexts in it

	once   sync.Once
	digest [sha256.Size]byte
}

// Digest identifies the ciphertext: SHA-256 of its frame.
func (c *Ciphertext) Digest() [sha256.Size]byte {
	c.once.Do(func() { c.digest = sha256.Sum256(c.Marshal()) })
	return c.digest
}

// Encrypt encrypts up to Slots values, taken modulo t; the rest are 0.
func (s *Scheme) Encrypt(rand io.Reader, pk *PublicKey, words []share.Word) (*Ciphertext, error) {
	return s.encrypt(rand, pk, len(words), func(l *limb, row []uint64) {
		top := s.set.tbits - 1
		for j, w := range words {
			w = w.Mask(s.set.tbits)
			row[j] = l.put(row[j], w, w.Bit(top))
		}
	})
}

// EncryptNarrow is Encrypt for t = 2^32.
func (s *Scheme) EncryptNarrow(rand io.Reader, pk *PublicKey, values []uint32) (*Ciphertext, error) {
	if s.set.tbits != share.NarrowBits {
		return nil, fmt.Errorf("%w: values of %d bits for %s", ErrParam, share.NarrowBits, s.set.name)
	}
	return s.encrypt(rand, pk, len(values), func(l *limb, row []uint64) {
		for j, v := range values {
			row[j] = l.Add(row[j], l.Sub(l.Mul(uint64(v), l.tInvM), uint64(v>>31)))
		}
	})
}

// EncryptWide is Encrypt for t = 2^64.
func (s *Scheme) EncryptWide(rand io.Reader, pk *PublicKey, values []uint64) (*Ciphertext, error) {
	if s.set.tbits != share.WideBits {
		return nil, fmt.Errorf("%w: values of %d bits for %s", ErrParam, share.WideBits, s.set.name)
	}
	return s.encrypt(rand, pk, len(values), func(l *limb, row []uint64) {
		for j, v := range values {
			row[j] = l.Add(row[j], l.Sub(l.Mul(v, l.tInvM), v>>63))
		}
	})
}

// encrypt makes (b·v + f + t⁻¹·m, a·v + g); add adds t⁻¹·m, centred, to a row.
func (s *Scheme) encrypt(rand io.Reader, pk *PublicKey, values int, add func(*limb, []uint64)) (*Ciphertext, error) {
	switch {
	case pk == nil || !s.same(pk.s):
		return nil, fmt.Errorf("%w: the public key is not of %s", ErrParam, s.set.name)
	case values > s.n:
		return nil, fmt.Errorf("%w: %d values, a ciphertext holds %d", ErrInput, values, s.n)
	}
	st, err := newStream(rand)
	if err != nil {
		return nil, err
	}
	c := &Ciphertext{s: s, c0: s.newPoly(), c1: s.newPoly(), terms: 1}
	v, f, g := ringq.Ternary(st, s.n), ringq.Noise(st, s.n), ringq.Noise(st, s.n)
	row := make([]uint64, s.n)
	for i := range s.limbs {
		l, c0, c1, bM, aM := &s.limbs[i], c.c0[i][:s.n], c.c1[i][:s.n], pk.bM[i][:s.n], pk.aM[i][:s.n]
		l.Lift(row, v)
		l.NTT(row)
		l.Lift(c1, g)
		l.NTT(c1)
		for j, x := range row[:s.n] {
			c0[j] = l.Mul(x, bM[j])
			c1[j] = l.Add(c1[j], l.Mul(x, aM[j]))
		}
		l.INTT(c0)
		l.AddSmall(c0, f)
		add(l, c0)
	}
	clear(row)
	clear(v)
	clear(f)
	clear(g)
	return c, nil
}

// Sum adds contributors' ciphertexts, at least 2 and at most Parties. The order
// does not matter. Two equal ones are refused; a copy that was encrypted again
// cannot be told from a contribution. The party of a PartyError is a position in
// cts.
func (s *Scheme) Sum(cts []*Ciphertext) (*Ciphertext, error) {
	if len(cts) < 2 || len(cts) > s.params.Parties {
		return nil, fmt.Errorf("%w: a sum of %d ciphertexts, of 2 to %d", ErrInput, len(cts), s.params.Parties)
	}
	sum := &Ciphertext{s: s, c0: s.newPoly(), c1: s.newPoly(), terms: len(cts)}
	for n, c := range cts {
		switch {
		case c == nil || !s.same(c.s):
			return nil, &PartyError{n, fmt.Errorf("%w: the ciphertext is not of %s", ErrParam, s.set.name)}
		case c.terms != 1:
			return nil, &PartyError{n, fmt.Errorf("%w: the ciphertext is a sum already", ErrInput)}
		}
		for _, earlier := range cts[:n] {
			if slices.Equal(earlier.c1[0], c.c1[0]) {
				return nil, &PartyError{n, fmt.Errorf("%w: the ciphertext is another contributor's", ErrRepeated)}
			}
		}
		for i := range s.limbs {
			addRow(&s.limbs[i].Prime, sum.c0[i], c.c0[i])
			addRow(&s.limbs[i].Prime, sum.c1[i], c.c1[i])
		}
	}
	return sum, nil
}
