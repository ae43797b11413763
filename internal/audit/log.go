// Package audit is a node's tamper-evident log of receipts, records of failed
// runs, refusals and security events.
//
// The log is a Merkle tree in the tiled layout of https://c2sp.org/tlog-tiles,
// kept in plain files by Tessera, under a checkpoint (https://c2sp.org/tlog-checkpoint)
// that the node signs with its own Ed25519 key in the party's name. Any tool
// that speaks that layout can read and check it. The key's other signatures
// cover messages with a NUL byte in them, which a checkpoint cannot contain.
//
// An entry is an encoded [auditv1.Leaf]. Its digest is the leaf hash of
// RFC 6962, SHA-256 of a zero byte and the entry: parties that log the same
// co-signed bytes find the same digest in every log.
//
// What it shows: [Verify] finds every change to the files of a log, by anyone
// who does not hold the node's key. What it cannot show: that the owner of the
// key has not signed another, shorter or different log. For a receipt the other
// parties' logs show that.
package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/storage/posix"
	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/internal/suite"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
)

const (
	// MaxLeaf bounds an encoded leaf: the layout gives its length two bytes.
	MaxLeaf = 1<<16 - 1
	// MaxRead bounds the entries of one Read.
	MaxRead = 1000

	// An entry waits batchAge for company before it is sequenced, and at most
	// checkpointInterval, the driver's least, for the next checkpoint.
	batchAge           = 5 * time.Millisecond
	batchSize          = 256
	checkpointInterval = 100 * time.Millisecond
	pollInterval       = 5 * time.Millisecond
)

var (
	// ErrLocked is returned by Open while another process has the log.
	ErrLocked = errors.New("audit: another process has this log open")
	// ErrTorn is returned by Open for files that contradict each other.
	ErrTorn = errors.New("audit: the log's files contradict each other")
	// ErrCheckpoint is wrapped for a checkpoint that is malformed or not
	// signed by the log's key.
	ErrCheckpoint = errors.New("audit: bad checkpoint")
	// ErrLeaf is wrapped for an entry that does not decode.
	ErrLeaf = errors.New("audit: bad entry")
	// ErrTooLarge is returned for an entry over MaxLeaf.
	ErrTooLarge = errors.New("audit: entry is too large")
	// ErrFailed is returned after a write failed: the log takes no more
	// entries until it is opened again.
	ErrFailed = errors.New("audit: the log stopped after a failed write; open it again")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("audit: closed")
)

// Config says where a log lives and who signs it.
type Config struct {
	Dir   string
	Party string // names the log and its signer
	Key   *suite.Key
	Log   *slog.Logger // nil means silence
}

// Ref says where an entry stands.
type Ref struct {
	Index  uint64
	Digest []byte // RFC 6962 leaf hash
}

// Entry is one entry of the log.
type Entry struct {
	Index  uint64
	Raw    []byte
	Leaf   *auditv1.Leaf
	Digest []byte
}

// Log is an open log. It is safe for concurrent use.
type Log struct {
	dir      string
	log      *slog.Logger
	verifier verifier
	lock     *os.File

	add      func(context.Context, *tessera.Entry) tessera.IndexFuture
	shutdown func(context.Context) error
	stop     context.CancelFunc // ends the driver's background work

	mu      sync.Mutex
	index   map[key]uint64   // entries by digest, about 45 bytes each
	pending map[key]*pending // appends under way
	failed  error
	closed  bool
	appends sync.WaitGroup

	finished  chan struct{} // closed when the log is
	finishErr error         // to be read after that
}

// key is the front of a digest. A hit is checked against the whole digest.
type key [16]byte

type pending struct {
	digest []byte
	done   chan struct{}
	index  uint64
	err    error
}

