package ecdh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// receiverOnly is a run that tells the sender nothing, with minima of both.
func receiverOnly(sender, receiver int64) (ps, pr Params) {
	ps, pr = Params{ReceiverOnly: true, MinIntersection: sender}, Params{ReceiverOnly: true, MinIntersection: receiver}
	return ps, pr
}

// checkReceiverOnly compares a result with the ideal functionality: the
// receiver has the rows, and the sender nothing.
func checkReceiverOnly(t testing.TB, xs, ys []string, r result) {
	t.Helper()
	sessiontest.NoErrors(t, r.out)
	if r.sender.Rows != nil {
		t.Errorf("the sender has %d rows", len(r.sender.Rows))
	}
	var want, got []string
	for _, y := range ys {
		if slices.Contains(xs, y) {
			want = append(want, y)
		}
	}
	for _, i := range r.receiver.Rows {
		got = append(got, ys[i])
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the receiver has %d rows, or others than the %d common ones", len(got), len(want))
	}
}

func TestReceiverOnlyIdealFunctionality(t *testing.T) {
	n := chunkPoints + 17
	for name, c := range map[string]struct{ xs, ys []string }{
		"both empty":             {nil, nil},
		"sender empty":           {nil, psitest.Number(0, 5)},
		"receiver empty":         {psitest.Number(0, 5), nil},
		"one and the same":       {psitest.Number(0, 1), psitest.Number(0, 1)},
		"one and another":        {psitest.Number(0, 1), psitest.Number(1, 2)},
		"all":                    {psitest.Number(0, 70), psitest.Shuffled(psitest.Number(0, 70), 1)},
		"none":                   {psitest.Number(0, 70), psitest.Number(70, 140)},
		"half":                   {psitest.Shuffled(psitest.Number(0, 200), 2), psitest.Shuffled(psitest.Number(100, 300), 3)},
		"skewed to the receiver": {[]string{"zzz", "id-001499"}, psitest.Number(0, 1500)},
		"several messages":       {psitest.Shuffled(psitest.Number(0, n), 4), psitest.Shuffled(psitest.Number(n-40, n+60), 5)},
	} {
		ps, pr := receiverOnly(0, 0)
		t.Run(name, func(t *testing.T) {
			checkReceiverOnly(t, c.xs, c.ys, intersectEach(t, sessiontest.Net{}, c.xs, c.ys, ps, pr))
		})
	}
}

// The higher minimum of the two holds; below it both say so, the receiver is
// never told the order, and sets that are smaller are not even masked.
func TestReceiverOnlyMinimum(t *testing.T) {
	xs, ys := psitest.Number(0, 40), psitest.Number(30, 90) // 10 common
	for _, c := range []struct {
		sender, receiver int64
		ok, early        bool
	}{
		{0, 0, true, false},
		{10, 10, true, false},
		{10, 0, true, false},
		{0, 10, true, false},
		{11, 11, false, false},
		{11, 0, false, false},
		{0, 11, false, false},
		{41, 0, false, true},
		{0, 41, false, true},
		{1 << 62, 0, false, true},
	} {
		what := fmt.Sprintf("minimum %d/%d", c.sender, c.receiver)
		ps, pr := receiverOnly(c.sender, c.receiver)
		var views [2]sessiontest.View
		var errs [2]error
		var r result
		r.out = record(&views).Run(t,
			psitest.KeepGoing(&errs[0], func(ctx context.Context, s *session.Session) (err error) {
				r.sender, err = Send(ctx, s, psitest.Items(xs), len(xs), ps)
				return err
			}),
			psitest.KeepGoing(&errs[1], func(ctx context.Context, s *session.Session) (err error) {
				r.receiver, err = Receive(ctx, s, psitest.Items(ys), len(ys), pr)
				return err
			}))
		if c.ok {
			if errs[0] != nil || errs[1] != nil {
				t.Fatalf("%s: %v, %v", what, errs[0], errs[1])
			}
			checkReceiverOnly(t, xs, ys, r)
			continue
		}
		for i, err := range errs {
			if !errors.Is(err, job.ErrMinIntersection) {
				t.Errorf("%s: p%d ended with %v", what, i, err)
			}
		}
		if r.sender.Rows != nil || r.receiver.Rows != nil {
			t.Errorf("%s: rows were returned", what)
		}
		if told := kinds(views[1].Received()); slices.Contains(told, kindSeed) || slices.Contains(told, kindPoints) == c.early {
			t.Errorf("%s: the receiver received %v", what, told)
		}
	}
}

