// Package figure writes tables of statistics as files that programs and people
// read: JSON, Parquet, and charts as SVG.
//
// Which columns name a cell, which hold numbers and what withholds a number is
// said by a job.Figure. A number that is withheld is missing in the table, and a
// chart draws nothing in its place from which one could be read.
//
// The files are a function of the table and the figure alone: no clock, no
// random IDs, no fonts of the machine. A result can be committed to by its
// bytes.
package figure

import (
	"errors"
	"fmt"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/table"
)

// Faults of a figure and its table.
var (
	ErrColumn = errors.New("figure: columns do not fit the table")
	ErrNull   = errors.New("figure: a key is missing")
	// ErrWithheld is a value in a row that says that its values are withheld.
	ErrWithheld = errors.New("figure: a suppressed row has a value")
)

// Check holds a figure to the columns of its table.
func Check(schema table.Schema, fig job.Figure) error {
	if len(fig.Values) == 0 {
		return fmt.Errorf("%w: no column of values is named", ErrColumn)
	}
	seen := make(map[string]bool)
	hold := func(name, what string, ok func(table.Type) bool) error {
		i := schema.Index(name)
		switch {
		case i < 0:
			return fmt.Errorf("%w: there is no %s column %q", ErrColumn, what, name)
		case !ok(schema[i].Type):
			return fmt.Errorf("%w: %s column %q is %s", ErrColumn, what, name, schema[i].Type)
		case seen[name]:
			return fmt.Errorf("%w: column %q is named twice", ErrColumn, name)
		}
		seen[name] = true
		return nil
	}
	var errs []error
	for _, c := range fig.Categories {
		errs = append(errs, hold(c, "category", func(t table.Type) bool { return t == table.Text || t == table.Int }))
	}
	for _, v := range fig.Values {
		errs = append(errs, hold(v, "value", func(t table.Type) bool { return t == table.Int || t == table.Float }))
	}
	if fig.Status != "" {
		errs = append(errs, hold(fig.Status, "status", func(t table.Type) bool { return t == table.Text }))
	}
	return errors.Join(errs...)
}
