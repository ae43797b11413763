package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"

	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/session"
)

// TestHostileFrames: what no honest peer sends ends its channel, at the callee
// and at the dialler alike, and nothing else.
func TestHostileFrames(t *testing.T) {
	data := func(n int) *peerv1.Frame { return &peerv1.Frame{Kind: &peerv1.Frame_Data{Data: make([]byte, n)}} }
	closing := &peerv1.Frame{Kind: &peerv1.Frame_Close{Close: true}}
	beat := &peerv1.Frame{Kind: &peerv1.Frame_Heartbeat{Heartbeat: true}}
	flood := make([]*peerv1.Frame, 2000)
	for i := range flood {
		flood[i] = beat
	}
	nodes := network(t, []string{"a", "b"}, nil)
	links := open(t, t.Context(), nodes, "a", "b")
	fine, theirs := channelOf(t, links["b"], "a", ""), channelOf(t, links["a"], "b", "")
	greet(t, t.Context(), fine, theirs)
	for i, c := range []struct {
		name   string
		frames []*peerv1.Frame
		want   error
	}{
		{"an empty frame", []*peerv1.Frame{{}}, ErrProtocol},
		{"closed twice", []*peerv1.Frame{closing, closing}, ErrProtocol},
		{"a message after close", []*peerv1.Frame{closing, data(1)}, ErrProtocol},
		{"a message one byte too long", []*peerv1.Frame{data(session.MaxMessage + 1)}, session.ErrTooLarge},
		{"a frame above gRPC's limit", []*peerv1.Frame{data(maxFrame + 1)}, session.ErrTooLarge},
		{"a flood of heartbeats", flood, ErrProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			label := fmt.Sprint("hostile/", i)
			s := rawStream(t, t.Context(), nodes["a"], "b", links["b"].cfg.ID, label, "contract")
			cb := channelOf(t, links["b"], "a", label)
			for _, f := range c.frames {
				if s.Send(f) != nil {
					break // the stream has ended already
				}
			}
			for {
				_, err := cb.Recv(t.Context())
				if err == nil {
					continue
				}
				if err == io.EOF { // of the Close that came first; the fault shows in Send
					for err = nil; err == nil; {
						err = cb.Send(t.Context(), nil)
					}
				}
				wantIs(t, "Recv or Send", err, c.want)
				break
			}
			greet(t, t.Context(), fine, theirs)
		})
	}
}

// frameList is a dialled stream whose peer is a test.
type frameList struct {
	frames []*peerv1.Frame
	end    error
}

func (*frameList) Send(*peerv1.Frame) error { return nil }
func (*frameList) Context() context.Context { return context.Background() }
func (l *frameList) Recv() (*peerv1.Frame, error) {
	if len(l.frames) == 0 {
		return nil, l.end
	}
	f := l.frames[0]
	l.frames = l.frames[1:]
	return f, nil
}

// FuzzFrames feeds a channel any order of frames: it always ends, and Recv
// gives nothing but what was sent before the first fault.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 1, 2}, true)
	f.Add([]byte{2, 0}, false)
	f.Add([]byte{2, 2}, true)
	f.Add([]byte{3}, true)
	f.Fuzz(func(t *testing.T, kinds []byte, clean bool) {
		if len(kinds) > 256 {
			return
		}
		l := &frameList{end: io.EOF}
		if !clean {
			l.end = status.Error(codes.Unavailable, "Some Text\nof the peer's")
		}
		messages, beats, closed, fault := 0, 0, false, false
		for i, k := range kinds {
			fr := &peerv1.Frame{}
			switch k % 4 {
			case 0:
				fr.Kind = &peerv1.Frame_Data{Data: []byte{byte(i)}}
			case 1:
				fr.Kind = &peerv1.Frame_Heartbeat{Heartbeat: true}
				beats++
			case 2:
				fr.Kind = &peerv1.Frame_Close{Close: true}
			}
			l.frames = append(l.frames, fr)
			switch {
			case fault:
			case k%4 == 3, closed && k%4 == 0, closed && k%4 == 2:
				fault = true
			case k%4 == 0:
				messages++
			case k%4 == 2:
				closed = true
			}
		}
		limits := Limits{}.withDefaults()
		p := &Peers{limits: limits, log: discard}
		link := &Link{peers: p, closing: make(chan struct{}), lost: make(map[session.PartyID]error)}
		link.ctx, link.cancel = context.WithCancelCause(context.Background())
		defer link.cancel(nil)
		c := newChannel(link, "a", "")
		close(c.wanted)
		var wg sync.WaitGroup
		wg.Go(func() { c.hold(l, func() {}) })
		got := 0
		var err error
		for err == nil {
			if _, err = c.Recv(t.Context()); err == nil {
				got++
			}
		}
		wg.Wait()
		// More heartbeats at once than time has passed for are a fault too.
		if beats > allowedBeats(0, limits.Heartbeat) && errors.Is(err, ErrProtocol) {
			return
		}
		switch {
		case got > messages:
			t.Errorf("received %d messages of %d", got, messages)
		case closed != (err == io.EOF):
			t.Errorf("ended with %v, closed: %v", err, closed)
		case !closed && fault && !errors.Is(err, ErrProtocol):
			t.Errorf("a fault ended in %v", err)
		case !closed && !fault && !errors.Is(err, ErrPeerGone):
			t.Errorf("the stream's end gave %v", err)
		case err != io.EOF && strings.Contains(err.Error(), "Some Text"):
			t.Errorf("the peer wrote our error: %v", err)
		}
	})
}

