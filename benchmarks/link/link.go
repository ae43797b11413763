// Package link joins the parties of a benchmark over a stated network: all in
// one process with [Connect], or each in a process of its own with an [End].
//
//	none  in-memory pipes: no encoding, no encryption, no network; between
//	      processes plain TCP on the loopback interface
//	lan   1 Gbit/s per direction, 0.25 ms one way (0.5 ms round trip)
//	wan   100 Mbit/s per direction, 10 ms one way (20 ms round trip)
//
// lan and wan are what nodes use, node/peer over TCP with TLS 1.3, on the
// loopback interface. Bandwidth and delay are put on each TCP connection,
// beneath TLS, so that bytes count with all framing. Each pair of parties has a
// link of its own: a party that talks to two others has two, not one that they
// share. Loss, and TCP's slow start over a long link, are not modelled.
//
// No byte arrives before the stated time; on a busy machine it can be later.
// The shaping itself costs some CPU time, which a benchmark's CPU figures then
// contain: take those over none, and wall-clock time over lan and wan.
package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"

	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/node/peer"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// Kind names a network.
type Kind string

// The networks.
const (
	None Kind = "none"
	LAN  Kind = "lan"
	WAN  Kind = "wan"
)

// Kinds returns every network, fastest first.
func Kinds() []Kind { return []Kind{None, LAN, WAN} }

// Shape returns the network's figures; zero for None.
func (k Kind) Shape() Shape {
	switch k {
	case LAN:
		return Shape{BitsPerSecond: 1_000_000_000, OneWay: 250 * time.Microsecond}
	case WAN:
		return Shape{BitsPerSecond: 100_000_000, OneWay: 10 * time.Millisecond}
	}
	return Shape{}
}

// String states the network for result files.
func (k Kind) String() string {
	s := k.Shape()
	if s == (Shape{}) {
		return string(k)
	}
	return fmt.Sprintf("%s (%d Mbit/s, %v one way)", string(k), s.BitsPerSecond/1_000_000, s.OneWay)
}

// Parse returns the network called name.
func Parse(name string) (Kind, error) {
	for _, k := range Kinds() {
		if string(k) == name {
			return k, nil
		}
	}
	return "", fmt.Errorf("link: no network %q: none, lan or wan", name)
}

// pipeWindow is how many messages of None are under way.
const pipeWindow = 4

