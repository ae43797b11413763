// Package scratch is disk space for a computation that is larger than memory:
// named files, each written once from beginning to end.
//
// A job gets two of them, see job.Env: one that lives as long as its run, and
// one that the node keeps between runs. What a file holds may be derived from
// rows, so a node seals it on disk; see [Dir].
package scratch

import (
	"errors"
	"io"
)

// Files is a set of named files. A name is made of the letters a to z, digits,
// '.', '-' and '_', in parts separated by '/', none of which begins with a dot.
// It is safe for concurrent use, of different names.
type Files interface {
	// Create begins a file. It exists from Commit on, in place of one that had
	// the name.
	Create(name string) (Writer, error)
	// Open opens a file that has been committed; the error wraps fs.ErrNotExist
	// where there is none, and ErrDamaged where its end is missing.
	Open(name string) (File, error)
	// Remove removes a file; it is no error if there is none.
	Remove(name string) error
	// Names returns the committed files whose name begins with prefix, sorted.
	Names(prefix string) ([]string, error)
}

// Writer writes one file. Exactly one of Commit and Discard ends it; Discard
// after Commit does nothing, so that it can be deferred.
type Writer interface {
	io.Writer
	Commit() error
	Discard()
}

// File reads one file.
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
