package he

import (
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
)

// The two extremes of a regression: few opened coefficients under the longest
// modulus, and all of them in slots.
func BenchmarkOperations(b *testing.B) {
	for _, c := range []struct {
		id   ParamID
		need int
	}{{Forward36, Degree / 2}, {Backward104, 2}, {SlotA45, Degree}} {
		s := open(b, c.id, Flood{Opened: 1 << 30})
		sk, pk, _ := s.GenerateKeys(testRand(b, 1))
		rnd := share.KeyedStream(&[share.KeySize]byte{})
		m := rnd.Words(Degree, min(s.PlainBits(), 104)-1)
		x := make([]int64, Degree)
		for i := range x {
			x[i] = int64(rnd.Uint64()%2048) - 1024
		}
		pos := make([]int, c.need)
		for i := range pos {
			pos[i] = i
		}
		mask := rnd.Words(c.need, s.PlainBits()-1)
		req := must[*Request](b)(sk.Encrypt(rnd, m))
		ct := must[*Ciphertext](b)(s.Expand(req))
		p := must[*Plain](b)(s.EncodePlain(x))
		acc := s.NewAccumulator()
		resp := must[*Response](b)(s.Respond(rnd, s.NewAccumulator(), pk, pos, mask))
		frame, rframe := req.Marshal(), resp.Marshal()
		op := func(name string, f func()) {
			b.Run(string(c.id)+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					f()
				}
			})
		}
		op("encrypt", func() { sk.Encrypt(rnd, m) })
		op("marshal", func() { req.Marshal() })
		op("unmarshal", func() { s.UnmarshalRequest(frame) })
		op("expand", func() { s.Expand(req) })
		op("encode", func() { s.EncodePlain(x) })
		if s.slot != nil {
			op("encode-slots", func() { s.EncodePlainSlots(x) })
			op("slots-to-coeffs", func() { s.SlotsToCoeffs(x) })
		}
		op("muladd", func() { acc.MulAdd(ct, p) })
		op("respond", func() { s.Respond(rnd, s.NewAccumulator(), pk, pos, mask) })
		op("unmarshal-response", func() { s.UnmarshalResponse(rframe, c.need) })
		op("decrypt", func() { sk.Decrypt(resp, pos) })
		op("ntt-one-prime", func() { s.limbs[0].NTT(p.x[0]) })
	}
}
