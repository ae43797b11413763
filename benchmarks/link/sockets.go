package link

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/session"
)

// What a connection says first: the network's ID, who dials, and the label.
const (
	maxHello  = 4 << 10
	helloWait = 10 * time.Second
)

// sockets is an End whose channels are TCP connections of their own, each
// message behind its length. Nothing is encrypted, shaped or batched: it is the
// least that two processes can do. The party that stands earlier dials.
type sockets struct {
	self session.PartyID
	lis  net.Listener

	mu      sync.Mutex
	id      string
	joined  bool
	closed  bool
	conns   map[net.Conn]bool
	waiting map[socketKey]chan net.Conn // holds one connection: a label is opened once
	wg      sync.WaitGroup
}

type socketKey struct {
	peer  session.PartyID
	label string
}

func newSockets(self session.PartyID, lis net.Listener) *sockets {
	return &sockets{self: self, lis: lis, conns: make(map[net.Conn]bool), waiting: make(map[socketKey]chan net.Conn)}
}

func (s *sockets) Address() Address {
	return Address{Party: s.self, Endpoint: s.lis.Addr().String()}
}

func (s *sockets) Join(_ context.Context, all []Address, id string) (session.Opener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.joined || s.closed {
		return nil, errors.New("link: joined before")
	}
	s.joined, s.id = true, id
	place := make(map[session.PartyID]int, len(all))
	for i, a := range all {
		place[a.Party] = i
	}
	s.wg.Go(s.accept)
	return func(ctx context.Context, peer session.PartyID, label string) (session.Channel, error) {
		i, ok := place[peer]
		if !ok {
			return nil, fmt.Errorf("link: no party %q", peer)
		}
		if place[s.self] < i {
			return s.dial(ctx, all[i].Endpoint, label)
		}
		return s.await(ctx, socketKey{peer, label})
	}, nil
}

func (s *sockets) Close() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	err := s.lis.Close()
	s.wg.Wait()
	return err
}

// keep closes c with the network.
func (s *sockets) keep(c net.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return net.ErrClosed
	}
	s.conns[c] = true
	return nil
}

func (s *sockets) dial(ctx context.Context, endpoint, label string) (session.Channel, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	if err := s.keep(c); err != nil {
		return nil, err
	}
	ch := newSocket(c)
	return ch, ch.Send(ctx, appendHello(nil, hello{s.id, s.self, label}))
}

// await returns the connection that the peer dials for a label.
func (s *sockets) await(ctx context.Context, key socketKey) (session.Channel, error) {
	select {
	case c := <-s.place(key):
		return newSocket(c), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *sockets) place(key socketKey) chan net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, ok := s.waiting[key]
	if !ok {
		ch = make(chan net.Conn, 1)
		s.waiting[key] = ch
	}
	return ch
}

// accept takes connections until the listener closes.
func (s *sockets) accept() {
	for {
		c, err := s.lis.Accept()
		if err != nil {
			return
		}
		if s.keep(c) != nil {
			return
		}
		s.wg.Go(func() {
			if err := s.admit(c); err != nil {
				c.Close()
			}
		})
	}
}

// admit hands a connection to whoever waits for its label. It reads no byte
// beyond the hello.
func (s *sockets) admit(c net.Conn) error {
	if err := c.SetReadDeadline(time.Now().Add(helloWait)); err != nil {
		return err
	}
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > maxHello {
		return session.ErrTooLarge
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	h, err := decodeHello(b)
	if err != nil {
		return err
	}
	if h.id != s.id {
		return errors.New("link: a connection of another network")
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	select {
	case s.place(socketKey{h.from, h.label}) <- c:
		return nil
	default:
		return fmt.Errorf("link: label %q opened twice", h.label)
	}
}

type hello struct {
	id    string
	from  session.PartyID
	label string
}

func appendHello(b []byte, h hello) []byte {
	b = wire.AppendBytes(b, []byte(h.id))
	b = wire.AppendBytes(b, []byte(h.from))
	return wire.AppendBytes(b, []byte(h.label))
}

func decodeHello(b []byte) (hello, error) {
	r := wire.NewReader(b)
	h := hello{string(r.Bytes(maxHello)), session.PartyID(r.Bytes(maxHello)), string(r.Bytes(maxHello))}
	if err := r.Done(); err != nil {
		return hello{}, fmt.Errorf("link: hello: %w", err)
	}
	return h, nil
}

// socket is a session.Channel over one connection. A call whose context ends
// leaves the connection unusable in that direction.
type socket struct {
	conn net.Conn
	in   *bufio.Reader
	head [4]byte
}

func newSocket(c net.Conn) *socket { return &socket{conn: c, in: bufio.NewReaderSize(c, readBuffer)} }

// past is a deadline that ends a call at once.
var past = time.Unix(1, 0)

func (s *socket) Send(ctx context.Context, p []byte) error {
	if len(p) > session.MaxMessage {
		return session.ErrTooLarge
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetWriteDeadline(past) })
	defer stop()
	binary.LittleEndian.PutUint32(s.head[:], uint32(len(p)))
	message := net.Buffers{s.head[:], p}
	if _, err := message.WriteTo(s.conn); err != nil {
		return socketError(ctx, err)
	}
	return nil
}

func (s *socket) Recv(ctx context.Context) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(past) })
	defer stop()
	var head [4]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		if err == io.EOF {
			return nil, io.EOF
		}
		return nil, socketError(ctx, err)
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > session.MaxMessage {
		return nil, session.ErrTooLarge
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(s.in, p); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, socketError(ctx, err)
	}
	return p, nil
}

func (s *socket) CloseSend() error {
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// socketError prefers the reason for which a call was ended.
func socketError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("link: %w", err)
}
