package scratch

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Dir is files on disk, sealed under a key with AES-256-GCM: who has the disk
// and not the key sees the names of the files, their lengths and when they were
// written. A file that was changed, cut, renamed or exchanged for another is
// ErrDamaged when it is opened or read. That a whole file is gone, or is what
// the same name held earlier, cannot be seen from the files.
//
// An open Writer or File holds 64 KiB.
type Dir struct {
	path  string
	limit int64

	mu   sync.Mutex
	used int64
	key  *[KeySize]byte // a pointer, so that printing a Dir does not print it; nil once destroyed
}

var _ Files = (*Dir)(nil)

// On disk a '/' of a name is nameSlash, which no name has, and a file that is
// not committed begins with newPrefix, as no name does.
const (
	nameSlash = "+"
	newPrefix = ".new-"
)

// OpenDir opens the directory at path, which it makes if there is none, and
// removes what a crash left of files that were not committed. The key has
// KeySize random bytes; files that were sealed under another are ErrDamaged.
// Limit bounds the bytes that all files together take on disk, 0 is no bound;
// what goes beyond it, or does not fit the disk, is ErrFull.
//
// A directory is for one Dir at a time, and for nothing else.
func OpenDir(path string, key []byte, limit int64) (*Dir, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("scratch: the key has %d bytes, want %d", len(key), KeySize)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	d := &Dir{path: path, key: (*[KeySize]byte)(slices.Clone(key)), limit: limit}
	err = d.each(func(e fs.DirEntry, name string) error {
		if name == "" {
			return os.Remove(filepath.Join(path, e.Name()))
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		d.used += info.Size()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	return d, nil
}

// each calls do with every file: with its name, or "" if it is not committed.
// What is neither was put there by somebody else, and is left alone.
func (d *Dir) each(do func(e fs.DirEntry, name string) error) error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := strings.ReplaceAll(e.Name(), nameSlash, "/")
		if strings.HasPrefix(name, newPrefix) {
			name = ""
		} else if checkName(name) != nil {
			continue
		}
		if !e.Type().IsRegular() {
			continue
		}
		if err := do(e, name); err != nil {
			return err
		}
	}
	return nil
}

// at returns the path of a file.
func (d *Dir) at(name string) string {
	return filepath.Join(d.path, strings.ReplaceAll(name, "/", nameSlash))
}

// Used returns the bytes that all files take on disk, those being written
// included.
func (d *Dir) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// Create begins a file, see Files.
func (d *Dir) Create(name string) (Writer, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	key, err := d.held(name)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(d.path, newPrefix+"*") // mode 0600
	if err != nil {
		return nil, fault(name, err)
	}
	w := &dirWriter{dir: d, name: name, file: f}
	var salt [saltSize]byte
	_, _ = rand.Read(salt[:]) // never fails
	if w.sealer, err = newSealer(metered{w}, key, &salt, name); err != nil {
		w.Discard()
		return nil, fault(name, err)
	}
	return w, nil
}

// Open opens a file, see Files.
func (d *Dir) Open(name string) (File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	key, err := d.held(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(d.at(name))
	if err != nil {
		return nil, fault(name, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fault(name, err)
	}
	s, err := openSealed(f, info.Size(), key, name)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &dirFile{SectionReader: io.NewSectionReader(s, 0, s.size()), file: f}, nil
}

// Remove removes a file, see Files. One that is open stays readable.
func (d *Dir) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	size, err := d.size(name)
	if err == nil {
		err = os.Remove(d.at(name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault(name, err)
	}
	d.used -= size
	return nil
}

// Names lists files, see Files.
func (d *Dir) Names(prefix string) ([]string, error) {
	var names []string
	err := d.each(func(_ fs.DirEntry, name string) error {
		if name != "" && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// Destroy removes all files and the directory, which fails if it holds anything
// else. No file can be created or opened from then on.
func (d *Dir) Destroy() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.key = nil
	err := d.each(func(e fs.DirEntry, _ string) error {
		err := os.Remove(filepath.Join(d.path, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // a writer was quicker to discard it
		}
		return err
	})
	if err == nil {
		err = os.Remove(d.path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("scratch: %w", err)
	}
	d.used = 0
	return nil
}

// held returns the key, unless the directory was destroyed.
func (d *Dir) held(name string) (*[KeySize]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.key == nil {
		return nil, fmt.Errorf("scratch: %s: the directory was destroyed: %w", name, fs.ErrClosed)
	}
	return d.key, nil
}

// size returns the bytes that a file takes on disk.
func (d *Dir) size(name string) (int64, error) {
	info, err := os.Lstat(d.at(name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// take reserves n bytes of the limit.
func (d *Dir) take(n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.limit > 0 && d.used+n > d.limit {
		return fmt.Errorf("%w: the limit is %d bytes", ErrFull, d.limit)
	}
	d.used += n
	return nil
}

// replace puts a closed file in the place of name, for good.
func (d *Dir) replace(file, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, err := d.size(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(file, d.at(name)); err != nil {
		return err
	}
	d.used -= old
	if err := syncDir(d.path); err != nil {
		// Whether it would be there after a crash is not known: the writer
		// discards it.
		return errors.Join(err, os.Rename(d.at(name), file))
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// fault puts a file's name before an error, and tells a full disk.
func fault(name string, err error) error {
	switch {
	case errors.Is(err, ErrFull):
		return fmt.Errorf("%w, at %s", err, name)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %s: %w", ErrFull, name, err)
	}
	return fmt.Errorf("scratch: %s: %w", name, err)
}

// dirWriter is a file that is not committed.
type dirWriter struct {
	dir    *Dir
	name   string
	file   newFile
	sealer *sealer
	taken  int64 // bytes on disk
	err    error // the first one: nothing is written after it
	ended  bool
}

// newFile is what a dirWriter needs of an *os.File.
type newFile interface {
	io.Writer
	Name() string
	Sync() error
	Close() error
}

// metered writes to a writer's file within the directory's limit.
type metered struct{ w *dirWriter }

func (m metered) Write(p []byte) (int, error) {
	if err := m.w.dir.take(int64(len(p))); err != nil {
		return 0, err
	}
	m.w.taken += int64(len(p))
	return m.w.file.Write(p)
}

func (w *dirWriter) Write(p []byte) (int, error) {
	if w.ended {
		return 0, errEnded(w.name)
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.sealer.Write(p)
	if err != nil {
		w.err = fault(w.name, err)
	}
	return n, w.err
}

func (w *dirWriter) Commit() error {
	if w.ended {
		return errEnded(w.name)
	}
	if w.err == nil {
		if err := w.commit(); err != nil {
			w.err = fault(w.name, err)
		}
	}
	if w.err != nil {
		w.Discard()
		return w.err
	}
	w.ended = true
	return nil
}

func (w *dirWriter) commit() error {
	if err := w.sealer.flush(true); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	if err := w.file.Close(); err != nil {
		return err
	}
	return w.dir.replace(w.file.Name(), w.name)
}

// Discard removes what was written. There is nobody to tell if that fails: the
// file goes when the directory is opened next.
func (w *dirWriter) Discard() {
	if w.ended {
		return
	}
	w.ended = true
	_ = w.file.Close()
	w.dir.mu.Lock()
	defer w.dir.mu.Unlock()
	if err := os.Remove(w.file.Name()); err == nil {
		w.dir.used -= w.taken
	}
}

// dirFile reads a sealed file.
type dirFile struct {
	*io.SectionReader
	file *os.File
}

func (f *dirFile) Close() error { return f.file.Close() }
