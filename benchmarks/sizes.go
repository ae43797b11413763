package benchmarks

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxSize is the largest number of rows that can be asked for.
	MaxSize = 1 << 40
	// maxSizes bounds one list.
	maxSizes = 64
)

// sizesHelp says what ParseSizes reads.
const sizesHelp = "write 2^20, 65536, 10M, 1e6, a range 2^12..2^20, or 2^12..2^20/4 for every fourth power"

// ParseSize reads a number of rows: 65536, 2^16, 1e6, 500k or 10M.
func ParseSize(text string) (int64, error) {
	n, ok := parseSize(strings.TrimSpace(text))
	if !ok || n < 1 || n > MaxSize {
		return 0, fmt.Errorf("%q is no number of rows from 1 to 2^40: %s", text, sizesHelp)
	}
	return n, nil
}

func parseSize(s string) (int64, bool) {
	digits := func(s string) (int64, bool) {
		if s == "" || s[0] < '0' || s[0] > '9' { // ParseInt takes signs
			return 0, false
		}
		v, err := strconv.ParseInt(s, 10, 64)
		return v, err == nil
	}
	if base, exp, ok := strings.Cut(s, "^"); ok {
		b, ok1 := digits(base)
		e, ok2 := digits(exp)
		if !ok1 || !ok2 || b != 2 || e > 40 {
			return 0, false
		}
		return 1 << e, true
	}
	unit := int64(1)
	if mantissa, exp, ok := strings.Cut(strings.ToLower(s), "e"); ok {
		e, ok := digits(exp)
		if !ok || e > 12 {
			return 0, false
		}
		for range e {
			unit *= 10
		}
		s = mantissa
	} else if rest, ok := strings.CutSuffix(s, "k"); ok {
		s, unit = rest, 1_000
	} else if rest, ok := strings.CutSuffix(s, "M"); ok {
		s, unit = rest, 1_000_000
	}
	v, ok := digits(s)
	if !ok || v > MaxSize/unit {
		return 0, false
	}
	return v * unit, true
}

// ParseSizes reads a list of sizes and of ranges of powers of two, separated by
// commas, and returns it sorted, each size once.
func ParseSizes(text string) ([]int64, error) {
	var sizes []int64
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(part, "..")
		if !isRange {
			n, err := ParseSize(part)
			if err != nil {
				return nil, err
			}
			sizes = append(sizes, n)
		} else {
			high, every, hasStep := strings.Cut(high, "/")
			step := int64(1)
			if hasStep {
				var ok bool
				if step, ok = parseSize(every); !ok || step < 1 || step > 40 {
					return nil, fmt.Errorf("%q: the step after / is a number from 1 to 40: %s", part, sizesHelp)
				}
			}
			from, err := ParseSize(low)
			if err != nil {
				return nil, err
			}
			to, err := ParseSize(high)
			if err != nil {
				return nil, err
			}
			if !powerOfTwo(from) || !powerOfTwo(to) || from > to {
				return nil, fmt.Errorf("%q: a range goes from a power of two up to another: %s", part, sizesHelp)
			}
			for n := from; n <= to; n <<= step {
				sizes = append(sizes, n)
			}
		}
		if len(sizes) > maxSizes {
			return nil, fmt.Errorf("%d sizes are too many: at most %d", len(sizes), maxSizes)
		}
	}
	slices.Sort(sizes)
	return slices.Compact(sizes), nil
}

func powerOfTwo(n int64) bool { return n > 0 && n&(n-1) == 0 }

// SizeLabel writes n as people read it: 2^16, 10M, 65537.
func SizeLabel(n int64) string {
	switch {
	case n >= 1<<10 && powerOfTwo(n):
		return "2^" + strconv.Itoa(bits.TrailingZeros64(uint64(n)))
	case n >= 1_000_000 && n%1_000_000 == 0:
		return strconv.FormatInt(n/1_000_000, 10) + "M"
	}
	return strconv.FormatInt(n, 10)
}
