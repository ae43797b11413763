package he

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
)

// Errors of this package. Every error wraps one of them or an error of the
// injected randomness.
var (
	// ErrParam: a parameter set that is unknown, or not the one expected.
	ErrParam = errors.New("he: parameter set")
	// ErrFrame: bytes that are not a canonical frame of the expected kind.
	ErrFrame = errors.New("he: malformed frame")
	// ErrInput: an argument of the caller out of its bounds.
	ErrInput = errors.New("he: input out of bounds")
	// ErrFlood: the flooding does not hide the noise of the work asked for, or
	// does not fit under the modulus. It comes as a *BudgetError.
	ErrFlood = errors.New("he: flooding")
	// ErrMargin: a decrypted value comes closer to wrapping than the
	// parameters allow an honest response to.
	ErrMargin = errors.New("he: decryption margin")
	// ErrUsed: an accumulator that has been answered from already.
	ErrUsed = errors.New("he: accumulator was used")
)

const (
	logN = 13
	// Degree is the number of coefficients of every polynomial.
	Degree = 1 << logN
	// MaxLogQ bounds log2 of the ciphertext modulus. At degree 2^13, with
	// ternary secrets and errors of standard deviation 3.2, the
	// HomomorphicEncryption.org standard gives 202 for 128 bits of security
	// against quantum attackers, and 218 against classical ones. See
	// docs/protocols/he.md.
	MaxLogQ = 202
	// MinMargin is how many bits every decryption must keep below the point
	// where it would wrap.
	MinMargin = 2
	// HidingBits is the statistical security of a run's flooding.
	HidingBits = 40

	maxLimbs = 4
)

// ParamID names one set of the allow-list.
type ParamID string

// The allow-list. A name states the plaintext modulus: 36 is 2^36, SlotA45 the
// first prime of 45 bits. "Wide" sets buy more flooding with longer responses.
const (
	Forward36     ParamID = "forward36.v1"      // t 2^36, Q 3×44
	Forward36Wide ParamID = "forward36-wide.v1" // t 2^36, Q 3×48
	Forward38     ParamID = "forward38.v1"      // t 2^38, Q 3×46
	Forward38Wide ParamID = "forward38-wide.v1" // t 2^38, Q 3×50
	Backward104   ParamID = "backward104.v1"    // t 2^104, Q 4×49
	SlotA45       ParamID = "slot-a45.v1"       // t prime, 45 bits, Q 3×56
	SlotB45       ParamID = "slot-b45.v1"       // another, Q 3×56
	SlotA45Wide   ParamID = "slot-a45-wide.v1"  // the first prime, Q 3×58
	SlotB45Wide   ParamID = "slot-b45-wide.v1"  // the second, Q 3×58
)

// set is one entry of the allow-list. Moduli are listed, not searched for: a
// peer's library must not be able to find others.
type set struct {
	code  byte     // on the wire
	qbits int      // every prime has exactly this many bits
	q     []uint64 // primes, 1 mod 2N
	resp  int      // how many of them a response keeps
	tbits int      // t = 2^tbits where t is 0
	t     uint64   // prime plaintext modulus, 1 mod 2N, for slots
	flood int      // default flooding, in bits
}

// Set codes are never reused for other parameters.
var sets = map[ParamID]set{
	Forward36: {
		code: 1, qbits: 44, resp: 2, tbits: 36, flood: 93,
		q: []uint64{0xfffffffc001, 0xffffff6c001, 0xfffffebc001},
	},
	Forward36Wide: {
		code: 2, qbits: 48, resp: 2, tbits: 36, flood: 105,
		q: []uint64{0xffffffffc001, 0xfffffffd8001, 0xfffffffa0001},
	},
	Forward38: {
		code: 3, qbits: 46, resp: 2, tbits: 38, flood: 97,
		q: []uint64{0x3ffffff84001, 0x3ffffff70001, 0x3ffffff58001},
	},
	Forward38Wide: {
		code: 4, qbits: 50, resp: 2, tbits: 38, flood: 109,
		q: []uint64{0x3ffffffffc001, 0x3fffffffcc001, 0x3ffffffef4001},
	},
	Backward104: {
		code: 5, qbits: 49, resp: 3, tbits: 104, flood: 89,
		q: []uint64{0x1fffffff74001, 0x1fffffff68001, 0x1fffffff50001, 0x1ffffffee8001},
	},
	SlotA45: {
		code: 6, qbits: 56, resp: 2, t: 0x1ffffff8c001, flood: 120,
		q: []uint64{0xfffffffffb4001, 0xfffffffff78001, 0xfffffffff70001},
	},
	SlotB45: {
		code: 7, qbits: 56, resp: 2, t: 0x1ffffff5c001, flood: 120,
		q: []uint64{0xfffffffffb4001, 0xfffffffff78001, 0xfffffffff70001},
	},
	SlotA45Wide: {
		code: 8, qbits: 58, resp: 2, t: 0x1ffffff8c001, flood: 126,
		q: []uint64{0x3fffffffff34001, 0x3fffffffff0c001, 0x3ffffffffef8001},
	},
	SlotB45Wide: {
		code: 9, qbits: 58, resp: 2, t: 0x1ffffff5c001, flood: 126,
		q: []uint64{0x3fffffffff34001, 0x3fffffffff0c001, 0x3ffffffffef8001},
	},
}

// Flood says how much noise hides the evaluator's data.
type Flood struct {
	// Bits is the width of the uniform noise on every opened coefficient; 0
	// means the set's default.
	Bits int
	// Opened is how many coefficients the key holder will open in the whole
	// run, over all responses under one key. It must be at least 1; Respond
	// refuses to open more.
	Opened int64
}

