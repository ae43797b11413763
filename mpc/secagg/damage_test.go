package secagg

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// Every message of a contributor and of a coordinator, cut to every length or
// replaced by noise: the receiver names the sender. (TestTruncatedMessages does
// the decoders alone.) The lengths of long messages are taken in steps.
func TestDamagedMessages(t *testing.T) {
	for _, link := range [][2]int{{1, 3}, {1, 0}, {3, 1}} { // p3 receives and coordinates
		for at := 1; ; at++ {
			length, n := 1, 0
			for cut := -1; cut < length; cut += 1 + length/20 {
				w := &world{contributors: 3, receivers: 1, shape: share.Shape{Narrow: 20}}
				ids := w.ids()
				n = 0
				w.wrap = func(i int, peer session.PartyID, ch session.Channel) session.Channel {
					if i != link[0] || peer != ids[link[1]] {
						return ch
					}
					return &tampering{ch, func(p []byte) [][]byte {
						if n++; n-1 != at {
							return [][]byte{p}
						}
						length = len(p)
						p = bytes.Clone(p)
						if cut < 0 {
							_, _ = rand.Read(p)
						} else {
							p = p[:cut]
						}
						return [][]byte{p}
					}}
				}
				errs := w.run(t, sum(w, ids[3:], "counts"))
				if n <= at {
					noErrors(t, errs)
					break
				}
				var p *PeerError
				if err := errs[link[1]]; !errors.As(err, &p) || p.Party != ids[link[0]] || p.Witness != "" {
					t.Errorf("p%d to p%d, message %d cut to %d of %d bytes: %v", link[0], link[1], at, cut, length, err)
				}
			}
			if n <= at {
				break
			}
		}
	}
}