// TestRefusalClasses: a reason crosses the wire as its class, without detail,
// and a peer cannot write into our errors.
func TestRefusalClasses(t *testing.T) {
	for _, err := range []error{
		ErrUnknownParty, ErrDropped, ErrReplayed, ErrUnknownSession, ErrLabel, ErrContract, ErrBusy,
		ErrQuota, ErrIdle, ErrProtocol, session.ErrTooLarge,
	} {
		r := refusal(fmt.Errorf("with detail %d: %w", 42, err))
		st, ok := status.FromError(r)
		if !ok || strings.Contains(st.Message(), "42") || !validClass(st.Message()) {
			t.Errorf("%v crosses as %q", err, st.Message())
		}
		back := fromStatus(st.Err())
		if err == ErrDropped {
			err = ErrUnknownParty // to the peer it is the same
		}
		wantIs(t, "and comes back", back, err)
	}
	for _, text := range []string{"", "Not A Class", "line\nbreak", strings.Repeat("x", 65), "ünknown"} {
		if err := fromStatus(status.Error(codes.Aborted, text)); text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the peer's text %q came through: %v", text, err)
		}
	}
}

// TestGarbage: bytes that are not TLS, TLS of the wrong kind and HTTP end
// their connection and disturb nobody.
func TestGarbage(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, nil)
	endpoint, _, _ := nodes["a"].roster.ByID("b")
	dial := func() net.Conn {
		c, err := net.Dial("tcp", endpoint)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, garbage := range []string{
		"GET / HTTP/1.1\r\nHost: b\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		strings.Repeat("\x00", 100), strings.Repeat("\xff", 70000),
		"\x16\x03\x01\xff\xff" + strings.Repeat("A", 70000), // a record longer than TLS has
	} {
		c := dial()
		io.WriteString(c, garbage)
		c.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%.20q: %v", garbage, err)
		}
		c.Close()
	}
	key := nodes["a"].key
	_, public, _ := nodes["a"].roster.ByID("b")
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.2":          func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"no certificate":   func(c *tls.Config) { c.Certificates = nil },
		"no ALPN":          func(c *tls.Config) { c.NextProtos = nil },
		"HTTP/1.1 by ALPN": func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} },
	} {
		cfg, err := key.ClientTLS("a", public)
		if err != nil {
			t.Fatal(err)
		}
		change(cfg)
		raw := dial()
		c := tls.Client(raw, cfg)
		err = c.Handshake()
		if err == nil { // in TLS 1.3 the server's verdict comes later
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil {
			t.Errorf("%s: the server went on", name)
		}
		raw.Close()
	}
	// TLS as it should be, and then not HTTP/2.
	cfg, err := key.ClientTLS("a", public)
	if err != nil {
		t.Fatal(err)
	}
	raw := dial()
	c := tls.Client(raw, cfg)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	c.Write([]byte(strings.Repeat("nonsense", 1000))) // the server may hang up half-way
	io.Copy(io.Discard, c)                            // until the server closes
	raw.Close()
	if who, err := hello(t.Context(), nodes["a"], "b"); err != nil || who != "a" {
		t.Errorf("afterwards: %q, %v", who, err)
	}
}

