package oprf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	mrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/scratch"
)

// small makes tables of many segments and parts out of few rows.
func small(t testing.TB) {
	bytes, segments := segmentBytes, partSegments
	segmentBytes, partSegments = 1<<10, 4
	t.Cleanup(func() { segmentBytes, partSegments = bytes, segments })
}

// Tags are as long as the bound on false matches asks, and segments, parts and
// directories as large as they say, for tables of all sizes.
func TestLayout(t *testing.T) {
	for _, bits := range []int{minFalseMatchBits, defaultFalseMatchBits, maxFalseMatchBits} {
		for shift := range 29 {
			for _, rows := range []int{0, 1<<shift - 1, 1 << shift, 1<<shift + 1<<shift/3} {
				if rows > MaxRows {
					continue
				}
				l, err := newLayout(rows, bits)
				if err != nil {
					t.Fatalf("%d rows: %v", rows, err)
				}
				if pairs := float64(max(rows, 1)) * MaxItems; float64(uint64(1)<<(l.form.Bits()-bits)) < pairs {
					t.Errorf("%d rows: tags of %d bits for a bound of %d", rows, l.form.Bits(), bits)
				}
				size := l.form.Rest*rows + l.form.Buckets()
				if mean := size >> l.segmentBits; mean > segmentBytes {
					t.Errorf("%d rows: segments of %d bytes", rows, mean)
				}
				if rows > 100_000 && (size > (bits+33)*rows/8 || l.segments()*entrySize > size/300) {
					t.Errorf("%d rows: %d bytes in %d segments", rows, size, l.segments())
				}
				first, end := l.part(l.parts() - 1)
				if first >= end || end != l.segments() {
					t.Errorf("%d rows: the last part is of segments %d to %d of %d", rows, first, end, l.segments())
				}
				if _, end := l.buckets(l.segments() - 1); end != l.form.Buckets() {
					t.Errorf("%d rows: the last segment ends at bucket %d of %d", rows, end, l.form.Buckets())
				}
			}
		}
	}
}

func randomTags(n int) []tags.Tag {
	rng := mrand.New(mrand.NewPCG(uint64(n), 4))
	ts := make([]tags.Tag, n)
	for i := range ts {
		ts[i] = tags.Tag{Hi: rng.Uint64(), Lo: rng.Uint32(), Row: int32(i)}
	}
	return ts
}

// What goes through files comes out as what stayed in memory.
func TestSorter(t *testing.T) {
	for _, memory := range []int{1 << 20, 5000, 1} {
		for _, n := range []int{0, 1, 20_000} {
			old := sortMemory
			sortMemory = memory
			ts := randomTags(n)
			disk := scratch.Memory()
			s := newSorter(disk)
			for chunk := range slices.Chunk(ts, 700) {
				if err := s.add(chunk); err != nil {
					t.Fatal(err)
				}
			}
			names, _ := disk.Names("")
			var got []tags.Tag
			if err := s.each(t.Context(), func(ts []tags.Tag) error { got = append(got, ts...); return nil }); err != nil {
				t.Fatal(err)
			}
			sortMemory = old
			if err := tags.Sort(t.Context(), ts); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, ts) {
				t.Errorf("%d tags with memory for %d are not sorted", n, memory)
			}
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			if left, _ := disk.Names(""); len(left) != 0 || len(names) > 0 && memory > n {
				t.Errorf("%d tags with memory for %d: files %q, and in the end %q", n, memory, names, left)
			}
		}
	}
}

