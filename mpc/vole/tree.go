package vole

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/gf128"
)

// grower expands trees of a shape: the GGM construction, each node's children
// being its hashes under two keys. It is for one goroutine.
//
// A tree is conveyed by the sums of the left and of the right nodes of each
// level, and by the sum of its leaves. The receiver is given one sum of each
// level, on the side off the path to its noise position, and so gets every leaf
// but one, and that one from the sum of all: plus Δ·y, because the sender has
// added m + Δ·y to that sum and the receiver takes off m.
type grower struct {
	prg    *aeshash.Pair
	widths []int // nodes of each level that are expanded; the last one's are leaves
	levels [2][]gf128.Element
}

func newGrower(prg *aeshash.Pair, s shape) *grower {
	g := &grower{prg: prg, widths: s.widths}
	for i := range g.levels {
		g.levels[i] = make([]gf128.Element, s.widths[len(s.widths)-1]+2)
	}
	return g
}

// expand writes the children of a level's nodes, into leaves if it is the last.
func (g *grower) expand(level int, nodes, leaves []gf128.Element) (children []gf128.Element, sums [2]gf128.Element) {
	children = g.levels[level&1]
	if level == len(g.widths)-2 {
		children = leaves
	}
	children = children[:2*len(nodes)]
	g.prg.Expand(children, nodes, &sums)
	return children, sums
}

// grow expands a root into leaves, which has room for two for each node of the
// level above, and appends what conveys the tree.
func (g *grower) grow(root gf128.Element, leaves, tree []gf128.Element) []gf128.Element {
	nodes := []gf128.Element{root}
	var sums [2]gf128.Element
	for l, w := range g.widths[:len(g.widths)-1] {
		nodes, sums = g.expand(l, nodes[:w], leaves)
		tree = append(tree, sums[0], sums[1])
	}
	return append(tree, sums[0].Add(sums[1]))
}

// punctured is what the receiver makes of a tree: pads open one sum of each
// level, and m is its part of the product.
func (g *grower) punctured(position int, tree, pads []gf128.Element, m gf128.Element, leaves []gf128.Element) {
	depth := len(g.widths) - 1
	nodes := make([]gf128.Element, 1) // the root is not known
	for l := range depth {
		at := position >> (depth - l)          // of the unknown node among nodes
		bit := position >> (depth - 1 - l) & 1 // the unknown child
		children, sums := g.expand(l, nodes[:g.widths[l]], leaves)
		// Both children of the unknown node are hashes of zero: off the sums.
		known, unknown := &children[2*at+1-bit], &children[2*at+bit]
		sum := pick(1-bit, tree[2*l], tree[2*l+1]).Add(pads[l])
		sibling := sum.Add(pick(1-bit, sums[0], sums[1])).Add(*known)
		rest := sums[0].Add(sums[1]).Add(*known).Add(*unknown).Add(sibling)
		*known, *unknown = sibling, gf128.Element{}
		if l == depth-1 {
			*unknown = tree[2*depth].Add(m).Add(rest)
		}
		nodes = children
	}
}

// pick returns a for 0 and b for 1, in constant time.
func pick(bit int, a, b gf128.Element) gf128.Element {
	mask := -uint64(bit)
	return gf128.Element{Lo: a.Lo ^ (a.Lo^b.Lo)&mask, Hi: a.Hi ^ (a.Hi^b.Hi)&mask}
}

// noise is the receiver's for one chunk: in each tree one position with a value.
type noise struct {
	positions []int
	values    []gf128.Element // then those of the checks
	choices   []byte          // for each tree and level, the side off the path; as bits
	m         []gf128.Element
	pads      []gf128.Element
}

func drawNoise(r io.Reader, s shape, checks int) (*noise, error) {
	e := &noise{
		positions: make([]int, s.trees),
		values:    make([]gf128.Element, s.trees+checks),
		choices:   make([]byte, (s.trees*s.depth()+7)/8),
	}
	if err := gf128.Random(r, e.values); err != nil {
		return nil, fmt.Errorf("vole: %w", err)
	}
	raw := make([]byte, 8*s.trees)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("vole: draw noise: %w", err)
	}
	at := 0
	for i := range e.positions {
		// The bias is below 2^-50, the interval being shorter than 2^14.
		hi, _ := bits.Mul64(binary.LittleEndian.Uint64(raw[8*i:]), uint64(s.size(i)))
		e.positions[i] = int(hi)
		for l := range s.depth() {
			side := 1 - e.positions[i]>>(s.depth()-1-l)&1
			e.choices[at>>3] |= byte(side << (at & 7))
			at++
		}
	}
	clear(raw)
	return e, nil
}
