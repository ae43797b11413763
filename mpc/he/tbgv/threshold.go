package tbgv

import (
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// Piece is what one contributor deals to one contributor, itself included: its
// secret's Shamir share at the receiver's point, and a seed that only the two
// know. It does not print; its frame goes to the receiver alone.
type Piece struct {
	hidden
	s        *Scheme
	from, to int
	*piece
}

type piece struct {
	rows ringq.Poly // transformed
	seed [seedSize]byte
}

// Wipe overwrites the piece: so many of one dealer as open a sum are its secret.
func (p *Piece) Wipe() {
	p.rows.Wipe()
	clear(p.seed[:])
}

// Deal shares the secret of contributor self among all contributors: piece j
// is for contributor j, whose point is j+1. It uses the secret up but for
// [Scheme.Collect]. It takes Parties times the memory of a secret.
func (s *Scheme) Deal(rand io.Reader, sk *Secret, self int) ([]*Piece, error) {
	switch {
	case !s.threshold():
		return nil, fmt.Errorf("%w: all contributors open together, nothing is dealt", ErrInput)
	case sk == nil || !s.same(sk.s):
		return nil, fmt.Errorf("%w: the secret is not of %s", ErrParam, s.set.name)
	case self < 0 || self >= s.params.Parties:
		return nil, fmt.Errorf("%w: contributor %d of %d", ErrInput, self, s.params.Parties)
	}
	st, err := newStream(rand)
	if err != nil {
		return nil, err
	}
	if err := sk.take(); err != nil {
		return nil, err
	}
	// A polynomial of degree t-1 over every prime, for every evaluation of the
	// secret: transforming and sharing are linear, so their order is free.
	higher := make([]ringq.Poly, s.params.Threshold-1)
	for k := range higher {
		higher[k] = s.newPoly()
		ringq.Uniform(st, s.primes, higher[k], s.set.qbits)
	}
	pieces := make([]*Piece, s.params.Parties)
	sk.seeds = make([][seedSize]byte, s.params.Parties)
	for to := range pieces {
		p := &Piece{s: s, from: self, to: to, piece: &piece{rows: s.newPoly()}}
		if err := s.evaluate(p.rows, sk.rows, higher, to+1); err != nil {
			return nil, err
		}
		_, _ = st.Read(p.seed[:]) // a stream does not fail
		sk.seeds[to] = p.seed
		pieces[to] = p
	}
	for _, p := range higher {
		p.Wipe()
	}
	sk.rows.Wipe()
	return pieces, nil
}

// evaluate writes the value at a point of the polynomial with that constant
// term and those higher coefficients. Point 0 would be the secret itself.
func (s *Scheme) evaluate(out, constant ringq.Poly, higher []ringq.Poly, point int) error {
	if point < 1 || point > s.params.Parties {
		return fmt.Errorf("%w: point %d of %d contributors", ErrInput, point, s.params.Parties)
	}
	for i := range s.limbs {
		l, row := &s.limbs[i], out[i]
		x := l.Form(uint64(point))
		copy(row, higher[len(higher)-1][i])
		for k := len(higher) - 2; k >= -1; k-- {
			next := constant[i]
			if k >= 0 {
				next = higher[k][i]
			}
			for j, v := range row {
				row[j] = l.Add(l.Mul(v, x), next[j])
			}
		}
	}
	return nil
}

// Collect adds up what all contributors dealt to contributor self, whose secret
// sk is; piece i is from contributor i.
func (s *Scheme) Collect(sk *Secret, self int, pieces []*Piece) (*KeyShare, error) {
	switch {
	case sk == nil || !s.same(sk.s):
		return nil, fmt.Errorf("%w: the secret is not of %s", ErrParam, s.set.name)
	case sk.seeds == nil:
		return nil, fmt.Errorf("%w: pieces are collected after the own ones were dealt", ErrInput)
	case len(pieces) != s.params.Parties:
		return nil, fmt.Errorf("%w: %d pieces of %d contributors", ErrInput, len(pieces), s.params.Parties)
	}
	ks := &KeyShare{s: s, keyShare: &keyShare{
		self: self, sM: s.newPoly(), pairs: make([][seedSize]byte, len(pieces)), seen: map[[sha256.Size]byte]bool{},
	}}
	for n, p := range pieces {
		switch {
		case p == nil || !s.same(p.s):
			return nil, &PartyError{n, fmt.Errorf("%w: the piece is not of %s", ErrParam, s.set.name)}
		case p.from != n || p.to != self:
			return nil, &PartyError{n, fmt.Errorf("%w: the piece goes from contributor %d to %d", ErrInput, p.from, p.to)}
		}
		for i := range s.limbs {
			addRow(&s.limbs[i].Prime, ks.sM[i], p.rows[i])
		}
		if n != self {
			low, high := &p.seed, &sk.seeds[n]
			if self < n {
				low, high = high, low
			}
			ks.pairs[n] = pairKey(low, high)
		}
	}
	for i := range s.limbs {
		formRow(&s.limbs[i].Prime, ks.sM[i])
	}
	clear(sk.seeds)
	sk.seeds = nil
	return ks, nil
}

// pairKey joins the seeds that two contributors dealt to each other, first the
// one of the lower index.
func pairKey(low, high *[seedSize]byte) (key [share.KeySize]byte) {
	h := sha256.New()
	h.Write([]byte("yinqiao tbgv pair v1"))
	h.Write(low[:])
	h.Write(high[:])
	h.Sum(key[:0])
	return key
}

// addZero adds the zero-shares of one opening: for every other active party a
// polynomial that only the two can compute, with opposite signs.
func (s *Scheme) addZero(d ringq.Poly, ks *keyShare, active []int, bind [sha256.Size]byte) {
	pad := s.newPoly()
	for _, other := range active {
		if other == ks.self {
			continue
		}
		s.uniform(pad, "yinqiao tbgv zero v1", ks.pairs[other][:], bind[:])
		for i := range s.limbs {
			l, row := &s.limbs[i], d[i]
			for j, v := range pad[i] {
				if ks.self < other { // public
					row[j] = l.Add(row[j], v)
				} else {
					row[j] = l.Sub(row[j], v)
				}
			}
		}
	}
	pad.Wipe()
}

// lagrange returns the coefficient of contributor self in the value at 0 of a
// polynomial known at the points of the active ones.
func (s *Scheme) lagrange(l *limb, self int, active []int) uint64 {
	num, den := uint64(1), uint64(1)
	for _, other := range active {
		if other == self {
			continue
		}
		num = l.Mul(num, l.Form(uint64(other+1)))
		den = l.Mul(den, l.Form(l.Signed(int64(other-self))))
	}
	return l.Mul(num, l.Form(ringq.Inverse(den, l.Q)))
}
