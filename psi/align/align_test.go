package align

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// Every join, with and without duplicates, in one partition and in many, in
// memory and from files, gives what SQL would.
func TestJoinsAsSQLDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name      string
		n, domain int
		partition int
		memory    int64
	}{
		{"one partition", 24, 14, 0, memoryRows},
		{"many partitions", 260, 180, 40, memoryRows},
		{"many partitions from files", 260, 180, 40, 20},
		{"one partition from files", 60, 40, 0, 20},
	} {
		for _, dup := range duplicates {
			for _, join := range joins {
				t.Run(fmt.Sprintf("%s/%s/%s", c.name, dup, join), func(t *testing.T) {
					for range 3 {
						xs := randomRows(r, r.IntN(c.n+1), c.domain, dup == duplicatesJoin)
						ys := randomRows(r, r.IntN(c.n+1), c.domain, dup == duplicatesJoin)
						checkJoin(t, join, dup, c.partition, c.memory, xs, ys)
					}
				})
			}
		}
	}
}

func checkJoin(t *testing.T, join, dup string, partition int, memory int64, xs, ys []row) {
	t.Helper()
	e := (&openProtocol{}).engine()
	e.memoryRows = memory
	spec := specOf(params("both", join, dup, partition), nil)
	if err := e.definition().Validate(spec); err != nil {
		t.Fatal(err)
	}
	a := attempt{engines: [2]*engine{e, e}, sources: [2]table.Source{tableOf(t, xs), tableOf(t, ys)}, specs: [2]job.Spec{spec}}
	results, out := a.run(t)
	sessiontest.NoErrors(t, out)
	want, common := sqlJoin(join, xs, ys)
	if got := pairsOf(t, results); !slices.Equal(got, want) {
		t.Errorf("%d and %d rows: got %d rows, want %d: %v, want %v", len(xs), len(ys), len(got), len(want), got, want)
	}
	clear, err := e.definition().Clear(t.Context(), spec, map[session.PartyID][]table.Source{"p0": {a.sources[0]}, "p1": {a.sources[1]}})
	if err != nil {
		t.Fatal(err)
	}
	rows := [2]int64{int64(len(xs)), int64(len(ys))}
	for i, res := range results {
		if res.Counts[job.CountCommon] != common || res.Counts[CountJoined] != int64(len(want)) || res.Rows != rows[i] {
			t.Errorf("p%d: %+v", i, res)
		}
		for f, n := range res.Counts {
			if clear[f] != n {
				t.Errorf("p%d: %s is %d, in the clear %v", i, f, n, clear[f])
			}
		}
	}
}

// For the receiver alone: its own rows, and the sender has nothing.
func TestOutputReceiver(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, partition := range []int{0, 40} {
		for _, c := range []struct{ join, dup string }{
			{joinInner, duplicatesRefuse}, {joinDifference, duplicatesRefuse}, {joinDifference, duplicatesJoin},
		} {
			xs := randomRows(r, 150, 200, c.dup == duplicatesJoin)
			ys := randomRows(r, 180, 200, c.dup == duplicatesJoin)
			a := attempt{sources: [2]table.Source{tableOf(t, xs), tableOf(t, ys)}, specs: [2]job.Spec{specOf(params("receiver", c.join, c.dup, partition), nil)}}
			results, out := a.run(t)
			sessiontest.NoErrors(t, out)
			if len(results[0].Tables) != 0 || len(results[0].Counts) != 0 || results[0].Rows != 150 {
				t.Errorf("%v: the sender has %+v", c, results[0])
			}
			want := []row{}
			pairs, _ := sqlJoin(c.join, xs, ys)
			for _, p := range pairs {
				if p[1].value >= 0 {
					want = append(want, p[1])
				}
			}
			got := rowsOf(t, results[1].Tables["intersection"])
			for _, rows := range [][]row{want, got} {
				slices.SortFunc(rows, func(a, b row) int { return int(a.value - b.value) })
			}
			if !slices.Equal(got, want) || len(results[1].Counts) != 0 {
				t.Errorf("%v: the receiver has %v and counts %v, want %v", c, got, results[1].Counts, want)
			}
		}
	}
}

