package tbgv

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

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
	"github.com/yinqiao/yinqiao/mpc/share"
)

var kinds = []kind{kindKeyPart, kindPiece, kindCiphertext, kindShare}

// frames returns one valid frame of each kind, of contributor 1 and, for the
// piece, from it to contributor 2, and decoders for them.
func frames(t testing.TB, set Set) (s *Scheme, valid [4][]byte, decode [4]func([]byte) ([]byte, error)) {
	t.Helper()
	rnd := testRand(t, set[3])
	g := newGroup(t, rnd, Params{Set: set, Parties: 3, Threshold: 2, Openings: 1})
	sk, part, err := g.s.GenerateKey(rnd, g.crs)
	if err != nil {
		t.Fatal(err)
	}
	v := make([]share.Word, g.s.Slots())
	for j := range v {
		v[j] = share.FromInt64(int64(j * j))
	}
	sum := g.sum(t, rnd, v, v)
	valid[0] = part.Marshal()
	valid[1] = must(g.s.Deal(rnd, sk, 1))(t)[2].Marshal()
	valid[2] = must(g.s.Encrypt(rnd, g.pk, v))(t).Marshal()
	valid[3] = must(g.s.OpenShare(rnd, g.shares[1], 1, []int{0, 1}, sum))(t).Marshal()
	type frame interface{ Marshal() []byte }
	again := func(f frame, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		return f.Marshal(), nil
	}
	s = g.s
	decode[0] = func(b []byte) ([]byte, error) { f, err := s.ParseKeyPart(b); return again(f, err) }
	decode[1] = func(b []byte) ([]byte, error) { f, err := s.ParsePiece(b, 1, 2); return again(f, err) }
	decode[2] = func(b []byte) ([]byte, error) { f, err := s.ParseCiphertext(b); return again(f, err) }
	decode[3] = func(b []byte) ([]byte, error) { f, err := s.ParseShare(b, 1); return again(f, err) }
	return s, valid, decode
}

// TestEveryTruncation cuts every kind of frame at every length.
func TestEveryTruncation(t *testing.T) {
	_, valid, decode := frames(t, Sum32)
	for k, good := range valid {
		for n := range good {
			if _, err := decode[k](good[:n]); !errors.Is(err, ErrFrame) {
				t.Fatalf("%v cut to %d bytes: %v", kinds[k], n, err)
			}
		}
	}
}

// TestMalformedFrames: every damaged frame is ErrFrame or ErrParam, and
// refusing it allocates less than twice the frame's proper length.
func TestMalformedFrames(t *testing.T) {
	for _, set := range []Set{Sum32, Sum64, Sum96} {
		s, valid, decode := frames(t, set)
		other := map[Set]Set{Sum32: Sum64, Sum64: Sum96, Sum96: Sum32}[set]
		_, foreign, _ := frames(t, other)
		rng := rand.New(rand.NewPCG(1, 2))
		rowSize := ringq.RowSize(s.n, s.set.qbits)
		for k, good := range valid {
			if again, err := decode[k](good); err != nil || !bytes.Equal(again, good) {
				t.Fatalf("%s %v: a valid frame does not survive: %v", set, kinds[k], err)
			}
			if len(good) != s.size(kinds[k]) {
				t.Errorf("%s %v: %d bytes, said to be %d", set, kinds[k], len(good), s.size(kinds[k]))
			}
			refuse := func(what string, b []byte, want error) {
				t.Helper()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, err := decode[k](b)
				runtime.ReadMemStats(&after)
				if !errors.Is(err, want) {
					t.Errorf("%s %v, %s: %v", set, kinds[k], what, err)
				}
				if got := after.TotalAlloc - before.TotalAlloc; got > uint64(2*len(good)) {
					t.Errorf("%s %v, %s: %d bytes allocated for a frame of %d", set, kinds[k], what, got, len(good))
				}
			}
			with := func(at int, v byte) []byte {
				b := bytes.Clone(good)
				b[at] = v
				return b
			}
			refuse("nil", nil, ErrFrame)
			refuse("half", good[:len(good)/2], ErrFrame)
			refuse("a byte less", good[:len(good)-1], ErrFrame)
			refuse("a byte more", append(bytes.Clone(good), 0), ErrFrame)
			refuse("twice as long", append(bytes.Clone(good), good...), ErrFrame)
			refuse("64 MiB", make([]byte, 64<<20), ErrFrame)
			refuse("version", with(0, 2), ErrFrame)
			refuse("kind", with(1, byte(kinds[(k+1)%4])), ErrFrame)
			refuse("set", with(2, 99), ErrParam)
			refuse("degree", with(3, 14), ErrFrame)
			refuse("primes", with(4, 200), ErrFrame)
			refuse("bits", with(5, 40), ErrFrame)
			refuse("another contributor", with(6, good[6]+1), ErrFrame)
			refuse("another dealer", with(7, good[7]+1), ErrFrame)
			refuse("another set's frame", foreign[k], ErrParam)
			refuse("another kind", valid[(k+1)%4], ErrFrame)
			// One residue at, above and at the top of its prime, in every row.
			fixed, rows := ringq.HeaderSize, len(s.limbs)
			switch kinds[k] {
			case kindCiphertext:
				rows *= 2
			case kindPiece:
				fixed += seedSize
			case kindShare:
				fixed, rows = fixed+seedSize, s.set.keep
			}
			if fixed+rows*rowSize != len(good) {
				t.Fatalf("%s %v has %d bytes", set, kinds[k], len(good))
			}
			for i := range rows {
				at := fixed + i*rowSize
				q := s.limbs[i%len(s.limbs)].Q
				put := func(v uint64) []byte {
					b := bytes.Clone(good)
					old := binary.LittleEndian.Uint64(b[at:])
					binary.LittleEndian.PutUint64(b[at:], old>>s.set.qbits<<s.set.qbits|v)
					return b
				}
				for _, v := range []uint64{q, q + 1, 1<<s.set.qbits - 1} {
					refuse(fmt.Sprintf("row %d holds %#x", i, v), put(v), ErrFrame)
				}
				b := put(q - 1)
				if again, err := decode[k](b); err != nil || !bytes.Equal(again, b) {
					t.Errorf("%s %v: the largest residue of row %d: %v", set, kinds[k], i, err)
				}
			}
			for range 4 {
				b := make([]byte, len(good))
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				refuse("random bytes", b, ErrFrame)
				copy(b, good[:fixed])
				for i := fixed; i < fixed+1000; i++ {
					b[i] = 0xff
				}
				refuse("random residues", b, ErrFrame)
			}
		}
		for _, party := range []int{-1, 3, 1 << 20} {
			if _, err := s.ParseShare(valid[3], party); !errors.Is(err, ErrInput) {
				t.Errorf("share of contributor %d: %v", party, err)
			}
			if _, err := s.ParsePiece(valid[1], party, 0); !errors.Is(err, ErrInput) {
				t.Errorf("piece of contributor %d: %v", party, err)
			}
		}
		if _, err := s.ParseShare(valid[3], 2); !errors.Is(err, ErrFrame) {
			t.Errorf("another contributor's share: %v", err)
		}
		if _, err := s.ParsePiece(valid[1], 2, 1); !errors.Is(err, ErrFrame) {
			t.Errorf("a piece the wrong way round: %v", err)
		}
	}
}

