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
}

type pipeKey struct {
	from, to PartyID
	label    string
}

// NewPipeNetwork returns a network whose pipes hold window messages.
func NewPipeNetwork(window int) *PipeNetwork {
	return &PipeNetwork{window: window, ends: make(map[pipeKey]Channel)}
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
		a, b := Pipe(n.window)
		n.ends[mine] = nil
		n.ends[pipeKey{peer, self, label}] = b
		return a, nil
	}
}
