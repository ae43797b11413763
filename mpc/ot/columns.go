package ot

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/gf128"
)

// SoftSpokenOT. Δ is cut into 32 groups of k = 4 bits. For each group one party
// holds 16 seeds, the other all but the one whose number is its group of Δ,
// bits δ. From streams r_x of the seeds the first makes
//
//	u = Σ_x r_x,   v_b = Σ_{x: bit b of x is set} r_x,
//
// the second, over r_{x+δ} (+ is xor), w_b, which is v_b + δ_b·u. The first sends
// u + y for a bit string y of its choice, the second adds δ_b times that:
// w_b = v_b + δ_b·y. So 128 columns come out of 32 corrections.
const (
	deltaBits = 128
	groupBits = 4
	leaves    = 1 << groupBits
	groups    = deltaBits / groupBits
)

// treeBytes is the length of the message that conveys the trees of one
// instance: two masked sums a level.
const treeBytes = groups * groupBits * 2 * gf128.Size

// buildTrees expands a tree of 16 leaves from each root and masks the sums of
// each level's left and right nodes with a pair of base keys.
func buildTrees(prg *aeshash.Pair, roots []gf128.Element, base [][2]gf128.Element) (seeds []gf128.Element, msg []byte) {
	msg = make([]byte, 0, treeBytes)
	for g := range groups {
		nodes := roots[g : g+1]
		for level := range groupBits {
			next := make([]gf128.Element, 2*len(nodes))
			var sums [2]gf128.Element
			prg.Expand(next, nodes, &sums)
			key := base[g*groupBits+level]
			msg = gf128.AppendBytes(msg, []gf128.Element{sums[0].Add(key[0]), sums[1].Add(key[1])})
			nodes = next
		}
		seeds = append(seeds, nodes...)
	}
	return seeds, msg
}

// openTrees recovers all leaves but one from what buildTrees says, of treeBytes
// bytes. In group g the missing one is that whose number are the group's bits
// of delta; base keys were chosen by the complements of those bits, the highest
// first. It is zero in the result, and stands first: leaf x is in place x + δ.
func openTrees(prg *aeshash.Pair, msg []byte, delta gf128.Element, base []gf128.Element) (seeds []gf128.Element) {
	for g := range groups {
		nodes := make([]gf128.Element, 1) // the root is not known
		path := uint64(0)
		for level := range groupBits {
			next := make([]gf128.Element, 2*len(nodes))
			var sums [2]gf128.Element
			prg.Expand(next, nodes, &sums)
			bit := delta.Bit(g*groupBits + groupBits - 1 - level)
			at := (g*groupBits + level) * 2 * gf128.Size
			// Of the two sums, the one off the path can be read.
			masked := pick(1-bit, gf128.FromBytes([16]byte(msg[at:])), gf128.FromBytes([16]byte(msg[at+gf128.Size:])))
			sum := masked.Add(base[g*groupBits+level]).Add(pick(1-bit, sums[0], sums[1]))
			// The children of the unknown node were hashes of zero.
			for i := range next {
				unknown := equal(uint64(i>>1), path)
				side := equal(uint64(i&1), 1-bit)
				sum = sum.Add(scale(unknown&side, next[i]))
				next[i] = scale(1-unknown, next[i])
			}
			path = path<<1 | bit
			for i := range next {
				next[i] = next[i].Add(scale(equal(uint64(i), path^1), sum))
			}
			nodes = next
		}
		for b := range groupBits {
			swap := path >> b & 1
			for x := range nodes {
				if y := x ^ 1<<b; x < y {
					d := scale(swap, nodes[x].Add(nodes[y]))
					nodes[x], nodes[y] = nodes[x].Add(d), nodes[y].Add(d)
				}
			}
		}
		seeds = append(seeds, nodes...)
	}
	return seeds
}

// pick returns a for 0 and b for 1, scale a for 1 and 0 for 0, equal 1 or 0; in
// constant time.
func pick(bit uint64, a, b gf128.Element) gf128.Element { return a.Add(scale(bit, a.Add(b))) }

func scale(bit uint64, a gf128.Element) gf128.Element {
	return gf128.Element{Lo: a.Lo & -bit, Hi: a.Hi & -bit}
}
func equal(a, b uint64) uint64 { return ((a ^ b) - 1) >> 63 } // both below 2^63

// streams are the expanded seeds of all groups.
type streams [groups][leaves]cipher.Stream

func newStreams(seeds []gf128.Element) *streams {
	s := new(streams)
	for i, seed := range seeds {
		key := seed.Bytes()
		block, err := aes.NewCipher(key[:])
		if err != nil {
			panic("ot: AES-128 refused a key of 16 bytes: " + err.Error()) // cannot happen
		}
		s[i/leaves][i%leaves] = cipher.NewCTR(block, make([]byte, aes.BlockSize))
	}
	return s
}

