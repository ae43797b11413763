package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

func TestReserve(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	steps := []struct {
		holder  string
		release bool
		max     int64
		used    int64
		err     error
	}{
		{holder: "a", max: 2, used: 1},
		{holder: "a", max: 2, used: 1},
		{holder: "b", max: 2, used: 2},
		{holder: "c", max: 2, used: 2, err: ErrExhausted},
		{holder: "a", max: 1, used: 2}, // keeps what it has under a tighter limit
		{holder: "c", release: true, used: 2},
		{holder: "a", release: true, used: 1},
		{holder: "a", release: true, used: 1},
		{holder: "c", max: 2, used: 2},
		{holder: "d", max: 0, used: 2, err: ErrExhausted},
		{holder: "d", max: -1, used: 2, err: ErrExhausted},
	}
	for i, st := range steps {
		var err error
		if st.release {
			err = s.Release("runs", st.holder)
		} else {
			_, err = s.Reserve("runs", st.holder, st.max)
		}
		if !errors.Is(err, st.err) {
			t.Fatalf("step %d: %v", i, err)
		}
		var ex *ExhaustedError
		if errors.As(err, &ex) && (ex.Used != st.used || ex.Max != st.max) {
			t.Errorf("step %d: the error says %+v", i, *ex)
		}
		if used, err := s.Used("runs"); err != nil || used != st.used {
			t.Fatalf("step %d: used %d (%v), want %d", i, used, err, st.used)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if used, err := s.Reserve("runs", "b", 2); err != nil || used != 2 {
		t.Errorf("after reopening, a holder asks again: %d, %v", used, err)
	}
	if _, err := s.Reserve("runs", "e", 2); !errors.Is(err, ErrExhausted) {
		t.Errorf("after reopening, a new holder: %v", err)
	}
}

func TestReserveKeepsNamesApart(t *testing.T) {
	s := open(t, t.TempDir())
	pairs := [][2]string{{"a", "bc"}, {"ab", "c"}, {"a:", "b"}, {"a", ":b"}, {"", "x"}, {"1", "1:"}, {"11", ":"}}
	for _, p := range pairs {
		if _, err := s.Reserve(p[0], p[1], 10); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]int64{}
	for _, p := range pairs {
		want[p[0]]++
	}
	for c, n := range want {
		if used, err := s.Used(c); err != nil || used != n {
			t.Errorf("counter %q: %d (%v), want %d", c, used, err, n)
		}
	}
}

func TestConcurrentReserveNeverExceedsMax(t *testing.T) {
	s := open(t, t.TempDir())
	const asks, max = 48, 7
	var got, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range asks {
		wg.Go(func() {
			used, err := s.Reserve("runs", fmt.Sprint("job", i), max)
			switch {
			case err == nil && used >= 1 && used <= max:
				got.Add(1)
			case errors.Is(err, ErrExhausted):
				refused.Add(1)
			default:
				t.Errorf("used %d, %v", used, err)
			}
		})
	}
	wg.Wait()
	if got.Load() != max || refused.Load() != asks-max {
		t.Errorf("%d got a use, %d were refused", got.Load(), refused.Load())
	}
	if used, err := s.Used("runs"); err != nil || used != max {
		t.Errorf("used %d, %v", used, err)
	}
}

func TestOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ctx := context.Background()
	var first atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			switch err := s.Once(ctx, "share/1"); {
			case err == nil:
				first.Add(1)
			case !errors.Is(err, ErrDone):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if first.Load() != 1 {
		t.Errorf("%d callers were first", first.Load())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if err := s.Once(ctx, "share/1"); !errors.Is(err, ErrDone) {
		t.Errorf("after reopening: %v", err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Once(over, "share/2"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := s.Once(ctx, "share/2"); err != nil {
		t.Errorf("a cancelled call left its mark: %v", err)
	}
}

func TestRaise(t *testing.T) {
	s := open(t, t.TempDir())
	for i, st := range []struct {
		key     string
		version int64
		err     error
	}{
		{"roster", 0, nil},
		{"roster", 3, nil},
		{"roster", 3, nil},
		{"roster", 2, ErrOlder},
		{"roster", 4, nil},
		{"status", 1, nil},
		{"roster", 3, ErrOlder},
		{"roster", -1, ErrOlder},
	} {
		if err := s.Raise(st.key, st.version); !errors.Is(err, st.err) {
			t.Errorf("step %d: %v", i, err)
		}
	}
}
