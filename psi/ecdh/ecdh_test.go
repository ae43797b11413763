package ecdh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// result is what one run gave.
type result struct {
	sender, receiver Match
	out              []sessiontest.Outcome
}

func intersect(t testing.TB, net sessiontest.Net, xs, ys []string, p Params) result {
	t.Helper()
	return intersectEach(t, net, xs, ys, p, p)
}

func intersectEach(t testing.TB, net sessiontest.Net, xs, ys []string, ps, pr Params) (r result) {
	t.Helper()
	r.out = net.Run(t,
		func(ctx context.Context, s *session.Session) (err error) {
			r.sender, err = Send(ctx, s, psitest.Items(xs), len(xs), ps)
			return err
		},
		func(ctx context.Context, s *session.Session) (err error) {
			r.receiver, err = Receive(ctx, s, psitest.Items(ys), len(ys), pr)
			return err
		})
	return r
}

// checkIdeal compares a result with the ideal functionality on the plaintext.
func checkIdeal(t testing.TB, xs, ys []string, r result) {
	t.Helper()
	psitest.CheckAligned(t, r.out, xs, ys, r.sender.Rows, r.receiver.Rows, true)
}

func TestIdealFunctionality(t *testing.T) {
	atTheMessage := psitest.Sets{
		Name: "one message of points exactly", Xs: psitest.Number(0, chunkPoints), Ys: psitest.Number(chunkPoints-3, chunkPoints+3),
	}
	for _, c := range append(psitest.Edges(1500), atTheMessage) {
		t.Run(c.Name, func(t *testing.T) {
			checkIdeal(t, c.Xs, c.Ys, intersect(t, sessiontest.Net{}, c.Xs, c.Ys, Params{}))
		})
	}
}

func TestSeveralMessagesOfPoints(t *testing.T) {
	n := chunkPoints + 17
	xs, ys := psitest.Shuffled(psitest.Number(0, n), 4), psitest.Shuffled(psitest.Number(n/3, n/3+n), 5)
	checkIdeal(t, xs, ys, intersect(t, sessiontest.Net{}, xs, ys, Params{}))
}

func TestParamsThatChangeTheTags(t *testing.T) {
	xs, ys := psitest.Number(0, 40), psitest.Number(20, 60)
	for _, p := range []Params{{TagBytes: 10}, {TagBytes: 11}, {TagBytes: 12}, {FalseMatchBits: 64}, {FalseMatchBits: 30, TagBytes: 6}} {
		checkIdeal(t, xs, ys, intersect(t, sessiontest.Net{}, xs, ys, p))
	}
}

func TestMinimumIntersection(t *testing.T) {
	xs, ys := psitest.Number(0, 40), psitest.Number(30, 70) // 10 common
	for _, c := range []struct {
		sender, receiver int64
		ok               bool
	}{
		{9, 9, true},
		{10, 10, true},
		{11, 11, false},
		{0, 0, true},
		{11, 0, false},
		{0, 11, false},
		{10, 0, true},
		{0, 10, true},
	} {
		r := intersectEach(t, sessiontest.Net{}, xs, ys, Params{MinIntersection: c.sender}, Params{MinIntersection: c.receiver})
		if c.ok {
			checkIdeal(t, xs, ys, r)
			continue
		}
		// The party that finds it ends at once, and cancels the other; but its
		// message is on the way before that.
		found := 0
		for i, o := range r.out {
			if errors.Is(o.Err, job.ErrMinIntersection) {
				found++
			} else if !errors.Is(o.Err, sessiontest.ErrPeerFailed) {
				t.Errorf("minimum %d/%d: p%d: %v", c.sender, c.receiver, i, o.Err)
			}
		}
		if found == 0 {
			t.Errorf("minimum %d/%d: nobody ended with ErrMinIntersection", c.sender, c.receiver)
		}
		if r.sender.Rows != nil || r.receiver.Rows != nil {
			t.Errorf("minimum %d/%d: rows were returned", c.sender, c.receiver)
		}
	}
	r := intersect(t, sessiontest.Net{}, nil, ys, Params{MinIntersection: 1})
	if !errors.Is(sessiontest.Cause(r.out), job.ErrMinIntersection) {
		t.Errorf("an empty side met a minimum of 1: %v", r.out)
	}
}