func TestEdgeSets(t *testing.T) {
	all := randomRows(rand.New(rand.NewPCG(5, 6)), 300, 300, false)
	var other []row
	for _, x := range all {
		other = append(other, row{"other " + x.key, x.value})
	}
	for name, c := range map[string]struct{ xs, ys []row }{
		"both empty": {nil, nil}, "left empty": {nil, all}, "right empty": {all, nil},
		"one each, the same": {all[:1], all[:1]}, "one each": {all[:1], all[1:2]},
		"one in all": {all[7:8], all}, "all": {all, all}, "none": {all, other},
	} {
		for _, partition := range []int{0, 50} {
			for _, join := range joins {
				t.Run(fmt.Sprintf("%s/%d/%s", name, partition, join), func(t *testing.T) {
					checkJoin(t, join, duplicatesRefuse, partition, memoryRows, c.xs, c.ys)
				})
			}
		}
	}
}

// Rows of one key come in an order that both parties share: those of the left,
// each with all of the right.
func TestRowsMultiplyInOneOrder(t *testing.T) {
	xs := []row{{"a", 0}, {"a", 1}, {"b", 2}}
	ys := []row{{"A", 10}, {"a", 11}, {"a ", 12}}
	a := attempt{sources: [2]table.Source{tableOf(t, xs), tableOf(t, ys)}, specs: [2]job.Spec{specOf(`{"duplicates":"join"}`, nil)}}
	results, out := a.run(t)
	sessiontest.NoErrors(t, out)
	var got [2][]int64
	for i := range got {
		for _, r := range rowsOf(t, results[i].Tables["intersection"]) {
			got[i] = append(got[i], r.value)
		}
	}
	if !slices.Equal(got[0], []int64{0, 0, 0, 1, 1, 1}) || !slices.Equal(got[1], []int64{10, 11, 12, 10, 11, 12}) {
		t.Errorf("%v", got)
	}
}

// Duplicates are counted over all partitions, and the sub-sessions of the
// protocol have not begun by then.
func TestDuplicatesAreRefused(t *testing.T) {
	xs := randomRows(rand.New(rand.NewPCG(7, 8)), 300, 300, false)
	ys := slices.Clone(xs)
	ys[20].key, ys[250].key, ys[251].key = ys[10].key, ys[11].key, ys[11].key
	for _, memory := range []int64{memoryRows, 20} {
		for _, partition := range []int{0, 50} {
			o := &openProtocol{}
			e := o.engine()
			e.memoryRows = memory
			a := attempt{
				engines: [2]*engine{e, e}, sources: [2]table.Source{tableOf(t, xs), tableOf(t, ys)},
				specs: [2]job.Spec{specOf(params("both", "inner", "refuse", partition), nil)},
			}
			results, out := a.run(t)
			var ke *table.KeyError
			if err := sessiontest.Cause(out); !errors.As(err, &ke) || ke.Duplicates.Count != 3 || ke.Duplicates.First != 21 || ke.Rows != 300 {
				t.Errorf("%v", err)
			}
			if o.sessions.Load() != 0 || results[0].Tables != nil || results[1].Tables != nil {
				t.Error("the protocol began")
			}
		}
	}
}

// What the messages' sizes tell does not depend on how keys fall into
// partitions: every run with the same numbers of keys sends the same.
func TestPaddingHidesPartitionSizes(t *testing.T) {
	var views []string
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(9, seed))
		xs, ys := randomRows(r, 300, 2000, false), randomRows(r, 200, 2000, false)
		for i := range ys { // no common keys, of which the numbers may tell
			ys[i].key = "other " + ys[i].key
		}
		var view sessiontest.View
		a := attempt{
			sources: [2]table.Source{tableOf(t, xs), tableOf(t, ys)}, specs: [2]job.Spec{specOf(params("both", "inner", "refuse", 60), nil)},
			net: sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
				if l.Self == "p0" && strings.HasPrefix(l.Label, "part-") {
					return sessiontest.Record(ch, &view)
				}
				return ch
			}},
		}
		_, out := a.run(t)
		sessiontest.NoErrors(t, out)
		var sizes []string
		for _, ms := range [][][]byte{view.Sent(), view.Received()} {
			for i, m := range ms {
				if i%2 == 1 { // the first of each session binds its name
					sizes = append(sizes, fmt.Sprint(len(m)))
				}
			}
		}
		views = append(views, strings.Join(sizes, " "))
	}
	for _, v := range views[1:] {
		if v != views[0] || len(v) < 20 {
			t.Errorf("sizes %s, and %s", v, views[0])
		}
	}
}

