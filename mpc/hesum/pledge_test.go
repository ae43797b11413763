package hesum

import (
	"errors"
	"testing"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// TestDifferentPledges: one that pledges other ciphertexts to one party than to
// the rest could wait with these until it has seen that one's, and then, as
// coordinator, let it be taken for lost with its data in the sum. Nobody shows a
// ciphertext to it.
func TestDifferentPledges(t *testing.T) {
	c := threeOfFour
	var seen views
	a := liar{"p0", "p2", kindPledge, 1, func(_ session.PartyID, p []byte) [][]byte {
		p[headerSize] ^= 1
		return [][]byte{p}
	}}
	outs := c.run(t, &cluster{wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		return seen.wrap(l, a.wrap(l, ch))
	}}, c.random(40))
	for i, out := range outs[1:4] {
		var fault *PeerError
		if !errors.As(out.err, &fault) || fault.Party != "p0" || !errors.Is(fault, errDiffers) && !errors.Is(fault, errAccused) {
			t.Errorf("p%d ends with %v", i+1, out.err)
		}
	}
	if n := seen.count(kindVector); n != 0 {
		t.Errorf("%d ciphertexts were shown", n)
	}
}
