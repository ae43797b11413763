package app

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/yinqiao/yinqiao/app/ui"
	"github.com/yinqiao/yinqiao/benchmarks"
	"github.com/yinqiao/yinqiao/job"
)

func (c *cli) benchSweepCommand() *cobra.Command {
	var s benchmarks.Sweep
	var protocols, sizes, nets, out string
	cmd := &cobra.Command{
		Use:   "sweep FAMILY",
		Short: "Measure the job kinds of a family over sizes and links, as table, JSON and plots",
		Long: `Measures every job kind of a family (psi, fl, ...) at every size over every link,
each case --runs times, and prints one table of medians. The JSON with every
run's figures and the machine, the table as Markdown and the plots as SVG go to
--out, after each case, so that an interrupted sweep keeps what it has.

A case that fails is a line with its error, and the sweep goes on; it then ends
with exit code 1. A case expected to take longer than --limit is skipped.`,
		Example: `  yinqiao bench sweep psi --protocols all --sizes 2^12..2^20 --net none,lan,wan
  yinqiao bench sweep psi --protocols rr22,ecdh --sizes 2^16,1e6 --net none --runs 5 --out figures
  yinqiao bench sweep psi --protocols rr22 --sizes 2^20 --net none --csv --processes`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			s.Name, s.Version = args[0], Version
			if s.Jobs, err = c.benchJobs(args[0], protocols, s.Case.M != 0); err != nil {
				return err
			}
			if s.Sizes, err = benchmarks.ParseSizes(sizes); err != nil {
				return usagef("--sizes: %v", err)
			}
			for n := range strings.SplitSeq(nets, ",") {
				if n = strings.TrimSpace(n); !slices.Contains(s.Nets, n) {
					s.Nets = append(s.Nets, n)
				}
			}
			if err := checkNet(s.Nets...); err != nil {
				return err
			}
			if s.Runs < 1 || s.Limit <= 0 {
				return usagef("--runs and --limit are more than nothing")
			}
			if out == "" {
				out = fmt.Sprintf("sweep-%s-%s", args[0], time.Now().Format("20060102-150405"))
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			s.Progress = func(line string) { fmt.Fprintln(c.err, ui.Clean(line)) }
			s.Save = func(r *benchmarks.SweepReport) error {
				_, err := r.WriteFiles(out)
				return err
			}
			r, err := s.Run(cmd.Context())
			// The table is printed whatever became of the cases.
			if shown := c.showSweep(r, out); err == nil {
				err = shown
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&protocols, "protocols", "all", "all, or job kinds separated by commas, with or without family and version")
	f.StringVar(&sizes, "sizes", "2^12..2^20", "rows a party: a list of numbers and of ranges of powers of two, such as 10000,2^12..2^20/4,10M")
	f.StringVar(&nets, "net", "none,lan,wan", "links, separated by commas")
	f.IntVar(&s.Runs, "runs", 3, "runs of each case")
	f.DurationVar(&s.Limit, "limit", 10*time.Minute, "skip a case whose runs are expected to take longer together")
	benchFlags(cmd, &s.Case)
	f.StringVar(&out, "out", "", "folder for JSON, Markdown and SVG (default sweep-FAMILY-TIME)")
	f.BoolVar(&c.json, "json", false, "print one JSON object on standard output")
	return cmd
}

// benchJobs returns the job kinds of a family that protocols names and that
// have a benchmark, one for parties of different sizes if differ.
func (c *cli) benchJobs(family, protocols string, differ bool) ([]job.Definition, error) {
	var families, names []string
	for _, name := range c.registry.Names() {
		prefix, _, _ := strings.Cut(name, ".")
		if !slices.Contains(families, prefix) {
			families = append(families, prefix)
		}
		def, _ := c.registry.Lookup(name)
		if prefix == family && def.Bench != nil && (!differ || def.BenchSizes != nil) {
			names = append(names, name)
		}
	}
	switch {
	case !slices.Contains(families, family):
		return nil, usagef("no job kinds of family %s: there are %s", family, strings.Join(families, ", "))
	case len(names) == 0 && differ:
		return nil, usagef("--m: the parties of every kind of family %s have as many rows each", family)
	case len(names) == 0:
		return nil, usagef("no job kind of family %s has a benchmark", family)
	}
	wanted := names
	if protocols != "all" {
		wanted = nil
		for p := range strings.SplitSeq(protocols, ",") {
			p = strings.TrimSpace(p)
			i := slices.IndexFunc(names, func(name string) bool {
				short := strings.TrimPrefix(name, family+".")
				bare, _, _ := strings.Cut(short, ".")
				return p == name || p == short || p == bare
			})
			if i < 0 {
				return nil, usagef("--protocols: no %q to measure in family %s: there are all, %s", p, family, strings.Join(names, ", "))
			}
			if !slices.Contains(wanted, names[i]) {
				wanted = append(wanted, names[i])
			}
		}
	}
	var defs []job.Definition
	for _, name := range wanted {
		def, _ := c.registry.Lookup(name)
		defs = append(defs, def)
	}
	return defs, nil
}

// showSweep prints a report and says where its files are.
func (c *cli) showSweep(r *benchmarks.SweepReport, dir string) error {
	var names []string
	if dir != "" {
		var err error
		if names, err = r.WriteFiles(dir); err != nil {
			return err
		}
	}
	if c.json {
		return c.printJSON(r)
	}
	head, rows := r.Table()
	t := ui.NewTable(head...)
	for _, row := range rows {
		t.Add(row...)
	}
	t.Print(c.out)
	for _, line := range r.Linearity() {
		fmt.Fprintln(c.out, line)
	}
	if dir != "" {
		fmt.Fprintf(c.out, "in %s: %s\n", dir, strings.Join(names, ", "))
	}
	return nil
}

func (c *cli) benchReportCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "report SWEEP...",
		Short: "Show sweeps of one machine together, and draw them anew",
		Long: `Reads the JSON of earlier sweeps (files, or the folders they are in), puts their
cases into one table and prints it; with --out it also writes JSON, Markdown and
SVG. Where two sweeps have the same case, the later argument counts. Figures of
different machines do not go into one table.`,
		Example: `  yinqiao bench report sweep-psi-20260102-101500
  yinqiao bench report small/sweep.json large/sweep.json --out benchmarks/results/psi`,
		Args: someArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			var reports []*benchmarks.SweepReport
			for _, path := range args {
				if info, err := os.Stat(path); err == nil && info.IsDir() {
					path = filepath.Join(path, "sweep.json")
				}
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				r, err := benchmarks.ReadSweep(b)
				if err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
				reports = append(reports, r)
			}
			r, err := benchmarks.Merge(reports...)
			if err != nil {
				return err
			}
			return c.showSweep(r, out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "folder for JSON, Markdown and SVG")
	cmd.Flags().BoolVar(&c.json, "json", false, "print one JSON object on standard output")
	return cmd
}
