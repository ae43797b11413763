package he

import (
	"math/bits"

	"github.com/tuneinsight/lattigo/v5/ring"

	"github.com/yinqiao/yinqiao/mpc/share"
)

// poly holds one row of Degree residues for each prime.
type poly [][]uint64

func newPoly(limbs int) poly {
	buf := make([]uint64, limbs*Degree)
	p := make(poly, limbs)
	for i := range p {
		p[i] = buf[i*Degree : (i+1)*Degree : (i+1)*Degree]
	}
	return p
}

// form returns a·2^64 mod q, the Montgomery form of a < q.
func (l *limb) form(a uint64) uint64 { return ring.MForm(a, l.q, l.brc) }

// mul returns a·b mod q for b in Montgomery form and any a.
func (l *limb) mul(a, bM uint64) uint64 {
	hi, lo := bits.Mul64(a, bM)
	h, _ := bits.Mul64(lo*l.qInv, l.q)
	return l.cred(hi - h + l.q)
}

// cred returns a mod q for a < 2q, without a branch.
func (l *limb) cred(a uint64) uint64 {
	d, borrow := bits.Sub64(a, l.q, 0)
	return d + l.q&-borrow
}

func (l *limb) add(a, b uint64) uint64 { return l.cred(a + b) }
func (l *limb) sub2(a, b uint64) uint64 {
	d, borrow := bits.Sub64(a, b, 0)
	return d + l.q&-borrow
}

// word returns w mod q times the constant whose Montgomery forms, times 1 and
// times 2^64, are given.
func (l *limb) word(w share.Word, cM, cWM uint64) uint64 {
	return l.add(l.mul(w.Lo, cM), l.mul(w.Hi, cWM))
}

// signed returns x mod q for |x| < q, without a branch.
func (l *limb) signed(x int64) uint64 { return uint64(x) + l.q&uint64(x>>63) }

// ntt and intt transform in place; rows are below q before and after. The
// order of the evaluations is Lattigo's.
func (l *limb) ntt(row []uint64)  { l.sub.NTT(row, row) }
func (l *limb) intt(row []uint64) { l.sub.INTT(row, row) }

// wide is an unreduced sum of products.
type wide struct{ hi, lo uint64 }

// reduce returns w mod q for any w.
func (l *limb) reduce(w wide) uint64 { return l.add(l.mul(w.lo, l.oneM), l.mul(w.hi, l.wM)) }

// reduceRow writes the residues of w.
func (l *limb) reduceRow(row []uint64, w []wide) {
	w = w[:len(row)]
	for j := range row {
		row[j] = l.reduce(w[j])
	}
}

// mulAddRow adds a[j]·x[j] and b[j]·x[j] to the sums, with no reduction: a
// product of two residues has at most 2·58 bits, so a sum holds 2^12 of them.
func mulAddRow(accA, accB []wide, a, b, x []uint64) {
	accA, accB, a, b = accA[:len(x)], accB[:len(x)], a[:len(x)], b[:len(x)]
	for j, v := range x {
		var c uint64
		hi, lo := bits.Mul64(a[j], v)
		accA[j].lo, c = bits.Add64(accA[j].lo, lo, 0)
		accA[j].hi += hi + c
		hi, lo = bits.Mul64(b[j], v)
		accB[j].lo, c = bits.Add64(accB[j].lo, lo, 0)
		accB[j].hi += hi + c
	}
}

// lazyTerms is how many products an accumulator adds up unreduced; a response
// adds one more.
const lazyTerms = 1 << 11
