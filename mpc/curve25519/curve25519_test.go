package curve25519

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"testing"

	fp "github.com/cloudflare/circl/math/fp25519"
)

func unhex(t testing.TB, s string) [32]byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		t.Fatalf("bad vector %q", s)
	}
	return [32]byte(b)
}

// bigEndian turns the RFC's numbers into our little-endian.
func bigEndian(t testing.TB, s string) [32]byte {
	b := unhex(t, s)
	slices.Reverse(b[:])
	return b
}

// RFC 9380, appendix J.4.2.
func TestRFC9380Vectors(t *testing.T) {
	h, err := NewHasher("QUUX-V01-CS02-with-" + Suite)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct{ msg, u, qx, px string }{
		{
			"",
			"608d892b641f0328523802a6603427c26e55e6f27e71a91a478148d45b5093cd",
			"51125222da5e763d97f3c10fcc92ea6860b9ccbbd2eb1285728f566721c1e65b",
			"1bb913f0c9daefa0b3375378ffa534bda5526c97391952a7789eb976edfe4d08",
		},
		{
			"abc",
			"46f5b22494bfeaa7f232cc8d054be68561af50230234d7d1d63d1d9abeca8da5",
			"7d56d1e08cb0ccb92baf069c18c49bb5a0dcd927eff8dcf75ca921ef7f3e6eeb",
			"7c22950b7d900fa866334262fcaea47a441a578df43b894b4625c9b450f9a026",
		},
		{
			"abcdef0123456789",
			"235fe40c443766ce7e18111c33862d66c3b33267efa50d50f9e8e5d252a40aaa",
			"3fbe66b9c9883d79e8407150e7c2a1c8680bee496c62fabe4619a72b3cabe90f",
			"31ad08a8b0deeb2a4d8b0206ca25f567ab4e042746f792f4b7973f3ae2096c52",
		},
		{
			"q128_" + strings.Repeat("q", 128),
			"001e92a544463bda9bd04ddbe3d6eed248f82de32f522669efc5ddce95f46f5b",
			"227e0bb89de700385d19ec40e857db6e6a3e634b1c32962f370d26f84ff19683",
			"027877759d155b1997d0d84683a313eb78bdb493271d935b622900459d52ceaa",
		},
		{
			"a512_" + strings.Repeat("a", 512),
			"1a68a1af9f663592291af987203393f707305c7bac9c8d63d6a729bdc553dc19",
			"3bcd651ee54d5f7b6013898aab251ee8ecc0688166fce6e9548d38472f6bd196",
			"5fd892c0958d1a75f54c3182a18d286efab784e774d1e017ba2fb252998b5dc1",
		},
	} {
		us := make([]FieldElement, 1)
		h.Clone().HashToField(&us[0], []byte(v.msg))
		if us[0] != bigEndian(t, v.u) {
			t.Errorf("%.10q: u = %x", v.msg, us[0])
		}
		q := make([]Point, 1)
		MapToCurve(q, us)
		if q[0] != bigEndian(t, v.qx) {
			t.Errorf("%.10q: Q.x = %x", v.msg, q[0])
		}
		p := oracleMul(q[0], big.NewInt(8))
		if p != bigEndian(t, v.px) {
			t.Errorf("%.10q: P.x = 8·Q.x = %x", v.msg, p)
		}
		// A scalar 8k' applied to Q is k' applied to the RFC's P.
		k := [32]byte{40, 31: 64}
		if got, want := mulOne(q[0], k), oracleMul(p, new(big.Int).Rsh(toBig(k[:]), 3)); got != want {
			t.Errorf("%.10q: (8k')·Q = %x, k'·P = %x", v.msg, got, want)
		}
	}
}

func mulOne(p Point, k [32]byte) Point {
	ps := []Point{p}
	newScalar(&k).Mul(ps, ps)
	return ps[0]
}

