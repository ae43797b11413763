package link

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// Shape is what a network does to each direction of a connection.
//
// It is not grpc's benchmark/latency because both ends share one clock here:
// that package measures the real delay first and subtracts it, so that on a
// busy machine a short link comes out shorter than stated, or not at all.
type Shape struct {
	BitsPerSecond int64
	OneWay        time.Duration
}

const (
	packetBytes = 1500  // the grain in which bandwidth is spent
	headBytes   = 12    // when a packet is due, and its length
	sendBuffer  = 256e3 // bytes that a writer may be ahead of the wire
	readBuffer  = 64 << 10
)

// epoch is the clock of all connections: due times are monotonic.
var epoch = time.Now()

// conn shapes what is written to raw, and delays what the other end, which
// must be shaped too, has written.
func (s Shape) conn(raw net.Conn) net.Conn {
	return &conn{Conn: raw, shape: s, in: bufio.NewReaderSize(raw, readBuffer), closed: make(chan struct{})}
}

func (s Shape) wire(n int) time.Duration {
	return time.Duration(int64(n) * 8 * int64(time.Second) / s.BitsPerSecond)
}

// conn is a net.Conn: one Read may overlap one Write.
type conn struct {
	net.Conn
	shape Shape
	once  sync.Once

	closed chan struct{}
	free   time.Duration // when the wire has taken everything written so far
	out    []byte

	in   *bufio.Reader
	rest int // bytes left of the packet that is due
}

// Write sends p in packets, each with the time at which its last bit arrives.
func (c *conn) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		batch := p[:min(len(p), 16*packetBytes)]
		p = p[len(batch):]
		now := time.Since(epoch)
		c.free = max(c.free, now)
		c.out = c.out[:0]
		for rest := batch; len(rest) > 0; {
			packet := rest[:min(len(rest), packetBytes)]
			rest = rest[len(packet):]
			c.free += c.shape.wire(len(packet))
			c.out = binary.LittleEndian.AppendUint64(c.out, uint64(c.free+c.shape.OneWay))
			c.out = binary.LittleEndian.AppendUint32(c.out, uint32(len(packet)))
			c.out = append(c.out, packet...)
		}
		if _, err := c.Conn.Write(c.out); err != nil {
			return n, err
		}
		n += len(batch)
		if err := c.sleep(c.free - now - c.shape.wire(sendBuffer)); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Read returns bytes that are due: it waits for the first packet, and takes
// what else is there and due by then.
func (c *conn) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if c.rest == 0 {
			if n > 0 && c.in.Buffered() < headBytes {
				break
			}
			head, err := c.in.Peek(headBytes)
			if err != nil {
				return n, err
			}
			due := time.Duration(binary.LittleEndian.Uint64(head))
			if wait := due - time.Since(epoch); wait > 0 {
				if n > 0 {
					break
				}
				if err := c.sleep(wait); err != nil {
					return 0, err
				}
			}
			c.rest = int(binary.LittleEndian.Uint32(head[8:]))
			c.in.Discard(headBytes)
		}
		if n > 0 && c.in.Buffered() == 0 {
			break
		}
		k, err := c.in.Read(p[n:min(len(p), n+c.rest)])
		n, c.rest = n+k, c.rest-k
		if err != nil {
			if err == io.EOF && c.rest > 0 {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
	}
	return n, nil
}

// sleep waits for d, or until the connection is closed.
func (c *conn) sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// listener shapes what it accepts.
type listener struct {
	net.Listener
	shape Shape
}

func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.shape.conn(raw), nil
}
