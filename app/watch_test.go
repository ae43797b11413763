package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"

	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// watched is a node whose jobs show these views.
type watched struct {
	nodev1.OperatorClient
	views map[string][]*nodev1.JobView
}

func (w watched) WatchJob(_ context.Context, req *nodev1.WatchJobRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[nodev1.JobView], error) {
	return &viewStream{views: w.views[req.GetJob()]}, nil
}

type viewStream struct {
	grpc.ClientStream
	views []*nodev1.JobView
}

func (s *viewStream) Recv() (*nodev1.JobView, error) {
	if len(s.views) == 0 {
		return nil, io.EOF
	}
	v := s.views[0]
	s.views = s.views[1:]
	return v, nil
}

// TestWatchGoesOnWithTheRun: watching a job that is followed by another ends with
// that one.
func TestWatchGoesOnWithTheRun(t *testing.T) {
	op := watched{views: map[string][]*nodev1.JobView{
		"J-1": {
			{Job: "J-1", State: "running"},
			{Job: "J-1", State: "failed", Class: "peer_gone", Reason: "lost tax", Restarts: true},
			{Job: "J-1", State: "failed", Class: "peer_gone", Reason: "lost tax", Next: "J-2"},
		},
		"J-2": {{Job: "J-2", State: "done", Run: "J-1", Attempt: 2}},
	}}
	var out, errs bytes.Buffer
	if err := (&cli{out: &out, err: &errs}).watch(t.Context(), op, "J-1"); err != nil {
		t.Error(err)
	}
	if s := errs.String(); !strings.Contains(s, "J-1 failed (lost tax); followed by J-2") {
		t.Errorf("it said %q", s)
	}
	if s := out.String(); !strings.HasPrefix(s, "J-2 done") {
		t.Errorf("it printed %q", s)
	}
	out.Reset()
	if err := (&cli{out: &out, err: &errs, json: true}).watch(t.Context(), op, "J-1"); err != nil {
		t.Error(err)
	}
	var o jobObject
	if err := json.Unmarshal(out.Bytes(), &o); err != nil || o.Job != "J-2" || o.Run != "J-1" {
		t.Errorf("one object: %q, %v", out.String(), err)
	}
	op.views["J-2"][0].State = "failed"
	if err := (&cli{out: &out, err: &errs}).watch(t.Context(), op, "J-1"); err == nil || !strings.Contains(err.Error(), "J-2") {
		t.Errorf("the last attempt failed: %v", err)
	}
}
