package vole

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/yinqiao/yinqiao/mpc/gf128"
)

// The encoder's buffers are written and read all over, so that most of an
// access is the search for its page: huge pages take that away. They are mapped
// apart from Go's heap, which would keep twice their size before it collects.
// Elements hold no pointers.

// allocate returns n elements, zero, for release.
func allocate(n int) []gf128.Element {
	b, err := unix.Mmap(-1, 0, mapped(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return make([]gf128.Element, n)
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // a wish
	return unsafe.Slice((*gf128.Element)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// release takes back what allocate gave. What lies in Go's heap is not a mapping
// that unix knows, and stays for the collector.
func release(v []gf128.Element) {
	if len(v) > 0 {
		_ = unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), mapped(len(v))))
	}
}

// mapped is the length of the mapping for n elements, in whole huge pages.
func mapped(n int) int {
	const huge = 2 << 20
	return (n*gf128.Size + huge - 1) / huge * huge
}
