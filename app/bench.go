package app

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/yinqiao/yinqiao/app/ui"
	"github.com/yinqiao/yinqiao/benchmarks"
	"github.com/yinqiao/yinqiao/benchmarks/link"
)

func (c *cli) benchCommand() *cobra.Command {
	return group("bench", "Measure job kinds", c.benchRunCommand(), c.benchSweepCommand(), c.benchReportCommand(), c.benchPartyCommand())
}

// sizeFlag is a number of rows.
type sizeFlag int64

func (f *sizeFlag) String() string { return fmt.Sprint(int64(*f)) }
func (f *sizeFlag) Type() string   { return "rows" }
func (f *sizeFlag) Set(text string) error {
	n, err := benchmarks.ParseSize(text)
	if err == nil {
		*f = sizeFlag(n)
	}
	return err
}

// benchFlags are what `bench run` and `bench sweep` share.
func benchFlags(cmd *cobra.Command, bc *benchmarks.Case) {
	f := cmd.Flags()
	f.Var((*sizeFlag)(&bc.M), "m", "rows of each other party, for kinds whose parties may differ (default as many)")
	f.IntVar(&bc.Parties, "parties", 0, "contributors, for kinds that make statistics (default 3)")
	f.Int64Var(&bc.Cells, "cells", 0, "cells of the table, for kinds that make statistics; without it --n is the number of counters")
	f.Int64Var(&bc.Measures, "measures", 0, "measures of each cell, with --cells (default 1)")
	f.BoolVar(&bc.CSV, "csv", false, "read rows from CSV files and write results to others, on the clock")
	f.BoolVar(&bc.Warm, "warm", false, "run twice on the same cache and report the second")
	f.BoolVar(&bc.Processes, "processes", false, "a process for each party, so that memory and CPU are told apart")
	f.BoolVar(&bc.NoBaseline, "no-yardstick", false, "leave the yardstick out")
	f.Lookup("m").DefValue = ""
}

func checkNet(names ...string) error {
	for _, n := range names {
		if _, err := link.Parse(n); err != nil {
			return usagef("--net: %v", err)
		}
	}
	return nil
}

// quietFor is how long a run shows nothing of its progress: most end sooner.
const quietFor = 2 * time.Second

func (c *cli) benchRunCommand() *cobra.Command {
	bc := benchmarks.Case{N: 1 << 16}
	var keep string
	run := &cobra.Command{
		Use:   "run JOB",
		Short: "Measure a job kind on synthetic data",
		Long: `Runs the benchmark case of a job kind once and prints what it cost: seconds, CPU
of all parties together, bytes, rounds, peak memory, and the same run's
yardstick. All parties are in this process, unless --processes. --net none is an
in-memory pipe; lan and wan are gRPC with TLS over a shaped loopback link.
With --csv the files are made before the clock starts, and what the parties have
written is compared row by row after it stops.`,
		Example: `  yinqiao bench run psi.ecdh.v1 --n 65536
  yinqiao bench run psi.rr22.v1 --n 10M --csv --processes
  yinqiao bench run mpc.aggregate.v1 --n 4096 --parties 3
  yinqiao bench run mpc.aggregate.v1 --n 1M --cells 400 --measures 8 --csv
  yinqiao bench run fl.logit.v1 --n 30000 --net wan --json`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			def, ok := c.registry.Lookup(args[0])
			if !ok {
				return usagef("no job kind %s: there are %s", args[0], strings.Join(c.registry.Names(), ", "))
			}
			if err := checkNet(bc.Net); err != nil {
				return err
			}
			if keep != "" {
				if _, err := os.Stat(keep); err == nil {
					return fmt.Errorf("--keep wants a new folder, and %s exists", keep)
				}
				bc.Dir = keep
			}
			show := ui.NewProgress(c.err, c.json)
			begin := time.Now()
			bc.Progress = func(stage string, done, total int64) {
				if time.Since(begin) > quietFor {
					show.Update(stage, done, total)
				}
			}
			r, err := benchmarks.Run(cmd.Context(), def, bc)
			show.Close()
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(r)
			}
			c.printReport(r, def.BenchStatistics != nil)
			return nil
		},
	}
	f := run.Flags()
	f.Var((*sizeFlag)(&bc.N), "n", "rows a party: 65536, 2^16, 1e6 or 10M")
	f.StringVar(&bc.Net, "net", "none", "none, lan or wan")
	benchFlags(run, &bc)
	f.StringVar(&keep, "keep", "", "leave the files of the run in this new folder")
	f.BoolVar(&c.json, "json", false, "print one JSON object on standard output")
	return run
}

