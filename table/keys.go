package table

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"math"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
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

func (e *KeyError) locate(ctx context.Context, src Source) {
	l, ok := src.(Locator)
	if !ok {
		return
	}
	for _, f := range []*KeyFault{&e.Duplicates, &e.Blanks, &e.Bad, &e.Unfit} {
		if f.Count > 0 {
			// A place that cannot be had leaves the row number to tell it.
			f.Place, _ = l.Locate(ctx, f.First)
		}
	}
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

func (k *KeySet) append(key []byte) {
	if k.n%keysPerBlock == 0 {
		k.seal()
		k.blocks = append(k.blocks, keyBlock{})
	}
	b := &k.blocks[len(k.blocks)-1]
	b.data = append(b.data, key...)
	b.ends = append(b.ends, uint32(len(b.data)))
	k.n++
}

// seal gives back the spare room of the last block.
func (k *KeySet) seal() {
	if len(k.blocks) == 0 {
		return
	}
	b := &k.blocks[len(k.blocks)-1]
	b.data = append(make([]byte, 0, len(b.data)), b.data...)
	b.ends = append(make([]uint32, 0, len(b.ends)), b.ends...)
}

// Keys reads src's key columns, normalises them by rule and returns them in
// row order. Rows with duplicate, blank, invalid or unfit keys are refused with
// a [*KeyError], after the whole table has been counted: no row is ever dropped.
//
// Memory is the set itself and, until Keys returns, 11 to 22 bytes a row to
// find duplicates.
func Keys(ctx context.Context, src Source, rule KeyRule) (*KeySet, error) {
	rule, err := ParseKeyRule(string(rule))
	if err != nil {
		return nil, err
	}
	schema := src.Schema()
	var names []string
	for _, i := range schema.Keys() {
		if schema[i].Type == Float {
			return nil, fmt.Errorf("%w: key column %s is float; a key is int or text", ErrType, schema[i].Name)
		}
		names = append(names, schema[i].Name)
	}
	if len(names) == 0 {
		return nil, ErrNoKey
	}
	sel, err := Select(src, names)
	if err != nil {
		return nil, err
	}

	set, ke := &KeySet{}, &KeyError{Columns: names, Rule: rule}
	var key, part []byte
	for b, err := range sel.Batches(ctx) {
		if err != nil {
			return nil, err
		}
		cols := make([]keyColumn, len(names))
		for i := range cols {
			if cols[i], err = newKeyColumn(names[i], b.Column(i)); err != nil {
				return nil, err
			}
		}
		for r := range int(b.NumRows()) {
			ke.Rows++
			if ke.Rows > int64(maxKeys) {
				return nil, fmt.Errorf("%w: the limit is %d", ErrTooManyRows, maxKeys)
			}
			key = key[:0]
			blank, bad, unfit := false, false, false
			for _, c := range cols {
				part, err = c.append(part[:0], r, rule)
				switch {
				case errors.Is(err, ErrUnfitKeys):
					unfit = true
				case err != nil || len(part) > MaxKeyBytes:
					bad = true
				case len(part) == 0:
					blank = true
				}
				if len(cols) > 1 {
					key = binary.AppendUvarint(key, uint64(len(part)))
				}
				key = append(key, part...)
			}
			switch {
			case bad || len(key) > MaxKeyBytes:
				ke.Bad.add(ke.Rows)
				key = key[:0]
			case blank:
				ke.Blanks.add(ke.Rows)
				key = key[:0]
			case unfit:
				ke.Unfit.add(ke.Rows)
				key = key[:0]
			}
			// A row without a usable key keeps its place, empty, so that row
			// numbers stay true; the set is then not returned.
			set.append(key)
		}
	}
	set.seal()
	if err := set.findDuplicates(ctx, ke); err != nil {
		return nil, err
	}
	if ke.Duplicates.Count+ke.Blanks.Count+ke.Bad.Count+ke.Unfit.Count > 0 {
		ke.locate(ctx, src)
		return nil, ke
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
			if err := ctx.Err(); err != nil {
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

// keyColumn reads one key column of one batch.
type keyColumn struct {
	ints  *array.Int64
	texts *array.String
}

func newKeyColumn(name string, a arrow.Array) (keyColumn, error) {
	switch a := a.(type) {
	case *array.Int64:
		return keyColumn{ints: a}, nil
	case *array.String:
		return keyColumn{texts: a}, nil
	}
	return keyColumn{}, fmt.Errorf("%w: key column %s holds %s", ErrType, name, a.DataType())
}

// append appends the normalised part of row r; nothing where it is missing.
func (c keyColumn) append(dst []byte, r int, rule KeyRule) ([]byte, error) {
	switch {
	case c.ints != nil && !c.ints.IsNull(r):
		if rule == RuleID { // which leaves digits as they are
			return strconv.AppendInt(dst, c.ints.Value(r), 10), nil
		}
		return rule.Append(dst, strconv.FormatInt(c.ints.Value(r), 10))
	case c.texts != nil && !c.texts.IsNull(r):
		return rule.Append(dst, c.texts.Value(r))
	}
	return dst, nil
}
