package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"

	"github.com/yinqiao/yinqiao/session"
)

// rawStream dials a stream as a peer may who keeps to none of our rules.
func rawStream(t testing.TB, ctx context.Context, from *node, to, id, label string, digest string) peerv1.Peer_StreamClient {
	t.Helper()
	c, err := from.client(to)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.rpc().Stream(metadata.AppendToOutgoingContext(ctx, mdSession, id, mdLabel, label, mdContract, digest))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantRefused expects a stream to end with a class of refusal.
func wantRefused(t testing.TB, s peerv1.Peer_StreamClient, class string) {
	t.Helper()
	for {
		_, err := s.Recv()
		if err == nil {
			continue // heartbeats
		}
		var r *RefusedError
		if err := fromStatus(err); !errors.As(err, &r) || r.Class != class {
			t.Errorf("the stream ended with %v, want class %s", err, class)
		}
		return
	}
}

// TestStreamAdmission: only the right party's stream, for a session that is
// open, with the contract, once per label.
func TestStreamAdmission(t *testing.T) {
	nodes := network(t, []string{"a", "b", "c"}, func(c *Config) {
		if c.Party == "b" {
			c.Limits.Open = 50 * time.Millisecond
		}
	})
	ctx := t.Context()
	links := open(t, ctx, nodes, "a", "b")
	id := links["b"].cfg.ID

	for _, c := range []struct {
		name, from, to, id, label, digest, class string
	}{
		{"a session nobody opened", "a", "b", "no-such-session", "", "contract", "unknown_session"},
		{"a party of another session", "c", "b", id, "", "contract", "unknown_session"},
		{"against the order", "b", "a", id, "", "contract", "wrong_party"},
		{"another contract", "a", "b", id, "", "contrabt", "contract_mismatch"},
		{"no session ID", "a", "b", "", "", "contract", "protocol"},
		{"a label with a space", "a", "b", id, "x y", "contract", "protocol"},
		{"a label too long", "a", "b", id, string(make([]byte, 0, 300)) + fmt.Sprintf("%0300d", 1), "contract", "protocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantRefused(t, rawStream(t, t.Context(), nodes[c.from], c.to, c.id, c.label, c.digest), c.class)
			nodes[c.to].wantEvent(t, c.class)
		})
	}

	t.Run("label twice", func(t *testing.T) {
		ca, cb := channelOf(t, links["a"], "b", "once"), channelOf(t, links["b"], "a", "once")
		greet(t, ctx, ca, cb)
		wantRefused(t, rawStream(t, t.Context(), nodes["a"], "b", id, "once", "contract"), "label")
		nodes["b"].wantEvent(t, "label")
		for name, l := range links {
			peer := map[string]session.PartyID{"a": "b", "b": "a"}[name]
			_, err := l.Opener()(ctx, peer, "once")
			wantIs(t, "opened twice here", err, ErrLabel)
			_, err = l.Opener()(ctx, peer, "new\nline")
			wantIs(t, "malformed label", err, ErrLabel)
			_, err = l.Opener()(ctx, "c", "")
			wantIs(t, "a stranger's channel", err, ErrUnknownParty)
			_, err = l.Opener()(ctx, session.PartyID(name), "")
			wantIs(t, "a channel to itself", err, ErrUnknownParty)
		}
		greet(t, ctx, ca, cb) // and the one that is up is none the worse
	})

	t.Run("after its end", func(t *testing.T) {
		closeAll(links)
		wantRefused(t, rawStream(t, t.Context(), nodes["a"], "b", id, "", "contract"), "replayed_session")
		nodes["b"].wantEvent(t, "replayed_session")
		_, err := nodes["b"].OpenSession(ctx, SessionConfig{ID: id, Self: "b", Parties: ids([]string{"a", "b"})})
		wantIs(t, "OpenSession", err, ErrReplayed)
	})
}

