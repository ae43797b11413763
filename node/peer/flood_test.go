package peer

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"

	"github.com/yinqiao/yinqiao/session"
)

// TestStreamsReset: a party that opens streams and resets them at once, as
// fast as it can, uses up its own rate and nobody else's, and leaves nothing.
func TestStreamsReset(t *testing.T) {
	nodes := network(t, []string{"a", "b", "c"}, nil)
	links := open(t, t.Context(), nodes, "a", "c", "b")
	id := links["b"].cfg.ID
	cc, cb := channelOf(t, links["c"], "b", ""), channelOf(t, links["b"], "c", "")
	greet(t, t.Context(), cc, cb)
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				ctx, cancel := context.WithCancel(t.Context())
				switch i % 3 { // in its session, in none, and once more under one label
				case 0:
					rawStream(t, ctx, nodes["a"], "b", id, fmt.Sprint(w, "/", i), "contract")
				case 1:
					rawStream(t, ctx, nodes["a"], "b", "no-such-session", "", "contract")
				case 2:
					rawStream(t, ctx, nodes["a"], "b", id, "same", "contract")
				}
				cancel()
			}
		})
	}
	// Meanwhile the other party is served.
	for range 20 {
		greet(t, t.Context(), cc, cb)
		if who, err := hello(t.Context(), nodes["c"], "b"); err != nil || who != "c" {
			t.Fatalf("another party's call: %q, %v", who, err)
		}
	}
	wg.Wait()
	greet(t, t.Context(), cc, cb)
	// What the streams held is given back.
	idle := func() bool {
		nodes["b"].mu.Lock()
		defer nodes["b"].mu.Unlock()
		s := nodes["b"].parties["a"]
		return s == nil || s.streams == 0 && s.waiting == 0
	}
	for !idle() || runtime.NumGoroutine() > before+16 { // a has connected since
		if t.Context().Err() != nil {
			t.Fatalf("%d goroutines of %d are left", runtime.NumGoroutine(), before)
		}
		runtime.Gosched()
	}
}

// openFiles counts the process's open file descriptors.
func openFiles(t *testing.T) int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("open files cannot be counted here: %v", err)
	}
	return len(all)
}

// TestManySessions: sessions one after another, some of them cut off, leave
// neither goroutines nor connections, and memory for their IDs alone.
func TestManySessions(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, func(c *Config) { c.Limits.Rate, c.Limits.Burst = 1e6, 1e6 })
	if _, err := hello(t.Context(), nodes["a"], "b"); err != nil {
		t.Fatal(err)
	}
	run := func(i int) {
		id := freshID()
		links := make(map[string]*Link)
		for _, name := range []string{"a", "b"} {
			l, err := nodes[name].OpenSession(t.Context(), SessionConfig{ID: id, Self: session.PartyID(name), Parties: ids([]string{"a", "b"})})
			if err != nil {
				t.Fatal(err)
			}
			links[name] = l
		}
		for _, label := range []string{"", "fork"} {
			greet(t, t.Context(), channelOf(t, links["a"], "b", label), channelOf(t, links["b"], "a", label))
		}
		if i%4 == 0 {
			closeAll(links) // cut off
			return
		}
		var wg sync.WaitGroup
		for name, l := range links {
			wg.Go(func() {
				if err := l.Close(); err != nil {
					t.Errorf("session %d at %s: %v", i, name, err)
				}
			})
		}
		wg.Wait()
	}
	run(1)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for i := range 200 {
		run(i)
	}
	for _, n := range nodes {
		n.mu.Lock()
		if len(n.links) != 0 || len(n.arrivals) != 0 {
			t.Errorf("%s holds %d sessions and %d arrivals", n.name, len(n.links), len(n.arrivals))
		}
		n.mu.Unlock()
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d open files, %d before", now, files)
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines+2; runtime.Gosched() {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), goroutines, buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestNames: what may name a session or a channel is printable ASCII without
// spaces, so that it can neither split a header nor forge a line of a log.
func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"": true, "align/x": true, strings.Repeat("x", maxName): true,
		strings.Repeat("x", maxName+1): false, "a b": false, "a\nb": false, "a\r\nx: y": false, "a\x00": false, "a\x7f": false,
		"标签": false, "a\u2028b": false, "\xff": false,
	} {
		if validName(name) != ok {
			t.Errorf("%q: %v", name, !ok)
		}
	}
}

// TestUnwantedLabels: nothing is read from the streams of labels that a peer
// has made up, so that it cannot leave three messages of 4 MiB in each of them;
// a label that is opened later has lost nothing, and closing does not wait.
func TestUnwantedLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := bubble(t, []string{"a", "b"}, nil)
		la, lb, ca, cb := pair(t, t.Context(), nodes, "a", "b")
		greet(t, t.Context(), ca, cb)
		const labels, message = 8, 1 << 20
		var early [labels]session.Channel
		for i := range early {
			early[i] = channelOf(t, la, "b", fmt.Sprint(i))
			go func() {
				for k := range byte(3) {
					p := make([]byte, message)
					p[0] = k
					if early[i].Send(t.Context(), p) != nil {
						return
					}
				}
				early[i].CloseSend()
			}()
		}
		<-time.After(10 * time.Minute) // heartbeats keep them, and their number is no fault
		synctest.Wait()
		if n := lb.bytes.Load(); n > 2*5 {
			t.Errorf("%d bytes were taken from streams that nobody asked for", n)
		}
		wanted := channelOf(t, lb, "a", "3")
		for k := range byte(3) {
			if p, err := wanted.Recv(t.Context()); err != nil || len(p) != message || p[0] != k {
				t.Fatalf("message %d: %d bytes, %v", k, len(p), err)
			}
		}
		greet(t, t.Context(), ca, cb)
		var wg sync.WaitGroup
		for _, l := range []*Link{la, lb} {
			wg.Go(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// TestStalledUploads: calls whose message never comes are few per party, and
// end unread beyond that; they keep nobody else out, and leave nothing.
func TestStalledUploads(t *testing.T) {
	const limit = 2
	nodes := network(t, []string{"a", "b", "c"}, func(c *Config) { c.Limits.Calls = limit })
	client, err := nodes["a"].client("b")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stalled := func() grpc.ClientStream {
		t.Helper()
		s, err := client.cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, peerv1.Peer_Propose_FullMethodName)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for range limit + spareCalls {
		stalled()
	}
	err = stalled().RecvMsg(new(peerv1.ProposeReply))
	if c := status.Code(err); c != codes.Canceled && c != codes.DeadlineExceeded {
		t.Errorf("one more: %v", err)
	}
	if who, err := hello(t.Context(), nodes["c"], "b"); err != nil || who != "c" {
		t.Errorf("another party: %q, %v", who, err)
	}
	cancel()
	for who, err := "", error(nil); who != "a"; runtime.Gosched() {
		if who, err = hello(t.Context(), nodes["a"], "b"); err != nil && t.Context().Err() != nil {
			t.Fatalf("afterwards: %v", err)
		}
	}
	nodes["b"].mu.Lock()
	defer nodes["b"].mu.Unlock()
	if n := nodes["b"].parties["a"].uploads; n > 1 {
		t.Errorf("%d uploads are left", n)
	}
}