// RFC 7748, section 5.2.
func TestRFC7748Vectors(t *testing.T) {
	for _, v := range []struct{ k, in, out string }{
		{
			"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
			"e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
			"c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
		},
		{
			"4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
			"e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a413", // the top bit is masked
			"95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
		},
	} {
		if got := mulOne(unhex(t, v.in), unhex(t, v.k)); got != unhex(t, v.out) {
			t.Errorf("got %x, want %s", got, v.out)
		}
	}
	k, u := [32]byte{9}, [32]byte{9}
	for i := 1; i <= 1000; i++ {
		k, u = mulOne(u, k), k
		if i == 1 && k != unhex(t, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079") {
			t.Errorf("after 1 iteration: %x", k)
		}
	}
	if k != unhex(t, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51") {
		t.Errorf("after 1000 iterations: %x", k)
	}
}

// The oracle: the same formulas in math/big, with divisions.

var prime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))

func toBig(b []byte) *big.Int {
	b = bytes.Clone(b)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

func fromBig(x *big.Int) (p [32]byte) {
	x.FillBytes(p[:])
	slices.Reverse(p[:])
	return p
}

func mod(x *big.Int) *big.Int { return x.Mod(x, prime) }

func oracleG(x *big.Int) *big.Int {
	g := new(big.Int).Add(x, big.NewInt(486662))
	g.Mul(g, x).Add(g, big.NewInt(1))
	return mod(g.Mul(g, x))
}

func oracleMap(u *big.Int) *big.Int {
	xd := new(big.Int).Mul(u, u)
	xd.Lsh(xd, 1).Add(xd, big.NewInt(1)).ModInverse(mod(xd), prime)
	x := mod(new(big.Int).Mul(big.NewInt(-486662), xd))
	if big.Jacobi(oracleG(x), prime) == -1 {
		x = mod(x.Neg(x).Sub(x, big.NewInt(486662)))
	}
	return x
}

// oracleMul is the ladder of RFC 7748, section 5, without clamping.
func oracleMul(p Point, k *big.Int) Point {
	mul := func(a, b *big.Int) *big.Int { return mod(new(big.Int).Mul(a, b)) }
	add := func(a, b *big.Int) *big.Int { return mod(new(big.Int).Add(a, b)) }
	sub := func(a, b *big.Int) *big.Int { return mod(new(big.Int).Sub(a, b)) }
	x1 := mod(toBig(p[:]))
	x2, z2, x3, z3 := big.NewInt(1), big.NewInt(0), x1, big.NewInt(1)
	for t := k.BitLen() - 1; t >= 0; t-- {
		swap := k.Bit(t) == 1
		if swap {
			x2, x3, z2, z3 = x3, x2, z3, z2
		}
		a, b, c, d := add(x2, z2), sub(x2, z2), add(x3, z3), sub(x3, z3)
		aa, bb := mul(a, a), mul(b, b)
		e := sub(aa, bb)
		da, cb := mul(d, a), mul(c, b)
		x3, z3 = add(da, cb), sub(da, cb)
		x3, z3 = mul(x3, x3), mul(x1, mul(z3, z3))
		x2, z2 = mul(aa, bb), mul(e, add(aa, mul(big.NewInt(121665), e)))
		if swap {
			x2, x3, z2, z3 = x3, x2, z3, z2
		}
	}
	if z2.Sign() == 0 {
		return Point{}
	}
	return fromBig(mul(x2, new(big.Int).ModInverse(z2, prime)))
}

// elements returns n field elements: the corners first, the rest random.
func elements(n int, seed uint64) []FieldElement {
	r := mrand.New(mrand.NewPCG(seed, 0))
	pm := func(d int64) FieldElement { return fromBig(new(big.Int).Sub(prime, big.NewInt(d))) }
	es := []FieldElement{{0}, {1}, {2}, {18}, {19}, {255}, {0, 1}, pm(1), pm(2), pm(19), pm(1 << 40), {31: 0x40}, {31: 0x3f}}
	for len(es) < n {
		var e FieldElement
		for i := range e {
			e[i] = byte(r.Uint32())
		}
		es = append(es, fromBig(mod(toBig(e[:]))))
	}
	return es[:n]
}

func TestMapToCurveAgainstOracle(t *testing.T) {
	// Sizes around the batch and the width of vector code.
	for _, n := range []int{0, 1, 7, 8, 9, 63, 64, 65, 200} {
		us := elements(n, uint64(n))
		got := make([]Point, n)
		MapToCurve(got, us)
		for i := range us {
			if want := fromBig(oracleMap(toBig(us[i][:]))); got[i] != want {
				t.Fatalf("n %d, u %x: x = %x, want %x", n, us[i], got[i], want)
			}
		}
	}
}

func TestMulAgainstOracle(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 9, 16, 65} {
		s, err := NewScalar(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		k := toBig(s.k.Reveal())
		if k.BitLen() != 255 || k.TrailingZeroBits() < 3 {
			t.Fatalf("scalar of %d bits with %d trailing zeros", k.BitLen(), k.TrailingZeroBits())
		}
		src := make([]Point, n)
		for i, e := range elements(n, uint64(n)) {
			src[i] = Point(e) // any X: the curve's, the twist's, of low order
		}
		dst := make([]Point, n)
		s.Mul(dst, src)
		for i := range src {
			if want := oracleMul(src[i], k); dst[i] != want {
				t.Fatalf("n %d, x %x: %x, want %x", n, src[i], dst[i], want)
			}
		}
		s.Mul(src, src) // in place
		if !slices.Equal(src, dst) {
			t.Error("in place gives another result")
		}
	}
}

// Vector code and circl's must agree bit for bit, whatever the machine has.
func TestLanesAgreeWithGeneric(t *testing.T) {
	k := [32]byte{0x58, 1, 2, 3, 31: 0x61}
	src := make([]Point, 64)
	for i, e := range elements(len(src), 7) {
		src[i] = Point(e)
	}
	want := make([]Point, len(src))
	mulGeneric(want, src, &k)
	got := make([]Point, len(src))
	if n := mulLanes(got, src, &k); !slices.Equal(got[:n], want[:n]) {
		t.Error("products differ")
	}
	zs := make([]fp.Elt, len(src))
	ws := make([]fp.Elt, len(src))
	for i := range src {
		zs[i] = fp.Elt(src[i])
		ws[i] = zs[i]
		legendre(&ws[i])
	}
	if n := legendreLanes(zs); !slices.Equal(zs[:n], ws[:n]) {
		t.Error("Legendre symbols differ")
	}
}

func TestMultiplicationCommutes(t *testing.T) {
	h, _ := NewHasher("test")
	us, ps := make([]FieldElement, 9), make([]Point, 9)
	for i := range us {
		h.HashToField(&us[i], fmt.Append(nil, i))
	}
	MapToCurve(ps, us)
	a, _ := NewScalar(rand.Reader)
	b, _ := NewScalar(rand.Reader)
	ab, ba := slices.Clone(ps), slices.Clone(ps)
	a.Mul(ab, ab)
	b.Mul(ab, ab)
	b.Mul(ba, ba)
	a.Mul(ba, ba)
	if !slices.Equal(ab, ba) {
		t.Error("ab and ba differ")
	}
	if slices.Equal(ab, ps) || ab[0] == ab[1] {
		t.Error("products do not depend on scalar and point")
	}
}

func TestHasherSeparatesDomains(t *testing.T) {
	var a, b, c FieldElement
	h1, _ := NewHasher("domain 1")
	h2, _ := NewHasher("domain 2")
	h1.HashToField(&a, []byte("item"))
	h2.HashToField(&b, []byte("item"))
	h1.HashToField(&c, []byte("item"))
	if a == b || a != c {
		t.Error("a domain separation tag has no effect, or a hasher keeps state")
	}
	for _, dst := range []string{"", strings.Repeat("x", 256)} {
		if _, err := NewHasher(dst); err == nil {
			t.Errorf("a tag of %d bytes was taken", len(dst))
		}
	}
}

// curvePoints returns n points as a peer would send them.
func curvePoints(t testing.TB, n int) []Point {
	us := make([]FieldElement, n)
	h, err := NewHasher("check")
	if err != nil {
		t.Fatal(err)
	}
	for i := range us {
		h.HashToField(&us[i], fmt.Append(nil, i))
	}
	ps := make([]Point, n)
	MapToCurve(ps, us)
	k, err := NewScalar(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k.Mul(ps, ps)
	return ps
}

func TestCheckAcceptsHonestPoints(t *testing.T) {
	for _, n := range []int{0, 1, 3, 4, 5, 300, CheckBlock/4 - 1, CheckBlock / 4, CheckBlock/4 + 1, CheckBlock/4 + 37} {
		if err := Check(curvePoints(t, n), rand.Reader); err != nil {
			t.Errorf("%d points: %v", n, err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	twist := Point{2}
	for big.Jacobi(oracleG(toBig(twist[:])), prime) != -1 {
		twist[0]++
	}
	topBit := curvePoints(t, 1)[0]
	topBit[31] |= 0x80
	bad := map[string]Point{
		"twist":              twist,
		"zero":               {},
		"one":                {1},
		"minus one":          fromBig(new(big.Int).Sub(prime, big.NewInt(1))),
		"order 8":            lowOrder[2],
		"order 8, the other": lowOrder[3],
		"p":                  fromBig(prime),
		"p+1":                fromBig(new(big.Int).Add(prime, big.NewInt(1))),
		"top bit":            topBit,
		"all ones":           Point(bytes.Repeat([]byte{0xff}, 32)),
	}
	for name, p := range bad {
		for _, n := range []int{1, 2, 4, 6, 131} {
			for _, at := range []int{0, n / 2, n - 1} {
				ps := curvePoints(t, n)
				ps[at] = p
				if err := Check(ps, rand.Reader); !errors.Is(err, ErrPoint) {
					t.Errorf("%s at %d of %d: %v", name, at, n, err)
				}
			}
		}
	}
	// Two bad points in one group must not cancel out.
	ps := curvePoints(t, 8)
	ps[1], ps[2] = twist, twist
	if err := Check(ps, rand.Reader); !errors.Is(err, ErrPoint) {
		t.Errorf("two points of the twist: %v", err)
	}
	many := curvePoints(t, CheckBlock/4+21)
	for _, ps := range [][]Point{ps[:1], many} {
		if err := Check(ps, bytes.NewReader(nil)); err == nil || errors.Is(err, ErrPoint) {
			t.Errorf("%d points without randomness: %v", len(ps), err)
		}
	}
	// As many as are checked together: anywhere, and two that share what they can.
	for _, at := range [][]int{{0}, {7}, {8}, {31}, {32}, {999}, {len(many) - 22}, {len(many) - 1}, {5, 13}, {40, 41}, {64, 96}} {
		ps := slices.Clone(many)
		for _, i := range at {
			ps[i] = twist
		}
		if err := Check(ps, rand.Reader); !errors.Is(err, ErrPoint) {
			t.Errorf("points of the twist at %v of %d: %v", at, len(ps), err)
		}
	}
}

// A point off the curve passes one round of two, in vector code and without.
func TestCheckDrawsEverySubset(t *testing.T) {
	twist := Point{2}
	for big.Jacobi(oracleG(toBig(twist[:])), prime) != -1 {
		twist[0]++
	}
	many := curvePoints(t, CheckBlock/4)
	many[17] = twist
	// The bits of its group, in all rounds: with none drawn, it passes.
	if err := Check(many, bytes.NewReader(make([]byte, 1<<20))); err != nil {
		t.Errorf("a test of no points: %v", err)
	}
	for round := range checkRounds {
		bits := make([]byte, 1<<20)
		for group := range 20_000 {
			bits[20*group+round/2] = 15 << (4 * (round & 1))
		}
		if err := Check(many, bytes.NewReader(bits)); !errors.Is(err, ErrPoint) {
			t.Errorf("all points in round %d: %v", round, err)
		}
	}
}

// Around 2^255-19, with every word that can tell.
func TestEncodings(t *testing.T) {
	for d := int64(-40); d <= 40; d++ {
		p := fromBig(new(big.Int).Add(prime, big.NewInt(d)))
		for _, flip := range []int{-1, 3, 11, 20, 28} {
			q := Point(p)
			if flip >= 0 {
				q[flip] ^= 1
			}
			want := toBig(q[:]).Cmp(prime) < 0 && !slices.Contains(lowOrder[:], q)
			if err := checkEncoding(&q); (err == nil) != want {
				t.Errorf("p%+d, byte %d flipped: %v", d, flip, err)
			}
		}
	}
}

// Each low-order point is cleared by every scalar, which is why it is refused;
// and nothing else that Check accepts is.
func TestLowOrderPointsAreThoseThatVanish(t *testing.T) {
	for _, p := range lowOrder {
		if got := mulOne(p, [32]byte{0x38, 31: 0x52}); got != (Point{}) {
			t.Errorf("%x times a scalar is %x", p, got)
		}
	}
	for _, p := range curvePoints(t, 20) {
		if mulOne(p, [32]byte{0x38, 31: 0x52}) == (Point{}) {
			t.Errorf("%x vanished", p)
		}
	}
}

func TestScalarIsNotPrinted(t *testing.T) {
	s, _ := NewScalar(bytes.NewReader(bytes.Repeat([]byte{0x41}, 32)))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if out := fmt.Sprintf(verb, s) + fmt.Sprintf(verb, *s); strings.Contains(out, "AAAA") || strings.Contains(out, "4141") || strings.Contains(out, "65 65") {
			t.Errorf("%s prints %q", verb, out)
		}
	}
	if _, err := NewScalar(bytes.NewReader(make([]byte, 31))); err == nil {
		t.Error("a scalar from 31 bytes")
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(make([]byte, 32))
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	p := curvePoints(f, 2)
	f.Add(append(p[0][:], p[1][:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		ps := make([]Point, min(len(b)/32, 8))
		good := true
		for i := range ps {
			ps[i] = Point(b[32*i:])
			x := toBig(ps[i][:])
			good = good && x.Cmp(prime) < 0 && big.Jacobi(oracleG(x), prime) == 1 && !slices.Contains(lowOrder[:], ps[i])
		}
		if err := Check(ps, rand.Reader); (err == nil) != good {
			t.Fatalf("Check: %v, the oracle says %v", err, good)
		}
	})
}

// Every Benchmark reports the time of one element.

const benchPoints = 256

func perPoint(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchPoints, "ns/point")
}

func BenchmarkHashToField(b *testing.B) {
	h, _ := NewHasher("yinqiao benchmark with a tag of the usual length, 84 bytes long or nearly so at least.")
	var u FieldElement
	for b.Loop() {
		for range benchPoints {
			h.HashToField(&u, []byte("440106199901011234"))
		}
	}
	perPoint(b)
}

func BenchmarkMapToCurve(b *testing.B) {
	us, ps := elements(benchPoints, 1), make([]Point, benchPoints)
	for b.Loop() {
		MapToCurve(ps, us)
	}
	perPoint(b)
}

func BenchmarkMul(b *testing.B) {
	ps := curvePoints(b, benchPoints)
	k, _ := NewScalar(rand.Reader)
	for b.Loop() {
		k.Mul(ps, ps)
	}
	perPoint(b)
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{benchPoints, CheckBlock} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ps := curvePoints(b, n)
			for b.Loop() {
				if err := Check(ps, rand.Reader); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/point")
		})
	}
}
