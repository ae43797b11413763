// Package metrics measures how well scores separate two classes: the area
// under the ROC curve and the Kolmogorov-Smirnov distance. Both are functions
// of plain values; nothing here is private and nothing is constant-time.
//
// Equal scores count as one threshold, as in scikit-learn's roc_auc_score and
// roc_curve, so the numbers agree with theirs to rounding.
package metrics

import (
	"errors"
	"math"
	"slices"
)

// Errors of AUC and KS.
var (
	ErrLength   = errors.New("metrics: as many labels as scores are needed")
	ErrLabel    = errors.New("metrics: labels must be 0 or 1")
	ErrOneClass = errors.New("metrics: both classes must occur")
	ErrNaN      = errors.New("metrics: a score is not a number")
)

// AUC returns the probability that a random row of class 1 has a higher score
// than a random row of class 0, equal scores counting one half.
func AUC(scores, labels []float64) (float64, error) {
	var area, good float64 // good: rows of class 0 below the present threshold
	bads, goods, err := walk(scores, labels, func(b, g float64) {
		area += b * (good + g/2)
		good += g
	})
	if err != nil {
		return 0, err
	}
	return area / (bads * goods), nil
}

// KS returns the largest difference between the share of class 1 and the
// share of class 0 above one threshold: max(TPR - FPR). It is 0 for scores
// that never rank class 1 higher.
func KS(scores, labels []float64) (float64, error) {
	bads, goods, err := walk(scores, labels, func(_, _ float64) {})
	if err != nil {
		return 0, err
	}
	var b, g, best float64
	_, _, err = walk(scores, labels, func(db, dg float64) {
		b, g = b+db, g+dg
		best = max(best, g/goods-b/bads) // what lies above is the complement
	})
	return best, err
}

// walk visits the distinct scores upwards with the number of rows of class 1
// and of class 0 that have each, and returns the totals.
func walk(scores, labels []float64, visit func(bad, good float64)) (bads, goods float64, err error) {
	if len(scores) != len(labels) {
		return 0, 0, ErrLength
	}
	order := make([]int32, len(scores))
	for i, s := range scores {
		if math.IsNaN(s) {
			return 0, 0, ErrNaN
		}
		switch labels[i] {
		case 1:
			bads++
		case 0:
			goods++
		default:
			return 0, 0, ErrLabel
		}
		order[i] = int32(i)
	}
	if bads == 0 || goods == 0 {
		return 0, 0, ErrOneClass
	}
	slices.SortFunc(order, func(a, b int32) int {
		switch {
		case scores[a] < scores[b]:
			return -1
		case scores[a] > scores[b]:
			return 1
		}
		return 0
	})
	for i := 0; i < len(order); {
		var b, g float64
		at := scores[order[i]]
		for ; i < len(order) && scores[order[i]] == at; i++ {
			b += labels[order[i]]
			g += 1 - labels[order[i]]
		}
		visit(b, g)
	}
	return bads, goods, nil
}
