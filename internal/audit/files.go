package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
)

// The folder of a log, besides checkpoint and tiles.
const (
	lockName  = "lock"
	stateName = ".state/treeState"
	width     = layout.TileWidth
)

type leafHash = [sha256.Size]byte

// tileRef names one file of the tree: a tile of hashes, or, at level entries,
// a bundle of entries.
type tileRef struct {
	level   int
	index   uint64
	partial uint8 // 0 for a full one
}

const entries = -1

func (r tileRef) path() string {
	if r.level == entries {
		return layout.EntriesPath(r.index, r.partial)
	}
	return layout.TilePath(uint64(r.level), r.index, r.partial)
}

// count is how many nodes the file holds.
func (r tileRef) count() uint64 {
	if r.partial == 0 {
		return width
	}
	return uint64(r.partial)
}

// parseTilePath is the inverse of path, for slash-separated paths.
func parseTilePath(rel string) (tileRef, bool) {
	rest, ok := strings.CutPrefix(rel, "tile/")
	if !ok {
		return tileRef{}, false
	}
	level, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return tileRef{}, false
	}
	r := tileRef{level: entries}
	if level != "entries" {
		n, err := strconv.ParseUint(level, 10, 6)
		if err != nil {
			return tileRef{}, false
		}
		r.level = int(n)
	}
	_, index, partial, err := layout.ParseTileLevelIndexPartial("0", rest)
	if err != nil {
		return tileRef{}, false
	}
	r.index, r.partial = index, partial
	return r, r.path() == rel
}

// nodes is how many nodes level has that a tree of size entries stores.
func nodes(level int, size uint64) uint64 {
	if level == entries {
		level = 0
	}
	if level*layout.TileHeight >= 64 {
		return 0
	}
	return size >> (level * layout.TileHeight)
}

// inTree reports whether a tree of size entries has exactly this file.
func (r tileRef) inTree(size uint64) bool {
	n := nodes(r.level, size)
	return r.index < (n+width-1)/width && r.partial == at(r.level, r.index, size).partial
}

// at names the file that a tree of size entries has at index.
func at(level int, index, size uint64) tileRef {
	n := nodes(level, size)
	if index < n/width {
		return tileRef{level, index, 0}
	}
	return tileRef{level, index, uint8(n % width)}
}

// read returns the file, or, if the log has grown since, the least larger one
// of the same place, and which it was.
func (r tileRef) read(dir string) ([]byte, tileRef, error) {
	raw, err := os.ReadFile(filepath.Join(dir, r.path()))
	if err == nil || !errors.Is(err, fs.ErrNotExist) || r.partial == 0 {
		return raw, r, err
	}
	for p := int(r.partial) + 1; p <= width; p++ {
		larger := tileRef{r.level, r.index, uint8(p % width)}
		raw, lerr := os.ReadFile(filepath.Join(dir, larger.path()))
		if lerr == nil || !errors.Is(lerr, fs.ErrNotExist) {
			return raw, larger, lerr
		}
	}
	return nil, r, err
}

// readTile returns the hashes of a tile of a tree of size entries.
func readTile(dir string, r tileRef) ([]leafHash, error) {
	raw, got, err := r.read(dir)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if uint64(len(raw)) != got.count()*sha256.Size {
		return nil, fmt.Errorf("audit: %s has %d bytes", got.path(), len(raw))
	}
	hashes := make([]leafHash, r.count())
	for i := range hashes {
		hashes[i] = leafHash(raw[i*sha256.Size:])
	}
	return hashes, nil
}

// leafAt returns the digest of one entry.
func leafAt(dir string, index uint64) (leafHash, error) {
	n := index % width
	hashes, err := readTile(dir, tileRef{0, index / width, uint8((n + 1) % width)})
	if err != nil {
		return leafHash{}, err
	}
	return hashes[n], nil
}

