package scratch

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
)

// diskFull is a file on a disk with room for some bytes.
type diskFull struct {
	newFile
	room int
	err  error
}

func (f *diskFull) Write(p []byte) (int, error) {
	if len(p) > f.room {
		return 0, &os.PathError{Op: "write", Path: f.Name(), Err: f.err}
	}
	f.room -= len(p)
	return f.newFile.Write(p)
}

func (f *diskFull) Sync() error {
	if f.room == 0 {
		return &os.PathError{Op: "sync", Path: f.Name(), Err: f.err}
	}
	return f.newFile.Sync()
}

func TestFullDisk(t *testing.T) {
	d, err := OpenDir(t.TempDir(), make([]byte, KeySize), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err  error
		full bool
		room int
	}{
		{syscall.ENOSPC, true, 0},
		{syscall.ENOSPC, true, 100_000},
		{syscall.ENOSPC, true, 200_000 + 4*tagSize}, // at Sync
		{syscall.EDQUOT, true, 100_000},
		{syscall.EIO, false, 100_000},
	} {
		w, err := d.Create("x")
		if err != nil {
			t.Fatal(err)
		}
		dw := w.(*dirWriter)
		dw.file = &diskFull{dw.file, c.room, c.err}
		_, err = w.Write(make([]byte, 200_000))
		if err == nil {
			err = w.Commit()
		}
		if errors.Is(err, ErrFull) != c.full || !errors.Is(err, c.err) {
			t.Errorf("%v, room %d: %v", c.err, c.room, err)
		}
		if again := w.Commit(); again == nil {
			t.Error("committed after a fault")
		}
		w.Discard()
		if names, err := d.Names(""); len(names) != 0 || err != nil || d.Used() != 0 {
			t.Errorf("names %q, %v, %d used", names, err, d.Used())
		}
	}
}

// sealBytes seals content in memory.
func sealBytes(t testing.TB, key *[KeySize]byte, name string, content []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	s, err := newSealer(&buf, key, new([saltSize]byte), name)
	if err == nil {
		_, err = s.Write(content)
	}
	if err == nil {
		err = s.flush(true)
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Whatever bytes a file has, it opens or is damaged, and its size is bounded by
// its length.
func FuzzOpen(f *testing.F) {
	key := new([KeySize]byte)
	good := sealBytes(f, key, "x", []byte("some rows"))
	f.Add(good, int64(len(good)))
	f.Add(good[:headerSize], int64(headerSize))
	f.Add(good[:headerSize], int64(headerSize+sealedMax+tagSize))
	f.Add([]byte{}, int64(1)<<62)
	f.Fuzz(func(t *testing.T, b []byte, length int64) {
		if _, l, ok := parseHeader(b[:min(len(b), headerSize)], length); ok && (l.size() < 0 || l.size() > length || l.chunks < 1) {
			t.Errorf("length %d has layout %+v", length, l)
		}
		for _, length := range []int64{int64(len(b)), length} {
			s, err := openSealed(bytes.NewReader(b), length, key, "x")
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, io.EOF) {
					t.Errorf("%v", err)
				}
				continue
			}
			if !bytes.Equal(b[:length], good) {
				t.Errorf("opened %d bytes that nobody sealed", s.size())
			}
		}
	})
}

func TestSealedLengths(t *testing.T) {
	key := new([KeySize]byte)
	for _, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize} {
		b := sealBytes(t, key, "x", make([]byte, n))
		chunks := max(1, (n+chunkSize-1)/chunkSize)
		if want := headerSize + n + chunks*tagSize; len(b) != want {
			t.Errorf("%d bytes seal to %d, want %d", n, len(b), want)
		}
		if _, err := openSealed(bytes.NewReader(b), int64(len(b)), key, "y"); !errors.Is(err, ErrDamaged) {
			t.Errorf("under another name: %v", err)
		}
	}
}
