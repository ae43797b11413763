package figure

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/table"
)

// Bounds of what a chart shows: beyond them a table reads better.
const (
	maxBars  = 40
	maxCells = 60 // to each side of a heat map
)

// Suppressed is the text in a figure's status column where values are withheld.
const Suppressed = "suppressed"

// What the legend calls a cell without a number.
const (
	suppressedText = "suppressed / 不公布"
	blankText      = "no value / 无值"
)

// state is what is known of a cell. One that no row names is blank.
type state uint8

const (
	blank state = iota
	suppressed
	shown
)

type cell struct {
	state state
	value float64
}

// chart is what a picture shows of a table. Totals are left out: beside a total
// all other marks would be small.
type chart struct {
	title, value string
	categories   []string
	// labels of each category, in the order in which they first occur; without
	// a second category labels[1] is one blank label.
	labels    [2][]string
	cells     map[[2]int]cell
	low, high float64 // of what is shown
	count     [3]int  // of cells, by state
	// short writes a value beside a mark.
	short func(float64) string
}

// Chart draws the first column of fig's values as SVG: bars where one column
// names the cells, a heat map where two do. It reports false, and writes
// nothing, where the table's shape fits neither: more categories or too many
// cells, two rows for one cell, or no number at all.
//
// A suppressed cell is hatched, over all the room that its value might take:
// its mark has no length and no colour of a value. It holds at most 60 by 60
// cells and the picture, under 1 MiB but for very long labels.
func Chart(ctx context.Context, w io.Writer, src table.Source, fig job.Figure) (bool, error) {
	if err := Check(src.Schema(), fig); err != nil {
		return false, err
	}
	if len(fig.Categories) < 1 || len(fig.Categories) > 2 {
		return false, nil
	}
	c, err := readChart(ctx, src, fig)
	if err != nil || c == nil {
		return false, err
	}
	var svg []byte
	if len(c.categories) == 1 {
		svg = c.bars()
	} else {
		svg = c.heatMap()
	}
	if _, err := w.Write(svg); err != nil {
		return false, fmt.Errorf("figure: %w", err)
	}
	return true, nil
}

// readChart returns nil for a table that fits no chart. It stops reading where
// that shows.
func readChart(ctx context.Context, src table.Source, fig job.Figure) (*chart, error) {
	columns := append(append([]string{}, fig.Categories...), fig.Values[0])
	if fig.Status != "" {
		columns = append(columns, fig.Status)
	}
	sel, err := table.Select(src, columns)
	if err != nil {
		return nil, err
	}
	schema := sel.Schema()
	k := len(fig.Categories)
	c := &chart{value: plain(fig.Values[0]), cells: map[[2]int]cell{}, low: math.Inf(1), high: math.Inf(-1)}
	for _, name := range fig.Categories {
		c.categories = append(c.categories, plain(name))
	}
	if c.title = plain(fig.Title); c.title == "" {
		c.title = c.what()
	}
	most := maxCells
	if k == 1 {
		most = maxBars
		c.labels[1] = []string{""}
	}
	var places [2]map[string]int
	for i := range k {
		places[i] = map[string]int{}
	}
	for b, err := range sel.Batches(ctx) {
		if err != nil {
			return nil, err
		}
		if err := fits(b, schema); err != nil {
			return nil, err
		}
	rows:
		for r := range int(b.NumRows()) {
			var names [2]string
			for i := range k {
				if names[i] = label(b.Column(i), r); fig.Total != "" && names[i] == fig.Total {
					continue rows
				}
			}
			var at [2]int
			for i := range k {
				p, known := places[i][names[i]]
				if !known {
					if p = len(c.labels[i]); p == most {
						return nil, nil
					}
					places[i][strings.Clone(names[i])] = p // a batch's texts last as long as the batch
					shownName := plain(names[i])
					if shownName == "" {
						shownName = "–"
					}
					c.labels[i] = append(c.labels[i], shownName)
				}
				at[i] = p
			}
			if _, twice := c.cells[at]; twice {
				return nil, nil
			}
			v := cell{}
			if isSuppressed(b, r, schema.Index(fig.Status)) {
				v.state = suppressed
			} else if !b.Column(k).IsNull(r) {
				v = cell{shown, float(b.Column(k), r)}
				if math.IsNaN(v.value) || math.IsInf(v.value, 0) {
					return nil, fmt.Errorf("%w: column %s", table.ErrNotFinite, fig.Values[0])
				}
				if math.Abs(v.value) > hugest {
					return nil, nil
				}
				c.low, c.high = min(c.low, v.value), max(c.high, v.value)
			}
			c.cells[at] = v
			c.count[v.state]++
		}
	}
	if c.count[shown] == 0 {
		return nil, nil
	}
	var numbers []float64
	for _, v := range c.cells {
		if v.state == shown {
			numbers = append(numbers, v.value)
		}
	}
	c.short = shortened(max(math.Abs(c.low), math.Abs(c.high)), numbers)
	c.count[blank] += len(c.labels[0])*len(c.labels[1]) - len(c.cells)
	return c, nil
}

