// Package okvs is an oblivious key-value store: a vector that holds a value for
// each of n keys and looks random to whoever does not know them.
//
// [Encode] makes the vector P of a set of keys and values; a [Table] of any
// keys, arranged under the same seed, decodes it: a key that was encoded gives
// its value, another one something else. A key's value is the sum of three
// elements of P, at places that the key's hash names, and of h·d₀ + h²·d₁ + h³·d₂
// with h from the key's hash and d the last three elements. Decoding is linear
// in P.
//
// Keys go into bins of about 2^16 by their hash, so that the working set of one
// bin fits a cache and bins can be worked on at once. The length of P depends on
// n alone. It is chosen so that encoding fails with probability at most 2^-40
// for any keys; a failure is found before anything is returned, and another seed
// is tried.
//
// Construction: Garimella, Pinkas, Rosulek, Trieu and Yanai (CRYPTO 2021) and
// Raghuraman and Rindal (ePrint 2022/320, section 5). The package's page is
// docs/protocols/okvs.md.
//
// Keys are elements that are themselves (pseudo)random, such as digests. Time
// and memory accesses depend on them; nothing of it is visible to a peer but
// how long a step took.
package okvs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync/atomic"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/parallel"
)

// Version names the construction with its parameters, for contracts and first
// frames: both sides compute the same rows only if it is the same.
const Version = "okvs.w3d3.bin16.v1"

// Faults of Encode and Arrange.
var (
	ErrSize       = errors.New("okvs: number of keys not supported")
	ErrDuplicates = errors.New("okvs: keys occur more than once")
	ErrEncode     = errors.New("okvs: no seed gave a vector")
)

// MaxRows is the most keys that can be encoded.
const MaxRows = 1 << 28

const (
	// binRows is how many keys a bin holds on average, if there are so many.
	binRows = 1 << 16
	// minCapacity is the fewest keys that a bin is made for: below it, the
	// chance that four pairs of keys share their places exceeds the bound.
	minCapacity = 1 << 10
	// failureBits is λ: encoding fails with probability at most 2^-λ.
	failureBits = 40
	// denseColumns is how many elements at the end of a bin all keys share.
	denseColumns = 3
)

// Layout is the shape of the vector for n keys; it depends on n alone.
type Layout struct {
	Rows     int // n
	Bins     int
	Capacity int // most keys that a bin takes
	Columns  int // sparse columns of a bin
}

// NewLayout returns the layout for n keys.
func NewLayout(n int) (Layout, error) {
	if n < 0 || n > MaxRows {
		return Layout{}, fmt.Errorf("%w: %d, the limit is %d", ErrSize, n, MaxRows)
	}
	return layout(n, binRows, minCapacity, failureBits), nil
}

// layout divides 2^-bits between bins that overflow and bins that cannot be
// solved, and each of the two equally among the bins.
func layout(n, binRows, minCapacity, bits int) Layout {
	l := Layout{Rows: n, Bins: max(1, (n+binRows/2)/binRows)}
	lambda := float64(bits+1) + math.Log2(float64(l.Bins))
	l.Capacity = max(capacity(n, l.Bins, lambda), minCapacity)
	l.Columns = columns(l.Capacity, lambda)
	return l
}

// capacity returns c such that a bin gets more than c of n keys with
// probability at most 2^-lambda (Chernoff's bound with relative entropy).
func capacity(n, bins int, lambda float64) int {
	if bins == 1 {
		return n
	}
	p := 1 / float64(bins)
	return n/bins + 1 + search(n, func(i int) bool {
		q := float64(n/bins+1+i) / float64(n)
		return q >= 1 || float64(n)*(q*math.Log2(q/p)+(1-q)*math.Log2((1-q)/(1-p))) >= lambda
	})
}

