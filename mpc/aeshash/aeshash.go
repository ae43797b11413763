// Package aeshash hashes field elements with AES-128 under keys that everybody
// knows: the random permutation that puncturable PRFs, correlated OT and OKVS
// rows are made of.
//
//   - [Key.Hash] is π(x) + x. It is one-way and correlation robust for inputs
//     that are themselves (pseudo)random, with π an ideal permutation.
//   - [Key.HashTweaked] is π(π(x) + i) + π(x): correlation robust for each i,
//     also where the same difference is used again and again (TMMO of Guo, Katz,
//     Wang and Yu, ePrint 2019/074, section 7.4).
//   - [Pair.Expand] makes two elements of one: a level of a GGM tree.
//
// Keys that mean different things must differ: a protocol takes one for each
// use. Blocks go through AES-NI eight at a time where the processor has it, and
// through crypto/aes otherwise; a test holds the two to each other.
package aeshash

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"

	"github.com/yinqiao/yinqiao/mpc/gf128"
)

// KeySize is the length of a key in bytes.
const KeySize = 16

// Key is a permutation of the elements, safe for concurrent use. It is made by
// New or Named.
type Key struct {
	rounds schedule
	block  cipher.Block // used where there is no AES-NI
}

// schedule holds AES-128's eleven round keys.
type schedule [11 * aes.BlockSize]byte

// New expands a key.
func New(key [KeySize]byte) *Key {
	k := new(Key)
	if !k.rounds.expand(&key) {
		block, err := aes.NewCipher(key[:])
		if err != nil {
			panic("aeshash: AES-128 refused a key of 16 bytes: " + err.Error()) // cannot happen
		}
		k.block = block
	}
	return k
}

// Named returns the fixed key of a use, such as "yinqiao/okvs/row". Different
// names have different keys.
func Named(name string) *Key {
	d := sha256.Sum256([]byte("yinqiao/aeshash/v1/" + name))
	return New([KeySize]byte(d[:]))
}

// Hash sets dst[i] to π(src[i]) + src[i]. The slices have the same length, and
// are the same or apart.
func (k *Key) Hash(dst, src []gf128.Element) {
	src = src[:len(dst)]
	if len(dst) > 0 {
		k.hash(dst, src)
	}
}

// HashTweaked sets dst[i] to π(π(x) + j) + π(x) with x = src[i] and j = first +
// i. The slices have the same length, and are the same or apart.
func (k *Key) HashTweaked(dst, src []gf128.Element, first uint64) {
	var inner [64]gf128.Element
	for len(dst) > 0 {
		n := min(len(dst), len(inner))
		k.Hash(inner[:n], src[:n])
		gf128.Add(inner[:n], src[:n]) // π(x)
		for i := range n {
			inner[i].Lo ^= first + uint64(i)
		}
		k.Hash(dst[:n], inner[:n]) // π(π(x) + j) + π(x) + j
		for i := range n {
			dst[i].Lo ^= first + uint64(i)
		}
		dst, src, first = dst[n:], src[n:], first+uint64(n)
	}
}

// Pair is two permutations that are applied to the same elements.
type Pair struct{ left, right *Key }

// NewPair joins two keys, which must differ.
func NewPair(left, right *Key) *Pair { return &Pair{left, right} }

// Expand sets dst[2i] and dst[2i+1] to the hashes of src[i] under the left and
// the right key, and adds all left ones to sums[0], all right ones to sums[1].
// dst is twice as long as src, and apart from it.
func (p *Pair) Expand(dst, src []gf128.Element, sums *[2]gf128.Element) {
	dst = dst[:2*len(src)]
	if len(src) > 0 {
		p.expand(dst, src, sums)
	}
}

// encrypt returns π(x). The buffer is the caller's because it escapes.
func (k *Key) encrypt(buf *[aes.BlockSize]byte, x gf128.Element) gf128.Element {
	*buf = x.Bytes()
	k.block.Encrypt(buf[:], buf[:])
	return gf128.FromBytes(*buf)
}

func (k *Key) hashGeneric(dst, src []gf128.Element) {
	buf := new([aes.BlockSize]byte)
	for i, x := range src {
		dst[i] = k.encrypt(buf, x).Add(x)
	}
}

func (p *Pair) expandGeneric(dst, src []gf128.Element, sums *[2]gf128.Element) {
	buf := new([aes.BlockSize]byte)
	for i, x := range src {
		dst[2*i] = p.left.encrypt(buf, x).Add(x)
		dst[2*i+1] = p.right.encrypt(buf, x).Add(x)
		sums[0] = sums[0].Add(dst[2*i])
		sums[1] = sums[1].Add(dst[2*i+1])
	}
}
