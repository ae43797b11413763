package align

import (
	"context"
	"fmt"
	"strconv"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Subjects is the benchmark table of an alignment: rows of subjects from first
// on, with a key of the length of an identity number and one value.
func Subjects(rows, first int64) table.Source {
	schema := table.Schema{{Name: "id", Type: table.Text, Key: true}, {Name: "v", Type: table.Int}}
	return table.Generate(schema, rows, func(b *table.Builder, i int64) {
		b.Texts(0).Append(string(AppendSubject(nil, first+i)))
		b.Ints(1).Append(i)
	})
}

// AppendSubject appends the key of subject i. The product stays below 10^18, so
// that keys are distinct.
func AppendSubject(b []byte, i int64) []byte {
	var digits [18]byte
	v := uint64(i) * 1_000_000_007
	for at := len(digits) - 1; at >= 0; at-- {
		digits[at] = byte('0' + v%10)
		v /= 10
	}
	return append(b, digits[:]...)
}

// benchPair is a benchmark of two parties: p0 is the sender with n rows, p1 the
// receiver with m, and half of the smaller set is common.
func benchPair(kind string, n, m int64) (job.Bench, error) {
	if n < 1 || n > MaxRows || m < 1 || m > MaxRows {
		return job.Bench{}, fmt.Errorf("%w: a benchmark of %d and %d rows, allowed are 1 to %d", ErrSize, n, m, MaxRows)
	}
	common := min(n, m) - min(n, m)/2
	b := job.Bench{
		Spec:   job.Spec{Kind: kind},
		Inputs: make(map[session.PartyID][]table.Source),
		Common: common,
	}
	for i, role := range []job.Role{Sender, Receiver} {
		id := session.PartyID("p" + strconv.Itoa(i))
		b.Spec.Parties = append(b.Spec.Parties, job.Participant{Party: id, Role: role, Inputs: []job.Input{{Entry: "bench", Version: 1, Items: []string{"id", "v"}}}})
		b.Spec.Recipients = append(b.Spec.Recipients, id)
	}
	b.Inputs["p0"] = []table.Source{Subjects(n, 0)}
	b.Inputs["p1"] = []table.Source{Subjects(m, n-common)}
	return b, nil
}

func (e *engine) bench(n, m int64) (job.Bench, error) {
	b, err := benchPair(e.Name, n, m)
	if err != nil {
		return b, err
	}
	if e.Baseline != nil {
		b.Baseline = func(ctx context.Context) error { return e.Baseline(ctx, max(n, m)) }
		b.BaselineName = e.BaselineName
	}
	return b, nil
}

// clear joins two tables in one place, and returns the counts that a run with
// the output "both" has.
func (e *engine) clear(ctx context.Context, spec job.Spec, sources map[session.PartyID][]table.Source) (map[string]any, error) {
	if err := e.validate(spec); err != nil {
		return nil, err
	}
	pl, err := e.plan(spec)
	if err != nil {
		return nil, err
	}
	var held [2]map[string]int64 // rows by key
	var rows [2]int64
	for i, p := range pl.parties {
		held[i] = make(map[string]int64)
		var repeated, first int64
		src := sources[p.Party]
		if len(src) != 1 {
			return nil, fmt.Errorf("psi/align: %s needs one input, got %d", p.Party, len(src))
		}
		rows[i], err = table.EachKey(ctx, src[0], pl.rule, nil, func(b table.KeyBatch, _ struct{}) error {
			for k, key := range b.All() {
				if held[i][string(key)]++; held[i][string(key)] > 1 {
					if repeated++; repeated == 1 {
						first = b.First() + int64(k) + 1
					}
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if repeated > 0 && !pl.multiply {
			return nil, table.DuplicateKeys(ctx, src[0], pl.rule, rows[i], repeated, first)
		}
	}
	var common, total int64
	unmatched := rows
	for key, n := range held[0] {
		m := held[1][key]
		if m == 0 {
			continue
		}
		common++
		unmatched[0] -= n
		unmatched[1] -= m
		if pl.matches() {
			total += n * m
		}
	}
	for side, n := range unmatched {
		if pl.appends(side) {
			total += n
		}
	}
	return map[string]any{job.CountCommon: common, CountJoined: total}, nil
}

// Compare finds the common rows of two sets of n as anybody would who may see
// both, as a yardstick.
func Compare(ctx context.Context, n int64) error {
	b, err := benchPair("", n, n)
	if err != nil {
		return err
	}
	var sides [2][]entry
	for i, id := range []session.PartyID{"p0", "p1"} {
		items, err := Items(ctx, b.Inputs[id][0], table.RuleID, [16]byte{})
		if err != nil {
			return err
		}
		entries := make([]entry, len(items))
		for k := range items {
			entries[k] = newEntry(&items[k], int32(k))
		}
		if sides[i], err = sortEntries(ctx, entries, 0); err != nil {
			return err
		}
	}
	common, at := int64(0), 0
	for i := range sides[0] {
		for at < len(sides[1]) && compareItems(&sides[1][at], &sides[0][i]) < 0 {
			at++
		}
		if at < len(sides[1]) && sides[1][at].same(&sides[0][i]) {
			common++
		}
	}
	if common != b.Common {
		return fmt.Errorf("%w: %d common keys in the clear, %d were made", ErrDisagree, common, b.Common)
	}
	return nil
}
