package node

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/aggregate"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	"github.com/yinqiao/yinqiao/scratch"
)

// statisticsJobs are the kinds of joint statistics, which call hooks.step before
// a party counts and before it gives away what opens a sum.
func statisticsJobs(h *hooks) []job.Definition {
	defs := []job.Definition{aggregate.Definition(), aggregate.MaskedDefinition()}
	for i, d := range defs {
		defs[i].Run = func(ctx context.Context, env job.Env) (job.Result, error) {
			at := stepped{h, string(env.Session.Self())}
			env.History, env.Once = steppedHistory{env.History, at}, steppedOnce{env.Once, at}
			return d.Run(ctx, env)
		}
	}
	return defs
}

type stepped struct {
	h     *hooks
	party string
}

func (s stepped) at(place int) error {
	s.h.mu.Lock()
	f := s.h.step
	s.h.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(s.party, place)
}

type steppedHistory struct {
	job.History
	step stepped
}

func (s steppedHistory) Hold(ctx context.Context, entry string) (scratch.Files, func(), error) {
	if err := s.step.at(beforeSending); err != nil {
		return nil, nil, err
	}
	return s.History.Hold(ctx, entry)
}

type steppedOnce struct {
	inner job.Once
	step  stepped
}

func (s steppedOnce) Once(ctx context.Context, key string) error {
	if err := s.inner.Once(ctx, key); err != nil {
		return err
	}
	return s.step.at(afterSending)
}

// statistics is a world of three parties with a grant for one table.
func statistics(t *testing.T, kind string, tune func(*Node)) (*world, string) {
	return sums(t, kind, tune, func(q *catalogv1.Request) {
		for i, r := range q.Computations[0].Roles {
			if r.Role = "gate"; i == 2 {
				r.Role = "contributor"
			}
		}
		q.Recipients = []string{"bank"}
		q.Limits.Release = &catalogv1.ReleaseRules{MinUnits: 2, MinProviders: 2}
	})
}

const statisticsForm = `{"measures": [{"name": "total", "of": "sum", "column": "x", "range": [0, 100]}], "max_rows": 10, "threshold": 2}`

// table reads a released table of the bank.
func (w *world) statistics(id string) string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.nodes["bank"].published(id), "statistics.csv"))
	must(w.t, err)
	return string(b)
}

// TestStatisticsWithoutAParty: a contributor that is lost before anything is
// opened is left out of the table, and absent in the receipt.
func TestStatisticsWithoutAParty(t *testing.T) {
	for _, kind := range []string{aggregate.Name, aggregate.NameMasked} {
		t.Run(kind, func(t *testing.T) {
			w, grant := statistics(t, kind, nil)
			w.step(func(p string, place int) error {
				if p == "tax" && place == beforeSending {
					w.cut("tax")
				}
				return nil
			})
			id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant, Params: []byte(statisticsForm)})
			must(t, err)
			for _, p := range []string{"bank", "gov"} {
				v := w.ended(p, id)
				if v.GetState() != "done" || v.GetCounts()["contributors"] != 2 || len(v.GetDigests()) != 3 {
					t.Fatalf("%s: %s, %v, %d digests: %s", p, v.GetState(), v.GetCounts(), len(v.GetDigests()), v.GetReason())
				}
			}
			if got := w.statistics(id); got != "total,status\n120,\n" {
				t.Errorf("the table is %q", got)
			}
			if rs, _ := w.receiptsOf("bank", id); len(rs) != 1 || len(rs[0].GetAbsent()) != 1 {
				t.Errorf("receipts %v", rs)
			}
		})
	}
}

// TestStatisticsBeginAgain: one that is lost as sums are opened ends the attempt;
// the next, under new keys and within the same use, has all parties again.
func TestStatisticsBeginAgain(t *testing.T) {
	for _, kind := range []string{aggregate.Name, aggregate.NameMasked} {
		t.Run(kind, func(t *testing.T) {
			p := newPauses()
			w, grant := statistics(t, kind, func(n *Node) {
				if n.cfg.Party == "bank" {
					n.pause = p.pause
				}
			})
			w.step(func(party string, place int) error {
				if party == "tax" && place == afterSending {
					w.cut("tax")
				}
				return nil
			})
			// All are needed, so that nobody opens without tax.
			id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant, Params: []byte(`{"measures": [{"name": "total", "of": "sum", "column": "x", "range": [0, 100]}], "max_rows": 10}`)})
			must(t, err)
			<-p.began
			w.step(nil)
			w.isBack()
			p.end <- struct{}{}
			next := w.ended("bank", id).GetNext()
			if next == "" {
				t.Fatal("the bank did not begin again")
			}
			for _, party := range threeParties {
				v := w.ended(party, next)
				if v.GetState() != "done" || v.GetCounts()["contributors"] != 3 || v.GetAttempt() != 2 {
					t.Fatalf("%s: %s, attempt %d, %v: %s", party, v.GetState(), v.GetAttempt(), v.GetCounts(), v.GetReason())
				}
				if u := w.used(party, grant); u != 1 {
					t.Errorf("%s: %d uses spent, want 1", party, u)
				}
			}
			if got := w.statistics(next); got != "total,status\n180,\n" {
				t.Errorf("the table is %q", got)
			}
		})
	}
}
