package benchmarks_test

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/yinqiao/yinqiao/app"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi"
)

// TestMain is also the process of one party, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "bench" && os.Args[2] == "party" {
		app.Main(faulty()...)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/golang/glog.(*fileSink).flushDaemon"))
}

var errPlanned = errors.New("planned")

// faulty are job kinds that go wrong at party p1, and are psi.ecdh.v1 elsewhere.
func faulty() []job.Definition {
	ecdh := psi.Jobs()[0]
	with := func(name string, p1 func(context.Context, job.Env) error) job.Definition {
		d := ecdh
		d.Name, d.Estimate = name, nil
		d.Run = func(ctx context.Context, env job.Env) (job.Result, error) {
			if env.Session.Self() == "p1" {
				if err := p1(ctx, env); err != nil {
					return job.Result{}, err
				}
			}
			return ecdh.Run(ctx, env)
		}
		return d
	}
	return []job.Definition{
		with("test.killed.v1", func(ctx context.Context, env job.Env) error {
			_, ch, err := env.Session.Other()
			if err != nil {
				return err
			}
			if _, err := ch.Recv(ctx); err != nil { // the other party is at work
				return err
			}
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}),
		with("test.telling.v1", func(_ context.Context, env job.Env) error {
			env.Session.Progress("planned", 7, 9)
			return nil
		}),
		with("test.failing.v1", func(context.Context, job.Env) error { return errPlanned }),
		with("test.deaf.v1", func(context.Context, job.Env) error { select {} }), // hears no context
	}
}

func kind(t testing.TB, name string) job.Definition {
	t.Helper()
	for _, d := range append(psi.Jobs(), faulty()...) {
		if d.Name == name {
			return d
		}
	}
	t.Fatalf("no job kind %s", name)
	return job.Definition{}
}
