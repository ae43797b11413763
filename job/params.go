package job

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
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
