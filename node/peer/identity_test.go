package peer

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"

	"github.com/yinqiao/yinqiao/internal/suite"
)

func hello(ctx context.Context, from *node, to string) (string, error) {
	r, err := from.Peers.Hello(ctx, to, &peerv1.HelloRequest{})
	return r.GetParty(), err
}

// TestCalls: every call arrives with the caller's verified name.
func TestCalls(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, nil)
	ctx := t.Context()
	p := nodes["a"].Peers
	if who, err := hello(ctx, nodes["a"], "b"); err != nil || who != "a" {
		t.Errorf("Hello: %q, %v", who, err)
	}
	if r, err := p.Propose(ctx, "b", &peerv1.ProposeRequest{}); err != nil || r.GetRefusal().GetParty() != "a" || r.GetRefusal().GetRule() != "propose" {
		t.Errorf("Propose: %v, %v", r, err)
	}
	if r, err := p.Start(ctx, "b", &peerv1.StartRequest{}); err != nil || r.GetRefusal().GetRule() != "start" {
		t.Errorf("Start: %v, %v", r, err)
	}
	if r, err := p.Finish(ctx, "b", &peerv1.FinishRequest{}); err != nil || string(r.GetReceipt()) != "a" {
		t.Errorf("Finish: %v, %v", r, err)
	}
	if _, err := p.Abort(ctx, "b", &peerv1.AbortRequest{}); err != nil {
		t.Errorf("Abort: %v", err)
	}
	if _, err := p.CoSign(ctx, "b", &peerv1.CoSignRequest{}); err != nil {
		t.Errorf("CoSign: %v", err)
	}
	if _, err := p.Records(ctx, "b", &peerv1.RecordsRequest{}); err != nil {
		t.Errorf("Records: %v", err)
	}
	_, err := hello(ctx, nodes["a"], "z")
	wantIs(t, "a party that does not exist", err, ErrUnknownParty)
	_, err = hello(ctx, nodes["a"], "a")
	wantIs(t, "itself", err, ErrUnknownParty)
}

// TestCallErrors: what a handler returns reaches a peer as a class, at most.
func TestCallErrors(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, nil)
	ctx := t.Context()
	secret := errors.New("row 17 of the tax table")
	for name, c := range map[string]struct {
		err   error
		panic bool
		class string
	}{
		"a refusal":         {Refuse("no_such_grant"), false, "no_such_grant"},
		"an internal error": {secret, false, "internal"},
		"a panic":           {secret, true, "internal"},
		"a bad class":       {Refuse("Text with: details"), false, "internal"},
	} {
		nodes["b"].hello = func(context.Context, string) (*peerv1.HelloReply, error) {
			if c.panic {
				panic(c.err)
			}
			return nil, c.err
		}
		_, err := hello(ctx, nodes["a"], "b")
		var r *RefusedError
		if !errors.As(err, &r) || r.Class != c.class || err.Error() != "peer: refused: "+c.class {
			t.Errorf("%s: %v", name, err)
		}
		if Reason(err) != c.class {
			t.Errorf("%s: reason %q", name, Reason(err))
		}
	}
	nodes["b"].hello = func(ctx context.Context, _ string) (*peerv1.HelloReply, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := hello(short, nodes["a"], "b")
	wantIs(t, "a call past its deadline", err, context.DeadlineExceeded)
	stop := errors.New("stopped")
	early, cancelCause := context.WithCancelCause(ctx)
	cancelCause(stop)
	_, err = hello(early, nodes["a"], "b")
	wantIs(t, "a call that was cancelled", err, stop)
}

// TestReconnect: a peer that is down gives an answer at once, and the first
// call after it is back succeeds, also at another address.
func TestReconnect(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, nil)
	ctx := t.Context()
	if _, err := hello(ctx, nodes["a"], "b"); err != nil {
		t.Fatal(err)
	}
	nodes["b"].stop()
	if err := <-nodes["b"].served; err != nil {
		t.Fatal(err)
	}
	nodes["b"].served <- nil // for Cleanup
	for i := range 3 {
		_, err := hello(ctx, nodes["a"], "b")
		wantIs(t, "while it is down", err, ErrUnreachable)
		var op *net.OpError // what the operating system said
		if Reason(err) != "unreachable" || (i > 0 && !errors.As(err, &op)) {
			t.Errorf("reason %q of %v", Reason(err), err)
		}
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nodes["b"].serve(t, lis, nil)
	nodes["a"].roster.set("b", entry{lis.Addr().String(), nodes["b"].key.Public()})
	if who, err := hello(ctx, nodes["a"], "b"); err != nil || who != "a" {
		t.Errorf("after its return: %q, %v", who, err)
	}
}

// TestUnknownCertificate: a node whose key the callee's roster does not list
// gets no connection, and the callee records it.
func TestUnknownCertificate(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, nil)
	nodes["b"].roster.remove("a")
	_, err := hello(t.Context(), nodes["a"], "b")
	wantIs(t, "a caller that is not in the roster", err, ErrUnreachable)
	nodes["b"].wantEvent(t, "unknown_certificate")
	nodes["b"].mu.Lock()
	defer nodes["b"].mu.Unlock()
	if len(nodes["b"].parties) != 0 {
		t.Errorf("the callee keeps state for %d parties", len(nodes["b"].parties))
	}
}

