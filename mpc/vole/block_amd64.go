//go:build amd64 && !purego

package vole

import (
	"golang.org/x/sys/cpu"

	"github.com/yinqiao/yinqiao/mpc/gf128"
)

//go:noescape
func multiplyBlockAVX(out *[block]gf128.Element, z *[2 * block]gf128.Element, m *[block]uint64, scratch *[4 * block]gf128.Element)

func multiplyBlock(out *[block]gf128.Element, z *[2 * block]gf128.Element, m *[block]uint64, scratch *[4 * block]gf128.Element) {
	if cpu.X86.HasAVX {
		multiplyBlockAVX(out, z, m, scratch)
		return
	}
	multiplyBlockGeneric(out, z, m, scratch)
}
