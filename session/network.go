package session

import (
	"context"
	"fmt"
	"sync"
)

// PipeNetwork connects any number of parties of one process: the Opener of
// each party meets its peer's by label. Tests and in-process runs use it.
type PipeNetwork struct {
	window int
	mu     sync.Mutex
	ends   map[pipeKey]Channel
	lost   map[PartyID]bool
	breaks map[PartyID][]func() // of the pipes that a party is an end of
}

type pipeKey struct {
	from, to PartyID
	label    string
}

// NewPipeNetwork returns a network whose pipes hold window messages.
func NewPipeNetwork(window int) *PipeNetwork {
	return &PipeNetwork{
		window: window, ends: make(map[pipeKey]Channel),
		lost: make(map[PartyID]bool), breaks: make(map[PartyID][]func()),
	}
}

// Opener returns the way self opens channels on this network.
func (n *PipeNetwork) Opener(self PartyID) Opener {
	return func(_ context.Context, peer PartyID, label string) (Channel, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		mine := pipeKey{self, peer, label}
		if ch, ok := n.ends[mine]; ok {
			if ch == nil {
				return nil, fmt.Errorf("session: label %q opened twice", label)
			}
			n.ends[mine] = nil
			return ch, nil
		}
		gone := make(chan struct{})
		a, b := pipe(n.window, gone)
		end := sync.OnceFunc(func() { close(gone) })
		if n.lost[self] || n.lost[peer] {
			end()
		}
		n.breaks[self] = append(n.breaks[self], end)
		n.breaks[peer] = append(n.breaks[peer], end)
		n.ends[mine] = nil
		n.ends[pipeKey{peer, self, label}] = b
		return a, nil
	}
}

// Drop breaks every channel to and from id, as the loss of that party does:
// what has arrived can be read, and then both ends fail with ErrGone.
func (n *PipeNetwork) Drop(id PartyID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost[id] = true
	for _, end := range n.breaks[id] {
		end()
	}
}