// search returns the smallest i in [0, n) for which ok holds, n if none does.
func search(n int, ok func(int) bool) int {
	lo, hi := 0, n
	for lo < hi {
		mid := lo + (hi-lo)/2
		if ok(mid) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// columns returns how many sparse columns n keys need so that peeling gets
// stuck on many of them with probability at most 2^-lambda: the line that
// Raghuraman and Rindal fitted for three places a key (section 5.2).
func columns(n int, lambda float64) int {
	w := math.Log2(3)
	slope := math.Exp2(0.555*math.Log2(float64(n)) + 0.093*w*w*w - 1.01*w*w + 2.925*w - 0.133)
	return int(math.Ceil(float64(n) * (1.223 + (lambda+9.2)/slope)))
}

// Stride returns the number of elements of one bin.
func (l Layout) Stride() int { return l.Columns + denseColumns }

// Size returns the number of elements of the vector.
func (l Layout) Size() int { return l.Bins * l.Stride() }

// SeedSize is the length of a Seed in bytes.
const SeedSize = 16

// Seed determines the rows of all keys. It is public once the vector is.
type Seed [SeedSize]byte

// Table is keys arranged in the bins of a layout under a seed, 20 bytes each.
// It is safe for concurrent use.
type Table struct {
	Layout Layout
	Seed   Seed
	keys   []gf128.Element // by bin
	rows   []int32         // place of each among the keys as they were given
	ends   []int           // of the bins, with a leading 0
	hashes *aeshash.Pair
	left   *aeshash.Key
}

// Arrange sorts keys into the bins of l under seed. It copies them, and takes
// any number of them up to MaxRows: l is that of the set that was encoded.
func Arrange(ctx context.Context, l Layout, seed Seed, keys []gf128.Element) (*Table, error) {
	if len(keys) > MaxRows {
		return nil, fmt.Errorf("%w: %d, the limit is %d", ErrSize, len(keys), MaxRows)
	}
	d := sha256.Sum256(append([]byte("yinqiao/"+Version+"/rows\x00"), seed[:]...))
	left := aeshash.New([aeshash.KeySize]byte(d[:16]))
	t := &Table{
		Layout: l, Seed: seed, left: left, hashes: aeshash.NewPair(left, aeshash.New([aeshash.KeySize]byte(d[16:]))),
		keys: make([]gf128.Element, len(keys)), rows: make([]int32, len(keys)), ends: make([]int, l.Bins+1),
	}
	// Counting sort, in as many parts as there are workers: how many keys of
	// each part fall into each bin, where those go, and there they go.
	parts := min(runtime.GOMAXPROCS(0), 1+len(keys)/4096)
	part := func(i int) (lo, hi int) { return len(keys) * i / parts, len(keys) * (i + 1) / parts }
	next := make([][]int, parts)
	bins := make([]uint16, len(keys))
	err := parallel.For(ctx, parts, 1, func(i, _ int) error {
		count := make([]int, l.Bins)
		lo, hi := part(i)
		t.binsOf(bins[lo:hi], keys[lo:hi])
		for _, b := range bins[lo:hi] {
			count[b]++
		}
		next[i] = count
		return nil
	})
	if err != nil {
		return nil, err
	}
	at := 0
	for b := range l.Bins {
		for i := range next {
			at, next[i][b] = at+next[i][b], at
		}
		t.ends[b+1] = at
	}
	return t, parallel.For(ctx, parts, 1, func(i, _ int) error {
		lo, hi := part(i)
		for k := lo; k < hi; k++ {
			p := &next[i][bins[k]]
			t.keys[*p], t.rows[*p] = keys[k], int32(k)
			*p++
		}
		return nil
	})
}

// block is how many keys are hashed at a time.
const block = 128

func (t *Table) binsOf(bins []uint16, keys []gf128.Element) {
	var h [block]gf128.Element
	for len(keys) > 0 {
		n := min(block, len(keys))
		t.left.Hash(h[:n], keys[:n])
		for i := range n {
			bins[i] = uint16(h[i].Lo >> 32 * uint64(t.Layout.Bins) >> 32)
		}
		bins, keys = bins[n:], keys[n:]
	}
}

// Len returns the number of keys.
func (t *Table) Len() int { return len(t.keys) }

// Bin returns the keys of a bin and, for each, its place among the keys as they
// were given.
func (t *Table) Bin(bin int) (keys []gf128.Element, rows []int32) {
	lo, hi := t.ends[bin], t.ends[bin+1]
	return t.keys[lo:hi:hi], t.rows[lo:hi:hi]
}

// Start returns how many keys lie in the bins before bin.
func (t *Table) Start(bin int) int { return t.ends[bin] }

// Duplicates returns how many keys equal an earlier one.
func (t *Table) Duplicates(ctx context.Context) (int, error) {
	var total atomic.Int64
	err := parallel.Each(ctx, t.Layout.Bins, 1, func() func(int, int) error {
		var seen []uint32 // open addressing, at most half full
		return func(bin, _ int) error {
			keys, _ := t.Bin(bin)
			size := 1
			for size < 2*len(keys) {
				size *= 2
			}
			if cap(seen) < size {
				seen = make([]uint32, size)
			}
			seen = seen[:size]
			clear(seen)
			for i := range keys {
				s := int(keys[i].Lo) & (size - 1)
				for seen[s] != 0 && keys[seen[s]-1] != keys[i] {
					s = (s + 1) & (size - 1)
				}
				if seen[s] != 0 {
					total.Add(1)
				}
				seen[s] = uint32(i) + 1
			}
			return nil
		}
	})
	return int(total.Load()), err
}

// places returns the three columns of a key, distinct, each triple as likely as
// any other but for a bias of columns/2^32.
func places(h gf128.Element, columns int) (a, b, c uint32) {
	m := uint64(columns)
	a = uint32(h.Lo & math.MaxUint32 * m >> 32)
	b = uint32(h.Hi >> 32 * (m - 1) >> 32)
	c = uint32(h.Hi & math.MaxUint32 * (m - 2) >> 32)
	if b >= a {
		b++
	}
	if c >= min(a, b) {
		c++
	}
	if c >= max(a, b) {
		c++
	}
	return a, b, c
}

// DecodeBin sets dst[i] to the value of key i of a bin under the bin's part p of
// a vector, which has Stride elements.
func (t *Table) DecodeBin(bin int, dst, p []gf128.Element) {
	keys, _ := t.Bin(bin)
	dst, p = dst[:len(keys)], p[:t.Layout.Stride()]
	var h [2 * block]gf128.Element
	var dense [block]uint64
	var sums [2]gf128.Element
	d := [denseColumns]gf128.Element(p[t.Layout.Columns:])
	for len(keys) > 0 {
		n := min(block, len(keys))
		t.hashes.Expand(h[:2*n], keys[:n], &sums)
		for i := range n {
			a, b, c := places(h[2*i], t.Layout.Columns)
			x, y, z := &p[a], &p[b], &p[c]
			dst[i] = gf128.Element{Lo: x.Lo ^ y.Lo ^ z.Lo, Hi: x.Hi ^ y.Hi ^ z.Hi}
			dense[i] = h[2*i+1].Lo
		}
		gf128.AddCubic(dst[:n], dense[:n], &d)
		dst, keys = dst[n:], keys[n:]
	}
}

// Values sets dst[i] to the value of keys[i], which is key number rows[i] of
// those that Encode was given. It may be called from several goroutines.
type Values func(dst, keys []gf128.Element, rows []int32)

// attempts bounds the seeds that Encode tries. The fourth is needed once in
// 2^120 times, unless something is wrong.
const attempts = 4

// Encode returns the vector of keys, which must be distinct, with values, and
// the table of the keys under the seed that worked. Places that no key needs
// are random, so that random values make a random vector. It holds the vector,
// 20.5 bytes a key, the table, and 5 MB for each processor.
func Encode(ctx context.Context, rnd io.Reader, keys []gf128.Element, values Values) ([]gf128.Element, *Table, error) {
	l, err := NewLayout(len(keys))
	if err != nil {
		return nil, nil, err
	}
	return encode(ctx, rnd, l, keys, values)
}

func encode(ctx context.Context, rnd io.Reader, l Layout, keys []gf128.Element, values Values) ([]gf128.Element, *Table, error) {
	p := make([]gf128.Element, l.Size())
	for try := range attempts {
		var seed Seed
		if _, err := io.ReadFull(rnd, seed[:]); err != nil {
			return nil, nil, fmt.Errorf("okvs: randomness: %w", err)
		}
		t, err := Arrange(ctx, l, seed, keys)
		if err != nil {
			return nil, nil, err
		}
		if try == 0 {
			if n, err := t.Duplicates(ctx); err != nil {
				return nil, nil, err
			} else if n > 0 {
				return nil, nil, fmt.Errorf("%w: %d of %d", ErrDuplicates, n, len(keys))
			}
		}
		switch err := t.encode(ctx, rnd, p, values); {
		case err == nil:
			return p, t, nil
		case !errors.Is(err, errSeed):
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("%w in %d attempts", ErrEncode, attempts)
}
