package oprf

import (
	"context"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/session"
)

// OLE makes vector OLE in a session of its own: the sender gets Δ and b, the
// receiver a and c = b + Δ·a, all uniform in GF(2^128). It notices messages
// that were lost or changed.
type OLE interface {
	// Name says what it is, code, noise and field included: parties have to
	// agree on it.
	Name() string
	// Piece is how many elements are made at a time, at most.
	Piece() int
	Sender(ctx context.Context, s *session.Session) (OLESender, error)
	Receiver(ctx context.Context, s *session.Session) (OLEReceiver, error)
}

// OLESender has the next n elements of b.
type OLESender interface {
	Delta() gf128.Element
	Extend(ctx context.Context, n int) (b []gf128.Element, err error)
}

// OLEReceiver has the next n elements of a and c. Both sides extend by the same
// lengths in the same order.
type OLEReceiver interface {
	Extend(ctx context.Context, n int) (a, c []gf128.Element, err error)
}

func (c Config) ole() OLE {
	if c.OLE == nil {
		return silent{c.Malicious}
	}
	return c.OLE
}

func orSilent(ole OLE) OLE {
	if ole == nil {
		return silent{}
	}
	return ole
}

// silent is mpc/vole.
type silent struct{ malicious bool }

func (silent) Name() string { return vole.DefaultCode }

func (silent) Piece() int { return vole.ChunkElements }

func (o silent) Sender(ctx context.Context, s *session.Session) (OLESender, error) {
	return vole.NewSender(ctx, s, vole.Params{Malicious: o.malicious})
}

func (o silent) Receiver(ctx context.Context, s *session.Session) (OLEReceiver, error) {
	return vole.NewReceiver(ctx, s, vole.Params{Malicious: o.malicious})
}
