package scratch_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/yinqiao/yinqiao/scratch"
)

var testKey = bytes.Repeat([]byte{7}, scratch.KeySize)

func openDir(t testing.TB, path string) *scratch.Dir {
	t.Helper()
	d, err := scratch.OpenDir(path, testKey, 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// kinds is every implementation of Files.
var kinds = map[string]func(t *testing.T) scratch.Files{
	"memory":     func(*testing.T) scratch.Files { return scratch.Memory() },
	"dir":        func(t *testing.T) scratch.Files { return openDir(t, t.TempDir()) },
	"sub":        func(*testing.T) scratch.Files { return scratch.Sub(scratch.Memory(), "run.7/a") },
	"sub of dir": func(t *testing.T) scratch.Files { return scratch.Sub(openDir(t, t.TempDir()), "b") },
}

// eachKind runs a test on every implementation.
func eachKind(t *testing.T, test func(t *testing.T, files scratch.Files)) {
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// sequence is n bytes of which no two chunks are the same.
func sequence(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 ^ i>>8 ^ i>>13 ^ i>>16)
	}
	return b
}

func put(t testing.TB, files scratch.Files, name string, content []byte) {
	t.Helper()
	w, err := files.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Discard()
	if n, err := w.Write(content); n != len(content) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

func get(files scratch.Files, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func TestReadsBackWhatWasWritten(t *testing.T) {
	const chunk = 64 << 10
	eachKind(t, func(t *testing.T, files scratch.Files) {
		for _, n := range []int{0, 1, 1000, chunk - 1, chunk, chunk + 1, 2 * chunk, 3*chunk + 5} {
			want := sequence(n)
			w, err := files.Create("x")
			if err != nil {
				t.Fatal(err)
			}
			// In pieces that fall across chunks.
			for part := range slices.Chunk(want, 40_001) {
				if k, err := w.Write(part); k != len(part) || err != nil {
					t.Fatal(k, err)
				}
			}
			if err := w.Commit(); err != nil {
				t.Fatal(err)
			}
			f, err := files.Open("x")
			if err != nil {
				t.Fatal(err)
			}
			if f.Size() != int64(n) {
				t.Errorf("%d bytes have size %d", n, f.Size())
			}
			// TestReader holds Read, ReadAt and io.EOF to their contracts.
			if n <= 2*chunk {
				if err := iotest.TestReader(f, want); err != nil {
					t.Errorf("%d bytes: %v", n, err)
				}
			}
			got := make([]byte, n+10)
			if k, err := f.ReadAt(got, 0); k != n || err != io.EOF || !bytes.Equal(got[:k], want) {
				t.Errorf("%d bytes: read %d, %v", n, k, err)
			}
			for _, at := range []int{0, 1, chunk - 1, chunk, n / 2, n - 3, n - 1} {
				l := min(5, n-at)
				if at < 0 || l < 0 {
					continue
				}
				if k, err := f.ReadAt(got[:l], int64(at)); k != l || err != nil && err != io.EOF || !bytes.Equal(got[:l], want[at:at+l]) {
					t.Errorf("%d bytes, at %d: %d, %v", n, at, k, err)
				}
			}
			if _, err := f.ReadAt(got, -1); err == nil {
				t.Error("a negative offset passed")
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestCommitAndDiscard(t *testing.T) {
	eachKind(t, func(t *testing.T, files scratch.Files) {
		missing := func(name string) {
			t.Helper()
			if _, err := files.Open(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("open: %v", err)
			}
			if names, err := files.Names(""); len(names) != 0 || err != nil {
				t.Errorf("names %q, %v", names, err)
			}
		}
		w, err := files.Create("a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("one")); err != nil {
			t.Fatal(err)
		}
		missing("a")
		w.Discard()
		w.Discard()
		missing("a")
		if w.Commit() == nil {
			t.Error("committed after it was discarded")
		}
		if _, err := w.Write([]byte("x")); err == nil {
			t.Error("written after it was discarded")
		}

		put(t, files, "a", []byte("one"))
		old, err := files.Open("a")
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		w, err = files.Create("a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("second")); err != nil {
			t.Fatal(err)
		}
		if b, err := get(files, "a"); string(b) != "one" || err != nil {
			t.Errorf("before Commit: %q, %v", b, err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		w.Discard()
		if w.Commit() == nil {
			t.Error("committed twice")
		}
		if _, err := w.Write([]byte("x")); err == nil {
			t.Error("written after it was committed")
		}
		if b, err := get(files, "a"); string(b) != "second" || err != nil {
			t.Errorf("after Commit: %q, %v", b, err)
		}
		if b, err := io.ReadAll(old); string(b) != "one" || err != nil {
			t.Errorf("opened before: %q, %v", b, err)
		}
		for range 2 {
			if err := files.Remove("a"); err != nil {
				t.Error(err)
			}
		}
		missing("a")
	})
}

func TestNames(t *testing.T) {
	eachKind(t, func(t *testing.T, files scratch.Files) {
		all := []string{"a", "a-b/c.d/0", "a.b", "a/b", "a/b/c", "b_9"}
		for _, n := range all {
			put(t, files, n, []byte(n))
		}
		open, err := files.Create("a/open")
		if err != nil {
			t.Fatal(err)
		}
		defer open.Discard()
		for prefix, want := range map[string][]string{
			"": all, "a/": {"a/b", "a/b/c"}, "a/b": {"a/b", "a/b/c"}, "b": {"b_9"}, "c": nil, "../": nil, ".new-": nil,
		} {
			if got, err := files.Names(prefix); !slices.Equal(got, want) || err != nil {
				t.Errorf("%q: %q, %v", prefix, got, err)
			}
		}
		for _, n := range all {
			if b, err := get(files, n); string(b) != n || err != nil {
				t.Errorf("%s: %q, %v", n, b, err)
			}
		}
	})
}

var badNames = []string{
	"", "/", ".", "..", "../x", "a/../b", "a/..", "/a", "a/", "a//b", ".a", "a/.b", ".new-1", "A", "a b", `a\b`, "a+b", "a%2fb", "a:b",
	"\x00", "a\x00", "é", "a\xff", "~", "a\n", strings.Repeat("a", 201),
}

func TestBadNames(t *testing.T) {
	eachKind(t, func(t *testing.T, files scratch.Files) {
		for _, n := range badNames {
			if _, err := files.Create(n); !errors.Is(err, scratch.ErrName) {
				t.Errorf("create %q: %v", n, err)
			}
			if _, err := files.Open(n); !errors.Is(err, scratch.ErrName) {
				t.Errorf("open %q: %v", n, err)
			}
			if err := files.Remove(n); !errors.Is(err, scratch.ErrName) {
				t.Errorf("remove %q: %v", n, err)
			}
		}
	})
	for _, prefix := range badNames {
		if _, err := scratch.Sub(scratch.Memory(), prefix).Create("x"); !errors.Is(err, scratch.ErrName) {
			t.Errorf("below %q: %v", prefix, err)
		}
	}
}

// Sub shows what is below its prefix and nothing else.
func TestSub(t *testing.T) {
	files := scratch.Memory()
	put(t, files, "a/x", []byte("1"))
	put(t, files, "ab", []byte("2"))
	put(t, files, "a", []byte("3"))
	a := scratch.Sub(files, "a")
	if names, err := a.Names(""); !slices.Equal(names, []string{"x"}) || err != nil {
		t.Errorf("names %q, %v", names, err)
	}
	put(t, scratch.Sub(a, "y"), "z", []byte("4"))
	if b, err := get(files, "a/y/z"); string(b) != "4" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if err := a.Remove("x"); err != nil {
		t.Error(err)
	}
	if names, _ := files.Names(""); !slices.Equal(names, []string{"a", "a/y/z", "ab"}) {
		t.Errorf("names %q", names)
	}
}

// Different names are written, read, listed and removed at the same time, and
// one file is read by many.
func TestConcurrent(t *testing.T) {
	eachKind(t, func(t *testing.T, files scratch.Files) {
		want := sequence(300_000)
		put(t, files, "shared", want)
		shared, err := files.Open("shared")
		if err != nil {
			t.Fatal(err)
		}
		defer shared.Close()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				name := fmt.Sprintf("own/%d", i)
				own := want[:100_000+i]
				for round := range 5 {
					w, err := files.Create(name)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := w.Write(own); err != nil {
						t.Error(err)
					}
					if err := w.Commit(); err != nil {
						t.Error(err)
					}
					if b, err := get(files, name); !bytes.Equal(b, own) || err != nil {
						t.Errorf("%s: %d bytes, %v", name, len(b), err)
					}
					if _, err := files.Names("own"); err != nil {
						t.Error(err)
					}
					part := make([]byte, 70_000)
					at := (i*37_000 + round*11_000) % 230_000
					if _, err := shared.ReadAt(part, int64(at)); err != nil || !bytes.Equal(part, want[at:at+len(part)]) {
						t.Errorf("shared at %d: %v", at, err)
					}
					if err := files.Remove(name); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if names, err := files.Names(""); !slices.Equal(names, []string{"shared"}) || err != nil {
			t.Errorf("left: %q, %v", names, err)
		}
	})
}