// TestRefusalReachesDialler: the sentinel behind a class is what the dialling
// protocol sees.
func TestRefusalReachesDialler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := bubble(t, []string{"a", "b"}, nil)
		id := freshID()
		la, err := nodes["a"].OpenSession(t.Context(), SessionConfig{ID: id, Self: "a", Parties: ids([]string{"a", "b"})})
		if err != nil {
			t.Fatal(err)
		}
		_, err = channelOf(t, la, "b", "").Recv(t.Context())
		wantIs(t, "a session the callee never opens", err, ErrUnknownSession, ErrNoStream)
		la.Close()

		id = freshID()
		links := make(map[string]*Link)
		for name, digest := range map[string]string{"a": "one", "b": "two"} {
			if links[name], err = nodes[name].OpenSession(t.Context(), SessionConfig{
				ID: id, Self: session.PartyID(name), Parties: ids([]string{"a", "b"}), Digest: []byte(digest),
			}); err != nil {
				t.Fatal(err)
			}
		}
		_, err = channelOf(t, links["a"], "b", "").Recv(t.Context())
		wantIs(t, "different contracts", err, ErrContract)
		_, err = channelOf(t, links["b"], "a", "").Recv(t.Context())
		wantIs(t, "and at the callee", err, ErrNoStream)
		closeAll(links)
	})
}

// TestEarlyStreamWaits: a stream that arrives before its session is opened is
// served once it is; more of them than may wait try again by themselves.
func TestEarlyStreamWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := bubble(t, []string{"a", "b"}, func(c *Config) { c.Limits.Waiting = 2 })
		id := freshID()
		la, err := nodes["a"].OpenSession(t.Context(), SessionConfig{ID: id, Self: "a", Parties: ids([]string{"a", "b"})})
		if err != nil {
			t.Fatal(err)
		}
		const labels = 6
		for i := range labels {
			channelOf(t, la, "b", fmt.Sprint(i))
		}
		waiting := func() int {
			nodes["b"].mu.Lock()
			defer nodes["b"].mu.Unlock()
			if s := nodes["b"].parties["a"]; s != nil {
				return s.waiting
			}
			return 0
		}
		<-time.After(3 * time.Second)
		if n := waiting(); n != 2 {
			t.Errorf("%d streams wait", n)
		}
		lb, err := nodes["b"].OpenSession(t.Context(), SessionConfig{ID: id, Self: "b", Parties: ids([]string{"a", "b"})})
		if err != nil {
			t.Fatal(err)
		}
		for i := range labels {
			cb := channelOf(t, lb, "a", fmt.Sprint(i))
			if err := cb.Send(t.Context(), []byte("welcome")); err != nil {
				t.Fatalf("label %d: %v", i, err)
			}
		}
		closeAll(map[string]*Link{"a": la, "b": lb})
		if n := waiting(); n != 0 {
			t.Errorf("%d streams wait at the end", n)
		}
	})
}

