package scratch_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/scratch"
)

// onlyFile returns the path of the one file in a directory.
func onlyFile(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	return filepath.Join(dir, entries[0].Name())
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFilesOutliveTheirDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	put(t, openDir(t, path), "x/y", []byte("content"))
	d := openDir(t, path)
	if b, err := get(d, "x/y"); string(b) != "content" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	file := onlyFile(t, path)
	for p, want := range map[string]fs.FileMode{path: 0o700 | fs.ModeDir, file: 0o600} {
		if info, err := os.Stat(p); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
	if b := read(t, file); bytes.Contains(b, []byte("content")) || d.Used() != int64(len(b)) {
		t.Errorf("%q, %d used", b, d.Used())
	}
	// The same content is not the same on disk twice.
	before := read(t, file)
	put(t, d, "x/y", []byte("content"))
	if bytes.Equal(read(t, file)[8:], before[8:]) {
		t.Error("sealed twice under the same key")
	}
	other := slices.Clone(testKey)
	other[31] ^= 1
	wrong, err := scratch.OpenDir(path, other, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Open("x/y"); !errors.Is(err, scratch.ErrDamaged) {
		t.Errorf("under another key: %v", err)
	}
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := scratch.OpenDir(path, make([]byte, n), 0); err == nil {
			t.Errorf("a key of %d bytes passed", n)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v", d, d, d); strings.Contains(s, "7, 7, 7") || strings.Contains(s, "7 7 7") || strings.Contains(s, "0x7, 0x7") {
		t.Errorf("printed with its key: %s", s)
	}
}

// fails reads a file whole and wants ErrDamaged, of Open or of a read.
func fails(t *testing.T, d *scratch.Dir, name, what string) {
	t.Helper()
	if b, err := get(d, name); !errors.Is(err, scratch.ErrDamaged) {
		t.Errorf("%s: %d bytes, %v", what, len(b), err)
	}
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	for _, n := range []int{0, 1, 50} {
		dir := t.TempDir()
		d := openDir(t, dir)
		put(t, d, "x", sequence(n))
		file := onlyFile(t, dir)
		good := read(t, file)
		for i := range good {
			for _, bit := range []byte{1, 0x80} {
				bad := slices.Clone(good)
				bad[i] ^= bit
				write(t, file, bad)
				fails(t, d, "x", fmt.Sprintf("%d bytes, byte %d", n, i))
			}
		}
		for i := range good {
			write(t, file, good[:i])
			fails(t, d, "x", fmt.Sprintf("%d bytes, cut to %d", n, i))
		}
		write(t, file, append(slices.Clone(good), 0))
		fails(t, d, "x", "longer by one")
		write(t, file, append(slices.Clone(good), good...))
		fails(t, d, "x", "twice")
		write(t, file, good)
		if b, err := get(d, "x"); !bytes.Equal(b, sequence(n)) || err != nil {
			t.Errorf("mended: %v", err)
		}
	}
}

func TestChunksStayInPlace(t *testing.T) {
	const header, chunk = 40, 64<<10 + 16
	for _, last := range []int{100, 64 << 10} {
		dir := t.TempDir()
		d := openDir(t, dir)
		put(t, d, "x", sequence(3*(64<<10)+last))
		file := onlyFile(t, dir)
		good := read(t, file)
		at := func(i int) []byte { return good[header+i*chunk : min(header+(i+1)*chunk, len(good))] }
		join := func(parts ...[]byte) []byte { return slices.Concat(append([][]byte{good[:header]}, parts...)...) }
		for what, bad := range map[string][]byte{
			"without the last chunk":      join(at(0), at(1), at(2)),
			"without two chunks":          join(at(0), at(1)),
			"without any chunk":           join(),
			"without the first":           join(at(1), at(2), at(3)),
			"two exchanged":               join(at(1), at(0), at(2), at(3)),
			"one twice":                   join(at(0), at(0), at(1), at(2), at(3)),
			"one in the place of another": join(at(0), at(0), at(2), at(3)),
			"the last one twice":          join(at(0), at(1), at(2), at(3), at(3)),
			"the last one cut":            good[:len(good)-1],
			"a byte flipped in the middle": func() []byte {
				b := slices.Clone(good)
				b[header+chunk+1000] ^= 4
				return b
			}(),
		} {
			write(t, file, bad)
			fails(t, d, "x", what)
		}
		// An undamaged chunk of a damaged file can be read; the damaged one cannot.
		bad := slices.Clone(good)
		bad[header+chunk] ^= 1
		write(t, file, bad)
		f, err := d.Open("x")
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 10)
		if _, err := f.ReadAt(p, 10); err != nil {
			t.Error(err)
		}
		for range 2 {
			if _, err := f.ReadAt(p, 64<<10-5); !errors.Is(err, scratch.ErrDamaged) {
				t.Errorf("across into the damaged chunk: %v", err)
			}
		}
		if _, err := f.ReadAt(p, 2*(64<<10)); err != nil {
			t.Error(err)
		}
		f.Close()

		// Cut while it is open.
		write(t, file, good)
		if f, err = d.Open("x"); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, header+chunk+5); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(f); !errors.Is(err, scratch.ErrDamaged) {
			t.Errorf("cut while open: %v", err)
		}
		f.Close()
	}
}

