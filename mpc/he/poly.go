package he

import "math/bits"

// wide is an unreduced sum of products.
type wide struct{ hi, lo uint64 }

// reduce returns w mod q for any w.
func (l *limb) reduce(w wide) uint64 { return l.Add(l.Mul(w.lo, l.OneM), l.Mul(w.hi, l.WM)) }

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
