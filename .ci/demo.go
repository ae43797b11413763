// This program reads what the demo printed with --json and fails unless the
// numbers are there and as they should be: the joint model clearly better than
// the bank's own, and as good as one on pooled data.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
)

type outcome struct {
	Job     string
	State   string
	Seconds float64
	Bytes   int64
	Parties []struct {
		ID   string
		Rows int64
	}
	CommonRows int64 `json:"common_rows"`
	Grant      struct {
		ID       string
		UsesLeft *int64 `json:"uses_left"`
	}
	Result struct {
		AUC, KS map[string]float64
	}
	Receipt struct {
		Digest string
		Logs   []struct {
			Party string
			Index *uint64
		}
	}
}

func main() {
	var o outcome
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		fmt.Fprintln(os.Stderr, "demo: its output is not one JSON object:", err)
		os.Exit(1)
	}
	faults := 0
	must := func(ok bool, format string, a ...any) {
		if !ok {
			faults++
			fmt.Fprintf(os.Stderr, "demo: "+format+"\n", a...)
		}
	}
	must(o.State == "done" && o.Job != "", "job %q is %q", o.Job, o.State)
	must(o.Seconds > 0 && o.Seconds < 90, "took %.1f s", o.Seconds)
	must(o.Bytes > 0, "exchanged %d bytes", o.Bytes)
	must(len(o.Parties) == 2 && o.CommonRows > 0, "%d parties, %d rows in common", len(o.Parties), o.CommonRows)
	for _, p := range o.Parties {
		must(p.ID != "" && p.Rows > o.CommonRows, "party %q has %d rows, %d in common", p.ID, p.Rows, o.CommonRows)
	}
	must(o.Grant.ID != "" && o.Grant.UsesLeft != nil && *o.Grant.UsesLeft >= 0, "grant %q", o.Grant.ID)
	for _, name := range []string{"bank", "joint", "pooled"} {
		must(o.Result.AUC[name] > 0.5 && o.Result.AUC[name] < 1, "AUC %s is %v", name, o.Result.AUC[name])
		must(o.Result.KS[name] > 0 && o.Result.KS[name] < 1, "KS %s is %v", name, o.Result.KS[name])
	}
	bank, joint, pooled := o.Result.AUC["bank"], o.Result.AUC["joint"], o.Result.AUC["pooled"]
	must(joint >= bank+0.02, "AUC joint %.4f, bank %.4f", joint, bank)
	must(math.Abs(joint-pooled) <= 0.003, "AUC joint %.4f, pooled %.4f", joint, pooled)
	must(len(o.Receipt.Digest) == 64 && len(o.Receipt.Logs) == 2, "receipt %q in %d logs", o.Receipt.Digest, len(o.Receipt.Logs))
	for _, l := range o.Receipt.Logs {
		must(l.Party != "" && l.Index != nil, "receipt in the log of %q has no index", l.Party)
	}
	if faults > 0 {
		os.Exit(1)
	}
	fmt.Printf("AUC bank %.4f, joint %.4f, pooled %.4f; %d rows in common, %d bytes, %.1f s\n",
		bank, joint, pooled, o.CommonRows, o.Bytes, o.Seconds)
}
