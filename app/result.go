package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/yinqiao/yinqiao/node/api"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

func (c *cli) resultCommand() *cobra.Command {
	var table, format, out, all string
	cmd := &cobra.Command{
		Use:   "result JOB",
		Short: "Show a released result, or write its tables and charts as files",
		Long: `Shows the values of a released result, and its tables with the formats they have.
Every table is there as csv. Statistics are there as json and parquet too, and as
svg where a bar chart or a heat map fits them. --all writes every file, with the
manifest, which says what they come from.`,
		Example: `  yinqiao job result J-abc
  yinqiao job result J-abc --table scores --out scores.csv
  yinqiao job result J-abc --table statistics --format svg --out rates.svg
  yinqiao job result J-abc --all results`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case all != "" && (table != "" || format != "" || out != ""):
				return usagef("--all writes every file: leave out --table, --format and --out")
			case table == "" && (format != "" || out != ""):
				return usagef("--format and --out want the --table they are for; --all DIR writes every file")
			}
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				r, err := releasedResult(ctx, op, args[0])
				if err != nil {
					return err
				}
				switch {
				case all != "":
					return r.writeAll(ctx, op, all)
				case table != "":
					file, err := r.file(table, format)
					if err != nil {
						return err
					}
					if out == "" {
						return r.copyFile(ctx, op, file, c.out)
					}
					return r.writeFile(ctx, op, file, out, "--out")
				}
				text, err := json.MarshalIndent(map[string]any{"values": r.values, "tables": r.tables, "formats": r.formats}, "", "  ")
				if err != nil {
					return err
				}
				fmt.Fprintf(c.out, "%s\n", text)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&table, "table", "", "the table to write")
	cmd.Flags().StringVar(&format, "format", "", "how: csv, json, parquet or svg (default: csv)")
	cmd.Flags().StringVar(&out, "out", "", "a new file for the table (default: standard output)")
	cmd.Flags().StringVar(&all, "all", "", "a new folder for every file of the result")
	return cmd
}

// released is what a node says of a released result.
type released struct {
	job     string
	values  map[string]any
	tables  []string            // sorted
	formats map[string][]string // of each table
	files   []string
}

func releasedResult(ctx context.Context, op nodev1.OperatorClient, id string) (*released, error) {
	stream, err := op.GetResult(ctx, &nodev1.GetResultRequest{Job: id})
	if err != nil {
		return nil, err
	}
	reply, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	r := &released{job: id, values: map[string]any{}, tables: append([]string{}, reply.GetTables()...), formats: map[string][]string{}}
	if err := json.Unmarshal(reply.GetValues(), &r.values); err != nil {
		return nil, fmt.Errorf("result of %s: %w", id, err)
	}
	for _, f := range reply.GetFiles() {
		if f.GetName() != filepath.Base(f.GetName()) || !filepath.IsLocal(f.GetName()) {
			return nil, fmt.Errorf("result of %s: the node names a file that is no plain name", id)
		}
		r.files = append(r.files, f.GetName())
		if f.GetTable() != "" {
			r.formats[f.GetTable()] = append(r.formats[f.GetTable()], f.GetFormat())
		}
	}
	return r, nil
}

// file is the name of the file that holds a table in a format; blank is csv.
func (r *released) file(table, format string) (string, error) {
	if format == "" {
		format = "csv"
	}
	formats, ok := r.formats[table]
	switch {
	case !ok && len(r.tables) == 0:
		return "", fmt.Errorf("no such table %s: the result has no tables", table)
	case !ok:
		return "", fmt.Errorf("no such table %s: there are %s", table, strings.Join(r.tables, ", "))
	case !slices.Contains(formats, format):
		return "", fmt.Errorf("table %s is not there as %s: there are %s", table, format, strings.Join(formats, ", "))
	}
	return table + "." + format, nil
}

// writeAll writes every file of the result into a new folder, which is complete
// or not there.
func (r *released) writeAll(ctx context.Context, op nodev1.OperatorClient, dir string) error {
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("--all wants a new folder, and %s exists", dir)
	} else if err != nil {
		return err
	}
	for _, f := range r.files {
		if err := r.writeFile(ctx, op, f, filepath.Join(dir, f), "--all"); err != nil {
			return errors.Join(err, os.RemoveAll(dir))
		}
	}
	return nil
}

// writeFile copies a file of the result into a new one, which is complete or
// not there.
func (r *released) writeFile(ctx context.Context, op nodev1.OperatorClient, file, path, flag string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s wants a new file, and %s exists", flag, path)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(r.copyFile(ctx, op, file, f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func (r *released) copyFile(ctx context.Context, op nodev1.OperatorClient, file string, w io.Writer) error {
	stream, err := op.GetResult(ctx, &nodev1.GetResultRequest{Job: r.job, File: file})
	if err != nil {
		return err
	}
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(reply.GetChunk()); err != nil {
			return err
		}
	}
}
