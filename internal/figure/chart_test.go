package figure

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/table"
)

// drawn is an SVG taken apart.
type drawn struct {
	texts    []string                       // what people read
	title    string                         // of the picture
	desc     string                         // of the picture
	marks    map[string]int                 // rects by class
	rects    map[string][]map[string]string // their attributes
	tooltips []string
	width    float64
	height   float64
}

// parse holds an SVG to what every picture of this package keeps: well-formed,
// with nothing that runs or is fetched, and every number finite.
func parse(t testing.TB, svg []byte) drawn {
	t.Helper()
	d := drawn{marks: map[string]int{}, rects: map[string][]map[string]string{}}
	dec := xml.NewDecoder(bytes.NewReader(svg))
	var path []string
	var text strings.Builder
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return d
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%.2000s", err, svg)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			name := tok.Name.Local
			if !slices.Contains([]string{"svg", "title", "desc", "defs", "pattern", "rect", "line", "text"}, name) {
				t.Fatalf("a picture with <%s>", name)
			}
			attrs := map[string]string{}
			for _, a := range tok.Attr {
				attrs[a.Name.Local] = a.Value
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Fatalf("<%s %s=%q>", name, a.Name.Local, a.Value)
				}
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" || a.Name.Local == "style" {
					t.Fatalf("<%s %s>", name, a.Name.Local)
				}
			}
			switch {
			case name == "svg":
				d.width, d.height = number(t, attrs["width"]), number(t, attrs["height"])
			case name == "rect" && attrs["class"] != "":
				d.marks[attrs["class"]]++
				d.rects[attrs["class"]] = append(d.rects[attrs["class"]], attrs)
				x, y, w, h := number(t, attrs["x"]), number(t, attrs["y"]), number(t, attrs["width"]), number(t, attrs["height"])
				if w < 0 || h < 0 || x < 0 || y < 0 || x+w > d.width+0.1 || y+h > d.height+0.1 {
					t.Fatalf("a mark outside of the picture: %v of %v by %v", attrs, d.width, d.height)
				}
			}
			path = append(path, name)
			text.Reset()
		case xml.CharData:
			text.Write(tok)
		case xml.EndElement:
			switch name := path[len(path)-1]; {
			case name == "text":
				d.texts = append(d.texts, text.String())
			case name == "desc":
				d.desc = text.String()
			case name == "title" && len(path) == 2:
				d.title = text.String()
			case name == "title":
				d.tooltips = append(d.tooltips, text.String())
			}
			path = path[:len(path)-1]
			text.Reset()
		}
	}
}

func number(t testing.TB, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatalf("%q is no number", s)
	}
	return v
}