// label is the text of a category.
func label(a arrow.Array, r int) string {
	if a.IsNull(r) {
		return ""
	}
	if t, ok := a.(*array.String); ok {
		return t.Value(r)
	}
	return strconv.FormatInt(a.(*array.Int64).Value(r), 10)
}

func float(a arrow.Array, r int) float64 {
	if f, ok := a.(*array.Float64); ok {
		return f.Value(r)
	}
	return float64(a.(*array.Int64).Value(r))
}

// what says what is drawn: "rate by industry and year".
func (c *chart) what() string { return c.value + " by " + strings.Join(c.categories, " and ") }

// describe is the picture in words.
func (c *chart) describe(kind string) string {
	s := fmt.Sprintf("%s of %s: %d values from %s to %s", kind, c.what(), c.count[shown], c.short(c.low), c.short(c.high))
	if n := c.count[suppressed]; n > 0 {
		s += fmt.Sprintf("; %d suppressed (不公布)", n)
	}
	if n := c.count[blank]; n > 0 {
		s += fmt.Sprintf("; %d without a value (无值)", n)
	}
	return s + "."
}

// name is what a mark's tooltip says.
func (c *chart) name(row, col int) string {
	s := c.labels[0][row]
	if len(c.categories) == 2 {
		s += ", " + c.labels[1][col]
	}
	v := c.cells[[2]int{row, col}]
	switch v.state {
	case shown:
		return s + ": " + exact(v.value)
	case suppressed:
		return s + ": " + suppressedText
	}
	return s + ": " + blankText
}

// key is an entry of the legend.
type key struct{ paint, text string }

// keys are the legend's entries for what has no number.
func (c *chart) keys() []key {
	var ks []key
	if c.count[suppressed] > 0 {
		ks = append(ks, key{hatched, suppressedText})
	}
	if c.count[blank] > 0 {
		ks = append(ks, key{empty, blankText})
	}
	return ks
}

// empty is how a cell without a value looks.
const empty = `fill="#fff" stroke="#ccc" stroke-dasharray="2 2"`

const (
	keyHeight = 12
	keyWidth  = 22
	keyGap    = 20
	rampWide  = 200 // of a heat map's legend
)

func keysWidth(ks []key) float64 {
	var w float64
	for _, k := range ks {
		w += keyWidth + 6 + widthOf(k.text, fontSize) + keyGap
	}
	return w
}

// drawKeys draws the legend's entries from (x, y) to the right.
func (p *picture) drawKeys(x, y float64, ks []key) {
	for _, k := range ks {
		p.rect("key", x, y, keyWidth, keyHeight, k.paint, "")
		p.text(x+keyWidth+6, y+keyHeight-2, "start", fontSize, ink, k.text)
		x += keyWidth + 6 + widthOf(k.text, fontSize) + keyGap
	}
}

// head draws the title, and below it what is shown; it returns where the
// picture goes on.
func (c *chart) head(p *picture, width float64) float64 {
	y := 10.0
	for _, line := range wrap(c.title, titleSize, width-2*edge, 3) {
		y += 20
		fmt.Fprintf(p, `<text x="%d" y="%s" font-size="%d" font-weight="600" fill="%s">%s</text>`+"\n", edge, px(y), titleSize, black, escape(line))
	}
	if w := c.what(); w != c.title {
		y += 20
		p.text(edge, y, "start", fontSize, grey, clip(w, fontSize, width-2*edge))
	}
	return y + 14
}
