package session

import (
	"errors"
	"testing"
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
