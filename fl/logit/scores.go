package logit

import (
	"context"

	"github.com/yinqiao/yinqiao/mpc/he"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// plains are a matrix's polynomials, encoded once where they fit into
// plainBudget and on each use otherwise.
type plains struct {
	encode func(row, column int) (*he.Plain, error)
	kept   [][]*he.Plain
}

// plainBudget bounds the memory that one matrix's encoded polynomials take.
const plainBudget = 80 << 20

func newPlains(rows, columns, limbs int, encode func(row, column int) (*he.Plain, error)) (plains, error) {
	p := plains{encode: encode}
	if rows*columns*limbs*8*he.Degree > plainBudget {
		return p, nil
	}
	p.kept = make([][]*he.Plain, rows)
	for i := range p.kept {
		p.kept[i] = make([]*he.Plain, columns)
		for j := range p.kept[i] {
			var err error
			if p.kept[i][j], err = encode(i, j); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

func (p plains) get(i, j int) (*he.Plain, error) {
	if p.kept == nil {
		return p.encode(i, j)
	}
	return p.kept[i][j], nil
}

// Layout of a score product. A request holds two weights, u0 + u1·X. The
// block's polynomial has row i of the two columns at X^(2i+1) and X^2i, so
// that coefficient 2i+1 of the product is x_i0·u0 + x_i1·u1.
func (p *party) encodeScores() (err error) {
	p.scorePlain, err = newPlains(blocks(p.rows), pairs(p.columns), 3, func(block, pair int) (*he.Plain, error) {
		c := make([]int64, he.Degree)
		for i := range p.blockLen(block) {
			row := p.x.at(p.x.score, block*blockRows+i)
			c[2*i+1] = int64(row[2*pair])
			if 2*pair+1 < p.columns {
				c[2*i] = int64(row[2*pair+1])
			}
		}
		return p.score.EncodePlain(c)
	})
	return err
}

func (p *party) blockLen(block int) int { return min(blockRows, p.rows-block*blockRows) }

// scorePositions are the opened coefficients of a block of n rows.
func scorePositions(n int) []int {
	pos := make([]int, n)
	for i := range pos {
		pos[i] = 2*i + 1
	}
	return pos
}

// scores leaves each party with a share of every row's score, modulo
// 2^scoreMod: z = X·u over both parties' columns. For its own columns a party
// multiplies its own share of the weights in the clear and the peer's under
// encryption, and hides the product with a uniform mask, which it keeps.
func (p *party) scores(ctx context.Context, round int) error {
	const mod = 1<<scoreMod - 1
	received := make([]uint64, p.rows)
	requests := make(chan []*he.Ciphertext, 1)
	err := duplex(ctx, func(ctx context.Context) error {
		err := inOrder(ctx, pairs(p.peer), func(pair int) ([]byte, error) {
			st, err := p.stream()
			if err != nil {
				return nil, err
			}
			req, err := p.scoreKey.Encrypt(st, p.others[2*pair:min(2*pair+2, p.peer)])
			if err != nil {
				return nil, err
			}
			return req.Marshal(), nil
		}, func(pair int, b []byte) error {
			return p.send(ctx, msgScoreRequest, round, pair, b)
		})
		if err != nil {
			return err
		}
		var cts []*he.Ciphertext
		select {
		case cts = <-requests:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		return inOrder(ctx, blocks(p.rows), func(block int) ([]byte, error) {
			return p.answerScores(block, cts)
		}, func(block int, b []byte) error {
			return p.send(ctx, msgScoreResponse, round, block, b)
		})
	}, func(ctx context.Context) error {
		cts := make([]*he.Ciphertext, pairs(p.columns))
		for pair := range cts {
			var err error
			if cts[pair], err = p.recvRequest(ctx, p.score, msgScoreRequest, round, pair); err != nil {
				return err
			}
		}
		requests <- cts
		for block := range blocks(p.rows) {
			n := p.blockLen(block)
			w, err := p.recvResponse(ctx, p.score, p.scoreKey, msgScoreResponse, round, block, scorePositions(n))
			if err != nil {
				return err
			}
			for i, v := range w {
				received[block*blockRows+i] = v.Lo
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range p.z {
		p.z[i] = (p.z[i] + received[i]) & mod
	}
	p.watch("scores", round)
	return nil
}

// answerScores multiplies one block and sets this party's share of it.
func (p *party) answerScores(block int, cts []*he.Ciphertext) ([]byte, error) {
	st, err := p.stream()
	if err != nil {
		return nil, err
	}
	acc := p.score.NewAccumulator()
	for pair, ct := range cts {
		x, err := p.scorePlain.get(block, pair)
		if err != nil {
			return nil, err
		}
		if err := acc.MulAdd(ct, x); err != nil {
			return nil, err
		}
	}
	n := p.blockLen(block)
	mask := st.Words(n, scoreMod)
	for i := range n {
		var local uint64
		for j, v := range p.x.at(p.x.score, block*blockRows+i) {
			local += uint64(int64(v)) * p.own[j].Lo
		}
		p.z[block*blockRows+i] = local - mask[i].Lo
	}
	res, err := p.score.Respond(st, acc, p.peerScore, scorePositions(n), mask)
	if err != nil {
		return nil, err
	}
	return res.Marshal(), nil
}

// recvRequest receives and expands one encrypted vector.
func (p *party) recvRequest(ctx context.Context, s *he.Scheme, k kind, round, index int) (*he.Ciphertext, error) {
	b, err := p.recv(ctx, k, round, index)
	if err != nil {
		return nil, err
	}
	req, err := s.UnmarshalRequest(b)
	if err != nil {
		return nil, badPayload(k, round, index, err)
	}
	return s.Expand(req)
}

// recvResponse receives one response and opens it.
func (p *party) recvResponse(ctx context.Context, s *he.Scheme, key *he.SecretKey, k kind, round, index int, pos []int) ([]share.Word, error) {
	b, err := p.recv(ctx, k, round, index)
	if err != nil {
		return nil, err
	}
	res, err := s.UnmarshalResponse(b, len(pos))
	if err != nil {
		return nil, badPayload(k, round, index, err)
	}
	w, _, err := key.Decrypt(res, pos)
	if err != nil {
		return nil, badPayload(k, round, index, err)
	}
	return w, nil
}
