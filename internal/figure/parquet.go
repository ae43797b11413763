package figure

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/yinqiao/yinqiao/table"
)

// groupRows is how many rows a row group has at most: what is held before it is
// written.
const groupRows = 1 << 16

// writer names the program in every file; the libraries' versions would make
// other bytes of the same table.
const writer = "yinqiao"

// WriteParquet writes src as Parquet (format version 2.6, zstd) with the
// columns int64, double and string. Columns that are no keys may be null.
//
// It holds one batch of src and one row group of 2^16 rows.
func WriteParquet(ctx context.Context, w io.Writer, src table.Source) error {
	schema := src.Schema()
	as := schema.Arrow()
	props := parquet.NewWriterProperties(
		parquet.WithVersion(parquet.V2_6),
		parquet.WithCompression(compress.Codecs.Zstd),
		parquet.WithMaxRowGroupLength(groupRows),
		parquet.WithCreatedBy(writer),
	)
	// The file writer would close a w that can be closed.
	fw, err := pqarrow.NewFileWriter(as, struct{ io.Writer }{w}, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return fmt.Errorf("figure: parquet: %w", err)
	}
	for b, err := range src.Batches(ctx) {
		if err == nil {
			err = fits(b, schema)
		}
		for _, k := range schema.Keys() {
			if err == nil && b.Column(k).NullN() > 0 {
				err = fmt.Errorf("%w: column %s", ErrNull, schema[k].Name)
			}
		}
		if err == nil {
			// Sources differ in what they say of columns beside their types.
			err = fw.WriteBuffered(array.NewRecordBatch(as, b.Columns(), b.NumRows()))
		}
		if err != nil {
			return errors.Join(err, fw.Close())
		}
	}
	if err := fw.Close(); err != nil {
		return fmt.Errorf("figure: parquet: %w", err)
	}
	return nil
}
