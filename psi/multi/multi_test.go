package multi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/mpc/oprf/oprftest"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

func TestIdealFunctionality(t *testing.T) {
	for _, c := range []struct {
		name string
		sets [][]string
	}{
		{"all empty", [][]string{nil, nil, nil}},
		{"leader empty", [][]string{psitest.Number(0, 3), nil, psitest.Number(0, 3)}},
		{"member empty", [][]string{psitest.Number(0, 3), psitest.Number(0, 3), nil}},
		{"one and the same", [][]string{psitest.Number(0, 1), psitest.Number(0, 1), psitest.Number(0, 1)}},
		{"one and another", [][]string{psitest.Number(0, 1), psitest.Number(0, 1), psitest.Number(1, 2)}},
		{"all", [][]string{psitest.Number(0, 50), psitest.Shuffled(psitest.Number(0, 50), 1), psitest.Shuffled(psitest.Number(0, 50), 2)}},
		{"none, yet every pair", [][]string{psitest.Number(0, 20), slices.Concat(psitest.Number(0, 10), psitest.Number(20, 30)), psitest.Number(10, 30)}},
		{"three", overlapping(3, 20, 15, 7)},
		{"four", overlapping(4, 20, 15, 7)},
		{"five", overlapping(5, 20, 15, 7)},
		{"skewed", [][]string{psitest.Number(0, 5000), {"zzz", "id-004999", "id-000001"}, psitest.Number(2, 5000), psitest.Number(0, 100_000)}},
		{"skewed to the leader", [][]string{{"id-000001"}, psitest.Number(0, 5000), {"id-000001", "id-000002"}}},
		{"not ASCII", [][]string{{"张三", "", "\xff"}, {"\xff", "张三", "a"}, {"张三", "\xff", ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, p := range []Params{{}, toLeader} {
				results, out := intersect(t, sessiontest.Net{}, c.sets, p, oprftest.Dealer{})
				checkIdeal(t, c.sets, p, results, out)
			}
		})
	}
}

// The real vector OLE, over pipes that hold one message.
func TestWithVectorOLE(t *testing.T) {
	for _, parties := range []int{3, 5} {
		sets := overlapping(parties, 300, 200, 50)
		results, out := intersect(t, sessiontest.Net{}, sets, Params{}, nil)
		checkIdeal(t, sets, Params{}, results, out)
	}
}

func TestMostParties(t *testing.T) {
	sets := overlapping(MaxParties, 12, 2, 3)
	results, out := intersect(t, sessiontest.Net{}, sets, Params{}, oprftest.Dealer{})
	checkIdeal(t, sets, Params{}, results, out)
}

// Several bins, messages and groups of bins.
func TestSeveralMessages(t *testing.T) {
	sets := [][]string{psitest.Number(0, 100_000), psitest.Number(50_000, 190_000), psitest.Shuffled(psitest.Number(70_000, 400_000), 1)}
	results, out := intersect(t, sessiontest.Net{}, sets, Params{}, oprftest.Dealer{Limit: 100_000})
	checkIdeal(t, sets, Params{}, results, out)
}

// The benchmark's sets, with the real vector OLE.
func TestAtSize(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const n = 1 << 18
	results := make([]Match, benchParties)
	var subjects [benchParties][]int64
	var parties []sessiontest.Party
	for i := range benchParties {
		benchSubjects(n, int64(i), func(subject int64) { subjects[i] = append(subjects[i], subject) })
		keys := subjectKeys(n, int64(i))
		role := Join
		if i == 0 {
			role = Lead
		}
		parties = append(parties, func(ctx context.Context, s *session.Session) (err error) {
			results[i], err = role(ctx, s, keys, n, Params{Leader: "p0"})
			return err
		})
	}
	start := time.Now()
	sessiontest.NoErrors(t, sessiontest.Net{}.Run(t, parties...))
	t.Logf("3 × %d rows in %v", n, time.Since(start))
	for i, m := range results {
		if len(m.Rows) != n/3 {
			t.Fatalf("p%d has %d rows, want %d", i, len(m.Rows), n/3)
		}
		for k, row := range m.Rows {
			if got, want := subjects[i][row], subjects[0][results[0].Rows[k]]; got != want || got >= n/3 {
				t.Fatalf("p%d: row %d is subject %d, the leader's is %d", i, k, got, want)
			}
		}
	}
}

// spied runs the parties up to what the leader reads at one member and returns,
// for each of the leader's rows, what it read, what the leader's own share is and
// what the member's share is, which the leader does not know.
func spied(t *testing.T, sets [][]string, member session.PartyID) (read, own, theirs []gf128.Element) {
	t.Helper()
	parties := make([]sessiontest.Party, len(sets))
	ids := sessiontest.PartyIDs(len(sets))
	p := Params{Leader: leading}
	theirs = make([]gf128.Element, len(sets[slices.Index(ids, leading)]))
	for i, set := range sets {
		parties[i] = func(ctx context.Context, s *session.Session) error {
			r, err := begin(ctx, s, psitest.Items(set), len(set), p, oprftest.Dealer{})
			if err != nil {
				return err
			}
			defer r.close()
			if ids[i] != leading {
				link := r.links[leading]
				if ids[i] == member {
					leaders := sets[slices.Index(ids, leading)]
					keys, err := oprf.Keys(ctx, s.Transcript(), psitest.Items(leaders), len(leaders))
					if err != nil {
						return err
					}
					r.addShares(theirs, keys)
				}
				return runStore(ctx, r, link)
			}
			encoding, err := oprf.Encode(ctx, s.Rand(), r.keys)
			if err != nil {
				return err
			}
			defer encoding.Close()
			own = make([]gf128.Element, r.rows)
			if err := r.addAllShares(ctx, own); err != nil {
				return err
			}
			for _, m := range r.members() {
				got, err := r.read(ctx, m, encoding)
				if err != nil {
					return err
				}
				if m == member {
					read = got
				}
			}
			return nil
		}
	}
	sessiontest.NoErrors(t, sessiontest.Net{}.Run(t, parties...))
	return read, own, theirs
}

// uniform reports a chi-squared test of every byte of elements.
func uniform(t *testing.T, what string, es []gf128.Element) {
	t.Helper()
	raw := gf128.AppendBytes(nil, es)
	for at := range gf128.Size {
		var count [256]float64
		for i := at; i < len(raw); i += gf128.Size {
			count[raw[i]]++
		}
		x, want := 0.0, float64(len(es))/256
		for _, k := range count {
			x += (k - want) * (k - want) / want
		}
		if math.Abs(x-255) > 6*math.Sqrt(2*255) {
			t.Errorf("%s: byte %d: chi-squared %.0f with 255 degrees of freedom", what, at, x)
		}
	}
}

// What the leader reads of rows that it shares with one member alone is as
// random as what it reads of rows that nobody else has. It would not be if the
// leader had the secret that the two members share.
func TestPairsLookLikeNothing(t *testing.T) {
	const n = 20_000
	// p1 leads. Rows 0 to n it shares with p0, n to 2n with p2, and the rest with
	// nobody.
	leader := psitest.Number(0, 3*n)
	sets := [][]string{psitest.Number(0, n), leader, psitest.Number(n, 2*n)}
	read, own, theirs := spied(t, sets, "p0")
	for name, of := range map[string][]gf128.Element{"shared with p0": read[:n], "shared with p2": read[n : 2*n], "nobody's": read[2*n:]} {
		uniform(t, name, of)
	}
	masked := slices.Clone(read)
	gf128.Add(masked, own)
	uniform(t, "with the leader's own share", masked[:n])
	if slices.ContainsFunc(masked, gf128.Element.IsZero) {
		t.Error("a row adds up to zero without the third party")
	}
	// The member's share is what hides it: with it, the shared rows stand out.
	gf128.Add(read, theirs)
	for i := range read {
		if read[i].IsZero() != (i < n) {
			t.Fatalf("row %d: what was read is not the member's share where it has the row, or is where it has not", i)
		}
	}
}

// The lengths and kinds of all messages depend on the sizes of the sets and of
// the intersection alone.
func TestMessagesDependOnSizesAlone(t *testing.T) {
	shape := func(sets [][]string, p Params) string {
		var views [3][3]sessiontest.View
		net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
			if l.Label != "" {
				return ch
			}
			return sessiontest.Record(ch, &views[l.Self[1]-'0'][l.Peer[1]-'0'])
		}}
		results, out := intersect(t, net, sets, p, oprftest.Dealer{})
		checkIdeal(t, sets, p, results, out)
		var b strings.Builder
		for i := range views {
			for j := range views[i] {
				fmt.Fprintf(&b, "p%d to p%d:", i, j)
				for k, m := range views[i][j].Sent() {
					kind := byte(0)
					if k > 0 { // the first one binds the session, whose name has a number
						kind = m[0]
						fmt.Fprintf(&b, " %d/%d", kind, len(m))
					}
				}
				b.WriteString("\n")
			}
		}
		return b.String()
	}
	for _, p := range []Params{{}, toLeader} {
		// Nothing else in common; every pair has as much as it can; other keys.
		apart := shape([][]string{psitest.Number(0, 200), slices.Concat(psitest.Number(0, 50), psitest.Number(200, 350)), slices.Concat(psitest.Number(0, 50), psitest.Number(350, 500))}, p)
		pairs := shape([][]string{psitest.Number(0, 200), slices.Concat(psitest.Number(0, 125), psitest.Number(200, 275)), slices.Concat(psitest.Number(0, 50), psitest.Number(125, 275))}, p)
		if apart != pairs {
			t.Errorf("the messages tell of pairs:\n%s\n%s", apart, pairs)
		}
	}
	// With the output for the leader alone, not even on the intersection.
	none := shape([][]string{psitest.Number(0, 200), psitest.Number(200, 400), psitest.Number(400, 600)}, toLeader)
	all := shape([][]string{psitest.Number(0, 200), psitest.Number(0, 200), psitest.Number(0, 200)}, toLeader)
	if none != all {
		t.Errorf("the messages tell of the intersection:\n%s\n%s", none, all)
	}
}

