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
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"

	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
)

// maxFaults bounds a report: after so many the log is not worth reading on.
const maxFaults = 1000

// ErrNotLogged is returned by VerifyInclusion for a digest without an entry.
var ErrNotLogged = errors.New("audit: no entry has this digest")

// VerifyConfig says what to check, and against which keys.
type VerifyConfig struct {
	Dir       string
	Party     string            // whose log it is
	LogKey    []byte            // that party's public key, 32 bytes, as the roster lists it
	PartyKeys map[string][]byte // public keys of everyone who signs entries
}

// Report is what Verify found.
type Report struct {
	Size     uint64  `json:"size"`
	Root     []byte  `json:"root"`
	Receipts int     `json:"receipts"`
	Records  int     `json:"records"`
	Events   int     `json:"events"`
	Faults   []Fault `json:"faults"`
}

// OK reports whether nothing was found wrong.
func (r Report) OK() bool { return len(r.Faults) == 0 }

// Fault is one thing wrong with a log.
type Fault struct {
	Index int64  `json:"index"` // entry, or -1
	File  string `json:"file"`  // within the log's folder
	What  string `json:"what"`
}

// String implements fmt.Stringer.
func (f Fault) String() string {
	if f.Index < 0 {
		return fmt.Sprintf("%s: %s", f.File, f.What)
	}
	return fmt.Sprintf("entry %d (%s): %s", f.Index, f.File, f.What)
}

// Verify checks a log's folder without opening it: the checkpoint's signature,
// that entries and tiles give the checkpoint's root, that every file belongs to
// the log and holds what the tree says, and every entry's encoding and
// signatures. What is wrong stands in the report; an error means that the
// check could not be made. It holds 32 bytes per entry.
//
// Of a running log it checks what the checkpoint covers.
func Verify(ctx context.Context, cfg VerifyConfig) (Report, error) {
	vf, err := newVerifier(cfg.Party, cfg.LogKey)
	if err != nil {
		return Report{}, err
	}
	if fi, err := os.Stat(cfg.Dir); err != nil {
		return Report{}, fmt.Errorf("audit: %w", err)
	} else if !fi.IsDir() {
		return Report{}, fmt.Errorf("audit: %s is not a folder", cfg.Dir)
	}
	v := &verification{cfg: cfg}
	if err := v.run(ctx, vf); err != nil {
		return Report{}, err
	}
	return v.report, nil
}

type verification struct {
	cfg    VerifyConfig
	report Report
	cp     formats.Checkpoint
	leaves []leafHash          // what the tree should hold
	other  map[uint64]leafHash // where the tile says something else
}

func (v *verification) fault(index int64, file, format string, a ...any) {
	if len(v.report.Faults) < maxFaults {
		v.report.Faults = append(v.report.Faults, Fault{index, file, fmt.Sprintf(format, a...)})
	}
}

func (v *verification) run(ctx context.Context, vf verifier) error {
	raw, err := os.ReadFile(filepath.Join(v.cfg.Dir, layout.CheckpointPath))
	if err != nil {
		v.fault(-1, layout.CheckpointPath, "cannot be read")
		return nil
	}
	v.cp, err = parseCheckpoint(raw, vf)
	if err != nil {
		v.fault(-1, layout.CheckpointPath, "%v", err)
		if _, err := v.cp.Unmarshal(raw); err != nil {
			return nil // without a size nothing can be checked
		}
	}
	v.report.Size, v.report.Root = v.cp.Size, v.cp.Hash

	if err := v.readEntries(ctx); err != nil {
		return err
	}
	v.judgeRoot()
	if err := v.checkUpperTiles(ctx); err != nil {
		return err
	}
	return v.checkFolder(ctx)
}

// readEntries reads every entry, checks it, and compares its digest with the
// tile. It ends early where neither an entry nor a tile is left.
func (v *verification) readEntries(ctx context.Context) error {
	v.other = map[uint64]leafHash{}
	for i := uint64(0); i*width < v.cp.Size; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		tile := at(0, i, v.cp.Size)
		hashes, err := readTile(v.cfg.Dir, tile)
		if err != nil {
			v.fault(-1, tile.path(), "%v", err)
		}
		raws, file, err := readBundle(v.cfg.Dir, i, v.cp.Size)
		if err != nil {
			v.fault(-1, file, "%v", err)
		}
		if len(raws) == 0 && len(hashes) == 0 {
			v.fault(int64(i*width), file, "the log ends here, the checkpoint covers %d entries", v.cp.Size)
			return nil
		}
		for n := range tile.count() {
			index := i*width + n
			var h leafHash
			switch {
			case n < uint64(len(raws)):
				h = leafHash(Digest(raws[n]))
				v.checkLeaf(index, file, raws[n])
			case n < uint64(len(hashes)):
				h = hashes[n]
				v.fault(int64(index), file, "the entry is missing")
			}
			v.leaves = append(v.leaves, h)
			if n < uint64(len(hashes)) && hashes[n] != h {
				v.other[index] = hashes[n]
			}
		}
	}
	return nil
}

