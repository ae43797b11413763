package align

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/table"
)

// seedSize is the length of a run's seed, in bytes: with a key of up to 39 bytes
// it is one block of SHA-256.
const seedSize = 16

type seed = [seedSize]byte

// Items returns the digests of src's keys under a salt, which are distinct: a
// table whose keys are not, or are of no use, is refused as by table.Keys. It
// holds 16 bytes a row and, until it returns, 12 to 24 more. It is for kinds that
// align nothing.
func Items(ctx context.Context, src table.Source, rule table.KeyRule, salt [16]byte) ([]Digest, error) {
	set, err := readItems(ctx, src, rule, salt, false, math.MaxInt64, nil, func(int64) {})
	if err != nil {
		return nil, err
	}
	return set.whole.items, nil
}

// group is distinct items, each with the rows that have it, in ascending order.
type group struct {
	items []Digest
	// rows of item i are rows[ends[i-1]:ends[i]], or rows[i] alone where ends is
	// nil, or i alone where rows is nil too.
	rows []int32
	ends []int32
}

// rowsOf returns the rows of item i; the slice is valid until the next call with
// the same buffer.
func (g *group) rowsOf(i int32, buf *[1]int32) []int32 {
	switch {
	case g.ends != nil:
		from := int32(0)
		if i > 0 {
			from = g.ends[i-1]
		}
		return g.rows[from:g.ends[i]]
	case g.rows != nil:
		return g.rows[i : i+1]
	}
	buf[0] = i
	return buf[:]
}

// itemSet is the items of a table.
type itemSet struct {
	rows     int64
	distinct int64
	digest   [32]byte // of all items, in row order
	// whole is the set in memory; otherwise it is in files.
	whole   *group
	spilled *spill
}

// readItems reads src's keys and returns their items. Keys that cannot be used,
// and without multiply those that occur twice, are refused with a
// [*table.KeyError]. Up to inMemory rows stay in memory.
func readItems(ctx context.Context, src table.Source, rule table.KeyRule, salt seed, multiply bool, inMemory int64,
	files scratch.Files, progress func(rows int64),
) (*itemSet, error) {
	set := &itemSet{}
	var chunks [][]Digest
	sum := sha256.New()
	defer func() {
		if set.spilled != nil {
			set.spilled.discard()
		}
	}()
	work := func(b table.KeyBatch) ([]Digest, error) {
		items := make([]Digest, b.Len())
		buf := append(make([]byte, 0, 256), salt[:]...)
		for i, key := range b.All() {
			buf = append(buf[:seedSize], key...)
			d := sha256.Sum256(buf)
			items[i] = Digest(d[:len(items[i])])
		}
		return items, nil
	}
	use := func(b table.KeyBatch, items []Digest) error {
		first := b.First()
		if set.rows = first + int64(len(items)); set.rows > MaxRows {
			return fmt.Errorf("%w: more than %d rows", ErrSize, MaxRows)
		}
		for i := range items {
			sum.Write(items[i][:])
		}
		progress(set.rows)
		if set.spilled == nil {
			chunks = append(chunks, items)
			if set.rows <= inMemory {
				return nil
			}
			var err error
			if set.spilled, err = newSpill(files); err != nil {
				return err
			}
			first = 0
		} else {
			chunks = append(chunks[:0], items)
		}
		for _, c := range chunks {
			if err := set.spilled.add(c, first); err != nil {
				return err
			}
			first += int64(len(c))
		}
		chunks = chunks[:0]
		return nil
	}
	if _, err := table.EachKey(ctx, src, rule, work, use); err != nil {
		return nil, err
	}
	sum.Sum(set.digest[:0])

	var twice repeats
	if set.spilled != nil {
		if err := set.spilled.commit(); err != nil {
			return nil, err
		}
		var err error
		if twice, err = set.spilled.repeats(ctx); err != nil {
			return nil, err
		}
	} else {
		items := make([]Digest, 0, set.rows)
		for i, c := range chunks {
			items = append(items, c...)
			chunks[i] = nil
		}
		var err error
		if set.whole, twice, err = gather(ctx, items, multiply); err != nil {
			return nil, err
		}
	}
	if twice.count > 0 && !multiply {
		return nil, table.DuplicateKeys(ctx, src, rule, set.rows, twice.count, twice.first)
	}
	set.distinct = set.rows - twice.count
	return set, nil
}

// repeats counts rows whose key an earlier row has; first counts from 1.
type repeats struct{ count, first int64 }

func (r *repeats) add(row int64) {
	if r.count++; r.first == 0 || row < r.first-1 {
		r.first = row + 1
	}
}

