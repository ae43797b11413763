package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"math"
	"strings"
)

// What is wrong with a table's keys. A [KeyError] carries the counts.
var (
	ErrNoKey         = errors.New("table: no key column")
	ErrDuplicateKeys = errors.New("table: duplicate keys")
	ErrBlankKeys     = errors.New("table: blank keys")
	ErrBadKeys       = errors.New("table: keys that are not valid UTF-8 or too long")
	ErrTooManyRows   = errors.New("table: more rows than a key set can number")
)

// MaxKeyBytes is the longest key, normalised and joined.
const MaxKeyBytes = 4096

// maxKeys keeps row numbers within an int32. A variable for the tests.
var maxKeys = math.MaxInt32

// KeyError counts the rows whose keys cannot be used and says where the first
// of each kind is. It never holds a key. It matches [ErrDuplicateKeys],
// [ErrBlankKeys], [ErrBadKeys] and [ErrUnfitKeys] under errors.Is, each where
// its count is not zero.
type KeyError struct {
	Columns []string // the key columns
	Rows    int64    // all rows of the table
	Rule    KeyRule  // the rule that they were held to

	Duplicates KeyFault // rows whose key an earlier row already had
	Blanks     KeyFault // rows with a missing or empty key part
	Bad        KeyFault // rows with a key of invalid UTF-8, or beyond MaxKeyBytes
	Unfit      KeyFault // rows with a key that is not of the rule's form
}

// KeyFault counts rows with one kind of fault.
type KeyFault struct {
	Count int64
	First int64  // the first such row, from 1; 0 where there is none
	Place string // where that row stands, if the source is a Locator
}

// Locator is a Source that knows where its rows come from, for the person who
// has to mend one.
type Locator interface {
	// Locate returns the place of a row, counted from 1: "clients.csv line 17".
	Locate(ctx context.Context, row int64) (string, error)
}

func (e *KeyError) Error() string {
	var parts []string
	add := func(f KeyFault, what string) {
		if f.Count == 0 {
			return
		}
		place := f.Place
		if place == "" {
			place = fmt.Sprintf("row %d", f.First)
		}
		parts = append(parts, fmt.Sprintf("%d %s (first: %s)", f.Count, what, place))
	}
	add(e.Duplicates, "duplicate")
	add(e.Blanks, "blank")
	add(e.Bad, "not valid UTF-8 or too long")
	add(e.Unfit, "not of the form of "+string(e.Rule))
	return fmt.Sprintf("table: key %s: of %d rows, %s", strings.Join(e.Columns, "+"), e.Rows, strings.Join(parts, ", "))
}

// Is reports whether e counts faults of the kind target.
func (e *KeyError) Is(target error) bool {
	switch target {
	case ErrDuplicateKeys:
		return e.Duplicates.Count > 0
	case ErrBlankKeys:
		return e.Blanks.Count > 0
	case ErrBadKeys:
		return e.Bad.Count > 0
	case ErrUnfitKeys:
		return e.Unfit.Count > 0
	}
	return false
}

// located returns e with the places of its faults, or nil if it has none.
func (e *KeyError) located(ctx context.Context, src Source) error {
	if e.Duplicates.Count+e.Blanks.Count+e.Bad.Count+e.Unfit.Count == 0 {
		return nil
	}
	if l, ok := src.(Locator); ok {
		for _, f := range []*KeyFault{&e.Duplicates, &e.Blanks, &e.Bad, &e.Unfit} {
			if f.Count > 0 {
				// A place that cannot be had leaves the row number to tell it.
				f.Place, _ = l.Locate(ctx, f.First)
			}
		}
	}
	return e
}

// DuplicateKeys returns the error of a table of which count rows have the key
// of an earlier row, the first of them row first, counted from 1. It is for
// who reads a table with [EachKey] and finds its duplicates by other means.
func DuplicateKeys(ctx context.Context, src Source, rule KeyRule, rows, count, first int64) *KeyError {
	e := &KeyError{Rows: rows, Rule: rule, Duplicates: KeyFault{Count: count, First: first}}
	if e.Rule == "" {
		e.Rule = RuleID
	}
	schema := src.Schema()
	for _, i := range schema.Keys() {
		e.Columns = append(e.Columns, schema[i].Name)
	}
	_ = e.located(ctx, src)
	return e
}

func (f *KeyFault) add(row int64) {
	if f.Count++; f.First == 0 {
		f.First = row
	}
}

// keysPerBlock bounds a block's bytes to 256 MiB, so that offsets fit 32 bits.
const keysPerBlock = 1 << 16

