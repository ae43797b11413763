// Package scratch is disk space for a computation that is larger than memory:
// named files, each written once from beginning to end.
//
// A job gets two of them, see job.Env: one that lives as long as its run, and
// one that the node keeps between runs. What a file holds may be derived from
// rows, so a node seals it on disk; see [Dir].
package scratch

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Files is a set of named files. A name is made of the letters a to z, digits,
// '.', '-' and '_', in parts separated by '/', none of which begins with a dot;
// it has at most 200 bytes. It is safe for concurrent use, of different names.
type Files interface {
	// Create begins a file. It exists from Commit on, in place of one that had
	// the name.
	Create(name string) (Writer, error)
	// Open opens a file that has been committed; the error wraps fs.ErrNotExist
	// where there is none, and ErrDamaged where its end is missing. What is read
	// stays what it was at Open if the file is replaced or removed.
	Open(name string) (File, error)
	// Remove removes a file; it is no error if there is none.
	Remove(name string) error
	// Names returns the committed files whose name begins with prefix, sorted.
	Names(prefix string) ([]string, error)
}

// Writer writes one file. Commit or Discard ends it; Discard after Commit does
// nothing, so that it can be deferred. A Commit that fails leaves no file, or
// the one that had the name.
type Writer interface {
	io.Writer
	Commit() error
	Discard()
}

// File reads one file. ReadAt can be called concurrently.
type File interface {
	io.Reader
	io.ReaderAt
	io.Closer
	Size() int64
}

// Faults of files.
var (
	ErrName    = errors.New("scratch: not a file name")
	ErrDamaged = errors.New("scratch: file is damaged")
	ErrFull    = errors.New("scratch: no space left")
)

// Sub returns those of files whose names begin with prefix and a '/', by the
// rest of their names.
func Sub(files Files, prefix string) Files { return sub{files, prefix + "/"} }

type sub struct {
	files  Files
	prefix string
}

func (s sub) Create(name string) (Writer, error) { return s.files.Create(s.prefix + name) }
func (s sub) Open(name string) (File, error)     { return s.files.Open(s.prefix + name) }
func (s sub) Remove(name string) error           { return s.files.Remove(s.prefix + name) }

func (s sub) Names(prefix string) ([]string, error) {
	names, err := s.files.Names(s.prefix + prefix)
	for i := range names {
		names[i] = names[i][len(s.prefix):]
	}
	return names, err
}

const maxName = 200

// checkName holds a name to what Files says of names.
func checkName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("%w: %d bytes", ErrName, len(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' {
			return fmt.Errorf("%w: %q", ErrName, name)
		}
		for _, r := range part {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_' {
				return fmt.Errorf("%w: %q", ErrName, name)
			}
		}
	}
	return nil
}

func errEnded(name string) error { return fmt.Errorf("scratch: %s was ended before", name) }
