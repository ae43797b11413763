//go:build amd64 && !purego

package aeshash

import (
	"golang.org/x/sys/cpu"

	"github.com/yinqiao/yinqiao/mpc/gf128"
)

// AVX is for the forms with three operands.
var hasAES = cpu.X86.HasAES && cpu.X86.HasAVX

//go:noescape
func expandKeyNI(s *schedule, key *[KeySize]byte)

//go:noescape
func hashNI(s *schedule, dst, src *gf128.Element, n int)

//go:noescape
func expandNI(left, right *schedule, dst, src *gf128.Element, n int, sums *[2]gf128.Element)

// expand fills s, and reports false where it cannot be used.
func (s *schedule) expand(key *[KeySize]byte) bool {
	if hasAES {
		expandKeyNI(s, key)
	}
	return hasAES
}

func (k *Key) hash(dst, src []gf128.Element) {
	if k.block != nil {
		k.hashGeneric(dst, src)
		return
	}
	hashNI(&k.rounds, &dst[0], &src[0], len(src))
}

func (p *Pair) expand(dst, src []gf128.Element, sums *[2]gf128.Element) {
	if p.left.block != nil {
		p.expandGeneric(dst, src, sums)
		return
	}
	expandNI(&p.left.rounds, &p.right.rounds, &dst[0], &src[0], len(src), sums)
}
