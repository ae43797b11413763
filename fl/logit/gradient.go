package logit

import (
	"context"
	"math"

	"github.com/yinqiao/yinqiao/mpc/he"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// Layout of a gradient product. A request holds the residual shares of a
// block, row i at X^i. A pair's polynomial has row i of column q at
// X^((q+1)·blockRows-1-i), so that coefficient (q+1)·blockRows-1 of the
// product is Σ_i x_iq·r_i. The penalty rides on the same positions: weights
// at X^k in a request of their own, ridge entries at (q+1)·blockRows-1-k.
func (p *party) encodeGradients() (err error) {
	nb := blocks(p.rows)
	p.gradPlain, err = newPlains(pairs(p.columns), nb+1, 4, func(pair, block int) (*he.Plain, error) {
		c := make([]int64, he.Degree)
		for q := 0; q < 2 && 2*pair+q < p.columns; q++ {
			top, j := (q+1)*blockRows-1, 2*pair+q
			if block == nb {
				for k := range p.columns {
					c[top-k] = p.x.ridge[j*p.columns+k]
				}
				continue
			}
			for i := range p.blockLen(block) {
				c[top-i] = int64(p.x.at(p.x.grad, block*blockRows+i)[j])
			}
		}
		return p.grad.EncodePlain(c)
	})
	if err != nil {
		return err
	}
	for pair := range pairs(p.columns) {
		var load he.Load
		for block := range nb + 1 {
			load = load.Add(p.gradLoad(pair, block))
		}
		if err := p.grad.Check(load); err != nil {
			return err
		}
	}
	return nil
}

// gradLoad is the load of one polynomial of the gradient.
func (p *party) gradLoad(pair, block int) (l he.Load) {
	add := func(v float64) { l = l.Add(he.Load{L1: math.Abs(v), L2Sq: v * v}) }
	for j := 2 * pair; j < min(2*pair+2, p.columns); j++ {
		if block == blocks(p.rows) {
			for k := range p.columns {
				add(float64(p.x.ridge[j*p.columns+k]))
			}
			continue
		}
		for i := range p.blockLen(block) {
			add(float64(p.x.at(p.x.grad, block*blockRows+i)[j]))
		}
	}
	return l
}

// gradientPositions are the opened coefficients of a pair of columns.
func gradientPositions(pair, columns int) []int {
	if 2*pair+1 < columns {
		return []int{blockRows - 1, 2*blockRows - 1}
	}
	return []int{blockRows - 1}
}

// step is a party's share of one step: of its own weights and of the peer's.
type step struct{ own, others []share.Word }

// gradients leaves each party with a share of every weight's step, as an
// integer: g = X'r + penalty, shifted down to units of the weights. The
// columns' owner adds a mask ρ to g under encryption, so that the other learns
// g + ρ, in which nothing wraps; it keeps ⌊(g+ρ)/2^shift⌋ and the owner keeps
// -⌊ρ/2^shift⌋: together ⌊g/2^shift⌋ or one more. ask is false where the peer
// knows that this party's shares of residuals and weights are all zero, answer
// where this party knows that the peer's are.
func (p *party) gradients(ctx context.Context, round int, ask, answer bool) (step, error) {
	s := step{own: make([]share.Word, p.columns), others: make([]share.Word, p.peer)}
	nb := blocks(p.rows)
	requests := make(chan []*he.Ciphertext, 1)
	err := duplex(ctx, func(ctx context.Context) error {
		if ask {
			err := inOrder(ctx, nb+1, func(block int) ([]byte, error) {
				st, err := p.stream()
				if err != nil {
					return nil, err
				}
				m := p.others
				if block < nb {
					m = p.r[block*blockRows : block*blockRows+p.blockLen(block)]
				}
				req, err := p.gradKey.Encrypt(st, m)
				if err != nil {
					return nil, err
				}
				return req.Marshal(), nil
			}, func(block int, b []byte) error {
				return p.send(ctx, msgGradientRequest, round, block, b)
			})
			if err != nil {
				return err
			}
		}
		local := p.localGradient()
		if !answer {
			for j, g := range local {
				s.own[j] = g.Extend(gradMod).RshSigned(p.fp.shift)
			}
			return nil
		}
		var cts []*he.Ciphertext
		select {
		case cts = <-requests:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		return inOrder(ctx, pairs(p.columns), func(pair int) ([]byte, error) {
			return p.answerGradient(pair, cts, local, s.own)
		}, func(pair int, b []byte) error {
			return p.send(ctx, msgGradientResponse, round, pair, b)
		})
	}, func(ctx context.Context) error {
		if answer {
			cts := make([]*he.Ciphertext, nb+1)
			for block := range cts {
				var err error
				if cts[block], err = p.recvRequest(ctx, p.grad, msgGradientRequest, round, block); err != nil {
					return err
				}
			}
			requests <- cts
		}
		if !ask {
			return nil
		}
		for pair := range pairs(p.peer) {
			w, err := p.recvResponse(ctx, p.grad, p.gradKey, msgGradientResponse, round, pair, gradientPositions(pair, p.peer))
			if err != nil {
				return err
			}
			for q, v := range w {
				s.others[2*pair+q] = truncateMasked(v, p.fp.shift)
			}
		}
		return nil
	})
	return s, err
}

// The two halves of the truncation. With g + ρ at one party and ρ at the other,
// both positive and unwrapped, ⌊(g+ρ)/2^s⌋ - ⌊ρ/2^s⌋ is ⌊g/2^s⌋ or one more.
func truncateMasked(v share.Word, shift int) share.Word { return v.Rsh(shift) }
func truncateMask(rho share.Word, shift int) share.Word { return rho.Rsh(shift).Neg() }

func gradientMask(st *share.Stream) share.Word {
	return st.Word(gradMask).Add(share.FromUint64(1).Lsh(gradOffset))
}

// localGradient is the part of the own columns' gradient that this party's own
// shares give.
func (p *party) localGradient() []share.Word {
	g := make([]share.Word, p.columns)
	for i, r := range p.r {
		for j, v := range p.x.at(p.x.grad, i) {
			g[j] = g[j].Add(r.MulInt64(int64(v)))
		}
	}
	for j := range g {
		for k, u := range p.own {
			g[j] = g[j].Add(u.MulInt64(p.x.ridge[j*p.columns+k]))
		}
	}
	return g
}

// answerGradient multiplies one pair of columns and sets this party's share of
// their steps.
func (p *party) answerGradient(pair int, cts []*he.Ciphertext, local, own []share.Word) ([]byte, error) {
	st, err := p.stream()
	if err != nil {
		return nil, err
	}
	acc := p.grad.NewAccumulator()
	for block, ct := range cts {
		x, err := p.gradPlain.get(pair, block)
		if err != nil {
			return nil, err
		}
		if err := acc.MulAdd(ct, x); err != nil {
			return nil, err
		}
	}
	pos := gradientPositions(pair, p.columns)
	mask := make([]share.Word, len(pos))
	for q := range pos {
		rho := gradientMask(st)
		mask[q] = local[2*pair+q].Add(rho).Mask(gradMod)
		own[2*pair+q] = truncateMask(rho, p.fp.shift)
	}
	res, err := p.grad.Respond(st, acc, p.peerGrad, pos, mask)
	if err != nil {
		return nil, err
	}
	return res.Marshal(), nil
}
