package ringq

import (
	"encoding/binary"
	"math/bits"

	"github.com/yinqiao/yinqiao/mpc/share"
)

// NoiseBound is the largest absolute value of an error coefficient. The
// variance is half of it: an error is a sum of 42 independent ±1/2.
const NoiseBound = 21

// Uniform fills rows with residues drawn from st: eight bytes a candidate, cut
// to qbits bits, and drawn again at or above the prime.
func Uniform(st *share.Stream, primes []Prime, p Poly, qbits int) {
	mask := uint64(1)<<qbits - 1
	var buf [8 * 512]byte
	at := len(buf)
	for i, row := range p {
		q := primes[i].Q
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
	clear(buf[:])
}

// Ternary returns n coefficients uniform over {-1, 0, 1}: two bits each, 3
// drawn again. What is drawn again says nothing about what is kept.
func Ternary(st *share.Stream, n int) []int8 {
	out := make([]int8, n)
	var pool uint64
	left := 0
	for j := 0; j < n; {
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

// Noise returns n error coefficients from the centred binomial distribution
// over 2·21 bits: standard deviation √10.5 = 3.24, at most 21, constant time.
//
// Deviation: parameters are stated for a discrete Gaussian of 3.2. The
// centred binomial is what Kyber and SEAL sample instead; no attack that the
// estimates count tells them apart at equal variance.
func Noise(st *share.Stream, n int) []int8 {
	out := make([]int8, n)
	const m = 1<<NoiseBound - 1
	for j := range out {
		v := st.Uint64()
		out[j] = int8(bits.OnesCount64(v&m) - bits.OnesCount64(v>>NoiseBound&m))
	}
	return out
}

// Lift writes small signed coefficients as residues.
func (p *Prime) Lift(row []uint64, c []int8) {
	for j, v := range c {
		row[j] = p.Signed(int64(v))
	}
}

// AddSmall adds small signed coefficients to residues.
func (p *Prime) AddSmall(row []uint64, c []int8) {
	for j, v := range c {
		row[j] = p.Add(row[j], p.Signed(int64(v)))
	}
}
