package oprf

import (
	"encoding/binary"
	"fmt"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/psi/transcript"
)

// The kinds of message, in the order in which they come.
const (
	kindItems transcript.Kind = 1 + iota
	kindEpoch
	kindWant
	kindDirectory
	kindSegments
	kindBlinded
	kindEvaluated
	kindCheck
	kindMatches
	kindBelow
	kindDone
)

var protocol = transcript.Protocol{
	Prefix: "psi/oprf",
	Kinds: []string{
		kindItems: "items", kindEpoch: "epoch", kindWant: "want", kindDirectory: "directory", kindSegments: "segments",
		kindBlinded: "blinded", kindEvaluated: "evaluated", kindCheck: "check", kindMatches: "matches", kindBelow: "below", kindDone: "done",
	},
	Sealed:     []transcript.Kind{kindCheck, kindBelow, kindDone},
	ErrMessage: ErrMessage, ErrDisagree: ErrDisagree,
}

// announcement is what the server says of its epoch.
type announcement struct {
	id    epochID
	total int
	root  rootHash
}

func (a announcement) append(b []byte) []byte {
	b = append(b, a.id[:]...)
	b = binary.AppendUvarint(b, uint64(a.total))
	return append(b, a.root[:]...)
}

func parseAnnouncement(body []byte) (a announcement, err error) {
	r := wire.NewReader(body)
	copy(a.id[:], r.Fixed(len(a.id)))
	rows := r.Uvarint(1 << 62)
	copy(a.root[:], r.Fixed(len(a.root)))
	if err := r.Done(); err != nil {
		return a, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if rows > MaxRows {
		return a, fmt.Errorf("%w: the server has %d rows, the limit is %d", ErrSize, rows, MaxRows)
	}
	a.total = int(rows)
	return a, nil
}

// chunkPoints is how many points go into one message.
const chunkPoints = 8 * checkBlock

func appendPoints(b []byte, points []curve25519.Point) []byte {
	for i := range points {
		b = append(b, points[i][:]...)
	}
	return b
}

// parsePoints fills dst, all that the body may hold.
func parsePoints(dst []curve25519.Point, body []byte) error {
	if err := protocol.CheckLength(body, len(dst)*curve25519.Size, "points"); err != nil {
		return err
	}
	for i := range dst {
		dst[i] = curve25519.Point(body[i*curve25519.Size:])
	}
	return nil
}

// chunkMatches is how many places go into one message.
const chunkMatches = 60_000

func appendPlaces(b []byte, places []uint32) []byte {
	for _, p := range places {
		b = binary.LittleEndian.AppendUint32(b, p)
	}
	return b
}

// parsePlaces appends the places of a body to places, which then have to ascend
// strictly, to be below rows, and to be no more than limit.
func parsePlaces(places []uint32, body []byte, rows, limit int) ([]uint32, error) {
	n := len(body) / 4
	if len(body)%4 != 0 || n == 0 || n > chunkMatches || n > limit-len(places) {
		return nil, fmt.Errorf("%w: %d bytes of matches", ErrMessage, len(body))
	}
	for i := range n {
		p := binary.LittleEndian.Uint32(body[4*i:])
		if int64(p) >= int64(rows) || len(places) > 0 && places[len(places)-1] >= p {
			return nil, fmt.Errorf("%w: a match that is out of order or beyond the table", ErrMessage)
		}
		places = append(places, p)
	}
	return places, nil
}
