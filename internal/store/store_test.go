package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/yinqiao/yinqiao/internal/secret"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
		return
	}
	// Badger leaves two goroutines behind when its own Open fails on a damaged
	// table; a node ends there.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/dgraph-io/badger/v4.(*DB).monitorCache"),
		goleak.IgnoreAnyFunction("github.com/dgraph-io/ristretto/v2/z.(*AllocatorPool).freeupAllocators"))
}

func testKey() secret.Bytes { return secret.New(bytes.Repeat([]byte{7}, KeySize)) }

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir, Key: testKey()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestKeysSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.Get("a"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("missing key: %v", err)
	}
	for _, k := range []string{"b/1", "a", "b/2", "b", "c"} {
		if err := s.Put(k, []byte("value of "+k)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete("c"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete("never there"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, dir)
	var got []string
	for it, err := range s.Scan("b") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, it.Key+"="+string(it.Value))
	}
	if want := "b=value of b b/1=value of b/1 b/2=value of b/2"; strings.Join(got, " ") != want {
		t.Errorf("scan gave %q, want %q", got, want)
	}
	if _, err := s.Get("c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted key: %v", err)
	}
}

func TestScanStopsEarlyAndAllowsWrites(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range 5 {
		if err := s.Put(fmt.Sprint("k", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for it, err := range s.Scan("k") {
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(it.Key); err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 3 {
			break
		}
	}
	left := 0
	for range s.Scan("") {
		left++
	}
	if seen != 3 || left != 2 {
		t.Errorf("saw %d, %d are left", seen, left)
	}
}

func TestCallersCannotReachTheStoresOwnKeys(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Reserve("g", "h", 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Raise("r", 4); err != nil {
		t.Fatal(err)
	}
	for it := range s.Scan("") {
		t.Errorf("scan shows %q", it.Key)
	}
	for _, k := range []string{"c/g", "v/r", "../c/g"} {
		if err := s.Put(k, []byte{0, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
	}
	if used, err := s.Used("g"); err != nil || used != 1 {
		t.Errorf("counter: %d, %v", used, err)
	}
	if err := s.Raise("r", 3); !errors.Is(err, ErrOlder) {
		t.Errorf("version: %v", err)
	}
}

func TestUpdateIsAtomic(t *testing.T) {
	s := open(t, t.TempDir())
	stop := errors.New("stop")
	err := s.Update(func(tx *Tx) error {
		if err := tx.Put("a", []byte("1")); err != nil {
			return err
		}
		if v, err := tx.Get("a"); err != nil || string(v) != "1" {
			t.Errorf("own write: %q, %v", v, err)
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if _, err := s.Get("a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("half an update stayed: %v", err)
	}
	if err := s.View(func(tx *Tx) error { return tx.Put("a", nil) }); err == nil {
		t.Error("a write inside View succeeded")
	}
}

func TestConcurrentUpdatesLoseNothing(t *testing.T) {
	s := open(t, t.TempDir())
	const workers, each = 8, 10
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				err := s.Update(func(tx *Tx) error {
					v, err := tx.Get("n")
					if err != nil && !errors.Is(err, ErrNotFound) {
						return err
					}
					return tx.Put("n", append(v, '.'))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if v, err := s.Get("n"); err != nil || len(v) != workers*each {
		t.Errorf("%d of %d increments arrived (%v)", len(v), workers*each, err)
	}
}

func TestBounds(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Put("max", make([]byte, MaxValue)); err != nil {
		t.Errorf("a value of the largest size: %v", err)
	}
	if v, err := s.Get("max"); err != nil || len(v) != MaxValue {
		t.Errorf("read back %d bytes, %v", len(v), err)
	}
	if err := s.Put("k", make([]byte, MaxValue+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("value over the bound: %v", err)
	}
	if err := s.Put(strings.Repeat("k", MaxKey+1), nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("key over the bound: %v", err)
	}
	err := s.Update(func(tx *Tx) error {
		for i := range 64 {
			if err := tx.Put(fmt.Sprint("big", i), make([]byte, MaxValue)); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("transaction over the bound: %v", err)
	}
	if _, err := s.Get("big0"); !errors.Is(err, ErrNotFound) {
		t.Errorf("part of the transaction stayed: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Put("a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir, Key: testKey()}); !errors.Is(err, ErrLocked) {
		t.Errorf("second opener: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, key := range []secret.Bytes{{}, secret.New(make([]byte, 16)), secret.New(make([]byte, KeySize))} {
		if _, err := Open(Config{Dir: dir, Key: key}); !errors.Is(err, ErrKey) {
			t.Errorf("wrong key of %d bytes: %v", len(key.Reveal()), err)
		}
	}
	if _, err := Open(Config{Dir: dir, Key: testKey(), MinFreeBytes: math.MaxUint64}); !errors.Is(err, ErrDiskLow) {
		t.Errorf("no room: %v", err)
	}
	if _, err := Open(Config{Key: testKey()}); err == nil {
		t.Error("opened nowhere")
	}
	// None of the refusals harmed the folder.
	if v, err := open(t, dir).Get("a"); err != nil || string(v) != "1" {
		t.Errorf("after the refusals: %q, %v", v, err)
	}
}

func TestWatermark(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Healthy(); err != nil {
		t.Skipf("this file system is nearly full: %v", err)
	}
	free, err := freeBytes(dir)
	if err != nil {
		t.Fatal(err)
	}
	// Below the watermark, but not below a quarter of it: running work ends.
	s.minFree.Store(free + free/2)
	if err := s.Healthy(); !errors.Is(err, ErrDiskLow) {
		t.Errorf("below the watermark: %v", err)
	}
	if err := s.Put("a", []byte("1")); err != nil {
		t.Errorf("between the marks: %v", err)
	}
	s.minFree.Store(math.MaxUint64)
	if err := s.Put("a", []byte("2")); !errors.Is(err, ErrDiskLow) {
		t.Errorf("below a quarter of the watermark: %v", err)
	}
	if v, err := s.Get("a"); err != nil || string(v) != "1" {
		t.Errorf("reading with a full disk: %q, %v", v, err)
	}
}

func TestClosed(t *testing.T) {
	s := open(t, t.TempDir())
	// Close waits for a scan under way.
	closed := make(chan error, 1)
	if err := s.Put("a", nil); err != nil {
		t.Fatal(err)
	}
	for range s.Scan("") {
		go func() { closed <- s.Close() }()
		for !isClosing(s) {
		}
		select {
		case <-closed:
			t.Error("closed under a running scan")
		default:
		}
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := s.Get("a"); !errors.Is(err, ErrClosed) {
		t.Errorf("get: %v", err)
	}
	if err := s.Put("a", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("put: %v", err)
	}
	if err := s.Healthy(); !errors.Is(err, ErrClosed) {
		t.Errorf("healthy: %v", err)
	}
	for _, err := range s.Scan("") {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("scan: %v", err)
		}
	}
}

func isClosing(s *Store) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Files hold no plain text, and logs no keys or values.
func TestNothingReadableOnDiskOrInLogs(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	s, err := Open(Config{Dir: dir, Key: testKey(), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	needle := []byte("find-me-in-a-file")
	for i := range 50 {
		if err := s.Put(fmt.Sprintf("%s-%d", needle, i), bytes.Repeat(needle, 40)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if bytes.Contains(b, needle) {
			t.Errorf("%s holds plain text", filepath.Base(path))
		}
		return err
	})
	if err != nil || files == 0 {
		t.Fatal(files, err)
	}
	if bytes.Contains(log.Bytes(), needle) {
		t.Error("the log holds a key or a value")
	}
}