func TestBelowTheMinimumBothSidesSaySo(t *testing.T) {
	for _, min := range [][2]int64{{3, 3}, {3, 0}, {0, 3}} {
		var errs [2]error
		xs, ys := psitest.Number(0, 4), psitest.Number(2, 6)
		sessiontest.Net{}.Run(t,
			psitest.KeepGoing(&errs[0], func(ctx context.Context, s *session.Session) error {
				_, err := Send(ctx, s, psitest.Items(xs), len(xs), Params{MinIntersection: min[0]})
				return err
			}),
			psitest.KeepGoing(&errs[1], func(ctx context.Context, s *session.Session) error {
				_, err := Receive(ctx, s, psitest.Items(ys), len(ys), Params{MinIntersection: min[1]})
				return err
			}))
		for i, err := range errs {
			if !errors.Is(err, job.ErrMinIntersection) {
				t.Errorf("minimum %v: p%d ended with %v", min, i, err)
			}
		}
	}
}

// record returns a net that keeps the views of both parties.
func record(views *[2]sessiontest.View) sessiontest.Net {
	return sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Self == "p0" {
			return sessiontest.Record(ch, &views[0])
		}
		return sessiontest.Record(ch, &views[1])
	}}
}

// kinds returns the kinds of the protocol's messages, after the first frame,
// which binds the session.
func kinds(messages [][]byte) []kind {
	var ks []kind
	for _, m := range messages[1:] {
		ks = append(ks, kind(m[0]))
	}
	return ks
}

