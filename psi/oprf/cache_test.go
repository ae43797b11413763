package oprf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// files returns the names in a cache, without the slot.
func files(t testing.TB, f scratch.Files) (names []string) {
	t.Helper()
	all, err := f.Names("")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		parts := strings.SplitN(n, "/", 3)
		names = append(names, parts[len(parts)-1])
	}
	return names
}

// root returns what stands for the epoch in the client's cache.
func root(t testing.TB, w *world) string {
	t.Helper()
	names := files(t, w.client.Cache)
	if len(names) == 0 {
		t.Fatal("the client's cache is empty")
	}
	stem, _, _ := strings.Cut(names[0], ".")
	for _, n := range names {
		if !strings.HasPrefix(n, stem+".") {
			t.Fatalf("the client keeps two tables: %q", names)
		}
	}
	return stem
}

// A key goes on for as long as rows, age and use allow it, and no longer; and
// whatever happened, the result is right.
func TestRotation(t *testing.T) {
	xs, ys := psitest.Number(0, 900), psitest.Number(880, 920)
	for _, c := range []struct {
		name   string
		params Params
		change func(w *world, src *table.Source)
		rotate bool
	}{
		{"nothing changed", Params{}, func(*world, *table.Source) {}, false},
		{"a day went by", Params{}, func(w *world, _ *table.Source) { w.now = w.now.Add(24 * time.Hour) }, false},
		{"a week went by", Params{}, func(w *world, _ *table.Source) { w.now = w.now.Add(defaultMaxAge) }, true},
		{"an hour went by, and no more is allowed", Params{MaxAge: time.Hour}, func(w *world, _ *table.Source) { w.now = w.now.Add(time.Hour) }, true},
		{"the clock was put back", Params{}, func(w *world, _ *table.Source) { w.now = w.now.Add(-2 * time.Hour) }, true},
		{"one row is another", Params{}, func(_ *world, src *table.Source) {
			*src = rowsOf(t, append(psitest.Number(0, 899), "id-000919"))
		}, true},
		{"rows in another order", Params{}, func(_ *world, src *table.Source) { *src = rowsOf(t, psitest.Shuffled(xs, 9)) }, true},
		{"one row less", Params{}, func(_ *world, src *table.Source) { *src = rowsOf(t, psitest.Number(0, 899)) }, true},
		{"the quota is used up", Params{MaxEvaluations: 79}, func(*world, *table.Source) {}, true},
		{"the quota is just enough", Params{MaxEvaluations: 80}, func(*world, *table.Source) {}, false},
		{"the slot is another", Params{}, func(w *world, _ *table.Source) { w.server.Slot = "another entry" }, true},
		{"the cache is gone", Params{}, func(w *world, _ *table.Source) { w.server.Cache = scratch.Memory() }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			var src table.Source = rowsOf(t, xs)
			checkIdeal(t, ys, xs, c.params, w.run(t, ys, src, c.params))
			before := root(t, w)
			c.change(w, &src)
			keys, err := table.Keys(t.Context(), src, table.RuleNone)
			if err != nil {
				t.Fatal(err)
			}
			var now []string
			for k := range keys.All() {
				now = append(now, string(k))
			}
			p := c.params
			p.Broadcast = false
			checkIdeal(t, ys, now, p, w.run(t, ys, src, p))
			if rotated := root(t, w) != before; rotated != c.rotate {
				t.Errorf("rotated: %v", rotated)
			}
		})
	}
}

// A source's fingerprint decides alone, and rows are not read for it.
func TestFingerprint(t *testing.T) {
	xs, ys := psitest.Number(0, 100), psitest.Number(90, 110)
	w := newWorld()
	src := printed{rowsOf(t, xs), "one"}
	checkIdeal(t, ys, xs, Params{}, w.run(t, ys, src, Params{}))
	before := root(t, w)
	src.Table = nil // a second look at the rows would fail
	warm := w.run(t, ys, src, Params{})
	checkIdeal(t, ys, xs, Params{}, warm)
	if root(t, w) != before {
		t.Error("the same fingerprint made a new epoch")
	}
	checkIdeal(t, ys, xs, Params{}, w.run(t, ys, printed{rowsOf(t, xs), "two"}, Params{}))
	if root(t, w) == before {
		t.Error("another fingerprint made no new epoch")
	}
	// A source without one has its keys read, and fits its own kind alone.
	before = root(t, w)
	checkIdeal(t, ys, xs, Params{}, w.run(t, ys, rowsOf(t, xs), Params{}))
	if root(t, w) == before {
		t.Error("a fingerprint of keys fits one of a source")
	}
}

