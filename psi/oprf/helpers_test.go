package oprf

import (
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

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
			r.client, err = Query(ctx, s, psitest.Items(ys), len(ys), w.client, pc)
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
	psitest.CheckAligned(t, r.out, xs, ys, r.server.Rows, r.client.Rows, p.Broadcast)
	if r.client.Own != len(ys) || r.server.Own != len(xs) {
		t.Fatalf("%d and %d rows were put in", r.client.Own, r.server.Own)
	}
}

func sum(b []byte) [sha256.Size]byte { return sha256.Sum256(b) }
