package history

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Releases over the units of different parties, or over units of another kind,
// differ by what this node cannot see. Where that is not told, or is the same,
// nothing is held up.
func TestWhatTheNodeCannotSeeIsFlagged(t *testing.T) {
	rows := people(rand.New(rand.NewPCG(3, 4)), 400, [3]int{3, 2, 2})
	release := func(id string, change func(*Release)) Release {
		r := tabulate(id, rows, 3, func(r row) int { return r.attr[0] }, all(3))
		r.Dims = []Dim{{7, 3}}
		change(&r)
		return r
	}
	parties := func(n byte) func(*Release) { return func(r *Release) { r.Parties[0] = n } }
	entity := func(n byte) func(*Release) { return func(r *Release) { r.Entity[0] = n } }
	for _, c := range []struct {
		name        string
		before, now func(*Release)
		flagged     bool
	}{
		{"the same parties", parties(1), parties(1), false},
		{"other parties", parties(1), parties(2), true},
		{"parties that are not told", parties(0), parties(2), false},
		{"other parties, and nothing was shown", func(r *Release) { parties(1)(r); r.Shown = make([]bool, 4) }, parties(2), false},
		{"the same kind of unit", entity(1), entity(1), false},
		{"another kind of unit", entity(1), entity(2), true},
		{"another kind of unit, and nothing was shown", func(r *Release) { entity(1)(r); r.Shown = make([]bool, 4) }, entity(2), false},
	} {
		flags, err := Compare([]Release{release("a", c.before)}, release("b", c.now), 10)
		if err != nil {
			t.Fatal(err)
		}
		if got := !slices.Contains(flags, false); got != c.flagged || !c.flagged && slices.Contains(flags, true) {
			t.Errorf("%s: flags are %v, want %t", c.name, flags, c.flagged)
		}
	}
	// A drill-down over other parties is none.
	fine := func(n byte) Release {
		r := tabulate("c", rows, 6, func(r row) int { return r.attr[0]*2 + r.attr[1] }, []int32{0, 1}, []int32{2, 3}, []int32{4, 5}, all(6))
		r.Dims, r.Parties[0] = []Dim{{7, 3}, {8, 2}}, n
		return r
	}
	for n, want := range map[byte]bool{1: false, 2: true} {
		flags, err := Compare([]Release{release("a", parties(1))}, fine(n), 10)
		if err != nil {
			t.Fatal(err)
		}
		if got := flags[6] && flags[7] && flags[8] && flags[9]; got != want {
			t.Errorf("a drill-down over parties %d after 1: flags are %v", n, flags)
		}
	}
}
