package ecdh

import (
	"fmt"
	"math"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/psi/transcript"
)

type kind = transcript.Kind

const (
	kindRows kind = 1 + iota
	kindPoints
	kindTags
	kindCheck
	kindCount
	kindBelow
	kindSeed
	kindMatches
	kindDone
	kindMinimum
	kindEnough
)

// messages are those of this package's protocols.
var messages = transcript.Protocol{
	Prefix: "psi/ecdh",
	Kinds: []string{
		kindRows: "rows", kindPoints: "points", kindTags: "tags", kindCheck: "check", kindCount: "count",
		kindBelow: "below", kindSeed: "seed", kindMatches: "matches", kindDone: "done",
		kindMinimum: "minimum", kindEnough: "enough",
	},
	Sealed:     []kind{kindCheck, kindCount, kindBelow, kindSeed, kindDone, kindEnough},
	ErrMessage: ErrMessage, ErrDisagree: ErrDisagree,
}

// seedSize is the length of a seed in bytes.
const seedSize = 32

func checkRows(n int64) (int, error) {
	if n > MaxRows {
		return 0, fmt.Errorf("%w: the peer has %d rows, the limit is %d", ErrSize, n, MaxRows)
	}
	return int(n), nil
}

// anyNumber bounds what is held to its limit by a check of its own.
const anyNumber = math.MaxInt64

// parsePoints fills points, all that the body may hold. What they are is for
// curve25519.Check to say.
func parsePoints(points []curve25519.Point, body []byte) error {
	if err := messages.CheckLength(body, len(points)*curve25519.Size, "points"); err != nil {
		return err
	}
	for i := range points {
		points[i] = curve25519.Point(body[i*curve25519.Size:])
	}
	return nil
}

func parseSeed(body []byte) (seed [seedSize]byte, err error) {
	if err := messages.CheckLength(body, seedSize, "seed"); err != nil {
		return seed, err
	}
	return [seedSize]byte(body), nil
}
