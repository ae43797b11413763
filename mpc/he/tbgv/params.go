package tbgv

import (
	"errors"
	"fmt"
	"math"
	"math/big"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// Errors of this package. Every error wraps one of them or an error of the
// injected randomness.
var (
	// ErrParam: a parameter set that is unknown, or not the one expected.
	ErrParam = errors.New("tbgv: parameter set")
	// ErrFrame: bytes that are not a canonical frame of the expected kind.
	ErrFrame = errors.New("tbgv: malformed frame")
	// ErrInput: an argument of the caller out of its bounds.
	ErrInput = errors.New("tbgv: input out of bounds")
	// ErrFlood: the noise that must be hidden does not fit under the modulus
	// of any set, or more was to be opened than it was made for.
	ErrFlood = errors.New("tbgv: flooding")
	// ErrMargin: an opened sum comes closer to wrapping than honest shares
	// allow: one of them is of another key or sum, or damaged.
	ErrMargin = errors.New("tbgv: decryption margin")
	// ErrForeign: a share of another sum, or for other active parties.
	ErrForeign = errors.New("tbgv: share of another sum")
	// ErrRepeated: two contributors gave the same key part or ciphertext.
	ErrRepeated = errors.New("tbgv: repeated contribution")
	// ErrUsed: a step that is taken once was taken before.
	ErrUsed = errors.New("tbgv: step was taken before")
)

// PartyError says whose contribution an error is about: an index into the
// contributors.
type PartyError struct {
	Party int
	Err   error
}

// Error implements error.
func (e *PartyError) Error() string { return fmt.Sprintf("%v (contributor %d)", e.Err, e.Party) }

// Unwrap returns the cause.
func (e *PartyError) Unwrap() error { return e.Err }

const (
	// MinParties and MaxParties bound the contributors of one key.
	MinParties = 2
	MaxParties = 32
	// HidingBits is the statistical security of the flooding, over all
	// openings under one key.
	HidingBits = 40
	// MinMargin is how many bits honest sums keep below the point of wrapping.
	// It is short of 1 so that a power of two of contributors fits; opening
	// refuses values that keep less than 0.83.
	MinMargin = 0.9

	maxRows  = 3
	maxFlood = 128
)

// Set names a parameter set.
type Set string

// The allow-list. [New] takes Sum32Wide by itself where Sum32 has no room.
const (
	Sum32     Set = "sum32.v1"      // t 2^32, N 2^12, log Q 101
	Sum32Wide Set = "sum32-wide.v1" // t 2^32, N 2^13, log Q 120
	Sum64     Set = "sum64.v1"      // t 2^64, N 2^13, log Q 156
	Sum96     Set = "sum96.v1"      // t 2^96, N 2^13, log Q 180
)

// set is one entry of the allow-list. Moduli are listed, not searched for.
type set struct {
	name  Set
	code  byte // on the wire; disjoint from the codes of mpc/he
	logN  int
	tbits int // t = 2^tbits
	qbits int // of every residue on the wire
	keep  int // primes that shares keep: 1 or 2
	q     []uint64
	wider Set // what to take where this one has no room
}

// Set codes are never reused for other parameters.
var sets = map[Set]set{
	Sum32: {
		name: Sum32, code: 32, logN: 12, tbits: 32, qbits: 51, keep: 1, wider: Sum32Wide,
		q: []uint64{0x5a827999ec001, 0x5a827999ac001}, // 2^50.5, so that log Q stays below 101
	},
	Sum32Wide: {
		name: Sum32Wide, code: 33, logN: 13, tbits: 32, qbits: 60, keep: 1,
		q: []uint64{0xfffffffffffc001, 0xffffffffffe8001},
	},
	Sum64: {
		name: Sum64, code: 34, logN: 13, tbits: 64, qbits: 52, keep: 2,
		q: []uint64{0xffffffffc4001, 0xffffffff58001, 0xffffffff00001},
	},
	Sum96: {
		name: Sum96, code: 35, logN: 13, tbits: 96, qbits: 60, keep: 2,
		q: []uint64{0xfffffffffffc001, 0xffffffffffe8001, 0xffffffffffd8001},
	},
}

// MaxLogQ bounds log2 Q of a set with 2^logN coefficients: the rows for 128
// bits of security against quantum attackers and ternary secrets of the
// HomomorphicEncryption.org standard. See docs/protocols/tbgv.md.
func MaxLogQ(logN int) float64 {
	switch logN {
	case 12:
		return 101
	case 13:
		return 202
	}
	return 0
}

// Params says what a key is for.
type Params struct {
	Set Set
	// Parties is how many contributors there are, MinParties to MaxParties.
	Parties int
	// Threshold is how many of them open a sum: 2 to Parties. Parties means
	// all, and needs no pieces.
	Threshold int
	// Openings is how many sums of one ciphertext each (Slots values) are
	// opened under one key, at most. It must be at least 1.
	Openings int
}

// limb holds a prime and the constants that depend on t and the flooding. A
// trailing M means Montgomery form.
type limb struct {
	ringq.Prime
	tM, tInvM, tInvWM uint64 // t, t⁻¹, t⁻¹·2^64
	floodHalf         uint64 // 2^(b-1)
	dropInvM          [maxRows]uint64
}

// Scheme is a parameter set, fitted to a number of contributors and openings.
// It is immutable and safe for concurrent use.
type Scheme struct {
	set    set
	params Params
	n      int // coefficients
	budget Budget
	primes []ringq.Prime
	limbs  []limb
	dec    decoder
}

// New returns the scheme for p. It takes the set named in p, or a wider one of
// the same t where the flooding has no room, and refuses with ErrFlood where
// there is none.
func New(p Params) (*Scheme, error) {
	st, ok := sets[p.Set]
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: %q is not on the allow-list", ErrParam, string(p.Set))
	case p.Parties < MinParties || p.Parties > MaxParties:
		return nil, fmt.Errorf("%w: %d contributors, %d to %d are possible", ErrInput, p.Parties, MinParties, MaxParties)
	case p.Threshold < 2 || p.Threshold > p.Parties:
		return nil, fmt.Errorf("%w: a threshold of %d with %d contributors", ErrInput, p.Threshold, p.Parties)
	case p.Openings < 1:
		return nil, fmt.Errorf("%w: the number of openings must be at least 1", ErrInput)
	}
	b := st.budget(p)
	for b.Hiding < HidingBits && st.wider != "" {
		st = sets[st.wider]
		b = st.budget(p)
	}
	if b.Hiding < HidingBits {
		return nil, fmt.Errorf("%w: %d contributors and %d openings leave %.1f bits of hiding under %s, and %d are needed; open fewer sums under one key",
			ErrFlood, p.Parties, p.Openings, b.Hiding, st.name, HidingBits)
	}
	p.Set = st.name
	s := &Scheme{set: st, params: p, n: 1 << st.logN, budget: b}
	var err error
	if s.primes, err = ringq.Open(st.logN, st.q); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrParam, st.name, err)
	}
	t := new(big.Int).Lsh(big.NewInt(1), uint(st.tbits))
	half := new(big.Int).Lsh(big.NewInt(1), uint(b.Flood-1))
	for _, prime := range s.primes {
		l := limb{Prime: prime}
		q := new(big.Int).SetUint64(l.Q)
		l.tM = l.Form(new(big.Int).Mod(t, q).Uint64())
		l.tInvM = l.Form(new(big.Int).ModInverse(t, q).Uint64())
		l.tInvWM = l.Form(l.tInvM)
		l.floodHalf = new(big.Int).Mod(half, q).Uint64()
		for h, other := range st.q {
			l.dropInvM[h] = l.Form(ringq.Inverse(other, l.Q))
		}
		s.limbs = append(s.limbs, l)
	}
	s.dec = s.newDecoder()
	return s, nil
}