type keyBlock struct {
	data []byte
	ends []uint32
}

// KeySet is the normalised keys of a table, distinct and none blank, in row
// order. It holds the bytes of the keys and four more for each.
type KeySet struct {
	blocks []keyBlock
	n      int
}

// Len returns the number of keys, which is the number of rows.
func (k *KeySet) Len() int { return k.n }

// At returns the key of row i. The caller must not change it.
func (k *KeySet) At(i int) []byte {
	b := &k.blocks[i/keysPerBlock]
	j := i % keysPerBlock
	var from uint32
	if j > 0 {
		from = b.ends[j-1]
	}
	return b.data[from:b.ends[j]:b.ends[j]]
}

// All returns the keys in row order. The caller must not change them.
func (k *KeySet) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := range k.n {
			if !yield(k.At(i)) {
				return
			}
		}
	}
}

// add appends a batch of keys.
func (k *KeySet) add(keys KeyBatch) {
	for i := 0; i < keys.Len(); {
		if k.n%keysPerBlock == 0 {
			k.seal()
			k.blocks = append(k.blocks, k.next())
		}
		b := &k.blocks[len(k.blocks)-1]
		n := min(keys.Len()-i, keysPerBlock-len(b.ends))
		from := keys.start(i)
		shift := uint32(len(b.data)) - from
		b.data = append(b.data, keys.data[from:keys.ends[i+n-1]]...)
		for _, end := range keys.ends[i : i+n] {
			b.ends = append(b.ends, end+shift)
		}
		i, k.n = i+n, k.n+n
	}
}

// next returns an empty block with room for keys as long as the last one's.
func (k *KeySet) next() keyBlock {
	if len(k.blocks) == 0 {
		return keyBlock{}
	}
	n := len(k.blocks[len(k.blocks)-1].data)
	return keyBlock{data: make([]byte, 0, n+n/32), ends: make([]uint32, 0, keysPerBlock)}
}

// seal gives back the spare room of the last block.
func (k *KeySet) seal() {
	if len(k.blocks) == 0 {
		return
	}
	b := &k.blocks[len(k.blocks)-1]
	if cap(b.data)-len(b.data) > len(b.data)/16 {
		b.data = append(make([]byte, 0, len(b.data)), b.data...)
	}
	if cap(b.ends) > len(b.ends) {
		b.ends = append(make([]uint32, 0, len(b.ends)), b.ends...)
	}
}

// Keys reads src's key columns, normalises them by rule and returns them in
// row order. Rows with duplicate, blank, invalid or unfit keys are refused with
// a [*KeyError], after the whole table has been counted: no row is ever dropped.
// For tables whose keys memory does not hold there is [EachKey].
//
// Memory is the set itself and, until Keys returns, 11 to 22 bytes a row to
// find duplicates.
func Keys(ctx context.Context, src Source, rule KeyRule) (*KeySet, error) {
	kr, err := newKeyReader(src, rule)
	if err != nil {
		return nil, err
	}
	set := &KeySet{}
	ke, err := eachKey(ctx, kr, nil, func(keys KeyBatch, _ struct{}) error {
		if int64(set.n)+int64(keys.Len()) > int64(maxKeys) {
			return fmt.Errorf("%w: the limit is %d", ErrTooManyRows, maxKeys)
		}
		set.add(keys)
		return nil
	})
	if err != nil {
		return nil, err
	}
	set.seal()
	if err := set.findDuplicates(ctx, ke); err != nil {
		return nil, err
	}
	if err := ke.located(ctx, src); err != nil {
		return nil, err
	}
	return set, nil
}

// findDuplicates enters every key into a table with open addressing: a slot
// holds the upper half of the key's hash and its row number plus one.
func (k *KeySet) findDuplicates(ctx context.Context, ke *KeyError) error {
	size := 16
	for size < k.n+k.n/3 {
		size *= 2
	}
	slots := make([]uint64, size)
	seed := maphash.MakeSeed()
	i := -1
	for key := range k.All() {
		i++
		if len(key) == 0 {
			continue
		}
		if i%keysPerBlock == 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
		}
		h := maphash.Bytes(seed, key)
		const upper = uint64(math.MaxUint32) << 32
		for at := int(h & uint64(size-1)); ; at = (at + 1) & (size - 1) {
			s := slots[at]
			if s == 0 {
				slots[at] = h&upper | uint64(i+1)
				break
			}
			if s&upper == h&upper && bytes.Equal(k.At(int(s&^upper)-1), key) {
				ke.Duplicates.add(int64(i) + 1)
				break
			}
		}
	}
	return nil
}
