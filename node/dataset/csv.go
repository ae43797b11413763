package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/table"
)

// A batch ends at either limit, which bounds the memory of a stream.
const (
	batchRows  = 8192
	batchBytes = 4 << 20
)

// csvSource is a CSV file, or some of its columns.
type csvSource struct {
	file    *file
	dataset Dataset
	// columns are the positions in dataset.Columns that can be read.
	columns []int
	schema  table.Schema
}

func openCSV(ctx context.Context, d Dataset) (Source, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	f, err := newFile(d.Path)
	if err != nil {
		return nil, err
	}
	s := &csvSource{file: f, dataset: d, schema: d.Schema()}
	for i := range d.Columns {
		s.columns = append(s.columns, i)
	}
	r, _, err := s.open()
	if err != nil {
		return nil, err
	}
	r.close()
	return s, nil
}

// open opens the file behind its header. at says where each column of the
// dataset stands.
func (s *csvSource) open() (r *reader, at []int, err error) {
	r, err = newReader(s.file, s.dataset)
	if err != nil {
		return nil, nil, err
	}
	at, faults, err := r.header(s.dataset)
	if err == nil {
		err = join(faults)
	}
	if err != nil {
		r.close()
		return nil, nil, err
	}
	return r, at, nil
}

// join makes one error of faults; nil if there are none.
func join(faults []*Error) error {
	var errs []error
	for _, f := range faults {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

func (s *csvSource) Schema() table.Schema { return slices.Clone(s.schema) }

func (s *csvSource) Project(columns []int) table.Source {
	p := *s
	p.columns, p.schema = nil, nil
	for _, c := range columns {
		p.columns = append(p.columns, s.columns[c])
		p.schema = append(p.schema, s.schema[c])
	}
	return &p
}

// Batches streams the rows. Missing keys come as missing values: table.Keys
// refuses them with their count.
func (s *csvSource) Batches(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		if err := s.stream(ctx, func(b arrow.RecordBatch) bool { return yield(b, nil) }); err != nil {
			yield(nil, err)
		}
	}
}

func (s *csvSource) stream(ctx context.Context, yield func(arrow.RecordBatch) bool) error {
	r, at, err := s.open()
	if err != nil {
		return err
	}
	defer r.close()
	cells := make([]cell, len(s.columns))
	for i, c := range s.columns {
		cells[i] = newCell(s.dataset, c, at[c], newValues(s.schema[i].Type, nil))
	}
	schema := s.schema.Arrow()
	flush := func(n int) bool {
		arrays := make([]arrow.Array, len(cells))
		for i := range cells {
			arrays[i] = cells[i].values.array()
			cells[i].values = newValues(cells[i].typ, cells[i].values)
		}
		return yield(array.NewRecordBatch(schema, arrays, int64(n)))
	}
	n, began := 0, int64(0)
	for {
		if n%1024 == 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
		}
		line, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		for i := range cells {
			if f := cells[i].append(r, r.field(cells[i].at), line); f != nil {
				return f
			}
		}
		n++
		if off := r.offset(); n == batchRows || off-began > batchBytes {
			if !flush(n) {
				return nil
			}
			n, began = 0, off
		}
	}
	if n > 0 {
		flush(n)
	}
	return nil
}

// Locate returns the file and the line on which a row begins.
func (s *csvSource) Locate(ctx context.Context, row int64) (string, error) {
	line, err := s.lineOf(ctx, row)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s line %d", s.file.path, line), nil
}

func (s *csvSource) lineOf(ctx context.Context, row int64) (int, error) {
	r, _, err := s.open()
	if err != nil {
		return 0, err
	}
	defer r.close()
	for n := int64(1); ; n++ {
		if n%1024 == 0 {
			if err := context.Cause(ctx); err != nil {
				return 0, err
			}
		}
		line, err := r.next()
		if err != nil {
			return 0, err
		}
		if n == row {
			return line, nil
		}
	}
}

// Check implements [Source].
func (s *csvSource) Check(ctx context.Context, rule table.KeyRule, max int) (Report, error) {
	var rep Report
	// add files a fault, and says whether the check goes on.
	add := func(err error) (bool, error) {
		var f *Error
		if !errors.As(err, &f) {
			return false, err
		}
		if len(rep.Faults) == max {
			rep.More = true
			return false, nil
		}
		rep.Faults = append(rep.Faults, f)
		switch f.Rule {
		case FileMissing, FileAccess, FileKind, FileRead, FileChanged, RowSize:
			return false, nil
		}
		return true, nil
	}
	r, err := newReader(s.file, s.dataset)
	if err != nil {
		_, err = add(err)
		return rep, err
	}
	defer r.close()
	at, faults, err := r.header(s.dataset)
	if err != nil {
		_, err = add(err)
		return rep, err
	}
	for _, f := range faults {
		if more, err := add(f); !more {
			return rep, err
		}
	}
	if at == nil { // no header: what follows cannot be judged
		return rep, nil
	}
	var cells []cell
	for _, c := range s.columns {
		if at[c] >= 0 {
			cells = append(cells, newCell(s.dataset, c, at[c], nil))
		}
	}
	for {
		if rep.Rows%1024 == 0 {
			if err := context.Cause(ctx); err != nil {
				return rep, err
			}
		}
		line, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			if f := (*Error)(nil); !errors.As(err, &f) || f.Rule != RowBlank {
				rep.Rows++
			}
			if more, err := add(err); !more {
				return rep, err
			}
			continue
		}
		rep.Rows++
		for i := range cells {
			if f := cells[i].append(r, r.field(cells[i].at), line); f != nil {
				if more, err := add(f); !more {
					return rep, err
				}
			}
		}
	}
	return rep, s.checkKeys(ctx, rule, len(rep.Faults) == 0, add)
}

// checkKeys reads the key columns once more and files what is wrong with them.
func (s *csvSource) checkKeys(ctx context.Context, rule table.KeyRule, clean bool, add func(error) (bool, error)) error {
	err := table.CheckKeys(ctx, s, rule)
	var f *Error
	switch {
	case err == nil || errors.Is(err, table.ErrNoKey):
		return nil
	case errors.As(err, &f):
		if clean {
			_, err = add(f) // the file has changed since
			return err
		}
		return nil // the fault of a row or the header, filed already
	}
	var ke *table.KeyError
	if !errors.As(err, &ke) {
		return err
	}
	for _, k := range []struct {
		table.KeyFault
		rule Rule
		hint string
	}{{ke.Duplicates, KeyDuplicate, ""}, {ke.Blanks, KeyBlank, ""}, {ke.Bad, KeyText, ""}, {ke.Unfit, KeyUnfit, " by " + string(ke.Rule)}} {
		if k.Count == 0 {
			continue
		}
		line, err := s.lineOf(ctx, k.First)
		if err != nil {
			return err
		}
		f := &Error{File: s.file.path, Line: line, Column: strings.Join(ke.Columns, "+"), Rule: k.rule, Hint: fmt.Sprintf("the first of %d%s", k.Count, k.hint)}
		if more, err := add(f); !more {
			return err
		}
	}
	return nil
}
