package parallel

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
)

func TestForCoversEverythingOnce(t *testing.T) {
	for _, n := range []int{-1, 0, 1, 63, 64, 65, 1000} {
		for _, block := range []int{1, 64, 5000} {
			var hits [1000]atomic.Int32
			err := For(t.Context(), n, block, func(lo, hi int) error {
				if lo%block != 0 || lo >= hi || hi-lo > block {
					t.Errorf("n %d: the range %d to %d in blocks of %d", n, lo, hi, block)
				}
				for i := lo; i < hi; i++ {
					hits[i].Add(1)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for i := range hits {
				want := int32(0)
				if i < n {
					want = 1
				}
				if got := hits[i].Load(); got != want {
					t.Fatalf("n %d, block %d: %d was visited %d times", n, block, i, got)
				}
			}
		}
	}
}

func TestForEndsWithTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	var calls atomic.Int32
	err := For(t.Context(), 1<<40, 1, func(lo, _ int) error {
		calls.Add(1)
		if lo == 500 {
			return broken
		}
		return nil
	})
	if err != broken {
		t.Errorf("after %d calls: %v", calls.Load(), err)
	}
}

func TestForEndsWithTheContext(t *testing.T) {
	why := errors.New("the reason")
	for _, n := range []int{1, 1000} { // one worker, and several
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if err := For(ctx, n, 1, func(int, int) error { return nil }); err != why {
			t.Errorf("n %d: %v", n, err)
		}
	}
}

// A worker's function is called by one goroutine at a time.
func TestEachGivesEveryWorkerItsOwn(t *testing.T) {
	var sum, workers atomic.Int64
	err := Each(t.Context(), 10_000, 7, func() func(lo, hi int) error {
		workers.Add(1)
		var busy atomic.Bool
		return func(lo, hi int) error {
			if !busy.CompareAndSwap(false, true) {
				return errors.New("two calls at once")
			}
			sum.Add(int64(hi - lo))
			busy.Store(false)
			return nil
		}
	})
	if err != nil || sum.Load() != 10_000 || workers.Load() < 1 {
		t.Errorf("%d places by %d workers, %v", sum.Load(), workers.Load(), err)
	}
}
