package align

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// openProtocol is one that hides nothing: the sender sends its items, and the
// receiver says which of them it has. What align adds is the same for all.
type openProtocol struct {
	sessions atomic.Int64 // that the receiver has begun
	// answer may change what a role returns.
	answer func(sender bool, rows []int32, items []Digest) []int32
}

func (o *openProtocol) protocol() Protocol {
	return Protocol{
		Name: "psi.open.v1", Summary: "hides nothing", Assumptions: []string{"none"},
		MinIntersection: job.AfterReveal,
		Send: func(ctx context.Context, s *session.Session, items []Digest, p Params) ([]int32, error) {
			return o.run(ctx, s, items, p, true)
		},
		Receive: func(ctx context.Context, s *session.Session, items []Digest, p Params) ([]int32, error) {
			o.sessions.Add(1)
			return o.run(ctx, s, items, p, false)
		},
		Estimate: func(n, m int64) (job.Cost, error) {
			return job.Cost{CPUSeconds: 1e-6 * float64(n+m), Bytes: 16*n + n/8, Rounds: 3}, nil
		},
	}
}

func (o *openProtocol) engine() *engine {
	e := newEngine(o.protocol())
	e.minPartition = 1
	return e
}

var errOpen = errors.New("open: malformed")

func (o *openProtocol) run(ctx context.Context, s *session.Session, items []Digest, p Params, sender bool) ([]int32, error) {
	if err := s.Bind(ctx, "psi.open.v1", session.Field{Name: "params", Value: fmt.Sprint(p)}); err != nil {
		return nil, err
	}
	_, ch, err := s.Other()
	if err != nil {
		return nil, err
	}
	var rows []int32
	if sender {
		rows, err = openSend(ctx, ch, items)
	} else {
		rows, err = openReceive(ctx, ch, items)
	}
	if err != nil {
		return nil, err
	}
	if int64(len(rows)) < p.MinIntersection {
		return nil, job.ErrMinIntersection
	}
	if sender && p.ReceiverOnly {
		rows = nil
	}
	if o.answer != nil {
		rows = o.answer(sender, rows, items)
	}
	return rows, nil
}

func openSend(ctx context.Context, ch session.Channel, items []Digest) ([]int32, error) {
	var all []byte
	for i := range items {
		all = append(all, items[i][:]...)
	}
	if err := ch.Send(ctx, all); err != nil {
		return nil, err
	}
	bits, err := ch.Recv(ctx)
	if err != nil {
		return nil, err
	}
	if len(bits) != len(items) {
		return nil, errOpen
	}
	var rows []int32
	for i, b := range bits {
		if b == 1 {
			rows = append(rows, int32(i))
		}
	}
	return rows, nil
}

func openReceive(ctx context.Context, ch session.Channel, items []Digest) ([]int32, error) {
	all, err := ch.Recv(ctx)
	if err != nil {
		return nil, err
	}
	own := make(map[Digest]int32)
	for i, d := range items {
		own[d] = int32(i)
	}
	var rows []int32
	var bits []byte
	for ; len(all) >= 16; all = all[16:] {
		row, ok := own[Digest(all)]
		if ok {
			rows = append(rows, row)
			bits = append(bits, 1)
		} else {
			bits = append(bits, 0)
		}
	}
	return rows, ch.Send(ctx, bits)
}

// row is a key and a value that no other row has.
type row struct {
	key   string
	value int64
}

// tableOf makes a table whose key column comes last.
func tableOf(t testing.TB, rows []row) *table.Table {
	t.Helper()
	b := table.NewBuilder(table.Schema{{Name: "v", Type: table.Int}, {Name: "id", Type: table.Text, Key: true}})
	for _, r := range rows {
		b.Ints(0).Append(r.value)
		b.Texts(1).Append(r.key)
	}
	tb, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// rowsOf reads a result; a missing row has the value -1.
func rowsOf(t testing.TB, src table.Source) []row {
	t.Helper()
	if s := src.Schema(); len(s) != 2 || s[0].Name != "id" || s[1].Name != "v" {
		t.Fatalf("columns %v", s)
	}
	rows := []row{}
	for b, err := range src.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		keys, values := b.Column(0).(*array.String), b.Column(1).(*array.Int64)
		for r := range int(b.NumRows()) {
			if values.IsNull(r) != keys.IsNull(r) {
				t.Fatal("a row is missing in part")
			}
			if values.IsNull(r) {
				rows = append(rows, row{"", -1})
				continue
			}
			rows = append(rows, row{keys.Value(r), values.Value(r)})
		}
	}
	return rows
}

