package figure

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// Sizes, in pixels.
const (
	fontSize  = 12
	smallSize = 11
	titleSize = 16
	edge      = 16 // around everything
)

// fonts has the faces of Chinese text by name: a viewer without fallback fonts
// of its own, such as a converter to PDF, finds one.
const fonts = `system-ui, 'Segoe UI', Helvetica, Arial, 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', 'Noto Sans SC', 'WenQuanYi Micro Hei', sans-serif`

// Colours of text and lines.
const (
	ink   = "#333"
	black = "#111"
	grey  = "#666"
	grid  = "#e3e3e3"
	axis  = "#888"
)

// picture is an SVG that is being drawn: first its marks, and at the end, when
// the size is known, what stands around them.
type picture struct{ bytes.Buffer }

// text draws s with its baseline at (x, y); anchor is start, middle or end.
func (p *picture) text(x, y float64, anchor string, size int, fill, s string) {
	fmt.Fprintf(p, `<text x="%s" y="%s"`, px(x), px(y))
	p.look(anchor, size, fill)
	fmt.Fprintf(p, ">%s</text>\n", escape(s))
}

// turned draws s turned about its end at (x, y), by degrees.
func (p *picture) turned(x, y, degrees float64, size int, fill, s string) {
	fmt.Fprintf(p, `<text transform="translate(%s %s) rotate(%s)"`, px(x), px(y), px(degrees))
	p.look("end", size, fill)
	fmt.Fprintf(p, ">%s</text>\n", escape(s))
}

func (p *picture) look(anchor string, size int, fill string) {
	if anchor != "start" {
		fmt.Fprintf(p, ` text-anchor="%s"`, anchor)
	}
	if size != fontSize {
		fmt.Fprintf(p, ` font-size="%d"`, size)
	}
	if fill != ink {
		fmt.Fprintf(p, ` fill="%s"`, fill)
	}
}

// rect draws a mark of a class, which says what it stands for, with its name as
// a tooltip.
func (p *picture) rect(class string, x, y, w, h float64, paint, name string) {
	fmt.Fprintf(p, `<rect class="%s" x="%s" y="%s" width="%s" height="%s" %s`, class, px(x), px(y), px(w), px(h), paint)
	if name == "" {
		p.WriteString("/>\n")
		return
	}
	fmt.Fprintf(p, "><title>%s</title></rect>\n", escape(name))
}

func (p *picture) line(x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(p, `<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="%s"/>`+"\n", px(x1), px(y1), px(x2), px(y2), colour)
}

// hatched is how what is suppressed looks.
const hatched = `fill="url(#suppressed)"`

const hatch = `<defs><pattern id="suppressed" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">` +
	`<rect width="6" height="6" fill="#f6f6f6"/><line x1="1" y1="0" x2="1" y2="6" stroke="#a3a3a3" stroke-width="1.5"/></pattern></defs>` + "\n"

// page returns the whole file.
func (p *picture) page(width, height float64, title, what string) []byte {
	var b bytes.Buffer
	w, h := px(math.Ceil(width)), px(math.Ceil(height))
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%s" height="%s" viewBox="0 0 %s %s" role="img" font-family="%s" font-size="%d" fill="%s">`+"\n", w, h, w, h, fonts, fontSize, ink)
	fmt.Fprintf(&b, "<title>%s</title>\n<desc>%s</desc>\n", escape(title), escape(what))
	b.WriteString(hatch)
	fmt.Fprintf(&b, `<rect width="%s" height="%s" fill="#fff"/>`+"\n", w, h)
	b.Write(p.Bytes())
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// px writes a place with a tenth of a pixel.
func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}

// maxText bounds any one text of a chart, in letters.
const maxText = 200

// plain is s as a chart shows it: on one line, and without what would turn the
// text around it.
func plain(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		switch {
		case unicode.IsControl(r), unicode.IsSpace(r):
			r = ' '
		case unicode.Is(unicode.Cf, r):
			continue
		}
		if n++; n > maxText {
			return strings.TrimSpace(b.String()) + "…"
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// letterWidth estimates the width of a letter at size 1.
func letterWidth(r rune) float64 {
	switch {
	case r >= 0x1100: // Chinese, Japanese and Korean, symbols, emoji: rather too wide than too narrow
		return 1
	case strings.ContainsRune("iIjl.,:;'|!()[] ", r):
		return 0.35
	case strings.ContainsRune("mwMW@%&", r):
		return 0.95
	case unicode.IsUpper(r):
		return 0.72
	}
	return 0.6
}

// widthOf estimates how wide s is, in pixels.
func widthOf(s string, size int) float64 {
	var w float64
	for _, r := range s {
		w += letterWidth(r)
	}
	return w * float64(size)
}

func widest(texts []string, size int) float64 {
	var w float64
	for _, s := range texts {
		w = max(w, widthOf(s, size))
	}
	return w
}

// clip shortens s to a width.
func clip(s string, size int, width float64) string {
	if widthOf(s, size) <= width {
		return s
	}
	room := width - widthOf("…", size)
	for i, r := range s {
		if room -= letterWidth(r) * float64(size); room < 0 {
			return strings.TrimSpace(s[:i]) + "…"
		}
	}
	return s
}

// wrap breaks s into at most so many lines of a width, at spaces where there
// are some.
func wrap(s string, size int, width float64, lines int) []string {
	var out []string
	for len(out) < lines-1 && widthOf(s, size) > width {
		room, last, cut := width, 0, 0
		for i, r := range s {
			if r == ' ' {
				last = i
			}
			if room -= letterWidth(r) * float64(size); room < 0 {
				cut = i
				break
			}
		}
		if last > 0 && last*2 > cut {
			cut = last
		}
		if cut == 0 {
			break
		}
		out, s = append(out, strings.TrimSpace(s[:cut])), strings.TrimSpace(s[cut:])
	}
	return append(out, clip(s, size, width))
}
