package table

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow/array"
)

// WriteCSV writes src as CSV (RFC 4180 with LF line ends): a header, then a line
// a row. A missing value is an empty field, and so is an empty text. Floats
// are written so that reading them back gives the same value.
func WriteCSV(ctx context.Context, w io.Writer, src Source) error {
	schema := src.Schema()
	bw := bufio.NewWriter(w)
	cw := csv.NewWriter(bw)
	rec := make([]string, len(schema))
	write := func() error {
		if len(rec) == 1 && rec[0] == "" {
			// Unquoted it would be an empty line, which readers skip.
			cw.Flush()
			_, err := bw.WriteString("\"\"\n")
			return err
		}
		return cw.Write(rec)
	}
	for i, c := range schema {
		rec[i] = c.Name
	}
	if err := write(); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	for b, err := range src.Batches(ctx) {
		if err != nil {
			return err
		}
		for r := range int(b.NumRows()) {
			for i := range schema {
				rec[i] = ""
				switch a := b.Column(i).(type) {
				case *array.Int64:
					if !a.IsNull(r) {
						rec[i] = strconv.FormatInt(a.Value(r), 10)
					}
				case *array.Float64:
					if !a.IsNull(r) {
						rec[i] = strconv.FormatFloat(a.Value(r), 'g', -1, 64)
					}
				case *array.String:
					if !a.IsNull(r) {
						rec[i] = a.Value(r)
					}
				default:
					return fmt.Errorf("%w: column %s holds %s", ErrType, schema[i].Name, a.DataType())
				}
			}
			if err := write(); err != nil {
				return fmt.Errorf("table: %w", err)
			}
		}
	}
	cw.Flush()
	if err := cw.Error(); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	return nil
}
