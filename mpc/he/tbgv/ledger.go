package tbgv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrLedger is wrapped where a decryption share may not be emitted.
var ErrLedger = errors.New("tbgv: decryption share may not be emitted")

// Once durably records that a step has been taken and fails for a step it has
// seen; it returns before the step may begin. A job's Env supplies one.
type Once interface {
	Once(ctx context.Context, key string) error
}

// Ledger lets a party of a threshold decryption emit one share per ciphertext.
// A second share of the same ciphertext, even towards another set of parties,
// would let the noise be averaged away and endangers the key.
type Ledger struct {
	once Once
	run  string
}

// NewLedger returns the ledger of one run (a job, not an attempt at it).
func NewLedger(once Once, run string) (*Ledger, error) {
	if once == nil || run == "" {
		return nil, fmt.Errorf("%w: no durable record or no run", ErrLedger)
	}
	return &Ledger{once: once, run: run}, nil
}

// Emit records the ciphertext, given by its canonical frame, and then calls
// send. If the record fails or is there already, send is not called; if send
// fails, the record stays, and the share is never emitted again.
func (l *Ledger) Emit(ctx context.Context, frame []byte, send func(context.Context) error) error {
	h := sha256.Sum256(frame)
	if err := l.once.Once(ctx, "tbgv/share/"+l.run+"/"+hex.EncodeToString(h[:])); err != nil {
		return fmt.Errorf("%w: %w", ErrLedger, err)
	}
	return send(ctx)
}