// TestSlowHandshake: a connection that says nothing is closed at the deadline;
// too many of them from one host are refused, and leave room for others.
func TestSlowHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := bubble(t, []string{"a", "b"}, func(c *Config) { c.Limits.Handshake, c.Limits.Handshakes = 10*time.Second, 8 })
		dial := nodes["a"].cfg.Dial
		start := time.Now()
		var slow []net.Conn
		for range 2 { // a quarter of 8
			c, err := dial(t.Context(), "b")
			if err != nil {
				t.Fatal(err)
			}
			slow = append(slow, c)
		}
		synctest.Wait()
		c, err := dial(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(start) != 0 {
			t.Errorf("a third one: %v after %v", err, time.Since(start))
		}
		nodes["b"].wantEvent(t, "busy")
		for _, c := range slow {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("the server spoke first")
			}
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("closed after %v", d)
		}
		if who, err := hello(t.Context(), nodes["a"], "b"); err != nil || who != "a" {
			t.Errorf("afterwards: %q, %v", who, err)
		}
		// The same after TLS: no HTTP/2 preface.
		_, public, _ := nodes["a"].roster.ByID("b")
		cfg, err := nodes["a"].key.ClientTLS("a", public)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := dial(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		io.Copy(io.Discard, tls.Client(raw, cfg))
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("without a preface closed after %v", d)
		}
	})
}

func TestHandshakes(t *testing.T) {
	h := handshakes{total: 4, perHost: 2, hosts: map[string]int{}}
	for i, want := range []struct {
		host string
		ok   bool
	}{{"x", true}, {"x", true}, {"x", false}, {"y", true}, {"z", true}, {"y", false}} {
		if h.enter(want.host) != want.ok {
			t.Errorf("entry %d of %s: %v", i, want.host, !want.ok)
		}
	}
	for _, host := range []string{"x", "x", "y", "z"} {
		h.leave(host)
	}
	if h.busy != 0 || len(h.hosts) != 0 {
		t.Errorf("left over: %d, %v", h.busy, h.hosts)
	}
}

// TestTooManyStreams: a party's streams are counted over all of its
// connections; another party is not concerned.
func TestTooManyStreams(t *testing.T) {
	nodes := network(t, []string{"a", "b", "c"}, func(c *Config) { c.Limits.Streams, c.Limits.Calls = 3, 3 })
	links := open(t, t.Context(), nodes, "a", "c", "b")
	id := links["b"].cfg.ID
	for i := range 3 {
		s := rawStream(t, t.Context(), nodes["a"], "b", id, fmt.Sprint(i), "contract")
		if md, err := s.Header(); err != nil || len(md.Get(mdAccepted)) != 1 {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	wantRefused(t, rawStream(t, t.Context(), nodes["a"], "b", id, "one more", "contract"), "busy")
	nodes["b"].wantEvent(t, "busy")
	if _, err := rawStream(t, t.Context(), nodes["c"], "b", id, "", "contract").Header(); err != nil {
		t.Errorf("another party's: %v", err)
	}
}

// TestRate: a party's calls are limited to a burst, which comes back in time.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := bubble(t, []string{"a", "b"}, func(c *Config) { c.Limits.Rate, c.Limits.Burst = 1, 10 })
		ok := 0
		for range 100 {
			_, err := hello(t.Context(), nodes["a"], "b")
			if err == nil {
				ok++
				continue
			}
			wantIs(t, "over the limit", err, ErrBusy)
		}
		if ok != 9 { // the connection took one
			t.Errorf("%d calls at once", ok)
		}
		<-time.After(5 * time.Second)
		if _, err := hello(t.Context(), nodes["a"], "b"); err != nil {
			t.Errorf("later: %v", err)
		}
	})
}

// TestTooManyCalls: calls that hang are counted.
func TestTooManyCalls(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, func(c *Config) { c.Limits.Calls = 2 })
	entered, release := make(chan struct{}), make(chan struct{})
	nodes["b"].hello = func(context.Context, string) (*peerv1.HelloReply, error) {
		entered <- struct{}{}
		<-release
		return &peerv1.HelloReply{}, nil
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := hello(t.Context(), nodes["a"], "b"); err != nil {
				t.Error(err)
			}
		})
		<-entered
	}
	_, err := hello(t.Context(), nodes["a"], "b")
	wantIs(t, "one more", err, ErrBusy)
	close(release)
	wg.Wait()
}

