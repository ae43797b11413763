package oprf_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/okvs"
	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/oprf/oprftest"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// keys returns n keys from number from on.
func keys(from, n int) []gf128.Element {
	ks := make([]gf128.Element, n)
	for i := range ks {
		seed := [share.KeySize]byte{byte(from + i), byte((from + i) >> 8), byte((from + i) >> 16)}
		gf128.Random(share.KeyedStream(&seed), ks[i:i+1])
	}
	return ks
}

// wire is a Conn over the session's own channel.
func wire(s *session.Session) oprf.Conn {
	_, ch, err := s.Other()
	if err != nil {
		panic(err)
	}
	return ch
}

// outputs collects what a party gets and checks that each key is given once.
type outputs struct {
	mu     sync.Mutex
	byRow  []gf128.Element
	places []bool
	twice  int
}

func newOutputs(n int) *outputs {
	return &outputs{byRow: make([]gf128.Element, n), places: make([]bool, n)}
}

func (o *outputs) take(first int, values []gf128.Element, rows []int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range values {
		if o.places[first+i] || !o.byRow[rows[i]].IsZero() {
			o.twice++
		}
		o.places[first+i] = true
		o.byRow[rows[i]] = values[i]
	}
}

func (o *outputs) complete() bool { return o.twice == 0 && !slices.Contains(o.places, false) }

// run runs both roles and returns what the sender and the receiver got.
func run(t testing.TB, net sessiontest.Net, ole oprf.OLE, xs, ys []gf128.Element) (*outputs, *outputs, []sessiontest.Outcome) {
	t.Helper()
	x, y := newOutputs(len(xs)), newOutputs(len(ys))
	config := func(ctx context.Context, s *session.Session) (oprf.Config, error) {
		sub, err := s.Fork(ctx, "vole")
		return oprf.Config{Session: sub, Conn: wire(s), Rows: len(ys), OLE: ole}, err
	}
	out := net.Run(t,
		func(ctx context.Context, s *session.Session) error {
			cfg, err := config(ctx, s)
			if err != nil {
				return err
			}
			defer cfg.Session.CloseSend()
			return oprf.Send(ctx, cfg, xs, x.take)
		},
		func(ctx context.Context, s *session.Session) error {
			cfg, err := config(ctx, s)
			if err != nil {
				return err
			}
			defer cfg.Session.CloseSend()
			e, err := oprf.Encode(ctx, s.Rand(), ys)
			if err != nil {
				return err
			}
			defer e.Close()
			return e.Receive(ctx, cfg, y.take)
		})
	return x, y, out
}

// Both parties have the same value of the same key, and no two keys have one.
func TestIdealFunctionality(t *testing.T) {
	for _, c := range []struct{ xs, ys []gf128.Element }{
		{nil, nil},
		{keys(0, 5), nil},
		{nil, keys(0, 5)},
		{keys(0, 1), keys(0, 1)},
		{keys(0, 300), keys(100, 300)},
		{keys(0, 20_000), keys(7, 1)},
		{keys(0, 5000), keys(4000, 3000)},
	} {
		for name, ole := range map[string]oprf.OLE{"silent": nil, "dealer": oprftest.Dealer{}} {
			x, y, out := run(t, sessiontest.Net{}, ole, c.xs, c.ys)
			sessiontest.NoErrors(t, out)
			if !x.complete() || !y.complete() {
				t.Fatalf("%s, %d × %d: keys without a value, or with two", name, len(c.xs), len(c.ys))
			}
			of := map[gf128.Element]gf128.Element{}
			for i, k := range c.ys {
				of[k] = y.byRow[i]
			}
			values := map[gf128.Element]bool{}
			for _, v := range of {
				values[v] = true
			}
			for i, k := range c.xs {
				if v, both := of[k]; both && v != x.byRow[i] {
					t.Fatalf("%s, %d × %d: the parties have two values of one key", name, len(c.xs), len(c.ys))
				} else if !both && values[x.byRow[i]] {
					t.Fatalf("%s, %d × %d: two keys have one value", name, len(c.xs), len(c.ys))
				}
			}
		}
	}
}

// Several bins, in pieces of several sizes.
func TestPieces(t *testing.T) {
	xs, ys := keys(50_000, 100_000), keys(0, 180_000)
	for _, limit := range []int{1, 200_000, 1 << 30} {
		x, y, out := run(t, sessiontest.Net{}, oprftest.Dealer{Limit: limit}, xs, ys)
		sessiontest.NoErrors(t, out)
		if !x.complete() || !y.complete() || !slices.Equal(x.byRow, y.byRow[50_000:150_000]) {
			t.Errorf("in pieces of %d: other values", limit)
		}
	}
}

