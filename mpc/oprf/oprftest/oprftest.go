// Package oprftest stands in for vector OLE in the tests of protocols on
// mpc/oprf.
package oprftest

import (
	"context"
	"crypto/sha256"
	"slices"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// Dealer is an [oprf.OLE] without security: both sides expand what names the
// session. It costs next to nothing, so that tests of the rest of a protocol can
// run often, and its outputs can be made again to look behind the masks.
type Dealer struct {
	// Limit is how many elements make a piece; 0 means 1, so that every bin is
	// one.
	Limit int
}

// Name says what it is.
func (Dealer) Name() string { return "dealer" }

// Piece returns the limit.
func (d Dealer) Piece() int { return max(d.Limit, 1) }

// Deal is what both sides know of a session.
type Deal struct {
	stream *share.Stream
	delta  gf128.Element
}

// Of returns the deal of a session from its beginning.
func Of(s *session.Session) *Deal {
	h := sha256.New()
	h.Write([]byte(s.ID() + "\x00" + s.Label() + "\x00"))
	for _, p := range s.Parties() {
		h.Write([]byte(string(p) + "\x00"))
	}
	key := [share.KeySize]byte(h.Sum(nil))
	d := &Deal{stream: share.KeyedStream(&key)}
	d.delta = gf128.Element{Lo: d.stream.Uint64(), Hi: d.stream.Uint64()}
	return d
}

// Delta returns Δ.
func (d *Deal) Delta() gf128.Element { return d.delta }

// Next returns the next n elements of a, b and c = b + Δ·a.
func (d *Deal) Next(n int) (a, b, c []gf128.Element) {
	a, b = make([]gf128.Element, n), make([]gf128.Element, n)
	// A stream never fails.
	_ = gf128.Random(d.stream, a)
	_ = gf128.Random(d.stream, b)
	c = slices.Clone(b)
	gf128.MulAdd(c, a, d.delta)
	return a, b, c
}

// Sender returns the sender's half.
func (Dealer) Sender(_ context.Context, s *session.Session) (oprf.OLESender, error) {
	return sender{Of(s)}, nil
}

// Receiver returns the receiver's half.
func (Dealer) Receiver(_ context.Context, s *session.Session) (oprf.OLEReceiver, error) {
	return receiver{Of(s)}, nil
}

type sender struct{ *Deal }

func (d sender) Extend(_ context.Context, n int) ([]gf128.Element, error) {
	_, b, _ := d.Next(n)
	return b, nil
}

type receiver struct{ *Deal }

func (d receiver) Extend(_ context.Context, n int) (a, c []gf128.Element, err error) {
	a, _, c = d.Next(n)
	return a, c, nil
}
