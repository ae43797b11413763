package ecdh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// counted is what one run of both roles gave.
type counted struct {
	sender, receiver Count
	out              []sessiontest.Outcome
	errs             [2]error // what each role ended with, by itself
}

// count runs both roles; idle ends a role that waits for ever.
func count(t testing.TB, net sessiontest.Net, idle time.Duration, xs, ys []string, ps, pr CountParams) (r counted) {
	t.Helper()
	role := func(i int, f func(context.Context, *session.Session) error) sessiontest.Party {
		return func(ctx context.Context, s *session.Session) error {
			ctx, stop := context.WithTimeoutCause(ctx, idle, psitest.ErrIdle)
			defer stop()
			r.errs[i] = f(ctx, s)
			return r.errs[i]
		}
	}
	r.out = net.Run(t,
		role(0, func(ctx context.Context, s *session.Session) (err error) {
			r.sender, err = countSend(ctx, s, sequence{psitest.Items(xs), len(xs)}, ps)
			return err
		}),
		role(1, func(ctx context.Context, s *session.Session) (err error) {
			r.receiver, err = countReceive(ctx, s, sequence{psitest.Items(ys), len(ys)}, pr)
			return err
		}))
	return r
}

// checkCount compares a run with the ideal functionality.
func checkCount(t testing.TB, xs, ys []string, tell bool, r counted) {
	t.Helper()
	sessiontest.NoErrors(t, r.out)
	var want int64
	in := map[string]bool{}
	for _, x := range xs {
		in[x] = true
	}
	for _, y := range ys {
		if in[y] {
			want++
		}
	}
	if got := (Count{want, true}); r.receiver != got {
		t.Errorf("the receiver has %+v, want %+v", r.receiver, got)
	}
	told := Count{}
	if tell {
		told = Count{want, true}
	}
	if r.sender != told {
		t.Errorf("the sender has %+v, want %+v", r.sender, told)
	}
}

func TestCountIdealFunctionality(t *testing.T) {
	n := chunkPoints + 17
	several := psitest.Sets{
		Name: "several messages of points", Xs: psitest.Shuffled(psitest.Number(0, n), 4), Ys: psitest.Shuffled(psitest.Number(n-3, 2*n-3), 5),
	}
	for _, c := range append(psitest.Edges(1500), several) {
		for _, tell := range []bool{true, false} {
			p := CountParams{Tell: tell}
			checkCount(t, c.Xs, c.Ys, tell, count(t, sessiontest.Net{}, time.Minute, c.Xs, c.Ys, p, p))
			if t.Failed() {
				t.Fatalf("%s, tell %v", c.Name, tell)
			}
		}
	}
}

// The counts of both protocols agree.
func TestCountEqualsAlignment(t *testing.T) {
	xs, ys := psitest.Shuffled(psitest.Number(0, 900), 6), psitest.Shuffled(psitest.Number(650, 1700), 7)
	aligned := intersect(t, sessiontest.Net{}, xs, ys, Params{})
	checkIdeal(t, xs, ys, aligned)
	c := count(t, sessiontest.Net{}, time.Minute, xs, ys, CountParams{Tell: true}, CountParams{Tell: true})
	if c.receiver.Common != int64(len(aligned.receiver.Rows)) || c.sender != c.receiver {
		t.Errorf("%+v and %+v, aligned %d", c.sender, c.receiver, len(aligned.receiver.Rows))
	}
}

// The higher minimum of the two holds; below it nobody is told a count, both
// say so, and sets that are smaller than it are not even masked.
func TestCountMinimum(t *testing.T) {
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
		{40, 1, false, false},
		{41, 41, false, true},
		{41, 0, false, true},
		{0, 41, false, true},
		{1 << 62, 0, false, true},
	} {
		for _, tell := range []bool{true, false} {
			what := fmt.Sprintf("minimum %d/%d, tell %v", c.sender, c.receiver, tell)
			var views [2]sessiontest.View
			ps := CountParams{Params: Params{MinIntersection: c.sender}, Tell: tell}
			pr := CountParams{Params: Params{MinIntersection: c.receiver}, Tell: tell}
			var r counted
			var errs [2]error
			r.out = record(&views).Run(t,
				psitest.KeepGoing(&errs[0], func(ctx context.Context, s *session.Session) (err error) {
					r.sender, err = countSend(ctx, s, sequence{psitest.Items(xs), len(xs)}, ps)
					return err
				}),
				psitest.KeepGoing(&errs[1], func(ctx context.Context, s *session.Session) (err error) {
					r.receiver, err = countReceive(ctx, s, sequence{psitest.Items(ys), len(ys)}, pr)
					return err
				}))
			if c.ok {
				if errs[0] != nil || errs[1] != nil {
					t.Fatalf("%s: %v, %v", what, errs[0], errs[1])
				}
				checkCount(t, xs, ys, tell, r)
				continue
			}
			for i, err := range errs {
				if !errors.Is(err, job.ErrMinIntersection) {
					t.Errorf("%s: p%d ended with %v", what, i, err)
				}
			}
			if r.sender != (Count{}) || r.receiver != (Count{}) {
				t.Errorf("%s: a count was returned", what)
			}
			told := kinds(views[0].Received())
			if slices.Contains(told, kindCount) || slices.Contains(told, kindPoints) == c.early {
				t.Errorf("%s: the sender received %v", what, told)
			}
		}
	}
}