// One encoding serves several senders, whose functions have nothing in common.
func TestOneEncodingForSeveralSenders(t *testing.T) {
	const n = 4000
	ys := keys(0, n)
	var got [2]*outputs
	var sent [2]*outputs
	sender := func(i int) sessiontest.Party {
		return func(ctx context.Context, s *session.Session) error {
			pair, err := s.Pair(ctx, "vole", "p0")
			if err != nil {
				return err
			}
			defer pair.CloseSend()
			sent[i] = newOutputs(n)
			return oprf.Send(ctx, oprf.Config{Session: pair, Conn: s.Peer("p0"), Rows: n}, ys, sent[i].take)
		}
	}
	sessiontest.NoErrors(t, sessiontest.Net{}.Run(t,
		func(ctx context.Context, s *session.Session) error {
			e, err := oprf.Encode(ctx, s.Rand(), ys)
			if err != nil {
				return err
			}
			defer e.Close()
			var wg sync.WaitGroup
			errs := make([]error, 2)
			for i, peer := range []session.PartyID{"p1", "p2"} {
				pair, err := s.Pair(ctx, "vole", peer)
				if err != nil {
					return err
				}
				defer pair.CloseSend()
				got[i] = newOutputs(n)
				wg.Go(func() {
					errs[i] = e.Receive(ctx, oprf.Config{Session: pair, Conn: s.Peer(peer), Rows: n}, got[i].take)
				})
			}
			wg.Wait()
			return errors.Join(errs...)
		}, sender(0), sender(1)))
	for i := range got {
		if !got[i].complete() || !slices.Equal(got[i].byRow, sent[i].byRow) {
			t.Errorf("sender %d: other values", i)
		}
	}
	for i := range n {
		if got[0].byRow[i] == got[1].byRow[i] {
			t.Fatal("two senders have one function")
		}
	}
}

// chiSquared holds every byte of elements to uniform bytes.
func chiSquared(t *testing.T, what string, raw []byte) {
	t.Helper()
	for at := range gf128.Size {
		var count [256]float64
		for i := at; i < len(raw); i += gf128.Size {
			count[raw[i]]++
		}
		x, want := 0.0, float64(len(raw)/gf128.Size)/256
		for _, k := range count {
			x += (k - want) * (k - want) / want
		}
		if math.Abs(x-255) > 6*math.Sqrt(2*255) {
			t.Errorf("%s: byte %d: chi-squared %.0f with 255 degrees of freedom", what, at, x)
		}
	}
}

// What the sender sees of the keys is uniform, and so are the values of keys that
// the receiver does not have.
func TestViewsAreUniform(t *testing.T) {
	const n = 30_000
	var view sessiontest.View
	net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Self == "p0" && l.Label == "" {
			return sessiontest.Record(ch, &view)
		}
		return ch
	}}
	x, _, out := run(t, net, nil, keys(n, n), keys(0, n))
	sessiontest.NoErrors(t, out)
	chiSquared(t, "values", gf128.AppendBytes(nil, x.byRow))
	var vector []byte
	for _, m := range view.Received()[1:] {
		vector = append(vector, m...)
	}
	if len(vector) < n*gf128.Size {
		t.Fatalf("%d bytes of the vector", len(vector))
	}
	chiSquared(t, "the vector", vector)
	if len(view.Sent()) != 0 {
		t.Errorf("the sender sent %d messages", len(view.Sent()))
	}
	// Its length is that of a set of this size.
	l, err := okvs.NewLayout(n)
	if err != nil || len(vector) != l.Size()*gf128.Size {
		t.Errorf("%d bytes of the vector, want %d", len(vector), l.Size()*gf128.Size)
	}
}

func TestDuplicatesAreRefusedWithTheirCount(t *testing.T) {
	bad := append(keys(0, 10), keys(3, 2)...)
	for role, sets := range [][2][]gf128.Element{{bad, keys(0, 5)}, {keys(0, 5), bad}} {
		_, _, out := run(t, sessiontest.Net{}, oprftest.Dealer{}, sets[0], sets[1])
		if err := sessiontest.Cause(out); !errors.Is(err, oprf.ErrDuplicates) || !strings.Contains(err.Error(), "2 of 12") {
			t.Errorf("role %d: %v", role, err)
		}
	}
}

// Messages that the layout does not allow are refused: each of them, longer,
// shorter and empty, and one that never comes.
func TestMalformedMessages(t *testing.T) {
	ys := keys(0, 20_000) // a seed and two messages of the vector
	for at := range 3 {
		for name, change := range map[string]sessiontest.Change{
			"cut":   sessiontest.Truncate(at, 1),
			"grown": sessiontest.Grow(at, 1),
			"empty": sessiontest.Replace(at, nil),
		} {
			net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
				if l.Self == "p1" && l.Label == "" {
					return sessiontest.Tamper(ch, change)
				}
				return ch
			}}
			_, _, out := run(t, net, oprftest.Dealer{}, keys(0, 3), ys)
			if !errors.Is(out[0].Err, oprf.ErrMessage) {
				t.Errorf("message %d %s: %v", at, name, out[0].Err)
			}
		}
		net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
			if l.Self == "p1" && l.Label == "" {
				return sessiontest.Tamper(ch, sessiontest.Drop(at))
			}
			return ch
		}}
		_, _, out := run(t, net, oprftest.Dealer{}, keys(0, 3), ys)
		if err := out[0].Err; !errors.Is(err, io.EOF) && !errors.Is(err, oprf.ErrMessage) {
			t.Errorf("message %d lost: %v", at, err)
		}
	}
}

