package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/table"
)

// Digest returns the SHA-256 of src's schema and content, row order included.
// It does not depend on how the rows are cut into batches. A party commits to
// it; on its own it hides nothing, for a small table can be guessed.
//
// Each column is hashed by itself, a cell as 00 if it is missing, else 01 and
// then 8 bytes, little endian, of an int or of a float's IEEE 754 bits, or a
// text's length (uvarint) and bytes. The digest is the hash of the domain
// string "yinqiao table v1\n", the numbers of columns and rows (uint64, little
// endian), and per column its name and type (each uvarint length and bytes),
// one byte 01 for a key or 00, and the column's hash.
func Digest(ctx context.Context, src table.Source) ([]byte, error) {
	schema := src.Schema()
	cols := make([]hash.Hash, len(schema))
	for i := range cols {
		cols[i] = sha256.New()
	}
	var rows uint64
	var buf []byte
	for b, err := range src.Batches(ctx) {
		if err != nil {
			return nil, err
		}
		rows += uint64(b.NumRows())
		for i, c := range schema {
			if buf, err = appendCells(buf[:0], b.Column(i)); err != nil {
				return nil, fmt.Errorf("column %s: %w", c.Name, err)
			}
			cols[i].Write(buf)
		}
	}
	buf = append(buf[:0], "yinqiao table v1\n"...)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(len(schema)))
	buf = binary.LittleEndian.AppendUint64(buf, rows)
	for i, c := range schema {
		buf = appendText(appendText(buf, c.Name), string(c.Type))
		if c.Key {
			buf = append(buf, 1)
		} else {
			buf = append(buf, 0)
		}
		buf = cols[i].Sum(buf)
	}
	sum := sha256.Sum256(buf)
	return sum[:], nil
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendCells(dst []byte, a arrow.Array) ([]byte, error) {
	for r := range a.Len() {
		if a.IsNull(r) {
			dst = append(dst, 0)
			continue
		}
		dst = append(dst, 1)
		switch a := a.(type) {
		case *array.Int64:
			dst = binary.LittleEndian.AppendUint64(dst, uint64(a.Value(r)))
		case *array.Float64:
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(a.Value(r)))
		case *array.String:
			dst = appendText(dst, a.Value(r))
		default:
			return dst, fmt.Errorf("%w: %s", table.ErrType, a.DataType())
		}
	}
	return dst, nil
}