// Set returns the parameter set in use, which can be a wider one than was
// asked for.
func (s *Scheme) Set() Set { return s.set.name }

// Params returns what the scheme was made for, with the set in use.
func (s *Scheme) Params() Params { return s.params }

// Slots returns how many values a ciphertext holds.
func (s *Scheme) Slots() int { return s.n }

// PlainBits returns k with t = 2^k.
func (s *Scheme) PlainBits() int { return s.set.tbits }

// Budget returns the noise budget in force.
func (s *Scheme) Budget() Budget { return s.budget }

// LogQ returns log2 of the ciphertext modulus.
func (s *Scheme) LogQ() float64 { return logProduct(s.set.q) }

func logProduct(q []uint64) float64 {
	var sum float64
	for _, q := range q {
		sum += math.Log2(float64(q))
	}
	return sum
}

func (s *Scheme) threshold() bool { return s.params.Threshold < s.params.Parties }

func (s *Scheme) newPoly() ringq.Poly { return ringq.NewPoly(len(s.limbs), s.n) }

// drop divides rows by all primes but those that shares keep, and rounds. Rows
// that fall away are destroyed.
func (s *Scheme) drop(rows ringq.Poly) ringq.Poly {
	var inv [maxRows]uint64
	for last := len(s.limbs) - 1; last >= s.set.keep; last-- {
		for i := range last {
			inv[i] = s.limbs[i].dropInvM[last]
		}
		ringq.DropLast(s.primes, rows[:last+1], inv[:last])
	}
	return rows[:s.set.keep:s.set.keep]
}

// put adds t⁻¹·m, centred: t⁻¹·(m-t) = t⁻¹·m - 1.
func (l *limb) put(x uint64, m share.Word, above uint64) uint64 {
	return l.Add(x, l.Sub(l.Word(m, l.tInvM, l.tInvWM), above))
}