// Members exchange keys, hold each other to them, and nothing else; each message has its place.
func TestViews(t *testing.T) {
	sets := overlapping(3, 20, 5, 5)
	for _, p := range []Params{{}, toLeader} {
		var toMember, toLead, between sessiontest.View
		net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
			switch {
			case l.Label != "":
			case l.Self == "p0" && l.Peer == leading:
				return sessiontest.Record(ch, &toMember)
			case l.Self == leading && l.Peer == "p0":
				return sessiontest.Record(ch, &toLead)
			case l.Self == "p0" && l.Peer == "p2":
				return sessiontest.Record(ch, &between)
			}
			return ch
		}}
		results, out := intersect(t, net, sets, p, oprftest.Dealer{})
		checkIdeal(t, sets, p, results, out)
		member := []transcript.Kind{kindKey, kindRows, kindVector, kindCheck, kindCount, kindCommon, kindDone}
		leader := []transcript.Kind{kindKey, kindRows, kindStore, kindCheck, kindAgreed}
		if p.LeaderOnly {
			member = []transcript.Kind{kindKey, kindRows, kindVector, kindCheck, kindDone}
			leader = []transcript.Kind{kindKey, kindRows, kindStore, kindCheck, kindDone}
		}
		for name, c := range map[string]struct {
			view *sessiontest.View
			want []transcript.Kind
		}{"the member": {&toMember, member}, "the leader": {&toLead, leader}, "a member from a member": {&between, []transcript.Kind{kindKey, kindCheck}}} {
			var got []transcript.Kind
			for _, m := range c.view.Received()[1:] {
				if k := transcript.Kind(m[0]); len(got) == 0 || got[len(got)-1] != k {
					got = append(got, k)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s received kinds %v, want %v", name, got, c.want)
			}
		}
	}
}