// What the sender receives has the same kinds and lengths whatever is common,
// at or above the minimum; a bitmap or a count is not among it.
func TestReceiverOnlyTellsTheSenderNothing(t *testing.T) {
	xs := psitest.Number(0, 20)
	ps, pr := receiverOnly(3, 3)
	var first []string
	for _, common := range []int{3, 4, 20} {
		var views [2]sessiontest.View
		ys := psitest.Number(20-common, 40-common)
		checkReceiverOnly(t, xs, ys, intersectEach(t, record(&views), xs, ys, ps, pr))
		var shape []string
		for _, m := range views[0].Received()[1:] {
			shape = append(shape, fmt.Sprint(messages.Name(kind(m[0])), len(m)))
		}
		if first == nil {
			first = shape
			want := []kind{kindRows, kindMinimum, kindPoints, kindEnough, kindDone}
			if got := kinds(views[0].Received()); !slices.Equal(got, want) {
				t.Errorf("the sender received %v, want %v", got, want)
			}
		}
		if !slices.Equal(shape, first) {
			t.Errorf("%d common: the sender received %v, with 3 it was %v", common, shape, first)
		}
		if got, want := kinds(views[1].Received()), []kind{kindRows, kindMinimum, kindPoints, kindTags, kindCheck, kindSeed}; !slices.Equal(got, want) {
			t.Errorf("the receiver received %v, want %v", got, want)
		}
		// The body of the last is the same number in all runs.
		last := views[0].Received()[len(views[0].Received())-1]
		if _, body, err := messages.ParseFrame(last, 4); err != nil || body[0] != untold {
			t.Errorf("%d common: done says %x, %v", common, body, err)
		}
	}
}

func TestReceiverOnlyTampering(t *testing.T) {
	xs, ys := psitest.Number(0, 20), psitest.Number(10, 30)
	ps, pr := receiverOnly(0, 0)
	for party, n := range map[session.PartyID]int{"p0": 7, "p1": 6} { // with the frame that binds
		for a := range psitest.Attacks(n, psitest.FurtherIn) {
			r := intersectWithin(t, psitest.Tampering(party, "", a.Change), a.Idle(100*time.Millisecond), xs, ys, ps, pr)
			err := a.CheckNoticed(t, string(party), r.out, faults...)
			// Of all messages only a minimum, which bears no digest, can pass for
			// a small intersection.
			if a.At() != 2 && errors.Is(err, job.ErrMinIntersection) {
				t.Errorf("%v of %s passed for a small intersection", a, party)
			}
			if r.sender.Rows != nil || r.out[1].Err == nil != (len(r.receiver.Rows) == 10) {
				t.Errorf("%v of %s: %d and %d rows, %v", a, party, len(r.sender.Rows), len(r.receiver.Rows), r.out[1].Err)
			}
		}
	}
}

// The sender is done when the receiver says so, and not before.
func TestReceiverOnlySenderWaitsForTheEnd(t *testing.T) {
	xs := psitest.Number(0, 20)
	silent := errors.New("the receiver ended without a word")
	ps, _ := receiverOnly(0, 0)
	var got error
	sessiontest.Net{}.Run(t,
		psitest.KeepGoing(&got, func(ctx context.Context, s *session.Session) error {
			_, err := Send(ctx, s, psitest.Items(xs), len(xs), ps)
			return err
		}),
		func(ctx context.Context, s *session.Session) error {
			r, err := begin(ctx, s, false, sequence{psitest.Items(xs), len(xs)}, ps)
			if err != nil {
				return err
			}
			if _, err := r.exchangePoints(ctx); err != nil {
				return err
			}
			if _, err := r.recvTags(ctx); err != nil {
				return err
			}
			if err := errors.Join(r.recvCheck(ctx), r.sendEnough(ctx)); err != nil {
				return err
			}
			if _, err := r.recvSeed(ctx); err != nil {
				return err
			}
			return silent
		})
	if got == nil {
		t.Error("the sender ended well")
	}
}

func TestReceiverOnlyIsAgreedOn(t *testing.T) {
	ps, _ := receiverOnly(0, 0)
	err := sessiontest.Cause(intersectEach(t, sessiontest.Net{}, psitest.Number(0, 2), psitest.Number(0, 2), ps, Params{}).out)
	var m *session.MismatchError
	if !errors.As(err, &m) || m.Field != "rows_to" {
		t.Errorf("%v", err)
	}
	r := count(t, sessiontest.Net{}, time.Minute, nil, nil, CountParams{Params: ps}, CountParams{Params: ps})
	if err := sessiontest.Cause(r.out); err == nil || !strings.Contains(err.Error(), "ReceiverOnly") {
		t.Errorf("a count: %v", err)
	}
}