// specOf is a spec with params of p0, the sender and left, and p1.
func specOf(params string, change func(*job.Spec)) job.Spec {
	s := psitest.Spec("psi.open.v1", psitest.Params(params), Sender, Receiver)
	if change != nil {
		change(&s)
	}
	return s
}

// attempt is one attempt at a run.
type attempt struct {
	engines [2]*engine // nil is one of the open protocol
	files   [2]scratch.Files
	sources [2]table.Source
	specs   [2]job.Spec // the second is the first where it has no kind
	net     sessiontest.Net
}

func (a attempt) run(t testing.TB) (results [2]job.Result, out []sessiontest.Outcome) {
	t.Helper()
	if a.specs[1].Kind == "" {
		a.specs[1] = a.specs[0]
	}
	party := func(i int) sessiontest.Party {
		return func(ctx context.Context, s *session.Session) (err error) {
			e := a.engines[i]
			if e == nil {
				e = (&openProtocol{}).engine()
			}
			results[i], err = e.definition().Run(ctx, job.Env{
				Spec: a.specs[i], Session: s, Inputs: []table.Source{a.sources[i]}, Once: &job.MemoryOnce{}, Scratch: a.files[i],
			})
			return err
		}
	}
	return results, a.net.Run(t, party(0), party(1))
}

// pairsOf puts the two results side by side, sorted.
func pairsOf(t testing.TB, results [2]job.Result) [][2]row {
	t.Helper()
	x, y := rowsOf(t, results[0].Tables["intersection"]), rowsOf(t, results[1].Tables["intersection"])
	if len(x) != len(y) {
		t.Fatalf("tables of %d and %d rows", len(x), len(y))
	}
	ps := make([][2]row, len(x))
	for i := range x {
		ps[i] = [2]row{x[i], y[i]}
	}
	return sorted(ps)
}

func sorted(ps [][2]row) [][2]row {
	slices.SortFunc(ps, func(a, b [2]row) int {
		if a[0].value != b[0].value {
			return int(a[0].value - b[0].value)
		}
		return int(a[1].value - b[1].value)
	})
	return ps
}

// sqlJoin is the ideal functionality: a nested loop over both tables.
func sqlJoin(join string, xs, ys []row) (ps [][2]row, common int64) {
	missing := row{"", -1}
	keys := map[string]bool{}
	matched := map[int]bool{}
	for _, x := range xs {
		alone := true
		for j, y := range ys {
			if x.key == y.key {
				alone = false
				matched[j] = true
				keys[x.key] = true
				if join != joinDifference {
					ps = append(ps, [2]row{x, y})
				}
			}
		}
		if alone && join != joinInner && join != joinRight {
			ps = append(ps, [2]row{x, missing})
		}
	}
	for j, y := range ys {
		if !matched[j] && join != joinInner && join != joinLeft {
			ps = append(ps, [2]row{missing, y})
		}
	}
	return sorted(ps), int64(len(keys))
}

// randomRows makes n rows with keys below domain, which are distinct unless
// repeat is set.
func randomRows(r *rand.Rand, n, domain int, repeat bool) []row {
	keys := r.Perm(domain)
	rows := make([]row, 0, n)
	for i := range n {
		k := i % max(domain, 1)
		if repeat {
			k = r.IntN(domain)
		} else if i >= domain {
			break
		}
		rows = append(rows, row{fmt.Sprintf("K%d", keys[k]), int64(i)})
	}
	return rows
}

func params(output, join, dup string, partition int) string {
	return fmt.Sprintf(`{"output":%q,"join":%q,"duplicates":%q,"partition_rows":%d}`, output, join, dup, partition)
}