func TestSizes(t *testing.T) {
	e, err := oprf.Encode(t.Context(), share.KeyedStream(new([share.KeySize]byte)), keys(0, 3))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Receive(t.Context(), oprf.Config{Rows: 4}, nil); !errors.Is(err, oprf.ErrSize) {
		t.Errorf("more keys announced than encoded: %v", err)
	}
	if err := oprf.Send(t.Context(), oprf.Config{Rows: oprf.MaxKeys + 1}, nil, nil); !errors.Is(err, oprf.ErrSize) {
		t.Errorf("too many keys: %v", err)
	}
	if err := oprf.Send(t.Context(), oprf.Config{Rows: -1}, nil, nil); !errors.Is(err, oprf.ErrSize) {
		t.Errorf("fewer than no keys: %v", err)
	}
}

// Encode ends with its context, and Close does not wait for the rest.
func TestEncodeEnds(t *testing.T) {
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	e, err := oprf.Encode(ctx, share.KeyedStream(new([share.KeySize]byte)), keys(0, 100))
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	e.Close() // twice does no harm
	if _, err := oprf.Encode(t.Context(), strings.NewReader("short"), nil); err == nil {
		t.Error("a source that ends was enough")
	}
}

func TestKeysOfItems(t *testing.T) {
	transcript := [32]byte{1}
	seq := func(xs ...string) iter.Seq[[]byte] {
		return func(yield func([]byte) bool) {
			var buf []byte
			for _, x := range xs {
				if buf = append(buf[:0], x...); !yield(buf) {
					return
				}
			}
		}
	}
	got, err := oprf.Keys(t.Context(), transcript, seq("a", "", "b"), 3)
	if err != nil {
		t.Fatal(err)
	}
	again, err := oprf.Keys(t.Context(), transcript, seq("b", "a"), 2)
	if err != nil || again[0] != got[2] || again[1] != got[0] {
		t.Errorf("the same items have other keys: %v", err)
	}
	other, err := oprf.Keys(t.Context(), [32]byte{2}, seq("a"), 1)
	if err != nil || other[0] == got[0] {
		t.Errorf("an item has one key in two sessions: %v", err)
	}
	for _, n := range []int{-1, 0, 2, 4, oprf.MaxKeys + 1} {
		if _, err := oprf.Keys(t.Context(), transcript, seq("a", "", "b"), n); !errors.Is(err, oprf.ErrSize) {
			t.Errorf("three items as %d: %v", n, err)
		}
	}
	// More than a batch.
	many := func(yield func([]byte) bool) {
		for i := range 50_000 {
			if !yield(fmt.Append(nil, i)) {
				return
			}
		}
	}
	all, err := oprf.Keys(t.Context(), transcript, many, 50_000)
	if err != nil {
		t.Fatal(err)
	}
	one, err := oprf.Keys(t.Context(), transcript, seq("49999", "16384", "0"), 3)
	if err != nil || one[0] != all[49_999] || one[1] != all[16_384] || one[2] != all[0] {
		t.Errorf("keys are at other places than their items: %v", err)
	}
}

func TestKeysOfDigests(t *testing.T) {
	digests := make([][oprf.DigestSize]byte, 5000)
	for i := range digests {
		digests[i] = [oprf.DigestSize]byte{byte(i), byte(i >> 8)}
	}
	one, err := oprf.KeysOfDigests(t.Context(), [32]byte{1}, digests)
	if err != nil {
		t.Fatal(err)
	}
	two, err := oprf.KeysOfDigests(t.Context(), [32]byte{2}, digests)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[gf128.Element]bool{}
	for i := range digests {
		if seen[one[i]] || seen[two[i]] || one[i] == two[i] || one[i] == gf128.FromBytes(digests[i]) {
			t.Fatalf("digest %d has the key of another one or of another session, or is its own", i)
		}
		seen[one[i]], seen[two[i]] = true, true
	}
	last, err := oprf.KeysOfDigests(t.Context(), [32]byte{1}, digests[4999:])
	if err != nil || last[0] != one[4999] {
		t.Errorf("a key depends on its place: %v", err)
	}
}

func BenchmarkOPRF(b *testing.B) {
	for _, log := range []int{16, 18, 20} {
		b.Run(fmt.Sprintf("2^%d", log), func(b *testing.B) {
			n := 1 << log
			xs, ys := keys(0, n), keys(n/2, n)
			for b.Loop() {
				_, _, out := run(b, sessiontest.Net{Connect: sessiontest.Pipes(8)}, nil, xs, ys)
				sessiontest.NoErrors(b, out)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/key")
		})
	}
}
