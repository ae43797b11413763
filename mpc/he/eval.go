package he

import (
	"fmt"
	"io"
	"math"
	"sync/atomic"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// Plain is the evaluator's own polynomial, ready to multiply by. It takes
// 8·Degree bytes per prime, 192 to 256 KiB, and may be used any number of
// times, concurrently.
type Plain struct {
	s    *Scheme
	x    ringq.Poly // transformed
	load Load
}

// Load returns how much noise multiplying by p can make.
func (p *Plain) Load() Load { return p.load }

// EncodePlain encodes small integers, coefficient i at X^i, the rest 0. Each
// must be below 2^(b-1) in absolute value, b being the length of the primes,
// at least 44.
func (s *Scheme) EncodePlain(coeffs []int64) (*Plain, error) {
	if len(coeffs) > Degree {
		return nil, fmt.Errorf("%w: %d coefficients, a polynomial holds %d", ErrInput, len(coeffs), Degree)
	}
	p := &Plain{s: s, x: ringq.NewPoly(len(s.limbs), Degree)}
	for _, v := range coeffs {
		f := math.Abs(float64(v))
		p.load.L1 += f
		p.load.L2Sq += f * f
	}
	limit := int64(1) << (s.set.qbits - 1)
	for _, v := range coeffs {
		if v <= -limit || v >= limit {
			return nil, fmt.Errorf("%w: a coefficient has more than %d bits", ErrInput, s.set.qbits-1)
		}
	}
	for i := range s.limbs {
		l, row := &s.limbs[i], p.x[i]
		for j, v := range coeffs {
			row[j] = l.Signed(v)
		}
		l.NTT(row)
	}
	return p, nil
}

// EncodePlainSlots encodes up to Degree integers modulo a prime t so that
// products act on each of them by itself.
func (s *Scheme) EncodePlainSlots(v []int64) (*Plain, error) {
	row, err := s.slotRow(v)
	if err != nil {
		return nil, err
	}
	c := make([]int64, Degree)
	for j, x := range row {
		c[j] = int64(x) - int64(s.set.t&-s.centre(share.Word{Lo: x}))
	}
	return s.EncodePlain(c)
}

func (s *Scheme) slotRow(v []int64) ([]uint64, error) {
	switch {
	case s.slot == nil:
		return nil, fmt.Errorf("%w: %s has no slots", ErrParam, s.id)
	case len(v) > Degree:
		return nil, fmt.Errorf("%w: %d values, there are %d slots", ErrInput, len(v), Degree)
	}
	t := s.slot
	w := t.Mul(t.WM, 1) // 2^64 mod t
	row := make([]uint64, Degree)
	for j, x := range v { // x is uint64(x) - 2^64 where it is negative
		row[j] = t.Sub(t.Mul(uint64(x), t.OneM), w&uint64(x>>63))
	}
	t.INTT(row)
	return row, nil
}

// SlotsToCoeffs turns up to Degree slot values, taken modulo a prime t, into
// the Degree coefficients that Encrypt and Respond's masks want.
func (s *Scheme) SlotsToCoeffs(v []int64) ([]share.Word, error) {
	row, err := s.slotRow(v)
	if err != nil {
		return nil, err
	}
	w := make([]share.Word, Degree)
	for j, x := range row {
		w[j].Lo = x
	}
	return w, nil
}

// CoeffsToSlots is the inverse: it wants all Degree coefficients, as Decrypt
// returns them, and gives slot values in [0, t).
func (s *Scheme) CoeffsToSlots(w []share.Word) ([]uint64, error) {
	if s.slot == nil {
		return nil, fmt.Errorf("%w: %s has no slots", ErrParam, s.id)
	}
	if len(w) != Degree {
		return nil, fmt.Errorf("%w: %d coefficients of %d", ErrInput, len(w), Degree)
	}
	if err := s.checkWords(w); err != nil {
		return nil, err
	}
	row := make([]uint64, Degree)
	for j := range row {
		row[j] = w[j].Lo
	}
	s.slot.NTT(row)
	return row, nil
}

// Ciphertext is a request as the evaluator uses it: any number of times,
// concurrently. It takes 16·Degree bytes per prime.
type Ciphertext struct {
	s      *Scheme
	c0, c1 ringq.Poly // transformed
}

// Expand rebuilds the second half of a request from its seed.
func (s *Scheme) Expand(r *Request) (*Ciphertext, error) {
	if r == nil || r.s.id != s.id {
		return nil, fmt.Errorf("%w: the request is not of %s", ErrParam, s.id)
	}
	c := &Ciphertext{s: s, c0: r.c0, c1: ringq.NewPoly(len(s.limbs), Degree)}
	s.expand(c.c1, r.seed, useRequest)
	return c, nil
}

// Accumulator sums products of ciphertexts with plaintexts. One goroutine uses
// it at a time, and one response can be made from it. It takes 32·Degree bytes
// per prime, 0.75 to 1 MiB.
type Accumulator struct {
	s      *Scheme
	c0, c1 [][]wide
	terms  int // products since the sums were last reduced
	load   Load
	used   atomic.Bool
}

// NewAccumulator returns an accumulator of zero.
func (s *Scheme) NewAccumulator() *Accumulator {
	a := &Accumulator{s: s, c0: make([][]wide, len(s.limbs)), c1: make([][]wide, len(s.limbs))}
	buf := make([]wide, 2*len(s.limbs)*Degree)
	for i := range s.limbs {
		a.c0[i], buf = buf[:Degree:Degree], buf[Degree:]
		a.c1[i], buf = buf[:Degree:Degree], buf[Degree:]
	}
	return a
}

// MulAdd adds c·p.
func (a *Accumulator) MulAdd(c *Ciphertext, p *Plain) error {
	switch {
	case a.used.Load():
		return ErrUsed
	case c == nil || p == nil || c.s.id != a.s.id || p.s.id != a.s.id:
		return fmt.Errorf("%w: the factors are not of %s", ErrParam, a.s.id)
	}
	if a.terms == lazyTerms {
		a.fold()
	}
	for i := range a.s.limbs {
		mulAddRow(a.c0[i], a.c1[i], c.c0[i], c.c1[i], p.x[i])
	}
	a.terms++
	a.load = a.load.Add(p.load)
	return nil
}

// fold reduces the sums, so that as many terms fit again.
func (a *Accumulator) fold() {
	for i := range a.s.limbs {
		l := &a.s.limbs[i]
		for j := range a.c0[i] {
			a.c0[i][j] = wide{lo: l.reduce(a.c0[i][j])}
			a.c1[i][j] = wide{lo: l.reduce(a.c1[i][j])}
		}
	}
	a.terms = 1
}

// Response is what the key holder may see: all of c1, and c0 at the opened
// positions, modulo the kept primes.
type Response struct {
	s    *Scheme
	need int
	c0   [][]uint64 // kept primes × need
	c1   ringq.Poly // coefficients
}

// Respond makes the one response of acc: it adds a fresh encryption of zero
// under pk to both halves, adds mask[i] at pos[i], floods every opened
// coefficient, and drops to the response's primes. Masks are taken modulo a
// power of two t, and must be below a prime one. Positions increase.
//
// It refuses, before touching acc, work whose noise the flooding does not hide
// (a *BudgetError), and more opened coefficients under pk than the scheme was
// opened for (ErrFlood). An accumulator that was answered from, or whose answer
// failed, is ErrUsed.
func (s *Scheme) Respond(rand io.Reader, acc *Accumulator, pk *PublicKey, pos []int, mask []share.Word) (*Response, error) {
	switch {
	case acc == nil || acc.s.id != s.id:
		return nil, fmt.Errorf("%w: the accumulator is not of %s", ErrParam, s.id)
	case pk == nil || pk.s.id != s.id:
		return nil, fmt.Errorf("%w: the public key is not of %s", ErrParam, s.id)
	case len(pos) != len(mask):
		return nil, fmt.Errorf("%w: %d positions and %d masks", ErrInput, len(pos), len(mask))
	}
	if err := checkPos(pos); err != nil {
		return nil, err
	}
	if err := s.checkWords(mask); err != nil {
		return nil, err
	}
	if err := s.Check(acc.load); err != nil {
		return nil, err
	}
	if n := pk.opened.Add(int64(len(pos))); n > s.flood.Opened {
		return nil, fmt.Errorf("%w: %d coefficients under one key, and it hides %d; open the scheme for more", ErrFlood, n, s.flood.Opened)
	}
	st, err := share.NewStream(rand)
	if err != nil {
		return nil, fmt.Errorf("he: draw randomness: %w", err)
	}
	if acc.used.Swap(true) {
		return nil, ErrUsed
	}
	return s.respond(st, acc, pk, pos, mask), nil
}

// respond does the work. A nil pk leaves the encryption of zero out, which
// gives the evaluator's data away: tests show that it does.
func (s *Scheme) respond(st *share.Stream, acc *Accumulator, pk *PublicKey, pos []int, mask []share.Word) *Response {
	var v, e0, e1 []int8
	if pk != nil {
		v, e0, e1 = ringq.Ternary(st, Degree), ringq.Noise(st, Degree), ringq.Noise(st, Degree)
	}
	c0, c1 := ringq.NewPoly(len(s.limbs), Degree), ringq.NewPoly(len(s.limbs), Degree)
	for i := range s.limbs {
		l, x, y := &s.limbs[i], c0[i], c1[i]
		if pk != nil { // add (b·v, a·v), while the sums are still unreduced
			l.Lift(x, v)
			l.NTT(x)
			mulAddRow(acc.c0[i], acc.c1[i], pk.b[i], pk.a[i], x)
		}
		l.reduceRow(x, acc.c0[i])
		l.reduceRow(y, acc.c1[i])
		l.INTT(x)
		l.INTT(y)
		if pk != nil {
			l.AddSmall(x, e0)
			l.AddSmall(y, e1)
		}
	}
	acc.c0, acc.c1 = nil, nil
	return s.drop(s.open(st, c0, pos, mask), c1)
}

// open picks the opened coefficients of c0, masks and floods them: one row of
// len(pos) residues per prime.
func (s *Scheme) open(st *share.Stream, c0 ringq.Poly, pos []int, mask []share.Word) [][]uint64 {
	out := make([][]uint64, len(s.limbs))
	for i := range out {
		out[i] = make([]uint64, len(pos))
	}
	for n, j := range pos {
		m := mask[n]
		if s.set.t == 0 {
			m = m.Mask(s.set.tbits)
		}
		f := st.Word(s.flood.Bits)
		for i := range s.limbs {
			l := &s.limbs[i]
			x := l.Add(c0[i][j], l.Word(m, l.tInvM, l.tInvWM))
			x = l.Add(x, l.Word(f, l.OneM, l.WM))
			out[i][n] = l.Sub(x, l.floodHalf)
		}
	}
	return out
}

// drop switches both halves to the response's primes: it subtracts the centred
// remainder modulo the last prime and divides by that prime, until only the
// response's are left.
func (s *Scheme) drop(c0 [][]uint64, c1 ringq.Poly) *Response {
	var inv [maxLimbs]uint64
	for last := len(s.limbs) - 1; last >= s.set.resp; last-- {
		for i := range last {
			inv[i] = s.limbs[i].dropInvM[last]
		}
		ringq.DropLast(s.primes, c0[:last+1], inv[:last])
		ringq.DropLast(s.primes, c1[:last+1], inv[:last])
	}
	return &Response{s: s, need: len(c0[0]), c0: c0[:s.set.resp], c1: c1[:s.set.resp]}
}
