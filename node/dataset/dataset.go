// Package dataset opens an operator's data sources as tables. Rows are
// streamed and typed; they are never copied into the node.
//
// A source is described by a [Dataset] in the node's configuration and opened by
// [Open]. CSV files are read today; another kind of source is one more file
// that implements [Source] and one line in the drivers table.
//
// Reading is strict: a file that does not match its Dataset is refused with an
// [*Error] that names file, line, column and rule, and never a value. What is
// read is what the file holds: no row is skipped, no value guessed.
package dataset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yinqiao/yinqiao/table"
)

// Dataset describes one data source, as a node's configuration gives it.
type Dataset struct {
	Name   string `yaml:"name"`
	Driver string `yaml:"driver"` // "csv"
	// Path of the file. Relative paths start at the configuration's folder (see
	// In). A path may hold ".." and lead through symbolic links: the
	// configuration belongs to the operator, who can read the file anyway. No
	// peer and no platform can set it.
	Path string `yaml:"path"`
	// Columns lists every column of the source by its header name, in the
	// order the table shall have; the file's own order may differ.
	Columns []Column `yaml:"columns"`
	// Missing lists the texts that stand for a missing value, in any column.
	// Nil means "" everywhere, and NA, N/A, NULL and null besides in numbers
	// and keys (in other texts they may be values). An empty list means none,
	// so that an empty text is a value and an empty number is a fault.
	Missing []string `yaml:"missing"`
	// Encoding is "utf-8" (the default; a byte order mark is dropped) or
	// "gb18030", which holds GBK and GB 2312.
	Encoding string `yaml:"encoding"`
	// Delimiter is "," (the default), ";", "|" or a tab.
	Delimiter string `yaml:"delimiter"`
	// KeyRule is what a check holds the keys to; blank means table.RuleID. The
	// rule of a job is the one its parties agree on.
	KeyRule table.KeyRule `yaml:"key_rule"`
	// RepeatedKeys says that rows may share a key, which jobs then have to be
	// asked to join.
	RepeatedKeys bool `yaml:"repeated_keys"`
}

// Column describes one column of a source.
type Column struct {
	Name string     `yaml:"name"`
	Type table.Type `yaml:"type"` // int, float or text
	// Key marks the columns that identify a row's subject: int or text. Use
	// text where zeros may lead.
	Key bool `yaml:"key"`
}

// Source is an opened dataset. Every read of it sees the content that Open
// saw, or fails.
type Source interface {
	table.Source
	table.Projector
	table.Locator
	// Check reads the whole source and reports up to max faults, duplicate and
	// blank keys under rule included. Its error is non-nil only where the
	// source could not be judged, as when ctx ends.
	Check(ctx context.Context, rule table.KeyRule, max int) (Report, error)
}

// Report is the outcome of a check.
type Report struct {
	Rows   int64    // rows read; those with faults count
	Faults []*Error // the first ones, in the order they were met
	More   bool     // the check stopped at the limit: there may be more
}

// drivers opens each kind of source.
var drivers = map[string]func(context.Context, Dataset) (Source, error){
	"csv": openCSV,
}

// Drivers returns the names of the drivers, sorted.
func Drivers() []string { return slices.Sorted(maps.Keys(drivers)) }

// Open opens the source that d describes. It reads no row, but fails if the
// source is absent or its columns are not those of d.
func Open(ctx context.Context, d Dataset) (Source, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("dataset %s: %w", d.Name, err)
	}
	return drivers[d.Driver](ctx, d)
}

// In returns d with a relative path made to start at dir.
func (d Dataset) In(dir string) Dataset {
	if d.Path != "" && !filepath.IsAbs(d.Path) {
		d.Path = filepath.Join(dir, d.Path)
	}
	return d
}

// Schema returns the columns as a table has them.
func (d Dataset) Schema() table.Schema {
	schema := make(table.Schema, len(d.Columns))
	for i, c := range d.Columns {
		schema[i] = table.Column{Name: c.Name, Type: c.Type, Key: c.Key}
	}
	return schema
}

func joined(rules []table.KeyRule) string {
	var names []string
	for _, r := range rules {
		names = append(names, string(r))
	}
	return strings.Join(names, ", ")
}

// maxColumns bounds what one row can ask for.
const maxColumns = 10_000

// Validate reports every fault of d at once, each with its key path.
func (d Dataset) Validate() error {
	var errs []error
	fault := func(path, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	}
	if d.Name == "" {
		fault("name", "is required")
	}
	if _, ok := drivers[d.Driver]; !ok {
		fault("driver", "%q is unknown; there is %s", d.Driver, strings.Join(Drivers(), ", "))
	}
	if d.Path == "" {
		fault("path", "is required")
	}
	if !slices.Contains([]string{"", "utf-8", "gb18030"}, d.Encoding) {
		hint := ""
		switch strings.ToLower(d.Encoding) {
		case "gbk", "gb2312", "cp936":
			hint = "; gb18030 holds this one"
		}
		fault("encoding", "%q is unknown; there is utf-8, gb18030%s", d.Encoding, hint)
	}
	if !slices.Contains([]string{"", ",", ";", "|", "\t"}, d.Delimiter) {
		fault("delimiter", "%q cannot separate; use a comma, semicolon, bar or tab", d.Delimiter)
	}
	if d.KeyRule != "" && !slices.Contains(table.KeyRules(), d.KeyRule) {
		fault("key_rule", "%q is unknown; there is %s", d.KeyRule, joined(table.KeyRules()))
	}
	switch n := len(d.Columns); {
	case n == 0:
		fault("columns", "at least one is required")
	case n > maxColumns:
		fault("columns", "%d are too many; the limit is %d", n, maxColumns)
		return errors.Join(errs...)
	}
	seen := make(map[string]int)
	for i, c := range d.Columns {
		path := fmt.Sprintf("columns[%d]", i)
		if c.Name == "" {
			fault(path+".name", "is required")
		} else if j, ok := seen[c.Name]; ok {
			fault(path+".name", "%s is already columns[%d]", c.Name, j)
		}
		seen[c.Name] = i
		switch c.Type {
		case table.Int, table.Text:
		case table.Float:
			if c.Key {
				fault(path+".type", "a key is int or text, not float")
			}
		default:
			fault(path+".type", "%q is unknown; there is int, float, text", c.Type)
		}
	}
	return errors.Join(errs...)
}
