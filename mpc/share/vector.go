package share

import "fmt"

// Widths of a Vector's parts, in bits.
const (
	NarrowBits = 32
	WideBits   = 64
	HugeBits   = 96
)

// Vector is ring elements of three widths. Each part is a vector modulo its own
// power of two; signed numbers are in two's complement. It takes 4, 8 and 16
// bytes an element.
type Vector struct {
	Narrow []uint32 // modulo 2^32
	Wide   []uint64 // modulo 2^64
	Huge   []Word   // modulo 2^96: the upper 32 bits are not looked at
}

// Shape is the lengths of a Vector's parts.
type Shape struct{ Narrow, Wide, Huge int }

// NewVector returns a vector of zeros.
func NewVector(s Shape) Vector {
	return Vector{make([]uint32, s.Narrow), make([]uint64, s.Wide), make([]Word, s.Huge)}
}

// Shape returns the lengths of v's parts.
func (v Vector) Shape() Shape { return Shape{len(v.Narrow), len(v.Wide), len(v.Huge)} }

// Len returns the number of elements.
func (s Shape) Len() int { return s.Narrow + s.Wide + s.Huge }

// String gives the shape as parties compare it: "4096/0/12".
func (s Shape) String() string { return fmt.Sprintf("%d/%d/%d", s.Narrow, s.Wide, s.Huge) }

// Add adds w, which has v's shape, to v.
func (v Vector) Add(w Vector) {
	for i, x := range w.Narrow {
		v.Narrow[i] += x
	}
	for i, x := range w.Wide {
		v.Wide[i] += x
	}
	for i, x := range w.Huge {
		v.Huge[i] = v.Huge[i].Add(x)
	}
}

// Sub subtracts w, which has v's shape, from v.
func (v Vector) Sub(w Vector) {
	for i, x := range w.Narrow {
		v.Narrow[i] -= x
	}
	for i, x := range w.Wide {
		v.Wide[i] -= x
	}
	for i, x := range w.Huge {
		v.Huge[i] = v.Huge[i].Sub(x)
	}
}

// SignedHuge extends the sign of an element of Huge from bit 95.
func SignedHuge(w Word) Word {
	return Word{uint64(int64(w.Hi<<32) >> 32), w.Lo}
}
