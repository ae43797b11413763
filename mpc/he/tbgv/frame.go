package tbgv

import (
	"fmt"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
)

// A frame is the header of package ringq, and then
//
//	key part     b, one row per prime
//	piece        the seed, the secret's share, one row per prime
//	ciphertext   c0 and c1, one row per prime each
//	share        the digest of the opening, one row per kept prime
//
// The last field of the header is 256·dealer + receiver of a piece, the
// contributor of a share, and else 0. There is one encoding of everything, and
// its exact length follows from the set and the kind.
type kind byte

const (
	kindKeyPart    kind = 17
	kindPiece      kind = 18
	kindCiphertext kind = 19
	kindShare      kind = 20
)

func (k kind) String() string {
	switch k {
	case kindKeyPart:
		return "key part"
	case kindPiece:
		return "piece"
	case kindCiphertext:
		return "ciphertext"
	}
	return "decryption share"
}

// layout returns the header of a frame, how many rows it has, and its length.
func (s *Scheme) layout(k kind, aux int) (h ringq.Header, rows, size int) {
	h = ringq.Header{Kind: byte(k), Set: s.set.code, LogN: s.set.logN, Rows: len(s.limbs), Bits: s.set.qbits, Aux: aux}
	fixed := 0
	switch k {
	case kindPiece, kindShare:
		fixed = seedSize
	}
	if k == kindShare {
		h.Rows = s.set.keep
	}
	rows = h.Rows
	if k == kindCiphertext {
		rows *= 2
	}
	return h, rows, ringq.HeaderSize + fixed + rows*ringq.RowSize(s.n, s.set.qbits)
}

func (s *Scheme) size(k kind) int {
	_, _, size := s.layout(k, 0)
	return size
}

// KeyPartSize is the length of a key part's frame.
func (s *Scheme) KeyPartSize() int { return s.size(kindKeyPart) }

// PieceSize is the length of a piece's frame.
func (s *Scheme) PieceSize() int { return s.size(kindPiece) }

// CiphertextSize is the length of a ciphertext's frame. It exceeds 256 KiB but
// for sum32.v1 and sum32-wide.v1.
func (s *Scheme) CiphertextSize() int { return s.size(kindCiphertext) }

// ShareSize is the length of a decryption share's frame.
func (s *Scheme) ShareSize() int { return s.size(kindShare) }

// Marshal returns the frame of k.
func (k *KeyPart) Marshal() []byte { return k.s.pack(kindKeyPart, 0, nil, k.b) }

// Marshal returns the frame of p, which is secret.
func (p *Piece) Marshal() []byte { return p.s.pack(kindPiece, p.from<<8|p.to, p.seed[:], p.rows) }

// Marshal returns the frame of c.
func (c *Ciphertext) Marshal() []byte { return c.s.pack(kindCiphertext, 0, nil, c.c0, c.c1) }

// Marshal returns the frame of sh.
func (sh *Share) Marshal() []byte { return sh.s.pack(kindShare, sh.party, sh.bind[:], sh.d) }

func (s *Scheme) pack(k kind, aux int, fixed []byte, polys ...ringq.Poly) []byte {
	h, _, size := s.layout(k, aux)
	b := append(h.Append(make([]byte, 0, size)), fixed...)
	for _, p := range polys {
		for _, row := range p {
			b = ringq.Pack(b, row, s.set.qbits)
		}
	}
	return b
}

// ParseKeyPart decodes and checks a peer's key part. It does not keep b; nor do
// the other parsers.
func (s *Scheme) ParseKeyPart(b []byte) (*KeyPart, error) {
	rows, err := s.unpack(kindKeyPart, 0, nil, b)
	if err != nil {
		return nil, err
	}
	return &KeyPart{s: s, b: rows}, nil
}

// ParsePiece decodes and checks what contributor from dealt to contributor to.
func (s *Scheme) ParsePiece(b []byte, from, to int) (*Piece, error) {
	if from < 0 || to < 0 || max(from, to) >= s.params.Parties {
		return nil, fmt.Errorf("%w: a piece from contributor %d to %d of %d", ErrInput, from, to, s.params.Parties)
	}
	p := &Piece{s: s, from: from, to: to, piece: new(piece)}
	var err error
	if p.rows, err = s.unpack(kindPiece, from<<8|to, p.seed[:], b); err != nil {
		return nil, err
	}
	return p, nil
}

// ParseCiphertext decodes and checks one contributor's ciphertext. Sums are
// computed, and never taken from a peer.
func (s *Scheme) ParseCiphertext(b []byte) (*Ciphertext, error) {
	rows, err := s.unpack(kindCiphertext, 0, nil, b)
	if err != nil {
		return nil, err
	}
	n := len(s.limbs)
	return &Ciphertext{s: s, c0: rows[:n:n], c1: rows[n:], terms: 1}, nil
}

// ParseShare decodes and checks contributor party's share of an opening.
func (s *Scheme) ParseShare(b []byte, party int) (*Share, error) {
	if party < 0 || party >= s.params.Parties {
		return nil, fmt.Errorf("%w: a share of contributor %d of %d", ErrInput, party, s.params.Parties)
	}
	sh := &Share{s: s, party: party}
	var err error
	if sh.d, err = s.unpack(kindShare, party, sh.bind[:], b); err != nil {
		return nil, err
	}
	return sh, nil
}

// unpack holds a frame's header and exact length against what they must be
// before it allocates anything, and decodes its rows.
func (s *Scheme) unpack(k kind, aux int, fixed, b []byte) (ringq.Poly, error) {
	h, rows, size := s.layout(k, aux)
	b, fault := h.Open(b, k.String(), size)
	if fault == nil {
		b = b[copy(fixed, b):]
		p := ringq.NewPoly(rows, s.n)
		for i, row := range p {
			if b, fault = s.limbs[i%h.Rows].Unpack(row, b, s.set.qbits); fault != nil {
				break
			}
		}
		if fault == nil {
			return p, nil
		}
	}
	if fault.Foreign {
		return nil, fmt.Errorf("%w: %s, which is %s", ErrParam, fault.What, s.set.name)
	}
	return nil, fmt.Errorf("%w: %s", ErrFrame, fault.What)
}
