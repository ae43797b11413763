package oprf

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	mrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// items yields each item in the same buffer, as a source is allowed to.
func items(xs []string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var buf []byte
		for _, x := range xs {
			buf = append(buf[:0], x...)
			if !yield(buf) {
				return
			}
			clear(buf)
		}
	}
}

// rowsOf makes a table of keys.
func rowsOf(t testing.TB, xs []string) *table.Table {
	t.Helper()
	b := table.NewBuilder(table.Schema{{Name: "id", Type: table.Text, Key: true}})
	for _, x := range xs {
		b.Texts(0).Append(x)
	}
	tb, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// printed is a table with a fingerprint.
type printed struct {
	*table.Table
	print string
}

func (p printed) KeyFingerprint() string { return p.print }

func number(from, to int) []string {
	xs := make([]string, 0, max(0, to-from))
	for i := from; i < to; i++ {
		xs = append(xs, fmt.Sprintf("id-%06d", i))
	}
	return xs
}

func shuffled(xs []string, seed uint64) []string {
	xs = slices.Clone(xs)
	mrand.New(mrand.NewPCG(seed, 1)).Shuffle(len(xs), func(i, j int) { xs[i], xs[j] = xs[j], xs[i] })
	return xs
}

// world is two parties with what they keep.
type world struct {
	client, server Store
	now            time.Time
	net            sessiontest.Net
}

func newWorld() *world {
	return &world{
		client: Store{Cache: scratch.Memory(), Slot: "the entry"},
		server: Store{Cache: scratch.Memory(), Slot: "the entry"},
		now:    time.Unix(1_750_000_000, 0),
	}
}

// result is what one run gave.
type result struct {
	client, server Match
	out            []sessiontest.Outcome
}

// traffic is how many bytes the server sent.
func (r result) traffic() int64 { return r.out[1].Traffic.Sent }

func (w *world) run(t testing.TB, ys []string, src table.Source, p Params) result {
	t.Helper()
	return w.runEach(t, ys, src, p, p)
}

func (w *world) runEach(t testing.TB, ys []string, src table.Source, pc, ps Params) (r result) {
	t.Helper()
	clock := func() time.Time { return w.now }
	pc.clock, ps.clock = clock, clock
	r.out = w.net.Run(t,
		func(ctx context.Context, s *session.Session) (err error) {
			r.client, err = Query(ctx, s, items(ys), len(ys), w.client, pc)
			return err
		},
		func(ctx context.Context, s *session.Session) (err error) {
			r.server, err = Serve(ctx, s, src, table.RuleNone, w.server, ps)
			return err
		})
	return r
}

// checkIdeal compares a result with the ideal functionality on the plaintext:
// ys the client's, xs the server's.
func checkIdeal(t testing.TB, ys, xs []string, p Params, r result) {
	t.Helper()
	sessiontest.NoErrors(t, r.out)
	in := make(map[string]bool, len(xs))
	for _, x := range xs {
		in[x] = true
	}
	want := slices.DeleteFunc(slices.Clone(ys), func(y string) bool { return !in[y] })
	got := make([]string, 0, len(want))
	for _, row := range r.client.Rows {
		got = append(got, ys[row])
	}
	switch {
	case r.client.Own != len(ys) || r.server.Own != len(xs):
		t.Fatalf("%d and %d rows were put in", r.client.Own, r.server.Own)
	case !p.Broadcast && r.server.Rows != nil:
		t.Fatalf("the server has %d rows and should have none", len(r.server.Rows))
	case p.Broadcast && len(r.server.Rows) != len(want):
		t.Fatalf("the server has %d rows, want %d", len(r.server.Rows), len(want))
	}
	for k, row := range r.server.Rows {
		if xs[row] != got[k] {
			t.Fatalf("position %d is not the same subject on both sides", k)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("%d rows are common, want %d", len(got), len(want))
	}
}

func sum(b []byte) [sha256.Size]byte { return sha256.Sum256(b) }