// Shares of one key add up to zero over all parties and over no fewer.
func TestSharesAddUpToZero(t *testing.T) {
	for _, parties := range []int{3, 4, 7} {
		keys := make([]gf128.Element, 300)
		for i := range keys {
			keys[i] = gf128.Element{Lo: uint64(i), Hi: 7}
		}
		shares := make([][]gf128.Element, parties)
		var run []sessiontest.Party
		for i := range parties {
			run = append(run, func(ctx context.Context, s *session.Session) error {
				r, err := begin(ctx, s, psitest.Items(nil), 0, Params{Leader: leading}, oprftest.Dealer{})
				if err != nil {
					return err
				}
				defer r.close()
				shares[i] = make([]gf128.Element, len(keys))
				r.addShares(shares[i], keys)
				return nil
			})
		}
		sessiontest.NoErrors(t, sessiontest.Net{}.Run(t, run...))
		for without := -1; without < parties; without++ {
			sum := make([]gf128.Element, len(keys))
			for i := range shares {
				if i != without {
					gf128.Add(sum, shares[i])
				}
			}
			for k := range sum {
				if sum[k].IsZero() != (without < 0) {
					t.Fatalf("%d parties, without %d: key %d", parties, without, k)
				}
			}
		}
	}
}

func TestMinimumIntersection(t *testing.T) {
	sets := overlapping(3, 10, 4, 3)
	for _, c := range []struct {
		minimum    [3]int64 // of each party; p1 leads
		leaderOnly bool
		ok         bool
	}{
		{[3]int64{10, 10, 10}, false, true},
		{[3]int64{10, 10, 10}, true, true},
		{[3]int64{0, 11, 0}, false, false},
		{[3]int64{0, 11, 0}, true, false},
		{[3]int64{11, 0, 0}, false, false},
		{[3]int64{11, 0, 11}, false, false},
		{[3]int64{11, 11, 11}, false, false},
	} {
		var errs [3]error
		results := make([]Match, 3)
		var parties []sessiontest.Party
		for i, set := range sets {
			p := Params{Leader: leading, LeaderOnly: c.leaderOnly, MinIntersection: c.minimum[i]}
			role := join
			if i == 1 {
				role = lead
			}
			parties = append(parties, func(ctx context.Context, s *session.Session) error {
				results[i], errs[i] = role(ctx, s, psitest.Items(set), len(set), p, oprftest.Dealer{})
				return nil // so that the others end for reasons of their own
			})
		}
		out := sessiontest.Net{}.Run(t, parties...)
		for i, err := range errs {
			switch {
			case c.ok && err != nil, !c.ok && !errors.Is(err, job.ErrMinIntersection):
				t.Errorf("%+v: p%d ended with %v", c, i, err)
			case !c.ok && results[i].Rows != nil:
				t.Errorf("%+v: p%d has rows", c, i)
			}
		}
		if c.ok {
			checkIdeal(t, sets, Params{LeaderOnly: c.leaderOnly}, results, out)
		}
	}
}

