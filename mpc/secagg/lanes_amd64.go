//go:build amd64 && !purego

package secagg

import "golang.org/x/sys/cpu"

// laneBlock is what the assembly adds in one turn, in bytes.
const laneBlock = 128

// n is a positive multiple of laneBlock in all of these.

//go:noescape
func add32AVX2(dst, src *byte, n int)

//go:noescape
func sub32AVX2(dst, src *byte, n int)

//go:noescape
func add64AVX2(dst, src *byte, n int)

//go:noescape
func sub64AVX2(dst, src *byte, n int)

// addVector does the work of section.add for the first bytes of dst and says
// for how many.
func addVector(s section, dst, src []byte, negative bool) int {
	n := len(dst) &^ (laneBlock - 1)
	if n == 0 || s == huge || !cpu.X86.HasAVX2 {
		return 0
	}
	_ = src[n-1]
	switch {
	case s == narrow && negative:
		sub32AVX2(&dst[0], &src[0], n)
	case s == narrow:
		add32AVX2(&dst[0], &src[0], n)
	case negative:
		sub64AVX2(&dst[0], &src[0], n)
	default:
		add64AVX2(&dst[0], &src[0], n)
	}
	return n
}