// foldBytes is how much of each stream is folded at a time: 16 such pieces stay
// in the first-level cache.
const foldBytes = 1 << 10

// folder holds the pieces.
type folder [leaves][foldBytes]byte

// fold takes the next len(u) bytes of a group's streams: u gets their sum, v[b]
// that of those with bit b of their number set. With skip, stream 0 is unknown:
// it counts as zero, and u is of no use. The order in which corrections are made
// is the order of the streams.
func (f *folder) fold(g *[leaves]cipher.Stream, skip bool, u []byte, v [groupBits][]byte) {
	for at := 0; at < len(u); at += foldBytes {
		n := min(foldBytes, len(u)-at)
		for x := range f {
			p := f[x][:n]
			clear(p)
			if !skip || x > 0 {
				g[x].XORKeyStream(p, p)
			}
		}
		for b := range groupBits {
			sum := v[b][at : at+n]
			clear(sum)
			for x := 0; x < leaves>>b; x += 2 {
				subtle.XORBytes(sum, sum, f[x+1][:n])
				subtle.XORBytes(f[x/2][:n], f[x][:n], f[x+1][:n])
			}
		}
		copy(u[at:], f[0][:n])
	}
}

// columns are deltaBits strings of equal length in one piece.
type columns struct {
	size int // of one, in bytes
	b    []byte
}

func newColumns(size int) columns { return columns{size, make([]byte, deltaBits*size)} }

func (c columns) at(j int) []byte { return c.b[j*c.size : (j+1)*c.size] }

func (c columns) group(g int) (v [groupBits][]byte) {
	for b := range v {
		v[b] = c.at(g*groupBits + b)
	}
	return v
}

// correct is the receiver's part: the columns v for the bits y, and the
// corrections.
func (s *streams) correct(y []byte) (columns, []byte) {
	cols, msg := newColumns(len(y)), make([]byte, groups*len(y))
	var f folder
	for g := range s {
		u := msg[g*len(y) : (g+1)*len(y)]
		f.fold(&s[g], false, u, cols.group(g))
		subtle.XORBytes(u, u, y)
	}
	return cols, msg
}

// apply is the sender's part: the columns w from corrections of groups·size
// bytes, size being a multiple of 8.
func (s *streams) apply(delta gf128.Element, msg []byte, size int) columns {
	cols := newColumns(size)
	unused := make([]byte, size)
	var f folder
	for g := range s {
		v := cols.group(g)
		f.fold(&s[g], true, unused, v)
		for b := range v {
			addMasked(v[b], msg[g*size:(g+1)*size], -delta.Bit(g*groupBits+b))
		}
	}
	return cols
}

// addMasked adds src, as far as mask says, to dst; lengths are multiples of 8.
func addMasked(dst, src []byte, mask uint64) {
	for i := 0; i+8 <= len(dst); i += 8 {
		d := dst[i : i+8]
		binary.LittleEndian.PutUint64(d, binary.LittleEndian.Uint64(d)^binary.LittleEndian.Uint64(src[i:])&mask)
	}
}

// rows returns bits i of all columns as an element, for i below n: bit j is
// that of column j. The columns' size is a multiple of 8.
func (c columns) rows(n int) []gf128.Element {
	out := make([]gf128.Element, n)
	var lo, hi [64]uint64
	for at := 0; at < n; at += 64 {
		for j := range 64 {
			lo[j] = binary.LittleEndian.Uint64(c.at(j)[at/8:])
			hi[j] = binary.LittleEndian.Uint64(c.at(64 + j)[at/8:])
		}
		transpose64(&lo)
		transpose64(&hi)
		for i := range min(64, n-at) {
			out[at+i] = gf128.Element{Lo: lo[i], Hi: hi[i]}
		}
	}
	return out
}

// transpose64 transposes a matrix of bits, lowest first (Hacker's Delight, 7-3).
func transpose64(a *[64]uint64) {
	mask := uint64(1)<<32 - 1
	for j := 32; j != 0; j, mask = j>>1, mask^mask<<(j>>1) {
		for k := 0; k < 64; k = (k + j + 1) &^ j {
			t := (a[k]>>j ^ a[k|j]) & mask
			a[k] ^= t << j
			a[k|j] ^= t
		}
	}
}

// products returns Σ_j X^j·(element i of column j), for i below n: the columns
// read as elements of 16 bytes.
func (c columns) products(n int) []gf128.Element {
	out, col := make([]gf128.Element, n), make([]gf128.Element, n)
	for j := deltaBits - 1; j >= 0; j-- {
		gf128.Load(col, c.at(j)[:n*gf128.Size])
		for i := range out {
			out[i] = out[i].MulX().Add(col[i])
		}
	}
	return out
}