// Digests are items like others: the same rows, and the same bytes on the wire,
// whichever way a party gives them.
func TestDigests(t *testing.T) {
	xs, ys := psitest.Shuffled(psitest.Number(0, 300), 8), psitest.Shuffled(psitest.Number(200, 700), 9)
	dx, dy := digestsOf(xs), digestsOf(ys)
	keys := func(ds [][16]byte) []string {
		var ks []string
		for _, d := range ds {
			ks = append(ks, string(d[:]))
		}
		return ks
	}
	for _, c := range []struct{ sender, receiver bool }{{true, true}, {true, false}, {false, true}} {
		var r result
		r.out = sessiontest.Net{}.Run(t,
			func(ctx context.Context, s *session.Session) (err error) {
				if c.sender {
					r.sender, err = SendDigests(ctx, s, dx, Params{})
				} else {
					r.sender, err = Send(ctx, s, psitest.Items(keys(dx)), len(dx), Params{})
				}
				return err
			},
			func(ctx context.Context, s *session.Session) (err error) {
				if c.receiver {
					r.receiver, err = ReceiveDigests(ctx, s, dy, Params{})
				} else {
					r.receiver, err = Receive(ctx, s, psitest.Items(keys(dy)), len(dy), Params{})
				}
				return err
			})
		checkIdeal(t, xs, ys, r)
	}
	var counts [2]Count
	out := sessiontest.Net{}.Run(t,
		func(ctx context.Context, s *session.Session) (err error) {
			counts[0], err = CountSendDigests(ctx, s, dx, CountParams{Tell: true})
			return err
		},
		func(ctx context.Context, s *session.Session) (err error) {
			counts[1], err = CountReceiveDigests(ctx, s, dy, CountParams{Tell: true})
			return err
		})
	sessiontest.NoErrors(t, out)
	if want := (Count{100, true}); counts != [2]Count{want, want} {
		t.Errorf("counted %+v", counts)
	}
}

func TestDuplicateDigestsAreRefused(t *testing.T) {
	ds := digestsOf(psitest.Number(0, 10))
	// The first 12 bytes of another, which is no duplicate, and two that are.
	near := ds[3]
	near[15] ^= 1
	ds = append(ds, near, ds[4], ds[4])
	out := sessiontest.Net{}.Run(t,
		func(ctx context.Context, s *session.Session) error {
			_, err := SendDigests(ctx, s, ds, Params{})
			return err
		},
		func(ctx context.Context, s *session.Session) error {
			_, err := ReceiveDigests(ctx, s, nil, Params{})
			return err
		})
	if err := sessiontest.Cause(out); !errors.Is(err, ErrDuplicates) || !strings.Contains(err.Error(), "2 of 13") {
		t.Errorf("%v", err)
	}
}

func TestEstimate(t *testing.T) {
	for _, c := range [][2]int64{{0, 0}, {1 << 12, 1 << 12}, {1 << 11, 1 << 12}, {1 << 12, 3}} {
		n, m := int(c[0]), int(c[1])
		cost, err := estimate(c[0], c[1])
		if err != nil {
			t.Fatal(err)
		}
		xs, ys := psitest.Number(0, n), psitest.Number(0, m)
		r := intersect(t, sessiontest.Net{}, xs, ys, Params{})
		sessiontest.NoErrors(t, r.out)
		sent := r.out[0].Traffic.Sent + r.out[1].Traffic.Sent
		if over := sent - cost.Bytes; over < 0 || over > 2048 {
			t.Errorf("%d and %d rows: %d bytes, the estimate is %d", n, m, sent, cost.Bytes)
		}
		if n+m > 0 && cost.CPUSeconds <= 0 || cost.Rounds < 5 {
			t.Errorf("%d and %d rows: %+v", n, m, cost)
		}
	}
	a, _ := estimate(1<<20, 1<<20)
	b, _ := estimate(1<<24, 1<<24)
	if r := b.CPUSeconds / a.CPUSeconds; r < 15.9 || r > 16.1 {
		t.Errorf("16 times the rows cost %.1f times as much", r)
	}
	for _, c := range [][2]int64{{-1, 1}, {1, -1}, {MaxRows + 1, 1}, {1, 1 << 62}} {
		if _, err := estimate(c[0], c[1]); !errors.Is(err, ErrSize) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if _, err := estimate(MaxRows, MaxRows); err != nil {
		t.Errorf("the most rows: %v", err)
	}
}

// What is promised about traffic: 80 bytes a row at 2^20 and, by the lengths of
// tags, at 2^16 and at the most that there are.
func TestBytesPerRowAtSize(t *testing.T) {
	for _, n := range []int64{1 << 16, 1 << 20, 1 << 24, MaxRows} {
		cost, err := estimate(n, n)
		if err != nil {
			t.Fatal(err)
		}
		if perRow := float64(cost.Bytes) / float64(n); perRow > 77 {
			t.Errorf("%d rows: %.1f bytes a row", n, perRow)
		}
	}
}

// Both forms of one item have one hash.
func TestDigestsHashAsSequencesDo(t *testing.T) {
	ds := digestsOf(psitest.Number(0, 5))
	h, err := curve25519.NewHasher("a session")
	if err != nil {
		t.Fatal(err)
	}
	var hashes [2][5]curve25519.FieldElement
	for i, from := range []source{digests(ds), sequence{func(yield func([]byte) bool) {
		for _, d := range ds {
			if !yield(d[:]) {
				return
			}
		}
	}, len(ds)}} {
		es, err := from.elements(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		es.gather(hashes[i][:], []int32{4, 2, 0, 1, 3}, h)
	}
	if hashes[0] != hashes[1] || hashes[0][0] == hashes[0][1] {
		t.Error("the two forms have different hashes")
	}
}
