package stats_test

import (
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/table"
)

// Released counts and sums are rounded as internal/disclosure rounds: halves to
// the even multiple.
func TestRoundsHalvesToEven(t *testing.T) {
	p, err := stats.NewPlan(decode(t, `{"group_by": [{"column": "branch", "domain": ["a", "b"]}], "measures": [{"of": "count"}, {"of": "sum", "column": "amount", "range": [0, 1000], "scale": 1}]}`), 3)
	if err != nil {
		t.Fatal(err)
	}
	sum := share.NewVector(p.Shape())
	for _, c := range p.Sensitivities() {
		cells := [2]uint64{5, 15} // rows
		if strings.Contains(c.Name, "amount") {
			cells = [2]uint64{250, 350} // 25 and 35
		}
		for i, x := range cells {
			if c.Bits == share.NarrowBits {
				sum.Narrow[c.At+i] = uint32(x)
			} else {
				sum.Wide[c.At+i] = x
			}
		}
	}
	got, err := p.Derive(sum, nil, stats.DeriveOptions{RoundTo: 10})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := table.WriteCSV(t.Context(), &b, got); err != nil {
		t.Fatal(err)
	}
	if want := "branch,count,sum_amount,status\na,0,20,\nb,20,40,\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
