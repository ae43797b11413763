//go:build !amd64 || purego

package vole

import "github.com/yinqiao/yinqiao/mpc/gf128"

// Without assembly, Go does all the work.

func multiplyBlock(out *[block]gf128.Element, z *[2 * block]gf128.Element, m *[block]uint64, scratch *[4 * block]gf128.Element) {
	multiplyBlockGeneric(out, z, m, scratch)
}
