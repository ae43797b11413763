package vole

import (
	mrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/gf128"
)

// plainLeaves computes each leaf by its own path from the root.
func plainLeaves(left, right *aeshash.Key, root gf128.Element, depth, n int) []gf128.Element {
	out := make([]gf128.Element, n)
	for i := range out {
		x := []gf128.Element{root}
		for l := depth - 1; l >= 0; l-- {
			key := left
			if i>>l&1 == 1 {
				key = right
			}
			key.Hash(x, x)
		}
		out[i] = x[0]
	}
	return out
}

// A shape with trees of one width.
func shapeOfWidth(w int) shape {
	s := shape{chunks: 1, k: w / 2, n: w, trees: 1, widths: []int{w}}
	for s.widths[0] > 1 {
		s.widths = slices.Insert(s.widths, 0, (s.widths[0]+1)/2)
	}
	return s
}

// Trees of every small width and of those in use, punctured at every position
// or at some: all leaves are the plain ones, but one that is off by the product.
func TestTrees(t *testing.T) {
	r := mrand.New(mrand.NewPCG(5, 6))
	key := func() *aeshash.Key { return aeshash.New(randomElements(r, 1)[0].Bytes()) }
	widths := []int{codes[DefaultCode].shape(1 << 20).widths[12], 1<<12 - 1, 1 << 12}
	for w := 2; w <= 40; w++ {
		widths = append(widths, w)
	}
	for _, w := range widths {
		s := shapeOfWidth(w)
		left, right := key(), key()
		g := newGrower(aeshash.NewPair(left, right), s)
		secret := randomElements(r, 3)
		root, product, m := secret[0], secret[1], secret[2] // the sender's part is product + m
		room := 2 * s.widths[s.depth()-1]
		leaves := make([]gf128.Element, room)
		tree := g.grow(root, leaves, nil)
		plain := plainLeaves(left, right, root, s.depth(), w)
		if !slices.Equal(leaves[:w], plain) {
			t.Fatalf("width %d: not the leaves of a plain tree", w)
		}
		if len(tree) != s.treeElements() || tree[len(tree)-1] != gf128.Sum(leaves) {
			t.Fatalf("width %d: not the sum of the leaves", w)
		}
		tree[len(tree)-1] = tree[len(tree)-1].Add(product).Add(m)
		pads := randomElements(r, 2*s.depth())
		for l := range 2 * s.depth() {
			tree[l] = tree[l].Add(pads[l])
		}
		step := max(1, w/40)
		for at := 0; at < w; at += step {
			open := make([]gf128.Element, s.depth())
			for l := range open {
				side := 1 - at>>(s.depth()-1-l)&1
				open[l] = pads[2*l+side]
			}
			got := randomElements(r, room)
			g.punctured(at, tree, open, m, got)
			got[at] = got[at].Add(product)
			if !slices.Equal(got[:w], plain) {
				t.Fatalf("width %d, position %d: leaves differ", w, at)
			}
		}
	}
}

func TestNoise(t *testing.T) {
	code, source := codes[DefaultCode], mrand.NewChaCha8([32]byte{1})
	for _, n := range []int{1, 30_000, 1 << 20} {
		s := code.shape(n)
		counts := make([]int, 16) // of the place in its interval, in sixteenths
		const draws = 20
		for range draws {
			e, err := drawNoise(source, s, 0)
			if err != nil {
				t.Fatal(err)
			}
			if len(e.positions) != code.weight || len(e.values) != code.weight {
				t.Fatalf("%d positions and %d values, want %d", len(e.positions), len(e.values), code.weight)
			}
			for i, p := range e.positions {
				if p < 0 || p >= s.size(i) || s.size(i) > s.widths[s.depth()] {
					t.Fatalf("position %d of an interval of %d", p, s.size(i))
				}
				counts[p*16/s.size(i)]++
				path := 0
				for l := range s.depth() {
					at := i*s.depth() + l
					path = path<<1 | int(1^e.choices[at>>3]>>(at&7)&1)
				}
				if path != p {
					t.Fatalf("the choices lead to %d, not %d", path, p)
				}
			}
		}
		if s.start(s.trees) != s.n {
			t.Errorf("intervals end at %d of %d", s.start(s.trees), s.n)
		}
		if n == 1<<20 { // long intervals: sixteenths are even
			if x := chiSquare(counts); x > 50 {
				t.Errorf("positions in sixteenths: chi-square %.1f of 15 degrees", x)
			}
		}
	}
}

func chiSquare(counts []int) (x float64) {
	total := 0
	for _, c := range counts {
		total += c
	}
	mean := float64(total) / float64(len(counts))
	for _, c := range counts {
		x += (float64(c) - mean) * (float64(c) - mean) / mean
	}
	return x
}

func TestShapes(t *testing.T) {
	code := codes[DefaultCode]
	for _, n := range []int{1, 4096, 4097, 1 << 20, ChunkElements, ChunkElements + 1, 10 * ChunkElements, MaxElements} {
		s := code.shape(n)
		switch {
		case s.chunks*s.k < n || s.k%block != 0 || s.k > ChunkElements+block:
			t.Errorf("%d elements: %d chunks of %d", n, s.chunks, s.k)
		case s.k > minElements && s.chunks*s.k > n+s.chunks*block:
			t.Errorf("%d elements: %d chunks of %d, too many", n, s.chunks, s.k)
		case s.widths[0] != 1 || s.trees != 848:
			t.Errorf("%d elements: %d trees with %d roots", n, s.trees, s.widths[0])
		}
		for l := 1; l < len(s.widths); l++ {
			if s.widths[l] > 2*s.widths[l-1] {
				t.Errorf("%d elements: level %d has %d nodes", n, l, s.widths[l])
			}
		}
	}
}
