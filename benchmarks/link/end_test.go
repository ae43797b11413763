package link

import (
	"context"
	"errors"
	"net"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// ends joins parties by ends of their own, as processes do.
func ends(kind Kind) sessiontest.Connect {
	return func(t testing.TB, parties []session.PartyID) []session.Opener {
		var all []Address
		var es []End
		for _, p := range parties {
			e, err := Listen(kind, p)
			if err != nil {
				t.Fatal(err)
			}
			es, all = append(es, e), append(all, e.Address())
		}
		t.Cleanup(func() {
			var group errgroup.Group
			for _, e := range es {
				group.Go(e.Close)
			}
			if err := group.Wait(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		openers := make([]session.Opener, len(es))
		id := NewID()
		var group errgroup.Group
		for i, e := range es {
			group.Go(func() (err error) {
				openers[i], err = e.Join(t.Context(), all, id)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		return openers
	}
}

// TestEnds runs the transport cases over ends that know of each other what
// their addresses say.
func TestEnds(t *testing.T) {
	for _, k := range []Kind{None, LAN} {
		t.Run(string(k), func(t *testing.T) { sessiontest.Run(t, ends(k)) })
	}
}

// A connection that does not know the network's ID, says more than a hello may
// or opens a label a second time is closed, and disturbs nobody.
func TestStrangers(t *testing.T) {
	parties := sessiontest.PartyIDs(2)
	a, err := Listen(None, parties[0])
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := Listen(None, parties[1])
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	all, id := []Address{a.Address(), b.Address()}, NewID()
	openA, err := a.Join(t.Context(), all, id)
	if err != nil {
		t.Fatal(err)
	}
	openB, err := b.Join(t.Context(), all, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Join(t.Context(), all, id); err == nil {
		t.Error("an end joined twice")
	}
	ctx := t.Context()
	chA, err := openA(ctx, parties[1], "x")
	if err != nil {
		t.Fatal(err)
	}
	chB, err := openB(ctx, parties[0], "x")
	if err != nil {
		t.Fatal(err)
	}
	for name, first := range map[string][]byte{
		"another network": appendHello(nil, hello{"bench-other", parties[0], "y"}),
		"not a hello":     {0xff, 0xff, 0xff},
		"a long one":      make([]byte, maxHello+1),
	} {
		c, err := net.Dial("tcp", b.Address().Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		s := newSocket(c)
		if err := s.Send(ctx, first); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(ctx); err == nil {
			t.Errorf("%s: answered", name)
		}
		c.Close()
	}
	if _, err := openA(ctx, parties[1], "twice"); err != nil {
		t.Fatal(err)
	}
	second, err := openA(ctx, parties[1], "twice")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Recv(ctx); err == nil {
		t.Error("a label was opened twice and answered twice")
	}
	if err := chA.Send(ctx, []byte("still there")); err != nil {
		t.Fatal(err)
	}
	if p, err := chB.Recv(ctx); err != nil || string(p) != "still there" {
		t.Errorf("%q, %v", p, err)
	}
	if _, err := openA(ctx, "nobody", "x"); err == nil {
		t.Error("a channel to nobody was opened")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := openB(ended, parties[0], "never"); !errors.Is(err, context.Canceled) {
		t.Errorf("a channel that nobody dials: %v", err)
	}
}

// FuzzHello: what a connection says first is read whole, or refused.
func FuzzHello(f *testing.F) {
	f.Add(appendHello(nil, hello{"bench-1", "p0", "align/x"}))
	f.Add([]byte{1, 'a', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHello(b)
		if err != nil {
			return
		}
		again, err := decodeHello(appendHello(nil, h))
		if err != nil || again != h {
			t.Errorf("%+v reads back as %+v, %v", h, again, err)
		}
	})
}
