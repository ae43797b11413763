// Package store keeps a node's small durable state: counters of use limits,
// job state, the highest versions seen, and steps that must never happen
// twice. It is Badger, opened so that a crash loses no acknowledged write and
// a flipped bit is an error instead of a wrong value.
//
// Every write is synced before it is acknowledged, every block and value is
// checked when it is read, and files are encrypted under the node's storage
// key. Values are small, at most [MaxValue] bytes: large payloads belong in
// plain files.
//
// Badger maps its files into memory, and a write to a mapped page on a full
// disk kills the process. The store therefore watches free space: below
// [Config.MinFreeBytes] [Store.Healthy] reports [ErrDiskLow] and new work
// should be refused; below a quarter of it every write is refused.
//
// What it does not defend against: someone who can replace the whole folder by
// an older copy of it.
package store

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/yinqiao/yinqiao/internal/secret"
)

const (
	// KeySize is the size of the storage key.
	KeySize = 32
	// MaxKey bounds a key, in bytes.
	MaxKey = 4 << 10
	// MaxValue bounds a value, in bytes.
	MaxValue = 256 << 10

	defaultMinFree = 256 << 20
	memTable       = 8 << 20
	valueLogFile   = 16 << 20
	optimisticRuns = 4

	// tidyInterval is how often the level that memtables land in is looked at,
	// and tidyTables how many tables there are too many. A memtable fills once
	// in thousands of writes.
	tidyInterval   = 30 * time.Second
	tidyTables     = 4
	gcEvery        = 20 // in tidyIntervals
	gcDiscardRatio = 0.5
)

var (
	// ErrNotFound is returned for a key that is not there.
	ErrNotFound = errors.New("store: not found")
	// ErrExhausted is wrapped by ExhaustedError.
	ErrExhausted = errors.New("store: limit is used up")
	// ErrOlder is returned by Raise for a version below the highest seen.
	ErrOlder = errors.New("store: version is older than one already seen")
	// ErrDone is returned by Once for a key it has seen.
	ErrDone = errors.New("store: step was done before")
	// ErrDiskLow is returned when free space is below the watermark.
	ErrDiskLow = errors.New("store: free disk space is below the watermark")
	// ErrLocked is returned by Open while another process has the folder.
	ErrLocked = errors.New("store: another process has this folder open")
	// ErrKey is returned by Open for a key that is not the folder's.
	ErrKey = errors.New("store: wrong storage key")
	// ErrCorrupt is returned for data that fails its checksum.
	ErrCorrupt = errors.New("store: data is damaged")
	// ErrTooLarge is returned for a key, a value or a transaction over its bound.
	ErrTooLarge = errors.New("store: too large")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("store: closed")
)

// Config says where and how a store lives.
type Config struct {
	Dir          string       // created if absent, readable by its owner alone
	Key          secret.Bytes // KeySize bytes; encrypts every file
	MinFreeBytes uint64       // watermark; 0 means 256 MiB
	Log          *slog.Logger // nil means silence
}

// Store is safe for concurrent use.
type Store struct {
	db   *badger.DB
	cfg  Config
	lock *os.File

	// write is held shared by optimistic transactions and exclusively by one
	// that lost its race too often, so that every write ends.
	write sync.RWMutex

	mu     sync.Mutex
	idle   *sync.Cond // signalled when busy falls to 0
	busy   int        // operations under way
	closed bool

	minFree atomic.Uint64         // Config.MinFreeBytes
	damage  atomic.Pointer[error] // what housekeeping found; every call returns it

	stop chan struct{}
	tidy sync.WaitGroup
}

// Item is one key with its value.
type Item struct {
	Key   string
	Value []byte
}