func (c *cli) printJSON(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s\n", b)
	return err
}

// printReport shows what a run cost. Of statistics n is the number of counters,
// unless the run has cells, and no party's rows are told.
func (c *cli) printReport(r benchmarks.Report, statistics bool) {
	t := ui.NewTable("job", r.Job)
	what, unit := "rows a party", "row"
	if statistics && r.Cells == 0 {
		what, unit = "counters", "counter"
	}
	rows := fmt.Sprint(r.N)
	if r.M != 0 {
		rows += fmt.Sprintf(", %d at each other party", r.M)
	}
	where := "in this process"
	if r.Processes {
		where = "a process each"
	}
	if r.Cells > 0 {
		rows += fmt.Sprintf(" over %d cells", r.Cells)
	}
	t.Add(what, rows)
	t.Add("parties", fmt.Sprintf("%d, %s", r.Parties, where))
	t.Add("link", r.Net)
	if r.CSV {
		t.Add("on the clock", "CSV in and CSV out")
	}
	if r.Warm {
		t.Add("cache", "warm: the second of two runs")
	}
	t.Add("seconds", fmt.Sprintf("%.2f", r.Seconds))
	t.Add("CPU seconds", fmt.Sprintf("%.2f, all parties", r.CPUSeconds))
	t.Add("exchanged", fmt.Sprintf("%s, %.1f bytes a %s", ui.Bytes(r.Bytes), r.BytesPerRow, unit))
	t.Add("rounds", fmt.Sprint(r.Rounds))
	if r.Processes {
		t.Add("peak memory", ui.Bytes(r.PeakRSSBytes)+", the party with most")
	} else {
		t.Add("peak memory", ui.Bytes(r.PeakRSSBytes)+", all parties")
	}
	t.Add("rows of the result", fmt.Sprint(r.ResultRows))
	if r.Baseline.Name != "" {
		t.Add("yardstick", fmt.Sprintf("%s: %.2f s, %.2f CPU s", r.Baseline.Name, r.Baseline.Seconds, r.Baseline.CPUSeconds))
		if r.Baseline.CPUSeconds > 0 {
			t.Add("CPU against it", fmt.Sprintf("%.3f", r.CPUSeconds/r.Baseline.CPUSeconds))
		}
	}
	for _, p := range r.PerParty {
		text := fmt.Sprintf("%.2f s", p.Seconds)
		if !statistics {
			text = fmt.Sprintf("%d rows, %s", p.Rows, text)
		}
		if r.CSV {
			text += fmt.Sprintf(" (read %.2f, job %.2f, write %.2f)", p.ReadSeconds, p.JobSeconds, p.WriteSeconds)
		}
		if r.Processes {
			text += fmt.Sprintf(", %.2f CPU s, %s of memory", p.CPUSeconds, ui.Bytes(p.PeakRSSBytes))
		}
		t.Add(fmt.Sprintf("%s, %s", p.Party, p.Role), fmt.Sprintf("%s, sent %s", text, ui.Bytes(p.BytesSent)))
	}
	t.Print(c.out)
}

// benchPartyCommand is the process that --processes starts for each party.
func (c *cli) benchPartyCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "party",
		Short:  "Be one party of a benchmark, on orders from standard input",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return benchmarks.ServeParty(cmd.Context(), c.registry.Lookup, c.in, c.out, func() { os.Exit(exitFailed) })
		},
	}
}
