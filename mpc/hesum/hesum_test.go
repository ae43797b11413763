package hesum

import (
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
)

func TestSumIsExact(t *testing.T) {
	for name, c := range map[string]setup{
		"three of three, all receive": {3, 3, 3, share.Shape{Narrow: 5}, [][]int{{0, 1, 2}}, 0},
		"two of two, one receives":    {2, 2, 2, share.Shape{Narrow: 5}, [][]int{{1}}, 0},
		"three of four, then another": {4, 4, 3, share.Shape{Narrow: 5, Wide: 3, Huge: 2}, [][]int{{0}, {2, 3}}, 0},
		"receivers without input":     {5, 3, 2, share.Shape{Narrow: 2, Huge: 7}, [][]int{{3, 4}, {1}, {4}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inputs := c.random(1)
			for i, out := range c.run(t, new(cluster), inputs) {
				c.check(t, i, out, inputs, without(c.contributors))
			}
		})
	}
}
