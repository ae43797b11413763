package rr22

import (
	"context"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/session"
)

// correlator makes vector OLE in a session of its own: the sender gets Δ and b,
// the receiver a and c = b + Δ·a, all uniform in GF(2^128). It notices messages
// that were lost or changed.
type correlator interface {
	// name says what it is, code, noise and field included: parties have to
	// agree on it.
	name() string
	// piece is how many elements are made at a time, at most.
	piece() int
	sender(ctx context.Context, s *session.Session) (voleSender, error)
	receiver(ctx context.Context, s *session.Session) (voleReceiver, error)
}

// voleSender has the next n elements of b.
type voleSender interface {
	Delta() gf128.Element
	Extend(ctx context.Context, n int) (b []gf128.Element, err error)
}

// voleReceiver has the next n elements of a and c. Both sides extend by the
// same lengths in the same order.
type voleReceiver interface {
	Extend(ctx context.Context, n int) (a, c []gf128.Element, err error)
}

// silent is mpc/vole.
type silent struct{}

func (silent) name() string { return vole.DefaultCode }

func (silent) piece() int { return vole.ChunkElements }

func (silent) sender(ctx context.Context, s *session.Session) (voleSender, error) {
	return vole.NewSender(ctx, s, vole.Params{})
}

func (silent) receiver(ctx context.Context, s *session.Session) (voleReceiver, error) {
	return vole.NewReceiver(ctx, s, vole.Params{})
}
