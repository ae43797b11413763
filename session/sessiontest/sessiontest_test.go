package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/yinqiao/yinqiao/session"
)

// delivered is what three messages become on their way through change.
func delivered(t *testing.T, change Change) [][]byte {
	t.Helper()
	a, b := session.Pipe(8)
	ch := Tamper(a, change)
	for i := range 3 {
		if err := ch.Send(t.Context(), []byte{byte(i), 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
	}
	if err := ch.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var got [][]byte
	for {
		p, err := b.Recv(t.Context())
		if err == io.EOF {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p)
	}
}

func TestChanges(t *testing.T) {
	zero, one, two := []byte{0, 0, 0, 0}, []byte{1, 0, 0, 0}, []byte{2, 0, 0, 0}
	for name, c := range map[string]struct {
		change Change
		want   [][]byte
	}{
		"flip":            {Flip(1, 9), [][]byte{zero, {1, 2, 0, 0}, two}},
		"flip past end":   {Flip(1, 33), [][]byte{zero, {3, 0, 0, 0}, two}},
		"drop":            {Drop(1), [][]byte{zero, two}},
		"swap":            {Swap(0), [][]byte{one, zero, two}},
		"swap at the end": {Swap(2), [][]byte{zero, one}},
		"repeat":          {Repeat(2), [][]byte{zero, one, two, two}},
		"truncate":        {Truncate(1, 3), [][]byte{zero, {1}, two}},
		"truncate all":    {Truncate(1, 9), [][]byte{zero, {}, two}},
		"grow":            {Grow(1, 2), [][]byte{zero, {1, 0, 0, 0, 0, 0}, two}},
		"replace":         {Replace(1, []byte("x")), [][]byte{zero, []byte("x"), two}},
	} {
		got := delivered(t, c.change)
		if len(got) != len(c.want) {
			t.Errorf("%s: %d messages, want %d", name, len(got), len(c.want))
			continue
		}
		for i := range got {
			if !bytes.Equal(got[i], c.want[i]) {
				t.Errorf("%s: message %d is %v, want %v", name, i, got[i], c.want[i])
			}
		}
	}
	if got := delivered(t, Grow(0, session.MaxMessage)); len(got[0]) != session.MaxMessage {
		t.Errorf("grow went to %d bytes", len(got[0]))
	}
}

func TestRunEndsEveryPartyWhenOneFails(t *testing.T) {
	broken := errors.New("broken")
	out := Net{}.Run(t,
		func(context.Context, *session.Session) error { return broken },
		func(ctx context.Context, s *session.Session) error {
			for {
				if err := s.Peer("p0").Send(ctx, []byte("into the void")); err != nil {
					return err
				}
			}
		})
	if !errors.Is(out[1].Err, ErrPeerFailed) || Cause(out) != broken {
		t.Errorf("outcomes %v, cause %v", out, Cause(out))
	}
}

func TestRecordKeepsBothDirections(t *testing.T) {
	var v View
	net := Net{Wrap: func(l Link, ch session.Channel) session.Channel {
		if l.Self == "p0" {
			return Record(ch, &v)
		}
		return ch
	}}
	NoErrors(t, net.Run(t,
		func(ctx context.Context, s *session.Session) error {
			if err := s.Peer("p1").Send(ctx, []byte("hello")); err != nil {
				return err
			}
			p, err := s.Peer("p1").Recv(ctx)
			clear(p) // the view must not share it
			return err
		},
		func(ctx context.Context, s *session.Session) error {
			if _, err := s.Peer("p0").Recv(ctx); err != nil {
				return err
			}
			return s.Peer("p0").Send(ctx, []byte("world"))
		}))
	if got := v.Sent(); len(got) != 1 || string(got[0]) != "hello" {
		t.Errorf("sent %q", got)
	}
	if got := v.Received(); len(got) != 1 || string(got[0]) != "world" {
		t.Errorf("received %q", got)
	}
}

func TestPipesLoseParties(t *testing.T) {
	RunLoss(t, func(_ testing.TB, parties []session.PartyID) ([]session.Opener, func(session.PartyID)) {
		n := session.NewPipeNetwork(1)
		os := make([]session.Opener, len(parties))
		for i, p := range parties {
			os[i] = n.Opener(p)
		}
		return os, n.Drop
	})
}
