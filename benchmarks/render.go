package benchmarks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/yinqiao/yinqiao/benchmarks/link"
	"github.com/yinqiao/yinqiao/benchmarks/plot"
)

// series names the protocol of a case, and what sets it apart from the same
// protocol measured otherwise.
func (c SweepCase) series() string {
	s := c.Job
	if c.M != 0 {
		s += ", against " + SizeLabel(c.M)
	}
	for _, v := range []struct {
		on   bool
		text string
	}{{c.CSV, "CSV"}, {c.Warm, "warm"}, {c.Processes, "processes"}} {
		if v.on {
			s += ", " + v.text
		}
	}
	return s
}

// rows gives the rows of the first party, and of the others where they have
// another number.
func (c SweepCase) rows() string {
	other := c.M
	if len(c.Runs) > 0 {
		for _, p := range c.Runs[0].PerParty {
			if other == 0 && p.Rows > 0 && p.Rows != c.N {
				other = p.Rows
			}
		}
	}
	if other != 0 {
		return SizeLabel(c.N) + " + " + SizeLabel(other)
	}
	return SizeLabel(c.N)
}

// digits writes v with three significant digits, without an exponent.
func digits(v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	places := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	return strconv.FormatFloat(v, 'f', min(places, 6), 64)
}

// Table returns the report as a table of text: medians of the runs. Columns
// that nothing stands in are left out.
func (r *SweepReport) Table() (head []string, rows [][]string) {
	head = []string{
		"protocol", "rows", "link", "seconds", "min–max", "CPU s", "CPU µs/row", "to 2^16", "bytes/row", "rounds", "peak MB", "× yardstick", "note",
	}
	ratio := func(v float64) string {
		if v == 0 {
			return ""
		}
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	for _, c := range r.Cases {
		row := []string{c.series(), c.rows(), c.Net}
		if s := c.Summary; s != nil {
			row = append(
				row, digits(s.Seconds.Median), digits(s.Seconds.Min)+"–"+digits(s.Seconds.Max), digits(s.CPUSeconds.Median),
				digits(s.CPUPerRow*1e6), ratio(s.ToReference), digits(s.BytesPerRow), strconv.FormatInt(s.Rounds, 10),
				digits(float64(s.PeakRSSBytes)/1e6), ratio(s.BaselineRatio),
			)
		} else {
			row = append(row, slices.Repeat([]string{""}, 9)...)
		}
		note := c.Note
		if c.State != StateMeasured {
			note = string(c.State) + ": " + note
		}
		rows = append(rows, append(row, note))
	}
	for col := len(head) - 1; col > 2 && len(rows) > 0; col-- {
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[col] != "" }) {
			head = slices.Delete(head, col, col+1)
			for i := range rows {
				rows[i] = slices.Delete(rows[i], col, col+1)
			}
		}
	}
	return head, rows
}

// linearFrom and linearTo bound the sizes over which cost is to be linear,
// within linearWithin.
const (
	linearFrom, linearTo = referenceRows, 1 << 24
	linearWithin         = 0.2
)

// Linearity says of each protocol how its CPU time a row moves from 2^16 rows
// up to 2^24, over in-memory pipes where these were measured: the shaping of
// the other networks costs CPU time too.
func (r *SweepReport) Linearity() []string {
	type reach struct {
		low, high float64
		to        int64
	}
	var names []string
	reaches := make(map[string]*reach)
	for _, c := range r.Cases {
		if c.Summary == nil || c.Summary.ToReference == 0 || c.N <= linearFrom || c.N > linearTo || c.Net != string(link.None) {
			continue
		}
		v := c.Summary.ToReference
		at := reaches[c.series()]
		if at == nil {
			names = append(names, c.series())
			at = &reach{low: v, high: v}
			reaches[c.series()] = at
		}
		at.low, at.high, at.to = min(at.low, v), max(at.high, v), max(at.to, c.N)
	}
	var lines []string
	for _, name := range names {
		at := reaches[name]
		verdict := "within 20 %"
		if at.low < 1-linearWithin || at.high > 1+linearWithin {
			verdict = "not within 20 %"
		}
		lines = append(lines, fmt.Sprintf("%s: CPU time a row from 2^16 to %s is %.2f to %.2f of that at 2^16: %s", name, SizeLabel(at.to), at.low, at.high, verdict))
	}
	return lines
}

// about says in one line where the figures come from.
func (r *SweepReport) about() string {
	m := r.Machine
	parts := []string{strings.TrimSpace(m.CPU), fmt.Sprintf("%d cores", m.Cores), m.OS + "/" + m.Arch, m.Go, r.Date.Format(time.DateOnly)}
	if m.Version != "" {
		version := "yinqiao " + m.Version
		if m.Commit != "" {
			hash, changed := strings.CutSuffix(m.Commit, "+")
			version += " at " + hash[:min(len(hash), 12)]
			if changed {
				version += " with changes"
			}
		}
		parts = append(parts, version)
	}
	if parts[0] == "" {
		parts = parts[1:]
	}
	return strings.Join(parts, " · ")
}

