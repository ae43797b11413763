package vole

import (
	"context"
	"fmt"
	"math"
	mrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
)

func randomElements(r *mrand.Rand, n int) []gf128.Element {
	v := make([]gf128.Element, n)
	for i := range v {
		v[i] = gf128.Element{Lo: r.Uint64(), Hi: r.Uint64()}
	}
	return v
}

// order returns where each place of the result of p comes from.
func (p *permutation) order() []int {
	from := make([]int, len(p.bucket))
	members := make([][]int, len(p.off)-1)
	for i, b := range p.bucket {
		members[b] = append(members[b], i)
	}
	for b, m := range members {
		for j := range m {
			at := int(p.off[b]) + j
			from[at] = m[p.local[at]]
		}
	}
	return from
}

// plainEncode is the code as docs/protocols/vole.md defines it. The binary form
// has plain sums where the code in use multiplies by X at each step.
func plainEncode(t *tables, v []gf128.Element, binary bool) []gf128.Element {
	for _, p := range []*permutation{&t.first, &t.second} {
		var sum gf128.Element
		sums := make([]gf128.Element, len(v))
		for i := range v {
			if !binary {
				sum = sum.Mul(gf128.Element{Lo: 2})
			}
			sum = sum.Add(v[i])
			sums[i] = sum
		}
		v = make([]gf128.Element, len(v))
		for i, j := range p.order() {
			v[i] = sums[j]
		}
	}
	out := make([]gf128.Element, t.k)
	for i := range out {
		z := v[i/block*2*block:]
		out[i] = z[i%block]
		for c := range block {
			if t.blocks[i]>>c&1 == 1 {
				out[i] = out[i].Add(z[block+c])
			}
		}
	}
	return out
}

func encode(ctx context.Context, e compressor, s shape, v []gf128.Element) ([]gf128.Element, error) {
	err := e.run(ctx, func(i int, leaves []gf128.Element) {
		copy(leaves, v[s.start(i):s.start(i+1)])
	})
	if err != nil {
		return nil, err
	}
	out := make([]gf128.Element, s.k)
	return out, e.finish(ctx, out)
}

func TestEncodeAgainstPlain(t *testing.T) {
	r := mrand.New(mrand.NewPCG(1, 2))
	code := codes[DefaultCode]
	for _, n := range []int{1, 5000, 20000, 50001} {
		s := code.shape(n)
		enc, err := newEncoder(code, s)
		if err != nil {
			t.Fatal(err)
		}
		defer enc.close()
		for range 2 { // the second time with what the first has left
			v := randomElements(r, s.n)
			got, err := encode(t.Context(), enc, s, v)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, plainEncode(enc.(*encoder).t, v, false)) {
				t.Fatalf("%d elements: not what the definition gives", n)
			}
		}
	}
}

func TestMultiplyBlockAgainstGeneric(t *testing.T) {
	r := mrand.New(mrand.NewPCG(3, 4))
	for i := range 50 {
		var got, want [block]gf128.Element
		var scratch [4 * block]gf128.Element
		z := [2 * block]gf128.Element(randomElements(r, 2*block))
		var m [block]uint64
		for j := range m {
			m[j] = r.Uint64() >> (i % 64)
		}
		multiplyBlock(&got, &z, &m, &scratch)
		multiplyBlockGeneric(&want, &z, &m, &scratch)
		if got != want {
			t.Fatal("assembly and Go differ")
		}
	}
}

func TestPermutations(t *testing.T) {
	for _, n := range []int{128, 1 << bucketBits, 1<<bucketBits + 2, 100_000} {
		p, err := newPermutation(newPublicStream("test", n, "p"), n)
		if err != nil {
			t.Fatal(err)
		}
		seen := make([]bool, n)
		sum := 0.0
		for i, j := range p.order() {
			if seen[j] {
				t.Fatalf("n = %d: %d occurs twice", n, j)
			}
			seen[j] = true
			d := float64(i - j)
			sum += d * d / float64(n) / float64(n)
		}
		// The mean square distance of uniform permutations is n²/6; its standard
		// deviation is about n²·0.2/√n.
		if mean := sum / float64(n); mean < 1.0/6-1.4/math.Sqrt(float64(n)) || mean > 1.0/6+1.4/math.Sqrt(float64(n)) {
			t.Errorf("n = %d: mean square distance %.4f n²", n, mean)
		}
	}
}

// A change of the tables is a change of the code, and needs a new name.
func TestTablesArePinned(t *testing.T) {
	tab, err := newTables(DefaultCode, 4096)
	if err != nil {
		t.Fatal(err)
	}
	v := make([]gf128.Element, 8192)
	for i := range v {
		v[i] = gf128.Element{Lo: uint64(i) * 0x9e3779b97f4a7c15, Hi: uint64(i)}
	}
	sum := gf128.SumX(plainEncode(tab, v, false))
	if got, want := fmt.Sprintf("%x", sum.Bytes()), "1b9ebf6b8d042fc58b88ed276bb3a0dc"; got != want {
		t.Errorf("digest of the tables %s, want %s", got, want)
	}
}

// plainCompressor is another code to plug in: the same construction without
// multiplication by X and without any of the encoder's order of work.
type plainCompressor struct {
	s shape
	v []gf128.Element
}

func newPlainCompressor(_ *code, s shape) (compressor, error) { return &plainCompressor{s: s}, nil }

func (p *plainCompressor) run(_ context.Context, grow func(int, []gf128.Element)) error {
	p.v = p.v[:0]
	leaves := make([]gf128.Element, p.s.room())
	for i := range p.s.trees {
		grow(i, leaves)
		p.v = append(p.v, leaves[:p.s.size(i)]...)
	}
	return nil
}

func (p *plainCompressor) finish(_ context.Context, out []gf128.Element) error {
	t, err := newTables("test.plain", p.s.k)
	if err == nil {
		copy(out, plainEncode(t, p.v, true))
	}
	return err
}

func (p *plainCompressor) close() {}
