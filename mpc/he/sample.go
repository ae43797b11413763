package he

import (
	"crypto/sha256"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// seedSize is the length of the seed that stands for a uniform polynomial.
const seedSize = share.KeySize

// expand writes the uniform polynomial of a public seed, in the transformed
// domain: AES-256-CTR under a key derived from the seed, the set's code and
// the polynomial's use. As in FrodoKEM-AES and Kyber-90s, AES under a public
// key is taken for a random function; SHAKE would cost about ten times as much.
func (s *Scheme) expand(p ringq.Poly, seed [seedSize]byte, use byte) {
	h := sha256.New()
	h.Write([]byte("yinqiao he uniform v1"))
	h.Write([]byte{s.set.code, use})
	h.Write(seed[:])
	var key [share.KeySize]byte
	h.Sum(key[:0])
	ringq.Uniform(share.KeyedStream(&key), s.primes, p, s.set.qbits)
}

// Uses of seeds.
const (
	usePublicKey byte = 1
	useRequest   byte = 2
)