// TestFramesAreStable pins the encoding, the expansion of seeds and the order
// of the transform: a change of any is a change of the wire and wants new set
// names. (No published vectors exist for this scheme.)
func TestFramesAreStable(t *testing.T) {
	for set, want := range map[Set]string{
		Sum32:     "36f35743b4a0668edb985c0c263f97b1",
		Sum32Wide: "b03fc7bc2e5815e1d187cf9f95465a79",
		Sum64:     "5201768a1c5b86384a0bb76be5f0f24c",
		Sum96:     "f6f717f855a1d586e09cc8f03c261d0f",
	} {
		_, valid, _ := frames(t, set)
		h := sha256.New()
		for _, f := range valid {
			h.Write(f)
		}
		if got := hex.EncodeToString(h.Sum(nil)[:16]); got != want {
			t.Errorf("%s: frames hash to %s", set, got)
		}
	}
}

// fuzzFrames feeds the decoder of kind k raw bytes, and valid frames of every
// kind with a patch at some offset and another length: frames are too long to
// be mutated as a whole.
func fuzzFrames(f *testing.F, k int) {
	_, valid, decode := frames(f, Sum32)
	f.Add(byte(4), uint32(0), []byte{}, int16(0)) // raw
	f.Add(byte(4), uint32(0), valid[k][:ringq.HeaderSize+seedSize+9], int16(0))
	for i := range valid {
		f.Add(byte(i), uint32(0), []byte{}, int16(0))
		f.Add(byte(i), uint32(ringq.HeaderSize+seedSize), []byte{0, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xff}, int16(0))
		f.Add(byte(i), uint32(len(valid[i])-3), []byte{0xff, 0xff, 0xff}, int16(0))
		f.Add(byte(i), uint32(6), []byte{3}, int16(11))
		f.Add(byte(i), uint32(0), []byte{}, int16(-1))
	}
	f.Fuzz(func(t *testing.T, base byte, at uint32, patch []byte, longer int16) {
		b := patch
		if base < 4 {
			b = bytes.Clone(valid[base])
			copy(b[min(int(at), len(b)):], patch)
			if n := len(b) + int(longer); n <= len(b) {
				b = b[:max(n, 0)]
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

func FuzzParseKeyPart(f *testing.F)    { fuzzFrames(f, 0) }
func FuzzParsePiece(f *testing.F)      { fuzzFrames(f, 1) }
func FuzzParseCiphertext(f *testing.F) { fuzzFrames(f, 2) }
func FuzzParseShare(f *testing.F)      { fuzzFrames(f, 3) }