// Open opens the store in cfg.Dir, creating it if need be.
func Open(cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("store: no folder given")
	}
	if n := len(cfg.Key.Reveal()); n != KeySize {
		return nil, fmt.Errorf("%w: it has %d bytes, not %d", ErrKey, n, KeySize)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MinFreeBytes == 0 {
		cfg.MinFreeBytes = defaultMinFree
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, dataName), 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s := &Store{cfg: cfg, stop: make(chan struct{})}
	s.idle = sync.NewCond(&s.mu)
	s.minFree.Store(cfg.MinFreeBytes)
	if err := s.room(s.minFree.Load() / 4); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(cfg.Dir, lockName))
	if err != nil {
		return nil, err
	}
	if s.db, err = s.openChecked(); err != nil {
		lock.Close()
		return nil, err
	}
	s.lock = lock
	s.tidy.Add(1)
	go s.keepHouse()
	return s, nil
}

// openChecked opens Badger between the checks that damage.go explains.
func (s *Store) openChecked() (*badger.DB, error) {
	if err := breakSeal(s.cfg.Dir, s.cfg.Key); err != nil {
		return nil, err
	}
	if err := checkIndexes(s.cfg.Dir); err != nil {
		return nil, err
	}
	db, err := s.openBadger()
	if err != nil && strings.Contains(err.Error(), "Create a new file") {
		// After a kill Badger can find a memtable file that it had just
		// created; the failed attempt clears it away and the next succeeds.
		s.cfg.Log.Warn("store reopened after an interrupted start")
		db, err = s.openBadger()
	}
	if err != nil {
		return nil, openError(s.cfg.Dir, err)
	}
	if err := checkBlocks(db); err != nil {
		db.Close() // the damage is what the caller must hear of
		return nil, openError(s.cfg.Dir, err)
	}
	return db, nil
}

func (s *Store) openBadger() (db *badger.DB, err error) {
	// Badger panics on some damaged files instead of returning an error.
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("%w: %v", ErrCorrupt, r)
		}
	}()
	cfg := s.cfg
	return badger.Open(badger.DefaultOptions(filepath.Join(cfg.Dir, dataName)).
		WithLogger(bridge{cfg.Log}).
		WithMetricsEnabled(false).
		// Durability and integrity.
		WithSyncWrites(true).
		WithChecksumVerificationMode(options.OnBlockRead).
		WithVerifyValueChecksum(true).
		WithEncryptionKey(bytes.Clone(cfg.Key.Reveal())).
		// A node's state is a few megabytes: stay small in memory. Encryption
		// wants both caches.
		WithCompression(options.None).
		WithMemTableSize(memTable).
		WithNumMemtables(2).
		// Compaction runs in keepHouse alone, and never stalls a writer.
		WithNumCompactors(0).
		WithNumLevelZeroTables(tidyTables - 1). // what Flatten compares with
		WithNumLevelZeroTablesStall(1 << 20).
		WithBlockCacheSize(4 << 20).
		WithIndexCacheSize(4 << 20).
		WithValueThreshold(MaxValue + 1).
		WithValueLogFileSize(valueLogFile))
}

func openError(dir string, err error) error {
	text := err.Error()
	switch {
	case errors.Is(err, ErrCorrupt):
		return fmt.Errorf("%w; restore %s from a copy", err, dir)
	case errors.Is(err, badger.ErrEncryptionKeyMismatch), strings.Contains(text, badger.ErrEncryptionKeyMismatch.Error()):
		return fmt.Errorf("%w for %s", ErrKey, dir)
	case strings.Contains(text, "checksum"), strings.Contains(text, "MANIFEST"), strings.Contains(text, "manifest"):
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, dir, err)
	}
	return fmt.Errorf("store: open %s: %w", dir, err)
}

// Close waits for operations under way and for the background work, and closes
// the files. Closing twice is harmless.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for s.busy > 0 {
		s.idle.Wait()
	}
	s.mu.Unlock()
	close(s.stop)
	s.tidy.Wait()
	err := s.db.Close()
	if err == nil && s.damage.Load() == nil {
		if err := writeSeal(s.cfg.Dir, s.cfg.Key); err != nil {
			// The next Open then checks the folder as after a crash.
			s.cfg.Log.Warn("store closed without a seal", slog.Any("error", err))
		}
	}
	if err := errors.Join(err, s.lock.Close()); err != nil {
		return fmt.Errorf("store: close: %w", err)
	}
	return nil
}