// gather groups rows by item, of which row i has items[i]; it keeps items. It
// finds equal ones by open addressing: a slot holds the upper half of 8 bytes of
// an item, and the item's number plus one.
func gather(ctx context.Context, items []Digest, multiply bool) (*group, repeats, error) {
	var twice repeats
	size := 16
	for size < len(items)+len(items)/2 {
		size *= 2
	}
	const upper = uint64(math.MaxUint32) << 32
	slots := make([]uint64, size)
	n := 0         // distinct so far; items[:n] are those
	var of []int32 // by row: its item; nil as long as that is the row's number
	for row := range items {
		if row%(1<<16) == 0 && ctx.Err() != nil {
			return nil, twice, context.Cause(ctx)
		}
		d := &items[row]
		h := binary.LittleEndian.Uint64(d[8:])
		at := int(h & uint64(size-1))
		item := -1
		for ; slots[at] != 0; at = (at + 1) & (size - 1) {
			if s := slots[at]; s&upper == h&upper && items[uint32(s)-1] == *d {
				item = int(uint32(s)) - 1
				break
			}
		}
		switch {
		case item >= 0:
			twice.add(int64(row))
			if of == nil && multiply {
				of = make([]int32, row, len(items))
				for i := range of {
					of[i] = int32(i)
				}
			}
		case of != nil || twice.count > 0:
			items[n] = *d
			fallthrough
		default:
			item = n
			n++
			slots[at] = h&upper | uint64(n)
		}
		if of != nil {
			of = append(of, int32(item))
		}
	}
	g := &group{items: items[:n:n]}
	if of != nil {
		g.ends = make([]int32, n)
		for _, item := range of {
			g.ends[item]++
		}
		at := int32(0)
		for i, c := range g.ends { // to the begin of each for now
			g.ends[i] = at
			at += c
		}
		g.rows = make([]int32, len(of))
		for row, item := range of {
			g.rows[g.ends[item]] = int32(row)
			g.ends[item]++
		}
	}
	return g, twice, nil
}

// entry is an item with its row, or with its number in a group.
type entry struct {
	hi, lo uint64 // big-endian
	row    int32
}

func newEntry(d *Digest, row int32) entry {
	return entry{binary.BigEndian.Uint64(d[:]), binary.BigEndian.Uint64(d[8:]), row}
}

func (e *entry) item() (d Digest) {
	binary.BigEndian.PutUint64(d[:], e.hi)
	binary.BigEndian.PutUint64(d[8:], e.lo)
	return d
}

func (e *entry) same(f *entry) bool { return e.hi == f.hi && e.lo == f.lo }

func compareItems(a, b *entry) int {
	if c := cmp.Compare(a.hi, b.hi); c != 0 {
		return c
	}
	return cmp.Compare(a.lo, b.lo)
}

func compareEntries(a, b entry) int {
	if c := compareItems(&a, &b); c != 0 {
		return c
	}
	return cmp.Compare(a.row, b.row)
}

// sortEntries returns a sorted by item and row; it takes as much memory again.
// Digests spread evenly, so most of the work is one pass into parts of about 16
// by their first bits after the skip that all have in common.
func sortEntries(ctx context.Context, a []entry, skip int) ([]entry, error) {
	bits := 0
	for len(a)>>bits > 16 && bits < 16 {
		bits++
	}
	part := func(e *entry) int { return int(e.hi << skip >> 1 >> (63 - bits)) }
	next := make([]int32, 1<<bits+1)
	for i := range a {
		next[part(&a[i])+1]++
	}
	for i := range 1 << bits {
		next[i+1] += next[i]
	}
	ends := slices.Clone(next[1:])
	b := make([]entry, len(a))
	for i := range a {
		p := part(&a[i])
		b[next[p]] = a[i]
		next[p]++
	}
	from := int32(0)
	for p, end := range ends {
		if p%1024 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if s := b[from:end]; len(s) <= 256 {
			insertionSort(s)
		} else { // no digests, or very many of them
			slices.SortFunc(s, compareEntries)
		}
		from = end
	}
	return b, nil
}

// insertionSort is the fastest for the few entries of a part.
func insertionSort(a []entry) {
	for i := 1; i < len(a); i++ {
		e := a[i]
		j := i
		for ; j > 0 && e.before(&a[j-1]); j-- {
			a[j] = a[j-1]
		}
		a[j] = e
	}
}

// before says whether e comes before f in the order of compareEntries.
func (e *entry) before(f *entry) bool {
	if e.hi != f.hi {
		return e.hi < f.hi
	}
	return compareEntries(*e, *f) < 0
}