func (v *verification) checkLeaf(index uint64, file string, raw []byte) {
	leaf, err := Decode(raw)
	if err == nil {
		switch k := leaf.Kind.(type) {
		case *auditv1.Leaf_Receipt:
			v.report.Receipts++
			_, err = VerifyReceipt(k.Receipt, v.cfg.PartyKeys)
		case *auditv1.Leaf_Record:
			v.report.Records++
			_, err = VerifyRecord(k.Record, v.cfg.PartyKeys)
		case *auditv1.Leaf_Event:
			v.report.Events++
			_, err = VerifyEvent(k.Event, v.cfg.PartyKeys)
		}
	}
	if err != nil {
		v.fault(int64(index), file, "%v", err)
	}
}

// judgeRoot compares the entries, and failing that the tiles, with the
// checkpoint's root, and so tells which of two that differ was changed.
func (v *verification) judgeRoot() {
	if uint64(len(v.leaves)) != v.cp.Size {
		return // said already
	}
	entriesFit := bytes.Equal(rootOf(v.leaves), v.cp.Hash)
	var tilesFit bool
	if !entriesFit && len(v.other) > 0 {
		byTiles := make([]leafHash, len(v.leaves))
		copy(byTiles, v.leaves)
		for i, h := range v.other {
			byTiles[i] = h
		}
		if tilesFit = bytes.Equal(rootOf(byTiles), v.cp.Hash); tilesFit {
			v.leaves = byTiles
		}
	}
	for i := range v.leaves {
		index := uint64(i)
		if _, differs := v.other[index]; !differs {
			continue
		}
		tile := at(0, index/width, v.cp.Size).path()
		bundle := at(entries, index/width, v.cp.Size).path()
		switch {
		case entriesFit:
			v.fault(int64(index), tile, "the tile was changed: the entry fits the checkpoint")
		case tilesFit:
			v.fault(int64(index), bundle, "the entry was changed: its digest is not what the checkpoint covers")
		default:
			v.fault(int64(index), bundle, "entry and tile differ, and neither gives the checkpoint's root")
		}
	}
	if !entriesFit && !tilesFit {
		v.fault(-1, layout.CheckpointPath, "the entries do not give the checkpoint's root")
	}
}

// checkUpperTiles rebuilds the tiles above level 0.
func (v *verification) checkUpperTiles(ctx context.Context) error {
	below := v.leaves
	for level := 1; ; level++ {
		var here []leafHash
		for len(below) >= width {
			here = append(here, leafHash(rootOf(below[:width])))
			below = below[width:]
		}
		if len(here) == 0 {
			return nil
		}
		for i := 0; i < len(here); i += width {
			if err := ctx.Err(); err != nil {
				return err
			}
			want := here[i:min(i+width, len(here))]
			r := tileRef{level, uint64(i / width), uint8(len(want) % width)}
			got, err := readTile(v.cfg.Dir, r)
			if err != nil {
				v.fault(-1, r.path(), "%v", err)
				continue
			}
			for n := range want {
				if got[n] != want[n] {
					v.fault(-1, r.path(), "hash %d of the tile was changed", n)
				}
			}
		}
		below = here
	}
}

// checkFolder checks what the tree does not need: older partial files, the
// driver's state, and that there is nothing else.
func (v *verification) checkFolder(ctx context.Context) error {
	return walk(v.cfg.Dir, func(rel string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch rel {
		case layout.CheckpointPath:
			return nil // done
		case lockName, ".state/treeState.lock", ".state/publish.lock", ".state/gcState.lock":
			return nil // locks: their content means nothing
		case ".state/gcState":
			return nil // where the driver goes on cleaning: says nothing of the log
		case ".state/version":
			if raw, err := os.ReadFile(filepath.Join(v.cfg.Dir, rel)); err != nil || string(raw) != "1" {
				v.fault(-1, rel, "is not the version this program writes")
			}
			return nil
		case stateName:
			return v.checkState(ctx)
		}
		if r, ok := parseTilePath(rel); ok {
			if !r.inTree(v.cp.Size) {
				v.checkOlder(r)
			}
			return nil
		}
		if !leftover(rel) {
			v.fault(-1, rel, "is no file of a log")
		}
		return nil
	})
}

// checkState checks what the driver will go on from. It may be ahead of the
// checkpoint, in a running log or one that was killed, but must fit the tiles.
func (v *verification) checkState(ctx context.Context) error {
	st, err := readState(v.cfg.Dir)
	switch {
	case err != nil:
		v.fault(-1, stateName, "%v", err)
		return nil
	case st.Size < v.cp.Size:
		v.fault(-1, stateName, "has %d entries, the checkpoint covers %d", st.Size, v.cp.Size)
		return nil
	}
	root := v.cp.Hash
	if st.Size > v.cp.Size {
		hashes, err := leafHashes(ctx, v.cfg.Dir, st.Size)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			v.fault(-1, stateName, "has %d entries, which the tiles have not: %v", st.Size, err)
			return nil
		}
		root = rootOf(hashes)
	}
	if !bytes.Equal(st.Root, root) {
		v.fault(-1, stateName, "has another root than the tree")
	}
	return nil
}

