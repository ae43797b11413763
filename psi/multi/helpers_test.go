package multi

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/oprf"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// leading is the leader of all tests, which is not the first party.
const leading session.PartyID = "p1"

var toLeader = Params{Leader: leading, LeaderOnly: true}

// roles returns the functions that run the parties, one for each set, and the
// results that they will fill.
func roles(sets [][]string, p Params, ole oprf.OLE) (parties []sessiontest.Party, results []Match) {
	p.Leader = leading
	results = make([]Match, len(sets))
	for i, set := range sets {
		role := join
		if sessiontest.PartyIDs(len(sets))[i] == leading {
			role = lead
		}
		parties = append(parties, func(ctx context.Context, s *session.Session) (err error) {
			results[i], err = role(ctx, s, psitest.Items(set), len(set), p, ole)
			return err
		})
	}
	return parties, results
}

func intersect(t testing.TB, net sessiontest.Net, sets [][]string, p Params, ole oprf.OLE) ([]Match, []sessiontest.Outcome) {
	t.Helper()
	parties, results := roles(sets, p, ole)
	out := net.Run(t, parties...)
	return results, out
}

// oracle returns what all sets hold.
func oracle(sets [][]string) []string {
	held := make(map[string]int)
	for _, set := range sets {
		for _, x := range set {
			held[x]++
		}
	}
	var common []string
	for x, n := range held {
		if n == len(sets) {
			common = append(common, x)
		}
	}
	slices.Sort(common)
	return common
}

// checkRows compares one party's result with the oracle's, and returns it.
func checkRows(t testing.TB, sets [][]string, i int, m Match) []string {
	t.Helper()
	var got []string
	for _, row := range m.Rows {
		got = append(got, sets[i][row])
	}
	if sorted := slices.Sorted(slices.Values(got)); !slices.Equal(sorted, oracle(sets)) {
		t.Fatalf("p%d has %d rows, want %d", i, len(got), len(oracle(sets)))
	}
	return got
}

// checkIdeal compares results with the ideal functionality on the plaintext.
func checkIdeal(t testing.TB, sets [][]string, p Params, results []Match, out []sessiontest.Outcome) {
	t.Helper()
	sessiontest.NoErrors(t, out)
	lead := slices.Index(sessiontest.PartyIDs(len(sets)), leading)
	want := checkRows(t, sets, lead, results[lead])
	for i, m := range results {
		switch {
		case i == lead:
		case p.LeaderOnly && m.Rows != nil:
			t.Fatalf("p%d has %d rows and should have none", i, len(m.Rows))
		case !p.LeaderOnly && !slices.Equal(checkRows(t, sets, i, m), want):
			t.Fatalf("p%d has its rows in another order than the leader", i)
		}
	}
}

// overlapping makes a set for each party: rows that all have, rows that two
// neighbours have, rows that all but one have, and rows of its own.
func overlapping(parties, common, pairs, own int) [][]string {
	sets := make([][]string, parties)
	for i := range sets {
		for j := range common {
			sets[i] = append(sets[i], fmt.Sprintf("all-%d", j))
		}
		for j := range pairs {
			sets[i] = append(sets[i], fmt.Sprintf("pair-%d-%d", i, j), fmt.Sprintf("pair-%d-%d", (i+1)%parties, j))
			for absent := range parties {
				if absent != i {
					sets[i] = append(sets[i], fmt.Sprintf("without-%d-%d", absent, j))
				}
			}
		}
		for j := range own + i {
			sets[i] = append(sets[i], fmt.Sprintf("own-%d-%d", i, j))
		}
		sets[i] = psitest.Shuffled(sets[i], uint64(i))
	}
	return sets
}

// runStore runs a member up to its store.
func runStore(ctx context.Context, r *run, link *transcript.Link) error {
	rows, err := r.exchangeRows(ctx, link)
	if err != nil {
		return err
	}
	masks := make([]gf128.Element, r.rows)
	cfg := oprf.Config{Session: r.pairs[leading], Conn: conn{link}, Rows: rows, OLE: r.ole}
	if err := oprf.Send(ctx, cfg, r.keys, byRow(masks)); err != nil {
		return err
	}
	if err := link.RecvEmpty(ctx, kindCheck); err != nil {
		return err
	}
	if err := r.sendStore(ctx, link, masks); err != nil {
		return err
	}
	return link.Send(ctx, kindCheck, nil)
}
