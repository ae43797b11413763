package app

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/yinqiao/yinqiao/app/ui"
	"github.com/yinqiao/yinqiao/benchmarks"
)

func (c *cli) benchCommand() *cobra.Command {
	var n int64
	var net string
	run := &cobra.Command{
		Use:   "run JOB",
		Short: "Measure a job kind on synthetic data, all parties in this process",
		Long: `Runs the benchmark case of a job kind once and prints what it cost: seconds, CPU
of all parties together, bytes, rounds, peak memory, and the same run's
yardstick. --net none is an in-memory pipe; lan and wan are gRPC with TLS over a
shaped loopback link.`,
		Example: `  yinqiao bench run psi.ecdh.v1 --n 65536
  yinqiao bench run fl.logit.v1 --n 30000 --net wan --json`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			def, ok := c.registry.Lookup(args[0])
			if !ok {
				return usagef("no job kind %s: there are %s", args[0], strings.Join(c.registry.Names(), ", "))
			}
			r, err := benchmarks.Run(cmd.Context(), def, n, net)
			if err != nil {
				return err
			}
			if c.json {
				b, err := json.Marshal(r)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.out, "%s\n", b)
				return nil
			}
			t := ui.NewTable("job", r.Job)
			t.Add("rows a party", fmt.Sprint(r.N))
			t.Add("parties", fmt.Sprintf("%d, in this process", r.Parties))
			t.Add("link", r.Net)
			t.Add("seconds", fmt.Sprintf("%.2f", r.Seconds))
			t.Add("CPU seconds", fmt.Sprintf("%.2f, all parties", r.CPUSeconds))
			t.Add("exchanged", fmt.Sprintf("%s, %.1f bytes a row", ui.Bytes(r.Bytes), r.BytesPerRow))
			t.Add("rounds", fmt.Sprint(r.Rounds))
			t.Add("peak memory", ui.Bytes(r.PeakRSSBytes)+", all parties")
			t.Add("rows in common", fmt.Sprint(r.ResultRows))
			if r.Baseline.Name != "" {
				t.Add("yardstick", fmt.Sprintf("%s: %.2f s, %.2f CPU s", r.Baseline.Name, r.Baseline.Seconds, r.Baseline.CPUSeconds))
				if r.Baseline.CPUSeconds > 0 {
					t.Add("CPU against it", fmt.Sprintf("%.3f", r.CPUSeconds/r.Baseline.CPUSeconds))
				}
			}
			t.Print(c.out)
			return nil
		},
	}
	run.Flags().Int64Var(&n, "n", 65536, "rows a party")
	run.Flags().StringVar(&net, "net", "none", "none, lan or wan")
	run.Flags().BoolVar(&c.json, "json", false, "print one JSON object on standard output")
	return group("bench", "Measure job kinds", run)
}