func TestOpenSession(t *testing.T) {
	seen := map[string]bool{"old": true}
	nodes := network(t, []string{"a", "b"}, func(c *Config) {
		c.Seen = func(_ context.Context, id string) error {
			if seen[id] {
				return ErrReplayed
			}
			seen[id] = true
			return nil
		}
	})
	n := nodes["a"]
	for name, c := range map[string]struct {
		cfg  SessionConfig
		want error
	}{
		"blank ID":            {SessionConfig{Self: "a", Parties: ids([]string{"a", "b"})}, nil},
		"ID with a space":     {SessionConfig{ID: "a b", Self: "a", Parties: ids([]string{"a", "b"})}, nil},
		"somebody else":       {SessionConfig{ID: "x", Self: "b", Parties: ids([]string{"a", "b"})}, nil},
		"not a party":         {SessionConfig{ID: "x", Self: "a", Parties: ids([]string{"b"})}, nil},
		"twice":               {SessionConfig{ID: "x", Self: "a", Parties: ids([]string{"a", "b", "b"})}, nil},
		"not in the roster":   {SessionConfig{ID: "x", Self: "a", Parties: ids([]string{"a", "z"})}, ErrUnknownParty},
		"seen in another day": {SessionConfig{ID: "old", Self: "a", Parties: ids([]string{"a", "b"})}, ErrReplayed},
		"digest too long":     {SessionConfig{ID: "x", Self: "a", Parties: ids([]string{"a", "b"}), Digest: make([]byte, 300)}, nil},
	} {
		_, err := n.OpenSession(t.Context(), c.cfg)
		if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l, err := n.OpenSession(t.Context(), SessionConfig{ID: "x", Self: "a", Parties: ids([]string{"a", "b"})})
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.OpenSession(t.Context(), SessionConfig{ID: "x", Self: "a", Parties: ids([]string{"a", "b"})})
	wantIs(t, "open twice", err, ErrReplayed)
	l.Close()
	l.Close()
	if _, err := l.Opener()(t.Context(), "b", ""); err == nil {
		t.Error("a closed link opened a channel")
	}
}

func TestSessionQuota(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, func(c *Config) {
		if c.Party == "b" {
			c.Limits.SessionBytes = 100 << 10
		}
	})
	links := open(t, t.Context(), nodes, "a", "b")
	// Over two labels: the quota is the session's.
	for i := range 2 {
		label := fmt.Sprint(i)
		ca, cb := channelOf(t, links["a"], "b", label), channelOf(t, links["b"], "a", label)
		if err := ca.Send(t.Context(), make([]byte, 60<<10)); err != nil {
			t.Fatal(err)
		}
		_, err := cb.Recv(t.Context())
		if i == 0 {
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		wantIs(t, "over the quota", err, ErrQuota)
		wantIs(t, "own Send", cb.Send(t.Context(), []byte("x")), ErrQuota)
		_, err = ca.Recv(t.Context())
		wantIs(t, "at the peer", err, ErrPeerGone)
	}
}

func TestLabelLimit(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, func(c *Config) { c.Limits.Labels = 3 })
	links := open(t, t.Context(), nodes, "a", "b")
	id := links["b"].cfg.ID
	for i := range 3 {
		if _, err := rawStream(t, t.Context(), nodes["a"], "b", id, fmt.Sprint(i), "contract").Header(); err != nil {
			t.Fatal(err)
		}
	}
	wantRefused(t, rawStream(t, t.Context(), nodes["a"], "b", id, "3", "contract"), "busy")
	_, err := links["b"].Opener()(t.Context(), "a", "3")
	wantIs(t, "here", err, ErrBusy)
}

// TestThreeParties: with three parties two sessions at once do not disturb
// each other, and the loss of one peer leaves the channel between the others.
func TestThreeParties(t *testing.T) {
	names := []string{"a", "b", "c"}
	nodes := network(t, names, nil)
	one, two := open(t, t.Context(), nodes, names...), open(t, t.Context(), nodes, "c", "a", "b")
	for _, links := range []map[string]*Link{one, two} {
		ch := make(map[string]session.Channel)
		for _, x := range names {
			for _, y := range names {
				if x != y {
					ch[x+y] = channelOf(t, links[x], y, "")
				}
			}
		}
		for _, x := range names {
			for _, y := range names {
				if x < y {
					greet(t, t.Context(), ch[x+y], ch[y+x])
				}
			}
		}
		links["c"].Abort(errors.New("c has had enough"))
		_, err := ch["ac"].Recv(t.Context())
		wantIs(t, "a from c", err, ErrPeerGone)
		greet(t, t.Context(), ch["ab"], ch["ba"])
		ch["ab"].CloseSend()
		if _, err := ch["ba"].Recv(t.Context()); err != io.EOF {
			t.Errorf("b from a: %v", err)
		}
	}
}

// TestCloseTakesLateStreams: a peer that opens a channel while this side is
// already closing is told that there is nothing to hear.
func TestCloseTakesLateStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := bubble(t, []string{"a", "b"}, nil)
		la, lb, ca, cb := pair(t, t.Context(), nodes, "a", "b")
		greet(t, t.Context(), ca, cb)
		closed := make(chan error, 1)
		go func() { closed <- lb.Close() }()
		synctest.Wait()
		late := channelOf(t, la, "b", "late")
		synctest.Wait()
		if err := la.Close(); err != nil {
			t.Errorf("a: %v", err)
		}
		if err := <-closed; err != nil {
			t.Errorf("b: %v", err)
		}
		if _, err := late.Recv(t.Context()); err != io.EOF {
			t.Errorf("the late channel: %v", err)
		}
	})
}
