package align

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"sync"

	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/scratch"
)

const (
	// A spilled set is in 2^bucketBits files, by the first bits of the items.
	bucketBits  = 7
	bucketCount = 1 << bucketBits
	entryBytes  = 20
	// bucketBuffer is what is gathered for each bucket before it is written, in
	// bytes.
	bucketBuffer = 1600 * entryBytes

	itemPrefix = "align/items/"
)

// spill is the items of a table in files, 20 bytes a row: the item and its row,
// little-endian. Reading one of them takes 48 bytes for each of its rows, which
// are a 128th of all.
type spill struct {
	files   scratch.Files
	writers []scratch.Writer
	buffers [][]byte
	counts  [bucketCount]int64
	// repeated says that some rows have the item of another.
	repeated bool
}

func bucketName(b int) string { return fmt.Sprintf("%s%03d", itemPrefix, b) }

func newSpill(files scratch.Files) (*spill, error) {
	s := &spill{files: files, buffers: make([][]byte, bucketCount)}
	for b := range bucketCount {
		w, err := files.Create(bucketName(b))
		if err != nil {
			s.discard()
			return nil, fmt.Errorf("psi/align: %w", err)
		}
		s.writers = append(s.writers, w)
		s.buffers[b] = make([]byte, 0, bucketBuffer)
	}
	return s, nil
}

// add appends the items of consecutive rows.
func (s *spill) add(items []Digest, first int64) error {
	for i := range items {
		b := items[i][0] >> (8 - bucketBits)
		buf := append(s.buffers[b], items[i][:]...)
		buf = binary.LittleEndian.AppendUint32(buf, uint32(first+int64(i)))
		s.counts[b]++
		if len(buf) == bucketBuffer {
			if _, err := s.writers[b].Write(buf); err != nil {
				return fmt.Errorf("psi/align: %w", err)
			}
			buf = buf[:0]
		}
		s.buffers[b] = buf
	}
	return nil
}

func (s *spill) commit() error {
	for b, w := range s.writers {
		_, err := w.Write(s.buffers[b])
		if err == nil {
			err = w.Commit()
		}
		if err != nil {
			return fmt.Errorf("psi/align: %w", err)
		}
	}
	s.writers, s.buffers = nil, nil
	return nil
}

// discard ends writers that were not committed.
func (s *spill) discard() {
	for _, w := range s.writers {
		w.Discard()
	}
	s.writers = nil
}

// remove removes the files.
func (s *spill) remove() error {
	var errs []error
	for b := range bucketCount {
		errs = append(errs, s.files.Remove(bucketName(b)))
	}
	return errors.Join(errs...)
}

// bucket returns the sorted entries of one file.
func (s *spill) bucket(ctx context.Context, b int) ([]entry, error) {
	entries, err := s.load(b)
	if err != nil {
		return nil, err
	}
	return sortEntries(ctx, entries, bucketBits)
}

