package align

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/scratch"
)

func FuzzHello(f *testing.F) {
	f.Add(hello{nonce: [nonceSize]byte{1}, tag: [tagSize]byte{2}}.append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := parseHello(body)
		if err == nil && !bytes.Equal(h.append(nil), body) {
			t.Fatal("another form of the same")
		}
		if err != nil && !errors.Is(err, ErrMessage) {
			t.Fatal(err)
		}
	})
}

func FuzzInput(f *testing.F) {
	f.Add(input{distinct: 300, commitment: [commitmentSize]byte{1}}.append(nil))
	f.Add(input{distinct: MaxRows + 1}.append(nil))
	f.Add(append([]byte{0x80, 0}, make([]byte, commitmentSize)...))
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := parseInput(body)
		switch {
		case err == nil && (in.distinct < 0 || in.distinct > MaxRows || !bytes.Equal(in.append(nil), body)):
			t.Fatalf("%+v", in)
		case err != nil && !errors.Is(err, ErrMessage) && !errors.Is(err, ErrSize):
			t.Fatal(err)
		}
	})
}

func FuzzFinished(f *testing.F) {
	f.Add(appendFinished(nil, []outcomeID{{1}, {}, {3}}), 3)
	f.Add(appendFinished(nil, make([]outcomeID, 9)), 9)
	f.Add([]byte{0xff}, 3)
	f.Fuzz(func(t *testing.T, body []byte, parts int) {
		if parts < 1 || parts > maxPartitions {
			return
		}
		ids, err := parseFinished(body, parts)
		switch {
		case err == nil && (len(ids) != parts || !bytes.Equal(appendFinished(nil, ids), body)):
			t.Fatal("another form of the same")
		case err != nil && !errors.Is(err, ErrMessage):
			t.Fatal(err)
		}
	})
}

func FuzzMultiplicities(f *testing.F) {
	f.Add([]byte{1, 2, 0xac, 2}, int64(3))
	f.Add([]byte{0}, int64(1))
	f.Add([]byte{1, 1}, int64(1))
	f.Add([]byte{}, int64(1))
	f.Fuzz(func(t *testing.T, body []byte, limit int64) {
		var ns []int64
		count, err := parseMultiplicities(body, limit, func(n int64) error {
			ns = append(ns, n)
			return nil
		})
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		var again []byte
		for _, n := range ns {
			if n < 1 || n > maxJoined {
				t.Fatalf("%d rows", n)
			}
			again = transcript.AppendNumber(again, n)
		}
		if count != int64(len(ns)) || count < 1 || count > limit || !bytes.Equal(again, body) {
			t.Fatalf("%d of %d", count, limit)
		}
	})
}

func FuzzTotals(f *testing.F) {
	f.Add(totals{3, 900}.append(nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		x, err := parseTotals(body)
		switch {
		case err == nil && (x.common < 0 || x.common > MaxRows || x.joined < 0 || x.joined > maxJoined || !bytes.Equal(x.append(nil), body)):
			t.Fatalf("%+v", x)
		case err != nil && !errors.Is(err, ErrMessage):
			t.Fatal(err)
		}
	})
}

func FuzzManifest(f *testing.F) {
	m := manifest{seed: seed{1}, rows: 900, distinct: 800, peers: 5, key: [32]byte{7}}
	f.Add(m.append(nil))
	f.Add([]byte(manifestMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		switch {
		case err == nil && (m.distinct > m.rows || m.rows > MaxRows || m.peers > MaxRows):
			t.Fatalf("%d of %d rows, %d of the peer", m.distinct, m.rows, m.peers)
		case err != nil && !errors.Is(err, scratch.ErrDamaged):
			t.Fatal(err)
		}
	})
}

func FuzzOutcome(f *testing.F) {
	files := scratch.Memory()
	for p, rows := range [][]int32{{3}, {1, 2}, nil} {
		if _, err := writeOutcome(files, p, outcomeID{byte(p + 1)}, len(rows), func(k int) []int32 { return rows[k:] }); err != nil {
			f.Fatal(err)
		}
		b, err := readAll(files, outcomeName(p), 1<<10)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1000
		var rows [][]int32
		o, err := readOutcome(t.Context(), bytes.NewReader(b), int64(len(b)), limit, func(r []int32) bool {
			for _, x := range r {
				if x < 0 || x >= limit {
					t.Fatalf("row %d", x)
				}
			}
			rows = append(rows, slices.Clone(r))
			return len(r) > 0
		})
		if err != nil {
			if !errors.Is(err, scratch.ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if o.keys != int64(len(rows)) || o.rows > limit || o.id == (outcomeID{}) {
			t.Fatalf("%+v", o)
		}
	})
}

// The bound holds whatever the numbers, and grows with n.
func FuzzBound(f *testing.F) {
	f.Add(int64(100), 7)
	f.Add(int64(MaxRows), maxPartitions)
	f.Fuzz(func(t *testing.T, n int64, parts int) {
		if n < 0 || n > MaxRows || parts < 1 || parts > maxPartitions {
			return
		}
		b := bound(n, parts)
		if b < (n+int64(parts)-1)/int64(parts) || b > n || n > 0 && b < bound(n-1, parts) {
			t.Fatalf("%d in %d: %d", n, parts, b)
		}
		if b < n && parts > 1 {
			if p := float64(n) * divergence(float64(b+1)/float64(n), 1/float64(parts)); p < overflowBits*math.Ln2 {
				t.Fatalf("%d in %d: exponent %f", n, parts, p)
			}
		}
	})
}
