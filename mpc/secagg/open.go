package secagg

import (
	"context"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// agree returns the secret of two key pairs of a step.
func agree(private *ecdh.PrivateKey, public *[curve25519.Size]byte) ([]byte, error) {
	p, err := ecdh.X25519().NewPublicKey(public[:])
	if err != nil {
		return nil, fmt.Errorf("%w: a public key", errFrame)
	}
	secret, err := private.ECDH(p)
	if err != nil {
		return nil, fmt.Errorf("%w: a public key of low order", errFrame)
	}
	return secret, nil
}

// seedDigest commits a dealer to its seed.
func (s *step) seedDigest(dealer int, seed *[secretSize]byte) (d [sha256.Size]byte) {
	h := sha256.New()
	h.Write([]byte(domain + "seed\x00"))
	h.Write(s.tag[:])
	h.Write([]byte{byte(dealer)})
	h.Write(seed[:])
	h.Sum(d[:0])
	return d
}

// shareDigest commits a dealer to a share, and so its holder.
func (s *step) shareDigest(k shareKind, dealer, holder int, x *[secretSize]byte) (d [digestSize]byte) {
	h := sha256.New()
	h.Write([]byte(domain + "share\x00"))
	h.Write(s.tag[:])
	h.Write([]byte{byte(k), byte(dealer), byte(holder)})
	h.Write(x[:])
	copy(d[:], h.Sum(nil))
	return d
}

// salt of all masks: the step, the roster and what its members dealt.
func (s *step) salt() []byte {
	h := sha256.New()
	h.Write([]byte(domain + "masks\x00"))
	h.Write(s.tag[:])
	h.Write(appendSets(nil, s.roster))
	for i := range s.roster.all() {
		h.Write(s.deals[i].digest[:])
	}
	return h.Sum(nil)
}

func derive(secret, salt []byte, info ...byte) []byte {
	key, err := hkdf.Key(sha256.New, secret, salt, domain+"key\x00"+string(info), 32)
	if err != nil {
		panic("secagg: HKDF refused 32 bytes: " + err.Error()) // cannot happen
	}
	return key
}

// selfKey is that of the mask a contributor adds for itself.
func selfKey(salt []byte, of int, seed *[secretSize]byte, negative bool) maskKey {
	return newMaskKey(derive(seed[:], salt, byte(ofSeed), byte(of)), negative)
}

// pairKey is that of the mask between two contributors, as it stands in the
// vector of one of them: the one who comes first adds it, the other subtracts
// it. flip is for taking it out again.
func pairKey(salt, secret []byte, of, with int, flip bool) maskKey {
	return newMaskKey(derive(secret, salt, byte(ofKey), byte(min(of, with)), byte(max(of, with))), (of > with) != flip)
}

// ownKeys are those of all masks in this party's vector.
func (s *step) ownKeys() []maskKey {
	salt := s.salt()
	keys := []maskKey{selfKey(salt, s.e.self, &s.seed, false)}
	for i := range s.roster.without(setOf(s.e.self)).all() {
		keys = append(keys, pairKey(salt, s.pairs[i], s.e.self, i, false))
		clear(s.pairs[i])
	}
	clear(s.seed[:])
	return keys
}

// reveal gives the aggregators this party's shares: of the survivors' seeds and
// the others' keys. That happens once for a step, whatever becomes of it.
func (s *step) reveal(ctx context.Context) error {
	var tasks []task
	if s.contributes() {
		if err := s.e.p.Once.Once(ctx, "secagg/"+s.e.s.Label()+"/"+s.name); err != nil {
			return fmt.Errorf("%w: step %q: shares may have been revealed before: %w", ErrUsed, s.name, err)
		}
		own := &reveal{agreed: s.agreed}
		for i := range s.roster.all() {
			k := ofKey
			if s.survivors.has(i) {
				k = ofSeed
			}
			own.shares = append(own.shares, s.deals[i].shares[k])
		}
		for i := range s.deals {
			if s.deals[i] != nil {
				s.deals[i].shares = [2][secretSize]byte{}
			}
		}
		s.revealed[s.e.self] = own
		body := own.append(nil)
		for _, l := range s.aggregators(s.survivors) {
			frame := newFrame(body)
			tasks = append(tasks, task{l, func(ctx context.Context) error { return l.send(ctx, kindReveal, &s.tag, frame) }})
		}
	}
	got := make([]*reveal, len(s.deals))
	if s.aggregates() {
		for _, l := range s.contributors(s.survivors) {
			tasks = append(tasks, task{l, func(ctx context.Context) error {
				body, err := l.receive(ctx, kindReveal, s)
				if err != nil {
					return err
				}
				got[s.place(l)], err = s.judge(l, body)
				return err
			}})
		}
	}
	if err := together(ctx, tasks); err != nil {
		return err
	}
	for i, v := range got {
		if v != nil {
			s.revealed[i] = v
		}
	}
	return nil
}

// judge holds the shares of l to what their dealers announced.
func (s *step) judge(l *link, body []byte) (*reveal, error) {
	v, err := parseReveal(body, s.roster.size())
	if err != nil {
		return nil, s.fault(l, err)
	}
	if v.agreed != s.agreed {
		return nil, s.fault(l, fmt.Errorf("%w: its shares are of another set, or it holds other keys", ErrSurvivors))
	}
	k := 0
	for i := range s.roster.all() {
		kind := ofKey
		if s.survivors.has(i) {
			kind = ofSeed
		}
		holder := s.place(l)
		if s.shareDigest(kind, i, holder, &v.shares[k]) != s.deals[i].shareDigest[kind][holder] {
			return nil, s.fault(l, fmt.Errorf("its share of a secret of %s is not the one dealt", s.e.p.Contributors[i]))
		}
		k++
	}
	return v, nil
}

// open adds up the survivors' vectors and takes their masks out.
func (s *step) open(ctx context.Context) (share.Vector, error) {
	keys, err := s.remaining()
	if err != nil {
		return share.Vector{}, err
	}
	sum := share.NewVector(s.shape)
	err = parallel.Each(ctx, len(s.messages), 1, func() func(lo, hi int) error {
		m := newMasker(keys)
		var acc [blockBytes]byte
		return func(lo, hi int) error {
			bad := false
			for i := lo; i < hi; i++ {
				start := 0
				for _, p := range s.messages[i] {
					p.blocks(func(b piece, at int) {
						dst := acc[:b.n]
						clear(dst)
						for j := range s.survivors.all() {
							b.section.add(dst, s.inputs[j][i][start+at:start+at+b.n], false)
						}
						m.add(dst, b)
						if !b.decode(sum, dst) {
							bad = true
						}
					})
					start += p.n
				}
			}
			if bad {
				return fmt.Errorf("%w: step %q", ErrMasks, s.name)
			}
			return nil
		}
	})
	s.inputs = nil
	if err != nil {
		return share.Vector{}, err
	}
	return sum, nil
}

// remaining returns the keys of the masks that are left in the sum of the
// survivors' vectors, with the signs that take them out: the self-mask of
// each survivor, and between each of them and each that was dropped.
func (s *step) remaining() ([]maskKey, error) {
	var holders []int
	for i := range s.survivors.all() {
		if s.revealed[i] != nil && len(holders) < s.e.p.Threshold {
			holders = append(holders, i)
		}
	}
	if len(holders) < s.e.p.Threshold {
		return nil, s.lost("%d contributors revealed their shares, %d are needed", len(holders), s.e.p.Threshold)
	}
	w, salt := weights(holders), s.salt()
	var keys []maskKey
	k := 0
	for i := range s.roster.all() {
		shares := make([][secretSize]byte, len(holders))
		for j, h := range holders {
			shares[j] = s.revealed[h].shares[k]
		}
		k++
		secret := combine(shares, w)
		if s.survivors.has(i) {
			if s.seedDigest(i, &secret) != s.deals[i].seedDigest {
				return nil, s.blame(i, errors.New("dealt shares of another seed than the one it announced"))
			}
			keys = append(keys, selfKey(salt, i, &secret, true))
			continue
		}
		private, err := ecdh.X25519().NewPrivateKey(secret[:])
		if err != nil || [32]byte(private.PublicKey().Bytes()) != s.deals[i].key {
			return nil, s.blame(i, errors.New("dealt shares of another key than the one it announced"))
		}
		for j := range s.survivors.all() {
			pair, err := agree(private, &s.deals[j].key)
			if err != nil {
				return nil, s.blame(j, err)
			}
			keys = append(keys, pairKey(salt, pair, j, i, true))
		}
	}
	return keys, nil
}
