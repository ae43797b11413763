package logit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"sync"

	"gonum.org/v1/gonum/mat"

	"github.com/yinqiao/yinqiao/mpc/he"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// ErrShape is returned when the parties do not hold the same rows.
var ErrShape = errors.New("logit: the parties disagree on the rows")

// party is what both roles keep while they train. In every kernel one party
// owns columns and weights and the other holds a share of those weights; both
// are each in turn.
type party struct {
	link
	session *session.Session
	rand    io.Reader // safe for concurrent use
	params  Params
	scaled  *mat.Dense // own training rows
	free    bool       // the last column is the intercept's
	rows    int        // training rows
	columns int        // own
	peer    int        // the peer's columns

	fp fixedPoint
	x  *matrix // scaled, whitened

	score, grad         *he.Scheme
	scoreKey, gradKey   *he.SecretKey // own: for requests this party sends
	peerScore, peerGrad *he.PublicKey // the peer's: for responses this party sends
	sines               [2]*he.Scheme // two primes; the label holder has the keys
	scorePlain          plains        // [block][pair of columns]
	gradPlain           plains        // [pair of columns][block], then the penalty

	// Shares of the weights, as integers in two's complement: own columns'
	// and the peer's, now and one iteration ago.
	own, others         []share.Word
	ownLast, othersLast []share.Word

	z []uint64     // share of the scores, modulo 2^scoreMod
	r []share.Word // share of the residuals, modulo 2^gradMod

	trace func(event string, round int) // tests watch the shares; nil otherwise
}

// Rows of a block: a polynomial holds two columns' values for each row.
const blockRows = he.Degree / 2

func blocks(rows int) int   { return (rows + blockRows - 1) / blockRows }
func pairs(columns int) int { return (columns + 1) / 2 }

// slotBlocks counts the blocks of the sigmoid, which has one row per slot.
func slotBlocks(rows int) int { return (rows + he.Degree - 1) / he.Degree }

// openSchemes chooses the parameter sets from public numbers alone, so that
// the choice tells nothing, and such that flooding hides the noise of all the
// attempt's responses: the narrowest sets that do.
func (p *party) openSchemes(terms int) (err error) {
	runs := int64(p.params.MaxIterations)
	open := func(load he.Load, opened int64, ids ...he.ParamID) *he.Scheme {
		for _, id := range ids {
			s, e := he.Open(id, he.Flood{Opened: opened})
			if e == nil {
				e = s.Check(load)
			}
			if err = e; e == nil {
				return s
			}
		}
		return nil
	}
	// Whitened columns have Σx² ≤ n, in units of 2^-xBits; |x|₁ ≤ √count·|x|₂.
	bound := func(squares, count float64) he.Load {
		return he.Load{L1: math.Sqrt(count * squares), L2Sq: squares}
	}
	n, unit := float64(p.rows)*1.01+1, math.Exp2(2*xBits)
	d := float64(max(p.columns, p.peer))
	p.score = open(bound(d*n*unit, d*blockRows), runs*int64(p.rows), he.Forward36, he.Forward36Wide)
	if err != nil {
		return err
	}
	// The penalty's entries come on top; encodeGradients holds the columns as
	// they are against the flooding.
	p.grad = open(bound(2*n*unit, 2*n), runs*int64(d), he.Backward104)
	if err != nil {
		return err
	}
	opened := runs * (int64(slotBlocks(p.rows))*he.Degree + compareBits + 2)
	for k, ids := range [2][2]he.ParamID{{he.SlotA45, he.SlotA45Wide}, {he.SlotB45, he.SlotB45Wide}} {
		p.sines[k] = open(slotLoad(2*terms), opened, ids[:]...)
		if err != nil {
			return err
		}
	}
	return nil
}

// slotLoad bounds the load of slot-encoded plaintexts under primes of 45 bits.
func slotLoad(terms int) he.Load {
	n, half := float64(terms)*he.Degree, math.Exp2(44)
	return he.Load{L1: n * half, L2Sq: n * half * half}
}

