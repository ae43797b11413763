package rr22

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/okvs"
	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/oprf/oprftest"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

func TestIdealFunctionality(t *testing.T) {
	for _, c := range psitest.Edges(20_000) {
		t.Run(c.Name, func(t *testing.T) {
			for _, p := range []Params{{}, both} {
				checkIdeal(t, c.Xs, c.Ys, p, intersect(t, sessiontest.Net{}, c.Xs, c.Ys, p))
			}
		})
	}
}

// Several messages of each kind, several pieces of the vector, and bins that
// are not as many as pieces.
func TestSeveralMessagesAndPieces(t *testing.T) {
	n := 200_000
	xs, ys := psitest.Shuffled(psitest.Number(0, n), 4), psitest.Shuffled(psitest.Number(n/3, n/3+n), 5)
	for _, limit := range []int{1, 100_000, 200_000, 1 << 30} {
		c := oprftest.Dealer{Limit: limit}
		checkIdeal(t, xs, ys, both, intersectOver(t, sessiontest.Net{}, c, xs, ys, both, both))
	}
	// Ragged: 3 bins in one direction, one in the other.
	checkIdeal(t, xs[:40], ys, both, intersectOver(t, sessiontest.Net{}, oprftest.Dealer{Limit: 200_000}, xs[:40], ys, both, both))
	checkIdeal(t, xs, ys[:40], both, intersectOver(t, sessiontest.Net{}, oprftest.Dealer{Limit: 200_000}, xs, ys[:40], both, both))
}

// Sizes and overlaps against the plaintext; row i of either side is a known
// subject, so no table of strings is needed.
func TestAgainstPlaintextAtSize(t *testing.T) {
	sizes := []int{10_000, 1_000_000}
	switch {
	case testing.Short():
		sizes = sizes[:1]
	case os.Getenv("YINQIAO_LARGE") != "": // 4 GB of memory, and half a minute
		sizes = append(sizes, 10_000_000)
	}
	for _, n := range sizes {
		overlaps := []int{0, 1, n / 100, n / 2, n}
		if n > 100_000 {
			overlaps = []int{n / 2}
		}
		for _, common := range overlaps {
			off := n - common // subject off+i is row i of the receiver
			var got [2]Match
			out := sessiontest.Net{}.Run(t,
				func(ctx context.Context, s *session.Session) (err error) {
					got[0], err = Send(ctx, s, keys(0, n), n, both)
					return err
				},
				func(ctx context.Context, s *session.Session) (err error) {
					got[1], err = Receive(ctx, s, keys(off, n), n, both)
					return err
				})
			sessiontest.NoErrors(t, out)
			if len(got[0].Rows) != common || len(got[1].Rows) != common {
				t.Fatalf("n = %d: %d and %d common rows, want %d", n, len(got[0].Rows), len(got[1].Rows), common)
			}
			seen := make([]bool, n)
			for k, i := range got[0].Rows {
				if j := got[1].Rows[k]; int(i) != int(j)+off || seen[i] {
					t.Fatalf("n = %d: position %d joins subject %d and %d", n, k, i, int(j)+off)
				}
				seen[i] = true
			}
		}
	}
}

func TestParamsThatChangeTheHashes(t *testing.T) {
	xs, ys := psitest.Number(0, 40), psitest.Number(20, 60)
	for _, bits := range []int{30, 41, 64} {
		p := Params{FalseMatchBits: bits, Broadcast: true}
		checkIdeal(t, xs, ys, p, intersect(t, sessiontest.Net{}, xs, ys, p))
	}
}

func TestMinimumIntersection(t *testing.T) {
	xs, ys := psitest.Number(0, 40), psitest.Number(30, 70) // 10 common
	for _, c := range []struct {
		sender, receiver int64
		broadcast, ok    bool
	}{
		{9, 9, true, true},
		{10, 10, true, true},
		{11, 11, true, false},
		{11, 0, true, false},
		{0, 11, true, false},
		{10, 10, false, true},
		{11, 11, false, false},
		{0, 11, false, false},
	} {
		r := intersectOver(t, sessiontest.Net{}, oprftest.Dealer{}, xs, ys,
			Params{MinIntersection: c.sender, Broadcast: c.broadcast}, Params{MinIntersection: c.receiver, Broadcast: c.broadcast})
		if c.ok {
			checkIdeal(t, xs, ys, Params{Broadcast: c.broadcast}, r)
			continue
		}
		if err := sessiontest.Cause(r.out); !errors.Is(err, job.ErrMinIntersection) {
			t.Errorf("minimum %d/%d: %v", c.sender, c.receiver, err)
		}
		if r.sender.Rows != nil || r.receiver.Rows != nil {
			t.Errorf("minimum %d/%d: rows were returned", c.sender, c.receiver)
		}
	}
}