// load returns the entries of one file, by row.
func (s *spill) load(b int) (_ []entry, err error) {
	f, err := s.files.Open(bucketName(b))
	if err != nil {
		return nil, fmt.Errorf("psi/align: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Size() != s.counts[b]*entryBytes {
		return nil, fmt.Errorf("psi/align: %d bytes of items, %d were written: %w", f.Size(), s.counts[b]*entryBytes, scratch.ErrDamaged)
	}
	entries := make([]entry, s.counts[b])
	r := bufio.NewReaderSize(f, 1<<16)
	var buf [entryBytes]byte
	for i := range entries {
		if _, err := io.ReadFull(r, buf[:]); err != nil {
			return nil, fmt.Errorf("psi/align: items: %w", err)
		}
		entries[i] = entry{binary.BigEndian.Uint64(buf[:]), binary.BigEndian.Uint64(buf[8:]), int32(binary.LittleEndian.Uint32(buf[16:]))}
	}
	return entries, nil
}

// repeats counts the rows whose item an earlier row has.
func (s *spill) repeats(ctx context.Context) (repeats, error) {
	var mu sync.Mutex
	var twice repeats
	err := parallel.For(ctx, bucketCount, 1, func(b, _ int) error {
		entries, err := s.bucket(ctx, b)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for i := 1; i < len(entries); i++ {
			if entries[i].same(&entries[i-1]) {
				twice.add(int64(entries[i].row))
			}
		}
		return nil
	})
	s.repeated = twice.count > 0
	return twice, err
}

// cut returns the entries of one file in the order of the parts that they
// belong to, and those of one item next to each other.
func (s *spill) cut(ctx context.Context, b, parts int) ([]entry, error) {
	if s.repeated {
		return s.bucket(ctx, b)
	}
	entries, err := s.load(b)
	if err != nil || len(entries) == 0 {
		return entries, err
	}
	first := partOf(uint64(b)<<(64-bucketBits), parts)
	next := make([]int, partOf(uint64(b)<<(64-bucketBits)|math.MaxUint64>>bucketBits, parts)-first+2)
	for i := range entries {
		next[partOf(entries[i].hi, parts)-first+1]++
	}
	for p := range len(next) - 1 {
		next[p+1] += next[p]
	}
	ordered := make([]entry, len(entries))
	for i := range entries {
		p := partOf(entries[i].hi, parts) - first
		ordered[next[p]] = entries[i]
		next[p]++
	}
	return ordered, nil
}

// cutter cuts a set into partitions, one after the other. What it holds beside
// the partition that it returns is a bucket of a spilled set, or 24 bytes for
// each item of one in memory.
type cutter struct {
	set     *itemSet
	parts   int
	bucket  int     // to be read next
	entries []entry // of the bucket read last, from the next partition on
}

func newCutter(ctx context.Context, set *itemSet, parts int) (*cutter, error) {
	c := &cutter{set: set, parts: parts}
	if set.whole == nil || parts == 1 {
		return c, nil
	}
	entries := make([]entry, len(set.whole.items))
	for i := range entries {
		entries[i] = newEntry(&set.whole.items[i], int32(i))
	}
	var err error
	c.entries, err = sortEntries(ctx, entries, 0)
	set.whole.items = nil // the entries have them
	return c, err
}

// next returns partition p; they have to be asked for in order.
func (c *cutter) next(ctx context.Context, p int) (*group, error) {
	if c.set.whole != nil && c.parts == 1 {
		return c.set.whole, nil
	}
	g := &group{items: []Digest{}, rows: []int32{}}
	var last entry
	for {
		n := sort.Search(len(c.entries), func(i int) bool { return partOf(c.entries[i].hi, c.parts) > p })
		for i := range c.entries[:n] {
			c.add(g, &c.entries[i], &last)
		}
		c.entries = c.entries[n:]
		if len(c.entries) > 0 || c.set.spilled == nil || c.bucket == bucketCount {
			return g, nil
		}
		var err error
		if c.entries, err = c.set.spilled.cut(ctx, c.bucket, c.parts); err != nil {
			return nil, err
		}
		c.bucket++
	}
}

// add appends the item of e, or a row of the last one.
func (c *cutter) add(g *group, e, last *entry) {
	if c.set.whole != nil {
		var buf [1]int32
		g.items = append(g.items, e.item())
		g.rows = append(g.rows, c.set.whole.rowsOf(e.row, &buf)...)
		if c.set.whole.ends != nil {
			g.ends = append(g.ends, int32(len(g.rows)))
		}
		return
	}
	repeated := len(g.items) > 0 && e.same(last)
	*last = *e
	switch {
	case repeated && g.ends == nil: // the first: until now item i had rows[i]
		for i := range g.items {
			g.ends = append(g.ends, int32(i+1))
		}
		fallthrough
	case repeated:
		g.rows = append(g.rows, e.row)
		g.ends[len(g.ends)-1]++
		return
	}
	g.items = append(g.items, e.item())
	g.rows = append(g.rows, e.row)
	if g.ends != nil {
		g.ends = append(g.ends, int32(len(g.rows)))
	}
}
