package history

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/scratch"
)

// A release is a file release/<hash of its ID>.<number>, numbers counting up
// where several have one ID, and what is left of it once some cells are withheld
// another, shown/…. Each is written once; a release without the second counts
// as released whole.
const (
	releasePrefix = "release/"
	shownPrefix   = "shown/"
	maxFile       = 1 << 31
	version       = 1
)

func shownName(release string) string { return shownPrefix + release[len(releasePrefix):] }

// last returns the file of the last release with an ID, blank if there is none,
// and the name for the next.
func last(files scratch.Files, id string) (name, next string, err error) {
	h := sha256.Sum256([]byte(id))
	prefix := releasePrefix + hex.EncodeToString(h[:16]) + "."
	names, err := files.Names(prefix)
	if err != nil {
		return "", "", fmt.Errorf("history: %w", err)
	}
	n := 0
	for _, s := range names {
		var k int
		if _, err := fmt.Sscanf(s[len(prefix):], "%04d", &k); err != nil || k < 0 || k >= maxReleases {
			return "", "", fmt.Errorf("%w: name of a release", ErrDamaged)
		}
		if k >= n {
			name, n = s, k+1
		}
	}
	return name, fmt.Sprintf("%s%04d", prefix, n), nil
}

func write(files scratch.Files, name string, b []byte) error {
	w, err := files.Create(name)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	defer w.Discard()
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	if err := w.Commit(); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

func read(files scratch.Files, name string, most int) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	defer f.Close()
	if f.Size() > int64(most) {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrDamaged, name, f.Size())
	}
	b := make([]byte, f.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return b, nil
}

// load reads a release and what of it is shown.
func load(files scratch.Files, name string) (*Release, error) {
	b, err := read(files, name, maxFile)
	if err != nil {
		return nil, err
	}
	r, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("%w, at %s", err, name)
	}
	s, err := read(files, shownName(name), MaxCells/8+1)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if r.Shown, err = decodeShown(s, r.Queries()); err != nil {
		return nil, fmt.Errorf("%w, at %s", err, shownName(name))
	}
	return r, nil
}

// encode writes a release, of which Shown is left out: 5 to 14 bytes for each
// member.
func encode(r *Release) []byte {
	b := make([]byte, 0, 64+len(r.Members)*9)
	b = append(b, version)
	b = wire.AppendBytes(b, []byte(r.ID))
	b = append(b, r.Digest[:]...)
	b = binary.AppendUvarint(b, uint64(r.Cells))
	b = binary.AppendUvarint(b, uint64(len(r.Groups)))
	for _, g := range r.Groups {
		b = binary.AppendUvarint(b, uint64(len(g)))
		before := int32(-1)
		for _, c := range g {
			b = binary.AppendUvarint(b, uint64(c-before-1))
			before = c
		}
	}
	b = append(b, r.Filter[:]...)
	b = append(b, r.Parties[:]...)
	b = append(b, r.Entity[:]...)
	b = binary.AppendUvarint(b, uint64(len(r.Views)))
	for _, v := range r.Views {
		b = binary.LittleEndian.AppendUint64(b, v.Key)
		b = binary.AppendUvarint(b, uint64(len(v.Has)))
		for _, h := range v.Has {
			b = binary.LittleEndian.AppendUint64(b, h)
		}
	}
	dims := byte(0) // one more than there are, 0 for nil
	if r.Dims != nil {
		dims = byte(len(r.Dims)) + 1
	}
	b = append(b, dims)
	for _, d := range r.Dims {
		b = binary.LittleEndian.AppendUint64(b, d.Key)
		b = binary.AppendUvarint(b, uint64(d.Size))
	}
	values := byte(0)
	for i := range r.Members {
		if r.Members[i].Value != 0 {
			values = 1
			break
		}
	}
	b = append(b, values)
	b = binary.AppendUvarint(b, uint64(len(r.Members)))
	unit := uint64(0)
	for _, m := range r.Members {
		b = binary.AppendUvarint(b, m.Unit-unit)
		unit = m.Unit
		b = binary.AppendUvarint(b, uint64(m.Cell))
		if values != 0 {
			b = binary.LittleEndian.AppendUint32(b, m.Value)
		}
	}
	return b
}