func (s *Store) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if damage := s.damage.Load(); damage != nil {
		return *damage
	}
	s.busy++
	return nil
}

func (s *Store) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy--; s.busy == 0 {
		s.idle.Broadcast()
	}
}

// keepHouse compacts tables and gives space in the value log back until Close.
func (s *Store) keepHouse() {
	defer s.tidy.Done()
	t := time.NewTicker(tidyInterval)
	defer t.Stop()
	for n := 0; ; n++ {
		if s.room(s.minFree.Load()) == nil {
			s.compact()
			if n%gcEvery == gcEvery-1 {
				s.collect()
			}
		}
		select {
		case <-s.stop:
			return
		case <-t.C:
		}
	}
}

// compact merges the tables that memtables left, right after it has found
// every block whole: Badger would leave out a damaged one and say nothing.
func (s *Store) compact() {
	if s.db.Levels()[0].NumTables < tidyTables {
		return
	}
	if err := checkBlocks(s.db); err != nil {
		s.cfg.Log.Error("store stops: its files are damaged", slog.Any("error", err))
		s.damage.Store(&err)
		return
	}
	if err := s.db.Flatten(1); err != nil {
		s.cfg.Log.Warn("store could not compact", slog.Any("error", err))
	}
}

func (s *Store) collect() {
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		if err := s.db.RunValueLogGC(gcDiscardRatio); err != nil {
			if !errors.Is(err, badger.ErrNoRewrite) {
				s.cfg.Log.Warn("store could not collect its value log", slog.Any("error", err))
			}
			return
		}
	}
}

// Tx is one transaction: all of its writes happen, or none. It is used by one
// goroutine and ends with the function that received it.
type Tx struct{ t *badger.Txn }

// View runs f on a consistent snapshot; writes fail.
func (s *Store) View(f func(tx *Tx) error) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	t := s.db.NewTransaction(false)
	defer t.Discard()
	return f(&Tx{t})
}

// Update runs f and makes its writes durable at once, or returns an error and
// makes none. f may be run more than once and must not call the store itself.
func (s *Store) Update(f func(tx *Tx) error) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	if err := s.room(s.minFree.Load() / 4); err != nil {
		return err
	}
	for range optimisticRuns {
		s.write.RLock()
		err := s.try(f)
		s.write.RUnlock()
		if !errors.Is(err, badger.ErrConflict) {
			return err
		}
	}
	s.write.Lock()
	defer s.write.Unlock()
	return s.try(f)
}

func (s *Store) try(f func(tx *Tx) error) error {
	t := s.db.NewTransaction(true)
	defer t.Discard()
	if err := f(&Tx{t}); err != nil {
		return err
	}
	return fault(t.Commit())
}

// Get returns a copy of the value of key.
func (s *Store) Get(key string) (v []byte, err error) {
	err = s.View(func(tx *Tx) error {
		v, err = tx.Get(key)
		return err
	})
	return v, err
}

// Put stores a value.
func (s *Store) Put(key string, v []byte) error {
	return s.Update(func(tx *Tx) error { return tx.Put(key, v) })
}

// Delete removes a key; one that is not there is no error.
func (s *Store) Delete(key string) error {
	return s.Update(func(tx *Tx) error { return tx.Delete(key) })
}

