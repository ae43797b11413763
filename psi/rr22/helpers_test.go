package rr22

import (
	"context"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// result is what one run gave.
type result struct {
	sender, receiver Match
	out              []sessiontest.Outcome
}

var both = Params{Broadcast: true}

func intersect(t testing.TB, net sessiontest.Net, xs, ys []string, p Params) result {
	t.Helper()
	return intersectEach(t, net, xs, ys, p, p)
}

func intersectEach(t testing.TB, net sessiontest.Net, xs, ys []string, ps, pr Params) (r result) {
	t.Helper()
	return intersectOver(t, net, nil, xs, ys, ps, pr)
}

// dealt is items with a vector OLE for tests; a nil one is the real one.
func dealt(xs []string, ole oprf.OLE) input {
	in := fromItems(psitest.Items(xs), len(xs))
	in.ole = ole
	return in
}

func intersectOver(t testing.TB, net sessiontest.Net, ole oprf.OLE, xs, ys []string, ps, pr Params) (r result) {
	t.Helper()
	r.out = net.Run(t,
		func(ctx context.Context, s *session.Session) (err error) {
			r.sender, err = send(ctx, s, dealt(xs, ole), ps)
			return err
		},
		func(ctx context.Context, s *session.Session) (err error) {
			r.receiver, err = receive(ctx, s, dealt(ys, ole), pr)
			return err
		})
	return r
}

// checkIdeal compares a result with the ideal functionality on the plaintext.
func checkIdeal(t testing.TB, xs, ys []string, p Params, r result) {
	t.Helper()
	psitest.CheckAligned(t, r.out, xs, ys, r.sender.Rows, r.receiver.Rows, p.Broadcast)
}
