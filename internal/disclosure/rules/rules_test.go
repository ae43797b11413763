package rules

import (
	"testing"

	"pgregory.net/rapid"
)

func TestStrictest(t *testing.T) {
	grant := Set{MinUnits: 5, DominanceUnits: 1, DominancePercent: 80, RoundTo: 4, Epsilon: 2}
	own := Set{MinUnits: 20, DominanceUnits: 2, DominancePercent: 85, PPercent: 10, RoundTo: 6, Epsilon: 3, Delta: 1e-6}
	got := Strictest(grant, own, Set{})
	want := Set{MinUnits: 20, DominanceUnits: 2, DominancePercent: 80, PPercent: 10, RoundTo: 12, Epsilon: 2}
	if got != want {
		t.Errorf("Strictest = %+v, want %+v", got, want)
	}
	if got := Strictest(Set{Epsilon: 1, Delta: 1e-6}, Set{}, Set{Epsilon: 2, Delta: 1e-7}); got != (Set{Epsilon: 1, Delta: 1e-7}) {
		t.Errorf("of two with a delta the strictest is %+v", got)
	}
	if f := (Set{}).InForce(); f.MinUnits != DefaultMinUnits || f.MinProviders != DefaultMinProviders {
		t.Errorf("without a word the rules in force are %+v", f)
	}
	if f := (Set{MinUnits: 3}).InForce(); f.MinUnits != 3 {
		t.Errorf("a stated minimum of 3 became %d", f.MinUnits)
	}
}

// The order in which parties speak does not matter, and nobody's rule is lost.
func TestStrictestIsAJoin(t *testing.T) {
	draw := rapid.Custom(func(t *rapid.T) Set {
		return Set{
			MinUnits: rapid.Int64Range(0, 50).Draw(t, "units"), MinProviders: rapid.Int64Range(0, 5).Draw(t, "providers"),
			PPercent: rapid.Float64Range(0, 30).Draw(t, "p"), RoundTo: rapid.Int64Range(0, 30).Draw(t, "round"),
			Epsilon: rapid.Float64Range(0, 4).Draw(t, "eps"), Unit: rapid.SampledFrom([]string{"", "firm", "person"}).Draw(t, "unit"), Delta: rapid.SampledFrom([]float64{0, 1e-7, 1e-6}).Draw(t, "delta"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := draw.Draw(t, "a"), draw.Draw(t, "b"), draw.Draw(t, "c")
		if x, y := Strictest(a, Strictest(b, c)), Strictest(Strictest(c, a), b); x != y {
			t.Fatalf("order matters: %+v and %+v", x, y)
		}
		if x := Strictest(a, b); x.MinUnits < a.MinUnits || x.RoundTo < b.RoundTo || a.Epsilon > 0 && (x.Epsilon > a.Epsilon || x.Delta > a.Delta) {
			t.Fatalf("a rule was lost: %+v and %+v gave %+v", a, b, x)
		}
	})
}

func TestValidateNamesEveryFault(t *testing.T) {
	if err := (Set{MinUnits: 3, DominanceUnits: 1, DominancePercent: 75, Epsilon: 1}).Validate(); err != nil {
		t.Error(err)
	}
	err := (Set{MinUnits: -1, DominancePercent: 101, Delta: 1e-9}).Validate()
	if err == nil {
		t.Fatal("faults were accepted")
	}
	const want = "min_units: want 0 to 1099511627776\ndominance_percent: want 0 to 100\ndominance_units: want dominance_percent beside it, or neither\nepsilon: want a value beside delta"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}
