package node

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"

	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/internal/store"
	"github.com/yinqiao/yinqiao/scratch"
)

// disk is what jobs may use of this node's disk: the sealed scratch folder of
// each run, the sealed cache of each job kind, the sealed history of each entry,
// and room for results.
type disk struct {
	scratchDir, cacheDir, historyDir string
	key                              secret.Bytes
	quota                            room // scratch, cache and history; limits.scratch_bytes
	space                            room // everything; what limits.min_free_bytes leaves
	histories                        *histories

	mu     sync.Mutex
	caches map[string]scratch.Files // one for all jobs of a kind
}

func newDisk(h Home, storeKey secret.Bytes, l LimitConfig) (*disk, error) {
	key, err := hkdf.Key(sha256.New, storeKey.Reveal(), nil, "yinqiao/job files/v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("node: job files: %w", err)
	}
	d := &disk{
		scratchDir: h.scratchDir(), cacheDir: h.cacheDir(), historyDir: h.historyDir(), key: secret.New(key),
		caches: make(map[string]scratch.Files),
	}
	d.histories = newHistories(d)
	for _, dir := range []string{d.scratchDir, d.cacheDir, d.historyDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("node: home: %w", err)
		}
	}
	d.space = room{what: fmt.Sprintf("the disk is down to the %d bytes that stay free (limits.min_free_bytes)", l.MinFreeBytes), measure: func() (int64, error) {
		free, err := store.FreeBytes(h.Dir)
		return int64(min(free, math.MaxInt64)) - int64(min(l.MinFreeBytes, math.MaxInt64)), err
	}}
	if l.ScratchBytes > 0 {
		d.quota = room{what: fmt.Sprintf("scratch files, caches and histories have the %d bytes they may have (limits.scratch_bytes)", l.ScratchBytes), measure: func() (int64, error) {
			left := l.ScratchBytes
			for _, dir := range []string{d.scratchDir, d.cacheDir, d.historyDir} {
				used, err := folderSize(dir)
				if err != nil {
					return 0, err
				}
				left -= used
			}
			return left, nil
		}}
	}
	return d, nil
}

// sealed opens a folder under a key of its own.
func (d *disk) sealed(dir, label string) (scratch.Files, error) {
	key, err := hkdf.Expand(sha256.New, d.key.Reveal(), label, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("node: job files: %w", err)
	}
	files, err := scratch.OpenDir(dir, key, 0) // limitedFiles counts
	if err != nil {
		return nil, err
	}
	return limitedFiles{files, d}, nil
}

// scratch opens the folder of a run, a new one where it has none.
func (d *disk) scratch(run string) (scratch.Files, error) {
	return d.sealed(filepath.Join(d.scratchDir, run), "scratch/"+run)
}

// hasScratch reports whether a run's folder is there.
func (d *disk) hasScratch(run string) bool {
	_, err := os.Stat(filepath.Join(d.scratchDir, run))
	return err == nil
}

// drop removes a run's folder; it is no error if there is none.
func (d *disk) drop(run string) error {
	return os.RemoveAll(filepath.Join(d.scratchDir, run))
}

// runs lists the runs that have a folder.
func (d *disk) runs() ([]string, error) {
	entries, err := os.ReadDir(d.scratchDir)
	if err != nil {
		return nil, fmt.Errorf("node: job files: %w", err)
	}
	var runs []string
	for _, e := range entries {
		runs = append(runs, e.Name())
	}
	return runs, nil
}

var plainKind = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// cache opens the folder that is kept for a job kind.
func (d *disk) cache(kind string) (scratch.Files, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.caches[kind]; f != nil {
		return f, nil
	}
	name := kind
	if !plainKind.MatchString(kind) {
		sum := sha256.Sum256([]byte(kind))
		name = "Kind-" + hex.EncodeToString(sum[:16]) // no plain kind has a capital letter
	}
	f, err := d.sealed(filepath.Join(d.cacheDir, name), "cache/"+kind)
	if err == nil {
		d.caches[kind] = f
	}
	return f, err
}

// result is w, a file of a result, as long as there is room on the disk.
func (d *disk) result(w io.Writer) io.Writer { return limitedWriter{w, d.space.take} }

func (d *disk) take(n int) error {
	if err := d.quota.take(n); err != nil {
		return err
	}
	return d.space.take(n)
}

// maxStride is how many bytes may be written between two looks at the disk: it
// has other users.
const maxStride = 64 << 20

// room is a bound on bytes that is measured now and then: the more often the
// less there is. The zero value has no bound.
type room struct {
	what    string // why there is none
	measure func() (int64, error)

	mu   sync.Mutex
	left int64 // that may be written before the next look
}

func (r *room) take(n int) error {
	if r.measure == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left < int64(n) {
		there, err := r.measure()
		if err != nil {
			return fmt.Errorf("node: free space: %w", err)
		}
		if there < int64(n) {
			r.left = 0
			return fmt.Errorf("%w: %s", scratch.ErrFull, r.what)
		}
		r.left = max(int64(n), min(there/4, maxStride))
	}
	r.left -= int64(n)
	return nil
}

// limitedFiles counts what is written.
type limitedFiles struct {
	scratch.Files
	disk *disk
}

func (f limitedFiles) Create(name string) (scratch.Writer, error) {
	w, err := f.Files.Create(name)
	if err != nil {
		return nil, err
	}
	return limitedScratch{w, limitedWriter{w, f.disk.take}}, nil
}

type limitedScratch struct {
	scratch.Writer
	limited limitedWriter
}

func (w limitedScratch) Write(p []byte) (int, error) { return w.limited.Write(p) }

type limitedWriter struct {
	w    io.Writer
	take func(int) error
}

func (w limitedWriter) Write(p []byte) (int, error) {
	if err := w.take(len(p)); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// folderSize is the size of all files below dir. Files may come and go
// meanwhile.
func folderSize(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				sum += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return sum, err
}

// diskFull reports whether err comes from a disk without room.
func diskFull(err error) bool {
	return errors.Is(err, scratch.ErrFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// diskFailure is what becomes of a run on a full disk.
func diskFailure(err error) *failure {
	return fail("disk", "this node has no room for the job's files: %v; make room, then resume the job or submit it again", err)
}
