package tbgv

import (
	"context"
	"errors"
	"testing"
)

type onceMap map[string]bool

var errSeen = errors.New("seen")

func (m onceMap) Once(_ context.Context, key string) error {
	if m[key] {
		return errSeen
	}
	m[key] = true
	return nil
}

func TestLedgerEmitsOnce(t *testing.T) {
	ctx := context.Background()
	record := onceMap{}
	l, err := NewLedger(record, "job-1")
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	send := func(context.Context) error {
		if len(record) == 0 {
			t.Error("sent before it was recorded")
		}
		sent++
		return nil
	}
	if err := l.Emit(ctx, []byte("c1"), send); err != nil {
		t.Fatal(err)
	}
	again, _ := NewLedger(record, "job-1") // a restarted node
	for _, l := range []*Ledger{l, again} {
		if err := l.Emit(ctx, []byte("c1"), send); !errors.Is(err, ErrLedger) || !errors.Is(err, errSeen) {
			t.Errorf("second emission: %v", err)
		}
	}
	if err := l.Emit(ctx, []byte("c2"), send); err != nil || sent != 2 {
		t.Errorf("another ciphertext: %v, %d sent", err, sent)
	}
	fail := errors.New("link down")
	if err := l.Emit(ctx, []byte("c3"), func(context.Context) error { return fail }); !errors.Is(err, fail) {
		t.Errorf("failing send: %v", err)
	}
	if err := l.Emit(ctx, []byte("c3"), send); !errors.Is(err, ErrLedger) || sent != 2 {
		t.Errorf("a share whose sending failed was emitted again: %v", err)
	}
	if _, err := NewLedger(nil, "x"); !errors.Is(err, ErrLedger) {
		t.Error(err)
	}
	if _, err := NewLedger(record, ""); !errors.Is(err, ErrLedger) {
		t.Error(err)
	}
}
