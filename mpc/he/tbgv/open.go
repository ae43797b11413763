package tbgv

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/big"
	"math/bits"
	"slices"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// Share is one contributor's share of an opened sum. It is bound to the sum and
// to the active parties.
type Share struct {
	s     *Scheme
	party int
	bind  [sha256.Size]byte
	d     ringq.Poly // coefficients, modulo the primes that are kept
}

// OpenShare makes contributor self's share of a sum, for an opening by the
// active contributors (indices in increasing order, at least Threshold of them,
// self included). It floods every coefficient with fresh uniform noise.
//
// It refuses a ciphertext that is not a sum (ErrInput), a second share of a
// sum, for whatever active contributors (ErrUsed), and more sums than Openings
// (ErrFlood). A caller that may crash records the sum durably first: see
// [Ledger].
func (s *Scheme) OpenShare(rand io.Reader, ks *KeyShare, self int, active []int, sum *Ciphertext) (*Share, error) {
	switch {
	case ks == nil || !s.same(ks.s):
		return nil, fmt.Errorf("%w: the key share is not of %s", ErrParam, s.set.name)
	case sum == nil || !s.same(sum.s):
		return nil, fmt.Errorf("%w: the sum is not of %s", ErrParam, s.set.name)
	case sum.terms < 2:
		return nil, fmt.Errorf("%w: a single contributor's ciphertext is not opened", ErrInput)
	}
	if err := s.checkActive(active); err != nil {
		return nil, err
	}
	if !slices.Contains(active, self) || ks.self >= 0 && ks.self != self {
		return nil, fmt.Errorf("%w: contributor %d is not active, or the key share is another's", ErrInput, self)
	}
	st, err := newStream(rand)
	if err != nil {
		return nil, err
	}
	digest := sum.Digest()
	if err := ks.spend(digest, s.params.Openings); err != nil {
		return nil, err
	}
	sh := &Share{s: s, party: self, bind: bindTo(digest, active)}
	d := s.partial(st, ks.keyShare, self, active, sum)
	if s.threshold() {
		s.addZero(d, ks.keyShare, active, sh.bind)
	}
	sh.d = s.drop(d)
	return sh, nil
}

// partial returns c1·s_i, times the Lagrange coefficient with a threshold, and
// flooding, which is therefore not multiplied by it. The zero-shares are still
// missing: tests show what that would give away.
func (s *Scheme) partial(st *share.Stream, ks *keyShare, self int, active []int, sum *Ciphertext) ringq.Poly {
	d := s.newPoly()
	for i := range s.limbs {
		l, row, c1, sM := &s.limbs[i], d[i][:s.n], sum.c1[i][:s.n], ks.sM[i][:s.n]
		for j, v := range c1 {
			row[j] = l.Mul(v, sM[j])
		}
		if s.threshold() {
			lambda := l.Form(s.lagrange(l, self, active))
			for j, v := range row {
				row[j] = l.Mul(v, lambda)
			}
		}
		l.INTT(row)
	}
	s.flood(st, d)
	return d
}

// spend notes that a sum has been opened.
func (ks *keyShare) spend(digest [sha256.Size]byte, openings int) error {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	switch {
	case ks.sM == nil:
		return fmt.Errorf("%w: the key share was wiped", ErrUsed)
	case ks.seen[digest]:
		return fmt.Errorf("%w: a share of this sum was made", ErrUsed)
	case len(ks.seen) >= openings:
		return fmt.Errorf("%w: %d sums were opened under this key, and it hides no more", ErrFlood, openings)
	}
	ks.seen[digest] = true
	return nil
}

// flood adds an integer uniform over [-2^(b-1), 2^(b-1)) to every coefficient.
func (s *Scheme) flood(st *share.Stream, d ringq.Poly) {
	for j := range s.n {
		f := st.Word(s.budget.Flood)
		for i := range s.limbs {
			l := &s.limbs[i]
			x := l.Add(d[i][j], l.Word(f, l.OneM, l.WM))
			d[i][j] = l.Sub(x, l.floodHalf)
		}
	}
}

// checkActive wants increasing indices, enough of them.
func (s *Scheme) checkActive(active []int) error {
	last := -1
	for _, i := range active {
		if i <= last || i >= s.params.Parties {
			return fmt.Errorf("%w: active contributors must be in increasing order and below %d", ErrInput, s.params.Parties)
		}
		last = i
	}
	if len(active) < s.params.Threshold {
		return fmt.Errorf("%w: %d active contributors, %d are needed", ErrInput, len(active), s.params.Threshold)
	}
	return nil
}

// bindTo identifies an opening.
func bindTo(sum [sha256.Size]byte, active []int) (bind [sha256.Size]byte) {
	h := sha256.New()
	h.Write([]byte("yinqiao tbgv opening v1"))
	h.Write(sum[:])
	for _, i := range active {
		h.Write([]byte{byte(i)})
	}
	h.Sum(bind[:0])
	return bind
}

