package scratch

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// Memory returns files in memory: for tests, and for runs without a node.
func Memory() Files { return &memory{files: make(map[string][]byte)} }

type memory struct {
	mu    sync.Mutex
	files map[string][]byte
}

func (m *memory) Create(name string) (Writer, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return &memoryWriter{files: m, name: name}, nil
}

func (m *memory) Open(name string) (File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.files[name]
	if !ok {
		return nil, fmt.Errorf("scratch: %s: %w", name, fs.ErrNotExist)
	}
	return memoryFile{bytes.NewReader(b)}, nil
}

func (m *memory) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}

func (m *memory) Names(prefix string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for n := range m.files {
		if strings.HasPrefix(n, prefix) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, nil
}

type memoryWriter struct {
	files *memory
	name  string
	buf   bytes.Buffer
	ended bool
}

func (w *memoryWriter) Write(p []byte) (int, error) {
	if w.ended {
		return 0, errEnded(w.name)
	}
	return w.buf.Write(p)
}

func (w *memoryWriter) Commit() error {
	if w.ended {
		return errEnded(w.name)
	}
	w.ended = true
	w.files.mu.Lock()
	defer w.files.mu.Unlock()
	w.files.files[w.name] = w.buf.Bytes()
	return nil
}

func (w *memoryWriter) Discard() {
	if !w.ended {
		w.ended, w.buf = true, bytes.Buffer{}
	}
}

type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error { return nil }