// TestConnectionsOfOneParty: the newest connections stay.
func TestConnectionsOfOneParty(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, func(c *Config) { c.Limits.Conns = 2 })
	endpoint, public, _ := nodes["a"].roster.ByID("b")
	var all []*client
	for range 4 {
		c, err := nodes["a"].connect(endpoint, public)
		if err != nil {
			t.Fatal(err)
		}
		defer c.cc.Close()
		if _, err := c.rpc().Hello(t.Context(), &peerv1.HelloRequest{}); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		nodes["b"].mu.Lock()
		if n := len(nodes["b"].parties["a"].conns); n > 2 {
			t.Errorf("%d connections", n)
		}
		nodes["b"].mu.Unlock()
	}
	if _, err := all[3].rpc().Hello(t.Context(), &peerv1.HelloRequest{}); err != nil {
		t.Errorf("the newest: %v", err)
	}
}

// TestLongMetadata: headers are bounded before they are read.
func TestLongMetadata(t *testing.T) {
	nodes := network(t, []string{"a", "b"}, nil)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-padding", strings.Repeat("x", 2*headerBytes))
	if _, err := hello(ctx, nodes["a"], "b"); err == nil {
		t.Error("32 KiB of metadata were accepted")
	}
	if _, err := hello(t.Context(), nodes["a"], "b"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestNoCompression: neither end of this package has a decompressor to attack.
func TestNoCompression(t *testing.T) {
	for _, name := range []string{"gzip", "snappy", "zstd", "deflate"} {
		if encoding.GetCompressor(name) != nil {
			t.Errorf("%s is registered", name)
		}
	}
}

func TestEvents(t *testing.T) {
	e := newEvents()
	for range 10 * eventBurst {
		e.add(event{rule: "flood"})
	}
	if n := len(e.queue); n != eventBurst {
		t.Errorf("%d events are queued", n)
	}
	for len(e.queue) > 0 {
		<-e.queue
	}
	e.bucket.tokens = 1
	e.add(event{rule: "next", detail: "later"})
	if ev := <-e.queue; !strings.Contains(ev.detail, "576 other events") {
		t.Errorf("the next event says %q", ev.detail)
	}
}

func TestMemory(t *testing.T) {
	m := newMemory(3)
	for _, s := range []string{"1", "2", "2", "3", "4"} {
		m.add(s)
	}
	if m.has("1") || !m.has("2") || !m.has("3") || !m.has("4") || len(m.set) != 3 {
		t.Errorf("remembers %v", m.set)
	}
}

func TestConfig(t *testing.T) {
	key, err := suite.NewKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	good := Config{Listener: lis, Key: key, Party: "a", Directory: &roster{}, Handler: &node{}}
	for name, change := range map[string]func(*Config){
		"no listener":  func(c *Config) { c.Listener = nil },
		"no key":       func(c *Config) { c.Key = nil },
		"no directory": func(c *Config) { c.Directory = nil },
		"no handler":   func(c *Config) { c.Handler = nil },
		"no party":     func(c *Config) { c.Party = "" },
		"bad limits":   func(c *Config) { c.Limits.Streams = -1 },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	err = Limits{Streams: -1, Idle: time.Second, Heartbeat: time.Second, Window: 5, Rate: -1}.Validate()
	for _, want := range []string{"Streams", "Idle", "Window", "Rate"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the faults of a config do not name %s: %v", want, err)
		}
	}
	p, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	p.Close() // never served
	p.Close()
	if _, err := lis.Accept(); err == nil {
		t.Error("the listener is still open")
	}
	if err := p.Serve(t.Context()); err != nil {
		t.Errorf("Serve after Close: %v", err)
	}
	if _, err := p.OpenSession(t.Context(), SessionConfig{ID: "x", Self: "a", Parties: ids([]string{"a"})}); !errors.Is(err, ErrClosed) {
		t.Errorf("OpenSession after Close: %v", err)
	}
	if _, err := p.Hello(t.Context(), "b", nil); err == nil {
		t.Error("a call after Close")
	}
}
