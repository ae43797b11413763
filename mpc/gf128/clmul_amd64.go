//go:build amd64 && !purego

package gf128

import "golang.org/x/sys/cpu"

// AVX is for the forms with three operands.
var hasCLMUL = cpu.X86.HasPCLMULQDQ && cpu.X86.HasAVX

//go:noescape
func mulCLMUL(z, a, b *Element)

//go:noescape
func mulAddCLMUL(dst, a, s *Element, n int)

//go:noescape
func addCubicCLMUL(dst *Element, h *uint64, d *[3]Element, n int)

func mul(a, b Element) Element {
	if !hasCLMUL {
		return mulGeneric(a, b)
	}
	var z Element
	mulCLMUL(&z, &a, &b)
	return z
}

func mulAdd(dst, a []Element, s Element) {
	if !hasCLMUL {
		mulAddGeneric(dst, a, s)
		return
	}
	mulAddCLMUL(&dst[0], &a[0], &s, len(dst))
}

func addCubic(dst []Element, h []uint64, d *[3]Element) {
	if !hasCLMUL {
		addCubicGeneric(dst, h, d)
		return
	}
	addCubicCLMUL(&dst[0], &h[0], d, len(dst))
}