func TestFilesCannotBeExchanged(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	put(t, d, "a", []byte("one"))
	file := onlyFile(t, dir)
	put(t, d, "b", []byte("two"))
	if err := os.Rename(file, filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	fails(t, d, "b", "a in the place of b")
	// Nor may one file have the header of the other.
	put(t, d, "a", []byte("six"))
	put(t, d, "b", []byte("two"))
	a, b := read(t, filepath.Join(dir, "a")), read(t, filepath.Join(dir, "b"))
	write(t, filepath.Join(dir, "b"), slices.Concat(a[:40], b[40:]))
	fails(t, d, "b", "the header of a")
}

func TestLimit(t *testing.T) {
	const limit = 400_000
	dir := t.TempDir()
	d, err := scratch.OpenDir(dir, testKey, limit)
	if err != nil {
		t.Fatal(err)
	}
	put(t, d, "a", sequence(150_000))
	used := d.Used()
	w, err := d.Create("b")
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(sequence(350_000))
	if err == nil {
		err = w.Commit()
	}
	if !errors.Is(err, scratch.ErrFull) {
		t.Errorf("beyond the limit: %v", err)
	}
	if _, err := w.Write([]byte{1}); !errors.Is(err, scratch.ErrFull) {
		t.Errorf("written on: %v", err)
	}
	if err := w.Commit(); err == nil {
		t.Error("a file with a hole was committed")
	}
	w.Discard()
	if d.Used() != used {
		t.Errorf("%d used after discarding, %d before", d.Used(), used)
	}
	// What is removed or replaced is free again.
	for range 5 {
		put(t, d, "b", sequence(100_000))
		if err := d.Remove("b"); err != nil {
			t.Fatal(err)
		}
		put(t, d, "a", sequence(150_000))
	}
	if d.Used() != used {
		t.Errorf("%d used, %d before", d.Used(), used)
	}
	// The next Dir counts what is there.
	d, err = scratch.OpenDir(dir, testKey, used+10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create("c"); !errors.Is(err, scratch.ErrFull) || d.Used() != used {
		t.Errorf("%v, %d used", err, d.Used())
	}
	if names, _ := d.Names(""); !slices.Equal(names, []string{"a"}) {
		t.Errorf("names %q", names)
	}
}

func TestDestroy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	d := openDir(t, dir)
	put(t, d, "a", []byte("one"))
	w, err := d.Create("b")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Destroy(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
	if err := w.Commit(); err == nil {
		t.Error("committed to a destroyed directory")
	}
	if _, err := d.Create("c"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("create: %v", err)
	}
	if _, err := d.Open("a"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("open: %v", err)
	}
	if err := d.Destroy(); err != nil {
		t.Errorf("twice: %v", err)
	}

	// What is not ours stays, and is neither listed nor counted.
	d = openDir(t, dir)
	put(t, d, "a", []byte("one"))
	write(t, filepath.Join(dir, "README"), []byte("mine"))
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if names, err := openDir(t, dir).Names(""); !slices.Equal(names, []string{"a"}) || err != nil {
		t.Errorf("names %q, %v", names, err)
	}
	if err := d.Destroy(); err == nil {
		t.Error("removed a directory with another's file")
	}
	if s := read(t, filepath.Join(dir, "README")); string(s) != "mine" {
		t.Errorf("%q", s)
	}
}

// A process that is killed while it writes leaves what it had committed and no
// trace of the rest.
func TestKilledWriter(t *testing.T) {
	const variable = "YINQIAO_SCRATCH_KILLED"
	if dir := os.Getenv(variable); dir != "" {
		d := openDir(t, dir)
		put(t, d, "done", sequence(200_000))
		w, err := d.Create("done") // in its place
		if err != nil {
			t.Fatal(err)
		}
		other, err := d.Create("new")
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			for _, w := range []scratch.Writer{w, other} {
				if _, err := w.Write(make([]byte, 100_000)); err != nil {
					t.Fatal(err)
				}
			}
			if i == 3 {
				fmt.Println("writing")
			}
			if i > 1000 {
				// The parent is gone.
				return
			}
		}
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWriter$")
	cmd.Env = append(os.Environ(), variable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "writing\n" {
		t.Errorf("the child said %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Errorf("the child ended by itself: %v", err)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 3 || err != nil {
		t.Errorf("%d entries after the crash, %v", len(entries), err)
	}
	d := openDir(t, dir)
	if b, err := get(d, "done"); !bytes.Equal(b, sequence(200_000)) || err != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if file := onlyFile(t, dir); d.Used() != int64(len(read(t, file))) {
		t.Errorf("%d used", d.Used())
	}
	if _, err := d.Open("new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that was not committed: %v", err)
	}
}

func BenchmarkDir(b *testing.B) {
	const size = 64 << 20
	content := sequence(size)
	b.Run("write", func(b *testing.B) {
		d := openDir(b, b.TempDir())
		b.SetBytes(size)
		for b.Loop() {
			put(b, d, "x", content)
		}
	})
	b.Run("read", func(b *testing.B) {
		d := openDir(b, b.TempDir())
		put(b, d, "x", content)
		buf := make([]byte, 64<<10)
		b.SetBytes(size)
		for b.Loop() {
			f, err := d.Open("x")
			if err != nil {
				b.Fatal(err)
			}
			if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf); n != size || err != nil {
				b.Fatal(n, err)
			}
			f.Close()
		}
	})
}