// TestWrongServer: what answers at b's endpoint is not b.
func TestWrongServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := bubble(t, []string{"a", "b", "c"}, nil)
		endpoint, _, _ := nodes["a"].roster.ByID("c")
		_, public, _ := nodes["a"].roster.ByID("b")
		nodes["a"].roster.set("b", entry{endpoint, public}) // c stands where b should
		_, err := hello(t.Context(), nodes["a"], "b")
		wantIs(t, "c in b's place", err, suite.ErrPeerKey)
		wantIs(t, "c in b's place", err, ErrUnreachable)
		// A stream gives up when its time is over, with the reason.
		l, err := nodes["a"].OpenSession(t.Context(), SessionConfig{ID: freshID(), Self: "a", Parties: ids([]string{"a", "b"})})
		if err != nil {
			t.Fatal(err)
		}
		_, err = channelOf(t, l, "b", "").Recv(t.Context())
		wantIs(t, "a stream to c in b's place", err, suite.ErrPeerKey)
		wantIs(t, "a stream to c in b's place", err, ErrNoStream)
		l.Close()
	})
}

// TestSpoof: c is in the roster, and can be nobody but c.
func TestSpoof(t *testing.T) {
	nodes := network(t, []string{"a", "b", "c"}, nil)
	links := open(t, t.Context(), nodes, "a", "b")
	// c calls itself a wherever it can: in its certificate's name and in its
	// own roster. Its key still says c.
	imposter := &node{name: "a", key: nodes["c"].key, roster: &roster{entries: map[string]entry{}}, events: make(chan event, 8)}
	endpoint, public, _ := nodes["a"].roster.ByID("b")
	imposter.roster.set("b", entry{endpoint, public})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	imposter.serve(t, lis, nil)
	if who, err := hello(t.Context(), imposter, "b"); err != nil || who != "c" {
		t.Errorf("b takes the caller for %q, %v", who, err)
	}
	wantRefused(t, rawStream(t, t.Context(), imposter, "b", links["b"].cfg.ID, "", "contract"), "unknown_session")
}

// TestSuspended: a party that leaves the roster loses its channels with the
// next heartbeat, and its calls at once.
func TestSuspended(t *testing.T) {
	for _, at := range []string{"a", "b"} { // dialler and callee
		t.Run("by "+at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nodes := bubble(t, []string{"a", "b"}, nil)
				_, _, ca, cb := pair(t, t.Context(), nodes, "a", "b")
				greet(t, t.Context(), ca, cb)
				other := "b"
				mine, theirs := ca, cb
				if at == "b" {
					other, mine, theirs = "a", cb, ca
				}
				nodes[at].roster.remove(other)
				_, err := mine.Recv(t.Context())
				wantIs(t, "own Recv", err, ErrDropped)
				_, err = theirs.Recv(t.Context())
				wantIs(t, "the suspended one's Recv", err, ErrPeerGone)
				_, err = hello(t.Context(), nodes[other], at)
				wantIs(t, "the suspended one's call", err, ErrUnreachable, ErrUnknownParty)
				_, err = hello(t.Context(), nodes[at], other)
				wantIs(t, "a call to it", err, ErrUnknownParty)
				nodes[at].wantEvent(t, "not_admitted")
			})
		})
	}
}

// TestSuspendedCall: without waiting for a heartbeat, a call over a
// connection that is up is refused.
func TestSuspendedCall(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, nil)
	if _, err := hello(t.Context(), nodes["a"], "b"); err != nil {
		t.Fatal(err)
	}
	nodes["b"].roster.remove("a")
	_, err := hello(t.Context(), nodes["a"], "b")
	wantIs(t, "call", err, ErrUnknownParty, ErrUnreachable)
	nodes["b"].wantEvent(t, "not_admitted")
}

func TestDrop(t *testing.T) {
	nodes := network(t, []string{"a", "b", "c"}, nil)
	links := open(t, t.Context(), nodes, "a", "b", "c")
	ab, ba := channelOf(t, links["a"], "b", ""), channelOf(t, links["b"], "a", "")
	bc, cb := channelOf(t, links["b"], "c", ""), channelOf(t, links["c"], "b", "")
	greet(t, t.Context(), ab, ba)
	greet(t, t.Context(), bc, cb)
	nodes["b"].Drop("a")
	_, err := ba.Recv(t.Context())
	wantIs(t, "b's channel to a", err, ErrDropped)
	_, err = ab.Recv(t.Context())
	wantIs(t, "a's channel to b", err, ErrPeerGone)
	greet(t, t.Context(), bc, cb) // nobody else is touched
}

// TestRekeyed: a party with a new key is reached under the new one, and only
// that.
func TestRekeyed(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, nil)
	if _, err := hello(t.Context(), nodes["a"], "b"); err != nil {
		t.Fatal(err)
	}
	key, err := suite.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	endpoint, _, _ := nodes["a"].roster.ByID("b")
	nodes["a"].roster.set("b", entry{endpoint, key.Public()})
	_, err = hello(t.Context(), nodes["a"], "b")
	wantIs(t, "b with its old key", err, suite.ErrPeerKey)
}
