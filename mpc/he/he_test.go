package he

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/tuneinsight/lattigo/v5/ring"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

// testRand is reproducible randomness for one test.
func testRand(t testing.TB, salt byte) io.Reader {
	var key [share.KeySize]byte
	copy(key[:], t.Name())
	key[share.KeySize-1] = salt
	return share.KeyedStream(&key)
}

func testMath(t testing.TB) *rand.Rand {
	var b [16]byte
	io.ReadFull(testRand(t, 0xff), b[:])
	return rand.New(rand.NewPCG(uint64(b[0])<<8|uint64(b[1]), uint64(b[2])))
}

func open(t testing.TB, id ParamID, flood Flood) *Scheme {
	t.Helper()
	s, err := Open(id, flood)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

var allSets = []ParamID{Forward36, Forward36Wide, Forward38, Forward38Wide, Backward104, SlotA45, SlotB45, SlotA45Wide, SlotB45Wide}

// negacyclic adds coefficient k of m·x mod X^N + 1 to sum.
func negacyclic(sum *big.Int, m []*big.Int, x map[int]int64, k int) {
	var t big.Int
	for i, v := range x {
		j := k - i
		sign := int64(1)
		if j < 0 {
			j += Degree
			sign = -1
		}
		if j < len(m) {
			sum.Add(sum, t.Mul(m[j], big.NewInt(sign*v)))
		}
	}
}

// TestKernelsAreExact multiplies extreme and random messages by sparse extreme
// plaintexts in every parameter set, through the frames, and compares with
// big.Int.
func TestKernelsAreExact(t *testing.T) {
	for _, id := range allSets {
		t.Run(string(id), func(t *testing.T) {
			t.Parallel()
			s := open(t, id, Flood{Opened: 1 << 12})
			rng := testMath(t)
			mod := s.modulusBig()
			top := share.FromBig(new(big.Int).Sub(mod, big.NewInt(1)))
			half := share.FromBig(new(big.Int).Rsh(mod, 1))
			sk, pk0, err := s.GenerateKeys(testRand(t, 1))
			if err != nil {
				t.Fatal(err)
			}
			pk := must[*PublicKey](t)(s.UnmarshalPublicKey(pk0.Marshal()))
			acc := s.NewAccumulator()
			want := make(map[int]*big.Int)
			var pos []int
			for j := 0; j < Degree; j += 1 + rng.IntN(900) {
				pos = append(pos, j)
				want[j] = new(big.Int)
			}
			var ms [][]*big.Int
			var xs []map[int]int64
			for term := range 3 {
				n := []int{Degree, 1, 4099}[term]
				m := make([]share.Word, n)
				mb := make([]*big.Int, n)
				for i := range m {
					switch rng.IntN(5) {
					case 0:
						m[i] = top
					case 1:
						m[i] = half
					case 2:
						m[i] = half.Add(share.FromInt64(1))
					case 3:
						m[i] = share.Word{}
					default:
						m[i] = share.FromBig(new(big.Int).Mod(share.Word{Hi: rng.Uint64(), Lo: rng.Uint64()}.Big(), mod))
					}
					mb[i] = m[i].Big()
				}
				x := map[int]int64{0: -1 << 17, Degree - 1: 1<<17 - 1}
				for range 60 {
					x[rng.IntN(Degree)] = int64(rng.IntN(1<<18)) - 1<<17
				}
				coeffs := make([]int64, Degree)
				for i, v := range x {
					coeffs[i] = v
				}
				r := must[*Request](t)(sk.Encrypt(testRand(t, byte(2+term)), m))
				frame := r.Marshal()
				if len(frame) != s.RequestSize() {
					t.Fatalf("request of %d bytes, announced %d", len(frame), s.RequestSize())
				}
				c := must[*Ciphertext](t)(s.Expand(must[*Request](t)(s.UnmarshalRequest(frame))))
				if err := acc.MulAdd(c, must[*Plain](t)(s.EncodePlain(coeffs))); err != nil {
					t.Fatal(err)
				}
				ms, xs = append(ms, mb), append(xs, x)
			}
			mask := make([]share.Word, len(pos))
			for i, j := range pos {
				mask[i] = share.FromBig(new(big.Int).Mod(share.Word{Hi: rng.Uint64(), Lo: rng.Uint64()}.Big(), mod))
				if i == 0 {
					mask[i] = top
				}
				sum := want[j].Set(mask[i].Big())
				for k := range ms {
					negacyclic(sum, ms[k], xs[k], j)
				}
				sum.Mod(sum, mod)
			}
			frame := must[*Response](t)(s.Respond(testRand(t, 9), acc, pk, pos, mask)).Marshal()
			if len(frame) != s.ResponseSize(len(pos)) {
				t.Fatalf("response of %d bytes, announced %d", len(frame), s.ResponseSize(len(pos)))
			}
			got, margin, err := sk.Decrypt(must[*Response](t)(s.UnmarshalResponse(frame, len(pos))), pos)
			if err != nil {
				t.Fatal(err)
			}
			for i, j := range pos {
				if got[i].Big().Cmp(want[j]) != 0 {
					t.Fatalf("coefficient %d: got %v, want %v", j, got[i].Big(), want[j])
				}
			}
			if margin.Bits < MinMargin || float64(margin.Bits) < math.Floor(s.Margin()) {
				t.Fatalf("margin of %d bits, computed %.2f", margin.Bits, s.Margin())
			}
			t.Logf("log Q %.1f, flooding %d, margin measured %d, worst %.2f", s.LogQ(), s.Flood().Bits, margin.Bits, s.Margin())
		})
	}
}

func TestSlotsMultiplyEntryByEntry(t *testing.T) {
	for _, id := range []ParamID{SlotA45, SlotB45} {
		s := open(t, id, Flood{Opened: Degree})
		sk, pk, err := s.GenerateKeys(testRand(t, 1))
		if err != nil {
			t.Fatal(err)
		}
		rng := testMath(t)
		tt := s.modulusBig()
		want := make([]*big.Int, Degree)
		for i := range want {
			want[i] = new(big.Int)
		}
		acc := s.NewAccumulator()
		for term := range 16 {
			a, b := make([]int64, Degree), make([]int64, Degree-3)
			for i := range a {
				a[i] = rng.Int64() - rng.Int64()
				if i%7 == 0 {
					a[i] = []int64{math.MinInt64, math.MaxInt64, -1, 0}[rng.IntN(4)]
				}
			}
			for i := range b {
				b[i] = int64(rng.IntN(1<<15)) - 1<<14
			}
			m := must[[]share.Word](t)(s.SlotsToCoeffs(a))
			c := must[*Ciphertext](t)(s.Expand(must[*Request](t)(sk.Encrypt(testRand(t, byte(10+term)), m))))
			p := must[*Plain](t)(s.EncodePlainSlots(b))
			if worst := s.SlotLoad(1); p.Load().L1 > worst.L1 || p.Load().L2Sq > worst.L2Sq {
				t.Fatal("a slot plaintext is heavier than the stated worst case")
			}
			if err := acc.MulAdd(c, p); err != nil {
				t.Fatal(err)
			}
			for i := range b {
				want[i].Add(want[i], new(big.Int).Mul(big.NewInt(a[i]), big.NewInt(b[i])))
			}
		}
		rho := make([]int64, Degree)
		pos := make([]int, Degree)
		for i := range rho {
			rho[i], pos[i] = rng.Int64(), i
			want[i].Add(want[i], big.NewInt(rho[i])).Mod(want[i], tt)
		}
		r := must[*Response](t)(s.Respond(testRand(t, 2), acc, pk, pos, must[[]share.Word](t)(s.SlotsToCoeffs(rho))))
		w, margin, err := sk.Decrypt(r, pos)
		if err != nil {
			t.Fatal(err)
		}
		got := must[[]uint64](t)(s.CoeffsToSlots(w))
		for i := range got {
			if got[i] != want[i].Uint64() {
				t.Fatalf("slot %d: got %d, want %v", i, got[i], want[i])
			}
		}
		if margin.Bits < MinMargin {
			t.Fatalf("margin of %d bits", margin.Bits)
		}
	}
}

// TestManyTermsFoldWithoutWrapping pushes an accumulator past the number of
// products that fit unreduced.
func TestManyTermsFoldWithoutWrapping(t *testing.T) {
	s := open(t, SlotA45Wide, Flood{Opened: 1})
	l := &s.limbs[0]
	accA, accB := make([]wide, 1), make([]wide, 1)
	row := []uint64{l.Q - 1}
	want := new(big.Int)
	for range lazyTerms {
		mulAddRow(accA, accB, row, row, row)
		want.Add(want, new(big.Int).Mul(new(big.Int).SetUint64(row[0]), new(big.Int).SetUint64(row[0])))
	}
	if got := (share.Word{Hi: accA[0].hi, Lo: accA[0].lo}).Big(); got.Cmp(want) != 0 {
		t.Fatal("a full accumulator wrapped")
	}
	want.Mod(want, new(big.Int).SetUint64(l.Q))
	if l.reduce(accB[0]) != want.Uint64() {
		t.Fatal("reduction is wrong")
	}
	a := s.NewAccumulator()
	for i := range s.limbs {
		for j := range a.c0[i] {
			a.c0[i][j], a.c1[i][j] = accA[0], accB[0]
		}
	}
	a.terms = lazyTerms
	one := ringq.NewPoly(len(s.limbs), Degree)
	for i := range one {
		one[i][5] = 3
	}
	if err := a.MulAdd(&Ciphertext{s: s, c0: one, c1: one}, &Plain{s: s, x: one}); err != nil {
		t.Fatal(err)
	}
	if a.terms != 2 || l.reduce(a.c0[0][5]) != (want.Uint64()+9)%l.Q || l.reduce(a.c1[0][4]) != want.Uint64() {
		t.Fatal("folding lost a term")
	}
}

// TestModuli holds the allow-list to what the security estimate needs.
func TestModuli(t *testing.T) {
	codes := make(map[byte]ParamID)
	for _, id := range allSets {
		st := sets[id]
		if other, twice := codes[st.code]; twice {
			t.Errorf("%s and %s share a wire code", id, other)
		}
		codes[st.code] = id
		s := open(t, id, Flood{Opened: 1})
		if s.LogQ() > MaxLogQ {
			t.Errorf("%s: log Q is %.1f", id, s.LogQ())
		}
		seen := map[uint64]bool{st.t: true}
		for _, q := range st.q {
			if seen[q] || !ring.IsPrime(q) || q%(2*Degree) != 1 || new(big.Int).SetUint64(q).BitLen() != st.qbits {
				t.Errorf("%s: %#x is no distinct prime of %d bits that is 1 mod 2N", id, q, st.qbits)
			}
			seen[q] = true
		}
		if st.t != 0 && (!ring.IsPrime(st.t) || st.t%(2*Degree) != 1) {
			t.Errorf("%s: t has no slots", id)
		}
		if len(st.q) > maxLimbs || st.resp < 2 || st.resp > 3 || (st.resp == 3 && 2*st.qbits > 128) {
			t.Errorf("%s: the decoder does not reach", id)
		}
		if s.ResponseSize(Degree) > 256<<10 && st.t != 0 || s.RequestSize() > 256<<10 {
			t.Errorf("%s: a frame is longer than a 256 KiB message", id)
		}
	}
	if len(codes) != len(sets) {
		t.Errorf("%d sets are tested of %d", len(codes), len(sets))
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		id    ParamID
		flood Flood
		want  error
	}{
		{"forward36", Flood{Opened: 1}, ErrParam},
		{"", Flood{Opened: 1}, ErrParam},
		{Forward36, Flood{}, ErrInput},
		{Forward36, Flood{Bits: -1, Opened: 1}, ErrInput},
		{Forward36, Flood{Bits: 129, Opened: 1}, ErrInput},
		{Forward36, Flood{Bits: 95, Opened: 1}, ErrFlood},
		{Backward104, Flood{Bits: 91, Opened: 1}, ErrFlood},
	} {
		if _, err := Open(c.id, c.flood); !errors.Is(err, c.want) {
			t.Errorf("%s %+v: %v", c.id, c.flood, err)
		}
	}
	var be *BudgetError
	if _, err := Open(Forward36, Flood{Bits: 100, Opened: 1}); !errors.As(err, &be) || be.What != "margin" {
		t.Errorf("margin: %v", err)
	}
}

// TestFloodBudget holds Respond to the load that it really carries.
func TestFloodBudget(t *testing.T) {
	s := open(t, Forward36, Flood{Opened: 1 << 20})
	sk, pk, err := s.GenerateKeys(testRand(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	c := must[*Ciphertext](t)(s.Expand(must[*Request](t)(sk.Encrypt(testRand(t, 2), nil))))
	row := make([]int64, Degree)
	for i := range row {
		row[i] = 1 << 19
	}
	p := must[*Plain](t)(s.EncodePlain(row))
	acc := s.NewAccumulator()
	for range 16 {
		if err := acc.MulAdd(c, p); err != nil {
			t.Fatal(err)
		}
	}
	// L1 = 2^36, hidden about 2^35, so 2^(35+40+20) is needed.
	_, err = s.Respond(testRand(t, 3), acc, pk, []int{0}, make([]share.Word, 1))
	var be *BudgetError
	if !errors.As(err, &be) || !errors.Is(err, ErrFlood) || be.What != "flooding" || math.Abs(be.Need-95) > .5 || be.Have != 93 {
		t.Fatalf("%v", err)
	}
	// The refusal leaves the accumulator; with fewer opened it may answer.
	s2 := open(t, Forward36, Flood{Opened: 1 << 17})
	if _, err := s2.Respond(testRand(t, 3), acc, pk, []int{0}, make([]share.Word, 1)); err != nil {
		t.Fatal(err)
	}
	// One key opens what was announced and no more.
	s3 := open(t, Forward36, Flood{Opened: 3})
	_, pk3, _ := s3.GenerateKeys(testRand(t, 1))
	for i, want := range []error{nil, ErrFlood} {
		_, err := s3.Respond(testRand(t, 4), s3.NewAccumulator(), pk3, []int{0, 1}, make([]share.Word, 2))
		if !errors.Is(err, want) {
			t.Fatalf("response %d: %v", i, err)
		}
	}
	if (Load{L1: math.NaN()}).FloodBits(1) <= 200 || s.Check(Load{L1: math.NaN()}) == nil || s.Check(Load{L1: math.Inf(1), L2Sq: math.Inf(1)}) == nil {
		t.Fatal("a load that is no number passes")
	}
}

func TestSingleUse(t *testing.T) {
	s := open(t, Forward36, Flood{Opened: 8})
	_, pk, err := s.GenerateKeys(testRand(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	acc := s.NewAccumulator()
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = s.Respond(testRand(t, byte(i)), acc, pk, []int{3}, make([]share.Word, 1))
		})
	}
	wg.Wait()
	ok := 0
	for _, err := range errs {
		if err == nil {
			ok++
		} else if !errors.Is(err, ErrUsed) {
			t.Error(err)
		}
	}
	if ok != 1 {
		t.Fatalf("%d responses from one accumulator", ok)
	}
	if err := acc.MulAdd(nil, nil); !errors.Is(err, ErrUsed) {
		t.Fatal(err)
	}
}

func TestInputsAreHeldToTheirBounds(t *testing.T) {
	s, o := open(t, SlotA45, Flood{Opened: 64}), open(t, Forward36, Flood{Opened: 64})
	sk, pk, _ := s.GenerateKeys(testRand(t, 1))
	osk, opk, _ := o.GenerateKeys(testRand(t, 2))
	req := must[*Request](t)(sk.Encrypt(testRand(t, 3), make([]share.Word, 2)))
	ct := must[*Ciphertext](t)(s.Expand(req))
	oPlain := must[*Plain](t)(o.EncodePlain([]int64{1}))
	resp := must[*Response](t)(s.Respond(testRand(t, 4), s.NewAccumulator(), pk, []int{1, 2}, make([]share.Word, 2)))
	tooBig := []share.Word{share.FromUint64(s.Modulus())}
	respond := func(acc *Accumulator, pk *PublicKey, pos []int, mask []share.Word) error {
		_, err := s.Respond(testRand(t, 5), acc, pk, pos, mask)
		return err
	}
	second := func(_ any, err error) error { return err }
	decrypt := func(sk *SecretKey, r *Response, pos []int) error {
		_, _, err := sk.Decrypt(r, pos)
		return err
	}
	w := make([]share.Word, 8)
	for i, c := range []struct {
		got, want error
	}{
		{second(sk.Encrypt(testRand(t, 6), make([]share.Word, Degree+1))), ErrInput},
		{second(sk.Encrypt(testRand(t, 6), tooBig)), ErrInput},
		{second(sk.Encrypt(testRand(t, 6), []share.Word{{Hi: 1}})), ErrInput},
		{second(s.EncodePlain(make([]int64, Degree+1))), ErrInput},
		{second(s.EncodePlain([]int64{1 << 55})), ErrInput},
		{second(s.EncodePlain([]int64{math.MinInt64})), ErrInput},
		{second(s.EncodePlainSlots(make([]int64, Degree+1))), ErrInput},
		{second(o.EncodePlainSlots(nil)), ErrParam},
		{second(o.SlotsToCoeffs(nil)), ErrParam},
		{second(o.CoeffsToSlots(make([]share.Word, Degree))), ErrParam},
		{second(s.CoeffsToSlots(w)), ErrInput},
		{second(s.CoeffsToSlots(append(make([]share.Word, Degree-1), tooBig...))), ErrInput},
		{second(o.Expand(req)), ErrParam},
		{second(o.Expand(nil)), ErrParam},
		{s.NewAccumulator().MulAdd(ct, oPlain), ErrParam},
		{s.NewAccumulator().MulAdd(nil, nil), ErrParam},
		{respond(o.NewAccumulator(), pk, []int{1}, w[:1]), ErrParam},
		{respond(nil, pk, []int{1}, w[:1]), ErrParam},
		{respond(s.NewAccumulator(), opk, []int{1}, w[:1]), ErrParam},
		{respond(s.NewAccumulator(), nil, []int{1}, w[:1]), ErrParam},
		{respond(s.NewAccumulator(), pk, nil, nil), ErrInput},
		{respond(s.NewAccumulator(), pk, []int{1}, w[:2]), ErrInput},
		{respond(s.NewAccumulator(), pk, []int{1, 1}, w[:2]), ErrInput},
		{respond(s.NewAccumulator(), pk, []int{2, 1}, w[:2]), ErrInput},
		{respond(s.NewAccumulator(), pk, []int{-1}, w[:1]), ErrInput},
		{respond(s.NewAccumulator(), pk, []int{Degree}, w[:1]), ErrInput},
		{respond(s.NewAccumulator(), pk, []int{1}, tooBig), ErrInput},
		{decrypt(osk, resp, []int{1, 2}), ErrParam},
		{decrypt(sk, nil, []int{1, 2}), ErrParam},
		{decrypt(sk, resp, []int{1}), ErrInput},
		{decrypt(sk, resp, []int{2, 1}), ErrInput},
		{decrypt(sk, resp, []int{1, Degree}), ErrInput},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("case %d: %v instead of %v", i, c.got, c.want)
		}
	}
	short := bytes.NewReader(make([]byte, 40))
	if _, _, err := s.GenerateKeys(short); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short randomness: %v", err)
	}
	if _, err := sk.Encrypt(bytes.NewReader(nil), nil); !errors.Is(err, io.EOF) {
		t.Errorf("no randomness: %v", err)
	}
	acc := s.NewAccumulator()
	if _, err := s.Respond(bytes.NewReader(nil), acc, pk, []int{1}, w[:1]); !errors.Is(err, io.EOF) {
		t.Errorf("no randomness: %v", err)
	}
}