// A table written and read again, by segments and by rows.
func TestTable(t *testing.T) {
	small(t)
	for _, n := range []int{0, 1, 300, 6000} {
		l, err := newLayout(n, 40)
		if err != nil {
			t.Fatal(err)
		}
		ts := randomTags(n)
		if err := tags.Sort(t.Context(), ts); err != nil {
			t.Fatal(err)
		}
		files := scratch.Memory()
		w := &tableWriter{layout: l}
		w.table, _ = files.Create("table")
		w.rows, _ = files.Create("rows")
		for chunk := range slices.Chunk(ts, 37) {
			if err := w.add(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.finish(), w.table.Commit(), w.rows.Commit()); err != nil {
			t.Fatal(err)
		}
		dir, err := l.parseDirectory(w.dir.append(nil))
		if err != nil || !slices.Equal(dir, w.dir) {
			t.Fatalf("%d tags: the directory does not survive: %v", n, err)
		}
		table, rows := open(t, files, "table"), open(t, files, "rows")
		at := 0
		for i := range dir {
			b := make([]byte, dir[i].size)
			if _, err := io.ReadFull(table, b); err != nil {
				t.Fatal(err)
			}
			err := l.parse(dir, i, b, func(got *tags.Tag) {
				if want := l.form.Cut(ts[at]); !got.Same(&want) || l.segmentOf(got) != i {
					t.Fatalf("tag %d of %d differs", at, n)
				}
				at++
			})
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := l.parse(dir, i, b, func(*tags.Tag) { t.Fatal("used") }); !errors.Is(err, errSegment) {
				t.Errorf("a changed segment: %v", err)
			}
		}
		if at != n {
			t.Errorf("%d of %d tags", at, n)
		}
		e := &epoch{layout: l, dir: dir, table: table, sort: rows}
		for _, step := range []int{1, 7, 1000} {
			var places []uint32
			for p := 0; p < n; p += step {
				places = append(places, uint32(p))
			}
			got, err := e.rowsAt(places)
			if err != nil || len(got) != len(places) {
				t.Fatalf("%d rows of %d: %v", len(got), len(places), err)
			}
			for i, p := range places {
				if got[i] != ts[p].Row {
					t.Fatalf("place %d is row %d, not %d", p, got[i], ts[p].Row)
				}
			}
		}
	}
}

func open(t testing.TB, files scratch.Files, name string) scratch.File {
	t.Helper()
	f, err := files.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Duplicates are counted by row, and a collision of what is left of two tags
// ends the writing.
func TestDuplicatesAndCollisions(t *testing.T) {
	l, err := newLayout(1000, 30)
	if err != nil {
		t.Fatal(err)
	}
	write := func(ts []tags.Tag) (*tableWriter, error) {
		files := scratch.Memory()
		w := &tableWriter{layout: l}
		w.table, _ = files.Create("table")
		w.rows, _ = files.Create("rows")
		if err := tags.Sort(t.Context(), ts); err != nil {
			t.Fatal(err)
		}
		return w, w.add(ts)
	}
	ts := randomTags(100)
	for i, of := range map[int]int{40: 3, 60: 3, 9: 5} { // row: the earlier row with its key
		ts[i].Hi, ts[i].Lo = ts[of].Hi, ts[of].Lo
	}
	w, err := write(ts)
	if err != nil || w.duplicates != 3 || w.first != 10 {
		t.Errorf("%d duplicates, the first in row %d, %v", w.duplicates, w.first, err)
	}
	ts = randomTags(100)
	ts[1] = ts[0]
	ts[1].Lo ^= 1 // past the end of what is kept
	if _, err := write(ts); !errors.Is(err, errCollision) {
		t.Errorf("two keys with one tag: %v", err)
	}
}

func TestParseDirectoryRefuses(t *testing.T) {
	l, err := newLayout(3, 40)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(tags, size uint32) []byte {
		b := binary.LittleEndian.AppendUint32(nil, tags)
		return append(binary.LittleEndian.AppendUint32(b, size), make([]byte, 32)...)
	}
	good := uint32(l.form.Buckets() + 3*l.form.Rest)
	for name, b := range map[string][]byte{
		"nothing": nil, "short": entry(3, good)[:39], "two segments": append(entry(1, good), entry(2, good)...),
		"more tags than rows": entry(4, good+9), "fewer": entry(2, good), "too small for its tags": entry(3, good-1),
		"too large": entry(3, segmentLimit+1), "absurd": bytes.Repeat([]byte{0xff}, 40),
	} {
		if _, err := l.parseDirectory(b); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.parseDirectory(entry(3, good)); err != nil {
		t.Error(err)
	}
}