// Open adds the active contributors' shares, in their order, and returns the
// sum's Slots values modulo t. It needs no key.
func (s *Scheme) Open(sum *Ciphertext, active []int, shares []*Share) ([]share.Word, error) {
	out := make([]share.Word, s.n)
	err := s.open(sum, active, shares, func(j int, w share.Word) { out[j] = w.Mask(s.set.tbits) })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// OpenNarrow is Open for t = 2^32.
func (s *Scheme) OpenNarrow(sum *Ciphertext, active []int, shares []*Share) ([]uint32, error) {
	if s.set.tbits != share.NarrowBits {
		return nil, fmt.Errorf("%w: values of %d bits from %s", ErrParam, share.NarrowBits, s.set.name)
	}
	out := make([]uint32, s.n)
	err := s.open(sum, active, shares, func(j int, w share.Word) { out[j] = uint32(w.Lo) })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// OpenWide is Open for t = 2^64.
func (s *Scheme) OpenWide(sum *Ciphertext, active []int, shares []*Share) ([]uint64, error) {
	if s.set.tbits != share.WideBits {
		return nil, fmt.Errorf("%w: values of %d bits from %s", ErrParam, share.WideBits, s.set.name)
	}
	out := make([]uint64, s.n)
	err := s.open(sum, active, shares, func(j int, w share.Word) { out[j] = w.Lo })
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Scheme) open(sum *Ciphertext, active []int, shares []*Share, put func(int, share.Word)) error {
	if sum == nil || !s.same(sum.s) {
		return fmt.Errorf("%w: the sum is not of %s", ErrParam, s.set.name)
	}
	if err := s.checkActive(active); err != nil {
		return err
	}
	if len(shares) != len(active) {
		return fmt.Errorf("%w: %d shares of %d active contributors", ErrInput, len(shares), len(active))
	}
	bind := bindTo(sum.Digest(), active)
	for n, sh := range shares {
		switch {
		case sh == nil || !s.same(sh.s):
			return &PartyError{active[n], fmt.Errorf("%w: the share is not of %s", ErrParam, s.set.name)}
		case sh.party != active[n]:
			return &PartyError{active[n], fmt.Errorf("%w: the share is contributor %d's", ErrInput, sh.party)}
		case sh.bind != bind:
			return &PartyError{active[n], fmt.Errorf("%w, or for other active contributors", ErrForeign)}
		}
	}
	x := s.newPoly()
	for i := range x {
		copy(x[i], sum.c0[i])
	}
	x = s.drop(x)
	for i := range x {
		l := &s.limbs[i]
		for _, sh := range shares {
			addRow(&l.Prime, x[i], sh.d[i])
		}
		for j, v := range x[i] {
			x[i][j] = l.Mul(v, l.tM)
		}
	}
	if !s.dec.decode(s, x, put) {
		return fmt.Errorf("%w: a share is of another key, or damaged", ErrMargin)
	}
	return nil
}

// decoder turns residues of t·(c0 + Σ d) modulo the primes that are kept into
// integers, centred, times the primes that were dropped.
type decoder struct {
	inv            uint64     // q0⁻¹ mod q1, Montgomery form
	q0             uint64     // 0 where one prime is kept
	q, half, limit share.Word // product of the kept primes; (q-1)/2; 9/32 of q, above all honest values
	drop           share.Word // product of the dropped primes
}

func (s *Scheme) newDecoder() decoder {
	product := func(qs []uint64) *big.Int {
		p := big.NewInt(1)
		for _, q := range qs {
			p.Mul(p, new(big.Int).SetUint64(q))
		}
		return p
	}
	q := product(s.set.q[:s.set.keep])
	limit := new(big.Int).Mul(q, big.NewInt(9))
	d := decoder{
		q: share.FromBig(q), half: share.FromBig(new(big.Int).Rsh(q, 1)),
		limit: share.FromBig(limit.Rsh(limit, 5)),
		drop:  share.FromBig(product(s.set.q[s.set.keep:])),
	}
	if s.set.keep == 2 {
		d.q0 = s.set.q[0]
		d.inv = s.limbs[1].Form(ringq.Inverse(d.q0, s.set.q[1]))
	}
	return d
}

// decode reports whether all values kept their margin. No step depends on a
// value.
func (d *decoder) decode(s *Scheme, x ringq.Poly, put func(int, share.Word)) bool {
	var beyond uint64
	for j, v0 := range x[0] {
		v := share.Word{Lo: v0}
		if d.q0 != 0 { // public: v0 + q0·((v1 - v0)/q0 mod q1)
			l := &s.limbs[1]
			k := l.Mul(l.Sub(x[1][j], l.Cred(v0)), d.inv)
			v.Hi, v.Lo = bits.Mul64(k, d.q0)
			var c uint64
			v.Lo, c = bits.Add64(v.Lo, v0, 0)
			v.Hi += c
		}
		neg := -less(d.half, v) // above the half stands for v - q
		v = v.Sub(share.Word{Hi: d.q.Hi & neg, Lo: d.q.Lo & neg})
		beyond |= less(d.limit, share.Word{Hi: v.Hi ^ neg, Lo: v.Lo ^ neg}) // |v|, or |v| - 1
		put(j, v.Mul(d.drop))
	}
	return beyond == 0
}

// less returns 1 where a < b.
func less(a, b share.Word) uint64 {
	_, c := bits.Sub64(a.Lo, b.Lo, 0)
	_, c = bits.Sub64(a.Hi, b.Hi, c)
	return c
}
