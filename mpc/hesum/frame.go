package hesum

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/yinqiao/yinqiao/session"
)

// A frame is
//
//	version  1 byte
//	kind     1 byte
//	call     2 bytes  0 for the keys, then the number of the Sum; little-endian
//	number   4 bytes  of this frame among all from this party to that one; little-endian
//	step     8 bytes  a hash of the step's public arguments under the transcript
//
// and a body. A message longer than maxBody goes in several frames of one kind,
// of which all but the last are full. The receiver knows the length of every
// message beforehand, and allocates nothing that it has not asked for.
const (
	frameVersion = 1
	headerSize   = 16
	maxBody      = session.ChunkSize - headerSize
)

type kind byte

const (
	kindCommit   kind = 1 + iota // to a contributor's randomness
	kindReveal                   // that randomness
	kindPledge                   // commitment to key parts, or to ciphertexts
	kindPart                     // key parts
	kindPiece                    // a secret key's pieces, for the receiver alone
	kindReport                   // whose message has come
	kindDecision                 // whose data count, who opens
	kindEcho                     // digests of what has come
	kindPledges                  // the commitments to ciphertexts that have come
	kindVector                   // a ciphertext
	kindShare                    // a share of a decryption
	kindFault                    // the sender ends the run, over a party's fault
	lastKind     = kindFault
)

var kindNames = [...]string{
	kindCommit: "commitment", kindReveal: "randomness", kindPledge: "commitment to what follows", kindPart: "key part",
	kindPiece: "piece of a key", kindReport: "report", kindDecision: "decision", kindEcho: "echo", kindVector: "ciphertext",
	kindShare: "decryption share", kindFault: "word of a fault", kindPledges: "word of commitments",
}

func (k kind) String() string {
	if k < kindCommit || k > lastKind {
		return "unknown kind"
	}
	return kindNames[k]
}

// stepTag identifies a step of a run.
type stepTag [8]byte

// header is a frame's, decoded.
type header struct {
	kind   kind
	call   uint16
	number uint32
	step   stepTag
}

var (
	errFrame     = errors.New("malformed frame")
	errNumber    = errors.New("frame repeated, lost or out of order")
	errStep      = errors.New("frame of another step")
	errKind      = errors.New("another message was due")
	errLength    = errors.New("message of a wrong length")
	errForged    = errors.New("not what it had committed to")
	errDiffers   = errors.New("sent different things to different parties")
	errDecision  = errors.New("decision that does not follow from the reports")
	errRepeated  = errors.New("ciphertext repeated")
	errAccused   = errors.New("fault that another party found")
	errTransport = errors.New("channel failed")
)

func appendHeader(b []byte, h header) []byte {
	b = append(b, frameVersion, byte(h.kind))
	b = binary.LittleEndian.AppendUint16(b, h.call)
	b = binary.LittleEndian.AppendUint32(b, h.number)
	return append(b, h.step[:]...)
}

// parseFrame takes a frame apart. The body is a part of b.
func parseFrame(b []byte) (header, []byte, error) {
	switch {
	case len(b) < headerSize:
		return header{}, nil, fmt.Errorf("%w: %d bytes", errFrame, len(b))
	case len(b) > session.ChunkSize:
		return header{}, nil, fmt.Errorf("%w: %d bytes, the most is %d", errFrame, len(b), session.ChunkSize)
	case b[0] != frameVersion:
		return header{}, nil, fmt.Errorf("%w: version %d instead of %d", errFrame, b[0], frameVersion)
	case kind(b[1]) < kindCommit || kind(b[1]) > lastKind:
		return header{}, nil, fmt.Errorf("%w: unknown kind %d", errFrame, b[1])
	}
	return header{
		kind: kind(b[1]), call: binary.LittleEndian.Uint16(b[2:]), number: binary.LittleEndian.Uint32(b[4:]),
		step: stepTag(b[8:headerSize]),
	}, b[headerSize:], nil
}
