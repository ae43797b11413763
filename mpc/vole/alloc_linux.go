package vole

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/yinqiao/yinqiao/mpc/gf128"
)

// buffer is working memory of the encoder. It is written and read all over, so
// that most of an access is the search for its page: huge pages take that away.
// And it lies apart from Go's heap, which would grow to twice its size before it
// collects. Elements hold no pointers.
type buffer struct {
	v       []gf128.Element
	mapping []byte // nil where the system gave none
}

// newBuffer returns n elements, zero, for release.
func newBuffer(n int) buffer {
	const huge = 2 << 20
	m, err := unix.Mmap(-1, 0, (n*gf128.Size+huge-1)/huge*huge, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return buffer{v: make([]gf128.Element, n)}
	}
	_ = unix.Madvise(m, unix.MADV_HUGEPAGE) // a wish
	return buffer{unsafe.Slice((*gf128.Element)(unsafe.Pointer(unsafe.SliceData(m))), n), m}
}

// release ends the use of b.v.
func (b *buffer) release() {
	if b.mapping != nil {
		_ = unix.Munmap(b.mapping) // fails for what is no mapping only
	}
	*b = buffer{}
}