func TestWrongKeyAndDamageShowInTheMargin(t *testing.T) {
	s := open(t, Backward104, Flood{Opened: 64})
	sk, pk, _ := s.GenerateKeys(testRand(t, 1))
	other, _, _ := s.GenerateKeys(testRand(t, 2))
	pos := make([]int, 64)
	for i := range pos {
		pos[i] = i
	}
	r := must[*Response](t)(s.Respond(testRand(t, 3), s.NewAccumulator(), pk, pos, make([]share.Word, len(pos))))
	if _, _, err := other.Decrypt(r, pos); !errors.Is(err, ErrMargin) {
		t.Errorf("wrong key: %v", err)
	}
	frame := r.Marshal()
	frame[len(frame)-100] ^= 1
	if d, err := s.UnmarshalResponse(frame, len(pos)); err == nil {
		if _, _, err := sk.Decrypt(d, pos); !errors.Is(err, ErrMargin) {
			t.Errorf("one flipped bit of c1: %v", err)
		}
	}
	if _, _, err := sk.Decrypt(r, pos); err != nil {
		t.Errorf("undamaged: %v", err)
	}
	sk.Wipe()
	if _, _, err := sk.Decrypt(r, pos); !errors.Is(err, ErrMargin) {
		t.Errorf("wiped key: %v", err)
	}
}

