package ecdh

import (
	"fmt"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
)

// Microseconds of one processor for a row. They are measured, on a server
// processor of 2023 with AVX-512 IFMA, and for the code without it on one of
// 2020 at 2.5 GHz: good for comparing protocols on one machine, not machines.
const (
	maskLanes, matchLanes     = 10.8, 9.2
	maskGeneric, matchGeneric = 47, 40
)

// rounds is how often the link is waited for there and back: bind; rows; points
// and tags; count and seed; matches and done. A job over a link of 20 ms takes
// nine, with the four of package align.
const rounds = 5

// estimate says what a run with n rows of the sender and m of the receiver
// costs, with the default parameters; the error says why there can be none.
func estimate(n, m int64) (job.Cost, error) {
	if n < 0 || m < 0 || n > MaxRows || m > MaxRows {
		return job.Cost{}, fmt.Errorf("%w: %d and %d rows, the limit is %d", ErrSize, n, m, MaxRows)
	}
	tag, err := Params{}.tagBytes(int(n), int(m))
	if err != nil {
		return job.Cost{}, err
	}
	mask, match := float64(maskGeneric), float64(matchGeneric)
	if curve25519.Vectorized() {
		mask, match = maskLanes, matchLanes
	}
	own, theirs := float64(max(n, m)), float64(min(n, m)) // at the party with more rows
	return job.Cost{
		CPUSeconds: (own*mask + theirs*match) / 1e6,
		Bytes:      (n+m)*curve25519.Size + m*int64(tag) + n/8,
		Rounds:     rounds,
	}, nil
}