// A match that is padding, out of range or named twice is refused.
func TestAnswersOfTheProtocolAreChecked(t *testing.T) {
	xs := randomRows(rand.New(rand.NewPCG(11, 12)), 200, 200, false)
	for name, answer := range map[string]func(sender bool, rows []int32, items []Digest) []int32{
		"padding":      func(_ bool, rows []int32, items []Digest) []int32 { return append(rows, int32(len(items)-1)) },
		"out of range": func(_ bool, rows []int32, items []Digest) []int32 { return append(rows, int32(len(items))) },
		"negative":     func(_ bool, rows []int32, _ []Digest) []int32 { return append(rows, -1) },
		"twice":        func(_ bool, rows []int32, _ []Digest) []int32 { return append(rows, rows[0]) },
		"one fewer": func(sender bool, rows []int32, _ []Digest) []int32 {
			if sender {
				return rows
			}
			return rows[1:]
		},
	} {
		o := &openProtocol{answer: answer}
		e := o.engine()
		a := attempt{
			engines: [2]*engine{e, e}, sources: [2]table.Source{tableOf(t, xs), tableOf(t, xs)},
			specs: [2]job.Spec{specOf(params("both", "inner", "refuse", 50), nil)},
		}
		if _, out := a.run(t); !errors.Is(sessiontest.Cause(out), ErrDisagree) {
			t.Errorf("%s: %v", name, sessiontest.Cause(out))
		}
	}
}

// A partition that does not fit its bound ends the run, and is never cut.
func TestOverflow(t *testing.T) {
	xs := randomRows(rand.New(rand.NewPCG(35, 36)), 300, 300, false)
	o := &openProtocol{}
	tight := o.engine()
	tight.bound = func(n int64, parts int) int64 { return n / int64(parts) } // the mean: some partition holds more
	a := attempt{
		engines: [2]*engine{tight, tight}, sources: [2]table.Source{tableOf(t, xs), tableOf(t, xs)},
		specs: [2]job.Spec{specOf(params("both", "inner", "refuse", 50), nil)},
	}
	if _, out := a.run(t); !errors.Is(sessiontest.Cause(out), ErrOverflow) {
		t.Errorf("%v", sessiontest.Cause(out))
	}
}

// Counts that differ are told by both parties, in one partition and in many.
func TestBothSidesTellOfDifferentCounts(t *testing.T) {
	xs := randomRows(rand.New(rand.NewPCG(13, 14)), 200, 200, false)
	o := &openProtocol{answer: func(sender bool, rows []int32, _ []Digest) []int32 {
		if sender {
			return rows[1:]
		}
		return rows
	}}
	for _, partition := range []int{0, 50} {
		e := o.engine()
		var errs [2]error
		party := func(i int) sessiontest.Party {
			return func(ctx context.Context, s *session.Session) error {
				_, errs[i] = e.definition().Run(ctx, job.Env{
					Spec: specOf(params("both", "inner", "refuse", partition), nil), Session: s, Inputs: []table.Source{tableOf(t, xs)},
				})
				return nil
			}
		}
		sessiontest.Net{}.Run(t, party(0), party(1))
		for i, err := range errs {
			if !errors.Is(err, ErrDisagree) {
				t.Errorf("partitions of %d: p%d ended with %v", partition, i, err)
			}
		}
	}
}

// A minimum is held to over the sum of all partitions, by both parties.
func TestMinimumOverAllPartitions(t *testing.T) {
	xs := randomRows(rand.New(rand.NewPCG(15, 16)), 200, 200, false)
	for _, output := range outputs {
		for _, partition := range []int{0, 50} {
			for min, want := range map[int64]error{90: nil, 91: job.ErrMinIntersection} {
				spec := specOf(params(output, "inner", "refuse", partition), func(s *job.Spec) { s.Limits.MinIntersection = min })
				var errs [2]error
				party := func(i int, rows []row) sessiontest.Party {
					return func(ctx context.Context, s *session.Session) error {
						var res job.Result
						res, errs[i] = (&openProtocol{}).engine().definition().Run(ctx, job.Env{Spec: spec, Session: s, Inputs: []table.Source{tableOf(t, rows)}})
						if errs[i] != nil && res.Tables != nil {
							t.Errorf("p%d has a table", i)
						}
						return nil
					}
				}
				sessiontest.Net{}.Run(t, party(0, xs[:120]), party(1, xs[30:]))
				for i, err := range errs {
					if !errors.Is(err, want) {
						t.Errorf("%s, partitions of %d, minimum %d: p%d ended with %v", output, partition, min, i, err)
					}
				}
			}
		}
	}
}

