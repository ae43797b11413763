// Package link joins the parties of a benchmark, all in one process, over a
// stated network.
//
//	none  in-memory pipes: no encoding, no encryption, no network
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
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"

	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/node/peer"
	"github.com/yinqiao/yinqiao/session"
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

// Connect joins parties and returns each one's way to open channels, good for
// one session. close ends it: call it when every party is done; messages that
// nobody has received are lost. Over lan and wan every connection is up before
// Connect returns.
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
	net, err := start(kind.Shape(), parties)
	if err != nil {
		return nil, nil, err
	}
	for _, n := range net.nodes {
		openers[n.id] = n.link.Opener()
	}
	return openers, net.stop, nil
}

// network is every party's node/peer, and their directory.
type network struct {
	cancel context.CancelFunc
	nodes  []*node
	byKey  map[string]*node // by public key; read only once started
	byID   map[string]*node
	wg     sync.WaitGroup
	once   sync.Once
	err    error
}

type node struct {
	id     session.PartyID
	lis    net.Listener
	public []byte
	peers  *peer.Peers
	link   *peer.Link
	served chan error
}

func start(shape Shape, parties []session.PartyID) (_ *network, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	n := &network{cancel: cancel, byKey: make(map[string]*node), byID: make(map[string]*node)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.stop())
		}
	}()
	keys := make([]*suite.Key, len(parties))
	for i, id := range parties {
		if keys[i], err = suite.GenerateKey(rand.Reader); err != nil {
			return nil, err
		}
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("link: %w", err)
		}
		p := &node{id: id, lis: &listener{Listener: lis, shape: shape}, public: keys[i].Public(), served: make(chan error, 1)}
		n.nodes = append(n.nodes, p)
		n.byKey[string(p.public)], n.byID[string(id)] = p, p
	}
	digest := make([]byte, 16)
	rand.Read(digest)
	for i, p := range n.nodes {
		p.peers, err = peer.New(peer.Config{
			Listener: p.lis, Key: keys[i], Party: string(p.id), Directory: n, Handler: nobody{},
			Dial: func(ctx context.Context, endpoint string) (net.Conn, error) {
				raw, err := new(net.Dialer).DialContext(ctx, "tcp", endpoint)
				if err != nil {
					return nil, err
				}
				return shape.conn(raw), nil
			},
			Limits: peer.Limits{Rate: 1e6, Burst: 1e6, Streams: 4096, Labels: 1 << 20, Idle: 2 * time.Minute, Open: time.Minute},
		})
		if err != nil {
			return nil, err
		}
		n.wg.Go(func() { p.served <- p.peers.Serve(ctx) })
	}
	for _, p := range n.nodes {
		p.link, err = p.peers.OpenSession(ctx, peer.SessionConfig{
			ID: "bench-" + hex.EncodeToString(digest), Self: p.id, Parties: parties, Digest: digest,
		})
		if err != nil {
			return nil, err
		}
	}
	// The party that stands earlier dials; a first call puts the connection up.
	for i, p := range n.nodes {
		for _, q := range n.nodes[i+1:] {
			if _, err := p.peers.Hello(ctx, string(q.id), &peerv1.HelloRequest{}); err != nil {
				return nil, fmt.Errorf("link: connect %s to %s: %w", p.id, q.id, err)
			}
		}
	}
	return n, nil
}

// stop closes the links of all parties at once, then their nodes.
func (n *network) stop() error {
	n.once.Do(func() {
		n.cancel()
		var wg sync.WaitGroup
		for _, p := range n.nodes {
			if p.link != nil {
				wg.Go(func() { p.link.Close() })
			}
		}
		wg.Wait()
		n.wg.Wait()
		for _, p := range n.nodes {
			if p.peers == nil {
				p.lis.Close()
				continue
			}
			n.err = errors.Join(n.err, <-p.served)
		}
	})
	return n.err
}

// ByKey implements peer.Directory.
func (n *network) ByKey(public []byte) (string, bool) {
	p := n.byKey[string(public)]
	if p == nil {
		return "", false
	}
	return string(p.id), true
}

// ByID implements peer.Directory.
func (n *network) ByID(party string) (string, []byte, bool) {
	p := n.byID[party]
	if p == nil {
		return "", nil, false
	}
	return p.lis.Addr().String(), p.public, true
}
