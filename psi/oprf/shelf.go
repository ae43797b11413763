package oprf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/scratch"
)

// held is what a client has of the table that the server has announced: the
// directory, and the table's parts in order, as far as they go.
type held struct {
	place
	announcement
	layout
	dir   directory // nil while it is missing
	files []scratch.File
}

// find returns what the cache has of the table that a announces.
func (p place) find(a announcement, l layout) (*held, error) {
	h := &held{place: p, announcement: a, layout: l}
	b, err := p.read(h.file("dir"), int64(l.segments()*entrySize))
	if err != nil && !absent(err) {
		return nil, err
	}
	if err != nil || l.rootOf(a.id, b) != a.root {
		return h, nil
	}
	if h.dir, err = l.parseDirectory(b); err != nil {
		return nil, err // the server's mistake: the root fits
	}
	for i := range l.parts() {
		f := p.openSized(h.partFile(i), h.partSize(i))
		if f == nil {
			break
		}
		h.files = append(h.files, f)
	}
	return h, nil
}

func (h *held) close() {
	for _, f := range h.files {
		f.Close()
	}
	h.files = nil
}

func (h *held) file(kind string) string { return hex.EncodeToString(h.root[:16]) + "." + kind }

func (h *held) partFile(i int) string { return h.file(fmt.Sprintf("part-%04d", i)) }

// partSize is the size of part i in bytes.
func (h *held) partSize(i int) (size int64) {
	first, end := h.part(i)
	for j := first; j < end; j++ {
		size += int64(h.dir[j].size)
	}
	return size
}

// has is what a client tells the server to have: 0 for nothing, and else one
// more than the number of parts.
func (h *held) has() int {
	if h.dir == nil {
		return 0
	}
	return 1 + len(h.files)
}

func (h *held) complete() bool { return h.has() == 1+h.parts() }

// discard removes everything that is there of the table. All of it goes, even
// if one segment alone is damaged: to ask for that one would tell the server
// where the own tags lie.
func (h *held) discard() error {
	h.close()
	h.dir = nil
	return h.prune(func(string) bool { return false })
}

// pruneOthers removes tables of other epochs.
func (h *held) pruneOthers() error {
	return h.prune(func(name string) bool { return strings.HasPrefix(name, h.file("")) })
}

// absent reports whether a file is not there, or not as it was written.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, scratch.ErrDamaged) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// errDamaged is a part that is not what was written.
var errDamaged = errors.New("psi/oprf: the table in the cache is damaged")

// match is an own row whose tag is in the table.
type match struct {
	place uint32 // of the tag, among all in their order
	row   int32
}

// matches returns the tags of own, which are cut and ascend, that are in the
// table, in order. It reads the segments that an own tag falls into and no
// others.
func (h *held) matches(ctx context.Context, own []tags.Tag, progress func(done int)) ([]match, error) {
	before := make([]int, len(h.dir)+1)   // tags before a segment
	starts := make([]int64, len(h.dir)+1) // bytes before it in its part
	for i := range h.dir {
		before[i+1] = before[i] + h.dir[i].tags
		starts[i+1] = starts[i] + int64(h.dir[i].size)
		if (i+1)%partSegments == 0 {
			starts[i+1] = 0
		}
	}
	// Each range of own tags is for one segment.
	var ranges []int
	for i := range own {
		if i == 0 || h.segmentOf(&own[i]) != h.segmentOf(&own[i-1]) {
			ranges = append(ranges, i)
		}
	}
	ends := append(ranges[min(1, len(ranges)):len(ranges):len(ranges)], len(own))
	places := make([]uint32, len(own)) // one more than the place, 0 where there is none
	err := parallel.Each(ctx, len(ranges), 16, func() func(lo, hi int) error {
		buf := make([]byte, segmentLimit)
		return func(lo, hi int) error {
			for k := lo; k < hi; k++ {
				mine := own[ranges[k]:ends[k]]
				i := h.segmentOf(&mine[0])
				b := buf[:h.dir[i].size]
				if _, err := h.files[i/partSegments].ReadAt(b, starts[i]); err != nil {
					return damaged(err)
				}
				if sha256.Sum256(b) != h.dir[i].sum {
					return damaged(errSegment)
				}
				first, end := h.buckets(i)
				err := h.form.Find(b, first, end, mine, func(j, at int) { places[ranges[k]+j] = uint32(before[i]+at) + 1 })
				if err != nil {
					return err // store has parsed these very bytes
				}
			}
			progress(ends[hi-1])
			return nil
		}
	})
	if err != nil {
		return nil, err
	}
	found := []match{}
	for i, p := range places {
		if p > 0 {
			found = append(found, match{p - 1, own[i].Row})
		}
	}
	return found, nil
}

// damaged says of the errors of a damaged part that they are.
func damaged(err error) error {
	if absent(err) || errors.Is(err, errSegment) {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return err
}

// chunk returns where the message with segments from first on ends, and its
// size in bytes. A message never goes past a part.
func (l layout) chunk(d directory, first int) (end, size int) {
	_, last := l.part(first / partSegments)
	end, size = first+1, d[first].size
	for end < last && size+d[end].size <= chunkBytes {
		size += d[end].size
		end++
	}
	return end, size
}

// store writes part i as next gives its messages, each of which has to be what
// the directory says.
func (h *held) store(i int, next func(size int) ([]byte, error)) error {
	w, err := h.place.files.Create(h.place.dir + h.partFile(i))
	if err != nil {
		return err
	}
	defer w.Discard()
	first, end := h.part(i)
	for first < end {
		upto, size := h.chunk(h.dir, first)
		b, err := next(size)
		if err != nil {
			return err
		}
		if len(b) != size {
			return fmt.Errorf("%w: %d bytes of segments, %d were due", ErrMessage, len(b), size)
		}
		for rest := b; first < upto; first++ {
			n := h.dir[first].size
			switch err := h.parse(h.dir, first, rest[:n:n], func(*tags.Tag) {}); {
			case errors.Is(err, errSegment):
				return fmt.Errorf("%w: a segment of the table is not the one announced", ErrDisagree)
			case err != nil:
				return err
			}
			rest = rest[n:]
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	if err := w.Commit(); err != nil {
		return err
	}
	f := h.openSized(h.partFile(i), h.partSize(i))
	if f == nil {
		return fmt.Errorf("%w: a part of the table, as soon as it was written", ErrCache)
	}
	h.files = append(h.files, f)
	return nil
}

// keepDirectory checks the directory and writes it.
func (h *held) keepDirectory(b []byte) error {
	if h.layout.rootOf(h.id, b) != h.announcement.root {
		return fmt.Errorf("%w: the table's directory is not the one announced", ErrDisagree)
	}
	d, err := h.parseDirectory(b)
	if err != nil {
		return err
	}
	if err := h.write(h.file("dir"), b); err != nil {
		return err
	}
	h.dir = d
	return nil
}
