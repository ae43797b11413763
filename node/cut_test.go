package node

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// relay is a network between two nodes that can fall silent: connections stay
// and nothing passes.
type relay struct {
	net.Listener
	mu   sync.Mutex
	cut  chan struct{}
	wg   sync.WaitGroup
	open []net.Conn
}

func newRelay(t *testing.T, to string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &relay{Listener: l, cut: make(chan struct{})}
	r.serve(t, to)
	return r
}

// serve passes on what comes until the test ends.
func (r *relay) serve(t *testing.T, to string) {
	r.wg.Go(func() {
		for {
			in, err := r.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			r.mu.Lock()
			r.open = append(r.open, in, out)
			r.mu.Unlock()
			r.wg.Go(func() { r.pass(out, in) })
			r.wg.Go(func() { r.pass(in, out) })
		}
	})
	t.Cleanup(func() {
		r.Close()
		r.mu.Lock()
		for _, c := range r.open {
			c.Close()
		}
		r.mu.Unlock()
		r.wg.Wait()
	})
}

func (r *relay) pass(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-r.cut: // swallowed
		default:
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// TestNetworkCut: the network falls silent in mid-job. Both sides fail by
// themselves, without waiting for calls to the silent peer, and the use is spent.
func TestNetworkCut(t *testing.T) {
	w := newWorldOf(t)
	w.tune = func(n *Node) { n.cfg.Limits.PeerIdle = 3 * time.Second }
	cut := make(chan struct{})
	for _, id := range []string{"bank", "gov"} {
		addr := freeAddr(t)
		r := newRelay(t, addr)
		r.cut = cut
		w.enrolAt(id, addr, r.Addr().String())
	}
	w.start("bank")
	w.start("gov")
	grant := w.granted(nil)
	release := make(chan struct{})
	entered := make(chan string, 2)
	w.hooks.mid = func(p string) { entered <- p; <-release }
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	<-entered
	<-entered
	close(cut)
	for _, p := range []string{"bank", "gov"} {
		<-w.nodes[p].findJob(id).ctx.Done()
	}
	close(release)
	for _, p := range []string{"bank", "gov"} {
		v := w.ended(p, id)
		if v.GetState() != "failed" || v.GetClass() != "peer_gone" || !strings.Contains(v.GetReason(), "silent") {
			t.Errorf("%s: %s, %s: %s", p, v.GetState(), v.GetClass(), v.GetReason())
		}
		if u := w.usedBy(p, id); u != 1 {
			t.Errorf("%s: %d uses spent", p, u)
		}
	}
	if names := append(w.results("bank"), w.results("gov")...); len(names) != 0 {
		t.Errorf("output: %v", names)
	}
}
