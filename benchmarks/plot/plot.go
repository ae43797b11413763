// Package plot draws figures against sizes as SVG: logarithmic axes, a line and
// a marker for each series, a legend. Colours are Okabe and Ito's, which people
// with any colour vision can tell apart, and each series has a marker and dashes
// of its own, so that the picture survives without colour. Text stays text.
package plot

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Chart is one picture.
type Chart struct {
	Title string
	Note  string // a line below the title; may be blank
	X, Y  string // what the axes show, with units
	// Series are drawn in this order. The place of a series in the list decides
	// its looks: keep it the same over charts that belong together, also where a
	// series has no point.
	Series []Series
}

// Series is a line.
type Series struct {
	Name   string
	Points []Point // from left to right
}

// Point is a figure, with the least and greatest that were seen where these
// differ. Points whose X or Y is not a positive number of sane size are left
// out.
type Point struct{ X, Y, Low, High float64 }

// Okabe and Ito's colours, those that stand out on white first.
var colours = []string{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"}

var dashes = []string{"", "7 3", "2 3", "8 3 2 3"}

// Measures, in pixels.
const (
	plotWidth, plotHeight = 520, 340
	left, top, bottom     = 70, 64, 58
	legendGap, legendLine = 22, 20
	charWidth             = 6.7 // of a legend's letter, on average
	marker                = 4
)

func (p Point) drawable() bool {
	return sane(p.X) && sane(p.Y)
}

func (p Point) spread() bool {
	return sane(p.Low) && sane(p.High) && p.Low < p.High
}

// sane reports whether v is a figure that anybody could have measured: axes
// are computed from it.
func sane(v float64) bool { return v > 1e-100 && v < 1e100 }

// axis maps a logarithm to pixels.
type axis struct{ low, high, from, to float64 }

func (a axis) at(v float64) float64 {
	return a.from + (v-a.low)/(a.high-a.low)*(a.to-a.from)
}

// SVG draws the chart.
func (c Chart) SVG() []byte {
	x := axis{low: math.Inf(1), high: math.Inf(-1), from: left, to: left + plotWidth}
	y := axis{low: math.Inf(1), high: math.Inf(-1), from: top + plotHeight, to: top}
	var drawn []int
	longest := 0
	for i, s := range c.Series {
		any := false
		for _, p := range s.Points {
			if !p.drawable() {
				continue
			}
			any = true
			x.low, x.high = min(x.low, math.Log2(p.X)), max(x.high, math.Log2(p.X))
			y.low, y.high = min(y.low, math.Log10(p.Y)), max(y.high, math.Log10(p.Y))
			if p.spread() {
				y.low, y.high = min(y.low, math.Log10(p.Low)), max(y.high, math.Log10(p.High))
			}
		}
		if any {
			drawn = append(drawn, i)
			longest = max(longest, len([]rune(s.Name)))
		}
	}
	if len(drawn) == 0 {
		x.low, x.high, y.low, y.high = 0, 1, 0, 1
	}
	x.low, x.high = x.low-0.35, x.high+0.35
	pad := max(0.06*(y.high-y.low), 0.05)
	y.low, y.high = y.low-pad, y.high+pad

	width := left + plotWidth + legendGap + 34 + int(float64(longest)*charWidth) + 16
	if len(drawn) == 0 {
		width = left + plotWidth + legendGap
	}
	height := top + plotHeight + bottom
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12" fill="#333">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", escape(c.Title))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%d" y="26" font-size="16" font-weight="600" fill="#111">%s</text>`+"\n", left, escape(c.Title))
	if c.Note != "" {
		fmt.Fprintf(&b, `<text x="%d" y="46" fill="#666">%s</text>`+"\n", left, escape(c.Note))
	}
	c.frame(&b, x, y)
	for _, i := range drawn {
		c.Series[i].draw(&b, i, x, y)
	}
	for line, i := range drawn {
		lx, ly := float64(left+plotWidth+legendGap), float64(top+10+line*legendLine)
		fmt.Fprintf(&b, `<g stroke="%s" fill="%s">`, colour(i), colour(i))
		fmt.Fprintf(&b, `<line x1="%s" y1="%s" x2="%s" y2="%s" stroke-width="2"%s/>`, px(lx), px(ly), px(lx+28), px(ly), dash(i))
		b.WriteString(mark(i, lx+14, ly))
		fmt.Fprintf(&b, `</g><text x="%s" y="%s">%s</text>`+"\n", px(lx+34), px(ly+4), escape(c.Series[i].Name))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// frame draws axes, grid and ticks: powers of two to the right, powers of ten
// (with their double and fivefold where there is room) upwards.
func (c Chart) frame(b *bytes.Buffer, x, y axis) {
	base := float64(top + plotHeight)
	b.WriteString(`<g stroke="#e3e3e3" stroke-width="1">` + "\n")
	xs, ys := powersOfTwo(x), decades(y)
	for _, k := range xs {
		fmt.Fprintf(b, `<line x1="%s" y1="%d" x2="%s" y2="%s"/>`+"\n", px(x.at(float64(k))), top, px(x.at(float64(k))), px(base))
	}
	for _, v := range ys {
		fmt.Fprintf(b, `<line x1="%d" y1="%s" x2="%d" y2="%s"/>`+"\n", left, px(y.at(math.Log10(v))), left+plotWidth, px(y.at(math.Log10(v))))
	}
	b.WriteString("</g>\n")
	fmt.Fprintf(b, `<path d="M%d %dV%sH%d" fill="none" stroke="#888"/>`+"\n", left, top, px(base), left+plotWidth)
	for _, k := range xs {
		fmt.Fprintf(b, `<text x="%s" y="%s" text-anchor="middle">2<tspan dy="-5" font-size="9">%d</tspan></text>`+"\n", px(x.at(float64(k))), px(base+20), k)
	}
	for _, v := range ys {
		fmt.Fprintf(b, `<text x="%d" y="%s" text-anchor="end">%s</text>`+"\n", left-8, px(y.at(math.Log10(v))+4), strconv.FormatFloat(v, 'f', -1, 64))
	}
	fmt.Fprintf(b, `<text x="%d" y="%s" text-anchor="middle">%s</text>`+"\n", left+plotWidth/2, px(base+44), escape(c.X))
	fmt.Fprintf(b, `<text transform="translate(18 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", top+plotHeight/2, escape(c.Y))
}

func (s Series) draw(b *bytes.Buffer, i int, x, y axis) {
	fmt.Fprintf(b, `<g stroke="%s" fill="%s"><title>%s</title>`+"\n", colour(i), colour(i), escape(s.Name))
	var line strings.Builder
	for _, p := range s.Points {
		if !p.drawable() {
			continue
		}
		sep := " "
		if line.Len() == 0 {
			sep = ""
		}
		fmt.Fprintf(&line, "%s%s,%s", sep, px(x.at(math.Log2(p.X))), px(y.at(math.Log10(p.Y))))
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke-width="2" stroke-linejoin="round"%s/>`+"\n", line.String(), dash(i))
	for _, p := range s.Points {
		if !p.drawable() {
			continue
		}
		px0 := x.at(math.Log2(p.X))
		if p.spread() {
			fmt.Fprintf(b, `<line x1="%s" y1="%s" x2="%s" y2="%s" stroke-width="1"/>`, px(px0), px(y.at(math.Log10(p.Low))), px(px0), px(y.at(math.Log10(p.High))))
		}
		b.WriteString(mark(i, px0, y.at(math.Log10(p.Y))) + "\n")
	}
	b.WriteString("</g>\n")
}

func colour(i int) string { return colours[i%len(colours)] }

func dash(i int) string {
	d := dashes[i/len(colours)%len(dashes)]
	if d == "" {
		return ""
	}
	return ` stroke-dasharray="` + d + `"`
}

// mark is the marker of series i at a place.
func mark(i int, x, y float64) string {
	const r = marker
	switch i % 5 {
	case 1:
		return fmt.Sprintf(`<rect x="%s" y="%s" width="%d" height="%d"/>`, px(x-r), px(y-r), 2*r, 2*r)
	case 2:
		return fmt.Sprintf(`<path d="M%s %sl%d %dh-%dz"/>`, px(x), px(y-r-1), r+1, 2*r+1, 2*r+2)
	case 3:
		return fmt.Sprintf(`<path d="M%s %sl%d %dl-%d %dl-%d -%dz"/>`, px(x), px(y-r-1), r+1, r+1, r+1, r+1, r+1, r+1)
	case 4:
		return fmt.Sprintf(`<circle cx="%s" cy="%s" r="%d" fill="#fff" stroke-width="2"/>`, px(x), px(y), r)
	}
	return fmt.Sprintf(`<circle cx="%s" cy="%s" r="%d"/>`, px(x), px(y), r)
}

// powersOfTwo returns the exponents of the ticks, at most ten of them.
func powersOfTwo(a axis) []int {
	from, to := int(math.Ceil(a.low)), int(math.Floor(a.high))
	step := 1
	for (to-from)/step >= 10 {
		step++
	}
	var ks []int
	for k := from; k <= to; k += step {
		ks = append(ks, k)
	}
	return ks
}

// maxTicks is how many ticks an axis of powers of ten has at most.
const maxTicks = 10

// decades returns the values of the ticks of an axis of powers of ten, thinned
// out where it is long and filled up where it is short.
func decades(a axis) []float64 {
	within := func(v float64) bool { l := math.Log10(v); return l >= a.low && l <= a.high }
	for _, steps := range [][]float64{{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8}, {1, 1.5, 2, 3, 5, 7}, {1, 2, 5}, {1, 3}, {1}} {
		var vs []float64
		for k := math.Floor(a.low); k <= a.high && len(vs) <= maxTicks; k++ {
			for _, s := range steps {
				// The quotient of whole numbers prints as people write it.
				v := s * math.Pow(10, k)
				if k < 0 {
					v = s / math.Pow(10, -k)
				}
				if within(v) {
					vs = append(vs, v)
				}
			}
		}
		if len(vs) <= maxTicks {
			return vs
		}
	}
	var vs []float64
	step := math.Ceil((a.high - a.low) / maxTicks)
	for k := math.Ceil(a.low); k <= a.high; k += step {
		vs = append(vs, math.Pow(10, k))
	}
	return vs
}

// px writes a place with a tenth of a pixel.
func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}
