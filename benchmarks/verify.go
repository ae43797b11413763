package benchmarks

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
)

// ErrResults is wrapped by the error of a run whose parties hold results that do
// not agree with each other, or with the case.
var ErrResults = errors.New("benchmarks: the results are wrong")

// maxClear is the largest case, in rows of all parties, that is computed in
// the clear to learn how many rows are common.
const maxClear = 1 << 22

// checkResults reads what the parties wrote: tables of the same name have the
// same keys in the same order, and as many rows as all parties counted. One
// row of each file is in memory at a time.
func checkResults(ctx context.Context, def job.Definition, c Case, b job.Bench, outcomes []outcome) error {
	common, counted := outcomes[0].Counts[job.CountCommon]
	if b.Common == 0 && def.Clear != nil && counted && c.rows(len(outcomes)) <= maxClear {
		clear, err := def.Clear(ctx, b.Spec, b.Inputs)
		if err != nil {
			return err
		}
		if want, ok := clear[job.CountCommon].(int64); ok && want != common {
			return fmt.Errorf("%w: %d rows in common, in the clear there are %d", ErrResults, common, want)
		}
	}
	holders := make(map[string][]session.PartyID)
	for _, o := range outcomes {
		for _, name := range o.Tables {
			holders[name] = append(holders[name], o.Party)
		}
	}
	for name, ids := range holders {
		var files []keyFile
		for _, id := range ids {
			var keys []string
			for _, src := range b.Inputs[id] {
				for _, col := range src.Schema() {
					if col.Key {
						keys = append(keys, col.Name)
					}
				}
			}
			files = append(files, keyFile{c.resultPath(id, name), keys})
		}
		rows, err := sameKeys(ctx, files)
		if err != nil {
			return fmt.Errorf("%w: table %s: %w", ErrResults, name, err)
		}
		if counted && rows != common {
			return fmt.Errorf("%w: table %s has %d rows, the parties count %d", ErrResults, name, rows, common)
		}
	}
	return nil
}

// keyFile is a CSV file and the columns that are its keys.
type keyFile struct {
	path string
	keys []string
}

// sameKeys reads files side by side and returns how many rows each has, or
// where they part.
func sameKeys(ctx context.Context, files []keyFile) (rows int64, err error) {
	readers := make([]*csv.Reader, len(files))
	at := make([][]int, len(files))
	for i, f := range files {
		h, err := os.Open(f.path)
		if err != nil {
			return 0, err
		}
		defer h.Close()
		readers[i] = csv.NewReader(bufio.NewReaderSize(h, 1<<18))
		readers[i].ReuseRecord = true
		head, err := readers[i].Read()
		if err != nil {
			return 0, fmt.Errorf("%s has no header: %w", f.path, err)
		}
		for _, k := range f.keys {
			j := slices.Index(head, k)
			if j < 0 {
				return 0, fmt.Errorf("%s has no column of its keys", f.path)
			}
			at[i] = append(at[i], j)
		}
		if len(at[i]) != len(at[0]) {
			return 0, fmt.Errorf("%s and %s have not as many key columns", files[0].path, f.path)
		}
	}
	for ; ; rows++ {
		if rows%(1<<16) == 0 && ctx.Err() != nil {
			return rows, ctx.Err()
		}
		var first []string
		ended := 0
		for i, r := range readers {
			rec, err := r.Read()
			if errors.Is(err, io.EOF) {
				ended++
				continue
			}
			if err != nil {
				return rows, fmt.Errorf("%s: %w", files[i].path, err)
			}
			if i == 0 {
				first = rec
				continue
			}
			if first == nil {
				break
			}
			for k := range at[i] {
				if rec[at[i][k]] != first[at[0][k]] {
					return rows, fmt.Errorf("row %d is not of the same subject at all parties", rows)
				}
			}
		}
		switch ended {
		case 0:
		case len(readers):
			return rows, nil
		default:
			return rows, fmt.Errorf("a party's table ends after %d rows, another's goes on", rows)
		}
	}
}