// Evaluations are written down before the first is answered, and stay so when
// the session fails; an epoch never answers more than it may.
func TestEvaluationsAreCountedFirst(t *testing.T) {
	xs, ys := psitest.Number(0, 50), psitest.Number(40, 50)
	w := newWorld()
	p := Params{MaxEvaluations: 30}
	counted := func() (n int) {
		for _, name := range files(t, w.server.Cache) {
			var of int
			if _, after, ok := strings.Cut(name, ".spent/"); ok {
				if _, err := fmt.Sscanf(after, "%d-", &of); err != nil {
					t.Fatal(err)
				}
				n += of
			}
		}
		return n
	}
	w.net.Wrap = func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Self != "p1" {
			return ch
		}
		return sessiontest.Tamper(ch, func(_ int, m []byte) [][]byte {
			if m[0] == byte(kindEvaluated) && counted() < 10 {
				t.Error("answered before it was counted")
			}
			if m[0] == byte(kindEvaluated) && counted() > 30 {
				t.Error("answered more than allowed")
			}
			return [][]byte{m}
		})
	}
	for i, want := range []int{10, 20, 30, 10} {
		checkIdeal(t, ys, xs, p, w.run(t, ys, rowsOf(t, xs), p))
		if got := counted(); got != want {
			t.Errorf("after session %d: %d evaluations, want %d", i+1, got, want)
		}
	}
	// A client that goes away has used them up.
	w.net = psitest.Tampering("p0", "", sessiontest.Truncate(3, 1))
	if r := w.run(t, ys, rowsOf(t, xs), p); sessiontest.Cause(r.out) == nil {
		t.Fatal("the session did not fail")
	}
	if got := counted(); got != 20 {
		t.Errorf("after a failed session: %d evaluations, want 20", got)
	}
	// Nothing is used up by nothing.
	w.net = sessiontest.Net{}
	checkIdeal(t, nil, xs, p, w.run(t, nil, rowsOf(t, xs), p))
	if got := counted(); got != 20 {
		t.Errorf("after a session for nothing: %d evaluations, want 20", got)
	}
}

// More than a session's or an epoch's worth is refused before anything is
// counted.
func TestTooManyItems(t *testing.T) {
	w := newWorld()
	xs := psitest.Number(0, 20)
	r := w.run(t, xs, rowsOf(t, xs), Params{MaxEvaluations: 19})
	if err := sessiontest.Cause(r.out); !errors.Is(err, ErrSize) {
		t.Errorf("more than the quota: %v", err)
	}
	if names := files(t, w.server.Cache); len(names) != 0 {
		t.Errorf("the server has %q", names)
	}
}

// faulty is files whose writing fails at a certain operation.
type faulty struct {
	scratch.Files
	mu   sync.Mutex
	left int // operations until it fails
}

var errFaulty = errors.New("the disk is gone")

func (f *faulty) step() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left--; f.left < 0 {
		return errFaulty
	}
	return nil
}

func (f *faulty) Create(name string) (scratch.Writer, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	w, err := f.Files.Create(name)
	return faultyWriter{w, f}, err
}

func (f *faulty) Remove(name string) error { return errors.Join(f.step(), f.Files.Remove(name)) }

type faultyWriter struct {
	scratch.Writer
	f *faulty
}

func (w faultyWriter) Commit() error {
	if err := w.f.step(); err != nil {
		return err
	}
	return w.Writer.Commit()
}

