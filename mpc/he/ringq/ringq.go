// Package ringq is what the encryption schemes under mpc/he share: polynomials
// over word-sized primes, the samplers of ring-LWE, and frames.
//
// Of Lattigo it uses the tables and the transform of a ring. Its decoders,
// samplers and protocols are not used: they cannot be trusted with a peer's
// bytes, and its wide noise lies on a sparse set.
//
// Arithmetic and samplers have no branch and no look-up that depends on a
// secret, except that sampling rejects on bits that are thrown away. Lattigo's
// transform writes its conditional subtractions as comparisons, which the
// compiler may turn into branches.
package ringq

import (
	"fmt"
	"math/big"
	"math/bits"
	"slices"
	"sync"

	"github.com/tuneinsight/lattigo/v5/ring"

	"github.com/yinqiao/yinqiao/mpc/share"
)

// Prime is arithmetic modulo one prime q below 2^61. A trailing M means
// Montgomery form, a·2^64 mod q.
type Prime struct {
	Q        uint64
	OneM, WM uint64 // 1 and 2^64
	sub      *ring.SubRing
	qInv     uint64
}

type ringKey struct {
	logN   int
	moduli string
}

type ringEntry struct {
	once   sync.Once
	primes []Prime
	err    error
}

var rings sync.Map // ringKey → *ringEntry

// Open returns the primes of a ring of degree 2^logN, each 1 mod 2^(logN+1).
// The tables are made once a process and are read-only afterwards. Moduli must
// come from an allow-list, never from a peer.
func Open(logN int, moduli []uint64) ([]Prime, error) {
	v, _ := rings.LoadOrStore(ringKey{logN, fmt.Sprint(moduli)}, new(ringEntry))
	e := v.(*ringEntry)
	e.once.Do(func() {
		r, err := ring.NewRing(1<<logN, slices.Clone(moduli))
		if err != nil {
			e.err = err
			return
		}
		for _, sub := range r.SubRings {
			p := Prime{Q: sub.Modulus, sub: sub, qInv: sub.MRedConstant}
			p.OneM = ring.MForm(1, p.Q, sub.BRedConstant)
			p.WM = ring.MForm(p.OneM, p.Q, sub.BRedConstant)
			e.primes = append(e.primes, p)
		}
	})
	return e.primes, e.err
}

// Form returns a·2^64 mod q, the Montgomery form of a.
func (p *Prime) Form(a uint64) uint64 { return p.Mul(a, p.WM) }

// Mul returns a·b mod q for b in Montgomery form and any a.
func (p *Prime) Mul(a, bM uint64) uint64 {
	hi, lo := bits.Mul64(a, bM)
	h, _ := bits.Mul64(lo*p.qInv, p.Q)
	return p.Cred(hi - h + p.Q)
}

// Cred returns a mod q for a < 2q, without a branch.
func (p *Prime) Cred(a uint64) uint64 {
	d, borrow := bits.Sub64(a, p.Q, 0)
	return d + p.Q&-borrow
}

// Add returns a + b mod q.
func (p *Prime) Add(a, b uint64) uint64 { return p.Cred(a + b) }

// Sub returns a - b mod q.
func (p *Prime) Sub(a, b uint64) uint64 {
	d, borrow := bits.Sub64(a, b, 0)
	return d + p.Q&-borrow
}

// Word returns w mod q times the constant whose Montgomery forms, times 1 and
// times 2^64, are given.
func (p *Prime) Word(w share.Word, cM, cWM uint64) uint64 {
	return p.Add(p.Mul(w.Lo, cM), p.Mul(w.Hi, cWM))
}

// Signed returns x mod q for |x| < q, without a branch.
func (p *Prime) Signed(x int64) uint64 { return uint64(x) + p.Q&uint64(x>>63) }

// NTT and INTT transform in place; rows are below q before and after. The
// order of the evaluations is Lattigo's.
func (p *Prime) NTT(row []uint64) { p.sub.NTT(row, row) }

// INTT is the inverse of NTT.
func (p *Prime) INTT(row []uint64) { p.sub.INTT(row, row) }

// Inverse returns a⁻¹ mod q, and 0 where there is none. It is for public
// values: big.Int does the work.
func Inverse(a, q uint64) uint64 {
	b := new(big.Int).SetUint64(q)
	if i := new(big.Int).ModInverse(new(big.Int).SetUint64(a), b); i != nil {
		return i.Uint64()
	}
	return 0
}

// Poly holds one row of residues for each prime.
type Poly [][]uint64

// NewPoly returns zero, as rows of n residues.
func NewPoly(rows, n int) Poly {
	buf := make([]uint64, rows*n)
	p := make(Poly, rows)
	for i := range p {
		p[i] = buf[i*n : (i+1)*n : (i+1)*n]
	}
	return p
}

// Wipe overwrites p.
func (p Poly) Wipe() {
	for _, row := range p {
		clear(row)
	}
}

// DropLast divides the polynomial by the prime of its last row and rounds: it
// subtracts the centred remainder, and divides exactly. The last row is
// destroyed. inv holds the inverses of the last prime modulo each of the
// others, in Montgomery form.
func DropLast(primes []Prime, rows [][]uint64, inv []uint64) {
	last := len(rows) - 1
	lp := &primes[last]
	half := (lp.Q - 1) / 2
	for j, v := range rows[last] {
		rows[last][j] = lp.Add(v, half) // so that the remainder is v - half, centred
	}
	for i := range last {
		p, row, rem := &primes[i], rows[i], rows[last][:len(rows[i])]
		h, invM := half%p.Q, inv[i]
		for j, v := range row {
			x := p.Sub(p.Add(v, h), p.Mul(rem[j], p.OneM))
			row[j] = p.Mul(x, invM)
		}
	}
}
