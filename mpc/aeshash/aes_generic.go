//go:build !amd64 || purego

package aeshash

import "github.com/yinqiao/yinqiao/mpc/gf128"

// Without assembly, crypto/aes does all the work.

func (s *schedule) expand(*[KeySize]byte) bool { return false }

func (k *Key) hash(dst, src []gf128.Element) { k.hashGeneric(dst, src) }

func (p *Pair) expand(dst, src []gf128.Element, sums *[2]gf128.Element) {
	p.expandGeneric(dst, src, sums)
}