// Open opens the log in cfg.Dir, creating it if need be. It checks that tree
// and checkpoint agree, which costs one pass over 32 bytes per entry.
func Open(ctx context.Context, cfg Config) (_ *Log, err error) {
	if cfg.Dir == "" || cfg.Key == nil {
		return nil, errors.New("audit: a log needs a folder and a key")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	signer, err := newSigner(cfg.Party, cfg.Key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	lock, err := lockFile(filepath.Join(cfg.Dir, lockName))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()

	leaves, err := recoverLog(ctx, cfg.Dir, signer.verifier)
	if err != nil {
		return nil, err
	}
	l := &Log{
		dir: cfg.Dir, log: cfg.Log, verifier: signer.verifier, lock: lock,
		index:   make(map[key]uint64, len(leaves)),
		pending: map[key]*pending{}, finished: make(chan struct{}),
	}
	for i, h := range leaves {
		l.index[key(h[:])] = uint64(i)
	}

	bridgeDriverLog(cfg.Log)
	driver, err := posix.New(ctx, posix.Config{Path: cfg.Dir})
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	appender, shutdown, _, err := tessera.NewAppender(running, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithBatching(batchSize, batchAge).
		WithCheckpointInterval(checkpointInterval).
		WithCheckpointRepublishInterval(0))
	if err != nil {
		stop()
		return nil, fmt.Errorf("audit: open %s: %w", cfg.Dir, err)
	}
	l.add, l.shutdown, l.stop = appender.Add, shutdown, stop
	return l, nil
}

// Append adds an entry and returns once it is sequenced, durable and covered by
// a signed checkpoint. The same bytes again, also after a restart, get the same
// place. If ctx ends first the entry may still be added.
func (l *Log) Append(ctx context.Context, leaf *auditv1.Leaf) (Ref, error) {
	raw, err := Encode(leaf)
	if err != nil {
		return Ref{}, err
	}
	digest := Digest(raw)
	p, err := l.start(raw, digest)
	if err != nil {
		return Ref{}, err
	}
	select {
	case <-p.done:
		return Ref{Index: p.index, Digest: digest}, p.err
	case <-ctx.Done():
		return Ref{}, fmt.Errorf("audit: append: %w", ctx.Err())
	}
}

// start joins the append of the same bytes under way, or begins one.
func (l *Log) start(raw, digest []byte) (*pending, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, ErrClosed
	case l.failed != nil:
		return nil, fmt.Errorf("%w: %w", ErrFailed, l.failed)
	}
	k := key(digest)
	if p := l.pending[k]; p != nil && bytes.Equal(p.digest, digest) {
		return p, nil
	}
	p := &pending{digest: digest, done: make(chan struct{})}
	l.pending[k] = p
	l.appends.Add(1)
	go l.run(p, k, raw)
	return p, nil
}

// run carries one append through, whether or not its caller still waits.
func (l *Log) run(p *pending, k key, raw []byte) {
	defer l.appends.Done()
	defer close(p.done)

	l.mu.Lock()
	at, known := l.index[k]
	l.mu.Unlock()
	if known {
		h, err := leafAt(l.dir, at)
		known = err == nil && bytes.Equal(h[:], p.digest)
	}
	if known {
		p.index = at
	} else {
		got, err := l.add(context.Background(), tessera.NewEntry(raw))()
		p.index, p.err = got.Index, err
	}
	if p.err == nil {
		p.err = l.published(p.index)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, k)
	if p.err != nil {
		p.err = fmt.Errorf("audit: append: %w", p.err)
		if l.failed == nil {
			l.failed = p.err
			l.log.Error("audit log stops taking entries", slog.Any("error", p.err))
		}
		return
	}
	l.index[k] = p.index
}

// publishLimit bounds the wait for a checkpoint that the disk refuses.
const publishLimit = 30 * time.Second

// published waits until a checkpoint covers index.
func (l *Log) published(index uint64) error {
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	end := time.Now().Add(publishLimit)
	for {
		size, err := l.size()
		if err == nil && size > index {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("no checkpoint covers entry %d", index), err)
		}
		<-t.C
	}
}

// size reads the published checkpoint.
func (l *Log) size() (uint64, error) {
	raw, err := os.ReadFile(filepath.Join(l.dir, layout.CheckpointPath))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("audit: %w", err)
	}
	cp, err := parseCheckpoint(raw, l.verifier)
	if err != nil {
		return 0, err
	}
	return cp.Size, nil
}

// Size returns how many entries the published checkpoint covers.
func (l *Log) Size(ctx context.Context) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return l.size()
}

// Read returns up to limit published entries, at most MaxRead, beginning with
// entry from; none past the end.
func (l *Log) Read(ctx context.Context, from uint64, limit int) ([]Entry, error) {
	size, err := l.Size(ctx)
	if err != nil {
		return nil, err
	}
	if limit <= 0 || from >= size {
		return nil, nil
	}
	n := min(uint64(limit), MaxRead, size-from)
	out := make([]Entry, 0, n)
	for r := range layout.Range(from, n, size) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		raws, _, err := readBundle(l.dir, r.Index, size)
		if err != nil {
			return nil, err
		}
		for _, raw := range raws[r.First : r.First+r.N] {
			leaf, err := Decode(raw)
			if err != nil {
				return nil, fmt.Errorf("entry %d: %w", from+uint64(len(out)), err)
			}
			out = append(out, Entry{Index: from + uint64(len(out)), Raw: raw, Leaf: leaf, Digest: Digest(raw)})
		}
	}
	return out, nil
}

// Close waits for the appends under way and closes the log. If ctx ends first
// it returns, and the log closes behind it. Closing again waits again.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		go l.finish()
	}
	l.mu.Unlock()
	select {
	case <-l.finished:
		return l.finishErr
	case <-ctx.Done():
		return fmt.Errorf("audit: close: %w", ctx.Err())
	}
}

// finish lets the appends end by themselves: the driver never answers for an
// entry once its context is cancelled.
func (l *Log) finish() {
	defer close(l.finished)
	l.appends.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), publishLimit)
	defer cancel()
	err := l.shutdown(ctx)
	l.stop()
	if err = errors.Join(err, l.lock.Close()); err != nil {
		l.finishErr = fmt.Errorf("audit: close: %w", err)
	}
}

// Encode returns the bytes that Append logs for leaf. Parties that encode the
// same leaf get the same bytes.
func Encode(leaf *auditv1.Leaf) ([]byte, error) {
	if leaf.GetKind() == nil {
		return nil, fmt.Errorf("%w: it has no kind", ErrLeaf)
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(leaf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLeaf, err)
	}
	if len(raw) > MaxLeaf {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(raw), MaxLeaf)
	}
	if _, err := Decode(raw); err != nil {
		return nil, err
	}
	return raw, nil
}