// limb adds to a prime the constants that depend on t and the flooding. A
// trailing M means Montgomery form.
type limb struct {
	ringq.Prime
	tM        uint64 // t
	tInv      uint64 // t⁻¹
	tInvM     uint64
	tInvWM    uint64           // t⁻¹·2^64
	floodHalf uint64           // 2^(b-1)
	dropInvM  [maxLimbs]uint64 // inverses of the primes of the set, 0 for its own
}

// Scheme is one parameter set with its flooding. It is immutable and safe for
// concurrent use.
type Scheme struct {
	id     ParamID
	set    set
	flood  Flood
	primes []ringq.Prime // of Q
	limbs  []limb        // the same, with their constants
	slot   *ringq.Prime  // arithmetic modulo a prime t
	dec    decoder
	margin float64
}

// Open returns the scheme of an allow-listed set. It refuses flooding that
// would leave fewer than MinMargin bits at decryption.
func Open(id ParamID, flood Flood) (*Scheme, error) {
	st, ok := sets[id]
	if !ok {
		return nil, fmt.Errorf("%w: %q is not on the allow-list", ErrParam, string(id))
	}
	if flood.Bits == 0 {
		flood.Bits = st.flood
	}
	if flood.Bits < 1 || flood.Bits > 128 {
		return nil, fmt.Errorf("%w: flooding of %d bits is not between 1 and 128", ErrInput, flood.Bits)
	}
	if flood.Opened < 1 {
		return nil, fmt.Errorf("%w: the number of opened coefficients must be at least 1", ErrInput)
	}
	s := &Scheme{id: id, set: st, flood: flood}
	if s.margin = st.margin(flood.Bits); s.margin < MinMargin {
		return nil, &BudgetError{What: "margin", Need: MinMargin, Have: s.margin, Set: id}
	}
	moduli := append([]uint64(nil), st.q...)
	if st.t != 0 {
		moduli = append(moduli, st.t)
	}
	primes, err := ringq.Open(logN, moduli)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrParam, id, err)
	}
	s.primes = primes[:len(st.q)]
	s.limbs = make([]limb, len(st.q))
	for i := range s.limbs {
		s.limbs[i] = s.newLimb(s.primes[i])
	}
	if st.t != 0 {
		s.slot = &primes[len(st.q)]
	}
	s.dec = s.newDecoder()
	return s, nil
}

// margin is log2 of how far below wrapping the largest honest value stays,
// counting flooding, the noise that it hides and the rounding of the switch.
func (st set) margin(flood int) float64 {
	logT := st.logT()
	var logQ, logResp float64
	for i, q := range st.q {
		logQ += math.Log2(float64(q))
		if i < st.resp {
			logResp += math.Log2(float64(q))
		}
	}
	// Before the switch: t·(2^(b-1) + hidden) with hidden below 2^(b-1) by far.
	before := logT + float64(flood) - 1 + 0x1p-20
	// After: the same, divided, and up to (N+1)/2 of rounding per dropped prime.
	rounding := logT + math.Log2(float64(Degree+1)/2*float64(len(st.q)-st.resp+1))
	after := logAdd(before-(logQ-logResp), rounding)
	return math.Min(logQ-1-before, logResp-1-after)
}

func (st set) logT() float64 {
	if st.t != 0 {
		return math.Log2(float64(st.t))
	}
	return float64(st.tbits)
}

// logAdd returns log2(2^a + 2^b).
func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	return a + math.Log2(1+math.Exp2(b-a))
}

func (s *Scheme) newLimb(p ringq.Prime) limb {
	l := limb{Prime: p}
	q := new(big.Int).SetUint64(l.Q)
	t := s.modulusBig()
	l.tM = l.Form(new(big.Int).Mod(t, q).Uint64())
	l.tInv = new(big.Int).ModInverse(t, q).Uint64()
	l.tInvM = l.Form(l.tInv)
	l.tInvWM = l.Form(l.tInvM)
	for h, p := range s.set.q {
		l.dropInvM[h] = l.Form(ringq.Inverse(p, l.Q))
	}
	l.floodHalf = new(big.Int).Mod(new(big.Int).Lsh(big.NewInt(1), uint(s.flood.Bits-1)), q).Uint64()
	return l
}

func (s *Scheme) modulusBig() *big.Int {
	if s.set.t != 0 {
		return new(big.Int).SetUint64(s.set.t)
	}
	return new(big.Int).Lsh(big.NewInt(1), uint(s.set.tbits))
}

// ID returns the name of the parameter set.
func (s *Scheme) ID() ParamID { return s.id }

// Flood returns the flooding in force.
func (s *Scheme) Flood() Flood { return s.flood }

// Margin returns the bits that the worst honest response stays below wrapping.
func (s *Scheme) Margin() float64 { return s.margin }

// Modulus returns the plaintext modulus t where it is a prime, and 0 where it
// is a power of two.
func (s *Scheme) Modulus() uint64 { return s.set.t }

// PlainBits returns k with t = 2^k, or the length of a prime t.
func (s *Scheme) PlainBits() int {
	if s.set.t != 0 {
		return bits.Len64(s.set.t)
	}
	return s.set.tbits
}

// LogQ returns log2 of the ciphertext modulus.
func (s *Scheme) LogQ() float64 {
	var sum float64
	for _, q := range s.set.q {
		sum += math.Log2(float64(q))
	}
	return sum
}
