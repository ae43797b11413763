package tbgv

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

const redacted = "[secret]"

// hidden stands for a secret in every enclosing struct, so that nothing that
// prints can reach it.
type hidden struct{}

// Format keeps the secret out of every verb.
func (hidden) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText keeps it out of JSON and YAML.
func (hidden) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (hidden) LogValue() slog.Value { return slog.StringValue(redacted) }

// Secret is one contributor's part of the secret key. It is for one run and
// does not print.
type Secret struct {
	hidden
	s *Scheme
	*secret
}

type secret struct {
	mu    sync.Mutex
	rows  ringq.Poly       // s_i, transformed
	seeds [][seedSize]byte // of the zero-shares, by the party they were dealt to
	taken bool             // dealt or turned into a share
}

const seedSize = share.KeySize

// KeyPart is one contributor's part of the public key: b_i = e_i - a·s_i.
type KeyPart struct {
	s *Scheme
	b ringq.Poly // transformed
}

// PublicKey is the key under which all contributors encrypt.
type PublicKey struct {
	s      *Scheme
	bM, aM ringq.Poly // transformed, Montgomery form
	digest [sha256.Size]byte
}

// Digest identifies the key: parties compare it.
func (pk *PublicKey) Digest() [sha256.Size]byte { return pk.digest }

// GenerateKey makes a contributor's secret and its part of the public key. crs
// is the same for all contributors, and none of them must have chosen it.
func (s *Scheme) GenerateKey(rand io.Reader, crs [32]byte) (*Secret, *KeyPart, error) {
	st, err := newStream(rand)
	if err != nil {
		return nil, nil, err
	}
	sk := &Secret{s: s, secret: &secret{rows: s.newPoly()}}
	kp := &KeyPart{s: s, b: s.newPoly()}
	a := s.expand(crs)
	coeffs, e := ringq.Ternary(st, s.n), ringq.Noise(st, s.n)
	for i := range s.limbs {
		l, row, b, a := &s.limbs[i], sk.rows[i], kp.b[i], a[i]
		l.Lift(row, coeffs)
		l.NTT(row)
		l.Lift(b, e)
		l.NTT(b)
		for j, v := range row {
			b[j] = l.Sub(b[j], l.Mul(a[j], l.Form(v)))
		}
	}
	clear(coeffs)
	clear(e)
	return sk, kp, nil
}

// CombineKeys makes the public key of all contributors' parts, in their order.
func (s *Scheme) CombineKeys(crs [32]byte, parts []*KeyPart) (*PublicKey, error) {
	if len(parts) != s.params.Parties {
		return nil, fmt.Errorf("%w: %d key parts of %d contributors", ErrInput, len(parts), s.params.Parties)
	}
	pk := &PublicKey{s: s, bM: s.newPoly(), aM: s.expand(crs)}
	for n, part := range parts {
		if part == nil || !s.same(part.s) {
			return nil, &PartyError{n, fmt.Errorf("%w: the key part is not of %s", ErrParam, s.set.name)}
		}
		for _, earlier := range parts[:n] {
			if slices.Equal(earlier.b[0], part.b[0]) {
				return nil, &PartyError{n, fmt.Errorf("%w: the key part is another contributor's", ErrRepeated)}
			}
		}
		for i := range s.limbs {
			addRow(&s.limbs[i].Prime, pk.bM[i], part.b[i])
		}
	}
	h := sha256.New()
	h.Write([]byte("yinqiao tbgv key v1"))
	h.Write(crs[:])
	h.Write(s.pack(kindKeyPart, 0, nil, pk.bM))
	h.Sum(pk.digest[:0])
	for i := range s.limbs {
		formRow(&s.limbs[i].Prime, pk.bM[i])
		formRow(&s.limbs[i].Prime, pk.aM[i])
	}
	return pk, nil
}

// KeyShare is what a contributor opens sums with. It gives one share per sum,
// is safe for concurrent use up to Wipe, and does not print.
type KeyShare struct {
	hidden
	s *Scheme
	*keyShare
}

type keyShare struct {
	mu    sync.Mutex
	self  int              // with a threshold, else -1
	sM    ringq.Poly       // transformed, Montgomery form
	pairs [][seedSize]byte // keys of the zero-shares, by the other party
	seen  map[[sha256.Size]byte]bool
}

// Share turns the secret into a share where all contributors open together. It
// uses the secret up.
func (sk *Secret) Share() (*KeyShare, error) {
	if sk.s.threshold() {
		return nil, fmt.Errorf("%w: with a threshold the secret is dealt, and pieces are collected", ErrInput)
	}
	if err := sk.take(); err != nil {
		return nil, err
	}
	for i := range sk.rows {
		formRow(&sk.s.limbs[i].Prime, sk.rows[i])
	}
	ks := &KeyShare{s: sk.s, keyShare: &keyShare{self: -1, sM: sk.rows, seen: map[[sha256.Size]byte]bool{}}}
	sk.rows = nil
	return ks, nil
}

func (sk *secret) take() error {
	sk.mu.Lock()
	defer sk.mu.Unlock()
	if sk.taken {
		return fmt.Errorf("%w: the secret was dealt or turned into a share", ErrUsed)
	}
	sk.taken = true
	return nil
}

// Wipe overwrites the secret.
func (sk *Secret) Wipe() {
	sk.mu.Lock()
	defer sk.mu.Unlock()
	sk.rows.Wipe()
	clear(sk.seeds)
	sk.seeds = nil // Collect is not to go on with zeros
	sk.taken = true
}

// Wipe overwrites the share, which opens nothing afterwards.
func (ks *KeyShare) Wipe() {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	ks.sM.Wipe()
	clear(ks.pairs)
	ks.sM = nil
}

// expand returns the uniform polynomial a of a key, transformed: AES-256-CTR
// under a key derived from crs and the set. As in FrodoKEM-AES, AES under a
// public key is taken for a random function.
func (s *Scheme) expand(crs [32]byte) ringq.Poly {
	a := s.newPoly()
	s.uniform(a, "yinqiao tbgv uniform v1", crs[:])
	return a
}

// uniform fills rows with the residues that the label and the parts determine.
func (s *Scheme) uniform(p ringq.Poly, label string, parts ...[]byte) {
	h := sha256.New()
	h.Write([]byte(label))
	h.Write([]byte{s.set.code})
	for _, b := range parts { // all of fixed length
		h.Write(b)
	}
	var key [share.KeySize]byte
	h.Sum(key[:0])
	ringq.Uniform(share.KeyedStream(&key), s.primes, p, s.set.qbits)
	clear(key[:])
}

func (s *Scheme) same(other *Scheme) bool {
	return other != nil && other.set.code == s.set.code && other.params.Parties == s.params.Parties
}

func newStream(rand io.Reader) (*share.Stream, error) {
	st, err := share.NewStream(rand)
	if err != nil {
		return nil, fmt.Errorf("tbgv: draw randomness: %w", err)
	}
	return st, nil
}

func addRow(p *ringq.Prime, dst, src []uint64) {
	src = src[:len(dst)]
	for j, v := range src {
		dst[j] = p.Add(dst[j], v)
	}
}

func formRow(p *ringq.Prime, row []uint64) {
	for j, v := range row {
		row[j] = p.Form(v)
	}
}