// Whenever preparation breaks off, the next run makes a whole table, and what
// the broken one left goes.
func TestPreparationThatBreaksOff(t *testing.T) {
	small(t)
	xs, ys := psitest.Number(0, 1500), psitest.Number(1490, 1510)
	old := sortMemory
	sortMemory = 500
	t.Cleanup(func() { sortMemory = old })
	for _, warm := range []bool{false, true} {
		broken := 0
		for left := 0; ; left++ {
			w := newWorld()
			if warm { // over an epoch that has to go
				checkIdeal(t, ys, xs[1:], both, w.run(t, ys, rowsOf(t, xs[1:]), both))
			}
			whole := w.server.Cache
			w.server.Cache = &faulty{Files: whole, left: left}
			r := w.run(t, ys, rowsOf(t, xs), both)
			w.server.Cache = whole
			if r.out[1].Err == nil {
				checkIdeal(t, ys, xs, both, r)
				break
			}
			broken++
			if !errors.Is(r.out[1].Err, errFaulty) {
				t.Fatalf("after %d operations: %v", left, r.out[1].Err)
			}
			checkIdeal(t, ys, xs, both, w.run(t, ys, rowsOf(t, xs), both))
			if names := files(t, whole); len(names) != 5 {
				t.Errorf("after %d operations and another run the server has %q", left, names)
			}
		}
		if broken < 6 {
			t.Errorf("only %d operations can fail", broken)
		}
	}
}

// damages are what can happen to a file.
var damages = map[string]func(b []byte) []byte{
	"a bit flipped at the start": func(b []byte) []byte { b[0] ^= 1; return b },
	"a bit flipped half way":     func(b []byte) []byte { b[len(b)/2] ^= 0x40; return b },
	"a bit flipped at the end":   func(b []byte) []byte { b[len(b)-1] ^= 0x80; return b },
	"cut off":                    func(b []byte) []byte { return b[:len(b)-1] },
	"longer":                     func(b []byte) []byte { return append(b, 0) },
	"empty":                      func([]byte) []byte { return nil },
	"gone":                       nil,
	"zeros":                      func(b []byte) []byte { clear(b); return b },
}

// Every file of either cache, damaged in every way: the next run is right, or
// ends with ErrCache and the one after it is right.
func TestDamagedCaches(t *testing.T) {
	small(t)
	xs, ys := psitest.Number(0, 1200), psitest.Number(700, 1300)
	for _, side := range []string{"client", "server"} {
		prepared := newWorld()
		checkIdeal(t, ys, xs, both, prepared.run(t, ys, rowsOf(t, xs), both))
		cache := func(w *world) *scratch.Files {
			if side == "client" {
				return &w.client.Cache
			}
			return &w.server.Cache
		}
		names, err := (*cache(prepared)).Names("")
		if err != nil || len(names) < 4 {
			t.Fatalf("%s has %q: %v", side, names, err)
		}
		for _, name := range names {
			for what, damage := range damages {
				w := newWorld()
				w.client.Cache, w.server.Cache = copied(t, prepared.client.Cache), copied(t, prepared.server.Cache)
				b := content(t, *cache(w), name)
				if damage == nil {
					if err := (*cache(w)).Remove(name); err != nil {
						t.Fatal(err)
					}
				} else if len(b) > 0 {
					put(t, *cache(w), name, damage(b))
				}
				r := w.run(t, ys, rowsOf(t, xs), both)
				if err := sessiontest.Cause(r.out); err != nil {
					if !errors.Is(err, ErrCache) || side == "client" {
						t.Errorf("%s's %s %s: %v", side, name, what, err)
					}
					r = w.run(t, ys, rowsOf(t, xs), both)
				}
				checkIdeal(t, ys, xs, both, r)
				checkIdeal(t, ys, xs, both, w.run(t, ys, rowsOf(t, xs), both))
			}
		}
	}
}

