package figure

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Numbers beyond these are no figures that anybody could look at: charts are
// computed from them.
const (
	hugest = 1e100
	finest = 1e-100 // nearer to 0 is 0
)

// scale maps numbers to places, or to the range from 0 to 1.
type scale struct{ low, high, from, to float64 }

func (s scale) at(v float64) float64 {
	if math.Abs(v) < finest {
		v = 0
	}
	return s.from + (v-s.low)/(s.high-s.low)*(s.to-s.from)
}

// rounded returns a range from low to high or somewhat beyond, and its ticks, at
// least two and about so many: multiples of 1, 2 or 5 times a power of ten.
func rounded(low, high float64, about int) (scale, []float64) {
	if math.Abs(low) < finest {
		low = 0
	}
	if math.Abs(high) < finest {
		high = 0
	}
	if low == high {
		low, high = min(0, low), max(0, high)
	}
	if low == high {
		high = 1
	}
	// A range that is narrow for its numbers would have ticks that no float64
	// tells apart.
	if least := 1e-9 * max(math.Abs(low), math.Abs(high)); high-low < least {
		low, high = low-least/2, high+least/2
	}
	raw := (high - low) / float64(about)
	power := math.Floor(math.Log10(raw))
	unit, times := tenTo(power), 10.0
	for _, t := range []float64{1, 2, 5} {
		if raw <= t*unit*(1+1e-9) {
			times = t
			break
		}
	}
	step := times * unit
	first, last := math.Floor(low/step+1e-9), math.Ceil(high/step-1e-9)
	var ticks []float64
	for k := first; k <= last; k++ {
		// The quotient of whole numbers prints as people write it.
		v := k * step
		if power < 0 {
			v = k * times / tenTo(-power)
		}
		ticks = append(ticks, v+0) // no negative zero
	}
	return scale{low: ticks[0], high: ticks[len(ticks)-1], to: 1}, ticks
}

func tenTo(k float64) float64 { return math.Pow(10, k) }

// tickTexts writes ticks with as many digits as they need.
func tickTexts(ticks []float64) []string {
	var digits int
	for _, v := range ticks {
		_, decimals, _ := strings.Cut(strconv.FormatFloat(v, 'f', -1, 64), ".")
		digits = max(digits, len(decimals))
	}
	greatest := max(math.Abs(ticks[0]), math.Abs(ticks[len(ticks)-1]))
	out := make([]string, len(ticks))
	for i, v := range ticks {
		if greatest >= 1e12 || digits > 6 {
			out[i] = strconv.FormatFloat(v, 'g', 10, 64)
		} else {
			out[i] = grouped(strconv.FormatFloat(v, 'f', digits, 64))
		}
	}
	return out
}

// shortened returns how to write numbers of which the greatest is as far from 0
// as far: with four digits of that one, as many decimals in each, and none that
// is 0 in all.
func shortened(far float64, numbers []float64) func(float64) string {
	decimals := 0
	if far >= finest {
		decimals = 3 - int(math.Floor(math.Log10(far)))
	}
	if far >= 1e12 || decimals > 8 {
		return func(v float64) string { return strconv.FormatFloat(v+0, 'g', 4, 64) }
	}
	most := max(0, decimals)
	decimals = 0
	for _, v := range numbers {
		_, d, _ := strings.Cut(strconv.FormatFloat(v, 'f', most, 64), ".")
		decimals = max(decimals, len(strings.TrimRight(d, "0")))
	}
	return func(v float64) string {
		s := strconv.FormatFloat(v, 'f', decimals, 64)
		if strings.Trim(s, "-0.") == "" {
			s = strings.TrimPrefix(s, "-")
		}
		return grouped(s)
	}
}

// exact writes v so that reading it gives v again.
func exact(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// grouped sets commas between the thousands of a decimal.
func grouped(s string) string {
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	whole, decimals, point := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if point {
		whole += "." + decimals
	}
	return sign + whole
}

// rgb is a colour, each part from 0 to 255.
type rgb [3]float64

func (c rgb) String() string {
	return fmt.Sprintf("#%02x%02x%02x", int(math.Round(c[0])), int(math.Round(c[1])), int(math.Round(c[2])))
}

// dark reports whether white text reads better on c than black.
func (c rgb) dark() bool { return 0.299*c[0]+0.587*c[1]+0.114*c[2] < 140 }

// ramp is colours at even distances, from 0 to 1. Both differ in brightness
// alone on either side of their lightest colour: they survive a printer, and
// people with any colour vision can read them.
type ramp []rgb

var (
	rising = ramp{{237, 243, 250}, {195, 217, 238}, {140, 187, 221}, {79, 149, 200}, {29, 107, 171}, {8, 64, 129}}
	// parting is for numbers on both sides of zero: orange, white, blue.
	parting = ramp{{150, 60, 0}, {213, 120, 50}, {246, 217, 196}, {250, 250, 250}, {201, 223, 240}, {95, 162, 210}, {0, 84, 140}}
)

func (r ramp) at(f float64) rgb {
	f = min(1, max(0, f)) * float64(len(r)-1)
	i := min(int(f), len(r)-2)
	var c rgb
	for k := range c {
		c[k] = r[i][k] + (f-float64(i))*(r[i+1][k]-r[i][k])
	}
	return c
}
