//go:build amd64 && !purego

package curve25519

import (
	"encoding/binary"
	"io"

	fp "github.com/cloudflare/circl/math/fp25519"
	"golang.org/x/sys/cpu"
)

// Processors with AVX-512 IFMA (Ice Lake, Zen 4 and later) compute on eight
// points at a time: a quarter of the time of circl's ladder. Everywhere else,
// and for what does not fill eight lanes, circl's code does the same; a test
// holds the two to each other.

var hasIFMA = cpu.X86.HasAVX512F && cpu.X86.HasAVX512IFMA

const lanes = 8

// fe8 is eight field elements: limb k of element e is [k][e], weight 2^(51k),
// below 2^51 + 2^15.
type fe8 [5][lanes]uint64

//go:noescape
func mul8(z, x, y *fe8)

//go:noescape
func squares8(z, x *fe8, n int)

//go:noescape
func ladderStep8(w *[7]fe8, b uint64)

const mask51 = 1<<51 - 1

func (z *fe8) set(e int, x *fp.Elt) {
	a, b := binary.LittleEndian.Uint64(x[0:]), binary.LittleEndian.Uint64(x[8:])
	c, d := binary.LittleEndian.Uint64(x[16:]), binary.LittleEndian.Uint64(x[24:])
	z[0][e] = a & mask51
	z[1][e] = (a>>51 | b<<13) & mask51
	z[2][e] = (b>>38 | c<<26) & mask51
	z[3][e] = (c>>25 | d<<39) & mask51
	z[4][e] = d >> 12 // 52 bits: an Elt may reach 2^256
}

// get sets x to element e, reduced.
func (z *fe8) get(x *fp.Elt, e int) {
	l0, l1, l2, l3, l4 := z[0][e], z[1][e], z[2][e], z[3][e], z[4][e]
	for range 2 { // the second time for what wrapped round
		l1 += l0 >> 51
		l2 += l1 >> 51
		l3 += l2 >> 51
		l4 += l3 >> 51
		l0 = l0&mask51 + 19*(l4>>51)
		l1, l2, l3, l4 = l1&mask51, l2&mask51, l3&mask51, l4&mask51
	}
	binary.LittleEndian.PutUint64(x[0:], l0|l1<<51)
	binary.LittleEndian.PutUint64(x[8:], l1>>13|l2<<38)
	binary.LittleEndian.PutUint64(x[16:], l2>>26|l3<<25)
	binary.LittleEndian.PutUint64(x[24:], l3>>39|l4<<12)
	fp.Modp(x)
}

// mulLanes multiplies as many of src as fill all lanes, and returns how many.
func mulLanes(dst, src []Point, k *[Size]byte) int {
	if !hasIFMA {
		return 0
	}
	done := 0
	for len(src)-done >= lanes {
		n := min((len(src)-done)/lanes, batch/lanes) * lanes
		ladders(dst[done:done+n], src[done:done+n], k)
		done += n
	}
	return done
}

// ladders is mulLanes for at most batch points, a multiple of lanes.
func ladders(dst, src []Point, k *[Size]byte) {
	var xs, zs [batch / lanes]fe8
	groups := len(src) / lanes
	for g := range groups {
		ladder(&xs[g], &zs[g], (*[lanes]Point)(src[g*lanes:]), k)
	}
	// X/Z for all of them with one inversion (Montgomery's trick, lane by
	// lane). A point of low order has Z = 0, and 0 for its multiple.
	for g := range groups {
		zs[g].clearZeros(&xs[g])
	}
	var prefix [batch / lanes]fe8
	prefix[0] = zs[0]
	for g := 1; g < groups; g++ {
		mul8(&prefix[g], &prefix[g-1], &zs[g])
	}
	var inv, t fe8
	invert8(&inv, &prefix[groups-1])
	for g := groups - 1; g >= 0; g-- {
		t = inv
		if g > 0 {
			mul8(&t, &inv, &prefix[g-1])
			mul8(&inv, &inv, &zs[g])
		}
		mul8(&xs[g], &xs[g], &t)
		for e := range lanes {
			xs[g].get((*fp.Elt)(&dst[g*lanes+e]), e)
		}
	}
}

func ladder(x, z *fe8, points *[lanes]Point, k *[Size]byte) {
	var w [7]fe8 // x1, x2, z2, x3, z3 and scratch
	for e := range points {
		p := fp.Elt(points[e])
		p[Size-1] &= 0x7f
		w[0].set(e, &p)
		w[1][0][e] = 1
		w[4][0][e] = 1
	}
	w[3] = w[0]
	// k ends with three zero bits, so that the last selection is of (x2:z2).
	last := uint64(0)
	for s := 254; s >= 0; s-- {
		bit := uint64(k[s/8]>>(s%8)) & 1
		ladderStep8(&w, last^bit)
		last = bit
	}
	*x, *z = w[1], w[2]
}