// Connect joins parties of this process and returns each one's way to open
// channels, good for one session. close ends it: call it when every party is
// done; messages that nobody has received are lost. Over lan and wan every
// connection is up before Connect returns.
func Connect(kind Kind, parties []session.PartyID) (openers map[session.PartyID]session.Opener, close func() error, err error) {
	openers = make(map[session.PartyID]session.Opener, len(parties))
	if _, err := Parse(string(kind)); err != nil {
		return nil, nil, err
	}
	if kind == None {
		n := session.NewPipeNetwork(pipeWindow)
		for _, p := range parties {
			openers[p] = n.Opener(p)
		}
		return openers, func() error { return nil }, nil
	}
	var ends []End
	stop := sync.OnceValue(func() error {
		errs := make([]error, len(ends))
		var wg sync.WaitGroup
		for i, e := range ends { // at once: a link's end waits for its peer's
			wg.Go(func() { errs[i] = e.Close() })
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	var all []Address
	for _, p := range parties {
		e, err := Listen(kind, p)
		if err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		ends, all = append(ends, e), append(all, e.Address())
	}
	id := NewID()
	opened := make([]session.Opener, len(ends))
	group, ctx := errgroup.WithContext(context.Background())
	for i, e := range ends {
		group.Go(func() (err error) {
			opened[i], err = e.Join(ctx, all, id)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	for i, p := range parties {
		openers[p] = opened[i]
	}
	return openers, stop, nil
}

// Address is where the other parties reach an End.
type Address struct {
	Party    session.PartyID `json:"party"`
	Endpoint string          `json:"endpoint"`
	Public   []byte          `json:"public,omitempty"` // its key, where the network is encrypted
}

// End is one party's end of a network, good for one session.
type End interface {
	Address() Address
	// Join connects this party with all others, given in the session's order,
	// each of which joins with the same arguments. Over lan and wan every
	// connection that this party dials is up before Join returns.
	Join(ctx context.Context, all []Address, id string) (session.Opener, error)
	// Close ends it: call it when every party is done.
	Close() error
}

// NewID returns what the ends of one network recognise each other by.
func NewID() string { return "bench-" + rand.Text() }

// Listen returns the end of self, on the loopback interface.
func Listen(kind Kind, self session.PartyID) (End, error) {
	if _, err := Parse(string(kind)); err != nil {
		return nil, err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	if kind == None {
		return newSockets(self, lis), nil
	}
	key, err := suite.GenerateKey(rand.Reader)
	if err != nil {
		lis.Close()
		return nil, err
	}
	shape := kind.Shape()
	return &node{self: self, shape: shape, key: key, lis: &listener{Listener: lis, shape: shape}}, nil
}

// node is an End that is a party's node/peer.
type node struct {
	self  session.PartyID
	shape Shape
	key   *suite.Key
	lis   net.Listener
	all   []Address // read only once joined

	cancel context.CancelFunc
	peers  *peer.Peers
	link   *peer.Link
	served chan error
}

func (n *node) Address() Address {
	return Address{Party: n.self, Endpoint: n.lis.Addr().String(), Public: n.key.Public()}
}

func (n *node) Join(ctx context.Context, all []Address, id string) (_ session.Opener, err error) {
	if n.peers != nil {
		return nil, errors.New("link: joined before")
	}
	n.all = all
	n.peers, err = peer.New(peer.Config{
		Listener: n.lis, Key: n.key, Party: string(n.self), Directory: n, Handler: nobody{},
		Dial: func(ctx context.Context, endpoint string) (net.Conn, error) {
			raw, err := new(net.Dialer).DialContext(ctx, "tcp", endpoint)
			if err != nil {
				return nil, err
			}
			return n.shape.conn(raw), nil
		},
		Limits: peer.Limits{Rate: 1e6, Burst: 1e6, Streams: 4096, Labels: 1 << 20, Idle: 2 * time.Minute, Open: time.Minute},
	})
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.Background())
	n.cancel, n.served = cancel, make(chan error, 1)
	go func() { n.served <- n.peers.Serve(life) }()
	var parties []session.PartyID
	self := -1
	for i, a := range all {
		if a.Party == n.self {
			self = i
		}
		parties = append(parties, a.Party)
	}
	n.link, err = n.peers.OpenSession(life, peer.SessionConfig{ID: id, Self: n.self, Parties: parties, Digest: []byte(id)})
	if err != nil {
		return nil, err
	}
	// The party that stands earlier dials; a first call puts the connection up.
	for _, a := range all[self+1:] {
		if _, err := n.peers.Hello(ctx, string(a.Party), &peerv1.HelloRequest{}); err != nil {
			return nil, fmt.Errorf("link: connect %s to %s: %w", n.self, a.Party, err)
		}
	}
	return n.link.Opener(), nil
}

func (n *node) Close() error {
	if n.peers == nil {
		return n.lis.Close()
	}
	n.cancel()
	if n.link != nil {
		n.link.Close()
	}
	return <-n.served
}

// ByKey implements peer.Directory.
func (n *node) ByKey(public []byte) (string, bool) {
	for _, a := range n.all {
		if bytes.Equal(a.Public, public) {
			return string(a.Party), true
		}
	}
	return "", false
}

// ByID implements peer.Directory.
func (n *node) ByID(party string) (string, []byte, bool) {
	for _, a := range n.all {
		if string(a.Party) == party {
			return a.Endpoint, a.Public, true
		}
	}
	return "", nil, false
}
