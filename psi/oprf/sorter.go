package oprf

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/scratch"
)

// sortBits is log2 of the number of ranges that a sorter cuts tags into by their
// first bits. The largest table has 2^22 tags in each.
const sortBits = 6

// sortMemory is how many tags a sorter holds, of 16 bytes each, before it writes
// them to files. A variable for the tests.
var sortMemory = 1 << 21

// sortPrefix begins the names of a sorter's files.
const sortPrefix = "oprf-sort/"

// sorter sorts more tags than memory holds, which come in any order.
type sorter struct {
	disk   scratch.Files
	ranges [1 << sortBits]sortRange
	held   int
	buf    []byte
}

// sortRange is the tags with the same first bits: in a file, if there is one,
// and those that came after it was last written to.
type sortRange struct {
	memory  []tags.Tag
	file    scratch.Writer
	written int
}

func newSorter(disk scratch.Files) *sorter { return &sorter{disk: disk} }

func (*sorter) name(i int) string { return fmt.Sprintf("%s%02d", sortPrefix, i) }

func (s *sorter) add(ts []tags.Tag) error {
	for i := range ts {
		r := &s.ranges[ts[i].Hi>>(64-sortBits)]
		r.memory = append(r.memory, ts[i])
	}
	if s.held += len(ts); s.held < sortMemory {
		return nil
	}
	s.held = 0
	for i := range s.ranges {
		if err := s.spill(i); err != nil {
			return err
		}
	}
	return nil
}

// spill writes what memory holds of range i to its file.
func (s *sorter) spill(i int) (err error) {
	r := &s.ranges[i]
	if r.file == nil {
		if r.file, err = s.disk.Create(s.name(i)); err != nil {
			return err
		}
	}
	s.buf = s.buf[:0]
	for j := range r.memory {
		s.buf = appendTag(s.buf, &r.memory[j])
	}
	r.written += len(r.memory)
	r.memory = r.memory[:0]
	_, err = r.file.Write(s.buf)
	return err
}

// each hands all tags to use, range by range, sorted. It can be called once.
func (s *sorter) each(ctx context.Context, use func([]tags.Tag) error) error {
	for i := range s.ranges {
		sorted, err := s.load(i)
		if err != nil {
			return err
		}
		if err := tags.SortPart(ctx, sorted, sortBits); err != nil {
			return err
		}
		if err := use(sorted); err != nil {
			return err
		}
	}
	return nil
}

// load returns the tags of range i and forgets them.
func (s *sorter) load(i int) ([]tags.Tag, error) {
	r := &s.ranges[i]
	if r.file == nil {
		all := r.memory
		r.memory = nil
		return all, nil
	}
	if err := s.spill(i); err != nil {
		return nil, err
	}
	r.memory = nil
	if err := r.file.Commit(); err != nil {
		return nil, err
	}
	f, err := s.disk.Open(s.name(i))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := make([]tags.Tag, 0, r.written)
	buf := make([]byte, tagSize<<12)
	for len(all) < r.written {
		b := buf[:min(len(buf), tagSize*(r.written-len(all)))]
		if _, err := io.ReadFull(f, b); err != nil {
			return nil, fmt.Errorf("psi/oprf: read what was sorted: %w", err)
		}
		for ; len(b) > 0; b = b[tagSize:] {
			all = append(all, parseTag(b))
		}
	}
	return all, s.disk.Remove(s.name(i))
}

// close removes what is left of the files.
func (s *sorter) close() error {
	var errs []error
	for i := range s.ranges {
		if r := &s.ranges[i]; r.file != nil {
			r.file.Discard()
			errs = append(errs, s.disk.Remove(s.name(i)))
		}
	}
	return errors.Join(errs...)
}

// tagSize is the size of a tag with its row in a sorter's file.
const tagSize = 16

func appendTag(b []byte, t *tags.Tag) []byte {
	b = binary.LittleEndian.AppendUint64(b, t.Hi)
	return binary.LittleEndian.AppendUint64(b, uint64(t.Lo)<<32|uint64(uint32(t.Row)))
}

func parseTag(b []byte) tags.Tag {
	w := binary.LittleEndian.Uint64(b[8:])
	return tags.Tag{Hi: binary.LittleEndian.Uint64(b), Lo: uint32(w >> 32), Row: int32(w & math.MaxUint32)}
}
