//go:build !amd64 || purego

package gf128

// Without assembly, Go does all the work.

func mul(a, b Element) Element { return mulGeneric(a, b) }

func mulAdd(dst, a []Element, s Element) { mulAddGeneric(dst, a, s) }

func addCubic(dst []Element, h []uint64, d *[3]Element) { addCubicGeneric(dst, h, d) }