// No order and no bitmap is ever sent, whatever the count.
func TestCountViews(t *testing.T) {
	xs, ys := psitest.Number(0, 20), psitest.Number(10, 30)
	for _, tell := range []bool{true, false} {
		var views [2]sessiontest.View
		p := CountParams{Tell: tell}
		checkCount(t, xs, ys, tell, count(t, record(&views), time.Minute, xs, ys, p, p))
		sender, receiver := []kind{kindRows, kindMinimum, kindPoints, kindDone}, []kind{kindRows, kindMinimum, kindPoints, kindTags, kindCheck}
		if tell {
			sender, receiver = slices.Insert(sender, 3, kindCount), append(receiver, kindDone)
		}
		if got := kinds(views[0].Received()); !slices.Equal(got, sender) {
			t.Errorf("tell %v: the sender received %v, want %v", tell, got, sender)
		}
		if got := kinds(views[1].Received()); !slices.Equal(got, receiver) {
			t.Errorf("tell %v: the receiver received %v, want %v", tell, got, receiver)
		}
	}
}

// The receiver's view does not link tags to rows: the place at which the one
// common row comes back, and the place of its point among the sender's, are
// uniform over the sender's randomness.
func TestCountViewDoesNotLink(t *testing.T) {
	const n, runs = 8, 160
	ys := psitest.Number(0, n)
	xs := append(psitest.Number(100, 100+n-1), ys[0])
	var back, among [n]int
	for i := range runs {
		var views [2]sessiontest.View
		net := record(&views)
		receiver := func() io.Reader { return newStream([seedSize]byte{1}, 0) }
		net.Rand = func(party int) io.Reader {
			if party == 1 {
				return receiver()
			}
			return newStream([seedSize]byte{7, byte(i)}, 0)
		}
		checkCount(t, xs, ys, false, count(t, net, time.Minute, xs, ys, CountParams{}, CountParams{}))
		places := matchedPlaces(t, &views[1], receiver(), n, n)
		if len(places) != 1 {
			t.Fatalf("the receiver finds %d common rows, want 1", len(places))
		}
		back[places[0]]++
		// Where the sender's own common row went out is its sent order, the first
		// thing that it draws.
		order := receiverOrder(newStream([seedSize]byte{7, byte(i)}, 0), n)
		among[slices.Index(order, n-1)]++
	}
	// Chi-squared with 7 degrees of freedom: above 29.9 once in 10,000 runs of
	// a fixed seed that was not chosen.
	for what, counts := range map[string][n]int{"the place of a returned tag": back, "the place of a sent point": among} {
		chi := 0.0
		for _, c := range counts {
			d := float64(c) - runs/float64(n)
			chi += d * d / (runs / float64(n))
		}
		if chi > 29.9 {
			t.Errorf("%s depends on the row: %v, chi-squared %.1f", what, counts, chi)
		}
	}
}

func TestCountTampering(t *testing.T) {
	xs, ys := psitest.Number(0, 20), psitest.Number(10, 30)
	for _, tell := range []bool{true, false} {
		p := CountParams{Tell: tell}
		messages := map[session.PartyID]int{"p0": 6, "p1": 5} // with the frame that binds
		if tell {
			messages["p0"]++
			messages["p1"]++
		}
		for party, n := range messages {
			for a := range psitest.Attacks(n, psitest.FurtherIn) {
				r := count(t, psitest.Tampering(party, "", a.Change), a.Idle(100*time.Millisecond), xs, ys, p, p)
				what := fmt.Sprintf("%s, tell %v", party, tell)
				err := a.CheckNoticed(t, what, r.out, faults...)
				// Bytes that were changed never pass for a small intersection,
				// except a minimum, which bears no digest; both see it then or
				// their next message tells.
				if a.At() != 2 && errors.Is(err, job.ErrMinIntersection) {
					t.Errorf("%v of %s passed for a small intersection", a, what)
				}
				for i, c := range []Count{r.sender, r.receiver} {
					want := Count{10, true}
					if i == 0 && !tell || r.out[i].Err != nil {
						want = Count{}
					}
					if c != want {
						t.Errorf("%v of %s: p%d has %+v and the error %v", a, what, i, c, r.out[i].Err)
					}
				}
			}
		}
	}
}

// An item sent more than once would tell by its tags whether it is common: no
// tag is returned.
func TestCountRepeatedPointsReturnNoTags(t *testing.T) {
	xs := psitest.Number(0, 20)
	var views [2]sessiontest.View
	rec := record(&views)
	net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		ch = rec.Wrap(l, ch)
		if l.Self != "p1" {
			return ch
		}
		return sessiontest.Tamper(ch, func(i int, p []byte) [][]byte {
			if i > 0 && kind(p[0]) == kindPoints {
				copy(p[len(p)-32:], p[2:2+32])
			}
			return [][]byte{p}
		})
	}}
	r := count(t, net, time.Minute, xs, xs, CountParams{}, CountParams{})
	if !errors.Is(r.errs[0], ErrDisagree) || slices.Contains(kinds(views[0].Sent()), kindTags) {
		t.Errorf("the sender ended with %v and sent %v", r.errs[0], kinds(views[0].Sent()))
	}
}