func TestBelowTheMinimumBothSidesSaySo(t *testing.T) {
	for _, broadcast := range []bool{false, true} {
		for _, min := range [][2]int64{{3, 3}, {3, 0}, {0, 3}} {
			if !broadcast && min[1] == 0 {
				continue // the sender alone cannot tell
			}
			var errs [2]error
			xs, ys := psitest.Number(0, 4), psitest.Number(2, 6)
			party := func(i int, role func(context.Context, *session.Session, []string, Params) error, items []string) sessiontest.Party {
				return psitest.KeepGoing(&errs[i], func(ctx context.Context, s *session.Session) error {
					return role(ctx, s, items, Params{MinIntersection: min[i], Broadcast: broadcast})
				})
			}
			sessiontest.Net{}.Run(t,
				party(0, func(ctx context.Context, s *session.Session, xs []string, p Params) error {
					_, err := send(ctx, s, dealt(xs, oprftest.Dealer{}), p)
					return err
				}, xs),
				party(1, func(ctx context.Context, s *session.Session, ys []string, p Params) error {
					_, err := receive(ctx, s, dealt(ys, oprftest.Dealer{}), p)
					return err
				}, ys))
			for i, err := range errs {
				if !errors.Is(err, job.ErrMinIntersection) {
					t.Errorf("minimum %v, broadcast %v: p%d ended with %v", min, broadcast, i, err)
				}
			}
		}
	}
}

// record returns a net that keeps the views of both parties, but for the
// messages of the vector OLE.
func record(views *[2]sessiontest.View) sessiontest.Net {
	return sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		switch {
		case l.Label != "":
			return ch
		case l.Self == "p0":
			return sessiontest.Record(ch, &views[0])
		}
		return sessiontest.Record(ch, &views[1])
	}}
}

// kinds returns the kinds of the protocol's messages, after the first frame,
// which binds the session.
func kinds(messages [][]byte) []transcript.Kind {
	var ks []transcript.Kind
	for _, m := range messages[1:] {
		ks = append(ks, transcript.Kind(m[0]))
	}
	return ks
}

