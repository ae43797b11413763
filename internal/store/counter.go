package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// ExhaustedError says how much of a limit is used. It wraps ErrExhausted.
type ExhaustedError struct{ Used, Max int64 }

// Error implements error.
func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("%v: allowed %d, used %d", ErrExhausted, e.Max, e.Used)
}

// Unwrap makes errors.Is(err, ErrExhausted) true.
func (*ExhaustedError) Unwrap() error { return ErrExhausted }

// Reserve takes one use of counter for holder, if fewer than max are taken, and
// returns how many are then taken. It is durable when it returns. A holder that
// has a use already keeps that one: asking again takes nothing more, also after
// a crash.
func (s *Store) Reserve(counter, holder string, max int64) (used int64, err error) {
	err = s.Update(func(tx *Tx) error {
		used, err = tx.number(spaceCounter + counter)
		if err != nil {
			return err
		}
		mark := holderKey(counter, holder)
		switch _, err := tx.get(mark); {
		case err == nil:
			return nil
		case !errors.Is(err, ErrNotFound):
			return err
		}
		if used >= max {
			return &ExhaustedError{Used: used, Max: max}
		}
		used++
		return errors.Join(tx.put(mark, nil), tx.setNumber(spaceCounter+counter, used))
	})
	return used, err
}

// Release gives holder's use of counter back. A holder without one is no error.
func (s *Store) Release(counter, holder string) error {
	return s.Update(func(tx *Tx) error {
		mark := holderKey(counter, holder)
		switch _, err := tx.get(mark); {
		case errors.Is(err, ErrNotFound):
			return nil
		case err != nil:
			return err
		}
		used, err := tx.number(spaceCounter + counter)
		if err != nil {
			return err
		}
		if used < 1 {
			return fmt.Errorf("%w: a counter with a holder stands at %d", ErrCorrupt, used)
		}
		return errors.Join(tx.del(mark), tx.setNumber(spaceCounter+counter, used-1))
	})
}

// Used returns how many uses of counter are taken.
func (s *Store) Used(counter string) (used int64, err error) {
	err = s.View(func(tx *Tx) error {
		used, err = tx.number(spaceCounter + counter)
		return err
	})
	return used, err
}

// Once records durably that the step key is about to be done. A second call
// with the same key, also after a crash, returns ErrDone.
func (s *Store) Once(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.Update(func(tx *Tx) error {
		switch _, err := tx.get(spaceOnce + key); {
		case err == nil:
			return ErrDone
		case !errors.Is(err, ErrNotFound):
			return err
		}
		return tx.put(spaceOnce+key, nil)
	})
}

// Raise remembers the highest version seen under key. It returns ErrOlder when
// version is below it; the same version again is fine.
func (s *Store) Raise(key string, version int64) error {
	return s.Update(func(tx *Tx) error {
		switch seen, err := tx.version(key); {
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		case err == nil && version < seen:
			return fmt.Errorf("%w: %d after %d", ErrOlder, version, seen)
		case err == nil && version == seen:
			return nil
		}
		return tx.setNumber(spaceVersion+key, version)
	})
}

// holderKey separates the two names by the length of the first, so that no two
// pairs share a key.
func holderKey(counter, holder string) string {
	return spaceHolder + strconv.Itoa(len(counter)) + ":" + counter + holder
}

func (x *Tx) version(key string) (int64, error) {
	b, err := x.get(spaceVersion + key)
	if err != nil {
		return 0, err
	}
	return decodeNumber(b)
}

// number returns 0 for a key that is not there.
func (x *Tx) number(key string) (int64, error) {
	switch b, err := x.get(key); {
	case errors.Is(err, ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	default:
		return decodeNumber(b)
	}
}

func decodeNumber(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: a number of %d bytes", ErrCorrupt, len(b))
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

func (x *Tx) setNumber(key string, n int64) error {
	return x.put(key, binary.BigEndian.AppendUint64(nil, uint64(n)))
}
