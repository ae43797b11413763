package vole

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// DefaultCode names the code, its noise and its field: see codes.
const DefaultCode = "bda64x2.t848.gf128"

// ChunkElements is the most elements that one application of a code yields;
// more come from several chunks with noise of their own.
const ChunkElements = 1_500_000

// minElements keeps small vectors at sizes for which the code's distance has
// been computed. Elements in excess are dropped.
const minElements = 4096

// code is a linear map from 2k noise positions to k elements. One with another
// construction, table seed or rule of sizes has another name.
type code struct {
	name       string
	weight     int // noise positions that are not zero, one in each of as many intervals
	compressor func(c *code, s shape) (compressor, error)
}

// compressor applies a code to one vector after the other.
type compressor interface {
	// run takes in a vector, interval by interval, from grow, which fills the
	// leaves of interval i, in order. There is room for what a grower wants; what
	// is past the interval's size does not count.
	run(ctx context.Context, grow func(i int, leaves []gf128.Element)) error
	// finish writes the k elements of what run took in.
	finish(ctx context.Context, out []gf128.Element) error
	// close gives back memory.
	close()
}

// codes are all that a peer may name.
var codes = map[string]*code{
	// Two rounds of accumulator and permutation, then a block-diagonal matrix
	// of random 64 by 64 blocks beside the identity. See docs/protocols/vole.md.
	DefaultCode: {name: DefaultCode, weight: 848, compressor: newEncoder},
}

// shape is how a number of elements is made: in chunks of k, each from n = 2k
// positions in trees intervals.
type shape struct {
	chunks int
	k, n   int
	trees  int
	widths []int // of a tree's levels, the root's first; the last is the longest interval
}

func (c *code) shape(elements int) shape {
	s := shape{chunks: max(1, (elements+ChunkElements-1)/ChunkElements), trees: c.weight}
	s.k = max((elements+s.chunks-1)/s.chunks, minElements)
	s.k = (s.k + block - 1) / block * block
	s.n = 2 * s.k
	s.widths = []int{(s.n + s.trees - 1) / s.trees}
	for s.widths[0] > 1 {
		s.widths = slices.Insert(s.widths, 0, (s.widths[0]+1)/2)
	}
	return s
}

// depth is the number of levels below the root.
func (s shape) depth() int { return len(s.widths) - 1 }

// room is how many elements leaves has for one tree: both children of every node
// of the level above.
func (s shape) room() int { return 2 * s.widths[max(0, s.depth()-1)] }

// treeElements is the number of elements that convey a tree.
func (s shape) treeElements() int { return 2*s.depth() + 1 }

// start is the first position of interval i; intervals differ by one at most.
func (s shape) start(i int) int { return int(uint64(i) * uint64(s.n) / uint64(s.trees)) }

func (s shape) size(i int) int { return s.start(i+1) - s.start(i) }

// tables are the code for one k: 24 bytes an element, read-only.
type tables struct {
	k      int
	first  permutation
	second permutation
	blocks []uint64 // row i of block j is blocks[64j+i]: bit c is the coefficient of column c
}

// permutation is a uniformly random one that is applied in two steps, each kind
// to the memory: elements go to buckets of about 2^bucketBits in their order,
// and are shuffled inside a bucket when they leave it.
type permutation struct {
	bucket []uint16 // of each element
	off    []uint32 // where each bucket begins, and the end
	local  []uint16 // place p of the result is local[p] past the beginning of p's bucket
}

// bucketBits makes a bucket of 256 KiB, which fits a second-level cache.
const bucketBits = 14

