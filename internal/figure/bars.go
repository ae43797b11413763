package figure

const (
	barColour = `fill="#0072B2"`
	barLong   = 440 // from one end of the value axis to the other, lying bars
	barHigh   = 300 // the same, standing bars
	barRow    = 22  // a lying bar with the gap to the next
	barShare  = 0.7 // of its room that a bar takes
	maxLabel  = 240
	leastWide = 480 // a picture
)

// bars draws standing bars where their labels have room below them, and lying
// bars where they do not.
func (c *chart) bars() []byte {
	n := float64(len(c.labels[0]))
	room := min(64, max(18, 640/n))
	long := widest(c.labels[0], fontSize)
	switch {
	case long <= room-6:
		return c.standing(room, 0)
	case n > 8 && long <= 48: // years, months, codes
		return c.standing(room, 45)
	}
	return c.lying()
}

func (c *chart) standing(room float64, turn float64) []byte {
	s, ticks := rounded(min(0, c.low), max(0, c.high), 6)
	texts := tickTexts(ticks)
	n := len(c.labels[0])
	left := edge + widest(texts, fontSize) + 8
	right := left + room*float64(n)
	width := max(leastWide, right+edge, edge+keysWidth(c.keys()))

	p := &picture{}
	y := c.head(p, width)
	if ks := c.keys(); len(ks) > 0 {
		p.drawKeys(edge, y, ks)
		y += keyHeight + 14
	}
	p.text(edge, y+10, "start", fontSize, grey, clip(c.value, fontSize, width-2*edge))
	top := y + 34
	s.from, s.to = top+barHigh, top
	for i, v := range ticks {
		p.line(left, s.at(v), right, s.at(v), grid)
		p.text(left-8, s.at(v)+4, "end", fontSize, ink, texts[i])
	}
	zero := s.at(0)
	labelled := true // if every number has room above its bar
	for i := range n {
		labelled = labelled && widthOf(c.number(i), smallSize) <= room-2
	}
	for i := range n {
		x := left + room*float64(i)
		v := c.cells[[2]int{i, 0}]
		wide := room * barShare
		bx := x + (room-wide)/2
		switch v.state {
		case suppressed:
			p.rect("suppressed", x+2, top, room-4, barHigh, hatched, c.name(i, 0))
		case blank:
			p.rect("blank", bx, zero-4, wide, 8, empty, c.name(i, 0))
		case shown:
			at := s.at(v.value)
			p.rect("bar", bx, min(at, zero), wide, max(at, zero)-min(at, zero), barColour, c.name(i, 0))
			if labelled && v.value < 0 {
				p.text(x+room/2, at+12, "middle", smallSize, ink, c.number(i))
			} else if labelled {
				p.text(x+room/2, at-4, "middle", smallSize, ink, c.number(i))
			}
		}
	}
	p.line(left, zero, right, zero, axis)
	below := top + barHigh
	if labelled && c.low < 0 {
		below += 10
	}
	for i, name := range c.labels[0] {
		x := left + room*(float64(i)+0.5)
		if turn == 0 {
			p.text(x, below+18, "middle", fontSize, ink, name)
		} else {
			p.turned(x+5, below+14, -turn, fontSize, ink, name)
		}
	}
	if turn == 0 {
		below += 18
	} else {
		below += 16 + widest(c.labels[0], fontSize)*0.71 + 6
	}
	p.text((left+right)/2, below+24, "middle", fontSize, grey, c.categories[0])
	return p.page(width, below+24+edge, c.title, c.describe("Bar chart"))
}

// number is the text beside a bar.
func (c *chart) number(i int) string {
	if v := c.cells[[2]int{i, 0}]; v.state == shown {
		return c.short(v.value)
	}
	return ""
}

func (c *chart) lying() []byte {
	s, ticks := rounded(min(0, c.low), max(0, c.high), 6)
	texts := tickTexts(ticks)
	n := len(c.labels[0])
	category := clip(c.categories[0], fontSize, maxLabel)
	labels := make([]string, n)
	var numbers float64 // room beside the bars
	for i := range n {
		labels[i] = clip(c.labels[0][i], fontSize, maxLabel)
		numbers = max(numbers, widthOf(c.number(i), smallSize)+6)
	}
	left := edge + max(widest(labels, fontSize), widthOf(category, fontSize)) + 10
	s.from, s.to = left, left+barLong
	if c.low < 0 {
		s.from, s.to = s.from+numbers, s.to+numbers
	}
	right := s.to
	width := max(leastWide, right+max(numbers, widthOf(texts[len(texts)-1], fontSize)/2)+edge, edge+keysWidth(c.keys()))

	p := &picture{}
	y := c.head(p, width)
	if ks := c.keys(); len(ks) > 0 {
		p.drawKeys(edge, y, ks)
		y += keyHeight + 14
	}
	p.text(left-10, y+10, "end", fontSize, grey, category)
	top := y + 22
	bottom := top + barRow*float64(n)
	texts = thinned(texts, ticks, s)
	for i, v := range ticks {
		p.line(s.at(v), top, s.at(v), bottom, grid)
		p.text(s.at(v), bottom+18, "middle", fontSize, ink, texts[i])
	}
	zero := s.at(0)
	for i := range n {
		y := top + barRow*float64(i)
		high := barRow * barShare
		by := y + (barRow-high)/2
		p.text(left-10, y+barRow/2+4, "end", fontSize, ink, labels[i])
		v := c.cells[[2]int{i, 0}]
		switch v.state {
		case suppressed:
			p.rect("suppressed", s.from, y+2, right-s.from, barRow-4, hatched, c.name(i, 0))
		case blank:
			p.rect("blank", zero-4, by, 8, high, empty, c.name(i, 0))
		case shown:
			at := s.at(v.value)
			p.rect("bar", min(at, zero), by, max(at, zero)-min(at, zero), high, barColour, c.name(i, 0))
			if v.value < 0 {
				p.text(at-4, y+barRow/2+4, "end", smallSize, ink, c.number(i))
			} else {
				p.text(at+4, y+barRow/2+4, "start", smallSize, ink, c.number(i))
			}
		}
	}
	p.line(zero, top, zero, bottom, axis)
	p.text((s.from+right)/2, bottom+40, "middle", fontSize, grey, clip(c.value, fontSize, right-left))
	return p.page(width, bottom+40+edge, c.title, c.describe("Bar chart"))
}

// thinned blanks every other text, and again, until the rest has room along a
// scale.
func thinned(texts []string, ticks []float64, s scale) []string {
	out := append([]string{}, texts...)
	for every := 1; every < len(ticks); every *= 2 {
		if s.at(ticks[every])-s.at(ticks[0]) >= widest(out, fontSize)+8 {
			break
		}
		for i := range out {
			if i%(every*2) != 0 {
				out[i] = ""
			}
		}
	}
	return out
}
