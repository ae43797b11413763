// Package errgroup runs pieces of one task on goroutines of their own, as
// golang.org/x/sync/errgroup does, and hands what one of them panics with to
// whoever waits for them. A goroutine that panics by itself ends the process; a
// node must outlive a fault in one job.
//
// A panic crosses to the waiting goroutine only once all others of the group
// have ended. Therefore it ends their context first, like an error: the code of a
// group has to heed its context.
package errgroup

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"

	xsync "golang.org/x/sync/errgroup"
)

// A Group is pieces of one task. The zero value is ready for use and ends no
// context.
type Group struct {
	errs     *xsync.Group
	panicked atomic.Pointer[Panic]
}

// WithContext returns a group and a context that ends with the first piece that
// fails or panics, or when Wait returns.
func WithContext(ctx context.Context) (*Group, context.Context) {
	errs, ctx := xsync.WithContext(ctx)
	return &Group{errs: errs}, ctx
}

// SetLimit bounds how many pieces run at once; Go waits for room. It is called
// before Go.
func (g *Group) SetLimit(n int) {
	g.init()
	g.errs.SetLimit(n)
}

func (g *Group) init() {
	if g.errs == nil {
		g.errs = new(xsync.Group)
	}
}

// errPanicked ends the context of a group; it is never returned.
var errPanicked = errors.New("errgroup: a piece of the task panicked")

// Go runs f on a goroutine of its own. Of a zero Group it is not called at the
// same time as another Go or Wait.
func (g *Group) Go(f func() error) {
	g.init()
	g.errs.Go(func() (err error) {
		defer func() {
			if p := Recovered(recover()); p != nil {
				g.panicked.CompareAndSwap(nil, p)
				err = errPanicked
			}
		}()
		return f()
	})
}

// Wait waits for all pieces. It panics with a *Panic if one of them panicked, and
// otherwise returns the first error.
func (g *Group) Wait() error {
	g.init()
	err := g.errs.Wait()
	if p := g.panicked.Load(); p != nil {
		panic(p)
	}
	return err
}

// Panic is what a goroutine panicked with, and where.
type Panic struct {
	Value any
	// Where is the functions that had been called, the last one first, each with
	// file and line. It holds no arguments.
	Where string
}

// Error implements error for a panic nobody recovers from: the runtime prints it.
func (p *Panic) Error() string { return fmt.Sprintf("%v\n\n%s", p.Value, p.Where) }

// Recovered turns the result of recover, in a deferred function, into a Panic
// with the place it came from: nil if there was none, and what it was already if
// it has crossed a group before.
func Recovered(value any) *Panic {
	if value == nil {
		return nil
	}
	if p, ok := value.(*Panic); ok {
		return p
	}
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	var where strings.Builder
	below := false // of what the runtime and the deferred function put on top
	for {
		f, more := frames.Next()
		switch {
		case strings.HasPrefix(f.Function, "runtime."):
			below = true
		case below:
			fmt.Fprintf(&where, "%s %s:%d\n", f.Function, f.File, f.Line)
		}
		if !more {
			return &Panic{Value: value, Where: where.String()}
		}
	}
}