// leafHashes returns the digests of the first size entries, as the tiles of
// level 0 have them.
func leafHashes(ctx context.Context, dir string, size uint64) ([]leafHash, error) {
	var all []leafHash
	for i := uint64(0); i*width < size; i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		hashes, err := readTile(dir, at(0, i, size))
		if err != nil {
			return nil, err
		}
		all = append(all, hashes...)
	}
	return all, nil
}

// readBundle returns the entries of one bundle of a tree of size entries, and
// the name of the file. After an error it returns those before the damage.
func readBundle(dir string, index, size uint64) ([][]byte, string, error) {
	r := at(entries, index, size)
	raw, got, err := r.read(dir)
	if err != nil {
		return nil, got.path(), fmt.Errorf("audit: %w", err)
	}
	list, err := parseBundle(raw, got.count())
	if err != nil {
		err = fmt.Errorf("audit: %s: %w", got.path(), err)
	}
	return list[:min(uint64(len(list)), r.count())], got.path(), err
}

// parseBundle splits a bundle of count entries, each behind two bytes of length.
func parseBundle(raw []byte, count uint64) ([][]byte, error) {
	var list [][]byte
	for uint64(len(list)) < count {
		if len(raw) < 2 {
			return list, fmt.Errorf("%w: the bundle ends after %d of %d", ErrLeaf, len(list), count)
		}
		n := int(binary.BigEndian.Uint16(raw))
		if len(raw) < 2+n {
			return list, fmt.Errorf("%w: entry %d of the bundle passes its end", ErrLeaf, len(list))
		}
		list = append(list, raw[2:2+n])
		raw = raw[2+n:]
	}
	if len(raw) > 0 {
		return list, fmt.Errorf("%w: %d bytes follow the bundle", ErrLeaf, len(raw))
	}
	return list, nil
}

var ranges = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

// rootOf is the root of the tree over hashes.
func rootOf(hashes []leafHash) []byte {
	r := ranges.NewEmptyRange(0)
	for i := range hashes {
		if err := r.Append(hashes[i][:], nil); err != nil {
			return nil
		}
	}
	root, err := r.GetRootHash(nil)
	if err != nil {
		return nil
	}
	if len(hashes) == 0 {
		return rfc6962.DefaultHasher.EmptyRoot()
	}
	return root
}

// treeState is what the driver remembers of the tree between checkpoints.
type treeState struct {
	Size uint64 `json:"size"`
	Root []byte `json:"root"`
}

// readState accepts the state only as the driver writes it.
func readState(dir string) (treeState, error) {
	var st treeState
	raw, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(stateName)))
	if err != nil {
		return st, fmt.Errorf("audit: %w", err)
	}
	if err := json.Unmarshal(raw, &st); err != nil {
		return st, fmt.Errorf("%w: %s is not readable", ErrTorn, stateName)
	}
	if again, err := json.Marshal(st); err != nil || string(again) != string(raw) {
		return st, fmt.Errorf("%w: %s is not as it was written", ErrTorn, stateName)
	}
	return st, nil
}

// leftover reports whether a file is one that the driver had not yet renamed
// to its place when it was killed: the name of the place, then random digits.
func leftover(rel string) bool {
	dir, base := "", rel
	if i := strings.LastIndexByte(rel, '/'); i >= 0 {
		dir, base = rel[:i], rel[i+1:]
	}
	digits := func(s string, least int) bool {
		return len(s) >= least && strings.Trim(s, "0123456789") == ""
	}
	after := func(names ...string) bool {
		for _, n := range names {
			if rest, ok := strings.CutPrefix(base, n); ok && digits(rest, 1) {
				return true
			}
		}
		return false
	}
	switch {
	case dir == "":
		return after(layout.CheckpointPath)
	case dir == ".state":
		return after("treeState", "version", "gcState")
	case strings.HasPrefix(dir, "tile/"):
		// Places are "000" and, in a folder "000.p", "1" to "255".
		return digits(base, 4)
	}
	return false
}

// walk calls f for every file of a log, with its slash-separated path.
func walk(dir string, f func(rel string) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a running log removed it meanwhile
		}
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return f(filepath.ToSlash(rel))
	})
}
