package rr22

import "github.com/yinqiao/yinqiao/psi/transcript"

// The kinds of messages.
const (
	kindRows transcript.Kind = 1 + iota
	kindVector
	kindCheck
	kindHashes
	kindMatches
	kindBelow
	kindDone
	kindTails
)

var protocol = transcript.Protocol{
	Prefix: "psi/rr22",
	Kinds: []string{
		kindRows: "rows", kindVector: "vector", kindCheck: "check", kindHashes: "hashes",
		kindMatches: "matches", kindBelow: "below", kindDone: "done", kindTails: "tails",
	},
	Sealed:     []transcript.Kind{kindCheck, kindBelow, kindDone},
	ErrMessage: ErrMessage, ErrDisagree: ErrDisagree,
}