// decode reads what encode wrote. No count allocates more than a few times what
// the file holds.
func decode(b []byte) (*Release, error) {
	d := wire.NewReader(b)
	if v := d.Byte(); d.Err() == nil && v != version {
		return nil, fmt.Errorf("%w: version %d", ErrDamaged, v)
	}
	r := &Release{ID: string(d.Bytes(maxID))}
	copy(r.Digest[:], d.Fixed(len(r.Digest)))
	r.Cells = int(d.Uvarint(MaxCells))
	groups := int(d.Uvarint(min(MaxCells, uint64(d.Len()))))
	if groups > 0 {
		r.Groups = make([][]int32, groups)
	}
	for i := range r.Groups {
		g := make([]int32, d.Uvarint(min(MaxCells, uint64(d.Len()))))
		next := uint64(0)
		for k := range g {
			next += d.Uvarint(MaxCells)
			g[k] = int32(min(next, MaxCells)) // Validate refuses what is beyond
			next++
		}
		r.Groups[i] = g
		if d.Err() != nil {
			break
		}
	}
	copy(r.Filter[:], d.Fixed(len(r.Filter)))
	copy(r.Parties[:], d.Fixed(len(r.Parties)))
	copy(r.Entity[:], d.Fixed(len(r.Entity)))
	if views := d.Uvarint(min(maxViews, uint64(d.Len()/9))); views > 0 {
		r.Views = make([]View, views)
	}
	for i := range r.Views {
		v := View{Key: d.Uint64()}
		if n := d.Uvarint(min(maxViews, uint64(d.Len()/8))); n > 0 {
			v.Has = make([]uint64, n)
		}
		for k := range v.Has {
			v.Has[k] = d.Uint64()
		}
		if r.Views[i] = v; d.Err() != nil {
			break
		}
	}
	if dims := int(d.Byte()); dims > maxDims+1 {
		return nil, fmt.Errorf("%w: dimensions", ErrDamaged)
	} else if dims > 0 {
		r.Dims = make([]Dim, dims-1)
		for i := range r.Dims {
			r.Dims[i] = Dim{Key: d.Uint64(), Size: int(d.Uvarint(MaxCells))}
		}
	}
	values := d.Byte()
	if values > 1 {
		return nil, fmt.Errorf("%w: values", ErrDamaged)
	}
	r.Members = make([]Member, d.Uvarint(min(MaxMembers, uint64(d.Len()/2))))
	unit := uint64(0)
	for i := range r.Members {
		unit += d.Uvarint(1<<64 - 1)
		r.Members[i] = Member{Unit: unit, Cell: int32(d.Uvarint(MaxCells))}
		if values != 0 {
			if v := d.Fixed(4); v != nil {
				r.Members[i].Value = binary.LittleEndian.Uint32(v)
			}
		}
		if d.Err() != nil {
			break
		}
	}
	if err := d.Done(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r, nil
}

// encodeShown packs a bit for each base cell and group.
func encodeShown(shown []bool) []byte {
	b := make([]byte, (len(shown)+7)/8)
	for i, s := range shown {
		if s {
			b[i/8] |= 1 << (i % 8)
		}
	}
	return b
}

func decodeShown(b []byte, n int) ([]bool, error) {
	if len(b) != (n+7)/8 {
		return nil, fmt.Errorf("%w: %d cells in %d bytes", ErrDamaged, n, len(b))
	}
	shown := make([]bool, n)
	for i := range shown {
		shown[i] = b[i/8]>>(i%8)&1 == 1
	}
	if n%8 != 0 && b[len(b)-1]>>(n%8) != 0 {
		return nil, fmt.Errorf("%w: bits beyond the last cell", ErrDamaged)
	}
	return shown, nil
}
