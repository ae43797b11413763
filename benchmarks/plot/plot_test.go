package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
)

// texts parses an SVG and returns its text elements and how many elements of
// each name it has.
func texts(t testing.TB, svg []byte) (all []string, count map[string]int) {
	t.Helper()
	count = make(map[string]int)
	dec := xml.NewDecoder(bytes.NewReader(svg))
	dec.Strict = true
	var inText int
	var text strings.Builder
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return all, count
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, svg)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			count[tok.Name.Local]++
			for _, a := range tok.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Fatalf("<%s %s=%q>", tok.Name.Local, a.Name.Local, a.Value)
				}
			}
			if tok.Name.Local == "text" {
				inText++
				text.Reset()
			}
		case xml.EndElement:
			if tok.Name.Local == "text" {
				inText--
				all = append(all, text.String())
			}
		case xml.CharData:
			if inText > 0 {
				text.Write(tok)
			}
		}
	}
}

func has(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

func chart(series, points int) Chart {
	c := Chart{Title: "wall clock <none> & more", Note: "2 cores", X: "rows a party", Y: "seconds"}
	for s := range series {
		line := Series{Name: fmt.Sprintf("psi.p%d.v1", s)}
		for p := range points {
			y := math.Pow(2, float64(p)) * float64(s+1) / 1000
			line.Points = append(line.Points, Point{X: math.Pow(2, float64(12+p)), Y: y, Low: y * 0.9, High: y * 1.2})
		}
		c.Series = append(c.Series, line)
	}
	return c
}

// A chart is well-formed, names every series, and has its ticks at powers.
func TestSVG(t *testing.T) {
	all, count := texts(t, chart(5, 9).SVG())
	for _, want := range []string{
		"wall clock <none> & more", "2 cores", "rows a party", "seconds",
		"psi.p0.v1", "psi.p1.v1", "psi.p2.v1", "psi.p3.v1", "psi.p4.v1", "212", "220", "0.01", "1",
	} {
		if !has(all, want) {
			t.Errorf("no text %q in %q", want, all)
		}
	}
	if count["polyline"] != 5 {
		t.Errorf("%d lines, want 5", count["polyline"])
	}
}

// Series without figures, one point alone, twelve series and absurd figures
// still make a picture.
func TestSVGShapes(t *testing.T) {
	if _, count := texts(t, (Chart{Title: "nothing"}).SVG()); count["polyline"] != 0 {
		t.Error("a line from nothing")
	}
	if all, _ := texts(t, chart(1, 1).SVG()); !has(all, "212") {
		t.Errorf("one point: %q", all)
	}
	_, count := texts(t, chart(12, 14).SVG())
	if count["polyline"] != 12 {
		t.Errorf("%d lines of 12", count["polyline"])
	}
	odd := Chart{Title: "odd", Series: []Series{
		{Name: "absent", Points: []Point{{X: 0, Y: 1}, {X: 1, Y: math.NaN()}, {X: math.Inf(1), Y: 1}, {X: 5, Y: -1}}},
		{Name: "there", Points: []Point{{X: 1, Y: 1e-99}, {X: 1 << 40, Y: 1e99, Low: -1, High: math.Inf(1)}}},
	}}
	all, count := texts(t, odd.SVG())
	if has(all, "absent") || !has(all, "there") || count["polyline"] != 1 {
		t.Errorf("%q, %v", all, count)
	}
}

// Two series that stand beside each other never look the same, in any chart.
func TestLooks(t *testing.T) {
	seen := make(map[string]int)
	for i := range 20 {
		look := colour(i) + dash(i) + mark(i, 10, 10)
		if j, ok := seen[look]; ok {
			t.Errorf("series %d and %d look the same", j, i)
		}
		seen[look] = i
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct{ low, high float64 }{{-3, 2}, {0, 0.1}, {1.301, 1.55}, {-9, 9}, {-300, 300}, {2, 2.6}, {-0.02, 0.02}} {
		vs := decades(axis{low: c.low, high: c.high})
		if len(vs) == 0 || len(vs) > maxTicks+1 {
			t.Errorf("%v to %v: %d ticks %v", c.low, c.high, len(vs), vs)
		}
	}
	for _, c := range []struct{ low, high float64 }{{11.65, 20.35}, {0, 40}, {15.6, 16.4}} {
		ks := powersOfTwo(axis{low: c.low, high: c.high})
		if len(ks) == 0 || len(ks) > 10 {
			t.Errorf("%v to %v: ticks %v", c.low, c.high, ks)
		}
	}
}

// FuzzSVG: any name and any figures make a well-formed picture.
func FuzzSVG(f *testing.F) {
	f.Add("a<b>&\x00\xff", 1.0, 2.0, 3.0, 4.0)
	f.Fuzz(func(t *testing.T, name string, x, y, low, high float64) {
		c := Chart{Title: name, Note: name, X: name, Y: name, Series: []Series{{Name: name, Points: []Point{{x, y, low, high}, {X: 2, Y: 2}}}}}
		texts(t, c.SVG())
	})
}
