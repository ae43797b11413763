package session

import (
	"context"
	"sync"
)

// Traffic is what one party exchanged with its peers. A round is a change of
// direction: the first message sent after one was received, or the first of
// all, begins one.
type Traffic struct {
	Sent, Received                 int64 // bytes of message payload
	MessagesSent, MessagesReceived int64
	Rounds                         int64
}

// Meter counts the messages, bytes and rounds of a session and its forks. It
// is safe for concurrent use. Protocols never count.
type Meter struct {
	mu      sync.Mutex
	total   Traffic
	sending map[PartyID]bool
}

// NewMeter returns a meter at zero.
func NewMeter() *Meter { return &Meter{sending: make(map[PartyID]bool)} }

// Traffic returns the counts so far.
func (m *Meter) Traffic() Traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}

func (m *Meter) wrap(ch Channel, peer PartyID) Channel {
	return &meteredChannel{Channel: ch, meter: m, peer: peer}
}

type meteredChannel struct {
	Channel
	meter *Meter
	peer  PartyID
}

func (c *meteredChannel) Send(ctx context.Context, p []byte) error {
	if err := c.Channel.Send(ctx, p); err != nil {
		return err
	}
	m := c.meter
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.Sent += int64(len(p))
	m.total.MessagesSent++
	if !m.sending[c.peer] {
		m.sending[c.peer] = true
		m.total.Rounds++
	}
	return nil
}

func (c *meteredChannel) Recv(ctx context.Context) ([]byte, error) {
	p, err := c.Channel.Recv(ctx)
	if err != nil {
		return nil, err
	}
	m := c.meter
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.Received += int64(len(p))
	m.total.MessagesReceived++
	m.sending[c.peer] = false
	return p, nil
}