func newTables(name string, k int) (*tables, error) {
	t := &tables{k: k}
	var g errgroup.Group
	g.Go(func() (err error) { t.first, err = newPermutation(newPublicStream(name, k, "first"), 2*k); return })
	g.Go(func() (err error) { t.second, err = newPermutation(newPublicStream(name, k, "second"), 2*k); return })
	g.Go(func() error {
		s := newPublicStream(name, k, "blocks")
		t.blocks = make([]uint64, k)
		for i := range t.blocks {
			t.blocks[i] = s.uint64()
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return t, nil
}

func newPermutation(s *publicStream, n int) (permutation, error) {
	buckets := (n + 1<<bucketBits - 1) >> bucketBits
	p := permutation{bucket: make([]uint16, n), off: make([]uint32, buckets+1), local: make([]uint16, n)}
	for i := range p.bucket {
		b := s.below(uint32(buckets))
		p.bucket[i] = uint16(b)
		p.off[b+1]++
	}
	for b := range buckets {
		p.off[b+1] += p.off[b]
	}
	for b := range buckets {
		l := p.local[p.off[b]:p.off[b+1]]
		if len(l) > 1<<16 {
			// The table is the same everywhere, and no size in use is like that.
			return p, fmt.Errorf("%w: a bucket of %d positions", ErrCode, len(l))
		}
		for i := range l { // Fisher-Yates from the inside
			j := s.below(uint32(i + 1))
			l[i] = l[j]
			l[j] = uint16(i)
		}
	}
	return p, nil
}

// publicStream is the source of a code's tables: AES-128 in counter mode under a
// key that follows from the name, so that nobody has chosen it.
type publicStream struct {
	ctr   cipher.Stream
	bytes [8192]byte
	words [2048]uint32
	at    int
}

func newPublicStream(name string, k int, part string) *publicStream {
	h := sha256.New()
	fmt.Fprintf(h, "yinqiao/vole/code\x00%s\x00%d\x00%s", name, k, part)
	b, err := aes.NewCipher(h.Sum(nil)[:16])
	if err != nil {
		panic("vole: AES-128 refused a key of 16 bytes: " + err.Error()) // cannot happen
	}
	s := &publicStream{ctr: cipher.NewCTR(b, make([]byte, aes.BlockSize))}
	s.at = len(s.words)
	return s
}

func (s *publicStream) refill() {
	clear(s.bytes[:])
	s.ctr.XORKeyStream(s.bytes[:], s.bytes[:])
	for i := range s.words {
		s.words[i] = binary.LittleEndian.Uint32(s.bytes[4*i:])
	}
	s.at = 0
}

func (s *publicStream) uint32() uint32 {
	if s.at >= len(s.words) {
		s.refill()
	}
	s.at++
	return s.words[s.at-1]
}

func (s *publicStream) uint64() uint64 {
	lo := s.uint32()
	return uint64(s.uint32())<<32 | uint64(lo)
}

// below returns a uniform number below n (Lemire, ACM TOMACS 29, 2019).
func (s *publicStream) below(n uint32) uint32 {
	hi, lo := bits.Mul32(s.uint32(), n)
	for lo < n && lo < -n%n {
		hi, lo = bits.Mul32(s.uint32(), n)
	}
	return hi
}

// cache keeps the tables used last. Two, because a process may run both ends of
// a session, or a job with a last partition of another size.
var cache struct {
	sync.Mutex
	entries []*cached // the one used last is first
}

const cacheEntries = 2

type cached struct {
	name string
	k    int
	once sync.Once
	t    *tables
	err  error
}

func cachedTables(name string, k int) (*tables, error) {
	cache.Lock()
	i := slices.IndexFunc(cache.entries, func(e *cached) bool { return e.name == name && e.k == k })
	var e *cached
	if i >= 0 {
		e = cache.entries[i]
		cache.entries = slices.Delete(cache.entries, i, i+1)
	} else {
		e = &cached{name: name, k: k}
	}
	cache.entries = slices.Insert(cache.entries, 0, e)
	if len(cache.entries) > cacheEntries {
		clear(cache.entries[cacheEntries:])
		cache.entries = cache.entries[:cacheEntries]
	}
	cache.Unlock()
	e.once.Do(func() { e.t, e.err = newTables(name, k) })
	return e.t, e.err
}
