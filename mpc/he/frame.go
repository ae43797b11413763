package he

import (
	"fmt"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
)

// A frame is the header of package ringq, whose last field is the number of
// opened coefficients of a response and else 0, and then, for a public key or
// request, the seed of the second half and one row per prime; for a response
// c0's rows of need residues and c1's of N. There is one encoding of
// everything, and its exact length follows from the set, the kind and need
// before a byte is looked at.
const headerSize = ringq.HeaderSize

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

func (s *Scheme) rowSize(n int) int { return ringq.RowSize(n, s.set.qbits) }

// header returns the header of a frame and the frame's length.
func (s *Scheme) header(k kind, need int) (ringq.Header, int) {
	h := ringq.Header{Kind: byte(k), Set: s.set.code, LogN: logN, Rows: len(s.limbs), Bits: s.set.qbits, Aux: need}
	if k != kindResponse {
		return h, s.RequestSize()
	}
	h.Rows = s.set.resp
	return h, s.ResponseSize(need)
}

// begin returns a frame's header, with room for the rest.
func (s *Scheme) begin(k kind, need int) []byte {
	h, size := s.header(k, need)
	return h.Append(make([]byte, 0, size))
}

// Marshal returns the frame of pk.
func (pk *PublicKey) Marshal() []byte {
	return pk.s.seeded(kindPublicKey, pk.seed, pk.b)
}

// Marshal returns the frame of r.
func (r *Request) Marshal() []byte { return r.s.seeded(kindRequest, r.seed, r.c0) }

func (s *Scheme) seeded(k kind, seed [seedSize]byte, p ringq.Poly) []byte {
	b := append(s.begin(k, 0), seed[:]...)
	for _, row := range p {
		b = s.pack(b, row)
	}
	return b
}

// Marshal returns the frame of r.
func (r *Response) Marshal() []byte {
	b := r.s.begin(kindResponse, r.need)
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

func (s *Scheme) unseeded(k kind, b []byte, seed *[seedSize]byte) (ringq.Poly, error) {
	b, err := s.check(k, 0, b)
	if err != nil {
		return nil, err
	}
	copy(seed[:], b)
	b = b[seedSize:]
	p := ringq.NewPoly(len(s.limbs), Degree)
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
	r := &Response{s: s, need: need, c0: make([][]uint64, s.set.resp), c1: ringq.NewPoly(s.set.resp, Degree)}
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
	h, size := s.header(k, need)
	b, fault := h.Open(b, k.String(), size)
	if fault != nil {
		if fault.Foreign {
			return nil, fmt.Errorf("%w: %s, which is %s", ErrParam, fault.What, s.id)
		}
		return nil, fmt.Errorf("%w: %s", ErrFrame, fault.What)
	}
	return b, nil
}

func (s *Scheme) pack(b []byte, row []uint64) []byte { return ringq.Pack(b, row, s.set.qbits) }

// unpack fills row with residues below prime i and returns the rest of b,
// which is long enough: check has seen to it.
func (s *Scheme) unpack(i int, row []uint64, b []byte) ([]byte, error) {
	b, fault := s.limbs[i].Unpack(row, b, s.set.qbits)
	if fault != nil {
		return nil, fmt.Errorf("%w: %s", ErrFrame, fault.What)
	}
	return b, nil
}
