package app

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// Whoever ends the program hears how to come back to a job that goes on, and no
// advice about what failed because of it.
func TestInterruptedGetsNoOtherAdvice(t *testing.T) {
	cases := []struct {
		err  error
		want string
	}{
		{noData{errors.New("no table"), "README.md"}, "error: no table\nhint: README.md says where the tables come from\n"},
		{interrupted{noData{errors.New("no table"), "README.md"}}, "error: interrupted\n"},
		{
			interrupted{goesOn{error: noData{errors.New("no table"), "README.md"}, job: "J-1"}},
			"error: interrupted\nhint: the job goes on: `yinqiao job watch J-1` follows it, `yinqiao job cancel J-1` ends it\n",
		},
	}
	for _, c := range cases {
		var out bytes.Buffer
		if code := (&cli{err: &out}).report(c.err); code != exitFailed || out.String() != c.want {
			t.Errorf("%v: exit code %d, printed %q, want %q", c.err, code, out.String(), c.want)
		}
	}
}

// A run that has lost a process does not wait for it.
func TestLostProcessEndsTheRun(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &scenarioRun{dir: t.TempDir(), end: cancel}
	if _, err := r.spawn("bank", "-test.run=^$"); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, errEnded) || !strings.HasPrefix(err.Error(), "bank ended") {
		t.Errorf("the run ended with %v", err)
	}
}

// A job that is about to begin again says so.
func TestStageOfAJobThatBeginsAgain(t *testing.T) {
	if s := stageOf(&nodev1.JobView{Stage: "count rows"}); s != "count rows" {
		t.Errorf("a running job is at %q", s)
	}
	if s := stageOf(&nodev1.JobView{Stage: "count rows", Restarts: true}); s == "count rows" {
		t.Errorf("a job that waits is at %q", s)
	}
}
