package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	formats "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/tessera/api/layout"
)

// recoverLog prepares a log that may have been killed at any moment, and
// returns the digests of its entries. The driver writes entries, then tiles,
// then its state, then the checkpoint, each file by renaming: so at most files
// that no state names yet are left over, and those are removed. Anything else
// is not the work of a kill, and is refused.
func recoverLog(ctx context.Context, dir string, v verifier) ([]leafHash, error) {
	var cp formats.Checkpoint
	raw, err := os.ReadFile(filepath.Join(dir, layout.CheckpointPath))
	switch {
	case err == nil:
		if cp, err = parseCheckpoint(raw, v); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("audit: %w", err)
	}
	hasCheckpoint := err == nil

	st, err := readState(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Join(dir, "tile")); err == nil || hasCheckpoint {
			return nil, fmt.Errorf("%w: %s has entries or a checkpoint but no %s", ErrTorn, dir, stateName)
		}
		return nil, sweep(dir, 0, 0)
	case err != nil:
		return nil, err
	case st.Size < cp.Size:
		return nil, fmt.Errorf("%w: %s: the checkpoint covers %d entries, %s has %d", ErrTorn, dir, cp.Size, stateName, st.Size)
	case st.Size > 0 && !hasCheckpoint:
		return nil, fmt.Errorf("%w: %s has %d entries and no checkpoint", ErrTorn, dir, st.Size)
	}

	hashes, err := leafHashes(ctx, dir, st.Size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTorn, err)
	}
	if !bytes.Equal(rootOf(hashes), st.Root) {
		return nil, fmt.Errorf("%w: %s: the tiles do not give the root in %s", ErrTorn, dir, stateName)
	}
	if hasCheckpoint && !bytes.Equal(rootOf(hashes[:cp.Size]), cp.Hash) {
		return nil, fmt.Errorf("%w: %s: the tiles do not give the root in the checkpoint", ErrTorn, dir)
	}
	if n := st.Size % width; n > 0 {
		// The next entry is written behind a copy of these.
		last, name, err := readBundle(dir, st.Size/width, st.Size)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTorn, err)
		}
		for i, raw := range last {
			if !bytes.Equal(Digest(raw), hashes[st.Size-n+uint64(i)][:]) {
				return nil, fmt.Errorf("%w: %s: entry %d is not what the tree holds", ErrTorn, name, st.Size-n+uint64(i))
			}
		}
	}
	return hashes, sweep(dir, cp.Size, st.Size)
}

// sweep removes what a kill left over, and the partial files of trees that are
// neither published nor the latest.
func sweep(dir string, published, latest uint64) error {
	err := walk(dir, func(rel string) error {
		r, isTile := parseTilePath(rel)
		if leftover(rel) || isTile && !r.inTree(published) && !r.inTree(latest) {
			return os.Remove(filepath.Join(dir, filepath.FromSlash(rel)))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("audit: clean %s: %w", dir, err)
	}
	return nil
}
