package errgroup

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestErrors(t *testing.T) {
	boom := errors.New("boom")
	g, ctx := WithContext(t.Context())
	g.Go(func() error { return boom })
	g.Go(func() error { <-ctx.Done(); return context.Cause(ctx) })
	if err := g.Wait(); err != boom {
		t.Errorf("%v", err)
	}
	var zero Group
	if err := zero.Wait(); err != nil {
		t.Errorf("no pieces: %v", err)
	}
	zero.Go(func() error { return boom })
	if err := zero.Wait(); err != boom {
		t.Errorf("%v", err)
	}
}

// recovered runs f and returns what it panicked with.
func recovered(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

func explode(at []int, i int) int { return at[i] }

// A panic arrives where the group is waited for, after the others have ended,
// and says where it began; through an outer group as well.
func TestPanicsCross(t *testing.T) {
	ended := false
	got := recovered(func() {
		outer, _ := WithContext(t.Context())
		outer.Go(func() error {
			g, ctx := WithContext(t.Context())
			g.Go(func() error { explode(nil, 1); return nil })
			g.Go(func() error { <-ctx.Done(); ended = true; return nil })
			return g.Wait()
		})
		_ = outer.Wait()
	})
	p, ok := got.(*Panic)
	if !ok || !ended {
		t.Fatalf("%T, the other ended: %v", got, ended)
	}
	if first, _, _ := strings.Cut(p.Where, "\n"); !strings.Contains(first, "errgroup.explode ") || !strings.Contains(first, "errgroup_test.go:") {
		t.Errorf("where: %s", p.Where)
	}
	if err, ok := p.Value.(error); !ok || !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("%v", p.Value)
	}
}

func TestPanicWithAValue(t *testing.T) {
	var g Group
	g.Go(func() error { panic("no order") })
	p, ok := recovered(func() { _ = g.Wait() }).(*Panic)
	if !ok || p.Value != "no order" || !strings.Contains(p.Error(), "no order") || !strings.Contains(p.Where, "TestPanicWithAValue") {
		t.Errorf("%+v", p)
	}
}
