package align

import (
	"fmt"
	"math"
	"math/bits"
	"sort"
)

// overflowBits: the probability that any partition of a side holds more items
// than its bound is below 2^-overflowBits.
const overflowBits = 40

// bound returns how many items each of parts partitions of a set of n is padded
// to. It depends on n and parts alone.
//
// A digest falls into each partition with probability q = 1/parts, so a
// partition's size X is binomial, and for k > nq, by Chernoff's bound,
//
//	Pr[X ≥ k] ≤ exp(-n·D(k/n ‖ q)),  D(a ‖ q) = a·ln(a/q) + (1-a)·ln((1-a)/(1-q)).
//
// The bound is the least B for which that, at k = B+1 and times parts, is below
// 2^-40.
func bound(n int64, parts int) int64 {
	if parts <= 1 || n <= 0 {
		return max(n, 0)
	}
	q := 1 / float64(parts)
	want := overflowBits*math.Ln2 + math.Log(float64(parts))
	least := int64(float64(n)*q) + 1 // beyond the mean
	return least + int64(sort.Search(int(max(0, n-least)), func(i int) bool {
		return float64(n)*divergence(float64(least+int64(i)+1)/float64(n), q) > want
	}))
}

// divergence is Kullback and Leibler's, of two coins, in nats.
func divergence(a, q float64) float64 {
	d := a * math.Log(a/q)
	if a < 1 {
		d += (1 - a) * math.Log((1-a)/(1-q))
	}
	return d
}

// partitions returns how many partitions there are where the larger side has
// most keys.
func (e *engine) partitions(pl plan, most int64) (int, error) {
	switch {
	case most > MaxRows:
		return 0, fmt.Errorf("%w: %d keys, the limit is %d", ErrSize, most, MaxRows)
	case pl.oneSession && most > e.maxOneSession:
		return 0, fmt.Errorf("%w: %d keys under a minimum that holds before a match is revealed, which takes one session of at most %d: "+
			"fewer keys, a grant whose minimum may be held to afterwards and a kind that does so, or no minimum would do", ErrSize, most, e.maxOneSession)
	case pl.oneSession || most <= pl.partitionRows:
		return 1, nil
	}
	least := int((most + pl.partitionRows - 1) / pl.partitionRows)
	if least <= maxPartitions {
		// Beyond the first there may be room for few more: the bound falls.
		p := least + sort.Search(maxPartitions-least+1, func(i int) bool { return e.bound(most, least+i) <= pl.partitionRows })
		if p <= maxPartitions {
			return p, nil
		}
	}
	return 0, fmt.Errorf("%w: %d keys in partitions of %d, of which there are at most %d: a larger partition_rows would do",
		ErrSize, most, pl.partitionRows, maxPartitions)
}

// addedBits is by how many bits a partition's false matches have to be rarer, so
// that all together are as rare as asked for.
func addedBits(parts int) int { return bits.Len(uint(parts - 1)) }

// partOf returns the partition of an item whose first 8 bytes are hi, big-endian:
// partitions are ranges of digests, in order.
func partOf(hi uint64, parts int) int {
	p, _ := bits.Mul64(hi, uint64(parts))
	return int(p)
}