func content(t testing.TB, f scratch.Files, name string) []byte {
	t.Helper()
	p := place{files: f}
	b, err := p.read(name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t testing.TB, f scratch.Files, name string, b []byte) {
	t.Helper()
	p := place{files: f}
	if err := p.write(name, b); err != nil {
		t.Fatal(err)
	}
}

func copied(t testing.TB, f scratch.Files) scratch.Files {
	t.Helper()
	names, err := f.Names("")
	if err != nil {
		t.Fatal(err)
	}
	to := scratch.Memory()
	for _, n := range names {
		put(t, to, n, content(t, f, n))
	}
	return to
}

// The same over sealed files on a disk, where damage shows when they are opened
// or read.
func TestSealedCaches(t *testing.T) {
	small(t)
	xs, ys := psitest.Number(0, 1200), psitest.Number(700, 1300)
	w := newWorld()
	dirs := map[string]string{"client": t.TempDir(), "server": t.TempDir(), "disk": t.TempDir()}
	sealed := func(side string) scratch.Files {
		d, err := scratch.OpenDir(dirs[side], make([]byte, scratch.KeySize), 0)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	w.client.Cache, w.server.Cache, w.server.Disk = sealed("client"), sealed("server"), sealed("disk")
	checkIdeal(t, ys, xs, both, w.run(t, ys, rowsOf(t, xs), both))
	before := root(t, w)
	for side, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for i := range entries {
			path := filepath.Join(dir, entries[i].Name())
			b, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue // went with what an earlier file was part of
			}
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			r := w.run(t, ys, rowsOf(t, xs), both)
			if err := sessiontest.Cause(r.out); err != nil {
				if !errors.Is(err, ErrCache) || side == "client" {
					t.Errorf("%s's file %d: %v", side, i, err)
				}
				r = w.run(t, ys, rowsOf(t, xs), both)
			}
			checkIdeal(t, ys, xs, both, r)
		}
	}
	if root(t, w) == before {
		t.Error("the server still has its first table")
	}
	if left, _ := w.server.Disk.Names(""); len(left) != 0 {
		t.Errorf("the preparation left %q", left)
	}
}

// A download that breaks off goes on where it ended.
func TestDownloadGoesOn(t *testing.T) {
	small(t)
	xs, ys := psitest.Number(0, 6000), psitest.Number(5990, 6010)
	w := newWorld()
	full := w.run(t, ys, rowsOf(t, xs), Params{})
	checkIdeal(t, ys, xs, Params{}, full)
	kept := files(t, w.client.Cache)
	if len(kept) < 8 { // a directory and parts
		t.Fatalf("the table is in %q", kept)
	}
	for _, at := range []int{2, 3, 6} { // of the server's messages
		w.client.Cache = scratch.Memory()
		w.net = psitest.Tampering("p1", "", sessiontest.Truncate(at, 1))
		if r := w.run(t, ys, rowsOf(t, xs), Params{}); r.out[0].Err == nil {
			t.Fatal("the session did not fail")
		}
		had := files(t, w.client.Cache)
		w.net = sessiontest.Net{}
		r := w.run(t, ys, rowsOf(t, xs), Params{})
		checkIdeal(t, ys, xs, Params{}, r)
		if len(had) != max(0, at-2) {
			t.Errorf("after message %d the client kept %q", at, had)
		}
		saved := full.traffic() - r.traffic()
		for _, n := range had {
			saved -= int64(len(content(t, w.client.Cache, named(t, w, n))))
		}
		if saved < -300 || saved > 300 {
			t.Errorf("after message %d: %d bytes more were saved than kept", at, saved)
		}
	}
}

// named finds a file by its name without the slot.
func named(t testing.TB, w *world, name string) string {
	t.Helper()
	all, err := w.client.Cache.Names("")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if strings.HasSuffix(n, "/"+name) {
			return n
		}
	}
	t.Fatal(fs.ErrNotExist)
	return ""
}

// Sessions at once share one preparation and one download.
func TestSessionsAtOnce(t *testing.T) {
	xs, ys := psitest.Number(0, 3000), psitest.Number(2900, 3100)
	w := newWorld()
	var wg sync.WaitGroup
	results := make([]result, 4)
	for i := range results {
		wg.Go(func() { results[i] = w.run(t, ys, rowsOf(t, xs), both) })
	}
	wg.Wait()
	tables := 0
	for _, r := range results {
		checkIdeal(t, ys, xs, both, r)
		if r.traffic() > 8*3000 {
			tables++
		}
	}
	if tables != 1 {
		t.Errorf("the table was sent %d times", tables)
	}
	records := 0
	for _, n := range files(t, w.server.Cache) {
		if strings.HasSuffix(n, ".table") {
			records++
		}
	}
	if records != 1 {
		t.Errorf("the server has %d tables", records)
	}
}

// Waiting for another session ends with the context.
func TestLockEndsWithTheContext(t *testing.T) {
	p := place{scratch.Memory(), "test/"}
	unlock, err := p.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("the reason")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := p.lock(ctx); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	unlock()
	unlock, err = p.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
