//go:build !linux

package vole

import "github.com/yinqiao/yinqiao/mpc/gf128"

// buffer is working memory of the encoder.
type buffer struct{ v []gf128.Element }

func newBuffer(n int) buffer { return buffer{make([]gf128.Element, n)} }

func (b *buffer) release() { b.v = nil }
