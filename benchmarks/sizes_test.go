package benchmarks

import (
	"slices"
	"strings"
	"testing"
)

func TestParseSizes(t *testing.T) {
	for text, want := range map[string][]int64{
		"65536":               {65536},
		"2^16":                {65536},
		"2^12..2^15":          {4096, 8192, 16384, 32768},
		"2^12..2^20/4":        {1 << 12, 1 << 16, 1 << 20},
		"2^12..2^19/4":        {1 << 12, 1 << 16},
		"2^3..2^3":            {8},
		"1024..4096":          {1024, 2048, 4096},
		"10000,65536,1e6":     {10_000, 65_536, 1_000_000},
		"10M, 2^20 ,500k,10M": {500_000, 1 << 20, 10_000_000},
		"2^40":                {1 << 40},
		"1":                   {1},
	} {
		got, err := ParseSizes(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("ParseSizes(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", ",", "x", "0", "-1", "+1", "2^41", "3^4", "2^-1", "2^", "^2", "1e", "e6", "1e13", "10000000M", "1.5e6", "2^12..", "..2^12",
		"2^12..2^10", "1000..2000", "2^12..2^20/0", "2^12..2^20/41", "2^12..2^20/", "2^0..2^40,2^0..2^40", "99999999999999999999", "1k5",
	} {
		if got, err := ParseSizes(text); err == nil {
			t.Errorf("ParseSizes(%q) = %v", text, got)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseSizes(%q): an error of several lines", text)
		}
	}
}

func TestSizeLabel(t *testing.T) {
	for n, want := range map[int64]string{1: "1", 8: "8", 1024: "2^10", 65537: "65537", 1 << 20: "2^20", 10_000_000: "10M", 1_500_000: "1500000"} {
		if got := SizeLabel(n); got != want {
			t.Errorf("SizeLabel(%d) = %s, want %s", n, got, want)
		}
	}
}

// FuzzParseSizes: any text is refused, or gives sizes in order that can be
// written and read again.
func FuzzParseSizes(f *testing.F) {
	for _, s := range []string{"2^12..2^20/4", "10000,65536,1e6", "10M", "2^0..2^40", "1..1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		sizes, err := ParseSizes(text)
		if err != nil {
			return
		}
		if len(sizes) == 0 || len(sizes) > maxSizes || !slices.IsSorted(sizes) || sizes[0] < 1 || sizes[len(sizes)-1] > MaxSize {
			t.Fatalf("%q: %v", text, sizes)
		}
		var labels []string
		for _, n := range sizes {
			labels = append(labels, SizeLabel(n))
		}
		if again, err := ParseSizes(strings.Join(labels, ",")); err != nil || !slices.Equal(again, sizes) {
			t.Fatalf("%q: %v reads back as %v, %v", text, sizes, again, err)
		}
	})
}
