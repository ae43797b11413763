package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func fill(t *testing.T, s *Store, n int) {
	t.Helper()
	err := s.Update(func(tx *Tx) error {
		for i := range n {
			if err := tx.Put(fmt.Sprintf("%04d", i), bytes.Repeat([]byte{byte(i), byte(i >> 8), 0x5a}, 100)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reserve("runs", "a", 3); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit in turn at k places of the file, each time calling f.
func flip(t *testing.T, path string, k int, f func(at int)) {
	t.Helper()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range min(k, len(whole)) {
		at := len(whole) * i / min(k, len(whole))
		if i == k-1 {
			at = len(whole) - 1
		}
		bad := bytes.Clone(whole)
		bad[at] ^= 1 << (i % 8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		f(at)
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, dataName))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, filepath.Join(dir, dataName, e.Name()))
	}
	return append(names, filepath.Join(dir, sealName))
}

// One flipped bit in any file of a closed store is found and the file named.
func TestSealFindsEveryDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	fill(t, s, 200)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, path := range files(t, dir) {
		flip(t, path, 24, func(at int) {
			tried++
			_, err := Open(Config{Dir: dir, Key: testKey()})
			if filepath.Base(path) == sealName && errors.Is(err, ErrKey) {
				return // the line that tells a wrong key was hit
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), filepath.Base(path)) {
				t.Errorf("%s, byte %d: %v", filepath.Base(path), at, err)
			}
		})
	}
	if tried < 100 {
		t.Errorf("only %d flips tried", tried)
	}
	// A file more or less is damage, too.
	extra := filepath.Join(dir, dataName, "000099.sst")
	if err := os.WriteFile(extra, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir, Key: testKey()}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an extra file: %v", err)
	}
	if err := os.Remove(extra); err != nil {
		t.Fatal(err)
	}
	if used, err := open(t, dir).Used("runs"); err != nil || used != 1 {
		t.Errorf("the whole folder: %d, %v", used, err)
	}
}

// Without a seal, as after a crash, damage in a table still stops Open: Badger
// alone would answer "not found".
func TestTablesAreCheckedWithoutASeal(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	fill(t, s, 200)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, sealName)); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, dataName, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal("no table on disk", err)
	}
	for _, path := range tables {
		flip(t, path, 60, func(at int) {
			s, err := Open(Config{Dir: dir, Key: testKey()})
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s, byte %d: %v", filepath.Base(path), at, err)
			}
			if err == nil {
				s.Close()
				os.Remove(filepath.Join(dir, sealName))
			}
		})
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 3, len(whole) / 2, len(whole) - 1} {
			if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(Config{Dir: dir, Key: testKey()}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s cut to %d bytes: %v", filepath.Base(path), n, err)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if used, err := open(t, dir).Used("runs"); err != nil || used != 1 {
		t.Errorf("the whole folder: %d, %v", used, err)
	}
}

// Damage found while running stops the store instead of being compacted away.
func TestCompactionStopsAtDamage(t *testing.T) {
	dir := t.TempDir()
	for range tidyTables + 1 {
		s := open(t, dir)
		fill(t, s, 50)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	count := func() int {
		tables, err := filepath.Glob(filepath.Join(dir, dataName, "*.sst"))
		if err != nil {
			t.Fatal(err)
		}
		return len(tables)
	}
	if n := count(); n > tidyTables {
		t.Errorf("%d tables: nothing was compacted", n)
	}
	s := open(t, dir)
	if used, err := s.Used("runs"); err != nil || used != 1 {
		t.Errorf("after compaction: %d, %v", used, err)
	}
	damage := fmt.Errorf("%w: planted", ErrCorrupt)
	s.damage.Store(&damage)
	if _, err := s.Used("runs"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged store answers: %v", err)
	}
	if _, err := s.Reserve("runs", "b", 3); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged store counts: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, sealName)); err == nil {
		t.Error("a damaged store was sealed as whole")
	}
}
