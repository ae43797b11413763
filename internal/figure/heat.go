package figure

import "math"

// Bounds of a heat map's cells, in pixels.
const (
	mapWide, mapHigh      = 720, 600 // of all cells, where these would be larger
	leastCell             = 14
	mostCellWide          = 64
	mostCellHigh          = 28
	rowLabel, columnLabel = 220, 140
	rampSteps             = 40
	rampHigh              = 10
	turnedCell            = 18 // columns that are narrower have upright labels
	numberHigh            = 18 // rows that are lower have no numbers
	slope                 = 0.71
)

// heatMap draws the first category downwards and the second to the right.
func (c *chart) heatMap() []byte {
	rows, cols := c.labels[0], c.labels[1]
	wide := math.Floor(min(mostCellWide, max(leastCell, mapWide/float64(len(cols)))))
	if need := widest(cols, fontSize) + 8; need > wide && need*float64(len(cols)) <= mapWide {
		wide = math.Ceil(need) // labels that need not be turned read better
	}
	high := math.Floor(min(mostCellHigh, max(leastCell, mapHigh/float64(len(rows)))))

	colours := rising
	s, ticks := rounded(c.low, c.high, 4)
	if c.low < 0 && c.high > 0 {
		far := max(-c.low, c.high)
		colours = parting
		s, ticks = rounded(-far, far, 4)
	}
	texts := tickTexts(ticks)

	labels := make([]string, len(rows))
	for i, r := range rows {
		labels[i] = clip(r, fontSize, rowLabel)
	}
	heads := make([]string, len(cols))
	for i, h := range cols {
		heads[i] = clip(h, fontSize, columnLabel)
	}
	rowName := clip(c.categories[0], fontSize, rowLabel)
	long := widest(heads, fontSize)
	turn, headHigh, headLeft := 0.0, 18.0, 0.0
	headSize := fontSize
	switch {
	case long <= wide-4:
	case wide >= turnedCell:
		turn, headHigh = 45, long*slope+16
		headLeft = widthOf(heads[0], fontSize)*slope - wide/2
	default:
		headSize = smallSize
		turn, headHigh = 90, long+8
	}
	left := edge + max(widest(labels, fontSize)+8, widthOf(rowName, fontSize)+8, headLeft)
	right := left + wide*float64(len(cols))
	rampLeft := edge + widthOf(texts[0], smallSize)/2
	legend := rampLeft + rampWide + widthOf(texts[len(texts)-1], smallSize)/2 + keyGap
	width := max(leastWide, right+edge, legend+keysWidth(c.keys()))

	p := &picture{}
	y := c.head(p, width)
	p.ramp(rampLeft, y, colours, s, ticks, texts)
	p.drawKeys(legend, y, c.keys())
	y += rampHigh + 40
	p.text(left-8, y, "end", fontSize, grey, rowName)
	top := y + 8
	numbers := high >= numberHigh // if every number has room in its cell
	for _, v := range c.cells {
		numbers = numbers && (v.state != shown || widthOf(c.short(v.value), smallSize) <= wide-6)
	}
	for i := range rows {
		cy := top + high*float64(i)
		p.text(left-8, cy+high/2+4, "end", fontSize, ink, labels[i])
		for j := range cols {
			cx := left + wide*float64(j)
			v := c.cells[[2]int{i, j}]
			switch v.state {
			case suppressed:
				p.rect("suppressed", cx+0.5, cy+0.5, wide-1, high-1, hatched, c.name(i, j))
			case blank:
				p.rect("blank", cx+1, cy+1, wide-2, high-2, empty, c.name(i, j))
			case shown:
				fill := colours.at(s.at(v.value))
				p.rect("cell", cx+0.5, cy+0.5, wide-1, high-1, `fill="`+fill.String()+`"`, c.name(i, j))
				if numbers {
					colour := black
					if fill.dark() {
						colour = "#fff"
					}
					p.text(cx+wide/2, cy+high/2+4, "middle", smallSize, colour, c.short(v.value))
				}
			}
		}
	}
	below := top + high*float64(len(rows))
	for j, h := range heads {
		x := left + wide*(float64(j)+0.5)
		switch turn {
		case 0:
			p.text(x, below+16, "middle", fontSize, ink, h)
		case 45:
			p.turned(x+5, below+12, -turn, headSize, ink, h)
		default:
			p.turned(x+4, below+6, -turn, headSize, ink, h)
		}
	}
	below += headHigh
	p.text((left+right)/2, below+22, "middle", fontSize, grey, c.categories[1])
	return p.page(width, below+22+edge, c.title, c.describe("Heat map"))
}

// ramp draws the scale of colours from (x, y) to the right.
func (p *picture) ramp(x, y float64, colours ramp, s scale, ticks []float64, texts []string) {
	const step = rampWide / float64(rampSteps)
	for i := range rampSteps {
		// Each overlaps the next, or a gap would show between them.
		w := min(step+0.6, rampWide-step*float64(i))
		p.rect("key", x+step*float64(i), y, w, rampHigh, `fill="`+colours.at((float64(i)+0.5)/rampSteps).String()+`"`, "")
	}
	s.from, s.to = x, x+rampWide
	texts = thinned(texts, ticks, s)
	for i, v := range ticks {
		p.line(s.at(v), y+rampHigh, s.at(v), y+rampHigh+4, axis)
		p.text(s.at(v), y+rampHigh+16, "middle", smallSize, ink, texts[i])
	}
}
