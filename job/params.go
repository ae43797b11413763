package job

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/yinqiao/yinqiao/scratch"
)

// DecodeParams decodes a contract's parameters into p, which holds the
// defaults. Unknown keys and trailing data are refused.
func DecodeParams(raw json.RawMessage, p any) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(p); err != nil {
		return fmt.Errorf("job: parameters: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("job: parameters: data after the object")
	}
	return nil
}

// MemoryOnce is a Once that lasts as long as the process: for tests,
// benchmarks and runs without a node.
type MemoryOnce struct {
	mu   sync.Mutex
	seen map[string]bool
}

// Once implements the interface of the same name.
func (o *MemoryOnce) Once(_ context.Context, key string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[key] {
		return ErrDone
	}
	if o.seen == nil {
		o.seen = make(map[string]bool)
	}
	o.seen[key] = true
	return nil
}

// MemoryHistory is a History that lasts as long as the process: for tests,
// benchmarks and runs without a node.
type MemoryHistory struct {
	mu      sync.Mutex
	entries map[string]*heldFiles
}

type heldFiles struct {
	turn  chan struct{} // holds one token while nobody has the files
	files scratch.Files
}

// Hold implements the interface's method.
func (h *MemoryHistory) Hold(ctx context.Context, entry string) (scratch.Files, func(), error) {
	h.mu.Lock()
	if h.entries == nil {
		h.entries = make(map[string]*heldFiles)
	}
	e := h.entries[entry]
	if e == nil {
		e = &heldFiles{turn: make(chan struct{}, 1), files: scratch.Memory()}
		e.turn <- struct{}{}
		h.entries[entry] = e
	}
	h.mu.Unlock()
	select {
	case <-e.turn:
		return e.files, func() { e.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}

// MemoryBudget is a Budget that lasts as long as the process.
type MemoryBudget struct {
	Epsilon, Delta float64 // what there is in all

	mu             sync.Mutex
	epsilon, delta float64 // spent
}

// Spend implements the interface's method.
func (b *MemoryBudget) Spend(_ context.Context, epsilon, delta float64) (float64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.epsilon+epsilon > b.Epsilon || b.delta+delta > b.Delta {
		return 0, ErrBudget
	}
	b.epsilon, b.delta = b.epsilon+epsilon, b.delta+delta
	return b.Epsilon - b.epsilon, nil
}
