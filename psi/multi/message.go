package multi

import (
	"fmt"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/okvs"
	"github.com/yinqiao/yinqiao/psi/transcript"
)

// The kinds of messages.
const (
	kindKey transcript.Kind = 1 + iota
	kindRows
	kindVector
	kindCheck
	kindStore
	kindCount
	kindCommon
	kindAgreed
	kindBelow
	kindDone
)

var protocol = transcript.Protocol{
	Prefix: "psi/multi",
	Kinds: []string{
		kindKey: "key", kindRows: "rows", kindVector: "vector", kindCheck: "check", kindStore: "store", kindCount: "count",
		kindCommon: "common", kindAgreed: "agreed", kindBelow: "below", kindDone: "done",
	},
	Sealed:     []transcript.Kind{kindCheck, kindAgreed, kindBelow, kindDone},
	ErrMessage: ErrMessage, ErrDisagree: ErrDisagree,
}

func parseSeed(body []byte) (seed okvs.Seed, err error) {
	if err := protocol.CheckLength(body, okvs.SeedSize, "a seed"); err != nil {
		return seed, err
	}
	return okvs.Seed(body), nil
}

// parseElements fills dst, all that the body may hold.
func parseElements(dst []gf128.Element, body []byte, what string) error {
	if err := protocol.CheckLength(body, len(dst)*gf128.Size, what); err != nil {
		return err
	}
	gf128.Load(dst, body)
	return nil
}

func parseRows(n int64) (int, error) {
	if n > MaxRows {
		return 0, fmt.Errorf("%w: the peer has %d rows, the limit is %d", ErrSize, n, MaxRows)
	}
	return int(n), nil
}
