package rr22

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// matchDigests runs both roles on digests.
func matchDigests(t *testing.T, xs, ys []Digest) (sender, receiver Match, out []sessiontest.Outcome) {
	t.Helper()
	out = sessiontest.Net{}.Run(t,
		func(ctx context.Context, s *session.Session) (err error) {
			sender, err = SendDigests(ctx, s, xs, both)
			return err
		},
		func(ctx context.Context, s *session.Session) (err error) {
			receiver, err = ReceiveDigests(ctx, s, ys, both)
			return err
		})
	return sender, receiver, out
}

func TestDigests(t *testing.T) {
	for _, c := range [][4]int{{0, 0, 0, 0}, {0, 1, 0, 1}, {0, 100, 100, 100}, {0, 3000, 1000, 5000}} {
		xs, ys := digests(c[0], c[1]), digests(c[2], c[3])
		sender, receiver, out := matchDigests(t, xs, ys)
		sessiontest.NoErrors(t, out)
		want := max(0, min(c[0]+c[1], c[2]+c[3])-max(c[0], c[2]))
		if len(sender.Rows) != want || len(receiver.Rows) != want {
			t.Fatalf("%v: %d and %d common rows, want %d", c, len(sender.Rows), len(receiver.Rows), want)
		}
		for k := range sender.Rows {
			if xs[sender.Rows[k]] != ys[receiver.Rows[k]] {
				t.Fatalf("%v: position %d is not the same subject on both sides", c, k)
			}
		}
	}
}

// Digests are held to the same as items are.
func TestDigestsThatOccurTwice(t *testing.T) {
	bad := slices.Concat(digests(0, 10), digests(3, 2))
	_, _, out := matchDigests(t, digests(0, 5), bad)
	if err := sessiontest.Cause(out); !errors.Is(err, ErrDuplicates) || !strings.Contains(err.Error(), "2 of 12") {
		t.Errorf("%v", err)
	}
}

// Items on one side and digests on the other would match nothing.
func TestDigestsAgainstItems(t *testing.T) {
	out := sessiontest.Net{}.Run(t,
		func(ctx context.Context, s *session.Session) error {
			_, err := SendDigests(ctx, s, digests(0, 3), both)
			return err
		},
		func(ctx context.Context, s *session.Session) error {
			_, err := Receive(ctx, s, psitest.Items(psitest.Number(0, 3)), 3, both)
			return err
		})
	var m *session.MismatchError
	if err := sessiontest.Cause(out); !errors.As(err, &m) || m.Field != "item_form" {
		t.Errorf("%v", err)
	}
}
