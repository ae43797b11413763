package node

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/yinqiao/yinqiao/catalog"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// silent is a platform that does not answer the next questions about grants.
type silent struct {
	Platform
	next atomic.Int64
}

func (s *silent) Status(ctx context.Context, grant string) error {
	if s.next.Add(-1) >= 0 {
		return catalog.ErrUnreachable
	}
	return s.Platform.Status(ctx, grant)
}

// TestGraceCoversTheRelease: a platform that is away for a moment when a
// computation has just ended does not cost its result.
func TestGraceCoversTheRelease(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	away := &silent{Platform: w.nodes["bank"].resolver}
	w.nodes["bank"].resolver = away
	w.hooks.mid = func(party string) {
		if party == "bank" {
			away.next.Store(2)
		}
	}
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	if v := w.ended("bank", id); v.GetState() != "done" {
		t.Errorf("%s: %s (%s)", v.GetState(), v.GetReason(), v.GetClass())
	}
	if away.next.Load() >= 0 {
		t.Error("the platform was never away")
	}
}