// matchedPlaces returns the places at which common rows came back, as the
// receiver can tell from its view and its own randomness.
func matchedPlaces(t *testing.T, view *sessiontest.View, rand io.Reader, nx, ny int) []int {
	t.Helper()
	var points, tags []byte
	for _, m := range view.Received()[1:] {
		_, body, err := messages.ParseFrame(m, uint64(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		switch kind(m[0]) {
		case kindPoints:
			points = append(points, body...)
		case kindTags:
			tags = append(tags, body...)
		}
	}
	size := len(tags) / ny
	mine := receiverTags(t, rand, points, nx, size)
	var places []int
	for p := range ny {
		if mine[string(tags[p*size:][:size])] {
			places = append(places, p)
		}
	}
	return places
}

// Below the minimum, the receiver's whole view tells how many rows are common
// and not which: no permutation is in it, and the place at which a common row
// came back is independent of the row.
func TestViewBelowTheMinimumDoesNotLink(t *testing.T) {
	const ny, runs = 8, 160
	ys := psitest.Number(0, ny)
	var counts [ny]int // how often the one common row, ys[0], came back at a place
	for i := range runs {
		var views [2]sessiontest.View
		net := record(&views)
		// The receiver's randomness is the same in all runs: what varies is the
		// sender's, whose secret the place is.
		receiver := func() io.Reader { return newStream([seedSize]byte{1}, 0) }
		net.Rand = func(party int) io.Reader {
			if party == 1 {
				return receiver()
			}
			return newStream([seedSize]byte{0, byte(i)}, 0)
		}
		r := intersect(t, net, []string{ys[0], "zzz"}, ys, Params{MinIntersection: 2})
		if !errors.Is(sessiontest.Cause(r.out), job.ErrMinIntersection) {
			t.Fatal(r.out)
		}
		if ks := kinds(views[1].Received()); slices.Contains(ks, kindSeed) || slices.Contains(kinds(views[0].Received()), kindMatches) {
			t.Fatalf("below the minimum, the receiver was sent %v", ks)
		}
		places := matchedPlaces(t, &views[1], receiver(), 2, ny)
		if len(places) != 1 {
			t.Fatalf("the receiver finds %d common rows, want 1", len(places))
		}
		counts[places[0]]++
	}
	// Chi-squared with 7 degrees of freedom: above 29.9 once in 10,000 runs of
	// a fixed seed that was not chosen.
	chi := 0.0
	for _, c := range counts {
		d := float64(c) - runs/float64(ny)
		chi += d * d / (runs / float64(ny))
	}
	if chi > 29.9 {
		t.Errorf("the place of a common row depends on the row: %v, chi-squared %.1f", counts, chi)
	}
}

// Above it the same view does link, which shows that the test above could have
// failed.
func TestViewAboveTheMinimumLinks(t *testing.T) {
	const ny = 8
	ys := psitest.Number(0, ny)
	var views [2]sessiontest.View
	net := record(&views)
	net.Rand = func(party int) io.Reader { return newStream([seedSize]byte{byte(party), 9}, 0) }
	checkIdeal(t, []string{ys[5], "zzz"}, ys, intersect(t, net, []string{ys[5], "zzz"}, ys, Params{MinIntersection: 1}))
	places := matchedPlaces(t, &views[1], newStream([seedSize]byte{1, 9}, 0), 2, ny)
	var seed [seedSize]byte
	for _, m := range views[1].Received()[1:] {
		if kind(m[0]) == kindSeed {
			copy(seed[:], m[2:])
		}
	}
	order := receiverOrder(newStream([seedSize]byte{1, 9}, 0), ny)
	if row := order[permutation(seed, ny)[places[0]]]; row != 5 {
		t.Errorf("the released permutation leads to row %d, want 5", row)
	}
}

// What the sender receives is points, a count and a bitmap over its own rows.
func TestSenderSeesNothingElse(t *testing.T) {
	var views [2]sessiontest.View
	xs, ys := psitest.Number(0, 20), psitest.Number(10, 30)
	checkIdeal(t, xs, ys, intersect(t, record(&views), xs, ys, Params{}))
	if got, want := kinds(views[0].Received()), []kind{kindRows, kindPoints, kindCount, kindMatches, kindDone}; !slices.Equal(got, want) {
		t.Errorf("the sender received %v, want %v", got, want)
	}
	if got, want := kinds(views[1].Received()), []kind{kindRows, kindPoints, kindTags, kindCheck, kindSeed, kindDone}; !slices.Equal(got, want) {
		t.Errorf("the receiver received %v, want %v", got, want)
	}
}

// The sent order is secret and new each time: the result's order, which both
// see, must not be that of either table.
func TestOrderIsRandomAndFresh(t *testing.T) {
	xs := psitest.Number(0, 60)
	a := intersect(t, sessiontest.Net{}, xs, xs, Params{})
	b := intersect(t, sessiontest.Net{}, xs, xs, Params{})
	checkIdeal(t, xs, xs, a)
	checkIdeal(t, xs, xs, b)
	if slices.IsSorted(a.sender.Rows) || slices.Equal(a.sender.Rows, b.sender.Rows) {
		t.Error("the order follows the table, or is the same in two sessions")
	}
}

// Two sessions on the same items and even the same randomness have different
// points, because the hash is bound to the session.
func TestPointsAreBoundToTheSession(t *testing.T) {
	net := func(v *[2]sessiontest.View) sessiontest.Net {
		n := record(v)
		n.Rand = func(i int) io.Reader { return newStream([seedSize]byte{byte(i)}, 0) }
		return n
	}
	var v1, v2 [2]sessiontest.View
	xs := psitest.Number(0, 3)
	intersect(t, net(&v1), xs, xs, Params{})
	intersect(t, net(&v2), xs, xs, Params{})
	if bytes.Equal(v1[0].Sent()[2], v2[0].Sent()[2]) {
		t.Error("the same points in two sessions")
	}
}

func TestDuplicatesAreRefusedWithTheirCount(t *testing.T) {
	xs := append(psitest.Number(0, 10), "id-000003", "id-000003", "id-000004")
	for _, role := range []int{0, 1} {
		sides := [2][]string{psitest.Number(0, 5), psitest.Number(0, 5)}
		sides[role] = xs
		err := sessiontest.Cause(intersect(t, sessiontest.Net{}, sides[0], sides[1], Params{}).out)
		if !errors.Is(err, ErrDuplicates) || !strings.Contains(err.Error(), "3 of 13") {
			t.Errorf("role %d: %v", role, err)
		}
		if err != nil && strings.Contains(err.Error(), "id-0") {
			t.Errorf("the error holds a key: %v", err)
		}
	}
}

func TestItemsThatAreNotAsManyAsAnnounced(t *testing.T) {
	for _, n := range []int{2, 4, -1, MaxRows + 1} {
		out := sessiontest.Net{}.Run(t,
			func(ctx context.Context, s *session.Session) error {
				_, err := Send(ctx, s, psitest.Items(psitest.Number(0, 3)), n, Params{})
				return err
			},
			func(ctx context.Context, s *session.Session) error {
				_, err := Receive(ctx, s, psitest.Items(psitest.Number(0, 3)), 3, Params{})
				return err
			})
		if err := sessiontest.Cause(out); !errors.Is(err, ErrSize) {
			t.Errorf("n = %d: %v", n, err)
		}
	}
}

func TestMismatchNamesTheField(t *testing.T) {
	for field, p := range map[string]Params{
		"items":            {Items: "id.v1 of 2 columns"},
		"false_match_bits": {FalseMatchBits: 50},
		"tag_bytes":        {TagBytes: 10},
	} {
		err := sessiontest.Cause(intersectEach(t, sessiontest.Net{}, psitest.Number(0, 2), psitest.Number(0, 2), Params{}, p).out)
		var m *session.MismatchError
		if !errors.As(err, &m) || m.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	both := func(ctx context.Context, s *session.Session) error {
		_, err := Send(ctx, s, psitest.Items(nil), 0, Params{})
		return err
	}
	var m *session.MismatchError
	if err := sessiontest.Cause(sessiontest.Net{}.Run(t, both, both)); !errors.As(err, &m) || m.Field != "sender" {
		t.Errorf("two senders: %v", err)
	}
}

func TestTagBytes(t *testing.T) {
	for _, c := range []struct {
		p    Params
		n, m int
		want int // 0 is refused
	}{
		{Params{}, 0, 0, 5},
		{Params{}, 1, 1, 5},
		{Params{}, 1 << 16, 1 << 16, 9},
		{Params{}, 1 << 20, 1 << 20, 10},
		{Params{}, 1<<20 + 1, 1 << 20, 11},
		{Params{}, 1 << 24, 1 << 24, 11},
		{Params{}, 1<<24 + 1, 1 << 24, 12},
		{Params{}, MaxRows, MaxRows, 12},
		{Params{FalseMatchBits: 41}, MaxRows, MaxRows, 0},
		{Params{}, 1 << 28, 1 << 12, 12}, // 2^55 pairs within the larger side
		{Params{}, 1 << 28, 1, 12},
		{Params{FalseMatchBits: 64}, 1 << 28, 1 << 4, 12}, // as many as there are
		{Params{}, 1, 1 << 10, 8},
		{Params{}, 1 << 10, 1 << 10, 8},
		{Params{FalseMatchBits: 30}, 1 << 25, 1 << 25, 10},
		{Params{FalseMatchBits: 30}, 1 << 26, 1 << 25, 11},
		{Params{FalseMatchBits: 64}, 1 << 16, 1 << 16, 12},
		{Params{FalseMatchBits: 64}, 1<<16 + 1, 1 << 16, 0},
		{Params{FalseMatchBits: 64}, 1 << 8, 1 << 8, 10},
		{Params{TagBytes: 10}, 1, 1, 10},
		{Params{TagBytes: 5}, 2, 1, 0},
		{Params{FalseMatchBits: 30, TagBytes: 5}, 1 << 5, 1 << 5, 5},
		{Params{FalseMatchBits: 30}, 1 << 28, 1 << 28, 11},
		{Params{TagBytes: 10}, 1<<20 + 1, 1 << 20, 0},
	} {
		got, err := c.p.tagBytes(c.n, c.m)
		if got != c.want || (err != nil) != (c.want == 0) || (err != nil && !errors.Is(err, ErrSize)) {
			t.Errorf("%+v, %d × %d: %d, %v; want %d", c.p, c.n, c.m, got, err, c.want)
		}
	}
}

func TestParamsValidate(t *testing.T) {
	bad := Params{FalseMatchBits: 29, TagBytes: 13, MinIntersection: -1}
	err := bad.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range []string{"false_match_bits", "tag_bytes", "minimum"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q is not named in %q", name, err)
		}
	}
	r := intersect(t, sessiontest.Net{}, nil, nil, bad)
	if sessiontest.Cause(r.out) == nil {
		t.Error("Send and Receive ran with bad parameters")
	}
	if err := (Params{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
}

func TestBytesPerRow(t *testing.T) {
	const n = 1 << 12
	xs, ys := psitest.Number(0, n), psitest.Number(n/2, n/2+n)
	r := intersect(t, sessiontest.Net{}, xs, ys, Params{})
	checkIdeal(t, xs, ys, r)
	total := r.out[0].Traffic.Sent + r.out[1].Traffic.Sent
	if perRow := float64(total) / n; perRow > 80 {
		t.Errorf("%.1f bytes a row, at most 80 are allowed", perRow)
	} else {
		t.Logf("%.2f bytes a row", perRow)
	}
	if r.out[0].Traffic.Received != r.out[1].Traffic.Sent {
		t.Error("the two meters disagree")
	}
}

// The memory that both parties hold at once, for one row of each: at most 200
// bytes a party's row.
func TestMemoryPerRow(t *testing.T) {
	if testing.Short() {
		t.Skip("allocates for 2^14 rows")
	}
	const n = 1 << 14
	xs, ys := psitest.Number(0, n), psitest.Number(n/2, n/2+n)
	var before, during runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold outlives the first
	runtime.ReadMemStats(&before)
	var peak int64
	net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Self != "p1" {
			return ch
		}
		return sessiontest.Tamper(ch, func(_ int, p []byte) [][]byte {
			runtime.GC() // what is left is held
			runtime.ReadMemStats(&during)
			peak = max(peak, int64(during.HeapAlloc)-int64(before.HeapAlloc))
			return [][]byte{p}
		})
	}}
	checkIdeal(t, xs, ys, intersect(t, net, xs, ys, Params{}))
	// Messages on their way do not grow with the rows: 256 KiB, two ways, at
	// four stations.
	perRow := float64(peak) / (2 * n)
	t.Logf("%.0f bytes a row of a party, with messages on the way", perRow)
	if perRow > 200 {
		t.Errorf("%.0f bytes a row, at most 200 are allowed", perRow)
	}
}

func TestContextEndsBothRoles(t *testing.T) {
	stop := errors.New("stop")
	for _, role := range []func(context.Context, *session.Session, iter.Seq[[]byte], int, Params) (Match, error){Send, Receive} {
		over := make(chan struct{})
		out := sessiontest.Net{}.Run(t,
			func(ctx context.Context, s *session.Session) error {
				defer close(over)
				ctx, cancel := context.WithCancelCause(ctx)
				cancel(stop)
				if _, err := role(ctx, s, psitest.Items(nil), 0, Params{}); !errors.Is(err, stop) {
					return fmt.Errorf("ended with %v", err)
				}
				return nil
			},
			func(ctx context.Context, _ *session.Session) error {
				select {
				case <-over:
				case <-ctx.Done():
				}
				return nil
			})
		sessiontest.NoErrors(t, out)
	}
}

func TestRandomnessThatRunsOut(t *testing.T) {
	for have := range 4 {
		net := sessiontest.Net{Rand: func(i int) io.Reader {
			if i == 0 {
				return bytes.NewReader(make([]byte, 32*have))
			}
			return newStream([seedSize]byte{}, 0)
		}}
		if r := intersect(t, net, psitest.Number(0, 2), psitest.Number(0, 2), Params{}); sessiontest.Cause(r.out) == nil {
			t.Errorf("a session ran on %d bytes of randomness", 32*have)
		}
	}
}
