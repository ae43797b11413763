package table

import (
	"context"
	"errors"
	"hash/maphash"
	"math/bits"
)

// checkSlots bounds the memory of CheckKeys: 128 MiB, for half as many keys in
// one reading. A variable for the tests.
var checkSlots = 1 << 24

var errGrown = errors.New("table: the source gave more rows when it was read again")

// CheckKeys finds what [Keys] would refuse of a table, without holding its
// keys: a table of more than 8 million rows is read once more for every 8
// million. It returns nil, a [*KeyError], or why the table could not be read.
//
// Two keys count as the same if 63 bits of a hash agree. Among 10^8 distinct
// ones some pair does so by chance once in 2,000 checks, and not again in the
// next.
func CheckKeys(ctx context.Context, src Source, rule KeyRule) error {
	kr, err := newKeyReader(src, rule)
	if err != nil {
		return err
	}
	ke, err := eachKey(ctx, kr, nil, func(KeyBatch, struct{}) error { return nil })
	if err != nil {
		return err
	}
	if err := kr.duplicates(ctx, ke); err != nil {
		return err
	}
	return ke.located(ctx, src)
}

// duplicates counts the duplicates of a table whose rows ke has counted. Each
// reading enters the hashes of one range into a table with open addressing.
func (kr *keyReader) duplicates(ctx context.Context, ke *KeyError) error {
	size := 16
	for size < checkSlots && int64(size) < 2*ke.Rows {
		size *= 2
	}
	slots := make([]uint64, size)
	ranges := 2*uint64(ke.Rows)/uint64(size) + 1
	seed := maphash.MakeSeed()
	work := func(keys KeyBatch) ([]uint64, error) {
		hashes := make([]uint64, keys.Len())
		for i, key := range keys.All() {
			if len(key) > 0 {
				hashes[i] = maphash.Bytes(seed, key) | 1 // 0 is an empty slot
			}
		}
		return hashes, nil
	}
	first := int64(0)
	for p := range ranges {
		clear(slots)
		var twice KeyFault
		room := size - 1
		_, err := eachKey(ctx, kr, work, func(keys KeyBatch, hashes []uint64) error {
			for i, h := range hashes {
				if in, _ := bits.Mul64(h, ranges); h == 0 || in != p {
					continue
				}
				at := h >> 1 & uint64(size-1)
				for slots[at] != 0 && slots[at] != h {
					at = (at + 1) & uint64(size-1)
				}
				if slots[at] == h {
					twice.add(keys.First() + int64(i) + 1)
					continue
				}
				if room--; room == 0 {
					return errGrown
				}
				slots[at] = h
			}
			return nil
		})
		if err != nil {
			return err
		}
		if twice.Count > 0 && (first == 0 || twice.First < first) {
			first = twice.First
		}
		ke.Duplicates.Count += twice.Count
	}
	ke.Duplicates.First = first
	return nil
}