func TestDuplicatesAreRefusedWithTheirCount(t *testing.T) {
	for i := range 3 {
		sets := [][]string{psitest.Number(0, 5), psitest.Number(0, 5), psitest.Number(0, 5)}
		sets[i] = append(psitest.Number(0, 10), "id-000003", "id-000003", "id-000004")
		_, out := intersect(t, sessiontest.Net{}, sets, Params{}, oprftest.Dealer{})
		err := sessiontest.Cause(out)
		if !errors.Is(err, ErrDuplicates) || !strings.Contains(err.Error(), "3 of 13") || strings.Contains(err.Error(), "id-0") {
			t.Errorf("p%d: %v", i, err)
		}
	}
}

func TestWhatIsNotSupported(t *testing.T) {
	one := func(ctx context.Context, s *session.Session) error {
		_, err := Join(ctx, s, psitest.Items(nil), 0, Params{Leader: "p0"})
		return err
	}
	if err := sessiontest.Cause(sessiontest.Net{}.Run(t, one, one)); err == nil {
		t.Error("two parties")
	}
	many := slices.Repeat([]sessiontest.Party{func(ctx context.Context, s *session.Session) error {
		_, err := Join(ctx, s, psitest.Items(nil), 0, Params{Leader: "p0"})
		if s.Self() == "p0" {
			_, err = Lead(ctx, s, psitest.Items(nil), 0, Params{})
		}
		return err
	}}, MaxParties+1)
	if err := sessiontest.Cause(sessiontest.Net{}.Run(t, many...)); err == nil {
		t.Errorf("%d parties", len(many))
	}
	for name, c := range map[string]struct {
		n    int
		p    Params
		want error
	}{
		"fewer rows":       {4, Params{}, ErrSize},
		"more rows":        {2, Params{}, ErrSize},
		"negative":         {-1, Params{}, ErrSize},
		"too many":         {MaxRows + 1, Params{}, ErrSize},
		"negative minimum": {3, Params{MinIntersection: -1}, nil},
	} {
		c.p.Leader = "p0"
		other := func(ctx context.Context, s *session.Session) error {
			_, err := Join(ctx, s, psitest.Items(psitest.Number(0, 3)), 3, Params{Leader: "p0"})
			return err
		}
		out := sessiontest.Net{}.Run(t, func(ctx context.Context, s *session.Session) error {
			_, err := Lead(ctx, s, psitest.Items(psitest.Number(0, 3)), c.n, c.p)
			return err
		}, other, other)
		if err := sessiontest.Cause(out); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMismatchNamesTheField(t *testing.T) {
	for field, p := range map[string]Params{
		"items":  {Leader: leading, Items: "id.v1 of 2 columns"},
		"output": toLeader,
		"leader": {Leader: "p2"},
	} {
		parties, _ := roles([][]string{nil, nil, nil}, Params{}, oprftest.Dealer{})
		parties[0] = func(ctx context.Context, s *session.Session) error {
			_, err := join(ctx, s, psitest.Items(nil), 0, p, oprftest.Dealer{})
			return err
		}
		err := sessiontest.Cause(sessiontest.Net{}.Run(t, parties...))
		var m *session.MismatchError
		if !errors.As(err, &m) || m.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// A party that leaves at any point ends everybody.
func TestPartyThatLeaves(t *testing.T) {
	sets := overlapping(4, 10, 3, 3)
	errLeft := errors.New("left")
	for i := range sets {
		left := 0
		for stop := 0; ; stop++ {
			parties, results := roles(sets, Params{}, oprftest.Dealer{})
			errs := make([]error, len(parties))
			sent := 0
			net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
				if l.Self != sessiontest.PartyIDs(4)[i] || l.Label != "" || l.Peer != leading && l.Self != leading || l.Self == leading && l.Peer != "p3" {
					return ch
				}
				return leaving{ch, func() error {
					if sent++; sent > stop {
						return errLeft
					}
					return nil
				}}
			}}
			for j, f := range parties {
				parties[j] = func(ctx context.Context, s *session.Session) error {
					errs[j] = f(ctx, s)
					return errs[j]
				}
			}
			net.Run(t, parties...)
			if !errors.Is(errs[i], errLeft) {
				break // it said all that it had to say
			}
			left++
			for j, err := range errs {
				if j != i && err == nil && i == 1 {
					// The leader has said its last word to all others.
					checkRows(t, sets, j, results[j])
					continue
				}
				if j != i && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) && !errors.Is(err, sessiontest.ErrPeerFailed) {
					t.Errorf("p%d left after %d messages: p%d ended with %v", i, stop, j, err)
				}
			}
		}
		if left < 5 {
			t.Errorf("p%d could leave at %d points", i, left)
		}
	}
}

type leaving struct {
	session.Channel
	next func() error
}

func (c leaving) Send(ctx context.Context, p []byte) error {
	if err := c.next(); err != nil {
		return err
	}
	return c.Channel.Send(ctx, p)
}

// A context that ends stops all roles wherever they are.
func TestContextEnds(t *testing.T) {
	stop := errors.New("enough")
	n := 100_000
	for _, after := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
		parties, _ := roles([][]string{psitest.Number(0, n), psitest.Number(0, n), psitest.Number(0, n)}, Params{}, nil)
		for i, f := range parties {
			parties[i] = func(ctx context.Context, s *session.Session) error {
				ctx, cancel := context.WithTimeoutCause(ctx, after, stop)
				defer cancel()
				if err := f(ctx, s); err == nil {
					return fmt.Errorf("a run of %d rows took less than %v", n, after)
				}
				return nil
			}
		}
		sessiontest.NoErrors(t, sessiontest.Net{}.Run(t, parties...))
	}
}