func TestSecretKeyDoesNotPrint(t *testing.T) {
	s := open(t, Forward36, Flood{Opened: 1})
	sk, _, _ := s.GenerateKeys(testRand(t, 1))
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "sk", sk)
	js, _ := json.Marshal(struct{ K *SecretKey }{sk})
	hidden := struct{ k SecretKey }{*sk} // fmt calls no methods in here
	if out := fmt.Sprintf("%v %+v %#v", hidden, hidden, hidden); strings.Contains(out, fmt.Sprint(sk.sM[0][0])) || strings.Contains(out, fmt.Sprintf("%#x", sk.sM[0][0])) {
		t.Error("printed from within a struct")
	}
	for _, out := range []string{
		fmt.Sprint(sk), fmt.Sprint(*sk), fmt.Sprintf("%v %+v %#v %x %d %s %q", sk, sk, sk, sk, sk, sk, sk), log.String(), string(js),
		fmt.Sprintf("%+v", struct{ K *SecretKey }{sk}),
	} {
		if !strings.Contains(out, redacted) || strings.Contains(out, fmt.Sprint(sk.sM[0][0])) || strings.ContainsAny(out, "&") {
			t.Errorf("printed as %q", out)
		}
	}
}

// TestRandomnessIsInjected: equal randomness, equal bytes; nothing else is
// drawn from.
func TestRandomnessIsInjected(t *testing.T) {
	s := open(t, Forward36, Flood{Opened: 8})
	run := func(salt byte) []byte {
		sk, pk, err := s.GenerateKeys(testRand(t, salt))
		if err != nil {
			t.Fatal(err)
		}
		r := must[*Request](t)(sk.Encrypt(testRand(t, salt+1), []share.Word{{Lo: 5}}))
		acc := s.NewAccumulator()
		if err := acc.MulAdd(must[*Ciphertext](t)(s.Expand(r)), must[*Plain](t)(s.EncodePlain([]int64{1}))); err != nil {
			t.Fatal(err)
		}
		a := must[*Response](t)(s.Respond(testRand(t, salt+2), acc, pk, []int{0}, make([]share.Word, 1)))
		return bytes.Join([][]byte{pk.Marshal(), r.Marshal(), a.Marshal()}, nil)
	}
	if !bytes.Equal(run(1), run(1)) || bytes.Equal(run(1), run(11)) {
		t.Fatal("a run is not a function of its randomness")
	}
}