// bodies joins the bodies of all messages of a kind.
func bodies(t *testing.T, messages [][]byte, k transcript.Kind) (all []byte) {
	t.Helper()
	for i, m := range messages[1:] {
		got, body, err := protocol.ParseFrame(m, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		if got == k {
			all = append(all, body...)
		}
	}
	return all
}

// What a party receives is what Reveals and the page say, and nothing else.
func TestViews(t *testing.T) {
	xs, ys := psitest.Number(0, 20), psitest.Number(10, 30)
	for _, p := range []Params{{}, both} {
		var views [2]sessiontest.View
		checkIdeal(t, xs, ys, p, intersect(t, record(&views), xs, ys, p))
		toSender := []transcript.Kind{kindRows, kindVector, kindVector, kindCheck, kindDone}
		if p.Broadcast {
			toSender = slices.Insert(toSender, 4, kindMatches)
		}
		if got := kinds(views[0].Received()); !slices.Equal(got, toSender) {
			t.Errorf("the sender received %v, want %v", got, toSender)
		}
		if got, want := kinds(views[1].Received()), []transcript.Kind{kindRows, kindHashes, kindCheck, kindDone}; !slices.Equal(got, want) {
			t.Errorf("the receiver received %v, want %v", got, want)
		}
	}
}

// The masked vector is uniform in every byte: chi-squared. The one below the
// mask, which the test can see with the dealer's help, encodes the keys.
func TestMaskedVectorIsUniform(t *testing.T) {
	n := 30_000
	ys := psitest.Number(0, n)
	for name, c := range map[string]oprf.OLE{"silent": nil, "dealer": oprftest.Dealer{}} {
		var views [2]sessiontest.View
		r := intersectOver(t, record(&views), c, psitest.Number(0, 3), ys, Params{}, Params{})
		sessiontest.NoErrors(t, r.out)
		sent := bodies(t, views[1].Sent(), kindVector)[okvs.SeedSize:]
		if len(sent)/gf128.Size < n {
			t.Fatalf("%d bytes of the vector", len(sent))
		}
		for at := range gf128.Size {
			var count [256]float64
			for i := at; i < len(sent); i += gf128.Size {
				count[sent[i]]++
			}
			x, want := 0.0, float64(len(sent)/gf128.Size)/256
			for _, k := range count {
				x += (k - want) * (k - want) / want
			}
			if math.Abs(x-255) > 6*math.Sqrt(2*255) {
				t.Errorf("%s: byte %d: chi-squared %.0f with 255 degrees of freedom", name, at, x)
			}
		}
	}
}

// Hashes arrive sorted, so that their order does not follow the table or the
// bins, and those of keys that are not common are different in every session.
func TestHashesSayNothingElse(t *testing.T) {
	xs := psitest.Number(0, 3000)
	p := Params{}
	form, err := p.hashForm(len(xs), 2)
	if err != nil {
		t.Fatal(err)
	}
	var all [2][]tags.Tag
	for i := range all {
		var views [2]sessiontest.View
		sessiontest.NoErrors(t, intersect(t, record(&views), xs, psitest.Number(0, 2), p).out)
		body := bodies(t, views[0].Sent(), kindHashes)
		_, total, err := parseHashes(body, form, 0, len(xs), func(h *tags.Tag) { all[i] = append(all[i], *h) })
		if err != nil || total != len(xs) {
			t.Fatalf("%d hashes: %v", total, err)
		}
		for k := 1; k < len(all[i]); k++ {
			if !all[i][k-1].Before(&all[i][k]) {
				t.Fatal("the hashes are not sorted")
			}
		}
	}
	common := 0
	for i := range all[0] {
		if slices.Contains(all[1], all[0][i]) {
			common++
		}
	}
	if common > 0 {
		t.Errorf("%d hashes are the same in two sessions", common)
	}
}

func TestDuplicatesAreRefusedWithTheirCount(t *testing.T) {
	xs := append(psitest.Number(0, 10), "id-000003", "id-000003", "id-000004")
	for _, role := range []int{0, 1} {
		sides := [2][]string{psitest.Number(0, 5), psitest.Number(0, 5)}
		sides[role] = xs
		err := sessiontest.Cause(intersect(t, sessiontest.Net{}, sides[0], sides[1], both).out)
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
				_, err := Send(ctx, s, psitest.Items(psitest.Number(0, 3)), n, both)
				return err
			},
			func(ctx context.Context, s *session.Session) error {
				_, err := Receive(ctx, s, psitest.Items(psitest.Number(0, 3)), 3, both)
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
		"output":           {Broadcast: true},
	} {
		err := sessiontest.Cause(intersectEach(t, sessiontest.Net{}, psitest.Number(0, 2), psitest.Number(0, 2), Params{}, p).out)
		var m *session.MismatchError
		if !errors.As(err, &m) || m.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	// Another vector OLE, or another code of it, is named too.
	out := sessiontest.Net{}.Run(t,
		func(ctx context.Context, s *session.Session) error {
			_, err := send(ctx, s, dealt(nil, oprftest.Dealer{}), both)
			return err
		},
		func(ctx context.Context, s *session.Session) error {
			_, err := Receive(ctx, s, psitest.Items(nil), 0, both)
			return err
		})
	var m *session.MismatchError
	if err := sessiontest.Cause(out); !errors.As(err, &m) || m.Field != "vole" {
		t.Errorf("vole: %v", err)
	}
	// Two senders.
	party := func(ctx context.Context, s *session.Session) error {
		_, err := Send(ctx, s, psitest.Items(nil), 0, both)
		return err
	}
	if err := sessiontest.Cause(sessiontest.Net{}.Run(t, party, party)); !errors.As(err, &m) || m.Field != "sender" {
		t.Errorf("two senders: %v", err)
	}
}

func TestParamsAreChecked(t *testing.T) {
	for _, p := range []Params{{FalseMatchBits: 29}, {FalseMatchBits: 65}, {FalseMatchBits: -1}, {MinIntersection: -1}} {
		if p.Validate() == nil {
			t.Errorf("%+v passes", p)
		}
	}
	if err := (Params{FalseMatchBits: 1, MinIntersection: -1}).Validate(); err == nil ||
		!strings.Contains(err.Error(), "false_match_bits") || !strings.Contains(err.Error(), "minimum") {
		t.Errorf("not every fault is reported: %v", err)
	}
}

// A context that ends stops both roles wherever they are.
func TestContextEnds(t *testing.T) {
	stop := errors.New("enough")
	for _, after := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
		party := func(role func(context.Context, *session.Session) error) sessiontest.Party {
			return func(ctx context.Context, s *session.Session) error {
				ctx, cancel := context.WithTimeoutCause(ctx, after, stop)
				defer cancel()
				if err := role(ctx, s); err == nil {
					return fmt.Errorf("a run of 200,000 rows took less than %v", after)
				}
				return nil
			}
		}
		n := 200_000
		sessiontest.NoErrors(t, sessiontest.Net{}.Run(t,
			party(func(ctx context.Context, s *session.Session) error {
				_, err := Send(ctx, s, keys(0, n), n, both)
				return err
			}),
			party(func(ctx context.Context, s *session.Session) error {
				_, err := Receive(ctx, s, keys(0, n), n, both)
				return err
			})))
	}
}