// Markdown returns the report as a page that shows table and plots.
func (r *SweepReport) Markdown(plots []string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s: measured\n\n%s. Medians of up to %d runs, all parties on this machine.\n\n", r.Name, r.about(), r.RunsWanted)
	for _, name := range slices.Sorted(maps.Keys(r.Links)) {
		l := r.Links[name]
		if l.BitsPerSecond > 0 {
			fmt.Fprintf(&b, "- `%s`: %d Mbit/s, %s ms round trip; %s\n", name, l.BitsPerSecond/1e6, strconv.FormatFloat(l.RoundTripSeconds*1e3, 'g', 4, 64), l.Carrier)
		} else {
			fmt.Fprintf(&b, "- `%s`: %s\n", name, l.Carrier)
		}
	}
	if r.Interrupted {
		b.WriteString("\nThe sweep was interrupted.\n")
	}
	head, rows := r.Table()
	inCell := strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ")
	line := func(cells []string) {
		b.WriteString("|")
		for _, c := range cells {
			b.WriteString(" " + inCell.Replace(c) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	line(head)
	for _, h := range head {
		switch h {
		case "protocol", "link", "min–max", "note":
			b.WriteString("|---")
		default:
			b.WriteString("|--:")
		}
	}
	b.WriteString("|\n")
	for _, row := range rows {
		line(row)
	}
	b.WriteString("\nCPU time is of all parties together; peak memory too, where they share a process, and of the party with most where each has its own.\n" +
		"A row is one of the first party. CSV: from CSV files to CSV files; processes: a process for each party; warm: the second run on one cache;\n" +
		"against: rows of each other party. The yardstick runs in the same process, after the case; its time is CPU time.\n")
	if lines := r.Linearity(); len(lines) > 0 {
		b.WriteString("\n")
		for _, l := range lines {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	for _, p := range plots {
		fmt.Fprintf(&b, "\n![%s](%s)\n", strings.TrimSuffix(p, ".svg"), p)
	}
	return b.Bytes()
}

// Plots draws the report: wall clock against rows for each network, bytes a row
// and CPU time a row over the first one. The keys are file names.
func (r *SweepReport) Plots() map[string][]byte {
	var series, nets []string
	for _, c := range r.Cases {
		if !slices.Contains(series, c.series()) {
			series = append(series, c.series())
		}
		if c.Summary != nil && !slices.Contains(nets, c.Net) {
			nets = append(nets, c.Net)
		}
	}
	slices.Sort(series) // the same looks in every plot, and in the next sweep
	draw := func(title, y, net string, of func(*Summary) Spread) []byte {
		chart := plot.Chart{Title: title, Note: r.about(), X: "rows a party", Y: y}
		for _, name := range series {
			s := plot.Series{Name: name}
			for _, c := range r.Cases {
				if c.series() == name && c.Net == net && c.Summary != nil {
					v := of(c.Summary)
					s.Points = append(s.Points, plot.Point{X: float64(c.N), Y: v.Median, Low: v.Min, High: v.Max})
				}
			}
			slices.SortStableFunc(s.Points, func(a, b plot.Point) int { return int(math.Copysign(1, a.X-b.X)) })
			chart.Series = append(chart.Series, s)
		}
		return chart.SVG()
	}
	plots := make(map[string][]byte)
	for _, net := range nets {
		plots["seconds-"+fileName(net)+".svg"] = draw(r.Name+": wall clock, link "+net, "seconds", net, func(s *Summary) Spread { return s.Seconds })
	}
	if len(nets) > 0 {
		plots["bytes.svg"] = draw(r.Name+": bytes exchanged", "bytes a row", nets[0], func(s *Summary) Spread { return Spread{Median: s.BytesPerRow} })
		plots["cpu.svg"] = draw(r.Name+": CPU time of all parties, link "+nets[0], "µs a row", nets[0], func(s *Summary) Spread {
			return Spread{Median: s.CPUPerRow * 1e6}
		})
	}
	return plots
}

// fileName keeps of a name what is safe in one.
func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, s)
}

// WriteFiles writes sweep.json, table.md and the plots into dir, which it makes,
// in place of what has these names, and returns the names.
func (r *SweepReport) WriteFiles(dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return nil, err
	}
	files := r.Plots()
	plots := slices.SortedFunc(maps.Keys(files), func(a, b string) int { return -strings.Compare(a, b) })
	files["table.md"] = r.Markdown(plots)
	files["sweep.json"] = append(raw, '\n')
	names := append([]string{"sweep.json", "table.md"}, plots...)
	for _, name := range names {
		if err := replaceFile(filepath.Join(dir, name), files[name]); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// replaceFile leaves either the old content or the new.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if end := f.Close(); err == nil {
		err = end
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
