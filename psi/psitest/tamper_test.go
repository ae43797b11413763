package psitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// Every attack changes what is delivered, whichever message it is on, and no two
// are the same.
func TestAttacksChangeSomething(t *testing.T) {
	const n = 3
	var sent [][]byte
	for i := range n {
		sent = append(sent, bytes.Repeat([]byte{byte(i + 1)}, 100))
	}
	seen := map[string]bool{}
	for a := range Attacks(n, FurtherIn) {
		if seen[a.String()] {
			t.Errorf("%v comes twice", a)
		}
		seen[a.String()] = true
		var got [][]byte
		for i, m := range sent {
			got = append(got, a.Change(i, bytes.Clone(m))...)
		}
		if slices.EqualFunc(got, sent, bytes.Equal) {
			t.Errorf("%v changes nothing", a)
		}
	}
	if len(seen) != 13*n {
		t.Errorf("%d attacks", len(seen))
	}
}

// failures is a test that counts what it is told instead of failing.
type failures struct {
	testing.TB
	n int
}

func (f *failures) Helper()               {}
func (f *failures) Errorf(string, ...any) { f.n++ }

// The checks tell apart what they should.
func TestChecksCanFail(t *testing.T) {
	own, other := errors.New("own"), errors.New("other")
	outcome := func(err error) []sessiontest.Outcome { return []sessiontest.Outcome{{Err: err}} }
	for name, c := range map[string]struct {
		attack Attack
		err    error
		rows   []int32
		faults int
	}{
		"found":                    {Attack{Name: "drop", at: 1, of: 2}, fmt.Errorf("x: %w", own), nil, 0},
		"not found, wrong result":  {Attack{Name: "drop", at: 1, of: 2}, nil, []int32{1}, 2},
		"not found, right result":  {Attack{Name: "drop", at: 1, of: 2}, nil, []int32{1, 2}, 1},
		"repeated and not read":    {Attack{Name: "repeat", at: 1, of: 2}, nil, []int32{1, 2}, 0},
		"repeated in the middle":   {Attack{Name: "repeat", at: 0, of: 2}, nil, []int32{1, 2}, 1},
		"another error":            {Attack{Name: "drop", at: 1, of: 2}, other, nil, 1},
		"another error of binding": {Attack{Name: "drop", at: 0, of: 2}, other, nil, 0},
		"an error and a result":    {Attack{Name: "drop", at: 1, of: 2}, own, []int32{1, 2}, 1},
	} {
		f := &failures{TB: t}
		c.attack.CheckNoticed(f, name, outcome(c.err), own)
		c.attack.CheckRows(f, name, outcome(c.err), 2, c.rows)
		if f.n != c.faults {
			t.Errorf("%s: %d faults, want %d", name, f.n, c.faults)
		}
	}
}

func TestWithinEndsAParty(t *testing.T) {
	var got error
	sessiontest.Net{}.Run(t,
		KeepGoing(&got, Within(time.Millisecond, func(ctx context.Context, s *session.Session) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})),
		func(context.Context, *session.Session) error { return nil })
	if !Typed(got) || !errors.Is(got, ErrIdle) {
		t.Errorf("%v", got)
	}
}
