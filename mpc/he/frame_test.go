package he

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
)

// frames returns one valid frame of each kind and decoders for them.
func frames(t testing.TB, s *Scheme, need int) (valid [3][]byte, decode [3]func([]byte) ([]byte, error)) {
	t.Helper()
	sk, pk, err := s.GenerateKeys(testRand(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	pos := make([]int, need)
	for i := range pos {
		pos[i] = i
	}
	valid[0] = pk.Marshal()
	valid[1] = must[*Request](t)(sk.Encrypt(testRand(t, 2), make([]share.Word, 3))).Marshal()
	valid[2] = must[*Response](t)(s.Respond(testRand(t, 3), s.NewAccumulator(), pk, pos, make([]share.Word, need))).Marshal()
	decode[0] = func(b []byte) ([]byte, error) {
		v, err := s.UnmarshalPublicKey(b)
		if err != nil {
			return nil, err
		}
		return v.Marshal(), nil
	}
	decode[1] = func(b []byte) ([]byte, error) {
		v, err := s.UnmarshalRequest(b)
		if err != nil {
			return nil, err
		}
		return v.Marshal(), nil
	}
	decode[2] = func(b []byte) ([]byte, error) {
		v, err := s.UnmarshalResponse(b, need)
		if err != nil {
			return nil, err
		}
		return v.Marshal(), nil
	}
	return valid, decode
}

// TestMalformedFrames: every damaged frame is ErrFrame or ErrParam, and
// decoding it allocates at most twice the frame's proper length.
func TestMalformedFrames(t *testing.T) {
	s := open(t, Backward104, Flood{Opened: 8})
	foreign, _ := frames(t, open(t, Forward36, Flood{Opened: 8}), 2)
	const need = 3 // 147 bits: a row with five spare bits
	valid, decode := frames(t, s, need)
	rng := rand.New(rand.NewPCG(1, 2))
	for k, name := range []string{"public key", "request", "response"} {
		good := valid[k]
		if again, err := decode[k](good); err != nil || !bytes.Equal(again, good) {
			t.Fatalf("%s: a valid frame does not survive: %v", name, err)
		}
		refuse := func(what string, b []byte, want error) {
			t.Helper()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := decode[k](b)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, want) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > uint64(2*len(good)) {
				t.Errorf("%s, %s: %d bytes allocated for a frame of %d", name, what, got, len(good))
			}
		}
		with := func(at int, v byte) []byte {
			b := bytes.Clone(good)
			b[at] = v
			return b
		}
		for _, n := range []int{
			0, 1, headerSize - 1, headerSize, headerSize + 1, headerSize + seedSize - 1, headerSize + seedSize,
			headerSize + seedSize + 1, headerSize + seedSize + s.rowSize(Degree), len(good) / 2, len(good) - s.rowSize(Degree), len(good) - 1,
		} {
			refuse(fmt.Sprintf("cut to %d bytes", n), good[:n], ErrFrame)
		}
		refuse("nil", nil, ErrFrame)
		refuse("a byte more", append(bytes.Clone(good), 0), ErrFrame)
		refuse("twice as long", append(bytes.Clone(good), good...), ErrFrame)
		refuse("64 MiB", make([]byte, 64<<20), ErrFrame)
		refuse("version", with(0, 2), ErrFrame)
		refuse("kind", with(1, byte(k+1)%3+1), ErrFrame)
		refuse("set", with(2, 99), ErrParam)
		refuse("degree", with(3, 12), ErrFrame)
		refuse("primes", with(4, 200), ErrFrame)
		refuse("bits", with(5, 60), ErrFrame)
		refuse("count", with(6, good[6]+1), ErrFrame)
		refuse("count, high byte", with(7, 0x20), ErrFrame)
		refuse("another set's frame", foreign[k], ErrParam)
		refuse("another kind", valid[(k+1)%3], ErrFrame)
		// One residue at, above and at the top of its prime, in every row.
		rows := []int{headerSize + seedSize}
		if k == 2 {
			rows[0] = headerSize
			for range s.set.resp {
				rows = append(rows, rows[len(rows)-1]+s.rowSize(need))
			}
		}
		for len(rows) < map[bool]int{false: len(s.limbs), true: 2 * s.set.resp}[k == 2] {
			rows = append(rows, rows[len(rows)-1]+s.rowSize(Degree))
		}
		for i, at := range rows {
			q := s.limbs[i%map[bool]int{false: len(s.limbs), true: s.set.resp}[k == 2]].Q
			for _, v := range []uint64{q, q + 1, 1<<s.set.qbits - 1} {
				b := bytes.Clone(good)
				old := binary.LittleEndian.Uint64(b[at:])
				binary.LittleEndian.PutUint64(b[at:], old>>s.set.qbits<<s.set.qbits|v)
				refuse(fmt.Sprintf("row %d holds %#x", i, v), b, ErrFrame)
			}
			b := bytes.Clone(good)
			old := binary.LittleEndian.Uint64(b[at:])
			binary.LittleEndian.PutUint64(b[at:], old>>s.set.qbits<<s.set.qbits|(q-1))
			if again, err := decode[k](b); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%s: the largest residue of row %d: %v", name, i, err)
			}
		}
		if k == 2 {
			b := bytes.Clone(good)
			b[headerSize+s.rowSize(need)-1] |= 0x80
			refuse("spare bit", b, ErrFrame)
		}
		for range 8 {
			b := make([]byte, len(good))
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			refuse("random bytes", b, ErrFrame)
			copy(b, good[:headerSize])
			for i := headerSize; i < headerSize+1000; i++ {
				b[i] = 0xff
			}
			refuse("random residues", b, ErrFrame)
		}
	}
	for _, need := range []int{0, -1, Degree + 1} {
		if _, err := s.UnmarshalResponse(valid[2], need); !errors.Is(err, ErrInput) {
			t.Errorf("need %d: %v", need, err)
		}
	}
}

