package logit

import (
	"context"
	"math"
	"math/bits"

	"github.com/yinqiao/yinqiao/mpc/he"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// The sigmoid of a shared score. A share z modulo 2^scoreMod is an angle
// θ = 2πz/2^scoreMod, and the angles of both shares add up to that of the
// score, modulo a full turn, exactly. So each term of the sine series is
//
//	a_j sin(j(θA+θB)) = sin(jθA)·(a_j cos(jθB)) + cos(jθA)·(a_j sin(jθB)),
//
// one party's private number times the other's. The label holder encrypts
// sines and cosines, times the row's weight; the feature holder multiplies by
// its own and adds a mask that it keeps, negated, as its share of the residual.
// Everything happens modulo two primes; the label holder joins them by the
// Chinese remainder theorem, and no value wraps their product of 90 bits.

// Layout. A block has the rows of one polynomial's slots, and a ciphertext
// holds as many sines and cosines of all of them as fit: one for a full block,
// 20 for one of 400 rows. Products are added slot by slot over the ciphertexts
// of a block, and the label holder adds up the slots of a row.
type slotLayout struct {
	from, to int // rows
	factors  int // sines and cosines: two per term
	fit      int // factors per ciphertext
}

func newSlotLayout(rows, block, terms int) slotLayout {
	l := slotLayout{from: block * he.Degree, factors: 2 * terms}
	l.to = min(rows, l.from+he.Degree)
	l.fit = min(l.factors, he.Degree/(l.to-l.from))
	return l
}

// ciphertexts is how many a block takes under each prime.
func (l slotLayout) ciphertexts() int { return (l.factors + l.fit - 1) / l.fit }

// index numbers the requests of a round.
func (l slotLayout) index(ciphertext, prime int) int {
	return 2*(l.from/he.Degree*l.factors+ciphertext) + prime
}

// slots lays the factors of one ciphertext out.
func (l slotLayout) slots(factors [][]int64, ciphertext int) []int64 {
	var v []int64
	for m := ciphertext * l.fit; m < min((ciphertext+1)*l.fit, l.factors); m++ {
		v = append(v, factors[m]...)
	}
	return v
}

// angles returns round(scale·sin(jθ)) and round(scale·cos(jθ)) for the rows of
// one block, θ being the angles of score shares.
func angles(z []uint64, j int, scale func(i int) float64) (sin, cos []int64) {
	sin, cos = make([]int64, len(z)), make([]int64, len(z))
	for i, v := range z {
		// j·z modulo a turn first: exact, where the float of j·θ would not be.
		turn := float64(v*uint64(j)&(1<<scoreMod-1)) * (2 * math.Pi / (1 << scoreMod))
		s, c := math.Sincos(turn)
		k := scale(i)
		sin[i], cos[i] = int64(math.Round(k*s)), int64(math.Round(k*c))
	}
	return sin, cos
}

// residuals at the label holder: ask, and take the label off.
func (l *labelHolder) residuals(ctx context.Context, round int) error {
	return duplex(ctx, func(ctx context.Context) error {
		for block := range slotBlocks(l.rows) {
			lay := newSlotLayout(l.rows, block, l.terms)
			var factors [][]int64
			for j := 1; j <= l.terms; j++ {
				sin, cos := angles(l.z[lay.from:lay.to], j, func(i int) float64 { return l.weight(lay.from+i) * (1 << trigBits) })
				factors = append(factors, sin, cos)
			}
			err := inOrder(ctx, 2*lay.ciphertexts(), func(m int) ([]byte, error) {
				st, err := l.stream()
				if err != nil {
					return nil, err
				}
				c, err := l.sines[m%2].SlotsToCoeffs(lay.slots(factors, m/2))
				if err != nil {
					return nil, err
				}
				req, err := l.sineKeys[m%2].Encrypt(st, c)
				if err != nil {
					return nil, err
				}
				return req.Marshal(), nil
			}, func(m int, b []byte) error {
				return l.send(ctx, msgSineRequest, round, lay.index(m/2, m%2), b)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}, func(ctx context.Context) error {
		pos := allPositions()
		for block := range slotBlocks(l.rows) {
			lay := newSlotLayout(l.rows, block, l.terms)
			var slots [2][]uint64
			for k := range slots {
				w, err := l.recvResponse(ctx, l.sines[k], l.sineKeys[k], msgSineResponse, round, 2*block+k, pos)
				if err != nil {
					return err
				}
				if slots[k], err = l.sines[k].CoeffsToSlots(w); err != nil {
					return err
				}
			}
			n := lay.to - lay.from
			for i := range n {
				r := share.FromInt64(l.offset(lay.from + i))
				for at := i; at < n*lay.fit; at += n {
					r = r.Add(l.crt.join(slots[0][at], slots[1][at]))
				}
				l.r[lay.from+i] = r.Mask(gradMod)
			}
		}
		return nil
	})
}

// offset is the residual's constant part: the row's weight times 1/2 - label.
func (l *labelHolder) offset(i int) int64 {
	return int64(math.Round(l.weight(i) * (0.5 - l.y[i]) * (1 << residualBits)))
}

// residuals at the feature holder: answer, and keep the negated masks.
func (f *featureHolder) residuals(ctx context.Context, round int) error {
	for block := range slotBlocks(f.rows) {
		lay := newSlotLayout(f.rows, block, len(f.series))
		var factors [][]int64
		for j, a := range f.series {
			sin, cos := angles(f.z[lay.from:lay.to], j+1, func(int) float64 { return a * (1 << coefBits) })
			factors = append(factors, cos, sin) // for the peer's sine, then its cosine
		}
		acc := [2]*he.Accumulator{f.sines[0].NewAccumulator(), f.sines[1].NewAccumulator()}
		for c := range lay.ciphertexts() {
			mine := lay.slots(factors, c)
			var frames [2][]byte
			for k := range frames {
				var err error
				if frames[k], err = f.recv(ctx, msgSineRequest, round, lay.index(c, k)); err != nil {
					return err
				}
			}
			var g errgroup.Group
			for k := range frames {
				g.Go(func() error {
					req, err := f.sines[k].UnmarshalRequest(frames[k])
					if err != nil {
						return badPayload(msgSineRequest, round, lay.index(c, k), err)
					}
					ct, err := f.sines[k].Expand(req)
					if err != nil {
						return err
					}
					x, err := f.sines[k].EncodePlainSlots(mine)
					if err != nil {
						return err
					}
					return acc[k].MulAdd(ct, x)
				})
			}
			if err := g.Wait(); err != nil {
				return err
			}
		}
		if err := f.answerResiduals(ctx, round, block, lay, acc); err != nil {
			return err
		}
	}
	return nil
}

func (f *featureHolder) answerResiduals(ctx context.Context, round, block int, lay slotLayout, acc [2]*he.Accumulator) error {
	st, err := f.stream()
	if err != nil {
		return err
	}
	var masks [2][]int64
	for k := range masks {
		masks[k] = make([]int64, he.Degree)
	}
	n := lay.to - lay.from
	clear(f.r[lay.from:lay.to])
	for at := range he.Degree { // slots without a row are masked like the others
		rho := st.Word(residualMask).Add(share.FromUint64(1).Lsh(residualOffset))
		for k := range masks {
			masks[k][at] = int64(bits.Rem64(rho.Hi, rho.Lo, f.sines[k].Modulus()))
		}
		if at < n*lay.fit {
			i := lay.from + at%n
			f.r[i] = f.r[i].Sub(rho).Mask(gradMod)
		}
	}
	return inOrder(ctx, 2, func(k int) ([]byte, error) {
		st, err := f.stream()
		if err != nil {
			return nil, err
		}
		mask, err := f.sines[k].SlotsToCoeffs(masks[k])
		if err != nil {
			return nil, err
		}
		res, err := f.sines[k].Respond(st, acc[k], f.peerSines[k], allPositions(), mask)
		if err != nil {
			return nil, err
		}
		return res.Marshal(), nil
	}, func(k int, b []byte) error {
		return f.send(ctx, msgSineResponse, round, 2*block+k, b)
	})
}

func allPositions() []int {
	pos := make([]int, he.Degree)
	for i := range pos {
		pos[i] = i
	}
	return pos
}

// crt joins residues modulo two primes below 2^45.
type crt struct{ p, q, pInv uint64 } // pInv = p^-1 mod q

func newCRT(p, q uint64) crt {
	// Fermat: p^(q-2) mod q.
	inv, base := uint64(1), p%q
	for e := q - 2; e > 0; e >>= 1 {
		if e&1 == 1 {
			inv = mulMod(inv, base, q)
		}
		base = mulMod(base, base, q)
	}
	return crt{p, q, inv}
}

// join returns the integer below p·q with residues a mod p and b mod q.
func (c crt) join(a, b uint64) share.Word {
	d := mulMod((b+c.q-a%c.q)%c.q, c.pInv, c.q)
	hi, lo := bits.Mul64(d, c.p)
	return share.Word{Hi: hi, Lo: lo}.Add(share.FromUint64(a))
}

func mulMod(a, b, q uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return bits.Rem64(hi, lo, q)
}

// modPrime returns a two's complement word modulo q.
func modPrime(w share.Word, q uint64) uint64 {
	v := bits.Rem64(w.Hi, w.Lo, q)
	wrap := bits.Rem64(1, 0, q) // 2^64 mod q
	wrap = mulMod(wrap, wrap, q)
	return (v + q - wrap*(w.Hi>>63)) % q
}