func draw(t testing.TB, src table.Source, fig job.Figure) drawn {
	t.Helper()
	var one, two bytes.Buffer
	for _, b := range []*bytes.Buffer{&one, &two} {
		if ok, err := Chart(ctx, b, src, fig); err != nil || !ok {
			t.Fatalf("no chart: %v, %v", ok, err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Fatal("the same table gives other pictures")
	}
	return parse(t, one.Bytes())
}

func byIndustry(title string) job.Figure {
	return job.Figure{Title: title, Categories: []string{"industry"}, Values: []string{"rate"}, Status: "status", Total: "all"}
}

func (d drawn) has(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !slices.Contains(d.texts, s) {
			t.Errorf("no text %q in %q", s, d.texts)
		}
	}
}

// TestBars: a bar for each number, none for the total, and a hatched room over
// the whole scale for what is suppressed.
func TestBars(t *testing.T) {
	for name, labels := range map[string][]string{
		"standing": {"A", "B", "男", "D", "E"},
		"lying":    {"Agriculture and forestry", "Mining <&> \"quarrying\"", "制造业制造业", "Wholesale trade", "Retail trade"},
	} {
		d := draw(t, rates(t,
			row{labels[0], "", 0.1, ""}, row{labels[1], "", 0.25, ""}, row{labels[2], "", 0, Suppressed},
			row{"all", "", 0.9375, ""}, row{labels[3], "", 0, "no data"}, row{labels[4], "", 0.05, ""},
		), byIndustry("Rates by industry 违约率"))
		if d.marks["bar"] != 3 || d.marks["suppressed"] != 1 || d.marks["blank"] != 1 || d.marks["key"] != 2 {
			t.Errorf("%s: marks %v", name, d.marks)
		}
		d.has(t, append(labels, "Rates by industry 违约率", "rate by industry", "industry", "0.10", "0.20", "suppressed / 不公布", "no value / 无值", "0.25")...)
		if d.title != "Rates by industry 违约率" || !strings.Contains(d.desc, "3 values from 0.05 to 0.25") || !strings.Contains(d.desc, "1 suppressed") {
			t.Errorf("%s: title %q, described as %q", name, d.title, d.desc)
		}
		for _, s := range append(append(d.texts, d.tooltips...), d.desc) {
			if strings.Contains(s, "0.93") || strings.Contains(s, "all") {
				t.Errorf("%s: the total is drawn: %q", name, s)
			}
			if strings.HasPrefix(s, labels[2]+":") && s != labels[2]+": suppressed / 不公布" {
				t.Errorf("%s: %q", name, s)
			}
		}
		// Bars are as long as their values, and the hatched room says nothing.
		along, across := "height", "width"
		if name == "lying" {
			along, across = across, along
		}
		bars, hatched := d.rects["bar"], d.rects["suppressed"][0]
		a, b := number(t, bars[0][along]), number(t, bars[1][along])
		if math.Abs(b/a-2.5) > 0.01 {
			t.Errorf("%s: bars of %v and %v for 0.1 and 0.25", name, a, b)
		}
		if !strings.Contains(hatched["fill"], "url(#suppressed)") || number(t, hatched[along]) < b || number(t, hatched[across]) <= number(t, bars[0][across]) {
			t.Errorf("%s: hatched %v beside bars %v", name, hatched, bars[0])
		}
	}
}

// TestNegativeBars: bars on both sides of zero begin there.
func TestNegativeBars(t *testing.T) {
	d := draw(t, rates(t, row{"Losses of all", "", -40, ""}, row{"Gains of everybody", "", 80, ""}), byIndustry(""))
	l, g := d.rects["bar"][0], d.rects["bar"][1]
	if end := number(t, l["x"]) + number(t, l["width"]); math.Abs(end-number(t, g["x"])) > 0.2 {
		t.Errorf("one bar ends at %v, the other begins at %v", end, g["x"])
	}
	d.has(t, "-40", "80", "0", "rate by industry")
}

// TestHeatMap: a cell for each number in its colour, hatched where suppressed,
// without the margins.
func TestHeatMap(t *testing.T) {
	d := draw(t, rates(t,
		row{"Mining", "2019", 0.1, ""}, row{"Mining", "2020", 0.3, ""}, row{"Mining", "all", 0.77, ""},
		row{"Trade", "2019", 0, Suppressed}, row{"Trade", "2020", 0.2, ""}, row{"Trade", "all", 0.66, ""},
		row{"Transport", "2019", 0.15, ""}, // 2020 is not in the table
		row{"all", "2019", 0.55, ""}, row{"all", "2020", 0.44, ""}, row{"all", "all", 0.5, ""},
	), byBoth("Rates"))
	if d.marks["cell"] != 4 || d.marks["suppressed"] != 1 || d.marks["blank"] != 1 || d.marks["key"] != rampSteps+2 {
		t.Errorf("marks %v", d.marks)
	}
	d.has(t, "Mining", "Trade", "Transport", "2019", "2020", "industry", "year", "Rates", "rate by industry and year", "0.10", "0.30", "suppressed / 不公布")
	if !slices.Contains(d.tooltips, "Mining, 2020: 0.3") || !slices.Contains(d.tooltips, "Trade, 2019: suppressed / 不公布") || !slices.Contains(d.tooltips, "Transport, 2020: no value / 无值") {
		t.Errorf("tooltips %q", d.tooltips)
	}
	for _, s := range append(append(d.texts, d.tooltips...), d.desc) {
		for _, total := range []string{"all", "0.77", "0.66", "0.55", "0.44", "0.5"} {
			if strings.HasPrefix(s, total) {
				t.Errorf("a total is drawn: %q", s)
			}
		}
	}
	fills := map[string]bool{}
	for _, c := range d.rects["cell"] {
		fills[c["fill"]] = true
	}
	if len(fills) != 4 {
		t.Errorf("colours %v of four values", fills)
	}
}

// grid is a table of r by c cells.
func gridOf(t testing.TB, r, c int, name string, value func(i, j int) float64) table.Source {
	var rows []row
	for i := range r {
		for j := range c {
			rows = append(rows, row{fmt.Sprintf("%s %d", name, i), fmt.Sprintf("%s %d", name, j), value(i, j), ""})
		}
	}
	return rates(t, rows...)
}

// TestBounds: the largest tables that fit, and those that do not.
func TestBounds(t *testing.T) {
	product := func(i, j int) float64 { return float64(i*j) - 100 }
	name := strings.Repeat("a name that is long ", 9)
	if d := draw(t, gridOf(t, maxCells, maxCells, name, product), byBoth(name)); d.marks["cell"] != maxCells*maxCells || d.width > 1600 || d.height > 1600 {
		t.Errorf("%d cells in %v by %v", d.marks["cell"], d.width, d.height)
	}
	if d := draw(t, gridOf(t, maxBars, 1, name, product), byIndustry(name)); d.marks["bar"] != maxBars {
		t.Errorf("%d bars", d.marks["bar"])
	}
	three := byBoth("")
	three.Categories = append(three.Categories, "status")
	three.Status = ""
	for what, c := range map[string]struct {
		src table.Source
		fig job.Figure
	}{
		"a row too many":    {gridOf(t, maxCells+1, 2, "", product), byBoth("")},
		"a column too many": {gridOf(t, 2, maxCells+1, "", product), byBoth("")},
		"a bar too many":    {gridOf(t, maxBars+1, 1, "", product), byIndustry("")},
		"a cell twice":      {gridOf(t, 2, 2, "", product), byIndustry("")},
		"no rows":           {rates(t), byBoth("")},
		"totals alone":      {rates(t, row{"all", "all", 1, ""}), byBoth("")},
		"all suppressed":    {rates(t, row{"a", "b", 1, Suppressed}), byBoth("")},
		"three categories":  {rates(t, row{"a", "b", 1, ""}), three},
		"no category":       {rates(t, row{"a", "b", 1, ""}), job.Figure{Values: []string{"rate"}}},
		"absurd numbers":    {rates(t, row{"a", "b", 1e200, ""}), byBoth("")},
	} {
		var b bytes.Buffer
		if ok, err := Chart(ctx, &b, c.src, c.fig); ok || err != nil || b.Len() != 0 {
			t.Errorf("%s: %v, %v, %d bytes", what, ok, err, b.Len())
		}
	}
}

// TestRounded: ticks are round, few, and around the values.
func TestRounded(t *testing.T) {
	for _, c := range []struct{ low, high float64 }{
		{0, 1},
		{0, 0.0314},
		{-3, 12},
		{0, 123456789},
		{5, 5},
		{0, 0},
		{-7, -7},
		{-1e100, 1e100},
		{1e-90, 2e-90},
		{0.999999999999, 1},
		{1e-300, 1e-299},
		{1e15, 1e15 + 1},
		{0, 5e-324},
	} {
		s, ticks := rounded(c.low, c.high, 6)
		if len(ticks) < 2 || len(ticks) > 15 {
			t.Errorf("%v to %v: ticks %v", c.low, c.high, ticks)
			continue
		}
		for _, v := range []float64{c.low, c.high} {
			if at := s.at(v); math.IsNaN(at) || at < -1e-6 || at > 1+1e-6 {
				t.Errorf("%v to %v: %v is at %v", c.low, c.high, v, at)
			}
		}
		texts := tickTexts(ticks)
		for i := range texts {
			if i > 0 && texts[i] == texts[i-1] && math.Abs(c.high) < 1e15 && c.high-c.low > 1e-9 {
				t.Errorf("%v to %v: ticks %v", c.low, c.high, texts)
			}
			if len(texts[i]) > 20 {
				t.Errorf("tick %q", texts[i])
			}
		}
	}
	_, ticks := rounded(0, 0.3, 6)
	if got := tickTexts(ticks); !slices.Equal(got, []string{"0.00", "0.05", "0.10", "0.15", "0.20", "0.25", "0.30"}) {
		t.Errorf("ticks %q", got)
	}
}

func TestShortened(t *testing.T) {
	for _, c := range []struct {
		numbers []float64
		want    []string
	}{
		{[]float64{0.21837, 0.02}, []string{"0.2184", "0.0200"}},
		{[]float64{0.1, -0.7, 0}, []string{"0.1", "-0.7", "0.0"}},
		{[]float64{1234567, 12, -1000}, []string{"1,234,567", "12", "-1,000"}},
		{[]float64{12345.678, 3.5}, []string{"12,346", "4"}},
		{[]float64{100, -0.00001}, []string{"100", "0"}},
		{[]float64{1.5e-12}, []string{"1.5e-12"}},
		{[]float64{3e20}, []string{"3e+20"}},
	} {
		var far float64
		for _, v := range c.numbers {
			far = max(far, math.Abs(v))
		}
		short := shortened(far, c.numbers)
		for i, v := range c.numbers {
			if got := short(v); got != c.want[i] {
				t.Errorf("%v in %v is written %q, want %q", v, c.numbers, got, c.want[i])
			}
		}
	}
}

func TestWrap(t *testing.T) {
	long := strings.Repeat("各行业违约率", 30)
	for _, s := range []string{"", "short", strings.Repeat("word ", 60), long, strings.Repeat("x", 500)} {
		lines := wrap(s, titleSize, 400, 3)
		if len(lines) > 3 {
			t.Errorf("%d lines", len(lines))
		}
		for _, l := range lines {
			if widthOf(l, titleSize) > 400 {
				t.Errorf("a line of %v pixels: %q", widthOf(l, titleSize), l)
			}
		}
	}
	if s := plain("a\tb\u202ec\x00d" + strings.Repeat("e", 500)); strings.ContainsAny(s, "\t\u202e\x00") || len([]rune(s)) > maxText+1 {
		t.Errorf("%q", s)
	}
}

// FuzzChart: any labels, titles and numbers make a well-formed picture, or none.
func FuzzChart(f *testing.F) {
	f.Add("a<b>&\x00\xff", "]]>--><script>", 1.0, -2.0, "status", true)
	f.Add("\u202e违约\u2028", "x\ny", 1e99, 1e-99, Suppressed, false)
	f.Add("", "all", 0.0, 5e-324, "", true)
	f.Fuzz(func(t *testing.T, a, b string, x, y float64, status string, both bool) {
		fig := byIndustry(b + a)
		if both {
			fig = byBoth(a + b)
		}
		src := rates(t, row{a, b, x, ""}, row{b, a, y, ""}, row{a + b, a + a, 1, status}, row{b + a + "2", a, y - x, ""})
		var buf bytes.Buffer
		ok, err := Chart(ctx, &buf, src, fig)
		if err != nil && !errors.Is(err, table.ErrNotFinite) {
			t.Fatal(err)
		}
		if ok {
			parse(t, buf.Bytes())
		} else if buf.Len() > 0 {
			t.Fatal("bytes of no chart")
		}
	})
}
