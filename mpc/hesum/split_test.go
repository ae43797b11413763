package hesum

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/he/tbgv"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// TestTwoDecisions: a coordinator that tells each half of the others that the
// other half is lost, so that neither includes the other's word. It would get
// two sums over different contributors, and with them their difference.
func TestTwoDecisions(t *testing.T) {
	c := setup{5, 5, 3, share.Shape{Narrow: 3}, [][]int{{0}}, 3}
	inputs := c.random(31)
	outs := make([]outcome, c.parties)
	var shares [2]atomic.Int64 // that have come from p1 and p2, and from p3 and p4
	net := &cluster{parties: c.parties}
	net.run(t, func(i int) script {
		if i != 0 {
			return c.honest(i, new(once), inputs, &outs[i], nil)
		}
		return func(ctx context.Context, s *session.Session) error {
			e, err := New(ctx, s, c.params(new(once)))
			if err != nil {
				return err
			}
			to, err := e.begin(stepName(0), c.shape, inputs[0], named([]int{0}))
			if err != nil {
				return err
			}
			work, peers := e.spans(c.shape), (e.holders|to)&^1
			_, digests, err := e.swapVectors(ctx, peers, work, inputs[0])
			if err != nil {
				return err
			}
			return e.exchange(ctx, peers, nil, func(i int) half {
				half, d := 0, decision{0, 0b11111, 0b11111, 0b00111}
				if i >= 3 {
					half, d = 1, decision{0, 0b11001, 0b11001, 0b11001}
				}
				echo := append([]byte{0}, e.hash("decision", d.body())...)
				for _, j := range e.indices(d.included) {
					x := digests[j]
					echo = append(echo, x[:]...)
				}
				return func(ctx context.Context, l *link) error {
					report := binary.LittleEndian.AppendUint64(nil, uint64(d.included))
					for _, m := range []struct {
						kind kind
						out  []byte
						in   int
					}{
						{kindReport, report, len(report)},
						{kindDecision, d.body(), 0},
						{kindEcho, echo, len(echo)},
						{kindShare, nil, work[0].scheme.ShareSize()},
					} {
						if m.out != nil {
							if err := l.send(ctx, e.at, m.kind, m.out); err != nil {
								return err
							}
						}
						if m.in > 0 {
							if _, err := l.recv(ctx, e.at, m.kind, m.in); err != nil {
								return err
							}
						}
					}
					shares[half].Add(1)
					return nil
				}
			})
		}
	})
	if shares[0].Load() > 0 && shares[1].Load() > 0 {
		t.Errorf("%d and %d shares came from the two halves", shares[0].Load(), shares[1].Load())
	}
	blamed := 0
	for i, out := range outs[1:] {
		var fault *PeerError
		switch {
		case errors.As(out.err, &fault) && fault.Party == "p0":
			blamed++
		case out.err != nil && !errors.Is(out.err, ErrLost):
			t.Errorf("p%d ends with %v", i+1, out.err)
		}
	}
	if blamed == 0 {
		t.Error("nobody blames the coordinator")
	}
}

// TestDifferentRandomness: one that commits to, and shows, other randomness to
// each of the others is named by both, although their reference strings differ
// and with them everything that follows.
func TestDifferentRandomness(t *testing.T) {
	c := allOfThree
	inputs := c.random(32)
	outs := make([]outcome, c.parties)
	net := &cluster{parties: c.parties}
	net.run(t, func(i int) script {
		if i != 1 {
			return c.honest(i, new(once), inputs, &outs[i], nil)
		}
		return func(ctx context.Context, s *session.Session) error {
			p := c.params(new(once))
			e, err := newEngine(s, p)
			if err != nil {
				return err
			}
			if err := s.BindPresent(ctx, Name, p.fields()...); err != nil {
				return err
			}
			e.enter(keysStep)
			coin := func(peer int) []byte { return append(make([]byte, coinSize-1), byte(peer)) }
			for _, k := range []kind{kindCommit, kindReveal} {
				err := e.exchange(ctx, 0b101, func(i int) half {
					b := coin(i)
					if k == kindCommit {
						b = e.commitment(1, b)
					}
					return func(ctx context.Context, l *link) error { return l.send(ctx, e.at, k, b) }
				}, func(int) half {
					return func(ctx context.Context, l *link) error {
						_, err := l.recv(ctx, e.at, k, 32)
						return err
					}
				})
				if err != nil {
					return err
				}
			}
			mine, err := e.drawKeys([32]byte{}, 1, func(int) io.Reader { return s.Rand() })
			if err != nil {
				return err
			}
			if _, _, err := e.swapKeys(ctx, 0b101, mine); err != nil {
				return err
			}
			return errors.New("gone before it has to say what it has")
		}
	})
	for _, i := range []int{0, 2} {
		var fault *PeerError
		if !errors.As(outs[i].err, &fault) || fault.Party != "p1" {
			t.Errorf("p%d ends with %v", i, outs[i].err)
		}
	}
}

// TestKeysAreWiped: after the last sum an engine's shares of the keys open
// nothing more.
func TestKeysAreWiped(t *testing.T) {
	c := allOfThree
	inputs := c.random(33)
	net := &cluster{parties: c.parties}
	for i, err := range net.run(t, func(i int) script {
		return func(ctx context.Context, s *session.Session) error {
			e, err := New(ctx, s, c.params(new(once)))
			if err != nil {
				return err
			}
			for k, to := range c.to {
				v := share.Vector{}
				if i < c.contributors {
					v = inputs[i]
				}
				if _, err := e.Sum(ctx, stepName(k), c.shape, v, named(to)); err != nil {
					return err
				}
			}
			for _, k := range e.keys {
				if i >= c.contributors {
					continue
				}
				var cts []*tbgv.Ciphertext
				for range 2 {
					ct, err := k.scheme.Encrypt(s.Rand(), k.pk, nil)
					if err != nil {
						return err
					}
					cts = append(cts, ct)
				}
				sum, err := k.scheme.Sum(cts)
				if err != nil {
					return err
				}
				if _, err := k.scheme.OpenShare(s.Rand(), k.share, i, []int{0, 1, 2}, sum); !errors.Is(err, tbgv.ErrUsed) {
					t.Errorf("p%d: %v", i, err)
				}
			}
			return nil
		}
	}) {
		if err != nil {
			t.Errorf("p%d: %v", i, err)
		}
	}
}
