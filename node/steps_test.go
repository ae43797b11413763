package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	"github.com/yinqiao/yinqiao/session"
)

const (
	stepKind = "test.steps.v1"
	steps    = 5
	failsAt  = 2 // the step in which the tests cut an attempt short
)

// stepJob is a resumable protocol: in each of its steps both parties tell their
// number of rows, and keep the other's in scratch. An attempt begins after the
// last step that both have finished.
func stepJob(h *hooks) job.Definition {
	return job.Definition{
		Name: stepKind, Summary: "adds two row counts, step by step", Assumptions: []string{"none"}, Resumable: true,
		Roles: []job.RoleSpec{{Role: "left", Min: 1, Max: 1}, {Role: "right", Min: 1, Max: 1}},
		Reveals: func(job.Spec) []job.Disclosure {
			return []job.Disclosure{{Field: "rows", What: "rows of both"}, {Field: "computed", What: "steps of this attempt"}, {Field: "staged", What: "nothing"}}
		},
		Validate: func(s job.Spec) error {
			return job.DecodeParams(s.Params, &struct {
				Depth int `json:"depth"`
			}{})
		},
		Run: func(ctx context.Context, env job.Env) (job.Result, error) {
			if err := env.Session.Bind(ctx, stepKind); err != nil {
				return job.Result{}, err
			}
			_, ch, err := env.Session.Other()
			if err != nil {
				return job.Result{}, err
			}
			var own int64
			for b, err := range env.Inputs[0].Batches(ctx) {
				if err != nil {
					return job.Result{}, err
				}
				own += b.NumRows()
			}
			finished, err := env.Scratch.Names("step/")
			if err != nil {
				return job.Result{}, err
			}
			theirs, err := tell(ctx, ch, int64(len(finished)))
			if err != nil {
				return job.Result{}, err
			}
			first := min(len(finished), int(theirs))
			for i := first; i < steps; i++ {
				if err := takeStep(ctx, env, ch, own, i); err != nil {
					return job.Result{}, err
				}
				h.mu.Lock()
				step := h.step
				h.mu.Unlock()
				if step != nil {
					if err := step(string(env.Session.Self()), i); err != nil {
						return job.Result{}, err
					}
				}
			}
			sum := own * steps
			for i := range steps {
				v, err := readStep(env, i)
				if err != nil {
					return job.Result{}, err
				}
				sum += v
			}
			return job.Result{
				Values: map[string]any{"computed": steps - first, "staged": staging{h, string(env.Session.Self())}},
				Counts: map[string]int64{"rows": sum}, Rows: own,
			}, nil
		},
	}
}

// tell exchanges a number.
func tell(ctx context.Context, ch session.Channel, v int64) (int64, error) {
	if err := ch.Send(ctx, binary.BigEndian.AppendUint64(nil, uint64(v))); err != nil {
		return 0, err
	}
	m, err := ch.Recv(ctx)
	if err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(m)), nil
}

func takeStep(ctx context.Context, env job.Env, ch session.Channel, own int64, i int) error {
	theirs, err := tell(ctx, ch, own)
	if err != nil {
		return err
	}
	w, err := env.Scratch.Create(fmt.Sprintf("step/%d", i))
	if err != nil {
		return err
	}
	defer w.Discard()
	if _, err := w.Write(binary.BigEndian.AppendUint64(nil, uint64(theirs))); err != nil {
		return err
	}
	return w.Commit()
}

func readStep(env job.Env, i int) (int64, error) {
	f, err := env.Scratch.Open(fmt.Sprintf("step/%d", i))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var b [8]byte
	_, err = f.ReadAt(b[:], 0)
	return int64(binary.BigEndian.Uint64(b[:])), err
}

// steps grants stepJob.
func (w *world) steps(maxRuns int64) string {
	w.t.Helper()
	return w.granted(func(q *catalogv1.Request) {
		q.Computations[0].Kind = stepKind
		q.Limits.MaxRuns = maxRuns
	})
}

// breaks makes a party fail in step failsAt, or nobody.
func (w *world) breaks(party string) {
	w.hooks.mu.Lock()
	defer w.hooks.mu.Unlock()
	w.hooks.step = func(p string, i int) error {
		if p == party && i == failsAt {
			return errors.New("the step fails")
		}
		return nil
	}
}

// failed submits a job of stepJob that gov fails, and returns its ID.
func (w *world) failed(grant string) string {
	w.t.Helper()
	w.breaks("gov")
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(w.t, err)
	for _, p := range []string{"bank", "gov"} {
		if v := w.ended(p, id); v.GetState() != "failed" || !v.GetResumable() {
			w.t.Fatalf("%s: %s, %s: %s", p, v.GetState(), v.GetClass(), v.GetReason())
		}
	}
	w.breaks("")
	return id
}

func (w *world) resume(party, id string) (*nodev1.ResumeJobReply, error) {
	return w.nodes[party].ResumeJob(as(w.ctx, "op"), &nodev1.ResumeJobRequest{Job: id})
}

// computed is how many steps a done job took at a party.
func (w *world) computed(party, id string) int {
	w.t.Helper()
	var v struct{ Computed int }
	must(w.t, w.nodes[party].GetResult(w.ctx, &nodev1.GetResultRequest{Job: id}, func(r *nodev1.GetResultReply) error {
		return json.Unmarshal(r.GetValues(), &v)
	}))
	return v.Computed
}

// isDone checks that an attempt ended well at both parties, after as many steps.
func (w *world) isDone(id string, computed int) {
	w.t.Helper()
	for _, p := range []string{"bank", "gov"} {
		v := w.ended(p, id)
		if v.GetState() != "done" || v.GetCounts()["rows"] != 6*steps {
			w.t.Fatalf("%s: %s, %s, %v: %s", p, v.GetState(), v.GetClass(), v.GetCounts(), v.GetReason())
		}
		if c := w.computed(p, id); c != computed {
			w.t.Errorf("%s: %d steps in this attempt, want %d", p, c, computed)
		}
		if runs, err := w.nodes[p].disk.runs(); err != nil || len(runs) != 0 {
			w.t.Errorf("%s: scratch of %v is left, %v", p, runs, err)
		}
	}
}

// refused checks the rule by which err refuses, and whose it is.
func refused(t *testing.T, err error, want, by string) {
	t.Helper()
	if r, who := rule(err); r != want || who != by {
		t.Errorf("rule %q by %q, want %q by %q: %v", r, who, want, by, err)
	}
}
