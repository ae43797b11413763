package he

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/yinqiao/yinqiao/mpc/share"
)

// seedSize is the length of the seed that stands for a uniform polynomial.
const seedSize = share.KeySize

// expand writes the uniform polynomial of a public seed, in the transformed
// domain: AES-256-CTR under a key derived from the seed, the set's code and
// the polynomial's use, eight bytes a candidate, cut to the prime's length and
// rejected at or above the prime. As in FrodoKEM-AES and Kyber-90s, AES under
// a public key is taken for a random function; SHAKE would cost about ten
// times as much.
func (s *Scheme) expand(p poly, seed [seedSize]byte, use byte) {
	h := sha256.New()
	h.Write([]byte("yinqiao he uniform v1"))
	h.Write([]byte{s.set.code, use})
	h.Write(seed[:])
	var key [share.KeySize]byte
	h.Sum(key[:0])
	st := share.KeyedStream(&key)
	mask := uint64(1)<<s.set.qbits - 1
	var buf [8 * 512]byte
	at := len(buf)
	for i, row := range p {
		q := s.limbs[i].q
		for j := 0; j < len(row); {
			if at == len(buf) {
				_, _ = st.Read(buf[:]) // a stream does not fail
				at = 0
			}
			v := binary.LittleEndian.Uint64(buf[at:]) & mask
			at += 8
			row[j] = v
			_, below := bits.Sub64(v, q, 0)
			j += int(below)
		}
	}
}

// Uses of seeds.
const (
	usePublicKey byte = 1
	useRequest   byte = 2
)

// ternary returns coefficients uniform over {-1, 0, 1}: two bits each, 3 drawn
// again. What is drawn again says nothing about what is kept.
func ternary(st *share.Stream) []int8 {
	out := make([]int8, Degree)
	var pool uint64
	left := 0
	for j := 0; j < Degree; {
		if left == 0 {
			pool, left = st.Uint64(), 32
		}
		v := int8(pool & 3)
		pool >>= 2
		left--
		if v == 3 {
			continue
		}
		out[j] = v - 1
		j++
	}
	return out
}

// noise returns error coefficients from the centred binomial distribution over
// 2·21 bits: standard deviation √10.5 = 3.24, at most 21, constant time.
//
// Deviation: the parameters are stated for a discrete Gaussian of 3.2. The
// centred binomial is what Kyber and SEAL sample instead; no attack that the
// estimates count tells them apart at equal variance.
func noise(st *share.Stream) []int8 {
	out := make([]int8, Degree)
	const m = 1<<noiseBound - 1
	for j := range out {
		v := st.Uint64()
		out[j] = int8(bits.OnesCount64(v&m) - bits.OnesCount64(v>>noiseBound&m))
	}
	return out
}

// lift writes small signed coefficients as residues.
func (l *limb) lift(row []uint64, c []int8) {
	for j, v := range c {
		row[j] = l.signed(int64(v))
	}
}

// addSmall adds small signed coefficients to residues.
func (l *limb) addSmall(row []uint64, c []int8) {
	for j, v := range c {
		row[j] = l.add(row[j], l.signed(int64(v)))
	}
}