// TestFramesAreStable pins the encoding, the expansion of seeds and the order
// of the transform: a change of any is a change of the wire and wants new set
// names. (No published vectors exist for this scheme.)
func TestFramesAreStable(t *testing.T) {
	for id, want := range map[ParamID]string{
		Forward36:   "65502287278de3054febd46232b94a21",
		Backward104: "bcadc71038c91d81f1067a605d110348",
		SlotA45:     "5654c34aa065d63da5c5a27e85dfd1bf",
	} {
		s := open(t, id, Flood{Opened: 1 << 10})
		st := share.KeyedStream(&[share.KeySize]byte{7})
		sk, pk, err := s.GenerateKeys(st)
		if err != nil {
			t.Fatal(err)
		}
		m := make([]share.Word, Degree)
		x := make([]int64, Degree)
		for i := range m {
			m[i], x[i] = share.FromInt64(int64(i*i)), int64(i%2001)-1000
		}
		r := must[*Request](t)(sk.Encrypt(st, m))
		acc := s.NewAccumulator()
		if err := acc.MulAdd(must[*Ciphertext](t)(s.Expand(r)), must[*Plain](t)(s.EncodePlain(x))); err != nil {
			t.Fatal(err)
		}
		a := must[*Response](t)(s.Respond(st, acc, pk, []int{0, 5, Degree - 1}, m[7:10]))
		h := sha256.New()
		for _, f := range [][]byte{pk.Marshal(), r.Marshal(), a.Marshal()} {
			h.Write(f)
		}
		if got := hex.EncodeToString(h.Sum(nil)[:16]); got != want {
			t.Errorf("%s: frames hash to %s", id, got)
		}
	}
}

// fuzzFrames feeds the decoder of kind k raw bytes, and valid frames of every
// kind with a patch at some offset and another length: frames are too long to
// be mutated as a whole.
func fuzzFrames(f *testing.F, k int) {
	s := open(f, Forward36, Flood{Opened: 8})
	valid, decode := frames(f, s, 2)
	f.Add(byte(3), uint32(0), []byte{}, int16(0)) // raw
	f.Add(byte(3), uint32(0), valid[k][:headerSize+seedSize+9], int16(0))
	for i := range valid {
		f.Add(byte(i), uint32(0), []byte{}, int16(0))
		f.Add(byte(i), uint32(headerSize+seedSize), []byte{0, 0xc0, 0xff, 0xff, 0xff, 0xff}, int16(0))
		f.Add(byte(i), uint32(len(valid[i])-3), []byte{0xff, 0xff, 0xff}, int16(0))
		f.Add(byte(i), uint32(6), []byte{3}, int16(11))
		f.Add(byte(i), uint32(0), []byte{}, int16(-1))
	}
	f.Fuzz(func(t *testing.T, base byte, at uint32, patch []byte, longer int16) {
		b := patch
		if base < 3 {
			b = bytes.Clone(valid[base])
			copy(b[min(int(at), len(b)):], patch)
			if n := len(b) + int(longer); n <= len(b) {
				b = b[:n]
			} else {
				b = append(b, make([]byte, n-len(b))...)
			}
		}
		again, err := decode[k](b)
		if err != nil {
			if !errors.Is(err, ErrFrame) && !errors.Is(err, ErrParam) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		if !bytes.Equal(again, b) {
			t.Fatal("a second encoding of one value was accepted")
		}
	})
}

func FuzzUnmarshalPublicKey(f *testing.F) { fuzzFrames(f, 0) }
func FuzzUnmarshalRequest(f *testing.F)   { fuzzFrames(f, 1) }
func FuzzUnmarshalResponse(f *testing.F)  { fuzzFrames(f, 2) }