// A protocol that holds to a minimum before it reveals a match does so in one
// session, whatever the parameter says, up to a size.
func TestMinimumBeforeRevealTakesOneSession(t *testing.T) {
	xs := randomRows(rand.New(rand.NewPCG(17, 18)), 200, 200, false)
	for _, limits := range []job.Limits{{MinIntersection: 1}, {MinBeforeReveal: true}} {
		for most, want := range map[int64]error{200: nil, 199: ErrSize} {
			o := &openProtocol{}
			e := o.engine()
			e.Protocol.MinIntersection = job.BeforeReveal
			e.maxOneSession, e.memoryRows = most, 10
			spec := specOf(params("both", "inner", "refuse", 50), func(s *job.Spec) { s.Limits = limits })
			a := attempt{engines: [2]*engine{e, e}, sources: [2]table.Source{tableOf(t, xs), tableOf(t, xs)}, specs: [2]job.Spec{spec}}
			_, out := a.run(t)
			if err := sessiontest.Cause(out); !errors.Is(err, want) {
				t.Errorf("at most %d: %v", most, err)
			}
			if n := o.sessions.Load(); want == nil && n != 1 || want != nil && n != 0 {
				t.Errorf("at most %d: %d sessions", most, n)
			}
			if _, err := e.definition().Estimate(spec, []int64{200, 100}); !errors.Is(err, want) {
				t.Errorf("at most %d: the estimate says %v", most, err)
			}
		}
	}
}

// What a difference in parameters is, is named.
func TestMismatchIsNamed(t *testing.T) {
	xs := tableOf(t, []row{{"a", 1}})
	for field, other := range map[string]string{
		"key_rule": `{"key_rule":"none.v1"}`, "false_match_bits": `{"false_match_bits":41}`, "output": `{"output":"receiver"}`,
		"join": `{"join":"full"}`, "duplicates": `{"duplicates":"join"}`, "partition_rows": `{"partition_rows":5000}`,
	} {
		a := attempt{sources: [2]table.Source{xs, xs}, specs: [2]job.Spec{specOf("", nil), specOf(other, nil)}}
		_, out := a.run(t)
		var m *session.MismatchError
		if err := sessiontest.Cause(out); !errors.As(err, &m) || m.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// Items of a large table come from files, and memory is for what is in a
// partition.
func TestItemsFromFilesAreThoseInMemory(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(19, 20)), 3000, 2000, true)
	var got [2]map[Digest][]int32
	var sets [2]*itemSet
	for i, memory := range []int64{memoryRows, 100} {
		files := scratch.Memory()
		set, err := readItems(t.Context(), tableOf(t, rows), table.RuleID, seed{1}, true, memory, files, func(int64) {})
		if err != nil {
			t.Fatal(err)
		}
		if (set.spilled != nil) != (i == 1) {
			t.Fatal("not where it should be")
		}
		sets[i] = set
		got[i] = map[Digest][]int32{}
		cut, err := newCutter(t.Context(), set, 7)
		if err != nil {
			t.Fatal(err)
		}
		for p := range 7 {
			g, err := cut.next(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			var buf [1]int32
			for k, d := range g.items {
				if partOf(newEntry(&d, 0).hi, 7) != p || got[i][d] != nil {
					t.Fatal("an item in another partition, or twice")
				}
				got[i][d] = slices.Clone(g.rowsOf(int32(k), &buf))
			}
		}
	}
	if sets[0].digest != sets[1].digest || sets[0].distinct != sets[1].distinct || int64(len(got[0])) != sets[0].distinct {
		t.Errorf("%+v and %+v, %d items", sets[0], sets[1], len(got[0]))
	}
	total := 0
	for d, rows := range got[0] {
		if total += len(rows); !slices.Equal(rows, got[1][d]) {
			t.Fatalf("rows %v in memory, %v from files", rows, got[1][d])
		}
	}
	if total != len(rows) {
		t.Errorf("%d of %d rows", total, len(rows))
	}
}
