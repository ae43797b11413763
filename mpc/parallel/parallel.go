// Package parallel shares local work among the machine's processors.
package parallel

import (
	"context"
	"runtime"
	"sync/atomic"

	"github.com/yinqiao/yinqiao/session/errgroup"
)

// For calls f on ranges that cover [0, n), each of at most block places and
// beginning at a multiple of it, on as many goroutines as there are processors,
// and waits for all of them. A worker takes the next range when it is done with
// one. The first error ends the work, as does the end of ctx, whose cause is
// then the error.
func For(ctx context.Context, n, block int, f func(lo, hi int) error) error {
	return Each(ctx, n, block, func() func(lo, hi int) error { return f })
}

// Each is For where every goroutine does its work with a function of its own
// from worker, which can hold buffers.
func Each(ctx context.Context, n, block int, worker func() func(lo, hi int) error) error {
	if n <= 0 {
		return nil
	}
	blocks := 1 + (n-1)/block
	var next atomic.Int64
	run := func(ctx context.Context) error {
		work := worker()
		for {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			b := int(next.Add(1)) - 1
			if b >= blocks {
				return nil
			}
			lo := b * block
			if err := work(lo, lo+min(block, n-lo)); err != nil {
				return err
			}
		}
	}
	workers := min(blocks, runtime.GOMAXPROCS(0))
	if workers == 1 {
		return run(ctx)
	}
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error { return run(ctx) })
	}
	return g.Wait()
}
