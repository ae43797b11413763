package app

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/yinqiao/yinqiao/app/ui"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/align"
)

// print is the report for people.
func (r *scenarioRun) print(w io.Writer, o *outcome) {
	fmt.Fprintf(w, "\n%s %s in %.1f s, %s exchanged\n", o.Job, o.State, o.Seconds, ui.Bytes(o.Bytes))
	if o.Choice != "" {
		fmt.Fprintf(w, "ran as %s (%s)\n", o.Kind, o.Choice)
	}
	partyTable(o).Print(w)
	if _, aligned := r.view.GetCounts()[job.CountCommon]; aligned {
		fmt.Fprintf(w, "rows in common   %d\n", o.CommonRows)
	}
	if joined, ok := r.view.GetCounts()[align.CountJoined]; ok && joined != o.CommonRows {
		fmt.Fprintf(w, "rows of the join %d\n", joined)
	}
	printResult(w, o.Result)
	for _, st := range r.tables {
		fmt.Fprintf(w, "\n%s receives table %s\n", st.party, st.name)
		t := ui.NewTable(st.lines[0]...)
		for _, line := range st.lines[1:] {
			t.Add(line...)
		}
		t.Print(w)
		if st.more {
			fmt.Fprintln(w, "…")
		}
	}
	if len(r.tables) > 0 {
		fmt.Fprintln(w)
	}
	if ps := r.opened(); len(ps) > 0 {
		fmt.Fprintf(w, "opened by the grant   %s\n", strings.Join(ps, ", "))
	}
	fmt.Fprintf(w, "grant    %s, %d uses left\n", o.Grant.ID, o.Grant.UsesLeft)
	fmt.Fprintf(w, "receipt  %s, the same in %d logs, each verified offline\n", o.Receipt.Digest, len(o.Receipt.Logs))
	for _, f := range r.files {
		fmt.Fprintf(w, "files    %s: %s\n", f[0], strings.Join(f[1:], ", "))
	}
	if r.scenario.About != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(r.scenario.About))
	}
}

// partyTable is what each party put in, and where its receipt stands. Kinds
// whose receipts tell nobody's rows have no column of them.
func partyTable(o *outcome) *ui.Table {
	told := slices.ContainsFunc(o.Parties, func(p outcomeParty) bool { return p.Rows > 0 })
	head := []string{"party", "rows", "receipt in its log at"}
	if !told {
		head = slices.Delete(head, 1, 2)
	}
	t := ui.NewTable(head...)
	for i, p := range o.Parties {
		cells := []string{p.ID, fmt.Sprint(p.Rows), fmt.Sprintf("index %d", o.Receipt.Logs[i].Index)}
		if !told {
			cells = slices.Delete(cells, 1, 2)
		}
		t.Add(cells...)
	}
	return t
}

// opened lists what the grant allows to be opened.
func (r *scenarioRun) opened() []string {
	var ps []string
	for _, k := range r.grant.GetRequest().GetComputations() {
		ps = append(ps, k.GetPermissions()...)
	}
	return ps
}

// printResult shows maps of numbers as one table, and other values by name.
func printResult(w io.Writer, result map[string]any) {
	var columns []string
	for _, name := range slices.Sorted(maps.Keys(result)) {
		if m, ok := result[name].(map[string]any); ok {
			for _, k := range slices.Sorted(maps.Keys(m)) {
				if _, ok := number(m[k]); ok && !slices.Contains(columns, k) {
					columns = append(columns, k)
				}
			}
		}
	}
	if len(columns) > 0 {
		t := ui.NewTable(append([]string{""}, columns...)...)
		for _, name := range slices.Sorted(maps.Keys(result)) {
			m, ok := result[name].(map[string]any)
			if !ok {
				continue
			}
			line := []string{strings.ToUpper(name)}
			for _, k := range columns {
				cell := ""
				if f, ok := number(m[k]); ok {
					cell = strconv.FormatFloat(f, 'f', 4, 64)
				}
				line = append(line, cell)
			}
			t.Add(line...)
		}
		t.Print(w)
	}
	for _, name := range slices.Sorted(maps.Keys(result)) {
		if _, ok := result[name].(map[string]any); !ok {
			fmt.Fprintf(w, "%-16s %v\n", name, result[name])
		}
	}
}
