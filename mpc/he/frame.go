package he

import (
	"encoding/binary"
	"fmt"
)

// A frame is
//
//	version  1 byte
//	kind     1 byte   public key, request, response
//	set      1 byte   code of the parameter set
//	log N    1 byte
//	primes   1 byte   how many rows a polynomial has
//	bits     1 byte   of every residue
//	need     2 bytes  opened coefficients of a response, else 0; little-endian
//
// and then, for a public key or request, the seed of the second half and one
// row per prime; for a response c0's rows of need residues and c1's of N.
// Residues are packed without gaps, least significant bit first; a row ends on
// a byte, its spare bits 0. There is one encoding of everything, and its exact
// length follows from the set, the kind and need before a byte is looked at.
const (
	frameVersion = 1
	headerSize   = 8
)

type kind byte

const (
	kindPublicKey kind = 1
	kindRequest   kind = 2
	kindResponse  kind = 3
)

func (k kind) String() string {
	switch k {
	case kindPublicKey:
		return "public key"
	case kindRequest:
		return "request"
	}
	return "response"
}

// PublicKeySize is the length of a public key's frame.
func (s *Scheme) PublicKeySize() int { return s.RequestSize() }

// RequestSize is the length of a request's frame: about 132 to 200 KiB.
func (s *Scheme) RequestSize() int {
	return headerSize + seedSize + len(s.limbs)*s.rowSize(Degree)
}

// ResponseSize is the length of the frame of a response that opens need
// coefficients.
func (s *Scheme) ResponseSize(need int) int {
	return headerSize + s.set.resp*(s.rowSize(need)+s.rowSize(Degree))
}

func (s *Scheme) rowSize(n int) int { return (n*s.set.qbits + 7) / 8 }

func (s *Scheme) header(k kind, need int) []byte {
	rows := len(s.limbs)
	size := s.RequestSize()
	if k == kindResponse {
		rows, size = s.set.resp, s.ResponseSize(need)
	}
	b := make([]byte, 0, size)
	b = append(b, frameVersion, byte(k), s.set.code, logN, byte(rows), byte(s.set.qbits))
	return binary.LittleEndian.AppendUint16(b, uint16(need))
}

// Marshal returns the frame of pk.
func (pk *PublicKey) Marshal() []byte {
	return pk.s.seeded(kindPublicKey, pk.seed, pk.b)
}

// Marshal returns the frame of r.
func (r *Request) Marshal() []byte { return r.s.seeded(kindRequest, r.seed, r.c0) }

func (s *Scheme) seeded(k kind, seed [seedSize]byte, p poly) []byte {
	b := append(s.header(k, 0), seed[:]...)
	for _, row := range p {
		b = s.pack(b, row)
	}
	return b
}

// Marshal returns the frame of r.
func (r *Response) Marshal() []byte {
	b := r.s.header(kindResponse, r.need)
	for _, row := range r.c0 {
		b = r.s.pack(b, row)
	}
	for _, row := range r.c1 {
		b = r.s.pack(b, row)
	}
	return b
}

// UnmarshalPublicKey decodes and checks a peer's public key.
func (s *Scheme) UnmarshalPublicKey(b []byte) (*PublicKey, error) {
	pk := &PublicKey{s: s}
	var err error
	if pk.b, err = s.unseeded(kindPublicKey, b, &pk.seed); err != nil {
		return nil, err
	}
	pk.expand()
	return pk, nil
}

// UnmarshalRequest decodes and checks a peer's request. It does not keep b.
func (s *Scheme) UnmarshalRequest(b []byte) (*Request, error) {
	r := &Request{s: s}
	var err error
	if r.c0, err = s.unseeded(kindRequest, b, &r.seed); err != nil {
		return nil, err
	}
	return r, nil
}

func (s *Scheme) unseeded(k kind, b []byte, seed *[seedSize]byte) (poly, error) {
	b, err := s.check(k, 0, b)
	if err != nil {
		return nil, err
	}
	copy(seed[:], b)
	b = b[seedSize:]
	p := newPoly(len(s.limbs))
	for i, row := range p {
		if b, err = s.unpack(i, row, b); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// UnmarshalResponse decodes and checks a peer's response that opens need
// coefficients, a number that the protocol knows.
func (s *Scheme) UnmarshalResponse(b []byte, need int) (*Response, error) {
	if need < 1 || need > Degree {
		return nil, fmt.Errorf("%w: a response opens 1 to %d coefficients, not %d", ErrInput, Degree, need)
	}
	b, err := s.check(kindResponse, need, b)
	if err != nil {
		return nil, err
	}
	r := &Response{s: s, need: need, c0: make([][]uint64, s.set.resp), c1: newPoly(s.set.resp)}
	for i := range r.c0 {
		r.c0[i] = make([]uint64, need)
		if b, err = s.unpack(i, r.c0[i], b); err != nil {
			return nil, err
		}
	}
	for i, row := range r.c1 {
		if b, err = s.unpack(i, row, b); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// check holds the header and the exact length against what the frame must be,
// and returns the rest. Nothing is allocated before it has passed.
func (s *Scheme) check(k kind, need int, b []byte) ([]byte, error) {
	if len(b) < headerSize {
		return nil, fmt.Errorf("%w: %d bytes are no %v", ErrFrame, len(b), k)
	}
	rows, size := len(s.limbs), s.RequestSize()
	if k == kindResponse {
		rows, size = s.set.resp, s.ResponseSize(need)
	}
	switch {
	case b[0] != frameVersion:
		return nil, fmt.Errorf("%w: version %d instead of %d", ErrFrame, b[0], frameVersion)
	case kind(b[1]) != k:
		return nil, fmt.Errorf("%w: kind %d instead of a %v", ErrFrame, b[1], k)
	case b[2] != s.set.code:
		return nil, fmt.Errorf("%w: a %v of set code %d came where %s is in use", ErrParam, k, b[2], s.id)
	case b[3] != logN || int(b[4]) != rows || int(b[5]) != s.set.qbits:
		return nil, fmt.Errorf("%w: degree, primes or bits of a %v are not those of %s", ErrFrame, k, s.id)
	case int(binary.LittleEndian.Uint16(b[6:])) != need:
		return nil, fmt.Errorf("%w: a %v of another number of coefficients than the %d agreed", ErrFrame, k, need)
	case len(b) != size:
		return nil, fmt.Errorf("%w: a %v of %d bytes instead of %d", ErrFrame, k, len(b), size)
	}
	return b[headerSize:], nil
}

// pack appends residues of qbits bits each.
func (s *Scheme) pack(b []byte, row []uint64) []byte {
	var pool uint64
	n := uint(s.set.qbits)
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

// unpack fills row with residues below prime i and returns the rest of b,
// which is long enough: check has seen to it.
func (s *Scheme) unpack(i int, row []uint64, b []byte) ([]byte, error) {
	size := s.rowSize(len(row))
	in, rest := b[:size], b[size:]
	n := uint(s.set.qbits)
	mask := uint64(1)<<n - 1
	q := s.limbs[i].q
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
		high |= (q - 1) - v // wraps, setting the top bit, where v is at or above q
		row[j] = v
	}
	if high>>63 != 0 {
		return nil, fmt.Errorf("%w: a coefficient is not below its prime", ErrFrame)
	}
	if pool != 0 {
		return nil, fmt.Errorf("%w: spare bits of a row are set", ErrFrame)
	}
	return rest, nil
}