// A sender that returns one tag twice is found by the receiver.
func TestCountRepeatedTags(t *testing.T) {
	xs := psitest.Number(0, 20)
	net := psitest.Tampering("p0", "", func(i int, p []byte) [][]byte {
		if i > 0 && kind(p[0]) == kindTags {
			size := (len(p) - 2) / len(xs)
			copy(p[len(p)-size:], p[2:2+size])
		}
		return [][]byte{p}
	})
	r := count(t, net, time.Minute, xs, xs, CountParams{}, CountParams{})
	if !errors.Is(r.errs[1], ErrDisagree) || r.receiver != (Count{}) {
		t.Errorf("%+v, %v", r.receiver, r.errs[1])
	}
}

// What a receiver says is held to the sets and to the minimum. That it may lie
// within them is on the protocol's page.
func TestCountLyingReceiver(t *testing.T) {
	xs := psitest.Number(0, 20)
	says := func(n int64) sessiontest.Party {
		return func(ctx context.Context, s *session.Session) error {
			r, err := beginCount(ctx, s, false, sequence{psitest.Items(xs), len(xs)}, CountParams{Tell: true})
			if err != nil {
				return err
			}
			if _, err := r.exchangePoints(ctx); err != nil {
				return err
			}
			if _, err := r.recvTags(ctx); err != nil {
				return err
			}
			if err := r.recvCheck(ctx); err != nil {
				return err
			}
			if err := errors.Join(r.sendCount(ctx, n), r.sendDone(ctx, n)); err != nil {
				return err
			}
			return r.recvDone(ctx, n)
		}
	}
	for n, want := range map[int64]error{20: nil, 7: nil, 4: ErrDisagree, 0: ErrDisagree, 21: ErrMessage} {
		var got error
		var c Count
		sessiontest.Net{}.Run(t,
			psitest.KeepGoing(&got, func(ctx context.Context, s *session.Session) (err error) {
				c, err = countSend(ctx, s, sequence{psitest.Items(xs), len(xs)}, CountParams{Params: Params{MinIntersection: 5}, Tell: true})
				return err
			}),
			psitest.KeepGoing(new(error), says(n)))
		if !errors.Is(got, want) || c.Known != (want == nil) {
			t.Errorf("a receiver that says %d: %+v, %v, want %v", n, c, got, want)
		}
	}
}

// The two protocols, and the two ways to end, do not mix; and points of one
// are not points of the other, with the same keys and randomness.
func TestCountMismatch(t *testing.T) {
	xs := psitest.Number(0, 3)
	var m *session.MismatchError
	r := count(t, sessiontest.Net{}, time.Minute, xs, xs, CountParams{Tell: true}, CountParams{})
	if err := sessiontest.Cause(r.out); !errors.As(err, &m) || m.Field != "count_to" {
		t.Errorf("who is told: %v", err)
	}
	out := sessiontest.Net{}.Run(t,
		func(ctx context.Context, s *session.Session) error {
			_, err := countSend(ctx, s, sequence{psitest.Items(xs), len(xs)}, CountParams{})
			return err
		},
		func(ctx context.Context, s *session.Session) error {
			_, err := Receive(ctx, s, psitest.Items(xs), len(xs), Params{})
			return err
		})
	if err := sessiontest.Cause(out); !errors.Is(err, session.ErrMismatch) {
		t.Errorf("a count and an alignment: %v", err)
	}
}

func TestCountDuplicatesAreRefused(t *testing.T) {
	r := count(t, sessiontest.Net{}, time.Minute, append(psitest.Number(0, 3), "id-000001"), psitest.Number(0, 3), CountParams{}, CountParams{})
	if err := sessiontest.Cause(r.out); !errors.Is(err, ErrDuplicates) {
		t.Errorf("%v", err)
	}
	r = count(t, sessiontest.Net{}, time.Minute, nil, nil, CountParams{Params: Params{MinIntersection: -1}}, CountParams{})
	if sessiontest.Cause(r.out) == nil {
		t.Error("a negative minimum was accepted")
	}
}

func TestCountBytesPerRow(t *testing.T) {
	const n = 1 << 12
	xs, ys := psitest.Number(0, n), psitest.Number(n/2, n/2+n)
	r := count(t, sessiontest.Net{}, time.Minute, xs, ys, CountParams{Tell: true}, CountParams{Tell: true})
	checkCount(t, xs, ys, true, r)
	perRow := float64(r.out[0].Traffic.Sent+r.out[1].Traffic.Sent) / n
	t.Logf("%.2f bytes a row", perRow)
	if perRow > 74.5 {
		t.Errorf("%.2f bytes a row, at most 74.5 are allowed", perRow)
	}
}
