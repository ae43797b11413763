package session

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sync/errgroup"
)

func TestDroppedPartyIsGone(t *testing.T) {
	net := NewPipeNetwork(1)
	open := func(self, peer PartyID, label string) Channel {
		t.Helper()
		ch, err := net.Opener(self)(t.Context(), peer, label)
		if err != nil {
			t.Fatal(err)
		}
		return ch
	}
	ab, ba := open("a", "b", ""), open("b", "a", "")
	ac, ca := open("a", "c", ""), open("c", "a", "")
	if err := ba.Send(t.Context(), []byte("last words")); err != nil {
		t.Fatal(err)
	}
	net.Drop("b")
	if p, err := ab.Recv(t.Context()); err != nil || string(p) != "last words" {
		t.Errorf("what had arrived is %q, %v", p, err)
	}
	if _, err := ab.Recv(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("then Recv gives %v, want ErrGone", err)
	}
	if err := ab.Send(t.Context(), nil); !errors.Is(err, ErrGone) {
		t.Errorf("Send gives %v, want ErrGone", err)
	}
	if err := ba.Send(t.Context(), nil); !errors.Is(err, ErrGone) {
		t.Errorf("the lost party's Send gives %v, want ErrGone", err)
	}
	if err := open("c", "b", "later").Send(t.Context(), nil); !errors.Is(err, ErrGone) {
		t.Errorf("a channel opened later gives %v, want ErrGone", err)
	}
	if err := ac.Send(t.Context(), []byte("still here")); err != nil {
		t.Error(err)
	}
	if p, err := ca.Recv(t.Context()); err != nil || string(p) != "still here" {
		t.Errorf("the others exchange %q, %v", p, err)
	}
}

// A party that is gone keeps nobody from BindPresent, and everybody from Bind.
func TestBindPresent(t *testing.T) {
	parties := []PartyID{"a", "b", "c"}
	bindAll := func(bind func(*Session, context.Context) error) ([2][32]byte, error) {
		net := NewPipeNetwork(1)
		net.Drop("c")
		var transcripts [2][32]byte
		g, ctx := errgroup.WithContext(t.Context())
		for i, id := range parties[:2] {
			g.Go(func() error {
				s, err := New(ctx, Config{ID: "S", Self: id, Parties: parties, Open: net.Opener(id)})
				if err == nil {
					err = bind(s, ctx)
				}
				if err == nil {
					transcripts[i] = s.Transcript()
				}
				return err
			})
		}
		return transcripts, g.Wait()
	}
	got, err := bindAll(func(s *Session, ctx context.Context) error { return s.BindPresent(ctx, "p.v1") })
	if err != nil || got[0] != got[1] || got[0] == [32]byte{} {
		t.Errorf("without c: %v, transcripts %x", err, got)
	}
	if _, err := bindAll(func(s *Session, ctx context.Context) error { return s.Bind(ctx, "p.v1") }); !errors.Is(err, ErrGone) {
		t.Errorf("Bind without c ends with %v, want ErrGone", err)
	}
}

// What slips into a pipe after its reader was told of the loss is lost, too.
func TestLossIsForGood(t *testing.T) {
	gone := make(chan struct{})
	a, b := pipe(1, gone)
	close(gone)
	if _, err := a.Recv(t.Context()); !errors.Is(err, ErrGone) {
		t.Fatalf("Recv gives %v", err)
	}
	b.out.messages <- []byte("late")
	if p, err := a.Recv(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("after the loss Recv gives %q, %v", p, err)
	}
}
