package ringq

import (
	"encoding/binary"
	"fmt"
)

// HeaderSize is the length of a frame's header.
const HeaderSize = 8

const frameVersion = 1

// Header opens every frame:
//
//	version  1 byte
//	kind     1 byte
//	set      1 byte   code of the parameter set, never used for another one
//	log N    1 byte
//	rows     1 byte   of a polynomial: one for each prime
//	bits     1 byte   of every residue
//	aux      2 bytes  what the kind says; little-endian
//
// All fields are known to the receiver beforehand; a frame only confirms them,
// and its exact length follows from them.
type Header struct {
	Kind, Set        byte
	LogN, Rows, Bits int
	Aux              int // below 2^16
}

// Append appends the header's bytes.
func (h Header) Append(b []byte) []byte {
	b = append(b, frameVersion, h.Kind, h.Set, byte(h.LogN), byte(h.Rows), byte(h.Bits))
	return binary.LittleEndian.AppendUint16(b, uint16(h.Aux))
}

// Fault is what is wrong with a frame. It is no error yet: the package that
// owns the frame wraps it in its own.
type Fault struct {
	What    string
	Foreign bool // the frame belongs to another parameter set
}

func fault(format string, a ...any) *Fault { return &Fault{What: fmt.Sprintf(format, a...)} }

// Open holds the header and the exact length of a frame called name against
// what they must be, and returns the rest. It allocates nothing that lasts.
func (h Header) Open(b []byte, name string, size int) ([]byte, *Fault) {
	if len(b) < HeaderSize {
		return nil, fault("%d bytes are no %s", len(b), name)
	}
	switch {
	case b[0] != frameVersion:
		return nil, fault("version %d instead of %d", b[0], frameVersion)
	case b[1] != h.Kind:
		return nil, fault("kind %d instead of a %s", b[1], name)
	case b[2] != h.Set:
		f := fault("a %s of set code %d came where %d is in use", name, b[2], h.Set)
		f.Foreign = true
		return nil, f
	case int(b[3]) != h.LogN || int(b[4]) != h.Rows || int(b[5]) != h.Bits:
		return nil, fault("degree, primes or bits of a %s are not those of its set", name)
	case int(binary.LittleEndian.Uint16(b[6:])) != h.Aux:
		return nil, fault("a %s that is not the one expected: it says %d instead of %d", name, binary.LittleEndian.Uint16(b[6:]), h.Aux)
	case len(b) != size:
		return nil, fault("a %s of %d bytes instead of %d", name, len(b), size)
	}
	return b[HeaderSize:], nil
}

// RowSize is the length of n residues of qbits bits each: packed without gaps,
// least significant bit first, ending on a byte.
func RowSize(n, qbits int) int { return (n*qbits + 7) / 8 }

// Pack appends residues of qbits bits each.
func Pack(b []byte, row []uint64, qbits int) []byte {
	var pool uint64
	n := uint(qbits)
	var have uint // bits in pool, below 64
	for _, v := range row {
		pool |= v << have
		if have += n; have >= 64 {
			b = binary.LittleEndian.AppendUint64(b, pool)
			have -= 64
			pool = v >> (n - have)
		}
	}
	for i := uint(0); i < have; i += 8 {
		b = append(b, byte(pool>>i))
	}
	return b
}

// Unpack fills row with residues below the prime and returns the rest of b,
// which must be long enough. Spare bits must be 0: there is one encoding of
// everything.
func (p *Prime) Unpack(row []uint64, b []byte, qbits int) ([]byte, *Fault) {
	size := RowSize(len(row), qbits)
	in, rest := b[:size], b[size:]
	n := uint(qbits)
	mask := uint64(1)<<n - 1
	var pool uint64
	var have uint // bits in pool, below 64
	var high uint64
	for j := range row {
		v := pool
		if have < n {
			var next uint64
			var got uint
			if len(in) >= 8 {
				next, got, in = binary.LittleEndian.Uint64(in), 64, in[8:]
			} else {
				for k, c := range in {
					next |= uint64(c) << (8 * k)
				}
				got, in = uint(8*len(in)), nil
			}
			v |= next << have
			pool = next >> (n - have)
			have += got - n
		} else {
			pool >>= n
			have -= n
		}
		v &= mask
		high |= (p.Q - 1) - v // wraps, setting the top bit, where v is at or above q
		row[j] = v
	}
	if high>>63 != 0 {
		return nil, fault("a coefficient is not below its prime")
	}
	if pool != 0 {
		return nil, fault("spare bits of a row are set")
	}
	return rest, nil
}