// checkOlder checks a file of an earlier tree, or what a file of a later one
// has in common with the checkpoint's.
func (v *verification) checkOlder(r tileRef) {
	raw, err := os.ReadFile(filepath.Join(v.cfg.Dir, filepath.FromSlash(r.path())))
	if errors.Is(err, fs.ErrNotExist) {
		return // a running log has cleaned it away
	}
	if err != nil {
		v.fault(-1, r.path(), "cannot be read")
		return
	}
	want := v.level(max(r.level, 0))
	start := r.index * width
	if start >= uint64(len(want)) {
		return // beyond the checkpoint
	}
	want = want[start:min(start+r.count(), uint64(len(want)))]

	var got []leafHash
	switch {
	case r.level == entries:
		list, err := parseBundle(raw, r.count())
		if err != nil {
			v.fault(-1, r.path(), "%v", err)
			return
		}
		for _, e := range list {
			got = append(got, leafHash(Digest(e)))
		}
	case uint64(len(raw)) != r.count()*uint64(len(leafHash{})):
		v.fault(-1, r.path(), "has %d bytes", len(raw))
		return
	default:
		for i := range r.count() {
			got = append(got, leafHash(raw[i*uint64(len(leafHash{})):]))
		}
	}
	for i := range want {
		if got[i] != want[i] {
			index := int64(-1)
			if r.level <= 0 {
				index = int64(start) + int64(i)
			}
			v.fault(index, r.path(), "was changed")
		}
	}
}

// level returns the stored nodes of a level of the tree.
func (v *verification) level(n int) []leafHash {
	here := v.leaves
	for range n {
		var up []leafHash
		for len(here) >= width {
			up = append(up, leafHash(rootOf(here[:width])))
			here = here[width:]
		}
		here = up
	}
	return here
}

// Inclusion says where an entry stands in a log.
type Inclusion struct {
	Index uint64
	Size  uint64
	Proof [][]byte // RFC 6962 audit path to the checkpoint's root
}

// VerifyInclusion finds the entry with the given digest and checks its path to
// the root of the signed checkpoint. It checks nothing else of the log and needs
// no PartyKeys.
func VerifyInclusion(ctx context.Context, cfg VerifyConfig, digest []byte) (Inclusion, error) {
	vf, err := newVerifier(cfg.Party, cfg.LogKey)
	if err != nil {
		return Inclusion{}, err
	}
	raw, err := os.ReadFile(filepath.Join(cfg.Dir, layout.CheckpointPath))
	if err != nil {
		return Inclusion{}, fmt.Errorf("audit: %w", err)
	}
	cp, err := parseCheckpoint(raw, vf)
	if err != nil {
		return Inclusion{}, err
	}
	for i := uint64(0); i*width < cp.Size; i++ {
		hashes, err := readTile(cfg.Dir, at(0, i, cp.Size))
		if err != nil {
			return Inclusion{}, err
		}
		for n := range hashes {
			if bytes.Equal(hashes[n][:], digest) {
				return prove(ctx, cfg.Dir, cp, i*width+uint64(n), digest)
			}
		}
	}
	return Inclusion{}, ErrNotLogged
}

func prove(ctx context.Context, dir string, cp formats.Checkpoint, index uint64, digest []byte) (Inclusion, error) {
	// The entry itself must be there, too.
	raws, file, err := readBundle(dir, index/width, cp.Size)
	if err != nil {
		return Inclusion{}, err
	}
	if !bytes.Equal(Digest(raws[index%width]), digest) {
		return Inclusion{}, fmt.Errorf("%w: %s: entry %d is not what the tree holds", ErrLeaf, file, index)
	}
	b, err := client.NewProofBuilder(ctx, cp.Size, func(_ context.Context, level, i uint64, p uint8) ([]byte, error) {
		r := tileRef{int(level), i, p}
		raw, got, err := r.read(dir)
		if err == nil && uint64(len(raw)) != got.count()*uint64(len(leafHash{})) {
			err = fmt.Errorf("audit: %s has %d bytes", got.path(), len(raw))
		}
		return raw, err
	})
	if err != nil {
		return Inclusion{}, fmt.Errorf("audit: %w", err)
	}
	path, err := b.InclusionProof(ctx, index)
	if err != nil {
		return Inclusion{}, fmt.Errorf("audit: %w", err)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, cp.Size, digest, path, cp.Hash); err != nil {
		return Inclusion{}, fmt.Errorf("%w: entry %d is not under the checkpoint: %w", ErrTorn, index, err)
	}
	return Inclusion{Index: index, Size: cp.Size, Proof: path}, nil
}