// clearZeros sets the lanes in which z is zero to one, and x there to zero.
func (z *fe8) clearZeros(x *fe8) {
	for e := range lanes {
		var v fp.Elt
		if z.get(&v, e); v != (fp.Elt{}) {
			continue
		}
		for k := range z {
			z[k][e], x[k][e] = 0, 0
		}
		z[0][e] = 1
	}
}

// power250 sets z to x^(2^250 - 1), and x11 to x^11.
func power250(z, x11, x *fe8) {
	var a, b, c fe8
	squares8(&a, x, 1)   // 2
	squares8(&b, &a, 2)  // 8
	mul8(&b, &b, x)      // 9
	mul8(x11, &a, &b)    // 11
	squares8(&a, x11, 1) // 22
	mul8(&a, &a, &b)     // 31 = 2^5 - 1
	squares8(&b, &a, 5)
	mul8(&a, &a, &b) // 2^10 - 1
	squares8(&b, &a, 10)
	mul8(&b, &b, &a) // 2^20 - 1
	squares8(&c, &b, 20)
	mul8(&b, &b, &c) // 2^40 - 1
	squares8(&b, &b, 10)
	mul8(&a, &a, &b) // 2^50 - 1
	squares8(&b, &a, 50)
	mul8(&b, &b, &a) // 2^100 - 1
	squares8(&c, &b, 100)
	mul8(&b, &b, &c) // 2^200 - 1
	squares8(&b, &b, 50)
	mul8(z, &a, &b) // 2^250 - 1
}

// invert8 sets z to x^(p-2) = x^(2^255 - 21).
func invert8(z, x *fe8) {
	var a, x11 fe8
	power250(&a, &x11, x)
	squares8(&a, &a, 5)
	mul8(z, &a, &x11) // 2^255 - 32 + 11
}

// legendreLanes replaces as many elements as fill all lanes by their Legendre
// symbols, and returns how many.
func legendreLanes(zs []fp.Elt) int {
	if !hasIFMA {
		return 0
	}
	done := 0
	for ; len(zs)-done >= lanes; done += lanes {
		var x fe8
		for e := range lanes {
			x.set(e, &zs[done+e])
		}
		legendre8(&x)
		for e := range lanes {
			x.get(&zs[done+e], e)
		}
	}
	return done
}

// legendre8 sets x to x^((p-1)/2) = x^(2^254 - 10).
func legendre8(x *fe8) {
	var a, x6, x11 fe8
	power250(&a, &x11, x)
	squares8(&a, &a, 4)
	squares8(&x6, x, 1)
	mul8(&x6, &x6, x)
	squares8(&x6, &x6, 1)
	mul8(x, &a, &x6) // 2^254 - 16 + 6
}

// checkLanes is checkGeneric with a test of its own in each lane, for every
// eighth point: 320 symbols instead of 40 at the end, and before that an eighth
// of the products. All lanes take the same subsets.
func checkLanes(points []Point, rand io.Reader) (bool, error) {
	var one fe8
	for e := range lanes {
		one[0][e] = 1
	}
	var products [checkRounds]fe8
	for r := range products {
		products[r] = one
	}
	var subset [1 << checkGroup]fe8
	var bits [checkRounds * checkGroup / 8]byte
	for len(points) > 0 {
		if _, err := io.ReadFull(rand, bits[:]); err != nil {
			return false, err
		}
		for i := range checkGroup {
			n := min(lanes, len(points))
			g := &subset[1<<i]
			g.curveG(points[:n])
			points = points[n:]
			for e := n; e < lanes; e++ { // nothing: a square
				for k := range g {
					g[k][e] = one[k][e]
				}
			}
			for m := 1; m < 1<<i; m++ {
				mul8(&subset[1<<i|m], &subset[m], g)
			}
		}
		for r := range products {
			if m := bits[r/2] >> (4 * (r & 1)) & 15; m != 0 {
				mul8(&products[r], &products[r], &subset[m])
			}
		}
	}
	for r := range products {
		legendre8(&products[r])
		for e := range lanes {
			var v fp.Elt
			if products[r].get(&v, e); v != (fp.Elt{1}) {
				return false, nil
			}
		}
	}
	return true, nil
}

// curveG sets the lanes of z to x³ + Jx² + x of up to eight points.
func (z *fe8) curveG(points []Point) {
	var x, t fe8
	for e := range points {
		x.set(e, (*fp.Elt)(&points[e]))
	}
	// Sums stay below the 52 bits that a product reads.
	t = x
	for e := range lanes {
		t[0][e] += 486662
	}
	mul8(&t, &t, &x)
	for e := range lanes {
		t[0][e]++
	}
	mul8(z, &t, &x)
}
