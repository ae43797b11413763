package hesum

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// FuzzFrames gives a party whatever a peer may send, as frames each with its
// length before it, and lets it expect a message of every kind. A million
// executions: go test -fuzz FuzzFrames -fuzztime 1000000x ./mpc/hesum
func FuzzFrames(f *testing.F) {
	c := setup{4, 4, 3, share.Shape{Narrow: 3}, [][]int{{0}}, 3}
	net := session.NewPipeNetwork(1)
	s, err := session.New(f.Context(), session.Config{
		ID: "fuzz", Self: "p0", Parties: sessiontest.PartyIDs(4), Open: net.Opener("p0"),
	})
	if err != nil {
		f.Fatal(err)
	}
	e, err := newEngine(s, c.params(new(once)))
	if err != nil {
		f.Fatal(err)
	}
	e.enter("x")
	sum := e.keys[0].scheme
	sizes := map[kind]int{
		kindCommit: digestSize, kindReveal: coinSize, kindPledge: digestSize, kindPart: sum.KeyPartSize(), kindPiece: sum.PieceSize(),
		kindReport: 8, kindDecision: decisionSize, kindEcho: 1 + digestSize*5, kindPledges: digestSize * 4, kindVector: sum.CiphertextSize(), kindShare: sum.ShareSize(),
	}
	for k, n := range sizes {
		frame := appendHeader(nil, header{kind: k, call: e.at.call, step: e.at.tag})
		for _, n := range []int{0, 1, n - 1, n, n + 1} {
			body := make([]byte, n)
			for i := range body {
				body[i] = byte(i * 7)
			}
			f.Add(byte(k), withLengths(append(frame[:headerSize:headerSize], body...)))
		}
		f.Add(byte(k), withLengths(append([]byte{frameVersion, byte(kindFault)}, append(frame[2:headerSize:headerSize], 2)...)))
	}
	d := decision{present: 0b1111, included: 0b1111, active: 0b0111}
	f.Add(byte(kindDecision), withLengths(append(appendHeader(nil, header{kind: kindDecision, step: e.at.tag}), d.body()...)))
	f.Fuzz(func(t *testing.T, want byte, data []byte) {
		k := kind(want)
		size, ok := sizes[k]
		if !ok {
			return
		}
		l := &link{ch: &channelOf{split(data)}, peer: "p1"}
		var body []byte
		var err error
		if k == kindEcho { // as long as the sender's decision has it
			body, err = l.recvFrame(t.Context(), e.at, k)
			size = len(body)
		} else {
			body, err = l.recv(t.Context(), e.at, k, size)
		}
		if err != nil {
			e.lost = 0
			var fault *PeerError
			if err := e.judge(1, err); err != nil && !errors.As(err, &fault) && !errors.Is(err, ErrLost) {
				t.Fatalf("untyped %v", err)
			}
			return
		}
		if len(body) != size {
			t.Fatalf("%d bytes instead of %d", len(body), size)
		}
		switch k {
		case kindPart:
			_, _ = e.parseParts(body)
		case kindPiece:
			_, _ = sum.ParsePiece(body, 1, 0)
		case kindVector:
			_, _ = sum.ParseCiphertext(body)
		case kindShare:
			_, _ = sum.ParseShare(body, 1)
		case kindDecision:
			d := parseDecision(body, 1)
			reports := map[int]set{0: 0b0111, 1: 0b1111, 2: 0b0111}
			if e.follows(d, 0b1110, reports) != nil {
				return
			}
			if !d.included.in(0b0111) || d.active.size() != 3 || d.included.size() < 3 || !d.active.in(d.present&d.included) {
				t.Fatalf("%+v follows", d)
			}
			_ = e.enough(d)
		case kindEcho:
			mine := make([]byte, sizes[kindEcho])
			d := decision{coordinator: -1, present: 0b1111, included: 0b1111}
			if err := e.compare(1, d, mine, body); (err == nil) != (string(body) == string(mine)) {
				t.Fatalf("compared: %v", err)
			}
		}
	})
}

// withLengths joins frames, and split takes them apart: 4 bytes of length each.
func withLengths(frames ...[]byte) []byte {
	var b []byte
	for _, p := range frames {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

func split(b []byte) (frames [][]byte) {
	for len(b) >= 4 && len(frames) < 64 {
		n := min(int(binary.LittleEndian.Uint32(b)), len(b)-4)
		frames = append(frames, b[4:4+n])
		b = b[4+n:]
	}
	return frames
}