// exchangeShapes makes sure that both hold the same rows before anything that
// costs is sent.
func (p *party) exchangeShapes(ctx context.Context, mine shape, peerMax int) error {
	var theirs shape
	err := duplex(ctx, func(ctx context.Context) error {
		return p.send(ctx, msgShape, 0, 0, mine.encode())
	}, func(ctx context.Context) error {
		b, err := p.recv(ctx, msgShape, 0, 0)
		if err != nil {
			return err
		}
		if theirs, err = decodeShape(b); err != nil {
			return badPayload(msgShape, 0, 0, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if theirs.train != mine.train || theirs.held != mine.held {
		return fmt.Errorf("%w: %d training and %d held-out rows here, %d and %d at the peer",
			ErrShape, mine.train, mine.held, theirs.train, theirs.held)
	}
	if theirs.columns < 1 || theirs.columns > peerMax {
		return fmt.Errorf("%w: the peer has %d columns, granted are 1 to %d", ErrMessage, theirs.columns, peerMax)
	}
	p.peer = theirs.columns
	return nil
}

// exchangeKeys makes fresh keys and swaps the public halves.
func (p *party) exchangeKeys(ctx context.Context, round int) error {
	var mine [2]*he.PublicKey
	var err error
	if p.scoreKey, mine[0], err = p.score.GenerateKeys(p.rand); err != nil {
		return err
	}
	if p.gradKey, mine[1], err = p.grad.GenerateKeys(p.rand); err != nil {
		return err
	}
	return duplex(ctx, func(ctx context.Context) error {
		for i, k := range mine {
			if err := p.send(ctx, msgKey, round, i, k.Marshal()); err != nil {
				return err
			}
		}
		return nil
	}, func(ctx context.Context) error {
		if p.peerScore, err = recvKey(ctx, p.link, p.score, round, 0); err != nil {
			return err
		}
		p.peerGrad, err = recvKey(ctx, p.link, p.grad, round, 1)
		return err
	})
}

func recvKey(ctx context.Context, l link, s *he.Scheme, round, index int) (*he.PublicKey, error) {
	b, err := l.recv(ctx, msgKey, round, index)
	if err != nil {
		return nil, err
	}
	k, err := s.UnmarshalPublicKey(b)
	if err != nil {
		return nil, badPayload(msgKey, round, index, err)
	}
	return k, nil
}

// start sets all shares to zero.
func (p *party) start() {
	p.own, p.ownLast = make([]share.Word, p.columns), make([]share.Word, p.columns)
	p.others, p.othersLast = make([]share.Word, p.peer), make([]share.Word, p.peer)
	p.z, p.r = make([]uint64, p.rows), make([]share.Word, p.rows)
}

// gradWord is a number as a share of residuals.
func gradWord(x int64) share.Word { return share.FromInt64(x).Mask(gradMod) }

// advance takes a step and returns the weights' shares before it.
func (p *party) advance(s step) step {
	before := step{own: slices.Clone(p.own), others: slices.Clone(p.others)}
	p.update(s)
	return before
}

// update takes one step of descent with momentum on shares: both halves of
// every weight move alike, each rounding down, so the sum is exact to a few
// units of 2^-weightBits.
func (p *party) update(s step) {
	eighths := int64(p.params.Momentum * 8)
	move := func(now, last, gradient []share.Word) {
		for j := range now {
			moved := now[j].Sub(last[j]).MulInt64(eighths).RshSigned(3)
			last[j], now[j] = now[j], now[j].Add(moved).Sub(gradient[j])
		}
	}
	move(p.own, p.ownLast, s.own)
	move(p.others, p.othersLast, s.others)
}

// openWeights gives each party the weights of its own columns, in whitened
// coordinates.
func (p *party) openWeights(ctx context.Context, round int) ([]float64, error) {
	u := make([]float64, len(p.own))
	err := duplex(ctx, func(ctx context.Context) error {
		v := make([]uint64, len(p.others))
		for j, w := range p.others {
			v[j] = w.Lo
		}
		return p.send(ctx, msgWeights, round, 0, appendUint64s(nil, v))
	}, func(ctx context.Context) error {
		b, err := p.recv(ctx, msgWeights, round, 0)
		if err != nil {
			return err
		}
		v, err := decodeUint64s(b, len(u))
		if err != nil {
			return badPayload(msgWeights, round, 0, err)
		}
		for j := range u {
			u[j] = math.Ldexp(float64(int64(v[j]+p.own[j].Lo)), -p.fp.weightBits)
		}
		return nil
	})
	return u, err
}

// largestScore returns the largest absolute partial score of a training row
// under own weights u.
func (p *party) largestScore(u []float64) float64 {
	var worst float64
	for i := range p.rows {
		var z float64
		for j, v := range p.x.at(p.x.score, i) {
			z += float64(v) * u[j]
		}
		worst = max(worst, math.Abs(z))
	}
	return math.Ldexp(worst, -xBits)
}

// watch tells a test that a step is done.
func (p *party) watch(event string, round int) {
	if p.trace != nil {
		p.trace(event, round)
	}
}

// stream returns fresh randomness for one goroutine.
func (p *party) stream() (*share.Stream, error) { return share.NewStream(p.rand) }

// lockedReader lets goroutines share the session's randomness.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(b)
}

// inOrder makes n messages, a few at a time on as many cores, and hands them
// on in order. Memory is that of a few messages.
func inOrder(ctx context.Context, n int, produce func(i int) ([]byte, error), emit func(i int, b []byte) error) error {
	wide := min(runtime.GOMAXPROCS(0), 4)
	made := make([][]byte, wide)
	for base := 0; base < n; base += wide {
		var g errgroup.Group
		count := min(wide, n-base)
		for k := range count {
			g.Go(func() (err error) {
				made[k], err = produce(base + k)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for k := range count {
			if err := emit(base+k, made[k]); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}