// Scan yields the keys that begin with prefix, in order, on one snapshot. After
// an error it yields nothing more. The store may be written to meanwhile.
func (s *Store) Scan(prefix string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		stopped := false
		err := s.View(func(tx *Tx) error {
			for it, err := range tx.Scan(prefix) {
				if err != nil {
					return err
				}
				if !yield(it, nil) {
					stopped = true
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(Item{}, err)
		}
	}
}

// Callers' keys and the store's own stand in separate spaces.
const (
	spaceUser    = "k/"
	spaceCounter = "c/"
	spaceHolder  = "h/"
	spaceOnce    = "o/"
	spaceVersion = "v/"
)

// Get returns a copy of the value of key.
func (x *Tx) Get(key string) ([]byte, error) { return x.get(spaceUser + key) }

// Put stores a value.
func (x *Tx) Put(key string, v []byte) error { return x.put(spaceUser+key, v) }

// Delete removes a key; one that is not there is no error.
func (x *Tx) Delete(key string) error { return x.del(spaceUser + key) }

func (x *Tx) get(key string) (v []byte, err error) {
	defer caught(&err)
	it, err := x.t.Get([]byte(key))
	if err != nil {
		return nil, fault(err)
	}
	v, err = it.ValueCopy(nil)
	return v, fault(err)
}

func (x *Tx) put(key string, v []byte) error {
	if len(key) > MaxKey || len(v) > MaxValue {
		return fmt.Errorf("%w: key of %d bytes, value of %d", ErrTooLarge, len(key), len(v))
	}
	return fault(x.t.Set([]byte(key), bytes.Clone(v)))
}

func (x *Tx) del(key string) error { return fault(x.t.Delete([]byte(key))) }

// Scan yields the keys that begin with prefix, in order. After an error it
// yields nothing more.
func (x *Tx) Scan(prefix string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		o := badger.DefaultIteratorOptions
		o.Prefix = []byte(spaceUser + prefix)
		o.PrefetchSize = 16
		it := x.t.NewIterator(o)
		defer it.Close()
		for it.Seek(o.Prefix); it.ValidForPrefix(o.Prefix); it.Next() {
			item := it.Item()
			v, err := item.ValueCopy(nil)
			if err != nil {
				yield(Item{}, fault(err))
				return
			}
			if !yield(Item{string(item.Key()[len(spaceUser):]), v}, nil) {
				return
			}
		}
	}
}

// fault turns Badger's errors into the store's own.
func fault(err error) error {
	switch {
	case err == nil, errors.Is(err, badger.ErrConflict):
		return err // Update runs a conflict again
	case errors.Is(err, badger.ErrKeyNotFound):
		return ErrNotFound
	case errors.Is(err, badger.ErrTxnTooBig):
		return fmt.Errorf("%w: transaction", ErrTooLarge)
	case errors.Is(err, badger.ErrReadOnlyTxn):
		return errors.New("store: a write inside View")
	case strings.Contains(err.Error(), "checksum"):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("store: %w", err)
}

// caught turns Badger's panics on damaged blocks into ErrCorrupt.
func caught(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", ErrCorrupt, r)
	}
}

// Healthy reports ErrDiskLow when new work should be refused.
func (s *Store) Healthy() error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	return s.room(s.minFree.Load())
}

// room reports ErrDiskLow unless the folder's file system has least bytes free.
func (s *Store) room(least uint64) error {
	free, err := freeBytes(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("store: free space of %s: %w", s.cfg.Dir, err)
	}
	if free < least {
		return fmt.Errorf("%w: %s has %d MiB free and needs %d", ErrDiskLow, s.cfg.Dir, free>>20, int64(math.Ceil(float64(least)/(1<<20))))
	}
	return nil
}

// bridge carries Badger's words to slog, one level lower: its "info" tells of
// every compaction.
type bridge struct{ log *slog.Logger }

func (b bridge) Errorf(f string, a ...any)   { b.log.Error("badger", text(f, a)) }
func (b bridge) Warningf(f string, a ...any) { b.log.Warn("badger", text(f, a)) }
func (b bridge) Infof(f string, a ...any)    { b.log.Debug("badger", text(f, a)) }
func (b bridge) Debugf(string, ...any)       {}

func text(f string, a []any) slog.Attr {
	return slog.String("text", strings.TrimSpace(fmt.Sprintf(f, a...)))
}
