package vole

import (
	"context"
	"slices"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// block is the side of the block-diagonal matrix's blocks.
const block = 64

// encoder is the compressor of the block-diagonal accumulate codes:
//
//	accumulate, permute, accumulate, permute, then blocks.
//
// Accumulating is s[i] = X·s[i-1] + v[i]: every step multiplies by X, at which a
// purely binary code would leave the bits of the elements apart from each other.
// It works in two buffers of 32 bytes an element of the result each.
type encoder struct {
	t      *tables
	shape  shape
	b1, b2 buffer
	head   []uint32
}

func newEncoder(c *code, s shape) (compressor, error) {
	t, err := cachedTables(c.name, s.k)
	if err != nil {
		return nil, err
	}
	return &encoder{t: t, shape: s, b1: newBuffer(s.n), b2: newBuffer(s.n)}, nil
}

func (e *encoder) close() {
	e.b1.release()
	e.b2.release()
}

// batchTrees are grown at a time, and queue batches may wait for the encoder.
const (
	batchTrees = 4
	queue      = 3
)

// run calls grow on a goroutine of its own.
func (e *encoder) run(ctx context.Context, grow func(i int, leaves []gf128.Element)) error {
	room := e.shape.room()
	free, full := make(chan []gf128.Element, queue), make(chan []gf128.Element, queue)
	for range queue {
		free <- make([]gf128.Element, batchTrees*room)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for i := 0; i < e.shape.trees; i += batchTrees {
			buf, err := take(ctx, free)
			if err != nil {
				return err
			}
			for j := range min(batchTrees, e.shape.trees-i) {
				grow(i+j, buf[j*room:(j+1)*room])
			}
			if err := put(ctx, full, buf); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		p := &e.t.first
		e.head = append(e.head[:0], p.off...)
		var sum gf128.Element
		for i := 0; i < e.shape.trees; i += batchTrees {
			buf, err := take(ctx, full)
			if err != nil {
				return err
			}
			for j := range min(batchTrees, e.shape.trees-i) {
				lo, hi := e.shape.start(i+j), e.shape.start(i+j+1)
				scatterSums(&sum, buf[j*room:][:hi-lo], p.bucket[lo:hi], e.head, e.b1.v)
			}
			if err := put(ctx, free, buf); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

func (e *encoder) finish(ctx context.Context, out []gf128.Element) error {
	first, second := &e.t.first, &e.t.second
	e.head = append(e.head[:0], second.off...)
	var sum gf128.Element
	for b := range len(first.off) - 1 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		lo, hi := first.off[b], first.off[b+1]
		touch(e.b1.v[lo:hi])
		scatterShuffledSums(&sum, e.b1.v[lo:hi], first.local[lo:hi], second.bucket[lo:hi], e.head, e.b2.v)
	}
	// Blocks do not depend on each other.
	blocks := e.t.k / block
	g, ctx := errgroup.WithContext(ctx)
	for w := range workers {
		g.Go(func() error { return e.blocks(ctx, out, blocks*w/workers, blocks*(w+1)/workers) })
	}
	return g.Wait()
}

// workers is how many goroutines share work that can be shared.
const workers = 2

// blocks computes blocks lo to hi-1 of out: the first half of a block's 128
// positions, plus its matrix times the second.
func (e *encoder) blocks(ctx context.Context, out []gf128.Element, lo, hi int) error {
	p := &e.t.second
	var z [2 * block]gf128.Element
	var scratch [4 * block]gf128.Element
	at := lo * len(z)
	b, _ := slices.BinarySearch(p.off, uint32(at)+1)
	b-- // the bucket of position at
	for j := lo; j < hi; j++ {
		if j%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for have := 0; have < len(z); {
			from, to := int(p.off[b]), int(p.off[b+1])
			if at == from || j == lo && have == 0 {
				touch(e.b2.v[from:to])
			}
			n := min(len(z)-have, to-at)
			gather(z[have:have+n], e.b2.v[from:to], p.local[at:at+n])
			have, at = have+n, at+n
			if at == to {
				b++
			}
		}
		multiplyBlock((*[block]gf128.Element)(out[j*block:]), &z, (*[block]uint64)(e.t.blocks[j*block:]), &scratch)
	}
	return nil
}

// scatterSums appends the running sums of in to the buckets of dst: head[b] is
// where the next element of bucket b goes.
func scatterSums(sum *gf128.Element, in []gf128.Element, bucket []uint16, head []uint32, dst []gf128.Element) {
	s := *sum
	bucket = bucket[:len(in)]
	for i := range in {
		s = s.MulX().Add(in[i])
		h := &head[bucket[i]]
		dst[*h] = s
		*h++
	}
	*sum = s
}

// scatterShuffledSums does the same to in[local[0]], in[local[1]], ….
func scatterShuffledSums(sum *gf128.Element, in []gf128.Element, local, bucket []uint16, head []uint32, dst []gf128.Element) {
	s := *sum
	bucket = bucket[:len(local)]
	for i, l := range local {
		s = s.MulX().Add(in[l])
		h := &head[bucket[i]]
		dst[*h] = s
		*h++
	}
	*sum = s
}

// touch reads v, which is about to be read all over, in its order first: so it
// comes from memory at the rate of a stream, and the rest is served by a cache.
//
//go:noinline
func touch(v []gf128.Element) (sum uint64) {
	for i := 0; i < len(v); i += 64 / gf128.Size {
		sum ^= v[i].Lo
	}
	return sum
}

func gather(dst, in []gf128.Element, local []uint16) {
	dst = dst[:len(local)]
	for i, l := range local {
		dst[i] = in[l]
	}
}

// multiplyBlockGeneric sets out to z[:64] + m·z[64:], by tables of all sums of
// four elements (the method of four Russians).
func multiplyBlockGeneric(out *[block]gf128.Element, z *[2 * block]gf128.Element, m *[block]uint64, scratch *[4 * block]gf128.Element) {
	for q := range 16 {
		t := scratch[16*q : 16*q+16]
		t[0] = gf128.Element{}
		for b := range 4 {
			x := z[block+4*q+b]
			for i := range 1 << b {
				t[1<<b+i] = t[i].Add(x)
			}
		}
	}
	for i := range out {
		s, row := z[i], m[i]
		for q := range 16 {
			s = s.Add(scratch[16*q+int(row&15)])
			row >>= 4
		}
		out[i] = s
	}
}
